//! Callers of trunks that ask who they are: an INVITE without a right answer costs a hash and nothing else.

use super::core::Core;
use super::turn::Turn;
use crate::base::fault::Fault;
use crate::base::id::TrunkId;
use crate::observe::{self, TrunkEvent};
use crate::sip::auth::{Guard, Verdict};
use crate::sip::message::{Method, Request};
use crate::sip::transport::Hop;

/// Asks a new call who it is, or refuses it, where its trunk wants that; whether it did. Emergency calls pass.
///
/// No transaction is made, as with calls that are too many.
pub(super) fn asks(core: &mut Core, turn: &Turn<'_>, request: &Request, hop: Hop, from: TrunkId) -> bool {
    if request.method != Method::Invite || request.head.to.tag().is_some() {
        return false;
    }
    let Some(trunk) = core.policy.trunk(from) else { return false };
    let Some(challenger) = &trunk.callers else { return false };
    if core.transactions.knows(request) || core.policy.emergency().is_called(&request.uri) {
        return false;
    }
    let (asks, source) = ((trunk.name.as_str(), challenger), hop.remote.ip());
    let guard = core.guard.get_or_insert_with(|| Guard::new(&mut core.tokens));
    let (fault, stale) = match guard.judge(asks, source, request, turn.now) {
        Verdict::Known => return false,
        Verdict::Unknown { stale } => (Fault::NotAuthenticated, stale),
        Verdict::Wrong => (Fault::WrongCredentials, false),
    };
    let mut response = crate::call::refusal(request, fault);
    if fault == Fault::NotAuthenticated {
        guard.challenge(asks, source, stale, &mut response, turn.now);
    } else {
        let failed = TrunkEvent::AuthenticationFailed { trunk: asks.0.into(), source: hop.remote };
        core.observer.publish(turn.now, &observe::Event::Trunk(failed));
    }
    core.transactions.refuse(request, response, hop, &mut core.outputs);
    core.publish(turn.now, &observe::Event::Refused { fault, source: hop.remote });
    true
}
