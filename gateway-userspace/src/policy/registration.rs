//! Registering with peers that want it (RFC 3261 section 10): a state machine that is fed answers and time.
//!
//! Each address of each peer of a trunk with a [`RegistrationPolicy`] keeps a binding of our Contact, refreshed before it
//! expires by one core, told by a hash. What stands is where all cores see it.

mod outbound;

pub use outbound::{Instance, NoInstance};

use super::standing::{Drainable as _, RegistrationState};
use super::{PeerView, Snapshot, Target, Trunk};
use crate::base::id::TrunkId;
use crate::base::share::Share;
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::observe::{ProbeOutcome, TrunkEvent};
use crate::sip::message::{Contact, Draft, HeaderName, Host, Method, NameAddr, Response, StatusCode, Uri};
use crate::sip::transport::{Hop, Transport};
use outbound::OUTBOUND;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Who we are to the registrars of a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationPolicy {
    /// The domain of the registrar: host of the Request-URI and of the address of record.
    pub domain: Host,
    /// User part of the address of record, and of our Contact.
    pub user: String,
    /// How long a binding is asked for.
    pub expires: Duration,
    /// Registers flows of this instance (RFC 5626) instead of an address.
    pub instance: Option<Instance>,
}

/// One REGISTER to be sent; what becomes of it comes back under `id`.
#[derive(Debug)]
pub struct Registration {
    pub id: RegistrationId,
    pub draft: Draft,
    pub hop: Hop,
}

/// Which REGISTER an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegistrationId {
    binding: u32,
    sequence: u32,
}

/// Where a turn's requests and news go.
#[derive(Debug, Default)]
pub struct Turnout {
    pub requests: Vec<Registration>,
    pub events: Vec<TrunkEvent>,
    /// Which proxies calls by a hop pass from now on.
    pub routes: Vec<ServiceRoute>,
    /// Flows to be kept open, and the pause between pings.
    pub flows: Vec<(Hop, Duration)>,
}

/// What a registrar wants in the Route of calls that we send it (RFC 3608).
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRoute {
    pub hop: Hop,
    /// Empty for none.
    pub route: Arc<[NameAddr]>,
}

/// The bindings that one core keeps.
#[derive(Debug)]
pub struct Registrant {
    share: Share,
    product: Arc<str>,
    policy: Arc<Snapshot>,
    bindings: BTreeMap<u32, Binding>,
    timers: TimerTable<u32>,
    made: u32,
    /// When drains are looked for next.
    next_look: Time,
}

/// Our Contact at one address.
#[derive(Debug)]
struct Binding {
    subject: Subject,
    trunk: TrunkId,
    /// The same for all its requests (RFC 3261 section 10.2.4).
    call_id: String,
    tag: String,
    sequence: u32,
    /// Seconds that are asked for: the trunk's, or more if the registrar wants that (423).
    expires: u32,
    state: State,
    /// The request whose answer is awaited, without credentials or with them, and how often it was challenged.
    pending: Option<(Draft, u8)>,
    /// Failures in a row.
    failures: u32,
    told: RegistrationState,
    /// As the registrar said it last.
    route: Arc<[NameAddr]>,
    /// Whether flows are spoken of: not with a first proxy that knows none (439).
    by_flow: bool,
    /// It waits for the end of a drain.
    is_parked: bool,
    /// The policy that had it, once a newer one has it no more: it stays until the registrar has taken it back, who may
    /// ask first who we are.
    parted: Option<Arc<Snapshot>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing stands there of us, or what stands is not known.
    Out,
    In,
    /// Taking it back.
    Leaving,
}

/// What a binding is recognized by after a reload.
#[derive(Clone, Debug, PartialEq)]
struct Subject {
    trunk: Arc<str>,
    peer: Arc<str>,
    address: SocketAddr,
    transport: Transport,
    listen: SocketAddr,
    policy: RegistrationPolicy,
    /// Number of the flow among those of the same instance, from 1; 0 without flows.
    flow: u16,
}

/// From one first REGISTER to the next, so that a start with many peers is no burst.
const STAGGER: Duration = Duration::from_millis(10);
/// A proxy and the registrar may each ask who we are, and each find a nonce too old.
const MAX_CHALLENGES: u8 = 4;
/// RFC 5626 section 4.5: the first pause after a failure is at most this, and each doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(1_800);
/// A connection that broke is made again after this at most, so that not all gateways of a registrar come at once.
const RETURN: Duration = Duration::from_secs(2);
/// How often drains are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// What a refresh may need for its answer: 64*T1 and a little.
const PATIENCE: Duration = Duration::from_secs(40);
/// A registrar that wants longer intervals than a day is not believed.
const LONGEST_INTERVAL: u32 = 86_400;

impl Registrant {
    pub fn new(
        share: Share,
        product: Arc<str>,
        policy: Arc<Snapshot>,
        now: Time,
        tokens: &mut Tokens,
    ) -> Self {
        let (bindings, timers) = (BTreeMap::new(), TimerTable::default());
        let mut registrant =
            Self { share, product, policy: Arc::clone(&policy), bindings, timers, made: 0, next_look: now };
        registrant.follow(policy, now, tokens, &mut Turnout::default());
        registrant
    }

    /// Registers with the peers of `policy` from now on: with new ones at once, with others when their time comes. What
    /// stands at those that are gone is taken back, once.
    pub fn follow(&mut self, policy: Arc<Snapshot>, now: Time, tokens: &mut Tokens, out: &mut Turnout) {
        let mut before = std::mem::take(&mut self.bindings);
        let mut fresh = 0;
        for (trunk, settings) in policy.trunks() {
            let Some(wanted) = &settings.registration else { continue };
            let mut flow = 0;
            for view in policy.peers(trunk) {
                for target in view.targets {
                    flow += u16::from(wanted.instance.is_some());
                    let subject = Subject::of(settings, wanted, (&view, target), flow);
                    if self.share.owner(&subject.key()) != self.share.core {
                        continue;
                    }
                    let known =
                        before.iter().find(|(_, binding)| binding.subject == subject).map(|(id, _)| *id);
                    if let Some((id, mut binding)) = known.and_then(|id| before.remove_entry(&id)) {
                        (binding.trunk, binding.parted) = (trunk, None);
                        self.bindings.insert(id, binding);
                        continue;
                    }
                    self.made = self.made.wrapping_add(1);
                    let call_id = self.share.call_id(tokens);
                    let binding = Binding::new(subject, trunk, call_id, tokens.token());
                    self.bindings.insert(self.made, binding);
                    self.timers.arm(self.made, now + STAGGER * fresh);
                    fresh += 1;
                }
            }
        }
        for (id, mut gone) in before {
            self.timers.disarm(id);
            gone.part(id, &self.policy, &self.product, out);
            if gone.pending.is_some() {
                self.bindings.insert(id, gone);
            }
        }
        self.policy = policy;
    }

    pub fn next_deadline(&self) -> Option<Time> {
        let looks = (!self.bindings.is_empty()).then_some(self.next_look);
        [self.timers.next(), looks].into_iter().flatten().min()
    }

    /// A drain of the node began or ended: it is looked at now.
    pub fn hasten(&mut self, now: Time) {
        self.next_look = now;
    }

    /// Whether nothing of us stands anywhere, as far as it could be taken back.
    pub fn has_left(&self) -> bool {
        self.bindings.values().all(|binding| binding.state == State::Out && binding.pending.is_none())
    }

    /// Pushes the requests whose time has come. Of a node that `drains`, and of a drained trunk, what stands is taken back:
    /// the registrar sends its calls elsewhere then.
    pub fn expire(&mut self, now: Time, drains: bool, out: &mut Turnout) {
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.look(now, drains);
        }
        while let Some(id) = self.timers.expire(now) {
            let Some(binding) = self.bindings.get_mut(&id) else { continue };
            let Some(trunk) = self.policy.trunk(binding.trunk) else { continue };
            if !drains && !is_drained(&self.policy, binding) {
                let expires = binding.expires;
                out.requests.push(binding.request(id, trunk, expires, &self.product));
                continue;
            }
            if binding.state == State::In {
                binding.state = State::Leaving;
                out.requests.push(binding.request(id, trunk, 0, &self.product));
            } else {
                binding.is_parked = true;
            }
        }
    }

    /// Drains of the node and of trunks begin and end by words that reach another core.
    fn look(&mut self, now: Time, drains: bool) {
        for (id, binding) in &mut self.bindings {
            let leaves = drains || is_drained(&self.policy, binding);
            let is_due = if leaves { binding.state == State::In } else { binding.is_parked };
            if is_due && binding.pending.is_none() {
                binding.is_parked = false;
                self.timers.arm(*id, now);
            }
        }
    }

    /// The connection to this address is gone, and what stood there by it may be (RFC 5626 section 4.4).
    pub fn disconnected(&mut self, hop: &Hop, now: Time, tokens: &mut Tokens) {
        for (id, binding) in &mut self.bindings {
            let is_there =
                binding.subject.address == hop.remote && binding.subject.transport == hop.transport;
            if is_there && binding.state == State::In && binding.pending.is_none() {
                self.timers.arm(*id, now + part(RETURN, tokens));
            }
        }
    }

    /// The final answer to a REGISTER.
    pub fn answered(
        &mut self,
        id: RegistrationId,
        response: &Response,
        now: Time,
        tokens: &mut Tokens,
        out: &mut Turnout,
    ) {
        let Some(binding) = self.bindings.get_mut(&id.binding).filter(|own| own.sequence == id.sequence)
        else {
            return;
        };
        let policy = Arc::clone(binding.parted.as_ref().unwrap_or(&self.policy));
        let Some(trunk) = policy.trunk(binding.trunk) else { return };
        let Some((mut draft, challenges)) = binding.pending.take() else { return };
        let again = match response.status {
            status if status.is_success() => {
                let next = binding.accepted(response, trunk, now, out);
                self.timers.arm(id.binding, next);
                false
            }
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                if challenges < MAX_CHALLENGES =>
            {
                let cnonce = tokens.token();
                trunk.digest.as_ref().is_some_and(|own| own.answer(response, &mut draft, &cnonce))
            }
            outbound::FIRST_HOP_LACKS_OUTBOUND if binding.by_flow => {
                binding.by_flow = false;
                draft.contact = Contact::one(binding.contact(trunk));
                draft.headers.set(HeaderName::Supported, "path");
                true
            }
            INTERVAL_TOO_BRIEF if binding.state != State::Leaving => binding.lengthen(response, &mut draft),
            _ => false,
        };
        if again {
            binding.sequence += 1;
            draft.sequence = binding.sequence;
            binding.pending = Some((draft.clone(), challenges + 1));
            let id = RegistrationId { binding: id.binding, sequence: binding.sequence };
            out.requests.push(Registration { id, draft, hop: binding.subject.hop() });
        } else if !response.status.is_success() {
            let pause = retry_after(response);
            let outcome = ProbeOutcome::Answered(response.status.code());
            let next = binding.failed(outcome, pause, now, tokens, out);
            self.timers.arm(id.binding, next);
        }
        self.settle(id.binding, out);
    }

    /// A REGISTER without an answer, or one that could not be sent.
    pub fn lost(
        &mut self,
        id: RegistrationId,
        outcome: ProbeOutcome,
        now: Time,
        tokens: &mut Tokens,
        out: &mut Turnout,
    ) {
        let Some(binding) = self.bindings.get_mut(&id.binding).filter(|own| own.sequence == id.sequence)
        else {
            return;
        };
        binding.pending = None;
        let next = binding.failed(outcome, None, now, tokens, out);
        self.timers.arm(id.binding, next);
        self.settle(id.binding, out);
    }

    /// Makes all cores see what is known; of a binding that no policy has any more, takes back what stands, and then
    /// forgets it.
    fn settle(&mut self, id: u32, out: &mut Turnout) {
        let Some(binding) = self.bindings.get_mut(&id) else { return };
        if let Some((trunk, _)) = self.policy.trunk_named(&binding.subject.trunk) {
            let mut targets = self.policy.peers(trunk).flat_map(|view| view.targets);
            if let Some(target) = targets.find(|target| target.address == binding.subject.address) {
                target.standing.set_registration(binding.told);
            }
        }
        if let Some(policy) = binding.parted.clone() {
            self.timers.disarm(id);
            binding.part(id, &policy, &self.product, out);
            if binding.pending.is_none() {
                self.bindings.remove(&id);
            }
        }
    }
}

const INTERVAL_TOO_BRIEF: StatusCode = StatusCode::new(423).expect("423 is a status code");

impl Binding {
    fn new(subject: Subject, trunk: TrunkId, call_id: String, tag: String) -> Self {
        let expires = u32::try_from(subject.policy.expires.as_secs()).unwrap_or(LONGEST_INTERVAL);
        Self {
            trunk,
            call_id,
            tag,
            sequence: 0,
            expires,
            state: State::Out,
            pending: None,
            failures: 0,
            told: RegistrationState::Unregistered,
            route: Arc::default(),
            by_flow: subject.policy.instance.is_some(),
            is_parked: false,
            parted: None,
            subject,
        }
    }

    /// The next REGISTER, for so many seconds; 0 takes the binding back (RFC 3261 section 10.2.2).
    fn request(&mut self, id: u32, trunk: &Trunk, expires: u32, product: &str) -> Registration {
        let RegistrationPolicy { domain, user, .. } = &self.subject.policy;
        let record = || NameAddr::new(Uri::sip(Some(user), domain.clone(), None));
        let target = Uri::sip(None, domain.clone(), None);
        let from = record().with_tag(&self.tag);
        self.sequence += 1;
        let mut draft =
            Draft::new(Method::Register, target, from, record(), self.call_id.as_str(), self.sequence);
        draft.contact = Contact::one(self.contact(trunk));
        draft.headers.push(HeaderName::Expires, expires.to_string());
        // What proxies before the registrar want in front of calls to us is between them (RFC 3327 section 5.1).
        draft.headers.push(HeaderName::Supported, "path");
        if self.by_flow {
            draft.headers.push(HeaderName::Supported, OUTBOUND);
        }
        draft.headers.push(HeaderName::UserAgent, product);
        trunk.sign(&mut draft);
        self.pending = Some((draft.clone(), 0));
        let id = RegistrationId { binding: id, sequence: self.sequence };
        Registration { id, draft, hop: self.subject.hop() }
    }

    /// The policy that has it goes: what stands is taken back.
    fn part(&mut self, id: u32, policy: &Arc<Snapshot>, product: &str, out: &mut Turnout) {
        let policy = self.parted.get_or_insert_with(|| Arc::clone(policy)).clone();
        if self.state == State::In
            && let Some(trunk) = policy.trunk(self.trunk)
        {
            self.state = State::Leaving;
            out.requests.push(self.request(id, trunk, 0, product));
            self.follow_route(Vec::new(), out);
        }
    }

    fn contact(&self, trunk: &Trunk) -> NameAddr {
        let mut contact = trunk.contact();
        if let Uri::Sip(uri) = &mut contact.uri {
            uri.user = Some(self.subject.policy.user.clone());
        }
        if let Some(instance) = self.subject.policy.instance.as_ref().filter(|_| self.by_flow) {
            outbound::mark(&mut contact, instance, self.subject.flow);
        }
        contact
    }

    /// A 2xx: when the next request is due.
    fn accepted(&mut self, response: &Response, trunk: &Trunk, now: Time, out: &mut Turnout) -> Time {
        self.failures = 0;
        if self.state == State::Leaving {
            self.state = State::Out;
            self.follow_route(Vec::new(), out);
            self.tell(RegistrationState::Unregistered, None, out);
            return now + RETURN;
        }
        self.follow_route(outbound::service_route(response), out);
        if let Some(pause) = outbound::pause(response).filter(|_| self.by_flow) {
            out.flows.push((self.subject.hop(), pause));
        }
        let granted = self.granted(response, trunk);
        self.state = State::In;
        self.tell(RegistrationState::Registered, Some(granted), out);
        now + refresh(granted)
    }

    /// Calls pass these proxies from now on, as long as we are known there (RFC 3608 section 5).
    fn follow_route(&mut self, route: Vec<NameAddr>, out: &mut Turnout) {
        if *self.route != *route {
            self.route = route.into();
            out.routes.push(ServiceRoute { hop: self.subject.hop(), route: Arc::clone(&self.route) });
        }
    }

    /// For how long (RFC 3261 section 10.2.4): as our Contact says, or the response as a whole, or as was asked.
    fn granted(&self, response: &Response, trunk: &Trunk) -> Duration {
        let own = self.contact(trunk).uri;
        let parts = |uri: &Uri| uri.as_sip().map(|uri| (uri.user.clone(), uri.host.clone(), uri.port));
        let ours =
            response.head.contact.addresses().iter().find(|contact| parts(&contact.uri) == parts(&own));
        let said = ours.and_then(|contact| contact.param("expires"));
        let said = said.or_else(|| response.headers.value(&HeaderName::Expires));
        let seconds = said.and_then(|said| said.trim().parse().ok()).unwrap_or(self.expires);
        Duration::from_secs(seconds.clamp(1, LONGEST_INTERVAL).into())
    }

    /// The registrar wants longer intervals (RFC 3261 section 10.2.8).
    fn lengthen(&mut self, response: &Response, draft: &mut Draft) -> bool {
        let wanted =
            response.headers.value(&HeaderName::MinExpires).and_then(|text| text.trim().parse().ok());
        let Some(wanted) = wanted.filter(|wanted| (self.expires + 1..=LONGEST_INTERVAL).contains(wanted))
        else {
            return false;
        };
        self.expires = wanted;
        draft.headers.set(HeaderName::Expires, wanted.to_string());
        true
    }

    /// It did not work: when to try again, later each time, and not all at one moment (RFC 5626 section 4.5).
    fn failed(
        &mut self,
        outcome: ProbeOutcome,
        asked: Option<Duration>,
        now: Time,
        tokens: &mut Tokens,
        out: &mut Turnout,
    ) -> Time {
        let Subject { trunk, peer, address, .. } = self.subject.clone();
        self.follow_route(Vec::new(), out);
        if self.state == State::Leaving {
            self.state = State::Out;
            self.tell(RegistrationState::Unregistered, None, out);
            return now + RETURN;
        }
        self.state = State::Out;
        if self.told != RegistrationState::Failed {
            out.events.push(TrunkEvent::RegistrationFailed { trunk, peer, address, outcome });
        }
        self.told = RegistrationState::Failed;
        let longest = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        now + part(longest, tokens).max(asked.unwrap_or_default().min(LONGEST_PAUSE))
    }

    fn tell(&mut self, state: RegistrationState, expires: Option<Duration>, out: &mut Turnout) {
        let Subject { trunk, peer, address, .. } = self.subject.clone();
        if std::mem::replace(&mut self.told, state) == state {
            return;
        }
        out.events.push(match expires {
            Some(expires) => TrunkEvent::Registered { trunk, peer, address, expires },
            None => TrunkEvent::Unregistered { trunk, peer, address },
        });
    }
}

impl Subject {
    fn of(
        trunk: &Trunk,
        policy: &RegistrationPolicy,
        (view, target): (&PeerView<'_>, &Target),
        flow: u16,
    ) -> Self {
        Self {
            trunk: trunk.name.as_str().into(),
            peer: view.peer.name.as_str().into(),
            address: target.address,
            transport: trunk.transport,
            listen: trunk.listen,
            policy: policy.clone(),
            flow,
        }
    }

    /// Where its requests go.
    fn hop(&self) -> Hop {
        Hop { transport: self.transport, local: self.listen, remote: self.address, connection: None }
    }

    /// What the core that keeps it is found by.
    fn key(&self) -> Vec<u8> {
        format!("{} {} {}", self.trunk, self.peer, self.address).into_bytes()
    }
}

fn is_drained(policy: &Snapshot, binding: &Binding) -> bool {
    policy.standing(binding.trunk).is_some_and(|standing| standing.is_drained())
}

/// When a binding of so long is refreshed: early enough for one more try.
fn refresh(granted: Duration) -> Duration {
    let late = granted.mul_f64(0.85);
    granted
        .checked_sub(PATIENCE)
        .filter(|early| *early >= granted / 2)
        .map_or(granted / 2, |early| early.min(late))
}

/// Between a half and all of it.
fn part(span: Duration, tokens: &mut Tokens) -> Duration {
    span.mul_f64(0.5 + (tokens.number() % 1_000) as f64 / 2_000.0)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers.value(&HeaderName::RetryAfter)?.trim_start();
    let digits = value.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
