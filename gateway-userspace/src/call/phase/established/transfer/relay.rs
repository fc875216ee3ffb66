//! REFERs that are passed on: the other side's peer calls the target itself (RFC 3515). Each side keeps a dialog, a
//! subscription and numbers of its own; only whom to call, who asks and how it goes crosses.

use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::feature::transfer::{Passed, Referral, Subscription, accepted, reported};
use crate::call::phase::crossing;
use crate::call::phase::established::Established;
use crate::call::{Action, Context, RequestKey};
use crate::observe::event::TransferStep;
use crate::policy::{ReferPolicy, Service};
use crate::sip::dialog::lifetime;
use crate::sip::message::{HeaderName, Method, Request, Response, StatusCode};
use crate::sip::transaction::ServerId;

/// A REFER of one side that the other one has.
#[derive(Debug)]
pub(in crate::call::phase::established) struct Relayed {
    /// Who asked.
    from: Side,
    /// Of its subscription.
    number: u8,
    /// Our REFER's sequence number, by which NOTIFYs name it (RFC 3515 section 2.4.6).
    sequence: u32,
    /// What is not answered before the other side has answered; `None` where it was, at once.
    asked: Option<(ServerId, Box<Request>)>,
    /// `None` once the other side has accepted it.
    referral: Option<Referral>,
    /// News that came before that answer.
    early: Option<StatusCode>,
}

impl Established {
    /// Whether a REFER of `side` is for the other side's peer: its trunk says so, and that one takes REFER. Teams never gets
    /// one, since it would not execute it.
    pub(super) fn passes_referral(&self, side: Side) -> bool {
        let (asking, other) = (self.legs.of(side), self.legs.of(side.other()));
        asking.trunk.sip.refer == ReferPolicy::Relay
            && other.trunk.service != Some(Service::Teams)
            && other.abilities.refer
            && other.dialog.state() != lifetime::State::Terminated
    }

    /// Sends it on. `asked` is still to be answered.
    pub(super) fn pass_referral(
        &mut self,
        (side, number): (Side, u8),
        asked: Option<(ServerId, Box<Request>)>,
        referral: Referral,
        context: &mut Context<'_>,
    ) {
        let other = self.legs.of_mut(side.other());
        let mut draft = other.dialog.request(Method::Refer);
        draft.headers.push(HeaderName::ReferTo, referral.refer_to.as_str());
        if let Some(by) = &referral.referred_by {
            draft.headers.push(HeaderName::ReferredBy, by.as_str());
        }
        if !referral.notifies {
            draft.headers.push(HeaderName::Other("Refer-Sub".into()), "false");
        }
        let sequence = draft.sequence;
        other.request(context, RequestKey::Refer { number }, draft);
        let (from, referral) = (side, Some(referral));
        self.relayed = Some(Box::new(Relayed { from, number, sequence, asked, referral, early: None }));
    }

    /// The other side has a REFER that a daemon before this one passed on: its news go on to who asked.
    pub(in crate::call::phase::established) fn resume_referral(
        &mut self,
        from: Side,
        (number, sequence): (u8, u32),
    ) {
        let relayed = Relayed { from, number, sequence, asked: None, referral: None, early: None };
        self.relayed = Some(Box::new(relayed));
    }

    /// Who asked, by the number of its subscription, for what the other side has accepted; with our REFER's sequence number.
    pub(in crate::call::phase::established) fn passed(&self) -> Option<(u8, Passed)> {
        let relayed = self.relayed.as_deref().filter(|relayed| relayed.referral.is_none())?;
        Some((relayed.number, Passed { from: relayed.from, sequence: relayed.sequence }))
    }

    /// The other side's answer to the REFER of this number; `Err` where none came.
    pub(in crate::call::phase::established) fn referral_answered(
        &mut self,
        facts: &Facts,
        number: u8,
        answer: Result<&Response, Fault>,
        context: &mut Context<'_>,
    ) {
        if answer.is_ok_and(|response| response.status.is_provisional()) {
            return;
        }
        let Some(mut relayed) = self.relayed.take_if(|relayed| relayed.number == number) else { return };
        let (side, asked) = (relayed.from, relayed.asked.take());
        match (answer, asked) {
            (Ok(response), asked) if response.status.is_success() => {
                self.referral_accepted(facts, relayed, (asked, response), context);
            }
            (Ok(response), Some((server, request))) => {
                let status = crossing(response.status);
                self.legs.of_mut(side).pass_refusal(context, (server, &request), status, None);
            }
            (Err(fault), Some((server, request))) => {
                self.legs.of_mut(side).refuse(context, (server, &request), fault);
            }
            (Ok(response), None) => self.hear(facts, (number, side), crossing(response.status), context),
            (Err(_), None) => self.hear(facts, (number, side), StatusCode::SERVICE_UNAVAILABLE, context),
        }
    }

    fn referral_accepted(
        &mut self,
        facts: &Facts,
        mut relayed: Box<Relayed>,
        (asked, response): (Option<(ServerId, Box<Request>)>, &Response),
        context: &mut Context<'_>,
    ) {
        let (side, number) = (relayed.from, relayed.number);
        let Some(mut referral) = relayed.referral.take() else { return };
        let suppressed = response.headers.value(&HeaderName::Other("Refer-Sub".into()));
        referral.notifies &= !suppressed.is_some_and(|value| value.eq_ignore_ascii_case("false"));
        let (notifies, early) = (referral.notifies, relayed.early);
        if let Some((server, request)) = asked {
            let leg = self.legs.of_mut(side);
            let mut told = leg.response(context, &request, StatusCode::OK, None);
            accepted(&referral, &mut told);
            context.push(Action::Respond { server, response: Box::new(told) });
            if notifies {
                self.subscriptions.push(Subscription::new(number, leg, referral.id));
            }
            self.tell(facts, number, StatusCode::TRYING, context);
            self.publish_transfer(facts, side, TransferStep::Begun, context);
        }
        match (notifies, early) {
            (true, Some(status)) if status.is_final() => self.hear(facts, (number, side), status, context),
            (true, early) => {
                self.relayed = Some(relayed);
                self.save(facts, context);
                if let Some(status) = early {
                    self.hear(facts, (number, side), status, context);
                }
            }
            // The other side has it, and says no more of it: neither can we.
            (false, _) => self.hear(facts, (number, side), StatusCode::OK, context),
        }
    }

    /// A NOTIFY of the peer of `side`: how the call goes that it was asked for. Of a subscription that is none of ours, 481
    /// (RFC 6665 section 4.1.3).
    pub(in crate::call::phase::established) fn notification(
        &mut self,
        facts: &Facts,
        side: Side,
        (server, request): (ServerId, &Request),
        context: &mut Context<'_>,
    ) {
        let leg = self.legs.of_mut(side);
        let Some((relayed, status)) = self
            .relayed
            .as_deref_mut()
            .filter(|relayed| relayed.from == side.other())
            .and_then(|relayed| reported(request, relayed.sequence).map(|status| (relayed, status)))
        else {
            return leg.turn_away(context, (server, request), Fault::NoSuchDialog);
        };
        leg.respond(context, (server, request), StatusCode::OK, None);
        if relayed.asked.is_some() {
            relayed.early = Some(status);
            return;
        }
        let told = (relayed.number, relayed.from);
        self.hear(facts, told, status, context);
    }

    fn hear(
        &mut self,
        facts: &Facts,
        (number, side): (u8, Side),
        status: StatusCode,
        context: &mut Context<'_>,
    ) {
        if status.is_final() {
            self.relayed = None;
            let step = match status.is_success() {
                true => TransferStep::Done,
                false => TransferStep::Failed(status.code()),
            };
            self.publish_transfer(facts, side, step, context);
        }
        self.tell(facts, number, status, context);
    }

    /// The call ends: who asked hears that nobody will answer.
    pub(super) fn abandon_referral(&mut self, context: &mut Context<'_>) {
        let Some(relayed) = self.relayed.take() else { return };
        if let Some((server, request)) = relayed.asked {
            let leg = self.legs.of_mut(relayed.from);
            leg.pass_refusal(context, (server, &request), StatusCode::REQUEST_TERMINATED, None);
        }
    }
}
