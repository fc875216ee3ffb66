//! `cargo xtask run`: the daemon on the gateway of the lab, in the foreground.

use crate::command::run;
use crate::ebpf;
use crate::lab::Lab;
use crate::packages::Need;
use crate::setup::{self, Options};
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

const TEMPLATE: &str = include_str!("run.toml");

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Name of the lab, which is made if it is not up, and stays up
    #[arg(long, default_value = "cw")]
    prefix: String,
    /// Transport of SIP on both sides
    #[arg(long, value_enum, default_value = "udp")]
    transport: Transport,
    /// Build the daemon as it is shipped; takes minutes the first time
    #[arg(long)]
    release: bool,
    /// Configuration instead of the one that fits the lab
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let lab = Lab { workspace: &workspace, prefix: arguments.prefix.clone(), vlans: false };
    let ready =
        setup::ensure(&steps, &workspace, &[Need::Ebpf, Need::Codecs, Need::Lab], &arguments.options)?
            .or_fail()?;
    ebpf::build(&steps, &workspace, &ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?)?;
    let daemon = build_daemon(&steps, &workspace, arguments.release)?;
    lab.up(&steps)?;
    let config = match &arguments.config {
        Some(config) => config.clone(),
        None => write_configuration(&lab, arguments.transport)?,
    };
    eprintln!("\nthe gateway of the lab, configured by {}", workspace.relative(&config).display());
    let ask = lab.on("gateway", &daemon.display().to_string());
    eprintln!("ask it       LAB_PREFIX={} {} status", lab.prefix, crate::command::command_line(&ask));
    eprintln!("other hosts  cargo xtask lab --prefix {} shell caller", lab.prefix);
    eprintln!("afterwards   cargo xtask lab --prefix {} down\n", lab.prefix);
    let mut command = lab.on("gateway", &daemon.display().to_string());
    // Only returns when the daemon cannot be started.
    Err(command.args(["run", "--config"]).arg(config).exec()).context("scripts/lab.sh")
}

/// Builds the daemon, which embeds the objects that are there, and returns its path.
pub(crate) fn build_daemon(steps: &Steps, workspace: &Workspace, release: bool) -> Result<PathBuf> {
    steps.run("daemon", |step| {
        let mut command = workspace.cargo(&["build", "--package", "gateway-userspace", "--bin", "causeway"]);
        run(workspace, step, command.args(release.then_some("--release")))?;
        let profile = if release { "release" } else { "debug" };
        step.detail(format!("causeway, {profile} build"));
        Ok(workspace.target.join(profile).join("causeway"))
    })
}

/// A configuration that fits the lab; its state and call records go below the target directory.
pub(crate) fn write_configuration(lab: &Lab<'_>, transport: Transport) -> Result<PathBuf> {
    let directory = lab.workspace.target.join("xtask/run").join(&lab.prefix);
    fs::create_dir_all(directory.join("state")).with_context(|| directory.display().to_string())?;
    let path = directory.join("causeway.toml");
    let text = configuration(&lab.prefix, transport, &directory.display().to_string());
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn configuration(prefix: &str, transport: Transport, directory: &str) -> String {
    let transport = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    TEMPLATE.replace("PREFIX", prefix).replace("TRANSPORT", transport).replace("DIRECTORY", directory)
}

#[cfg(all(test, feature = "bench"))]
mod tests {
    use super::*;
    use gateway_userspace::config::{Config, Host};

    #[test]
    fn the_daemon_takes_the_configuration_of_the_lab_on_either_transport() {
        for transport in Transport::value_variants() {
            let text = configuration("cw", *transport, "/tmp/lab");
            let host = Host { name: "host".to_owned(), cores: 2, now: std::time::SystemTime::now() };
            let config = Config::parse("run.toml", &text, &host).map_err(|errors| errors.to_string());
            assert_eq!(config.map(|config| config.listeners().len()), Ok(2));
        }
    }
}
