//! What the tasks need of the host, how to see whether it is there, and how Debian calls it.
//!
//! Presence is judged by the file that is used, not by the package database: a tool from elsewhere will do.

use crate::command::{on_path, run};
use crate::steps::Step;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// What a task may ask of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Need {
    /// Build the XDP objects: a Rust compiler for BPF, and bpf-linker
    Ebpf,
    /// Build the daemon: the libraries of codecs, and what makes its allocator
    Codecs,
    /// Load them from xtask and from tests: libelf and zlib, for libbpf
    Kernel,
    /// The lab of network namespaces: ip, ethtool, and a file system for pinned maps
    Lab,
    /// Real peers: SIPp, baresip, Kamailio, rtpengine, OpenSSL, stunnel, dnsmasq, tcpdump, tshark, aioice
    Peers,
    /// Recordings of a person's speech
    Speech,
    /// Other kernels under emulation: QEMU, busybox, and what unpacks their modules
    Verify,
    /// Build what fuzzes the readers: a C++ compiler, for libFuzzer
    Fuzz,
    /// Build what the daemon has only where it is asked for: OpenSSL's headers for the second TLS engine, libclang for SILK
    Optional,
}

impl Need {
    pub(crate) const ALL: [Self; 9] = [
        Self::Ebpf,
        Self::Codecs,
        Self::Kernel,
        Self::Lab,
        Self::Peers,
        Self::Speech,
        Self::Verify,
        Self::Fuzz,
        Self::Optional,
    ];

    /// Packages that are wanted as they are; the compiler of [`Self::Ebpf`] is `crate::toolchain`'s affair.
    fn packages(self) -> &'static [Package] {
        match self {
            Self::Ebpf => &[],
            Self::Codecs => &[
                Package("pkg-config", Probe::Program("pkg-config")),
                Package("gcc", Probe::Program("cc")),
                Package("make", Probe::Program("make")),
                Package("libopus-dev", Probe::Files(&["/usr/include/opus/opus.h"])),
                Package("libopencore-amrnb-dev", Probe::Files(&["/usr/include/opencore-amrnb/interf_dec.h"])),
                Package("libopencore-amrwb-dev", Probe::Files(&["/usr/include/opencore-amrwb/dec_if.h"])),
                Package("libvo-amrwbenc-dev", Probe::Files(&["/usr/include/vo-amrwbenc/enc_if.h"])),
            ],
            Self::Kernel => &[
                Package("libelf-dev", Probe::Files(&["/usr/include/libelf.h"])),
                Package("zlib1g-dev", Probe::Files(&["/usr/include/zlib.h"])),
                Package("pkg-config", Probe::Program("pkg-config")),
                Package("make", Probe::Program("make")),
                Package("gcc", Probe::Program("cc")),
            ],
            Self::Lab => {
                &[Package("iproute2", Probe::Program("ip")), Package("ethtool", Probe::Program("ethtool"))]
            }
            Self::Peers => &[
                Package("sip-tester", Probe::Program("sipp")),
                Package("baresip-core", Probe::Program("baresip")),
                Package("rtpengine-daemon", Probe::Program("rtpengine")),
                Package("kamailio", Probe::Program("kamailio")),
                Package("kamailio-tls-modules", Probe::Package("kamailio-tls-modules")),
                Package("openssl", Probe::Program("openssl")),
                Package("stunnel4", Probe::Program("stunnel")),
                Package("dnsmasq-base", Probe::Program("dnsmasq")),
                Package("tcpdump", Probe::Program("tcpdump")),
                Package(
                    "python3-aioice",
                    Probe::Files(&["/usr/lib/python3/dist-packages/aioice/__init__.py"]),
                ),
                Package("tshark", Probe::Program("tshark")),
            ],
            Self::Speech => &[Package(
                "asterisk-core-sounds-en-g722",
                Probe::Files(&["/usr/share/asterisk/sounds/en_US_f_Allison/vm-intro.g722"]),
            )],
            Self::Verify => &[
                Package("qemu-system-x86", Probe::Program("qemu-system-x86_64")),
                // The dynamic busybox would need its libraries in the guest.
                Package("busybox-static", Probe::Package("busybox-static")),
                Package("xz-utils", Probe::Program("xz")),
            ],
            Self::Fuzz => &[Package("g++", Probe::Program("c++"))],
            Self::Optional => &[
                Package("libssl-dev", Probe::Files(&["/usr/include/openssl/ssl.h"])),
                Package("pkg-config", Probe::Program("pkg-config")),
                Package("gcc", Probe::Program("cc")),
                Package(
                    "libclang-dev",
                    Probe::Files(&["/usr/lib/llvm-14/lib/libclang.so", "/usr/lib/llvm-19/lib/libclang.so"]),
                ),
            ],
        }
    }

    /// Debian's names of what is not there.
    pub(crate) fn missing(self) -> Vec<&'static str> {
        self.packages().iter().filter(|package| !package.1.satisfied()).map(|package| package.0).collect()
    }
}

/// Arguments with which cargo builds the tests of `package`: with all options wherever they can be built. All
/// tasks that run tests use these, so that nothing is built twice.
pub(crate) fn test_features(package: &str) -> &'static [&'static str] {
    match package {
        "gateway-userspace" | "gateway-tests" if Need::Optional.missing().is_empty() => {
            &["--features", "everything"]
        }
        _ => &[],
    }
}

/// A Debian package and the sign that it is not needed any more.
struct Package(&'static str, Probe);

enum Probe {
    Program(&'static str),
    /// Any one of these.
    Files(&'static [&'static str]),
    /// Only the package database can tell.
    Package(&'static str),
}

impl Probe {
    fn satisfied(&self) -> bool {
        match self {
            Self::Program(name) => on_path(name),
            Self::Files(paths) => paths.iter().any(|path| Path::new(path).exists()),
            Self::Package(name) => fs::read_dir("/var/lib/dpkg/info").is_ok_and(|files| {
                files.flatten().any(|file| lists_package(&file.file_name().to_string_lossy(), name))
            }),
        }
    }
}

/// Whether a file of dpkg's database lists what `package` installed: `busybox-static.list`, or with the architecture
/// where a package may be installed for several, `kamailio-tls-modules:amd64.list`.
fn lists_package(file: &str, package: &str) -> bool {
    let rest = file.strip_prefix(package).and_then(|rest| rest.strip_suffix(".list"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// What this host is, as far as installing goes.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub system: String,
    /// Packages come by apt.
    pub debian: bool,
    /// Effective user 0.
    pub root: bool,
}

impl Host {
    pub(crate) fn inspect() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))
            .map_or_else(|| "unknown system".to_owned(), |name| name.trim_matches('"').to_owned());
        let root = fs::metadata("/proc/self").context("/proc/self tells the effective user")?.uid() == 0;
        Ok(Self { system, debian: on_path("apt-get"), root })
    }

    /// Whether [`install`] can work here.
    pub(crate) fn may_install(&self) -> bool {
        self.debian && self.root
    }

    /// What a person types to have `packages`.
    pub(crate) fn install_command(&self, packages: &[&str]) -> String {
        let list = packages.join(" ");
        match (self.debian, self.root) {
            (true, true) => format!("apt-get update && apt-get install --no-install-recommends {list}"),
            (true, false) => {
                format!("sudo apt-get update && sudo apt-get install --no-install-recommends {list}")
            }
            (false, _) => format!("install what Debian calls: {list}"),
        }
    }
}

/// Installs by apt, with a bar, and leaves no service running that was not running before.
///
/// # Errors
/// apt-get failed: its last lines.
pub(crate) fn install(workspace: &Workspace, step: &Step, packages: &[&str]) -> Result<()> {
    // An index of last year names package versions that the mirror has dropped, and compilers that are too
    // old, so it is always renewed. A foreign source in the host's list that does not answer is not our
    // affair: what it should have delivered is missing below, by name.
    let renewed = crate::command::attempt(workspace, step, &mut apt_get(&["update"]))?;
    let _services = ServicesHeldBack::hold()?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends", "-o", "APT::Status-Fd=1"];
    arguments.extend(packages);
    run(workspace, step, &mut apt_get(&arguments)).map_err(|error| match renewed.status.success() {
        true => error,
        false => error.context(renewed.complaint()),
    })?;
    for package in packages.iter().filter(|package| SERVICES.contains(package)) {
        disable_service(package)?;
    }
    step.detail(format!("installed {}", packages.join(" ")));
    Ok(())
}

/// Packages that bring a service of their name.
const SERVICES: [&str; 3] = ["kamailio", "rtpengine-daemon", "stunnel4"];

pub(crate) fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command
}

/// A daemon that is installed as a test peer must not start at the next boot either.
fn disable_service(package: &str) -> Result<()> {
    if Path::new("/run/systemd/system").exists() {
        Command::new("systemctl").args(["disable", "--now", package]).status().context("systemctl")?;
    }
    Ok(())
}

/// The file system of pinned programs and maps. systemd mounts it; containers and small guests go without.
pub(crate) mod bpf_file_system {
    use super::{Command, Context, Result};
    use std::fs;

    pub(crate) const MOUNT: [&str; 5] = ["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"];

    pub(crate) fn mounted() -> bool {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf"))
    }

    pub(crate) fn mount() -> Result<()> {
        crate::command::ask(Command::new(MOUNT[0]).args(&MOUNT[1..])).context("BPF file system").map(drop)
    }
}

/// Debian asks `/usr/sbin/policy-rc.d` before a package starts a service; ours answers no while this lives.
struct ServicesHeldBack {
    ours: bool,
}

impl ServicesHeldBack {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn hold() -> Result<Self> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(Self::POLICY) {
            Ok(mut file) => {
                file.write_all(
                    b"#!/bin/sh\n# Written by cargo xtask setup for one installation.\nexit 101\n",
                )?;
                Ok(Self { ours: true })
            }
            // The host has a policy of its own, and it stays in force.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).context(Self::POLICY),
        }
    }
}

impl Drop for ServicesHeldBack {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_found_with_and_without_its_architecture() {
        let package = "kamailio-tls-modules";
        assert!(lists_package("kamailio-tls-modules.list", package));
        assert!(lists_package("kamailio-tls-modules:amd64.list", package));
        assert!(!lists_package("kamailio-tls-modules-dbg.list", package));
        assert!(!lists_package("kamailio-tls-modules:amd64.md5sums", package));
    }
}
