//! Losses as they are heard: bursts, in which they are frequent, and the gaps between those (RFC 3611 section 4.7.2).
//!
//! Nothing is done for a packet that follows the one before it: who counts packets anyway says at a loss how many
//! were heard since the last.

/// As many packets in a row between two losses part two bursts (RFC 3611 section 4.7.2: the value it recommends).
pub const GMIN: u8 = 16;

/// All losses of a stream.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Losses {
    bursts: Stretches,
    gaps: Stretch,
    /// From a loss on, until [`GMIN`] packets in a row were heard.
    open: Stretch,
}

/// What is told of them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Bursts {
    pub bursts: Stretches,
    pub gaps: Stretches,
}

/// All stretches of one kind.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Stretches {
    pub count: u32,
    pub all: Stretch,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Stretch {
    pub packets: u32,
    pub lost: u32,
}

impl Losses {
    /// `lost` packets in a row, at least one, are missing behind `heard` in a row.
    #[inline(always)]
    pub fn lose(&mut self, heard: u32, lost: u32) {
        if self.open.lost == 0 || heard >= GMIN as u32 {
            self.close();
            self.gaps.packets = self.gaps.packets.wrapping_add(heard);
            self.open = Stretch { packets: lost, lost };
        } else {
            self.open.add(Stretch { packets: heard.wrapping_add(lost), lost });
        }
    }

    /// A packet that was missed came after all. Of a stretch that is over it may have been; then it stays lost, as it is
    /// for who plays it.
    #[inline(always)]
    pub fn find(&mut self) {
        self.open.lost = self.open.lost.saturating_sub(1);
    }

    /// So far, with `heard` in a row since the last loss. A gap is in front of each burst, and behind the last.
    pub fn told(mut self, heard: u32) -> Bursts {
        self.close();
        self.gaps.packets = self.gaps.packets.wrapping_add(heard);
        let gaps = Stretches { count: self.bursts.count.wrapping_add(1), all: self.gaps };
        Bursts { bursts: self.bursts, gaps }
    }

    /// A loss by itself is of a gap.
    #[inline(always)]
    fn close(&mut self) {
        if self.open.lost > 1 {
            self.bursts.count = self.bursts.count.wrapping_add(1);
            self.bursts.all.add(self.open);
        } else {
            self.gaps.add(self.open);
        }
        self.open = Stretch { packets: 0, lost: 0 };
    }
}

impl Stretch {
    #[inline(always)]
    fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.lost = self.lost.wrapping_add(other.lost);
    }
}

#[cfg(any(test, feature = "std"))]
impl Stretches {
    /// Share of the packets that were lost, 0 to 1.
    pub fn density(&self) -> f64 {
        f64::from(self.all.lost) / f64::from(self.all.packets.max(1))
    }

    /// Packets that one of them lasts, on average.
    pub fn length(&self) -> f64 {
        f64::from(self.all.packets) / f64::from(self.count.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.` for a packet that was heard, `x` for one that was not, `o` for one that came late.
    fn told(packets: &str) -> Bursts {
        let (mut losses, mut heard) = (Losses::default(), 0);
        for packet in packets.chars() {
            match packet {
                '.' => heard += 1,
                'o' => losses.find(),
                _ => losses.lose(std::mem::take(&mut heard), 1),
            }
        }
        losses.told(heard)
    }

    fn stretches(count: u32, packets: u32, lost: u32) -> Stretches {
        Stretches { count, all: Stretch { packets, lost } }
    }

    #[test]
    fn bursts_are_told_from_losses_by_themselves() {
        let gap = ".".repeat(16);
        for (packets, bursts, gaps) in [
            (String::new(), stretches(0, 0, 0), stretches(1, 0, 0)),
            (gap.clone(), stretches(0, 0, 0), stretches(1, 16, 0)),
            (format!("..x{gap}x{gap}"), stretches(0, 0, 0), stretches(1, 36, 2)),
            // One packet less in between, and both are of a burst.
            (format!("..x{}x{gap}", ".".repeat(15)), stretches(1, 17, 2), stretches(2, 18, 0)),
            (format!("..xx.x{gap}..x{gap}xx"), stretches(2, 6, 5), stretches(3, 37, 1)),
            // What came late is no loss.
            (format!("..x.o{gap}x{gap}"), stretches(0, 0, 0), stretches(1, 37, 1)),
            (format!("..x.ox{gap}"), stretches(0, 0, 0), stretches(1, 21, 1)),
            (format!("..xx.o{gap}"), stretches(0, 0, 0), stretches(1, 21, 1)),
            (format!("..oxx{gap}"), stretches(1, 2, 2), stretches(2, 18, 0)),
        ] {
            assert_eq!(told(&packets), Bursts { bursts, gaps }, "{packets}");
        }
    }

    #[test]
    fn packets_lost_in_a_row_are_as_many_losses() {
        let (mut at_once, mut each) = (Losses::default(), Losses::default());
        for (heard, lost) in [(3, 4), (2, 3), (16, 1), (40, 2)] {
            at_once.lose(heard, lost);
            each.lose(heard, 1);
            (1..lost).for_each(|_| each.lose(0, 1));
        }
        assert_eq!(at_once, each);
    }

    #[test]
    fn densities_and_lengths_are_of_the_average_stretch() {
        let told = told(&format!("{}x.xx{}xx{}", ".".repeat(30), ".".repeat(20), ".".repeat(22)));
        assert_eq!((told.bursts.density(), told.bursts.length()), (5.0 / 6.0, 3.0));
        assert_eq!((told.gaps.density(), told.gaps.length()), (0.0, 24.0));
    }
}
