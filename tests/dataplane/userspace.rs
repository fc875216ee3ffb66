//! Flows that userspace relays while the XDP program has the interfaces: what the program hands over, what becomes of it,
//! and how calls move between the two.

use crate::lab::{LAN, Lab, WAN};
use crate::row::{answer, call, packet};
use crate::wires::{CALLEE, CALLER, FAR, NEAR, Phone, Wires, plan};
use crate::worker::{Protecting, Worker};
use ::object::read::File;
use ::object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use anyhow::{Context, Result, ensure};
use gateway_common::flow::Punted;
use gateway_common::verdict::{Reason, Traffic};
use gateway_userspace::dataplane::reference::frame::Verdict;
use gateway_userspace::dataplane::{Mode, Node, Settings, object};
use gateway_userspace::media::plan::{FlowSpec, GateSpec, RateLimit};
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::srtp::{MasterKey, Suite, Unprotect};
use mio::Poll;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};
use support::namespace::Namespace;
use support::wire::Rtp;

/// Packets of one way in the test of moves.
const NUMBERED: u16 = 12_000;
/// Between two packets, and between two moves.
const PACE: Duration = Duration::from_millis(1);
const MOVE: Duration = Duration::from_millis(150);

fn in_userspace(mut flows: Vec<FlowSpec>) -> Vec<FlowSpec> {
    flows.iter_mut().for_each(|flow| flow.userspace = Some(Punted::Policy));
    flows
}

#[test]
fn the_program_hands_over_what_gate_and_rate_let_in_and_drops_it_where_nobody_listens() -> Result<()> {
    let mut lab = Lab::new("punt")?;
    let mut flows = in_userspace(call());
    flows[0].gate = GateSpec::Exact("192.0.2.10:4000".parse()?);
    lab.install(&flows)?;
    ensure!(lab.relay(LAN, &packet().octets())?.verdict == Verdict::Drop(Reason::NoSocket));

    let poll = Poll::new()?;
    lab.dataplane.register(poll.registry(), 1000..1100)?;
    [LAN, WAN].into_iter().for_each(|ifindex| lab.relay.listen(ifindex));
    ensure!(lab.relay(LAN, &packet().octets())?.verdict == Verdict::Punt);
    ensure!(lab.relay(WAN, &answer().octets())?.verdict == Verdict::Punt);
    let stranger = support::wire::Frame { from: "192.0.2.10:4002".parse()?, ..packet() };
    ensure!(lab.relay(LAN, &stranger.octets())?.verdict == Verdict::Drop(Reason::SourceRefused));
    // What the payload is does not interest the program: the engine refuses it.
    let nothing = support::wire::Frame { payload: vec![0; 3], ..packet() };
    ensure!(lab.relay(LAN, &nothing.octets())?.verdict == Verdict::Punt);
    // Back in the kernel at once where no packet of the flow is under way: none was handed over for real.
    lab.install(&call())?;
    ensure!(matches!(lab.relay(LAN, &packet().octets())?.verdict, Verdict::Redirect(WAN, _)));
    Ok(())
}

#[test]
fn a_call_in_userspace_is_relayed_by_the_same_rules_in_either_mode_of_xdp() -> Result<()> {
    for (name, mode) in [("punted", Mode::Native), ("puntskb", Mode::Generic)] {
        let wires = Wires::new(name)?;
        let (mut caller, mut callee) = wires.phones()?;
        let node = Node::boot(&Settings { mode, ..wires.settings() })?;
        let mut worker = Worker::new(&node, 0, 1)?;
        let mut flows = in_userspace(plan());
        flows[0].gate = GateSpec::Exact(CALLER.parse()?);
        flows[1].rate = Some(RateLimit { packets_per_second: 1, burst: 25 });
        let ids = worker.dataplane.install(&flows)?;
        for _ in 0..20 {
            let packet = caller.say()?;
            worker.turn()?;
            callee.hears(&packet, FAR).with_context(|| format!("{mode:?}"))?;
            let packet = callee.say()?;
            worker.turn()?;
            caller.hears(&packet, NEAR).with_context(|| format!("{mode:?}"))?;
        }
        let report = worker.dataplane.report(ids[0]).context("installed")?;
        ensure!((report.packets, report.lost, report.refused) == (20, 0, 0), "{report:?}");
        ensure!(report.path == RelayPath::Userspace(Punted::Policy), "{report:?}");
        ensure!(report.source == Some(CALLER.parse()?), "{report:?}");

        let mut stranger = Phone::new(&wires.caller, "192.0.2.10:4666", NEAR)?;
        stranger.say()?;
        for _ in 0..10 {
            callee.say()?;
        }
        worker.turn()?;
        callee.hears_nothing()?;
        let drops = node.drops()?;
        ensure!(drops.get(&Reason::SourceRefused) == Some(&1), "{drops:?}");
        ensure!(drops.get(&Reason::RateLimited).is_some_and(|count| *count >= 4), "{drops:?}");
        ensure!(node.traffic()?.get(&Traffic::Punted).is_some_and(|count| *count >= 40));
        node.detach()?;
    }
    Ok(())
}

#[test]
fn packets_of_another_workers_flow_take_one_hop() -> Result<()> {
    let wires = Wires::new("hop")?;
    let (mut caller, callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    // Each wire has one queue, and that is the first worker's.
    let (mut first, mut second) = (Worker::new(&node, 0, 2)?, Worker::new(&node, 1, 2)?);
    let ids = second.dataplane.install(&in_userspace(plan()))?;
    for _ in 0..20 {
        let packet = caller.say()?;
        first.turn()?;
        second.turn()?;
        callee.hears(&packet, FAR)?;
    }
    let report = second.dataplane.report(ids[0]).context("installed")?;
    ensure!((report.packets, report.refused) == (20, 0), "{report:?}");
    node.detach()?;
    Ok(())
}

#[test]
fn a_packet_under_way_to_another_worker_is_not_overtaken_by_those_of_the_kernel() -> Result<()> {
    let wires = Wires::new("late")?;
    let (mut caller, callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let (mut first, mut second) = (Worker::new(&node, 0, 2)?, Worker::new(&node, 1, 2)?);
    let ids = second.dataplane.install(&in_userspace(plan()))?;
    // The way to the callee is known behind the first.
    for _ in 0..2 {
        let packet = caller.say()?;
        first.turn()?;
        second.turn()?;
        callee.hears(&packet, FAR)?;
    }
    let under_way = caller.say()?;
    second.dataplane.update(&ids, &plan())?;
    let behind = caller.say()?;
    callee.hears_nothing().context("overtaken")?;
    first.turn()?;
    second.turn()?;
    callee.hears(&under_way, FAR)?;
    callee.hears(&behind, FAR)?;
    // Nobody but the kernel is asked from here on.
    let packet = caller.say()?;
    callee.hears(&packet, FAR)?;
    node.detach()?;
    Ok(())
}

// Statements 133, 137.
#[test]
fn suites_that_the_kernel_does_not_know_go_through_userspace_and_their_counters_outlive_the_daemon()
-> Result<()> {
    let suites =
        [Suite::AeadAes128Gcm, Suite::AeadAes256Gcm, Suite::Aes256CmHmacSha1_80, Suite::AesCm128HmacSha1_80];
    for (index, suite) in suites.into_iter().enumerate() {
        let wires = Wires::new(&format!("suite{index}"))?;
        let node = Node::boot(&wires.settings())?;
        let mut worker = Worker::new(&node, 0, 1)?;
        let keys = [1, 2].map(|octet| {
            let master: Vec<u8> = (0..suite.master_len() as u8).map(|index| index ^ octet).collect();
            MasterKey::new(suite, &master).expect("as long as the suite says")
        });
        let mut flows = plan();
        (flows[0].unprotect, flows[1].protect) = (Some(keys[0].clone()), Some(keys[1].clone()));
        if suite == Suite::AesCm128HmacSha1_80 {
            flows = in_userspace(flows);
        }
        let ids = worker.dataplane.install(&flows)?;
        let why = if index == 3 { Punted::Policy } else { Punted::SrtpSuite };
        let report = worker.dataplane.report(ids[0]).context("installed")?;
        ensure!(report.path == RelayPath::Userspace(why), "{report:?}");
        let mut ends = Ends::new(&wires, &keys)?;
        // Over a turn of the sequence numbers.
        (65_530..65_540).try_for_each(|number| ends.talk(&mut worker, number)).context(suite.name())?;

        drop((worker, node));
        ends.caller.send_to(&ends.protect.protected(&rtp(5)), NEAR)?;
        ensure!(is_silent(&ends.callee)?, "somebody relayed while nobody was there");
        let mut node = Node::boot(&wires.settings())?;
        let refused = node.drops()?;
        ensure!(refused.get(&Reason::NoSocket) == Some(&1), "{refused:?}");
        let swept = node.sweep(&ids.iter().copied().collect())?;
        ensure!(swept.is_empty(), "{swept:?}");
        let mut worker = Worker::new(&node, 0, 1)?;
        worker.dataplane.adopt(&ids, &flows)?;
        (65_542..65_552)
            .try_for_each(|number| ends.talk(&mut worker, number))
            .with_context(|| format!("{} after the restart", suite.name()))?;
        // The new daemon knows what the old one has heard.
        ends.caller.send_to(&ends.last, NEAR)?;
        worker.turn()?;
        let drops = node.drops()?;
        ensure!(drops.get(&Reason::Replayed) == Some(&1), "{drops:?}");
        let report = worker.dataplane.report(ids[0]).context("adopted")?;
        ensure!((report.packets, report.refused) == (20, 2), "{report:?}");
        node.detach()?;
    }
    Ok(())
}

/// The object with programs that begin with `exit`: no verifier lets one return what was never written.
fn without(programs: &[&str]) -> Result<Vec<u8>> {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut octets = object::OBJECT.to_vec();
    for program in programs {
        let file = File::parse(object::OBJECT)?;
        let symbol = file.symbols().find(|symbol| symbol.name() == Ok(program)).context("no such program")?;
        let section = file.section_by_index(symbol.section_index().context("undefined")?)?;
        let at = (section.file_range().context("nothing in the file")?.0 + symbol.address()) as usize;
        octets.get_mut(at..at + EXIT.len()).context("outside the file")?.copy_from_slice(&EXIT);
    }
    Ok(octets)
}

#[test]
fn where_the_kernel_refuses_the_programs_for_srtp_userspace_computes_it_until_a_kernel_takes_them()
-> Result<()> {
    let wires = Wires::new("refused")?;
    let object = without(&["causeway_open", "causeway_seal"])?;
    let node = Node::boot_object(&wires.settings(), &object)?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let keys = [1, 2].map(|octet| {
        MasterKey::new(Suite::AesCm128HmacSha1_80, &[octet; 30]).expect("as long as the suite says")
    });
    let mut flows = plan();
    (flows[0].unprotect, flows[1].protect) = (Some(keys[0].clone()), Some(keys[1].clone()));
    let ids = worker.dataplane.install(&flows)?;
    let path = |worker: &Worker| -> Result<RelayPath> {
        Ok(worker.dataplane.report(ids[0]).context("installed")?.path)
    };
    let refused = RelayPath::Userspace(Punted::KernelWithoutSrtp);
    ensure!(path(&worker)? == refused, "{:?}", path(&worker)?);
    let mut ends = Ends::new(&wires, &keys)?;
    (65_530..65_540).try_for_each(|number| ends.talk(&mut worker, number))?;

    drop((worker, node));
    let mut node = Node::boot(&wires.settings())?;
    let swept = node.sweep(&ids.iter().copied().collect())?;
    ensure!(swept.is_empty(), "{swept:?}");
    let mut worker = Worker::new(&node, 0, 1)?;
    worker.dataplane.adopt(&ids, &flows)?;
    // The kernel's from behind the first packet on.
    let mut turn = || worker.turn_for(Duration::from_millis(20)).map(drop);
    (65_540..65_550)
        .try_for_each(|number| ends.talk_past(number, &mut turn))
        .context("under the next daemon")?;
    ensure!(path(&worker)? == RelayPath::Kernel, "{:?}", path(&worker)?);
    // A repeat is one for the program too.
    ends.caller.send_to(&ends.last, NEAR)?;
    ensure!(is_silent(&ends.callee)?, "a packet came twice");
    ensure!(node.drops()?.get(&Reason::Replayed) == Some(&1), "{:?}", node.drops()?);
    node.detach()?;
    Ok(())
}

fn rtp(number: u32) -> Vec<u8> {
    Rtp { sequence: number as u16, timestamp: number * 160, ..Rtp::default() }.octets()
}

fn is_silent(socket: &UdpSocket) -> Result<bool> {
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    Ok(socket.recv(&mut [0; 2048]).is_err())
}

/// A caller who protects, and a callee who does not.
struct Ends {
    caller: UdpSocket,
    callee: UdpSocket,
    protect: Protecting,
    unprotect: Unprotect,
    /// What the caller said last, as it was on the wire.
    last: Vec<u8>,
}

impl Ends {
    fn new(wires: &Wires, keys: &[MasterKey; 2]) -> Result<Self> {
        let bound = |namespace: &Namespace, at: &str| namespace.inside(|| Ok(UdpSocket::bind(at)?));
        Ok(Self {
            caller: bound(&wires.caller, CALLER)?,
            callee: bound(&wires.callee, CALLEE)?,
            protect: Protecting::with(&keys[0]),
            unprotect: Unprotect::new(&keys[1]),
            last: Vec::new(),
        })
    }

    /// Both say a packet of this number, and the callee a report.
    fn talk(&mut self, worker: &mut Worker, number: u32) -> Result<()> {
        self.talk_past(number, || worker.turn())
    }

    /// The same past whoever takes a `turn` behind each packet.
    fn talk_past(&mut self, number: u32, mut turn: impl FnMut() -> Result<()>) -> Result<()> {
        self.last = self.protect.protected(&rtp(number));
        self.caller.send_to(&self.last, NEAR)?;
        turn()?;
        ensure!(heard(&self.callee)? == rtp(number), "{number} to the callee");
        self.callee.send_to(&rtp(number), FAR)?;
        turn()?;
        let mut wire = heard(&self.caller)?;
        let length = self.unprotect.rtp(&mut wire).with_context(|| format!("{number} to the caller"))?;
        ensure!(wire[..length] == rtp(number), "{number} to the caller");
        let report = support::wire::rtcp(0, 201, &[0x1111_1111]);
        self.callee.send_to(&report, FAR)?;
        turn()?;
        let mut wire = heard(&self.caller)?;
        let length = self.unprotect.rtcp(&mut wire).with_context(|| format!("report {number}"))?;
        ensure!(wire[..length] == report, "report {number}");
        Ok(())
    }
}

fn heard(socket: &UdpSocket) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).context("nothing came")?;
    Ok(buffer[..length].to_vec())
}

#[test]
fn a_call_that_moves_between_kernel_and_userspace_loses_repeats_and_reorders_nothing() -> Result<()> {
    let wires = Wires::new("moves")?;
    let [caller, callee] = [(&wires.caller, CALLER), (&wires.callee, CALLEE)]
        .map(|(namespace, at)| namespace.inside(|| Ok(UdpSocket::bind(at)?)));
    let (caller, callee) = (caller?, callee?);
    // Room for what comes while the worker waits for its turn on a busy machine.
    let node = Node::boot(&Settings { socket_frames: 1024, ..wires.settings() })?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let mut ids = worker.dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;

    let moves = thread::scope(|scope| -> Result<u32> {
        let ends = [(&caller, NEAR), (&callee, FAR)];
        let saying = ends.map(|(socket, to)| scope.spawn(move || says(socket, to)));
        let hearing = ends.map(|(socket, from)| scope.spawn(move || hears(socket, from)));
        let (mut moves, mut moved) = (0, Instant::now());
        while !hearing.iter().all(|end| end.is_finished()) {
            worker.turn_for(PACE)?;
            if moved.elapsed() >= MOVE {
                moves += 1;
                let flows = if moves % 2 == 1 { in_userspace(plan()) } else { plan() };
                ids = worker.dataplane.update(&ids, &flows)?.ids;
                moved = Instant::now();
            }
        }
        for end in saying {
            end.join().expect("saying does not panic")?;
        }
        for end in hearing {
            end.join().expect("hearing does not panic")?;
        }
        Ok(moves)
    })?;
    ensure!(moves >= 20, "{moves} moves");
    for id in &ids {
        let report = worker.dataplane.report(*id).context("installed")?;
        let figures = (report.packets, report.lost, report.late, report.refused);
        ensure!(figures == (NUMBERED.into(), 0, 0, 0), "{report:?}");
    }
    let punted = node.traffic()?.get(&Traffic::Punted).copied().unwrap_or(0);
    let relayed = 2 * u64::from(NUMBERED);
    ensure!(punted > relayed / 4 && punted < relayed * 3 / 4, "{punted} of {relayed} came to userspace");
    node.detach()?;
    Ok(())
}

#[test]
fn a_flow_without_a_packet_under_way_is_the_kernels_at_once() -> Result<()> {
    let wires = Wires::new("silent")?;
    let node = Node::boot(&Settings { socket_frames: 1024, ..wires.settings() })?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let ids = worker.dataplane.install(&in_userspace(plan()))?;
    for id in worker.dataplane.update(&ids, &plan())?.ids {
        let report = worker.dataplane.report(id).context("installed")?;
        ensure!(report.path == RelayPath::Kernel, "{report:?}");
    }
    node.detach()?;
    Ok(())
}

fn says(socket: &UdpSocket, to: &str) -> Result<()> {
    let begun = Instant::now();
    for sequence in 1..=NUMBERED {
        let packet = Rtp { sequence, timestamp: u32::from(sequence) * 160, ..Rtp::default() }.octets();
        socket.send_to(&packet, to)?;
        thread::sleep((PACE * u32::from(sequence)).saturating_sub(begun.elapsed()));
    }
    Ok(())
}

fn hears(socket: &UdpSocket, from: &str) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 2048];
    for expected in 1..=NUMBERED {
        let (_, source) =
            socket.recv_from(&mut buffer).with_context(|| format!("packet {expected} never came"))?;
        let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
        ensure!(sequence == expected, "packet {sequence} came where {expected} was due");
        ensure!(source.to_string() == from, "from {source}");
    }
    Ok(())
}
