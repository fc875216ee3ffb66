//! The host as a whole: kernel, rights, memory, clock, limits.

use super::Finding;
use crate::command::{ask, on_path};
use crate::packages::bpf_file_system;
use anyhow::{Context, Result};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

/// The oldest kernel that `cargo xtask verify` proves.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Sockets of signalling, and of media on the reference path, for a host that carries calls.
const FILES_WANTED: u64 = 65_536;
/// Frame memory of one AF_XDP socket (4,096 frames of 4 KiB) for each of four queues.
const FRAME_MEMORY: u64 = 64 << 20;

/// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

pub(super) fn findings(media_ports: &RangeInclusive<u16>) -> Result<Vec<Finding>> {
    Ok(vec![
        kernel()?,
        type_information(),
        jit(),
        pinned_maps(),
        capabilities()?,
        raw_sockets()?,
        running_daemon(),
        port_range(media_ports)?,
        neighbours("neighbours, IPv4", "/proc/net/stat/arp_cache", "ipv4")?,
        neighbours("neighbours, IPv6", "/proc/net/stat/ndisc_cache", "ipv6")?,
        hugepages()?,
        open_files()?,
        locked_memory()?,
        clock_source(),
        clock_synchronised(),
        irqbalance(),
    ])
}

/// Major and minor number of the running kernel.
pub(super) fn kernel_version() -> Result<(u32, u32)> {
    let release = read("/proc/sys/kernel/osrelease")?;
    version(&release).with_context(|| format!("kernel release {release:?}"))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel() -> Result<Finding> {
    let release = read("/proc/sys/kernel/osrelease")?;
    Ok(Finding::ok("kernel", release).fail_unless(
        kernel_version()? >= OLDEST_KERNEL,
        "The XDP program is proved on 6.1 and later only.",
        "apt-get install linux-image-amd64 && reboot",
    ))
}

fn type_information() -> Finding {
    let present = Path::new("/sys/kernel/btf/vmlinux").exists();
    Finding::ok("BTF", if present { "present" } else { "absent" }).fail_unless(
        present,
        "Without type information of the kernel the program cannot be loaded.",
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y: apt-get install linux-image-amd64 && reboot",
    )
}

fn jit() -> Finding {
    let enabled = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    Finding::ok("BPF JIT", if enabled.trim() == "0" { "off" } else { "on" }).fail_unless(
        enabled.trim() != "0",
        "Every packet would be interpreted, at about ten times the cost.",
        "sysctl -w net.core.bpf_jit_enable=1",
    )
}

fn pinned_maps() -> Finding {
    let mounted = bpf_file_system::mounted();
    Finding::ok("/sys/fs/bpf", if mounted { "mounted" } else { "not mounted" }).fail_unless(
        mounted,
        "Calls survive a restart of the daemon only in maps that are pinned there.",
        bpf_file_system::MOUNT.join(" "),
    )
}

/// What flows in userspace need besides.
fn raw_sockets() -> Result<Finding> {
    let status = read("/proc/self/status")?;
    let bounding = capability_set(&status, "CapBnd:").context("/proc/self/status names no CapBnd")?;
    let granted = bounding >> CAP_NET_RAW & 1 == 1;
    let value = if granted { "CAP_NET_RAW can be had" } else { "CAP_NET_RAW cut off" };
    Ok(Finding::ok("AF_XDP", value).warn_unless(
        granted,
        "Calls that the kernel cannot relay by itself (SRTP suites other than AES_CM_128) are refused.",
        "start the container with --cap-add=NET_RAW",
    ))
}

/// What this host would grant at all: in a container the bounding set is cut.
fn capabilities() -> Result<Finding> {
    let status = read("/proc/self/status")?;
    let bounding = capability_set(&status, "CapBnd:").context("/proc/self/status names no CapBnd")?;
    let granted = [("CAP_BPF", CAP_BPF), ("CAP_NET_ADMIN", CAP_NET_ADMIN), ("CAP_PERFMON", CAP_PERFMON)];
    let missing: Vec<&str> =
        granted.iter().filter(|(_, bit)| bounding >> bit & 1 == 0).map(|(name, _)| *name).collect();
    let value = if missing.is_empty() {
        "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON can be had".to_owned()
    } else {
        format!("{} cut off", missing.join(" and "))
    };
    Ok(Finding::ok("capabilities", value).fail_unless(
        missing.is_empty(),
        "The daemon cannot load its program; calls fall back to plain sockets.",
        "start the container with --cap-add=BPF --cap-add=NET_ADMIN --cap-add=PERFMON",
    ))
}

fn capability_set(status: &str, name: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// The daemon needs capabilities, not root: three for its program, as `cargo xtask verify` says, and CAP_NET_RAW for the
/// flows that it relays itself.
fn running_daemon() -> Finding {
    let Some((pid, effective)) = daemon() else {
        return Finding::ok("daemon's rights", "not running");
    };
    let everything = effective >> CAP_SYS_ADMIN & 1 == 1;
    let value = format!("process {pid}, {}", if everything { "all of root's" } else { "limited" });
    Finding::ok("daemon's rights", value).warn_unless(
        !everything,
        "A fault in a process with all rights is a fault of the whole host; the daemon needs four capabilities.",
        "systemd-run --unit=causeway --uid=causeway --property='AmbientCapabilities=CAP_BPF CAP_NET_ADMIN \
         CAP_PERFMON CAP_NET_RAW' --property=LimitMEMLOCK=infinity causeway run --config /etc/causeway/causeway.toml",
    )
}

fn daemon() -> Option<(u32, u64)> {
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let file = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
        (file("comm")?.trim() == "causeway").then_some(())?;
        Some((pid, capability_set(&file("status")?, "CapEff:")?))
    })
}

/// The kernel hands ports of its own range to any program; one of them may be a call's.
fn port_range(media: &RangeInclusive<u16>) -> Result<Finding> {
    let ephemeral = read("/proc/sys/net/ipv4/ip_local_port_range")?;
    let bounds: Vec<u16> = ephemeral.split_whitespace().filter_map(|bound| bound.parse().ok()).collect();
    let [first, last] = bounds[..] else {
        anyhow::bail!("ip_local_port_range is {ephemeral:?}, not two ports");
    };
    let reserved = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let (low, high) = (first.max(*media.start()), last.min(*media.end()));
    let value = format!("media {}-{}, system {first}-{last}", media.start(), media.end());
    Ok(Finding::ok("port ranges", value).warn_unless(
        low > high || covers(&reserved, low, high),
        "Any program on this host may be given a port that a call is about to use.",
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={}-{}", media.start(), media.end()),
    ))
}

/// Whether a list like `5060,20000-59999` holds all of `first..=last` in one of its ranges.
fn covers(list: &str, first: u16, last: u16) -> bool {
    list.trim().split(',').any(|range| {
        let (start, end) = range.split_once('-').unwrap_or((range, range));
        matches!((start.parse::<u16>(), end.parse::<u16>()), (Ok(start), Ok(end)) if start <= first && last <= end)
    })
}

fn neighbours(check: &'static str, statistics: &str, family: &str) -> Result<Finding> {
    let table = read(statistics)?;
    let entries = table.lines().nth(1).and_then(|line| line.split_whitespace().next());
    let entries =
        entries.and_then(|hex| u64::from_str_radix(hex, 16).ok()).context("entries of the table")?;
    let limit = number(&format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"))?;
    Ok(Finding::ok(check, format!("{entries} of at most {limit}")).warn_unless(
        entries * 2 <= limit,
        "Beyond the limit the addresses of new peers on the same link are not resolved, and their packets lost.",
        format!("sysctl -w net.{family}.neigh.default.gc_thresh3={}", (entries * 4).max(16_384)),
    ))
}

fn hugepages() -> Result<Finding> {
    let memory = read("/proc/meminfo")?;
    let field = |name: &str| {
        let value = memory.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let pages = field("HugePages_Total:").unwrap_or(0);
    let octets = pages * field("Hugepagesize:").unwrap_or(0) * 1024;
    Ok(Finding::ok("hugepages", format!("{pages}, {} MiB", octets >> 20)).warn_unless(
        octets >= FRAME_MEMORY,
        "Calls that need a codec keep their frames in small pages, which costs them cache misses.",
        "sysctl -w vm.nr_hugepages=64",
    ))
}

fn open_files() -> Result<Finding> {
    let limit = limit("Max open files")?;
    Ok(Finding::ok("open files", limit.map_or("unlimited".to_owned(), |limit| limit.to_string()))
        .warn_unless(
            limit.is_none_or(|limit| limit >= FILES_WANTED),
            "TCP and TLS trunks, and calls on plain sockets, need one each.",
            format!("ulimit -n {FILES_WANTED}    (systemd: LimitNOFILE={FILES_WANTED})"),
        ))
}

fn locked_memory() -> Result<Finding> {
    let limit = limit("Max locked memory")?;
    let value = limit.map_or("unlimited".to_owned(), |limit| format!("{} MiB", limit >> 20));
    Ok(Finding::ok("locked memory", value).warn_unless(
        limit.is_none_or(|limit| limit >= FRAME_MEMORY),
        "AF_XDP sockets, which calls with a codec use, lock their frames.",
        "ulimit -l unlimited    (systemd: LimitMEMLOCK=infinity)",
    ))
}

/// Soft limit, `None` for unlimited.
fn limit(name: &str) -> Result<Option<u64>> {
    let limits = read("/proc/self/limits")?;
    let soft = limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let soft = soft.with_context(|| format!("/proc/self/limits: {name}"))?;
    if soft == "unlimited" { Ok(None) } else { Ok(Some(soft.parse()?)) }
}

fn clock_source() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = fs::read_to_string(path).unwrap_or_default();
    let slow = ["hpet", "acpi_pm", "jiffies", "refined-jiffies", ""];
    Finding::ok("clock source", source.trim()).warn_unless(
        !slow.contains(&source.trim()),
        "Every packet is timed; reading this clock costs a microsecond or more.",
        format!("echo tsc > {path}    (if /sys/devices/system/clocksource/clocksource0/available_clocksource has it)"),
    )
}

/// Call records carry the time of day; jitter and timers do not depend on it.
fn clock_synchronised() -> Finding {
    let by_systemd = ask(Command::new("timedatectl").args(["show", "-p", "NTPSynchronized", "--value"]));
    let by_chrony = || ask(Command::new("chronyc").arg("-n").arg("tracking"));
    let (value, fine) = match by_systemd {
        Ok(answer) => (format!("synchronised: {}", answer.trim()), answer.trim() == "yes"),
        Err(_) => match by_chrony() {
            Ok(answer) => {
                let normal = answer.contains("Leap status     : Normal");
                (format!("chrony: {}", if normal { "normal" } else { "not synchronised" }), normal)
            }
            Err(_) => ("neither systemd nor chrony can tell".to_owned(), false),
        },
    };
    Finding::ok("clock", value).warn_unless(
        fine,
        "Call records and traces of several hosts do not line up.",
        "apt-get install chrony && systemctl enable --now chrony",
    )
}

fn irqbalance() -> Finding {
    let running = fs::read_dir("/proc").is_ok_and(|entries| {
        let comm = |path: PathBuf| fs::read_to_string(path.join("comm")).unwrap_or_default();
        entries.filter_map(Result::ok).any(|entry| comm(entry.path()).trim() == "irqbalance")
    });
    let several = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    Finding::ok("irqbalance", if running { "running" } else { "not running" }).warn_unless(
        !(running && several && on_path("systemctl")),
        "It moves the interrupts of media queues between cores, and packets of a call out of order with them.",
        "systemctl disable --now irqbalance",
    )
}

fn number(path: &str) -> Result<u64> {
    read(path)?.parse().with_context(|| path.to_owned())
}

fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path).with_context(|| path.to_owned())?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_have_a_major_and_a_minor_number() {
        assert_eq!(version("6.1.0-50-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("6.12.107+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("next"), None);
    }

    #[test]
    fn a_reserved_range_covers_what_lies_within_it() {
        assert!(covers("5060,20000-59999\n", 32768, 59999));
        assert!(!covers("20000-40000", 32768, 59999));
        assert!(!covers("", 32768, 59999));
    }

    #[test]
    fn capabilities_are_read_as_a_set_of_bits() {
        let set = capability_set("CapInh:\t0\nCapEff:\t000000ffffffffff\n", "CapEff:");
        assert_eq!(set.map(|set| set >> CAP_BPF & 1), Some(1));
        assert_eq!(capability_set("", "CapEff:"), None);
    }
}
