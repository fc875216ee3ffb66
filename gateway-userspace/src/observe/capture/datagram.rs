//! IP and UDP headers for octets that we have without them.

use gateway_common::headers::{IPV4_LEN, IPV6_LEN, UDP_LEN};
use std::net::{IpAddr, SocketAddr};

const UDP: u8 = 17;
const HOPS: u8 = 64;

/// How much of a UDP payload is taken down: all of it with `audio`, and of RTCP; of RTP the fixed header alone
/// (RFC 5761 section 4 tells them apart).
pub fn shortened(payload: &[u8], audio: bool) -> usize {
    gateway_common::record::captured(payload.get(1).copied().unwrap_or_default(), payload.len(), audio)
}

/// The first `keep` octets of a UDP payload in an IP packet of its whole length.
pub fn datagram(from: SocketAddr, to: SocketAddr, traffic_class: u8, payload: &[u8], keep: usize) -> Vec<u8> {
    let kept = payload.get(..keep).unwrap_or(payload);
    let mut octets = Vec::with_capacity(IPV6_LEN + UDP_LEN + kept.len());
    let udp_len = length(UDP_LEN + payload.len());
    let checksum = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            octets.extend([0x45, traffic_class]);
            octets.extend(length(IPV4_LEN + UDP_LEN + payload.len()).to_be_bytes());
            // No identification, may be fragmented.
            octets.extend([0, 0, 0, 0, HOPS, UDP, 0, 0]);
            octets.extend(source.octets());
            octets.extend(destination.octets());
            let header = internet_checksum([octets.as_slice()]);
            if let Some(field) = octets.get_mut(10..12) {
                field.copy_from_slice(&header.to_be_bytes());
            }
            // None was computed (RFC 768).
            0
        }
        (source, destination) => {
            let [source, destination] = [source, destination].map(|address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            });
            octets.extend([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0]);
            octets.extend(udp_len.to_be_bytes());
            octets.extend([UDP, HOPS]);
            octets.extend(source);
            octets.extend(destination);
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            let len = u32::from(udp_len).to_be_bytes();
            let end = [[0, UDP], udp_len.to_be_bytes()].concat();
            let parts: [&[u8]; 6] = [&source, &destination, &len, &end, &ports, payload];
            // RFC 8200 section 8.1: a sum of 0 is sent as its other form.
            match internet_checksum(parts) {
                0 => u16::MAX,
                sum => sum,
            }
        }
    };
    for field in [from.port(), to.port(), udp_len, checksum] {
        octets.extend(field.to_be_bytes());
    }
    octets.extend(kept);
    octets
}

/// What a 16-bit length says of it; a longer one cannot have been a datagram.
fn length(octets: usize) -> u16 {
    u16::try_from(octets).unwrap_or(u16::MAX)
}

/// RFC 1071 over parts of even length, but for the last.
fn internet_checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let words = parts.into_iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or_default())).sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_common::headers::{self, Parsed};

    fn framed(ip: &[u8]) -> Vec<u8> {
        let ether_type: [u8; 2] = if ip[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        [&[0; 12], &ether_type[..], ip].concat()
    }

    #[test]
    fn headers_are_those_that_the_data_plane_reads() {
        for (from, to) in
            [("192.0.2.1:5060", "192.0.2.2:30000"), ("[2001:db8::1]:5060", "[2001:db8::2]:30000")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let frame = framed(&datagram(from, to, 0xb8, b"hello", 5));
            let Parsed::Udp(parsed) = headers::parse(frame.as_slice()) else { panic!("{frame:?}") };
            assert_eq!(parsed.fault, None);
            assert_eq!((parsed.source_port.host(), parsed.destination_port.host()), (5060, 30_000));
            assert_eq!((parsed.payload_len, parsed.traffic_class), (5, 0xb8));
            assert_eq!(&frame[parsed.payload..], b"hello");
        }
    }

    #[test]
    fn checksums_add_up() {
        let octets = datagram("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap(), 0, b"abc", 3);
        assert_eq!(internet_checksum([&octets[..20]]), 0);
        let octets = datagram("[::1]:1".parse().unwrap(), "[::2]:2".parse().unwrap(), 0, b"abc", 3);
        let pseudo = [&octets[8..40], &[0, 0, 0, 11, 0, 0, 0, 17][..]].concat();
        assert_eq!(internet_checksum([&pseudo[..], &octets[40..]]), 0);
    }

    #[test]
    fn audio_is_left_out_and_reports_are_not() {
        let rtp = [&[0x80, 0][..], &[0; 170]].concat();
        assert_eq!(shortened(&rtp, false), 12);
        assert_eq!(shortened(&rtp, true), 172);
        let rtcp = [&[0x80, 200][..], &[0; 50]].concat();
        assert_eq!(shortened(&rtcp, false), 52);
        assert_eq!(shortened(&[], false), 0);
        let octets = datagram("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap(), 0, &rtp, 12);
        assert_eq!((octets.len(), &octets[2..4]), (40, &200u16.to_be_bytes()[..]));
    }
}
