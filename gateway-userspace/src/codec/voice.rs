//! Something to say in tests: sound with the structure of speech, the same on every host.

use super::resample::Resampler;
use std::f32::consts::TAU;

/// Some seconds of [`Voice`] at `rate`.
pub(crate) fn speech_like(rate: u32, seconds: usize) -> Vec<i16> {
    let mut voice = Voice::new(16_000);
    let audio: Vec<i16> = (0..16_000 * seconds).map(|_| voice.sample() / 2).collect();
    let mut resampled = Vec::new();
    Resampler::new(16_000, rate).process(&audio, &mut resampled);
    resampled
}

/// Glottal pulses of a wandering pitch through three formants that change with each syllable, hisses, and pauses.
pub(crate) struct Voice {
    rate: f32,
    random: u32,
    left: usize,
    /// Level of pulses and of hiss in this syllable, reached gently.
    wanted: (f32, f32),
    level: (f32, f32),
    pitch: f32,
    glide: f32,
    phase: f32,
    formants: [(f32, f32); 3],
    states: [(f32, f32); 3],
}

impl Voice {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate: rate as f32,
            random: 0x1234_5678,
            left: 0,
            wanted: (0.0, 0.0),
            level: (0.0, 0.0),
            pitch: 120.0,
            glide: 0.0,
            phase: 0.0,
            formants: [(0.0, 0.0); 3],
            states: [(0.0, 0.0); 3],
        }
    }

    /// 0 to 1.
    fn chance(&mut self) -> f32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 8) as f32 / (1 << 24) as f32
    }

    fn syllable(&mut self) {
        const VOWELS: [[f32; 3]; 6] = [
            [730.0, 1090.0, 2440.0],
            [270.0, 2290.0, 3010.0],
            [300.0, 870.0, 2240.0],
            [530.0, 1840.0, 2480.0],
            [570.0, 840.0, 2410.0],
            [640.0, 1190.0, 2390.0],
        ];
        let kind = self.chance();
        self.wanted = match () {
            () if kind < 0.15 => (0.0, 0.0),
            () if kind < 0.3 => (0.0, 0.25),
            () => (0.6 + 0.4 * self.chance(), 0.01),
        };
        let milliseconds = 60.0 + 180.0 * self.chance();
        self.left = (milliseconds / 1000.0 * self.rate) as usize;
        self.pitch = 90.0 + 130.0 * self.chance();
        self.glide = (self.chance() - 0.5) * 60.0 / self.rate;
        let vowel = VOWELS[(self.chance() * 5.99) as usize];
        for (formant, hertz) in self.formants.iter_mut().zip(vowel) {
            // A resonator of 80 to 140 Hz bandwidth.
            let radius = (-std::f32::consts::PI * (80.0 + hertz / 50.0) / self.rate).exp();
            *formant = (2.0 * radius * (TAU * hertz / self.rate).cos(), -radius * radius);
        }
    }

    pub(crate) fn sample(&mut self) -> i16 {
        if self.left == 0 {
            self.syllable();
        }
        self.left -= 1;
        let gentle = 200.0 / self.rate;
        self.level.0 += (self.wanted.0 - self.level.0) * gentle;
        self.level.1 += (self.wanted.1 - self.level.1) * gentle;
        self.pitch += self.glide;
        self.phase += self.pitch / self.rate;
        let mut pulse = 0.0;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            pulse = 1.0;
        }
        let hiss = (self.chance() - 0.5) * self.level.1;
        let drive = pulse * self.level.0 * (self.rate / 8_000.0) + hiss * 0.2;
        let mut voice = 0.0;
        for ((one, two), state) in self.formants.iter().zip(&mut self.states) {
            let value = drive * 0.3 + one * state.0 + two * state.1;
            *state = (value, state.0);
            voice += value;
        }
        ((voice + hiss) * 5_000.0).clamp(-30_000.0, 30_000.0) as i16
    }
}
