//! Timers of RFC 3261 (section 17.1.1.1) as a phone has them.

use std::time::Duration;

pub(super) const T1: Duration = Duration::from_millis(500);
pub(super) const T2: Duration = Duration::from_secs(4);
pub(super) const GIVE_UP: Duration = Duration::from_secs(32);
