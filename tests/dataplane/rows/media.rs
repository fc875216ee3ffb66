//! Is it RTP or RTCP, and is it for this port.

use crate::row::{Figure, Row, carrying};
use gateway_common::flow::FlowKind;
use gateway_common::verdict::Reason;
use support::wire::{Rtp, rtcp};

pub fn rows() -> Vec<Row> {
    [rtp_headers(), demultiplexing()].into_iter().flatten().collect()
}

fn rtp_headers() -> Vec<Row> {
    let payload = |octets: Vec<u8>| carrying(octets);
    let version = |bits: u8| {
        let mut octets = Rtp::default().octets();
        octets[0] = octets[0] & 0x3f | bits << 6;
        carrying(octets)
    };
    let relayed = |says: &str, change: fn(&mut Rtp)| {
        let mut content = Rtp::default();
        change(&mut content);
        let octets = content.octets();
        Row::new(says).frame(carrying(octets.clone())).sends_with(|frame| frame.payload = octets)
    };
    let refused = [(Figure::Refused, 1), (Figure::Packets, 0), (Figure::Expected, 0)];
    vec![
        Row::new("an empty UDP payload is no RTP")
            .frame(payload(vec![]))
            .drops(Reason::NotRtp)
            .figures(&refused),
        Row::new("seven octets are no RTP").frame(payload(vec![0x80; 7])).drops(Reason::NotRtp),
        Row::new("eleven octets are no RTP")
            .frame(payload(Rtp::default().octets()[..11].to_vec()))
            .drops(Reason::NotRtp),
        Row::new("version 0, such as STUN's, is no RTP").frame(version(0)).drops(Reason::NotRtp),
        Row::new("version 1 is no RTP").frame(version(1)).drops(Reason::NotRtp),
        Row::new("version 3 is no RTP").frame(version(3)).drops(Reason::NotRtp),
        Row::new("a CSRC list beyond the packet is refused")
            .frame(payload([vec![0x84, 0], vec![0; 12]].concat()))
            .drops(Reason::RtpHeader)
            .figures(&refused),
        Row::new("a header extension beyond the packet is refused")
            .rtp(|rtp| (rtp.extension, rtp.body) = (Some((0xbede, vec![])), vec![]))
            .damaged(|octets| octets[14 + 28 + 15] = 9)
            .drops(Reason::RtpHeader),
        Row::new("a header extension that does not even begin is refused")
            .frame(payload([vec![0x90, 0], vec![0; 10]].concat()))
            .drops(Reason::RtpHeader),
        Row::new("padding of zero octets is refused")
            .rtp(|rtp| rtp.padding = 4)
            .damaged(|octets| *octets.last_mut().unwrap() = 0)
            .drops(Reason::RtpHeader),
        Row::new("padding longer than the packet is refused")
            .rtp(|rtp| rtp.padding = 4)
            .damaged(|octets| *octets.last_mut().unwrap() = 253)
            .drops(Reason::RtpHeader),
        relayed("fifteen CSRCs are relayed", |rtp| rtp.csrc = (0..15).collect()),
        relayed("a header extension is relayed", |rtp| rtp.extension = Some((0xbede, vec![1, 2, 3]))),
        relayed("an empty header extension is relayed", |rtp| rtp.extension = Some((0xbede, vec![]))),
        relayed("padding is relayed", |rtp| rtp.padding = 8),
        relayed("padding that leaves nothing else is relayed", |rtp| {
            (rtp.padding, rtp.body) = (160, vec![]);
        }),
        relayed("a header without payload is relayed", |rtp| rtp.body = vec![]),
        relayed("a payload of one octet is relayed", |rtp| rtp.body = vec![7]),
        relayed("the marker bit is relayed", |rtp| rtp.marker = true),
    ]
}

fn demultiplexing() -> Vec<Row> {
    let report = || carrying(rtcp(0, 201, &[0x1111_1111]));
    let only = |kind| move |flow: &mut gateway_userspace::media::plan::FlowSpec| flow.kind = kind;
    let refused = [(Figure::Refused, 1), (Figure::Rtcp, 0), (Figure::Packets, 0)];
    vec![
        Row::new("RTCP on a port for RTP alone is refused")
            .caller(only(FlowKind::Rtp))
            .frame(report())
            .drops(Reason::RtcpUnexpected)
            .figures(&refused),
        Row::new("RTP on a port for RTCP alone is refused")
            .caller(only(FlowKind::Rtcp))
            .drops(Reason::RtpUnexpected)
            .figures(&refused),
        Row::new("RTP on a port for RTP alone is relayed").caller(only(FlowKind::Rtp)).sends_with(|_| {}),
        Row::new("RTCP on a port for RTCP alone is relayed")
            .caller(only(FlowKind::Rtcp))
            .frame(report())
            .sends_with(|frame| frame.payload = report().payload)
            .figures(&[(Figure::Rtcp, 1), (Figure::Packets, 0)]),
        Row::new("RTCP on a shared port is relayed and counted apart")
            .frame(report())
            .sends_with(|frame| frame.payload = report().payload)
            .figures(&[(Figure::Rtcp, 1), (Figure::Packets, 0), (Figure::Octets, 0), (Figure::Expected, 0)]),
        Row::new("RTCP packet type 192 is RTCP")
            .frame(carrying(rtcp(0, 192, &[1])))
            .sends_with(|frame| frame.payload = rtcp(0, 192, &[1])),
        Row::new("RTCP packet type 223 is RTCP")
            .frame(carrying(rtcp(0, 223, &[1])))
            .sends_with(|frame| frame.payload = rtcp(0, 223, &[1])),
        Row::new("second octet 191 is RTP with the marker bit, of a payload type nobody negotiated")
            .rtp(|rtp| (rtp.marker, rtp.payload_type) = (true, 63))
            .drops(Reason::PayloadType),
        Row::new("second octet 224 is RTP with the marker bit, of payload type 96")
            .rtp(|rtp| (rtp.marker, rtp.payload_type) = (true, 96))
            .sends_payload(|payload| payload[1] == 0x80 | 101),
    ]
}
