//! Calls of an earlier daemon, taken over from its journal and its pinned flows.

use super::core::{CheckpointChange, Core, Entry, Turn};
use super::relay::Relay;
use super::{execute, fence};
use crate::call::{Checkpoint, Context};
use crate::media::plan::FlowSpec;

/// Takes over one call. Its flows go on as they are; where the kernel has lost them they are installed anew.
///
/// # Errors
/// Why the call cannot go on, for the log: nothing of it is kept then.
pub(super) fn adopt(core: &mut Core, turn: &mut Turn<'_>, checkpoint: Checkpoint) -> Result<(), String> {
    let id = checkpoint.call;
    core.ports.owner = Some(id);
    let adopted = fence::catch(|| take_over(core, turn, checkpoint));
    adopted.unwrap_or_else(|panic| {
        if let Some(mut entry) = execute::forget(core, turn, id) {
            entry.relay.end(turn.flows);
        }
        core.ports.release_all(id, turn.now);
        Err(format!("it panicked at {}: {}", panic.place, panic.message))
    })
}

fn take_over(core: &mut Core, turn: &mut Turn<'_>, mut checkpoint: Checkpoint) -> Result<(), String> {
    let id = checkpoint.call;
    let pinned = checkpoint.flows.clone();
    let mut actions = Vec::new();
    let mut context = Context {
        now: turn.now,
        policy: &core.policy,
        ports: &mut core.ports,
        tokens: &mut core.tokens,
        settings: &core.settings.call,
        actions: &mut actions,
    };
    let (call, plan) = checkpoint.clone().restore(&mut context).map_err(|error| error.to_string())?;
    let relay = match turn.flows.adopt(&pinned, &plan.flows) {
        Ok(()) => Relay::adopted(pinned, &plan),
        // To count anew under an old key would use its key stream twice (RFC 3711 section 9.1).
        Err(_) if plan.flows.iter().any(FlowSpec::is_secured) => {
            return Err("its SRTP counters went with the last daemon".to_owned());
        }
        Err(fault) => {
            tracing::warn!(call = %id, fault = fault.label(), "flows of an adopted call are installed anew");
            let mut relay = Relay::default();
            relay.carry(turn.flows, plan).map_err(|fault| fault.explanation().to_owned())?;
            relay
        }
    };
    checkpoint.flows = relay.flows().to_vec();
    core.slots.extend(relay.flows().iter().map(|flow| (flow.slot, id)));
    core.sampling.begin(id, turn.now);
    core.calls.insert(id, Box::new(Entry { relay, ..Entry::new(call) }));
    core.execute(turn, id, actions);
    core.settle(turn);
    let bytes = serde_json::to_vec(&checkpoint).map_err(|error| error.to_string())?;
    turn.out.checkpoints.push(CheckpointChange::Put { call: id, bytes });
    Ok(())
}
