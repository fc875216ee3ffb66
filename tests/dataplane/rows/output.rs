//! What leaves: marks, checksums, address families, VLANs, and routes that lead nowhere.

use crate::lab::{LAN, LAN_MAC, WAN, WAN_MAC};
use crate::row::{Figure, Row, call6, carrying, fresh, packet, packet6, rtp};
use gateway_common::verdict::Reason;
use gateway_userspace::media::plan::FlowSpec;
use support::wire::{Checksum, Frame, Rtp, SERVICE_VLAN, VLAN};

pub fn rows() -> Vec<Row> {
    [marks(), checksums(), families(), vlans(), routes(), sizes()].into_iter().flatten().collect()
}

const V4_FROM: &str = "198.51.100.1:40000";
const V4_TO: &str = "203.0.113.9:5000";
const V6_FROM: &str = "[2001:db8:2::1]:40000";
const V6_TO: &str = "[2001:db8:f::9]:5000";

/// The packet as it leaves to the IPv6 router on `wan`.
fn to_v6(frame: &Frame) -> Frame {
    Frame { to_mac: [2, 0, 0, 0, 2, 0x64], from_mac: WAN_MAC, ..fresh(frame, V6_FROM, V6_TO) }
}

fn to_v4(frame: &Frame) -> Frame {
    Frame { to_mac: [2, 0, 0, 0, 2, 0x54], from_mac: WAN_MAC, ..fresh(frame, V4_FROM, V4_TO) }
}

fn marks() -> Vec<Row> {
    let dscp = |mark: u8| move |flow: &mut FlowSpec| flow.dscp = Some(mark);
    let marked = |class: u8| move |frame: &mut Frame| frame.traffic_class = class;
    let v6 = || Frame { traffic_class: 0xb9, ..packet6() };
    vec![
        Row::new("without a mark of the flow, that of the packet stays")
            .with(marked(0xb8))
            .sends_with(marked(0xb8)),
        Row::new("the flow's mark replaces that of the packet")
            .caller(dscp(46))
            .with(marked(0x28))
            .sends_with(marked(0xb8)),
        Row::new("a mark of zero clears that of the packet")
            .caller(dscp(0))
            .with(marked(0xb8))
            .sends_with(marked(0)),
        Row::new("the greatest mark fits").caller(dscp(63)).sends_with(marked(0xfc)),
        Row::new("congestion experienced is passed on beside the flow's mark")
            .caller(dscp(46))
            .with(marked(0x03))
            .sends_with(marked(0xbb)),
        Row::new("congestion experienced is passed on beside the packet's mark")
            .with(marked(0x2b))
            .sends_with(marked(0x2b)),
        Row::new("the mark of an IPv6 packet stays when it leaves as IPv4")
            .flows(call6())
            .frame(v6())
            .sends(WAN, to_v4(&v6())),
        Row::new("the mark of an IPv4 packet stays when it leaves as IPv6")
            .towards(V6_FROM, V6_TO)
            .with(marked(0xb9))
            .sends(WAN, to_v6(&Frame { traffic_class: 0xb9, ..packet() })),
    ]
}

fn checksums() -> Vec<Row> {
    let checksum = |checksum: Checksum| move |frame: &mut Frame| frame.checksum = checksum;
    let odd = || rtp(|rtp| rtp.body = (0..161).map(|octet| octet as u8).collect());
    let renumbered = |frame: Frame| Frame { checksum: Checksum::Off(0x1234), ..frame };
    // The payload whose checksum comes out as zero on the way out, found by trying all of its last word.
    let zero = (0..=u16::MAX)
        .map(|word| rtp(|rtp| rtp.body = word.to_be_bytes().to_vec()))
        .find(|frame| {
            let sent = to_v4(frame).octets();
            sent[14 + 20 + 6..14 + 20 + 8] == [0xff, 0xff]
        })
        .expect("one word of 16 bits makes any checksum");
    vec![
        Row::new("a missing checksum stays missing over IPv4")
            .with(checksum(Checksum::Absent))
            .sends_with(checksum(Checksum::Absent)),
        Row::new("a missing checksum stays missing when the payload type changes")
            .frame(Frame { checksum: Checksum::Absent, ..rtp(|rtp| rtp.payload_type = 97) })
            .sends_with(|frame| {
                frame.checksum = Checksum::Absent;
                frame.payload = rtp(|rtp| rtp.payload_type = 111).payload;
            }),
        Row::new("a missing checksum is made when the packet leaves as IPv6")
            .towards(V6_FROM, V6_TO)
            .with(checksum(Checksum::Absent))
            .sends(WAN, to_v6(&packet())),
        Row::new("a missing checksum is made over a payload of odd length")
            .towards(V6_FROM, V6_TO)
            .frame(Frame { checksum: Checksum::Absent, ..odd() })
            .sends(WAN, to_v6(&odd())),
        Row::new("a missing checksum is made over the renumbered payload type")
            .towards(V6_FROM, V6_TO)
            .frame(Frame { checksum: Checksum::Absent, ..rtp(|rtp| rtp.payload_type = 97) })
            .sends(WAN, to_v6(&rtp(|rtp| rtp.payload_type = 111))),
        Row::new("a wrong checksum stays wrong by as much")
            .with(checksum(Checksum::Off(0x0101)))
            .sends_with(checksum(Checksum::Off(0x0101))),
        Row::new("a wrong checksum stays wrong when the payload type changes")
            .frame(renumbered(rtp(|rtp| rtp.payload_type = 97)))
            .sends_with(|frame| {
                *frame = to_v4(&renumbered(rtp(|rtp| rtp.payload_type = 111)));
            }),
        Row::new("a wrong checksum stays wrong when the packet leaves as IPv6")
            .towards(V6_FROM, V6_TO)
            .with(checksum(Checksum::Off(0x7)))
            .sends(WAN, to_v6(&Frame { checksum: Checksum::Off(0x7), ..packet() })),
        Row::new("a wrong checksum stays wrong when the packet leaves as IPv4")
            .flows(call6())
            .frame(Frame { checksum: Checksum::Off(0xfff0), ..packet6() })
            .sends(WAN, to_v4(&Frame { checksum: Checksum::Off(0xfff0), ..packet6() })),
        Row::new("a checksum that comes out as zero is written as all ones")
            .frame(zero.clone())
            .sends(WAN, to_v4(&zero)),
        Row::new("a payload of odd length keeps a right checksum").frame(odd()).sends(WAN, to_v4(&odd())),
    ]
}

fn families() -> Vec<Row> {
    let six_to_six = || Row::new("IPv6 is relayed to IPv6").flows(call6()).towards(V6_FROM, V6_TO);
    vec![
        Row::new("IPv4 is relayed to IPv6")
            .towards(V6_FROM, V6_TO)
            .sends(WAN, to_v6(&packet()))
            .figures(&[(Figure::Packets, 1), (Figure::Octets, 172)]),
        Row::new("IPv6 is relayed to IPv4").flows(call6()).frame(packet6()).sends(WAN, to_v4(&packet6())),
        six_to_six().frame(packet6()).sends(WAN, to_v6(&packet6())),
        Row::new("the flow label of IPv6 is not passed on")
            .flows(call6())
            .towards(V6_FROM, V6_TO)
            .frame(Frame { flow_label: 0xfffff, ..packet6() })
            .sends(WAN, to_v6(&packet6())),
        Row::new("a renumbered payload type between families keeps a right checksum")
            .towards(V6_FROM, V6_TO)
            .rtp(|rtp| rtp.payload_type = 97)
            .sends(WAN, to_v6(&rtp(|rtp| rtp.payload_type = 111))),
        Row::new("a local address of one family cannot send to the other")
            .towards(V4_FROM, V6_TO)
            .drops(Reason::NoDestination),
    ]
}

fn vlans() -> Vec<Row> {
    let single = |frame: &Frame| Frame {
        to_mac: [2, 0, 0, 0, 0x10, 0x10],
        from_mac: LAN_MAC,
        tags: vec![(VLAN, 100)],
        ..fresh(frame, "10.100.0.1:40000", "10.100.0.10:5000")
    };
    let double = |frame: &Frame| Frame {
        to_mac: [2, 0, 0, 0, 0x20, 0x10],
        from_mac: LAN_MAC,
        tags: vec![(SERVICE_VLAN, 200), (VLAN, 300)],
        ..fresh(frame, "10.200.0.1:40000", "10.200.0.10:5000")
    };
    let double6 = |frame: &Frame| Frame {
        to_mac: [2, 0, 0, 0, 0x20, 0x60],
        from_mac: LAN_MAC,
        tags: vec![(SERVICE_VLAN, 200), (VLAN, 300)],
        ..fresh(frame, "[2001:db8:200::1]:40000", "[2001:db8:200::10]:5000")
    };
    let near = |frame: &Frame| Frame {
        to_mac: [2, 0, 0, 0, 1, 0x11],
        ..fresh(frame, "192.0.2.1:40000", "192.0.2.11:5000")
    };
    let tagged6 = || Frame { tags: vec![(SERVICE_VLAN, 7), (VLAN, 8)], ..packet6() };
    vec![
        Row::new("a route through the interface of arrival turns the packet around")
            .towards("192.0.2.1:40000", "192.0.2.11:5000")
            .sends(LAN, near(&packet())),
        Row::new("a route through a VLAN puts its tag on")
            .towards("10.100.0.1:40000", "10.100.0.10:5000")
            .sends(LAN, single(&packet())),
        Row::new("a route through a VLAN on another interface puts its tag on")
            .towards("10.100.0.1:40000", "10.100.0.10:5000")
            .by(WAN)
            .sends(LAN, single(&packet())),
        Row::new("a route through a VLAN inside another puts both tags on")
            .towards("10.200.0.1:40000", "10.200.0.10:5000")
            .sends(LAN, double(&packet())),
        Row::new("the longest growth: untagged IPv4 to double-tagged IPv6")
            .towards("[2001:db8:200::1]:40000", "[2001:db8:200::10]:5000")
            .sends(LAN, double6(&packet())),
        Row::new("the longest cut: double-tagged IPv6 to untagged IPv4")
            .flows(call6())
            .frame(tagged6())
            .sends(WAN, to_v4(&packet6())),
        Row::new("a tag that came is replaced by the one of the way out")
            .towards("10.100.0.1:40000", "10.100.0.10:5000")
            .with(|frame| frame.tags = vec![(VLAN, 7)])
            .sends(LAN, single(&packet())),
        Row::new("two tags that came are replaced by two others")
            .towards("10.200.0.1:40000", "10.200.0.10:5000")
            .with(|frame| frame.tags = vec![(SERVICE_VLAN, 7), (VLAN, 8)])
            .sends(LAN, double(&packet())),
    ]
}

fn routes() -> Vec<Row> {
    let refused = [(Figure::Refused, 1), (Figure::Packets, 0), (Figure::Octets, 0), (Figure::Expected, 1)];
    let towards =
        |says: &str, to: &str, reason| Row::new(says).towards(V4_FROM, to).drops(reason).figures(&refused);
    vec![
        towards("no route to the far end", "172.16.0.1:5000", Reason::NoRoute),
        towards("a far end that is this host itself has no route", "192.0.2.1:5000", Reason::NoRoute),
        towards("a far end whose link address is not known", "192.0.2.77:5000", Reason::NoNeighbour),
        towards("a blackhole on the way", "203.0.114.1:5000", Reason::RouteBlackhole),
        towards("an unreachable route", "203.0.115.1:5000", Reason::RouteUnreachable),
        towards("a prohibited route", "203.0.116.1:5000", Reason::RouteRefused),
        towards("a route through an interface that carries no media", "10.9.0.10:5000", Reason::NoTransmit),
        Row::new("no IPv6 route to the far end")
            .towards(V6_FROM, "[2001:db8:dead::1]:5000")
            .drops(Reason::NoRoute)
            .figures(&refused),
        Row::new("a packet that found no way out keeps the next one's figures right")
            .towards(V4_FROM, "172.16.0.1:5000")
            .after(packet())
            .rtp(|rtp| rtp.sequence = 1001)
            .drops(Reason::NoRoute)
            .figures(&[(Figure::Refused, 2), (Figure::Expected, 2), (Figure::Lost, 0), (Figure::Packets, 0)]),
    ]
}

fn sizes() -> Vec<Row> {
    let of = |octets: usize| Rtp { body: vec![7; octets - 12], ..Rtp::default() }.octets();
    vec![
        Row::new("the largest packet that fits leaves")
            .frame(carrying(of(1472)))
            .sends_with(|frame| frame.payload = of(1472)),
        Row::new("a packet larger than the way out is refused")
            .frame(carrying(of(1473)))
            .drops(Reason::TooBig)
            .figures(&[(Figure::Packets, 0), (Figure::Refused, 1)]),
        Row::new("a packet that is too large with the longer IPv6 header only is refused")
            .towards(V6_FROM, V6_TO)
            .frame(carrying(of(1453)))
            .drops(Reason::TooBig),
        Row::new("the largest packet that fits in IPv6 leaves")
            .towards(V6_FROM, V6_TO)
            .frame(carrying(of(1452)))
            .sends(WAN, to_v6(&carrying(of(1452)))),
        Row::new("a packet larger than its route carries is refused")
            .towards(V4_FROM, "203.0.113.200:5000")
            .frame(carrying(of(573)))
            .drops(Reason::TooBig),
        Row::new("the largest packet that its route carries leaves")
            .towards(V4_FROM, "203.0.113.200:5000")
            .frame(carrying(of(572)))
            .sends(WAN, {
                let fresh = fresh(&carrying(of(572)), V4_FROM, "203.0.113.200:5000");
                Frame { to_mac: [2, 0, 0, 0, 2, 0x54], from_mac: WAN_MAC, ..fresh }
            }),
        Row::new("a packet is too large for a route that smaller ones have used")
            .towards(V4_FROM, "203.0.113.200:5000")
            .after(carrying(of(100)))
            .frame(carrying(of(573)))
            .drops(Reason::TooBig)
            .figures(&[(Figure::Packets, 1), (Figure::Refused, 1)]),
    ]
}
