//! Whether an address serves calls, told from the answers to OPTIONS, with hysteresis.

use super::PolicyError;
use super::standing::TargetState;
use crate::observe::ProbeOutcome;
use std::time::Duration;

/// How a trunk's peers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// From one OPTIONS to the next; `None` asks nobody.
    pub interval: Option<Duration>,
    /// The same while the last answer was a failure, so that trouble and its end are seen soon.
    pub retry: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that make an address down.
    pub down_after: u8,
    /// Successes in a row that make one that was down serve again.
    pub up_after: u8,
}

impl Default for Health {
    /// Nobody is asked.
    fn default() -> Self {
        Self {
            interval: None,
            retry: Duration::from_secs(10),
            timeout: Duration::from_secs(4),
            down_after: 2,
            up_after: 1,
        }
    }
}

impl Health {
    pub(super) fn check(&self, trunk: &str) -> Result<(), PolicyError> {
        let trunk = trunk.to_owned();
        if self.down_after == 0 || self.up_after == 0 {
            return Err(PolicyError::HealthThreshold { trunk });
        }
        let shortest = self.interval.map_or(self.retry, |interval| interval.min(self.retry));
        if self.timeout.is_zero() || self.timeout > shortest {
            return Err(PolicyError::HealthTimeout { trunk, timeout: self.timeout, shortest });
        }
        Ok(())
    }
}

/// What an outcome says about the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Serves,
    Fails,
    /// It lives and does not know us.
    Refuses,
}

impl Sign {
    fn of(outcome: ProbeOutcome) -> Self {
        match outcome {
            ProbeOutcome::Silence | ProbeOutcome::Unreachable | ProbeOutcome::Answered(408 | 503) => {
                Self::Fails
            }
            ProbeOutcome::Answered(403) => Self::Refuses,
            // Whoever answers anything else is there: many answer OPTIONS with 404, 405 or 501.
            ProbeOutcome::Answered(_) => Self::Serves,
        }
    }
}

/// Whether the outcome of an OPTIONS counts against the address.
pub(super) fn is_failure(outcome: ProbeOutcome) -> bool {
    Sign::of(outcome) == Sign::Fails
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    WentUp,
    WentDown,
    /// It began to answer 403: our Contact is not known there.
    Refused,
}

/// The memory of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    state: TargetState,
    failures: u8,
    successes: u8,
    refused: bool,
}

impl Memory {
    /// Goes on from what another core or an earlier configuration found.
    pub(super) fn of(state: TargetState) -> Self {
        Self { state, ..Self::default() }
    }

    pub(super) fn state(&self) -> TargetState {
        self.state
    }

    /// Whether the last outcome was a failure, so that the next question should come soon.
    pub(super) fn is_uneasy(&self) -> bool {
        self.failures > 0 || self.state == TargetState::Down
    }

    pub(super) fn hear(&mut self, health: &Health, outcome: ProbeOutcome) -> Option<Finding> {
        match Sign::of(outcome) {
            Sign::Serves => {
                self.refused = false;
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                self.rise(health)
            }
            Sign::Fails => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                let falls = self.state != TargetState::Down && self.failures >= health.down_after;
                falls.then(|| {
                    self.state = TargetState::Down;
                    Finding::WentDown
                })
            }
            // Neither up nor down: it answers, and whether calls are refused as well is for calls to find out.
            Sign::Refuses => (!std::mem::replace(&mut self.refused, true)).then_some(Finding::Refused),
        }
    }

    fn rise(&mut self, health: &Health) -> Option<Finding> {
        let enough = match self.state {
            TargetState::Up => return None,
            // The first sign of life is as good as any: calls are sent already.
            TargetState::Unknown => true,
            TargetState::Down => self.successes >= health.up_after,
        };
        enough.then(|| {
            self.state = TargetState::Up;
            Finding::WentUp
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProbeOutcome::{Answered, Silence, Unreachable};

    const HEALTH: Health = Health {
        interval: Some(Duration::from_secs(60)),
        retry: Duration::from_secs(10),
        timeout: Duration::from_secs(4),
        down_after: 3,
        up_after: 2,
    };

    fn findings(outcomes: &[ProbeOutcome]) -> Vec<Option<Finding>> {
        let mut memory = Memory::default();
        outcomes.iter().map(|outcome| memory.hear(&HEALTH, *outcome)).collect()
    }

    // Statement 30.
    #[test]
    fn an_address_goes_down_after_so_many_failures_in_a_row_and_up_after_so_many_answers() {
        let (up, down) = (Some(Finding::WentUp), Some(Finding::WentDown));
        let told = findings(&[
            Answered(200),
            Silence,
            Answered(408),
            Answered(200),
            Unreachable,
            Answered(503),
            Silence,
            Silence,
            Answered(200),
            Silence,
            Answered(200),
            Answered(200),
        ]);
        let none = None;
        assert_eq!(told, [up, none, none, none, none, none, down, none, none, none, none, up]);
    }

    // Statement 30.
    #[test]
    fn exactly_silence_a_broken_transport_408_and_503_count_as_failures() {
        let failing: Vec<u16> = (200..700).filter(|status| is_failure(Answered(*status))).collect();
        assert_eq!(failing, [408, 503]);
        assert!(is_failure(Silence) && is_failure(Unreachable));
    }

    // Statement 31.
    #[test]
    fn a_403_is_told_once_until_another_answer_comes_and_changes_no_state() {
        let refused = Some(Finding::Refused);
        let told = findings(&[Answered(403), Answered(403), Silence, Answered(200), Answered(403)]);
        assert_eq!(told, [refused, None, None, Some(Finding::WentUp), refused]);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let spoilt = [
            Health { down_after: 0, ..HEALTH },
            Health { up_after: 0, ..HEALTH },
            Health { timeout: Duration::ZERO, ..HEALTH },
            Health { timeout: Duration::from_secs(11), ..HEALTH },
        ];
        assert_eq!(HEALTH.check("core"), Ok(()));
        assert!(spoilt.iter().all(|health| health.check("core").is_err()));
    }
}
