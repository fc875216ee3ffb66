//! From what the transactions say to the call it concerns, or to an answer when it concerns none.

use super::admission;
use super::core::{Core, Entry};
use super::fence;
use super::ladder;
use super::probes;
use super::registrations;
use super::rules;
use super::turn::Turn;
use super::wreck;
use crate::base::fault::Fault;
use crate::base::id::{CallId, Side};
use crate::call::{Call, Context, Event, Invitation, Replacement, Replaces, TrunkRef};
use crate::observe::event::Direction;
use crate::observe::{self, ProbeOutcome};
use crate::sip::dialog::DialogId;
use crate::sip::message::{HeaderName, Method, Request, Response, StatusCode};
use crate::sip::transaction::{ClientId, Output, ServerId};
use crate::sip::transport::Hop;
use std::sync::Arc;

pub(super) fn output(core: &mut Core, turn: &mut Turn<'_>, output: Output) {
    match output {
        Output::Send { hop, bytes, again } => {
            ladder::sent(core, turn.now, &bytes, again);
            core.tap(turn.now, Direction::Sent, &hop, &bytes);
            turn.out.sends.push((hop, bytes));
        }
        Output::Request { id, mut request, hop } => {
            rules::request_received(core, id, &mut request, &hop);
            match request.head.to.tag() {
                Some(_) => inside_dialog(core, turn, id, request, hop),
                None => outside_dialog(core, turn, id, request, hop),
            }
        }
        Output::Ack { answered, mut request } => {
            rules::ack_received(core, answered, &mut request);
            if let Some((call, side)) = leg_of(core, &request) {
                core.advance(turn, call, Event::Acknowledged { side, request });
            }
        }
        Output::Cancelled { id, cancel } => {
            if let Some((call, side)) = core.servers.get(&id).copied() {
                core.advance(turn, call, Event::Cancelled { side, cancel });
            }
        }
        Output::Response { id, mut response, hop } => {
            rules::response_received(core, &mut response, &hop);
            response_of(core, turn, id, response, hop);
        }
        Output::StrayAnswer { mut response, hop } => {
            rules::response_received(core, &mut response, &hop);
            stray_answer(core, turn, response, hop);
        }
        Output::TimedOut { id } => {
            if !probes::outcome(core, turn, id, ProbeOutcome::Silence)
                && !registrations::lost(core, turn, id, ProbeOutcome::Silence)
            {
                failed(core, turn, id, |key| Event::TimedOut { key });
            }
        }
        Output::Unreachable { id } => {
            if !probes::outcome(core, turn, id, ProbeOutcome::Unreachable)
                && !registrations::lost(core, turn, id, ProbeOutcome::Unreachable)
            {
                failed(core, turn, id, |key| Event::Unreachable { key });
            }
        }
        Output::NoAck { id } => {
            if let Some((call, side)) = core.servers.get(&id).copied() {
                core.advance(turn, call, Event::NeverAcknowledged { side });
            }
        }
        // The transaction layer tries the connection, then the address of Via; there is no third way.
        Output::Undeliverable { .. } => {}
        Output::ClientEnded { id } => {
            core.releases.remove(&id);
            core.probes.remove(&id);
            core.registrations.remove(&id);
            if let Some((call, key)) = core.clients.remove(&id)
                && let Some(entry) = core.calls.get_mut(&call)
            {
                entry.clients.retain(|own| *own != (key, id));
            }
        }
        Output::ServerEnded { id } => {
            core.servers.remove(&id);
            core.unanswered.remove(&id);
            core.farewells.remove(&id);
        }
    }
}

fn response_of(core: &mut Core, turn: &mut Turn<'_>, id: ClientId, response: Box<Response>, hop: Hop) {
    admission::heed_load(core, turn.now, &response, hop);
    match core.clients.get(&id).copied() {
        Some((call, key)) => core.advance(turn, call, Event::Response { key, response }),
        None if core.probes.contains_key(&id) => {
            if response.status.is_final() {
                probes::outcome(core, turn, id, ProbeOutcome::Answered(response.status.code()));
            }
        }
        None if registrations::answered(core, turn, id, &response) => {}
        None => stray_answer(core, turn, response, hop),
    }
}

fn failed(core: &mut Core, turn: &mut Turn<'_>, id: ClientId, event: fn(crate::call::RequestKey) -> Event) {
    if let Some((call, key)) = core.clients.get(&id).copied() {
        core.advance(turn, call, event(key));
    }
}

/// The leg whose dialog this request claims to be in: Call-ID and our tag have to be ours (RFC 3261 section 12.2.2).
fn leg_of(core: &Core, request: &Request) -> Option<(CallId, Side)> {
    let tag = request.head.to.tag()?;
    let call_id = request.head.call_id.as_str();
    let legs = core.legs.get(call_id)?;
    legs.iter()
        .copied()
        .find(|(id, side)| core.calls.get(id).is_some_and(|entry| entry.call.knows(*side, call_id, tag)))
}

/// A 2xx of an INVITE whose call has forgotten it, or was taken over from another daemon, or is no more: acknowledged
/// in any case, and where no call stands behind it its dialog is ended (RFC 3261 section 13.2.2.4).
fn stray_answer(core: &mut Core, turn: &mut Turn<'_>, response: Box<Response>, hop: Hop) {
    if !response.status.is_success() || response.head.cseq.method != Method::Invite {
        return;
    }
    let dialog = DialogId::of_response(&response);
    let legs = core.legs.get(dialog.call_id.as_str());
    let owner = legs.into_iter().flatten().copied().find(|(id, side)| {
        let leg = core.calls.get(id).and_then(|entry| entry.call.dialog(*side));
        leg.as_ref() == Some(&dialog)
    });
    if let Some((call, side)) = owner {
        return core.advance(turn, call, Event::AnsweredAgain { side, response });
    }
    // Whoever is in no trunk gets silence here as well.
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport);
    let Some(trunk) = trunk.and_then(|trunk| TrunkRef::new(Arc::clone(&core.policy), trunk)) else {
        return core.publish(turn.now, &observe::Event::Silenced { source: hop.remote });
    };
    let Some((mut ack, mut bye)) = crate::call::release(&response, &trunk) else { return };
    rules::request_sent(core, &mut ack, &hop);
    rules::request_sent(core, &mut bye, &hop);
    core.transactions.send_ack(ack, hop, &mut core.outputs);
    if !core.releases.values().chain(core.farewells.values()).any(|own| *own == dialog) {
        let client = core.transactions.request(turn.now, bye, hop, &mut core.outputs);
        core.releases.insert(client, dialog);
    }
}

fn inside_dialog(core: &mut Core, turn: &mut Turn<'_>, server: ServerId, request: Box<Request>, hop: Hop) {
    match leg_of(core, &request) {
        Some((call, side)) => {
            core.servers.insert(server, (call, side));
            let ended = (request.method == Method::Bye).then(|| DialogId::of_request(&request)).flatten();
            core.farewells.extend(ended.map(|dialog| (server, dialog)));
            core.advance(turn, call, Event::Request { side, server, request, hop });
        }
        None => refuse(core, turn, server, &request, hop, Fault::NoSuchDialog),
    }
}

fn outside_dialog(core: &mut Core, turn: &mut Turn<'_>, server: ServerId, request: Box<Request>, hop: Hop) {
    match request.method {
        Method::Invite => {
            let outcome = match Replaces::of(&request.headers) {
                Ok(None) => invite(core, turn, server, request, hop),
                Ok(Some(replaces)) => replace(core, turn, server, request, hop, &replaces),
                Err(fault) => Err((fault, request)),
            };
            if let Err((fault, request)) = outcome {
                refuse(core, turn, server, &request, hop, fault);
            }
        }
        Method::Options => options(core, turn, server, &request, hop),
        Method::Bye | Method::Prack | Method::Update | Method::Info | Method::Notify => {
            refuse(core, turn, server, &request, hop, Fault::NoSuchDialog);
        }
        Method::Refer => refuse(core, turn, server, &request, hop, Fault::ReferOutsideDialog),
        Method::Subscribe => refuse(core, turn, server, &request, hop, Fault::BadEvent),
        _ => refuse(core, turn, server, &request, hop, Fault::MethodNotAllowed),
    }
}

/// A new call, or the reason why there is none.
fn invite(
    core: &mut Core,
    turn: &mut Turn<'_>,
    server: ServerId,
    request: Box<Request>,
    hop: Hop,
) -> Result<(), (Fault, Box<Request>)> {
    let (trunk, permit, emergency) = match admission::admit(core, turn, &request, &hop) {
        Ok(admitted) => admitted,
        Err(fault) => return Err((fault, request)),
    };
    let id = core.mint();
    let mut actions = Vec::new();
    let mut context = Context {
        now: turn.now,
        policy: &core.policy,
        ports: &mut core.ports,
        tokens: &mut core.tokens,
        settings: &core.settings.call,
        actions: &mut actions,
    };
    let call_id: Box<str> = request.head.call_id.as_str().into();
    let invitation = Invitation { id, server, request, hop, trunk, permit, emergency };
    context.ports.owner = Some(id);
    let fuse = &mut core.fuse;
    let begun = fence::catch(|| Call::begin(invitation, &mut context).inspect(|_| fuse.burn()));
    let call = match begun {
        Ok(begun) => begun?,
        Err(panic) => {
            wreck::unborn(core, turn, id, server, panic);
            core.publish(turn.now, &observe::Event::Refused { fault: Fault::Internal, source: hop.remote });
            return Ok(());
        }
    };
    core.servers.insert(server, (id, Side::Caller));
    core.calls.insert(id, Box::new(Entry::new(call)));
    core.bind(turn, id, Side::Caller, call_id);
    wreck::step(core, turn, id, |core, turn| core.execute(turn, id, actions));
    Ok(())
}

/// An INVITE that is to take the place of a dialog of its own trunk (RFC 3891 section 3), or the reason why it cannot.
fn replace(
    core: &mut Core,
    turn: &mut Turn<'_>,
    server: ServerId,
    request: Box<Request>,
    hop: Hop,
    replaces: &Replaces,
) -> Result<(), (Fault, Box<Request>)> {
    let trunk = core.policy.identify(hop.local, hop.remote, hop.transport);
    let Some(trunk) = trunk.and_then(|trunk| TrunkRef::new(Arc::clone(&core.policy), trunk)) else {
        return Err((Fault::NoRoute, request));
    };
    if !crate::call::unsupported(&request.headers).is_empty() {
        return Err((Fault::BadExtension, request));
    }
    let dialog = replaces.dialog();
    let legs = core.legs.get(dialog.call_id.as_str());
    let replaced = legs.into_iter().flatten().copied().find(|(id, side)| {
        let call = core.calls.get(id).map(|entry| &entry.call);
        call.is_some_and(|call| {
            call.has_dialog(*side, &dialog) && call.trunk(*side) == Some(trunk.name.as_str())
        })
    });
    let Some((call, side)) = replaced else { return Err((Fault::NoSuchDialog, request)) };
    // It comes in the place of another.
    let permit = match trunk.enter_above() {
        Ok(permit) => permit,
        Err(fault) => return Err((fault, request)),
    };
    core.servers.insert(server, (call, side));
    let early_only = replaces.early_only;
    let joiner = Box::new(Replacement { server, request, hop, trunk, permit, early_only });
    core.advance(turn, call, Event::Replace { side, joiner });
    Ok(())
}

/// RFC 3261 section 11.2: what an INVITE would be answered with, without the call.
fn options(core: &mut Core, turn: &mut Turn<'_>, server: ServerId, request: &Request, hop: Hop) {
    let fault = admission::draining(core, &hop);
    let status = fault.and_then(|fault| StatusCode::new(fault.status())).unwrap_or(StatusCode::OK);
    let mut response = Response::to_request(request, status);
    response.head.to.set_tag(&core.tokens.token());
    response.headers.push(HeaderName::Allow, crate::call::ALLOW);
    response.headers.push(HeaderName::Supported, crate::call::REPLACES);
    response.headers.push(HeaderName::Accept, "application/sdp");
    core.respond(turn, server, response);
}

fn refuse(core: &mut Core, turn: &mut Turn<'_>, server: ServerId, request: &Request, hop: Hop, fault: Fault) {
    let mut response = crate::call::refusal(request, fault);
    if response.head.to.tag().is_none() {
        response.head.to.set_tag(&core.tokens.token());
    }
    core.respond(turn, server, response);
    core.publish(turn.now, &observe::Event::Refused { fault, source: hop.remote });
}
