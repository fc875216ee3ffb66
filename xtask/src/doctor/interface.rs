//! One media interface: whether its driver runs XDP, and whether the card spreads calls over the cores.

use super::{Finding, host};
use crate::command::ask;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

/// Drivers with XDP in the driver, and the kernel since which they have it. Sources: the kernel's history of
/// `ndo_bpf` under `drivers/net`; what is older than the oldest kernel we support is listed with that one.
const NATIVE: [(&str, (u32, u32)); 33] = [
    ("atlantic", (6, 1)),
    ("bnxt_en", (6, 1)),
    ("bonding", (6, 1)),
    ("cpsw", (6, 1)),
    ("dpaa2-eth", (6, 1)),
    ("ena", (6, 1)),
    ("fec", (6, 2)),
    ("fsl_enetc", (6, 1)),
    ("gve", (6, 4)),
    ("hv_netvsc", (6, 1)),
    ("i40e", (6, 1)),
    ("iavf", (6, 12)),
    ("ice", (6, 1)),
    ("igb", (6, 1)),
    ("igc", (6, 1)),
    ("ixgbe", (6, 1)),
    ("ixgbevf", (6, 1)),
    ("mana", (6, 1)),
    ("mlx4_en", (6, 1)),
    ("mlx5_core", (6, 1)),
    ("mvneta", (6, 1)),
    ("mvpp2", (6, 1)),
    ("nfp", (6, 1)),
    ("qede", (6, 1)),
    ("rvu_nicpf", (6, 1)),
    ("sfc", (6, 1)),
    ("stmmac", (6, 1)),
    ("thunder-nicvf", (6, 1)),
    ("tun", (6, 1)),
    ("veth", (6, 1)),
    ("virtio_net", (6, 1)),
    ("vmxnet3", (6, 6)),
    ("xen-netfront", (6, 1)),
];

/// A receive ring that rides out a scheduling delay of a millisecond at a million packets a second.
const RING_WANTED: u32 = 1024;
/// What fits a page beside the headroom of XDP; programs that do not say that they take fragments end there.
const MTU_LIMIT: u32 = 3498;

/// Interfaces that are up and not loopback.
pub(super) fn that_are_up() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "lo" && is_up(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn findings(name: &str) -> Vec<Finding> {
    if !device(name).exists() {
        let fix = "ip -brief link    (names the interfaces there are)";
        return vec![Finding::ok("interface", "does not exist").fail("No media can pass.", fix).about(name)];
    }
    let Ok(driver) = ethtool(&["-i", name]) else {
        let missing = Finding::ok("driver", "unknown");
        let fix = "apt-get install ethtool";
        return vec![missing.fail("Nothing about the card can be told without ethtool.", fix).about(name)];
    };
    let driver = line_value(&driver, "driver:").unwrap_or_default().to_owned();
    let offloads = ethtool(&["-k", name]).unwrap_or_default();
    let mut findings = vec![state(name), xdp_mode(name, &driver, &offloads), frame_size(name)];
    findings.extend(queues(name));
    findings.extend(hashing(name));
    findings.extend(ring(name));
    findings.push(large_receive(name, &offloads));
    findings.push(receive_offload(&driver, name, &offloads));
    findings.extend(vlan(name, &offloads));
    findings.into_iter().map(|finding| finding.about(name)).collect()
}

fn state(name: &str) -> Finding {
    let up = is_up(name);
    Finding::ok("interface", if up { "up" } else { "down" }).fail_unless(
        up,
        "No media can pass.",
        format!("ip link set dev {name} up"),
    )
}

fn xdp_mode(name: &str, driver: &str, offloads: &str) -> Finding {
    let generic =
        "XDP runs after the kernel has made a socket buffer of each packet, at several times the cost.";
    let since = NATIVE.iter().find(|(native, _)| *native == driver).map(|(_, since)| *since);
    match since {
        None => Finding::ok("XDP mode", format!("generic: {driver} has no XDP"))
            .warn(generic, format!("carry media on an interface with a driver of this list: {}", names())),
        Some((major, minor)) if host::kernel_version().is_ok_and(|kernel| kernel < (major, minor)) => {
            Finding::ok("XDP mode", format!("generic: {driver} has XDP since kernel {major}.{minor}"))
                .warn(generic, "apt-get install -t bookworm-backports linux-image-amd64 && reboot")
        }
        // virtio_net refuses a program while the hypervisor merges packets for it.
        Some(_) if driver == "virtio_net" && offload(offloads, "rx-gro-hw").is_some_and(|value| value.0) => {
            let (_, fixed) = offload(offloads, "rx-gro-hw").unwrap_or_default();
            let fix = if fixed {
                "start the guest with -device virtio-net-pci,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
                    .to_owned()
            } else {
                format!("ethtool -K {name} rx-gro-hw off")
            };
            Finding::ok("XDP mode", "generic: the hypervisor merges packets").warn(generic, fix)
        }
        Some(_) => Finding::ok("XDP mode", format!("native, {driver}")),
    }
}

fn names() -> String {
    NATIVE.map(|(name, _)| name).join(" ")
}

fn frame_size(name: &str) -> Finding {
    let mtu = fs::read_to_string(device(name).join("mtu")).unwrap_or_default();
    let mtu: u32 = mtu.trim().parse().unwrap_or(0);
    Finding::ok("MTU", format!("{mtu} octets")).fail_unless(
        mtu <= MTU_LIMIT,
        "Most drivers refuse an XDP program above one page per packet.",
        format!("ip link set dev {name} mtu 1500"),
    )
}

fn queues(name: &str) -> Option<Finding> {
    let channels = ethtool(&["-l", name]).ok()?;
    let (label, (maximum, current)) = ["Combined:", "RX:"]
        .into_iter()
        .find_map(|label| Some((label, maximum_and_current(&channels, label)?)))?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = maximum.min(u32::try_from(cores).unwrap_or(u32::MAX));
    let kind = if label == "RX:" { "rx" } else { "combined" };
    Some(Finding::ok("RX queues", format!("{current} of {maximum}, {cores} cores")).warn_unless(
        current >= wanted,
        "Media of all calls is handled by fewer cores than there are.",
        format!("ethtool -L {name} {kind} {wanted}"),
    ))
}

/// A trunk is one pair of addresses: without the ports in the hash, all of its calls land on one queue.
fn hashing(name: &str) -> Option<Finding> {
    let fields = ethtool(&["-n", name, "rx-flow-hash", "udp4"]).ok()?;
    let ports = fields.contains("L4 bytes 0 & 1") && fields.contains("L4 bytes 2 & 3");
    let none = fields.contains("None");
    let value = if ports {
        "addresses and ports"
    } else if none {
        "none"
    } else {
        "addresses only"
    };
    let single = ethtool(&["-x", name]).is_ok_and(|table| table.contains("with 1 RX ring"));
    Some(Finding::ok("RSS of UDP", value).warn_unless(
        ports || single,
        "All calls of a trunk, which share a pair of addresses, are handled by one core.",
        format!("ethtool -N {name} rx-flow-hash udp4 sdfn && ethtool -N {name} rx-flow-hash udp6 sdfn"),
    ))
}

fn ring(name: &str) -> Option<Finding> {
    let rings = ethtool(&["-g", name]).ok()?;
    let (maximum, current) = maximum_and_current(&rings, "RX:")?;
    let wanted = maximum.min(RING_WANTED);
    Some(Finding::ok("RX ring", format!("{current} of {maximum} packets")).warn_unless(
        current >= wanted,
        "A burst while the core is busy overruns the ring; the card drops packets before anyone counts them.",
        format!("ethtool -G {name} rx {wanted}"),
    ))
}

fn large_receive(name: &str, offloads: &str) -> Finding {
    let (on, _) = offload(offloads, "large-receive-offload").unwrap_or_default();
    Finding::ok("LRO", if on { "on" } else { "off" }).fail_unless(
        !on,
        "The card merges packets; drivers refuse XDP while it does.",
        format!("ethtool -K {name} lro off"),
    )
}

/// On a veth it decides whether packets that XDP redirects into the other end arrive at all.
fn receive_offload(driver: &str, name: &str, offloads: &str) -> Finding {
    let (on, _) = offload(offloads, "generic-receive-offload").unwrap_or_default();
    Finding::ok("GRO", if on { "on" } else { "off" }).warn_unless(
        on || driver != "veth",
        "Packets that XDP redirects to the peer of this veth are dropped unless this end has GRO or XDP.",
        format!("ethtool -K {name} gro on"),
    )
}

/// A tag that the card took off is no longer in the packet that XDP reads.
fn vlan(name: &str, offloads: &str) -> Option<Finding> {
    let vlans = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
    let above = vlans.lines().filter_map(|line| line.rsplit('|').next());
    let count = above.filter(|parent| parent.trim() == name).count();
    let (on, _) = offload(offloads, "rx-vlan-offload")?;
    let value =
        format!("tags {}, {count} VLANs", if on { "taken off by the card" } else { "left in packets" });
    Some(Finding::ok("VLAN offload", value).fail_unless(
        !on || count == 0,
        "XDP sees the packets of all VLANs of this interface without their tags.",
        format!("ethtool -K {name} rxvlan off"),
    ))
}

/// `Combined: 8` in the paragraph of maximums, then in that of current settings.
fn maximum_and_current(text: &str, label: &str) -> Option<(u32, u32)> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(label)?.trim().parse().ok());
    Some((values.next()?, values.next()?))
}

/// Whether the feature is on, and whether that is fixed.
fn offload(features: &str, name: &str) -> Option<(bool, bool)> {
    let value = features.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))?;
    Some((value.trim().starts_with("on"), value.contains("[fixed]")))
}

fn line_value<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim)
}

fn ethtool(arguments: &[&str]) -> Result<String> {
    ask(Command::new("ethtool").args(arguments))
}

fn is_up(name: &str) -> bool {
    /// `IFF_UP` of linux/if.h.
    const UP: u32 = 1;
    let flags = fs::read_to_string(device(name).join("flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
    flags & UP != 0
}

fn device(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: &str = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\n\
        Other:\t\t1\nCombined:\t63\nCurrent hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n";

    #[test]
    fn queues_are_read_as_maximum_and_current() {
        assert_eq!(maximum_and_current(CHANNELS, "Combined:"), Some((63, 8)));
        assert_eq!(maximum_and_current(CHANNELS, "RX:"), None);
    }

    #[test]
    fn a_feature_is_on_or_off_and_may_be_fixed() {
        let features = "rx-gro-hw: on [fixed]\nlarge-receive-offload: off\n\trx-vlan-offload: on\n";
        assert_eq!(offload(features, "rx-gro-hw"), Some((true, true)));
        assert_eq!(offload(features, "large-receive-offload"), Some((false, false)));
        assert_eq!(offload(features, "rx-vlan-offload"), Some((true, false)));
        assert_eq!(offload(features, "ntuple-filters"), None);
    }

    #[test]
    fn an_interface_that_is_not_there_fails_by_name() {
        let findings = findings("no-such-if");
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, super::super::Level::Fail);
        assert_eq!(findings[0].subject, "no-such-if");
    }
}
