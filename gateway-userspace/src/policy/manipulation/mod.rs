//! Rules that change messages on their way in and out, written in the configuration: message in, message out.
//!
//! A [`Rule`] is for one direction of a trunk: it says of which messages it is, on what conditions, and what is done to
//! the message's parts, which are named by [`Place`]. Rules run in the order in which they stand, each on what those
//! before it left. Everything that can be wrong with a rule is told when it is loaded ([`RuleFault`]); an action that a
//! message does not fit is left out by itself ([`LeftOut`]), and the message goes on.
//!
//! * What holds transactions and dialogs together cannot be named, or only be read: no rule breaks a call's identity.
//! * Each change is checked before it is kept: what was a message within [`crate::sip::message::Limits`] still is one.
//! * Time is bounded: patterns are linear, and a [`Budget`] bounds what all rules together do to one message.

mod action;
mod fault;
mod pattern;
mod place;
mod rule;
mod session;
mod subject;
mod uri;

#[cfg(test)]
mod tests;

pub use action::{Action, Meant};
pub use fault::{LeftOut, RuleFault};
pub use pattern::{Pattern, Scope, Source, Template};
pub use place::{HeaderPart, Place, UriPart};
pub use rule::{Condition, Direction, Kind, Outcome, Rule, StatusRange, Test};
pub use session::CodecChange;
pub use subject::Subject;

use std::sync::Arc;

/// Rules of one direction of a trunk.
pub const MAX_RULES: usize = 64;
/// Conditions, and actions, of one rule.
pub const MAX_PARTS: usize = 16;
/// Octets of a value that a rule makes.
const MAX_TEXT: usize = 4096;
/// What all rules together may do to one message: octets that patterns read and that texts are made of.
const MAX_WORK: usize = 512 * 1024;
/// What an action or a condition costs before it has read anything.
const STEP: usize = 64;

/// The rules of a trunk, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manipulation {
    pub receive: Arc<[Rule]>,
    pub send: Arc<[Rule]>,
}

/// What is known of the call and not to be read from the message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variables<'a> {
    /// The trunk that the message came by or goes to.
    pub trunk: &'a str,
    /// The number that calls, as policy understands it.
    pub calling: Option<&'a str>,
    /// The number that is called, likewise.
    pub called: Option<&'a str>,
}

impl Manipulation {
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Receive => &self.receive,
            Direction::Send => &self.send,
        }
    }

    /// Runs the rules of this direction over a message. The outcomes are those of the rules in their order; fewer if
    /// one of them was the last to run.
    pub fn apply(
        &self,
        direction: Direction,
        subject: &mut Subject<'_>,
        variables: &Variables<'_>,
    ) -> Vec<Outcome> {
        let mut budget = Budget(MAX_WORK);
        let mut outcomes = Vec::new();
        for rule in self.rules(direction) {
            let outcome = rule.apply(subject, variables, &mut budget);
            let ends = rule.last && matches!(outcome, Outcome::Applied { .. });
            outcomes.push(outcome);
            if ends {
                break;
            }
        }
        outcomes
    }
}

/// Work that is left for one message.
#[derive(Debug)]
struct Budget(usize);

impl Budget {
    fn spend(&mut self, octets: usize) -> Result<(), LeftOut> {
        let left = self.0.checked_sub(octets.saturating_add(STEP));
        // Once something was too much, nothing smaller is tried: what a message becomes does not depend on luck.
        self.0 = left.unwrap_or(0);
        left.map(|_| ()).ok_or(LeftOut::Exhausted)
    }
}
