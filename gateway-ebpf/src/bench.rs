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
