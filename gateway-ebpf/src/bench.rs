//! What benches compare the product with: the cheapest programs that transmit and redirect.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action, btf_maps::Array, helpers::bpf_redirect, macros::btf_map, macros::xdp,
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

/// The helpers ask for a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
