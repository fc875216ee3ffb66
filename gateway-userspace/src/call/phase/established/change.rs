//! Changes of an answered call: a re-INVITE of one side is passed on to the other, and what that says comes back.

use super::{Asked, BOTH, Established, Stage};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::leg::SDP;
use crate::call::phase::{Phase, crossing};
use crate::call::{Action, Context, RequestKey, media};
use crate::sdp::Finality;
use crate::sip::message::{HeaderName, Request, Response, StatusCode};
use crate::sip::transaction::ServerId;

impl Established {
    /// Passes a re-INVITE on to the other side: hold, resume, another codec, another address.
    pub(super) fn reinvite(
        mut self: Box<Self>,
        facts: &Facts,
        from: Side,
        (server, request): (ServerId, Box<Request>),
        context: &mut Context<'_>,
    ) -> Phase {
        let (asked, sequence) = match self.pass_on(from, &request, context) {
            Ok((offered, sequence)) => (Asked { from, server, request, offered }, sequence),
            Err(fault) => {
                self.legs.of_mut(from).refuse(context, (server, &request), fault);
                return Phase::Established(self);
            }
        };
        self.stage = Stage::Asking(asked, sequence);
        // The next daemon must not use the number again, whatever comes of this.
        self.save(facts, context);
        Phase::Established(self)
    }

    /// Sends the other side a re-INVITE. Whether it carries an offer, as that of `from` did, and its sequence number.
    fn pass_on(
        &mut self,
        from: Side,
        request: &Request,
        context: &mut Context<'_>,
    ) -> Result<(bool, u32), Fault> {
        if request.headers.items(&HeaderName::Require).next().is_some() {
            return Err(Fault::BadExtension);
        }
        let offer = media::description_of_request(request)?;
        let (asking, asked) = self.legs.pair(from);
        if !matches!(self.stage, Stage::Steady) || !asked.dialog.may_invite() {
            return Err(Fault::RequestPending);
        }
        let body = match offer {
            Some(offer) => {
                asking.media.receive_offer(offer).map_err(|refusal| refusal.fault())?;
                let body = asked.media.relay_offer(&asking.media).map_err(|refusal| {
                    asking.media.abandon();
                    refusal.fault()
                })?;
                Some(body)
            }
            None => None,
        };
        let Ok(mut draft) = asked.dialog.invite() else { return Err(Fault::RequestPending) };
        let (offered, sequence) = (body.is_some(), draft.sequence);
        if let Some(body) = body {
            draft.set_body(SDP, body);
        }
        asked.request(context, RequestKey::Reinvite { to: from.other() }, draft);
        Ok((offered, sequence))
    }

    pub(super) fn reinvite_answered(
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
        let asked = match std::mem::replace(&mut self.stage, Stage::Steady) {
            Stage::Asking(asked, sequence)
                if asked.from == to.other() && sequence == response.head.cseq.number =>
            {
                asked
            }
            // A copy of an earlier answer: its ACK was lost.
            stage => {
                self.stage = stage;
                if status.is_success() && !self.acknowledges_later() {
                    self.legs.of(to).acknowledge(context, response.head.cseq.number);
                }
                return Phase::Established(self);
            }
        };
        self.legs.of_mut(to).dialog.receive_response(response);
        if status.is_success() {
            return self.reinvite_accepted(facts, asked, response, context);
        }
        let (asking, refusing) = self.legs.pair(asked.from);
        asking.media.abandon();
        refusing.media.abandon();
        asking.respond(context, (asked.server, &asked.request), crossing(status), None);
        if matches!(status, StatusCode::NO_SUCH_TRANSACTION | StatusCode::REQUEST_TIMEOUT) {
            // RFC 3261 section 12.2.1.2: the other side's dialog is gone.
            return self.end(facts, Outcome::fault(Fault::NoSuchDialog, true), &BOTH, context);
        }
        Phase::Established(self)
    }

    fn reinvite_accepted(
        mut self: Box<Self>,
        facts: &mut Facts,
        asked: Asked,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let (asking, answering) = self.legs.pair(asked.from);
        let body = media::description_of_response(response).and_then(|description| {
            let body = match (asked.offered, description) {
                (true, Some(answer)) => answering
                    .media
                    .receive_answer(&answer, Finality::Final)
                    .and_then(|_| asking.media.relay_answer(&answering.media, Finality::Final)),
                (false, Some(offer)) => answering
                    .media
                    .receive_offer(offer)
                    .and_then(|()| asking.media.relay_offer(&answering.media)),
                (_, None) => return Err(Fault::NotAcceptableHere),
            };
            body.map_err(|refusal| refusal.fault())
        });
        match body {
            Ok(body) => {
                self.agree(asked, response.head.cseq.number, body, context);
                self.publish_media(facts, context);
                self.save(facts, context);
                Phase::Established(self)
            }
            // One side has taken a session that the other cannot: nothing is left to go back to.
            Err(fault) => {
                answering.acknowledge(context, response.head.cseq.number);
                asking.refuse(context, (asked.server, &asked.request), fault);
                self.end(facts, Outcome::fault(fault, true), &BOTH, context)
            }
        }
    }

    /// The side that sent a re-INVITE takes it back before it was answered.
    pub(super) fn reinvite_cancelled(self: Box<Self>, side: Side, context: &mut Context<'_>) -> Phase {
        match &self.stage {
            // The other side's final answer, 487 or a 200 that crossed, decides.
            Stage::Asking(asked, _) if asked.from == side => {
                context.push(Action::Cancel { key: RequestKey::Reinvite { to: side.other() } });
            }
            Stage::Asking(..) | Stage::Steady | Stage::Agreed(..) => {}
        }
        Phase::Established(self)
    }
}
