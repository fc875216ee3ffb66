//! What each end hears of the other, and what of it no other index is used for twice.

use super::super::engine::{Engine, GROWTH_MAX};
use super::super::relay::Arrival;
use super::super::states::States;
use super::*;
use crate::codec::Coding;
use crate::dataplane::compile::{Place, compile, key};
use crate::dataplane::reference::SILENCE;
use crate::media::bridge::{Bridge, JitterSettings, KeysFrom, KeysTo, LegSettings, Stream};
use crate::media::plan::{BridgeSpec, Bridged, GateSpec, OutputSpec, PayloadType};
use crate::rtp::rtcp::{Packet, ReportBlock, SenderInfo, packets};
use crate::srtp::{MasterKey, Protect, Suite, Unprotect};
use gateway_common::flow::{FlowConfig, Latch, NO_SLOT};
use gateway_common::verdict::Reason;
use std::net::SocketAddr;
use std::sync::Arc;

const CALLER: &str = "10.0.0.2:3000";
const NEAR: &str = "10.0.0.1:4000";
const CALLEE: &str = "10.0.1.2:6000";
const CALLEE_RTCP: &str = "10.0.1.2:6001";
const FAR: &str = "10.0.1.1:5000";
const FAR_RTCP: &str = "10.0.1.1:5001";
/// A report of the callee's.
const THEIRS: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 0xb];
const PCMU: u8 = 0;
const PCMA: u8 = 8;
const PACKET: Duration = Duration::from_millis(20);

fn master(octet: u8) -> MasterKey {
    MasterKey::new(Suite::AeadAes128Gcm, &[octet; 28]).unwrap()
}

fn leg(payload_type: u8) -> LegSettings {
    let codec = if payload_type == PCMU { "PCMU/8000" } else { "PCMA/8000" }.parse().unwrap();
    LegSettings {
        coding: Coding::of(&codec, None).unwrap(),
        speech_from: [Some(payload_type), None],
        speech_to: payload_type,
        packet_ms: 20,
        comfort_noise: None,
        events: None,
        keys_from: KeysFrom::Packets,
        keys_to: KeysTo::Signalling,
        stream: Stream::default(),
        jitter: JitterSettings::default(),
    }
}

fn flow(from: Side, kind: FlowKind, at: &str, near: u8) -> FlowSpec {
    FlowSpec {
        from,
        at: at.parse().unwrap(),
        kind,
        gate: GateSpec::Any,
        latch: Latch::Signalled,
        dscp: None,
        rate: None,
        clock_rate: 8_000,
        payload_types: vec![PayloadType { near, far: near, event: false }],
        muted: false,
        continuity: true,
        rtcp_copy: true,
        judged: None,
        rtp: None,
        rtcp: None,
        unprotect: None,
        protect: None,
        checks: None,
        userspace: None,
        bridge: Some(Arc::new(BridgeSpec { why: Bridged::Codec, caller: leg(PCMU), callee: leg(PCMA) })),
    }
}

fn output(from: &str, to: &str) -> Option<OutputSpec> {
    Some(OutputSpec { from: from.parse().unwrap(), to: to.parse().unwrap(), learned_from: None })
}

/// The caller's leg has SRTP and one port for RTP and RTCP, the callee's neither; and the callee wants VoIP metrics.
fn plan() -> [FlowSpec; 3] {
    let mut flows = [
        flow(Side::Caller, FlowKind::Mux, NEAR, PCMU),
        flow(Side::Callee, FlowKind::Rtp, FAR, PCMA),
        flow(Side::Callee, FlowKind::Rtcp, FAR_RTCP, PCMA),
    ];
    (flows[0].rtp, flows[0].rtcp) = (output(FAR, CALLEE), output(FAR_RTCP, CALLEE_RTCP));
    flows[0].unprotect = Some(master(1));
    flows[1].rtp = output(NEAR, CALLER);
    flows[2].rtcp = output(NEAR, CALLER);
    flows[1].protect = Some(master(2));
    flows[2].protect = Some(master(2));
    flows[1].judged = judged("PCMA/8000");
    flows
}

fn judged(codec: &str) -> Option<Box<Judged>> {
    Some(Box::new(Judged { codec: codec.parse().unwrap(), packet: PACKET }))
}

/// The same without a bridge: both speak PCMU.
fn relayed() -> [FlowSpec; 3] {
    plan().map(|flow| {
        let payload_types = vec![PayloadType { near: PCMU, far: PCMU, event: false }];
        FlowSpec { bridge: None, payload_types, ..flow }
    })
}

#[derive(Default)]
struct Carried(Vec<(SocketAddr, SocketAddr, Vec<u8>)>);

impl Carrier for Carried {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, _: u8, payload: &[u8]) -> Result<(), Reason> {
        self.0.push((from, to, payload.to_owned()));
        Ok(())
    }
}

/// A call, and both its peers.
struct Call {
    engine: Engine,
    members: Vec<Member>,
    now: u64,
    number: u16,
    is_bridged: bool,
    from_caller: Protect,
    /// `None` where the caller has no SRTP.
    to_caller: Option<Unprotect>,
    /// Of SRTCP that came to the caller.
    indices: Vec<u32>,
    /// Reports that came to the caller and to the callee.
    reports: [Vec<Vec<u8>>; 2],
    /// RTP that did.
    heard: [u32; 2],
}

impl Call {
    fn new() -> Self {
        Self::of(plan(), Engine::new(Arc::default()))
    }

    fn of(flows: [FlowSpec; 3], mut engine: Engine) -> Self {
        let place = |slot| Place { slot, epoch: 7, latch_epoch: 7, crypto_slot: NO_SLOT };
        let places: Vec<_> = (1..=3).map(place).collect();
        let mut members = Vec::new();
        for (compiled, spec) in compile(&flows, &places).unwrap().into_iter().zip(&flows) {
            let flags = compiled.config.flags & !flag::SECURED;
            engine.insert(compiled.key, FlowConfig { flags, ..compiled.config });
            let keys = [spec.unprotect.as_ref(), spec.protect.as_ref()];
            engine.secure((compiled.config.slot, NO_SLOT), keys, false);
            let id = crate::base::id::FlowId { slot: compiled.config.slot, epoch: 7 };
            members.push(Member { at: compiled.key, id });
        }
        let bridge = flows[0].bridge.as_ref().map(|spec| Bridge::new(&spec.caller, &spec.callee).unwrap());
        let is_bridged = bridge.is_some();
        engine.host(1_000_000_000, &members, &flows, bridge);
        Self {
            engine,
            members,
            now: 1_000_000_000,
            number: 0,
            is_bridged,
            from_caller: Protect::new(&master(1)),
            to_caller: flows[1].protect.as_ref().map(Unprotect::new),
            indices: Vec::new(),
            reports: Default::default(),
            heard: [0; 2],
        }
    }

    fn arrive(&mut self, from: &str, at: &str, packet: &[u8]) {
        let source = key(from.parse().unwrap());
        let arrived = Arrival {
            at: key(at.parse().unwrap()),
            source: source.address,
            source_port: source.port,
            traffic_class: 0,
        };
        let mut buffer = [packet, &[0; GROWTH_MAX]].concat();
        let mut taken = Carried::default();
        self.engine.receive(self.now, arrived, &mut buffer, packet.len(), &mut taken);
        self.take(taken);
    }

    fn take(&mut self, taken: Carried) {
        for (from, to, mut packet) in taken.0 {
            let is_rtcp = (192..=223).contains(&packet[1]);
            let end = usize::from(to != CALLER.parse().unwrap());
            if end == 0
                && let Some(to_caller) = &mut self.to_caller
            {
                // RFC 7714 section 9.3: with GCM the index is the last word.
                let index = u32::from_be_bytes(*packet.last_chunk().unwrap()) & 0x7fff_ffff;
                self.indices.extend(is_rtcp.then_some(index));
                let opened = match is_rtcp {
                    true => to_caller.rtcp(&mut packet),
                    false => to_caller.rtp(&mut packet),
                };
                packet.truncate(opened.expect("protected with the caller's key"));
            }
            let ways: [[(&str, &str); 2]; 2] =
                [[(NEAR, CALLER), (NEAR, CALLER)], [(FAR, CALLEE), (FAR_RTCP, CALLEE_RTCP)]];
            assert_eq!((from.to_string(), to.to_string()), {
                let (from, to) = ways[end][usize::from(is_rtcp)];
                (from.to_owned(), to.to_owned())
            });
            match is_rtcp {
                true => self.reports[end].push(packet),
                false => self.heard[end] += 1,
            }
        }
    }

    fn talk(&mut self, span: Duration) {
        for _ in 0..span.as_millis() / PACKET.as_millis() {
            let mut packet = rtp(PCMU, self.number, 0xa);
            let length = packet.len();
            packet.resize(length + GROWTH_MAX, 0);
            let length = match self.to_caller {
                Some(_) => self.from_caller.rtp(&mut packet, length).unwrap(),
                None => length,
            };
            self.arrive(CALLER, NEAR, &packet[..length]);
            let payload_type = if self.is_bridged { PCMA } else { PCMU };
            self.arrive(CALLEE, FAR, &rtp(payload_type, self.number, 0xb));
            self.number += 1;
            self.run(PACKET);
        }
    }

    /// The caller says it in SRTCP.
    fn report(&mut self, compound: &[u8]) {
        let mut packet = [compound, &[0; GROWTH_MAX]].concat();
        let length = self.from_caller.rtcp(&mut packet, compound.len()).unwrap();
        self.arrive(CALLER, NEAR, &packet[..length]);
    }

    /// The callee reports every five seconds meanwhile.
    fn talk_reporting(&mut self, times: usize) {
        for _ in 0..times {
            self.arrive(CALLEE_RTCP, FAR_RTCP, &THEIRS);
            self.talk(Duration::from_secs(5));
        }
    }

    /// Those of ours that came to the caller.
    fn ours(&self) -> Vec<Vec<u8>> {
        self.reports[0].iter().filter(|report| report[..] != THEIRS).cloned().collect()
    }

    fn goodbye(&mut self) {
        let ids: Vec<_> = self.members.iter().map(|member| member.id).collect();
        let mut taken = Carried::default();
        self.engine.goodbye(self.now, &ids, &mut taken);
        self.take(taken);
        ids.iter().for_each(|id| self.engine.forget(id.slot));
        assert_eq!(self.engine.deadline(), None);
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span.as_nanos() as u64;
        while let Some(at) = self.engine.deadline().filter(|at| at.0 * 1_000 <= end) {
            self.now = self.now.max(at.0 * 1_000);
            let mut taken = Carried::default();
            self.engine.run(self.now, &mut taken);
            self.take(taken);
        }
        self.now = end;
    }
}

fn rtp(payload_type: u8, number: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

/// A report of one sender and its name, with which every one of ours begins.
fn said(compound: &[u8]) -> (SenderInfo, Vec<ReportBlock>) {
    let read: Vec<_> = packets(compound).collect::<Result<_, _>>().unwrap();
    let [Packet::SenderReport { ssrc, sender, reports }, Packet::SourceDescription(sources), ..] = &read[..]
    else {
        panic!("{read:?}")
    };
    assert!(matches!(&sources[..], [source] if source.ssrc == *ssrc && source.cname.is_some()));
    (*sender, reports.clone())
}

// Statement 142.
#[test]
fn each_peer_of_a_bridge_is_told_of_what_it_is_sent_and_of_what_it_sends_at_its_own_rtcp_port_and_with_its_own_key()
 {
    let mut call = Call::new();
    call.talk(Duration::from_secs(30));
    for (end, ssrc) in [(0, 0xa), (1, 0xb)] {
        // Five seconds on average, and the first after half of that; by chance between half and one and a half.
        assert!((4..=13).contains(&call.reports[end].len()), "{}", call.reports[end].len());
        let (sender, blocks) = said(call.reports[end].last().unwrap());
        assert!(sender.packets > 500 && sender.packets <= call.heard[end], "{sender:?}");
        assert_eq!(sender.octets, sender.packets * 160);
        let [block] = &blocks[..] else { panic!("{blocks:?}") };
        assert_eq!((block.ssrc, block.cumulative_lost), (ssrc, 0));
    }
}

#[test]
fn a_peer_that_asks_for_voip_metrics_is_told_how_it_is_heard() {
    let mut call = Call::new();
    call.talk(Duration::from_secs(5));
    call.number += 5;
    call.talk(Duration::from_secs(20));
    let extended =
        |report: &Vec<u8>| packets(report).any(|packet| packet == Ok(Packet::Other { packet_type: 207 }));
    assert!(!call.reports[0].iter().any(extended), "the caller has not asked");
    let report = call.reports[1].iter().rfind(|report| extended(report)).unwrap();
    let block = &report[report.len() - 36..];
    assert_eq!(block[..8], [7, 0, 0, 8, 0, 0, 0, 0xb]);
    // Five of 1,200 lost: all of them in one burst of 100 ms; and nothing came too late.
    assert_eq!(block[8..14], [1, 0, 255, 0, 0, 100]);
    let gap = u16::from_be_bytes([block[14], block[15]]);
    assert!((9_000..13_000).contains(&gap), "two gaps share the rest of the time: {gap} ms");
    // A jitter buffer of 40 ms, and a packet; no round trip is known.
    assert_eq!(block[16..20], [0, 0, 0, 60]);
    assert_eq!(block[20..24], [127, 127, 127, 16]);
    assert!((85..=93).contains(&block[24]), "R is {}", block[24]);
    assert!((41..=44).contains(&block[26]) && (41..=44).contains(&block[27]), "{block:?}");
    assert_eq!(block[28..], [0xf0, 0, 0, 40, 0, 240, 0, 240]);
}

// Statement 142.
#[test]
fn a_relayed_peer_that_asks_for_voip_metrics_is_told_how_it_is_heard_in_reports_of_ours() {
    let mut flows = relayed();
    flows[0].judged = judged("PCMU/8000");
    let mut call = Call::of(flows, Engine::new(Arc::default()));
    call.talk(Duration::from_secs(5));
    call.number += 5;
    call.talk(Duration::from_secs(1));
    call.number += 1;
    call.talk(FOUND);
    let ours = call.ours();
    let report = ours.last().unwrap();
    let block = &report[report.len() - 36..];
    assert_eq!(block[..8], [7, 0, 0, 8, 0, 0, 0, 0xa]);
    // Five in one burst, and one by itself in a gap.
    assert_eq!(block[10..14], [255, 0, 0, 100]);
    let [lost, gap] = [u16::from(block[8]), u16::from_be_bytes([block[14], block[15]])];
    assert!(lost <= 1 && (14_000..19_000).contains(&gap), "{lost} {gap}");
    // Nothing is held back here, and nothing known of who plays it.
    assert_eq!((&block[16..24], &block[28..]), (&[0, 0, 0, 0, 127, 127, 127, 16][..], &[0; 8][..]));
    assert!((85..=93).contains(&block[24]), "R is {}", block[24]);
}

#[test]
fn our_sender_reports_are_told_of_without_their_blocks_and_the_peers_reports_go_nowhere() {
    let mut call = Call::new();
    call.talk(Duration::from_secs(8));
    let sent = call.reports.clone().map(|reports| reports.len());
    let told: Vec<_> = call.engine.records().collect();
    assert_eq!(told.len(), sent[0] + sent[1]);
    for record in &told {
        let Record::Rtcp { flow, payload, .. } = record else { panic!("{record:?}") };
        assert!([1, 3].contains(&flow.slot));
        let read: Vec<_> = packets(payload).collect::<Result<_, _>>().unwrap();
        assert!(matches!(&read[..], [Packet::SenderReport { reports, .. }] if reports.is_empty()));
    }
    call.arrive(CALLEE_RTCP, FAR_RTCP, &THEIRS);
    assert_eq!(call.reports.clone().map(|reports| reports.len()), sent);
}

#[test]
fn who_said_and_heard_nothing_is_told_nothing_and_who_did_is_told_goodbye() {
    let mut call = Call::new();
    call.run(Duration::from_secs(20));
    assert_eq!(call.reports, [Vec::<Vec<u8>>::new(), vec![]]);
    call.talk(Duration::from_secs(1));
    call.goodbye();
    assert!(call.reports.iter().all(|reports| ends_with_goodbye(reports)));
}

fn ends_with_goodbye(reports: &[Vec<u8>]) -> bool {
    let read: Vec<_> = packets(reports.last().unwrap()).collect::<Result<_, _>>().unwrap();
    matches!(read.last(), Some(Packet::Goodbye { .. }))
}

/// In which a leg is reported to whose other side has just fallen silent, looks included; and one in which
/// it is not.
const FOUND: Duration = Duration::from_secs(30);
const NOT_FOUND: Duration = SILENCE;

// Statement 142.
#[test]
fn a_secured_peer_whose_other_side_sends_no_rtcp_hears_ours_until_it_does_and_no_index_repeats() {
    let mut call = Call::of(relayed(), Engine::new(Arc::default()));
    call.talk(NOT_FOUND);
    assert!(call.reports[0].is_empty());
    call.number += 3;
    call.talk(FOUND);
    let ours = call.ours();
    assert!(ours.len() >= 2 && call.reports[1].is_empty(), "{}", ours.len());
    let (sender, blocks) = said(ours.last().unwrap());
    assert!(sender.packets > 1_500 && sender.packets <= call.heard[0], "{sender:?} {}", call.heard[0]);
    assert_eq!(sender.octets, sender.packets * 160);
    assert_eq!(ours.last().unwrap()[4..8], 0xbu32.to_be_bytes(), "the SSRC that it hears");
    let [block] = &blocks[..] else { panic!("{blocks:?}") };
    assert_eq!((block.ssrc, block.cumulative_lost), (0xa, 3));

    call.talk_reporting(8);
    assert_eq!(call.ours().len(), ours.len(), "the other side speaks for itself");
    assert!(!ends_with_goodbye(&ours));
    call.talk(FOUND);
    let again = call.ours();
    assert!(again.len() > ours.len());
    let [first, last] = [&again[0], again.last().unwrap()].map(|report| packets(report).nth(1).unwrap());
    assert_eq!(first, last, "under the name of before");
    call.goodbye();
    assert!(ends_with_goodbye(&call.ours()));
    assert!(call.indices.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", call.indices);
    assert_eq!(call.indices.len(), call.reports[0].len());
}

#[test]
fn what_a_relayed_peer_reports_goes_on_to_the_other_side_and_is_answered_in_ours() {
    let mut call = Call::of(relayed(), Engine::new(Arc::default()));
    call.talk(FOUND);
    let before = call.ours().len();
    // A sender report whose NTP timestamp has 0x5678_9abc in its middle.
    let words = [0x80c8_0006u32, 0xa, 0x1234_5678, 0x9abc_def0, 1_000, 50, 8_000];
    let report = words.map(u32::to_be_bytes).concat();
    call.report(&report);
    assert_eq!(call.reports[1], [report]);
    call.talk(Duration::from_secs(10));
    let (_, blocks) = said(&call.ours()[before]);
    assert_eq!(blocks[0].last_sender_report, 0x5678_9abc);
    assert!(blocks[0].delay_since > 0);
}

#[test]
fn nobody_hears_ours_whose_other_side_reports_or_who_has_no_srtp_or_hears_no_rtp() {
    let mut call = Call::of(relayed(), Engine::new(Arc::default()));
    call.talk_reporting(12);
    assert_eq!(call.ours(), Vec::<Vec<u8>>::new());
    call.goodbye();
    assert_eq!(call.reports.clone().map(|reports| reports.len()), [12, 0]);

    let plain = relayed().map(|flow| FlowSpec { unprotect: None, protect: None, ..flow });
    let mut call = Call::of(plain, Engine::new(Arc::default()));
    call.talk(FOUND);
    call.goodbye();
    assert_eq!(call.reports, [Vec::<Vec<u8>>::new(), vec![]]);

    let mut call = Call::of(relayed(), Engine::new(Arc::default()));
    call.run(FOUND);
    call.goodbye();
    assert_eq!(call.reports, [Vec::<Vec<u8>>::new(), vec![]]);
}

#[test]
fn beside_a_program_nothing_is_sent_before_it_has_given_up_the_index_and_nothing_after_it_has_it_again() {
    let mut call = Call::of(relayed(), Engine::over(Arc::default(), States::default(), States::default()));
    let flow = call.members[2];
    let change = |call: &mut Call, flags: u16| {
        let config = *call.engine.config(flow.at).unwrap();
        let flags = config.flags & !(flag::PUNT | flag::REPORTED) | flags;
        call.engine.follow(flow.at, FlowConfig { flags, ..config });
    };
    change(&mut call, 0);
    call.talk(FOUND);
    assert_eq!(call.engine.taken()[0], Taken { flow, begins: true });
    assert!(call.ours().is_empty(), "nobody gave it");
    while !call.engine.taken().contains(&Taken { flow, begins: true }) {
        call.talk(Duration::from_secs(1));
    }
    change(&mut call, flag::REPORTED);
    call.talk(Duration::from_millis(1_500));
    assert!(call.ours().is_empty(), "packets may be under way in the program");
    call.talk(Duration::from_secs(1));
    assert_eq!(call.ours().len(), 1);

    call.arrive(CALLEE_RTCP, FAR_RTCP, &THEIRS);
    call.talk(Duration::from_secs(6));
    assert_eq!(call.engine.taken(), [Taken { flow, begins: false }]);
    change(&mut call, 0);
    // Asked for anew no sooner than a silence after the report.
    call.talk(Duration::from_secs(8));
    assert_eq!(call.ours().len(), 1);

    // A new agreement takes the flag away.
    while !call.engine.taken().contains(&Taken { flow, begins: true }) {
        call.talk(Duration::from_secs(1));
    }
    change(&mut call, flag::REPORTED);
    call.talk(Duration::from_secs(3));
    let before = call.ours().len();
    assert!(before > 1);
    change(&mut call, 0);
    let members = call.members.clone();
    call.engine.host(call.now, &members, &relayed(), None);
    assert_eq!(call.engine.taken(), [Taken { flow, begins: false }]);
    call.talk(NOT_FOUND);
    call.goodbye();
    assert_eq!(call.ours().len(), before);
}
