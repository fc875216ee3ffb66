//! Bridges while the XDP program has the interfaces: what comes through AF_XDP is taken apart and made anew.

use crate::wires::{CALLEE, CALLER, FAR, NEAR, Wires, plan};
use crate::worker::{Protecting, Worker};
use anyhow::{Context, Result, ensure};
use gateway_common::flow::Punted;
use gateway_common::verdict::{Reason, Traffic};
use gateway_userspace::base::id::{FlowId, Side};
use gateway_userspace::codec::{Coding, g711};
use gateway_userspace::dataplane::{Node, Record, Settings};
use gateway_userspace::media::bridge::{JitterSettings, KeysFrom, KeysTo, LegSettings, Stream};
use gateway_userspace::media::plan::{BridgeSpec, Bridged, FlowSpec, PayloadType};
use gateway_userspace::observe::capture::Link;
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::srtp::{MasterKey, Suite, Unprotect};
use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::wire::Rtp;

const PCMU: u8 = 0;
const PCMA: u8 = 8;
/// Of G.711 in packets of 20 ms.
const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: usize = 160;
/// RTP header, and tag of AES_CM_128_HMAC_SHA1_80.
const HEADER: usize = 12;
const TAG: usize = 10;

fn leg(payload_type: u8, packet_ms: u32) -> Result<LegSettings> {
    let codec = if payload_type == PCMU { "PCMU/8000" } else { "PCMA/8000" };
    Ok(LegSettings {
        coding: Coding::of(&codec.parse()?, None)?,
        speech_from: [Some(payload_type), None],
        speech_to: payload_type,
        packet_ms,
        comfort_noise: None,
        events: None,
        keys_from: KeysFrom::Packets,
        keys_to: KeysTo::Signalling,
        stream: Stream::default(),
        jitter: JitterSettings::default(),
    })
}

/// What the gateway and the caller protect with: the caller's leg has SRTP that the program could compute.
struct Keys {
    from_caller: MasterKey,
    to_caller: MasterKey,
}

impl Keys {
    fn new() -> Result<Self> {
        let [from_caller, to_caller] =
            [1, 2].map(|octet| MasterKey::new(Suite::AesCm128HmacSha1_80, &[octet; 30]));
        Ok(Self { from_caller: from_caller?, to_caller: to_caller? })
    }

    /// A relayed call of one codec.
    fn relayed(&self) -> Vec<FlowSpec> {
        let mut flows = plan();
        flows[1].from = Side::Callee;
        for flow in &mut flows {
            flow.continuity = true;
            flow.payload_types = vec![PayloadType { near: PCMU, far: PCMU, event: false }];
        }
        flows[0].unprotect = Some(self.from_caller.clone());
        flows[1].protect = Some(self.to_caller.clone());
        flows
    }

    fn bridged(&self, why: Bridged, caller: LegSettings, callee: LegSettings) -> Vec<FlowSpec> {
        let mut flows = self.relayed();
        let types = [caller.speech_to, callee.speech_to];
        let spec = Arc::new(BridgeSpec { why, caller, callee });
        for (flow, near) in flows.iter_mut().zip(types) {
            flow.payload_types = vec![PayloadType { near, far: near, event: false }];
            flow.bridge = Some(Arc::clone(&spec));
        }
        flows
    }
}

/// An end that says one level of sound for ever, and keeps what it hears.
struct End {
    socket: UdpSocket,
    gateway: &'static str,
    payload_type: u8,
    code: u8,
    number: u16,
    protect: Option<Protecting>,
    unprotect: Option<Unprotect>,
    heard: Vec<Vec<u8>>,
}

impl End {
    fn say(&mut self) -> Result<()> {
        let Self { payload_type, code, number, .. } = *self;
        let timestamp = u32::from(number) * SAMPLES as u32;
        let body = vec![code; SAMPLES];
        let packet = Rtp { payload_type, sequence: number, timestamp, body, ..Rtp::default() }.octets();
        let packet = self.protect.as_mut().map_or(packet.clone(), |protect| protect.protected(&packet));
        self.number = number.wrapping_add(1);
        self.socket.send_to(&packet, self.gateway)?;
        Ok(())
    }

    /// All that came so far, unprotected.
    fn hear(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let mut packet = buffer[..length].to_vec();
            if let Some(unprotect) = &mut self.unprotect {
                let length = unprotect.rtp(&mut packet).context("what came is not protected as agreed")?;
                packet.truncate(length);
            }
            self.heard.push(packet);
        }
        Ok(())
    }

    /// One stream, none of it missing, repeated or out of order, of this payload type; and behind its first packets it is
    /// the other's sound in this coding.
    fn heard_well(&self, payload_type: u8, code: u8) -> Result<()> {
        for (index, pair) in self.heard.windows(2).enumerate() {
            let [before, after] = [&pair[0], &pair[1]];
            ensure!(number(after) == number(before).wrapping_add(1), "packet {index} is followed by another");
            ensure!(after[8..12] == before[8..12], "another SSRC after packet {index}");
            ensure!(after[1] & 0x7f == payload_type, "payload type {}", after[1] & 0x7f);
        }
        // A machine that is busy for longer than the jitter buffer holds has some of it made up.
        let sound = self.heard.get(10..).context("too little")?;
        let is_theirs = |packet: &&Vec<u8>| packet[HEADER..] == [code; SAMPLES];
        let theirs = sound.iter().filter(is_theirs).count();
        ensure!(theirs * 10 >= sound.len() * 9, "{theirs} packets of {}: {:?}", sound.len(), sound.last());
        Ok(())
    }
}

fn number(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

fn timestamp(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]])
}

fn ends(wires: &Wires, keys: &Keys) -> Result<[End; 2]> {
    let end = |at: &str, gateway, payload_type, code| -> Result<End> {
        let namespace = if at == CALLER { &wires.caller } else { &wires.callee };
        let socket = namespace.inside(|| Ok(UdpSocket::bind(at)?))?;
        socket.set_nonblocking(true)?;
        let (protect, unprotect, heard) = (None, None, Vec::new());
        Ok(End { socket, gateway, payload_type, code, number: 1, protect, unprotect, heard })
    };
    let mut caller = end(CALLER, NEAR, PCMU, 0x90)?;
    caller.protect = Some(Protecting::with(&keys.from_caller));
    caller.unprotect = Some(Unprotect::new(&keys.to_caller));
    Ok([caller, end(CALLEE, FAR, PCMA, 0xb5)?])
}

/// Both talk for so many packets.
fn talk(worker: &mut Worker, ends: &mut [End; 2], packets: u32) -> Result<()> {
    let begun = Instant::now();
    for index in 1..=packets {
        ends.iter_mut().try_for_each(End::say)?;
        while let left = (PACKET * index).saturating_sub(begun.elapsed())
            && !left.is_zero()
        {
            worker.turn_for(left)?;
        }
        ends.iter_mut().try_for_each(End::hear)?;
    }
    Ok(())
}

// Statement 153.
#[test]
fn a_bridge_carries_both_ways_over_af_xdp_protects_what_it_makes_and_is_made_anew_by_the_next_daemon()
-> Result<()> {
    let wires = Wires::new("bridge")?;
    let keys = Keys::new()?;
    let node = Node::boot(&wires.settings())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let flows = keys.bridged(Bridged::Codec, leg(PCMU, 20)?, leg(PCMA, 20)?);
    let ids = worker.dataplane.install(&flows)?;
    let [caller, callee] = ends(&wires, &keys)?;
    let codes = [
        g711::ulaw_of_linear(g711::linear_of_alaw(callee.code)),
        g711::alaw_of_linear(g711::linear_of_ulaw(caller.code)),
    ];
    let mut ends = [caller, callee];
    talk(&mut worker, &mut ends, 60)?;
    let well = |ends: &[End; 2]| -> Result<()> {
        ends[0].heard_well(PCMU, codes[0]).context("the caller")?;
        ends[1].heard_well(PCMA, codes[1]).context("the callee")
    };
    well(&ends)?;
    let before = ends.each_ref().map(|end| end.heard.len());
    ensure!(before.iter().all(|heard| (50..=61).contains(heard)), "{before:?}");
    for id in &ids {
        let report = worker.dataplane.report(*id).context("installed")?;
        ensure!(report.path == RelayPath::Userspace(Punted::Codec), "{report:?}");
        ensure!((report.lost, report.refused) == (0, 0), "{report:?}");
    }
    ensure!(node.drops()?.is_empty(), "{:?}", node.drops()?);

    drop((worker, node));
    ends.iter_mut().try_for_each(End::say)?;
    let mut node = Node::boot(&wires.settings())?;
    ensure!(node.drops()?.get(&Reason::NoSocket) == Some(&2), "{:?}", node.drops()?);
    ensure!(node.sweep(&ids.iter().copied().collect())?.is_empty());
    let mut worker = Worker::new(&node, 0, 1)?;
    worker.dataplane.adopt(&ids, &flows)?;
    ends.iter_mut().try_for_each(End::hear)?;
    let last = ends.each_ref().map(|end| end.heard.last().cloned().unwrap_or_default());
    talk(&mut worker, &mut ends, 40)?;
    for (end, last) in ends.iter_mut().zip(last) {
        let behind = end.heard.iter().position(|packet| *packet == last).context("heard before")? + 1;
        let first = end.heard.get(behind).context("nothing after the restart")?;
        ensure!(number(first) == number(&last).wrapping_add(1), "the stream does not go on");
        ensure!(timestamp(first).wrapping_sub(timestamp(&last)).cast_signed() > 0, "time went back");
        ensure!(first[8..12] == last[8..12], "another stream after the restart");
        end.heard.drain(..behind);
    }
    well(&ends).context("after the restart")?;
    ensure!(!node.drops()?.contains_key(&Reason::Replayed), "{:?}", node.drops()?);
    for report in worker.dataplane.remove(&ids) {
        ensure!(report.packets >= 90, "{report:?}");
        ensure!(report.path == RelayPath::Userspace(Punted::Codec), "the last word: {report:?}");
    }
    ensure!(worker.dataplane.deadline().is_none(), "a bridge outlives its call");
    Ok(node.detach()?)
}

#[test]
fn a_bridge_is_its_adopters_whosever_range_its_slots_are_in() -> Result<()> {
    let wires = Wires::new("bridge-workers")?;
    let keys = Keys::new()?;
    let node = Node::boot(&wires.settings())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let flows = keys.bridged(Bridged::Codec, leg(PCMU, 20)?, leg(PCMA, 20)?);
    let ids = worker.dataplane.install(&flows)?;
    drop((worker, node));
    let mut node = Node::boot(&wires.settings())?;
    ensure!(node.sweep(&ids.iter().copied().collect())?.is_empty());
    // Slots and receive queues are the first worker's, and the call's messages come to the second.
    let (mut first, mut second) = (Worker::new(&node, 0, 2)?, Worker::new(&node, 1, 2)?);
    second.dataplane.adopt(&ids, &flows)?;
    let mut ends = ends(&wires, &keys)?;
    for _ in 0..20 {
        ends.iter_mut().try_for_each(End::say)?;
        let begun = Instant::now();
        while begun.elapsed() < PACKET {
            first.turn_for(Duration::from_millis(1))?;
            second.turn_for(Duration::from_millis(1))?;
        }
        ends.iter_mut().try_for_each(End::hear)?;
    }
    for (end, payload_type) in ends.iter().zip([PCMU, PCMA]) {
        let made = end.heard.iter().filter(|packet| packet[1] & 0x7f == payload_type).count();
        ensure!(made >= 15 && made == end.heard.len(), "{made} of {} are of the bridge", end.heard.len());
    }
    Ok(node.detach()?)
}

#[test]
fn what_a_bridge_makes_is_captured_as_it_leaves() -> Result<()> {
    let wires = Wires::new("bridge-capture")?;
    let keys = Keys::new()?;
    let node = Node::boot(&wires.settings())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let flows = keys.bridged(Bridged::Codec, leg(PCMU, 20)?, leg(PCMA, 20)?);
    let ids = worker.dataplane.install(&flows)?;
    worker.dataplane.capture(&ids, Some(true))?;
    let mut ends = ends(&wires, &keys)?;
    talk(&mut worker, &mut ends, 20)?;
    let mut copies = HashMap::<(FlowId, bool), Vec<usize>>::new();
    for record in &worker.records {
        if let Record::Captured { flow, sent, link, length, .. } = record {
            ensure!(*link == Link::Ip);
            copies.entry((*flow, *sent)).or_default().push(*length as usize - 20 - 8);
        }
    }
    let plain = HEADER + SAMPLES;
    // By flow: what its peer sent, and what it led to the other.
    for (id, arrived, left) in [(ids[0], plain + TAG, plain), (ids[1], plain, plain + TAG)] {
        for (sent, length) in [(false, arrived), (true, left)] {
            let of_flow = copies.get(&(id, sent)).with_context(|| format!("{id:?}, sent: {sent}"))?;
            ensure!(of_flow.len() >= 15 && of_flow.iter().all(|one| *one == length), "{sent}: {of_flow:?}");
        }
    }
    Ok(node.detach()?)
}

#[test]
fn what_a_bridge_could_not_play_is_told_of_its_flow_even_when_the_bridge_has_gone() -> Result<()> {
    let wires = Wires::new("bridge-counts")?;
    let keys = Keys::new()?;
    let node = Node::boot(&wires.settings())?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let flows = keys.bridged(Bridged::Codec, leg(PCMU, 20)?, leg(PCMA, 20)?);
    let ids = worker.dataplane.install(&flows)?;
    let mut ends = ends(&wires, &keys)?;
    talk(&mut worker, &mut ends, 20)?;
    let report = |worker: &Worker, id| worker.dataplane.report(id).context("installed");
    let before = report(&worker, ids[1])?;
    ensure!(before.discarded == 0, "{before:?}");

    // What was played long ago comes once more, twice; and five packets never come.
    let next = std::mem::replace(&mut ends[1].number, 3);
    ends[1].say()?;
    ends[1].say()?;
    ends[1].number = next + 5;
    talk(&mut worker, &mut ends, 20)?;
    let after = report(&worker, ids[1])?;
    ensure!(after.discarded == 2, "{after:?}");
    ensure!(after.concealed_ms >= before.concealed_ms + 5 * 20, "{before:?} {after:?}");
    let other = report(&worker, ids[0])?;
    ensure!(other.discarded == 0, "of the other side: {other:?}");

    let ids = worker.dataplane.update(&ids, &keys.relayed())?.ids;
    let relayed = report(&worker, ids[1])?;
    ensure!(relayed.discarded == 2, "{relayed:?}");
    let last = worker.dataplane.remove(&ids);
    ensure!(last[1].discarded == 2 && last[1].concealed_ms >= after.concealed_ms, "{last:?}");
    // Another call in its place begins with nothing.
    let ids = worker.dataplane.install(&flows)?;
    ensure!(report(&worker, ids[1])?.discarded == 0);
    Ok(node.detach()?)
}

/// Levels that packets have by turns, so that each is known again in what is heard.
const LEVELS: u16 = 25;
/// What one end says in the test of moves.
const SAID: u16 = 360;
/// Between two moves.
const MOVE: Duration = Duration::from_millis(330);

fn level(number: u16) -> u8 {
    0x80 + 4 * (number % LEVELS) as u8
}

#[test]
fn a_call_that_moves_between_relay_and_bridges_loses_repeats_and_reorders_nothing() -> Result<()> {
    let wires = Wires::new("bridge-moves")?;
    let keys = Keys::new()?;
    let node = Node::boot(&Settings { socket_frames: 1024, ..wires.settings() })?;
    let mut worker = Worker::new(&node, 0, 1)?;
    let mut ids = worker.dataplane.install(&keys.relayed())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    let plans = [
        keys.bridged(Bridged::Keys, leg(PCMU, 20)?, leg(PCMU, 20)?),
        keys.bridged(Bridged::PacketTime, leg(PCMU, 20)?, leg(PCMU, 40)?),
        keys.relayed(),
    ];
    let (over, [caller, callee]) = (AtomicBool::new(false), ends(&wires, &keys)?);
    let callee = End { payload_type: PCMU, ..callee };
    let (moves, heard) = thread::scope(|scope| -> Result<_> {
        let talking = [caller, callee].map(|end| scope.spawn(|| tells(end, &over)));
        let (mut moves, mut moved) = (0, Instant::now());
        while !talking.iter().all(|end| end.is_finished()) {
            worker.turn_for(Duration::from_millis(1))?;
            if moved.elapsed() >= MOVE && !over.load(Ordering::Relaxed) {
                ids = worker.dataplane.update(&ids, &plans[moves % plans.len()])?.ids;
                moves += 1;
                moved = Instant::now();
            }
        }
        let ends = talking.map(|end| end.join().expect("talking does not panic"));
        let [caller, callee] = ends;
        Ok((moves, [caller?.heard, callee?.heard]))
    })?;
    ensure!(moves >= 15, "{moves} moves");
    for (heard, who) in heard.iter().zip(["caller", "callee"]) {
        unbroken(heard).with_context(|| format!("what the {who} heard"))?;
    }
    ensure!(node.drops()?.is_empty(), "{:?}", node.drops()?);
    let punted = node.traffic()?.get(&Traffic::Punted).copied().unwrap_or(0);
    let said = 2 * u64::from(SAID);
    ensure!(punted > said / 3 && punted < said * 9 / 10, "{punted} of {said} came to userspace");
    Ok(node.detach()?)
}

/// Says [`SAID`] packets, and hears what comes until a while later.
fn tells(mut end: End, over: &AtomicBool) -> Result<End> {
    let begun = Instant::now();
    for index in 1..=u32::from(SAID) {
        end.code = level(end.number);
        end.say()?;
        thread::sleep((PACKET * index).saturating_sub(begun.elapsed()));
        end.hear()?;
    }
    over.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        thread::sleep(PACKET);
        end.hear()?;
    }
    Ok(end)
}

/// One stream without a gap, in whose sound every packet that was said is found again in order.
fn unbroken(heard: &[Vec<u8>]) -> Result<()> {
    for (index, pair) in heard.windows(2).enumerate() {
        let [before, after] = [&pair[0], &pair[1]];
        let (one, two) = (number(before), number(after));
        ensure!(two == one.wrapping_add(1), "{two} behind {one} at {index} of {}", heard.len());
        ensure!(after[8..12] == before[8..12], "another SSRC after packet {index}");
        let passed = timestamp(after).wrapping_sub(timestamp(before)).cast_signed();
        ensure!(passed > 0, "time went back by {passed} at {index}");
    }
    let samples: Vec<u8> = heard.iter().flat_map(|packet| packet[HEADER..].to_vec()).collect();
    let mut runs = samples.chunk_by(|one, other| one == other).filter(|run| run.len() >= SAMPLES / 4);
    for said in 1..=SAID {
        runs.find(|run| run[0] == level(said)).with_context(|| format!("packet {said} is not in it"))?;
    }
    Ok(())
}
