//! The rules of a relayed packet without a kernel: flows, their states, and what becomes of one UDP payload.

use super::super::compile::arrival;
use super::super::record::Record;
use super::counters::Counters;
use super::crypto::Crypto;
use super::engine::Way;
use super::states::States;
use crate::base::id::FlowId;
use crate::media::bridge::Stream;
use gateway_common::admit::Admitted;
use gateway_common::flow::{FlowConfig, FlowKey, FlowKind, NO_SLOT, Output, flag};
use gateway_common::learned::FlowState;
use gateway_common::net::{Addr128, Be16};
use gateway_common::record::RTCP_COPY_MAX;
use gateway_common::rewrite::{Sum, traffic_class};
use gateway_common::rtp::{Media, Rtp, TelephoneEvent};
use gateway_common::srtp::{FlowCrypto, FlowKeys};
use gateway_common::verdict::{Reason, Traffic};
use gateway_common::{account, admit, rtcp, rtp};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// A UDP payload as it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it arrived.
    pub at: FlowKey,
    pub source: Addr128,
    pub source_port: Be16,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To be sent, with its payload as rewritten.
    Send {
        from: SocketAddr,
        to: SocketAddr,
        traffic_class: u8,
        /// Octets of payload that were counted: before protection.
        octets: usize,
    },
    Drop(Reason),
    /// No flow arrives there.
    Pass,
}

/// A packet that its flow heard and that may leave once the way out is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    key: FlowKey,
    pub(super) slot: u32,
    media: Media,
    /// Octets that protection will add.
    pub(super) growth: usize,
    payload_type: u8,
    pub(super) from: (Addr128, Be16),
    pub(super) to: (Addr128, Be16),
    pub(super) traffic_class: u8,
}

impl Passage {
    pub(super) fn is_rtp(&self) -> bool {
        matches!(self.media, Media::Rtp(_))
    }
}

/// Flows and their states. Configurations are compiled as for the kernel.
#[derive(Debug, Default)]
pub struct Relay {
    flows: HashMap<FlowKey, FlowConfig>,
    states: States<FlowState>,
    counters: Arc<Counters>,
    records: Vec<Record>,
    crypto: Crypto,
    /// Interfaces whose packets find a socket, of flows that the program hands to userspace.
    pub(super) listening: HashSet<u32>,
}

impl Relay {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// Over states that the XDP program knows as well.
    pub(in crate::dataplane) fn over(
        counters: Arc<Counters>,
        states: States<FlowState>,
        crypto: States<FlowCrypto>,
    ) -> Self {
        Self { counters, states, crypto: Crypto::over(crypto), ..Self::default() }
    }

    /// Packets that come in by this interface find a socket where userspace relays their flow.
    pub fn listen(&mut self, ifindex: u32) {
        self.listening.insert(ifindex);
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Installs a flow or replaces its configuration.
    pub fn insert(&mut self, key: FlowKey, config: FlowConfig) {
        self.flows.insert(key, config);
    }

    pub fn remove(&mut self, key: FlowKey) -> Option<FlowConfig> {
        self.flows.remove(&key)
    }

    pub fn config(&self, key: FlowKey) -> Option<&FlowConfig> {
        self.flows.get(&key)
    }

    /// The state of a slot; of one that heard nothing, the state the kernel's array starts with.
    pub fn state(&self, slot: u32) -> FlowState {
        self.states.read(slot)
    }

    /// Forgets a slot's state.
    pub fn forget(&mut self, slot: u32) {
        self.states.forget(slot);
    }

    /// The keys in a crypto slot.
    pub fn keys(&self, slot: u32) -> FlowKeys {
        self.crypto.keys(slot)
    }

    pub fn set_keys(&mut self, slot: u32, keys: FlowKeys) {
        self.crypto.set(slot, keys);
    }

    /// Forgets the keys in a crypto slot.
    pub fn wipe_keys(&mut self, slot: u32) {
        self.crypto.wipe(slot);
    }

    /// What was counted in a crypto slot.
    pub fn crypto(&self, slot: u32) -> FlowCrypto {
        self.crypto.state(slot)
    }

    /// Changes what is written down of a crypto slot, by who counts with keys of another suite.
    pub(super) fn count<R>(&mut self, slot: u32, change: impl FnOnce(&mut FlowCrypto) -> R) -> R {
        self.crypto.count(slot, change)
    }

    /// What flows had to say since the last call.
    pub fn records(&mut self) -> std::vec::Drain<'_, Record> {
        self.records.drain(..)
    }

    /// One UDP payload at `now` (monotonic nanoseconds). Changed in place, and only when it is to be sent.
    pub fn relay(&mut self, now: u64, arrived: Arrival, payload: &mut Vec<u8>) -> Outcome {
        self.relay_heard(now, arrived, payload, |_| {})
    }

    /// The same, with what is to be done about RTCP that the flow heard, as its peer sent it.
    pub(super) fn relay_heard(
        &mut self,
        now: u64,
        arrived: Arrival,
        payload: &mut Vec<u8>,
        rtcp: impl FnOnce(&[u8]),
    ) -> Outcome {
        if !self.flows.contains_key(&arrived.at) {
            self.counters.count(Traffic::Passed);
            return Outcome::Pass;
        }
        if self.config(arrived.at).is_some_and(|config| config.kind == FlowKind::Udptl) {
            return match self.pass_on(now, arrived, payload.len()) {
                Err(reason) => {
                    self.refuse(arrived.at, reason);
                    Outcome::Drop(reason)
                }
                Ok(Way { from, to, traffic_class }) => {
                    self.counters.count(Traffic::Transmitted);
                    Outcome::Send { from, to, traffic_class, octets: payload.len() }
                }
            };
        }
        match self.judge(now, arrived, None, payload) {
            Err(reason) => Outcome::Drop(reason),
            Ok(passage) => {
                if !passage.is_rtp() {
                    rtcp(payload);
                }
                let octets = payload.len();
                if let Err(reason) = self.commit(now, &passage, payload) {
                    return Outcome::Drop(reason);
                }
                self.counters.count(Traffic::Transmitted);
                Outcome::Send {
                    from: arrival(FlowKey::new(passage.from.0, passage.from.1)),
                    to: arrival(FlowKey::new(passage.to.0, passage.to.1)),
                    traffic_class: passage.traffic_class,
                    octets,
                }
            }
        }
    }

    /// A packet that [`Relay::relay`] wanted sent, and of which it counted `octets`, could not be: it counts as dropped
    /// after all.
    pub fn not_sent(&mut self, at: FlowKey, payload: &[u8], octets: usize, reason: Reason) {
        self.counters.refuse(reason);
        let Some(config) = self.flows.get(&at) else { return };
        self.states.change(config.slot, |state| {
            account::refuse(state);
            match payload.get(1) {
                Some(192..=223) if config.kind != FlowKind::Udptl => account::rtcp_not_sent(state),
                _ => account::rtp_not_sent(state, octets),
            }
        });
    }

    /// Whether the flow hears the packet, and where it is to go. A payload that came protected is what it protected
    /// after it. `fault`: what its headers are refused for. A
    /// refusal is counted.
    pub(super) fn judge(
        &mut self,
        now: u64,
        arrived: Arrival,
        fault: Option<Reason>,
        payload: &mut Vec<u8>,
    ) -> Result<Passage, Reason> {
        let judged = self.hear(now, arrived, fault, payload);
        if let Err(reason) = judged {
            self.refuse(arrived.at, reason);
        }
        judged
    }

    /// Counts a packet of the flow at `at` that went nowhere.
    pub(super) fn refuse(&mut self, at: FlowKey, reason: Reason) {
        self.counters.refuse(reason);
        if let Some(config) = self.flows.get(&at) {
            self.states.change(config.slot, account::refuse);
        }
    }

    /// The packet leaves: counts it and makes its payload what the far side is to see.
    ///
    /// # Errors
    /// Its payload may not be protected; it counts as dropped.
    pub(super) fn commit(
        &mut self,
        now: u64,
        passage: &Passage,
        payload: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        let Some(config) = self.flows.get(&passage.key).copied() else { return Ok(()) };
        let octets = payload.len();
        match &passage.media {
            Media::Rtp(rtp) => {
                let send = |state: &mut FlowState| account::send_rtp(state, rtp, octets, now);
                let outgoing = self.states.change(passage.slot, send);
                if let Some(header) = payload.first_chunk_mut::<{ rtp::RTP_LEN }>() {
                    header[1] = rtp.marker | passage.payload_type;
                    header[2..4].copy_from_slice(&outgoing.sequence.to_be_bytes());
                    header[4..8].copy_from_slice(&outgoing.timestamp.to_be_bytes());
                    header[8..12].copy_from_slice(&outgoing.ssrc.bytes());
                }
            }
            Media::Rtcp(_) => {
                self.states.change(passage.slot, account::send_rtcp);
                let translation = self.translation(&config);
                if !translation.is_identity() {
                    rtcp::translate(payload.as_mut_slice(), 0, octets, &translation, Sum::default());
                }
            }
        }
        if config.flags & flag::PROTECT == 0 {
            return Ok(());
        }
        self.crypto.protect(config.crypto_slot, payload).inspect_err(|reason| {
            self.states.change(passage.slot, |state| {
                match passage.media {
                    Media::Rtp(_) => account::rtp_not_sent(state, octets),
                    Media::Rtcp(_) => account::rtcp_not_sent(state),
                }
                account::refuse(state);
            });
            self.counters.refuse(*reason);
        })
    }

    /// An RTP packet that was made here is to leave in the stream of the flow at `at`: counts it, and says by which way.
    /// `None` while the flow is muted.
    ///
    /// # Errors
    /// Nobody has said yet where it is to go.
    pub(super) fn send_made(&mut self, now: u64, at: FlowKey, packet: &[u8]) -> Result<Option<Way>, Reason> {
        let config = *self.flows.get(&at).ok_or(Reason::StateMissing)?;
        if config.flags & flag::MUTED != 0 {
            return Ok(None);
        }
        let Media::Rtp(rtp) = rtp::parse(packet, 0, packet.len(), FlowKind::Rtp)? else { return Ok(None) };
        let way = self.way(&config, &config.rtp)?;
        self.states.change(config.slot, |state| {
            admit::begin(&config, state);
            account::send_made(state, &rtp, packet.len(), now);
        });
        self.counters.count(Traffic::Transmitted);
        Ok(Some(way))
    }

    /// RTCP that was made here is to leave by the flow at `at`: counts it, and says by which way.
    ///
    /// # Errors
    /// Nobody has said yet where it is to go.
    pub(super) fn send_report(&mut self, at: FlowKey) -> Result<Way, Reason> {
        let config = *self.flows.get(&at).ok_or(Reason::StateMissing)?;
        let way = self.way(&config, &config.rtcp)?;
        self.states.change(config.slot, |state| {
            admit::begin(&config, state);
            account::send_rtcp(state);
        });
        self.counters.count(Traffic::Transmitted);
        Ok(way)
    }

    /// The way of what is made here and leaves by this output of a flow.
    fn way(&self, config: &FlowConfig, output: &Output) -> Result<Way, Reason> {
        let (to, to_port) = self.destination(output)?;
        Ok(Way {
            from: arrival(FlowKey::new(output.local, output.local_port)),
            to: arrival(FlowKey::new(to, to_port)),
            traffic_class: traffic_class(0, config.dscp),
        })
    }

    /// Protects what leaves by the flow at `at`, where that is for the program's keys.
    pub(super) fn protect(&mut self, at: FlowKey, payload: &mut Vec<u8>) -> Result<(), Reason> {
        match self.flows.get(&at) {
            Some(config) if config.flags & flag::PROTECT != 0 => {
                self.crypto.protect(config.crypto_slot, payload)
            }
            _ => Ok(()),
        }
    }

    /// What follows on what a flow has sent so far, at `clock_rate`; `None` where it has sent nothing.
    pub(super) fn stream(&self, now: u64, flow: FlowId, clock_rate: u32) -> Option<Stream> {
        let state = self.states.read(flow.slot);
        if state.epoch != flow.epoch || state.sent_at == 0 {
            return None;
        }
        let next = account::next_made(&state, clock_rate, now);
        Some(Stream { ssrc: next.ssrc.host(), sequence: next.sequence, timestamp: next.timestamp })
    }

    /// What was made here for a flow reaches to this timestamp at `now`: what follows begins there.
    pub(super) fn reach(&mut self, now: u64, flow: FlowId, timestamp: u32) {
        self.states.change(flow.slot, |state| account::reach(state, timestamp, now));
    }

    /// What peers send is relayed again, behind what was made here.
    pub(super) fn take_over(&mut self, flow: FlowId) {
        self.states.change(flow.slot, account::take_over);
    }

    /// A packet that is relayed as it is: whether the flow hears it, and by which way it leaves, counted.
    fn pass_on(&mut self, now: u64, arrived: Arrival, octets: usize) -> Result<Way, Reason> {
        let config = *self.flows.get(&arrived.at).ok_or(Reason::StateMissing)?;
        let source = (arrived.source, arrived.source_port);
        let latched = self.states.change(config.slot, |state| {
            admit::begin(&config, state);
            admit::admit_datagram(&config, state, source, now)
        })?;
        if latched {
            let flow = FlowId { slot: config.slot, epoch: config.epoch };
            self.records.push(Record::Latched { flow, at: now });
            self.turn_follower(&config);
        }
        if config.flags & flag::MUTED != 0 {
            return Err(Reason::Muted);
        }
        let way = self.way(&config, &config.rtp)?;
        self.states.change(config.slot, |state| account::relay_datagram(state, octets, now));
        Ok(Way { traffic_class: traffic_class(arrived.traffic_class, config.dscp), ..way })
    }

    /// This flow has taken another source: the one that leads there, which the program may relay, finds its way anew.
    fn turn_follower(&mut self, config: &FlowConfig) {
        if config.follower_slot != NO_SLOT {
            self.states.change(config.follower_slot, |state| state.shortcut.revision = 0);
        }
    }

    fn hear(
        &mut self,
        now: u64,
        arrived: Arrival,
        fault: Option<Reason>,
        payload: &mut Vec<u8>,
    ) -> Result<Passage, Reason> {
        let config = *self.flows.get(&arrived.at).ok_or(Reason::StateMissing)?;
        self.states.change(config.slot, |state| admit::begin(&config, state));
        if let Some(reason) = fault {
            return Err(reason);
        }
        if config.flags & flag::UNPROTECT != 0 {
            if !admit::gate_opens(&config, arrived.source, arrived.source_port) {
                return Err(Reason::SourceRefused);
            }
            self.crypto.unprotect(config.crypto_slot, payload)?;
        }
        let payload = payload.as_slice();
        let media = rtp::parse(payload, 0, payload.len(), config.kind)?;
        if let Media::Rtcp(_) = media {
            rtcp::check(payload, 0, payload.len())?;
        }
        let admitted = self.admit(now, &config, arrived, &media, payload)?;
        let output = match media {
            Media::Rtp(_) if admitted.muted => return Err(Reason::Muted),
            Media::Rtp(_) => &config.rtp,
            Media::Rtcp(_) => &config.rtcp,
        };
        Ok(Passage {
            key: arrived.at,
            slot: config.slot,
            growth: self.growth(&config, &media),
            media,
            payload_type: admitted.payload_type,
            from: (output.local, output.local_port),
            to: self.destination(output)?,
            traffic_class: traffic_class(arrived.traffic_class, config.dscp),
        })
    }

    /// Whether the flow takes what came, and what it learns of it: counted, and told where somebody wants to know.
    fn admit(
        &mut self,
        now: u64,
        config: &FlowConfig,
        arrived: Arrival,
        media: &Media,
        payload: &[u8],
    ) -> Result<Admitted, Reason> {
        let flow = FlowId { slot: config.slot, epoch: config.epoch };
        let records = &mut self.records;
        let admitted = self.states.change(config.slot, |state| {
            let source = (arrived.source, arrived.source_port);
            let admitted = admit::admit(config, state, source, media, now)?;
            if admitted.latched {
                records.push(Record::Latched { flow, at: now });
            }
            match media {
                Media::Rtp(rtp) => {
                    account::hear_rtp(config, state, rtp, admitted.event, now);
                    if admitted.event && config.flags & flag::TELEPHONE_EVENT != 0 {
                        records.extend(event_records(flow, state, rtp, payload, now).into_iter().flatten());
                    }
                }
                Media::Rtcp(packet) => {
                    account::hear_rtcp(config, state, packet, now);
                    if config.flags & flag::RTCP_COPY != 0 {
                        let copied = payload.get(..RTCP_COPY_MAX).unwrap_or(payload).to_owned();
                        records.push(Record::Rtcp { flow, at: now, payload: copied });
                    }
                }
            }
            Ok::<_, Reason>(admitted)
        })?;
        if admitted.latched {
            self.turn_follower(config);
        }
        Ok(admitted)
    }

    /// Where what leaves by this output of a flow goes.
    fn destination(&self, output: &Output) -> Result<(Addr128, Be16), Reason> {
        let to = output.destination(self.learned(output.learned_slot).as_ref())?;
        // An address of one family cannot be reached from the other.
        if to.0.is_v4() != output.local.is_v4() {
            return Err(Reason::NoDestination);
        }
        Ok(to)
    }

    /// Octets that protection will add.
    fn growth(&self, config: &FlowConfig, media: &Media) -> usize {
        match media {
            _ if config.flags & flag::PROTECT == 0 => 0,
            Media::Rtp(_) => self.crypto.growth(config.crypto_slot, false),
            Media::Rtcp(_) => self.crypto.growth(config.crypto_slot, true),
        }
    }

    fn translation(&self, config: &FlowConfig) -> rtcp::Translation {
        let (stream, reported) = (self.learned(config.stream_slot), self.learned(config.reported_slot));
        rtcp::Translation::new(stream.as_ref(), reported.as_ref())
    }

    /// What is known of another flow.
    fn learned(&self, slot: u32) -> Option<FlowState> {
        (slot != NO_SLOT).then(|| self.states.read(slot))
    }

    /// Whether the gate of a flow lets the packet in, and its rate: all that is asked of a packet for userspace, and of a
    /// connectivity check.
    pub(super) fn knocks(
        &mut self,
        now: u64,
        arrived: Arrival,
        fault: Option<Reason>,
        is_check: bool,
    ) -> Result<(), Reason> {
        let config = *self.flows.get(&arrived.at).ok_or(Reason::StateMissing)?;
        self.states.change(config.slot, |state| {
            admit::begin(&config, state);
            match fault {
                Some(fault) => Err(fault),
                None if is_check && !admit::is_vouched_for(&config, arrived.source, arrived.source_port) => {
                    if admit::within_check_rate(state, now) {
                        Ok(())
                    } else {
                        Err(Reason::CheckRate)
                    }
                }
                None if !admit::gate_opens(&config, arrived.source, arrived.source_port) => {
                    Err(Reason::SourceRefused)
                }
                None if !admit::within_rate(&config, state, now) => Err(Reason::RateLimited),
                None => Ok(()),
            }
        })
    }
}

/// What a telephone-event packet tells that was not told before: at most a start and an end.
fn event_records(
    flow: FlowId,
    state: &mut FlowState,
    rtp: &Rtp,
    payload: &[u8],
    now: u64,
) -> [Option<Record>; 2] {
    let length = payload.len().saturating_sub(rtp.header_len);
    let Some(event) = TelephoneEvent::parse(payload, rtp.header_len, length) else { return [None, None] };
    let news = account::telephone_event(state, rtp, &event);
    let (code, duration) = (event.code, event.duration);
    [
        news.start.then_some(Record::EventStart { flow, at: now, event: code, duration }),
        news.end.then_some(Record::EventEnd { flow, at: now, event: code, duration }),
    ]
}

/// Whether packets of RTP, of RTCP, or of both arrive at a flow; those of fax leave by the way of RTP.
pub(super) fn carries(kind: FlowKind) -> (bool, bool) {
    (kind != FlowKind::Rtcp, matches!(kind, FlowKind::Rtcp | FlowKind::Mux))
}
