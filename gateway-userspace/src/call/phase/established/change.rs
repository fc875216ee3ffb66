//! Changes of an answered call: a re-INVITE or UPDATE of one side. What concerns that side alone is answered here; the
//! rest is passed on to the other, in the form that its trunk wants, and what that says comes back.

use super::{Asked, Awaits, BOTH, Established, Exchange, Stage};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::feature::ability::unsupported;
use crate::call::feature::hold::{self, Course};
use crate::call::feature::reason::Reasons;
use crate::call::feature::{local_answer, session_timer};
use crate::call::leg::SDP;
use crate::call::phase::{Phase, crossing};
use crate::call::{Action, CallTimer, Context, RequestKey, media};
use crate::sdp::{self, Direction, Finality};
use crate::sip::message::{Method, Request, Response, StatusCode};
use crate::sip::transaction::ServerId;

impl Established {
    /// A re-INVITE or an UPDATE of `from`: hold, resume, another codec, another address, or nothing new.
    pub(super) fn change(
        mut self: Box<Self>,
        facts: &Facts,
        from: Side,
        (server, request): (ServerId, Box<Request>),
        context: &mut Context<'_>,
    ) -> Phase {
        // It comes while the other side's ACK is under way, which is nothing that its sender could know of.
        if let Stage::Agreed(accepted) = &mut self.stage
            && request.method == Method::Invite
            && accepted.lets_wait(from)
        {
            accepted.kept = Some((server, request));
            return Phase::Established(self);
        }
        let outcome = self.course(from, &request).and_then(|change| match change {
            Change::Local(body, awaits) => {
                self.answer_here(from, (server, &request), body, awaits, context);
                self.publish_media(facts, context);
                Ok(())
            }
            Change::PassOn(offer, direction) => {
                self.pass_on(from, (server, &request), offer.map(|offer| *offer), direction, context)
            }
        });
        if let Err(fault) = outcome {
            self.legs.of_mut(from).refuse(context, (server, &request), fault);
            return Phase::Established(self);
        }
        // The next daemon must not use the numbers again, whatever comes of this.
        self.save(facts, context);
        Phase::Established(self)
    }

    /// What is to be done about the request; an answer of our own is made here and now.
    fn course(&mut self, from: Side, request: &Request) -> Result<Change, Fault> {
        if !unsupported(&request.headers).is_empty() {
            return Err(Fault::BadExtension);
        }
        if session_timer::is_too_short(request) {
            return Err(Fault::SessionIntervalTooShort);
        }
        let offer = media::description_of_request(request)?;
        let is_update = request.method == Method::Update;
        if !matches!(self.stage, Stage::Steady) && (!is_update || offer.is_some()) {
            return Err(Fault::RequestPending);
        }
        let (asking, other) = self.legs.pair(from);
        let Some(offer) = offer else {
            return match is_update {
                true => Ok(Change::Local(None, Awaits::Ack)),
                false if other.trunk.sip.delayed_offer => Ok(Change::PassOn(None, None)),
                false => {
                    let body = asking.media.offer_agreed(&other.media);
                    Ok(Change::Local(Some(body.map_err(|refusal| refusal.fault())?), Awaits::Answer))
                }
            };
        };
        let wish = offer.audio.wishes();
        let passed = match hold::course(&asking.media, &offer, other.trunk.sip.hold) {
            Course::PassOn(direction) => Some(direction),
            Course::Answer => None,
        };
        // An UPDATE has to be answered at once, which a re-INVITE on the other side need not be (RFC 3311 section 5.2).
        match passed.filter(|_| !is_update || other.abilities.update) {
            Some(direction) => {
                let answer = (direction != wish).then(|| wish.reversed());
                Ok(Change::PassOn(Some(Box::new((offer, direction))), answer))
            }
            None => local_answer::answer(&mut asking.media, &other.media, offer)
                .map(|body| Change::Local(Some(body), Awaits::Ack)),
        }
    }

    fn answer_here(
        &mut self,
        from: Side,
        (server, request): (ServerId, &Request),
        body: Option<String>,
        awaits: Awaits,
        context: &mut Context<'_>,
    ) {
        if request.method == Method::Invite {
            return self.accept((from, server, Box::new(request.clone())), awaits, body, context);
        }
        if body.is_some() {
            self.legs.relay(context);
            self.agreed = context.now;
        }
        self.legs.of_mut(from).respond(context, (server, request), StatusCode::OK, body);
    }

    /// Sends the other side a re-INVITE or an UPDATE as `from` did, with its offer if it made one.
    fn pass_on(
        &mut self,
        from: Side,
        (server, request): (ServerId, &Request),
        offer: Option<(sdp::Description, Direction)>,
        answer_as: Option<Direction>,
        context: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let (asking, other) = self.legs.pair(from);
        if request.method == Method::Invite && !other.dialog.may_invite() {
            return Err(Fault::RequestPending);
        }
        let mut direction = None;
        if let Some((offer, as_direction)) = offer {
            asking.media.receive_offer(offer).map_err(|refusal| refusal.fault())?;
            direction = Some(as_direction);
        }
        let request = Box::new(request.clone());
        let asked = Asked { from, server, request, offered: direction, answer_as };
        match self.send_on(&asked, context) {
            Ok(sequence) => {
                self.stage = Stage::Asking(asked, sequence);
                Ok(())
            }
            Err(fault) => {
                self.legs.of_mut(from).media.abandon();
                Err(fault)
            }
        }
    }

    fn send_on(&mut self, asked: &Asked, context: &mut Context<'_>) -> Result<u32, Fault> {
        let (asking, other) = self.legs.pair(asked.from);
        let body = match asked.offered {
            Some(direction) => {
                let body = other.media.relay_offer_as(&asking.media, Some(direction));
                Some(body.map_err(|refusal| refusal.fault())?)
            }
            None => None,
        };
        let to = asked.from.other();
        let (mut draft, key) = match asked.request.method {
            Method::Update => (other.dialog.request(Method::Update), RequestKey::Update { to }),
            _ => {
                let Ok(draft) = other.dialog.invite() else { return Err(Fault::RequestPending) };
                (draft, RequestKey::Reinvite { to })
            }
        };
        let sequence = draft.sequence;
        if let Some(body) = body {
            draft.set_body(SDP, body);
        }
        other.request(context, key, draft);
        Ok(sequence)
    }

    /// After a glare: whatever waited is tried again.
    pub(super) fn try_again(&mut self, facts: &Facts, context: &mut Context<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Steady) {
            Stage::Waiting(asked) => match self.send_on(&asked, context) {
                Ok(sequence) => {
                    self.stage = Stage::Asking(asked, sequence);
                    self.save(facts, context);
                }
                Err(fault) => {
                    let asking = self.legs.of_mut(asked.from);
                    asking.media.abandon();
                    asking.refuse(context, (asked.server, &asked.request), fault);
                }
            },
            stage => {
                self.stage = stage;
                self.offer_to_unaware(facts, context);
            }
        }
    }

    /// The answer to a re-INVITE or UPDATE that was passed on to `to`, or to one of our own.
    pub(super) fn change_answered(
        mut self: Box<Self>,
        facts: &mut Facts,
        to: Side,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let status = response.status;
        if status.is_provisional() {
            return Phase::Established(self);
        }
        let number = response.head.cseq.number;
        let asked = match std::mem::replace(&mut self.stage, Stage::Steady) {
            Stage::Asking(asked, sequence) if asked.from == to.other() && sequence == number => asked,
            Stage::Offering(side, sequence, purpose) if side == to && sequence == number => {
                return self.own_offer_answered(facts, (to, purpose), response, context);
            }
            stage if self.is_refresh(to, response) => {
                self.stage = stage;
                return self.refresh_answered(facts, to, response, context);
            }
            // A copy of an earlier answer: its ACK was lost.
            stage => {
                self.stage = stage;
                let is_invite = response.head.cseq.method == Method::Invite;
                let is_its = self.legs.of(to).dialog.call_id() == response.head.call_id;
                if is_invite && is_its && status.is_success() && !self.acknowledges_later() {
                    self.legs.of(to).acknowledge(context, number);
                }
                return Phase::Established(self);
            }
        };
        self.legs.of_mut(to).dialog.receive_response(response);
        if status.is_success() {
            return self.change_accepted(facts, asked, response, context);
        }
        let (asking, refusing) = self.legs.pair(asked.from);
        refusing.media.abandon();
        if status == INTERVAL_TOO_SMALL && refusing.session.raise(response) {
            self.stage = Stage::Waiting(asked);
            self.try_again(facts, context);
            return Phase::Established(self);
        }
        if status == StatusCode::REQUEST_PENDING && asked.request.method == Method::Invite {
            // RFC 3261 section 14.1, on this leg alone: whoever asked does not hear of it.
            let pause = refusing.dialog.pause_after_glare(context.tokens);
            context.arm(CallTimer::Glare, pause);
            self.stage = Stage::Waiting(asked);
            return Phase::Established(self);
        }
        asking.media.abandon();
        asking.respond(context, (asked.server, &asked.request), crossing(status), None);
        if matches!(status, StatusCode::NO_SUCH_TRANSACTION | StatusCode::REQUEST_TIMEOUT) {
            // RFC 3261 section 12.2.1.2: the other side's dialog is gone.
            return self.end(facts, Outcome::fault(Fault::NoSuchDialog, true), &BOTH, context);
        }
        Phase::Established(self)
    }

    fn change_accepted(
        mut self: Box<Self>,
        facts: &mut Facts,
        asked: Asked,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let number = response.head.cseq.number;
        let (asking, answering) = self.legs.pair(asked.from);
        answering.abilities.learn(&response.headers);
        answering.session.learn(response, context.now);
        let body = media::description_of_response(response).and_then(|description| {
            let (near, far) = (&mut asking.media, &mut answering.media);
            let body = match (asked.offered, description) {
                (Some(_), Some(answer)) => {
                    far.receive_answer(&answer, Finality::Final).and_then(|_| match asked.answer_as {
                        Some(direction) => near.answer_agreed(far, Some(direction)),
                        None => near.relay_answer(far, Finality::Final),
                    })
                }
                (None, Some(offer)) => far.receive_offer(offer).and_then(|()| near.relay_offer(far)),
                (_, None) => return Err(Fault::NotAcceptableHere),
            };
            body.map_err(|refusal| refusal.fault())
        });
        let is_invite = asked.request.method == Method::Invite;
        match body {
            Ok(body) if is_invite => {
                let exchange = if asked.offered.is_some() { Exchange::Complete } else { Exchange::Offered };
                let Asked { from, server, request, .. } = asked;
                self.agree((from, server, request), (exchange, number), Some(body), context);
            }
            Ok(body) => {
                self.answer_here(
                    asked.from,
                    (asked.server, &asked.request),
                    Some(body),
                    Awaits::Ack,
                    context,
                );
            }
            // One side has taken a session that the other cannot: nothing is left to go back to.
            Err(fault) => {
                if is_invite {
                    answering.acknowledge(context, number);
                }
                asking.refuse(context, (asked.server, &asked.request), fault);
                return self.end(facts, Outcome::fault(fault, true), &BOTH, context);
            }
        }
        self.publish_media(facts, context);
        self.save(facts, context);
        Phase::Established(self)
    }

    /// The side that sent a re-INVITE takes it back before it was answered.
    pub(super) fn change_cancelled(
        mut self: Box<Self>,
        side: Side,
        cancel: &Request,
        context: &mut Context<'_>,
    ) -> Phase {
        match std::mem::replace(&mut self.stage, Stage::Steady) {
            // Nobody else has it: it is over.
            Stage::Waiting(asked) if asked.from == side => {
                context.disarm(CallTimer::Glare);
                let asking = self.legs.of_mut(side);
                asking.media.abandon();
                let request = (asked.server, &*asked.request);
                asking.respond(context, request, StatusCode::REQUEST_TERMINATED, None);
            }
            Stage::Agreed(mut accepted) if accepted.from != side => {
                if let Some(kept) = accepted.kept.take() {
                    self.give_back(side, kept, context);
                }
                self.stage = Stage::Agreed(accepted);
            }
            stage => {
                // The other side's final answer, 487 or a 200 that crossed, decides.
                if matches!(&stage, Stage::Asking(asked, _) if asked.from == side) {
                    let key = RequestKey::Reinvite { to: side.other() };
                    let causes = &self.legs.of(side.other()).trunk.sip.causes;
                    let reason = Reasons::of(&cancel.headers).line(causes);
                    context.push(Action::Cancel { key, reason });
                }
                self.stage = stage;
            }
        }
        Phase::Established(self)
    }
}

pub(super) const INTERVAL_TOO_SMALL: StatusCode = StatusCode::new(422).expect("422 is a status code");

/// What to do about a request to change the call.
enum Change {
    /// Answered here with this session description; what the ACK will bring.
    Local(Option<String>, Awaits),
    /// The offer and the direction that the other side is offered; the direction of the answer that the asking side
    /// gets, where the other side was offered another one than it wished.
    PassOn(Option<Box<(sdp::Description, Direction)>>, Option<Direction>),
}
