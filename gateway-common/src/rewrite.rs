//! The headers of a relayed packet, and its checksums.
//!
//! The relay is the end of one UDP conversation and the start of another, so link, IP and UDP headers are
//! fresh ones. The UDP checksum alone is carried on by its difference (RFC 1624): what was corrupt on the way
//! in stays detectably corrupt.

use crate::{
    headers::{IPV4_LEN, IPV6_LEN, PROTOCOL_UDP, UDP_LEN},
    net::{Addr128, Be16},
};

/// Initial TTL and hop limit (RFC 1700's recommended default).
const HOP_LIMIT: u8 = 64;
/// RFC 791: Don't Fragment; with it the identification means nothing and is 0 (RFC 6864 section 4.1).
const DONT_FRAGMENT: u8 = 0x40;

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
        Self(u64::from(!u16::from_ne_bytes(checksum.bytes())))
    }

    #[inline(always)]
    pub fn plus(self, octets: [u8; 4]) -> Self {
        Self(self.0 + u64::from(u32::from_ne_bytes(octets)))
    }

    /// Takes back what was added: in one's complement, adds the complement.
    #[inline(always)]
    pub fn minus(self, octets: [u8; 4]) -> Self {
        Self(self.0 + u64::from(!u32::from_ne_bytes(octets)))
    }

    /// All four words, for IPv4 too: the `ffff` of a mapped address is a zero of one's complement.
    #[inline(always)]
    pub fn plus_address(self, address: &Addr128) -> Self {
        let [a, b, c, d] = address.words();
        self.plus(a.bytes()).plus(b.bytes()).plus(c.bytes()).plus(d.bytes())
    }

    #[inline(always)]
    pub fn minus_address(self, address: &Addr128) -> Self {
        let [a, b, c, d] = address.words();
        self.minus(a.bytes()).minus(b.bytes()).minus(c.bytes()).minus(d.bytes())
    }

    #[inline(always)]
    pub fn plus_ports(self, source: Be16, destination: Be16) -> Self {
        self.plus(pair(source, destination))
    }

    #[inline(always)]
    pub fn minus_ports(self, source: Be16, destination: Be16) -> Self {
        self.minus(pair(source, destination))
    }

    /// A 16-bit count in network byte order, as in a pseudo-header.
    #[inline(always)]
    pub fn plus_count(self, count: u16) -> Self {
        Self(self.0 + u64::from(count.to_be()))
    }

    /// The checksum field of a header (RFC 791 section 3.1).
    #[inline(always)]
    pub fn checksum(self) -> Be16 {
        Be16::from_bytes((!self.fold()).to_ne_bytes())
    }

    /// The checksum field of UDP, where zero is written as all ones (RFC 768).
    #[inline(always)]
    pub fn udp_checksum(self) -> Be16 {
        let folded = !self.fold();
        Be16::from_bytes(if folded == 0 { [0xff; 2] } else { folded.to_ne_bytes() })
    }

    #[inline(always)]
    fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }
}

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

    /// RFC 791 header; both addresses are IPv4.
    #[inline(always)]
    pub fn ipv4(&self) -> [u8; IPV4_LEN] {
        let total = (self.payload_len.wrapping_add((IPV4_LEN + UDP_LEN) as u16)).to_be_bytes();
        let source = self.source.v4_word().bytes();
        let destination = self.destination.v4_word().bytes();
        let lengths = [0x45, self.traffic_class, total[0], total[1]];
        let protocol = [HOP_LIMIT, PROTOCOL_UDP, 0, 0];
        let sum = Sum::default().plus(lengths).plus([0, 0, DONT_FRAGMENT, 0]).plus(protocol);
        let checksum = sum.plus(source).plus(destination).checksum().bytes();
        let mut header = [0; IPV4_LEN];
        header[..4].copy_from_slice(&lengths);
        header[6] = DONT_FRAGMENT;
        header[8] = HOP_LIMIT;
        header[9] = PROTOCOL_UDP;
        header[10..12].copy_from_slice(&checksum);
        header[12..16].copy_from_slice(&source);
        header[16..].copy_from_slice(&destination);
        header
    }

    /// RFC 8200 header; both addresses are IPv6.
    #[inline(always)]
    pub fn ipv6(&self) -> [u8; IPV6_LEN] {
        let payload = (self.payload_len.wrapping_add(UDP_LEN as u16)).to_be_bytes();
        let mut header = [0; IPV6_LEN];
        header[0] = 0x60 | self.traffic_class >> 4;
        header[1] = self.traffic_class << 4;
        header[4] = payload[0];
        header[5] = payload[1];
        header[6] = PROTOCOL_UDP;
        header[7] = HOP_LIMIT;
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..].copy_from_slice(&self.destination.octets());
        header
    }

    /// RFC 768 header.
    #[inline(always)]
    pub fn udp(&self, checksum: Be16) -> [u8; UDP_LEN] {
        let length = (self.payload_len.wrapping_add(UDP_LEN as u16)).to_be_bytes();
        let [a, b] = self.source_port.bytes();
        let [c, d] = self.destination_port.bytes();
        let [e, f] = checksum.bytes();
        [a, b, c, d, length[0], length[1], e, f]
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
const fn pair(first: Be16, second: Be16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.bytes(), second.bytes());
    [a, b, c, d]
}
