//! From an Ethernet frame to the UDP payload, for packets that may belong to a flow.
//!
//! Three outcomes. A packet of another protocol is [`Parsed::Other`] and the host's own business, however odd
//! it looks. A packet whose flow can be named is [`Parsed::Udp`]; what is wrong with it stands in
//! [`Headers::fault`] and counts only if the flow exists. A packet that breaks off before its flow can be named
//! is [`Parsed::Malformed`]; the host's stack has no use for it either.
//!
//! The IPv4 header checksum is not verified: a relayed packet gets a fresh header, and what matters of the old
//! one is covered by the UDP checksum, which is carried on (RFC 768 pseudo-header).

use crate::{
    cursor::{Cursor, Window},
    net::{Addr128, Be16},
    verdict::Reason,
};

/// VLAN tags in front of the IP header: 802.1Q, or 802.1Q inside 802.1ad.
pub const VLAN_TAGS_MAX: usize = 2;
/// IPv6 extension headers in front of UDP.
pub const IPV6_EXTENSIONS_MAX: usize = 4;

pub const ETHERNET_LEN: usize = 14;
pub const VLAN_TAG_LEN: usize = 4;
pub const IPV4_LEN: usize = 20;
pub const IPV6_LEN: usize = 40;
pub const UDP_LEN: usize = 8;

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// IEEE 802.1ad, the outer of two tags.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
const IPV6_HOP_BY_HOP: u8 = 0;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_DESTINATION: u8 = 60;

/// RFC 791 section 3.1: the More Fragments flag and the offset in the same 16 bits.
const IPV4_MORE_FRAGMENTS: u16 = 0x2000;
const IPV4_FRAGMENT_OFFSET: u16 = 0x1fff;

/// What a frame is to a media relay.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Parsed {
    /// UDP to a nameable flow.
    Udp(Headers),
    /// TCP: never media, but perhaps for a guarded service.
    Tcp(Endpoints),
    /// Not UDP over IP.
    Other,
    /// A fragment without a UDP header. It cannot be judged, and without its first fragment, which can, it
    /// comes to nothing.
    LaterFragment,
    /// Breaks off, or contradicts itself, before its flow can be named.
    Malformed(Reason),
}

/// Where a packet comes from and which socket it is for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Endpoints {
    pub source: Addr128,
    pub destination: Addr128,
    pub destination_port: Be16,
}

/// The headers of a UDP packet; `payload + payload_len` is within the packet when there is no `fault`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Headers {
    pub source: Addr128,
    pub destination: Addr128,
    pub source_port: Be16,
    pub destination_port: Be16,
    /// As it stands in the packet; zero over IPv4 means none (RFC 768).
    pub udp_checksum: Be16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Why a packet of a flow is refused for its headers.
    pub fault: Option<Reason>,
    /// Offset of the UDP payload from the start of the frame.
    pub payload: usize,
    /// Octets of UDP payload.
    pub payload_len: usize,
}

/// Offset of the UDP payload behind headers that carry nothing extra.
pub const PLAIN_PAYLOAD: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;

/// The headers of a frame with IPv4 and UDP and nothing extra: no VLAN tag, no option, no fragment, no fault; `None` of
/// any other, and of one that breaks off. What [`parse`] says of such a frame, sooner: the payload begins at
/// [`PLAIN_PAYLOAD`].
#[inline(always)]
pub fn parse_plain<C: Cursor + ?Sized>(packet: &C) -> Option<Headers> {
    const NOTHING_EXTRA: u8 = 0x45;
    let frame = packet.window::<PLAIN_PAYLOAD>(0)?;
    if frame.be16::<12>() != Be16::new(ETHERTYPE_IPV4)
        || frame.octet::<{ ETHERNET_LEN }>() != NOTHING_EXTRA
        || frame.octet::<{ ETHERNET_LEN + 9 }>() != PROTOCOL_UDP
    {
        return None;
    }
    let fragment = Be16::new(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET).raw();
    let total = usize::from(frame.be16::<{ ETHERNET_LEN + 2 }>().host());
    let udp_len = usize::from(frame.be16::<{ ETHERNET_LEN + IPV4_LEN + 4 }>().host());
    let source = Addr128::v4_from(frame.be32::<{ ETHERNET_LEN + 12 }>());
    if frame.be16::<{ ETHERNET_LEN + 6 }>().raw() & fragment != 0
        || udp_len < UDP_LEN
        || udp_len + IPV4_LEN != total
        || ETHERNET_LEN + total > packet.len()
        || source.is_no_source()
    {
        return None;
    }
    Some(Headers {
        source,
        destination: Addr128::v4_from(frame.be32::<{ ETHERNET_LEN + 16 }>()),
        source_port: frame.be16::<{ ETHERNET_LEN + IPV4_LEN }>(),
        destination_port: frame.be16::<{ ETHERNET_LEN + IPV4_LEN + 2 }>(),
        udp_checksum: frame.be16::<{ ETHERNET_LEN + IPV4_LEN + 6 }>(),
        traffic_class: frame.octet::<{ ETHERNET_LEN + 1 }>(),
        fault: None,
        payload: PLAIN_PAYLOAD,
        payload_len: udp_len - UDP_LEN,
    })
}

/// Walks a frame from the start of its Ethernet header.
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(packet: &C) -> Parsed {
    let Some(link) = packet.window::<ETHERNET_LEN>(0) else { return Parsed::Malformed(Reason::Truncated) };
    let mut ether_type = link.be16::<12>().host();
    let mut offset = ETHERNET_LEN;
    let mut tags = 0;
    while ether_type == ETHERTYPE_VLAN || ether_type == ETHERTYPE_SERVICE_VLAN {
        if tags == VLAN_TAGS_MAX {
            return Parsed::Malformed(Reason::VlanDepth);
        }
        let Some(tag) = packet.window::<VLAN_TAG_LEN>(offset) else {
            return Parsed::Malformed(Reason::Truncated);
        };
        ether_type = tag.be16::<2>().host();
        offset += VLAN_TAG_LEN;
        tags += 1;
    }
    match ether_type {
        ETHERTYPE_IPV4 => ipv4(packet, offset),
        ETHERTYPE_IPV6 => ipv6(packet, offset),
        _ => Parsed::Other,
    }
}

#[inline(always)]
fn ipv4<C: Cursor + ?Sized>(packet: &C, offset: usize) -> Parsed {
    let Some(header) = packet.window::<IPV4_LEN>(offset) else { return Parsed::Malformed(Reason::Truncated) };
    let first = header.octet::<0>();
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < IPV4_LEN {
        return Parsed::Malformed(Reason::Ipv4Header);
    }
    let protocol = header.octet::<9>();
    let fragment = header.be16::<6>().host();
    if protocol == PROTOCOL_TCP && fragment & IPV4_FRAGMENT_OFFSET == 0 {
        let (source, destination) = (header.be32::<12>(), header.be32::<16>());
        return tcp(packet, offset + header_len, Addr128::v4_from(source), Addr128::v4_from(destination));
    }
    if protocol != PROTOCOL_UDP {
        return Parsed::Other;
    }
    if fragment & IPV4_FRAGMENT_OFFSET != 0 {
        return Parsed::LaterFragment;
    }
    let Some(udp) = packet.window::<UDP_LEN>(offset + header_len) else {
        return Parsed::Malformed(Reason::Truncated);
    };
    let fragment = (fragment & IPV4_MORE_FRAGMENTS != 0).then_some(Reason::Fragment);
    Parsed::Udp(udp_over_ipv4(packet, &header, &udp, offset, header_len, fragment))
}

/// A TCP segment whose ports are not in the linear part of the packet is the host's own business.
#[inline(always)]
fn tcp<C: Cursor + ?Sized>(packet: &C, offset: usize, source: Addr128, destination: Addr128) -> Parsed {
    match packet.window::<4>(offset) {
        Some(ports) => Parsed::Tcp(Endpoints { source, destination, destination_port: ports.be16::<2>() }),
        None => Parsed::Other,
    }
}

/// The headers of a packet whose IPv4 header is at `offset`; `fault` goes before what is wrong with its lengths and
/// addresses.
#[inline(always)]
fn udp_over_ipv4<C: Cursor + ?Sized>(
    packet: &C,
    header: &C::Window<'_, IPV4_LEN>,
    udp: &C::Window<'_, UDP_LEN>,
    offset: usize,
    header_len: usize,
    fault: Option<Reason>,
) -> Headers {
    let total = usize::from(header.be16::<2>().host());
    let udp_len = usize::from(udp.be16::<4>().host());
    let source = Addr128::v4_from(header.be32::<12>());
    let fault = if fault.is_some() {
        fault
    } else if total < header_len + UDP_LEN || offset + total > packet.len() {
        Some(Reason::Ipv4Header)
    } else if udp_len != total - header_len {
        Some(Reason::UdpLength)
    } else if source.is_no_source() {
        Some(Reason::BadAddress)
    } else {
        None
    };
    Headers {
        source,
        destination: Addr128::v4_from(header.be32::<16>()),
        source_port: udp.be16::<0>(),
        destination_port: udp.be16::<2>(),
        udp_checksum: udp.be16::<6>(),
        traffic_class: header.octet::<1>(),
        fault,
        payload: offset + header_len + UDP_LEN,
        payload_len: udp_len.saturating_sub(UDP_LEN),
    }
}

#[inline(always)]
fn ipv6<C: Cursor + ?Sized>(packet: &C, offset: usize) -> Parsed {
    let Some(header) = packet.window::<IPV6_LEN>(offset) else { return Parsed::Malformed(Reason::Truncated) };
    let first = header.be16::<0>().host();
    if first >> 12 != 6 {
        return Parsed::Malformed(Reason::Ipv6Header);
    }
    let source = Addr128::from_raw(header.raw64::<8>(), header.raw64::<16>());
    let destination = Addr128::from_raw(header.raw64::<24>(), header.raw64::<32>());
    let end = offset + IPV6_LEN + usize::from(header.be16::<4>().host());
    if header.octet::<6>() == PROTOCOL_TCP {
        return tcp(packet, offset + IPV6_LEN, source, destination);
    }
    let (transport, extension_fault) = match ipv6_extensions(packet, offset + IPV6_LEN, header.octet::<6>()) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    // A mapped address on the wire would name an IPv4 flow (RFC 4942 section 2.2).
    if destination.is_v4() {
        return Parsed::Malformed(Reason::BadAddress);
    }
    let Some(udp) = packet.window::<UDP_LEN>(transport) else { return Parsed::Malformed(Reason::Truncated) };
    let udp_len = usize::from(udp.be16::<4>().host());
    let udp_checksum = udp.be16::<6>();
    let fault = if extension_fault.is_some() {
        extension_fault
    } else if end > packet.len() {
        Some(Reason::Truncated)
    } else if udp_len < UDP_LEN || transport + udp_len != end {
        Some(Reason::UdpLength)
    } else if source.is_v4() || source.is_no_source() {
        Some(Reason::BadAddress)
    } else if udp_checksum == Be16::new(0) {
        // RFC 8200 section 8.1: over IPv6 the checksum is not optional.
        Some(Reason::Checksum)
    } else {
        None
    };
    Parsed::Udp(Headers {
        source,
        destination,
        source_port: udp.be16::<0>(),
        destination_port: udp.be16::<2>(),
        udp_checksum,
        traffic_class: (first >> 4) as u8,
        fault,
        payload: transport + UDP_LEN,
        payload_len: udp_len.saturating_sub(UDP_LEN),
    })
}

/// Offset of the UDP header behind the extension headers from `offset` on, and what a flow objects to in them.
#[inline(always)]
fn ipv6_extensions<C: Cursor + ?Sized>(
    packet: &C,
    mut offset: usize,
    mut next: u8,
) -> Result<(usize, Option<Reason>), Parsed> {
    let mut fault = None;
    for _ in 0..IPV6_EXTENSIONS_MAX {
        if next == PROTOCOL_UDP {
            return Ok((offset, fault));
        }
        if !is_ipv6_extension(next) {
            return Err(Parsed::Other);
        }
        let Some(extension) = packet.window::<4>(offset) else {
            return Err(Parsed::Malformed(Reason::Truncated));
        };
        if next == IPV6_FRAGMENT {
            // RFC 8200 section 4.5: the offset is the upper 13 bits, in units of 8 octets.
            if extension.be16::<2>().host() >> 3 != 0 {
                return Err(Parsed::LaterFragment);
            }
            fault = Some(Reason::Fragment);
            offset += 8;
        } else {
            if next == IPV6_ROUTING {
                fault = Some(Reason::Ipv6Extension);
            }
            offset += (usize::from(extension.octet::<1>()) + 1) * 8;
        }
        next = extension.octet::<0>();
    }
    match next {
        PROTOCOL_UDP => Ok((offset, fault)),
        next if is_ipv6_extension(next) => Err(Parsed::Malformed(Reason::Ipv6Extension)),
        _ => Err(Parsed::Other),
    }
}

#[inline(always)]
fn is_ipv6_extension(next: u8) -> bool {
    matches!(next, IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_FRAGMENT | IPV6_DESTINATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flow::FlowKind,
        rtcp,
        rtp::{self, Media},
    };
    use proptest::prelude::*;

    const PAYLOAD: &[u8] = &[0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0xff];

    fn udp(len: u16) -> Vec<u8> {
        [&[0x0f, 0xa0, 0x13, 0x88][..], &len.to_be_bytes(), &[0xab, 0xcd]].concat()
    }

    fn ethernet(tags: &[u16], ether_type: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in tags {
            frame.extend([tag.to_be_bytes(), [0, 7]].concat());
        }
        frame.extend(ether_type.to_be_bytes());
        frame
    }

    fn ipv4(options: &[u8], fragment: u16, protocol: u8) -> Vec<u8> {
        let len = (20 + options.len() + 8 + PAYLOAD.len()) as u16;
        let mut packet = vec![0x45 + (options.len() / 4) as u8, 0xb8];
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend(options);
        packet.extend(udp(8 + PAYLOAD.len() as u16));
        packet.extend(PAYLOAD);
        packet
    }

    /// Extension headers as (type, octets after the next-header field).
    fn ipv6(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, (_, octets)) in extensions.iter().enumerate() {
            body.push(extensions.get(index + 1).map_or(PROTOCOL_UDP, |(next, _)| *next));
            body.extend(*octets);
        }
        body.extend(udp(8 + PAYLOAD.len() as u16));
        body.extend(PAYLOAD);
        let mut packet = vec![0x6b, 0x80, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([extensions.first().map_or(PROTOCOL_UDP, |(next, _)| *next), 64]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend(body);
        packet
    }

    fn parsed(frame: &[u8]) -> Headers {
        match parse(frame) {
            Parsed::Udp(headers) => headers,
            other => panic!("{other:?}"),
        }
    }

    fn payload<'a>(frame: &'a [u8], headers: &Headers) -> &'a [u8] {
        &frame[headers.payload..headers.payload + headers.payload_len]
    }

    #[test]
    fn the_payload_is_found_behind_tags_options_and_extensions() {
        let hop_by_hop: (u8, &[u8]) = (0, &[0, 5, 2, 0, 0, 1, 0]);
        let destination: (u8, &[u8]) = (60, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let frames = [
            [ethernet(&[], 0x0800), ipv4(&[], 0, 17)].concat(),
            [ethernet(&[0x8100], 0x0800), ipv4(&[], 0x4000, 17)].concat(),
            [ethernet(&[0x88a8, 0x8100], 0x0800), ipv4(&[1; 40], 0, 17)].concat(),
            [ethernet(&[], 0x86dd), ipv6(&[])].concat(),
            [ethernet(&[0x8100, 0x8100], 0x86dd), ipv6(&[hop_by_hop, destination])].concat(),
        ];
        for frame in frames {
            let headers = parsed(&frame);
            assert_eq!((headers.fault, headers.traffic_class), (None, 0xb8));
            assert_eq!((headers.source_port.host(), headers.destination_port.host()), (4000, 5000));
            assert_eq!(payload(&frame, &headers), PAYLOAD);
        }
    }

    #[test]
    fn the_hosts_own_traffic_is_none_of_ours() {
        let arp = [ethernet(&[], 0x0806), vec![0; 28]].concat();
        let tcp = [ethernet(&[], 0x0800), ipv4(&[], 0, 6)].concat();
        let icmpv6 = [ethernet(&[], 0x86dd), ipv6(&[(58, &[0; 7])])].concat();
        for frame in [arp, icmpv6] {
            assert_eq!(parse(&frame[..]), Parsed::Other);
        }
        let Parsed::Tcp(endpoints) = parse(&tcp[..]) else { panic!("{:?}", parse(&tcp[..])) };
        assert_eq!(endpoints.destination_port.host(), 5000);
        let cut_tcp = &[ethernet(&[], 0x0800), ipv4(&[], 0, 6)].concat()[..34];
        assert_eq!(parse(cut_tcp), Parsed::Other, "ports may lie outside the linear part");
    }

    #[test]
    fn fragments_are_named() {
        let first = [ethernet(&[], 0x0800), ipv4(&[], 0x2000, 17)].concat();
        assert_eq!(parsed(&first).fault, Some(Reason::Fragment));
        let later = [ethernet(&[], 0x0800), ipv4(&[], 0x0010, 17)].concat();
        assert_eq!(parse(&later[..]), Parsed::LaterFragment);
        let first = [ethernet(&[], 0x86dd), ipv6(&[(44, &[0, 0, 1, 0, 0, 0, 1])])].concat();
        assert_eq!(parsed(&first).fault, Some(Reason::Fragment));
        let later = [ethernet(&[], 0x86dd), ipv6(&[(44, &[0, 0, 9, 0, 0, 0, 1])])].concat();
        assert_eq!(parse(&later[..]), Parsed::LaterFragment);
    }

    #[test]
    fn what_is_wrong_with_a_packet_has_a_name() {
        let plain = [ethernet(&[], 0x0800), ipv4(&[], 0, 17)].concat();
        let change = |at: usize, octet: u8| {
            let mut frame = plain.clone();
            frame[at] = octet;
            frame
        };
        assert_eq!(parsed(&change(17, 200)).fault, Some(Reason::Ipv4Header), "longer than the frame");
        assert_eq!(parsed(&change(39, 9)).fault, Some(Reason::UdpLength));
        assert_eq!(parsed(&change(26, 224)).fault, Some(Reason::BadAddress));
        assert_eq!(parse(&change(14, 0x44)[..]), Parsed::Malformed(Reason::Ipv4Header));
        assert_eq!(parse(&plain[..40]), Parsed::Malformed(Reason::Truncated));
        let tags = [ethernet(&[0x88a8, 0x8100, 0x8100], 0x0800), ipv4(&[], 0, 17)].concat();
        assert_eq!(parse(&tags[..]), Parsed::Malformed(Reason::VlanDepth));
        let option: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
        let chain = [ethernet(&[], 0x86dd), ipv6(&[option; IPV6_EXTENSIONS_MAX + 1])].concat();
        assert_eq!(parse(&chain[..]), Parsed::Malformed(Reason::Ipv6Extension));
        let mut mapped = [ethernet(&[], 0x86dd), ipv6(&[])].concat();
        mapped[38..54].copy_from_slice(&Addr128::v4([192, 0, 2, 2]).octets());
        assert_eq!(parse(&mapped[..]), Parsed::Malformed(Reason::BadAddress));
    }

    #[test]
    fn padding_behind_the_packet_is_not_payload() {
        let mut frame = [ethernet(&[], 0x0800), ipv4(&[], 0, 17)].concat();
        frame.extend([0; 5]);
        let headers = parsed(&frame);
        assert_eq!((headers.fault, payload(&frame, &headers)), (None, PAYLOAD));
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let start = prop_oneof![
            Just(vec![]),
            Just([ethernet(&[], 0x0800), ipv4(&[], 0, 17)].concat()),
            Just([ethernet(&[0x8100], 0x86dd), ipv6(&[(0, &[0, 5, 2, 0, 0, 1, 0])])].concat()),
        ];
        let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6);
        (start, changes, proptest::collection::vec(any::<u8>(), 0..80), 0usize..150).prop_map(
            |(mut frame, changes, tail, len)| {
                frame.extend(tail);
                for (at, octet) in changes {
                    let at = at % frame.len().max(1);
                    if let Some(place) = frame.get_mut(at) {
                        *place = octet;
                    }
                }
                frame.truncate(len);
                frame
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_frame_makes_a_parser_panic_or_name_octets_outside(frame in frames()) {
            if let Parsed::Udp(headers) = parse(&frame[..]) && headers.fault.is_none() {
                prop_assert!(headers.payload + headers.payload_len <= frame.len());
                if let Ok(Media::Rtp(rtp)) =
                    rtp::parse(&frame[..], headers.payload, headers.payload_len, FlowKind::Mux)
                {
                    prop_assert!(rtp.header_len <= headers.payload_len);
                }
                let _ = rtcp::check(&frame[..], headers.payload, headers.payload_len);
            }
        }
    }
}
