//! Parameters of AMR and AMR-WB in `a=fmtp` (RFC 4867 section 8).

use super::payload::Layout;
use crate::codec::CodingError;
use crate::rtp::codec::parameter;

/// Which of the two codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// AMR: 8 kHz, 4.75 to 12.2 kbit/s.
    Narrow,
    /// AMR-WB: 16 kHz, 6.6 to 23.85 kbit/s.
    Wide,
}

impl Band {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Narrow => "AMR",
            Self::Wide => "AMR-WB",
        }
    }

    /// Samples a second, and the RTP clock.
    pub const fn sampling_rate(self) -> u32 {
        match self {
            Self::Narrow => 8_000,
            Self::Wide => 16_000,
        }
    }

    pub(super) const fn frame_samples(self) -> usize {
        (self.sampling_rate() * super::FRAME_MS / 1000) as usize
    }

    pub(super) const fn highest_mode(self) -> u8 {
        match self {
            Self::Narrow => 7,
            Self::Wide => 8,
        }
    }

    /// The mode to begin with where nobody asks for one: 12.2 kbit/s, the one that is also GSM-EFR, and
    /// 12.65 kbit/s, from which on AMR-WB is wideband in earnest (3GPP TS 26.171 section 4).
    pub(super) const fn usual_mode(self) -> u8 {
        match self {
            Self::Narrow => 7,
            Self::Wide => 2,
        }
    }
}

/// Modes that may be sent, and how they may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Bit n is mode n; never empty.
    allowed: u16,
    /// Frames between changes.
    period: u32,
    /// Only to the next higher or lower allowed one.
    neighbour: bool,
}

impl Modes {
    /// The highest allowed mode that is not above `ceiling`, else the lowest allowed.
    pub(super) fn highest(self, ceiling: u8) -> u8 {
        let below = self.allowed & ((2u16 << ceiling.min(14)) - 1);
        let chosen = if below == 0 { self.allowed.trailing_zeros() } else { 15 - below.leading_zeros() };
        chosen as u8
    }

    /// The mode to change to after `steady` frames of `now`, if a change to `wanted` may happen.
    pub(super) fn next(self, now: u8, wanted: u8, steady: u32) -> Option<u8> {
        if now == wanted || steady < self.period {
            return None;
        }
        if !self.neighbour {
            return Some(wanted);
        }
        let between = |mode: &u8| self.allowed & (1 << mode) != 0;
        if wanted > now { (now + 1..=wanted).find(between) } else { (wanted..now).rev().find(between) }
    }
}

/// What a description says of packets to its author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub band: Band,
    pub octet_aligned: bool,
    pub modes: Modes,
}

impl Parameters {
    /// Reads `a=fmtp`.
    ///
    /// # Errors
    /// Layouts that are not here: checksums, robust sorting, interleaving.
    pub fn read(band: Band, fmtp: &str) -> Result<Self, CodingError> {
        let refused = |parameter, value: &str| CodingError::Parameter {
            codec: band.name(),
            parameter,
            value: value.to_owned(),
        };
        for name in ["crc", "robust-sorting"] {
            match parameter(fmtp, name) {
                None | Some("0") => {}
                Some(value) => return Err(refused(name, value)),
            }
        }
        if let Some(value) = parameter(fmtp, "interleaving") {
            return Err(refused("interleaving", value));
        }
        let octet_aligned = match parameter(fmtp, "octet-align") {
            None | Some("0") => false,
            Some("1") => true,
            Some(value) => return Err(refused("octet-align", value)),
        };
        let every = (2u16 << band.highest_mode()) - 1;
        let allowed = match parameter(fmtp, "mode-set") {
            None => every,
            Some(set) => {
                modes(set).filter(|set| set & !every == 0).ok_or_else(|| refused("mode-set", set))?
            }
        };
        let period = if parameter(fmtp, "mode-change-period") == Some("2") { 2 } else { 1 };
        let neighbour = parameter(fmtp, "mode-change-neighbor") == Some("1");
        Ok(Self { band, octet_aligned, modes: Modes { allowed, period, neighbour } })
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { band: self.band, octet_aligned: self.octet_aligned }
    }
}

/// `0,2,4` as bits; `None` for an empty list or what is no mode.
fn modes(set: &str) -> Option<u16> {
    let mode = |text: &str| text.trim().parse::<u8>().ok().filter(|mode| *mode < 15);
    set.split(',').try_fold(0, |bits, text| mode(text).map(|mode| bits | 1 << mode)).filter(|bits| *bits != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_that_are_not_here_are_refused_by_name() {
        for fmtp in [
            "crc=1",
            "octet-align=1; robust-sorting=1",
            "interleaving=30",
            "octet-align=2",
            "mode-set=9",
            "mode-set=",
        ] {
            assert!(Parameters::read(Band::Narrow, fmtp).is_err(), "{fmtp}");
        }
        let read = Parameters::read(Band::Wide, "mode-set=0,1,8; Octet-Align=1; max-red=0; crc=0").unwrap();
        assert!(read.octet_aligned);
        assert_eq!(read.modes.highest(7), 1);
        assert_eq!(read.modes.highest(8), 8);
    }

    #[test]
    fn a_set_without_the_wanted_mode_gives_the_next_lower_or_else_its_lowest() {
        let modes = Parameters::read(Band::Narrow, "mode-set=2,5").unwrap().modes;
        assert_eq!([0, 2, 4, 5, 7].map(|ceiling| modes.highest(ceiling)), [2, 2, 2, 5, 5]);
    }
}
