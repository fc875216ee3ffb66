//! The end of an answered call: who still waits for something gets it, the record is written, the sides are hung up on.

use super::{Accepted, Awaits, BOTH, Established, Stage};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::call::facts::{Ending as Outcome, Facts};
use crate::call::phase::ending::{Ending, Owed};
use crate::call::phase::{Phase, conclude};
use crate::call::{Action, Context, RequestKey};
use crate::sip::dialog::lifetime;
use crate::sip::message::{Method, StatusCode};

impl Established {
    pub(super) fn flows_refused(
        mut self: Box<Self>,
        facts: &mut Facts,
        fault: Fault,
        context: &mut Context<'_>,
    ) -> Phase {
        // The 200 that stood behind the flows was not sent: its asker is told, and the call ends.
        if let Stage::Agreed(accepted) = std::mem::replace(&mut self.stage, Stage::Steady) {
            let Accepted { from, asked, awaits, kept, .. } = accepted;
            if let Awaits::AnswerFor(sequence) = awaits {
                self.legs.of(from.other()).acknowledge(context, sequence);
            }
            if let Some(kept) = kept {
                self.give_back(from.other(), kept, context);
            }
            let asking = self.legs.of_mut(from);
            asking.dialog.settle();
            if let Some((server, request)) = asked {
                asking.refuse(context, (server, &request), fault);
                if request.head.to.tag().is_none() && facts.departed.is_empty() {
                    facts.answered = None;
                    return self.end(facts, Outcome::fault(fault, false), &[Side::Callee], context);
                }
            }
        }
        self.end(facts, Outcome::fault(fault, true), &BOTH, context)
    }

    /// Hangs up on `sides`, writes the record; who still waits for an answer to a re-INVITE, or for the ACK of a 2xx
    /// (RFC 3261 section 13.2.2.4), gets it.
    pub(super) fn end(
        self: Box<Self>,
        facts: &mut Facts,
        outcome: Outcome,
        sides: &[Side],
        context: &mut Context<'_>,
    ) -> Phase {
        let reason = outcome.fault.map(crate::call::answer::reason);
        self.end_with(facts, outcome, (sides, reason), context)
    }

    pub(super) fn end_with(
        mut self: Box<Self>,
        facts: &mut Facts,
        outcome: Outcome,
        (sides, reason): (&[Side], Option<String>),
        context: &mut Context<'_>,
    ) -> Phase {
        let waits = self.waits_for_target();
        let is_left =
            |side: &&Side| !waits || self.legs.of(**side).dialog.state() != lifetime::State::Terminated;
        let owe = |side: &Side| Owed::new(*side, reason.clone());
        let owed = sides.iter().filter(is_left).map(owe).collect();
        self.abandon_transfer(context);
        if let Some(to) = self.inviting() {
            // Its dialog ends, and with it the peer's reason to answer: nothing else would end the transaction.
            context.push(Action::Cancel { key: RequestKey::Reinvite { to }, reason: None });
        }
        match std::mem::replace(&mut self.stage, Stage::Steady) {
            Stage::Asking(asked, _) | Stage::Waiting(asked) => {
                let asking = self.legs.of_mut(asked.from);
                asking.respond(context, (asked.server, &asked.request), StatusCode::REQUEST_TERMINATED, None);
            }
            Stage::Agreed(Accepted { from, awaits: Awaits::AnswerFor(sequence), .. }) => {
                self.legs.of(from.other()).acknowledge(context, sequence);
            }
            Stage::Agreed(Accepted { from, kept: Some(kept), .. }) => {
                self.give_back(from.other(), kept, context);
            }
            Stage::Agreed(_) | Stage::Offering(..) | Stage::Steady => {}
        }
        let Self { legs, attempts, partings, .. } = *self;
        let (caller, callee) = legs.into_parts();
        conclude(facts, outcome, (&caller, Some(&callee)), context);
        Ending::begin(facts, (Some(caller), Some(callee)), owed, (attempts, partings), context)
    }

    /// The side that has a re-INVITE of ours without a final answer.
    pub(super) fn inviting(&self) -> Option<Side> {
        match &self.stage {
            Stage::Asking(asked, _) if asked.request.method == Method::Invite => Some(asked.from.other()),
            Stage::Offering(side, ..) => Some(*side),
            Stage::Asking(..) | Stage::Waiting(_) | Stage::Agreed(_) | Stage::Steady => None,
        }
    }
}
