//! Captures of calls of one core: what is copied into them, and when they end.

use super::core::Core;
use super::turn::Turn;
use crate::base::id::CallId;
use crate::base::time::Time;
use crate::dataplane::Record;
use crate::observe::capture::{Capture, Captured, Item, Wanted};
use crate::observe::event::Direction;
use crate::sip::message::shallow;
use crate::sip::transport::Hop;
use std::time::Duration;

/// Captures that a core has at once.
const MOST: usize = 4;

/// Why a call is not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotCaptured {
    NoSuchCall,
    /// Somebody captures it, or too many others are captured.
    Busy,
}

/// Begins to take down packets of a call, for so long at least.
pub(super) fn begin(
    core: &mut Core,
    turn: &mut Turn<'_>,
    call: CallId,
    wanted: Wanted,
    span: Duration,
) -> Result<(), NotCaptured> {
    expire(core, turn);
    let entry = core.calls.get(&call).filter(|entry| !entry.recorded).ok_or(NotCaptured::NoSuchCall)?;
    if core.captures.len() >= MOST || core.captures.iter().any(|(own, _)| *own == call) {
        return Err(NotCaptured::Busy);
    }
    let flows = entry.relay.flows().to_vec();
    tracing::info!(%call, ?wanted, ?span, "packets of a call are captured");
    core.captures.push((call, Capture::new(wanted, turn.now, span)));
    follow(turn, &flows, Some(wanted.audio));
    Ok(())
}

/// Ends the capture of a call, which may have ended itself, and gives what it has.
pub(super) fn end(core: &mut Core, turn: &mut Turn<'_>, call: CallId) -> Option<Captured> {
    let place = core.captures.iter().position(|(own, _)| *own == call)?;
    let (_, capture) = core.captures.swap_remove(place);
    if let Some(entry) = core.calls.get(&call) {
        let flows = entry.relay.flows().to_vec();
        follow(turn, &flows, None);
    }
    Some(Captured { capture, clock: core.observer.clock() })
}

/// The flows of a call that is captured may be others from now on.
pub(super) fn carried(core: &Core, turn: &mut Turn<'_>, call: CallId) {
    let Some((_, capture)) = core.captures.iter().find(|(own, _)| *own == call) else { return };
    let audio = capture.wanted().audio;
    let flows = core.calls.get(&call).map(|entry| entry.relay.flows().to_vec()).unwrap_or_default();
    follow(turn, &flows, Some(audio));
}

/// Ends captures that nobody came for.
pub(super) fn expire(core: &mut Core, turn: &mut Turn<'_>) {
    let over = |(call, capture): &(CallId, Capture)| capture.is_over(turn.now).then_some(*call);
    let over: Vec<_> = core.captures.iter().filter_map(over).collect();
    over.into_iter().for_each(|call| drop(end(core, turn, call)));
}

/// A copy by the data plane.
pub(super) fn packet(core: &mut Core, record: Record) {
    let Some(call) = core.slots.get(&record.flow().slot).copied() else { return };
    let Record::Captured { at, sent, link, length, octets, .. } = record else { return };
    if let Some((_, capture)) = core.captures.iter_mut().find(|(own, _)| *own == call) {
        let direction = if sent { Direction::Sent } else { Direction::Received };
        capture.packet(Item { at: Time(at / 1_000), direction, link, length, octets: octets.into() });
    }
}

/// A message that came or goes.
pub(super) fn message(core: &mut Core, now: Time, direction: Direction, hop: &Hop, bytes: &[u8]) {
    if core.captures.is_empty() {
        return;
    }
    let Some(call_id) = shallow(bytes) else { return };
    let legs = std::str::from_utf8(call_id.as_bytes()).ok().and_then(|call_id| core.legs.get(call_id));
    let Some((call, _)) = legs.and_then(|legs| legs.first()).copied() else { return };
    if let Some((_, capture)) = core.captures.iter_mut().find(|(own, _)| *own == call) {
        let way = match direction {
            Direction::Received => (hop.remote, hop.local),
            Direction::Sent => (hop.local, hop.remote),
        };
        capture.message(now, direction, way, bytes);
    }
}

fn follow(turn: &mut Turn<'_>, flows: &[crate::base::id::FlowId], audio: Option<bool>) {
    if let Err(fault) = turn.flows.capture(flows, audio) {
        tracing::warn!(fault = fault.label(), "the data plane does not capture");
    }
}
