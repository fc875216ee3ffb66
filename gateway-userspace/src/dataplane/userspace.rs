//! Flows that userspace relays while XDP has the interfaces: their packets leave the program for AF_XDP sockets, meet the
//! engine, and leave by raw sockets.
//!
//! A worker owns the sockets of some receive queues, and flows of its own: a packet of another worker's flow takes one
//! hop. The flow table says whose a flow is and what it is to be, packet by packet; states are those of the program, so
//! that a flow goes on where the other left it when it moves between the two.

use super::compile::Compiled;
use super::fault::DataplaneFault;
use super::handover::Handover;
use super::kernel::monotonic;
use super::keys::{self, KernelKeys};
use super::mmap::SharedArray;
use super::node::Queue;
use super::raw::RawSender;
use super::record::Record;
use super::reference::Counters;
use super::reference::bridges::{Bridges, Member};
use super::reference::checks::Checks;
use super::reference::engine::{Carrier, Engine};
use super::reference::relay::Arrival;
use super::reference::reports::Taken;
use super::reference::states::States;
use super::table::KernelFlows;
use super::xsk::Xsk;
use crate::base::id::CoreId;
use crate::base::time::Time;
use crate::media::plan::FlowSpec;
use aya::maps::{MapData, XskMap};
use gateway_common::flow::{FlowConfig, FlowKey, NO_SLOT, flag};
use gateway_common::headers::{self, Parsed};
use gateway_common::learned::FlowState;
use gateway_common::verdict::{Reason, Traffic};
use mio::unix::SourceFd;
use mio::unix::pipe::{self, Receiver};
use mio::{Interest, Registry, Token};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What one worker needs of the node.
pub(super) struct Parts {
    pub(super) worker: CoreId,
    /// Receive queues of this worker.
    pub(super) queues: Vec<Queue>,
    /// Frames of each socket.
    pub(super) frames: u32,
    pub(super) sockets: XskMap<MapData>,
    pub(super) handover: Arc<Handover>,
    pub(super) counters: Arc<Counters>,
}

/// One worker's part of it.
#[derive(Debug)]
pub(super) struct Userspace {
    parts: Parts,
    table: Arc<KernelFlows>,
    engine: Engine,
    sender: RawSender,
    listening: Vec<Xsk>,
    /// Flows that are to be the kernel's, and what they are to be there: from behind their next packet on.
    leaving: HashMap<FlowKey, FlowConfig>,
    /// Of those, the ones whose packet came.
    due: Vec<FlowKey>,
    /// Rung by who passes packets on.
    bell: Option<Receiver>,
    /// Of the bell, and of sockets behind it.
    tokens: Range<usize>,
    /// Why there are no sockets, where they were asked for.
    refused: Option<String>,
    keys: Arc<KernelKeys>,
    /// It was said that no peer has reports of ours.
    is_mute: bool,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// The queue of a daemon that was killed is free once the kernel has put its memory away.
const BUSY_MAX: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

impl Userspace {
    pub(super) fn new(
        parts: Parts,
        table: Arc<KernelFlows>,
        states: Arc<SharedArray<FlowState>>,
        keys: Arc<KernelKeys>,
    ) -> Self {
        let (states, counted) = (States::Shared(states), States::Shared(keys.counts()));
        let engine = Engine::over(Arc::clone(&parts.counters), states, counted);
        Self {
            parts,
            table,
            engine,
            sender: RawSender::default(),
            listening: Vec::new(),
            leaving: HashMap::new(),
            due: Vec::new(),
            bell: None,
            tokens: 0..0,
            refused: None,
            keys,
            is_mute: false,
        }
    }

    /// Opens the sockets of this worker's queues, which wake `registry`'s poll by tokens of this range. Where that is not
    /// to be had the kernel goes on with what it relays, and [`Userspace::available`] says why there is nothing else.
    pub(super) fn register(&mut self, registry: &Registry, tokens: Range<usize>) -> io::Result<()> {
        let (sender, mut bell) = pipe::new()?;
        registry.register(&mut bell, Token(tokens.start), Interest::READABLE)?;
        self.parts.handover.announce(self.parts.worker, sender);
        self.bell = Some(bell);
        self.tokens = tokens.start..tokens.start + 1;
        if let Err(error) = self.listen(registry) {
            let why = match error.kind() {
                io::ErrorKind::PermissionDenied => "it takes CAP_NET_RAW".to_owned(),
                _ => error.to_string(),
            };
            tracing::warn!(
                why,
                "no AF_XDP sockets: calls that need userspace (another codec, SRTP suites other than AES_CM_128) are refused"
            );
            self.refused = Some(why);
        }
        Ok(())
    }

    fn listen(&mut self, registry: &Registry) -> io::Result<()> {
        RawSender::probe()?;
        for queue in &self.parts.queues {
            let mut opened = Xsk::open(queue.ifindex, queue.queue, self.parts.frames);
            for _ in 0..BUSY_MAX {
                if !matches!(&opened, Err(error) if error.kind() == io::ErrorKind::ResourceBusy) {
                    break;
                }
                thread::sleep(BUSY_PAUSE);
                opened = Xsk::open(queue.ifindex, queue.queue, self.parts.frames);
            }
            let socket = match opened {
                Ok(socket) => socket,
                // More queues were made room for than the driver runs now.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && queue.queue > 0 => continue,
                Err(error) => return Err(error),
            };
            registry.register(
                &mut SourceFd(&socket.descriptor()),
                Token(self.tokens.end),
                Interest::READABLE,
            )?;
            self.parts.sockets.set(queue.place, socket.descriptor(), 0).map_err(io::Error::other)?;
            self.tokens.end += 1;
            self.listening.push(socket);
        }
        Ok(())
    }

    /// Whether packets come here.
    ///
    /// # Errors
    /// [`DataplaneFault::Userspace`] with what is in the way.
    pub(super) fn available(&self) -> Result<(), DataplaneFault> {
        match &self.refused {
            None => Ok(()),
            Some(why) => Err(DataplaneFault::Userspace { why: why.clone() }),
        }
    }

    /// Whether packets come here at all: a worker without a receive queue has those of its flows from workers that have one.
    fn is_reached(&self) -> bool {
        self.refused.is_none() && self.bell.is_some()
    }

    pub(super) fn owns(&self, token: Token) -> bool {
        self.tokens.contains(&token.0)
    }

    /// Relays what waits at the socket of `token`, or what other workers passed on.
    pub(super) fn ready(&mut self, token: Token, records: &mut Vec<Record>) {
        match token.0.checked_sub(self.tokens.start) {
            Some(0) => self.take(),
            Some(place) => self.drain(place - 1),
            None => {}
        }
        records.extend(self.engine.records());
    }

    /// Has a flow be the kernel's once its next packet is relayed and none waits behind it: at no other moment is a packet
    /// sure not to overtake one that is under way to us. A flow that falls silent stays here, to no harm.
    ///
    /// `None` of a worker that no packet reaches: its flows go at once.
    pub(super) fn leave(&mut self, key: FlowKey, config: FlowConfig) -> Option<()> {
        if !self.is_reached() {
            return None;
        }
        self.leaving.insert(key, config);
        Some(())
    }

    /// The flow is to be what the table says, from now on.
    pub(super) fn stay(&mut self, key: FlowKey) {
        self.leaving.remove(&key);
    }

    /// Relays all that came so far: what is under an agreement ahead of the next.
    pub(super) fn settle(&mut self) {
        (0..self.listening.len()).for_each(|place| self.drain(place));
        self.take();
    }

    /// Takes in a flow that userspace relays, with its keys; and the new keys of one that it relayed, whose last packets
    /// may be on their way here. `adopted`: from a daemon before this one.
    pub(super) fn secure(&mut self, spec: &FlowSpec, compiled: &Compiled, adopted: bool) {
        let Compiled { key, config } = compiled;
        if !self.is_ours(key, config) && self.engine.config(*key).is_none() {
            return;
        }
        self.engine.follow(*key, asked(*config));
        let foreign = [
            spec.unprotect.as_ref().filter(|_| !keys::opens_in_kernel(spec)),
            spec.protect.as_ref().filter(|key| !keys::is_of_the_kernel(key)),
        ];
        self.engine.secure((config.slot, config.crypto_slot), foreign, adopted);
        self.set_keys(config.crypto_slot);
    }

    fn set_keys(&mut self, crypto_slot: u32) {
        if crypto_slot != NO_SLOT {
            self.engine.set_keys(crypto_slot, self.keys.read(crypto_slot));
        }
    }

    /// A flow that userspace relays is to be what the table says now, also for what is made here before a packet of it comes.
    pub(super) fn follow(&mut self, key: FlowKey, config: FlowConfig) {
        if self.engine.config(key).is_some() {
            self.engine.follow(key, asked(config));
        }
    }

    /// The flow in this slot comes here, whoever's range holds it.
    pub(super) fn adopt(&self, slot: u32) {
        self.parts.handover.adopt(slot, self.parts.worker);
    }

    /// The engine, and what takes its packets away.
    pub(super) fn engine(&mut self) -> (&mut Engine, &mut dyn Carrier) {
        (&mut self.engine, &mut self.sender)
    }

    /// Agents of ports that take connectivity checks.
    pub(super) fn checks(&mut self) -> &mut Checks {
        self.engine.checks()
    }

    /// When the engine is to be run.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.engine.deadline()
    }

    /// What agents have found goes into the kernel's table, and whose RTCP is to come here.
    pub(super) fn publish(&mut self) {
        let awaits_packet = self.is_reached();
        publish(&self.table, &mut self.engine, &mut self.leaving, awaits_packet);
        let taken = self.engine.taken();
        if taken.iter().any(|taken| !taken.begins) {
            // Ahead of what the kernel relays again.
            self.settle();
        }
        for Taken { flow: Member { at, id }, begins } in taken {
            let config = self.table.config(&at);
            match config.filter(|config| (config.slot, config.epoch) == (id.slot, id.epoch)) {
                Some(config) if begins => self.take_rtcp(at, config),
                Some(config) => self.give_rtcp_back(at, config),
                None => {}
            }
        }
    }

    /// Has RTCP that arrives at this key come here, and all that leaves by it be counted here.
    fn take_rtcp(&mut self, at: FlowKey, config: FlowConfig) {
        if !self.is_reached() {
            if !std::mem::replace(&mut self.is_mute, true) {
                tracing::debug!(
                    "no AF_XDP sockets: peers with SRTP whose other side sends no RTCP hear none"
                );
            }
            return;
        }
        if config.flags & flag::PUNT != 0 {
            return;
        }
        let config = FlowConfig { flags: config.flags | flag::REPORTED, ..config };
        if let Err(fault) = self.table.replace(at, config) {
            return tracing::error!(?fault, "a peer whose other side sends no RTCP hears none");
        }
        self.engine.follow(at, asked(config));
        self.set_keys(config.crypto_slot);
    }

    /// What is under way here all the same finds no flow, and leaves by no index that the kernel may be about
    /// to use.
    fn give_rtcp_back(&mut self, at: FlowKey, before: FlowConfig) {
        let config = FlowConfig { flags: before.flags & !flag::REPORTED, ..before };
        if config != before
            && let Err(fault) = self.table.replace(at, config)
        {
            return tracing::error!(?fault, "RTCP that should be the kernel's again stays in userspace");
        }
        if self.is_ours(&at, &config) {
            return self.follow(at, config);
        }
        self.engine.remove(at);
        self.engine.wipe_keys(config.crypto_slot);
    }

    /// Whether all of a flow is relayed here, or may be at any time: with checks, or on its way to the kernel.
    fn is_ours(&self, at: &FlowKey, config: &FlowConfig) -> bool {
        config.flags & (flag::PUNT | flag::ICE) != 0 || self.leaving.contains_key(at)
    }

    /// Calls that are more than a relay.
    pub(super) fn bridges(&self) -> &Bridges {
        self.engine.bridges()
    }

    /// Nothing arrives at this key any more.
    pub(super) fn remove(&mut self, key: FlowKey) {
        self.engine.remove(key);
        self.leaving.remove(&key);
    }

    /// A slot is free again.
    pub(super) fn forget(&mut self, slot: u32, crypto_slot: u32) {
        self.engine.forget(slot);
        self.engine.wipe_keys(crypto_slot);
    }

    fn drain(&mut self, place: usize) {
        let now = monotonic();
        loop {
            let Self { parts, table, engine, sender, listening, leaving, due, .. } = self;
            let Some(socket) = listening.get_mut(place) else { return };
            let mut relayed = Relayed { parts, table, engine, sender, leaving, due };
            let came = socket.drain(|frame, len| relayed.frame(now, (frame, len), true));
            // Only where packets came in numbers some may have found no room.
            if came >= parts.frames / 2 {
                (0..socket.missed()).for_each(|_| parts.counters.refuse(Reason::SocketFull));
            }
            if came == 0 {
                return;
            }
            if socket.is_empty() {
                self.hand_back();
            }
        }
    }

    fn take(&mut self) {
        let now = monotonic();
        let mut rung = [0; 64];
        if let Some(bell) = &mut self.bell {
            while bell.read(&mut rung).is_ok_and(|octets| octets == rung.len()) {}
        }
        let Self { parts, table, engine, sender, leaving, due, .. } = self;
        let mut relayed = Relayed { parts, table, engine, sender, leaving, due };
        parts.handover.take(parts.worker, |frame, len| relayed.frame(now, (frame, len), false));
        self.hand_back();
    }

    /// Flows whose packet was the last that waited are the kernel's from here on.
    fn hand_back(&mut self) {
        for key in self.due.drain(..) {
            let Some(config) = self.leaving.remove(&key) else { continue };
            match self.table.replace(key, config) {
                // Who sends by it by himself has to know whose it is.
                Ok(()) => self.engine.follow(key, asked(config)),
                Err(fault) => {
                    tracing::error!(?fault, "a flow that should be the kernel's again stays in userspace");
                }
            }
        }
    }
}

/// What agents have found goes into the kernel's table. A flow that their findings make the kernel's leaves userspace as
/// any other does, behind its next packet if the worker `awaits_packet`.
fn publish(
    table: &KernelFlows,
    engine: &mut Engine,
    leaving: &mut HashMap<FlowKey, FlowConfig>,
    awaits_packet: bool,
) {
    for key in engine.rewritten() {
        let Some(before) = table.config(&key) else { continue };
        let mut config = leaving.remove(&key).unwrap_or(before);
        engine.checks().write(&mut config);
        engine.checks().place(&mut config);
        if awaits_packet && before.flags & flag::PUNT != 0 && config.flags & flag::PUNT == 0 {
            leaving.insert(key, config);
            config = FlowConfig { flags: config.flags | flag::PUNT, punted: before.punted, ..config };
        }
        if config != before
            && let Err(fault) = table.replace(key, config)
        {
            tracing::error!(?fault, "what a connectivity check vouches for is not in the flow table");
        }
        if engine.config(key).is_some() {
            engine.follow(key, asked(config));
        }
    }
}

/// The flow as the engine has it: the program has asked for the rate, of media and of connectivity checks.
fn asked(config: FlowConfig) -> FlowConfig {
    FlowConfig { rate: 0, flags: config.flags & !flag::ICE, ..config }
}

/// What a frame needs on its way.
struct Relayed<'a> {
    parts: &'a Parts,
    table: &'a KernelFlows,
    engine: &'a mut Engine,
    sender: &'a mut RawSender,
    leaving: &'a mut HashMap<FlowKey, FlowConfig>,
    due: &'a mut Vec<FlowKey>,
}

impl Relayed<'_> {
    /// A frame that the program let through, of one of our flows when it did.
    fn frame(&mut self, now: u64, frame: (&mut [u8], usize), may_pass: bool) {
        if let Err(reason) = self.relay(now, frame, may_pass) {
            self.parts.counters.refuse(reason);
        }
    }

    fn relay(&mut self, now: u64, (frame, len): (&mut [u8], usize), may_pass: bool) -> Result<(), Reason> {
        let Parsed::Udp(headers) = headers::parse(frame.get(..len).unwrap_or_default()) else {
            return Err(Reason::Truncated);
        };
        let at = FlowKey::new(headers.destination, headers.destination_port);
        let Some(config) = self.table.config(&at) else {
            // It went while the packet was under way: what comes a moment later is for the host's own stack.
            self.parts.counters.count(Traffic::Passed);
            return Ok(());
        };
        let owner = self.parts.handover.owner(config.slot);
        if owner != self.parts.worker {
            let frame = frame.get(..len).unwrap_or_default();
            return if may_pass { self.parts.handover.pass(owner, frame) } else { Err(Reason::StateMissing) };
        }
        // A flow that the daemon before this one had, and that was not taken over yet: without its keys the engine would
        // send in clear what is to be protected.
        if self.engine.config(at).is_none() {
            return Err(Reason::StateMissing);
        }
        self.engine.follow(at, asked(config));
        let arrived = Arrival {
            at,
            source: headers.source,
            source_port: headers.source_port,
            traffic_class: headers.traffic_class,
        };
        let payload = frame.get_mut(headers.payload..).unwrap_or_default();
        self.engine.receive(now, arrived, payload, headers.payload_len, self.sender);
        publish(self.table, self.engine, self.leaving, true);
        self.engine.answer(self.sender);
        if self.leaving.contains_key(&at) {
            self.due.push(at);
        }
        Ok(())
    }
}
