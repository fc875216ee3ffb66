//! Transfers of an answered call: one side gets another peer, by a REFER of the one it has (RFC 3515, RFC 5589) or by an
//! INVITE that replaces its dialog (RFC 3891). The other side stays, and hears of it only where its session has to change.
//!
//! The new peer is made ready beside the call, which goes on meanwhile; it takes its place when no change of the session
//! is under way, so that no offer ever loses the side that was to answer it.

mod join;
mod relay;
mod target;

pub(super) use relay::Relayed;

use super::{BOTH, Established, Stage, Unaware};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::time::Time;
use crate::call::event::Claim;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::feature::ability::unsupported;
use crate::call::feature::session_timer::Session;
use crate::call::feature::transfer::{GUARD, Referral, Subscription, accepted};
use crate::call::leg::Leg;
use crate::call::phase::Phase;
use crate::call::{Action, CallTimer, Context, Replacement};
use crate::media::MediaPlan;
use crate::observe;
use crate::observe::event::{JoinedBy, TransferStep};
use crate::policy::{Permit, ReferPolicy};
use crate::signal::tone::{Signal, Source};
use crate::sip::dialog::lifetime;
use crate::sip::message::{Request, StatusCode};
use crate::sip::transaction::ServerId;
use target::Dialling;

/// A side is about to get another peer.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) side: Side,
    /// Of its subscription, and of the dialog that it takes out of the call.
    number: u8,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The target talks to the transferor in another call, whose core is asked for it.
    Fetching(Box<Referral>),
    /// The target is called.
    Dialling(Box<Dialling>),
    /// The target has answered.
    Ready(Box<Leg>, Permit),
    /// Somebody who is to replace the side's peer calls.
    Joining(Box<Replacement>),
}

impl Established {
    /// A REFER of the peer of `side`.
    pub(super) fn refer(
        mut self: Box<Self>,
        facts: &mut Facts,
        side: Side,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) -> Phase {
        let referral = match self.admit_referral(side, request) {
            Ok(referral) => referral,
            Err(fault) => {
                self.legs.of_mut(side).refuse(context, (server, request), fault);
                return Phase::Established(self);
            }
        };
        // A dialog that it names may be one of ours: then the two calls are joined here.
        if referral.replaces.is_none() && self.passes_referral(side) {
            let number = self.next_number();
            let asked = Some((server, Box::new(request.clone())));
            self.pass_referral((side, number), asked, referral, context);
            return Phase::Established(self);
        }
        let number = self.next_number();
        let leg = self.legs.of_mut(side);
        let mut response = leg.response(context, request, StatusCode::OK, None);
        accepted(&referral, &mut response);
        context.push(Action::Respond { server, response: Box::new(response) });
        if referral.notifies {
            self.subscriptions.push(Subscription::new(number, leg, referral.id));
        }
        self.tell(facts, number, StatusCode::TRYING, context);
        self.publish_transfer(facts, side, TransferStep::Begun, context);
        if let Some(replaces) = &referral.replaces {
            let dialog = replaces.dialog();
            let step = Step::Fetching(Box::new(referral));
            self.transfer = Some(Box::new(Transfer { side, number, step }));
            context.arm(CallTimer::PeerSilent, self.legs.of(side).trunk.peer_timeout);
            context.push(Action::Claim { dialog });
            self.save(facts, context);
            return Phase::Established(self);
        }
        self.call_target(facts, (side, number), referral, context)
    }

    fn admit_referral(&self, side: Side, request: &Request) -> Result<Referral, Fault> {
        match self.legs.of(side).trunk.sip.refer {
            ReferPolicy::Forbid => return Err(Fault::TransferForbidden),
            ReferPolicy::Decline => return Err(Fault::TransferDeclined),
            ReferPolicy::Route | ReferPolicy::Relay | ReferPolicy::SendBack => {}
        }
        if !unsupported(&request.headers).is_empty() {
            return Err(Fault::BadExtension);
        }
        let referral = Referral::of(request)?;
        if self.transfer.is_some() || self.relayed.is_some() {
            return Err(Fault::RequestPending);
        }
        Ok(referral)
    }

    /// What another call had of the dialog that the REFER named.
    pub(super) fn claimed(
        mut self: Box<Self>,
        facts: &mut Facts,
        claim: Option<Box<Claim>>,
        context: &mut Context<'_>,
    ) -> Phase {
        let (side, number, referral) = match self.transfer.take().map(|transfer| *transfer) {
            Some(Transfer { side, number, step: Step::Fetching(referral) }) => (side, number, referral),
            other => {
                self.transfer = other.map(Box::new);
                // Too late: the call that had it has given it up.
                if let Some(claim) = claim {
                    let number = self.next_number();
                    self.dismiss(claim.leg, number, context.now, context);
                }
                return Phase::Established(self);
            }
        };
        context.disarm(CallTimer::PeerSilent);
        match claim {
            Some(claim) => {
                let Claim { leg, permit } = *claim;
                context.push(Action::Bind { side, call_id: leg.dialog.call_id().to_owned() });
                let step = Step::Ready(Box::new(leg), permit);
                self.transfer = Some(Box::new(Transfer { side, number, step }));
                Phase::Established(self)
            }
            None if self.passes_referral(side) => {
                self.pass_referral((side, number), None, *referral, context);
                Phase::Established(self)
            }
            None => self.call_target(facts, (side, number), *referral, context),
        }
    }

    /// The other end of the dialog with `side` is wanted in another call, where that peer has transferred somebody to it:
    /// this call gives it up, and ends.
    pub(super) fn give_up(
        self: Box<Self>,
        facts: &mut Facts,
        side: Side,
        claimant: crate::call::Claimant,
        context: &mut Context<'_>,
    ) -> Phase {
        let refreshing = self.refreshing.iter().any(Option::is_some);
        let transfers = self.transfer.is_some() || self.relayed.is_some();
        if !matches!(self.stage, Stage::Steady) || transfers || refreshing {
            context.push(Action::Surrender { claimant, claim: None });
            return Phase::Established(self);
        }
        let Self { legs, attempts, partings, .. } = *self;
        super::super::surrender(facts, legs, side, (attempts, partings), claimant, context)
    }

    /// The new peer takes its place as soon as nothing else is under way.
    pub(super) fn switch_when_ready(
        mut self: Box<Self>,
        facts: &mut Facts,
        context: &mut Context<'_>,
    ) -> Phase {
        let Some(Transfer { side, step: Step::Ready(..) | Step::Joining(_), .. }) = self.transfer.as_deref()
        else {
            return Phase::Established(self);
        };
        if !matches!(self.stage, Stage::Steady) || self.refreshing[side.index()].is_some() {
            return Phase::Established(self);
        }
        match self.transfer.take().map(|transfer| *transfer) {
            Some(Transfer { side, number, step: Step::Ready(leg, permit) }) => {
                let until = context.now + GUARD;
                self.switch(facts, (side, JoinedBy::Refer), (*leg, permit), (number, until), context);
                self.legs.relay(context);
                self.publish_media(facts, context);
                self.tell(facts, number, StatusCode::OK, context);
                self.save(facts, context);
                self.offer_to_unaware(facts, context);
                Phase::Established(self)
            }
            Some(Transfer { side, number, step: Step::Joining(joiner) }) => {
                self.join(facts, (side, number), *joiner, context)
            }
            other => {
                self.transfer = other.map(Box::new);
                Phase::Established(self)
            }
        }
    }

    /// Puts `leg` in the place of the one that `side` had, whose dialog is hung up then.
    fn switch(
        &mut self,
        facts: &mut Facts,
        (side, by): (Side, JoinedBy),
        (leg, permit): (Leg, Permit),
        (number, until): (u8, Time),
        context: &mut Context<'_>,
    ) {
        context.ports.keep(leg.media.local());
        self.legs.stop_playing(context);
        let old = std::mem::replace(self.legs.of_mut(side), leg);
        facts.replaced(side, &old, by, permit, context.now);
        if facts.home.is_none() {
            facts.home = Some(self.legs.of(side.other()).dialog.call_id().into());
        }
        self.dismiss(old, number, until, context);
        let (new, stays) = self.legs.pair(side);
        let agreed = stays.media.media();
        let is_held = agreed.is_some_and(|media| !(media.direction.sends() && media.direction.receives()));
        if is_held || !stays.media.carries(&new.media) {
            self.unaware.add(side.other(), Unaware::Resumed);
        }
        // One that came from another call may have been held there.
        let agreed = self.legs.of(side).media.media();
        if agreed.is_some_and(|media| !(media.direction.sends() && media.direction.receives())) {
            self.unaware.add(side, Unaware::Resumed);
        }
        self.agreed = context.now;
        // Other branches of the target's side may still answer.
        context.arm(CallTimer::Linger, context.settings.linger);
        self.publish_transfer(facts, side, TransferStep::Done, context);
    }

    /// A dialog that is no side of the call any more: left to its peer's BYE until then.
    fn dismiss(&mut self, leg: Leg, number: u8, until: Time, context: &mut Context<'_>) {
        leg.close(context);
        if leg.dialog.state() == lifetime::State::Terminated {
            context.push(Action::Unbind { call_id: leg.dialog.call_id().to_owned() });
        } else {
            self.partings.add(leg, number, until, context);
        }
    }

    /// The target is not to be had: the call goes on as it was, or ends if the transferor has left it.
    fn transfer_failed(
        mut self: Box<Self>,
        facts: &mut Facts,
        status: StatusCode,
        context: &mut Context<'_>,
    ) -> Phase {
        let Some(transfer) = self.transfer.take() else { return Phase::Established(self) };
        let Transfer { side, number, step } = *transfer;
        self.put_down(step, context);
        self.target_failed(facts, (side, number), status, context)
    }

    fn target_failed(
        mut self: Box<Self>,
        facts: &mut Facts,
        (side, number): (Side, u8),
        status: StatusCode,
        context: &mut Context<'_>,
    ) -> Phase {
        self.tell(facts, number, status, context);
        self.publish_transfer(facts, side, TransferStep::Failed(status.code()), context);
        let heard_ringback = self.legs.stop_playing(context);
        if self.legs.of(side).dialog.state() == lifetime::State::Terminated {
            let reason = format!("SIP;cause={}", status.code());
            return self.end_with(
                facts,
                Outcome::hung_up(side, None),
                (&[side.other()], Some(reason)),
                context,
            );
        }
        if heard_ringback {
            self.legs.relay(context);
        }
        self.save(facts, context);
        Phase::Established(self)
    }

    /// The target rings: so hears who waits for it (RFC 5589 leaves it in silence, or with what the transferor sends).
    fn ring_waiting(&mut self, facts: &Facts, context: &mut Context<'_>) {
        let Some(waiting) = self.transfer.as_ref().map(|transfer| transfer.side.other()) else { return };
        let tones = self.legs.of(waiting).trunk.tones.clone();
        let Some(tones) = tones.filter(|tones| tones.on_transfer && context.settings.plays) else { return };
        if self.legs.plays() {
            return;
        }
        let source = Source::Cadence(tones.plan.cadence(Signal::Ringback).clone());
        if self.legs.play(waiting, source) {
            self.legs.relay(context);
        } else {
            let call = facts.start.call;
            tracing::info!(%call, ?waiting, "no ringback: who waits takes no media, or none that can be made here");
        }
    }

    /// Ends a transfer together with its call.
    pub(super) fn abandon_transfer(&mut self, context: &mut Context<'_>) {
        self.abandon_referral(context);
        if let Some(transfer) = self.transfer.take() {
            self.put_down(transfer.step, context);
        }
        for mut subscription in std::mem::take(&mut self.subscriptions) {
            if let Some(leg) = leg_of(&mut self.legs, &mut self.partings, &subscription.call_id) {
                subscription.finish(leg, StatusCode::REQUEST_TERMINATED, context);
            }
        }
    }

    fn put_down(&mut self, step: Step, context: &mut Context<'_>) {
        for timer in [CallTimer::PeerSilent, CallTimer::NoAnswer] {
            context.disarm(timer);
        }
        match step {
            Step::Fetching(_) => {}
            Step::Dialling(dialling) => {
                dialling.give_up(&mut self.attempts, context);
                context.arm(CallTimer::Linger, context.settings.linger);
            }
            Step::Ready(leg, _) => {
                let number = self.next_number();
                self.dismiss(*leg, number, context.now, context);
            }
            Step::Joining(joiner) => joiner.refuse(Fault::ReplacedDialogEnded, context),
        }
    }

    /// The peer of `side` hangs up while somebody is called in its place: the other side waits on (RFC 5589 section 6.1
    /// lets the transferor leave at once).
    pub(super) fn transferor_left(&mut self, side: Side, context: &mut Context<'_>) -> bool {
        let asked = self
            .transfer
            .as_ref()
            .is_some_and(|transfer| transfer.side == side && !matches!(transfer.step, Step::Joining(_)));
        if asked && matches!(self.stage, Stage::Steady) {
            let leg = self.legs.of_mut(side);
            leg.session = Session::default();
            let call_id = leg.dialog.call_id();
            self.subscriptions.retain(|subscription| subscription.call_id != call_id);
            self.agreed = context.now;
            if self.legs.plays() {
                self.legs.relay(context);
            } else {
                context.push(Action::Relay(Box::<MediaPlan>::default()));
            }
            return true;
        }
        false
    }

    /// Whether somebody is called in the place of a peer that has left.
    pub(super) fn waits_for_target(&self) -> bool {
        let gone = |side: &Side| self.legs.of(*side).dialog.state() == lifetime::State::Terminated;
        self.transfer.is_some() && BOTH.iter().any(gone)
    }

    /// Tells the sender of the REFER with this number how its call goes.
    pub(super) fn tell(&mut self, facts: &Facts, number: u8, status: StatusCode, context: &mut Context<'_>) {
        let mut of_number =
            self.subscriptions.iter_mut().filter(|subscription| subscription.number == number);
        if let Some(subscription) = of_number.next()
            && let Some(leg) = leg_of(&mut self.legs, &mut self.partings, &subscription.call_id)
        {
            subscription.tell(leg, status, context);
            // The next daemon must not use the NOTIFY's number again.
            self.save(facts, context);
        }
    }

    /// The final answer to a NOTIFY, or none came.
    pub(super) fn notified(&mut self, facts: &Facts, number: u8, ok: bool, context: &mut Context<'_>) {
        let (legs, partings) = (&mut self.legs, &mut self.partings);
        self.subscriptions.retain_mut(|subscription| {
            if subscription.number != number {
                return true;
            }
            leg_of(legs, partings, &subscription.call_id)
                .is_some_and(|leg| subscription.answered(leg, ok, context))
        });
        self.save(facts, context);
    }

    fn publish_transfer(&self, facts: &Facts, side: Side, step: TransferStep, context: &mut Context<'_>) {
        let call = facts.start.call;
        context.push(Action::Publish(observe::Event::Transfer { call, side, step }));
    }

    /// Numbers INVITEs, subscriptions and dialogs that leave: unlike those of the last minute.
    fn next_number(&mut self) -> u8 {
        self.numbered = self.numbered.wrapping_add(1);
        self.numbered
    }
}

/// The dialog that has this Call-ID, in the call or just out of it.
fn leg_of<'a>(
    legs: &'a mut crate::call::leg::Legs,
    partings: &'a mut crate::call::phase::parting::Partings,
    call_id: &str,
) -> Option<&'a mut Leg> {
    legs.with_call_id(call_id).or_else(|| partings.of(call_id))
}
