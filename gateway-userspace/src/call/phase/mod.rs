//! The phases of a call. Each is a struct of what is valid in it only; an event consumes it and makes the next.

pub(super) mod attempt;
pub(super) mod ending;
pub(super) mod established;
pub(super) mod setup;

use super::facts::{Ending as Outcome, Facts};
use super::leg::Leg;
use super::{Action, Context, Event};
use crate::base::id::Side;
use crate::media::MediaPlan;
use crate::observe;
use crate::observe::event::CallEnd;
use crate::sip::message::StatusCode;
use ending::Ending;
use established::Established;
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
            Self::Ending(ending) => ending.handle(event, context),
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

    /// Our tag in the dialogs with `side`.
    pub(super) fn local_tag(&self, side: Side) -> Option<&str> {
        match self {
            Self::Setup(setup) => setup.local_tag(side),
            Self::Established(_) | Self::Ending(_) | Self::Over => self.leg(side).map(Leg::local_tag),
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

/// Writes the record, once; the data plane's flows end with it.
fn conclude(facts: &mut Facts, outcome: Outcome, legs: (&Leg, Option<&Leg>), context: &mut Context<'_>) {
    if std::mem::replace(&mut facts.concluded, true) {
        return;
    }
    facts.permits.clear();
    let codec = |leg: &Leg| leg.media.media()?.formats.first().map(|format| format.codec.to_string().into());
    let (caller, callee) = legs;
    if let Some(callee) = callee {
        facts.callee_sip_call_id = Some(callee.dialog.call_id().into());
    }
    let end = CallEnd {
        caller_sip_call_id: caller.dialog.call_id().into(),
        caller_codec: codec(caller),
        callee_codec: callee.and_then(codec),
        ..facts.end(outcome)
    };
    context.push(Action::Conclude(Box::new(end)));
    for leg in [Some(caller), callee].into_iter().flatten() {
        leg.close(context);
    }
}
