//! Slots of the state array: each worker owns a range of its own, so no two ever share one.

use crate::base::id::CoreId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

/// A freed slot rests until this many others were freed after it, so that a packet that still saw the old
/// flow on another core is done with the slot before a new flow gets it.
const RESTING: usize = 256;

/// How `flows` slots are split among `cores` workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub flows: u32,
    pub cores: u16,
}

impl Split {
    pub fn range(self, core: CoreId) -> Range<u32> {
        let cores = u64::from(self.cores.max(1));
        let bound = |index: u64| (u64::from(self.flows) * index / cores) as u32;
        bound(u64::from(core.0))..bound(u64::from(core.0) + 1)
    }

    /// The worker whose range holds `slot`.
    pub fn owner(self, slot: u32) -> CoreId {
        let cores = u64::from(self.cores.max(1));
        // The least core whose range ends past the slot.
        let core = ((u64::from(slot) + 1) * cores).div_ceil(u64::from(self.flows.max(1))) - 1;
        CoreId(core.min(cores - 1) as u16)
    }
}

/// The free slots of one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Never used since start, taken only when nothing rested long enough: pages of the state array that no
    /// flow used stay untouched.
    fresh: Range<u32>,
    /// In use before start, by flows that a daemon before this one left.
    taken: HashSet<u32>,
    freed: VecDeque<u32>,
    /// Of this worker.
    range: Range<u32>,
    /// Epoch that each slot had last, by this daemon.
    epochs: HashMap<u32, u32>,
}

impl Slots {
    pub(crate) fn new(range: Range<u32>, taken: impl IntoIterator<Item = u32>) -> Self {
        let taken = taken.into_iter().filter(|slot| range.contains(slot)).collect();
        Self { fresh: range.clone(), range, taken, freed: VecDeque::new(), epochs: HashMap::new() }
    }

    /// Slots in all.
    pub(crate) fn capacity(&self) -> u32 {
        self.range.len() as u32
    }

    /// A free slot and the last epoch that this daemon gave it.
    pub(crate) fn take(&mut self) -> Option<(u32, Option<u32>)> {
        let slot = if self.freed.len() > RESTING { self.freed.pop_front() } else { None }
            .or_else(|| self.fresh.by_ref().find(|slot| !self.taken.contains(slot)))
            .or_else(|| self.freed.pop_front())?;
        Some((slot, self.epochs.get(&slot).copied()))
    }

    /// Gives back a slot whose flow had `epoch`. One of another worker's range, which a call of a daemon with another number
    /// of workers had, rests until the next start: records of it would not find their core.
    pub(crate) fn free(&mut self, slot: u32, epoch: u32) {
        if !self.range.contains(&slot) {
            return;
        }
        self.epochs.insert(slot, epoch);
        self.freed.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_another_range_is_not_given_out_again() {
        let mut slots = Slots::new(4..6, []);
        slots.free(1, 7);
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some((4, None)), Some((5, None)), None]);
        assert_eq!(slots.capacity(), 2);
    }

    #[test]
    fn every_slot_has_exactly_one_owner_whatever_the_split() {
        for flows in [1, 2, 7, 100, 1001] {
            for cores in 1..=9 {
                let split = Split { flows, cores };
                let mut next = 0;
                for core in (0..cores).map(CoreId) {
                    let range = split.range(core);
                    assert_eq!(range.start, next);
                    next = range.end;
                    assert!(range.clone().all(|slot| split.owner(slot) == core), "{split:?} {core:?}");
                }
                assert_eq!(next, flows);
            }
        }
    }

    #[test]
    fn slots_of_flows_left_by_another_daemon_are_never_handed_out() {
        let mut slots = Slots::new(0..4, [1, 3, 77]);
        assert_eq!(slots.take(), Some((0, None)));
        assert_eq!(slots.take(), Some((2, None)));
        assert_eq!(slots.take(), None);
    }

    #[test]
    fn a_freed_slot_rests_while_others_are_left_and_remembers_its_epoch() {
        let mut slots = Slots::new(0..2, []);
        let (first, _) = slots.take().unwrap();
        slots.free(first, 5);
        assert_eq!(slots.take(), Some((1, None)));
        assert_eq!(slots.take(), Some((first, Some(5))));
    }
}
