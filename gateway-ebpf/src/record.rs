//! What userspace is told through the ring. A full ring loses the record, never the packet.

use crate::{account, maps, steer::Flow};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_ktime_get_ns, bpf_xdp_load_bytes},
};
use core::hint::black_box;
use gateway_common::{
    net::Be16,
    record::{NeighbourRecord, NeighbourWanted, RTCP_COPY_MAX, RecordHeader, RecordKind, RtcpRecord},
    rtp::TelephoneEvent,
    verdict::Reason,
};

#[inline(always)]
pub fn event_start(flow: &Flow, event: &TelephoneEvent) {
    plain(RecordHeader {
        event: event.code,
        duration: Be16::new(event.duration),
        ..of_flow(flow, RecordKind::EventStart)
    });
}

#[inline(always)]
pub fn event_end(flow: &Flow, event: &TelephoneEvent) {
    plain(RecordHeader {
        event: event.code,
        duration: Be16::new(event.duration),
        ..of_flow(flow, RecordKind::EventEnd)
    });
}

#[inline(always)]
pub fn latched(flow: &Flow) {
    plain(of_flow(flow, RecordKind::Latched));
}

#[inline(always)]
pub fn neighbour_wanted(slot: u32, epoch: u32, at: u64, wanted: NeighbourWanted) {
    let Some(mut entry) = maps::CW_RECORDS.reserve_untyped::<NeighbourRecord>(0) else {
        return account::count_drop(Reason::RecordLost);
    };
    let header = RecordHeader {
        length: size_of::<NeighbourWanted>() as u32,
        ..header(slot, epoch, at, RecordKind::NeighbourWanted)
    };
    entry.write(NeighbourRecord { header, payload: wanted });
    entry.submit(0);
}

/// A copy of the RTCP compound of `len` octets at `offset`, as it came. Gives 1 when it reached the ring.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_record_rtcp(context: *mut xdp_md, slot: u32, epoch: u32, offset: u32, len: u32) -> u32 {
    const { assert!(RTCP_COPY_MAX.is_power_of_two(), "the mask below is one less") };
    if len == 0 {
        return 0;
    }
    // For the verifier of all kernels: 1 to RTCP_COPY_MAX by arithmetic on the very value that the helper gets.
    // That of 6.1 does not learn from a comparison with 0 that a value is at least 1 (`cargo xtask verify`).
    let most = RTCP_COPY_MAX as u32;
    let length = (black_box(len.min(most) - 1) & (most - 1)) + 1;
    let Some(mut entry) = maps::CW_RECORDS.reserve_untyped::<RtcpRecord>(0) else {
        account::count_drop(Reason::RecordLost);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the helper takes nothing and returns a number.
    let at = unsafe { bpf_ktime_get_ns() };
    let header = RecordHeader { length, ..header(slot, epoch, at, RecordKind::Rtcp) };
    // SAFETY: the entry is room for a whole record.
    unsafe { (&raw mut (*record).header).write(header) };
    // SAFETY: `length` octets fit the payload, as it was cut to its size.
    let copied = unsafe { bpf_xdp_load_bytes(context, offset, (&raw mut (*record).payload).cast(), length) };
    if copied != 0 {
        entry.discard(0);
        return 0;
    }
    entry.submit(0);
    1
}

#[inline(always)]
fn plain(header: RecordHeader) {
    match maps::CW_RECORDS.reserve_untyped::<RecordHeader>(0) {
        Some(mut entry) => {
            entry.write(header);
            entry.submit(0);
        }
        None => account::count_drop(Reason::RecordLost),
    }
}

#[inline(always)]
fn of_flow(flow: &Flow, kind: RecordKind) -> RecordHeader {
    // The packet's one time, if it was taken: it is the time that the flow's state was changed at.
    // SAFETY: the helper takes nothing and returns a number.
    let at = if flow.now != 0 { flow.now } else { unsafe { bpf_ktime_get_ns() } };
    header(flow.config.slot, flow.config.epoch, at, kind)
}

#[inline(always)]
fn header(slot: u32, epoch: u32, at: u64, kind: RecordKind) -> RecordHeader {
    RecordHeader { kind: kind as u8, event: 0, duration: Be16::new(0), slot, epoch, length: 0, at }
}
