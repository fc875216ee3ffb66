//! A look at the media of each call every few seconds, call by call, so that no turn is long.

use super::core::Core;
use super::turn::Turn;
use crate::base::id::{CallId, Side};
use crate::base::time::Time;
use crate::observe::quality::LOOK_EVERY;
use std::collections::VecDeque;
use std::time::Duration;

/// A core that has nothing else to do waits so long for more calls to be looked at in one turn.
const GATHER: Duration = Duration::from_millis(250);
/// Calls that one turn looks at: about as long as a few messages take.
const CALLS_A_TURN: usize = 64;

/// Which call is looked at next. The time between looks is the same for all, so a queue is in order of time.
#[derive(Debug, Default)]
pub(super) struct Sampling(VecDeque<(Time, CallId)>);

impl Sampling {
    /// The call has media from now on.
    pub(super) fn begin(&mut self, call: CallId, now: Time) {
        self.0.push_back((now + LOOK_EVERY, call));
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.0.front().map(|(at, _)| *at + GATHER)
    }
}

/// Looks at the calls whose time has come.
pub(super) fn expire(core: &mut Core, turn: &Turn<'_>) {
    if core.calls.is_empty() {
        core.sampling.0.clear();
    }
    for _ in 0..CALLS_A_TURN {
        let Some((at, id)) = core.sampling.0.pop_front_if(|(at, _)| *at <= turn.now) else { return };
        let Some(entry) = core.calls.get_mut(&id).filter(|entry| !entry.recorded) else { continue };
        let codecs = [Side::Caller, Side::Callee].map(|side| entry.call.codec(side));
        entry.relay.look(turn.flows, turn.now, codecs);
        // In step with the time, however late the turn is; after a long pause from now on.
        let next = (at + LOOK_EVERY).max(turn.now);
        core.sampling.0.push_back((next, id));
    }
}
