//! The wall clock of a scenario, which may be set forward and back, beside the monotonic one, which may not.

use super::Scene;
use gateway_userspace::base::time::Time;
use gateway_userspace::observe::clock::WallClock;
use std::time::{Duration, UNIX_EPOCH};

/// A day in 2026.
const START: u64 = 1_780_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    /// Seconds of the wall clock at [`Time::ZERO`].
    origin: u64,
    /// As the store numbers them: upwards, whatever the wall clock says.
    run: u32,
    /// When the machine had stood still last.
    pub(super) resumed: Option<Time>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { origin: START, run: 0, resumed: None }
    }
}

impl Clock {
    pub(super) fn wall(&self, now: Time) -> WallClock {
        WallClock::new(now, UNIX_EPOCH + Duration::from_secs(self.origin) + now.since(Time::ZERO))
    }

    pub(super) fn begin_run(&mut self, now: Time) -> u32 {
        let wall = self.origin + now.since(Time::ZERO).as_secs();
        self.run = (self.run + 1).max(u32::try_from(wall).unwrap_or(u32::MAX));
        self.run
    }
}

impl Scene {
    /// The wall clock is set by so many seconds. A daemon reads it when it starts.
    pub fn sets_wall_clock(&mut self, by: i64) {
        self.clock.origin = self.clock.origin.saturating_add_signed(by);
        self.note(format!("the wall clock is set by {by} s"));
    }

    /// The machine stands still for so long: all that came due meanwhile is found at once.
    pub fn stands_still(&mut self, milliseconds: u64) {
        self.post();
        self.now = self.now + Duration::from_millis(milliseconds);
        self.clock.resumed = Some(self.now);
        self.note(format!("the machine stood still for {milliseconds} ms"));
        self.step();
    }
}
