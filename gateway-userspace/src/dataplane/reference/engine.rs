//! One engine for the packets that the kernel does not relay, whatever carries them to it.
//!
//! It owns flows, their states and their keys, and is told what arrived and when. It knows no socket, clock or thread:
//! what is to leave goes to a [`Carrier`]. Whoever carries packets (plain sockets in [`super::sockets`]) is its host.
//!
//! A packet goes through [`Engine::receive`] in five steps, each of which is a seam for what is more than a relay:
//!
//! ```text
//! check       connectivity checks are answered by the port's ICE agent, and go no further: nothing of STUN is SRTP
//! unprotect   gate, then SRTP
//! judge       payload type, latch, rate, counts    a bridge takes the packet behind it, by the flow's slot, and stops here
//! commit      numbering and SSRC of the far side
//! leave       protect, carrier                     what a bridge or an agent makes itself leaves here too
//! ```
//!
//! * A bridge is a value in a table of the engine by slot, as an agent is, put there by [`Engine::secure`]'s kin when a plan
//!   is installed and taken out by [`Engine::forget`].
//! * What acts by itself (a bridge at its own pace) is asked for its next moment and run by the host: a deadline of the
//!   engine joins those of the host's sleep, and a run of the engine stands beside [`Engine::receive`], with the same
//!   carrier.
//! * [`Exit`] is the one way out: it protects with the keys of the flow and counts what could not be sent.

use super::bridges::{Bridges, Member};
use super::checks::Checks;
use super::counters::Counters;
use super::exit::{Captures, Exit};
use super::relay::{Arrival, Outcome, Relay};
use super::reports::{Reports, Taken};
use super::secured::{CountedSource, Secured};
use super::states::States;
use crate::base::id::FlowId;
use crate::base::time::Time;
use crate::dataplane::compile::{Place, arrival};
use crate::dataplane::record::Record;
use crate::ice::is_stun;
use crate::media::bridge::{Bridge, PlayUntil};
use crate::media::plan::FlowSpec;
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
use crate::srtp::MasterKey;
use gateway_common::admit;
use gateway_common::flow::{FlowConfig, FlowKey, NO_SLOT, flag};
use gateway_common::learned::FlowState;
use gateway_common::srtp::{FlowCrypto, FlowKeys, Stream};
use gateway_common::verdict::{Reason, Traffic};
use std::net::SocketAddr;
use std::sync::Arc;

pub(in crate::dataplane) use super::secured::GROWTH_MAX;

/// Largest UDP payload that the engine takes in.
pub(in crate::dataplane) const DATAGRAM_MAX: usize = 65_535;

/// What takes packets away.
pub(in crate::dataplane) trait Carrier {
    /// Sends a UDP payload from one of our addresses, which a flow names; `traffic_class` is DSCP and ECN.
    ///
    /// # Errors
    /// Why it did not leave.
    fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        traffic_class: u8,
        payload: &[u8],
    ) -> Result<(), Reason>;
}

impl<C: Carrier + ?Sized> Carrier for &mut C {
    fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        traffic_class: u8,
        payload: &[u8],
    ) -> Result<(), Reason> {
        (**self).send(from, to, traffic_class, payload)
    }
}

/// Where a packet leaves from and to, with DSCP and ECN.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Way {
    pub(in crate::dataplane) from: SocketAddr,
    pub(in crate::dataplane) to: SocketAddr,
    pub(in crate::dataplane) traffic_class: u8,
}

/// Flows of one worker.
#[derive(Debug)]
pub(in crate::dataplane) struct Engine {
    relay: Relay,
    secured: Secured,
    checks: Checks,
    bridges: Bridges,
    reports: Reports,
    /// The payload being relayed.
    payload: Vec<u8>,
    captures: Captures,
    /// Flows that agents had something new to say of, where a table beside this one has to know.
    rewritten: Option<Vec<FlowKey>>,
    /// Where the answer to the check that came last is to go ([`Engine::answer`]).
    answering: Option<Way>,
}

impl Engine {
    pub(in crate::dataplane) fn new(counters: Arc<Counters>) -> Self {
        Self {
            relay: Relay::new(counters),
            secured: Secured::default(),
            checks: Checks::default(),
            bridges: Bridges::default(),
            reports: Reports::default(),
            payload: Vec::with_capacity(DATAGRAM_MAX),
            captures: Captures::default(),
            rewritten: None,
            answering: None,
        }
    }

    /// Over states that the XDP program knows as well: flows move between the two.
    pub(in crate::dataplane) fn over(
        counters: Arc<Counters>,
        states: States<FlowState>,
        counted: States<FlowCrypto>,
    ) -> Self {
        let relay = Relay::over(counters, states, counted);
        let reports = Reports::beside();
        Self { relay, reports, rewritten: Some(Vec::new()), ..Self::new(Arc::default()) }
    }

    pub(in crate::dataplane) fn config(&self, at: FlowKey) -> Option<&FlowConfig> {
        self.relay.config(at)
    }

    pub(in crate::dataplane) fn state(&self, slot: u32) -> FlowState {
        self.relay.state(slot)
    }

    /// Installs a flow or replaces its configuration.
    pub(in crate::dataplane) fn insert(&mut self, at: FlowKey, config: FlowConfig) {
        self.relay.insert(at, config);
    }

    /// Has the flow at `at` be what `config` says, if it is not.
    pub(in crate::dataplane) fn follow(&mut self, at: FlowKey, config: FlowConfig) {
        if self.relay.config(at) != Some(&config) {
            self.relay.insert(at, config);
        }
    }

    pub(in crate::dataplane) fn remove(&mut self, at: FlowKey) -> Option<FlowConfig> {
        self.relay.remove(at)
    }

    /// Gives the flow of `slot` keys for what arrives and what leaves. Flags of its configuration that speak of SRTP are
    /// for keys of [`Engine::set_keys`], whose suite the XDP program computes as well; a direction has one or the other.
    ///
    /// What is counted with these keys is written down in the flow's crypto slot, if it has one, so that it outlives this
    /// process; `adopted` goes on from what stands there.
    pub(in crate::dataplane) fn secure(
        &mut self,
        (slot, crypto_slot): (u32, u32),
        [arriving, leaving]: [Option<&MasterKey>; 2],
        adopted: bool,
    ) {
        let [arriving_is_other, leaving_is_other] = self.secured.set(slot, arriving, leaving);
        if crypto_slot == NO_SLOT {
            return;
        }
        if adopted {
            let written = self.relay.crypto(crypto_slot);
            return self.secured.resume(slot, &written);
        }
        self.relay.count(crypto_slot, |written| {
            if arriving_is_other && arriving.is_some() {
                written.unprotect = Stream { epoch: written.unprotect.epoch, ..Stream::default() };
            }
            if leaving_is_other && leaving.is_some() {
                written.protect = Stream { epoch: written.protect.epoch, ..Stream::default() };
            }
        });
    }

    /// Puts the program's keys of a crypto slot where packets will look for them.
    pub(in crate::dataplane) fn set_keys(&mut self, slot: u32, keys: FlowKeys) {
        self.relay.set_keys(slot, keys);
    }

    pub(in crate::dataplane) fn wipe_keys(&mut self, slot: u32) {
        self.relay.wipe_keys(slot);
    }

    /// Forgets a slot that is free again.
    pub(in crate::dataplane) fn forget(&mut self, slot: u32) {
        self.relay.forget(slot);
        self.secured.forget(slot);
        self.checks.forget(slot);
        self.bridges.forget(slot);
        self.reports.forget(slot);
    }

    /// Agents answer the checks of these flows as the plan says, and tell apart whose packets are of which key.
    pub(in crate::dataplane) fn configure_checks(&mut self, flows: &[FlowSpec], places: &[Place]) {
        self.checks.configure(flows, places);
        for (flow, place) in flows.iter().zip(places) {
            let forks = flow.checks.iter().flat_map(|checks| checks.forks.iter().skip(1));
            self.secured.set_forks(place.slot, forks.map(|fork| fork.unprotect.as_ref()));
        }
    }

    /// Agents of ports that take connectivity checks.
    pub(in crate::dataplane) fn checks(&mut self) -> &mut Checks {
        &mut self.checks
    }

    /// Flows that agents had something new to say of ([`Checks::write`]) since the last call.
    pub(in crate::dataplane) fn rewritten(&mut self) -> Vec<FlowKey> {
        self.rewritten.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What flows had to say since the last call.
    pub(in crate::dataplane) fn records(&mut self) -> impl Iterator<Item = Record> {
        let made = self.bridges.records().chain(self.reports.records());
        self.relay.records().chain(made).chain(self.captures.records())
    }

    /// Calls that are more than a relay.
    pub(in crate::dataplane) fn bridges(&self) -> &Bridges {
        &self.bridges
    }

    /// Sends at once what bridges of these flows hold still, where something else will stand between their peers by this
    /// plan: under the agreement that it came by.
    pub(in crate::dataplane) fn conclude(
        &mut self,
        now: u64,
        ids: &[FlowId],
        flows: &[FlowSpec],
        carrier: &mut impl Carrier,
    ) {
        let (bridges, mut exit) = self.bridged(carrier);
        bridges.conclude(now, ids, flows, &mut exit);
    }

    /// Flows of one plan are as it says from now on, with what stands between their peers ([`Bridges::prepare`]).
    pub(in crate::dataplane) fn host(
        &mut self,
        now: u64,
        members: &[Member],
        flows: &[FlowSpec],
        prepared: Option<Bridge>,
    ) {
        self.bridges.host((members, flows), prepared, &mut self.relay);
        self.reports.host(now, &self.relay, members, flows);
    }

    /// Flows whose RTCP is to come here from now on, because reports leave by them, or no more, since the last
    /// call.
    pub(in crate::dataplane) fn taken(&mut self) -> Vec<Taken> {
        self.reports.taken()
    }

    /// RTCP that a program beside this engine relays came by the flow of this slot at `now`, as its peer sent
    /// it.
    pub(in crate::dataplane) fn rtcp(&mut self, now: u64, slot: u32, compound: &[u8]) {
        self.reports.receive(now, slot, compound);
    }

    /// Sends what bridges, and reports to their peers, have to send at `now` (monotonic nanoseconds), and forgets what checks
    /// vouch for no more.
    pub(in crate::dataplane) fn run(&mut self, now: u64, carrier: &mut impl Carrier) {
        let concerned = self.checks.expire(now);
        self.rewrite(&concerned);
        let Self { relay, secured, bridges, reports, captures, .. } = self;
        let mut exit = Exit { relay, secured, captures, carrier };
        bridges.run(now, &mut exit);
        reports.run(now, bridges, &mut exit);
    }

    /// When [`Self::run`] has something to do.
    pub(in crate::dataplane) fn deadline(&self) -> Option<Time> {
        [self.bridges.deadline(), self.reports.deadline(), self.checks.deadline()].into_iter().flatten().min()
    }

    /// These flows are about to go: peers that had reports of ours are told (RFC 3550 section 6.3.7).
    pub(in crate::dataplane) fn goodbye(&mut self, now: u64, ids: &[FlowId], carrier: &mut impl Carrier) {
        let Self { relay, secured, bridges, reports, captures, .. } = self;
        let mut exit = Exit { relay, secured, captures, carrier };
        ids.iter().for_each(|id| reports.goodbye(now, id.slot, bridges, &mut exit));
    }

    /// A key that signalling brought, for the peer whom the flow of this slot hears.
    pub(in crate::dataplane) fn press(
        &mut self,
        now: u64,
        slot: u32,
        press: Press,
        carrier: &mut impl Carrier,
    ) {
        let (bridges, mut exit) = self.bridged(carrier);
        bridges.press(now, slot, press, &mut exit);
    }

    /// Plays to the peer whom the flow of this slot hears, or stops.
    pub(in crate::dataplane) fn play(&mut self, now: u64, slot: u32, what: Option<(Source, PlayUntil)>) {
        self.bridges.play(now, slot, what);
    }

    fn bridged<'a, C: Carrier>(&'a mut self, carrier: &'a mut C) -> (&'a mut Bridges, Exit<'a, C>) {
        let Self { relay, secured, bridges, captures, .. } = self;
        (bridges, Exit { relay, secured, captures, carrier })
    }

    /// A UDP payload came at `now` (monotonic nanoseconds): the first `octets` of `buffer`, behind which there are
    /// [`GROWTH_MAX`] octets of room. What becomes of it is counted.
    pub(in crate::dataplane) fn receive(
        &mut self,
        now: u64,
        arrived: Arrival,
        buffer: &mut [u8],
        octets: usize,
        carrier: &mut impl Carrier,
    ) {
        let at = arrived.at;
        let Some(config) = self.relay.config(at).copied() else { return };
        if config.flags & flag::CAPTURE != 0 {
            let way = Way {
                from: arrival(FlowKey::new(arrived.source, arrived.source_port)),
                to: arrival(at),
                traffic_class: arrived.traffic_class,
            };
            if !self.captures.copy(&config, now, false, way, buffer.get(..octets).unwrap_or_default()) {
                self.relay.counters().count(Traffic::CapturesLost);
            }
        }
        if self.checks.take(config.slot) && is_stun(buffer.get(..octets).unwrap_or_default()) {
            return self.check(now, &arrived, config.slot, buffer.get(..octets).unwrap_or_default());
        }
        let octets = match self.unprotect(&config, &arrived, buffer.get_mut(..octets).unwrap_or_default()) {
            Ok(octets) => octets,
            Err(reason) => return self.relay.refuse(at, reason),
        };
        let Some(plain) = buffer.get_mut(..octets) else { return };
        if config.crypto_slot != NO_SLOT
            && let Some(CountedSource { ssrc, is_rtcp, counted }) = self.secured.arrived(config.slot, plain)
        {
            // A source too many is heard, and begins anew with the next daemon.
            self.relay.count(config.crypto_slot, |written| written.unprotect.record(ssrc, is_rtcp, counted));
        }
        self.payload.clear();
        self.payload.extend_from_slice(plain);
        if self.bridges.take(config.slot) {
            let Self { relay, secured, bridges, reports, captures, payload, .. } = self;
            let Ok(passage) = relay.judge(now, arrived, None, payload) else { return };
            // Reports of a stream that ends here end here too.
            return match passage.is_rtp() {
                false => reports.receive(now, config.slot, payload),
                true => {
                    let mut exit = Exit { relay, secured, captures, carrier };
                    bridges.receive(now, config.slot, payload, &mut exit);
                }
            };
        }
        let Self { relay, reports, payload, .. } = self;
        let outcome = relay.relay_heard(now, arrived, payload, |compound| {
            reports.receive(now, config.slot, compound);
        });
        let Outcome::Send { from, to, traffic_class, octets: counted } = outcome else {
            return;
        };
        let length = self.payload.len();
        let Some(leaving) = buffer.get_mut(..length) else {
            return self.relay.not_sent(at, &self.payload, counted, Reason::NoTailroom);
        };
        leaving.copy_from_slice(&self.payload);
        let Self { relay, secured, captures, .. } = self;
        let way = Way { from, to, traffic_class };
        Exit { relay, secured, captures, carrier }.leave(now, at, way, (buffer, length), counted);
    }

    /// Writes the answer to what looks like a connectivity check, and what it changes into the flows concerned.
    fn check(&mut self, now: u64, arrived: &Arrival, slot: u32, packet: &[u8]) {
        // Where there is an XDP program it has asked.
        let is_asked = self.relay.config(arrived.at).is_some_and(|config| config.flags & flag::ICE == 0);
        if !is_asked && let Err(reason) = self.relay.knocks(now, *arrived, None, true) {
            return self.relay.refuse(arrived.at, reason);
        }
        let Some(answer) = self.checks.receive(now, slot, arrived, packet) else { return };
        if answer.refused {
            self.relay.refuse(arrived.at, Reason::CheckRefused);
        }
        let way = Way { from: arrival(arrived.at), to: answer.to, traffic_class: arrived.traffic_class };
        self.answering = Some(way).filter(|_| answer.is_written);
        let concerned = answer.concerned.to_vec();
        self.rewrite(&concerned);
    }

    /// Sends the answer to a check that came, if there is one: behind [`Engine::receive`], and behind what the check has
    /// changed where a table beside this one has to know, as whoever has the answer may send media (RFC 8445 section 12.1).
    pub(in crate::dataplane) fn answer(&mut self, carrier: &mut impl Carrier) {
        let Some(Way { from, to, traffic_class }) = self.answering.take() else { return };
        // An answer that is lost is asked for again.
        match carrier.send(from, to, traffic_class, self.checks.answer()) {
            Ok(()) => self.relay.counters().count(Traffic::ChecksAnswered),
            Err(reason) => self.relay.counters().refuse(reason),
        }
    }

    /// Flows are as agents say from now on.
    fn rewrite(&mut self, concerned: &[FlowKey]) {
        for at in concerned {
            if let Some(mut config) = self.relay.config(*at).copied() {
                self.checks.write(&mut config);
                self.relay.insert(*at, config);
            }
        }
        if let Some(rewritten) = &mut self.rewritten {
            rewritten.extend_from_slice(concerned);
        }
    }

    fn unprotect(
        &mut self,
        config: &FlowConfig,
        arrived: &Arrival,
        packet: &mut [u8],
    ) -> Result<usize, Reason> {
        // No stranger makes us compute a tag.
        let opens = admit::gate_opens(config, arrived.source, arrived.source_port)
            && self.checks.hears(config.slot, arrived);
        match opens {
            true => {
                let fork = self.checks.fork(config.slot, arrived);
                let unprotected = self.secured.unprotect(config.slot, fork, packet)?;
                if unprotected < packet.len() {
                    let concerned = self.checks.heard_media(config.slot, arrived).to_vec();
                    self.rewrite(&concerned);
                }
                Ok(unprotected)
            }
            false => Err(Reason::SourceRefused),
        }
    }
}
