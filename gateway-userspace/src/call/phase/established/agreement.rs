//! 2xx and ACK: who asked is answered, what the other side offered in its 2xx is answered by the ACK, and copies are
//! acknowledged again.

use super::{Accepted, Awaits, BOTH, Established, Exchange, Stage};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::phase::Phase;
use crate::call::{Context, media};
use crate::sdp::Finality;
use crate::sip::message::{Request, Response, StatusCode};
use crate::sip::transaction::ServerId;

impl Established {
    /// Acknowledges the other side's 2xx with `sequence` if nothing more is needed for it, makes media follow, answers
    /// who asked.
    pub(super) fn agree(
        &mut self,
        (from, server, request): (Side, ServerId, Box<Request>),
        (exchange, sequence): (Exchange, u32),
        body: Option<String>,
        context: &mut Context<'_>,
    ) {
        let awaits = match exchange {
            Exchange::Complete | Exchange::PickedUp => Awaits::Ack,
            Exchange::Offered => Awaits::AnswerFor(sequence),
            Exchange::OwnOffer => Awaits::Answer,
        };
        if matches!(exchange, Exchange::Complete | Exchange::OwnOffer) {
            let answered = self.legs.of_mut(from.other());
            answered.acknowledged_with = String::new();
            answered.acknowledge(context, sequence);
        }
        self.accept((from, server, request), awaits, body, context);
    }

    /// Makes media follow and answers who asked.
    pub(super) fn accept(
        &mut self,
        (from, server, request): (Side, ServerId, Box<Request>),
        awaits: Awaits,
        body: Option<String>,
        context: &mut Context<'_>,
    ) {
        // Also of an offer that is still open: what comes together with the ACK that answers it is heard.
        self.legs.relay(context);
        let number = request.head.cseq.number;
        self.legs.of_mut(from).respond(context, (server, &request), StatusCode::OK, body);
        self.agreed = context.now;
        self.stage =
            Stage::Agreed(Accepted { from, number, asked: Some((server, request)), awaits, kept: None });
    }

    pub(super) fn acknowledged(
        mut self: Box<Self>,
        facts: &mut Facts,
        side: Side,
        request: &Request,
        context: &mut Context<'_>,
    ) -> Phase {
        if self.partings.acknowledged(&request.head, context) {
            return Phase::Established(self);
        }
        let (awaits, kept) = match std::mem::replace(&mut self.stage, Stage::Steady) {
            Stage::Agreed(accepted)
                if accepted.from == side && accepted.number == request.head.cseq.number =>
            {
                (accepted.awaits, accepted.kept)
            }
            stage => {
                self.stage = stage;
                // Of one whose INVITE was answered beside what is under way.
                let leg = self.legs.of_mut(side);
                if leg.dialog.awaits_ack() && leg.dialog.call_id() == request.head.call_id {
                    leg.dialog.settle();
                    self.offer_to_unaware(facts, context);
                }
                return Phase::Established(self);
            }
        };
        self.legs.of_mut(side).dialog.settle();
        let (sequence, answer) = match awaits {
            Awaits::Ack => return self.go_on(facts, (side.other(), kept), context),
            Awaits::AnswerFor(sequence) => (Some(sequence), self.answer_with_ack(side, request)),
            Awaits::Answer => (None, self.take_answer(side, request).map(|()| String::new())),
        };
        let fault = match answer {
            Ok(body) => {
                if let Some(sequence) = sequence {
                    let offering = self.legs.of_mut(side.other());
                    offering.acknowledged_with = body;
                    offering.acknowledge(context, sequence);
                }
                self.legs.relay(context);
                self.publish_media(facts, context);
                self.save(facts, context);
                return self.go_on(facts, (side.other(), kept), context);
            }
            Err(fault) => fault,
        };
        if let Some(kept) = kept {
            self.give_back(side.other(), kept, context);
        }
        if let Some(sequence) = sequence {
            self.legs.of(side.other()).acknowledge(context, sequence);
        }
        self.end(facts, Outcome::fault(fault, true), &BOTH, context)
    }

    /// After an ACK: what `side` asked meanwhile has its turn, or else who has to hear of something new.
    fn go_on(
        mut self: Box<Self>,
        facts: &Facts,
        (side, kept): (Side, Option<(ServerId, Box<Request>)>),
        context: &mut Context<'_>,
    ) -> Phase {
        if let Some(kept) = kept {
            return self.change(facts, side, kept, context);
        }
        self.offer_to_unaware(facts, context);
        Phase::Established(self)
    }

    /// What a side asked while an ACK was awaited will not be done.
    pub(super) fn give_back(
        &mut self,
        side: Side,
        (server, request): (ServerId, Box<Request>),
        context: &mut Context<'_>,
    ) {
        let asking = self.legs.of_mut(side);
        asking.respond(context, (server, &request), StatusCode::REQUEST_TERMINATED, None);
    }

    /// The answer that an ACK carries to an offer of our own.
    pub(super) fn take_answer(&mut self, side: Side, request: &Request) -> Result<(), Fault> {
        let answer = media::description_of_request(request)?.ok_or(Fault::NotAcceptableHere)?;
        let taken = self.legs.of_mut(side).media.receive_answer(&answer, Finality::Final);
        taken.map(|_| ()).map_err(|refusal| refusal.fault())
    }

    /// The answer that an ACK carries, written for the side that made the offer.
    pub(super) fn answer_with_ack(&mut self, side: Side, request: &Request) -> Result<String, Fault> {
        let answer = media::description_of_request(request)?.ok_or(Fault::NotAcceptableHere)?;
        let (answering, offering) = self.legs.pair(side);
        answering
            .media
            .receive_answer(&answer, Finality::Final)
            .and_then(|_| offering.media.relay_answer(&answering.media, Finality::Final))
            .map_err(|refusal| refusal.fault())
    }

    /// Ends the call if it is a 2xx that `side` never acknowledged; a refusal has done its work without.
    pub(super) fn never_acknowledged(
        mut self: Box<Self>,
        facts: &mut Facts,
        side: Side,
        context: &mut Context<'_>,
    ) -> Phase {
        match &self.stage {
            Stage::Agreed(accepted) if accepted.from == side => {
                self.legs.of_mut(side).dialog.settle();
                self.end(facts, Outcome::fault(Fault::NoAck, true), &BOTH, context)
            }
            Stage::Agreed(..)
            | Stage::Asking(..)
            | Stage::Waiting(_)
            | Stage::Offering(..)
            | Stage::Steady => {
                if self.legs.of(side).dialog.awaits_ack() {
                    self.legs.of_mut(side).dialog.settle();
                    return self.end(facts, Outcome::fault(Fault::NoAck, true), &BOTH, context);
                }
                self.partings.give_up_acks(context);
                Phase::Established(self)
            }
        }
    }

    /// A 2xx again, or one from another branch or an earlier peer.
    pub(super) fn late_answer(&mut self, number: u8, response: &Response, context: &mut Context<'_>) {
        if response.status.is_final() {
            self.attempts.iter_mut().filter(|own| own.number == number).for_each(|own| own.open = false);
        }
        if !response.status.is_success() {
            return;
        }
        let ours = |side: &Side| {
            let dialog = &self.legs.of(*side).dialog;
            dialog.call_id() == response.head.call_id && Some(dialog.remote_tag()) == response.head.to.tag()
        };
        if let Some(side) = BOTH.into_iter().find(ours) {
            if !self.acknowledges_later() {
                self.legs.of(side).acknowledge(context, response.head.cseq.number);
            }
        } else if let Some(leg) = self.partings.of(&response.head.call_id) {
            leg.acknowledge(context, response.head.cseq.number);
        } else if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.number == number) {
            attempt.release(response, context);
        }
    }

    pub(super) fn acknowledges_later(&self) -> bool {
        let Stage::Agreed(accepted) = &self.stage else { return false };
        matches!(accepted.awaits, Awaits::AnswerFor(_))
    }
}
