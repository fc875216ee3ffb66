//! Comfort noise (RFC 3389): what silence sounds like on the other side, in a few octets.

use super::Malformed;

/// Reflection coefficients that a description may have; more are ignored, as section 4.2 lets receivers do.
const MOST_COEFFICIENTS: usize = 12;
/// Those that descriptions made here have.
const OWN_COEFFICIENTS: usize = 8;
/// The quietest level that can be said, in dB below overload.
const QUIETEST: u8 = 127;

/// A description of silence: its level and the shape of its spectrum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silence {
    /// In dB below overload (dBov without its sign), 0 to 127.
    pub level: u8,
    /// Of an all-pole model; zeros make noise white.
    reflection: [f32; MOST_COEFFICIENTS],
}

impl Silence {
    /// White noise at `level` dB below overload.
    pub fn white(level: u8) -> Self {
        Self { level: level.min(QUIETEST), reflection: [0.0; MOST_COEFFICIENTS] }
    }

    /// Reads a payload (section 3).
    ///
    /// # Errors
    /// An empty payload, or a level whose reserved bit is set.
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let (&level, coefficients) = payload.split_first().ok_or(Malformed::Empty)?;
        if level > QUIETEST {
            return Err(Malformed::FrameType);
        }
        let mut silence = Self::white(level);
        for (reflection, code) in silence.reflection.iter_mut().zip(coefficients) {
            // Section 3.2: from -1 to 1 in 127ths, zero in the middle; a model at the very ends would ring for ever.
            *reflection = ((f32::from(*code) - 127.0) / 127.0).clamp(-0.99, 0.99);
        }
        Ok(silence)
    }

    /// What `audio` would be described as.
    pub fn measure(audio: &[i16]) -> Self {
        let mut correlation = [0.0f32; OWN_COEFFICIENTS + 1];
        for (lag, sum) in correlation.iter_mut().enumerate() {
            let later = audio.get(lag..).unwrap_or_default();
            *sum = later.iter().zip(audio).map(|(one, other)| f32::from(*one) * f32::from(*other)).sum();
        }
        let power = correlation[0] / audio.len().max(1) as f32;
        let level = -10.0 * (power.max(1e-6) / 32_768.0f32.powi(2)).log10();
        let mut silence = Self::white(level.round().clamp(0.0, f32::from(QUIETEST)) as u8);
        reflect(&correlation, &mut silence.reflection);
        silence
    }

    /// Appends the payload.
    pub fn write(&self, payload: &mut Vec<u8>) {
        payload.push(self.level);
        let used =
            self.reflection.iter().rposition(|reflection| *reflection != 0.0).map_or(0, |last| last + 1);
        payload.extend(
            self.reflection[..used].iter().map(|k| (k * 127.0 + 127.0).round().clamp(0.0, 254.0) as u8),
        );
    }
}

/// The recursion of Levinson and Durbin; the reflection coefficients of an all-pole model.
fn reflect(correlation: &[f32; OWN_COEFFICIENTS + 1], reflection: &mut [f32; MOST_COEFFICIENTS]) {
    // White noise correction: a pure tone has no stable model.
    let mut error = correlation[0] * 1.0001 + 1.0;
    let mut model = [0.0f32; OWN_COEFFICIENTS + 1];
    for order in 1..=OWN_COEFFICIENTS {
        let predicted: f32 = (1..order).map(|lag| model[lag] * correlation[order - lag]).sum();
        let k = (-(correlation[order] + predicted) / error).clamp(-0.98, 0.98);
        let before = model;
        for lag in 1..order {
            model[lag] += k * before[order - lag];
        }
        model[order] = k;
        reflection[order - 1] = k;
        error *= 1.0 - k * k;
    }
}

/// Makes noise as described.
#[derive(Debug)]
pub struct Generator {
    silence: Silence,
    state: [f32; MOST_COEFFICIENTS + 1],
    random: u32,
}

impl Generator {
    pub fn new(silence: Silence) -> Self {
        Self { silence, state: [0.0; MOST_COEFFICIENTS + 1], random: 0x2545_f491 }
    }

    /// Goes over to another description.
    pub fn follow(&mut self, silence: Silence) {
        self.silence = silence;
    }

    /// Appends `samples` of noise.
    pub fn generate(&mut self, samples: usize, audio: &mut Vec<i16>) {
        let Silence { level, reflection } = self.silence;
        let wanted = 32_768.0 * 10f32.powf(-f32::from(level) / 20.0);
        // The filter raises the power of what drives it by the product of 1 / (1 - k²).
        let kept: f32 = reflection.iter().map(|k| 1.0 - k * k).product();
        let drive = wanted * kept.max(1e-6).sqrt();
        for _ in 0..samples {
            let mut sample = self.noise() * drive;
            for order in (0..MOST_COEFFICIENTS).rev() {
                sample -= reflection[order] * self.state[order];
                self.state[order + 1] = self.state[order] + reflection[order] * sample;
            }
            self.state[0] = sample;
            audio.push(sample.clamp(-32_768.0, 32_767.0) as i16);
        }
    }

    /// Uniform with a power of one: no statistics are asked of it, only that it sounds like noise.
    fn noise(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        (self.random as f32 / u32::MAX as f32 - 0.5) * 12f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(audio: &[i16]) -> f32 {
        let power = audio.iter().map(|&sample| f32::from(sample).powi(2)).sum::<f32>() / audio.len() as f32;
        -10.0 * (power / 32_768.0f32.powi(2)).log10()
    }

    #[test]
    fn noise_has_the_level_that_is_described() {
        for wanted in [20, 45, 60] {
            let mut audio = Vec::new();
            Generator::new(Silence::white(wanted)).generate(8_000, &mut audio);
            assert!((level(&audio) - f32::from(wanted)).abs() < 1.0, "{} for {wanted}", level(&audio));
        }
    }

    #[test]
    fn coloured_noise_is_measured_written_read_and_made_again_alike() {
        // Noise that falls with the frequency: each sample leans on the one before.
        let mut white = Vec::new();
        Generator::new(Silence::white(40)).generate(8_000, &mut white);
        let mut last = 0.0;
        let brown: Vec<i16> = white
            .iter()
            .map(|&w| {
                last = 0.8 * last + f32::from(w);
                last as i16
            })
            .collect();
        let measured = Silence::measure(&brown);
        let mut payload = Vec::new();
        measured.write(&mut payload);
        let read = Silence::read(&payload).unwrap();
        assert_eq!(read.level, measured.level);
        let mut again = Vec::new();
        Generator::new(read).generate(8_000, &mut again);
        assert!((level(&again) - level(&brown)).abs() < 2.0, "{} and {}", level(&again), level(&brown));
        let tilt = |audio: &[i16]| {
            let product: f32 = audio.windows(2).map(|pair| f32::from(pair[0]) * f32::from(pair[1])).sum();
            product / audio.iter().map(|&s| f32::from(s).powi(2)).sum::<f32>()
        };
        assert!((tilt(&again) - tilt(&brown)).abs() < 0.05, "{} and {}", tilt(&again), tilt(&brown));
    }

    #[test]
    fn descriptions_of_every_length_and_value_are_read_or_refused() {
        assert_eq!(Silence::read(&[]), Err(Malformed::Empty));
        assert_eq!(Silence::read(&[128]), Err(Malformed::FrameType));
        for code in 0..=255 {
            let silence = Silence::read(&[&[30][..], &[code; 40]].concat()).unwrap();
            let mut audio = Vec::new();
            Generator::new(silence).generate(1_000, &mut audio);
            assert_eq!(audio.len(), 1_000);
        }
    }
}
