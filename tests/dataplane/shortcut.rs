//! Which packets go by the shortcut that the one before them left, and that nobody can tell from what leaves.

use crate::lab::{LAN, Lab, WAN};
use crate::row::{answer, call, output, packet, rtp};
use anyhow::{Context as _, Result, ensure};
use gateway_common::flow::Latch;
use gateway_userspace::media::plan::{FlowSpec, OutputSpec};
use std::thread;
use std::time::Duration;
use support::wire::{Checksum, Frame, Rtp, rtcp, telephone_event};

/// Packets after which the time of most is no longer taken, and of none of the next twenty.
const SETTLED: u16 = 70;
/// Where type of service stands in a frame over IPv4, and what no packet here has there.
const CLASS_AT: usize = 15;
const MARK: u8 = 0xb8;
/// Longer than the ticks that pass as no pause, whatever a tick is.
const PAUSE: Duration = Duration::from_millis(800);

fn next(change: impl FnOnce(&mut Rtp)) -> Frame {
    rtp(|rtp| {
        rtp.sequence = 1000 + SETTLED;
        change(rtp);
    })
}

fn with(change: impl FnOnce(&mut Frame)) -> Frame {
    let mut frame = next(|_| {});
    change(&mut frame);
    frame
}

/// A call whose flows learn from each other.
fn latching() -> Vec<FlowSpec> {
    let mut flows = call();
    for (index, flow) in flows.iter_mut().enumerate() {
        flow.latch = Latch::SameSsrc;
        flow.rtp = flow.rtp.map(|output| OutputSpec { learned_from: Some(1 - index), ..output });
    }
    flows
}

/// The caller's stream, up to where the next packet goes by the shortcut.
fn settle(lab: &mut Lab, flows: &[FlowSpec]) -> Result<()> {
    lab.install(flows)?;
    for index in 0..SETTLED {
        lab.relay_only(LAN, &rtp(|rtp| rtp.sequence = 1000 + index).octets())?;
    }
    Ok(())
}

/// Whether the caller's next packet leaves by the shortcut: by one that marks what goes by it.
fn is_short(lab: &mut Lab, ingress: u32, frame: &Frame) -> Result<bool> {
    lab.mark_shortcut(0, MARK)?;
    let left = lab.run(ingress, &frame.octets())?.1;
    Ok(left.get(CLASS_AT).context("nothing left")? == &MARK)
}

#[test]
fn packets_like_the_one_before_go_by_the_shortcut_and_no_others() {
    let mut lab = Lab::new("shortcut").expect("the lab comes up");
    let jump = |rtp: &mut Rtp| rtp.sequence = rtp.sequence.wrapping_add(3000);
    let table: Vec<(&str, Frame, bool)> = vec![
        ("the next packet", next(|_| {}), true),
        ("a repeat", next(|rtp| rtp.sequence -= 1), true),
        ("one after a loss", next(|rtp| rtp.sequence += 5), false),
        ("one with the marker", next(|rtp| rtp.marker = true), true),
        ("a shorter one", next(|rtp| rtp.body.truncate(10)), true),
        ("one without a UDP checksum", with(|frame| frame.checksum = Checksum::Absent), true),
        ("a late one", next(|rtp| rtp.sequence -= 3), false),
        ("one far ahead", next(jump), false),
        ("another SSRC", next(|rtp| rtp.ssrc = 7), false),
        ("another payload type", next(|rtp| rtp.payload_type = 8), false),
        (
            "a telephone-event",
            next(|rtp| {
                rtp.payload_type = 96;
                rtp.body = telephone_event(1, false, 160);
            }),
            false,
        ),
        ("an extension", next(|rtp| rtp.extension = Some((0xbede, vec![1]))), false),
        ("a CSRC", next(|rtp| rtp.csrc = vec![9]), false),
        ("padding", next(|rtp| rtp.padding = 4), false),
        ("another source port", with(|frame| frame.from.set_port(4001)), false),
        ("another mark", with(|frame| frame.traffic_class = 0x28), false),
        ("IP options", with(|frame| frame.options = vec![1; 4]), false),
        ("octets behind the packet", with(|frame| frame.trailer = vec![0; 6]), false),
        ("RTCP", Frame { payload: rtcp(0, 201, &[7]), ..packet() }, false),
    ];
    for (what, frame, expected) in table {
        settle(&mut lab, &call()).expect(what);
        assert_eq!(is_short(&mut lab, LAN, &frame).expect(what), expected, "{what}");
    }
}

#[test]
fn a_shortcut_goes_with_the_ground_that_it_was_taken_on() {
    type Happens = fn(&mut Lab, &[FlowSpec]) -> Result<()>;
    let table: [(&str, Happens, bool); 6] = [
        ("nothing", |_, _| Ok(()), true),
        (
            "the callee sends from where signalling said",
            |lab, _| lab.relay_only(WAN, &answer().octets()).map(drop),
            true,
        ),
        (
            "the agreement changes",
            |lab, flows| {
                let mut flows = flows.to_vec();
                flows[0].rtp = output("198.51.100.1:40000", "203.0.113.9:5002");
                lab.update(&flows)
            },
            false,
        ),
        ("a route changes", |lab, _| lab.raise_generation(), false),
        (
            "the stream pauses",
            |_, _| {
                thread::sleep(PAUSE);
                Ok(())
            },
            false,
        ),
        (
            "the callee sends from elsewhere",
            |lab, _| {
                lab.relay_only(WAN, &Frame { from: "203.0.113.9:5008".parse()?, ..answer() }.octets())?;
                Ok(())
            },
            false,
        ),
    ];
    let mut lab = Lab::new("ground").expect("the lab comes up");
    for (what, happens, expected) in table {
        let flows = latching();
        let short = (|| -> Result<bool> {
            settle(&mut lab, &flows)?;
            lab.relay_only(WAN, &answer().octets())?;
            lab.relay_only(LAN, &rtp(|rtp| rtp.sequence = 1000 + SETTLED).octets())?;
            happens(&mut lab, &flows)?;
            is_short(&mut lab, LAN, &rtp(|rtp| rtp.sequence = 1001 + SETTLED))
        })();
        assert_eq!(short.expect(what), expected, "{what}");
    }
}

#[test]
fn every_thirty_second_packet_goes_the_long_way() {
    let mut lab = Lab::new("thirty").expect("the lab comes up");
    settle(&mut lab, &call()).expect("a stream");
    let short: Vec<bool> = (SETTLED..SETTLED + 64)
        .map(|index| is_short(&mut lab, LAN, &rtp(|rtp| rtp.sequence = 1000 + index)))
        .collect::<Result<_>>()
        .expect("packets");
    let long: Vec<_> =
        (SETTLED..).zip(&short).filter(|(_, short)| !**short).map(|(index, _)| index).collect();
    assert_eq!(long, [96, 97, 128, 129]);
}

#[test]
fn what_leaves_is_what_would_have_left_by_the_long_way() {
    let mut lab = Lab::new("same").expect("the lab comes up");
    for continuity in [false, true] {
        let mut flows = latching();
        flows.iter_mut().for_each(|flow| {
            flow.continuity = continuity;
            flow.dscp = continuity.then_some(46);
        });
        lab.install(&flows).expect("the flows fit");
        let same = (|| -> Result<()> {
            for index in 0..400_u16 {
                // Losses and late ones; another source in the middle.
                let sequence = 65_400_u16.wrapping_add(index).wrapping_sub(u16::from(index % 17 == 3) * 2);
                let ssrc = if index < 200 { 0x1111_1111 } else { 0x2222_2222 };
                let content = Rtp {
                    sequence: if index % 13 == 5 { sequence.wrapping_add(2) } else { sequence },
                    timestamp: (u32::MAX - 20_000).wrapping_add(u32::from(index) * 160),
                    marker: index % 50 == 0,
                    ssrc,
                    body: vec![index as u8; usize::from(index % 160) + 1],
                    ..Rtp::default()
                };
                let checksum = if index % 7 == 0 { Checksum::Absent } else { Checksum::Right };
                let frame = Frame { payload: content.octets(), checksum, ..packet() };
                lab.relay(LAN, &frame.octets()).with_context(|| format!("packet {index}"))?;
                let back = Frame { payload: content.octets(), ..answer() };
                lab.relay(WAN, &back.octets()).with_context(|| format!("packet {index} back"))?;
            }
            Ok(())
        })();
        same.expect("both relays agree");
        let relayed = lab.installed.iter().filter_map(|(id, _)| lab.dataplane.report(*id));
        let relayed: Vec<u64> = relayed.map(|report| report.packets).collect();
        assert_eq!(relayed, [400, 400]);
    }
    ensure_short_ways_exist(&mut lab).expect("the last of them went by it");
}

/// Without any, the test above would prove nothing.
fn ensure_short_ways_exist(lab: &mut Lab) -> Result<()> {
    settle(lab, &latching())?;
    ensure!(is_short(lab, LAN, &next(|_| {}))?, "no shortcut");
    Ok(())
}
