//! From the caller's INVITE to the callee's final answer: peers are tried one after the other.

mod answer;
mod invite;
mod pickup;
mod progress;
mod request;

use super::attempt::Attempt;
use super::ending::Ending;
use super::parting::Partings;
use super::{Phase, conclude, crossing, tell_of_invite};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::redact::Number;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::feature::ability::{Abilities, REL100};
use crate::call::feature::correlation;
use crate::call::feature::early_media::Heard;
use crate::call::feature::reason::Reasons;
use crate::call::feature::reliable::Provisional;
use crate::call::feature::session_timer::{self, Session};
use crate::call::leg::{Leg, TrunkRef};
use crate::call::{Action, CallTimer, Context, Event, Invitation, RequestKey, media};
use crate::media::MediaPlan;
use crate::observe::event::CallStart;
use crate::observe::{self, TrunkEvent};
use crate::policy::{self, Caller, Candidates, Decision, Inquiry, Redirection, ReliableProvisional};
use crate::sdp;
use crate::sip::dialog::{Dialog, DialogId};
use crate::sip::message::{Draft, HeaderName, Request, Response, StatusCode, Uri};
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
    /// The callee's 2xx, which waits for the caller's PRACK (RFC 3262 section 3).
    held: Option<Box<Response>>,
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

/// Checks the INVITE and prepares both legs. On refusal nothing was done, and the INVITE comes back.
pub(in crate::call) fn begin(
    invitation: Invitation,
    context: &mut Context<'_>,
) -> Result<(Facts, Setup), (Fault, Box<Request>)> {
    let Invitation { id, server, request, hop, trunk, permit, emergency } = invitation;
    let prepared = prepare(&request, hop, trunk.clone(), emergency, context);
    let Prepared { caller, callee, decision, offered } = match prepared {
        Ok(prepared) => prepared,
        Err(fault) => return Err((fault, request)),
    };
    let start = CallStart {
        call: id,
        caller: callee.caller.number(),
        called: Number::new(callee.called.as_str()),
        trunk: Arc::from(trunk.name.as_str()),
        source: hop.remote,
    };
    context.push(Action::Publish(observe::Event::CallStarted(Box::new(start.clone()))));
    tell_of_invite(id, Side::Caller, &request, context);
    let trying = Response::to_request(&request, StatusCode::TRYING);
    context.push(Action::Respond { server, response: Box::new(trying) });
    let mut facts = Facts::new(start, context.now);
    if let (true, Some(limit)) = (decision.permit.is_near_limit, callee.trunk.limits.calls) {
        let event = TrunkEvent::NearLimit { trunk: callee.trunk.name.as_str().into(), limit };
        context.push(Action::Publish(observe::Event::Trunk(event)));
    }
    facts.permits = [Some(permit), Some(decision.permit)];
    facts.heard_from(Side::Caller, &request.headers, &caller.trunk);
    let policy = caller.trunk.sip.reliable_provisional;
    let provisional = Provisional::of(server, &request, policy, context.tokens.number());
    let setup = Setup {
        caller,
        server,
        request,
        provisional,
        heard: Heard::default(),
        offered,
        callee,
        candidates: decision.candidates,
        attempts: Vec::new(),
        is_waiting: false,
        held: None,
    };
    Ok((facts, setup))
}

/// Both legs before anything is sent.
struct Prepared {
    caller: Leg,
    callee: Callee,
    decision: Decision,
    offered: bool,
}

fn prepare(
    request: &Request,
    hop: Hop,
    trunk: TrunkRef,
    emergency: bool,
    context: &mut Context<'_>,
) -> Result<Prepared, Fault> {
    let called = match context.policy.emergency().number(&request.uri) {
        Some(number) => number.to_owned(),
        None => called_number(request, &trunk)?,
    };
    let speaks_100rel = [HeaderName::Supported, HeaderName::Require]
        .iter()
        .any(|header| request.headers.has_token(header, REL100));
    if trunk.sip.reliable_provisional == ReliableProvisional::Required && !speaks_100rel {
        return Err(Fault::ExtensionRequired);
    }
    if session_timer::is_too_short(request) {
        return Err(Fault::SessionIntervalTooShort);
    }
    let offer = media::description_of_request(request)?;
    let (now, spread) = (context.now, context.tokens.number());
    let inquiry = Inquiry { from: trunk.id(), called: &called, emergency, now, spread };
    let decision = context.policy.decide(&inquiry)?;
    let to_trunk =
        TrunkRef::new(Arc::clone(context.policy), decision.candidates.trunk()).ok_or(Fault::NoRoute)?;
    let tag = context.tokens.token();
    let dialog =
        Dialog::from_request(request, &tag, trunk.contact(), false).map_err(|refused| refused.fault())?;
    let caller = Caller::of(request, &trunk);
    let redirection = Redirection::of(request, &trunk, &caller);
    let mut near = media::open(&trunk, context)?;
    let offered = offer.is_some();
    let taken = match offer {
        Some(offer) => near.receive_offer(offer).map_err(|refusal| refusal.fault()),
        None => Ok(()),
    };
    let far = taken.and_then(|()| media::open(&to_trunk, context));
    let far = match far {
        Ok(far) => far,
        Err(fault) => {
            context.ports.release(near.local(), context.now);
            return Err(fault);
        }
    };
    let abilities = Abilities::of(&request.headers);
    let charging = correlation::charging_vector(&request.headers, &trunk);
    let leg = Leg {
        trunk,
        hop,
        dialog,
        media: near,
        abilities,
        session: Session::default(),
        acknowledged_with: String::new(),
        authorization: (0, Vec::new()),
        charging,
    };
    let has_offer = offered || !to_trunk.sip.delayed_offer;
    let session = Session::default();
    let callee =
        Callee { trunk: to_trunk, media: far, has_offer, session, invite: None, called, caller, redirection };
    Ok(Prepared { caller: leg, callee, decision, offered })
}

/// The called number or name, as the trunk's far end means it.
fn called_number(request: &Request, trunk: &TrunkRef) -> Result<String, Fault> {
    // A registrar calls the Contact that we gave it; whom the call is for, To says (RFC 3261 section 16.5).
    let ours =
        trunk.registration.as_ref().is_some_and(|own| request.uri.user().as_deref() == Some(&own.user));
    let uri = if ours { &request.head.to.uri } else { &request.uri };
    match uri {
        Uri::Sip(_) | Uri::Tel(_) => trunk.numbers.read_uri(uri).ok_or(Fault::NoRoute),
        Uri::Absolute(_) => Err(Fault::UnsupportedUriScheme),
    }
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
        let flowing = self.attempts.last().and_then(Attempt::media);
        media::plan(&self.caller, &self.callee.trunk, flowing.unwrap_or(&self.callee.media))
    }

    fn relay(&self, context: &mut Context<'_>) {
        let plan = self.plan();
        if !plan.flows.is_empty() {
            context.push(Action::Relay(Box::new(plan)));
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

    /// Tells the caller by a reliable response that we are ready, and waits for its word that it is too.
    fn answer_preconditions(mut self, facts: &mut Facts, context: &mut Context<'_>) -> Phase {
        let body = match self.caller.media.answer_own(&self.callee.media) {
            Ok(body) => body,
            Err(refusal) => return self.fail(facts, context, Failure::Fault(refusal.fault())),
        };
        self.is_waiting = true;
        context.disarm(CallTimer::NoProgress);
        context.arm(CallTimer::NoAnswer, context.settings.answer_timeout);
        let status = StatusCode::SESSION_PROGRESS;
        let told = self.caller.response(context, &self.request, status, Some(body));
        self.provisional.send(told, context);
        Phase::Setup(Box::new(self))
    }

    /// Rings the callee if the caller's offer says that its access is ready now.
    fn proceed_when_ready(
        mut self: Box<Self>,
        ready: bool,
        facts: &mut Facts,
        context: &mut Context<'_>,
    ) -> Phase {
        if !self.is_waiting || !ready {
            return Phase::Setup(self);
        }
        self.is_waiting = false;
        context.disarm(CallTimer::NoAnswer);
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
        match event {
            Event::Response { key: RequestKey::Invite { attempt }, response } => {
                self.response(facts, attempt, &response, context)
            }
            Event::TimedOut { key: RequestKey::Invite { attempt } } => {
                self.lost(facts, attempt, Fault::PeerTimeout, context)
            }
            Event::Unreachable { key: RequestKey::Invite { attempt } } => {
                self.lost(facts, attempt, Fault::PeerUnreachable, context)
            }
            Event::Cancelled { cancel, .. } => self.cancelled(facts, Reasons::of(&cancel.headers), context),
            Event::Request { side: Side::Caller, server, request, .. } => {
                self.request_of_caller(facts, (server, &request), context)
            }
            Event::Request { side: Side::Callee, server, request, .. } => {
                self.request_of_callee((server, &request), context);
                Phase::Setup(self)
            }
            Event::Timer(CallTimer::Provisional) => {
                if self.provisional.repeat(context) {
                    return Phase::Setup(self);
                }
                self.cancel_current(context);
                self.fail(facts, context, Failure::Fault(Fault::NoPrack))
            }
            Event::Timer(CallTimer::PeerSilent) => {
                self.cancel_current(context);
                self.dial_next(facts, context, Failure::Fault(Fault::PeerTimeout))
            }
            Event::Timer(CallTimer::NoAnswer) => {
                self.cancel_current(context);
                self.fail(facts, context, Failure::Fault(Fault::NoAnswer))
            }
            Event::Timer(CallTimer::NoProgress) => {
                self.cancel_current(context);
                self.fail(facts, context, Failure::Fault(Fault::PeerTimeout))
            }
            Event::FlowsRefused(fault) => {
                // Where the flows stood before the INVITE, it was dropped with them.
                if let Some(attempt) = self.attempts.last_mut().filter(|attempt| !attempt.heard) {
                    attempt.open = false;
                }
                self.cancel_current(context);
                self.fail(facts, context, Failure::Fault(fault))
            }
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
            Event::HangUp(fault) => {
                self.cancel_current(context);
                self.fail(facts, context, Failure::Fault(fault))
            }
            Event::Response { .. }
            | Event::TimedOut { .. }
            | Event::Unreachable { .. }
            | Event::AnsweredAgain { .. }
            | Event::Acknowledged { .. }
            | Event::NeverAcknowledged { .. }
            | Event::Claimed(_)
            | Event::Timer(
                CallTimer::Glare
                | CallTimer::Parting
                | CallTimer::Session(_)
                | CallTimer::MediaCheck
                | CallTimer::Linger,
            )
            | Event::MediaHeard { .. } => Phase::Setup(self),
        }
    }

    fn response(
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

    fn lost(
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
        Ending::begin((Some(self.caller), None), &[], None, (self.attempts, Partings::default()), context)
    }
}

const INTERVAL_TOO_SMALL: StatusCode = StatusCode::new(422).expect("422 is a status code");
