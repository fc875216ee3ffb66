//! Where messages pass the rules of their trunk: requests and responses that the transactions pass up, before anything
//! reads them, and those that go down to the transactions, after everything wrote them.
//!
//! Between transactions and calls, because there a copy is known for one: what a message becomes is decided once, and no
//! rule can come between a message and its transaction.

use super::core::Core;
use crate::call::TrunkRef;
use crate::policy::manipulation::{Direction, Outcome, Subject, Variables};
use crate::sip::message::{Draft, NameAddr, Request, Response};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use std::sync::Arc;

/// A request that has not been answered: the trunk whose rules its answers pass, and what those have to give back.
#[derive(Debug)]
pub(super) struct Unanswered {
    trunk: TrunkRef,
    from: NameAddr,
    to: NameAddr,
}

pub(super) fn request_received(core: &mut Core, server: ServerId, request: &mut Request, hop: &Hop) {
    if !core.policy.has_rules() {
        return;
    }
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport);
    let Some(trunk) = trunk.and_then(|trunk| TrunkRef::new(Arc::clone(&core.policy), trunk)) else { return };
    let (from, to) = (request.head.from.clone(), request.head.to.clone());
    run(&trunk, Direction::Receive, request.into());
    core.unanswered.insert(server, Unanswered { trunk, from, to });
}

/// The ACK of a 2xx passes the same rules as the INVITE that it belongs to.
pub(super) fn ack_received(core: &Core, answered: Option<ServerId>, request: &mut Request) {
    if let Some(Unanswered { trunk, .. }) = answered.and_then(|server| core.unanswered.get(&server)) {
        run(trunk, Direction::Receive, request.into());
    }
}

pub(super) fn response_received(core: &Core, response: &mut Response, hop: &Hop) {
    if let Some(trunk) = trunk_of(core, hop) {
        run(&trunk, Direction::Receive, response.into());
    }
}

pub(super) fn request_sent(core: &Core, draft: &mut Draft, hop: &Hop) {
    if let Some(trunk) = trunk_of(core, hop) {
        run(&trunk, Direction::Send, draft.into());
    }
}

/// From and To go back as they came, whatever rules made of them (RFC 3261 section 8.2.6.2).
pub(super) fn response_sent(core: &Core, server: ServerId, response: &mut Response) {
    let Some(Unanswered { trunk, from, to }) = core.unanswered.get(&server) else { return };
    run(trunk, Direction::Send, response.into());
    let tag = response.head.to.tag().map(str::to_owned);
    response.head.from.clone_from(from);
    response.head.to.clone_from(to);
    if let Some(tag) = tag {
        response.head.to.set_tag(&tag);
    }
}

/// The trunk that is called by `hop`, if any trunk has rules.
fn trunk_of(core: &Core, hop: &Hop) -> Option<TrunkRef> {
    if !core.policy.has_rules() {
        return None;
    }
    let (trunk, _) = core.policy.towards(hop.local, hop.remote, hop.transport)?;
    TrunkRef::new(Arc::clone(&core.policy), trunk)
}

fn run(trunk: &TrunkRef, direction: Direction, mut subject: Subject<'_>) {
    if trunk.rules.rules(direction).is_empty() {
        return;
    }
    let (calling, called) = subject.numbers();
    let variables = Variables {
        trunk: &trunk.name,
        calling: calling.as_ref().map(|number| number.reveal()),
        called: called.as_ref().map(|number| number.reveal()),
    };
    let outcomes = trunk.rules.apply(direction, &mut subject, &variables);
    for (rule, outcome) in trunk.rules.rules(direction).iter().zip(outcomes) {
        match outcome {
            Outcome::Exhausted => {
                tracing::warn!(trunk = %trunk.name, rule = %rule.name, "a rule did not run: those before it did too much work");
            }
            Outcome::Applied { left_out, .. } => {
                for (action, why) in left_out {
                    tracing::debug!(trunk = %trunk.name, rule = %rule.name, action = action + 1, %why, "an action was left out");
                }
            }
            Outcome::Other | Outcome::Unmet(_) => {}
        }
    }
}
