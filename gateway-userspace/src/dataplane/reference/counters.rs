//! The counters that the kernel side keeps per processor, for relays over plain sockets.

use gateway_common::verdict::{REASONS_MAX, Reason, TRAFFIC_MAX, Traffic};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the relays of all workers; each add is one relaxed atomic.
#[derive(Debug)]
pub struct Counters {
    drops: [AtomicU64; REASONS_MAX as usize],
    traffic: [AtomicU64; TRAFFIC_MAX as usize],
}

impl Default for Counters {
    fn default() -> Self {
        Self { drops: std::array::from_fn(|_| AtomicU64::new(0)), traffic: Default::default() }
    }
}

impl Counters {
    pub fn refuse(&self, reason: Reason) {
        self.drops[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, traffic: Traffic) {
        self.traffic[traffic as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Reasons that occurred.
    pub fn drops(&self) -> BTreeMap<Reason, u64> {
        let count = |reason: &Reason| (*reason, self.drops[*reason as usize].load(Ordering::Relaxed));
        Reason::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
    }

    pub fn traffic(&self) -> BTreeMap<Traffic, u64> {
        Traffic::ALL
            .iter()
            .map(|kind| (*kind, self.traffic[*kind as usize].load(Ordering::Relaxed)))
            .collect()
    }
}
