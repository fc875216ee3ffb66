//! Copies of packets for whoever captures a call, through a ring of their own: a capture that is not read fast enough
//! loses copies, and nothing else loses records.

use crate::{account, maps, packet::Packet, steer::Flow};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_ktime_get_ns, bpf_xdp_load_bytes},
};
use core::hint::black_box;
use gateway_common::{
    cursor::{Cursor, Window},
    flow::flag,
    headers::Headers,
    net::Be16,
    record::{CAPTURE_COPY_MAX, CaptureHead, CaptureRecord, RecordHeader, RecordKind, captured},
    verdict::Traffic,
};

/// A flow as far as its copies ask for it.
#[derive(Clone, Copy)]
pub struct Of {
    pub slot: u32,
    pub epoch: u32,
    pub flags: u32,
}

impl Of {
    #[inline(always)]
    pub fn flow(flow: &Flow) -> Self {
        Self { slot: flow.config.slot, epoch: flow.config.epoch, flags: flow.config.flags.into() }
    }

    #[inline(always)]
    pub fn is_captured(&self) -> bool {
        self.flags & u32::from(flag::CAPTURE) != 0
    }
}

/// The packet as it came.
#[inline(always)]
pub fn received(packet: &Packet, headers: &Headers, flow: &Flow) {
    let second = packet.window::<2>(headers.payload).map_or(0, |window| window.octet::<1>());
    copy(
        packet,
        Of::flow(flow),
        headers.payload + kept(second, headers.payload_len, flow.config.flags.into()),
        false,
    );
}

/// The packet as it leaves, with its payload of `len` octets at its end.
#[inline(always)]
pub fn sent(packet: &Packet, of: Of, len: usize, is_rtcp: bool) {
    // An RTCP packet type, or none.
    let second = if is_rtcp { 200 } else { 0 };
    let left_out = len - kept(second, len, of.flags);
    copy(packet, of, packet.len().wrapping_sub(left_out), true);
}

#[inline(always)]
fn kept(second: u8, len: usize, flags: u32) -> usize {
    captured(second, len, flags & u32::from(flag::CAPTURE_AUDIO) != 0)
}

#[inline(always)]
fn copy(packet: &Packet, of: Of, take: usize, sent: bool) {
    let wire = packet.len() as u32;
    let take = (take as u32).min(wire);
    if cw_capture(packet.raw_context(), of.slot, of.epoch, take, wire << 1 | u32::from(sent)) == 0 {
        account::count(Traffic::CapturesLost);
    }
}

/// A copy of the first `take` octets; `wire` is the length of the frame, above the lowest bit, which is 1 for one that
/// leaves. Gives 1 when it reached the ring.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_capture(context: *mut xdp_md, slot: u32, epoch: u32, take: u32, wire: u32) -> u32 {
    const { assert!(CAPTURE_COPY_MAX.is_power_of_two(), "the mask below is one less") };
    if take == 0 {
        return 0;
    }
    // As for the copies of RTCP: 1 to CAPTURE_COPY_MAX by arithmetic on the very value that the helper gets.
    let most = CAPTURE_COPY_MAX as u32;
    let length = (black_box(take.min(most) - 1) & (most - 1)) + 1;
    let Some(mut entry) = maps::CW_CAPTURES.reserve_untyped::<CaptureRecord>(0) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: the helper takes nothing and returns a number.
    let at = unsafe { bpf_ktime_get_ns() };
    let header = RecordHeader {
        kind: RecordKind::Captured as u8,
        event: 0,
        duration: Be16::new(0),
        slot,
        epoch,
        length: length + size_of::<CaptureHead>() as u32,
        at,
    };
    // SAFETY: the entry is room for a whole record.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).head).write(CaptureHead { wire: wire >> 1, sent: wire & 1 });
    }
    // SAFETY: `length` octets fit the payload, as it was cut to its size.
    let copied = unsafe { bpf_xdp_load_bytes(context, 0, (&raw mut (*record).payload).cast(), length) };
    if copied != 0 {
        entry.discard(0);
        return 0;
    }
    entry.submit(0);
    1
}
