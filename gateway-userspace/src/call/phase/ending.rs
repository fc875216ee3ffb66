//! After the record is written: BYEs and CANCELs wait for their answers, late 2xx are put down.

use super::Phase;
use super::attempt::Attempt;
use super::parting::Partings;
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::Facts;
use crate::call::leg::Leg;
use crate::call::persist::Farewell;
use crate::call::{Action, CallTimer, Context, Event, RequestKey};
use crate::sip::message::{HeaderName, Method, Response, StatusCode};

#[derive(Debug)]
pub(in crate::call) struct Ending {
    caller: Option<Leg>,
    callee: Option<Leg>,
    /// Sides that we owe a BYE, or whose answer to it we await.
    owed: Vec<Owed>,
    attempts: Vec<Attempt>,
    partings: Partings,
}

/// The number of a dialog that came from another call after the end of this one.
const CLAIMED: u8 = u8::MAX;

/// A BYE for a side.
#[derive(Debug)]
pub(in crate::call) struct Owed {
    pub(in crate::call) side: Side,
    pub(in crate::call) reason: Option<String>,
    pub(in crate::call) sent: bool,
}

impl Owed {
    /// One with this Reason.
    pub(in crate::call) fn new(side: Side, reason: Option<String>) -> Self {
        Self { side, reason, sent: false }
    }
}

impl Ending {
    /// Hangs up on whom a BYE is `owed`, and waits; `attempts` are INVITEs that may still be answered.
    pub(in crate::call) fn begin(
        facts: &Facts,
        legs: (Option<Leg>, Option<Leg>),
        owed: Vec<Owed>,
        (attempts, partings): (Vec<Attempt>, Partings),
        context: &mut Context<'_>,
    ) -> Phase {
        let mut ending = Self { caller: legs.0, callee: legs.1, owed, attempts, partings };
        for timer in CallTimer::ALL {
            context.disarm(timer);
        }
        ending.hang_up(context);
        ending.partings.expire(context);
        context.arm(CallTimer::Linger, context.settings.linger);
        ending.save(facts, context);
        ending.next(context)
    }

    /// Another daemon is to send the BYEs again that this one may not see answered.
    fn save(&self, facts: &Facts, context: &mut Context<'_>) {
        let owed = self.owed.iter().filter_map(|owed| Some((owed, self.leg(owed.side)?)));
        if let Some(farewell) = Farewell::of(facts, owed, &self.partings) {
            context.push(Action::SaveFarewell(Box::new(farewell)));
        }
    }

    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => self.caller.as_ref(),
            Side::Callee => self.callee.as_ref(),
        }
    }

    pub(super) fn knows(&self, side: Side, call_id: &str, tag: &str) -> bool {
        let same = |leg: &Leg| leg.dialog.call_id() == call_id && leg.local_tag() == tag;
        self.leg(side).is_some_and(same) || self.partings.has(call_id, tag)
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        facts: &Facts,
        event: Event,
        context: &mut Context<'_>,
    ) -> Phase {
        match event {
            Event::Request { server, request, .. } if self.partings.of(&request.head.call_id).is_some() => {
                self.partings.request((server, &request), context);
            }
            Event::Request { side, server, request, .. } => {
                if request.method == Method::Bye {
                    // The dialog is over with it: a BYE that still waits for an ACK is owed no more (RFC 3261 section 15).
                    self.owed.retain(|owed| owed.side != side || owed.sent);
                }
                if let Some(leg) = self.leg_mut(side) {
                    // Our BYE and theirs crossed: both are answered (RFC 3261 section 15.1.2).
                    match request.method {
                        // A PRACK may come behind the refusal that overtook its response (RFC 3262 section 3).
                        Method::Bye | Method::Prack => {
                            leg.respond(context, (server, &request), StatusCode::OK, None);
                        }
                        _ => leg.turn_away(context, (server, &request), Fault::NoSuchDialog),
                    }
                }
            }
            Event::Acknowledged { request, .. } if self.partings.of(&request.head.call_id).is_some() => {
                self.partings.acknowledged(&request.head, context);
                self.save(facts, context);
            }
            Event::Acknowledged { side, .. } | Event::NeverAcknowledged { side } => {
                self.partings.give_up_acks(context);
                if let Some(leg) = self.leg_mut(side) {
                    leg.dialog.settle();
                }
                self.hang_up(context);
                self.save(facts, context);
            }
            Event::Response { key, response } => self.response(key, &response, context),
            Event::AnsweredAgain { side, response } => {
                if let Some(leg) = self.leg(side) {
                    leg.acknowledge(context, response.head.cseq.number);
                }
            }
            Event::TimedOut { key } | Event::Unreachable { key } => self.finished(key, context),
            Event::Timer(CallTimer::Parting) => {
                self.partings.expire(context);
                self.save(facts, context);
            }
            // Whoever wants a part of it comes too late.
            Event::Replace { joiner, .. } => joiner.refuse(Fault::ReplacedDialogEnded, context),
            Event::GiveUp { claimant, .. } => context.push(Action::Surrender { claimant, claim: None }),
            Event::Claimed(claim) => {
                if let Some(claim) = claim {
                    claim.leg.close(context);
                    self.partings.add(claim.leg, CLAIMED, context.now, context);
                    self.save(facts, context);
                }
            }
            Event::Timer(CallTimer::Linger) => {
                context.push(Action::Forget);
                return Phase::Over;
            }
            Event::Timer(_)
            | Event::Cancelled { .. }
            | Event::FlowsRefused(_)
            | Event::Key { .. }
            | Event::Played { .. }
            | Event::MediaHeard { .. }
            | Event::HangUp(_) => {}
        }
        self.next(context)
    }

    fn response(&mut self, key: RequestKey, response: &Response, context: &mut Context<'_>) {
        if let RequestKey::Invite { attempt } = key
            && response.status.is_success()
        {
            let answered =
                self.callee.as_ref().filter(|leg| Some(leg.dialog.remote_tag()) == response.head.to.tag());
            match answered {
                Some(leg) => leg.acknowledge(context, response.head.cseq.number),
                None => {
                    if let Some(attempt) = self.attempts.iter_mut().find(|own| own.number == attempt) {
                        attempt.release(response, context);
                    }
                }
            }
        }
        if let RequestKey::Reinvite { to } = key
            && response.status.is_success()
            && let Some(leg) = self.leg(to)
        {
            leg.acknowledge(context, response.head.cseq.number);
        }
        if response.status.is_final() {
            self.finished(key, context);
        }
    }

    fn finished(&mut self, key: RequestKey, context: &mut Context<'_>) {
        match key {
            RequestKey::Invite { attempt } => {
                for own in self.attempts.iter_mut().filter(|own| own.number == attempt) {
                    own.open = false;
                }
            }
            RequestKey::Bye { to } => self.owed.retain(|owed| owed.side != to),
            RequestKey::Part { number } => self.partings.finished(number, context),
            RequestKey::Reinvite { .. }
            | RequestKey::Update { .. }
            | RequestKey::Prack
            | RequestKey::Notify { .. }
            | RequestKey::Refer { .. }
            | RequestKey::Keys { .. }
            | RequestKey::Release => {}
        }
    }

    /// Sends the BYEs that may go now: none to a side whose ACK is still on its way (RFC 3261 section 15).
    fn hang_up(&mut self, context: &mut Context<'_>) {
        for owed in self.owed.iter_mut().filter(|owed| !owed.sent) {
            let leg = match owed.side {
                Side::Caller => self.caller.as_mut(),
                Side::Callee => self.callee.as_mut(),
            };
            let Some(leg) = leg.filter(|leg| !leg.dialog.awaits_ack()) else { continue };
            let mut draft = leg.dialog.request(Method::Bye);
            if let Some(reason) = &owed.reason {
                draft.headers.push(HeaderName::Reason, reason.as_str());
            }
            leg.request(context, RequestKey::Bye { to: owed.side }, draft);
            owed.sent = true;
        }
    }

    fn next(self, context: &mut Context<'_>) -> Phase {
        if self.owed.is_empty()
            && self.partings.is_empty()
            && !self.attempts.iter().any(|attempt| attempt.open)
        {
            context.push(Action::Forget);
            return Phase::Over;
        }
        Phase::Ending(Box::new(self))
    }

    fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => self.caller.as_mut(),
            Side::Callee => self.callee.as_mut(),
        }
    }
}
