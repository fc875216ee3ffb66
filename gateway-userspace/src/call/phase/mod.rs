//! The phases of a call. Each is a struct of what is valid in it only; an event consumes it and makes the next.

pub(super) mod attempt;
pub(super) mod ending;
pub(super) mod established;
pub(super) mod parting;
pub(super) mod setup;

use super::event::{Claim, Claimant};
use super::facts::{Ending as Outcome, Facts};
use super::leg::{Leg, Legs, TrunkRef};
use super::{Action, Context, Event};
use crate::base::id::{CallId, Side};
use crate::media::MediaPlan;
use crate::observe;
use crate::observe::event::{self, CallEnd, SipSummary};
use crate::sip::dialog::DialogId;
use crate::sip::message::{Request, StatusCode};
use attempt::Attempt;
use ending::{Ending, Owed};
use established::Established;
use parting::Partings;
use setup::Setup;

#[derive(Debug)]
pub(super) enum Phase {
    /// The callee is being reached; the caller waits.
    Setup(Box<Setup>),
    /// The callee answered.
    Established(Box<Established>),
    /// The record is written; last answers are awaited.
    Ending(Box<Ending>),
    /// Nothing is left to do; the core forgets the call in this turn.
    Over,
}

impl Phase {
    pub(super) fn handle(self, facts: &mut Facts, event: Event, context: &mut Context<'_>) -> Self {
        match self {
            Self::Setup(setup) => setup.handle(facts, event, context),
            Self::Established(established) => established.handle(facts, event, context),
            Self::Ending(ending) => ending.handle(facts, event, context),
            Self::Over => Self::Over,
        }
    }

    /// What both legs have agreed to carry.
    pub(super) fn plan(&self) -> MediaPlan {
        match self {
            Self::Setup(setup) => setup.plan(),
            Self::Established(established) => established.legs.plan(),
            Self::Ending(_) | Self::Over => MediaPlan::default(),
        }
    }

    /// Whether one of our dialogs with `side` has this Call-ID and this tag of ours.
    pub(super) fn knows(&self, side: Side, call_id: &str, tag: &str) -> bool {
        match self {
            Self::Setup(setup) => setup.local_tag(side) == Some(tag),
            Self::Established(established) => established.knows(side, call_id, tag),
            Self::Ending(ending) => ending.knows(side, call_id, tag),
            Self::Over => false,
        }
    }

    /// Whether this is one of our dialogs with `side`, an early one included.
    pub(super) fn has_dialog(&self, side: Side, dialog: &DialogId) -> bool {
        match self {
            Self::Setup(setup) => setup.has_dialog(side, dialog),
            Self::Established(_) | Self::Ending(_) | Self::Over => {
                self.leg(side).is_some_and(|leg| leg.dialog.id() == *dialog)
            }
        }
    }

    pub(super) fn trunk(&self, side: Side) -> Option<&TrunkRef> {
        match self {
            Self::Setup(setup) => Some(setup.trunk(side)),
            Self::Established(_) | Self::Ending(_) | Self::Over => self.leg(side).map(|leg| &leg.trunk),
        }
    }

    /// The leg of `side`, where it has a dialog.
    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        match self {
            Self::Setup(setup) => setup.leg(side),
            Self::Established(established) => Some(established.legs.of(side)),
            Self::Ending(ending) => ending.leg(side),
            Self::Over => None,
        }
    }
}

const FORBIDDEN: StatusCode = StatusCode::new(403).expect("403 is a status code");

/// One side's refusal in the other's terms. What only the two ends of one leg can act on does not cross: a redirection
/// names addresses behind us, a challenge is for our credentials.
fn crossing(status: StatusCode) -> StatusCode {
    match status.code() {
        300..=399 => StatusCode::TEMPORARILY_UNAVAILABLE,
        401 | 407 => FORBIDDEN,
        _ => status,
    }
}

/// The caller hears something for the first time: the set-up delay ends here.
fn alerted(facts: &mut Facts, context: &mut Context<'_>) {
    if facts.alerted.is_none() {
        facts.alerted = Some(context.now);
        let since_invite = context.now.since(facts.started);
        let call = facts.start.call;
        context.push(Action::Publish(observe::Event::Alerted { call, since_invite }));
    }
}

/// Writes the record, once, and gives back the ports; the data plane's flows end with it.
fn conclude(facts: &mut Facts, outcome: Outcome, legs: (&Leg, Option<&Leg>), context: &mut Context<'_>) {
    if record(facts, outcome, legs, context) {
        for leg in [Some(legs.0), legs.1].into_iter().flatten() {
            leg.close(context);
        }
    }
}

/// Ends a call whose peer of `side` has transferred somebody to the other one: that one goes on in the call of `claimant`,
/// and `side` is hung up on.
fn surrender(
    facts: &mut Facts,
    legs: Legs,
    side: Side,
    (attempts, partings): (Vec<Attempt>, Partings),
    claimant: Claimant,
    context: &mut Context<'_>,
) -> Phase {
    let permit = facts.permits[side.other().index()].take();
    record(facts, Outcome::hung_up(side, None), (&legs.caller, Some(&legs.callee)), context);
    let (caller, callee) = legs.into_parts();
    let (left, given) = match side {
        Side::Caller => (caller, callee),
        Side::Callee => (callee, caller),
    };
    left.close(context);
    context.ports.give_away(given.media.local());
    context.push(Action::Unbind { call_id: given.dialog.call_id().to_owned() });
    let permit = permit.map_or_else(|| given.trunk.enter_above(), Ok);
    let claim = permit.ok().map(|permit| Box::new(Claim { leg: given, permit }));
    context.push(Action::Surrender { claimant, claim });
    let legs = match side {
        Side::Caller => (Some(left), None),
        Side::Callee => (None, Some(left)),
    };
    Ending::begin(facts, legs, vec![Owed::new(side, None)], (attempts, partings), context)
}

/// Writes the record, once; whether it did.
fn record(
    facts: &mut Facts,
    outcome: Outcome,
    legs: (&Leg, Option<&Leg>),
    context: &mut Context<'_>,
) -> bool {
    if std::mem::replace(&mut facts.concluded, true) {
        return false;
    }
    (facts.permits, facts.of_tenants) = ([None, None], [None, None]);
    let codec = |leg: &Leg| leg.media.media()?.formats.first().map(|format| format.codec.to_string().into());
    let (caller, callee) = legs;
    if let Some(callee) = callee {
        facts.callee_sip_call_id = Some(callee.dialog.call_id().into());
    }
    let end = CallEnd {
        caller_sip_call_id: caller.dialog.call_id().into(),
        caller_codec: codec(caller),
        callee_codec: callee.and_then(codec),
        legs: facts.legs(caller, callee),
        ..facts.end(outcome)
    };
    context.push(Action::Conclude(Box::new(end)));
    true
}

/// Observers hear of the INVITE that a dialog begins with: its Call-ID is known from now on.
fn tell_of_invite(call: CallId, side: Side, request: &Request, context: &mut Context<'_>) {
    let message = SipSummary {
        side,
        direction: event::Direction::Received,
        line: event::StartLine::Request,
        cseq: request.head.cseq.number,
        method: event::Method::new(request.head.cseq.method.as_str()),
        has_sdp: !request.body.is_empty(),
        repeated: false,
    };
    context.push(Action::Publish(observe::Event::Sip { call: Some(call), message }));
}
