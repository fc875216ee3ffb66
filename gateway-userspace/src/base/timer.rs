//! The timer table: deadlines by key, one deadline a key.

use super::time::Time;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Deadlines ordered by time; arming a key again moves its deadline.
#[derive(Debug)]
pub struct TimerTable<K> {
    by_time: BTreeSet<(Time, K)>,
    by_key: HashMap<K, Time>,
}

impl<K> Default for TimerTable<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> TimerTable<K> {
    pub fn arm(&mut self, key: K, at: Time) {
        if let Some(before) = self.by_key.insert(key, at) {
            self.by_time.remove(&(before, key));
        }
        self.by_time.insert((at, key));
    }

    pub fn disarm(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    pub fn is_armed(&self, key: K) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest key whose deadline is not after `now`.
    pub fn expire(&mut self, now: Time) -> Option<K> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.disarm(key);
        Some(key)
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_expire_in_order_of_time_and_only_once() {
        let mut timers = TimerTable::default();
        timers.arm('b', Time(20));
        timers.arm('a', Time(10));
        timers.arm('b', Time(5));
        timers.arm('c', Time(7));
        timers.disarm('c');
        assert_eq!(timers.next(), Some(Time(5)));
        assert_eq!(timers.expire(Time(10)), Some('b'));
        assert_eq!(timers.expire(Time(10)), Some('a'));
        assert_eq!(timers.expire(Time(10)), None);
        assert!(timers.is_empty());
    }
}
