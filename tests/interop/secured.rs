//! Secured calls outlive the daemon that set them up, with another implementation of SRTP at the far end.

use anyhow::Result;
use gateway_common::flow::Punted;
use gateway_userspace::admin::answer::{Drops, FlowLine, FlowList};
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::srtp::Suite;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::lab::{Host, Lab};
use support::phone::{Phone, connect};
use support::stream::{PACKET_TIME, Streams, Tally};

const CALLS: u16 = 20;
/// RTP without a daemon, and with one before and after.
const WITHOUT: Duration = Duration::from_secs(5);
const WITH: Duration = Duration::from_secs(1);

/// A plain caller's trunk, and one to the callee that takes nothing but SRTP by this suite.
fn trunks(suite: Suite) -> String {
    format!(
        r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
peers = [{{ address = "10.81.1.2:5060" }}]

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{{ address = "10.81.2.2:5060" }}]
[trunk.media]
security = "required"
suites = ["{}"]

[[route]]
prefix = ""
from = "operator"
to = "service"
"#,
        suite.name()
    )
}

/// What became of calls under which the daemon was killed and started again.
struct Outcome {
    flows: Vec<FlowLine>,
    tally: Tally,
    drops: Vec<(String, u64)>,
    /// Who relayed, by the calls' records.
    relayed_by: Vec<Option<RelayPath>>,
    /// From the signal until the process was gone.
    dying: Duration,
}

/// Twenty calls whose callee takes this suite.
fn killed_under(suite: Suite) -> Result<Outcome> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, &trunks(suite))?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?.secured_by(suite);
    let mut calls = (0..CALLS)
        .map(|number| connect(&mut caller, &mut callee, 30_000 + 4 * number))
        .collect::<Result<Vec<_>>>()?;
    let keys = calls.iter().filter_map(|(_, to)| Some((to.media_port, to.keys.clone()?)));
    let keys: HashMap<_, _> = keys.collect();
    assert_eq!(keys.len(), usize::from(CALLS));
    let flows = daemon.ask::<FlowList>(&["flows", "--limit", "1000"])?.flows;
    let streams = Streams::start_secured(&lab, &flows, &keys)?;
    std::thread::sleep(WITH);
    let killed = Instant::now();
    daemon.kill()?;
    let dying = killed.elapsed();
    std::thread::sleep(WITHOUT);
    let daemon = daemon.restart()?;
    assert_eq!(daemon.status()?.calls, u64::from(CALLS));
    std::thread::sleep(WITH);
    let tally = streams.stop()?;
    let drops = daemon.ask::<Drops>(&["drops"])?.packets;
    let drops = drops.into_iter().map(|drop| (drop.reason, drop.count)).collect();
    for (from, to) in &mut calls {
        caller.hang_up(from)?;
        callee.be_hung_up(to)?;
    }
    let records = daemon.records(usize::from(CALLS))?;
    let relayed_by = records.iter().flat_map(|record| [&record.from_caller, &record.from_callee]);
    let relayed_by = relayed_by.map(|heard| heard.relayed_by).collect();
    Ok(Outcome { flows, tally, drops, relayed_by, dying })
}

// Statements 133, 137.
#[test]
fn calls_with_aes_cm_128_lose_no_packet_while_the_daemon_is_dead() -> Result<()> {
    let Outcome { flows, tally, drops, relayed_by, .. } = killed_under(Suite::AesCm128HmacSha1_80)?;
    assert!(flows.iter().all(|flow| flow.relayed_by == "kernel"), "{flows:?}");
    assert_eq!(drops, [], "{tally:?}");
    assert_eq!((tally.sent - tally.received, tally.repeated), (0, 0), "{tally:?}");
    assert_eq!(relayed_by, vec![Some(RelayPath::Kernel); tally.streams]);
    Ok(())
}

#[test]
fn calls_with_gcm_stop_with_the_daemon_and_go_on_with_the_next() -> Result<()> {
    let Outcome { flows, tally, drops, relayed_by, dying } = killed_under(Suite::AeadAes256Gcm)?;
    assert!(flows.iter().all(|flow| flow.relayed_by == "userspace (srtp_suite)"), "{flows:?}");
    assert_eq!(tally.repeated, 0, "{tally:?}");
    assert_eq!(relayed_by, vec![Some(RelayPath::Userspace(Punted::SrtpSuite)); tally.streams]);
    let [(reason, nobody_listened)] = <[_; 1]>::try_from(drops).expect("one reason");
    assert_eq!(reason, "no_socket", "{tally:?}");
    // Besides, the kernel still gives packets to sockets of a process that is dying and will not read them.
    let unread = tally.sent - tally.received - usize::try_from(nobody_listened)?;
    let given = tally.streams * (2 + dying.div_duration_f64(PACKET_TIME).ceil() as usize);
    assert!(
        unread <= given,
        "{unread} packets are missing, at most {given} were given to the dying: {tally:?}"
    );
    // Before the daemon died and after the next had come each was heard.
    assert!(tally.received >= tally.streams * 90, "{tally:?}");
    Ok(())
}
