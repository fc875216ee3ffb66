//! Losses as they are heard: bursts, in which they are frequent, and the gaps between those (RFC 3611 section 4.7.2).

/// As many packets in a row between two losses part two bursts (RFC 3611 section 4.7.2: the value it recommends).
pub const GMIN: u8 = 16;

/// Packets of a stream in their order, each heard or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    bursts: Stretches,
    gaps: Stretches,
    /// From a loss on, until [`GMIN`] packets in a row were heard.
    open: Stretch,
    /// Heard since the last loss, or since the beginning.
    heard: u32,
}

/// What is told of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bursts {
    pub bursts: Stretches,
    pub gaps: Stretches,
}

/// All stretches of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretches {
    pub count: u32,
    pub all: Stretch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    pub packets: u32,
    pub lost: u32,
}

impl Runs {
    pub(super) fn heard(&mut self) {
        self.heard = self.heard.saturating_add(1);
    }

    pub(super) fn lost(&mut self) {
        if self.open.lost > 0 && self.heard < u32::from(GMIN) {
            self.open.add(Stretch { packets: self.heard + 1, lost: 1 });
        } else {
            self.close();
            self.gaps.all.packets = self.gaps.all.packets.saturating_add(self.heard);
            self.open = Stretch { packets: 1, lost: 1 };
        }
        self.heard = 0;
    }

    /// So far. A gap is in front of each burst, and behind the last.
    pub(super) fn told(&self) -> Bursts {
        let mut now = *self;
        now.close();
        now.gaps.all.packets = now.gaps.all.packets.saturating_add(now.heard);
        let gaps = Stretches { count: now.bursts.count + 1, ..now.gaps };
        Bursts { bursts: now.bursts, gaps }
    }

    /// A loss by itself is of a gap.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.lost > 1 {
            self.bursts.count = self.bursts.count.saturating_add(1);
            self.bursts.all.add(open);
        } else {
            self.gaps.all.add(open);
        }
    }
}

impl Stretch {
    fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.lost = self.lost.saturating_add(other.lost);
    }
}

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

    /// `.` for a packet that was heard, `x` for one that was not.
    fn told(packets: &str) -> Bursts {
        let mut runs = Runs::default();
        packets.chars().for_each(|packet| if packet == 'x' { runs.lost() } else { runs.heard() });
        runs.told()
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
        ] {
            assert_eq!(told(&packets), Bursts { bursts, gaps }, "{packets}");
        }
    }

    #[test]
    fn densities_and_lengths_are_of_the_average_stretch() {
        let told = told(&format!("{}x.xx{}xx{}", ".".repeat(30), ".".repeat(20), ".".repeat(22)));
        assert_eq!((told.bursts.density(), told.bursts.length()), (5.0 / 6.0, 3.0));
        assert_eq!((told.gaps.density(), told.gaps.length()), (0.0, 24.0));
    }
}
