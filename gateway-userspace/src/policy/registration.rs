//! Registering with peers that want it (RFC 3261 section 10): a state machine that is fed answers and time.
//!
//! Each address of each peer of a trunk with a [`RegistrationPolicy`] keeps a binding of our Contact, refreshed before it
//! expires by one core, told by a hash. What stands is where all cores see it.

mod binding;
mod outbound;

pub use outbound::{Instance, NoInstance};

use super::Snapshot;
use super::standing::Drainable as _;
use crate::base::share::Share;
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::observe::{ProbeOutcome, TrunkEvent};
use crate::sip::message::{Draft, HeaderName, Host, NameAddr, Response};
use crate::sip::transport::Hop;
use binding::{Binding, RETURN, State, Subject, part};
use std::collections::BTreeMap;
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

/// From one first REGISTER to the next, so that a start with many peers is no burst.
const STAGGER: Duration = Duration::from_millis(10);
/// How often drains are looked for.
const LOOK: Duration = Duration::from_secs(5);

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
        let Some(pending) = binding.pending.take() else { return };
        let next = if response.status.is_success() {
            Some(binding.accepted(response, trunk, now, out))
        } else if binding.try_again(id.binding, pending, response, trunk, tokens, out) {
            None
        } else {
            let outcome = ProbeOutcome::Answered(response.status.code());
            Some(binding.failed(outcome, retry_after(response), now, tokens, out))
        };
        if let Some(next) = next {
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

fn is_drained(policy: &Snapshot, binding: &Binding) -> bool {
    policy.standing(binding.trunk).is_some_and(|standing| standing.is_drained())
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers.value(&HeaderName::RetryAfter)?.trim_start();
    let digits = value.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
