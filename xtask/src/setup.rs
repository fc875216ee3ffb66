//! `cargo xtask setup`: everything the other tasks need of the host, installed where it may be.

use crate::command::on_path;
use crate::packages::{self, Host, Need, bpf_file_system};
use crate::steps::Steps;
use crate::toolchain::{self, Toolchain};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Options of `setup`, shared by every task that sets up by itself.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Install nothing: print what is missing and the exact commands, and fail if anything is
    #[arg(long)]
    pub no_install: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only what these purposes need (default: all of them)
    #[arg(long = "for", value_enum, value_delimiter = ',', value_name = "PURPOSE")]
    purposes: Vec<Need>,
}

/// What set-up found or made.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Compiler and linker for the XDP objects, when asked for and there.
    pub ebpf: Option<Ebpf>,
    /// What could not be had, with reason and fix; empty on a host that is fully set up.
    pub unmet: Vec<Unmet>,
}

#[derive(Debug)]
pub(crate) struct Ebpf {
    pub toolchain: Toolchain,
    pub linker: PathBuf,
}

/// A need that this host does not meet.
#[derive(Debug)]
pub(crate) struct Unmet {
    pub need: Need,
    pub what: String,
    /// An exact command.
    pub fix: String,
}

impl Ready {
    pub(crate) fn lacks(&self, need: Need) -> Option<&Unmet> {
        self.unmet.iter().find(|unmet| unmet.need == need)
    }

    /// For tasks that cannot go on with less.
    ///
    /// # Errors
    /// Something is missing: all of it with the commands.
    pub(crate) fn or_fail(self) -> Result<Self> {
        if self.unmet.is_empty() {
            return Ok(self);
        }
        let mut text = String::from("this host lacks what the task needs\n");
        for unmet in &self.unmet {
            text.push_str(&format!("    missing  {}\n      do     {}\n", unmet.what, unmet.fix));
        }
        bail!("{}", text.trim_end())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let needs = if arguments.purposes.is_empty() { &Need::ALL[..] } else { &arguments.purposes };
    ensure(&Steps::new(), &workspace, needs, &arguments.options)?.or_fail()?;
    Ok(())
}

/// Installs and builds what `needs` ask for, and says what remains unmet.
///
/// # Errors
/// An installation or build that was allowed and begun did fail.
pub(crate) fn ensure(
    steps: &Steps,
    workspace: &Workspace,
    needs: &[Need],
    options: &Options,
) -> Result<Ready> {
    let host = steps.run("host", |step| {
        let host = Host::inspect()?;
        let rights = match (host.root, options.no_install) {
            (true, false) => "root",
            (true, true) => "root, told to install nothing",
            (false, _) => "not root: nothing is installed",
        };
        step.detail(format!("{}, {rights}", host.system));
        Ok(host)
    })?;
    let installer = Installer { steps, workspace, host, build: !options.no_install };
    let mut unmet = Vec::new();
    installer.packages(needs, &mut unmet)?;
    if needs.contains(&Need::Lab) {
        installer.bpf_file_system(&mut unmet)?;
    }
    let ebpf = if needs.contains(&Need::Ebpf) { installer.ebpf(&mut unmet)? } else { None };
    Ok(Ready { ebpf, unmet })
}

struct Installer<'a> {
    steps: &'a Steps,
    workspace: &'a Workspace,
    host: Host,
    /// Tools may be built into the target directory, which needs no rights.
    build: bool,
}

impl Installer<'_> {
    fn may_install(&self) -> bool {
        self.build && self.host.may_install()
    }

    fn packages(&self, needs: &[Need], unmet: &mut Vec<Unmet>) -> Result<()> {
        let missing: Vec<(Need, Vec<&str>)> = needs
            .iter()
            .map(|&need| (need, need.missing()))
            .filter(|(_, packages)| !packages.is_empty())
            .collect();
        if missing.is_empty() {
            return self.steps.run("packages", |step| {
                step.detail("all there");
                Ok(())
            });
        }
        if self.may_install() {
            // One package may serve several needs.
            let all: BTreeSet<&str> = missing.into_iter().flat_map(|(_, packages)| packages).collect();
            let all = Vec::from_iter(all);
            return self.steps.run("packages", |step| packages::install(self.workspace, step, &all));
        }
        unmet.extend(missing.into_iter().map(|(need, packages)| Unmet {
            need,
            what: packages.join(" "),
            fix: self.host.install_command(&packages),
        }));
        Ok(())
    }

    fn bpf_file_system(&self, unmet: &mut Vec<Unmet>) -> Result<()> {
        if bpf_file_system::mounted() {
            return Ok(());
        }
        if self.build && self.host.root {
            return self.steps.run("BPF file system", |step| {
                bpf_file_system::mount()?;
                step.detail("mounted on /sys/fs/bpf");
                Ok(())
            });
        }
        let (what, fix) = ("a BPF file system".to_owned(), bpf_file_system::MOUNT.join(" "));
        unmet.push(Unmet { need: Need::Lab, what, fix });
        Ok(())
    }

    fn ebpf(&self, unmet: &mut Vec<Unmet>) -> Result<Option<Ebpf>> {
        let Some(toolchain) = self.compiler(unmet)? else { return Ok(None) };
        let linker = self.linker(&toolchain, unmet)?;
        Ok(linker.map(|linker| Ebpf { toolchain, linker }))
    }

    fn compiler(&self, unmet: &mut Vec<Unmet>) -> Result<Option<Toolchain>> {
        if let Err(reason) = Toolchain::find() {
            let packages = toolchain::COMPILER_PACKAGES;
            if !self.may_install() {
                let fix = if self.host.debian {
                    self.host.install_command(&packages)
                } else {
                    toolchain::NIGHTLY_COMMAND.to_owned()
                };
                unmet.push(Unmet { need: Need::Ebpf, what: format!("a BPF compiler ({reason})"), fix });
                return Ok(None);
            }
            self.steps.run("BPF compiler", |step| {
                packages::install(self.workspace, step, &packages).with_context(|| {
                    format!(
                        "Debian 12 has this compiler among its security updates: if apt cannot locate it, add `{}` \
                         to /etc/apt/sources.list; without Debian's: `{}`",
                        toolchain::COMPILER_SOURCE,
                        toolchain::NIGHTLY_COMMAND
                    )
                })
            })?;
        }
        self.steps.run("eBPF toolchain", |step| {
            let toolchain =
                Toolchain::find().map_err(|reason| anyhow::anyhow!("no BPF compiler: {reason}"))?;
            step.detail(toolchain.describe());
            Ok(Some(toolchain))
        })
    }

    fn linker(&self, toolchain: &Toolchain, unmet: &mut Vec<Unmet>) -> Result<Option<PathBuf>> {
        let package = toolchain.llvm_package()?;
        let built = toolchain::linker(self.workspace, toolchain).is_some();
        let missing = !built && !on_path(&format!("llvm-config-{}", toolchain.llvm));
        if missing && self.may_install() {
            self.steps.run("LLVM", |step| packages::install(self.workspace, step, &[&package]))?;
        } else if missing || (!built && !self.build) {
            let build = toolchain::linker_command(self.workspace, toolchain);
            let fix = if missing {
                format!("{} && {build}", self.host.install_command(&[&package]))
            } else {
                build
            };
            unmet.push(Unmet { need: Need::Ebpf, what: "bpf-linker".to_owned(), fix });
            return Ok(None);
        }
        let build = |step: &_| toolchain::build_linker(self.workspace, step, toolchain);
        self.steps.run("bpf-linker", build).map(Some)
    }
}
