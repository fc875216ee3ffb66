//! Which packets a flow hears: gate, payload type, latch, rate; hold.

use crate::lab::{LAN, WAN};
use crate::row::{Figure, Row, Told, answer, call6, fresh, packet, packet6, rtp};
use gateway_common::flow::Latch;
use gateway_common::verdict::Reason;
use gateway_userspace::media::plan::{FlowSpec, GateSpec, OutputSpec, RateLimit};
use support::wire::{Checksum, Frame, rtcp};

pub fn rows() -> Vec<Row> {
    [gates(), payload_types(), latches(), learned(), rates(), holds()].into_iter().flatten().collect()
}

fn gate(gate: GateSpec) -> impl FnOnce(&mut FlowSpec) {
    move |flow| flow.gate = gate
}

fn exact(address: &str) -> impl FnOnce(&mut FlowSpec) {
    gate(GateSpec::Exact(address.parse().unwrap()))
}

fn subnet(net: &str) -> impl FnOnce(&mut FlowSpec) {
    gate(GateSpec::Subnet(net.parse().unwrap()))
}

fn latch(latch: Latch) -> impl FnOnce(&mut FlowSpec) {
    move |flow| flow.latch = latch
}

fn from(address: &str) -> Frame {
    Frame { from: address.parse().unwrap(), ..packet() }
}

const REFUSED: [(Figure, u64); 3] = [(Figure::Refused, 1), (Figure::Packets, 0), (Figure::Expected, 0)];

fn gates() -> Vec<Row> {
    let row6 = |says: &str| Row::new(says).flows(call6()).frame(packet6());
    let sent6 = || crate::row::relayed(&Frame { checksum: Checksum::Right, ..packet6() });
    vec![
        Row::new("the signalled source is heard").caller(exact("192.0.2.10:4000")).sends_with(|_| {}),
        Row::new("another port of the signalled source is refused")
            .caller(exact("192.0.2.10:4002"))
            .drops(Reason::SourceRefused)
            .figures(&REFUSED),
        Row::new("another address with the signalled port is refused")
            .caller(exact("192.0.2.11:4000"))
            .drops(Reason::SourceRefused),
        Row::new("any port of a subnet is heard").caller(subnet("192.0.2.0/28")).sends_with(|_| {}),
        Row::new("an address beside the subnet is refused")
            .caller(subnet("192.0.2.16/28"))
            .drops(Reason::SourceRefused)
            .figures(&REFUSED),
        Row::new("a subnet of one address hears that address")
            .caller(subnet("192.0.2.10/32"))
            .sends_with(|_| {}),
        Row::new("a subnet of one address refuses its neighbour")
            .caller(subnet("192.0.2.11/32"))
            .drops(Reason::SourceRefused),
        Row::new("the subnet of all IPv4 addresses hears each")
            .caller(subnet("0.0.0.0/0"))
            .sends_with(|_| {}),
        row6("the subnet of all IPv4 addresses hears no IPv6 address")
            .caller(subnet("0.0.0.0/0"))
            .drops(Reason::SourceRefused),
        row6("an IPv6 subnet hears its addresses").caller(subnet("2001:db8:1::/48")).sends(WAN, sent6()),
        row6("an IPv6 subnet refuses others").caller(subnet("2001:db8:2::/48")).drops(Reason::SourceRefused),
        row6("an exact IPv6 source is heard").caller(exact("[2001:db8:1::10]:4000")).sends(WAN, sent6()),
        row6("an IPv6 source that differs in its last bit is refused")
            .caller(exact("[2001:db8:1::11]:4000"))
            .drops(Reason::SourceRefused),
    ]
}

fn payload_types() -> Vec<Row> {
    let of = |payload_type: u8| move |rtp: &mut support::wire::Rtp| rtp.payload_type = payload_type;
    vec![
        Row::new("a payload type that was not negotiated is refused")
            .rtp(of(18))
            .drops(Reason::PayloadType)
            .figures(&REFUSED),
        Row::new("payload type 127 is refused unless negotiated").rtp(of(127)).drops(Reason::PayloadType),
        Row::new("a payload type that the far side numbers otherwise is renumbered")
            .rtp(of(97))
            .sends_with(|frame| frame.payload = rtp(of(111)).payload),
        Row::new("renumbering keeps the marker bit")
            .rtp(|rtp| (rtp.payload_type, rtp.marker) = (97, true))
            .sends_with(|frame| {
                frame.payload = rtp(|rtp| (rtp.payload_type, rtp.marker) = (111, true)).payload;
            }),
        Row::new("the number that the far side uses is not heard from the near side")
            .rtp(of(111))
            .drops(Reason::PayloadType),
    ]
}

fn latches() -> Vec<Row> {
    let stranger = || from("192.0.2.11:4444");
    let other_stream =
        || Frame { from: stranger().from, ..rtp(|rtp| (rtp.ssrc, rtp.sequence) = (0x2222_2222, 5)) };
    let same_stream = || Frame { from: stranger().from, ..rtp(|rtp| rtp.sequence = 1001) };
    vec![
        Row::new("a flow that sends where it was signalled latches to nobody").sends_with(|_| {}).tells(&[]),
        Row::new("the first source is latched to, and userspace is told")
            .caller(latch(Latch::SameSsrc))
            .sends_with(|_| {})
            .tells(&[Told::Latched])
            .figures(&[(Figure::LatchChanges, 0)]),
        Row::new("the latched source is heard again, and nobody is told")
            .caller(latch(Latch::SameSsrc))
            .after(packet())
            .rtp(|rtp| rtp.sequence = 1001)
            .sends_with(|frame| frame.payload = rtp(|rtp| rtp.sequence = 1001).payload)
            .tells(&[]),
        Row::new("a new source with the stream's SSRC takes the latch")
            .caller(latch(Latch::SameSsrc))
            .after(packet())
            .frame(same_stream())
            .sends_with(|frame| frame.payload = same_stream().payload)
            .tells(&[Told::Latched])
            .figures(&[(Figure::LatchChanges, 1), (Figure::Packets, 2)]),
        Row::new("a new source with another SSRC does not take the latch")
            .caller(latch(Latch::SameSsrc))
            .after(packet())
            .frame(other_stream())
            .drops(Reason::LatchRefused)
            .figures(&[(Figure::LatchChanges, 0), (Figure::Refused, 1)])
            .tells(&[]),
        Row::new("a first-packet latch refuses a new source even with the stream's SSRC")
            .caller(latch(Latch::FirstPacket))
            .after(packet())
            .frame(same_stream())
            .drops(Reason::LatchRefused),
        Row::new("the same address with another port is another source")
            .caller(latch(Latch::FirstPacket))
            .after(packet())
            .frame(Frame { from: "192.0.2.10:4002".parse().unwrap(), ..packet() })
            .drops(Reason::LatchRefused),
        Row::new("a source that the gate refuses is not latched to")
            .caller(latch(Latch::FirstPacket))
            .caller(subnet("192.0.2.10/32"))
            .after(stranger())
            .sends_with(|_| {})
            .tells(&[Told::Latched]),
        Row::new("a packet of a payload type nobody negotiated does not latch")
            .caller(latch(Latch::FirstPacket))
            .after(Frame { from: stranger().from, ..rtp(|rtp| rtp.payload_type = 18) })
            .sends_with(|_| {})
            .tells(&[Told::Latched]),
        Row::new("RTCP latches on a shared port")
            .caller(latch(Latch::FirstPacket))
            .frame(crate::row::carrying(rtcp(0, 201, &[0x1111_1111])))
            .sends_with(|frame| frame.payload = rtcp(0, 201, &[0x1111_1111]))
            .tells(&[Told::Latched]),
        Row::new("RTCP of the stream's SSRC takes the latch")
            .caller(latch(Latch::SameSsrc))
            .after(packet())
            .frame(Frame { payload: rtcp(0, 201, &[0x1111_1111]), ..stranger() })
            .sends_with(|frame| frame.payload = rtcp(0, 201, &[0x1111_1111]))
            .figures(&[(Figure::LatchChanges, 1)]),
    ]
}

fn learned() -> Vec<Row> {
    let learns = |from: usize| {
        move |flow: &mut FlowSpec| {
            let output = flow.rtp.map(|output| OutputSpec { learned_from: Some(from), ..output });
            (flow.rtp, flow.rtcp) = (output, output);
        }
    };
    let row =
        |says: &str| Row::new(says).caller(latch(Latch::SameSsrc)).callee(learns(0)).frame(answer()).by(WAN);
    let to = |address: &str, mac: u8| Frame {
        to_mac: [2, 0, 0, 0, 1, mac],
        ..fresh(&answer(), "192.0.2.1:30000", address)
    };
    vec![
        row("before the latch, packets go where the signalling said").sends(LAN, to("192.0.2.10:4000", 0x10)),
        row("after the latch, packets go where the far end really is")
            .after(from("192.0.2.11:4444"))
            .sends(LAN, to("192.0.2.11:4444", 0x11)),
        row("after the latch moved, packets follow it")
            .after(from("192.0.2.11:4444"))
            .after_on(WAN, answer())
            .after(from("192.0.2.10:4888"))
            .sends(LAN, to("192.0.2.10:4888", 0x10)),
        row("a latch stands in for an address that was never signalled")
            .callee(|flow| {
                let output = OutputSpec { to: "0.0.0.0:0".parse().unwrap(), ..flow.rtp.unwrap() };
                (flow.rtp, flow.rtcp) = (Some(output), Some(output));
            })
            .after(packet())
            .sends(LAN, to("192.0.2.10:4000", 0x10)),
        row("neither address nor latch: nowhere to send")
            .callee(|flow| {
                let output = OutputSpec { to: "0.0.0.0:0".parse().unwrap(), ..flow.rtp.unwrap() };
                (flow.rtp, flow.rtcp) = (Some(output), Some(output));
            })
            .drops(Reason::NoDestination),
        Row::new("a flow without a way out has nowhere to send")
            .caller(|flow| (flow.rtp, flow.rtcp) = (None, None))
            .drops(Reason::NoDestination)
            .figures(&[(Figure::Refused, 1), (Figure::Packets, 0), (Figure::Expected, 1)]),
    ]
}

fn rates() -> Vec<Row> {
    // One a second and one above that: no test is slow enough to earn another.
    let limited = |flow: &mut FlowSpec| flow.rate = Some(RateLimit { packets_per_second: 1, burst: 1 });
    vec![
        Row::new("a flow within its rate is heard").caller(limited).sends_with(|_| {}),
        Row::new("the burst above the rate is heard")
            .caller(limited)
            .after(packet())
            .rtp(|rtp| rtp.sequence = 1001)
            .sends_with(|frame| frame.payload = rtp(|rtp| rtp.sequence = 1001).payload),
        Row::new("above rate and burst, packets are refused")
            .caller(limited)
            .after(packet())
            .after(packet())
            .drops(Reason::RateLimited)
            .figures(&[(Figure::Packets, 2), (Figure::Refused, 1)]),
        Row::new("packets that are refused for another reason use up no rate")
            .caller(limited)
            .after(rtp(|rtp| rtp.payload_type = 18))
            .after(rtp(|rtp| rtp.payload_type = 18))
            .after(packet())
            .sends_with(|_| {}),
        Row::new("RTCP counts against the rate")
            .caller(limited)
            .after(crate::row::carrying(rtcp(0, 201, &[1])))
            .after(crate::row::carrying(rtcp(0, 201, &[1])))
            .drops(Reason::RateLimited),
    ]
}

fn holds() -> Vec<Row> {
    let held = |flow: &mut FlowSpec| flow.muted = true;
    vec![
        Row::new("packets of a direction on hold are swallowed")
            .caller(held)
            .drops(Reason::Muted)
            .figures(&[(Figure::Packets, 0), (Figure::Refused, 1), (Figure::Expected, 1), (Figure::Lost, 0)]),
        Row::new("a source is latched to on hold too")
            .caller(held)
            .caller(latch(Latch::SameSsrc))
            .drops(Reason::Muted)
            .tells(&[Told::Latched]),
        Row::new("hold in one direction leaves the other open").callee(held).sends_with(|_| {}),
    ]
}
