//! Calls of an earlier daemon, taken over from its journal and its pinned flows.

use super::core::{Core, Entry};
use super::relay::Relay;
use super::turn::Turn;
use super::{execute, fence};
use crate::base::fault::Fault;
use crate::base::id::{CallId, FlowId};
use crate::base::time::Time;
use crate::call::{Action, Checkpoint, Context, Event, Farewell, Saved};
use crate::media::MediaPlan;
use crate::media::plan::FlowSpec;

/// Takes over one call. Its flows go on as they are; where the kernel has lost them they are installed anew. Of one that is
/// over, the peers who are owed a BYE get it.
///
/// # Errors
/// Why the call cannot go on, for the log. Both sides are hung up on then, if enough is left of it for that.
pub(super) fn adopt(core: &mut Core, turn: &mut Turn<'_>, saved: Saved) -> Result<(), String> {
    let id = saved.call();
    let adopted = fence::catch(|| match saved {
        Saved::Call(checkpoint) => take_over(core, turn, *checkpoint),
        Saved::Farewell(farewell) => {
            take_leave(core, turn, *farewell, |_| true);
            Ok(())
        }
    });
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
    let (restored, actions) = with_context(core, turn.now, id, |context| checkpoint.clone().restore(context));
    let (call, plan) = restored.map_err(|error| {
        core.ports.release_all(id, turn.now);
        error.to_string()
    })?;
    let relayed = relay(turn, id, std::mem::take(&mut checkpoint.flows), plan);
    let (relay, refused) = match relayed {
        Ok(relay) => (relay, None),
        Err(fault) => (Relay::default(), Some(fault)),
    };
    checkpoint.flows = relay.flows().to_vec();
    core.slots.extend(relay.flows().iter().map(|flow| (flow.slot, id)));
    core.sampling.begin(id, turn.now);
    core.calls.insert(id, Box::new(Entry { relay, ..Entry::new(call) }));
    core.execute(turn, id, actions);
    execute::write_down(turn, id, |bytes| checkpoint.write(bytes));
    if let Some(fault) = refused {
        core.handle(turn, id, Event::HangUp(fault));
    }
    core.settle(turn);
    refused.map_or(Ok(()), |fault| Err(fault.explanation().trim().to_owned()))
}

/// What carries the media from now on.
fn relay(turn: &mut Turn<'_>, id: CallId, pinned: Vec<FlowId>, plan: MediaPlan) -> Result<Relay, Fault> {
    let Err(fault) = turn.flows.adopt(&pinned, &plan.flows) else {
        return Ok(Relay::adopted(pinned, &plan));
    };
    // To count anew under an old key would use its key stream twice (RFC 3711 section 9.1).
    if plan.flows.iter().any(FlowSpec::is_secured) {
        return Err(fault);
    }
    tracing::warn!(call = %id, fault = fault.label(), "flows of an adopted call are installed anew");
    let mut relay = Relay::default();
    relay.carry(turn.flows, plan)?;
    Ok(relay)
}

/// Sends the BYEs of a call that is over once more, and does what else it wants if that is `wanted`.
pub(super) fn take_leave(
    core: &mut Core,
    turn: &mut Turn<'_>,
    farewell: Farewell,
    wanted: impl Fn(&Action) -> bool,
) {
    let id = farewell.call;
    let (call, mut actions) = with_context(core, turn.now, id, |context| farewell.restore(context));
    actions.retain(wanted);
    core.calls.insert(id, Box::new(Entry { recorded: true, ..Entry::new(call) }));
    core.execute(turn, id, actions);
    core.settle(turn);
}

/// Runs `restore` with what a call is handled with; what it wants done comes with its result.
pub(super) fn with_context<T>(
    core: &mut Core,
    now: Time,
    id: CallId,
    restore: impl FnOnce(&mut Context<'_>) -> T,
) -> (T, Vec<Action>) {
    let mut actions = Vec::new();
    core.ports.owner = Some(id);
    let restored = restore(&mut Context {
        now,
        policy: &core.policy,
        ports: &mut core.ports,
        tokens: &mut core.tokens,
        settings: &core.settings.call,
        actions: &mut actions,
    });
    (restored, actions)
}
