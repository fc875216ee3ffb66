//! Pairs of media ports: RTP on the even one, RTCP on the odd one above it (RFC 3550 section 11).
//!
//! A released pair rests before it is handed out again, so that late packets of the last call cannot reach
//! the next one. One pool belongs to one worker and one address; [`PortPool::partition`] cuts a range so that
//! no two workers can clash. No clock: `now` comes in.

use crate::base::time::Time;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// An even RTP port and the odd RTCP port above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortPair {
    rtp: u16,
}

impl PortPair {
    /// The pair that `port`, either of the two, belongs to.
    pub const fn containing(port: u16) -> Self {
        Self { rtp: port & !1 }
    }

    pub const fn rtp(self) -> u16 {
        self.rtp
    }

    pub const fn rtcp(self) -> u16 {
        self.rtp | 1
    }
}

/// A port range that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    #[error("the media port range {first}-{last} starts below 1024")]
    Privileged { first: u16, last: u16 },
    #[error(
        "the media port range {first}-{last} holds {pairs} pairs of ports, fewer than the {workers} workers"
    )]
    TooSmall { first: u16, last: u16, pairs: usize, workers: usize },
}

/// Why a pair cannot be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("port {0} is not in this worker's part of the range")]
    Foreign(u16),
    #[error("port {0} is in use already")]
    InUse(u16),
}

/// The pairs of one address that one worker hands out.
#[derive(Debug)]
pub struct PortPool {
    address: IpAddr,
    /// First RTP port.
    base: u16,
    pairs: usize,
    /// A set bit is a pair that may be taken.
    free: Vec<u64>,
    free_count: usize,
    /// A set bit is a pair that a call holds; neither bit is set while a pair rests.
    held: Vec<u64>,
    /// Released pairs, the one that is ready first in front.
    resting: VecDeque<(Time, usize)>,
    quarantine: Duration,
    /// Where the next search begins: going round the range rests each pair as long as can be.
    cursor: usize,
}

impl PortPool {
    /// Cuts `range` of `address` into one pool for each of `workers`, in order of the workers.
    ///
    /// Released pairs rest for `quarantine`. A lone odd port at the start or a lone even one at the end of the
    /// range is left out.
    pub fn partition(
        address: IpAddr,
        range: RangeInclusive<u16>,
        quarantine: Duration,
        workers: usize,
    ) -> Result<Vec<Self>, PortRangeError> {
        let (first, last) = (*range.start(), *range.end());
        if first < 1024 {
            return Err(PortRangeError::Privileged { first, last });
        }
        let base = usize::from(first).next_multiple_of(2);
        let pairs = (usize::from(last) + 1).saturating_sub(base) / 2;
        let share = pairs / workers.max(1);
        if share == 0 {
            return Err(PortRangeError::TooSmall { first, last, pairs, workers });
        }
        let pools = (0..workers.max(1)).map(|worker| {
            let base =
                u16::try_from(base + worker * share * 2).expect("a share lies inside the 16-bit range");
            Self::over(address, base, share, quarantine)
        });
        Ok(pools.collect())
    }

    fn over(address: IpAddr, base: u16, pairs: usize, quarantine: Duration) -> Self {
        let words = pairs.div_ceil(64);
        let mut free = vec![u64::MAX; words];
        if let (Some(last), 1..) = (free.last_mut(), pairs % 64) {
            *last = (1 << (pairs % 64)) - 1;
        }
        Self {
            address,
            base,
            pairs,
            free,
            free_count: pairs,
            held: vec![0; words],
            resting: VecDeque::new(),
            quarantine,
            cursor: 0,
        }
    }

    /// The address whose ports these are.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Pairs in all.
    pub fn capacity(&self) -> usize {
        self.pairs
    }

    /// Pairs that calls hold.
    pub fn in_use(&self) -> usize {
        self.pairs - self.free_count - self.resting.len()
    }

    /// A pair that no call holds and that has rested; `None` when there is none.
    pub fn take(&mut self, now: Time) -> Option<PortPair> {
        self.wake(now);
        let index = self.next_free()?;
        self.set_free(index, false);
        set(&mut self.held, index, true);
        self.cursor = (index + 1) % self.pairs;
        Some(self.pair(index))
    }

    /// Takes `port` (or its pair's other one) back from a call; it rests from `now` on. `false` if no call held
    /// it, which changes nothing.
    pub fn release(&mut self, now: Time, port: u16) -> bool {
        let Some(index) = self.index(port).filter(|index| is_set(&self.held, *index)) else { return false };
        set(&mut self.held, index, false);
        self.resting.push_back((now + self.quarantine, index));
        true
    }

    /// Hands out `port` (or its pair's other one) by name: to a call that was adopted after a restart.
    pub fn claim(&mut self, port: u16) -> Result<PortPair, ClaimError> {
        let index = self.index(port).ok_or(ClaimError::Foreign(port))?;
        if is_set(&self.held, index) {
            return Err(ClaimError::InUse(port));
        }
        if is_set(&self.free, index) {
            self.set_free(index, false);
        } else {
            self.resting.retain(|(_, resting)| *resting != index);
        }
        set(&mut self.held, index, true);
        Ok(self.pair(index))
    }

    fn wake(&mut self, now: Time) {
        while let Some((_, index)) = self.resting.pop_front_if(|(ready, _)| *ready <= now) {
            self.set_free(index, true);
        }
    }

    /// The first free pair at or after the cursor, round the range.
    fn next_free(&self) -> Option<usize> {
        let words = self.free.len();
        let (word, bit) = (self.cursor / 64, self.cursor % 64);
        let ahead = self.free.get(word)? & (u64::MAX << bit);
        if ahead != 0 {
            return Some(word * 64 + ahead.trailing_zeros() as usize);
        }
        // The cursor's own word comes last once more, for the bits below the cursor.
        (1..=words).map(|step| (word + step) % words).find_map(|word| {
            let free = self.free[word];
            (free != 0).then(|| word * 64 + free.trailing_zeros() as usize)
        })
    }

    fn set_free(&mut self, index: usize, value: bool) {
        set(&mut self.free, index, value);
        if value { self.free_count += 1 } else { self.free_count -= 1 }
    }

    fn index(&self, port: u16) -> Option<usize> {
        let index = usize::from(PortPair::containing(port).rtp().checked_sub(self.base)?) / 2;
        (index < self.pairs).then_some(index)
    }

    fn pair(&self, index: usize) -> PortPair {
        let offset = u16::try_from(index * 2).expect("an index lies inside the 16-bit range");
        PortPair { rtp: self.base + offset }
    }
}

fn is_set(bits: &[u64], index: usize) -> bool {
    bits[index / 64] & 1 << (index % 64) != 0
}

fn set(bits: &mut [u64], index: usize, value: bool) {
    let mask = 1 << (index % 64);
    if value { bits[index / 64] |= mask } else { bits[index / 64] &= !mask }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const REST: Duration = Duration::from_secs(5);

    fn pool(range: RangeInclusive<u16>) -> PortPool {
        PortPool::partition("192.0.2.1".parse().unwrap(), range, REST, 1).unwrap().remove(0)
    }

    #[test]
    fn pairs_are_even_and_odd_and_the_range_ends_where_it_says() {
        let mut pool = pool(20_001..=20_006);
        assert_eq!(pool.capacity(), 2);
        let pair = pool.take(Time::ZERO).unwrap();
        assert_eq!((pair.rtp(), pair.rtcp()), (20_002, 20_003));
        assert_eq!(pool.take(Time::ZERO).unwrap().rtp(), 20_004);
        assert_eq!(pool.take(Time::ZERO), None);
    }

    #[test]
    fn the_whole_range_of_ports_can_be_served_to_its_last_pair() {
        let mut pool = pool(1024..=65_535);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(Time::ZERO)).collect();
        assert_eq!(taken.len(), (65_536 - 1024) / 2);
        assert_eq!(taken.last().map(|pair| pair.rtcp()), Some(65_535));
    }

    #[test]
    fn a_released_pair_rests_before_it_is_used_again() {
        let mut pool = pool(20_000..=20_001);
        let pair = pool.take(Time::ZERO).unwrap();
        assert!(pool.release(Time::ZERO, pair.rtcp()));
        assert!(!pool.release(Time::ZERO, pair.rtp()), "released twice");
        assert_eq!(pool.in_use(), 0);
        assert_eq!(pool.take(Time::ZERO + REST - Duration::from_micros(1)), None);
        assert_eq!(pool.take(Time::ZERO + REST), Some(pair));
    }

    #[test]
    fn an_adopted_pair_is_not_handed_out_even_if_it_rested() {
        let mut pool = pool(20_000..=20_003);
        let pair = pool.take(Time::ZERO).unwrap();
        pool.release(Time::ZERO, pair.rtp());
        assert_eq!(pool.claim(pair.rtp()), Ok(pair));
        assert_eq!(pool.claim(pair.rtcp()), Err(ClaimError::InUse(pair.rtcp())));
        assert_eq!(pool.claim(30_000), Err(ClaimError::Foreign(30_000)));
        assert_eq!(pool.claim(19_998), Err(ClaimError::Foreign(19_998)));
        let later = Time::ZERO + REST * 2;
        assert_eq!(pool.take(later).map(PortPair::rtp), Some(20_002));
        assert_eq!(pool.take(later), None);
    }

    #[test]
    fn workers_share_a_range_without_overlap() {
        let pools = PortPool::partition("::1".parse().unwrap(), 10_000..=10_019, REST, 3).unwrap();
        let mut ports = Vec::new();
        for mut pool in pools {
            ports.extend(std::iter::from_fn(|| pool.take(Time::ZERO)).map(PortPair::rtp));
        }
        assert_eq!(ports, [10_000, 10_002, 10_004, 10_006, 10_008, 10_010, 10_012, 10_014, 10_016]);
    }

    #[test]
    fn a_range_too_small_or_privileged_is_refused_by_name() {
        let address = "192.0.2.1".parse().unwrap();
        let small = PortPool::partition(address, 10_000..=10_002, REST, 2).unwrap_err();
        assert_eq!(small, PortRangeError::TooSmall { first: 10_000, last: 10_002, pairs: 1, workers: 2 });
        let low = PortPool::partition(address, 1000..=9000, REST, 2).unwrap_err();
        assert_eq!(low, PortRangeError::Privileged { first: 1000, last: 9000 });
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Release(u16),
        Claim(u16),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let port = 9_996..10_150u16;
        let step = prop_oneof![
            4 => Just(Step::Take),
            3 => port.clone().prop_map(Step::Release),
            1 => port.prop_map(Step::Claim),
            2 => (0..3_000_000u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        /// The model: for each pair, the time from which it may be taken, or that a call holds it.
        #[test]
        fn a_pool_behaves_as_its_model(steps in steps()) {
            let mut pool = pool(10_000..=10_139);
            let mut held: HashMap<u16, bool> = HashMap::new();
            let mut ready: HashMap<u16, Time> = HashMap::new();
            let inside = |port: u16| (10_000..=10_139).contains(&port);
            let mut now = Time::ZERO;
            for step in steps {
                match step {
                    Step::Wait(micros) => now = now + Duration::from_micros(micros),
                    Step::Take => match pool.take(now) {
                        Some(pair) => {
                            prop_assert!(inside(pair.rtp()) && inside(pair.rtcp()));
                            prop_assert!(ready.get(&pair.rtp()).is_none_or(|at| *at <= now), "not rested");
                            prop_assert!(!held.insert(pair.rtp(), true).unwrap_or(false), "clash");
                        }
                        None => prop_assert!((10_000..10_140u16).step_by(2).all(|port| {
                            held.get(&port) == Some(&true) || ready.get(&port).is_some_and(|at| *at > now)
                        }), "exhausted too early"),
                    },
                    Step::Release(port) => {
                        let even = port & !1;
                        let was_held = held.insert(even, false).unwrap_or(false);
                        prop_assert_eq!(pool.release(now, port), was_held);
                        if was_held {
                            ready.insert(even, now + REST);
                        }
                    }
                    Step::Claim(port) => match pool.claim(port) {
                        Ok(pair) => prop_assert!(!held.insert(pair.rtp(), true).unwrap_or(false)),
                        Err(ClaimError::InUse(port)) => prop_assert_eq!(held.get(&(port & !1)), Some(&true)),
                        Err(ClaimError::Foreign(port)) => prop_assert!(!inside(port)),
                    },
                }
                prop_assert_eq!(pool.in_use(), held.values().filter(|is_held| **is_held).count());
            }
        }
    }
}
