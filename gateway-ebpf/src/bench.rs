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
use gateway_common::{flow::FlowVersions, learned::FlowState};

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

/// As large as a flow's configuration, and as much of it in use: the next flow's number in the first cache line, and
/// one line behind it.
#[repr(C)]
pub struct Configuration {
    next: u32,
    first: [u8; 60],
    second: u64,
    rest: [u8; size_of::<FlowVersions>() - 72],
}

/// As large as a flow's state, and as much of it in use: lines that are read and lines that are counted in.
#[repr(C)]
pub struct State {
    lines: [[u64; 8]; size_of::<FlowState>() / 64],
}

#[btf_map]
pub static BENCH_FLOWS: Array<Configuration, FLOWS> = Array::new();

#[btf_map]
pub static BENCH_STATES: Array<State, FLOWS> = Array::new();

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
    let (Some(configuration), Some(state)) = (BENCH_FLOWS.get(flow), BENCH_STATES.get_ptr_mut(flow)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: an array's element lives as long as the array.
    let [latch, counts, _, hop, ..] = unsafe { &mut (*state).lines };
    counts[0] += 1;
    let read = |word: &u64| {
        // SAFETY: a reference.
        unsafe { (&raw const *word).read_volatile() };
    };
    read(&latch[0]);
    read(&hop[0]);
    read(&configuration.second);
    // SAFETY: as above.
    unsafe { number.write_unaligned(configuration.next) };
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
