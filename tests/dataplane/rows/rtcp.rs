//! RTCP compounds: shape, copies to userspace, and translation where the stream they speak of was changed.

use crate::lab::WAN;
use crate::row::{Figure, Row, Told, answer, call, carrying, output, rtp};
use gateway_common::flow::FlowKind;
use gateway_common::verdict::Reason;
use gateway_userspace::media::plan::FlowSpec;
use support::wire::{Frame, rtcp};

pub fn rows() -> Vec<Row> {
    [shapes(), copies(), translation()].into_iter().flatten().collect()
}

const FIRST: u32 = 0x1111_1111;
const SECOND: u32 = 0x2222_2222;

/// A sender report without report blocks: SSRC, NTP time, RTP timestamp, packets, octets.
fn sender_report(ssrc: u32, timestamp: u32) -> Vec<u8> {
    rtcp(0, 200, &[ssrc, 0xdead_beef, 0x8000_0000, timestamp, 10, 1600])
}

/// A receiver report with one block about `about`, highest sequence number `highest`.
fn receiver_report(ssrc: u32, about: u32, highest: u32) -> Vec<u8> {
    rtcp(1, 201, &[ssrc, about, 0x0100_0002, highest, 33, 44, 55])
}

fn shapes() -> Vec<Row> {
    let relayed = |says: &str, payload: Vec<u8>| {
        Row::new(says)
            .frame(carrying(payload.clone()))
            .sends_with(|frame| frame.payload = payload)
            .figures(&[(Figure::Rtcp, 1), (Figure::Refused, 0)])
    };
    let refused = |says: &str, payload: Vec<u8>| {
        Row::new(says)
            .frame(carrying(payload))
            .drops(Reason::RtcpHeader)
            .figures(&[(Figure::Rtcp, 0), (Figure::Refused, 1)])
    };
    let compound = || [sender_report(FIRST, 1), rtcp(1, 202, &[FIRST, 0x0101_6100])].concat();
    let wrong_version = || {
        let mut octets = compound();
        octets[28] = 0x40;
        octets
    };
    let separate = || {
        let mut flows = call();
        flows[0].rtcp = output("198.51.100.1:40001", "203.0.113.9:5001");
        flows
    };
    vec![
        relayed("a sender report is relayed", sender_report(FIRST, 7)),
        relayed("a receiver report is relayed", receiver_report(FIRST, SECOND, 9)),
        relayed("a compound of report and source description is relayed", compound()),
        relayed("a feedback message alone is relayed (RFC 5506)", rtcp(1, 206, &[FIRST, SECOND])),
        relayed("an application packet is relayed", rtcp(3, 204, &[FIRST, 0x4142_4344, 1])),
        relayed("eight packets in a compound are relayed", receiver_report(FIRST, SECOND, 9).repeat(8)),
        refused("nine packets in a compound are refused", receiver_report(FIRST, SECOND, 9).repeat(9)),
        refused("an RTCP length beyond the packet is refused", compound()[..36].to_vec()),
        refused("octets behind the last RTCP packet are refused", [compound(), vec![0; 3]].concat()),
        refused("a second packet of another version is refused", wrong_version()),
        refused("RTP behind RTCP is refused", [compound(), vec![0x80, 0, 0, 1]].concat()),
        Row::new("RTCP has a way out of its own").flows(separate()).frame(carrying(compound())).sends_with(
            |frame| {
                frame.payload = compound();
                frame.from = "198.51.100.1:40001".parse().unwrap();
                frame.to = "203.0.113.9:5001".parse().unwrap();
            },
        ),
        Row::new("RTP keeps its way out when RTCP has another").flows(separate()).sends_with(|_| {}),
    ]
}

fn copies() -> Vec<Row> {
    let copied = |flow: &mut FlowSpec| flow.rtcp_copy = true;
    let report = || receiver_report(FIRST, SECOND, 9);
    let long = || rtcp(1, 204, &[FIRST; 100]);
    vec![
        Row::new("RTCP is copied to userspace where the flow asks for it")
            .caller(copied)
            .frame(carrying(report()))
            .sends_with(|frame| frame.payload = report())
            .tells(&[Told::Rtcp(report())]),
        Row::new("RTCP is not copied where nobody asks")
            .frame(carrying(report()))
            .sends_with(|frame| frame.payload = report())
            .tells(&[]),
        Row::new("a long RTCP packet is relayed whole and copied in part")
            .caller(copied)
            .frame(carrying(long()))
            .sends_with(|frame| frame.payload = long())
            .tells(&[Told::Rtcp(long()[..256].to_vec())]),
        Row::new("RTCP goes on while media is held (RFC 3264 section 5.1)")
            .caller(copied)
            .caller(|flow| flow.muted = true)
            .frame(carrying(report()))
            .sends_with(|frame| frame.payload = report())
            .tells(&[Told::Rtcp(report())])
            .figures(&[(Figure::Rtcp, 1), (Figure::Refused, 0)]),
        Row::new("RTCP that is refused is not copied")
            .caller(copied)
            .frame(carrying(report()[..12].to_vec()))
            .drops(Reason::RtcpHeader)
            .tells(&[]),
        Row::new("RTP is not copied").caller(copied).sends_with(|_| {}).tells(&[]),
    ]
}

/// The caller's stream changed its source, so that its SSRC and numbers differ on the far side.
fn translation() -> Vec<Row> {
    let changed = |says: &str| {
        Row::new(says)
            .caller(|flow| flow.continuity = true)
            .after(rtp(|rtp| rtp.sequence = 1000))
            .after(rtp(|rtp| (rtp.ssrc, rtp.sequence, rtp.timestamp) = (SECOND, 7, 160_000)))
    };
    let word = |index: usize, expected: u32| {
        move |payload: &[u8]| payload[index * 4..index * 4 + 4] == expected.to_be_bytes()
    };
    let from_callee = |payload: Vec<u8>| Frame { payload, ..answer() };
    let callee = |says: &str, payload: Vec<u8>, expected: Vec<u8>| {
        let fresh = crate::row::fresh(&from_callee(expected), "192.0.2.1:30000", "192.0.2.10:4000");
        let sent = Frame { to_mac: [2, 0, 0, 0, 1, 0x10], ..fresh };
        changed(says).frame(from_callee(payload)).by(WAN).sends(crate::lab::LAN, sent)
    };
    vec![
        changed("a sender report names the SSRC that the far side hears")
            .frame(carrying(sender_report(SECOND, 160_000)))
            .sends_payload(word(1, FIRST)),
        changed("a sender report's timestamp moves with the stream's")
            .frame(carrying(sender_report(SECOND, 160_000)))
            .sends_payload(|payload| {
                let timestamp = u32::from_be_bytes([payload[16], payload[17], payload[18], payload[19]]);
                (160_000..168_000).contains(&timestamp)
            }),
        changed("a source description names the SSRC that the far side hears")
            .frame(carrying(rtcp(1, 202, &[SECOND, 0x0101_6100])))
            .sends_payload(word(1, FIRST)),
        changed("a goodbye names the SSRC that the far side hears")
            .frame(carrying(rtcp(1, 203, &[SECOND])))
            .sends_payload(word(1, FIRST)),
        changed("a second packet in a compound is translated too")
            .frame(carrying([rtcp(0, 201, &[SECOND]), rtcp(1, 203, &[SECOND])].concat()))
            .sends_payload(move |payload| word(1, FIRST)(payload) && word(3, FIRST)(payload)),
        callee(
            "a report about the stream names the SSRC and the number that were really sent",
            receiver_report(0x3333_3333, FIRST, 0x0001_03e9),
            receiver_report(0x3333_3333, SECOND, 0x0001_0007),
        ),
        callee(
            "a report about another stream is left alone",
            receiver_report(0x3333_3333, 0x4444_4444, 0x0001_03e9),
            receiver_report(0x3333_3333, 0x4444_4444, 0x0001_03e9),
        ),
        callee(
            "feedback about the stream names the SSRC that was really sent",
            rtcp(1, 206, &[0x3333_3333, FIRST]),
            rtcp(1, 206, &[0x3333_3333, SECOND]),
        ),
        Row::new("RTCP on its own port is translated as the stream on the port below")
            .flows({
                let mut flows = call();
                flows[0].kind = FlowKind::Rtp;
                flows[0].continuity = true;
                let mut rtcp = crate::row::flow("192.0.2.1:30001", "198.51.100.1:40001", "203.0.113.9:5001");
                rtcp.kind = FlowKind::Rtcp;
                flows.push(rtcp);
                flows
            })
            .after(rtp(|rtp| rtp.sequence = 1000))
            .after(rtp(|rtp| (rtp.ssrc, rtp.sequence) = (SECOND, 7)))
            .frame(Frame { to: "192.0.2.1:30001".parse().unwrap(), ..carrying(rtcp(1, 203, &[SECOND])) })
            .sends_payload(word(1, FIRST)),
    ]
}
