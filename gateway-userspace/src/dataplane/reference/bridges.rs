//! Bridges of the engine: calls whose packets are taken apart and made anew between their two peers.
//!
//! A bridge belongs to the flows of one plan. What it takes has passed the gate, SRTP and the latch of its flow, and is
//! counted there; what it makes leaves by the flow that leads to its peer, protected and counted as if relayed, at the
//! bridge's own pace.

use super::engine::Carrier;
use super::exit::Exit;
use super::relay::Relay;
use crate::base::id::{FlowId, Side};
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::codec::LibraryRefused;
use crate::dataplane::record::Record;
use crate::media::bridge::{Bridge, Counters, Listening, Output, PlayUntil, Stream, Work};
use crate::media::plan::{BridgeSpec, FlowSpec};
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
use gateway_common::flow::{FlowKey, FlowKind};
use slab::Slab;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// The bridges of one worker.
#[derive(Debug)]
pub(in crate::dataplane) struct Bridges {
    hosted: Slab<Hosted>,
    /// By the slot of each flow of their plans.
    by_slot: HashMap<u32, usize>,
    /// By the slot of a flow that hears RTP, what bridges counted of it that another, or none, has taken the place of.
    past: HashMap<u32, Counters>,
    due: TimerTable<usize>,
    chance: Tokens,
    /// The packet that leaves, with room for its protection.
    buffer: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Hosted {
    spec: Arc<BridgeSpec>,
    bridge: Bridge,
    /// The flows that hear RTP of either side.
    flows: [Option<Member>; 2],
    /// Sides to whose peers a packet has left in the bridge's stream.
    begun: [bool; 2],
    /// Of all flows of the plan.
    slots: SmallVec<[u32; 4]>,
}

/// A flow of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Member {
    pub(in crate::dataplane) at: FlowKey,
    pub(in crate::dataplane) id: FlowId,
}

impl Default for Bridges {
    fn default() -> Self {
        let mut seed = [0; 32];
        for word in seed.chunks_exact_mut(8) {
            // Its keys are the system's random numbers.
            word.copy_from_slice(&RandomState::new().hash_one(0u8).to_ne_bytes());
        }
        Self {
            hosted: Slab::new(),
            by_slot: HashMap::new(),
            past: HashMap::new(),
            due: TimerTable::default(),
            chance: Tokens::from_seed(seed),
            buffer: Vec::new(),
            records: Vec::new(),
        }
    }
}

impl Bridges {
    /// What stands between the peers of a plan, made and not in service yet; `None` where nothing does, or what is there
    /// goes on.
    ///
    /// # Errors
    /// The library of a codec refused.
    pub(in crate::dataplane) fn prepare(
        &self,
        before: &[FlowId],
        flows: &[FlowSpec],
    ) -> Result<Option<Bridge>, LibraryRefused> {
        let Some(spec) = spec_of(flows) else { return Ok(None) };
        let there = before.iter().find_map(|id| self.by_slot.get(&id.slot));
        match there.and_then(|place| self.hosted.get(*place)) {
            Some(hosted) if hosted.spec == *spec => Ok(None),
            _ => Bridge::new(&spec.caller, &spec.callee).map(Some),
        }
    }

    /// Sends at once what the bridge of these flows holds still, where another or none is to stand there by `flows`.
    pub(super) fn conclude(
        &mut self,
        now: u64,
        ids: &[FlowId],
        flows: &[FlowSpec],
        exit: &mut Exit<'_, impl Carrier>,
    ) {
        let Some(place) = ids.iter().find_map(|id| self.by_slot.get(&id.slot)).copied() else { return };
        let Some(hosted) = self.hosted.get_mut(place) else { return };
        if spec_of(flows).is_some_and(|spec| hosted.spec == *spec) {
            return;
        }
        hosted.begin(now, exit.relay);
        let (mut leaving, bridge) = hosted.leaving(now, exit, &mut self.buffer, &mut self.records);
        bridge.conclude(time(now), &mut leaving);
        for to in [Side::Caller, Side::Callee] {
            if let (true, Some(member)) = (hosted.begun[to.index()], hosted.flows[to.other().index()]) {
                exit.relay.reach(now, member.id, hosted.bridge.next(to).timestamp);
            }
        }
    }

    /// Flows of one plan, installed or changed a moment ago: `prepared` takes its place between them, in the streams that
    /// they have sent so far. Where the plan has no bridge any more, the relay goes on in the bridge's streams.
    pub(super) fn host(
        &mut self,
        (members, flows): (&[Member], &[FlowSpec]),
        prepared: Option<Bridge>,
        relay: &mut Relay,
    ) {
        let place = members.iter().find_map(|member| self.by_slot.get(&member.id.slot)).copied();
        let Some(spec) = spec_of(flows) else {
            if let Some(place) = place {
                self.dismiss(place, relay);
            }
            return;
        };
        let mut of_sides = [None; 2];
        for (member, flow) in members.iter().zip(flows).filter(|(_, flow)| flow.kind != FlowKind::Rtcp) {
            of_sides[flow.from.index()] = Some(*member);
        }
        let place = match (place, prepared) {
            (Some(place), None) => place,
            (place, prepared) => {
                let Some(mut bridge) = prepared.or_else(|| Bridge::new(&spec.caller, &spec.callee).ok())
                else {
                    return;
                };
                [Side::Caller, Side::Callee].into_iter().for_each(|to| bridge.begin(to, self.fresh()));
                let (spec, slots) = (Arc::clone(spec), SmallVec::new());
                place.into_iter().for_each(|place| drop(self.withdraw(place)));
                self.hosted.insert(Hosted { spec, bridge, flows: of_sides, begun: [false; 2], slots })
            }
        };
        if let Some(hosted) = self.hosted.get_mut(place) {
            hosted.flows = of_sides;
            let slots = members.iter().map(|member| member.id.slot).collect();
            let before = std::mem::replace(&mut hosted.slots, slots);
            for slot in before {
                self.by_slot.remove(&slot);
            }
        }
        self.by_slot.extend(members.iter().map(|member| (member.id.slot, place)));
        self.arm(place);
    }

    /// A flow is gone; with the last of its plan, the bridge.
    pub(super) fn forget(&mut self, slot: u32) {
        self.past.remove(&slot);
        let Some(place) = self.by_slot.remove(&slot) else { return };
        let Some(hosted) = self.hosted.get_mut(place) else { return };
        hosted.slots.retain(|own| *own != slot);
        if hosted.slots.is_empty() {
            self.withdraw(place);
        }
    }

    /// Whether packets of the flow in this slot are a bridge's.
    pub(super) fn take(&self, slot: u32) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// An RTP packet of the flow in this slot, as its peer sent it, passed all that is asked of it.
    pub(super) fn receive(&mut self, now: u64, slot: u32, packet: &[u8], exit: &mut Exit<'_, impl Carrier>) {
        self.with(now, slot, exit, |bridge, from, output| bridge.receive(time(now), from, packet, output));
    }

    /// Sends what is due.
    pub(super) fn run(&mut self, now: u64, exit: &mut Exit<'_, impl Carrier>) {
        while let Some(place) = self.due.expire(time(now)) {
            if let Some(hosted) = self.hosted.get_mut(place) {
                hosted.begin(now, exit.relay);
                let (mut leaving, bridge) = hosted.leaving(now, exit, &mut self.buffer, &mut self.records);
                bridge.run(time(now), &mut leaving);
            }
            self.arm(place);
        }
    }

    /// When [`Self::run`] has something to do.
    pub(in crate::dataplane) fn deadline(&self) -> Option<Time> {
        self.due.next()
    }

    /// A key that signalling brought, for the peer whom the flow of this slot hears.
    pub(super) fn press(&mut self, now: u64, slot: u32, press: Press, exit: &mut Exit<'_, impl Carrier>) {
        self.with(now, slot, exit, |bridge, to, output| bridge.press(time(now), to, press, output));
    }

    /// Plays to the peer whom the flow of this slot hears; `None` stops.
    pub(super) fn play(&mut self, now: u64, slot: u32, what: Option<(Source, PlayUntil)>) {
        let Some((place, side)) = self.place_of(slot) else { return };
        let Some(hosted) = self.hosted.get_mut(place) else { return };
        match what {
            Some((source, until)) => hosted.bridge.play(time(now), side, source, until),
            None => hosted.bridge.stop(side),
        }
        self.arm(place);
    }

    /// What codecs did for the peer whom the flow of this slot hears; `None` where no bridge is.
    pub(in crate::dataplane) fn work(&self, slot: u32) -> Option<Work> {
        let (place, side) = self.place_of(slot)?;
        Some(self.hosted.get(place)?.bridge.work(side))
    }

    /// What became of the packets that the flow of this slot heard; `None` where no bridge was.
    pub(in crate::dataplane) fn counters(&self, slot: u32) -> Option<Counters> {
        let past = self.past.get(&slot).copied();
        let Some((place, side)) = self.place_of(slot) else { return past };
        let mut counters = past.unwrap_or_default();
        counters += self.hosted.get(place)?.bridge.counters(side);
        Some(counters)
    }

    /// How the peer whom the flow of this slot hears is heard; `None` where no bridge is.
    pub(super) fn listening(&self, slot: u32) -> Option<Listening> {
        let (place, side) = self.place_of(slot)?;
        Some(self.hosted.get(place)?.bridge.listening(side))
    }

    /// What bridges had to say since the last call.
    pub(in crate::dataplane) fn records(&mut self) -> std::vec::Drain<'_, Record> {
        self.records.drain(..)
    }

    fn with<C: Carrier>(
        &mut self,
        now: u64,
        slot: u32,
        exit: &mut Exit<'_, C>,
        act: impl FnOnce(&mut Bridge, Side, &mut Leaving<'_, '_, C>),
    ) {
        let Some((place, side)) = self.place_of(slot) else { return };
        let Some(hosted) = self.hosted.get_mut(place) else { return };
        hosted.begin(now, exit.relay);
        let (mut leaving, bridge) = hosted.leaving(now, exit, &mut self.buffer, &mut self.records);
        act(bridge, side, &mut leaving);
        self.arm(place);
    }

    /// The bridge of a flow that hears RTP, and whose.
    fn place_of(&self, slot: u32) -> Option<(usize, Side)> {
        let place = *self.by_slot.get(&slot)?;
        let flows = self.hosted.get(place)?.flows;
        let hears = |side: &Side| flows[side.index()].is_some_and(|member| member.id.slot == slot);
        Some((place, [Side::Caller, Side::Callee].into_iter().find(hears)?))
    }

    fn dismiss(&mut self, place: usize, relay: &mut Relay) {
        let Some(hosted) = self.withdraw(place) else { return };
        for member in hosted.flows.into_iter().flatten() {
            relay.take_over(member.id);
        }
    }

    fn withdraw(&mut self, place: usize) -> Option<Hosted> {
        self.due.disarm(place);
        let hosted = self.hosted.try_remove(place)?;
        for slot in &hosted.slots {
            self.by_slot.remove(slot);
        }
        for side in [Side::Caller, Side::Callee] {
            let member = hosted.flows[side.index()].filter(|member| hosted.slots.contains(&member.id.slot));
            if let Some(Member { id, .. }) = member {
                *self.past.entry(id.slot).or_default() += hosted.bridge.counters(side);
            }
        }
        Some(hosted)
    }

    fn arm(&mut self, place: usize) {
        match self.hosted.get(place).and_then(|hosted| hosted.bridge.deadline()) {
            Some(at) => self.due.arm(place, at),
            None => self.due.disarm(place),
        }
    }

    /// RFC 3550 section 5.1; the sequence begins low, so that no packet that is lost at the start hides a turn of it from
    /// SRTP (RFC 3711 section 3.3.1).
    fn fresh(&mut self) -> Stream {
        let chance = self.chance.number();
        Stream {
            ssrc: chance as u32,
            sequence: (chance >> 32) as u16 & 0x7fff,
            timestamp: self.chance.number() as u32,
        }
    }
}

impl Hosted {
    /// Streams that nothing of the bridge's has left in yet go on behind what their flow sends until then: a packet that the
    /// program relays meanwhile is not met by another of its number.
    fn begin(&mut self, now: u64, relay: &Relay) {
        for to in [Side::Caller, Side::Callee].into_iter().filter(|to| !self.begun[to.index()]) {
            let clock_rate = self.spec.leg(to).coding.clock_rate();
            let sent = self.flows[to.other().index()];
            if let Some(stream) = sent.and_then(|member| relay.stream(now, member.id, clock_rate)) {
                self.bridge.begin(to, stream);
            }
        }
    }

    /// The bridge, and where its packets go.
    fn leaving<'a, 'b, C>(
        &'a mut self,
        now: u64,
        exit: &'a mut Exit<'b, C>,
        buffer: &'a mut Vec<u8>,
        records: &'a mut Vec<Record>,
    ) -> (Leaving<'a, 'b, C>, &'a mut Bridge) {
        (Leaving { now, flows: &self.flows, begun: &mut self.begun, exit, buffer, records }, &mut self.bridge)
    }
}

/// Where packets of one bridge go.
struct Leaving<'a, 'b, C> {
    now: u64,
    flows: &'a [Option<Member>; 2],
    begun: &'a mut [bool; 2],
    exit: &'a mut Exit<'b, C>,
    buffer: &'a mut Vec<u8>,
    records: &'a mut Vec<Record>,
}

impl<C: Carrier> Output for Leaving<'_, '_, C> {
    fn packet(&mut self, to: Side, _at: Time, packet: &[u8]) {
        // The flow that leads to a peer is the one that hears the other.
        if let Some(member) = self.flows[to.other().index()] {
            // After a hold the stream goes on where it stopped.
            self.begun[to.index()] = self.exit.leave_made(self.now, member.at, packet, self.buffer);
        }
    }

    fn key(&mut self, to: Side, press: Press) {
        if let Some(Member { id, .. }) = self.flows[to.index()] {
            self.records.push(Record::Key { flow: id, at: self.now, press });
        }
    }

    fn played(&mut self, to: Side) {
        if let Some(Member { id, .. }) = self.flows[to.index()] {
            self.records.push(Record::Played { flow: id, at: self.now });
        }
    }
}

fn spec_of(flows: &[FlowSpec]) -> Option<&Arc<BridgeSpec>> {
    flows.iter().find_map(|flow| flow.bridge.as_ref())
}

fn time(now: u64) -> Time {
    Time(now / 1_000)
}
