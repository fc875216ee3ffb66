//! What a flow remembers: sequence numbers, sources, telephone-events, and the stream kept continuous.

use crate::row::{Figure, Row, Told, carrying, packet, rtp};
use gateway_userspace::media::plan::FlowSpec;
use support::wire::{Frame, Rtp, telephone_event};

pub fn rows() -> Vec<Row> {
    [sequences(), sources(), continuity(), events()].into_iter().flatten().collect()
}

fn numbered(sequence: u16) -> Frame {
    rtp(|rtp| rtp.sequence = sequence)
}

fn sequences() -> Vec<Row> {
    let row = |says: &str, before: &[u16], last: u16, figures: &[(Figure, u64)]| {
        before
            .iter()
            .fold(Row::new(says), |row, sequence| row.after(numbered(*sequence)))
            .frame(numbered(last))
            .sends_with(|frame| frame.payload = numbered(last).payload)
            .figures(figures)
    };
    use Figure::{Expected, Late, Lost, Packets, SourceChanges};
    vec![
        row(
            "packets in order lose nothing",
            &[1, 2],
            3,
            &[(Expected, 3), (Lost, 0), (Late, 0), (Packets, 3)],
        ),
        row("a gap is loss", &[1, 2], 6, &[(Expected, 6), (Lost, 3), (Late, 0)]),
        row("a late packet is late and no loss", &[1, 3], 2, &[(Expected, 3), (Lost, 0), (Late, 1)]),
        row("a repeat is relayed and is no loss", &[1, 2], 2, &[(Expected, 2), (Lost, 0), (Packets, 3)]),
        row(
            "sequence numbers wrap without loss",
            &[65_534, 65_535],
            0,
            &[(Expected, 3), (Lost, 0), (Late, 0)],
        ),
        row(
            "a late packet from before the wrap is late",
            &[65_534, 0],
            65_535,
            &[(Expected, 3), (Lost, 0), (Late, 1)],
        ),
        row("a gap over the wrap is loss", &[65_535], 2, &[(Expected, 4), (Lost, 2)]),
        row("a jump of 2999 is loss", &[1], 3000, &[(Expected, 3000), (Lost, 2998)]),
        row("one packet far away is not believed", &[1], 30_000, &[(Expected, 1), (Lost, 0), (Late, 0)]),
        row(
            "two packets in a row far away are a restart",
            &[1, 30_000],
            30_001,
            &[(Expected, 2), (Lost, 0), (SourceChanges, 0)],
        ),
        row("two packets far away that are not in a row are none", &[1, 30_000], 30_002, &[(Expected, 1)]),
    ]
}

fn sources() -> Vec<Row> {
    let other = |sequence| rtp(|rtp| (rtp.ssrc, rtp.sequence) = (0x2222_2222, sequence));
    use Figure::{Expected, Lost, SourceChanges};
    vec![
        Row::new("another SSRC is a change of source, and the packets expected add up")
            .after(numbered(1))
            .after(numbered(4))
            .frame(other(700))
            .sends_with(|frame| frame.payload = other(700).payload)
            .figures(&[(SourceChanges, 1), (Expected, 5), (Lost, 2)]),
        Row::new("back to the first SSRC is another change of source")
            .after(numbered(1))
            .after(other(700))
            .frame(numbered(2))
            .sends_with(|frame| frame.payload = numbered(2).payload)
            .figures(&[(SourceChanges, 2), (Expected, 3), (Lost, 0)]),
        Row::new("without continuity a new source passes as it is")
            .after(numbered(1))
            .frame(other(9))
            .sends_with(|frame| frame.payload = other(9).payload),
        Row::new("a packet that is refused is no part of the sequence")
            .after(numbered(1))
            .after(rtp(|rtp| (rtp.sequence, rtp.payload_type) = (50, 18)))
            .frame(numbered(2))
            .sends_with(|frame| frame.payload = numbered(2).payload)
            .figures(&[(Expected, 2), (Lost, 0), (Figure::Refused, 1)]),
    ]
}

fn continuity() -> Vec<Row> {
    let on = |flow: &mut FlowSpec| flow.continuity = true;
    let other = |sequence| rtp(|rtp| (rtp.ssrc, rtp.sequence, rtp.timestamp) = (0x2222_2222, sequence, 5));
    let is = |ssrc: u32, sequence: u16| {
        move |payload: &[u8]| payload[2..4] == sequence.to_be_bytes() && payload[8..12] == ssrc.to_be_bytes()
    };
    vec![
        Row::new("with continuity the first source passes as it is").caller(on).sends_with(|_| {}),
        Row::new("with continuity a new source goes on under the first SSRC and the next number")
            .caller(on)
            .after(numbered(1000))
            .frame(other(7))
            .sends_payload(is(0x1111_1111, 1001)),
        Row::new("with continuity the new source's timestamps go on from the last one sent")
            .caller(on)
            .after(numbered(1000))
            .frame(other(7))
            .sends_payload(|payload| {
                let timestamp = u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]);
                // The test is done within a second of the packet before: 8000 units of the clock.
                (160_000..168_000).contains(&timestamp)
            }),
        Row::new("with continuity the second packet of the new source follows on")
            .caller(on)
            .after(numbered(1000))
            .after(other(7))
            .frame(other(8))
            .sends_payload(is(0x1111_1111, 1002)),
        Row::new("with continuity a late packet of the new source is in its place")
            .caller(on)
            .after(numbered(1000))
            .after(other(7))
            .after(other(9))
            .frame(other(8))
            .sends_payload(is(0x1111_1111, 1002)),
        Row::new("with continuity a late packet of the first source does not set the stream back")
            .caller(on)
            .after(numbered(1000))
            .after(numbered(999))
            .frame(other(7))
            .sends_payload(is(0x1111_1111, 1001)),
        Row::new("with continuity a restarted sequence goes on too")
            .caller(on)
            .after(numbered(1000))
            .after(numbered(30_000))
            .frame(numbered(30_001))
            .sends_payload(|payload| payload[8..12] == 0x1111_1111_u32.to_be_bytes()),
        Row::new("with continuity the stream wraps where the far side's numbers do")
            .caller(on)
            .after(numbered(65_535))
            .frame(other(7))
            .sends_payload(is(0x1111_1111, 0)),
    ]
}

fn events() -> Vec<Row> {
    let event = |timestamp: u32, code: u8, end: bool, duration: u16| {
        let body = telephone_event(code, end, duration);
        rtp(|rtp| (rtp.payload_type, rtp.timestamp, rtp.body) = (96, timestamp, body))
    };
    let row = |says: &str, before: &[Frame], last: Frame, told: &[Told]| {
        let row = before.iter().fold(Row::new(says), |row, frame| row.after(frame.clone()));
        row.frame(last).sends_payload(|payload| payload[1] & 0x7f == 101).tells(told)
    };
    let start = Told::EventStart;
    let end = Told::EventEnd;
    vec![
        row("the first packet of a telephone-event is told", &[], event(1, 5, false, 160), &[start(5, 160)]),
        row(
            "the second packet of an event is not told",
            &[event(1, 5, false, 160)],
            event(1, 5, false, 320),
            &[],
        ),
        row(
            "the end of an event is told with its duration",
            &[event(1, 5, false, 160)],
            event(1, 5, true, 800),
            &[end(5, 800)],
        ),
        row(
            "the repeats of an event's end are not told",
            &[event(1, 5, false, 160), event(1, 5, true, 800)],
            event(1, 5, true, 800),
            &[],
        ),
        row(
            "the next event is told",
            &[event(1, 5, false, 160), event(1, 5, true, 800)],
            event(900, 5, false, 160),
            &[start(5, 160)],
        ),
        row(
            "an event of which only the end came is told whole",
            &[],
            event(1, 11, true, 640),
            &[start(11, 640), end(11, 640)],
        ),
        row(
            "an event payload shorter than an event is relayed and not told",
            &[],
            rtp(|rtp| (rtp.payload_type, rtp.body) = (96, vec![5, 0, 0])),
            &[],
        ),
        row("event 16 (flash) is told as it is", &[], event(1, 16, false, 80), &[start(16, 80)]),
        Row::new("packets of voice tell nothing").sends_with(|_| {}).tells(&[]),
        Row::new("a payload type that is no event tells nothing, whatever it carries")
            .frame(carrying(Rtp { body: telephone_event(5, false, 160), ..Rtp::default() }.octets()))
            .sends_with(|frame| {
                frame.payload = Rtp { body: telephone_event(5, false, 160), ..Rtp::default() }.octets();
            })
            .tells(&[]),
        Row::new("an event of a new source is told though its timestamp was heard before")
            .after(event(1, 5, false, 160))
            .frame({
                let body = telephone_event(5, false, 160);
                rtp(|rtp| {
                    (rtp.payload_type, rtp.timestamp, rtp.ssrc, rtp.body) = (96, 1, 0x2222_2222, body);
                })
            })
            .sends_payload(|payload| payload[1] & 0x7f == 101)
            .tells(&[start(5, 160)]),
        Row::new("an event on hold is told and swallowed")
            .caller(|flow| flow.muted = true)
            .after(packet())
            .frame(event(1, 5, false, 160))
            .drops(gateway_common::verdict::Reason::Muted)
            .tells(&[start(5, 160)]),
    ]
}
