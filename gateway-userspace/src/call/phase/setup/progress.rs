//! Provisional responses of the callee's branches: acknowledged where they are reliable, told to the caller in the form
//! that both trunks want.

use super::Setup;
use crate::call::facts::Facts;
use crate::call::feature::early_media::{self, Telling};
use crate::call::feature::reliable;
use crate::call::phase::{Phase, alerted};
use crate::call::{CallTimer, Context, media};
use crate::sdp::{Finality, State};
use crate::sip::message::{HeaderName, Response, StatusCode};

impl Setup {
    pub(super) fn progress(
        mut self: Box<Self>,
        facts: &mut Facts,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        context.disarm(CallTimer::PeerSilent);
        context.arm(CallTimer::NoAnswer, context.settings.answer_timeout);
        let Some(attempt) = self.attempts.last_mut() else { return Phase::Setup(self) };
        if response.status == StatusCode::TRYING {
            return Phase::Setup(self);
        }
        context.disarm(CallTimer::NoProgress);
        let branch = attempt.branch(response, &self.callee.media);
        let mut finality = Finality::Preview;
        if let Some(rseq) = reliable::sequence(response) {
            let Some(branch) = branch else { return Phase::Setup(self) };
            let invite = (attempt.sequence, attempt.hop);
            if !attempt.branch_mut(branch).acknowledge(rseq, invite, &self.callee.trunk, context) {
                return Phase::Setup(self);
            }
            finality = Finality::Final;
        }
        let describes = branch.is_some_and(|branch| self.take_preview(branch, response, finality));
        let describes = self.may_tell(branch, describes, response);
        self.tell(facts, response, describes, context);
        alerted(facts, context);
        Phase::Setup(self)
    }

    /// Early media: what a provisional response describes is relayed from now on. One that cannot be used is left out,
    /// because the final answer may still be good.
    fn take_preview(&mut self, branch: usize, response: &Response, finality: Finality) -> bool {
        let (true, Some(attempt)) = (self.callee.has_offer, self.attempts.last_mut()) else { return false };
        let Ok(Some(description)) = media::description_of_response(response) else { return false };
        let taken = attempt.branch_mut(branch).media.receive_answer(&description, finality).is_ok();
        if taken {
            attempt.flow_by(branch);
        }
        taken
    }

    fn may_tell(&mut self, branch: Option<usize>, describes: bool, response: &Response) -> bool {
        let (Some(attempt), Some(branch)) = (self.attempts.last_mut(), branch) else { return describes };
        attempt.branch_mut(branch).may_be_heard(describes, &response.headers)
    }

    fn tell(&mut self, facts: &Facts, response: &Response, describes: bool, context: &mut Context<'_>) {
        let branch = response.head.to.tag().unwrap_or_default();
        let mode = self.callee.trunk.sip.early_media;
        let mut rings = false;
        let (status, body) = match self.heard.tell(mode, response.status, describes, branch) {
            // The caller hears nothing new, but whoever checks our candidate is to be answered.
            Telling::Nothing if describes && self.callee.trunk.media.ice.is_lite => {
                return self.relay(context);
            }
            Telling::Nothing => return,
            Telling::Bare(StatusCode::RINGING) => match self.ring(facts, context) {
                Some(body) => {
                    rings = true;
                    (StatusCode::SESSION_PROGRESS, body)
                }
                None => (StatusCode::RINGING, None),
            },
            Telling::Bare(status) => {
                self.watch_silence(context);
                (status, None)
            }
            Telling::Described(status) => {
                self.watch_silence(context);
                (status, self.describe())
            }
        };
        if describes && !rings {
            self.relay(context);
        }
        let early_media = body.is_some();
        let mut told = self.caller.response(context, &self.request, status, body);
        let authorization = if rings {
            early_media::authorization_of_ours(&self.request.headers)
        } else {
            early_media::authorization(&self.request.headers, &response.headers)
        };
        if let Some(authorization) = authorization.filter(|_| early_media) {
            told.headers.push(HeaderName::PEarlyMedia, authorization);
        }
        self.provisional.send(told, context);
    }

    /// What the caller is told of the media of the branch that described it last. It is told one thing only, whatever
    /// other branches say (RFC 3261 section 13.2.1).
    fn describe(&mut self) -> Option<String> {
        let far = self.attempts.last()?.media()?;
        let near = &mut self.caller.media;
        let finality =
            if self.provisional.describes_reliably() { Finality::Final } else { Finality::Preview };
        match (near.state(), near.media()) {
            (State::RemoteOffer, None) => near.relay_answer(far, finality).ok(),
            (State::RemoteOffer, Some(_)) => near.answer_again(finality).ok(),
            // It left the offer to us, and can answer it in its PRACK (RFC 3262 section 5).
            (State::Stable, None) if !self.offered && finality == Finality::Final => {
                near.offer_agreed(far).ok()
            }
            // It has its answer, by a reliable response before this one.
            (State::Stable | State::LocalOffer, _) => None,
        }
    }
}
