//! Carries out what a call wants, in order, once.

use super::captures;
use super::core::{Core, Entry};
use super::guests;
use super::registrations;
use super::rules;
use super::turn::{CheckpointChange, Turn};
use crate::base::fault::Fault;
use crate::base::id::{CallId, Side};
use crate::call::{Action, CallTimer, Checkpoint, Claimant, Event, RequestKey};
use crate::media::MediaPlan;
use crate::observe;
use crate::observe::event::CallEnd;
use crate::rtp::Codec;
use crate::sip::dialog::DialogId;
use crate::sip::message::Draft;
use crate::sip::transport::Hop;
use std::sync::Arc;

/// Room for the checkpoint of an ordinary call.
const CHECKPOINT_BYTES: usize = 4 << 10;

pub(super) fn actions(core: &mut Core, turn: &mut Turn<'_>, id: CallId, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Request { key, draft, hop } => request(core, turn, id, key, *draft, hop),
            Action::Acknowledge { mut draft, hop } => {
                rules::request_sent(core, &mut draft, &hop);
                core.transactions.send_ack(*draft, hop, &mut core.outputs);
            }
            Action::Respond { server, response } => core.respond(turn, server, *response),
            Action::Cancel { key, reason } => cancel(core, turn, id, key, reason),
            Action::Bind { side, call_id } => core.bind(turn, id, side, call_id.into()),
            Action::Unbind { call_id } => guests::unbind(core, turn, id, &call_id),
            Action::Claim { dialog } => {
                let claimant = Claimant { core: core.settings.share.core, call: id };
                guests::claim(core, turn, dialog, claimant);
            }
            Action::Surrender { claimant, claim } => guests::surrender(core, turn, claimant, claim),
            Action::Press { to, press } => {
                if let Some(entry) = core.calls.get(&id) {
                    entry.relay.press(turn.flows, to, press);
                }
            }
            Action::Play { to, what } => {
                if let Some(entry) = core.calls.get(&id) {
                    entry.relay.play(turn.flows, to, what);
                }
            }
            Action::Relay(plan) => {
                if let Err(fault) = relay(core, turn, id, *plan) {
                    // What was still to come rested on these flows; the call decides anew.
                    core.advance(turn, id, Event::FlowsRefused(fault));
                    return;
                }
            }
            Action::Arm { timer, at } => core.timers.arm((id, timer), at),
            Action::Disarm { timer } => core.timers.disarm((id, timer)),
            Action::Rest { trunk, hop, pause } => {
                trunk.policy().rest(trunk.id(), hop.remote, turn.now, pause);
                // Behind a name there may be another machine the next time.
                turn.out.leaves.push(hop);
            }
            Action::ProbeMedia => probe(core, turn, id),
            Action::Save(checkpoint) => save(core, turn, id, *checkpoint),
            Action::SaveFarewell(farewell) => write_down(turn, id, |bytes| farewell.write(bytes)),
            Action::Publish(event) => core.publish(turn.now, &event),
            Action::Conclude(end) => conclude(core, turn, id, *end),
            Action::Forget => {
                turn.out.checkpoints.push(CheckpointChange::Remove { call: id });
                drop(forget(core, turn, id));
            }
        }
    }
}

fn request(core: &mut Core, turn: &mut Turn<'_>, id: CallId, key: RequestKey, mut draft: Draft, hop: Hop) {
    registrations::route(core, &mut draft, &hop);
    rules::request_sent(core, &mut draft, &hop);
    let ends = matches!(key, RequestKey::Bye { .. } | RequestKey::Release).then(|| DialogId::of_own(&draft));
    let client = core.transactions.request(turn.now, draft, hop, &mut core.outputs);
    core.releases.extend(ends.map(|dialog| (client, dialog)));
    core.clients.insert(client, (id, key));
    if let Some(entry) = core.calls.get_mut(&id) {
        entry.clients.push((key, client));
    }
}

fn cancel(core: &mut Core, turn: &mut Turn<'_>, id: CallId, key: RequestKey, reason: Option<String>) {
    let client = core.calls.get(&id).and_then(|entry| entry.client(key));
    if let Some(client) = client {
        core.transactions.cancel(turn.now, client, reason, &mut core.outputs);
    }
}

/// Makes the data plane carry exactly `plan`.
fn relay(core: &mut Core, turn: &mut Turn<'_>, id: CallId, plan: MediaPlan) -> Result<(), Fault> {
    let Some(entry) = core.calls.get_mut(&id) else { return Ok(()) };
    for flow in entry.relay.flows() {
        core.slots.remove(&flow.slot);
    }
    let first = entry.relay.flows().is_empty();
    let outcome = entry.relay.carry(turn.flows, plan);
    if first && !entry.relay.flows().is_empty() {
        core.sampling.begin(id, turn.now);
    }
    core.slots.extend(entry.relay.flows().iter().map(|flow| (flow.slot, id)));
    captures::carried(core, turn, id);
    outcome
}

fn probe(core: &mut Core, turn: &mut Turn<'_>, id: CallId) {
    let Some(entry) = core.calls.get(&id) else { return };
    let heard = |side| entry.relay.idle(turn.flows, side);
    let event = Event::MediaHeard {
        from_caller: heard(Side::Caller),
        from_callee: heard(Side::Callee),
        callee_spoke: entry.relay.spoke(turn.flows, Side::Callee),
    };
    core.advance(turn, id, event);
}

fn save(core: &mut Core, turn: &mut Turn<'_>, id: CallId, mut checkpoint: Checkpoint) {
    let Some(entry) = core.calls.get(&id) else { return };
    checkpoint.flows = entry.relay.flows().to_vec();
    write_down(turn, id, |bytes| checkpoint.write(bytes));
}

/// Puts a call into the journal.
pub(super) fn write_down(
    turn: &mut Turn<'_>,
    id: CallId,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>,
) {
    let mut bytes = Vec::with_capacity(CHECKPOINT_BYTES);
    match write(&mut bytes) {
        Ok(()) => turn.out.checkpoints.push(CheckpointChange::Put { call: id, bytes }),
        Err(error) => {
            tracing::error!(call = %id, %error, "a call could not be written down: it would not survive a restart")
        }
    }
}

/// Takes the flows down and completes the record with what they counted.
pub(super) fn conclude(core: &mut Core, turn: &mut Turn<'_>, id: CallId, mut end: CallEnd) {
    if let Some(entry) = core.calls.get_mut(&id) {
        for flow in entry.relay.flows() {
            core.slots.remove(&flow.slot);
        }
        entry.relay.end(turn.flows);
        entry.recorded = true;
        let codec =
            |name: &Option<Arc<str>>| -> Option<Codec> { name.as_deref().and_then(|name| name.parse().ok()) };
        let codecs = [codec(&end.caller_codec), codec(&end.callee_codec)];
        let started = end.started;
        let media = entry.relay.media(turn.flows, started, codecs.each_ref().map(Option::as_ref));
        (end.from_caller, end.from_callee) = (media.from_caller, media.from_callee);
        (end.to_caller, end.to_callee) = (media.to_caller, media.to_callee);
        end.series = entry.relay.take_series();
    }
    turn.out.checkpoints.push(CheckpointChange::Remove { call: id });
    core.publish(turn.now, &observe::Event::Ended(Box::new(end)));
}

/// Takes the call out of the core; what it held is still to be given back.
pub(super) fn forget(core: &mut Core, turn: &mut Turn<'_>, id: CallId) -> Option<Box<Entry>> {
    let entry = core.calls.remove(&id)?;
    for (_, client) in &entry.clients {
        core.clients.remove(client);
    }
    for call_id in &entry.call_ids {
        guests::release(core, turn, id, call_id);
    }
    for timer in CallTimer::ALL {
        core.timers.disarm((id, timer));
    }
    Some(entry)
}
