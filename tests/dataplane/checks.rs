//! Connectivity checks with XDP attached: userspace answers them, and the kernel relays the media that they vouch for.

use crate::wires::{FAR, NEAR, Phone, Wires, plan, talk};
use crate::worker::{Protecting, Worker};
use anyhow::{Context, Result, ensure};
use gateway_common::admit::CHECKS_MAX;
use gateway_common::flow::{Latch, Punted};
use gateway_common::verdict::{Reason, Traffic};
use gateway_userspace::base::token::Tokens;
use gateway_userspace::dataplane::Node;
use gateway_userspace::ice::{Builder, Class, Credentials, Message, Mint, Peer, UnknownAttributes};
use gateway_userspace::media::plan::{ChecksSpec, FlowSpec, Fork, GateSpec, OutputSpec};
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::srtp::{MasterKey, Suite};
use support::checks::{Check, HOST_PRIORITY};

/// Another socket of the callee's.
const OTHER: &str = "198.51.100.9:5002";

fn credentials() -> Credentials {
    Mint::new(&mut Tokens::seeded(1)).credentials()
}

/// A call whose callee says by checks where it is.
fn checked() -> Vec<FlowSpec> {
    let mut flows = plan();
    let nobody = "0.0.0.0:0".parse().expect("an address");
    let output = flows[0].rtp.map(|output| OutputSpec { to: nobody, ..output });
    (flows[0].rtp, flows[0].rtcp) = (output, output);
    flows[1].gate = GateSpec::Exact(nobody);
    flows[1].latch = Latch::Signalled;
    let peer = Peer { ufrag: "them".parse().expect("a fragment"), candidates: Vec::new() };
    flows[1].checks = Some(ChecksSpec {
        local: credentials(),
        unknown: UnknownAttributes::Refuse,
        forks: vec![Fork { peer, unprotect: None }],
    });
    flows
}

/// Sends a check as a full agent does, and has it answered.
fn check(worker: &mut Worker, phone: &Phone, nominates: bool) -> Result<()> {
    check_of(worker, phone, nominates, HOST_PRIORITY)
}

/// The same, of a candidate of this priority.
fn check_of(worker: &mut Worker, phone: &Phone, nominates: bool, priority: u32) -> Result<()> {
    let local = credentials();
    phone.send(&Check { nominates, priority, ..Check::new(&local, "them") }.octets())?;
    worker.turn()?;
    let answer = phone.next()?;
    let answer = Message::parse(&answer)?;
    ensure!(answer.class == Class::Success && answer.is_protected_by(&local.password), "{answer:?}");
    Ok(())
}

// Statements 168, 173.
#[test]
fn the_kernel_relays_for_a_checked_source_and_for_no_other() -> Result<()> {
    for is_secured in [false, true] {
        let wires = Wires::new(&format!("checks{}", u8::from(is_secured)))?;
        let (mut caller, mut callee) = wires.phones()?;
        let node = Node::boot(&wires.settings())?;
        let mut worker = Worker::new(&node, 0, 1)?;
        let master = MasterKey::new(Suite::AesCm128HmacSha1_80, &[7; 30])?;
        let mut flows = checked();
        flows[1].unprotect = is_secured.then(|| master.clone());
        let ids = worker.dataplane.install(&flows)?;
        wires.resolved("192.0.2.10")?;

        caller.say()?;
        callee.say()?;
        callee.hears_nothing()?;
        caller.hears_nothing()?;
        let drops = node.drops()?;
        for reason in [Reason::NoDestination, Reason::SourceRefused] {
            ensure!(drops.get(&reason) == Some(&1), "{reason:?} in {drops:?}");
        }

        check(&mut worker, &callee, true)?;
        let mut protecting = is_secured.then(|| Protecting::with(&master));
        for sequence in 0..20 {
            let packet = caller.say()?;
            callee.hears(&packet, FAR)?;
            let packet = support::wire::Rtp { sequence, ..Default::default() }.octets();
            match &mut protecting {
                Some(protecting) => callee.send(&protecting.protected(&packet))?,
                None => callee.send(&packet)?,
            }
            caller.hears(&packet, NEAR)?;
        }
        let mut other = Phone::new(&wires.callee, OTHER, FAR)?;
        other.say()?;
        caller.hears_nothing()?;
        ensure!(node.drops()?.get(&Reason::SourceRefused) == Some(&2));
        let traffic = node.traffic()?;
        ensure!(traffic.get(&Traffic::Punted) == Some(&1), "only the check: {traffic:?}");
        let report = worker.dataplane.report(ids[1]).context("installed")?;
        ensure!((report.packets, report.path) == (20, RelayPath::Kernel), "{report:?}");
        node.detach()?;
    }
    Ok(())
}

#[test]
fn a_flood_of_checks_of_strangers_reaches_userspace_in_part_only_and_the_vouched_for_are_heard() -> Result<()>
{
    let wires = Wires::new("checkflood")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    worker.dataplane.install(&checked())?;
    wires.resolved("192.0.2.10")?;
    check(&mut worker, &callee, true)?;
    let other = Phone::new(&wires.callee, OTHER, FAR)?;
    let mut stun = Vec::new();
    Builder::new(&mut stun, Class::Request, [9; 12]).finish(None);
    // However slow this host is: a second has its number of checks, and this is not done in ten.
    for _ in 0..12 * CHECKS_MAX {
        other.send(&stun)?;
    }
    let drops = node.drops()?;
    ensure!(drops.get(&Reason::CheckRate).is_some_and(|count| *count > 0), "{drops:?}");
    worker.turn()?;
    check(&mut worker, &callee, false).context("of the far end that was vouched for")?;
    talk(&mut caller, &mut callee, 20)?;
    node.detach()?;
    Ok(())
}

// Statement 175.
#[test]
fn several_checked_sources_are_heard_by_userspace_until_one_is_nominated_and_the_kernels() -> Result<()> {
    let wires = Wires::new("several")?;
    let (mut caller, mut callee) = wires.phones()?;
    let mut other = Phone::new(&wires.callee, OTHER, FAR)?;
    let node = Node::boot(&wires.settings())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let ids = worker.dataplane.install(&checked())?;
    wires.resolved("192.0.2.10")?;
    check(&mut worker, &callee, false)?;
    ensure!(worker.dataplane.deadline().is_some(), "what is not nominated passes by itself");
    talk(&mut caller, &mut callee, 5)?;
    check(&mut worker, &other, false)?;
    for _ in 0..5 {
        for source in [&mut callee, &mut other] {
            let packet = source.say()?;
            worker.turn()?;
            caller.hears(&packet, NEAR)?;
        }
    }
    let report = worker.dataplane.report(ids[1]).context("installed")?;
    ensure!(report.path == RelayPath::Userspace(Punted::Checks), "{report:?}");
    let stranger = Phone::new(&wires.callee, "198.51.100.9:5004", FAR)?;
    stranger.send(&support::wire::Rtp::default().octets())?;
    worker.turn()?;
    caller.hears_nothing()?;

    check(&mut worker, &other, true)?;
    let punted = node.traffic()?.get(&Traffic::Punted).copied();
    for _ in 0..20 {
        let packet = other.say()?;
        caller.hears(&packet, NEAR)?;
        let packet = caller.say()?;
        other.hears(&packet, FAR)?;
    }
    callee.say()?;
    caller.hears_nothing()?;
    ensure!(node.traffic()?.get(&Traffic::Punted).copied() == punted, "all of it in the kernel");
    let report = worker.dataplane.report(ids[1]).context("installed")?;
    ensure!((report.path, report.refused) == (RelayPath::Kernel, 2), "{report:?}");
    ensure!(worker.dataplane.deadline().is_some(), "of the one that was not nominated");
    node.detach()?;
    Ok(())
}

// Statement 173.
#[test]
fn a_checked_call_outlives_its_daemon_and_the_next_one_answers_its_checks() -> Result<()> {
    let wires = Wires::new("checkadopt")?;
    let (mut caller, mut callee) = wires.phones()?;
    let settings = wires.settings();
    let node = Node::boot(&settings)?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let ids = worker.dataplane.install(&checked())?;
    wires.resolved("192.0.2.10")?;
    check(&mut worker, &callee, true)?;
    talk(&mut caller, &mut callee, 20)?;
    drop((worker, node));
    talk(&mut caller, &mut callee, 20).context("while no daemon runs")?;

    let mut node = Node::boot(&settings)?;
    node.sweep(&ids.iter().copied().collect())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    worker.dataplane.adopt(&ids, &checked())?;
    talk(&mut caller, &mut callee, 20).context("before the next check")?;
    check(&mut worker, &callee, false)?;
    talk(&mut caller, &mut callee, 20).context("after it")?;
    ensure!(worker.dataplane.deadline().is_none(), "nominated by the daemon before");
    let mut other = Phone::new(&wires.callee, OTHER, FAR)?;
    other.say()?;
    caller.hears_nothing()?;
    check_of(&mut worker, &other, true, HOST_PRIORITY + 1)?;
    talk(&mut caller, &mut other, 20).context("the far end moved")?;
    let report = worker.dataplane.report(ids[1]).context("adopted")?;
    ensure!((report.packets, report.lost, report.path) == (100, 0, RelayPath::Kernel), "{report:?}");
    node.detach()?;
    Ok(())
}
