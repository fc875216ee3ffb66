//! What a packet's whole way through the relay came to, kept for those after it that are like it: same source, same
//! marks, same payload type, over IPv4 on both sides with nothing extra. All that such a packet asks of its flow then
//! lies in three lines of the cache, and what it is to become is ready.
//!
//! A shortcut is worth what it was taken under, and no more: a revision of the flow's configuration, a generation of
//! routes, the latched source of the flow that hears the far end ([`crate::flow::FlowConfig::follower_slot`]). Every
//! packet whose time is taken goes the long way and takes it anew, so that one which was taken in the very moment that its
//! ground went lasts for [`crate::account::TIMED_EVERY`] packets.

use crate::{
    headers::{Headers, IPV4_LEN, UDP_LEN},
    learned::NextHop,
    rewrite::{Envelope, Sum, pair},
};
use core::mem::size_of;

/// In one cache line.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Shortcut {
    /// [`crate::flow::FlowEntry::revision`] that it was taken under, 0 for none.
    pub revision: u32,
    /// [`NextHop::generation`] that it was taken under.
    pub generation: u32,
    /// What packets have to look like: [`likeness`].
    pub like: u64,
    /// Destination and source MAC address of packets that leave, as they lie there; then the addresses, and both ports.
    pub macs: [u32; 3],
    pub source: u32,
    pub destination: u32,
    pub ports: u32,
    pub ifindex: u32,
    /// As in [`NextHop`].
    pub transmits_from: u32,
    /// Added to each timestamp.
    pub timestamp_offset: u32,
    /// Added to each sequence number.
    pub sequence_offset: u16,
    /// Most octets of UDP payload that the way out carries.
    pub payload_max: u16,
    /// [`Envelope::ipv4_rest`].
    pub ip_rest: u16,
    /// What the new addresses and ports in the place of the old add to the sum of the UDP checksum.
    pub readdressed: u16,
    pub traffic_class: u8,
    pub payload_type: u8,
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<Shortcut>() == 64);

/// Of the headers of an IPv4 packet and its payload type, in one word.
#[inline(always)]
pub fn likeness(headers: &Headers, payload_type: u8) -> u64 {
    u64::from(headers.source.v4_word().raw())
        | u64::from(headers.source_port.raw()) << 32
        | u64::from(headers.traffic_class) << 48
        | u64::from(payload_type) << 56
}

/// What the long way has found out.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// Of the flow's configuration.
    pub revision: u32,
    pub headers: &'a Headers,
    /// As it came.
    pub payload_type: u8,
    pub envelope: &'a Envelope,
    pub hop: &'a NextHop,
    pub out_payload_type: u8,
    pub sequence_offset: u16,
    pub timestamp_offset: u32,
    /// Of the new addresses and ports in the place of the old.
    pub readdressed: Sum,
}

impl Shortcut {
    #[inline(always)]
    pub fn take(found: &Found<'_>) -> Self {
        let Found { envelope, hop, .. } = *found;
        let [first, second, _] = hop.header;
        let (source, destination) = (envelope.source.v4_word().raw(), envelope.destination.v4_word().raw());
        let most = if hop.mtu == 0 || hop.mtu > u32::from(u16::MAX) { u32::from(u16::MAX) } else { hop.mtu };
        Self {
            revision: found.revision,
            generation: hop.generation,
            like: likeness(found.headers, found.payload_type),
            macs: [first as u32, (first >> 32) as u32, second as u32],
            source,
            destination,
            ports: pair(envelope.source_port, envelope.destination_port).raw(),
            ifindex: hop.ifindex,
            transmits_from: hop.transmits_from,
            timestamp_offset: found.timestamp_offset,
            sequence_offset: found.sequence_offset,
            payload_max: most.saturating_sub((IPV4_LEN + UDP_LEN) as u32) as u16,
            ip_rest: envelope.ipv4_rest().folded(),
            readdressed: found.readdressed.folded(),
            traffic_class: envelope.traffic_class,
            payload_type: found.out_payload_type,
            padding: [0; 2],
        }
    }
}
