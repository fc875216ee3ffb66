//! The kill test: calls outlive the daemon that set them up.

use anyhow::{Context, Result};
use gateway_userspace::admin::answer::{Drops, FlowLine, FlowList};
use gateway_userspace::observe::calls::Progress;
use gateway_userspace::observe::event::EndedBy;
use std::time::Duration;
use support::daemon::{Daemon, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Call, Message, Phone, connect};
use support::stream::Streams;

const CALLS: usize = 50;
/// RTP without a daemon.
const WITHOUT: Duration = Duration::from_secs(10);
/// And some with one, before and after.
const WITH: Duration = Duration::from_secs(1);

#[test]
fn whoever_had_not_heard_of_the_end_of_a_call_hears_of_it_from_the_next_daemon() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    caller.hang_up(&mut from)?;
    let is_bye = |message: &Message| message.is_request("BYE") && message.header("Call-ID") == to.call_id;
    let unanswered = callee.receive("a BYE", is_bye)?;
    let daemon = daemon.restart()?;
    let another = |message: &Message| is_bye(message) && message.header("CSeq") != unanswered.header("CSeq");
    callee.receive("a BYE of the next daemon", another).with_context(|| daemon.log())?;
    callee.be_hung_up(&to)?;
    let records = daemon.records(1)?;
    assert_eq!((records.len(), records[0].sip_status, records[0].fault.as_deref()), (1, 200, None));
    Ok(())
}

#[test]
fn fifty_calls_lose_no_packet_while_the_daemon_is_dead_and_end_under_the_next_one() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let mut calls = (0..CALLS as u16)
        .map(|number| connect(&mut caller, &mut callee, 30_000 + 4 * number))
        .collect::<Result<Vec<_>>>()?;
    let streams = Streams::start(&lab, &flows(&daemon, CALLS)?)?;
    std::thread::sleep(WITH);

    daemon.kill()?;
    std::thread::sleep(WITHOUT);
    assert!(daemon.status().is_err(), "somebody answers for the dead daemon");

    let daemon = daemon.restart()?;
    let status = daemon.status()?;
    assert_eq!((status.calls, status.cores.iter().all(|core| core.answers)), (CALLS as u64, true));
    for call in daemon.calls()?.calls {
        assert_eq!((call.progress, call.held), (Progress::Answered, false));
        assert_eq!(
            (call.to_trunk.as_deref(), call.callee_codec.as_deref()),
            (Some("service"), Some("PCMU/8000"))
        );
    }
    std::thread::sleep(WITH);
    let tally = streams.stop()?;
    eprintln!("{tally:?}");
    assert_eq!(tally.streams, 2 * CALLS);
    assert_eq!((tally.sent - tally.received, tally.repeated), (0, 0), "{tally:?}");
    // 50 packets a second and stream; a third of them would be a test that hardly ran.
    assert!(tally.sent > 2 * CALLS * 10 * 50 / 3, "{tally:?}");
    assert_eq!(daemon.ask::<Drops>(&["drops"])?.packets, []);

    hang_up_by_turns(&mut caller, &mut callee, &mut calls)?;
    let records = daemon.records(CALLS)?;
    let by = |side| records.iter().filter(|record| record.ended_by == side).count();
    assert_eq!((by(EndedBy::Caller), by(EndedBy::Callee)), (CALLS / 2, CALLS / 2));
    let relayed: u64 =
        records.iter().map(|record| record.from_caller.packets + record.from_callee.packets).sum();
    assert_eq!(relayed, tally.sent as u64);
    for record in &records {
        assert_eq!((record.to_trunk.as_deref(), record.peers_tried), (Some("service"), 1));
        assert_eq!(record.callee_codec.as_deref(), Some("PCMU/8000"));
        assert_eq!(
            (record.sip_status, record.fast_path_share, record.fault.as_deref()),
            (200, Some(1.0), None)
        );
        assert_eq!((record.from_caller.lost, record.from_callee.lost), (0, 0), "{record:#?}");
    }
    assert_eq!(daemon.status()?.flows, 0);
    Ok(())
}

/// Records of a flow find its call, and messages of both sides too, whichever core they come to first.
#[test]
fn calls_go_on_under_a_daemon_with_another_number_of_workers() -> Result<()> {
    const FEW: usize = 8;
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let mut calls = (0..FEW as u16)
        .map(|number| connect(&mut caller, &mut callee, 30_000 + 4 * number))
        .collect::<Result<Vec<_>>>()?;
    let streams = Streams::start(&lab, &flows(&daemon, FEW)?)?;
    for (ended, workers) in [1, 2].into_iter().enumerate() {
        // A record that is not in the file yet is lost with its daemon.
        daemon.records(ended)?;
        daemon = daemon.restart_with_workers(workers)?;
        let status = daemon.status()?;
        assert_eq!((status.calls, status.cores.len()), (FEW as u64, usize::from(workers)));
        // New calls find room beside those that were taken over.
        let (mut from, to) = connect(&mut caller, &mut callee, 31_000)?;
        caller.hang_up(&mut from)?;
        callee.be_hung_up(&to)?;
    }
    let tally = streams.stop()?;
    assert_eq!((tally.sent - tally.received, tally.repeated), (0, 0), "{tally:?}");
    hang_up_by_turns(&mut caller, &mut callee, &mut calls)?;
    let records = daemon.records(FEW + 2)?;
    assert!(records.iter().all(|record| record.sip_status == 200 && record.fault.is_none()), "{records:#?}");
    assert_eq!(daemon.status()?.flows, 0);
    Ok(())
}

#[test]
fn a_call_that_only_rang_when_the_daemon_died_is_gone_with_its_flows() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let ringing = caller.invite("0800", 30_000)?;
    callee.respond("183 Session Progress", 30_000)?;
    caller.provisional_response(&ringing, 183)?;
    assert!(!daemon.ask::<FlowList>(&["flows"])?.flows.is_empty(), "early media has no flows");

    let daemon = daemon.restart()?;
    let status = daemon.status()?;
    assert_eq!((status.calls, status.flows), (0, 0));
    assert_eq!(daemon.ask::<FlowList>(&["flows"])?.flows, []);
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}

/// All flows of all calls: two a call at least.
fn flows(daemon: &Daemon<'_>, calls: usize) -> Result<Vec<FlowLine>> {
    let list: FlowList = daemon.ask(&["flows", "--limit", "1000"])?;
    assert!(!list.more && list.flows.len() >= 2 * calls, "{} flows", list.flows.len());
    Ok(list.flows)
}

/// Every second call is ended by the caller, the others by the callee.
fn hang_up_by_turns(caller: &mut Phone, callee: &mut Phone, calls: &mut [(Call, Call)]) -> Result<()> {
    for (number, (from, to)) in calls.iter_mut().enumerate() {
        let (phone, own, other, theirs) = if number % 2 == 0 {
            (&mut *caller, from, &mut *callee, to)
        } else {
            (&mut *callee, to, &mut *caller, from)
        };
        phone.hang_up(own).with_context(|| format!("call {number}"))?;
        other.be_hung_up(theirs).with_context(|| format!("call {number}"))?;
    }
    Ok(())
}
