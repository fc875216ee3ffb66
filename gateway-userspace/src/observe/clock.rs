//! From the node's monotonic clock to the wall, for records and people.

use crate::base::time::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The two clocks read together once, at start: a later step of the wall clock moves no record.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// Time since 1970-01-01 UTC at [`Time::ZERO`].
    origin: Duration,
}

impl WallClock {
    /// `now` and `wall` are readings of the same moment. A wall clock that stands before `now` since 1970
    /// (a host that has not set its clock) is taken as 1970 at [`Time::ZERO`].
    pub fn new(now: Time, wall: SystemTime) -> Self {
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: wall.saturating_sub(now.since(Time::ZERO)) }
    }

    /// Wall-clock time of a moment, since 1970-01-01 UTC.
    pub fn since_unix_epoch(&self, at: Time) -> Duration {
        self.origin.saturating_add(at.since(Time::ZERO))
    }

    /// RFC 3339, UTC, milliseconds: `2026-11-22T15:28:14.071Z`.
    pub fn rfc3339(&self, at: Time) -> String {
        let wall = self.since_unix_epoch(at);
        let seconds = wall.as_secs();
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let millisecond = wall.subsec_millis();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar. Years are
/// counted from March, so that the leap day is the last of its year, in eras of 400 years.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    const MARCH_0000_TO_1970: u64 = 719_468;
    let days = days + MARCH_0000_TO_1970;
    let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> String {
        WallClock::new(Time::ZERO, UNIX_EPOCH).rfc3339(Time(seconds * 1_000_000))
    }

    #[test]
    fn known_moments_print_as_rfc_3339_says() {
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_799), "2000-02-29T23:59:59.000Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_anchor_holds_for_times_before_and_after_it() {
        let wall = UNIX_EPOCH + Duration::from_millis(1_000_000_250);
        let clock = WallClock::new(Time(5_000_000), wall);
        assert_eq!(clock.rfc3339(Time(5_000_000)), "1970-01-12T13:46:40.250Z");
        assert_eq!(clock.rfc3339(Time(4_000_000)), "1970-01-12T13:46:39.250Z");
    }
}
