//! An INVITE that replaces the dialog with one side's peer (RFC 3891): a call queue's agent takes a call, say.

use super::{Step, Transfer};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::feature::ability::Abilities;
use crate::call::feature::correlation;
use crate::call::feature::session_timer::{self, Session};
use crate::call::leg::Leg;
use crate::call::phase::Phase;
use crate::call::phase::established::{Accepted, Awaits, Established, Stage};
use crate::call::{Action, Context, Replacement, media};
use crate::observe::event::{JoinedBy, TransferStep};
use crate::sip::dialog::Dialog;
use crate::sip::message::{Request, StatusCode};

impl Established {
    /// Somebody calls to replace the peer of `side`.
    pub(in crate::call::phase::established) fn replace(
        mut self: Box<Self>,
        facts: &Facts,
        side: Side,
        joiner: Replacement,
        context: &mut Context<'_>,
    ) -> Phase {
        let refused = match (&self.transfer, joiner.early_only) {
            (_, true) => Some(Fault::ReplacedDialogAnswered),
            (Some(_), _) => Some(Fault::RequestPending),
            (None, false) => None,
        };
        if let Some(fault) = refused {
            joiner.refuse(fault, context);
            return Phase::Established(self);
        }
        let number = self.next_number();
        context.push(Action::Bind { side, call_id: joiner.request.head.call_id.clone() });
        self.publish_transfer(facts, side, TransferStep::Begun, context);
        self.transfer = Some(Box::new(Transfer { side, number, step: Step::Joining(Box::new(joiner)) }));
        Phase::Established(self)
    }

    /// Takes its CANCEL; `false` if there is no such INVITE any more.
    pub(in crate::call::phase::established) fn joiner_cancelled(
        &mut self,
        cancel: &Request,
        context: &mut Context<'_>,
    ) -> bool {
        let is_its = |transfer: &Transfer| match &transfer.step {
            Step::Joining(joiner) => joiner.request.head.call_id == cancel.head.call_id,
            _ => false,
        };
        if !self.transfer.as_deref().is_some_and(is_its) {
            return false;
        }
        if let Some(Transfer { step: Step::Joining(joiner), .. }) = self.transfer.take().map(|own| *own) {
            context.push(Action::Unbind { call_id: cancel.head.call_id.clone() });
            joiner.refuse(Fault::Cancelled, context);
        }
        true
    }

    /// Answers the INVITE: its sender is the peer of `side` from now on.
    pub(super) fn join(
        mut self: Box<Self>,
        facts: &mut Facts,
        (side, number): (Side, u8),
        joiner: Replacement,
        context: &mut Context<'_>,
    ) -> Phase {
        let prepared = self.prepare_joiner(side, &joiner, context);
        let (mut leg, body, awaits) = match prepared {
            Ok(prepared) => prepared,
            Err(fault) => {
                context.push(Action::Unbind { call_id: joiner.request.head.call_id.clone() });
                joiner.refuse(fault, context);
                self.publish_transfer(facts, side, TransferStep::Failed(fault.status()), context);
                return Phase::Established(self);
            }
        };
        let Replacement { server, request, permit, .. } = joiner;
        leg.respond(context, (server, &request), StatusCode::OK, Some(body));
        let now = context.now;
        // Section 3: who is replaced gets a BYE, at once.
        self.switch(facts, (side, JoinedBy::Replaces), (leg, permit), (number, now), context);
        self.legs.relay(context);
        let sequence = request.head.cseq.number;
        self.stage = Stage::Agreed(Accepted {
            from: side,
            number: sequence,
            asked: Some((server, request)),
            awaits,
            kept: None,
        });
        self.publish_media(facts, context);
        self.save(facts, context);
        Phase::Established(self)
    }

    fn prepare_joiner(
        &self,
        side: Side,
        joiner: &Replacement,
        context: &mut Context<'_>,
    ) -> Result<(Leg, String, Awaits), Fault> {
        let request = &joiner.request;
        if session_timer::is_too_short(request) {
            return Err(Fault::SessionIntervalTooShort);
        }
        let offer = media::description_of_request(request)?;
        let tag = context.tokens.token();
        let dialog = Dialog::from_request(request, &tag, joiner.trunk.contact(), false);
        let dialog = dialog.map_err(|refused| refused.fault())?;
        let stays = &self.legs.of(side.other()).media;
        let mut own = media::open(&joiner.trunk, context)?;
        let said = match offer {
            Some(offer) => own
                .receive_offer(offer)
                .and_then(|()| own.answer_joining(stays))
                .map(|body| (body, Awaits::Ack)),
            None => own.offer_joining(stays, &media::own_formats()).map(|body| (body, Awaits::Answer)),
        };
        let (body, awaits) = said.map_err(|refusal| {
            context.ports.release(own.local(), context.now);
            refusal.fault()
        })?;
        let leg = Leg {
            trunk: joiner.trunk.clone(),
            hop: joiner.hop,
            dialog,
            media: own,
            abilities: Abilities::of(&request.headers),
            session: Session::default(),
            acknowledged_with: String::new(),
            authorization: (0, Vec::new()),
            charging: correlation::charging_vector(&request.headers, &joiner.trunk),
        };
        Ok((leg, body, awaits))
    }
}
