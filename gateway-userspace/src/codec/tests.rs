//! All codecs under one roof: what goes in comes out, whatever the network makes of it.

use super::*;
use proptest::prelude::*;
use std::f32::consts::TAU;

/// Every coding of this build, by name, in each of its payload layouts.
pub(crate) fn codings() -> Vec<(&'static str, Coding)> {
    let table = [
        ("PCMU", "PCMU/8000", ""),
        ("PCMA", "PCMA/8000", ""),
        ("G722", "G722/8000", ""),
        ("opus", "opus/48000/2", "useinbandfec=1"),
        ("AMR", "AMR/8000", "octet-align=1"),
        ("AMR bandwidth-efficient", "AMR/8000", ""),
        ("AMR-WB", "AMR-WB/16000", "octet-align=1"),
        ("AMR-WB bandwidth-efficient", "AMR-WB/16000", ""),
    ];
    let coding = |(name, codec, fmtp): (_, &str, _)| {
        Some((name, Coding::of(&codec.parse().unwrap(), Some(fmtp)).ok()?))
    };
    table.into_iter().filter_map(coding).collect()
}

/// Sound with the structure of speech, always the same: glottal pulses of a wandering pitch through three formants
/// that change with each syllable, hisses, and pauses.
pub(crate) fn speech_like(rate: u32, seconds: usize) -> Vec<i16> {
    let mut voice = Voice::new(16_000);
    let audio: Vec<i16> = (0..16_000 * seconds).map(|_| voice.sample() / 2).collect();
    let mut resampled = Vec::new();
    resample::Resampler::new(16_000, rate).process(&audio, &mut resampled);
    resampled
}

/// The speaker of [`speech_like`].
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

fn packet(coding: &Coding, encoder: &mut Encoder, audio: &[i16]) -> Vec<u8> {
    let mut payload = Vec::new();
    encoder.encode(audio, &mut payload).unwrap_or_else(|fault| panic!("{coding:?}: {fault}"));
    payload
}

#[test]
fn every_codec_keeps_the_length_and_the_level_of_speech() {
    for (name, coding) in codings() {
        let rate = coding.sampling_rate();
        let audio = speech_like(rate, 4);
        for milliseconds in [10, 20, 40, 60].map(|wished| coding.packet_ms(wished)) {
            let (mut encoder, mut decoder) = (Encoder::new(&coding).unwrap(), Decoder::new(&coding).unwrap());
            let mut heard = Vec::new();
            let mut sent = 0;
            for frame in audio.chunks_exact((rate * milliseconds / 1000) as usize) {
                let payload = packet(&coding, &mut encoder, frame);
                decoder.decode(&payload, &mut heard).unwrap();
                sent += frame.len();
            }
            assert_eq!(heard.len(), sent, "{name} at {milliseconds} ms");
            let power = |audio: &[i16]| audio.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
            let change = 10.0 * (power(&heard) / power(&audio[..sent])).log10();
            assert!(change.abs() < 1.0, "{name} at {milliseconds} ms changes the level by {change:.2} dB");
        }
    }
}

#[test]
fn a_lost_packet_is_as_long_as_one_that_came() {
    for (name, coding) in codings() {
        let rate = coding.sampling_rate();
        let (mut encoder, mut decoder) = (Encoder::new(&coding).unwrap(), Decoder::new(&coding).unwrap());
        let frame = rate as usize / 50;
        for (at, speech) in speech_like(rate, 2).chunks_exact(frame).enumerate() {
            let mut heard = Vec::new();
            let payload = packet(&coding, &mut encoder, speech);
            match at % 7 {
                5 => decoder.conceal(frame, None, &mut heard),
                6 => decoder.conceal(frame, Some(&payload), &mut heard),
                _ => decoder.decode(&payload, &mut heard).unwrap(),
            }
            assert_eq!(heard.len(), frame, "{name}");
        }
    }
}

#[test]
fn audio_of_a_wrong_length_makes_no_packet() {
    for (name, coding) in codings() {
        let mut encoder = Encoder::new(&coding).unwrap();
        let mut payload = Vec::new();
        let result = encoder.encode(&[0; 161], &mut payload);
        let any_length = matches!(coding, Coding::Pcmu | Coding::Pcma);
        assert_eq!(result.is_ok(), any_length, "{name}");
        assert_eq!(payload.is_empty(), !any_length, "{name}");
    }
}

proptest! {
    /// What no encoder of ours sent: nothing but audio of a packet's length or a refusal comes of it, and what comes
    /// next is decoded as ever.
    #[test]
    fn decoders_take_or_refuse_any_octets(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500), 1..4)) {
        for (name, coding) in codings() {
            let mut decoder = Decoder::new(&coding).unwrap();
            let longest = (coding.sampling_rate() * LONGEST_PACKET_MS / 1000) as usize;
            for payload in &payloads {
                let mut heard = Vec::new();
                let result = decoder.decode(payload, &mut heard);
                prop_assert!(heard.len() <= longest, "{name}: {} samples", heard.len());
                prop_assert_eq!(result.is_err(), heard.is_empty(), "{}", name);
            }
            let frame = vec![0; (coding.sampling_rate() / 50) as usize];
            let payload = packet(&coding, &mut Encoder::new(&coding).unwrap(), &frame);
            let mut heard = Vec::new();
            decoder.decode(&payload, &mut heard).unwrap();
            prop_assert_eq!(heard.len(), frame.len());
        }
    }

    /// A good packet, cut, grown or with bits turned over.
    #[test]
    fn decoders_take_or_refuse_damaged_packets(length in 0usize..400, flips in prop::collection::vec((0usize..400, any::<u8>()), 0..8)) {
        for (name, coding) in codings() {
            let rate = coding.sampling_rate();
            let mut payload = packet(&coding, &mut Encoder::new(&coding).unwrap(), &speech_like(rate, 1)[..rate as usize / 50]);
            payload.resize(length, 0x5a);
            for (at, bits) in &flips {
                if let Some(octet) = payload.get_mut(*at) {
                    *octet ^= bits;
                }
            }
            let mut heard = Vec::new();
            let result = Decoder::new(&coding).unwrap().decode(&payload, &mut heard);
            prop_assert_eq!(result.is_err(), heard.is_empty(), "{}", name);
        }
    }
}
