//! The callee's 2xx: what its branch described is agreed on, and the caller gets its own answer.

use super::{Callee, Failure, Setup};
use crate::base::fault::Fault;
use crate::call::facts::Facts;
use crate::call::feature::ability::Abilities;
use crate::call::feature::correlation;
use crate::call::leg::{Leg, Legs};
use crate::call::phase::Phase;
use crate::call::phase::established::{Answer, Established, Exchange};
use crate::call::{CallTimer, Context, media};
use crate::sdp::{self, Finality, State};
use crate::sip::message::Response;

impl Setup {
    pub(super) fn answered(
        mut self: Box<Self>,
        facts: &mut Facts,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        for timer in [CallTimer::PeerSilent, CallTimer::NoProgress, CallTimer::NoAnswer] {
            context.disarm(timer);
        }
        self.ringback.stop(context);
        let Some(attempt) = self.attempts.last_mut() else { return Phase::Setup(self) };
        if self.provisional.is_open() || attempt.owes_answer(response) {
            match &self.held {
                Some(held) if held.head.to.tag() != response.head.to.tag() => {
                    attempt.release(response, context);
                }
                Some(_) => {}
                None => self.held = Some(Box::new(response.clone())),
            }
            return Phase::Setup(self);
        }
        let Some((dialog, mut media)) = attempt.answered(response, &self.callee.media) else {
            return Phase::Setup(self);
        };
        media.forget_preconditions();
        let hop = attempt.hop;
        let authorization = (attempt.sequence, attempt.authorization.clone());
        self.callee.media = media;
        let answer = match self.agree(response) {
            Ok(answer) => answer,
            Err(fault) => {
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.release(response, context);
                }
                return self.fail(facts, context, Failure::Fault(fault));
            }
        };
        let Self { caller, server, request, callee, attempts, .. } = *self;
        let Callee { trunk, media, mut session, .. } = callee;
        let abilities = Abilities::of(&response.headers);
        session.learn(response, context.now);
        let acknowledged_with = String::new();
        let charging = correlation::charging_vector(&response.headers, &trunk);
        let callee =
            Leg { trunk, hop, dialog, media, abilities, session, acknowledged_with, authorization, charging };
        Established::begin(Legs::new(caller, callee), (server, request), answer, attempts, facts, context)
    }

    /// Takes what the 2xx describes and writes what the caller's 200 says.
    fn agree(&mut self, response: &Response) -> Result<Answer, Fault> {
        let description = media::description_of_response(response)?;
        let (near, far) = (&mut self.caller.media, &mut self.callee.media);
        if !self.callee.has_offer {
            // Without our offer the 2xx carries the callee's (RFC 3261 section 13.2.1).
            let offer = description.ok_or(Fault::NotAcceptableHere)?;
            let body = far.receive_offer(offer).and_then(|()| near.relay_offer(far));
            let body = Some(body.map_err(|refusal| refusal.fault())?);
            return Ok(Answer { body, exchange: Exchange::Offered, changed: false });
        }
        let answered = match description {
            Some(answer) => far.receive_answer(&answer, Finality::Final),
            None => far.confirm_preview(),
        };
        let answer = answered.and_then(|_| answer_caller(near, far, self.offered));
        answer.map_err(|refusal| refusal.fault())
    }
}

/// What the caller's 200 says, who may have had its answer, or our offer, already in a provisional response. Where the
/// callee has meanwhile agreed to something else, the caller needs another offer.
fn answer_caller(near: &mut sdp::Leg, far: &sdp::Leg, offered: bool) -> Result<Answer, sdp::Refusal> {
    let (body, exchange) = match (near.state(), near.media()) {
        (State::RemoteOffer, None) => {
            let body = Some(near.relay_answer(far, Finality::Final)?);
            return Ok(Answer { body, exchange: Exchange::Complete, changed: false });
        }
        (State::RemoteOffer, Some(_)) => (Some(near.answer_again(Finality::Final)?), Exchange::Complete),
        (State::Stable, None) if !offered => {
            let body = Some(near.offer_agreed(far)?);
            return Ok(Answer { body, exchange: Exchange::OwnOffer, changed: false });
        }
        (State::Stable, _) => (None, Exchange::Complete),
        // It acknowledged our offer and did not answer it.
        (State::LocalOffer, _) => return Err(sdp::Refusal::NoAnswer),
    };
    Ok(Answer { body, exchange, changed: !near.carries(far) })
}
