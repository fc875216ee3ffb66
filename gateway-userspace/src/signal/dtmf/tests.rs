//! The detector at the limits of Q.24, and what the generator makes against Q.23.

use super::*;
use crate::codec::voice::Voice;
use std::f64::consts::TAU;

const RATE: f64 = 8_000.0;
/// Peak of a sine of 0 dBm0: 3.14 dB below the overload of A-law.
const ZERO_DBM0: f64 = 22_800.0;

/// A pair of tones as a telephone may send it.
#[derive(Clone, Copy)]
struct Pair {
    key: Key,
    milliseconds: f64,
    /// Level of each tone in dBm0.
    low_level: f64,
    high_level: f64,
    /// Part of the nominal frequency.
    low_deviation: f64,
    high_deviation: f64,
}

impl Pair {
    fn of(key: Key) -> Self {
        Self {
            key,
            milliseconds: 40.0,
            low_level: -10.0,
            high_level: -10.0,
            low_deviation: 0.0,
            high_deviation: 0.0,
        }
    }

    fn samples(&self) -> Vec<i16> {
        let (low, high) = self.key.tones();
        let tone = |frequency: f32, deviation: f64, level: f64, at: usize| {
            let frequency = f64::from(frequency) * (1.0 + deviation);
            ZERO_DBM0 * 10f64.powf(level / 20.0) * (TAU * frequency * at as f64 / RATE + level).sin()
        };
        let sample = |at| {
            let low = tone(low, self.low_deviation, self.low_level, at);
            (low + tone(high, self.high_deviation, self.high_level, at)) as i16
        };
        (0..(self.milliseconds / 1000.0 * RATE) as usize).map(sample).collect()
    }
}

fn silence(milliseconds: f64) -> Vec<i16> {
    vec![0; (milliseconds / 1000.0 * RATE) as usize]
}

fn detections(audio: &[i16]) -> Vec<Detection> {
    let (mut detector, mut found) = (Detector::new(), Vec::new());
    audio.chunks(160).for_each(|packet| detector.feed(packet, |detection| found.push(detection)));
    found
}

fn keys(audio: &[i16]) -> Vec<Key> {
    let began = |detection| match detection {
        Detection::Began { key, .. } => Some(key),
        Detection::Ended { .. } => None,
    };
    detections(audio).into_iter().filter_map(began).collect()
}

/// Keys heard of `pair`, at every place of the detector's windows.
fn heard(pair: Pair) -> Vec<Vec<Key>> {
    let offsets = (0..51).step_by(3);
    offsets
        .map(|offset| keys(&[silence(100.0), vec![0; offset], pair.samples(), silence(100.0)].concat()))
        .collect()
}

fn assert_taken(pair: Pair, what: &str) {
    for (offset, keys) in heard(pair).into_iter().enumerate() {
        assert_eq!(keys, [pair.key], "{what}: {} at {offset}", pair.key.letter());
    }
}

fn assert_ignored(pair: Pair, what: &str) {
    for (offset, keys) in heard(pair).into_iter().enumerate() {
        assert_eq!(keys, [], "{what}: {} at {offset}", pair.key.letter());
    }
}

// Statement 164.
#[test]
fn tones_are_taken_and_ignored_at_the_limits_of_q24() {
    for key in Key::all() {
        let pair = Pair::of(key);
        assert_taken(pair, "40 ms");
        assert_ignored(Pair { milliseconds: 23.0, ..pair }, "23 ms");
        for sign in [-1.0, 1.0] {
            let (within, beyond) = (sign * 0.015, sign * 0.035);
            assert_taken(Pair { low_deviation: within, high_deviation: within, ..pair }, "both 1.5 % off");
            assert_taken(Pair { low_deviation: within, high_deviation: -within, ..pair }, "1.5 % off, apart");
            assert_ignored(Pair { low_deviation: beyond, ..pair }, "low 3.5 % off");
            assert_ignored(Pair { high_deviation: beyond, ..pair }, "high 3.5 % off");
            assert_ignored(Pair { low_deviation: beyond, high_deviation: beyond, ..pair }, "both 3.5 % off");
        }
        assert_taken(Pair { low_level: -6.0, high_level: -14.0, ..pair }, "high tone 8 dB below");
        assert_taken(Pair { low_level: -14.0, high_level: -10.0, ..pair }, "high tone 4 dB above");
        assert_taken(Pair { low_level: -25.0, high_level: -25.0, ..pair }, "-25 dBm0");
        assert_taken(Pair { low_level: -4.0, high_level: -4.0, ..pair }, "-4 dBm0");
        assert_ignored(Pair { low_level: -40.0, high_level: -40.0, ..pair }, "-40 dBm0");
    }
    no_key_in_an_hour_of_speech();
}

/// The third part of statement 164.
fn no_key_in_an_hour_of_speech() {
    let mut voice = Voice::new(8_000);
    let mut detector = Detector::new();
    let mut packet = [0; 8_000];
    for second in 0..3_600 {
        packet.iter_mut().for_each(|sample| *sample = voice.sample());
        detector.feed(&packet, |detection| panic!("{detection:?} in second {second}"));
    }
}

#[test]
fn keys_with_a_gap_of_40_ms_are_two_and_with_a_hole_of_10_ms_one() {
    for key in Key::all() {
        let pair = Pair { milliseconds: 50.0, ..Pair::of(key) }.samples();
        for offset in 0..51 {
            let twice = |gap| {
                keys(
                    &[
                        silence(100.0),
                        vec![0; offset],
                        pair.clone(),
                        silence(gap),
                        pair.clone(),
                        silence(100.0),
                    ]
                    .concat(),
                )
            };
            assert_eq!(twice(40.0), [key, key], "{} at {offset}", key.letter());
            assert_eq!(twice(10.0), [key], "{} at {offset}", key.letter());
        }
    }
}

#[test]
fn different_keys_one_after_the_other_are_told_apart() {
    let all: Vec<Key> = Key::all().chain(Key::all()).collect();
    let audio: Vec<i16> = all
        .iter()
        .flat_map(|&key| [Pair { milliseconds: 50.0, ..Pair::of(key) }.samples(), silence(50.0)].concat())
        .collect();
    assert_eq!(keys(&[audio, silence(100.0)].concat()), all);
}

#[test]
fn keys_are_heard_through_g711_and_noise() {
    use crate::codec::comfort_noise::{Generator as Noise, Silence};
    use crate::codec::g711;
    for key in Key::all() {
        let pair = Pair { milliseconds: 50.0, ..Pair::of(key) };
        let clean = [silence(60.0), pair.samples(), silence(60.0)].concat();
        let mut noise = Vec::new();
        // Both tones together are 7 dB above -10 - 3.14 - 15 dBov: a ratio of 15 dB.
        Noise::new(Silence::white(25)).generate(clean.len(), &mut noise);
        let noisy: Vec<i16> = clean
            .iter()
            .zip(&noise)
            .map(|(one, other)| g711::linear_of_alaw(g711::alaw_of_linear(one + other)))
            .collect();
        assert_eq!(keys(&noisy), [key], "{}", key.letter());
    }
}

#[test]
fn beginning_and_end_are_known_within_look_ahead() {
    for key in Key::all() {
        for (milliseconds, offset) in
            [40.0, 65.0, 500.0].iter().flat_map(|ms| (0..51).step_by(5).map(move |offset| (ms, offset)))
        {
            let pair = Pair { milliseconds: *milliseconds, ..Pair::of(key) };
            let start = 800 + offset;
            let audio = [vec![0; start], pair.samples(), silence(100.0)].concat();
            let end = start + (milliseconds * 8.0) as usize;
            let (mut detector, mut fed) = (Detector::new(), 0);
            for packet in audio.chunks(160) {
                fed += packet.len();
                detector.feed(packet, |detection| match detection {
                    Detection::Began { ago, .. } => {
                        assert!(fed - start <= LOOK_AHEAD + 160, "{} after {}", key.letter(), fed - start);
                        assert!(
                            (fed - ago).abs_diff(start) <= 32,
                            "{}: began at {}, not {start}",
                            key.letter(),
                            fed - ago
                        );
                    }
                    Detection::Ended { samples, ago, .. } => {
                        assert!(
                            (fed - ago).abs_diff(end) <= 64,
                            "{}: ended at {}, not {end}",
                            key.letter(),
                            fed - ago
                        );
                        assert!(
                            samples.abs_diff(end - start) <= 64,
                            "{}: {samples} of {}",
                            key.letter(),
                            end - start
                        );
                    }
                });
            }
        }
    }
}

// Statement 165.
#[test]
fn what_is_generated_is_of_the_frequencies_durations_and_pauses_of_q23() {
    for (key, rate) in Key::all().flat_map(|key| [8_000u32, 16_000, 48_000].map(|rate| (key, rate))) {
        let mut generator = Generator::new(rate);
        // Shorter than receivers need: made 70 ms, with 70 ms of pause.
        generator.press(key);
        generator.release(20);
        let mut audio = Vec::new();
        generator.generate(rate as usize / 1000 * 70, &mut audio);
        assert!(audio.iter().rev().take(3).any(|&sample| sample != 0));
        let (low, high) = key.tones();
        for nominal in [low, high] {
            let strongest = strongest_near(&audio, rate, f64::from(nominal));
            let off = (strongest / f64::from(nominal) - 1.0).abs();
            assert!(off < 0.018, "{} at {rate}: {strongest} for {nominal}", key.letter());
        }
        let mut pause = Vec::new();
        generator.generate(rate as usize / 1000 * 70, &mut pause);
        assert!(pause.iter().all(|&sample| sample == 0));
        generator.generate(1, &mut pause);
        assert!(!generator.is_active());
    }
}

/// The frequency within 5 % of `nominal` at which there is most.
fn strongest_near(audio: &[i16], rate: u32, nominal: f64) -> f64 {
    let power = |frequency: f64| {
        let (mut re, mut im) = (0.0, 0.0);
        for (at, &sample) in audio.iter().enumerate() {
            let angle = TAU * frequency * at as f64 / f64::from(rate);
            re += f64::from(sample) * angle.cos();
            im += f64::from(sample) * angle.sin();
        }
        re * re + im * im
    };
    let candidates = (-25..=25).map(|step| nominal * (1.0 + f64::from(step) * 0.002));
    candidates.max_by(|one, other| power(*one).total_cmp(&power(*other))).unwrap()
}

#[test]
fn what_is_generated_is_heard_again() {
    let mut generator = Generator::new(8_000);
    Key::all().for_each(|key| {
        generator.press(key);
        generator.release(70);
    });
    let mut audio = Vec::new();
    while generator.is_active() {
        generator.generate(160, &mut audio);
    }
    assert_eq!(keys(&audio), Key::all().collect::<Vec<_>>());
}

#[test]
fn keys_and_letters_are_one_to_one() {
    for key in Key::all() {
        assert_eq!(Key::of_letter(key.letter()), Some(key));
        assert_eq!(Key::of_code(key.code()), Some(key));
        let (row, column) = key.place();
        assert_eq!(Key::at(row, column), key);
    }
    assert_eq!(Key::of_letter('d'), Key::of_code(15));
    assert_eq!(Key::of_code(16), None);
    assert_eq!(Key::of_letter('!'), None);
}
