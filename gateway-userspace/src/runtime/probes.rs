//! The core's part in asking peers: sends what the prober wants sent, and brings it what became of it.

use super::core::Core;
use super::rules;
use super::turn::Turn;
use crate::observe::{self, ProbeOutcome, TrunkEvent};
use crate::policy::{ProbeSettings, Prober};
use crate::sip::transaction::ClientId;
use std::sync::Arc;

/// Asks this core's part of the peers from now on.
pub(super) fn begin(core: &mut Core, turn: &Turn<'_>) {
    let settings = ProbeSettings {
        share: core.settings.share,
        allow: crate::call::ALLOW,
        product: Arc::clone(&core.settings.call.product),
    };
    core.prober = Some(Prober::new(settings, Arc::clone(&core.policy), turn.now));
}

/// Sends the OPTIONS whose time has come.
pub(super) fn expire(core: &mut Core, turn: &Turn<'_>) {
    let Some(prober) = &mut core.prober else { return };
    if prober.next_deadline().is_none_or(|at| at > turn.now) {
        return;
    }
    let (mut probes, mut events) = (Vec::new(), Vec::new());
    prober.expire(turn.now, core.draining, &mut core.tokens, &mut probes, &mut events);
    for mut probe in probes {
        rules::request_sent(core, &mut probe.draft, &probe.hop);
        let client = core.transactions.request(turn.now, probe.draft, probe.hop, &mut core.outputs);
        core.probes.insert(client, probe.id);
    }
    publish(core, turn, events);
}

/// What became of a request, if it was an OPTIONS of the prober; false if it was none.
pub(super) fn outcome(core: &mut Core, turn: &Turn<'_>, client: ClientId, outcome: ProbeOutcome) -> bool {
    let (Some(prober), Some(probe)) = (&mut core.prober, core.probes.get(&client)) else { return false };
    let mut events = Vec::new();
    prober.outcome(*probe, outcome, turn.now, &mut events);
    publish(core, turn, events);
    true
}

fn publish(core: &mut Core, turn: &Turn<'_>, events: Vec<TrunkEvent>) {
    for event in events {
        core.publish(turn.now, &observe::Event::Trunk(event));
    }
}
