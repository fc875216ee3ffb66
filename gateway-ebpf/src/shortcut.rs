//! The way of most packets: like the one before it, and so without the questions that that one was asked.

use crate::{
    forward::{self, Relayed},
    maps,
    packet::Packet,
    route,
    steer::Flow,
};
use gateway_common::{
    account,
    cursor::Cursor,
    flow::NO_SLOT,
    headers::{ETHERNET_LEN, Headers, PLAIN_PAYLOAD},
    net::Be16,
    rewrite::{Sum, ipv4_words},
    rtp::{self, RTP_LEN},
    shortcut::{Shortcut, likeness},
};

/// Relays a packet, whose headers are plain, by the shortcut of its flow. `None`, and nothing has changed, where there is
/// none for it.
#[inline(always)]
pub fn follow(packet: &Packet, headers: &Headers, flow: &mut Flow) -> Option<Relayed> {
    let shortcut: *const Shortcut = &raw const flow.state.shortcut;
    // SAFETY: a field of the flow's state, which lives as long as the map, and all integers: another processor that takes
    // the shortcut anew meanwhile makes this packet a mixture of both at worst, whose UDP checksum is wrong.
    let shortcut = unsafe { &*shortcut };
    let frame = packet.window::<{ PLAIN_PAYLOAD + RTP_LEN }>(0)?;
    let header = frame.part::<PLAIN_PAYLOAD, RTP_LEN>();
    let rtp = rtp::parse_plain(&header)?;
    let octets = headers.payload_len;
    if shortcut.revision != flow.revision
        || shortcut.like != likeness(headers, rtp.payload_type)
        || shortcut.generation != route::generation()
        || octets > usize::from(shortcut.payload_max)
        || packet.len() != PLAIN_PAYLOAD + octets
        || flow.is_paused()
    {
        return None;
    }
    let offsets = (shortcut.sequence_offset, shortcut.timestamp_offset);
    let sent = account::pass_rtp(flow.state, &rtp, octets, offsets)?;
    let sum = Sum::of_checksum(headers.udp_checksum).plus_folded(shortcut.readdressed);
    let sum = forward::rewrite_rtp(&header, &rtp, shortcut.payload_type, &sent, sum);
    let [a, b, c] = shortcut.macs;
    frame.put32::<0>(a);
    frame.put32::<4>(b);
    frame.put32::<8>(c);
    let rest = Sum::default().plus_folded(shortcut.ip_rest);
    let [lengths, flags, third] = ipv4_words(shortcut.traffic_class, octets as u16, rest);
    frame.put32::<{ ETHERNET_LEN }>(lengths.raw());
    frame.put32::<{ ETHERNET_LEN + 4 }>(flags.raw());
    frame.put32::<{ ETHERNET_LEN + 8 }>(third.raw());
    frame.put32::<{ ETHERNET_LEN + 12 }>(shortcut.source);
    frame.put32::<{ ETHERNET_LEN + 16 }>(shortcut.destination);
    frame.put32::<{ ETHERNET_LEN + 20 }>(shortcut.ports);
    if headers.udp_checksum != Be16::new(0) {
        frame.put16::<{ ETHERNET_LEN + 26 }>(sum.udp_checksum().raw());
    }
    Some(forward::leave_by(packet, shortcut.ifindex, shortcut.transmits_from))
}

/// The flow whose RTP goes where packets of this one come from finds its way anew.
#[inline(always)]
pub fn forget_follower(flow: &Flow) {
    let slot = flow.config.follower_slot;
    if slot != NO_SLOT
        && let Some(slot) = maps::CW_FLOWS.get_ptr_mut(slot)
    {
        // SAFETY: array elements live as long as the map, and this is a whole aligned word of one.
        unsafe { (&raw mut (*slot).state.shortcut.revision).write_volatile(0) };
    }
}
