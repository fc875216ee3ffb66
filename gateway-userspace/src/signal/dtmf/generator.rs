//! Keys into linear audio (Q.23).

use super::Key;
use std::collections::VecDeque;
use std::f32::consts::TAU;

/// Milliseconds of a tone at least, and of the pause after it: what slow receivers need (Q.24 table A-1, 40 ms and
/// 40 ms at most, with a margin).
const LEAST_TONE_MS: u32 = 70;
const PAUSE_MS: u32 = 70;
/// Keys that wait; more are refused.
const MOST_WAITING: usize = 32;
/// Amplitude of each tone: -9 dBm0 for the low one, and 2 dB more for the high one, which lines weaken more.
const LOW_AMPLITUDE: f32 = 7_950.0;
const HIGH_AMPLITUDE: f32 = 10_000.0;
/// Milliseconds over which a tone comes and goes, so that it does not click.
const RAMP_MS: u32 = 2;

/// Plays keys one after the other, each with a pause behind it.
#[derive(Debug)]
pub struct Generator {
    rate: u32,
    waiting: VecDeque<Press>,
    playing: Option<Playing>,
}

/// A key, and how long: `None` while nobody knows.
#[derive(Clone, Copy, Debug)]
struct Press {
    key: Key,
    samples: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Playing {
    press: Press,
    /// Samples since the tone began.
    at: u32,
}

impl Generator {
    /// For audio of `rate` samples a second.
    pub fn new(rate: u32) -> Self {
        Self { rate, waiting: VecDeque::with_capacity(MOST_WAITING), playing: None }
    }

    /// A key went down; it is up at [`Self::release`]. Nothing happens when too many wait.
    pub fn press(&mut self, key: Key) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(Press { key, samples: None });
        }
    }

    /// The key that went down last is up after `milliseconds`.
    pub fn release(&mut self, milliseconds: u32) {
        let samples = milliseconds.max(LEAST_TONE_MS).saturating_mul(self.rate / 1000);
        let playing = self.playing.as_mut().map(|playing| &mut playing.press);
        if let Some(press) = self.waiting.back_mut().or(playing) {
            press.samples.get_or_insert(samples);
        }
    }

    /// Whether there is a tone or a pause to play.
    pub fn is_active(&self) -> bool {
        self.playing.is_some() || !self.waiting.is_empty()
    }

    /// Appends `samples` of tones and pauses; silence when there is nothing to play.
    pub fn generate(&mut self, samples: usize, audio: &mut Vec<i16>) {
        for _ in 0..samples {
            let sample = self.sample();
            audio.push(sample);
        }
    }

    fn sample(&mut self) -> i16 {
        if self.playing.is_none() {
            self.playing = self.waiting.pop_front().map(|press| Playing { press, at: 0 });
        }
        let Some(Playing { press, at }) = &mut self.playing else { return 0 };
        let (now, until) = (*at, press.samples.unwrap_or(u32::MAX));
        *at += 1;
        if now >= until {
            if now - until >= PAUSE_MS * self.rate / 1000 {
                self.playing = None;
            }
            return 0;
        }
        let ramp = (RAMP_MS * self.rate / 1000) as f32;
        let gain = ((now + 1) as f32 / ramp).min((until - now) as f32 / ramp).min(1.0);
        let (low, high) = press.key.tones();
        let tone = |frequency: f32| {
            // In 64 bits: a long press at 48 kHz would lose its pitch in 32.
            let cycles = f64::from(frequency) * f64::from(now) / f64::from(self.rate);
            (cycles.fract() as f32 * TAU).sin()
        };
        (gain * (LOW_AMPLITUDE * tone(low) + HIGH_AMPLITUDE * tone(high))) as i16
    }
}
