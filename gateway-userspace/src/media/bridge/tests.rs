//! Scenes of two peers on a virtual network, in virtual time.

use super::*;
use crate::codec::voice::speech_like;
use crate::codec::{Coding, Decoder, Encoder, resample::Resampler};
use crate::signal::dtmf::event::{Happened, Receiver};
use crate::signal::dtmf::{Detection, Detector, Generator};
use crate::signal::tone::{Plan, Signal};
use proptest::prelude::*;

const NOISE: PayloadTypes = PayloadTypes { from: 13, to: 13 };

fn coding(codec: &str) -> Coding {
    let (codec, fmtp) = codec.split_once(' ').unwrap_or((codec, ""));
    Coding::of(&codec.parse().unwrap(), Some(fmtp)).unwrap()
}

fn settings(codec: &str) -> LegSettings {
    LegSettings {
        coding: coding(codec),
        speech_from: [Some(96), None],
        speech_to: 97,
        packet_ms: 20,
        comfort_noise: None,
        events: Some(Events {
            types: PayloadTypes { from: 100, to: 101 },
            clock_rate: coding(codec).clock_rate(),
        }),
        keys_from: KeysFrom::Packets,
        keys_to: KeysTo::Events,
        stream: Stream { ssrc: 0x1234_5678, sequence: 0xfff0, timestamp: 0xffff_f000 },
        jitter: JitterSettings::default(),
    }
}

/// A packet that came out.
#[derive(Clone, Debug)]
struct Sent {
    at: Time,
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: Vec<u8>,
}

#[derive(Default)]
struct Network {
    to_caller: Vec<Sent>,
    to_callee: Vec<Sent>,
    keys: Vec<(Side, Press)>,
    played: Vec<Side>,
}

impl Output for Network {
    fn packet(&mut self, to: Side, at: Time, packet: &[u8]) {
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        assert_eq!(packet[0], 0x80);
        let sent = Sent {
            at,
            payload_type: packet[1] & 0x7f,
            marker: packet[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            timestamp: word(4),
            ssrc: word(8),
            payload: packet[12..].to_vec(),
        };
        match to {
            Side::Caller => self.to_caller.push(sent),
            Side::Callee => self.to_callee.push(sent),
        }
    }

    fn key(&mut self, to: Side, press: Press) {
        self.keys.push((to, press));
    }

    fn played(&mut self, to: Side) {
        self.played.push(to);
    }
}

/// A peer that speaks.
struct Phone {
    coding: Coding,
    encoder: Encoder,
    packet_ms: u32,
    sequence: u16,
    timestamp: u32,
}

impl Phone {
    fn new(coding: &Coding, packet_ms: u32) -> Self {
        let encoder = Encoder::new(coding).unwrap();
        Self { coding: coding.clone(), encoder, packet_ms, sequence: 0xff00, timestamp: 0xffff_0000 }
    }

    /// Packets of `audio` with the times at which they leave.
    fn say(&mut self, audio: &[i16]) -> Vec<(Time, Vec<u8>)> {
        let samples = (self.coding.sampling_rate() * self.packet_ms / 1000) as usize;
        let packets = audio.chunks_exact(samples).enumerate().map(|(at, audio)| {
            let mut payload = Vec::new();
            self.encoder.encode(audio, &mut payload).unwrap();
            (Time(at as u64 * u64::from(self.packet_ms) * 1000), self.packet(96, &payload))
        });
        packets.collect()
    }

    fn packet(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let packet = rtp(payload_type, self.sequence, self.timestamp, payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.coding.clock_rate() * self.packet_ms / 1000);
        packet
    }
}

fn rtp(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&7u32.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// Lets the caller's packets arrive, and the bridge run to its deadlines until `end`.
fn run(bridge: &mut Bridge, network: &mut Network, packets: &[(Time, Vec<u8>)], end: Time) {
    let mut packets = packets.iter().peekable();
    loop {
        let arrival = packets.peek().map(|(at, _)| *at);
        let Some(now) = arrival.into_iter().chain(bridge.deadline()).min().filter(|now| *now <= end) else {
            return;
        };
        while let Some((_, packet)) = packets.next_if(|(at, _)| *at <= now) {
            bridge.receive(now, Side::Caller, packet, network);
        }
        bridge.run(now, network);
    }
}

/// What the callee hears.
fn heard(coding: &Coding, packets: &[Sent]) -> Vec<i16> {
    let (mut decoder, mut audio) = (Decoder::new(coding).unwrap(), Vec::new());
    for packet in packets.iter().filter(|packet| packet.payload_type == 97) {
        decoder.decode(&packet.payload, &mut audio).unwrap();
    }
    audio
}

fn at_rate(audio: &[i16], from: u32, to: u32) -> Vec<i16> {
    let mut resampled = Vec::new();
    Resampler::new(from, to).process(audio, &mut resampled);
    resampled
}

fn power(audio: &[i16]) -> f64 {
    audio.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / audio.len().max(1) as f64
}

/// Samples by which `heard` is later than `said`: where their envelopes of 1 ms are most alike.
fn delay_ms(said: &[i16], heard: &[i16]) -> usize {
    let envelope = |audio: &[i16]| audio.chunks_exact(8).map(|chunk| power(chunk).sqrt()).collect::<Vec<_>>();
    let (said, heard) = (envelope(said), envelope(heard));
    let likeness =
        |delay: usize| said.iter().zip(&heard[delay.min(heard.len())..]).map(|(a, b)| a * b).sum::<f64>();
    (0..300).max_by(|one, other| likeness(*one).total_cmp(&likeness(*other))).unwrap()
}

fn codecs() -> Vec<&'static str> {
    let mut codecs = vec!["PCMU/8000", "PCMA/8000", "G722/8000"];
    #[cfg(feature = "opus")]
    codecs.push("opus/48000/2 useinbandfec=1");
    #[cfg(feature = "amr")]
    codecs.extend(["AMR/8000 octet-align=1", "AMR-WB/16000"]);
    #[cfg(feature = "g729")]
    codecs.push("G729/8000");
    #[cfg(feature = "silk")]
    codecs.extend(["SILK/8000", "SILK/16000"]);
    codecs
}

/// What is heard of it is scored by tests/speech.
#[test]
fn a_stream_is_whole_between_any_two_codecs() {
    for (from, to) in codecs().iter().flat_map(|from| codecs().into_iter().map(|to| (*from, to))) {
        let (mut from, to) = (settings(from), settings(to));
        from.jitter.delay = Duration::from_millis(20);
        let name = format!("{:?} to {:?}", from.coding, to.coding);
        let packets = Phone::new(&from.coding, 20).say(&speech_like(from.coding.sampling_rate(), 4));
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &packets, Time(4_000_000));
        assert_whole(&network.to_callee, &to, &name);
        assert_eq!(network.to_callee.len(), 201, "{name}");
        assert_eq!(bridge.counters(Side::Caller).concealed_ms, 0, "{name}");
    }
}

/// One packet every packet time, one sequence number further, with timestamps that fit and one SSRC.
fn assert_whole(sent: &[Sent], settings: &LegSettings, name: &str) {
    let ms = settings.coding.packet_ms(settings.packet_ms);
    let units = settings.coding.clock_rate() * ms / 1000;
    for pair in sent.windows(2) {
        let times = pair[1].at.since(pair[0].at).as_micros() as u32 / 1000 / ms;
        assert!(times >= 1, "{name}");
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "{name}");
        if pair[1].payload_type != 101 && pair[0].payload_type != 101 {
            assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(units * times), "{name}");
        }
        assert_eq!(pair[1].ssrc, settings.stream.ssrc, "{name}");
    }
}

#[test]
fn every_packet_time_becomes_every_other() {
    for (codec, from_ms, to_ms) in ["PCMA/8000", "G722/8000"].into_iter().flat_map(|codec| {
        [10, 20, 30, 40, 60]
            .into_iter()
            .flat_map(move |from| [10, 20, 30, 40, 60].map(|to| (codec, from, to)))
    }) {
        let from = settings(codec);
        let to = LegSettings { packet_ms: to_ms, ..settings("PCMU/8000") };
        let said = speech_like(from.coding.sampling_rate(), 3);
        let packets = Phone::new(&from.coding, from_ms).say(&said);
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &packets, Time(2_900_000));
        assert_whole(&network.to_callee, &to, codec);
        assert!(network.to_callee.iter().all(|packet| packet.payload.len() == to_ms as usize * 8));
        assert_eq!(network.to_callee.len() as u32, 2_900 / to_ms + 1);
        let counters = bridge.counters(Side::Caller);
        assert_eq!((counters.concealed_ms, counters.late), (0, 0), "{codec} {from_ms} to {to_ms}");
    }
}

fn event_packets(phone: &mut Phone, code: u8, ms: u32, clock_rate: u32) -> Vec<Vec<u8>> {
    let timestamp = phone.timestamp;
    let durations =
        (1..).map(|tick| tick * 20).take_while(|at| *at < ms).map(|at| (at, 0)).chain([(ms, 0x80); 3]);
    durations
        .map(|(at, end)| {
            let units = (at * clock_rate / 1000) as u16;
            let [high, low] = units.to_be_bytes();
            let mut packet = phone.packet(100, &[code, end | 10, high, low]);
            packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
            packet
        })
        .collect()
}

/// A second of silence, a key, and a second of silence.
fn with_key(phone: &mut Phone, code: u8, ms: u32, clock_rate: u32) -> Vec<(Time, Vec<u8>)> {
    let silence = vec![0; phone.coding.sampling_rate() as usize];
    let mut packets: Vec<Vec<u8>> = phone.say(&silence).into_iter().map(|(_, packet)| packet).collect();
    packets.extend(event_packets(phone, code, ms, clock_rate));
    packets.extend(phone.say(&silence).into_iter().map(|(_, packet)| packet));
    packets.into_iter().enumerate().map(|(at, packet)| (Time(at as u64 * 20_000), packet)).collect()
}

// Statement 162.
#[test]
fn one_key_is_one_event_at_the_clock_of_the_far_leg() {
    for (from, to) in codecs().iter().flat_map(|from| codecs().into_iter().map(|to| (*from, to))) {
        for to_clock in [coding(to).clock_rate(), 8_000] {
            let from = settings(from);
            let mut to = settings(to);
            to.events = Some(Events { types: PayloadTypes { from: 100, to: 101 }, clock_rate: to_clock });
            let mut phone = Phone::new(&from.coding, 20);
            let packets = with_key(&mut phone, 11, 150, from.coding.clock_rate());
            let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
            run(&mut bridge, &mut network, &packets, Time(2_200_000));
            assert_whole(&network.to_callee, &to, "events");
            let events: Vec<&Sent> =
                network.to_callee.iter().filter(|packet| packet.payload_type == 101).collect();
            let mut happened = Vec::new();
            let mut receiver = Receiver::new(to_clock);
            for event in &events {
                receiver.receive(event.at, event.timestamp, &event.payload, |what| happened.push(what));
            }
            let expected = [
                Happened::Began { code: 11 },
                Happened::Ended { code: 11, duration: Duration::from_millis(150) },
            ];
            assert_eq!(happened, expected, "{:?} at {to_clock}", to.coding);
            assert_eq!(events.iter().filter(|event| event.marker).count(), 1);
            assert!(events[0].marker && events.iter().all(|event| event.timestamp == events[0].timestamp));
            let durations: Vec<_> =
                events.iter().map(|event| u16::from_be_bytes([event.payload[2], event.payload[3]])).collect();
            let (growing, ends) = durations.split_at(durations.len() - 3);
            assert!(growing.is_sorted_by(|one, next| one < next), "{durations:?}");
            assert!(
                growing.last() <= ends.first() && ends.iter().all(|end| *end == ends[0]),
                "{durations:?}"
            );
            assert_eq!(events.iter().filter(|event| event.payload[1] & 0x80 != 0).count(), 3);
            assert_eq!(bridge.counters(Side::Caller).concealed_ms, 0);
        }
    }
}

fn keys_in(audio: &[i16]) -> Vec<Key> {
    let mut keys = Vec::new();
    Detector::new().feed(audio, |detection| {
        if let Detection::Began { key, .. } = detection {
            keys.push(key);
        }
    });
    keys
}

// Statement 159.
#[test]
fn keys_in_tones_become_events_and_nothing_of_the_tones_is_heard() {
    for codec in ["PCMA/8000", "PCMU/8000", "G722/8000"] {
        let from = LegSettings { keys_from: KeysFrom::Tones, ..settings(codec) };
        let to = settings("PCMU/8000");
        let rate = from.coding.sampling_rate();
        let mut audio = vec![0; rate as usize / 2];
        let mut generator = Generator::new(rate);
        for key in Key::all() {
            generator.press(key);
            generator.release(80);
        }
        while generator.is_active() {
            generator.generate(rate as usize / 50, &mut audio);
        }
        audio.resize(audio.len() + rate as usize / 2, 0);
        let packets = Phone::new(&from.coding, 20).say(&audio);
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &packets, Time(3_900_000));
        let events = network.to_callee.iter().filter(|packet| packet.payload_type == 101 && packet.marker);
        let codes: Vec<u8> = events.map(|packet| packet.payload[0]).collect();
        assert_eq!(codes, (0..16).collect::<Vec<_>>().as_slice(), "{codec}");
        let heard = heard(&to.coding, &network.to_callee);
        let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(loudest < Some(200), "{codec}: {loudest:?} of the tones is left");
    }
}

#[test]
fn what_is_held_back_to_look_for_tones_is_heard_when_the_bridge_ends() {
    for keys_from in [KeysFrom::Tones, KeysFrom::Packets] {
        let (from, to) = (LegSettings { keys_from, ..settings("PCMA/8000") }, settings("PCMU/8000"));
        // A second of silence whose last 20 ms are loud.
        let mut said = vec![0; 8_000];
        said[7_840..].fill(10_000);
        let packets = Phone::new(&from.coding, 20).say(&said);
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &packets, Time(980_000));
        bridge.conclude(Time(980_000), &mut network);
        let heard = heard(&to.coding, &network.to_callee);
        let loud = heard.iter().filter(|sample| **sample > 9_000).count();
        assert!(loud >= 150, "{keys_from:?}: {loud} of 160 samples");
    }
}

#[test]
fn events_become_tones_or_go_by_signalling() {
    for codec in ["PCMA/8000", "G722/8000"] {
        for ms in [40, 250] {
            let from = settings("PCMU/8000");
            let to = LegSettings { keys_to: KeysTo::Tones, events: None, ..settings(codec) };
            let packets = with_key(&mut Phone::new(&from.coding, 20), 5, ms, 8_000);
            let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
            run(&mut bridge, &mut network, &packets, Time(2_300_000));
            let heard = at_rate(&heard(&to.coding, &network.to_callee), to.coding.sampling_rate(), 8_000);
            assert_eq!(keys_in(&heard), [Key::of_code(5).unwrap()], "{codec} {ms}");
            assert!(network.keys.is_empty());
        }
    }
    let from = settings("PCMU/8000");
    let to = LegSettings { keys_to: KeysTo::Signalling, ..settings("PCMA/8000") };
    let packets = with_key(&mut Phone::new(&from.coding, 20), 10, 150, 8_000);
    let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
    run(&mut bridge, &mut network, &packets, Time(2_300_000));
    let press = Press { key: Key::of_letter('*').unwrap(), duration: Duration::from_millis(150) };
    assert_eq!(network.keys, [(Side::Callee, press)]);
    assert!(network.to_callee.iter().all(|packet| packet.payload_type == 97));
}

#[test]
fn keys_of_signalling_become_events_also_before_any_media() {
    let to = settings("opus/48000/2");
    let (mut bridge, mut network) = (Bridge::new(&settings("PCMU/8000"), &to).unwrap(), Network::default());
    for key in ['1', '#'] {
        let press = Press { key: Key::of_letter(key).unwrap(), duration: Duration::from_millis(200) };
        bridge.press(Time::ZERO, Side::Callee, press, &mut network);
    }
    run(&mut bridge, &mut network, &[], Time(1_000_000));
    let begun: Vec<u8> = network
        .to_callee
        .iter()
        .filter(|sent| sent.payload_type == 101 && sent.marker)
        .map(|sent| sent.payload[0])
        .collect();
    assert_eq!(begun, [1, 11]);
}

#[test]
fn who_falls_silent_is_replaced_by_comfort_noise_within_200_ms() {
    let to = LegSettings { comfort_noise: Some(NOISE), ..settings("PCMA/8000") };
    let from = settings("PCMU/8000");
    let packets = Phone::new(&from.coding, 20).say(&speech_like(8_000, 1));
    let last = packets.last().unwrap().0;
    let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
    run(&mut bridge, &mut network, &packets, Time(4_000_000));
    let noise: Vec<&Sent> =
        network.to_callee.iter().filter(|sent| sent.payload_type == 13 && sent.at > last).collect();
    assert!(noise[0].at.since(last) <= Duration::from_millis(200), "{:?}", noise[0].at.since(last));
    // Described anew twice a second, and nothing else is sent meanwhile.
    assert!((5..=8).contains(&noise.len()), "{}", noise.len());
    let after =
        network.to_callee.iter().filter(|sent| sent.at > noise[0].at && sent.payload_type != 13).count();
    assert_eq!(after, 0);
    assert_whole(&network.to_callee, &to, "silence");
}

// Statement 157.
#[test]
fn comfort_noise_is_passed_on_or_made_audible_as_negotiated() {
    for negotiated in [Some(NOISE), None] {
        let from = LegSettings { comfort_noise: Some(NOISE), ..settings("PCMU/8000") };
        let to = LegSettings { comfort_noise: negotiated, ..settings("PCMA/8000") };
        let mut phone = Phone::new(&from.coding, 20);
        let mut packets = phone.say(&speech_like(8_000, 1));
        packets.push((Time(1_000_000), phone.packet(13, &[50])));
        // A second and a half later it speaks again.
        phone.timestamp = phone.timestamp.wrapping_add(160 * 74);
        packets.extend(
            phone
                .say(&speech_like(8_000, 1))
                .into_iter()
                .map(|(at, packet)| (at + Duration::from_millis(2_500), packet)),
        );
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &packets, Time(3_400_000));
        assert_whole(&network.to_callee, &to, "noise");
        let pause: Vec<&Sent> =
            network.to_callee.iter().filter(|sent| (1_200_000..2_400_000).contains(&sent.at.0)).collect();
        match negotiated {
            Some(_) => assert!(pause.iter().all(|sent| sent.payload_type == 13 && sent.payload[0] == 50)),
            None => {
                let noise: Vec<Sent> = pause.iter().map(|sent| (*sent).clone()).collect();
                let heard = heard(&to.coding, &noise);
                assert_eq!(heard.len(), 1_200 * 8);
                let level = -10.0 * (power(&heard) / 32_768f64.powi(2)).log10();
                assert!((level - 50.0).abs() < 1.5, "{level}");
            }
        }
        let again = network
            .to_callee
            .iter()
            .find(|sent| sent.at.0 > 2_500_000 && sent.payload_type == 97 && sent.marker);
        assert_eq!(again.is_some(), negotiated.is_some(), "the first packet after a silence has the marker");
        assert_eq!(bridge.counters(Side::Caller).late, 0);
    }
}

#[test]
fn a_peer_that_stops_is_silence_for_a_second_and_then_nothing_until_it_speaks_again() {
    for name in codecs() {
        let (from, to) = (settings("PCMA/8000"), settings(name));
        let said = speech_like(8_000, 8);
        let mut packets = Phone::new(&from.coding, 20).say(&said);
        packets.retain(|(at, _)| !(2_000_000..6_000_000).contains(&at.0));
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &packets, Time(8_000_000));
        let sent = &network.to_callee;
        let between =
            |from: u64, until: u64| sent.iter().filter(move |sent| (from..until).contains(&sent.at.0));
        assert_eq!(between(0, 3_000_000).count(), 150, "{name}");
        assert_eq!(between(3_200_000, 6_000_000).count(), 0, "{name}");
        let again = between(6_000_000, 6_100_000).next().unwrap();
        assert!(
            again.marker,
            "{name}: the first packet after a silence has the marker (RFC 3551 section 4.1)"
        );
        assert_whole(sent, &to, name);
    }
}

#[test]
fn loss_repetition_and_disorder_leave_one_whole_stream() {
    for from in codecs() {
        let (from, to) = (settings(from), settings("PCMA/8000"));
        let said = speech_like(from.coding.sampling_rate(), 4);
        let mut packets = Phone::new(&from.coding, 20).say(&said);
        let mut kept = Vec::new();
        for (at, (time, packet)) in packets.drain(..).enumerate() {
            match at % 10 {
                3 => {}
                5 => kept.push((time + Duration::from_millis(25), packet)),
                7 => kept.extend([(time, packet.clone()), (time, packet)]),
                _ => kept.push((time, packet)),
            }
        }
        kept.sort_by_key(|(time, _)| *time);
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        run(&mut bridge, &mut network, &kept, Time(3_900_000));
        assert_whole(&network.to_callee, &to, "bad network");
        assert_eq!(network.to_callee.len(), 196);
        let counters = bridge.counters(Side::Caller);
        assert_eq!(counters.concealed_ms, 20 * 20, "{:?}: {counters:?}", from.coding);
        assert_eq!(
            (counters.repeated + counters.late, counters.malformed),
            (19, 0),
            "{:?}: {counters:?}",
            from.coding
        );
    }
}

#[test]
fn delay_grows_with_the_network_and_shrinks_again() {
    let (from, to) = (settings("PCMA/8000"), settings("PCMU/8000"));
    let said = speech_like(8_000, 20);
    let packets = Phone::new(&from.coding, 20).say(&said);
    // From 3 to 8 s the network is 120 ms slower.
    let slow = |at: Time| {
        if (3_000_000..8_000_000).contains(&at.0) { Duration::from_millis(120) } else { Duration::ZERO }
    };
    let mut packets: Vec<_> = packets.into_iter().map(|(at, packet)| (at + slow(at), packet)).collect();
    packets.sort_by_key(|(at, _)| *at);
    let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
    run(&mut bridge, &mut network, &packets, Time(19_900_000));
    assert_whole(&network.to_callee, &to, "slow network");
    let heard = heard(&to.coding, &network.to_callee);
    let delay = |second: usize| {
        let (from, until) = (second * 8_000, (second + 2) * 8_000);
        delay_ms(&said[from..until], &heard[from..(until + 2_400).min(heard.len())])
    };
    assert!((35..60).contains(&delay(1)), "{} ms at first", delay(1));
    assert!((110..200).contains(&delay(5)), "{} ms while the network is slow", delay(5));
    assert!((30..90).contains(&delay(17)), "{} ms at last", delay(17));
}

#[test]
fn a_tone_is_heard_before_any_media_and_gives_way_to_speech_at_once() {
    let (from, to) = (settings("PCMA/8000"), settings("G722/8000"));
    let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
    let ringback = Plan::of_country("GB").unwrap().cadence(Signal::Ringback).clone();
    bridge.play(Time::ZERO, Side::Callee, Source::Cadence(ringback), PlayUntil::Speech);
    let packets = Phone::new(&from.coding, 20).say(&speech_like(8_000, 1));
    let packets: Vec<_> =
        packets.into_iter().map(|(at, packet)| (at + Duration::from_secs(1), packet)).collect();
    run(&mut bridge, &mut network, &packets, Time(1_980_000));
    assert_whole(&network.to_callee, &to, "ringback");
    assert_eq!(network.played, [Side::Callee]);
    let heard = heard(&to.coding, &network.to_callee);
    assert!(power(&heard[..4_800]) > 1e6, "ringback in the first 300 ms");
    // The delay of the jitter buffer and no more.
    let (mut silent, said) = (speech_like(8_000, 1), &heard[16_000 + 16 * 100..]);
    silent.truncate(7_000);
    assert!(power(said) > power(&silent) / 4.0);
}

// Statement 69.
#[test]
fn a_tone_has_ended_100_ms_after_the_first_packet_of_the_other_side() {
    let (from, to) = (settings("PCMA/8000"), settings("PCMU/8000"));
    let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
    let tone = Source::Cadence("425/60000".parse().unwrap());
    bridge.play(Time::ZERO, Side::Callee, tone, PlayUntil::Speech);
    // Silence, but sent: whoever listens is to hear that and nothing else.
    let packets = Phone::new(&from.coding, 20).say(&[0; 8_000]);
    let packets: Vec<_> =
        packets.into_iter().map(|(at, packet)| (at + Duration::from_secs(1), packet)).collect();
    run(&mut bridge, &mut network, &packets, Time(1_980_000));
    assert_whole(&network.to_callee, &to, "a tone, then silence");
    let heard = heard(&to.coding, &network.to_callee);
    for (at, second) in heard[..8_000].chunks(800).enumerate() {
        assert!(power(second) > 1e6, "the tone at {at}00 ms");
    }
    assert!(power(&heard[8_800..]) < 1e3, "nothing of it from 1.1 s on: {}", power(&heard[8_800..]));
}

#[test]
fn a_core_that_was_away_goes_on_from_now() {
    let (from, to) = (settings("PCMA/8000"), settings("PCMU/8000"));
    let packets = Phone::new(&from.coding, 20).say(&speech_like(8_000, 1));
    let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
    bridge.receive(Time::ZERO, Side::Caller, &packets[0].1, &mut network);
    bridge.run(Time::ZERO, &mut network);
    bridge.run(Time(60_000_000), &mut network);
    assert_eq!(network.to_callee.len(), 2);
    assert_eq!(bridge.deadline(), Some(Time(60_020_000)));
}

proptest! {
    /// Whatever comes, at whatever times: no panic, one whole stream, and no more than one packet a packet time.
    #[test]
    fn hostile_packets_are_counted_and_harm_nobody(
        packets in prop::collection::vec(
            (0u64..40_000, prop::sample::select(vec![96u8, 13, 100, 99, 72, 200]), any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300), 0u8..8),
            1..80,
        ),
        choice in 0usize..6,
    ) {
        let all = codecs();
        let from = LegSettings { comfort_noise: Some(NOISE), ..settings(all[choice % all.len()]) };
        let to = settings("PCMA/8000");
        let (mut bridge, mut network) = (Bridge::new(&from, &to).unwrap(), Network::default());
        let mut now = Time::ZERO;
        for (after, payload_type, sequence, timestamp, payload, kind) in &packets {
            now = now + Duration::from_micros(*after);
            let mut packet = rtp(*payload_type, *sequence, *timestamp, payload);
            match kind {
                0 => packet.truncate(payload.len()),
                1 => packet[0] = 0xbf,
                2 => packet[0] = 0xa0,
                // A stream that is only a little out of order.
                3..=5 => {
                    packet[2..4].copy_from_slice(&(sequence % 32).to_be_bytes());
                    packet[4..8].copy_from_slice(&(timestamp % 8_000).to_be_bytes());
                }
                _ => {}
            }
            bridge.receive(now, Side::Caller, &packet, &mut network);
            bridge.run(now, &mut network);
        }
        assert_whole(&network.to_callee, &to, "hostile");
        prop_assert!(network.to_callee.len() as u64 <= now.0 / 20_000 + 1);
        let counters = bridge.counters(Side::Caller);
        prop_assert!(counters.received <= packets.len() as u64);
    }
}
