//! All codecs under one roof: what goes in comes out, whatever the network makes of it.

use super::voice::speech_like;
use super::*;
use proptest::prelude::*;

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
        ("G.729", "G729/8000", ""),
        ("SILK narrowband", "SILK/8000", ""),
        ("SILK wideband", "SILK/16000", ""),
    ];
    let coding = |(name, codec, fmtp): (_, &str, _)| {
        Some((name, Coding::of(&codec.parse().unwrap(), Some(fmtp)).ok()?))
    };
    table.into_iter().filter_map(coding).collect()
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
            // Opus at 10 ms spends half its bits on headers and redundancy.
            let most = if milliseconds == 10 { 2.0 } else { 1.0 };
            assert!(change.abs() < most, "{name} at {milliseconds} ms changes the level by {change:.2} dB");
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
    // Each sets up every codec anew.
    #![proptest_config(ProptestConfig::with_cases(64))]

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
