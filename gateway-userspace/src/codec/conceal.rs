//! Audio in place of lost packets, for codecs that bring no concealment: the way of G.711 Appendix I.
//!
//! The last pitch period is repeated, at full level for 10 ms and fading to silence at 60 ms; what comes after a
//! loss is faded in over the repetition. Unlike the appendix nothing is delayed, so the join at the beginning of a
//! loss is as good as the audio is periodic.

/// Milliseconds of audio kept: the longest period, and a window in which it is looked for.
const HISTORY_MS: usize = 40;
/// Periods of voices, in milliseconds: 66 to 200 Hz, multiples of higher ones.
const PERIODS_MS: (usize, usize) = (5, 15);
const MATCHED_MS: usize = 20;
/// Fade between the repetition and what was heard.
const OVERLAP_MS: usize = 4;
/// From where the repetition fades, and where it has.
const FADE_MS: (usize, usize) = (10, 60);

/// What was heard lately, and the repetition while nothing is.
#[derive(Debug)]
pub struct Concealer {
    samples_per_ms: usize,
    /// The newest sample is the last.
    history: Vec<i16>,
    /// The period that is repeated, with its end made to meet its beginning.
    period: Vec<i16>,
    /// Samples concealed since something was heard.
    concealed: usize,
}

impl Concealer {
    /// For audio of `rate` samples a second.
    pub fn new(rate: u32) -> Self {
        let samples_per_ms = rate as usize / 1000;
        Self {
            samples_per_ms,
            history: vec![0; HISTORY_MS * samples_per_ms],
            period: Vec::with_capacity(PERIODS_MS.1 * samples_per_ms),
            concealed: 0,
        }
    }

    /// Takes audio that came; its beginning is faded in after a loss.
    pub fn heard(&mut self, audio: &mut [i16]) {
        if self.concealed > 0 {
            let overlap = (OVERLAP_MS * self.samples_per_ms).min(audio.len());
            for (at, sample) in audio[..overlap].iter_mut().enumerate() {
                let weight = (at + 1) as f32 / (overlap + 1) as f32;
                let repeated = f32::from(self.repetition(self.concealed + at));
                *sample = (f32::from(*sample) * weight + repeated * (1.0 - weight)) as i16;
            }
            self.concealed = 0;
        }
        self.remember(audio);
    }

    /// Appends `samples` in place of what did not come.
    pub fn conceal(&mut self, samples: usize, audio: &mut Vec<i16>) {
        if self.concealed == 0 {
            self.find_period();
        }
        let start = audio.len();
        audio.extend((self.concealed..self.concealed + samples).map(|at| self.repetition(at)));
        self.concealed += samples;
        self.remember(&audio[start..]);
    }

    fn remember(&mut self, audio: &[i16]) {
        let kept = self.history.len();
        if let Some(newest) = audio.len().checked_sub(kept) {
            self.history.copy_from_slice(&audio[newest..]);
        } else {
            self.history.copy_within(audio.len().., 0);
            self.history[kept - audio.len()..].copy_from_slice(audio);
        }
    }

    /// The lag at which the last [`MATCHED_MS`] look most like what was before them.
    fn find_period(&mut self) {
        let end = self.history.len();
        let matched = MATCHED_MS * self.samples_per_ms;
        let recent = &self.history[end - matched..];
        let likeness = |lag: usize| {
            let earlier = &self.history[end - matched - lag..end - lag];
            let (mut product, mut energy) = (0.0f32, 1.0f32);
            for (one, other) in recent.iter().zip(earlier) {
                product += f32::from(*one) * f32::from(*other);
                energy += f32::from(*other) * f32::from(*other);
            }
            product / energy.sqrt()
        };
        let (shortest, longest) = (PERIODS_MS.0 * self.samples_per_ms, PERIODS_MS.1 * self.samples_per_ms);
        let lag = (shortest..=longest)
            .map(|lag| (lag, likeness(lag)))
            .max_by(|one, other| one.1.total_cmp(&other.1))
            .map_or(longest, |(lag, _)| lag);
        self.period.clear();
        self.period.extend_from_slice(&self.history[end - lag..]);
        // The last quarter turns into what stood in front of the period, so that its end meets its beginning.
        let quarter = lag / 4;
        for at in 0..quarter {
            let weight = (at + 1) as f32 / (quarter + 1) as f32;
            let before = f32::from(self.history[end - lag - quarter + at]);
            let sample = &mut self.period[lag - quarter + at];
            *sample = (f32::from(*sample) * (1.0 - weight) + before * weight) as i16;
        }
    }

    /// Sample `at` of the repetition.
    fn repetition(&self, at: usize) -> i16 {
        let (from, until) = (FADE_MS.0 * self.samples_per_ms, FADE_MS.1 * self.samples_per_ms);
        if at >= until || self.period.is_empty() {
            return 0;
        }
        let gain = if at < from { 1.0 } else { (until - at) as f32 / (until - from) as f32 };
        (f32::from(self.period[at % self.period.len()]) * gain) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(range: std::ops::Range<usize>) -> Vec<i16> {
        range.map(|at| (8000.0 * (at as f32 * std::f32::consts::TAU * 200.0 / 8000.0).sin()) as i16).collect()
    }

    #[test]
    fn a_periodic_sound_goes_on_through_a_short_loss() {
        let mut concealer = Concealer::new(8_000);
        concealer.heard(&mut tone(0..480));
        let mut audio = Vec::new();
        concealer.conceal(80, &mut audio);
        let expected = tone(480..560);
        let error: f32 = audio.iter().zip(&expected).map(|(a, b)| f32::from(a - b).powi(2)).sum();
        let energy: f32 = expected.iter().map(|a| f32::from(*a).powi(2)).sum();
        assert!(error < energy / 100.0, "{error} of {energy}");
    }

    #[test]
    fn a_long_loss_ends_in_silence_and_what_follows_is_faded_in() {
        let mut concealer = Concealer::new(8_000);
        concealer.heard(&mut tone(0..480));
        let mut audio = Vec::new();
        for _ in 0..4 {
            concealer.conceal(160, &mut audio);
        }
        assert!(audio[480..].iter().all(|&sample| sample == 0));
        let mut after = vec![8000; 160];
        concealer.heard(&mut after);
        assert!(after[0] < 1000 && after[31] > 7000 && after[32] == 8000, "{:?}", &after[..33]);
    }

    #[test]
    fn a_loss_before_anything_was_heard_is_silence() {
        let mut audio = Vec::new();
        Concealer::new(16_000).conceal(320, &mut audio);
        assert_eq!(audio, [0; 320]);
    }
}
