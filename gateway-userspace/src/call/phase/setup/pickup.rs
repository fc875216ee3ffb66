//! An INVITE that replaces the callee's early dialog (RFC 3891 section 3): a colleague picks up the call that rings there.

use super::Setup;
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::feature::ability::Abilities;
use crate::call::feature::correlation;
use crate::call::feature::session_timer::{self, Session};
use crate::call::leg::{Leg, Legs};
use crate::call::phase::established::{Answer, Established, Exchange};
use crate::call::phase::{Phase, tell_of_invite};
use crate::call::{Action, CallTimer, Context, Replacement, media};
use crate::observe;
use crate::observe::event::{JoinedBy, TransferStep};
use crate::sdp::{self, Finality, State};
use crate::sip::dialog::Dialog;
use crate::sip::message::StatusCode;

/// What both hear when somebody picks up: the caller by its 200, `None` where it has its answer, and who picked up.
struct Picked {
    caller: sdp::Leg,
    told: Option<String>,
    own: Leg,
    body: String,
}

impl Setup {
    /// Whoever sent the INVITE is the callee from now on; who rang is cancelled.
    pub(super) fn pick_up(
        mut self: Box<Self>,
        facts: &mut Facts,
        joiner: Replacement,
        context: &mut Context<'_>,
    ) -> Phase {
        let picked = match self.prepare_pick_up(&joiner, context) {
            Ok(picked) => picked,
            Err(fault) => {
                joiner.refuse(fault, context);
                return Phase::Setup(self);
            }
        };
        let Picked { caller: near, told, mut own, body } = picked;
        for timer in [CallTimer::PeerSilent, CallTimer::NoProgress, CallTimer::NoAnswer] {
            context.disarm(timer);
        }
        self.ringback.stop(context);
        self.cancel_current(context);
        context.ports.release(self.callee.media.local(), context.now);
        let Replacement { server, request, hop, permit, trunk, .. } = joiner;
        let call = facts.start.call;
        context.push(Action::Bind { side: Side::Callee, call_id: own.dialog.call_id().to_owned() });
        tell_of_invite(call, Side::Callee, &request, context);
        own.respond(context, (server, &request), StatusCode::OK, Some(body));
        facts.permits[Side::Callee.index()] = Some(permit);
        facts.joined[Side::Callee.index()] = Some((JoinedBy::Replaces, context.now));
        facts.home = Some(self.caller.dialog.call_id().into());
        (facts.peer, facts.to_trunk) = (Some(hop.remote), Some(trunk.name.as_str().into()));
        let step = TransferStep::Done;
        context.push(Action::Publish(observe::Event::Transfer { call, side: Side::Callee, step }));
        let changed = !near.carries(&own.media);
        let Self { mut caller, server, request, attempts, .. } = *self;
        caller.media = near;
        let answer = Answer { body: told, exchange: Exchange::PickedUp, changed };
        let legs = Legs::new(caller, own);
        Established::begin(legs, (server, request), answer, attempts, facts, context)
    }

    fn prepare_pick_up(&self, joiner: &Replacement, context: &mut Context<'_>) -> Result<Picked, Fault> {
        let request = &joiner.request;
        if self.provisional.is_open() || self.held.is_some() {
            return Err(Fault::RequestPending);
        }
        if session_timer::is_too_short(request) {
            return Err(Fault::SessionIntervalTooShort);
        }
        // Without an offer of either side nobody could answer at once.
        let offer = media::description_of_request(request)?.ok_or(Fault::NotAcceptableHere)?;
        let tag = context.tokens.token();
        let dialog = Dialog::from_request(request, &tag, joiner.trunk.contact(), false);
        let dialog = dialog.map_err(|refused| refused.fault())?;
        let mut near = self.caller.media.clone();
        let mut far = media::open(&joiner.trunk, context)?;
        let answers = far.receive_offer(offer).and_then(|()| match (near.state(), near.media()) {
            (State::RemoteOffer, None) => {
                let body = far.answer_offered(&near)?;
                Ok((Some(near.relay_answer(&far, Finality::Final)?), body))
            }
            (State::RemoteOffer, Some(_)) => {
                let body = far.answer_joining(&near)?;
                Ok((Some(near.answer_again(Finality::Final)?), body))
            }
            (State::Stable, Some(_)) => Ok((None, far.answer_joining(&near)?)),
            (State::Stable | State::LocalOffer, _) => Err(sdp::Refusal::NothingToRelay),
        });
        let (told, body) = answers.map_err(|refusal| {
            context.ports.release(far.local(), context.now);
            refusal.fault()
        })?;
        let own = Leg {
            trunk: joiner.trunk.clone(),
            hop: joiner.hop,
            dialog,
            media: far,
            abilities: Abilities::of(&request.headers),
            session: Session::default(),
            acknowledged_with: String::new(),
            authorization: (0, Vec::new()),
            charging: correlation::charging_vector(&request.headers, &joiner.trunk),
        };
        Ok(Picked { caller: near, told, own, body })
    }
}
