#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

#[xdp]
pub fn causeway(context: XdpContext) -> u32 {
    if let Some(generation) = maps::CW_GENERATION.get(0)
        && *generation == 77
        && let Some(mut entry) = maps::CW_RECORDS.reserve_bytes(24, 0)
    {
        entry[0] = 1;
        entry.submit(0);
    }
    let _ = (&maps::CW_FLOWS, maps::CW_STATES.get(context.rx_queue_index()), maps::CW_DROPS.get(0));
    xdp_action::XDP_PASS
}

/// Lets a veth peer or an output-only interface take redirected packets.
#[xdp]
pub fn causeway_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The helpers ask for a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never an unreachable hint: a panic that can be reached becomes a loop, which the verifier refuses at load.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
