//! Transfers between baresip phones: who remains hears whom, after a blind one and after one that was announced.

use anyhow::{Context, Result};
use support::baresip::{Baresip, Setup};
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::Phone;
use support::process::until;

const ALICES_TONE: f64 = 440.0;
const BOBS_TONE: f64 = 1000.0;
const AGENTS_TONE: f64 = 1600.0;

/// Numbers that begin with 7 are an agent's, who stands on this host beside other phones.
fn agents(host: Host) -> String {
    let side = if host == Host::Caller { 1 } else { 2 };
    format!(
        "[[trunk]]\nname = \"agents\"\nlisten = \"udp:10.81.{side}.1:5070\"\n\
         peers = [{{ address = \"10.81.{side}.2:5070\" }}]\n[[route]]\nprefix = \"7\"\nto = \"agents\"\n"
    )
}

fn bob(lab: &Lab) -> Result<Baresip<'_>> {
    Baresip::start(lab, Setup::new(Host::Callee, "bob", BOBS_TONE))
}

fn agent(lab: &Lab, host: Host) -> Result<Baresip<'_>> {
    Baresip::start(lab, Setup { port: 5070, ..Setup::new(host, "700", AGENTS_TONE) })
}

// Statements 114, 119, 122.
#[test]
fn who_is_transferred_and_the_target_hear_each_other() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &format!("{TRUNKS}{}", agents(Host::Callee)))?;
    let (bob, agent) = (bob(&lab)?, agent(&lab, Host::Callee)?);
    let dials = Some("sip:bob@10.81.1.1");
    let alice = Baresip::start(&lab, Setup { dials, ..Setup::new(Host::Caller, "alice", ALICES_TONE) })?;
    alice.hears_tone(BOBS_TONE)?;
    bob.command("transfer sip:700@10.81.2.1")?;
    alice.hears_tone(AGENTS_TONE)?;
    agent.hears_tone(ALICES_TONE)?;
    alice.hang_up()?;
    bob.hang_up()?;
    let records = daemon.records(1)?;
    let legs: Vec<_> = records[0].legs.iter().map(|leg| leg.trunk.as_str()).collect();
    assert_eq!(legs, ["service", "operator", "agents"], "{records:#?}");
    assert_eq!(records[0].fast_path_share, Some(1.0));
    assert_eq!(daemon.metric("causeway_transfers_total")?, 1);
    Ok(())
}

#[test]
fn an_announced_transfer_leaves_two_who_hear_each_other() -> Result<()> {
    announced(Host::Caller)
}

/// Their media comes in by one interface and leaves by the same.
#[test]
fn an_announced_transfer_leaves_two_on_one_host_who_hear_each_other() -> Result<()> {
    announced(Host::Callee)
}

/// Alice talks to Bob and to an agent on `host`, and brings the two together.
fn announced(host: Host) -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &format!("{TRUNKS}{}", agents(host)))?;
    let mut alice = Phone::new(&lab, Host::Caller)?;
    let (bob, agent) = (bob(&lab)?, agent(&lab, host)?);
    let mut first = alice.invite("bob", 4_000)?;
    alice.be_answered(&mut first)?;
    let mut second = alice.invite("700", 4_010)?;
    alice.be_answered(&mut second)?;
    // The two calls may live on two cores.
    alice.refer(&mut second, &format!("<sip:bob@10.81.1.1?{}>", first.replaces()))?;
    alice.be_hung_up(&first)?;
    agent.hears_tone(BOBS_TONE)?;
    bob.hears_tone(AGENTS_TONE)?;
    alice.hang_up(&mut second)?;
    until(SOON, || Ok((daemon.status()?.calls == 1).then_some(()))).context("one call is left")?;
    bob.hang_up()?;
    agent.hang_up()?;
    daemon.records(2)?;
    Ok(())
}
