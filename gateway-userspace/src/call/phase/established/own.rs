//! Re-INVITEs of our own: one side has to hear what the other has agreed to, though nobody asked.

use super::change::INTERVAL_TOO_SMALL;
use super::{BOTH, Established, Purpose, Stage, Unaware};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::leg::SDP;
use crate::call::phase::Phase;
use crate::call::{CallTimer, Context, RequestKey, media};
use crate::sdp::Finality;
use crate::sip::message::{Response, StatusCode};

impl Established {
    /// Offers the side that does not know it what the other has agreed to, unless an INVITE is under way: then later.
    pub(super) fn offer_to_unaware(&mut self, facts: &Facts, context: &mut Context<'_>) {
        let Some((side, why)) = self.unaware.first() else { return };
        let (leg, other) = self.legs.pair(side);
        if !matches!(self.stage, Stage::Steady) || !leg.dialog.may_invite() {
            return;
        }
        self.unaware.remove(side);
        let offer = match why {
            Unaware::Changed => leg.media.offer_agreed(&other.media),
            Unaware::Resumed => leg.media.offer_resumed(&other.media),
        };
        let Ok(body) = offer else { return };
        let Ok(mut draft) = leg.dialog.invite() else { return leg.media.abandon() };
        draft.set_body(SDP, body);
        self.stage = Stage::Offering(side, draft.sequence, Purpose::Change(why));
        leg.request(context, RequestKey::Reinvite { to: side }, draft);
        self.save(facts, context);
    }

    /// The final answer to a re-INVITE of our own toward `to`.
    pub(super) fn own_offer_answered(
        mut self: Box<Self>,
        facts: &mut Facts,
        (to, purpose): (Side, Purpose),
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let leg = self.legs.of_mut(to);
        leg.dialog.receive_response(response);
        if !response.status.is_success() {
            leg.media.abandon();
            return self.own_offer_refused(facts, (to, purpose), response, context);
        }
        leg.session.learn(response, context.now);
        leg.acknowledged_with = String::new();
        leg.acknowledge(context, response.head.cseq.number);
        let answer = media::description_of_response(response);
        let taken = answer.and_then(|answer| {
            let answer = answer.ok_or(Fault::NotAcceptableHere)?;
            leg.media.receive_answer(&answer, Finality::Final).map_err(|refusal| refusal.fault())
        });
        if let Err(fault) = taken {
            return self.end(facts, Outcome::fault(fault, true), &BOTH, context);
        }
        self.agreed = context.now;
        self.legs.relay(context);
        self.publish_media(facts, context);
        self.save(facts, context);
        self.offer_to_unaware(facts, context);
        Phase::Established(self)
    }

    fn own_offer_refused(
        mut self: Box<Self>,
        facts: &mut Facts,
        (to, purpose): (Side, Purpose),
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        let leg = self.legs.of_mut(to);
        match (response.status, purpose) {
            (INTERVAL_TOO_SMALL, _) if leg.session.raise(response) => {
                match purpose {
                    Purpose::Change(why) => self.unaware.add(to, why),
                    Purpose::Refresh => self.refresh(facts, to, context),
                }
                self.offer_to_unaware(facts, context);
                Phase::Established(self)
            }
            (StatusCode::REQUEST_PENDING, Purpose::Change(why)) => {
                let pause = leg.dialog.pause_after_glare(context.tokens);
                context.arm(CallTimer::Glare, pause);
                self.unaware.add(to, why);
                Phase::Established(self)
            }
            (StatusCode::REQUEST_PENDING, Purpose::Refresh) => {
                let pause = leg.dialog.pause_after_glare(context.tokens);
                leg.session.put_off(context.now, pause);
                Phase::Established(self)
            }
            // RFC 3261 section 12.2.1.2: the dialog is gone.
            (StatusCode::NO_SUCH_TRANSACTION | StatusCode::REQUEST_TIMEOUT, _) => {
                self.end(facts, Outcome::fault(Fault::NoSuchDialog, true), &BOTH, context)
            }
            // The peer does not want it, but is there: its session goes on until it ends.
            (_, Purpose::Refresh) => Phase::Established(self),
            // Without the change the two sides do not hear each other.
            (_, Purpose::Change(_)) => {
                self.end(facts, Outcome::fault(Fault::NotAcceptableHere, true), &BOTH, context)
            }
        }
    }
}
