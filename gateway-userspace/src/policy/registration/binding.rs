//! One binding: our Contact at one address of a registrar, what was asked there and granted, and when to try again.

use super::super::standing::RegistrationState;
use super::super::{PeerView, Snapshot, Target, Trunk};
use super::outbound::{self, OUTBOUND};
use super::{Registration, RegistrationId, RegistrationPolicy, ServiceRoute, Turnout};
use crate::base::id::TrunkId;
use crate::base::time::Time;
use crate::base::token::Tokens;
use crate::observe::{ProbeOutcome, TrunkEvent};
use crate::sip::message::{Contact, Draft, HeaderName, Method, NameAddr, Response, StatusCode, Uri};
use crate::sip::transport::{Hop, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) subject: Subject,
    pub(super) trunk: TrunkId,
    /// The same for all its requests (RFC 3261 section 10.2.4).
    call_id: String,
    tag: String,
    pub(super) sequence: u32,
    /// Seconds that are asked for: the trunk's, or more if the registrar wants that (423).
    pub(super) expires: u32,
    pub(super) state: State,
    /// The request whose answer is awaited, without credentials or with them, and how often it was challenged.
    pub(super) pending: Option<(Draft, u8)>,
    /// Failures in a row.
    failures: u32,
    pub(super) told: RegistrationState,
    /// As the registrar said it last.
    route: Arc<[NameAddr]>,
    /// Whether flows are spoken of: not with a first proxy that knows none (439).
    by_flow: bool,
    /// It waits for the end of a drain.
    pub(super) is_parked: bool,
    /// The policy that had it, once a newer one has it no more: it stays until the registrar has taken it back, who may
    /// ask first who we are.
    pub(super) parted: Option<Arc<Snapshot>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing stands there of us, or what stands is not known.
    Out,
    In,
    /// Taking it back.
    Leaving,
}

/// What a binding is recognized by after a reload.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subject {
    pub(super) trunk: Arc<str>,
    peer: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    listen: SocketAddr,
    policy: RegistrationPolicy,
    /// Number of the flow among those of the same instance, from 1; 0 without flows.
    flow: u16,
}

/// A proxy and the registrar may each ask who we are, and each find a nonce too old.
const MAX_CHALLENGES: u8 = 4;
/// RFC 5626 section 4.5: the first pause after a failure is at most this, and each doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(1_800);
/// A connection that broke is made again after this at most, so that not all gateways of a registrar come at once.
pub(super) const RETURN: Duration = Duration::from_secs(2);
/// What a refresh may need for its answer: 64*T1 and a little.
const PATIENCE: Duration = Duration::from_secs(40);
/// A registrar that wants longer intervals than a day is not believed.
const LONGEST_INTERVAL: u32 = 86_400;

const INTERVAL_TOO_BRIEF: StatusCode = StatusCode::new(423).expect("423 is a status code");

impl Binding {
    pub(super) fn new(subject: Subject, trunk: TrunkId, call_id: String, tag: String) -> Self {
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
    pub(super) fn request(&mut self, id: u32, trunk: &Trunk, expires: u32, product: &str) -> Registration {
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
    pub(super) fn part(&mut self, id: u32, policy: &Arc<Snapshot>, product: &str, out: &mut Turnout) {
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
    pub(super) fn accepted(
        &mut self,
        response: &Response,
        trunk: &Trunk,
        now: Time,
        out: &mut Turnout,
    ) -> Time {
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

    /// What the registrar asks for in its refusal, where we can give it: the same REGISTER once more, by the next number.
    pub(super) fn try_again(
        &mut self,
        id: u32,
        (mut draft, challenges): (Draft, u8),
        response: &Response,
        trunk: &Trunk,
        tokens: &mut Tokens,
        out: &mut Turnout,
    ) -> bool {
        let is_met = match response.status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                if challenges < MAX_CHALLENGES =>
            {
                let cnonce = tokens.token();
                trunk.digest.as_ref().is_some_and(|own| own.answer(response, &mut draft, &cnonce))
            }
            outbound::FIRST_HOP_LACKS_OUTBOUND if self.by_flow => {
                self.by_flow = false;
                draft.contact = Contact::one(self.contact(trunk));
                draft.headers.set(HeaderName::Supported, "path");
                true
            }
            INTERVAL_TOO_BRIEF if self.state != State::Leaving => self.lengthen(response, &mut draft),
            _ => false,
        };
        if is_met {
            self.sequence += 1;
            draft.sequence = self.sequence;
            self.pending = Some((draft.clone(), challenges + 1));
            let id = RegistrationId { binding: id, sequence: self.sequence };
            out.requests.push(Registration { id, draft, hop: self.subject.hop() });
        }
        is_met
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
    pub(super) fn failed(
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
    pub(super) fn of(
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
    pub(super) fn key(&self) -> Vec<u8> {
        format!("{} {} {}", self.trunk, self.peer, self.address).into_bytes()
    }
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
pub(super) fn part(span: Duration, tokens: &mut Tokens) -> Duration {
    span.mul_f64(0.5 + (tokens.number() % 1_000) as f64 / 2_000.0)
}
