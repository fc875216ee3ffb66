//! `cargo xtask lab`: three hosts as network namespaces. What they are made of is in `scripts/lab.sh`, which
//! this drives; here are set-up, the check for rights, and the report.

use crate::command::{ask, run};
use crate::packages::{Host, Need};
use crate::report;
use crate::setup::{self, Options};
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The hosts, in the order in which a call passes them.
pub(crate) const HOSTS: [&str; 3] = ["caller", "gateway", "callee"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Name of the lab; labs with different names live side by side
    #[arg(long, global = true, default_value = "cw")]
    prefix: String,
    /// Both ends behind VLANs: one tag toward the caller, two toward the callee
    #[arg(long, global = true)]
    vlans: bool,
    /// Print the result as one line of JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make the lab, or complete it, and list its hosts
    Up,
    /// End what runs inside and remove it
    Down,
    /// Open a shell on one of its hosts
    Shell {
        #[arg(default_value = "gateway", value_parser = HOSTS)]
        host: String,
    },
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let lab = Lab { workspace: &workspace, prefix: arguments.prefix.clone(), vlans: arguments.vlans };
    match &arguments.action {
        Action::Up => {
            setup::ensure(&steps, &workspace, &[Need::Lab], &arguments.options)?.or_fail()?;
            lab.up(&steps)?;
            let description = lab.describe()?;
            if arguments.json {
                println!("{}", serde_json::to_string(&description)?);
            } else {
                print_table(&description);
            }
            Ok(())
        }
        Action::Down => {
            lab.down(&steps)?;
            if arguments.json {
                println!("{}", serde_json::json!({ "prefix": lab.prefix, "removed": true }));
            }
            Ok(())
        }
        Action::Shell { host } => {
            lab.up(&steps)?;
            // Only returns when there is no shell.
            Err(lab.script(&["shell", host]).exec()).context("scripts/lab.sh")
        }
    }
}

/// A lab by its prefix, whether it is up or not.
pub(crate) struct Lab<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) prefix: String,
    /// Both ends are behind VLANs.
    pub(crate) vlans: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Description {
    prefix: String,
    pub(crate) hosts: Vec<HostDescription>,
}

#[derive(Debug, Serialize)]
pub(crate) struct HostDescription {
    pub(crate) name: String,
    namespace: String,
    pub(crate) interfaces: Vec<Interface>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mac: String,
    /// With their prefix lengths.
    pub(crate) addresses: Vec<String>,
}

impl Lab<'_> {
    pub(crate) fn up(&self, steps: &Steps) -> Result<()> {
        self.check_rights()?;
        steps.run("lab up", |step| {
            run(self.workspace, step, &mut self.script(&["up"]))?;
            step.detail(HOSTS.map(|host| format!("{}-{host}", self.prefix)).join(" "));
            Ok(())
        })
    }

    pub(crate) fn down(&self, steps: &Steps) -> Result<()> {
        self.check_rights()?;
        steps.run("lab down", |step| {
            run(self.workspace, step, &mut self.script(&["down"]))?;
            Ok(())
        })
    }

    /// A lab in which nothing of an earlier run is left, as one step.
    pub(crate) fn renew(&self, steps: &Steps) -> Result<()> {
        steps.run("lab", |step| {
            self.remove()?;
            self.make()?;
            step.detail(HOSTS.map(|host| format!("{}-{host}", self.prefix)).join(" "));
            Ok(())
        })
    }

    /// Makes it without a word; a task that makes several has a step of its own for all.
    pub(crate) fn make(&self) -> Result<()> {
        self.check_rights()?;
        ask(&mut self.script(&["up"])).map(drop)
    }

    /// Removes it without a word.
    pub(crate) fn remove(&self) -> Result<()> {
        self.check_rights()?;
        ask(&mut self.script(&["down"])).map(drop)
    }

    /// A program on one of the hosts, to be run as any other.
    pub(crate) fn on(&self, host: &str, program: &str) -> Command {
        self.script(&["exec", host, program])
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.workspace.root.join("scripts/lab.sh"));
        command.args(arguments).env("LAB_PREFIX", &self.prefix);
        if self.vlans {
            command.env("LAB_VLANS", "yes");
        }
        command
    }

    fn check_rights(&self) -> Result<()> {
        // The longest name of a namespace or interface that is made of it has to stay readable in `ip`.
        let valid = (1..=12).contains(&self.prefix.len())
            && self.prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !valid {
            bail!("--prefix {:?}: 1 to 12 lower-case letters or digits", self.prefix);
        }
        if !Host::inspect()?.root {
            bail!("network namespaces need root: sudo cargo xtask lab …");
        }
        Ok(())
    }

    pub(crate) fn describe(&self) -> Result<Description> {
        let hosts = HOSTS.map(|name| self.describe_host(name));
        Ok(Description { prefix: self.prefix.clone(), hosts: hosts.into_iter().collect::<Result<_>>()? })
    }

    fn describe_host(&self, name: &str) -> Result<HostDescription> {
        #[derive(Deserialize)]
        struct Link {
            ifname: String,
            address: String,
            addr_info: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            local: String,
            prefixlen: u8,
            scope: String,
        }
        let namespace = format!("{}-{name}", self.prefix);
        let answer = ask(Command::new("ip").args(["-n", &namespace, "-json", "address"]))?;
        let links: Vec<Link> = serde_json::from_str(&answer).context("answer of `ip -json address`")?;
        let interfaces = links.into_iter().filter(|link| link.ifname != "lo").map(|link| {
            let addresses = link.addr_info.iter().filter(|address| address.scope == "global");
            let addresses = addresses.map(|address| format!("{}/{}", address.local, address.prefixlen));
            Interface { name: link.ifname, mac: link.address, addresses: addresses.collect() }
        });
        Ok(HostDescription { name: name.to_owned(), interfaces: interfaces.collect(), namespace })
    }
}

fn print_table(description: &Description) {
    let mut table = report::table(["namespace", "interface", "address", "MAC"], &[]);
    for host in &description.hosts {
        for interface in &host.interfaces {
            let addresses = interface.addresses.join(" ");
            table.add_row([&host.namespace, &interface.name, &addresses, &interface.mac]);
        }
    }
    println!("{table}");
}
