//! Requests inside the early dialogs: PRACK and UPDATE of the caller and of the callee's branches, each answered on its own
//! leg, and the caller's BYE.

use super::Setup;
use crate::base::fault::Fault;
use crate::call::facts::Facts;
use crate::call::feature::local_answer;
use crate::call::feature::reason::Reasons;
use crate::call::leg;
use crate::call::phase::Phase;
use crate::call::{Action, Context, media};
use crate::sdp::{self, Finality, State};
use crate::sip::message::{HeaderName, Method, Request, StatusCode};
use crate::sip::transaction::ServerId;

impl Setup {
    pub(super) fn request_of_caller(
        mut self: Box<Self>,
        facts: &mut Facts,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) -> Phase {
        if let Err(refused) = self.caller.dialog.receive(request) {
            self.caller.turn_away(context, (server, request), refused.fault());
            return Phase::Setup(self);
        }
        self.caller.abilities.learn(&request.headers);
        match request.method {
            // The caller gives up early by BYE of the early dialog (RFC 3261 section 15).
            Method::Bye => {
                self.caller.respond(context, (server, request), StatusCode::OK, None);
                return self.cancelled(facts, Reasons::of(&request.headers), context);
            }
            Method::Prack => return self.prack(facts, (server, request), context),
            Method::Update => {
                let answer = self.update(request);
                let ready = answer.is_ok() && is_ready(request);
                self.answer_caller(answer, (server, request), context);
                return self.proceed_when_ready(ready, facts, context);
            }
            Method::Options => self.caller.respond(context, (server, request), StatusCode::OK, None),
            _ => self.caller.turn_away(context, (server, request), Fault::MethodNotAllowed),
        }
        Phase::Setup(self)
    }

    /// A PRACK of the caller: it may carry the answer to an offer of ours, or another offer (RFC 3262 section 5).
    fn prack(
        mut self: Box<Self>,
        facts: &mut Facts,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) -> Phase {
        if !self.provisional.acknowledged(&request.headers, context) {
            self.caller.turn_away(context, (server, request), Fault::NoSuchDialog);
            return Phase::Setup(self);
        }
        let answer = match self.caller.media.state() {
            State::LocalOffer => self.answer_of_caller(request).map(|()| None),
            State::Stable | State::RemoteOffer => self.update(request),
        };
        let ready = answer.is_ok() && is_ready(request);
        self.answer_caller(answer, (server, request), context);
        self.provisional.proceed(context);
        if self.is_waiting {
            return self.proceed_when_ready(ready, facts, context);
        }
        self.answer_when_free(facts, context)
    }

    fn answer_of_caller(&mut self, request: &Request) -> Result<(), Fault> {
        let answer = media::description_of_request(request)?.ok_or(Fault::NotAcceptableHere)?;
        let taken = self.caller.media.receive_answer(&answer, Finality::Final);
        taken.map(|_| ()).map_err(|refusal| refusal.fault())
    }

    /// Answers the caller's offer, if there is one, without asking the callee.
    fn update(&mut self, request: &Request) -> Result<Option<String>, Fault> {
        let Some(offer) = media::description_of_request(request)? else { return Ok(None) };
        let flowing = self.attempts.last().and_then(|attempt| attempt.media());
        let other = flowing.unwrap_or(&self.callee.media);
        local_answer::answer(&mut self.caller.media, other, offer).map(Some)
    }

    fn answer_caller(
        &mut self,
        answer: Result<Option<String>, Fault>,
        request: (ServerId, &Request),
        context: &mut Context<'_>,
    ) {
        match answer {
            Ok(body) => {
                self.relay(context);
                self.caller.respond(context, request, StatusCode::OK, body);
            }
            Err(fault) => self.caller.turn_away(context, request, fault),
        }
    }

    /// A request of the callee in one of its early dialogs.
    pub(super) fn request_of_callee(
        &mut self,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        let Some((position, branch)) = attempt.branch_of(request.head.from.tag()) else {
            return refuse(context, server, request, Fault::NoSuchDialog);
        };
        if let Err(refused) = branch.dialog.receive(request) {
            return refuse(context, server, request, refused.fault());
        }
        let answer = match request.method {
            Method::Options => Ok(None),
            Method::Update => update_of(&mut branch.media, &self.caller.media, request),
            _ => Err(Fault::MethodNotAllowed),
        };
        match answer {
            Ok(body) => {
                let mut response = leg::response(&branch.dialog, request, StatusCode::OK, body);
                response.headers.push(HeaderName::Server, &*context.settings.product);
                if attempt.flows_by(position) {
                    self.relay(context);
                }
                context.push(Action::Respond { server, response: Box::new(response) });
            }
            Err(fault) => refuse(context, server, request, fault),
        }
    }
}

/// Whether it offers a session whose preconditions are met.
fn is_ready(request: &Request) -> bool {
    let offer = media::description_of_request(request).ok().flatten();
    offer.is_some_and(|offer| offer.audio.preconditions.is_none_or(|preconditions| preconditions.are_met()))
}

fn update_of(asking: &mut sdp::Leg, other: &sdp::Leg, request: &Request) -> Result<Option<String>, Fault> {
    let Some(offer) = media::description_of_request(request)? else { return Ok(None) };
    local_answer::answer(asking, other, offer).map(Some)
}

/// Refuses a request inside an early dialog; its To tag came with it.
fn refuse(context: &mut Context<'_>, server: ServerId, request: &Request, fault: Fault) {
    let mut response = crate::call::refusal(request, fault);
    response.headers.push(HeaderName::Server, &*context.settings.product);
    context.push(Action::Respond { server, response: Box::new(response) });
}
