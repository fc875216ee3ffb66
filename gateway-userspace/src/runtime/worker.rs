//! The thread around a core: reads the clock, polls, hands over what arrived, carries out what is left.

use super::adopt;
use super::commands;
use super::core::Core;
use super::expiry::ExpiryWatch;
use super::mailbox::{Mail, Mailbox};
use super::relay::FlowTable;
use super::supervisor::Order;
use super::turn::{CheckpointChange, Outbox, Turn};
use crate::admin::dns::Names;
use crate::base::fault::Fault;
use crate::base::id::{CallId, CoreId, FlowId};
use crate::base::share::Share;
use crate::base::time::Time;
use crate::call::Saved;
use crate::dataplane::{Dataplane, FlowReport, Record, Update, monotonic};
use crate::media::bridge::PlayUntil;
use crate::media::plan::FlowSpec;
use crate::net::{self, Closed, Net, NetEvent};
use crate::observe;
use crate::observe::event::Direction;
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
use crate::sip::message::{Limits, parse_within, shallow};
use crate::sip::transport::Hop;
use crate::store::Journal;
use crossbeam::channel::{Receiver, Sender};
use mio::{Events, Poll, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The mailbox's waker.
pub const WAKER: Token = Token(0);
/// Media sockets of the plain-socket path.
pub const MEDIA_TOKENS: std::ops::Range<usize> = 16..(1 << 24);
/// SIP sockets: this and all above.
pub const NET_TOKENS: usize = 1 << 24;

/// Longest sleep, so that a clock that jumps or a lost wake-up costs no more than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What other threads read of a core without asking it.
#[derive(Debug, Default)]
pub struct Gauges {
    pub ports_in_use: AtomicU64,
    pub ports: AtomicU64,
    pub flows: AtomicU64,
    pub draining: AtomicBool,
}

/// A core with its sockets, its part of the data plane and its journal.
pub struct Worker {
    pub share: Share,
    pub core: Core,
    pub poll: Poll,
    pub net: Net,
    pub dataplane: Dataplane,
    pub journal: Journal,
    pub mail: Receiver<Mail>,
    /// All cores, by number.
    pub cores: Arc<[Mailbox]>,
    pub orders: Sender<Order>,
    pub gauges: Arc<Gauges>,
    pub limits: Limits,
    /// One core of the node has it.
    pub expiry: Option<ExpiryWatch>,
    pub names: Names,
}

impl Worker {
    /// Turns until told to stop.
    ///
    /// # Errors
    /// Only when the kernel refuses to poll, which nothing can be done about here.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut arrived = Vec::new();
        let mut told_idle = false;
        let (now, mut out) = (clock(), Outbox::default());
        // Whose dialogs are whose, when calls of another daemon were taken over, is known before a message comes.
        if !self.read_mail(now, &mut out) {
            self.finish(now, out);
            return Ok(());
        }
        self.turn(now, &mut out, Core::begin);
        self.finish(now, out);
        loop {
            self.poll.poll(&mut events, Some(self.sleep())).or_else(|error| match error.kind() {
                std::io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            })?;
            let now = clock();
            let mut out = Outbox::default();
            for event in &events {
                let token = event.token();
                if self.net.owns(token) {
                    self.net.ready(now, event, &mut arrived);
                } else if self.dataplane.owns(token) {
                    let mut records = Vec::new();
                    self.dataplane.ready(token, &mut records);
                    records.into_iter().for_each(|record| self.record(now, record, &mut out));
                }
            }
            self.run_media(now, &mut out);
            self.net.expire(now, &mut arrived);
            for event in arrived.drain(..) {
                self.arrived(now, event, &mut out);
            }
            if !self.read_mail(now, &mut out) {
                self.finish(now, out);
                return Ok(());
            }
            self.turn(now, &mut out, |core, turn| core.expire(turn));
            self.watch_certificates(now);
            self.finish(now, out);
            self.gauge();
            let idle = self.core.is_draining() && self.core.calls() == 0 && self.core.has_left();
            // An undrained core may get calls again; a draining one that is idle never does.
            if idle != told_idle && (idle || !self.core.is_draining()) {
                told_idle = idle;
                // Without a supervisor the process is ending anyway.
                let _ = self.orders.send(Order::Idle { core: self.share.core.0, idle });
            }
        }
    }

    /// Takes over a call of an earlier daemon; the error is for the log.
    pub fn adopt(&mut self, saved: Saved) -> Result<(), String> {
        let now = clock();
        let mut out = Outbox::default();
        let mut adopted = Ok(());
        self.turn(now, &mut out, |core, turn| adopted = adopt::adopt(core, turn, saved));
        self.finish(now, out);
        adopted
    }

    fn sleep(&self) -> Duration {
        let deadlines = [self.core.next_deadline(), self.net.next_deadline(), self.dataplane.deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        deadline.map_or(LONGEST_SLEEP, |at| at.since(clock())).min(LONGEST_SLEEP)
    }

    fn turn(&mut self, now: Time, out: &mut Outbox, act: impl FnOnce(&mut Core, &mut Turn<'_>)) {
        act(&mut self.core, &mut Turn { now, flows: &mut self.dataplane, out });
    }

    fn arrived(&mut self, now: Time, event: NetEvent, out: &mut Outbox) {
        match event {
            NetEvent::Datagram { hop, bytes } | NetEvent::Frame { hop, bytes } => {
                let owner = shallow(&bytes).map_or(self.share.core, |id| self.share.owner(id.as_bytes()));
                if owner == self.share.core {
                    self.message(now, hop, &bytes, out);
                } else {
                    self.post(owner, Mail::Message { hop, bytes: bytes.into_vec() });
                }
            }
            NetEvent::Stranger { source } => self.core.silenced(now, source),
            NetEvent::Retired { hop } => {
                self.turn(now, out, |core, turn| core.connection_retired(turn, hop));
            }
            NetEvent::RetiredClosed { hop, .. } => {
                self.tell_others_closed(hop);
                self.turn(now, out, |core, turn| core.connection_closed(turn, hop));
            }
            NetEvent::Failed { hop, why } | NetEvent::Closed { hop, why } => {
                if let Closed::Handshake(fault) = why {
                    let failed = observe::Event::HandshakeFailed { peer: hop.remote, why: fault.label() };
                    self.core.publish(now, &failed);
                }
                self.tell_others_closed(hop);
                self.turn(now, out, |core, turn| core.transport_failed(turn, hop));
            }
        }
    }

    fn message(&mut self, now: Time, hop: Hop, bytes: &[u8], out: &mut Outbox) {
        self.core.tap(now, Direction::Received, &hop, bytes);
        match parse_within(bytes, &self.limits) {
            Ok(message) => self.turn(now, out, |core, turn| core.receive(turn, message, hop)),
            Err(error) => self.turn(now, out, |core, turn| core.refuse_malformed(turn, &error, hop)),
        }
    }

    /// False when told to stop.
    fn read_mail(&mut self, now: Time, out: &mut Outbox) -> bool {
        while let Ok(mail) = self.mail.try_recv() {
            match mail {
                Mail::Message { hop, bytes } => self.message(now, hop, &bytes, out),
                Mail::Send { hop, bytes } => out.sends.push((hop, bytes)),
                Mail::ConnectionClosed { hop } => {
                    self.turn(now, out, |core, turn| core.connection_closed(turn, hop));
                }
                Mail::Errand(errand) => self.turn(now, out, |core, turn| core.errand(turn, errand)),
                Mail::Record(record) => {
                    if let Record::Rtcp { flow, at, payload } = &record {
                        self.dataplane.rtcp(*flow, *at, payload);
                    }
                    self.record(now, record, out);
                }
                Mail::Policy { policy, tls } => {
                    self.net.set_access(now, Arc::clone(&policy), Arc::clone(&tls));
                    self.core.set_policy(now, policy);
                    self.expiry = self.expiry.take().map(|_| ExpiryWatch::new(tls));
                }
                Mail::Tell(event) => self.core.publish(now, &event),
                Mail::Ask(ask) => {
                    let mut answer = None;
                    self.turn(now, out, |core, turn| {
                        answer = Some(commands::execute(core, turn, ask.command));
                    });
                    if let Some(answer) = answer {
                        // Who asked may have given up.
                        let _ = ask.reply.send(answer);
                    }
                }
                Mail::Drain => self.core.drain(now),
                Mail::Stop => return false,
            }
        }
        true
    }

    /// Calls that are more than a relay send by themselves.
    fn run_media(&mut self, now: Time, out: &mut Outbox) {
        let mut records = Vec::new();
        self.dataplane.run(&mut records);
        records.into_iter().for_each(|record| self.record(now, record, out));
    }

    fn record(&mut self, now: Time, record: Record, out: &mut Outbox) {
        match &record {
            Record::Key { flow, press, .. } => {
                self.turn(now, out, |core, turn| core.key(turn, *flow, *press));
            }
            Record::Played { flow, .. } => self.turn(now, out, |core, turn| core.played(turn, *flow)),
            Record::EventStart { flow, event, .. } => self.core.telephone_event(now, *flow, *event),
            Record::Rtcp { flow, at, payload } => self.core.rtcp(Time(at / 1_000), *flow, payload),
            Record::Captured { .. } => self.core.captured(record),
            Record::EventEnd { .. } | Record::Latched { .. } | Record::NeighbourWanted { .. } => {}
        }
    }

    /// Writes down and sends what the turn left; what cannot be sent may leave more, and so do calls that panicked. What a peer
    /// has heard is in the journal by then, whenever this process is killed.
    fn finish(&mut self, now: Time, mut out: Outbox) {
        loop {
            self.write_down(&mut out);
            self.send(now, &mut out);
            if !out.checkpoints.is_empty() {
                continue;
            }
            if out.wrecks.is_empty() {
                break;
            }
            for call in std::mem::take(&mut out.wrecks) {
                let saved = self.saved(call);
                self.turn(now, &mut out, |core, turn| core.clear_wreck(turn, call, saved));
            }
        }
        for (core, errand) in out.errands.drain(..) {
            self.post(core, Mail::Errand(errand));
        }
        for wanted in out.names.drain(..) {
            self.names.learn(wanted);
        }
        for (hop, pause) in &out.flows {
            self.net.keep_alive(now, hop, *pause);
        }
        for hop in &out.leaves {
            self.net.leave(now, hop);
        }
    }

    fn write_down(&mut self, out: &mut Outbox) {
        for change in out.checkpoints.drain(..) {
            match change {
                CheckpointChange::Put { call, bytes } => self.journal.put(call, &bytes),
                CheckpointChange::Remove { call } => self.journal.remove(call),
            }
        }
        if let Err(error) = self.journal.flush() {
            tracing::error!(%error, "calls in progress would not survive a restart");
        }
    }

    fn send(&mut self, now: Time, out: &mut Outbox) {
        while !out.sends.is_empty() {
            for (hop, bytes) in std::mem::take(&mut out.sends) {
                let holder = hop.connection.map_or(self.share.core, net::owner);
                if holder != self.share.core {
                    self.post(holder, Mail::Send { hop, bytes });
                } else if let Err(error) = self.net.send(now, &hop, &bytes) {
                    tracing::debug!(%error, "a message could not be sent");
                    // It may be the answer of another core, on a connection that ended a moment ago.
                    if hop.connection.is_some() {
                        self.tell_others_closed(hop);
                    }
                    self.turn(now, out, |core, turn| core.transport_failed(turn, hop));
                }
            }
        }
        self.net.flush_all(now);
    }

    /// What the journal has of a call.
    fn saved(&self, call: CallId) -> Option<Saved> {
        let read = |bytes: Vec<u8>| Saved::read(&bytes).map_err(|error| error.to_string());
        let saved = self.journal.read(call).map_err(|error| error.to_string());
        saved.and_then(|bytes| bytes.map(read).transpose()).unwrap_or_else(|error| {
            tracing::error!(%call, error, "what was written down of a call cannot be read back");
            None
        })
    }

    fn watch_certificates(&mut self, now: Time) {
        let Some(expiry) = &mut self.expiry else { return };
        for event in expiry.look(now, SystemTime::now()) {
            self.core.publish(now, &event);
        }
    }

    fn gauge(&self) {
        let (used, all) = self.core.ports().usage();
        self.gauges.ports_in_use.store(used as u64, Ordering::Relaxed);
        self.gauges.ports.store(all as u64, Ordering::Relaxed);
        self.gauges.flows.store(self.dataplane.len() as u64, Ordering::Relaxed);
        self.gauges.draining.store(self.core.is_draining(), Ordering::Relaxed);
    }

    /// Who has an answer for a connection may live on any core. Their requests go by connections of their own.
    fn tell_others_closed(&self, hop: Hop) {
        for core in self.others() {
            self.post(core, Mail::ConnectionClosed { hop });
        }
    }

    fn post(&self, core: CoreId, mail: Mail) {
        if let Some(mailbox) = self.cores.get(usize::from(core.0)) {
            mailbox.post(mail);
        }
    }

    fn others(&self) -> impl Iterator<Item = CoreId> + use<> {
        let own = self.share.core;
        (0..self.share.cores).map(CoreId).filter(move |core| *core != own)
    }
}

impl FlowTable for Dataplane {
    fn install(&mut self, flows: &[FlowSpec]) -> Result<Vec<FlowId>, Fault> {
        Dataplane::install(self, flows).map_err(|error| told(&error))
    }

    fn update(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<Update, Fault> {
        Dataplane::update(self, ids, flows).map_err(|error| told(&error))
    }

    fn adopt(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<(), Fault> {
        Dataplane::adopt(self, ids, flows).map_err(|error| told(&error))
    }

    fn press(&mut self, flow: FlowId, press: Press) {
        Dataplane::press(self, flow, press);
    }

    fn play(&mut self, flow: FlowId, what: Option<(Source, PlayUntil)>) {
        Dataplane::play(self, flow, what);
    }

    fn remove(&mut self, ids: &[FlowId]) -> Vec<FlowReport> {
        Dataplane::remove(self, ids)
    }

    fn report(&self, id: FlowId) -> Option<FlowReport> {
        Dataplane::report(self, id)
    }

    fn capture(&mut self, ids: &[FlowId], audio: Option<bool>) -> Result<(), Fault> {
        Dataplane::capture(self, ids, audio).map_err(|error| told(&error))
    }
}

fn told(error: &crate::dataplane::DataplaneFault) -> Fault {
    tracing::warn!(%error, "the data plane refuses a call's flows");
    error.fault()
}

/// The kernel's monotonic clock, which outlives the process: stored times stay comparable.
pub fn clock() -> Time {
    Time(monotonic() / 1_000)
}
