//! From the caller's INVITE to the callee's final answer: peers are tried one after the other.

mod answer;
mod invite;
mod pickup;
mod precondition;
mod preparation;
mod progress;
mod refusal;
mod request;
mod ringback;

pub(in crate::call) use preparation::begin;

use super::attempt::Attempt;
use super::ending::Ending;
use super::parting::Partings;
use super::{Phase, conclude, crossing};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::feature::early_media::Heard;
use crate::call::feature::reason::Reasons;
use crate::call::feature::reliable::Provisional;
use crate::call::feature::session_timer::Session;
use crate::call::leg::{Leg, TrunkRef};
use crate::call::{Action, CallTimer, Context, Event, RequestKey, media};
use crate::media::MediaPlan;
use crate::observe;
use crate::policy::{self, Caller, Candidates, Redirection};
use crate::sdp;
use crate::sip::dialog::DialogId;
use crate::sip::message::{Draft, HeaderName, Request, Response, StatusCode};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use std::sync::Arc;

#[derive(Debug)]
pub(in crate::call) struct Setup {
    caller: Leg,
    server: ServerId,
    request: Box<Request>,
    /// Our provisional responses to it.
    provisional: Provisional,
    heard: Heard,
    /// The INVITE carried an offer; without one we make it, or the callee does.
    offered: bool,
    callee: Callee,
    candidates: Candidates,
    /// In the order tried; the last one is the current one.
    attempts: Vec<Attempt>,
    /// The callee is not rung before the caller's access is ready (RFC 3312).
    is_waiting: bool,
    /// The callee's 2xx, which waits for the caller's PRACK (RFC 3262 section 3), or for the callee's own answer to an
    /// UPDATE of ours.
    held: Option<Box<Response>>,
    ringback: ringback::Ringback,
    /// The caller hears why it is about to be refused, by this.
    refusing: Option<Failure>,
}

/// What is known of the callee's side before it has a dialog.
#[derive(Debug)]
struct Callee {
    trunk: TrunkRef,
    media: sdp::Leg,
    /// Its INVITE carries an offer: the caller's, or one of our own where its peers want one.
    has_offer: bool,
    session: Session,
    /// The INVITE sent last, for one more of the same dialog.
    invite: Option<Box<Draft>>,
    called: String,
    caller: Caller,
    /// Who passed the call on.
    redirection: Redirection,
}

/// Why the caller gets no answer.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Fault(Fault),
    /// The callee's own word, and why.
    Status(StatusCode, Reasons),
}

impl Setup {
    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        (side == Side::Caller).then_some(&self.caller)
    }

    /// Whether this is the caller's early dialog, or one of those that the INVITE now under way has made.
    pub(super) fn has_dialog(&self, side: Side, dialog: &DialogId) -> bool {
        match side {
            Side::Caller => self.caller.dialog.id() == *dialog,
            Side::Callee => self.attempts.last().is_some_and(|attempt| attempt.has_dialog(dialog)),
        }
    }

    pub(super) fn trunk(&self, side: Side) -> &TrunkRef {
        match side {
            Side::Caller => &self.caller.trunk,
            Side::Callee => &self.callee.trunk,
        }
    }

    pub(super) fn local_tag(&self, side: Side) -> Option<&str> {
        match side {
            Side::Caller => Some(self.caller.local_tag()),
            Side::Callee => self.attempts.last().map(|attempt| attempt.origin.local_tag()),
        }
    }

    /// What early media lets through.
    pub(super) fn plan(&self) -> MediaPlan {
        let flowing = self.attempts.last().filter(|_| self.refusing.is_none()).and_then(Attempt::media);
        let flowing = flowing.unwrap_or(&self.callee.media);
        let legs = (&self.caller, &self.callee.trunk, flowing);
        let playing = self.ringback.plays().then(|| media::plan_playing(legs, Side::Caller, false));
        let mut plan = playing.flatten().unwrap_or_else(|| media::plan(legs.0, legs.1, legs.2));
        if let Some(attempt) = self.attempts.last().filter(|_| self.callee.trunk.media.ice.is_lite) {
            plan.hear_forks(Side::Callee, &attempt.forks());
        }
        plan
    }

    fn relay(&mut self, context: &mut Context<'_>) {
        let plan = self.plan();
        if !plan.flows.is_empty() {
            self.ringback.relay(plan, context);
        }
    }

    /// Tries the next peer; without one left, tells the caller why the last one failed.
    pub(in crate::call) fn dial(self, facts: &mut Facts, context: &mut Context<'_>) -> Phase {
        if let Some(patience) = self.caller.trunk.progress_timeout {
            context.arm(CallTimer::NoProgress, patience);
        }
        if self.caller.media.awaits_preconditions() && self.provisional.describes_reliably() {
            return self.answer_preconditions(facts, context);
        }
        self.dial_next(facts, context, Failure::Fault(Fault::PeerUnreachable))
    }

    fn dial_next(mut self, facts: &mut Facts, context: &mut Context<'_>, last: Failure) -> Phase {
        let Some(candidate) = self.candidates.next(context.now) else {
            return self.fail(facts, context, last);
        };
        let peer = candidate.address;
        let number = facts.peers_tried.saturating_add(1);
        let trunk = self.callee.trunk.clone();
        let hop = Hop { transport: trunk.transport, local: trunk.listen, remote: peer, connection: None };
        let mut draft = self.callee.invite(self.request.head.max_forwards, &candidate, context);
        draft.headers.push(HeaderName::UserAgent, &*context.settings.product);
        let attempt = Attempt::new(number, &draft, hop, trunk.clone());
        if self.callee.has_offer
            && let Err(refusal) = self.offer_in(&mut draft)
        {
            return self.fail(facts, context, Failure::Fault(refusal.fault()));
        }
        facts.peers_tried = number;
        facts.peer = Some(peer);
        let name: Arc<str> = Arc::from(trunk.name.as_str());
        facts.to_trunk = Some(Arc::clone(&name));
        let call = facts.start.call;
        facts.callee_sip_call_id = Some(draft.call_id.as_str().into());
        let key = attempt.key();
        self.attempts.push(attempt);
        // What the callee sends together with its answer must not overtake the flows (RFC 3264 section 5.1).
        self.relay(context);
        context.push(Action::Bind { side: Side::Callee, call_id: draft.call_id.clone() });
        context.push(Action::Publish(observe::Event::Routed { call, trunk: name, peer, attempt: number }));
        context.arm(CallTimer::PeerSilent, trunk.peer_timeout);
        self.callee.invite = Some(Box::new(draft.clone()));
        context.push(Action::Request { key, draft: Box::new(draft), hop });
        Phase::Setup(Box::new(self))
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        facts: &mut Facts,
        event: Event,
        context: &mut Context<'_>,
    ) -> Phase {
        let Some(event) = self.while_refusing(event, context) else { return self.refused(facts, context) };
        match event {
            Event::Response { key, response } => self.response(facts, key, &response, context),
            Event::TimedOut { key } => self.lost(facts, key, Fault::PeerTimeout, context),
            Event::Unreachable { key } => self.lost(facts, key, Fault::PeerUnreachable, context),
            Event::Cancelled { cancel, .. } => self.cancelled(facts, Reasons::of(&cancel.headers), context),
            Event::Request { side: Side::Caller, server, request, .. } => {
                self.request_of_caller(facts, (server, &request), context)
            }
            Event::Request { side: Side::Callee, server, request, .. } => {
                self.request_of_callee((server, &request), context);
                Phase::Setup(self)
            }
            Event::Timer(timer) => self.fired(facts, timer, context),
            Event::MediaHeard { callee_spoke, .. } => {
                if !callee_spoke {
                    self.ring_into_silence(facts, context);
                }
                Phase::Setup(self)
            }
            Event::Played { to: Side::Caller } => {
                self.gave_way(context);
                Phase::Setup(self)
            }
            Event::FlowsRefused(fault) => self.flows_refused(facts, fault, context),
            Event::Replace { side: Side::Callee, joiner } => self.pick_up(facts, *joiner, context),
            Event::Replace { side: Side::Caller, joiner } => {
                // The caller's own dialog is not one that we began (RFC 3891 section 3).
                joiner.refuse(Fault::NoSuchDialog, context);
                Phase::Setup(self)
            }
            Event::GiveUp { claimant, .. } => {
                context.push(Action::Surrender { claimant, claim: None });
                Phase::Setup(self)
            }
            Event::HangUp(fault) => self.hung_up(facts, fault, context),
            Event::AnsweredAgain { .. }
            | Event::Acknowledged { .. }
            | Event::NeverAcknowledged { .. }
            | Event::Claimed(_)
            | Event::Key { .. }
            | Event::Played { to: Side::Callee } => Phase::Setup(self),
        }
    }

    fn response(
        mut self: Box<Self>,
        facts: &mut Facts,
        key: RequestKey,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        match key {
            RequestKey::Invite { attempt } => self.peer_responded(facts, attempt, response, context),
            RequestKey::Prack => {
                self.acknowledged_by(response, context);
                Phase::Setup(self)
            }
            RequestKey::Update { to: Side::Callee } => self.told(facts, Some(response), context),
            RequestKey::Update { to: Side::Caller }
            | RequestKey::Reinvite { .. }
            | RequestKey::Bye { .. }
            | RequestKey::Release
            | RequestKey::Refer { .. }
            | RequestKey::Notify { .. }
            | RequestKey::Keys { .. }
            | RequestKey::Part { .. } => Phase::Setup(self),
        }
    }

    /// A request of ours got no final response.
    fn lost(
        self: Box<Self>,
        facts: &mut Facts,
        key: RequestKey,
        fault: Fault,
        context: &mut Context<'_>,
    ) -> Phase {
        match key {
            RequestKey::Invite { attempt } => self.peer_lost(facts, attempt, fault, context),
            RequestKey::Update { to: Side::Callee } => self.told(facts, None, context),
            RequestKey::Update { to: Side::Caller }
            | RequestKey::Prack
            | RequestKey::Reinvite { .. }
            | RequestKey::Bye { .. }
            | RequestKey::Release
            | RequestKey::Refer { .. }
            | RequestKey::Notify { .. }
            | RequestKey::Keys { .. }
            | RequestKey::Part { .. } => Phase::Setup(self),
        }
    }

    fn fired(mut self: Box<Self>, facts: &mut Facts, timer: CallTimer, context: &mut Context<'_>) -> Phase {
        match timer {
            CallTimer::PeerSilent => {
                self.cancel_current(context);
                self.dial_next(facts, context, Failure::Fault(Fault::PeerTimeout))
            }
            CallTimer::NoProgress => self.call_off(facts, Fault::PeerTimeout, context),
            CallTimer::NoAnswer => self.call_off(facts, Fault::NoAnswer, context),
            CallTimer::Provisional if self.provisional.repeat(context) => Phase::Setup(self),
            CallTimer::Provisional => self.call_off(facts, Fault::NoPrack, context),
            CallTimer::Silence => {
                context.push(Action::ProbeMedia);
                Phase::Setup(self)
            }
            CallTimer::Glare
            | CallTimer::Parting
            | CallTimer::Session(_)
            | CallTimer::MediaCheck
            | CallTimer::Refusal
            | CallTimer::Linger => Phase::Setup(self),
        }
    }

    fn flows_refused(
        mut self: Box<Self>,
        facts: &mut Facts,
        fault: Fault,
        context: &mut Context<'_>,
    ) -> Phase {
        // Where the flows stood before the INVITE, it was dropped with them.
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| !attempt.heard) {
            attempt.open = false;
        }
        self.call_off(facts, fault, context)
    }

    /// The callee is given up, and no other peer is tried.
    fn call_off(mut self: Box<Self>, facts: &mut Facts, fault: Fault, context: &mut Context<'_>) -> Phase {
        self.cancel_current(context);
        self.fail(facts, context, Failure::Fault(fault))
    }

    fn peer_responded(
        mut self: Box<Self>,
        facts: &mut Facts,
        number: u8,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let current = self.attempts.last().map(|attempt| attempt.number);
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.number == number) else {
            return Phase::Setup(self);
        };
        let status = response.status;
        attempt.heard = true;
        if status.is_final() {
            attempt.open = false;
        } else {
            attempt.rang |= status != StatusCode::TRYING;
        }
        let rang = attempt.rang;
        facts.heard_from(Side::Callee, &response.headers, &self.callee.trunk);
        let reasons = Reasons::of_refusal(status, &response.headers);
        if current != Some(number) {
            // A peer that was given up answers after all.
            if status.is_success() {
                attempt.release(response, context);
            }
            return Phase::Setup(self);
        }
        match status {
            status if status.is_provisional() => self.progress(facts, response, context),
            status if status.is_success() => self.answered(facts, response, context),
            // It rang: what timed out is the callee, and others shall not ring after it.
            StatusCode::REQUEST_TIMEOUT if rang => self.fail(facts, context, Failure::Fault(Fault::NoAnswer)),
            EXTENSION_REQUIRED if self.extend(response, context) => Phase::Setup(self),
            INTERVAL_TOO_SMALL if self.callee.session.raise(response) => self.ask_for_longer(context),
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                if self.authenticate(response, context) =>
            {
                Phase::Setup(self)
            }
            status if policy::retries(status.code()) => {
                self.honour_pause(response, context);
                self.dial_next(facts, context, Failure::Status(status, reasons))
            }
            status => self.fail(facts, context, Failure::Status(status, reasons)),
        }
    }

    fn peer_lost(
        mut self: Box<Self>,
        facts: &mut Facts,
        number: u8,
        fault: Fault,
        context: &mut Context<'_>,
    ) -> Phase {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.number == number) {
            attempt.open = false;
        }
        if self.attempts.last().is_none_or(|attempt| attempt.number != number) {
            return Phase::Setup(self);
        }
        self.dial_next(facts, context, Failure::Fault(fault))
    }

    fn cancelled(
        mut self: Box<Self>,
        facts: &mut Facts,
        reasons: Reasons,
        context: &mut Context<'_>,
    ) -> Phase {
        self.cancel_for(reasons, context);
        self.fail(facts, context, Failure::Fault(Fault::Cancelled))
    }

    /// At once, whatever the caller hears or was to hear.
    fn hung_up(mut self: Box<Self>, facts: &mut Facts, fault: Fault, context: &mut Context<'_>) -> Phase {
        self.cancel_current(context);
        self.refusing = Some(Failure::Fault(fault));
        self.refused(facts, context)
    }

    fn cancel_current(&mut self, context: &mut Context<'_>) {
        self.cancel_for(Reasons::default(), context);
    }

    fn cancel_for(&mut self, reasons: Reasons, context: &mut Context<'_>) {
        let reason = reasons.line(&self.callee.trunk.sip.causes);
        let Some(attempt) = self.attempts.last_mut() else { return };
        if attempt.open {
            context.push(Action::Cancel { key: attempt.key(), reason });
        } else if let Some(answer) = self.held.take() {
            attempt.release(&answer, context);
        }
    }

    /// Tells the caller, writes the record, and waits for INVITEs that are still open.
    fn fail(mut self, facts: &mut Facts, context: &mut Context<'_>, failure: Failure) -> Phase {
        if self.explain(facts, failure, context) {
            return Phase::Setup(Box::new(self));
        }
        let invite = (self.server, &*self.request);
        let outcome = match failure {
            Failure::Fault(fault) => {
                self.caller.refuse(context, invite, fault);
                Outcome::fault(fault, false)
            }
            Failure::Status(status, reasons) => {
                let status = crossing(status);
                let reason = reasons.line_of_refusal(status, &self.caller.trunk.sip.causes);
                self.caller.pass_refusal(context, invite, status, reason);
                Outcome::refused(status.code(), reasons.q850())
            }
        };
        conclude(facts, outcome, (&self.caller, None), context);
        context.ports.release(self.callee.media.local(), context.now);
        let attempts = (self.attempts, Partings::default());
        Ending::begin(facts, (Some(self.caller), None), Vec::new(), attempts, context)
    }
}

const EXTENSION_REQUIRED: StatusCode = StatusCode::new(421).expect("421 is a status code");
const INTERVAL_TOO_SMALL: StatusCode = StatusCode::new(422).expect("422 is a status code");
