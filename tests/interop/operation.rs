//! Reload, drain and stop while a call is going on.

use anyhow::Result;
use gateway_userspace::admin::answer::{FlowLine, FlowList};
use gateway_userspace::observe::event::EndedBy;
use std::collections::HashSet;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Phone, connect};
use support::process::until;
use support::sipp::Sipp;
use support::stream::Streams;

#[test]
fn a_reload_changes_new_calls_and_leaves_the_call_in_progress_alone() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let streams = Streams::start(&lab, &flows(&daemon)?)?;
    let before = settings(flows(&daemon)?);

    // Only numbers that begin with 9 have a route now.
    daemon.rewrite(&TRUNKS.replace("prefix = \"\"", "prefix = \"9\""))?;
    daemon.signal("HUP")?;
    until(SOON, || Ok(daemon.log().contains("configuration").then_some(())))?;
    let refused = caller.invite("0800", 30_100)?;
    assert_eq!(caller.final_response(&refused)?.status(), Some(404));

    assert_eq!(settings(flows(&daemon)?), before);
    let tally = streams.stop()?;
    assert!(tally.sent > 0);
    assert_eq!(tally.sent, tally.received, "{tally:?}");
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    Ok(())
}

#[test]
fn a_broken_configuration_is_refused_by_a_reload_and_the_old_one_stays() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    daemon.rewrite(&TRUNKS.replace("peers", "pears"))?;
    let (code, told) = told(&daemon, &["reload"])?;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("causeway.toml:") && told.contains("pears"), "{told}");

    daemon.signal("HUP")?;
    until(SOON, || Ok(daemon.log().contains("pears").then_some(())))?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    Ok(())
}

#[test]
fn a_draining_daemon_refuses_new_calls_and_ends_with_its_last_one() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;

    daemon.signal("TERM")?;
    until(SOON, || Ok(daemon.status()?.draining.then_some(())))?;
    let refused = caller.invite("0800", 30_100)?;
    let answer = caller.final_response(&refused)?;
    assert_eq!(answer.status(), Some(503));
    assert!(daemon.is_running()?);

    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    assert_eq!(daemon.wait()?.code(), Some(0));
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    assert!(!lab.pins().join("maps").exists(), "a drained daemon leaves maps pinned");
    Ok(())
}

#[test]
fn a_daemon_that_was_drained_by_command_ends_at_the_first_signal() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    let (code, told) = told(&daemon, &["drain"])?;
    assert_eq!(code, Some(0), "{told}");
    until(SOON, || Ok(daemon.status()?.draining.then_some(())))?;
    assert!(daemon.is_running()?);
    daemon.signal("TERM")?;
    assert_eq!(daemon.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_second_signal_stops_at_once_and_leaves_the_call_to_the_next_daemon() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    daemon.signal("TERM")?;
    until(SOON, || Ok(daemon.status()?.draining.then_some(())))?;
    daemon.signal("TERM")?;
    assert_eq!(daemon.wait()?.code(), Some(0));

    let daemon = daemon.restart()?;
    assert_eq!(daemon.status()?.calls, 1);
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    assert_eq!(daemon.records(1)?[0].fault, None);
    Ok(())
}

#[test]
fn a_call_without_media_is_ended_on_both_legs() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &format!("[media]\ntimeout_seconds = 2\n{TRUNKS}"))?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (from, to) = connect(&mut caller, &mut callee, 30_000)?;
    caller.be_hung_up(&from)?;
    let bye = callee.be_hung_up(&to)?;
    assert!(bye.header("Reason").contains("Q.850"), "{bye:?}");
    let record = &daemon.records(1)?[0];
    assert_eq!((record.ended_by, record.fault.as_deref()), (EndedBy::Causeway, Some("media_timeout")));
    Ok(())
}

#[test]
fn a_call_is_ended_from_the_command_line() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let call = daemon.calls()?.calls.remove(0).call;
    let (code, told) = told(&daemon, &["hang-up", &call])?;
    assert_eq!(code, Some(0), "{told}");
    caller.be_hung_up(&from)?;
    callee.be_hung_up(&to)?;
    let record = &daemon.records(1)?[0];
    assert_eq!((record.ended_by, record.fault.as_deref()), (EndedBy::Causeway, Some("hung_up")));
    Ok(())
}

#[test]
fn calls_beyond_the_last_free_port_get_503_and_no_two_calls_share_one() -> Result<()> {
    let lab = Lab::new()?;
    // Four pairs on each side, two for each core.
    let media = "[media]\nports = \"20000-20007\"\nquarantine_seconds = 1\n";
    let daemon = Daemon::start(&lab, &format!("{media}{TRUNKS}"))?;
    let callee = Sipp::callee(&lab, "uas", 5060, &[])?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let (mut calls, mut ports) = (Vec::new(), HashSet::new());
    // Which core owns a call is its Call-ID's chance, so both are full after a while only.
    for number in 0..32 {
        let mut call = caller.invite("0800", 30_000 + 4 * number)?;
        let answer = caller.final_response(&call)?;
        if answer.status() == Some(200) {
            caller.acknowledge(&mut call, &answer)?;
            assert!(ports.insert(call.far_media), "{:?} was given twice", call.far_media);
            calls.push(call);
        } else {
            assert_eq!(answer.status(), Some(503), "{}", answer.start);
        }
    }
    assert_eq!(calls.len(), 4);
    let status = daemon.status()?;
    assert_eq!((status.calls, status.media_port_pairs_in_use, status.media_port_pairs), (4, 8, 8));

    // After quarantine they are given out again.
    for call in &mut calls {
        caller.hang_up(call)?;
    }
    until(SOON, || {
        let call = caller.invite("0800", 30_000)?;
        Ok((caller.final_response(&call)?.status() == Some(200)).then_some(()))
    })?;
    drop(callee);
    Ok(())
}

#[test]
fn metrics_and_health_are_served_over_http() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    daemon.records(1)?;
    let metrics = daemon.http("/metrics")?;
    for line in
        ["causeway_calls_started_total 1", "causeway_calls_answered_total 1", "causeway_calls_ended_total 1"]
    {
        assert!(metrics.lines().any(|own| own == line), "no {line} in:\n{metrics}");
    }
    assert!(daemon.http("/health")?.ends_with("alive\n"));
    assert!(daemon.http("/ready")?.ends_with("ready\n"));
    Ok(())
}

/// Exit code and words of the command line.
fn told(daemon: &Daemon<'_>, order: &[&str]) -> Result<(Option<i32>, String)> {
    let output = daemon.command(order)?.output()?;
    let words = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&words).into_owned()))
}

fn flows(daemon: &Daemon<'_>) -> Result<Vec<FlowLine>> {
    Ok(daemon.ask::<FlowList>(&["flows"])?.flows)
}

/// What must not change while a call is left alone.
fn settings(flows: Vec<FlowLine>) -> Vec<(u32, String, String)> {
    let mut settings: Vec<_> =
        flows.into_iter().map(|flow| (flow.slot, flow.at.to_string(), format!("{:?}", flow.to))).collect();
    settings.sort();
    settings
}
