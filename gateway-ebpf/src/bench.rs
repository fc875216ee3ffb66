//! What benches compare the product with: the cheapest programs that transmit, redirect, drop and count.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, PerCpuArray},
    helpers::bpf_redirect,
    macros::btf_map,
    macros::xdp,
    programs::XdpContext,
};
use core::mem::offset_of;
use gateway_common::{flow::FlowSlot, learned::FlowState};

/// Interface that [`empty_redirect`] sends to; by entry 0.
#[btf_map]
pub static BENCH_TARGET: Array<u32, 1> = Array::new();

#[xdp]
pub fn empty_tx(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

#[xdp]
pub fn empty_redirect(_context: XdpContext) -> u32 {
    match BENCH_TARGET.get(0) {
        // SAFETY: the helper takes plain integers.
        Some(ifindex) => unsafe { bpf_redirect(*ifindex, 0) as u32 },
        None => xdp_action::XDP_ABORTED,
    }
}

/// Packets that [`count_and_drop`] took, by entry 0.
#[btf_map]
pub static BENCH_TAKEN: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Flows that [`memory`] can go round.
const FLOWS: usize = 100_000;
/// Where a packet says which flow is its: the start of its UDP payload behind IPv4.
const FLOW_AT: usize = 42;
/// As large as a slot of the flow table, and as much of it in use.
#[repr(C)]
pub struct Slot {
    /// The next flow's number.
    next: u64,
    configuration: [u64; offset_of!(FlowSlot, state) / 8 - 1],
    /// Lines that are read and lines that are counted in.
    state: [[u64; 8]; size_of::<FlowState>() / 64],
}

const _: () = assert!(size_of::<Slot>() == size_of::<FlowSlot>());

#[btf_map]
pub static BENCH_FLOWS: Array<Slot, FLOWS> = Array::new();

/// What the memory of flows costs on this machine, and nothing else: fetches what a relay needs of the packet's flow,
/// counts in it, and names the next flow in the packet.
#[xdp]
pub fn memory(context: XdpContext) -> u32 {
    let start = context.data() + FLOW_AT;
    if start + size_of::<u32>() > context.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let number = start as *mut u32;
    // SAFETY: four octets from `start` on are inside the packet; `read_unaligned` asks for no alignment.
    let flow = unsafe { number.read_unaligned() };
    let Some(slot) = BENCH_FLOWS.get_ptr_mut(flow) else { return xdp_action::XDP_ABORTED };
    // SAFETY: an array's element lives as long as the array.
    let Slot { next, state: [_, shortcut, counts, ..], .. } = unsafe { &mut *slot };
    counts[0] += 1;
    // SAFETY: a reference.
    unsafe { (&raw const shortcut[0]).read_volatile() };
    // SAFETY: as above.
    unsafe { number.write_unaligned(*next as u32) };
    xdp_action::XDP_TX
}

/// The far end of every relay: IPv4 with UDP is counted and ends here, the rest (ARP) belongs to the host.
#[xdp]
pub fn count_and_drop(context: XdpContext) -> u32 {
    const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
    const UDP: u8 = 17;
    let (start, end) = (context.data(), context.data_end());
    if start + 24 > end {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: 24 octets from `start` on are inside the packet; `read_unaligned` asks for no alignment.
    let ethertype = unsafe { ((start + 12) as *const u16).read_unaligned() };
    // SAFETY: as above.
    let protocol = unsafe { ((start + 23) as *const u8).read() };
    if ethertype != ETHERTYPE_IPV4 || protocol != UDP {
        return xdp_action::XDP_PASS;
    }
    if let Some(taken) = BENCH_TAKEN.get_ptr_mut(0) {
        // SAFETY: the entry is this processor's own.
        unsafe { *taken += 1 };
    }
    xdp_action::XDP_DROP
}

/// The helpers ask for a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
