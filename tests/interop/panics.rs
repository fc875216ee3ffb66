//! A panic inside one call, beside calls that go on.
#![cfg(debug_assertions)]

use anyhow::{Context, Result};
use gateway_userspace::admin::answer::{FlowLine, FlowList};
use std::time::Duration;
use support::daemon::{Daemon, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Phone, connect};
use support::stream::Streams;

const CALLS: u16 = 8;
/// RTP before and after the panic.
const AROUND: Duration = Duration::from_secs(1);

#[test]
fn a_panic_in_one_call_ends_that_call_and_costs_the_others_no_packet() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let port = |number: u16| 30_000 + 4 * number;
    let mut calls = (0..CALLS)
        .map(|number| connect(&mut caller, &mut callee, port(number)))
        .collect::<Result<Vec<_>>>()?;
    let list: FlowList = daemon.ask(&["flows", "--limit", "1000"])?;
    let goes_to = |flow: &&FlowLine| flow.to.is_some_and(|to| to.port() == port(0));
    let victim =
        list.flows.iter().find(goes_to).and_then(|flow| flow.call.clone()).context("the first call")?;
    let others: Vec<_> =
        list.flows.into_iter().filter(|flow| flow.call.as_deref() != Some(&*victim)).collect();

    let streams = Streams::start(&lab, &others)?;
    std::thread::sleep(AROUND);
    daemon.panic_in(&victim)?;
    let (from, to) = calls.remove(0);
    caller.be_hung_up(&from)?;
    callee.be_hung_up(&to)?;
    std::thread::sleep(AROUND);
    let tally = streams.stop()?;
    assert_eq!((tally.sent - tally.received, tally.repeated), (0, 0), "{tally:?}");
    assert!(tally.streams == 2 * calls.len() && tally.sent > tally.streams * 30, "{tally:?}");

    let told = daemon.log();
    let line = told.lines().find(|line| line.contains("a call panicked")).with_context(|| told.clone())?;
    assert!(line.contains(&victim) && line.contains("runtime/fuse.rs:"), "{line}");
    assert_eq!(daemon.metric("causeway_call_panics_total")?, 1);
    let record = daemon.records(1)?.remove(0);
    assert_eq!((record.call.to_string(), record.fault.as_deref()), (victim, Some("internal")));

    let status = daemon.status()?;
    assert_eq!((status.calls, status.cores.iter().all(|core| core.answers)), (calls.len() as u64, true));
    for (from, to) in &mut calls {
        caller.hang_up(from)?;
        callee.be_hung_up(to)?;
    }
    let records = daemon.records(usize::from(CALLS))?;
    assert_eq!(records.iter().filter(|record| record.fault.is_some()).count(), 1);
    assert_eq!((daemon.status()?.calls, daemon.status()?.flows), (0, 0));
    Ok(())
}
