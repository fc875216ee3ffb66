//! Keys out of linear audio, within the limits of Q.24.
//!
//! Two stages. Every 6.4 ms the last 12.8 ms are held against the eight frequencies. The amplitude found in a
//! rectangular window is proportional to how much of the window the tone covers, so the sum of amplitudes over
//! their maximum is the duration of the tone, without any edge being looked for. When that says that a pair has
//! lasted long enough, the whole of the pair is looked at once more: frequencies from the turning of the phase, and
//! what is left when two tones of just these frequencies are taken away. Speech seldom gets past the first stage,
//! and hardly ever has nothing but two steady tones for 25 ms.

use super::{COLUMNS, Key, ROWS};
use std::f32::consts::TAU;
use std::ops::{Add, Mul, Sub};
use std::sync::LazyLock;

/// Samples a second of the audio that is looked at.
const RATE: f32 = 8_000.0;
/// Samples of a window, and from one to the next.
const WINDOW: usize = 102;
const HOP: usize = 51;
/// Samples from the beginning of a tone until it is reported at the latest. Who holds audio back for as long can
/// still take the whole tone out.
pub const LOOK_AHEAD: usize = 400;
/// Tones of this many samples are keys: between the 23 ms that must not be and the 40 ms that must (Q.24 table A-1).
const SHORTEST: f32 = 0.0295 * RATE;
/// Windows in a row that a pair must lead in before it is looked at closely.
const LEADING: usize = 3;
/// Windows in a row without the pair that end it: two are an interruption of 10 ms, which must not.
const ABSENT: usize = 3;
/// Windows that are remembered: a tone is reported long before they are over.
const REMEMBERED: usize = 12;
/// The least amplitude of each tone: -31 dBm0. Tones of -25 dBm0 must be taken.
const LEAST_AMPLITUDE: f32 = 620.0;
/// Mean power below which a window is not looked at.
const LEAST_POWER: f32 = LEAST_AMPLITUDE * LEAST_AMPLITUDE / 4.0;
/// What the two tones hold of a window's energy at least; tones 1.5 % off lose up to a third to the window.
const LEADING_SHARE: f32 = 0.5;
/// The same of the whole pair, once its frequencies are known.
const CERTAIN_SHARE: f32 = 0.87;
/// Part of the nominal frequency: between the 1.5 % that must be taken and the 3.5 % that must not.
const DEVIATION: f32 = 0.024;
/// High tone over low tone in dB: 8 below and 4 above must be taken.
const TWIST: std::ops::RangeInclusive<f32> = -9.0..=5.0;
/// Part of its maximum at which a pair counts as whole, and as there at all.
const WHOLE: f32 = 0.85;
const PRESENT: f32 = 0.5;

/// What was found in the audio that was fed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// A key is down; its tone began `ago` samples before the end of the audio fed so far.
    Began { key: Key, ago: usize },
    /// It is up; its tone lasted `samples`, and ended `ago` samples before the end of the audio fed so far.
    Ended { key: Key, samples: usize, ago: usize },
}

/// Looks for keys in one stream of audio at 8 kHz.
#[derive(Debug, Default)]
pub struct Detector {
    /// Audio that some window needs yet, the newest last.
    audio: Vec<f32>,
    /// Samples at the end of `audio` that no window has seen.
    fresh: usize,
    /// The newest last.
    windows: Vec<Window>,
    leader: Option<Leader>,
    /// The key that is down.
    down: Option<Down>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    /// Of each frequency, rows first, with the window's first sample as the origin of phase.
    spectrum: [Complex; 8],
}

/// The pair that leads, or did so just now.
#[derive(Clone, Copy, Debug)]
struct Leader {
    key: Key,
    /// Windows in a row that it led in, and windows since.
    led: usize,
    since: usize,
}

/// A key that is down.
#[derive(Clone, Copy, Debug)]
struct Down {
    key: Key,
    /// Amplitude of the whole pair.
    peak: f32,
    /// Sum of amplitudes, in parts of `peak`.
    sum: f32,
    /// Windows without the pair.
    absent: usize,
}

impl Detector {
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at more audio and reports what it finds to `found`, oldest first.
    pub fn feed(&mut self, audio: &[i16], mut found: impl FnMut(Detection)) {
        let mut rest = audio;
        while !rest.is_empty() {
            let (taken, later) = rest.split_at(rest.len().min(HOP - self.fresh));
            self.audio.extend(taken.iter().map(|&sample| f32::from(sample)));
            self.fresh += taken.len();
            rest = later;
            if self.fresh == HOP {
                self.fresh = 0;
                if self.audio.len() >= WINDOW {
                    self.look(rest.len(), &mut found);
                }
                self.forget();
            }
        }
    }

    /// Looks at the newest window; `after` samples are to come in the audio being fed.
    fn look(&mut self, after: usize, found: &mut impl FnMut(Detection)) {
        let (window, leader) = analyse(&self.audio[self.audio.len() - WINDOW..]);
        self.windows.push(window);
        self.leader = match (leader, self.leader) {
            (Some(key), Some(before)) if before.key == key => {
                Some(Leader { key, led: before.led + 1, since: 0 })
            }
            (Some(key), _) => Some(Leader { key, led: 1, since: 0 }),
            // The windows in which a tone ends count toward its duration.
            (None, Some(before)) if before.since < ABSENT => {
                Some(Leader { since: before.since + 1, ..before })
            }
            (None, _) => None,
        };
        if let Some(down) = &mut self.down
            && let Some(ended) = down.go_on(&window, after)
        {
            found(ended);
            self.down = None;
            // The end of one press is not the beginning of the next.
            self.windows.clear();
            self.leader = None;
        }
        let held = self.down.map(|down| down.key);
        if let Some(Leader { key, led, .. }) = self.leader
            && led >= LEADING
            && held != Some(key)
            && let Some((down, ago)) = self.verified(key)
        {
            if let Some(before) = self.down.replace(down) {
                found(before.ended(after));
            }
            found(Detection::Began { key, ago: ago + after });
        }
    }

    /// Whether the leading pair has lasted long enough and is two steady tones and nothing else; with the samples
    /// since its beginning.
    fn verified(&self, key: Key) -> Option<(Down, usize)> {
        let amplitude = |window: &Window| window.pair(key).map(Complex::magnitude).iter().sum::<f32>();
        let peak = self.windows.iter().map(amplitude).fold(0.0, f32::max);
        let present = self.windows.iter().rev().take_while(|window| amplitude(window) > peak * 0.1);
        let sum = present.map(amplitude).sum::<f32>() / peak;
        if sum * (HOP as f32) < SHORTEST {
            return None;
        }
        let whole = |window: &Window| amplitude(window) > peak * WHOLE;
        let last = self.windows.iter().rposition(whole)?;
        let first = last + 1 - self.windows[..=last].iter().rev().take_while(|window| whole(window)).count();
        if last < first + LEADING - 1 {
            return None;
        }
        let behind = (self.windows.len() - 1 - last) * HOP;
        let length = WINDOW + (last - first) * HOP;
        let end = self.audio.len() - behind;
        let tones = self.audio.get(end.checked_sub(length)?..end)?;
        is_key(key, tones, &self.windows[first..=last]).then(|| {
            let lasted = (sum * HOP as f32) as usize + WINDOW / 2;
            (Down { key, peak, sum, absent: 0 }, lasted)
        })
    }

    /// Keeps what later windows may need.
    fn forget(&mut self) {
        let windows = self.windows.len().saturating_sub(REMEMBERED);
        self.windows.drain(..windows);
        let samples = self.audio.len().saturating_sub(WINDOW + REMEMBERED * HOP);
        self.audio.drain(..samples);
    }
}

impl Down {
    /// Takes one more window; `Some` when the key is up.
    fn go_on(&mut self, window: &Window, after: usize) -> Option<Detection> {
        let amplitude = window.pair(self.key).map(Complex::magnitude).iter().sum::<f32>() / self.peak;
        // Windows that the tone fills differ a little, by how its phases fall.
        self.sum += if amplitude > WHOLE { 1.0 } else { amplitude };
        self.absent = if amplitude < PRESENT { self.absent + 1 } else { 0 };
        (self.absent == ABSENT).then(|| self.ended(after))
    }

    fn ended(&self, after: usize) -> Detection {
        // A window that the tone covers less than half of ends 51 to 102 samples after the tone.
        let ago = match self.absent {
            0 => after,
            absent => (absent - 1) * HOP + WINDOW * 3 / 4 + after,
        };
        Detection::Ended { key: self.key, samples: (self.sum * HOP as f32) as usize, ago }
    }
}

impl Window {
    /// Amplitude and phase of the two tones of a key, each freed of what leaks into it from the other.
    fn pair(&self, key: Key) -> [Complex; 2] {
        let (row, column) = key.place();
        let leak = LEAKS[row][column];
        unmix(self.spectrum[row], self.spectrum[4 + column], leak, WINDOW)
    }
}

/// The spectrum of a window, and the key whose tones are nearly all of it.
fn analyse(samples: &[f32]) -> (Window, Option<Key>) {
    let mut window = Window { spectrum: [Complex::ZERO; 8] };
    let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
    if energy < LEAST_POWER * WINDOW as f32 {
        return (window, None);
    }
    for (value, wave) in window.spectrum.iter_mut().zip(WAVES.iter()) {
        *value = correlate(samples, wave);
    }
    let strongest = |group: &[Complex]| {
        let magnitudes = group.iter().map(|value| value.magnitude());
        magnitudes.enumerate().max_by(|one, other| one.1.total_cmp(&other.1)).map_or(0, |(at, _)| at)
    };
    let key = Key::at(strongest(&window.spectrum[..4]), strongest(&window.spectrum[4..]));
    let [low, high] = window.pair(key).map(Complex::magnitude);
    let share = (low * low + high * high) * WINDOW as f32 / 2.0 / energy;
    let leads = share > LEADING_SHARE && low.min(high) > LEAST_AMPLITUDE * PRESENT;
    (window, leads.then_some(key))
}

/// Whether `tones` are the two of `key` and nothing else; `windows` lie in them.
fn is_key(key: Key, tones: &[f32], windows: &[Window]) -> bool {
    let (low, high) = key.tones();
    let offsets = coarse_offsets(key, windows);
    let frequencies = [refined(tones, low + offsets[0]), refined(tones, high + offsets[1])];
    let near = |frequency: f32, nominal: f32| (frequency - nominal).abs() <= nominal * DEVIATION;
    if !near(frequencies[0], low) || !near(frequencies[1], high) {
        return false;
    }
    let waves = frequencies.map(|frequency| wave(frequency, tones.len()));
    let leak = leak(frequencies[0], frequencies[1], tones.len());
    let pair = unmix(correlate(tones, &waves[0]), correlate(tones, &waves[1]), leak, tones.len());
    let [low, high] = pair.map(Complex::magnitude);
    let twist = 20.0 * (high / low).log10();
    let (mut energy, mut rest) = (0.0, 0.0);
    for (at, sample) in tones.iter().enumerate() {
        // The waves are conjugated: the real part of the product turns forward.
        let model: f32 =
            (0..2).map(|tone| pair[tone].re * waves[tone][at].re + pair[tone].im * waves[tone][at].im).sum();
        energy += sample * sample;
        rest += (sample - model).powi(2);
    }
    TWIST.contains(&twist) && low.min(high) > LEAST_AMPLITUDE && rest < energy * (1.0 - CERTAIN_SHARE)
}

/// How far the tones are from their nominal frequencies, in Hz: by how their phases turn from window to window.
fn coarse_offsets(key: Key, windows: &[Window]) -> [f32; 2] {
    let (low, high) = key.tones();
    let mut turned = [Complex::ZERO; 2];
    for pair in windows.windows(2) {
        let (before, after) = (pair[0].pair(key), pair[1].pair(key));
        for tone in 0..2 {
            turned[tone] = turned[tone] + after[tone] * before[tone].conjugate();
        }
    }
    let offset = |turned: Complex, nominal: f32| {
        let expected = Complex::turn(-TAU * nominal * HOP as f32 / RATE);
        (turned * expected).angle() * RATE / (TAU * HOP as f32)
    };
    [offset(turned[0], low), offset(turned[1], high)]
}

/// A better guess of a frequency, by how the phase turns from the first half of the tones to the second.
fn refined(tones: &[f32], frequency: f32) -> f32 {
    let half = tones.len() / 2;
    let wave = wave(frequency, tones.len());
    let first = correlate(&tones[..half], &wave[..half]);
    let second = correlate(&tones[half..2 * half], &wave[half..2 * half]);
    frequency + (second * first.conjugate()).angle() * RATE / (TAU * half as f32)
}

/// Amplitudes of two tones from their correlations, which each have `leak` of the other.
fn unmix(low: Complex, high: Complex, leak: Complex, length: usize) -> [Complex; 2] {
    // low = a + leak b and high = b + conj(leak) a, in units of half a length.
    let scale = 2.0 / length as f32;
    let (low, high) = (low * scale, high * scale);
    let determinant = 1.0 / (1.0 - leak.power());
    [(low - leak * high) * determinant, (high - leak.conjugate() * low) * determinant]
}

/// What a tone at `other` leaves in the correlation with one at `frequency`.
fn leak(frequency: f32, other: f32, length: usize) -> Complex {
    let step = TAU * (other - frequency) / RATE;
    let sum = (0..length).fold(Complex::ZERO, |sum, at| sum + Complex::turn(step * at as f32));
    sum * (1.0 / length as f32)
}

/// A turning backwards of phase at `frequency`.
fn wave(frequency: f32, length: usize) -> Vec<Complex> {
    (0..length).map(|at| Complex::turn(-TAU * frequency / RATE * at as f32)).collect()
}

fn correlate(samples: &[f32], wave: &[Complex]) -> Complex {
    let (mut re, mut im) = (0.0, 0.0);
    for (sample, turn) in samples.iter().zip(wave) {
        re += sample * turn.re;
        im += sample * turn.im;
    }
    Complex { re, im }
}

/// Waves of the eight frequencies over a window, rows first.
static WAVES: LazyLock<[Vec<Complex>; 8]> = LazyLock::new(|| {
    let frequency = |at: usize| if at < 4 { ROWS[at] } else { COLUMNS[at - 4] };
    std::array::from_fn(|at| wave(frequency(at), WINDOW))
});

/// What leaks from the column's tone into the row's, over a window.
static LEAKS: LazyLock<[[Complex; 4]; 4]> = LazyLock::new(|| {
    std::array::from_fn(|row| std::array::from_fn(|column| leak(ROWS[row], COLUMNS[column], WINDOW)))
});

#[derive(Clone, Copy, Debug, PartialEq)]
struct Complex {
    re: f32,
    im: f32,
}

impl Complex {
    const ZERO: Self = Self { re: 0.0, im: 0.0 };

    fn turn(angle: f32) -> Self {
        Self { re: angle.cos(), im: angle.sin() }
    }

    fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }

    fn power(self) -> f32 {
        self.re * self.re + self.im * self.im
    }

    fn magnitude(self) -> f32 {
        self.power().sqrt()
    }

    fn angle(self) -> f32 {
        self.im.atan2(self.re)
    }
}

impl Add for Complex {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}

impl Mul<f32> for Complex {
    type Output = Self;

    fn mul(self, factor: f32) -> Self {
        Self { re: self.re * factor, im: self.im * factor }
    }
}
