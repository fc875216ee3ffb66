//! Starts that cannot succeed: each says what is wrong and what to do, and ends with its code.

use anyhow::Result;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;
use support::daemon::{self, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::namespace::ip;

/// Failed.
const FAILED: i32 = 1;
/// The configuration is wrong.
const WRONG: i32 = 2;
const NOBODY: u32 = 65_534;

#[test]
fn a_wrong_configuration_is_told_with_its_line() -> Result<()> {
    let lab = Lab::new()?;
    let config = daemon::config(&lab, TRUNKS).replace("peers =", "pears =");
    let line = 1 + config.lines().position(|line| line.starts_with("pears")).unwrap_or_default();
    refused(&lab, &config, WRONG, &[&format!("causeway.toml:{line}:1"), "pears", "did you mean \"peers\""])
}

#[test]
fn a_missing_interface_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let config = daemon::config(&lab, TRUNKS).replace("\"to-callee\"", "\"to-nowhere\"");
    refused(&lab, &config, FAILED, &["interface to-nowhere does not exist", "`ip link`"])
}

#[test]
fn an_interface_that_is_down_is_named() -> Result<()> {
    let lab = Lab::new()?;
    lab.on(Host::Gateway, || ip("link set to-callee down"))?;
    let config = daemon::config(&lab, TRUNKS);
    refused(&lab, &config, FAILED, &["interface to-callee is down", "ip link set dev to-callee up"])
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let _other = lab.on(Host::Gateway, || Ok(std::net::UdpSocket::bind("10.81.2.1:5060")?))?;
    let config = daemon::config(&lab, TRUNKS);
    refused(&lab, &config, FAILED, &["10.81.2.1:5060 is in use", "ss -lnp"])
}

#[test]
fn an_address_of_no_interface_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let config = daemon::config(&lab, &TRUNKS.replace("10.81.2.1:5060", "10.81.9.1:5060"));
    refused(&lab, &config, FAILED, &["10.81.9.1 is an address of no interface", "ip address add"])
}

#[test]
fn pins_outside_a_bpf_file_system_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    let elsewhere = lab.directory().join("pins");
    let config = daemon::config(&lab, TRUNKS)
        .replace(&lab.pins().display().to_string(), &elsewhere.display().to_string());
    refused(&lab, &config, FAILED, &["not on a BPF file system", "mount -t bpf"])
}

#[test]
fn a_user_without_capabilities_is_told_which_are_needed() -> Result<()> {
    let lab = Lab::new()?;
    // Somebody else has to be able to read and write what root made.
    fs::set_permissions(lab.directory(), fs::Permissions::from_mode(0o755))?;
    let state = lab.directory().join("state");
    fs::create_dir(&state)?;
    chown(&state, Some(NOBODY), Some(NOBODY))?;
    let binary = lab.directory().join("causeway");
    fs::copy(daemon::binary()?, &binary)?;
    // An administrator has to do this once for a daemon that is not root, or it says so first.
    for family in ["ipv4", "ipv6"] {
        let setting = format!("/proc/sys/net/{family}/conf/lo/forwarding");
        lab.on(Host::Gateway, || Ok(fs::write(setting, "1")?))?;
    }
    let mut command = lab.command(Host::Gateway, "setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]);
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(binary);
    let config = daemon::config(&lab, TRUNKS);
    ends(
        &lab,
        command,
        &config,
        FAILED,
        &["no permission to", "CAP_BPF", "CAP_NET_ADMIN", "AmbientCapabilities="],
    )
}

fn refused(lab: &Lab, config: &str, code: i32, told: &[&str]) -> Result<()> {
    ends(lab, lab.command(Host::Gateway, daemon::binary()?), config, code, told)
}

/// Runs the daemon until it ends by itself; all of `told` has to stand in its last lines.
fn ends(lab: &Lab, mut command: Command, config: &str, code: i32, told: &[&str]) -> Result<()> {
    let path: PathBuf = lab.directory().join("causeway.toml");
    fs::write(&path, config)?;
    command.args(["run", "--config"]).arg(path);
    let mut process = lab.start("refused", command)?;
    let status = process.wait(SOON)?;
    let output = process.output();
    assert_eq!(status.code(), Some(code), "{output}");
    for words in told {
        assert!(output.contains(words), "no {words:?} in:\n{output}");
    }
    Ok(())
}
