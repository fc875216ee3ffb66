//! Preconditions (RFC 3312, RFC 4032), ended on each leg: what a caller waits for before the callee rings, and what a callee
//! waits for before it rings. We have our own resources at all times.

use super::{Callee, Failure, Setup};
use crate::base::fault::Fault;
use crate::call::facts::Facts;
use crate::call::feature::ability::{PRECONDITION, REL100};
use crate::call::feature::reliable;
use crate::call::phase::Phase;
use crate::call::{CallTimer, Context};
use crate::policy::{PreconditionPolicy, ReliableProvisional};
use crate::sip::message::{HeaderName, Response, StatusCode};

impl Setup {
    /// Tells the caller by a reliable response that we are ready, and waits for its word that it is too.
    pub(super) fn answer_preconditions(mut self, facts: &mut Facts, context: &mut Context<'_>) -> Phase {
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
    pub(super) fn proceed_when_ready(
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

    /// The callee refuses the call without an extension that we have: the same INVITE once more with it (RFC 3261 section
    /// 8.1.3.5). `false` leaves the refusal to the caller.
    pub(super) fn extend(&mut self, response: &Response, context: &mut Context<'_>) -> bool {
        if !self.callee.lacks_preconditions(response) {
            return false;
        }
        let Some(mut draft) = self.callee.invite.take() else { return false };
        if !self.callee.has_offer {
            reliable::ask(self.callee.trunk.sip.reliable_provisional, &mut draft);
        }
        draft.headers.push(HeaderName::Supported, PRECONDITION);
        self.callee.ask_for_preconditions();
        let offered = self.offer_in(&mut draft).is_ok();
        if let Some(attempt) = self.attempts.last_mut().filter(|_| offered) {
            attempt.try_again(&mut draft, context);
        }
        self.callee.invite = Some(draft);
        offered
    }

    /// A callee's answer to our PRACK: if it waits for word that our access is ready, it gets it now, not before, since an
    /// UPDATE that overtook the PRACK would be too new for it (RFC 3261 section 12.2.2).
    pub(super) fn acknowledged_by(&mut self, response: &Response, context: &mut Context<'_>) {
        let trunk = &self.callee.trunk;
        let Some(attempt) = self.attempts.last_mut().filter(|_| response.status.is_success()) else { return };
        let hop = attempt.hop;
        if let Some((_, branch)) = attempt.branch_of(response.head.to.tag()) {
            branch.tell_readiness(hop, trunk, context);
        }
    }

    /// The callee's answer to that word, or none.
    pub(super) fn told(
        mut self: Box<Self>,
        facts: &mut Facts,
        response: Option<&Response>,
        context: &mut Context<'_>,
    ) -> Phase {
        if response.is_some_and(|response| response.status.is_provisional()) {
            return Phase::Setup(self);
        }
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.readiness_told(response);
        }
        self.answer_when_free(facts, context)
    }

    /// The callee's 2xx is taken when nothing is open any more that has to end before it.
    pub(super) fn answer_when_free(
        mut self: Box<Self>,
        facts: &mut Facts,
        context: &mut Context<'_>,
    ) -> Phase {
        if self.provisional.is_open() {
            return Phase::Setup(self);
        }
        match self.held.take() {
            Some(answer) => self.answered(facts, &answer, context),
            None => Phase::Setup(self),
        }
    }
}

impl Callee {
    /// Its INVITEs offer preconditions from now on, and so always an offer.
    pub(super) fn ask_for_preconditions(&mut self) {
        self.media.ask_for_preconditions();
        self.has_offer = true;
    }

    /// Whether this refusal asks for preconditions, which our INVITE did not offer and the trunk lets us speak.
    fn lacks_preconditions(&self, refusal: &Response) -> bool {
        let sip = &self.trunk.sip;
        let mut required = refusal.headers.items(&HeaderName::Require);
        let has = |option: &str| [PRECONDITION, REL100].iter().any(|own| own.eq_ignore_ascii_case(option));
        sip.preconditions != PreconditionPolicy::Off
            && sip.reliable_provisional != ReliableProvisional::Off
            && self.media.preconditions().is_none()
            && refusal.headers.has_token(&HeaderName::Require, PRECONDITION)
            && required.all(has)
    }
}
