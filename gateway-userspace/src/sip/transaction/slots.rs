//! Transactions by a number that is never used twice for two of them in reach of each other.

use slab::Slab;

/// Slots that are used again, each time under another epoch.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slab: Slab<(u32, T)>,
    epoch: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slab: Slab::new(), epoch: 0 }
    }
}

impl<T> Slots<T> {
    /// Slot and epoch of `value` in its new place.
    pub(super) fn insert(&mut self, value: T) -> (u32, u32) {
        self.epoch = self.epoch.wrapping_add(1);
        let slot = self.slab.insert((self.epoch, value));
        (u32::try_from(slot).expect("the limit on transactions is far below 2^32"), self.epoch)
    }

    pub(super) fn find(&mut self, slot: u32, epoch: u32) -> Option<&mut T> {
        self.slab.get_mut(slot as usize).filter(|(own, _)| *own == epoch).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, slot: u32, epoch: u32) -> Option<T> {
        self.find(slot, epoch)?;
        self.slab.try_remove(slot as usize).map(|(_, value)| value)
    }

    /// Slot, epoch and value of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        self.slab
            .iter()
            .map(|(slot, (epoch, value))| (u32::try_from(slot).unwrap_or(u32::MAX), *epoch, value))
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_does_not_answer_to_its_old_epoch() {
        let mut slots = Slots::default();
        let (slot, epoch) = slots.insert('a');
        assert_eq!(slots.remove(slot, epoch), Some('a'));
        let (again, next) = slots.insert('b');
        assert_eq!(again, slot);
        assert_eq!(slots.find(slot, epoch), None);
        assert_eq!(slots.remove(slot, epoch), None);
        assert_eq!(slots.find(slot, next), Some(&mut 'b'));
    }
}
