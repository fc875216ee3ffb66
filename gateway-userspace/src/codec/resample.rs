//! Linear audio from one sampling rate to another, by a polyphase filter.

/// Taps of the filter a sample of the lower rate.
const TAPS: usize = 32;
/// Where the filter has half its gain, in parts of half the lower rate: 3.65 kHz of 4.
const CUTOFF: f64 = 0.9125;
/// Of the Kaiser window: about 63 dB between what passes and what does not.
const BETA: f64 = 6.0;

/// One stream of audio from one rate to another; delays it by 16 samples of the lower rate.
#[derive(Debug)]
pub struct Resampler {
    /// Output samples for every [`Self::down`] input samples.
    up: usize,
    down: usize,
    /// One filter a phase of the output, each reversed: the oldest sample is the first.
    phases: Vec<Vec<f32>>,
    /// The last inputs, then those of one call.
    input: Vec<f32>,
    /// Position of the next output, in units of 1/`up` input samples from the first new input.
    position: usize,
}

impl Resampler {
    /// From `from` to `to` samples a second. Equal rates only copy.
    pub fn new(from: u32, to: u32) -> Self {
        let common = greatest_common_divisor(from, to);
        let (up, down) = ((to / common) as usize, (from / common) as usize);
        let wider = up.max(down);
        let prototype = prototype(wider, up);
        let length = prototype.len() / up;
        let phases = (0..up).map(|phase| (0..length).rev().map(|tap| prototype[tap * up + phase]).collect());
        Self { up, down, phases: phases.collect(), input: vec![0.0; length - 1], position: 0 }
    }

    /// Appends what `audio` becomes.
    pub fn process(&mut self, audio: &[i16], resampled: &mut Vec<i16>) {
        if self.up == self.down {
            resampled.extend_from_slice(audio);
            return;
        }
        let kept = self.input.len();
        self.input.extend(audio.iter().map(|&sample| f32::from(sample)));
        let end = audio.len() * self.up;
        while self.position < end {
            let phase = &self.phases[self.position % self.up];
            let at = self.position / self.up;
            let value = product(phase, &self.input[at..at + phase.len()]);
            resampled.push(value.round_ties_even() as i16);
            self.position += self.down;
        }
        self.position -= end;
        let used = self.input.len() - kept;
        self.input.copy_within(used.., 0);
        self.input.truncate(kept);
    }
}

/// Sum of products, in lanes that the compiler turns into vectors.
fn product(one: &[f32], other: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        for (lane, (one, other)) in lanes.iter_mut().zip(one.iter().zip(other)) {
            *lane += one * other;
        }
    }
    lanes.iter().sum()
}

/// A windowed sinc at `wider` times the lower rate, with a gain of `up` for the zeros that raising the rate inserts.
fn prototype(wider: usize, up: usize) -> Vec<f32> {
    let length = TAPS * wider;
    let middle = (length - 1) as f64 / 2.0;
    let cutoff = CUTOFF / wider as f64;
    let mut taps: Vec<f64> = (0..length)
        .map(|at| {
            let x = at as f64 - middle;
            let sinc = if x == 0.0 {
                cutoff
            } else {
                (std::f64::consts::PI * cutoff * x).sin() / (std::f64::consts::PI * x)
            };
            sinc * bessel(BETA * (1.0 - (x / middle).powi(2)).max(0.0).sqrt()) / bessel(BETA)
        })
        .collect();
    let gain = up as f64 / taps.iter().sum::<f64>();
    taps.iter_mut().for_each(|tap| *tap *= gain);
    taps.into_iter().map(|tap| tap as f32).collect()
}

/// Modified Bessel function of the first kind and order zero, by its series.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    (1..32).fold(1.0, |sum, k| {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum + term
    })
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one.max(1) } else { greatest_common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [u32; 3] = [8_000, 16_000, 48_000];

    fn tone(hertz: f64, rate: u32, samples: usize) -> Vec<i16> {
        let step = hertz * std::f64::consts::TAU / f64::from(rate);
        (0..samples).map(|at| (8000.0 * (at as f64 * step).sin()) as i16).collect()
    }

    fn rms(audio: &[i16]) -> f64 {
        (audio.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / audio.len() as f64).sqrt()
    }

    fn resampled(audio: &[i16], from: u32, to: u32, packet: usize) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to);
        let mut output = Vec::new();
        audio.chunks(packet).for_each(|packet| resampler.process(packet, &mut output));
        output
    }

    #[test]
    fn a_tone_keeps_its_level_between_any_two_rates() {
        for (from, to) in RATES.iter().flat_map(|from| RATES.map(|to| (*from, to))) {
            for hertz in [300.0, 1000.0, 3000.0] {
                let output = resampled(&tone(hertz, from, from as usize / 4), from, to, from as usize / 50);
                assert_eq!(output.len(), to as usize / 4);
                let level = 20.0 * (rms(&output[output.len() / 2..]) / (8000.0 / 2f64.sqrt())).log10();
                assert!(level.abs() < 0.2, "{from} to {to}: {hertz} Hz at {level:.2} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        for (from, to, hertz) in
            [(16_000, 8_000, 5_000.0), (48_000, 8_000, 5_000.0), (48_000, 16_000, 10_000.0)]
        {
            let output = resampled(&tone(hertz, from, from as usize / 4), from, to, 960);
            let level = 20.0 * (rms(&output[output.len() / 2..]) / 8000.0).log10();
            assert!(level < -55.0, "{hertz} Hz at {level:.1} dB");
        }
    }

    #[test]
    fn how_audio_is_cut_into_packets_makes_no_difference() {
        let audio = tone(700.0, 48_000, 4_800);
        assert_eq!(resampled(&audio, 48_000, 8_000, 480), resampled(&audio, 48_000, 8_000, 7));
        let audio = tone(700.0, 8_000, 800);
        assert_eq!(resampled(&audio, 8_000, 48_000, 160), resampled(&audio, 8_000, 48_000, 1));
    }
}
