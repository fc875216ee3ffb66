//! Trunks on the wire: peers asked by OPTIONS, and drains by command.

use anyhow::{Context as _, Result};
use gateway_userspace::admin::answer::{Drops, PeerLine, TrunkList};
use gateway_userspace::policy::TargetState;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Message, Phone, connect};
use support::process::until;
use support::sipp::Sipp;

/// The service's peer is asked every second.
fn asking() -> String {
    let service = "[[trunk]]\nname = \"service\"\n";
    let health = "health = { interval_seconds = 1, retry_seconds = 1, timeout_ms = 500 }\n";
    TRUNKS.replacen(service, &format!("{service}{health}"), 1)
}

fn peer(daemon: &Daemon<'_>) -> Result<PeerLine> {
    let list: TrunkList = daemon.ask(&["trunks"])?;
    let service = list.trunks.into_iter().find(|trunk| trunk.trunk == "service");
    service.and_then(|trunk| trunk.peers.into_iter().next()).context("the service has a peer")
}

/// Waits for an OPTIONS and answers it.
fn answer_options(phone: &mut Phone, status: &str) -> Result<Message> {
    let asked = phone.receive("OPTIONS", |message| message.start.starts_with("OPTIONS "))?;
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        text.push_str(&format!("{name}: {}\r\n", asked.header(name)));
    }
    text.push_str(&format!("To: {};tag=of-options\r\nContent-Length: 0\r\n\r\n", asked.header("To")));
    phone.send_raw(text.as_bytes())?;
    Ok(asked)
}

// Statements 24, 25, 26, 27, 30.
#[test]
fn a_peer_is_down_until_it_answers_options_and_the_command_line_shows_it() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &asking())?;
    until(SOON, || Ok((peer(&daemon)?.state == TargetState::Down).then_some(())))?;
    assert!(daemon.log().contains("peer is down"), "{}", daemon.log());

    let mut callee = Phone::new(&lab, Host::Callee)?;
    let asked = answer_options(&mut callee, "200 OK")?;
    assert_eq!(asked.start, "OPTIONS sip:10.81.2.2:5060 SIP/2.0");
    assert_eq!(asked.header("Contact"), "<sip:10.81.2.1:5060>");
    assert!(asked.header("Allow").contains("INVITE"));
    until(SOON, || Ok((peer(&daemon)?.state == TargetState::Up).then_some(())))?;
    assert_eq!(peer(&daemon)?.answered, Some(200));
    assert!(daemon.log().contains("peer is up"), "{}", daemon.log());
    Ok(())
}

// Statement 31.
#[test]
fn a_403_to_options_is_an_alarm_in_the_log_that_names_our_contact() -> Result<()> {
    let lab = Lab::new()?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let daemon = Daemon::start(&lab, &asking())?;
    answer_options(&mut callee, "403 Forbidden")?;
    until(SOON, || {
        let log = daemon.log();
        let alarm = log.lines().any(|line| line.contains("403") && line.contains("contact=10.81.2.1:5060"));
        Ok(alarm.then_some(()))
    })?;
    Ok(())
}

// Statement 32.
#[test]
fn a_trunk_drained_by_command_refuses_new_calls_and_its_call_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let order = |words: &[&str]| -> Result<bool> { Ok(daemon.command(words)?.output()?.status.success()) };

    assert!(order(&["drain", "trunk", "service"])?);
    let refused = caller.invite("0800", 30_100)?;
    assert_eq!(caller.final_response(&refused)?.status(), Some(503));
    assert!(order(&["undrain", "trunk", "service"])?);
    assert!(order(&["drain", "peer", "service", "10.81.2.2:5060"])?);
    assert!(peer(&daemon)?.drained);
    let refused = caller.invite("0800", 30_200)?;
    assert_eq!(caller.final_response(&refused)?.status(), Some(503));
    assert!(order(&["undrain", "peer", "service", "10.81.2.2:5060"])?);
    assert!(!order(&["drain", "trunk", "servcie"])?);

    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_300)?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    Ok(())
}

// Statements 84, 189.
#[test]
fn at_ten_times_its_limit_a_trunk_still_carries_its_limit_and_every_emergency() -> Result<()> {
    let lab = Lab::new()?;
    let operator = "[[trunk]]\nname = \"operator\"\n";
    let limits = "limits = { calls_per_second = 20, burst = 1 }\n";
    let emergency = "[emergency]\nnumbers = [\"112\"]\n";
    let trunks = TRUNKS.replacen(operator, &format!("{operator}{limits}"), 1);
    let daemon = Daemon::start(&lab, &format!("{emergency}{trunks}"))?;
    let callee = Sipp::callee(&lab, "uas", 5060, &[])?;
    let flood = Sipp::caller(&lab, "uac", &["-s", "0800", "-r", "200", "-m", "2000", "-d", "200"])?;
    let mut emergencies = Phone::on_port(&lab, Host::Caller, 5070)?;
    for _ in 0..10 {
        let mut call = emergencies.invite("112", 30_000)?;
        emergencies.be_answered(&mut call)?;
        emergencies.hang_up(&mut call)?;
    }
    let statistics = flood.end()?;
    assert_eq!(statistics.successful + statistics.failed, 2_000);
    // Twenty of each second's two hundred, but SIPp's seconds are only as exact as the machine is idle.
    assert!((150..=400).contains(&statistics.successful), "{statistics:?}");
    let refused = daemon.ask::<Drops>(&["drops"])?.requests;
    assert!(
        refused.iter().any(|line| line.reason == "call_rate_exceeded" && line.count >= 1_500),
        "{refused:?}"
    );
    drop(callee);
    Ok(())
}

#[test]
fn a_node_drained_by_command_takes_calls_again_after_undrain() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    assert!(daemon.command(&["drain"])?.output()?.status.success());
    until(SOON, || Ok(daemon.status()?.draining.then_some(())))?;
    assert!(daemon.command(&["undrain", "node"])?.output()?.status.success());
    until(SOON, || Ok((!daemon.status()?.draining).then_some(())))?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    // The drain that was taken back must not make the signal take the call for an ended one.
    daemon.signal("TERM")?;
    until(SOON, || Ok(daemon.status()?.draining.then_some(())))?;
    assert!(daemon.is_running()?);
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    assert_eq!(daemon.wait()?.code(), Some(0));
    Ok(())
}
