//! Ethernet, VLAN, IP and UDP headers: what is the host's own business, what is refused, what is relayed.

use crate::lab::{LAN, WAN};
use crate::row::{Figure, Row, call6, packet, packet6, relayed};
use gateway_common::verdict::Reason;
use support::wire::{Checksum, Frame, SERVICE_VLAN, VLAN};

/// Offsets in an untagged frame.
const IP: usize = 14;
const UDP: usize = 34;
const UDP6: usize = 54;

pub fn rows() -> Vec<Row> {
    [not_ours(), broken_ipv4(), broken_ipv6(), accepted()].into_iter().flatten().collect()
}

fn not_ours() -> Vec<Row> {
    let ether_type =
        |kind: u16| move |octets: &mut Vec<u8>| octets[12..14].copy_from_slice(&kind.to_be_bytes());
    let protocol = |number: u8| move |octets: &mut Vec<u8>| octets[IP + 9] = number;
    let next_header = |number: u8| move |octets: &mut Vec<u8>| octets[IP + 6] = number;
    let nobody = || Frame { to: "192.0.2.1:30002".parse().unwrap(), ..packet() };
    let nobody6 = || Frame { to: "[2001:db8:1::1]:30002".parse().unwrap(), ..packet6() };
    vec![
        Row::new("ARP is the host's").damaged(ether_type(0x0806)).passes(),
        Row::new("LLDP is the host's").damaged(ether_type(0x88cc)).passes(),
        Row::new("an EtherType that nobody knows is the host's").damaged(ether_type(0x1234)).passes(),
        Row::new("ARP in a VLAN is the host's")
            .with(|frame| frame.tags = vec![(VLAN, 7)])
            .damaged(|octets| octets[16..18].copy_from_slice(&[8, 6]))
            .passes(),
        Row::new("TCP over IPv4 is the host's").damaged(protocol(6)).passes(),
        Row::new("ICMP is the host's").damaged(protocol(1)).passes(),
        Row::new("ESP over IPv4 is the host's").damaged(protocol(50)).passes(),
        Row::new("ICMPv6 is the host's").frame(packet6()).damaged(next_header(58)).passes(),
        Row::new("TCP over IPv6 is the host's").frame(packet6()).damaged(next_header(6)).passes(),
        Row::new("TCP behind a hop-by-hop header is the host's")
            .frame(Frame { extensions: vec![(0, vec![0, 1, 4, 0, 0, 0, 0])], ..packet6() })
            .damaged(|octets| octets[UDP6] = 6)
            .passes(),
        Row::new("an IPv6 packet without a next header is the host's")
            .frame(packet6())
            .damaged(next_header(59))
            .passes(),
        Row::new("UDP to a port without a flow is the host's").frame(nobody()).passes(),
        Row::new("UDP to a flow's port at another address is the host's")
            .with(|frame| frame.to = "192.0.2.3:30000".parse().unwrap())
            .passes(),
        Row::new("UDP over IPv6 to a port without a flow is the host's").frame(nobody6()).passes(),
        Row::new("no RTP to a port without a flow is the host's, whatever it is")
            .frame(Frame { payload: b"hello".to_vec(), ..nobody() })
            .passes(),
        Row::new("a wrong UDP length to a port without a flow is for the host to judge")
            .frame(nobody())
            .damaged(|octets| octets[UDP + 5] ^= 1)
            .passes(),
        Row::new("a first fragment to a port without a flow is the host's")
            .frame(Frame { fragment: 0x2000, ..nobody() })
            .passes(),
        Row::new("a later IPv4 fragment names no port and is the host's")
            .with(|frame| frame.fragment = 0x00b9)
            .passes(),
        Row::new("a later IPv6 fragment names no port and is the host's")
            .frame(Frame { extensions: vec![(44, vec![0, 0x05, 0xc8, 0, 0, 0, 9])], ..packet6() })
            .passes(),
        Row::new("UDP to a multicast address is the host's")
            .with(|frame| frame.to = "224.0.0.5:30000".parse().unwrap())
            .passes(),
    ]
}

fn broken_ipv4() -> Vec<Row> {
    let cut = |length: usize| move |octets: &mut Vec<u8>| octets.truncate(length);
    let total =
        |length: u16| move |octets: &mut Vec<u8>| octets[16..18].copy_from_slice(&length.to_be_bytes());
    let udp_length = |length: u16| {
        move |octets: &mut Vec<u8>| octets[UDP + 4..UDP + 6].copy_from_slice(&length.to_be_bytes())
    };
    let from = |address: &'static str| move |frame: &mut Frame| frame.from = address.parse().unwrap();
    let refused = [(Figure::Refused, 1), (Figure::Packets, 0)];
    vec![
        Row::new("a frame that ends inside its VLAN tag is truncated")
            .with(|frame| frame.tags = vec![(VLAN, 7)])
            .damaged(cut(16))
            .drops(Reason::Truncated),
        Row::new("a frame that ends inside its IPv4 header is truncated")
            .damaged(cut(IP + 19))
            .drops(Reason::Truncated),
        Row::new("a frame that ends inside its UDP header is truncated")
            .damaged(cut(UDP + 7))
            .drops(Reason::Truncated),
        Row::new("IPv4 options beyond the frame are truncated")
            .damaged(|octets| octets[IP] = 0x4f)
            .damaged(cut(UDP + 20))
            .drops(Reason::Truncated),
        Row::new("three VLAN tags are one too many")
            .with(|frame| frame.tags = vec![(SERVICE_VLAN, 1), (VLAN, 2), (VLAN, 3)])
            .drops(Reason::VlanDepth),
        Row::new("an IPv4 EtherType in front of version 5 is refused")
            .damaged(|octets| octets[IP] = 0x55)
            .drops(Reason::Ipv4Header),
        Row::new("an IPv4 header of 16 octets is refused")
            .damaged(|octets| octets[IP] = 0x44)
            .drops(Reason::Ipv4Header),
        Row::new("an IPv4 length beyond the frame is refused and counted in the flow")
            .damaged(total(1400))
            .drops(Reason::Ipv4Header)
            .figures(&refused),
        Row::new("an IPv4 length too short for its headers is refused")
            .damaged(total(27))
            .drops(Reason::Ipv4Header)
            .figures(&refused),
        Row::new("a UDP length beyond the IPv4 packet is refused")
            .damaged(udp_length(181))
            .drops(Reason::UdpLength)
            .figures(&refused),
        Row::new("a UDP length short of the IPv4 packet is refused")
            .damaged(udp_length(179))
            .drops(Reason::UdpLength),
        Row::new("a UDP length below its own header is refused")
            .damaged(udp_length(7))
            .drops(Reason::UdpLength),
        Row::new("a first IPv4 fragment for a flow is refused by name")
            .with(|frame| frame.fragment = 0x2000)
            .drops(Reason::Fragment)
            .figures(&refused),
        Row::new("a source of 0.0.0.0 is no source")
            .with(from("0.0.0.0:4000"))
            .drops(Reason::BadAddress)
            .figures(&refused),
        Row::new("an IPv4 multicast source is no source")
            .with(from("239.1.2.3:4000"))
            .drops(Reason::BadAddress),
        Row::new("the broadcast address is no source")
            .with(from("255.255.255.255:4000"))
            .drops(Reason::BadAddress),
    ]
}

fn broken_ipv6() -> Vec<Row> {
    let row = |says: &str| Row::new(says).flows(call6()).frame(packet6());
    let with = |says: &str, change: fn(&mut Frame)| {
        let mut frame = packet6();
        change(&mut frame);
        Row::new(says).flows(call6()).frame(frame)
    };
    let refused = [(Figure::Refused, 1), (Figure::Packets, 0)];
    vec![
        row("a frame that ends inside its IPv6 header is truncated")
            .damaged(|octets| octets.truncate(IP + 39))
            .drops(Reason::Truncated),
        row("a frame that ends inside its UDP header over IPv6 is truncated")
            .damaged(|octets| octets.truncate(UDP6 + 7))
            .drops(Reason::Truncated),
        with("an extension header beyond the frame is truncated", |frame| {
            frame.extensions = vec![(60, vec![200, 1, 4, 0, 0, 0, 0])];
        })
        .drops(Reason::Truncated),
        row("an IPv6 EtherType in front of version 4 is refused")
            .damaged(|octets| octets[IP] = 0x45)
            .drops(Reason::Ipv6Header),
        row("an IPv6 payload length beyond the frame is truncated, in the flow's count")
            .damaged(|octets| octets[IP + 4] = 4)
            .drops(Reason::Truncated)
            .figures(&refused),
        row("a UDP length that disagrees with IPv6 is refused")
            .damaged(|octets| octets[UDP6 + 5] ^= 1)
            .drops(Reason::UdpLength)
            .figures(&refused),
        with("five extension headers are one too many", |frame| {
            frame.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0]); 5];
        })
        .drops(Reason::Ipv6Extension),
        with("a routing header is refused", |frame| frame.extensions = vec![(43, vec![0, 0, 0, 0, 0, 0, 0])])
            .drops(Reason::Ipv6Extension)
            .figures(&refused),
        with("a first IPv6 fragment for a flow is refused by name", |frame| {
            frame.extensions = vec![(44, vec![0, 0, 1, 0, 0, 0, 9])];
        })
        .drops(Reason::Fragment)
        .figures(&refused),
        with("an atomic IPv6 fragment is a fragment", |frame| {
            frame.extensions = vec![(44, vec![0, 0, 0, 0, 0, 0, 9])];
        })
        .drops(Reason::Fragment),
        with("an IPv4-mapped destination on the wire is refused", |frame| {
            frame.to = "[::ffff:192.0.2.1]:30000".parse().unwrap();
        })
        .drops(Reason::BadAddress),
        with("an IPv4-mapped source on the wire is refused", |frame| {
            frame.from = "[::ffff:192.0.2.10]:4000".parse().unwrap();
        })
        .drops(Reason::BadAddress)
        .figures(&refused),
        with("an IPv6 multicast source is no source", |frame| frame.from = "[ff02::1]:4000".parse().unwrap())
            .drops(Reason::BadAddress),
        with("the unspecified IPv6 address is no source", |frame| frame.from = "[::]:4000".parse().unwrap())
            .drops(Reason::BadAddress),
        with("UDP over IPv6 without a checksum is refused", |frame| frame.checksum = Checksum::Absent)
            .drops(Reason::Checksum)
            .figures(&refused),
    ]
}

fn accepted() -> Vec<Row> {
    let row6 = |says: &str, change: fn(&mut Frame)| {
        let mut frame = packet6();
        change(&mut frame);
        let sent = relayed(&Frame { checksum: Checksum::Right, ..frame.clone() });
        Row::new(says).flows(call6()).frame(frame).sends(WAN, sent)
    };
    vec![
        Row::new("a packet of the caller leaves to the callee with fresh headers")
            .sends_with(|_| {})
            .figures(&[(Figure::Packets, 1), (Figure::Octets, 172), (Figure::Refused, 0), (Figure::Lost, 0)]),
        Row::new("a packet of the callee leaves to the caller").frame(crate::row::answer()).by(WAN).sends(
            LAN,
            {
                let fresh = crate::row::fresh(&crate::row::answer(), "192.0.2.1:30000", "192.0.2.10:4000");
                Frame { to_mac: [2, 0, 0, 0, 1, 0x10], ..fresh }
            },
        ),
        Row::new("a flow hears its packets by whatever interface they come").by(WAN).sends_with(|_| {}),
        Row::new("IPv4 options are heard and not passed on")
            .with(|frame| frame.options = vec![0x94, 4, 0, 0])
            .sends_with(|_| {}),
        Row::new("forty octets of IPv4 options are heard")
            .with(|frame| frame.options = vec![1; 40])
            .sends_with(|_| {}),
        Row::new("a packet in a VLAN is heard").with(|frame| frame.tags = vec![(VLAN, 7)]).sends_with(|_| {}),
        Row::new("a packet with a single service tag is heard")
            .with(|frame| frame.tags = vec![(SERVICE_VLAN, 7)])
            .sends_with(|_| {}),
        Row::new("a packet in a VLAN inside a service VLAN is heard")
            .with(|frame| frame.tags = vec![(SERVICE_VLAN, 7), (VLAN, 8)])
            .sends_with(|_| {}),
        Row::new("a priority tag (VLAN 0) is heard")
            .with(|frame| frame.tags = vec![(VLAN, 0xa000)])
            .sends_with(|_| {}),
        Row::new("Ethernet padding behind the packet is cut")
            .with(|frame| frame.trailer = vec![0; 18])
            .sends_with(|_| {}),
        Row::new("a packet on its last hop is ours, and leaves with a hop limit of its own")
            .with(|frame| frame.hop_limit = 1)
            .sends_with(|_| {}),
        Row::new("the Don't Fragment flag of the packet that came does not matter")
            .with(|frame| frame.fragment = 0x4000)
            .sends_with(|_| {}),
        Row::new("a wrong IPv4 header checksum does not matter, as the header is not passed on")
            .damaged(|octets| octets[IP + 10] ^= 0x55)
            .sends_with(|_| {}),
        row6("a hop-by-hop header is heard and not passed on", |frame| {
            frame.extensions = vec![(0, vec![0, 1, 4, 0, 0, 0, 0])];
        }),
        row6("four extension headers are heard", |frame| {
            frame.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0]); 4];
        }),
        row6("a long destination options header is heard", |frame| {
            frame.extensions = vec![(60, [vec![2, 1, 20], vec![0; 20]].concat())];
        }),
        row6("an IPv6 packet in a VLAN is heard", |frame| frame.tags = vec![(VLAN, 7)]),
    ]
}
