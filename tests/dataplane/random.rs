//! A hundred thousand packets from a fixed seed, most of them damaged: the kernel and the reference path must
//! agree on each.

use crate::lab::{LAN, Lab, WAN};
use crate::row::{flow, output};
use gateway_common::flow::{FlowKind, Latch, Punted};
use gateway_userspace::base::token::Tokens;
use gateway_userspace::dataplane::reference::frame::Verdict;
use gateway_userspace::ice::{Mint, UnknownAttributes};
use gateway_userspace::media::plan::{ChecksSpec, FlowSpec, GateSpec, OutputSpec, RateLimit};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use support::wire::{Checksum, Frame, Rtp, SERVICE_VLAN, VLAN, rtcp, telephone_event};

const SEED: u64 = 0x0ca0_5e3a;
const PACKETS: usize = 100_000;
/// Counters and records are compared after so many packets.
const COUNTED_EVERY: usize = 50;
/// Shortest frame that a test-run takes: an Ethernet header.
const FRAME_MIN: usize = 14;

#[test]
fn a_hundred_thousand_random_packets_find_both_relays_agreed() {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut lab = Lab::new("random").expect("the lab comes up");
    let flows = flows();
    lab.install(&flows).expect("the flows fit");
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for index in 0..PACKETS {
        let ingress = if random.random_bool(0.5) { LAN } else { WAN };
        let frame = packet(&mut random, &flows);
        let verdict = lab.relay_only(ingress, &frame).and_then(|verdict| {
            if index % COUNTED_EVERY == 0 {
                lab.agree_on_counters()?;
                lab.agree_on_records()?;
            }
            Ok(verdict)
        });
        match verdict {
            Ok(verdict) => *verdicts.entry(label(&verdict)).or_default() += 1,
            Err(error) => {
                panic!("packet {index}, by interface {ingress}: {}\n{error:#}", crate::lab::hex(&frame))
            }
        }
    }
    lab.agree_on_counters().expect("counters agree at the end");
    lab.agree_on_records().expect("records agree at the end");
    println!("{verdicts:?}");
    // A generator that no longer reaches a kind of outcome proves nothing about it.
    for (kind, least) in [("pass", 1000), ("transmit", 8_000), ("redirect", 8_000), ("no_socket", 1000)] {
        assert!(verdicts.get(kind).is_some_and(|count| *count > least), "{kind} in {verdicts:?}");
    }
    assert!(verdicts.len() >= 20, "{verdicts:?}");
}

/// What became of a frame, in a word.
pub fn label(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop(reason) => reason.label(),
        Verdict::Transmit(_) => "transmit",
        Verdict::Redirect(..) => "redirect",
        Verdict::Punt => "punt",
    }
}

/// The flow that carries fax.
const FAX: usize = 11;
/// Flows among whose media connectivity checks arrive; closed to all else, as none comes to an agent here. No other
/// flow learns from them.
const CHECKED: [usize; 3] = [2, 14, 20];

/// Flows of every kind, gate, latch and way out.
pub fn flows() -> Vec<FlowSpec> {
    let outputs = [
        ("198.51.100.1:40000", "203.0.113.9:5000"),
        ("192.0.2.1:40002", "192.0.2.11:5002"),
        ("[2001:db8:2::1]:40004", "[2001:db8:f::9]:5004"),
        ("10.100.0.1:40006", "10.100.0.10:5006"),
        ("[2001:db8:200::1]:40008", "[2001:db8:200::10]:5008"),
        ("10.200.0.1:40010", "10.200.0.10:5010"),
        ("198.51.100.1:40012", "203.0.114.9:5012"),
        ("198.51.100.1:40014", "192.0.2.77:5014"),
    ];
    let kinds = |index: usize| match (index, index % 8) {
        (FAX, _) => FlowKind::Udptl,
        (_, 3) => FlowKind::Rtp,
        (_, 7) => FlowKind::Rtcp,
        _ => FlowKind::Mux,
    };
    let userspace = |index: usize| match index {
        FAX => Some(Punted::Udptl),
        index => (index % 12 == 11).then_some(Punted::Policy),
    };
    let checks = |index: usize| {
        CHECKED.contains(&index).then(|| ChecksSpec {
            local: Mint::new(&mut Tokens::seeded(index as u64)).credentials(),
            unknown: UnknownAttributes::Refuse,
            forks: Vec::new(),
        })
    };
    let gate = |index: usize, v4: bool| match (index % 8, v4) {
        (_, true) if CHECKED.contains(&index) => GateSpec::Exact("0.0.0.0:0".parse().unwrap()),
        (_, false) if CHECKED.contains(&index) => GateSpec::Exact("[::]:0".parse().unwrap()),
        (5, true) => GateSpec::Exact("192.0.2.10:4000".parse().unwrap()),
        (5, false) => GateSpec::Exact("[2001:db8:1::10]:4000".parse().unwrap()),
        (6, true) => GateSpec::Subnet("192.0.2.0/24".parse().unwrap()),
        (6, false) => GateSpec::Subnet("2001:db8:1::/48".parse().unwrap()),
        _ => GateSpec::Any,
    };
    let latches = [Latch::Signalled, Latch::SameSsrc, Latch::FirstPacket];
    (0..24)
        .map(|index: usize| {
            let at = match index % 3 {
                0 => format!("192.0.2.1:{}", 30_000 + index),
                1 => format!("198.51.100.1:{}", 30_000 + index),
                _ => format!("[2001:db8:1::1]:{}", 30_000 + index),
            };
            let (from, to) = outputs[index % outputs.len()];
            let learned_from = (index % 5 == 4).then(|| index - 1);
            FlowSpec {
                kind: kinds(index),
                gate: gate(index, index % 3 != 2),
                latch: if CHECKED.contains(&index) {
                    Latch::Signalled
                } else {
                    latches[index % latches.len()]
                },
                dscp: [None, Some(46), Some(0)][index % 3],
                rate: (index % 7 == 6).then_some(RateLimit { packets_per_second: 50, burst: 5 }),
                muted: index % 11 == 10,
                continuity: index % 2 == 1,
                rtcp_copy: index % 3 == 1,
                judged: None,
                userspace: userspace(index),
                checks: checks(index),
                rtp: output(from, to).map(|output| OutputSpec { learned_from, ..output }),
                rtcp: output(from, to),
                ..flow(&at, from, to)
            }
        })
        .collect()
}

/// A packet to one of the flows, whole or damaged.
fn packet(random: &mut StdRng, flows: &[FlowSpec]) -> Vec<u8> {
    let flow = flows.choose(random).expect("there are flows");
    let mut frame = whole(random, flow.at);
    // Where there are no checks STUN is noise, which is met there too.
    if random.random_bool(if flow.checks.is_some() { 0.5 } else { 0.02 }) {
        frame.payload = check(random);
    }
    let mut octets = frame.octets();
    if random.random_bool(0.3) {
        for _ in 0..random.random_range(1..4) {
            damage(random, &mut octets);
        }
    }
    octets
}

/// A frame to a flow, with a payload of some kind.
pub fn whole(random: &mut StdRng, at: SocketAddr) -> Frame {
    let sources: &[&str] = if at.is_ipv4() {
        &["192.0.2.10:4000", "192.0.2.10:4000", "192.0.2.11:4000", "203.0.113.9:5000", "172.16.9.9:9"]
    } else {
        &["[2001:db8:1::10]:4000", "[2001:db8:1::10]:4000", "[2001:db8:f::9]:5000"]
    };
    let source = sources.choose(random).expect("there are sources");
    let to = if random.random_bool(0.03) { SocketAddr::new(at.ip(), 9) } else { at };
    let mut frame = Frame::new(source, &to.to_string(), payload(random));
    frame.traffic_class = random.random();
    frame.hop_limit = random.random();
    frame.tags = match random.random_range(0..10) {
        0 => vec![(VLAN, 7)],
        1 => vec![(SERVICE_VLAN, 7), (VLAN, 8)],
        2 if random.random_bool(0.2) => vec![(VLAN, 1); 3],
        _ => vec![],
    };
    frame.checksum = match random.random_range(0..10) {
        0 => Checksum::Absent,
        1 => Checksum::Off(random.random()),
        _ => Checksum::Right,
    };
    if random.random_bool(0.1) {
        frame.options = vec![1; 4 * random.random_range(0..=10)];
        let kind = *[0, 60, 43, 44].choose(random).expect("there are kinds");
        frame.extensions = vec![(kind, vec![0; 7]); random.random_range(0..6)];
    }
    if random.random_bool(0.1) {
        frame.trailer = vec![0; random.random_range(1..40)];
    }
    frame
}

fn payload(random: &mut StdRng) -> Vec<u8> {
    const SSRCS: [u32; 3] = [0x1111_1111, 0x2222_2222, 0x3333_3333];
    let ssrc = *SSRCS.choose(random).expect("there are SSRCs");
    let other = *SSRCS.choose(random).expect("there are SSRCs");
    if random.random_bool(0.2) {
        let word = random.random();
        let one = |random: &mut StdRng| match random.random_range(0..6) {
            0 => rtcp(0, 200, &[ssrc, word, word, word, 1, 2]),
            1 => rtcp(1, 201, &[ssrc, other, word, word, 33, 44, 55]),
            2 => rtcp(1, 202, &[ssrc, 0x0101_6100]),
            3 => rtcp(2, 203, &[ssrc, other]),
            4 => rtcp(1, 206, &[ssrc, other]),
            _ => rtcp(random.random_range(0..32), random.random_range(192..=223), &[ssrc; 3]),
        };
        return (0..random.random_range(1..10)).flat_map(|_| one(random)).collect();
    }
    // Mostly in order, at times far away, so that every branch of the sequence rules is met.
    let sequence = match random.random_range(0..20) {
        0 => random.random(),
        1 => 65_530 + random.random_range(0..6),
        _ => random.random_range(1000..1100),
    };
    let event = random.random_bool(0.2);
    Rtp {
        payload_type: if event { 96 } else { *[0, 8, 97, 18].choose(random).expect("there are types") },
        marker: random.random(),
        sequence,
        timestamp: if event { 160 * random.random_range(0..4) } else { random.random() },
        ssrc,
        csrc: vec![9; random.random_range(0..3)],
        extension: random.random_bool(0.1).then(|| (0xbede, vec![1; random.random_range(0..3)])),
        padding: if random.random_bool(0.1) { random.random_range(1..20) } else { 0 },
        body: match event {
            true => telephone_event(random.random_range(0..17), random.random(), random.random()),
            false => vec![random.random(); random.random_range(0..300)],
        },
    }
    .octets()
}

/// A message of STUN (RFC 8489 section 5), or what is nearly one.
fn check(random: &mut StdRng) -> Vec<u8> {
    let mut message = vec![random.random_range(0..6), random.random(), 0, 0];
    message.extend(0x2112_a442_u32.to_be_bytes());
    if random.random_bool(0.1) {
        message[random.random_range(4..8)] ^= 1;
    }
    message.extend(vec![random.random::<u8>(); random.random_range(12..80)]);
    if random.random_bool(0.1) {
        message.truncate(random.random_range(0..12));
    }
    message
}

/// Changes some octets.
pub fn damage(random: &mut StdRng, octets: &mut Vec<u8>) {
    let length = octets.len();
    match random.random_range(0..8) {
        // Headers are where most rules are.
        0..=2 => octets[random.random_range(0..length.min(80))] = random.random(),
        3 => octets[random.random_range(0..length)] ^= 1 << random.random_range(0..8),
        4 => octets.truncate(random.random_range(FRAME_MIN..=length)),
        5 => octets.extend(vec![random.random::<u8>(); random.random_range(1..60)]),
        6 => {
            let at = random.random_range(FRAME_MIN..=length);
            octets.splice(at..at, (0..random.random_range(1..8)).map(|octet| octet as u8));
        }
        _ => {
            let at = random.random_range(FRAME_MIN..=length);
            octets.drain(at..(at + random.random_range(1..8)).min(length));
        }
    }
}
