//! A call whose step panicked: it alone ends, its core goes on.
//!
//! What the step left of the call is not trusted. Open requests of its peers get 500, open INVITEs of ours are cancelled.
//! An answered call is then what a restart would make of it: it is read back from the journal and hung up, so that both
//! sides get a BYE and the record is written the usual way. Of a call that was not answered yet only the record is left to
//! write; of one that was over, the BYEs that are owed. [`Core::clear_wreck`] does the second half, as only the rim can read
//! the journal.

use super::adopt;
use super::core::{Core, Entry};
use super::execute;
use super::fence::{self, Panic};
use super::relay::Relay;
use super::turn::{CheckpointChange, Turn};
use crate::base::fault::Fault;
use crate::base::id::{CallId, Side};
use crate::call::{Action, Checkpoint, Event, Farewell, RequestKey, Saved};
use crate::observe;
use crate::observe::event::CallEnd;
use crate::sip::message::StatusCode;
use crate::sip::transaction::{ClientId, ServerId};

/// Runs a step of a call. A panic in it makes a wreck of that call, which takes no further step in this turn: it is in any
/// state, and might say of itself that it is over.
pub(super) fn step(
    core: &mut Core,
    turn: &mut Turn<'_>,
    id: CallId,
    step: impl FnOnce(&mut Core, &mut Turn<'_>),
) {
    if turn.out.wrecks.contains(&id) {
        return;
    }
    // A step that follows from a step of the same call is part of it.
    let outer = core.stepping.replace(id);
    if outer == Some(id) {
        return step(core, turn);
    }
    let outcome = fence::catch(|| step(core, turn));
    core.stepping = outer;
    if let Err(panic) = outcome {
        tell(core, turn, id, panic);
        refuse_open(core, turn, id);
        turn.out.wrecks.push(id);
    }
}

/// The INVITE whose call panicked before it stood: nothing of it is kept.
pub(super) fn unborn(core: &mut Core, turn: &mut Turn<'_>, id: CallId, server: ServerId, panic: Panic) {
    tell(core, turn, id, panic);
    core.ports.release_all(id, turn.now);
    core.transactions.abandon(turn.now, server, StatusCode::SERVER_INTERNAL_ERROR, &mut core.outputs);
}

/// The second half: `saved` is what the journal has of the call, if it was answered.
pub(super) fn clear(core: &mut Core, turn: &mut Turn<'_>, id: CallId, saved: Option<Saved>) {
    let Some(mut entry) = execute::forget(core, turn, id) else { return };
    for flow in entry.relay.flows() {
        core.slots.remove(&flow.slot);
    }
    core.ports.release_all(id, turn.now);
    let relay = &mut entry.relay;
    if let Err(panic) = fence::catch(|| relay.end(turn.flows)) {
        tell(core, turn, id, panic);
    }
    let checkpoint = match saved {
        Some(Saved::Farewell(farewell)) => return take_leave(core, turn, *farewell),
        Some(Saved::Call(checkpoint)) => Some(checkpoint),
        None => None,
    };
    if entry.recorded {
        return;
    }
    let answered = checkpoint.is_some();
    if let Some(checkpoint) = checkpoint {
        let relay = std::mem::take(&mut entry.relay);
        match fence::catch(|| hang_up(core, turn, *checkpoint, relay)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(call = %id, error, "a call cannot be hung up"),
            Err(panic) => tell(core, turn, id, panic),
        }
        execute::forget(core, turn, id);
        core.ports.release_all(id, turn.now);
    }
    let caller = entry.call_ids.first().cloned().unwrap_or_default();
    let series = entry.relay.take_series();
    let heard = |side| entry.relay.quality(turn.flows, side, None);
    let end = CallEnd {
        caller_sip_call_id: caller,
        from_caller: heard(Side::Caller),
        from_callee: heard(Side::Callee),
        series,
        ..entry.call.lost(Fault::Internal, answered)
    };
    execute::conclude(core, turn, id, end);
}

/// Sends the BYEs that are left of a call that panicked behind its end, once: what comes of them must not make it panic for
/// ever.
fn take_leave(core: &mut Core, turn: &mut Turn<'_>, farewell: Farewell) {
    let id = farewell.call;
    turn.out.checkpoints.push(CheckpointChange::Remove { call: id });
    let wanted = |action: &Action| !matches!(action, Action::SaveFarewell(_));
    if let Err(panic) = fence::catch(|| adopt::take_leave(core, turn, farewell.unsent(), wanted)) {
        tell(core, turn, id, panic);
        execute::forget(core, turn, id);
    }
}

/// Hangs up the call as it was written down last.
fn hang_up(core: &mut Core, turn: &mut Turn<'_>, saved: Checkpoint, relay: Relay) -> Result<(), String> {
    let id = saved.call;
    let (restored, mut actions) = adopt::with_context(core, turn.now, id, |context| saved.restore(context));
    let (call, _) = restored.map_err(|error| error.to_string())?;
    // It was never another daemon's.
    actions.retain(|action| !matches!(action, Action::Publish(observe::Event::CallAdopted { .. })));
    core.calls.insert(id, Box::new(Entry { relay, ..Entry::new(call) }));
    core.execute(turn, id, actions);
    core.handle(turn, id, Event::HangUp(Fault::Internal));
    Ok(())
}

fn tell(core: &mut Core, turn: &Turn<'_>, call: CallId, panic: Panic) {
    let Panic { place, message } = panic;
    core.publish(turn.now, &observe::Event::CallPanicked { call, place, message });
}

/// Ends what the call has open with its peers.
fn refuse_open(core: &mut Core, turn: &Turn<'_>, id: CallId) {
    let mut servers: Vec<ServerId> =
        core.servers.iter().filter(|(_, (call, _))| *call == id).map(|(server, _)| *server).collect();
    servers.sort_unstable();
    for server in servers {
        core.transactions.abandon(turn.now, server, StatusCode::SERVER_INTERNAL_ERROR, &mut core.outputs);
    }
    let mut invites: Vec<ClientId> = core
        .clients
        .iter()
        .filter(|(_, (call, key))| *call == id && matches!(key, RequestKey::Invite { .. }))
        .map(|(client, _)| *client)
        .collect();
    invites.sort_unstable();
    for client in invites {
        core.transactions.cancel(turn.now, client, None, &mut core.outputs);
    }
}
