//! The headers of a relayed packet, and its checksums.
//!
//! The relay is the end of one UDP conversation and the start of another, so link, IP and UDP headers are
//! fresh ones. The UDP checksum alone is carried on by its difference (RFC 1624): what was corrupt on the way
//! in stays detectably corrupt.

use crate::{
    headers::{IPV4_LEN, IPV6_LEN, PROTOCOL_UDP, UDP_LEN},
    net::{Addr128, Be16, Be32},
};

/// Initial TTL and hop limit (RFC 1700's recommended default).
const HOP_LIMIT: u8 = 64;
/// RFC 791: Don't Fragment, in the second word; with it the identification means nothing and is 0 (RFC 6864 section 4.1).
const DONT_FRAGMENT: u32 = 0x4000;

/// A sum in one's complement of 16-bit words (RFC 1071), not yet folded.
///
/// Words are taken as they lie in memory: the sum is independent of byte order. 32 bits at a time, so that
/// 2^32 of them fit.
#[derive(Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// For the way through a function call of the kernel's, which takes integers.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The sum that a checksum field stands for, ready to be adjusted.
    #[inline(always)]
    pub fn of_checksum(checksum: Be16) -> Self {
        Self(u64::from(!checksum.raw()))
    }

    #[inline(always)]
    pub fn plus(self, word: Be32) -> Self {
        Self(self.0 + u64::from(word.raw()))
    }

    /// Takes back what was added: in one's complement, adds the complement.
    #[inline(always)]
    pub fn minus(self, word: Be32) -> Self {
        Self(self.0 + u64::from(!word.raw()))
    }

    /// All four words, for IPv4 too: the `ffff` of a mapped address is a zero of one's complement.
    #[inline(always)]
    pub fn plus_address(self, address: &Addr128) -> Self {
        let [high, low] = address.raw();
        Self(self.0 + (high & LOWER) + (high >> 32) + (low & LOWER) + (low >> 32))
    }

    #[inline(always)]
    pub fn minus_address(self, address: &Addr128) -> Self {
        let [high, low] = address.raw();
        Self(self.0 + (!high & LOWER) + (!high >> 32) + (!low & LOWER) + (!low >> 32))
    }

    #[inline(always)]
    pub fn plus_ports(self, source: Be16, destination: Be16) -> Self {
        Self(self.0 + u64::from(source.raw()) + u64::from(destination.raw()))
    }

    #[inline(always)]
    pub fn minus_ports(self, source: Be16, destination: Be16) -> Self {
        Self(self.0 + u64::from(!source.raw()) + u64::from(!destination.raw()))
    }

    /// A 16-bit count in network byte order, as in a pseudo-header.
    #[inline(always)]
    pub fn plus_count(self, count: u16) -> Self {
        Self(self.0 + u64::from(count.to_be()))
    }

    /// The checksum field of a header (RFC 791 section 3.1).
    #[inline(always)]
    pub fn checksum(self) -> Be16 {
        Be16::from_raw(!self.fold())
    }

    /// The checksum field of UDP, where zero is written as all ones (RFC 768).
    #[inline(always)]
    pub fn udp_checksum(self) -> Be16 {
        let folded = !self.fold();
        Be16::from_raw(if folded == 0 { 0xffff } else { folded })
    }

    #[inline(always)]
    fn fold(self) -> u16 {
        let sum = (self.0 & LOWER) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }
}

const LOWER: u64 = 0xffff_ffff;

/// The IP and UDP headers of a packet that leaves.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Envelope {
    pub source: Addr128,
    pub destination: Addr128,
    pub source_port: Be16,
    pub destination_port: Be16,
    /// Octets of UDP payload, at most 65,487.
    pub payload_len: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Always zero: the verifier wants every octet written.
    pub padding: u8,
}

impl Envelope {
    /// Octets of the IP packet.
    #[inline(always)]
    pub fn ip_len(&self) -> usize {
        let header = if self.source.is_v4() { IPV4_LEN } else { IPV6_LEN };
        header + UDP_LEN + usize::from(self.payload_len)
    }

    /// RFC 791 header, in words; both addresses are IPv4.
    #[inline(always)]
    pub fn ipv4(&self) -> [Be32; IPV4_LEN / 4] {
        let total = self.payload_len.wrapping_add((IPV4_LEN + UDP_LEN) as u16);
        let lengths = Be32::new(0x4500_0000 | u32::from(self.traffic_class) << 16 | u32::from(total));
        let flags = Be32::new(DONT_FRAGMENT);
        let protocol = Be32::new(u32::from(HOP_LIMIT) << 24 | u32::from(PROTOCOL_UDP) << 16);
        let (source, destination) = (self.source.v4_word(), self.destination.v4_word());
        let sum = Sum::default().plus(lengths).plus(flags).plus(protocol).plus(source).plus(destination);
        let checksum = u32::from(sum.checksum().host());
        [lengths, flags, Be32::new(protocol.host() | checksum), source, destination]
    }

    /// RFC 8200 header up to the addresses, in words; both are IPv6.
    #[inline(always)]
    pub fn ipv6(&self) -> [Be32; 2] {
        let payload = self.payload_len.wrapping_add(UDP_LEN as u16);
        let rest = u32::from(payload) << 16 | u32::from(PROTOCOL_UDP) << 8 | u32::from(HOP_LIMIT);
        [Be32::new(6 << 28 | u32::from(self.traffic_class) << 20), Be32::new(rest)]
    }

    /// RFC 768 header, in words.
    #[inline(always)]
    pub fn udp(&self, checksum: Be16) -> [Be32; UDP_LEN / 4] {
        let length = self.payload_len.wrapping_add(UDP_LEN as u16);
        [pair(self.source_port, self.destination_port), pair(Be16::new(length), checksum)]
    }

    /// Pseudo-header, ports and length: all of the UDP checksum but the payload (RFC 768; RFC 8200 section 8.1
    /// sums the same numbers).
    #[inline(always)]
    pub fn pseudo_header(&self) -> Sum {
        let length = self.payload_len.wrapping_add(UDP_LEN as u16);
        Sum::default()
            .plus_address(&self.source)
            .plus_address(&self.destination)
            .plus_count(u16::from(PROTOCOL_UDP))
            .plus_count(length)
            .plus_ports(self.source_port, self.destination_port)
            .plus_count(length)
    }
}

/// The traffic class of a packet that leaves: DSCP as the flow says, ECN as it came (RFC 3168 section 5).
#[inline(always)]
pub const fn traffic_class(incoming: u8, dscp: u8) -> u8 {
    if dscp == crate::flow::DSCP_KEEP { incoming } else { dscp << 2 | incoming & 0b11 }
}

#[inline(always)]
fn pair(first: Be16, second: Be16) -> Be32 {
    let ([a, b], [c, d]) = (first.bytes(), second.bytes());
    Be32::from_bytes([a, b, c, d])
}
