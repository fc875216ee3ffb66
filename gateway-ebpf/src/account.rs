//! The one exit: every packet is counted by what became of it, and a flow's packet in the flow as well.

use crate::{forward::Relayed, maps, packet::Packet, steer::Flow};
use aya_ebpf::bindings::xdp_action;
use gateway_common::{
    account,
    verdict::{Reason, Traffic},
};

/// Not ours: the host's own stack takes it.
#[inline(always)]
pub fn passed() -> u32 {
    count(Traffic::Passed);
    xdp_action::XDP_PASS
}

#[inline(always)]
pub fn passed_later_fragment() -> u32 {
    count(Traffic::LaterFragments);
    xdp_action::XDP_PASS
}

/// Dropped before its flow was known.
#[inline(always)]
pub fn dropped(packet: &Packet, reason: Reason) -> u32 {
    count_drop(reason);
    trace(packet, reason);
    xdp_action::XDP_DROP
}

/// A flow's packet.
#[inline(always)]
pub fn finished(packet: &Packet, flow: &mut Flow, verdict: Result<Relayed, Reason>) -> u32 {
    match verdict {
        Ok(relayed) => left(relayed.action()),
        Err(reason) => {
            account::refuse(flow.state);
            dropped(packet, reason)
        }
    }
}

/// A flow's packet that was [`Relayed`] leaves by `action`.
#[inline(always)]
pub fn left(action: u32) -> u32 {
    count(if action == xdp_action::XDP_TX { Traffic::Transmitted } else { Traffic::Redirected });
    action
}

#[inline(always)]
pub fn count(traffic: Traffic) {
    if let Some(counter) = maps::CW_TRAFFIC.get_ptr_mut(traffic as u32) {
        // SAFETY: a per-CPU element belongs to this processor while the program runs.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
pub fn count_drop(reason: Reason) {
    if let Some(counter) = maps::CW_DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: as above.
        unsafe { *counter += 1 };
    }
}

/// In the traced twin alone: the first drops of each reason on each processor, then one in 1024.
#[cfg(feature = "traced")]
#[inline(always)]
fn trace(packet: &Packet, reason: Reason) {
    let Some(count) = maps::CW_DROPS.get(reason as u32) else { return };
    if *count <= 8 || *count % 1024 == 0 {
        aya_log_ebpf::info!(&packet.context, "drop reason={} count={}", reason as u8, *count);
    }
}

#[cfg(not(feature = "traced"))]
#[inline(always)]
fn trace(_packet: &Packet, _reason: Reason) {}
