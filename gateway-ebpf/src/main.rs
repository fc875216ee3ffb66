//! The relay in the kernel. A packet passes five stages, each of which ends its way or hands it on:
//!
//! * parse: from the frame to the UDP payload (`gateway_common::headers` over [`packet`]);
//! * [`steer`]: local address and port name the flow; none, and the packet is the host's own business, past the
//!   [`guard`] of its SIP sockets;
//! * [`admit`]: gate, payload type, latch and rate decide whether the flow hears it;
//! * [`forward`]: the way out is found ([`route`]), and only then are octets rewritten;
//! * [`account`]: the one exit, which always counts.
//!
//! Most packets are like the one before them, and go by the [`shortcut`] that it left behind steering.
//!
//! Packets of flows with SRTP leave the first program behind steering for others, in which [`crypto`] stands before
//! admission and behind forwarding; those of flows that userspace relays leave it for [`punt`]. The relay of all others
//! keeps its size, and each program has the verifier's patience and the stack for itself.
//!
//! The rules themselves are pure functions in `gateway_common`, shared with the plain-socket path.
#![no_std]
#![no_main]
// For the packet accesses in `packet`.
#![feature(asm_experimental_arch)]

mod account;
mod admit;
mod capture;
mod crypto;
mod forward;
mod guard;
mod maps;
mod packet;
mod punt;
mod record;
mod route;
mod shortcut;
mod steer;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use gateway_common::{
    flow::flag,
    headers::{self, Headers, Parsed},
    rtp::Media,
    verdict::Reason,
};
use packet::Packet;
use steer::Flow;

/// On every media interface.
#[xdp]
#[inline(always)]
pub fn causeway(context: XdpContext) -> u32 {
    let packet = Packet::new(context);
    // Compiled twice: for the headers that nearly all packets have, where every offset is a constant, and for all.
    if let Some(headers) = headers::parse_plain(&packet) {
        return relay::<true>(packet, headers);
    }
    match headers::parse(&packet) {
        Parsed::Udp(headers) => {
            relay::<false>(packet, Headers { payload: packet::forget(headers.payload), ..headers })
        }
        Parsed::Tcp(endpoints) => guard::tcp(&packet, &endpoints),
        Parsed::Other => account::passed(),
        Parsed::LaterFragment => account::passed_later_fragment(),
        Parsed::Malformed(reason) => account::dropped(&packet, reason),
    }
}

/// `PLAIN`: the headers are those of [`headers::parse_plain`].
#[inline(always)]
fn relay<const PLAIN: bool>(mut packet: Packet, headers: Headers) -> u32 {
    let mut flow = match steer::steer(&headers) {
        Ok(Some(flow)) => flow,
        Ok(None) => return guard::udp(&packet, &headers),
        Err(reason) => return account::dropped(&packet, reason),
    };
    if PLAIN && let Some(relayed) = shortcut::follow(&packet, &headers, &mut flow) {
        return account::left(relayed.action());
    }
    flow.begin();
    // Each with its own way to the end: most packets should not carry the questions of RTCP with them.
    let unusual = flow.config.flags & flag::UNUSUAL != 0;
    let media = if unusual { Err(Reason::NoSrtp) } else { admit::parse(&packet, &headers, &flow) };
    let verdict = match media {
        Ok(Media::Rtp(rtp)) => admit::rtp(&packet, &headers, &mut flow, rtp).and_then(|payload_type| {
            forward::rtp::<false>(&mut packet, &headers, &mut flow, &rtp, payload_type)
        }),
        Ok(Media::Rtcp(rtcp)) => admit::rtcp(&packet, &headers, &mut flow, rtcp)
            .and_then(|()| forward::rtcp::<false>(&mut packet, &headers, &mut flow)),
        Err(reason) => Err(reason),
    };
    if let Err(Reason::NoSrtp) = verdict {
        crypto::hand_over(&packet, &flow);
    }
    account::finished(&packet, &mut flow, verdict)
}

/// First of three for flows with SRTP: what arrives protected is unprotected.
#[xdp]
#[inline(always)]
pub fn causeway_open(context: XdpContext) -> u32 {
    match steered(context) {
        Ok((packet, headers, flow)) => crypto::open(packet, headers, flow),
        Err(action) => action,
    }
}

/// Second of three: the relay.
#[xdp]
#[inline(always)]
pub fn causeway_relay(context: XdpContext) -> u32 {
    match steered(context) {
        Ok((packet, headers, flow)) => crypto::relay(packet, headers, flow),
        Err(action) => action,
    }
}

/// Last of three: what leaves protected is protected.
#[xdp]
#[inline(always)]
pub fn causeway_seal(context: XdpContext) -> u32 {
    crypto::seal(Packet::new(context))
}

/// For flows that userspace relays.
#[xdp]
#[inline(always)]
pub fn causeway_punt(context: XdpContext) -> u32 {
    match steered(context) {
        Ok((packet, headers, flow)) => punt::punt(packet, headers, flow),
        Err(action) => action,
    }
}

/// For flows of a call that is captured, in front of the other three.
#[xdp]
#[inline(always)]
pub fn causeway_capture(context: XdpContext) -> u32 {
    match steered(context) {
        Ok((packet, headers, mut flow)) => {
            // Whoever takes a packet takes its copy.
            punt::divert(&packet, &headers, &flow);
            capture::received(&packet, &headers, &flow);
            crypto::enter(&packet, &flow);
            account::finished(&packet, &mut flow, Err(Reason::NoSrtp))
        }
        Err(action) => action,
    }
}

/// A packet that [`causeway`] has steered before, or what becomes of one whose flow went meanwhile.
#[inline(always)]
fn steered(context: XdpContext) -> Result<(Packet, Headers, Flow), u32> {
    let packet = Packet::new(context);
    let headers = match headers::parse_plain(&packet) {
        Some(headers) => headers,
        None => match headers::parse(&packet) {
            Parsed::Udp(headers) => headers,
            _ => return Err(account::passed()),
        },
    };
    let headers = Headers { payload: packet::forget(headers.payload), ..headers };
    match steer::steer(&headers) {
        Ok(Some(mut flow)) => {
            flow.begin();
            Ok((packet, headers, flow))
        }
        Ok(None) => Err(account::passed()),
        Err(reason) => Err(account::dropped(&packet, reason)),
    }
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
