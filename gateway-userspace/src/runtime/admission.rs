//! Who is let in: new calls are refused as early as they can be told to be too many, before anything is built for
//! them.

use super::core::Core;
use super::turn::Turn;
use crate::base::fault::Fault;
use crate::base::id::{Side, TrunkId};
use crate::base::time::Time;
use crate::call::TrunkRef;
use crate::observe::{self, TrunkEvent};
use crate::policy::{Drainable as _, Feedback, Limits, Meter, Permit, announced};
use crate::sip::message::{HeaderName, Method, Request, Response};
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

/// Writes into the Via of a request, which every response to it copies, how many calls its sender is to keep back: as
/// many a second as the trunk takes, where the sender can do that, else the loss that its calls now have.
pub(super) fn tell_load(core: &Core, now: Time, request: &mut Request, from: TrunkId) {
    let (Some(trunk), Some(standing)) = (core.policy.trunk(from), core.policy.standing(from)) else { return };
    let Some(via) = request.head.via.first_mut().filter(|_| trunk.overload_control) else { return };
    let Some(by_rate) = announced(via) else { return };
    let by_loss = [standing.meter.feedback(now), core.settings.quota.meter.feedback(now)];
    let feedback = match trunk.limits.rate {
        Some(rate) if by_rate => Feedback::rate(rate.per_second, trunk.peers.len()),
        _ => by_loss.into_iter().max_by_key(Feedback::loss).unwrap_or(by_loss[0]),
    };
    feedback.write(via, now);
}

/// What a response tells of the load of the peer that sent it.
pub(super) fn heed_load(core: &Core, now: Time, response: &Response, hop: Hop) {
    let Some(feedback) = response.head.via.first().and_then(Feedback::of_response) else { return };
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport);
    if let Some(trunk) = trunk.filter(|id| core.policy.trunk(*id).is_some_and(|trunk| trunk.overload_control))
    {
        core.policy.heed(trunk, hop.remote, feedback, now);
    }
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
    if !accepts_sdp(request) {
        return Err(Fault::NotAcceptable);
    }
    if is_loop(core, request, &trunk) {
        return Err(Fault::LoopDetected);
    }
    let emergency = core.policy.emergency().is_called(&request.uri);
    let permit = if emergency { trunk.enter_above() } else { trunk.enter() }?;
    if let Some(limit) = permit.near_limit {
        let event = TrunkEvent::NearLimit { trunk: trunk.name.as_str().into(), limit };
        core.publish(turn.now, &observe::Event::Trunk(event));
    }
    Ok((trunk, permit, emergency))
}

/// RFC 3261 section 20.1: an INVITE without Accept accepts SDP, one with Accept what it lists.
fn accepts_sdp(request: &Request) -> bool {
    if request.headers.value(&HeaderName::Accept).is_none() {
        return true;
    }
    request.headers.items(&HeaderName::Accept).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["application/sdp", "application/*", "*/*"].iter().any(|fits| range.eq_ignore_ascii_case(fits))
    })
}

/// Whether an INVITE of ours came back to us unchanged (RFC 3261 section 16.3): by its Call-ID, which we made, and the
/// number that it calls. With another number it was forwarded, and is welcome.
fn is_loop(core: &Core, request: &Request, trunk: &TrunkRef) -> bool {
    let legs = core.legs.get(request.head.call_id.as_str());
    let sent = legs.into_iter().flatten().filter(|(_, side)| *side == Side::Callee);
    let user = request.uri.user().unwrap_or_default();
    let called = trunk.numbers.read(user.split(';').next().unwrap_or_default());
    let mut calls = sent.filter_map(|(id, _)| core.calls.get(id));
    calls.any(|entry| entry.call.called().reveal() == called)
}

/// Whether calls of the trunk that sends by `hop` are refused by command.
pub(super) fn draining(core: &Core, hop: &Hop) -> Option<Fault> {
    if core.draining {
        return Some(Fault::Draining);
    }
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport)?;
    core.policy.standing(trunk)?.is_drained().then_some(Fault::TrunkDraining)
}
