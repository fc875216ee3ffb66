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
    fn minus_address(self, address: &Addr128) -> Self {
        let [high, low] = address.raw();
        Self(self.0 + (!high & LOWER) + (!high >> 32) + (!low & LOWER) + (!low >> 32))
    }

    /// Puts the addresses `to` in the place of `from`, source and destination alike.
    #[inline(always)]
    pub fn readdressed(self, from: [&Addr128; 2], to: [&Addr128; 2]) -> Self {
        let ([a, b], [c, d]) = (from, to);
        // By far the most packets, and a quarter of the words.
        if a.is_v4() && c.is_v4() {
            return self.minus(a.v4_word()).minus(b.v4_word()).plus(c.v4_word()).plus(d.v4_word());
        }
        self.minus_address(a).minus_address(b).plus_address(c).plus_address(d)
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
    pub fn plus_folded(self, sum: u16) -> Self {
        Self(self.0 + u64::from(sum))
    }

    /// The sum in 16 bits.
    #[inline(always)]
    pub fn folded(self) -> u16 {
        self.fold()
    }

    /// Two sums in one.
    #[inline(always)]
    pub fn plus_sum(self, other: Self) -> Self {
        self.plus_folded(other.fold())
    }

    #[inline(always)]
    fn fold(self) -> u16 {
        // Each sum of two halves in the upper half of a sum with itself turned round: the carry of the lower half is
        // the one that goes round (RFC 1071 section 2).
        let sum = self.0.wrapping_add(self.0.rotate_left(32)) >> 32;
        let sum = (sum as u32).wrapping_add((sum as u32).rotate_left(16)) >> 16;
        sum as u16
    }
}

const LOWER: u64 = 0xffff_ffff;

/// The IP and UDP headers of a packet that leaves.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
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
        let [lengths, flags, third] = ipv4_words(self.traffic_class, self.payload_len, self.ipv4_rest());
        [lengths, flags, third, self.source.v4_word(), self.destination.v4_word()]
    }

    /// Of the RFC 791 header, what is the same for every packet between the same addresses.
    #[inline(always)]
    pub fn ipv4_rest(&self) -> Sum {
        let protocol = Be32::new(u32::from(HOP_LIMIT) << 24 | u32::from(PROTOCOL_UDP) << 16);
        let (source, destination) = (self.source.v4_word(), self.destination.v4_word());
        Sum::default().plus(Be32::new(DONT_FRAGMENT)).plus(protocol).plus(source).plus(destination)
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

/// RFC 791 header up to the addresses, in words; `rest` is [`Envelope::ipv4_rest`].
#[inline(always)]
pub fn ipv4_words(traffic_class: u8, payload_len: u16, rest: Sum) -> [Be32; 3] {
    let total = payload_len.wrapping_add((IPV4_LEN + UDP_LEN) as u16);
    let lengths = Be32::new(0x4500_0000 | u32::from(traffic_class) << 16 | u32::from(total));
    let checksum = rest.plus(lengths).checksum();
    let third = pair(Be16::new(u16::from(HOP_LIMIT) << 8 | u16::from(PROTOCOL_UDP)), checksum);
    [lengths, Be32::new(DONT_FRAGMENT), third]
}

/// The traffic class of a packet that leaves: DSCP as the flow says, ECN as it came (RFC 3168 section 5).
#[inline(always)]
pub const fn traffic_class(incoming: u8, dscp: u8) -> u8 {
    if dscp == crate::flow::DSCP_KEEP { incoming } else { dscp << 2 | incoming & 0b11 }
}

#[inline(always)]
pub(crate) fn pair(first: Be16, second: Be16) -> Be32 {
    // As they lie in memory, in two operations; octet by octet the compiler takes eight.
    let (first, second) = (u32::from(first.raw()), u32::from(second.raw()));
    Be32::from_raw(if cfg!(target_endian = "little") { second << 16 | first } else { first << 16 | second })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as it is printed.
    fn naive(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn octets(words: &[Be32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.bytes()).collect()
    }

    fn pseudo_header(envelope: &Envelope) -> Vec<u8> {
        let mut pseudo = [envelope.source.octets(), envelope.destination.octets()].concat();
        pseudo.extend([0, PROTOCOL_UDP]);
        pseudo.extend((envelope.payload_len + 8).to_be_bytes());
        pseudo
    }

    fn whole_checksum(envelope: &Envelope, payload: &[u8]) -> u16 {
        let datagram = octets(&envelope.udp(Be16::new(0)));
        match naive(&[pseudo_header(envelope), datagram, payload.to_vec()].concat()) {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    fn addresses() -> impl Strategy<Value = (Addr128, Addr128)> {
        let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (Addr128::v4(a), Addr128::v4(b)));
        let v6 = (any::<[u64; 2]>(), any::<[u64; 2]>())
            .prop_map(|([a, b], [c, d])| (Addr128::from_raw(a | 1, b), Addr128::from_raw(c | 1, d)));
        prop_oneof![v4, v6]
    }

    fn envelopes() -> impl Strategy<Value = Envelope> {
        (addresses(), any::<u16>(), any::<u16>(), any::<u8>()).prop_map(
            |((source, destination), from, to, traffic_class)| Envelope {
                source,
                destination,
                source_port: Be16::new(from),
                destination_port: Be16::new(to),
                payload_len: 0,
                traffic_class,
                padding: 0,
            },
        )
    }

    proptest! {
        #[test]
        fn a_difference_gives_the_checksum_that_the_whole_packet_would(
            old in envelopes(),
            new in envelopes(),
            mut payload in proptest::collection::vec(any::<u8>(), 12..200),
            ssrc: u32,
        ) {
            let len = payload.len() as u16;
            let (old, new) = (Envelope { payload_len: len, ..old }, Envelope { payload_len: len, ..new });
            let before = whole_checksum(&old, &payload);
            let old_ssrc = Be32::from_bytes([payload[8], payload[9], payload[10], payload[11]]);
            payload[8..12].copy_from_slice(&ssrc.to_be_bytes());
            let adjusted = Sum::of_checksum(Be16::new(before))
                .readdressed([&old.source, &old.destination], [&new.source, &new.destination])
                .minus_ports(old.source_port, old.destination_port)
                .plus_ports(new.source_port, new.destination_port)
                .minus(old_ssrc)
                .plus(Be32::new(ssrc))
                .udp_checksum();
            prop_assert_eq!(adjusted.host(), whole_checksum(&new, &payload));
        }

        #[test]
        fn an_ipv4_header_sums_to_zero(envelope in envelopes(), len in 0u16..60_000) {
            let header = octets(&Envelope { payload_len: len, ..envelope }.ipv4());
            prop_assert_eq!(naive(&header), 0);
        }

        #[test]
        fn the_pseudo_header_sums_as_rfc_768_lists_it(envelope in envelopes(), len in 0u16..60_000) {
            let envelope = Envelope { payload_len: len, ..envelope };
            let datagram = octets(&envelope.udp(Be16::new(0)));
            let whole = naive(&[pseudo_header(&envelope), datagram].concat());
            prop_assert_eq!(envelope.pseudo_header().checksum().host() % 0xffff, whole % 0xffff);
        }
    }

    #[test]
    fn corruption_on_the_way_in_stays_detectable() {
        let old = Envelope {
            source: Addr128::v4([192, 0, 2, 1]),
            destination: Addr128::v4([192, 0, 2, 2]),
            source_port: Be16::new(4000),
            destination_port: Be16::new(5000),
            payload_len: 4,
            traffic_class: 0,
            padding: 0,
        };
        let new = Envelope { destination: Addr128::v4([198, 51, 100, 7]), ..old };
        let sent = whole_checksum(&old, &[1, 2, 3, 4]);
        let carried = Sum::of_checksum(Be16::new(sent))
            .minus_address(&old.destination)
            .plus_address(&new.destination)
            .udp_checksum();
        assert_ne!(carried.host(), whole_checksum(&new, &[1, 2, 3, 5]));
    }

    #[test]
    fn a_mark_replaces_the_class_and_leaves_congestion_notification() {
        assert_eq!(traffic_class(0b0000_0011, 46), 46 << 2 | 0b11);
        assert_eq!(traffic_class(0b1011_1001, crate::flow::DSCP_KEEP), 0b1011_1001);
    }
}
