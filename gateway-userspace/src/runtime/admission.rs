//! Who is let in: new calls are refused as early as they can be told to be too many, before anything is built for
//! them.

use super::core::{Core, Turn};
use crate::base::fault::Fault;
use crate::base::id::TrunkId;
use crate::call::TrunkRef;
use crate::observe::{self, TrunkEvent};
use crate::policy::{Drainable as _, Limits, Meter, Permit};
use crate::sip::message::{Method, Request};
use crate::sip::transport::Hop;
use std::sync::Arc;

/// What the node as a whole lets in: one meter for all cores.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    pub limits: Limits,
    pub meter: Arc<Meter>,
}

/// Answers a new call with 503 where there are too many or they come too fast; whether it did.
///
/// No transaction is made: under a flood, those would be what costs. Copies of a refused INVITE are judged anew, so
/// that one may come in when there is room again.
pub(super) fn refuses(core: &mut Core, turn: &Turn<'_>, request: &Request, hop: Hop, from: TrunkId) -> bool {
    if request.method != Method::Invite || request.head.to.tag().is_some() {
        return false;
    }
    if core.transactions.knows(request) || core.policy.emergency().is_called(&request.uri) {
        return false;
    }
    let Err(fault) = room(core, turn, from) else { return false };
    let response = crate::call::refusal(request, fault);
    core.transactions.refuse(request, response, hop, &mut core.outputs);
    core.publish(turn.now, &observe::Event::Refused { fault, source: hop.remote });
    true
}

fn room(core: &Core, turn: &Turn<'_>, from: TrunkId) -> Result<(), Fault> {
    if core.calls.len() >= core.settings.max_calls {
        return Err(Fault::CallsExhausted);
    }
    if let (Some(trunk), Some(standing)) = (core.policy.trunk(from), core.policy.standing(from)) {
        if standing.meter.is_full(&trunk.limits) {
            return Err(Fault::TrunkCallsExhausted);
        }
        standing.meter.take_turn(&trunk.limits, turn.now)?;
    }
    let Quota { limits, meter } = &core.settings.quota;
    meter.take_turn(limits, turn.now)
}

/// A call that passed [`refuses`]: what else is checked before it costs anything. With the trunk that it comes by, its
/// permit, and whether it is an emergency.
pub(super) fn admit(
    core: &mut Core,
    turn: &Turn<'_>,
    request: &Request,
    hop: &Hop,
) -> Result<(TrunkRef, Permit, bool), Fault> {
    if let Some(fault) = draining(core, hop) {
        return Err(fault);
    }
    if request.head.max_forwards == Some(0) {
        return Err(Fault::TooManyHops);
    }
    if !crate::call::unsupported(&request.headers).is_empty() {
        return Err(Fault::BadExtension);
    }
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport);
    let trunk =
        trunk.and_then(|trunk| TrunkRef::new(Arc::clone(&core.policy), trunk)).ok_or(Fault::NoRoute)?;
    let emergency = core.policy.emergency().is_called(&request.uri);
    let permit = if emergency { trunk.enter_above() } else { trunk.enter() }?;
    if let (true, Some(limit)) = (permit.is_near_limit, trunk.limits.calls) {
        let event = TrunkEvent::NearLimit { trunk: trunk.name.as_str().into(), limit };
        core.publish(turn.now, &observe::Event::Trunk(event));
    }
    Ok((trunk, permit, emergency))
}

/// Whether calls of the trunk that sends by `hop` are refused by command.
pub(super) fn draining(core: &Core, hop: &Hop) -> Option<Fault> {
    if core.draining {
        return Some(Fault::Draining);
    }
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport)?;
    core.policy.standing(trunk)?.is_drained().then_some(Fault::TrunkDraining)
}
