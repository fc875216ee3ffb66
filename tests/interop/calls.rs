//! Signalling with SIPp: its own scenarios and ours.

use anyhow::Result;
use gateway_userspace::observe::calls::CallDetail;
use gateway_userspace::observe::cdr::CallRecord;
use gateway_userspace::observe::event::EndedBy;
use support::daemon::{Daemon, TRUNKS};
use support::lab::{Host, Lab};
use support::sipp::Sipp;

const CALLS: usize = 20;

/// The service has two peers, and the first has this long to answer.
const TWO_PEERS: &str = r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
allowed = ["10.81.1.0/24"]

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [
  { address = "10.81.2.2:5060", priority = 0 },
  { address = "10.81.2.2:5061", priority = 1 },
]
peer_timeout_ms = 400

[[route]]
prefix = ""
from = "operator"
to = "service"
"#;

#[test]
fn sipp_calls_sipp_over_udp() -> Result<()> {
    default_scenarios(&["-t", "u1"])
}

#[test]
fn sipp_calls_sipp_over_one_tcp_connection() -> Result<()> {
    default_scenarios(&["-t", "t1"])
}

#[test]
fn sipp_calls_sipp_over_a_tcp_connection_for_each_call() -> Result<()> {
    default_scenarios(&["-t", "tn"])
}

#[test]
fn a_call_is_held_and_resumed() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    for record in scenario(&lab, &daemon, "caller_hold.xml", "callee_hold.xml")? {
        assert_eq!((record.sip_status, record.ended_by), (200, EndedBy::Caller));
        let ladder = daemon.ask::<CallDetail>(&["call", &record.call])?.ladder;
        let media = ladder.iter().filter(|rung| rung.text.starts_with("media "));
        let media: Vec<&str> = media.map(|rung| rung.text.as_str()).collect();
        assert_eq!(media, ["media PCMA/8000", "media PCMA/8000, on hold", "media PCMA/8000"]);
    }
    Ok(())
}

#[test]
fn a_caller_who_hangs_up_while_it_rings_cancels_the_callee() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    for record in scenario(&lab, &daemon, "caller_cancel.xml", "callee_cancel.xml")? {
        assert_eq!((record.sip_status, record.ended_by), (487, EndedBy::Caller));
        assert_eq!(record.fault.as_deref(), Some("cancelled"));
        assert_eq!((record.answered_at, record.duration_ms), (None, 0));
    }
    Ok(())
}

#[test]
fn a_busy_callee_is_told_as_busy() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    for record in scenario(&lab, &daemon, "caller_busy.xml", "callee_busy.xml")? {
        // Q.850: user busy.
        assert_eq!((record.sip_status, record.cause, record.ended_by), (486, 17, EndedBy::Callee));
        assert_eq!(record.peers_tried, 1);
    }
    Ok(())
}

#[test]
fn a_peer_that_is_out_of_service_leaves_the_call_to_the_next() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TWO_PEERS)?;
    let unavailable = Sipp::callee(&lab, "callee_unavailable.xml", 5060, &["-m", "5"])?;
    let available = Sipp::callee(&lab, "uas", 5061, &["-m", "5"])?;
    let caller = Sipp::caller(&lab, "uac", &["-m", "5"])?;
    assert_eq!(caller.finish()?.successful, 5);
    assert_eq!(unavailable.finish()?.successful, 5);
    assert_eq!(available.finish()?.successful, 5);
    answered_by_the_second(&daemon.records(5)?);
    Ok(())
}

#[test]
fn a_peer_that_does_not_answer_leaves_the_call_to_the_next() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TWO_PEERS)?;
    // Bound and never read: no answer, and no ICMP error either.
    let _silent = lab.on(Host::Callee, || Ok(std::net::UdpSocket::bind("10.81.2.2:5060")?))?;
    let available = Sipp::callee(&lab, "uas", 5061, &["-m", "5"])?;
    let caller = Sipp::caller(&lab, "uac", &["-m", "5"])?;
    assert_eq!(caller.finish()?.successful, 5);
    assert_eq!(available.finish()?.successful, 5);
    answered_by_the_second(&daemon.records(5)?);
    Ok(())
}

#[test]
fn a_peer_whose_port_is_closed_leaves_the_call_to_the_next() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TWO_PEERS)?;
    let available = Sipp::callee(&lab, "uas", 5061, &["-m", "5"])?;
    let caller = Sipp::caller(&lab, "uac", &["-m", "5"])?;
    assert_eq!(caller.finish()?.successful, 5);
    assert_eq!(available.finish()?.successful, 5);
    answered_by_the_second(&daemon.records(5)?);
    Ok(())
}

fn answered_by_the_second(records: &[CallRecord]) {
    for record in records {
        assert_eq!((record.sip_status, record.peers_tried), (200, 2));
        assert_eq!(record.peer.map(|peer| peer.port()), Some(5061));
    }
}

/// SIPp's own scenarios on both sides: every call succeeds, and every one is recorded.
fn default_scenarios(transport: &[&str]) -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let count = CALLS.to_string();
    let arguments = [&["-m", &count], transport].concat();
    let callee = Sipp::callee(&lab, "uas", 5060, &arguments)?;
    let caller =
        Sipp::caller(&lab, "uac", &[&arguments[..], &["-s", "0800", "-r", "20", "-d", "300"]].concat())?;
    assert_eq!(caller.finish()?.successful, CALLS as u64);
    assert_eq!(callee.finish()?.successful, CALLS as u64);
    let trunk = if transport[1] == "u1" { "service" } else { "service-tcp" };
    for record in daemon.records(CALLS)? {
        assert_eq!((record.sip_status, record.cause, record.ended_by), (200, 16, EndedBy::Caller));
        assert_eq!((record.caller.as_str(), record.called.as_str()), ("sipp", "0800"));
        assert_eq!(record.to_trunk.as_deref(), Some(trunk));
        assert_eq!(record.callee_codec.as_deref(), Some("PCMU/8000"));
        assert!(record.duration_ms >= 300, "{record:?}");
    }
    assert_eq!(daemon.status()?.calls, 0);
    Ok(())
}

/// Two of our scenarios against each other; each fails the call on a message that it does not expect.
fn scenario(lab: &Lab, daemon: &Daemon<'_>, caller: &str, callee: &str) -> Result<Vec<CallRecord>> {
    let callee = Sipp::callee(lab, callee, 5060, &["-m", "5"])?;
    let caller = Sipp::caller(lab, caller, &["-m", "5"])?;
    assert_eq!(caller.finish()?.successful, 5);
    assert_eq!(callee.finish()?.successful, 5);
    daemon.records(5)
}
