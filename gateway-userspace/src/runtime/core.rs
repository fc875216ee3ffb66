//! One core: transactions, calls and timers as a value that is fed input and time.
//!
//! The invariant of the loop: exactly one input, then everything it caused is carried out, then the next input.
//! The core reads no clock and opens no socket; what leaves it stands in its [`Outbox`](super::turn::Outbox).

use super::admission::{self, Quota};
use super::adopt;
use super::callers;
use super::captures;
use super::dispatch;
use super::execute;
use super::fuse::Fuse;
use super::guests::{self, Guests};
use super::ladder;
use super::names;
use super::probes;
use super::registrations;
use super::relay::Relay;
use super::rules::{self, Unanswered};
use super::sampling::{self, Sampling};
use super::turn::{Errand, Turn};
use super::wreck;
use crate::base::fault::Fault;
use crate::base::id::{CallId, FlowId, Side};
use crate::base::share::Share;
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::call::{self, Action, Call, CallSettings, CallTimer, MediaPorts, RequestKey, Saved};
use crate::dataplane::Record;
use crate::observe::capture::Capture;
use crate::observe::event::{Direction, SipSummary};
use crate::observe::{self, Observer};
use crate::policy::{ProbeId, Prober, Registrant, RegistrationId, Snapshot, Turnout};
use crate::signal::dtmf::body::Press;
use crate::sip::auth::Guard;
use crate::sip::dialog::DialogId;
use crate::sip::message::{Message, NameAddr, ParseError, Response};
use crate::sip::transaction::{ClientId, Output, ServerId, Settings as TransactionSettings, Transactions};
use crate::sip::transport::{Hop, fill_received, response_destination};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a core needs to know for life.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// Which calls are this core's.
    pub share: Share,
    /// Calls that this core carries at once.
    pub max_calls: usize,
    /// What the node takes, all cores together.
    pub quota: Quota,
    pub transactions: TransactionSettings,
    pub call: CallSettings,
    /// Upper half of the identifiers of this run's calls: as a rule seconds since the epoch at its start.
    pub run: u32,
}

/// A leg, by the Call-ID it has on the wire.
pub(super) type Legs = SmallVec<[(CallId, Side); 1]>;

/// Transactions, calls and timers of one core.
pub struct Core {
    pub(super) settings: CoreSettings,
    pub(super) policy: Arc<Snapshot>,
    pub(super) transactions: Transactions,
    pub(super) calls: HashMap<CallId, Box<Entry>>,
    pub(super) legs: HashMap<Box<str>, Legs>,
    pub(super) clients: HashMap<ClientId, (CallId, RequestKey)>,
    pub(super) servers: HashMap<ServerId, (CallId, Side)>,
    /// Requests of peers that have no final answer, where trunks have rules.
    pub(super) unanswered: HashMap<ServerId, Unanswered>,
    /// BYEs under way and the dialogs that they end: an answer that comes again gets no second one.
    pub(super) releases: HashMap<ClientId, DialogId>,
    /// BYEs of peers and the dialogs that they ended, as long as copies of them may come.
    pub(super) farewells: HashMap<ServerId, DialogId>,
    /// Asks peers by OPTIONS once the core has begun.
    pub(super) prober: Option<Prober>,
    pub(super) probes: HashMap<ClientId, ProbeId>,
    /// Keeps registrations once the core has begun.
    pub(super) registrant: Option<Registrant>,
    pub(super) registrations: HashMap<ClientId, RegistrationId>,
    /// What a reload left to be sent.
    pub(super) registrations_due: Turnout,
    /// What registrars want in front of calls that go by a hop.
    pub(super) service_routes: HashMap<Hop, Arc<[NameAddr]>>,
    /// Calls by the slots of their flows.
    pub(super) slots: HashMap<u32, CallId>,
    pub(super) timers: TimerTable<(CallId, CallTimer)>,
    pub(super) sampling: Sampling,
    /// Calls whose packets are taken down.
    pub(super) captures: Vec<(CallId, Capture)>,
    pub(super) ports: MediaPorts,
    /// Call-IDs of this core whose calls live on others.
    pub(super) guests: Guests,
    pub(super) tokens: Tokens,
    /// Asks callers who they are, from the first that has to be asked on.
    pub(super) guard: Option<Guard>,
    pub(super) observer: Observer,
    pub(super) outputs: Vec<Output>,
    pub(super) draining: bool,
    /// The call whose step is under way.
    pub(super) stepping: Option<CallId>,
    pub(super) fuse: Fuse,
    minted: u32,
}

/// A call and what the core keeps for it.
pub(super) struct Entry {
    pub(super) call: Call,
    pub(super) relay: Relay,
    pub(super) clients: SmallVec<[(RequestKey, ClientId); 2]>,
    /// Its legs' keys in [`Core::legs`].
    pub(super) call_ids: SmallVec<[Box<str>; 2]>,
    /// Its record is written.
    pub(super) recorded: bool,
}

impl Entry {
    pub(super) fn new(call: Call) -> Self {
        Self {
            call,
            relay: Relay::default(),
            clients: SmallVec::new(),
            call_ids: SmallVec::new(),
            recorded: false,
        }
    }

    /// The newest of this key: earlier re-INVITEs linger in their transactions.
    pub(super) fn client(&self, key: RequestKey) -> Option<ClientId> {
        self.clients.iter().rev().find(|(own, _)| *own == key).map(|(_, client)| *client)
    }
}

impl Core {
    pub fn new(
        settings: CoreSettings,
        policy: Arc<Snapshot>,
        ports: MediaPorts,
        mut tokens: Tokens,
        observer: Observer,
    ) -> Self {
        let branches = Tokens::seeded(tokens.number());
        Self {
            transactions: Transactions::new(settings.transactions, branches),
            settings,
            policy,
            calls: HashMap::new(),
            legs: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            unanswered: HashMap::new(),
            releases: HashMap::new(),
            farewells: HashMap::new(),
            prober: None,
            probes: HashMap::new(),
            registrant: None,
            registrations: HashMap::new(),
            registrations_due: Turnout::default(),
            service_routes: HashMap::new(),
            slots: HashMap::new(),
            timers: TimerTable::default(),
            sampling: Sampling::default(),
            captures: Vec::new(),
            ports,
            guests: Guests::default(),
            guard: None,
            tokens,
            observer,
            outputs: Vec::new(),
            draining: false,
            stepping: None,
            fuse: Fuse::default(),
            minted: 0,
        }
    }

    /// Begins to ask peers whether they serve calls.
    pub fn begin(&mut self, turn: &mut Turn<'_>) {
        probes::begin(self, turn);
        registrations::begin(self, turn);
    }

    /// A message that this core owns.
    pub fn receive(&mut self, turn: &mut Turn<'_>, message: Message, hop: Hop) {
        match guests::host(self, turn.now, &message) {
            Some(host) => turn.out.errands.push((host, Errand::Message { hop, message: Box::new(message) })),
            None => self.take(turn, message, hop),
        }
    }

    /// What another core asks for, or answers.
    pub fn errand(&mut self, turn: &mut Turn<'_>, errand: Errand) {
        guests::errand(self, turn, errand);
        self.settle(turn);
    }

    pub(super) fn take(&mut self, turn: &mut Turn<'_>, mut message: Message, hop: Hop) {
        // Unknown sources get silence: an answer would tell a scanner that somebody lives here.
        if let Message::Request(request) = &mut message {
            let Some(trunk) = self.policy.identify(hop.local, hop.remote, hop.transport) else {
                self.publish(turn.now, &observe::Event::Silenced { source: hop.remote });
                return;
            };
            fill_received(request, hop.remote);
            admission::tell_load(self, turn.now, request, trunk);
            if callers::asks(self, turn, request, hop, trunk)
                || admission::refuses(self, turn, request, hop, trunk)
            {
                return self.settle(turn);
            }
        }
        turn.out.names.extend(names::learned_from(&self.policy, &message, &hop));
        let note = ladder::received(self, &message);
        let repeated = self.transactions.receive(turn.now, message, hop, &mut self.outputs);
        if let Some((call, message)) = note {
            let message = SipSummary { repeated, ..message };
            self.publish(turn.now, &observe::Event::Sip { call: Some(call), message });
        }
        self.settle(turn);
    }

    /// Somebody whom no trunk allows was turned away before a word.
    pub fn silenced(&mut self, now: Time, source: SocketAddr) {
        self.publish(now, &observe::Event::Silenced { source });
    }

    /// Bytes that are no message: answered if there is enough of a request to answer, and if a trunk allows its
    /// source (RFC 3261 section 21.4.1).
    pub fn refuse_malformed(&mut self, turn: &mut Turn<'_>, error: &ParseError, hop: Hop) {
        if self.policy.identify(hop.local, hop.remote, hop.transport).is_none() {
            self.publish(turn.now, &observe::Event::Silenced { source: hop.remote });
            return;
        }
        tracing::debug!(source = %hop.remote, %error, "a message cannot be read");
        if let Some(refusal) = &error.refusal {
            let mut bytes = Vec::new();
            refusal.write(hop.remote, &self.tokens.token(), &mut bytes);
            let destination = refusal.top_via.as_ref().map_or(hop, |via| response_destination(via, &hop));
            turn.out.sends.push((destination, bytes.into()));
        }
        self.publish(turn.now, &observe::Event::Refused { fault: error.fault, source: hop.remote });
    }

    /// Nothing can be sent to this hop.
    pub fn transport_failed(&mut self, turn: &mut Turn<'_>, hop: Hop) {
        self.transactions.transport_failed(turn.now, &hop, &mut self.outputs);
        registrations::disconnected(self, turn, &hop);
        self.settle(turn);
    }

    /// A connection is gone that another core holds, or that another has taken the place of.
    pub fn connection_closed(&mut self, turn: &mut Turn<'_>, hop: Hop) {
        self.transactions.connection_closed(turn.now, &hop, &mut self.outputs);
        registrations::disconnected(self, turn, &hop);
        self.settle(turn);
    }

    /// A connection of ours has had its time: what peers know us by is another from now on.
    pub fn connection_retired(&mut self, turn: &mut Turn<'_>, hop: Hop) {
        registrations::disconnected(self, turn, &hop);
        self.settle(turn);
    }

    /// Carries out everything whose time has come.
    pub fn expire(&mut self, turn: &mut Turn<'_>) {
        self.transactions.expire(turn.now, &mut self.outputs);
        probes::expire(self, turn);
        self.guests.expire(turn.now);
        registrations::expire(self, turn);
        sampling::expire(self, turn);
        captures::expire(self, turn);
        self.settle(turn);
        while let Some((id, timer)) = self.timers.expire(turn.now) {
            self.advance(turn, id, call::Event::Timer(timer));
            self.settle(turn);
        }
    }

    /// When [`Core::expire`] has work next.
    pub fn next_deadline(&self) -> Option<Time> {
        let probes = self.prober.as_ref().and_then(Prober::next_deadline);
        let guests = self.guests.next_deadline();
        let due = self.registrant.as_ref().and_then(Registrant::next_deadline);
        let looks = self.sampling.next_deadline();
        [self.transactions.next_deadline(), self.timers.next(), probes, guests, due, looks]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes another policy; calls in progress keep theirs.
    pub fn set_policy(&mut self, now: Time, policy: Arc<Snapshot>) {
        if let Some(prober) = &mut self.prober {
            prober.follow(Arc::clone(&policy), now);
        }
        if let Some(registrant) = &mut self.registrant {
            let (tokens, due) = (&mut self.tokens, &mut self.registrations_due);
            registrant.follow(Arc::clone(&policy), now, tokens, due);
        }
        self.policy = policy;
    }

    /// Slots of the flows of its calls.
    pub fn flow_slots(&self) -> impl Iterator<Item = u32> {
        self.slots.keys().copied()
    }

    /// Trunks and routes in force.
    pub fn policy(&self) -> &Arc<Snapshot> {
        &self.policy
    }

    /// Refuses new calls from now on.
    pub fn drain(&mut self, now: Time) {
        if !self.draining {
            self.draining = true;
            if let Some(registrant) = &mut self.registrant {
                registrant.hasten(now);
            }
            let calls = self.calls.len();
            self.publish(now, &observe::Event::DrainBegun { calls });
        }
    }

    /// Takes new calls again.
    pub fn undrain(&mut self, now: Time) {
        if std::mem::replace(&mut self.draining, false) {
            self.publish(now, &observe::Event::DrainEnded);
        }
    }

    /// Ends a call from our side; false if there is none of this name.
    pub fn hang_up(&mut self, turn: &mut Turn<'_>, id: CallId, fault: Fault) -> bool {
        let known = self.calls.contains_key(&id);
        self.advance(turn, id, call::Event::HangUp(fault));
        self.settle(turn);
        known
    }

    /// Takes over one call of an earlier daemon.
    ///
    /// # Errors
    /// Why the call cannot go on, for the log. Both sides are hung up on then, if enough is left of it for that.
    pub fn adopt(&mut self, turn: &mut Turn<'_>, saved: Saved) -> Result<(), String> {
        adopt::adopt(self, turn, saved)
    }

    /// Whether no peer sends calls here because we registered there.
    pub fn has_left(&self) -> bool {
        self.registrant.as_ref().is_none_or(Registrant::has_left)
    }

    /// Ends a call whose step panicked, and gives back what it held; `saved` is what the journal has of it.
    pub fn clear_wreck(&mut self, turn: &mut Turn<'_>, id: CallId, saved: Option<Saved>) {
        wreck::clear(self, turn, id, saved);
        self.settle(turn);
    }

    /// Makes the next step of a call panic, be it the first of a new one: for tests.
    #[cfg(debug_assertions)]
    pub fn light_fuse(&mut self) {
        self.fuse.light();
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Call-IDs by which requests find their calls.
    pub fn dialogs(&self) -> usize {
        self.legs.len()
    }

    /// Whether nothing is left of any call or transaction, not even a timer or a key.
    pub fn is_clear(&self) -> bool {
        self.calls.is_empty()
            && self.transactions.is_empty()
            && self.legs.is_empty()
            && self.clients.is_empty()
            && self.servers.is_empty()
            && self.unanswered.is_empty()
            && self.releases.is_empty()
            && self.farewells.is_empty()
            && self.probes.is_empty()
            && self.guests.is_empty()
            && self.registrations.is_empty()
            && self.slots.is_empty()
            && self.timers.is_empty()
    }

    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    pub fn ports(&self) -> &MediaPorts {
        &self.ports
    }

    /// A telephone-event that the data plane heard on a flow of ours.
    pub fn telephone_event(&mut self, now: Time, flow: FlowId, event: u8) {
        if let Some((call, from)) = self.side_of(flow) {
            self.publish(now, &observe::Event::Dtmf { call, from, event });
        }
    }

    /// A key of the other side, for the peer whom this flow hears, who has keys by signalling.
    pub fn key(&mut self, turn: &mut Turn<'_>, flow: FlowId, press: Press) {
        if let Some((call, to)) = self.side_of(flow) {
            self.advance(turn, call, call::Event::Key { to, press });
            self.settle(turn);
        }
    }

    /// What was played to the peer whom this flow hears has come to its end, or given way.
    pub fn played(&mut self, turn: &mut Turn<'_>, flow: FlowId) {
        if let Some((call, to)) = self.side_of(flow) {
            self.advance(turn, call, call::Event::Played { to });
            self.settle(turn);
        }
    }

    /// A copy of RTCP that the data plane relayed on a flow of ours.
    pub fn rtcp(&mut self, now: Time, flow: FlowId, compound: &[u8]) {
        let Some((call, from)) = self.side_of(flow) else { return };
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.relay.rtcp(from, compound, now);
        }
    }

    /// The call of a flow, and the side that the flow hears.
    fn side_of(&self, flow: FlowId) -> Option<(CallId, Side)> {
        let call = *self.slots.get(&flow.slot)?;
        Some((call, self.calls.get(&call)?.relay.side_of(flow)?))
    }

    /// A packet of a call that is captured.
    pub fn captured(&mut self, record: Record) {
        captures::packet(self, record);
    }

    /// A message as it came or goes, for captures.
    pub fn tap(&mut self, now: Time, direction: Direction, hop: &Hop, bytes: &[u8]) {
        captures::message(self, now, direction, hop, bytes);
    }

    pub(super) fn publish(&mut self, now: Time, event: &observe::Event) {
        self.observer.publish(now, event);
    }

    pub(super) fn mint(&mut self) -> CallId {
        self.minted = self.minted.wrapping_add(1);
        let count = u32::from(self.settings.share.core.0) << 24 | self.minted & 0x00ff_ffff;
        CallId(u64::from(self.settings.run) << 32 | u64::from(count))
    }

    /// Makes requests inside dialogs with this Call-ID find this leg.
    pub(super) fn bind(&mut self, turn: &mut Turn<'_>, id: CallId, side: Side, call_id: Box<str>) {
        let Some(entry) = self.calls.get_mut(&id) else { return };
        entry.call_ids.push(call_id.clone());
        guests::announce(self, turn, &call_id);
        self.legs.entry(call_id).or_default().push((id, side));
    }

    /// Drains what the transactions put out until nothing is left.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                dispatch::output(self, turn, output);
            }
        }
        guests::settle_ports(self, turn);
    }

    /// Feeds one event to one call and carries out what it wants. A panic on the way ends this call only.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, id: CallId, event: call::Event) {
        if self.calls.contains_key(&id) {
            wreck::step(self, turn, id, |core, turn| core.handle(turn, id, event));
        }
    }

    /// As [`Core::advance`], inside a step.
    pub(super) fn handle(&mut self, turn: &mut Turn<'_>, id: CallId, event: call::Event) {
        let mut actions = Vec::new();
        let Some(entry) = self.calls.get_mut(&id) else { return };
        let mut context = call::Context {
            now: turn.now,
            policy: &self.policy,
            ports: &mut self.ports,
            tokens: &mut self.tokens,
            settings: &self.settings.call,
            actions: &mut actions,
        };
        context.ports.owner = Some(id);
        entry.call.handle(event, &mut context);
        self.fuse.burn();
        self.execute(turn, id, actions);
    }

    pub(super) fn execute(&mut self, turn: &mut Turn<'_>, id: CallId, actions: Vec<Action>) {
        execute::actions(self, turn, id, actions);
    }

    pub(super) fn respond(&mut self, turn: &Turn<'_>, server: ServerId, mut response: Response) {
        rules::response_sent(self, server, &mut response);
        self.transactions.respond(turn.now, server, response, &mut self.outputs);
    }
}
