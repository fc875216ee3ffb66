//! Which packet indices of one source were seen, and what index a sequence number means.

/// The last 128 indices up to the highest (RFC 3711 section 3.3.2 asks for 64 at least).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    highest: u64,
    /// Bit n: the index n below the highest was seen. 0 before the first packet.
    seen: u128,
}

impl Window {
    /// As it was written down: the highest index, and the words of what was seen, lowest first.
    pub(super) fn of((highest, [low, high]): (u64, [u64; 2])) -> Self {
        Self { highest, seen: u128::from(high) << 64 | u128::from(low) }
    }

    /// To be written down.
    pub(super) fn record(&self) -> (u64, [u64; 2]) {
        (self.highest, [self.seen as u64, (self.seen >> 64) as u64])
    }

    /// Highest index seen.
    pub(super) fn highest(&self) -> Option<u64> {
        (self.seen != 0).then_some(self.highest)
    }

    /// Whether a packet of this index may still come.
    pub(super) fn admits(&self, index: u64) -> bool {
        let Some(highest) = self.highest() else { return true };
        match highest.checked_sub(index) {
            None => true,
            Some(below) => below < u64::from(u128::BITS) && self.seen >> below & 1 == 0,
        }
    }

    /// Whether the window covers this index or it lies ahead.
    pub(super) fn reaches(&self, index: u64) -> bool {
        self.highest().is_none_or(|highest| highest.saturating_sub(index) < u64::from(u128::BITS))
    }

    /// A packet of this index was authentic.
    pub(super) fn accept(&mut self, index: u64) {
        match self.highest().and_then(|highest| highest.checked_sub(index)) {
            Some(below) => self.seen |= 1u128.checked_shl(below.try_into().unwrap_or(u32::MAX)).unwrap_or(0),
            None => {
                let above = index - self.highest;
                let shifted = u32::try_from(above).ok().and_then(|above| self.seen.checked_shl(above));
                *self = Self { highest: index, seen: shifted.unwrap_or(0) | 1 };
            }
        }
    }

    /// The index nearest to the highest that a sequence number can mean (RFC 3711 appendix A).
    pub(super) fn estimate(&self, sequence: u16) -> u64 {
        let Some(highest) = self.highest() else { return sequence.into() };
        let rollover = highest >> 16;
        let ahead = sequence.wrapping_sub(highest as u16);
        if ahead < 0x8000 {
            highest + u64::from(ahead)
        } else {
            // Behind; before the beginning there is nothing, so that there it is far ahead.
            let behind = u64::from(ahead.wrapping_neg());
            highest.checked_sub(behind).unwrap_or(rollover << 16 | u64::from(sequence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_index_is_admitted_once_and_only_while_the_window_covers_it() {
        let mut window = Window::default();
        for index in [1000, 1001, 1127] {
            assert!(window.admits(index));
            window.accept(index);
            assert!(!window.admits(index));
        }
        assert!(!window.admits(1000), "128 indices up to 1127 begin at 1000, which was seen");
        assert!(!window.admits(999), "below the window");
        assert!(window.admits(1002));
        window.accept(1_000_000);
        assert!(!window.admits(1127) && window.admits(999_999));
    }

    #[test]
    fn a_sequence_number_means_the_nearest_index() {
        let at = |highest| {
            let mut window = Window::default();
            window.accept(highest);
            window
        };
        let table = [
            (0xfffe, 0xffff, 0xffff),
            (0xffff, 0, 0x1_0000),
            (0x1_0002, 0xffff, 0xffff),
            (0x1_8000, 0x7fff, 0x1_7fff),
            (0x2_0001, 0x8002, 0x1_8002),
            // Nothing came before the beginning.
            (5, 0xffff, 0xffff),
        ];
        for (highest, sequence, index) in table {
            assert_eq!(at(highest).estimate(sequence), index, "{highest:#x} {sequence:#x}");
        }
        assert_eq!(Window::default().estimate(0xffff), 0xffff);
    }

    proptest! {
        /// Packets that are late or lost by less than half a turn keep their index.
        #[test]
        fn an_index_is_found_again_from_its_lowest_bits(
            highest in 0u64..1 << 40,
            offset in -0x7fffi64..0x7fff,
        ) {
            let Some(index) = highest.checked_add_signed(offset) else { return Ok(()) };
            let mut window = Window::default();
            window.accept(highest);
            prop_assert_eq!(window.estimate(index as u16), index);
        }
    }
}
