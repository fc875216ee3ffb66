//! The core's part in registering: sends what the registrant wants sent, and brings it what became of it.

use super::core::Core;
use super::rules;
use super::turn::{Errand, Turn};
use crate::base::id::CoreId;
use crate::observe::{self, ProbeOutcome};
use crate::policy::{Registrant, ServiceRoute, Turnout};
use crate::sip::message::{Draft, Method, Response};
use crate::sip::transaction::ClientId;
use crate::sip::transport::Hop;
use std::sync::Arc;

/// Keeps this core's part of the registrations from now on.
pub(super) fn begin(core: &mut Core, turn: &Turn<'_>) {
    let (share, product) = (core.settings.share, Arc::clone(&core.settings.call.product));
    let policy = Arc::clone(&core.policy);
    core.registrant = Some(Registrant::new(share, product, policy, turn.now, &mut core.tokens));
}

/// Sends the requests whose time has come.
pub(super) fn expire(core: &mut Core, turn: &mut Turn<'_>) {
    let Some(registrant) = &mut core.registrant else { return };
    let mut out = std::mem::take(&mut core.registrations_due);
    if registrant.next_deadline().is_some_and(|at| at <= turn.now) {
        registrant.expire(turn.now, core.draining, &mut out);
    }
    carry_out(core, turn, out);
}

/// A final answer, if it is one to a REGISTER; false if it is none.
pub(super) fn answered(core: &mut Core, turn: &mut Turn<'_>, client: ClientId, response: &Response) -> bool {
    let (Some(registrant), Some(id)) = (&mut core.registrant, core.registrations.get(&client)) else {
        return false;
    };
    let mut out = Turnout::default();
    if response.status.is_final() {
        registrant.answered(*id, response, turn.now, &mut core.tokens, &mut out);
    }
    carry_out(core, turn, out);
    true
}

/// A REGISTER that nobody answered, or that could not be sent; false if it was none.
pub(super) fn lost(core: &mut Core, turn: &mut Turn<'_>, client: ClientId, outcome: ProbeOutcome) -> bool {
    let (Some(registrant), Some(id)) = (&mut core.registrant, core.registrations.get(&client)) else {
        return false;
    };
    let mut out = Turnout::default();
    registrant.lost(*id, outcome, turn.now, &mut core.tokens, &mut out);
    carry_out(core, turn, out);
    true
}

/// The way to a registrar broke.
pub(super) fn disconnected(core: &mut Core, turn: &Turn<'_>, hop: &Hop) {
    if let Some(registrant) = &mut core.registrant {
        registrant.disconnected(hop, turn.now, &mut core.tokens);
    }
}

/// Calls that go by this hop pass these proxies from now on.
pub(super) fn learn(core: &mut Core, known: ServiceRoute) {
    match known.route.is_empty() {
        true => core.service_routes.remove(&known.hop),
        false => core.service_routes.insert(known.hop, known.route),
    };
}

/// Puts in front of a new call what the registrar of its hop wants there (RFC 3608 section 5).
pub(super) fn route(core: &Core, draft: &mut Draft, hop: &Hop) {
    if core.service_routes.is_empty() || draft.method != Method::Invite || draft.to.tag().is_some() {
        return;
    }
    if let Some(route) = core.service_routes.get(&Hop { connection: None, ..*hop }) {
        draft.route = route.to_vec();
    }
}

fn carry_out(core: &mut Core, turn: &mut Turn<'_>, out: Turnout) {
    turn.out.flows.extend(out.flows);
    for known in out.routes {
        let (own, cores) = (core.settings.share.core, core.settings.share.cores);
        for other in (0..cores).map(CoreId).filter(|other| *other != own) {
            turn.out.errands.push((other, Errand::ServiceRoute(known.clone())));
        }
        learn(core, known);
    }
    for mut registration in out.requests {
        rules::request_sent(core, &mut registration.draft, &registration.hop);
        let client =
            core.transactions.request(turn.now, registration.draft, registration.hop, &mut core.outputs);
        core.registrations.insert(client, registration.id);
    }
    for event in out.events {
        core.publish(turn.now, &observe::Event::Trunk(event));
    }
}
