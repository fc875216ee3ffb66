//! From the callee's 2xx to the first BYE: the caller's ACK, changes from either side, the watch over media.

mod agreement;
mod change;
mod end;
mod own;
mod pressed;
mod refresh;
mod transfer;
mod watch;

use super::attempt::Attempt;
use super::parting::Partings;
use super::{Phase, alerted};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::time::Time;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::feature::keys;
use crate::call::feature::reason::Reasons;
use crate::call::feature::transfer::{Passed, Referred, Subscription, notify};
use crate::call::leg::Legs;
use crate::call::{Action, CallTimer, Checkpoint, Context, Event, RequestKey};
use crate::observe;
use crate::sdp::Direction;
use crate::sip::message::{HeaderName, Method, Request, Response, StatusCode};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use transfer::{Relayed, Transfer};

#[derive(Debug)]
pub(in crate::call) struct Established {
    pub(super) legs: Legs,
    stage: Stage,
    /// When media was last agreed on: silence before that says nothing.
    agreed: Time,
    /// When each side's session timer is armed for.
    armed: [Option<Time>; 2],
    /// Sequence numbers of the UPDATEs that refresh each side's session.
    refreshing: [Option<u32>; 2],
    /// The sides that need an offer of what the other has agreed to, as soon as nothing else is under way.
    unaware: Unawares,
    /// INVITEs of the set-up and of transfers: branches that answer late are put down, until [`CallTimer::Linger`].
    attempts: Vec<Attempt>,
    transfer: Option<Box<Transfer>>,
    /// A REFER of one side that the other one executes.
    relayed: Option<Box<Relayed>>,
    /// What senders of REFER are to hear.
    subscriptions: Vec<Subscription>,
    /// Dialogs that were transferred away.
    partings: Partings,
    /// The number given last to an INVITE or a transfer.
    numbered: u8,
}

/// Why a side needs an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unaware {
    /// The other side has agreed to something else.
    Changed,
    /// The same, and who held it has left.
    Resumed,
}

/// By side.
#[derive(Debug, Default)]
struct Unawares([Option<Unaware>; 2]);

impl Unawares {
    fn add(&mut self, side: Side, why: Unaware) {
        self.0[side.index()] = Some(why);
    }

    fn first(&self) -> Option<(Side, Unaware)> {
        BOTH.into_iter().find_map(|side| Some((side, self.0[side.index()]?)))
    }

    fn remove(&mut self, side: Side) {
        self.0[side.index()] = None;
    }
}

/// What the caller's 200 says, and what is still to be done about media.
#[derive(Debug)]
pub(super) struct Answer {
    /// `None` where a reliable provisional response said it all.
    pub(super) body: Option<String>,
    pub(super) exchange: Exchange,
    /// The callee has agreed to something else than the caller was told: it needs another offer.
    pub(super) changed: bool,
}

/// Where offer and answer stand when a 2xx is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    Complete,
    /// The 2xx made the offer, which was passed on: the ACK of the side that asked will carry the answer to it.
    Offered,
    /// The side that asked has an offer of our own, which its ACK will answer; the other side is not concerned.
    OwnOffer,
    /// Complete, and the other side has asked itself: it sends an ACK and gets none.
    PickedUp,
}

/// Where the last INVITE of either side stands.
#[derive(Debug)]
enum Stage {
    Steady,
    /// A re-INVITE of our own toward this side, with this sequence number: nobody asked for it.
    Offering(Side, u32, Purpose),
    /// The side that a re-INVITE of `from` was passed on to had one of its own under way: another try comes later.
    Waiting(Asked),
    /// A re-INVITE or UPDATE was passed on to the other side with this sequence number.
    Asking(Asked, u32),
    /// A side has our 200; its ACK is awaited.
    Agreed(Accepted),
}

/// Why we send a re-INVITE that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The side has to hear what the other has agreed to.
    Change(Unaware),
    /// The session timer asks for it: nothing changes.
    Refresh,
}

/// A re-INVITE or UPDATE that a side asked us.
#[derive(Debug)]
struct Asked {
    from: Side,
    server: ServerId,
    request: Box<Request>,
    /// The direction that its offer has on the other side; `None` without an offer, which the other side makes then.
    offered: Option<Direction>,
    /// The direction of our answer, where it does not follow from the other side's.
    answer_as: Option<Direction>,
}

/// An INVITE that a side asked us and that we accepted.
#[derive(Debug)]
struct Accepted {
    from: Side,
    /// Its sequence number, which the ACK repeats.
    number: u32,
    /// Itself, unless its transaction went with another daemon.
    asked: Option<(ServerId, Box<Request>)>,
    awaits: Awaits,
    /// A re-INVITE of the other side, whose own INVITE or ACK is done with: it has its turn after this ACK.
    kept: Option<(ServerId, Box<Request>)>,
}

impl Accepted {
    /// Whether a re-INVITE of `side` may wait until the ACK is there. That of the side which asked us has to come after it, and
    /// that of one which waits for the answer to its own offer is an offer too many (RFC 3261 section 14.2).
    fn lets_wait(&self, side: Side) -> bool {
        self.from != side && self.kept.is_none() && !matches!(self.awaits, Awaits::AnswerFor(_))
    }
}

/// What the ACK of an accepted INVITE will bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Awaits {
    /// Itself only.
    Ack,
    /// The answer to the offer that the other side made in its 2xx with this sequence number, whose ACK waits for it.
    AnswerFor(u32),
    /// The answer to an offer of our own.
    Answer,
}

/// An accepted INVITE as it outlives the process, where its ACK brings more than itself.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::call) struct Unanswered {
    from: Side,
    number: u32,
    awaits: Awaits,
}

/// What of a call is under way beside its two legs, as it outlives the process.
#[derive(Debug)]
pub(in crate::call) struct Open<P> {
    pub(in crate::call) unanswered: Option<Unanswered>,
    /// Who waits for news of a transfer.
    pub(in crate::call) referred: Vec<Referred>,
    /// Dialogs in the guard time of a transfer.
    pub(in crate::call) partings: P,
}

impl Established {
    /// The callee answered, and both legs agreed as far as an answer is known; the caller hears `answer`.
    pub(super) fn begin(
        legs: Legs,
        (server, request): (ServerId, Box<Request>),
        answer: Answer,
        attempts: Vec<Attempt>,
        facts: &mut Facts,
        context: &mut Context<'_>,
    ) -> Phase {
        let sequence = attempts.last().map_or(1, |attempt| attempt.sequence);
        let asked = (Side::Caller, server, request);
        let mut established = Self::of(legs, Stage::Steady, attempts, context);
        if answer.changed {
            established.unaware.add(Side::Caller, Unaware::Changed);
        }
        facts.answered = Some(context.now);
        established.agree(asked, (answer.exchange, sequence), answer.body, context);
        alerted(facts, context);
        context.push(Action::Publish(observe::Event::Answered { call: facts.start.call }));
        established.publish_media(facts, context);
        context.arm(CallTimer::Linger, context.settings.linger);
        established.watch_media(context);
        established.watch_sessions(context);
        established.save(facts, context);
        Phase::Established(Box::new(established))
    }

    /// A call that another daemon answered, with what it had not ended.
    pub(in crate::call) fn restore(
        facts: &Facts,
        legs: Legs,
        Open { unanswered, referred, partings }: Open<Partings>,
        context: &mut Context<'_>,
    ) -> Self {
        let stage = unanswered.map_or(Stage::Steady, |Unanswered { from, number, awaits }| {
            Stage::Agreed(Accepted { from, number, asked: None, awaits, kept: None })
        });
        let mut established = Self::of(legs, stage, Vec::new(), context);
        established.partings = partings;
        established.partings.expire(context);
        established.publish_media(facts, context);
        established.watch_media(context);
        established.watch_sessions(context);
        for referred in referred {
            established.resume(referred, context);
        }
        established
    }

    /// Somebody waits for news of a transfer that a daemon before this one began.
    fn resume(&mut self, referred: Referred, context: &mut Context<'_>) {
        let Some(leg) = self.legs.with_call_id(&referred.call_id) else { return };
        match referred.passed {
            Some(Passed { from, sequence }) => {
                self.numbered = self.numbered.wrapping_add(1);
                self.subscriptions.push(Subscription::new(self.numbered, leg, referred.id));
                self.resume_referral(from, (self.numbered, sequence));
            }
            // Its INVITE went with the daemon that sent it.
            None => notify(leg, self.numbered, referred.id, StatusCode::SERVICE_UNAVAILABLE, context),
        }
    }

    fn of(legs: Legs, stage: Stage, attempts: Vec<Attempt>, context: &Context<'_>) -> Self {
        Self {
            legs,
            stage,
            agreed: context.now,
            armed: [None; 2],
            refreshing: [None; 2],
            unaware: Unawares::default(),
            numbered: attempts.last().map_or(0, |attempt| attempt.number),
            attempts,
            transfer: None,
            relayed: None,
            subscriptions: Vec::new(),
            partings: Partings::default(),
        }
    }

    pub(super) fn handle(
        self: Box<Self>,
        facts: &mut Facts,
        event: Event,
        context: &mut Context<'_>,
    ) -> Phase {
        let mut phase = self.handled(facts, event, context);
        if let Phase::Established(established) = phase {
            phase = established.switch_when_ready(facts, context);
        }
        if let Phase::Established(established) = &mut phase {
            established.watch_sessions(context);
        }
        phase
    }

    fn handled(mut self: Box<Self>, facts: &mut Facts, event: Event, context: &mut Context<'_>) -> Phase {
        match event {
            Event::Request { side, server, request, hop } => {
                self.request(facts, side, (server, request), hop, context)
            }
            Event::Acknowledged { side, request } => self.acknowledged(facts, side, &request, context),
            Event::Response { key, response } => self.response(facts, key, &response, context),
            Event::AnsweredAgain { side, response } => {
                if !self.acknowledges_later() {
                    self.legs.of(side).acknowledge(context, response.head.cseq.number);
                }
                Phase::Established(self)
            }
            Event::TimedOut { key: RequestKey::Reinvite { .. } | RequestKey::Update { .. } }
            | Event::Unreachable { key: RequestKey::Reinvite { .. } | RequestKey::Update { .. } } => {
                // RFC 3261 section 12.2.1.2: a dialog whose peer is silent is over.
                self.end(facts, Outcome::fault(Fault::PeerTimeout, true), &BOTH, context)
            }
            Event::TimedOut { key } => self.lost(facts, key, Fault::PeerTimeout, context),
            Event::Unreachable { key } => self.lost(facts, key, Fault::PeerUnreachable, context),
            Event::Cancelled { side, cancel } => match self.joiner_cancelled(&cancel, context) {
                true => Phase::Established(self),
                false => self.change_cancelled(side, &cancel, context),
            },
            Event::Replace { side, joiner } => self.replace(facts, side, *joiner, context),
            Event::GiveUp { side, claimant } => self.give_up(facts, side, claimant, context),
            Event::Claimed(claim) => self.claimed(facts, claim, context),
            Event::NeverAcknowledged { side } => self.never_acknowledged(facts, side, context),
            Event::FlowsRefused(fault) => self.flows_refused(facts, fault, context),
            Event::Timer(CallTimer::MediaCheck) => {
                self.watch_media(context);
                context.push(Action::ProbeMedia);
                Phase::Established(self)
            }
            Event::Timer(CallTimer::Glare) => {
                self.try_again(facts, context);
                Phase::Established(self)
            }
            Event::Timer(CallTimer::Session(side)) => self.session_due(facts, side, context),
            Event::Timer(CallTimer::Linger) => {
                self.attempts.retain(|attempt| attempt.open);
                Phase::Established(self)
            }
            Event::MediaHeard { from_caller, from_callee, .. } => {
                if !self.waits_for_target() && self.is_dead([from_caller, from_callee], context) {
                    return self.end(facts, Outcome::fault(Fault::MediaTimeout, true), &BOTH, context);
                }
                Phase::Established(self)
            }
            Event::Key { to, press } => {
                self.press(to, press, context);
                Phase::Established(self)
            }
            Event::HangUp(fault) => self.end(facts, Outcome::fault(fault, true), &BOTH, context),
            Event::Timer(timer @ (CallTimer::PeerSilent | CallTimer::NoAnswer)) => {
                self.target_late(facts, timer, context)
            }
            Event::Timer(CallTimer::Parting) => {
                self.partings.expire(context);
                Phase::Established(self)
            }
            Event::Timer(
                CallTimer::NoProgress | CallTimer::Provisional | CallTimer::Silence | CallTimer::Refusal,
            )
            | Event::Played { .. } => Phase::Established(self),
        }
    }

    /// A request other than a change of the session got no final response.
    fn lost(
        mut self: Box<Self>,
        facts: &mut Facts,
        key: RequestKey,
        fault: Fault,
        context: &mut Context<'_>,
    ) -> Phase {
        match key {
            RequestKey::Invite { attempt } if self.is_calling(attempt) => {
                return self.target_lost(facts, fault, context);
            }
            RequestKey::Invite { attempt } => {
                self.attempts.iter_mut().filter(|own| own.number == attempt).for_each(|own| own.open = false);
            }
            RequestKey::Notify { number } => self.notified(facts, number, false, context),
            RequestKey::Refer { number } => self.referral_answered(facts, number, Err(fault), context),
            RequestKey::Part { number } => {
                self.partings.finished(number, context);
                self.save(facts, context);
            }
            RequestKey::Reinvite { .. }
            | RequestKey::Update { .. }
            | RequestKey::Bye { .. }
            | RequestKey::Keys { .. }
            | RequestKey::Prack
            | RequestKey::Release => {}
        }
        Phase::Established(self)
    }

    /// Whether one of our dialogs with `side` has this Call-ID and this tag of ours.
    pub(super) fn knows(&self, side: Side, call_id: &str, tag: &str) -> bool {
        let leg = self.legs.of(side);
        let is_its = leg.dialog.call_id() == call_id && leg.local_tag() == tag;
        is_its
            || self.partings.has(call_id, tag)
            || self.attempts.iter().any(|attempt| attempt.open && attempt.origin.local_tag() == tag)
    }

    fn request(
        mut self: Box<Self>,
        facts: &mut Facts,
        side: Side,
        (server, request): (ServerId, Box<Request>),
        hop: Hop,
        context: &mut Context<'_>,
    ) -> Phase {
        if self.partings.request((server, &request), context) {
            self.save(facts, context);
            return Phase::Established(self);
        }
        let leg = self.legs.of_mut(side);
        if leg.dialog.call_id() != request.head.call_id {
            // Of the target of a transfer, before it has answered.
            let mut response = crate::call::refusal(&request, Fault::RequestPending);
            response.headers.push(HeaderName::Server, &*context.settings.product);
            context.push(Action::Respond { server, response: Box::new(response) });
            return Phase::Established(self);
        }
        if let Err(refused) = leg.dialog.receive(&request) {
            leg.turn_away(context, (server, &request), refused.fault());
            return Phase::Established(self);
        }
        if hop.connection.is_some() {
            // The peer opened a new connection; our requests take it from now on.
            leg.hop = hop;
        }
        leg.abilities.learn(&request.headers);
        match request.method {
            Method::Invite | Method::Update => self.change(facts, side, (server, request), context),
            // The response that it acknowledges was overtaken by the 2xx (RFC 3262 section 3).
            Method::Prack => {
                leg.respond(context, (server, &request), StatusCode::OK, None);
                Phase::Established(self)
            }
            Method::Bye => {
                leg.respond(context, (server, &request), StatusCode::OK, None);
                if self.transferor_left(side, context) {
                    return Phase::Established(self);
                }
                let reasons = Reasons::of(&request.headers);
                let other = [side.other()];
                let reason = reasons.line(&self.legs.of(side.other()).trunk.sip.causes);
                self.end_with(facts, Outcome::hung_up(side, reasons.q850()), (&other, reason), context)
            }
            Method::Options => {
                leg.respond(context, (server, &request), StatusCode::OK, None);
                Phase::Established(self)
            }
            Method::Refer => self.refer(facts, side, (server, &request), context),
            Method::Info => {
                self.pressed(side, (server, &request), context);
                Phase::Established(self)
            }
            Method::Notify if keys::is_of_keys(&request) => {
                self.pressed(side, (server, &request), context);
                Phase::Established(self)
            }
            Method::Notify => {
                self.notification(facts, side, (server, &request), context);
                Phase::Established(self)
            }
            _ => {
                leg.refuse(context, (server, &request), Fault::MethodNotAllowed);
                Phase::Established(self)
            }
        }
    }

    fn response(
        mut self: Box<Self>,
        facts: &mut Facts,
        key: RequestKey,
        response: &Response,
        context: &mut Context<'_>,
    ) -> Phase {
        match key {
            RequestKey::Invite { attempt } if self.is_calling(attempt) => {
                self.target_says(facts, response, context)
            }
            RequestKey::Invite { attempt } => {
                self.late_answer(attempt, response, context);
                Phase::Established(self)
            }
            RequestKey::Notify { number } => {
                if response.status.is_final() {
                    self.notified(facts, number, response.status.is_success(), context);
                }
                Phase::Established(self)
            }
            RequestKey::Part { number } => {
                if response.status.is_final() {
                    self.partings.finished(number, context);
                    self.save(facts, context);
                }
                Phase::Established(self)
            }
            RequestKey::Refer { number } => {
                self.referral_answered(facts, number, Ok(response), context);
                Phase::Established(self)
            }
            RequestKey::Reinvite { to } | RequestKey::Update { to } => {
                self.change_answered(facts, to, response, context)
            }
            RequestKey::Prack | RequestKey::Bye { .. } | RequestKey::Keys { .. } | RequestKey::Release => {
                Phase::Established(self)
            }
        }
    }

    pub(super) fn save(&self, facts: &Facts, context: &mut Context<'_>) {
        let unanswered = match &self.stage {
            Stage::Agreed(Accepted { from, number, awaits, .. }) if *awaits != Awaits::Ack => {
                Some(Unanswered { from: *from, number: *number, awaits: *awaits })
            }
            _ => None,
        };
        let passed = |number| self.passed().filter(|(own, _)| *own == number).map(|(_, passed)| passed);
        let referred = self.subscriptions.iter().filter_map(|subscription| {
            Some(Referred { passed: passed(subscription.number), ..subscription.referred()? })
        });
        let referred = referred.collect();
        let open = Open { unanswered, referred, partings: &self.partings };
        context.push(Action::Save(Box::new(Checkpoint::of(facts, &self.legs, open))));
    }
}

const BOTH: [Side; 2] = [Side::Caller, Side::Callee];
