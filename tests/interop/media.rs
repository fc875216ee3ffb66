//! Media of SIPp's calls through the XDP program, and what the command line says of them.

use anyhow::{Context, Result};
use gateway_userspace::admin::answer::{Drops, FlowList};
use gateway_userspace::base::id::Side;
use gateway_userspace::observe::calls::{CallDetail, Progress};
use gateway_userspace::observe::cdr::CallRecord;
use gateway_userspace::observe::event::Datapath;
use std::net::UdpSocket;
use std::time::Duration;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Phone, TELEPHONE_EVENT, connect};
use support::process::until;
use support::sipp::{RECORDED_PACKETS, Sipp};
use support::stream::Streams;
use support::wire::{Rtp, telephone_event};

const CALLS: usize = 10;

#[test]
fn every_packet_of_a_replayed_recording_and_of_its_echo_is_relayed_by_the_kernel() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let count = CALLS.to_string();
    let callee = Sipp::callee(&lab, "callee_media.xml", 5060, &["-rtp_echo", "-m", &count])?;
    let caller = Sipp::caller(&lab, "caller_media.xml", &["-m", &count, "-r", "10"])?;
    assert_eq!(caller.finish()?.successful, CALLS as u64);
    assert_eq!(callee.finish()?.successful, CALLS as u64);
    for record in daemon.records(CALLS)? {
        relayed_by_the_kernel(&record, RECORDED_PACKETS, RECORDED_PACKETS);
    }
    let status = daemon.status()?;
    assert_eq!(status.packets_relayed, 2 * RECORDED_PACKETS * CALLS as u64);
    assert_eq!(daemon.ask::<Drops>(&["drops"])?.packets, []);
    Ok(())
}

// Statement 60.
#[test]
fn an_announcement_before_the_answer_is_relayed_by_the_kernel() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let callee = Sipp::callee(&lab, "callee_early_media.xml", 5060, &["-m", "3"])?;
    let caller = Sipp::caller(&lab, "caller_early_media.xml", &["-m", "3"])?;
    assert_eq!(caller.finish()?.successful, 3);
    assert_eq!(callee.finish()?.successful, 3);
    for record in daemon.records(3)? {
        relayed_by_the_kernel(&record, 0, RECORDED_PACKETS);
    }
    Ok(())
}

#[test]
fn a_call_without_an_offer_has_its_answer_in_the_acknowledgement_and_media_both_ways() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let callee = Sipp::callee(&lab, "callee_late_offer.xml", 5060, &["-rtp_echo", "-m", "3"])?;
    let caller = Sipp::caller(&lab, "caller_late_offer.xml", &["-m", "3"])?;
    assert_eq!(caller.finish()?.successful, 3);
    assert_eq!(callee.finish()?.successful, 3);
    for record in daemon.records(3)? {
        relayed_by_the_kernel(&record, RECORDED_PACKETS, RECORDED_PACKETS);
    }
    Ok(())
}

/// The service speaks IPv4, the operator IPv6.
const TWO_FAMILIES: &str = r#"
[[trunk]]
name = "operator"
listen = "udp:[fd00:81:1::1]:5060"
allowed = ["fd00:81:1::/64"]

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{ address = "10.81.2.2:5060" }]

[[route]]
prefix = ""
to = "service"
"#;

#[test]
fn a_call_from_ipv6_to_ipv4_loses_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TWO_FAMILIES)?;
    let mut caller = Phone::over_ipv6(&lab)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let streams = Streams::start(&lab, &daemon.ask::<FlowList>(&["flows"])?.flows)?;
    std::thread::sleep(Duration::from_secs(2));
    let tally = streams.stop()?;
    assert!(tally.sent > 0);
    assert_eq!((tally.streams, tally.sent, tally.repeated), (2, tally.received, 0), "{tally:?}");
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    let record = &daemon.records(1)?[0];
    assert_eq!((record.sip_status, record.fast_path_share), (200, Some(1.0)));
    assert_eq!(record.from_caller.packets + record.from_callee.packets, tally.sent as u64);
    assert_eq!(daemon.ask::<Drops>(&["drops"])?.packets, []);
    Ok(())
}

#[test]
fn a_key_that_is_pressed_reaches_the_other_phone_and_the_ladder() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (from, _) = connect(&mut caller, &mut callee, 30_000)?;
    let near = lab.on(Host::Caller, || Ok(UdpSocket::bind("10.81.1.2:30000")?))?;
    let far = lab.on(Host::Callee, || Ok(UdpSocket::bind("10.81.2.2:30000")?))?;
    far.set_read_timeout(Some(SOON))?;
    // One press of 5: marker on the first packet, the end sent three times (RFC 4733 section 2.5.1).
    for (sequence, end) in [(1, false), (2, false), (3, true), (4, true), (5, true)] {
        let body = telephone_event(5, end, 160 * sequence.min(3));
        let marker = sequence == 1;
        let packet =
            Rtp { payload_type: TELEPHONE_EVENT, marker, sequence, timestamp: 160, body, ..Rtp::default() };
        near.send_to(&packet.octets(), from.far_media.context("no media address in the answer")?)?;
        let mut heard = [0; 1500];
        let length = far.recv(&mut heard).context("the far phone hears nothing")?;
        // Payload type, sequence and event as they were sent.
        assert_eq!((heard[1] & 0x7f, heard[3], heard[length - 4]), (TELEPHONE_EVENT, sequence as u8, 5));
    }
    let call = daemon.calls()?.calls.remove(0).call;
    let pressed = until(SOON, || {
        let ladder = daemon.ask::<CallDetail>(&["call", &call])?.ladder;
        let pressed: Vec<_> = ladder.into_iter().filter(|rung| rung.text == "telephone-event").collect();
        Ok((!pressed.is_empty()).then_some(pressed))
    })?;
    assert_eq!((pressed.len(), pressed[0].side), (1, Some(Side::Caller)), "{pressed:?}");
    Ok(())
}

#[test]
fn a_call_in_progress_is_shown_with_its_flows_and_its_ladder_in_order() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let _callee = Sipp::callee(&lab, "callee_media.xml", 5060, &["-rtp_echo", "-m", "1"])?;
    let _caller = Sipp::caller(&lab, "caller_media.xml", &["-s", "08001234", "-m", "1"])?;

    let answered = until(SOON, || {
        let calls = daemon.calls()?.calls;
        Ok(calls.into_iter().find(|call| call.progress == Progress::Answered))
    });
    let call = answered.context("no call was answered")?;
    assert_eq!((call.from_trunk.as_str(), call.to_trunk.as_deref()), ("operator", Some("service")));
    assert!(call.called.ends_with("234") && !call.called.contains("8001"), "not masked: {}", call.called);
    assert_eq!(call.callee_codec.as_deref(), Some("PCMA/8000"));

    // Both directions, each with packets.
    let flows = until(SOON, || {
        let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
        let busy = flows.iter().filter(|flow| flow.packets > 0).count();
        Ok((busy == 2).then_some(flows))
    })?;
    for flow in flows.iter().filter(|flow| flow.kind != "rtcp") {
        assert_eq!((flow.call.as_deref(), flow.relayed_by.as_str()), (Some(call.call.as_str()), "kernel"));
        assert_eq!((flow.lost, flow.refused, flow.muted), (0, 0, false));
    }

    let status = daemon.status()?;
    assert_eq!(
        (status.calls, status.calls_started, status.calls_answered, status.draining),
        (1, 1, 1, false)
    );
    assert_eq!(status.flows, flows.len() as u64);
    assert!(status.packets_relayed > 0);
    assert!(status.media.iter().all(|media| media.path == Datapath::Native), "{:?}", status.media);
    assert_eq!(status.media.len(), 2);

    let detail: CallDetail = daemon.ask(&["call", &call.call])?;
    assert_eq!(rungs(&detail), LADDER);
    assert!(detail.ladder.is_sorted_by(|a, b| a.at_ms <= b.at_ms));
    assert!(detail.record.is_none());
    Ok(())
}

/// Column, direction and message of every SIP rung; what Causeway does by itself stands between.
fn rungs(detail: &CallDetail) -> Vec<String> {
    let messages = detail.ladder.iter().filter_map(|rung| {
        let (side, direction) = (rung.side?, rung.direction?);
        Some(format!("{side:?} {direction:?}: {}", rung.text))
    });
    messages.collect()
}

/// Nothing of a side goes to the other as it came: each leg has requests and responses of its own.
const LADDER: [&str; 9] = [
    "Caller Received: INVITE 1 +SDP",
    "Caller Sent: 100 (INVITE) 1",
    "Callee Sent: INVITE 1 +SDP",
    "Callee Received: 180 (INVITE) 1",
    "Caller Sent: 180 (INVITE) 1",
    "Callee Received: 200 (INVITE) 1 +SDP",
    "Callee Sent: ACK 1",
    "Caller Sent: 200 (INVITE) 1 +SDP",
    "Caller Received: ACK 1",
];

/// This many packets from caller and callee, none lost, none by another way than the kernel.
fn relayed_by_the_kernel(record: &CallRecord, from_caller: u64, from_callee: u64) {
    assert_eq!(record.sip_status, 200);
    for (media, packets) in [(&record.from_caller, from_caller), (&record.from_callee, from_callee)] {
        assert_eq!((media.packets, media.fast_path_packets), (packets, packets), "{record:#?}");
        assert_eq!((media.lost, media.late), (0, 0), "{record:#?}");
        // G.711 without loss over a short way: users are very satisfied above 4.3 (ITU-T G.107 annex B).
        assert_eq!(media.mos.is_some_and(|mos| mos > 4.3), packets > 0, "{record:#?}");
    }
    assert_eq!(record.fast_path_share, Some(1.0));
}
