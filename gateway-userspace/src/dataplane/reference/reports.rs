//! RTCP of our own (RFC 3550 section 6) for legs that end here: a bridge makes both streams of a call anew, so
//! that what one peer reports says nothing to the other. And for legs with SRTP that are relayed, while the
//! other side sends none: peers that ask for SRTP tell how a call sounds from RTCP, and from nothing else.
//! Between plain legs RTCP is theirs.

use super::bridges::{Bridges, Member};
use super::engine::Carrier;
use super::exit::Exit;
use super::relay::Relay;
use super::silence::{Relayed, SETTLED, Silence, Step};
use crate::base::id::Side;
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::dataplane::record::Record;
use crate::media::bridge::{JitterSettings, Listening};
use crate::media::plan::{FlowSpec, Judged};
use crate::rtp::quality::{self, Conditions};
use crate::rtp::rtcp::{Heard, JitterBuffer, Reporter, Sent, Stretch, VoipMetrics};
use gateway_common::flow::{FlowKind, flag};
use gateway_common::learned::FlowState;
use gateway_common::losses::{GMIN, Stretches};
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// NTP timestamps count from the start of the system: the clock of this room is none of the wall, and one of a system's
/// own may be taken instead (RFC 3550 section 6.4.1).
const EPOCH: u64 = 0;
/// Between looks at a leg in which nothing has moved yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A sender report without its blocks.
const SENDER_REPORT: usize = 28;

/// Legs of one worker that are reported to.
#[derive(Debug)]
pub(super) struct Reports {
    /// By the slot of the flow that hears the peer's RTCP.
    legs: HashMap<u32, Leg>,
    due: TimerTable<u32>,
    chance: Tokens,
    /// The compound that leaves, with room for its protection.
    buffer: Vec<u8>,
    records: Vec<Record>,
    /// Where a program beside this engine relays what is not taken from it, and counts the index of SRTCP
    /// meanwhile.
    taken: Option<Vec<Taken>>,
}

/// All RTCP that comes by a flow is to come to userspace, and leave by it, from now on; or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Taken {
    pub(in crate::dataplane) flow: Member,
    pub(in crate::dataplane) begins: bool,
}

#[derive(Debug)]
struct Leg {
    ways: Ways,
    reporter: Reporter,
    /// If the peer wants to hear how it is heard.
    judged: Option<Box<Judged>>,
    /// Of the other side of a relayed call.
    silence: Option<Silence>,
    /// Before it packets may be under way in the program, by which SRTCP was counted until the bridge came.
    settled: Time,
}

/// A leg that a plan has us report to, always or while the other side is silent.
#[derive(Debug)]
struct Wanted {
    ways: Ways,
    judged: Option<Box<Judged>>,
    is_relayed: bool,
}

/// The flows of one peer.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// Those by which RTP and RTCP go to it: they hear its other's.
    rtp_out: Member,
    rtcp_out: Member,
    /// Those that hear its own.
    rtp_in: Member,
    rtcp_in: Member,
    /// RTP clock of what it is sent, in Hz.
    clock_rate: u32,
}

impl Default for Reports {
    fn default() -> Self {
        let mut seed = [0; 32];
        for word in seed.chunks_exact_mut(8) {
            // Its keys are the system's random numbers.
            word.copy_from_slice(&RandomState::new().hash_one(0u8).to_ne_bytes());
        }
        Self {
            legs: HashMap::new(),
            due: TimerTable::default(),
            chance: Tokens::from_seed(seed),
            buffer: Vec::new(),
            records: Vec::new(),
            taken: None,
        }
    }
}

impl Reports {
    /// Beside a program that relays what is not taken from it.
    pub(super) fn beside() -> Self {
        Self { taken: Some(Vec::new()), ..Self::default() }
    }

    /// Flows of one plan are as it says from now on: its peers are reported to where a bridge stands between
    /// them, and watched where they are relayed and have SRTP. Who was reported to goes on under its name.
    pub(super) fn host(&mut self, now: u64, relay: &Relay, members: &[Member], flows: &[FlowSpec]) {
        let wanted = [Side::Caller, Side::Callee].map(|side| Wanted::of(side, members, flows));
        for member in members {
            let slot = member.id.slot;
            if !wanted.iter().flatten().any(|wanted| wanted.ways.rtcp_in.id.slot == slot) {
                self.forget(slot);
            }
        }
        for Wanted { ways, judged, is_relayed } in wanted.into_iter().flatten() {
            let slot = ways.rtcp_in.id.slot;
            let kept = self.let_go(slot).filter(|leg| leg.ways.rtcp_in == ways.rtcp_in);
            let settled = match &kept {
                Some(Leg { silence: Some(_), .. }) => time(now) + SETTLED,
                Some(leg) => leg.settled,
                None => time(now),
            };
            let reporter = match kept {
                Some(leg) => leg.reporter,
                None => Reporter::new(time(now), EPOCH, &mut self.chance),
            };
            let silence = is_relayed.then(|| Silence::new(time(now), ways.relayed(relay)));
            let leg = Leg { ways, reporter, judged, silence, settled };
            self.due.arm(slot, leg.deadline());
            self.legs.insert(slot, leg);
        }
    }

    /// A flow is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.let_go(slot);
    }

    /// The leg whose RTCP this flow hears is reported to no more.
    fn let_go(&mut self, slot: u32) -> Option<Leg> {
        let leg = self.legs.remove(&slot)?;
        self.due.disarm(slot);
        if leg.silence.as_ref().is_some_and(Silence::has_asked) {
            let flow = leg.ways.rtcp_out;
            self.taken.iter_mut().for_each(|taken| taken.push(Taken { flow, begins: false }));
        }
        Some(leg)
    }

    /// Flows whose RTCP is to be taken from the program beside us, and those that are its again, since the last
    /// call.
    pub(super) fn taken(&mut self) -> Vec<Taken> {
        self.taken.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// RTCP of a peer came by the flow in this slot, as it sent it.
    pub(super) fn receive(&mut self, now: u64, slot: u32, compound: &[u8]) {
        if let Some(leg) = self.legs.get_mut(&slot) {
            leg.reporter.receive(time(now), compound);
        }
    }

    /// Sends what is due.
    pub(super) fn run(&mut self, now: u64, bridges: &Bridges, exit: &mut Exit<'_, impl Carrier>) {
        while let Some(slot) = self.due.expire(time(now)) {
            let Some(leg) = self.legs.get_mut(&slot) else { continue };
            if !leg.look(now, exit.relay, &mut self.taken) {
                self.due.arm(slot, leg.deadline());
                continue;
            }
            let (sent, heard) = leg.figures(exit.relay, bridges);
            if sent.is_none() && heard.is_none() {
                // Who has heard and said nothing yet is told nothing.
                self.due.arm(slot, time(now) + LOOK_AGAIN);
                continue;
            }
            if let Some(compound) = leg.reporter.run(time(now), sent, heard, &mut self.chance)
                && leg.send(now, &compound, exit, &mut self.buffer)
            {
                self.records.extend(leg.ways.copy(now, exit.relay, &compound));
            }
            self.due.arm(slot, leg.deadline());
        }
    }

    /// The flow in this slot is about to go, and with it the leg whose RTCP it hears: its peer is told.
    pub(super) fn goodbye(
        &mut self,
        now: u64,
        slot: u32,
        bridges: &Bridges,
        exit: &mut Exit<'_, impl Carrier>,
    ) {
        let Some(mut leg) = self.let_go(slot) else { return };
        let is_taken = leg.ways.is_taken(exit.relay, self.taken.is_some());
        let is_reporting = |silence: &Silence| is_taken && silence.is_reporting(leg.ways.relayed(exit.relay));
        if !leg.silence.as_ref().is_none_or(is_reporting) {
            return;
        }
        let (sent, heard) = leg.figures(exit.relay, bridges);
        if let Some(compound) = leg.reporter.goodbye(time(now), sent, heard) {
            leg.send(now, &compound, exit, &mut self.buffer);
        }
    }

    /// When [`Self::run`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    /// What there was to say since the last call.
    pub(super) fn records(&mut self) -> std::vec::Drain<'_, Record> {
        self.records.drain(..)
    }
}

impl Wanted {
    fn of(side: Side, members: &[Member], flows: &[FlowSpec]) -> Option<Self> {
        let judged = flows.iter().filter(|flow| flow.from == side).find_map(|flow| flow.judged.clone());
        if let Some(spec) = flows.iter().find_map(|flow| flow.bridge.as_ref()) {
            let leg = spec.leg(side);
            let ways = Ways::of(side, leg.coding.clock_rate(), members, flows)?;
            return Some(Self { ways, judged, is_relayed: false });
        }
        if flows.iter().any(|flow| flow.kind == FlowKind::Udptl) {
            return None;
        }
        let leading = || flows.iter().filter(|flow| flow.from == side.other());
        let mut rtcp = leading().filter(|flow| flow.kind != FlowKind::Rtp && flow.rtcp.is_some());
        // Two by which RTCP leads to the peer, as before an answer, count for themselves: neither knows the
        // other's index.
        let (Some(rtcp), None) = (rtcp.next(), rtcp.next()) else { return None };
        rtcp.protect.as_ref()?;
        let clock_rate = leading().find(|flow| flow.kind != FlowKind::Rtcp)?.clock_rate;
        let ways = Ways::of(side, clock_rate, members, flows)?;
        Some(Self { ways, judged, is_relayed: true })
    }
}

impl Leg {
    /// When there is something to do about it.
    fn deadline(&self) -> Time {
        let reports = self.reporter.deadline();
        match &self.silence {
            None => reports.max(self.settled),
            Some(silence) if silence.is_speaking() => silence.deadline().min(reports),
            Some(silence) => silence.deadline(),
        }
    }

    /// Whether reports are ours to send, at this moment.
    fn look(&mut self, now: u64, relay: &Relay, taken: &mut Option<Vec<Taken>>) -> bool {
        let relayed = self.ways.relayed(relay);
        let is_taken = self.ways.is_taken(relay, taken.is_some());
        let Some(silence) = &mut self.silence else { return true };
        let flow = self.ways.rtcp_out;
        let mut tell = |begins| taken.iter_mut().for_each(|taken| taken.push(Taken { flow, begins }));
        match silence.look(time(now), relayed, is_taken) {
            Step::Report => return true,
            Step::Take => tell(true),
            Step::GiveBack => tell(false),
            Step::Wait => {}
        }
        false
    }

    /// Whether it left.
    fn send(
        &mut self,
        now: u64,
        compound: &[u8],
        exit: &mut Exit<'_, impl Carrier>,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let before = self.ways.relayed(exit.relay).rtcp;
        let left = exit.leave_report(now, self.ways.rtcp_out.at, compound, buffer);
        if let Some(silence) = &mut self.silence {
            silence.sent(self.ways.relayed(exit.relay).rtcp.wrapping_sub(before));
        }
        left
    }

    /// What was sent to the peer, and what was heard of it.
    fn figures(&self, relay: &Relay, bridges: &Bridges) -> (Option<Sent>, Option<Heard>) {
        let (sent, heard) = self.ways.figures(relay);
        let heard = heard.map(|heard| Heard { metrics: self.metrics_of(&heard, relay, bridges), ..heard });
        (sent, heard)
    }

    fn metrics_of(&self, heard: &Heard, relay: &Relay, bridges: &Bridges) -> Option<VoipMetrics> {
        let judged = self.judged.as_ref()?;
        let Listening { discarded, bursts, packet, jitter } = match &self.silence {
            None => bridges.listening(self.ways.rtp_in.id.slot)?,
            Some(_) => passed_on(&state(relay, self.ways.rtp_in)?, judged.packet),
        };
        let expected = heard.expected.max(1) as f64;
        let loss = quality::loss_ratio(heard.expected, heard.received);
        let discard = discarded as f64 / expected;
        let round_trip = self.reporter.round_trip().unwrap_or_default();
        let varies = quality::clock_units(heard.jitter.into(), self.ways.clock_rate);
        let rated = |delay| {
            let loss = (loss + discard).min(1.0);
            quality::rating(&judged.codec, &Conditions { delay, loss, burst_ratio: 1.0 })
        };
        let rating = rated(quality::mouth_to_ear(round_trip, packet, varies));
        let stretch = |stretches: &Stretches| Stretch {
            density: stretches.density(),
            duration: packet.mul_f64(stretches.length()),
        };
        Some(VoipMetrics {
            loss,
            discard,
            burst: stretch(&bursts.bursts),
            gap: stretch(&bursts.gaps),
            gmin: GMIN,
            round_trip,
            end_system: jitter.map(|jitter| jitter.delay + packet).unwrap_or_default(),
            rating,
            // Who only listens is not bothered by delay.
            listening: quality::mos(rated(Duration::ZERO)),
            conversation: quality::mos(rating),
            jitter_buffer: jitter.map(|JitterSettings { delay, most }| JitterBuffer { nominal: delay, most }),
        })
    }
}

impl Ways {
    /// Those of the peer of `side`; `None` where its RTCP has none.
    fn of(side: Side, clock_rate: u32, members: &[Member], flows: &[FlowSpec]) -> Option<Self> {
        let flow = |from: Side, absent: FlowKind| {
            let mut flows = members.iter().zip(flows);
            flows.find(|(_, flow)| flow.from == from && flow.kind != absent).map(|(member, _)| *member)
        };
        Some(Self {
            rtp_out: flow(side.other(), FlowKind::Rtcp)?,
            rtcp_out: flow(side.other(), FlowKind::Rtp)?,
            rtp_in: flow(side, FlowKind::Rtcp)?,
            rtcp_in: flow(side, FlowKind::Rtp)?,
            clock_rate,
        })
    }

    /// What was sent to the peer, and what was heard of it.
    fn figures(&self, relay: &Relay) -> (Option<Sent>, Option<Heard>) {
        let sent = state(relay, self.rtp_out).and_then(|state| Sent::of(&state, self.clock_rate));
        (sent, state(relay, self.rtp_in).and_then(|state| Heard::of(&state)))
    }

    /// What was relayed between the peer and the other side.
    fn relayed(&self, relay: &Relay) -> Relayed {
        let figures = |member| state(relay, member).unwrap_or_default().statistics;
        let (out, back) = (figures(self.rtp_out).packets, figures(self.rtp_in).received);
        Relayed { rtp: out.wrapping_add(back), rtcp: figures(self.rtcp_out).rtcp_packets }
    }

    /// Whether all RTCP that leads to the peer goes through this engine, which `is_beside` a program or not.
    fn is_taken(&self, relay: &Relay, is_beside: bool) -> bool {
        let id = self.rtcp_out.id;
        relay.config(self.rtcp_out.at).is_some_and(|config| {
            (config.slot, config.epoch) == (id.slot, id.epoch)
                && (!is_beside || config.flags & (flag::PUNT | flag::REPORTED) != 0)
        })
    }

    /// What our sender report said of itself, for who measures the way to the peer and back by what the peer quotes of it.
    fn copy(&self, now: u64, relay: &Relay, compound: &[u8]) -> Option<Record> {
        let config = relay.config(self.rtcp_out.at).filter(|config| config.flags & flag::RTCP_COPY != 0)?;
        let mut payload = compound.get(..SENDER_REPORT)?.to_owned();
        if payload.get(1) != Some(&200) || config.slot != self.rtcp_out.id.slot {
            return None;
        }
        // Without blocks: those speak of the peer's own stream.
        payload.get_mut(..4)?.copy_from_slice(&[0x80, 200, 0, SENDER_REPORT as u8 / 4 - 1]);
        Some(Record::Rtcp { flow: self.rtcp_out.id, at: now, payload })
    }
}

/// How a stream is heard that is relayed: nothing of it is held back here, and nothing given up.
fn passed_on(state: &FlowState, packet: Duration) -> Listening {
    Listening { discarded: 0, bursts: state.bursts(), packet, jitter: None }
}

/// What is known of a flow; `None` before it heard anything.
fn state(relay: &Relay, member: Member) -> Option<FlowState> {
    let state = relay.state(member.id.slot);
    (state.epoch == member.id.epoch).then_some(state)
}

fn time(now: u64) -> Time {
    Time(now / 1_000)
}

#[cfg(test)]
mod tests;
