//! How many calls there may be, and how fast they may come: of a trunk, and of the node.
//!
//! A [`Meter`] is two atomics that all cores share, so that a limit holds for the node and not for each core. Who is
//! let in holds a [`Permit`]; dropping it lets the next one in.

use super::overload::{Feedback, LoadEstimate};
use crate::base::fault::Fault;
use crate::base::time::Time;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What an operator sets. Emergency calls are counted and never refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls in progress at once.
    pub calls: Option<u32>,
    pub rate: Option<CallRate>,
}

/// How fast new calls may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRate {
    pub per_second: u32,
    /// Calls that may come at once after a pause; at least 1.
    pub burst: u32,
}

/// What is counted against [`Limits`].
#[derive(Debug, Default)]
pub struct Meter {
    calls: AtomicU32,
    /// Theoretical arrival time of the next call, in microseconds of [`Time`] (the virtual scheduling algorithm of
    /// ITU-T I.371 annex A): one word is the whole state of a token bucket.
    next: AtomicU64,
    alarmed: AtomicBool,
    load: LoadEstimate,
}

/// A call that was let in.
#[derive(Debug)]
pub struct Permit {
    meter: Arc<Meter>,
    /// The limit, of which nine tenths are in use with this call, and were not before.
    pub near_limit: Option<u32>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.meter.calls.fetch_sub(1, Relaxed);
    }
}

impl Meter {
    /// Calls in progress.
    pub fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }

    /// Whether a new call would be refused for those in progress.
    pub fn is_full(&self, limits: &Limits) -> bool {
        limits.calls.is_some_and(|most| self.calls() >= most)
    }

    /// Takes a new call's turn, or says that it comes too fast.
    pub fn take_turn(&self, limits: &Limits, now: Time) -> Result<(), Fault> {
        let Some(rate) = limits.rate else { return Ok(()) };
        self.load.offered(rate, now);
        let pause = 1_000_000 / u64::from(rate.per_second.max(1));
        let ahead = pause * u64::from(rate.burst.max(1) - 1);
        let turn = |next: u64| (next <= now.0.saturating_add(ahead)).then(|| next.max(now.0) + pause);
        self.next.fetch_update(Relaxed, Relaxed, turn).map(|_| ()).map_err(|_| Fault::CallRateExceeded)
    }

    /// How many calls those who send them are to keep back.
    pub fn feedback(&self, now: Time) -> Feedback {
        self.load.feedback(now)
    }

    /// Lets a call in, or says that there are too many.
    pub fn enter(self: &Arc<Self>, limits: &Limits) -> Result<Permit, Fault> {
        let most = limits.calls.unwrap_or(u32::MAX);
        let one_more = |calls: u32| (calls < most).then(|| calls + 1);
        let before = self.calls.fetch_update(Relaxed, Relaxed, one_more);
        before.map(|before| self.permit(before + 1, limits)).map_err(|_| Fault::TrunkCallsExhausted)
    }

    /// Lets a call in whatever the limit: an emergency, or one that was in progress before the limit was set.
    pub fn enter_above(self: &Arc<Self>, limits: &Limits) -> Permit {
        let calls = self.calls.fetch_add(1, Relaxed) + 1;
        self.permit(calls, limits)
    }

    fn permit(self: &Arc<Self>, calls: u32, limits: &Limits) -> Permit {
        let share = limits.calls.map_or(0, |most| u64::from(calls) * 100 / u64::from(most.max(1)));
        if share < ALARM_ENDS_PERCENT {
            self.alarmed.store(false, Relaxed);
        }
        let near_limit = limits.calls.filter(|_| share >= ALARM_PERCENT && !self.alarmed.swap(true, Relaxed));
        Permit { meter: Arc::clone(self), near_limit }
    }
}

/// Where the alarm is raised, as Teams' own health dashboard does, and where it may be raised again.
const ALARM_PERCENT: u64 = 90;
const ALARM_ENDS_PERCENT: u64 = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn rate(per_second: u32, burst: u32) -> Limits {
        Limits { calls: None, rate: Some(CallRate { per_second, burst }) }
    }

    fn calls(most: u32) -> Limits {
        Limits { calls: Some(most), rate: None }
    }

    #[test]
    fn so_many_calls_are_let_in_and_the_next_when_one_has_ended() {
        let meter = Arc::new(Meter::default());
        let mut permits: Vec<_> = (0..3).map(|_| meter.enter(&calls(3)).unwrap()).collect();
        assert!(meter.is_full(&calls(3)));
        assert_eq!(meter.enter(&calls(3)).err(), Some(Fault::TrunkCallsExhausted));
        permits.pop();
        assert!(meter.enter(&calls(3)).is_ok());
        let above = meter.enter_above(&calls(3));
        assert_eq!(meter.calls(), 3);
        drop((permits, above));
        assert_eq!(meter.calls(), 0);
    }

    #[test]
    fn the_alarm_is_raised_once_at_nine_tenths_and_again_after_a_lull() {
        let meter = Arc::new(Meter::default());
        let enter = |permits: &mut Vec<Permit>| {
            permits.push(meter.enter(&calls(20)).unwrap());
            permits.last().unwrap().near_limit.is_some()
        };
        let mut permits = Vec::new();
        let raised: Vec<bool> = (0..20).map(|_| enter(&mut permits)).collect();
        assert_eq!(raised.iter().position(|raised| *raised), Some(17));
        assert_eq!(raised.iter().filter(|raised| **raised).count(), 1);
        permits.truncate(17);
        assert!(!enter(&mut permits), "that was no lull");
        permits.truncate(10);
        let raised = (0..10).filter(|_| enter(&mut permits)).count();
        assert_eq!(raised, 1);
    }

    #[test]
    fn a_burst_is_let_in_at_once_and_then_one_call_each_turn() {
        let (meter, limits) = (Meter::default(), rate(10, 5));
        let at = |milliseconds| Time(5_000_000) + Duration::from_millis(milliseconds);
        let let_in = |milliseconds, tries| {
            (0..tries).filter(|_| meter.take_turn(&limits, at(milliseconds)).is_ok()).count()
        };
        assert_eq!(let_in(0, 20), 5);
        assert_eq!(let_in(99, 20), 0);
        assert_eq!(let_in(100, 20), 1);
        assert_eq!(let_in(400, 20), 3);
        assert_eq!(let_in(60_000, 20), 5);
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_are_let_in_than_rate_and_burst_allow(
            per_second in 1u32..2_000, burst in 1u32..100, gaps in prop::collection::vec(0u64..20_000, 1..400),
        ) {
            let (meter, limits) = (Meter::default(), rate(per_second, burst));
            let (mut now, mut let_in) = (0u64, 0u64);
            for gap in gaps {
                now += gap;
                let_in += u64::from(meter.take_turn(&limits, Time(now)).is_ok());
                // One more for the pause that is rounded down to whole microseconds.
                let most = u64::from(burst) + now / (1_000_000 / u64::from(per_second)) + 1;
                prop_assert!(let_in <= most, "{let_in} of {most} after {now}");
            }
        }
    }
}
