//! Tones and pauses that repeat, as text.

use std::str::FromStr;

/// Tones that sound at once.
const MOST_TONES: usize = 2;
const MOST_SEGMENTS: usize = 16;
/// What an audio of 8 kHz can hold, with room for its filters.
const FREQUENCIES: std::ops::RangeInclusive<u16> = 20..=3_400;
const LONGEST_MS: u32 = 60_000;

/// Segments one after the other, then again from the first.
///
/// As text: segments with a comma between, each `frequency/milliseconds` or `frequency+frequency/milliseconds` in
/// Hz, 0 for a pause: `400+450/400,0/200,400+450/400,0/2000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Hz; zeros are silent.
    pub(super) tones: [u16; MOST_TONES],
    pub(super) milliseconds: u32,
}

/// Text that is no cadence, by its first wrong segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CadenceError {
    #[error(
        "{0:?} is no segment: write frequency/milliseconds, as in 425/1000 or 400+450/400, and 0/2000 for a pause"
    )]
    Segment(String),
    #[error("a cadence has 1 to {MOST_SEGMENTS} segments, and one of them sounds")]
    Segments,
}

impl Cadence {
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl FromStr for Cadence {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let segment = |text: &str| segment(text.trim()).ok_or_else(|| CadenceError::Segment(text.to_owned()));
        let segments = text.split(',').map(segment).collect::<Result<Vec<_>, _>>()?;
        let sounds = segments.iter().any(|segment| segment.tones != [0; MOST_TONES]);
        if segments.len() > MOST_SEGMENTS || !sounds {
            return Err(CadenceError::Segments);
        }
        Ok(Self { segments })
    }
}

fn segment(text: &str) -> Option<Segment> {
    let (tones, milliseconds) = text.split_once('/')?;
    let milliseconds = milliseconds.parse().ok().filter(|ms| (1..=LONGEST_MS).contains(ms))?;
    let mut segment = Segment { tones: [0; MOST_TONES], milliseconds };
    if tones != "0" {
        for (at, tone) in tones.split('+').enumerate() {
            *segment.tones.get_mut(at)? = tone.parse().ok().filter(|tone| FREQUENCIES.contains(tone))?;
        }
    }
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_cadence_is_refused_by_its_segment() {
        for text in [
            "425",
            "425/",
            "/500",
            "425/0",
            "425/70000",
            "5000/500",
            "400+450+480/500",
            "425/500,,0/500",
            "a/500",
        ] {
            assert!(matches!(text.parse::<Cadence>(), Err(CadenceError::Segment(_))), "{text}");
        }
        assert_eq!("0/500".parse::<Cadence>(), Err(CadenceError::Segments));
        assert_eq!(["425/10"; 17].join(",").parse::<Cadence>(), Err(CadenceError::Segments));
        let uk: Cadence = "400+450/400, 0/200, 400+450/400, 0/2000".parse().unwrap();
        assert_eq!(uk.segments().len(), 4);
        assert_eq!(uk.segments()[0], Segment { tones: [400, 450], milliseconds: 400 });
    }
}
