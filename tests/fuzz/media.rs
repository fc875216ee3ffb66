//! Targets for what comes with media: RTP, RTCP, SRTP, payloads of codecs, telephone-events, and the bridge over all.

use gateway_common::flow::FlowKind;
use gateway_common::learned::FlowState;
use gateway_common::net::Be32;
use gateway_common::rewrite::Sum;
use gateway_common::rtp::{self as header, Media, TelephoneEvent};
use gateway_userspace::base::id::Side;
use gateway_userspace::base::time::Time;
use gateway_userspace::base::token::Tokens;
use gateway_userspace::codec::comfort_noise::Silence;
use gateway_userspace::codec::{Coding, Decoder, LONGEST_PACKET_MS};
use gateway_userspace::media::bridge::{
    Bridge, Events, JitterSettings, KeysFrom, KeysTo, LegSettings, Output, PayloadTypes, Stream,
};
use gateway_userspace::rtp::rtcp::{Packet, Reporter, packets};
use gateway_userspace::signal::dtmf::body::Press;
use gateway_userspace::signal::dtmf::event::{Happened, Receiver};
use gateway_userspace::srtp::{MasterKey, Protect, Suite, Unprotect};
use std::time::Duration;

/// Codecs of which a first octet chooses; those that this build lacks are passed over.
const CODECS: [(&str, Option<&str>); 14] = [
    ("PCMU/8000", None),
    ("PCMA/8000", None),
    ("G722/8000", None),
    ("opus/48000/2", None),
    ("opus/48000/2", Some("maxplaybackrate=8000;useinbandfec=1;stereo=1")),
    ("AMR/8000", None),
    ("AMR/8000", Some("octet-align=1")),
    ("AMR/8000", Some("octet-align=1;mode-set=0,2,4,7")),
    ("AMR-WB/16000", None),
    ("AMR-WB/16000", Some("octet-align=1")),
    ("G729/8000", None),
    ("G729/8000", Some("annexb=no")),
    ("SILK/8000", None),
    ("SILK/16000", None),
];

/// An RTP header is read or refused; what was read lies inside the payload, extensions, sources and padding included.
pub(crate) fn rtp(input: &[u8]) {
    for kind in [FlowKind::Rtp, FlowKind::Rtcp, FlowKind::Mux] {
        let Ok(Media::Rtp(rtp)) = header::parse(input, 0, input.len(), kind) else { continue };
        assert!(kind != FlowKind::Rtcp);
        assert!((header::RTP_LEN..=input.len()).contains(&rtp.header_len), "{rtp:?}");
        let left = input.len() - rtp.header_len;
        let _ = TelephoneEvent::parse(input, rtp.header_len, left);
    }
}

/// A compound is read as far as it can be. One that the data plane lets through is translated in its place, and
/// another time back; reports about us that lie change figures at most.
pub(crate) fn rtcp(input: &[u8]) {
    let read: Vec<_> = packets(input).collect();
    assert!(read.iter().rev().skip(1).all(Result::is_ok), "nothing is read behind a fault");
    let (mut tokens, now) = (Tokens::seeded(1), Time(60_000_000));
    let mut reporter = Reporter::new(Time(1), 0, &mut tokens);
    reporter.receive(now, input);
    if let Some(trip) = reporter.round_trip() {
        assert!(trip < Duration::from_secs(60), "{trip:?}");
    }
    if gateway_common::rtcp::check(input, 0, input.len()).is_err() {
        return;
    }
    let ssrc = read.iter().find_map(|packet| match packet {
        Ok(Packet::SenderReport { ssrc, .. } | Packet::ReceiverReport { ssrc, .. }) => Some(*ssrc),
        _ => None,
    });
    let state = |ssrc: u32, out: u32| FlowState {
        heard: 1,
        ssrc: Be32::new(ssrc),
        out_ssrc: Be32::new(out),
        timestamp_offset: 7,
        sequence_offset: 9,
        ..FlowState::default()
    };
    let own = state(ssrc.unwrap_or(1), 0xdead_beef);
    let translation = gateway_common::rtcp::Translation::new(Some(&own), None);
    let mut translated = input.to_vec();
    let octets = translated.len();
    gateway_common::rtcp::translate(translated.as_mut_slice(), 0, octets, &translation, Sum::default());
    assert_eq!(translated.len(), input.len());
    assert!(gateway_common::rtcp::check(translated.as_slice(), 0, octets).is_ok());
}

/// The first octet chooses suite and kind. Octets of anybody are refused; what is protected from them reads back.
pub(crate) fn srtp(input: &[u8]) {
    let Some((choice, packet)) = input.split_first() else { return };
    let suite = Suite::ALL[usize::from(*choice) % Suite::ALL.len()];
    let Ok(key) = MasterKey::new(suite, &vec![*choice; suite.master_len()]) else { return };
    let is_rtcp = choice & 0x80 != 0;
    let mut unprotect = Unprotect::new(&key);
    let mut forged = packet.to_vec();
    let opened = if is_rtcp { unprotect.rtcp(&mut forged) } else { unprotect.rtp(&mut forged) };
    assert!(opened.is_err(), "nobody guesses a tag of {suite:?}");
    let (mut protect, mut buffer) = (Protect::new(&key), packet.to_vec());
    buffer.resize(packet.len() + 160, 0);
    let length = match is_rtcp {
        true => protect.rtcp(&mut buffer, packet.len()),
        false => protect.rtp(&mut buffer, packet.len()),
    };
    let Ok(length) = length else { return };
    let sealed = &mut buffer[..length];
    let opened = if is_rtcp { unprotect.rtcp(sealed) } else { unprotect.rtp(sealed) };
    let octets = opened.expect("what was protected is read");
    assert_eq!(&sealed[..octets], packet);
}

/// The first octet chooses a codec. A payload gives no more audio than a packet may hold, or is refused, and what
/// follows it is decoded and concealed as if it had never come.
pub(crate) fn audio(input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else { return };
    let _ = Silence::read(payload);
    let Some(coding) = coding(*choice) else { return };
    let mut decoder = Decoder::new(&coding).expect("the library is there");
    let mut audio = Vec::new();
    let most = (coding.sampling_rate() * LONGEST_PACKET_MS / 1_000) as usize;
    // Whole, then cut at each length up to where most frames end.
    for end in [payload.len()].into_iter().chain((0..payload.len()).take(64)) {
        audio.clear();
        match decoder.decode(&payload[..end], &mut audio) {
            Ok(()) => assert!(audio.len() <= most, "{} samples of {coding:?}", audio.len()),
            Err(_) => assert!(audio.is_empty(), "a refused payload of {coding:?} left audio"),
        }
    }
    audio.clear();
    decoder.conceal((coding.sampling_rate() / 50) as usize, Some(payload), &mut audio);
    let _ = decoder.requested_mode();
}

/// Packets of telephone-events, each behind a timestamp and a time: keys go down and up in turns, whatever comes.
pub(crate) fn events(input: &[u8]) {
    let mut receiver = Receiver::new(8_000);
    let (mut now, mut down) = (Time(1), None);
    let mut turn = |happened: Happened| match happened {
        Happened::Began { code } => assert_eq!(down.replace(code), None, "two keys at once"),
        Happened::Ended { code, .. } => assert_eq!(down.take(), Some(code), "another key than went down"),
    };
    for packet in input.chunks(7) {
        let [pause, timestamp_high, timestamp_low, payload @ ..] = packet else { break };
        now = now + Duration::from_millis(u64::from(*pause));
        let timestamp = (u32::from(*timestamp_high) << 24) + u32::from(*timestamp_low) * 160;
        receiver.expire(now, &mut turn);
        receiver.receive(now, timestamp, payload, &mut turn);
    }
    receiver.expire(now + Duration::from_secs(60), &mut turn);
    assert_eq!(down, None, "a key without an end is let go");
}

/// Two octets choose the codecs of the legs; then come packets, each behind its length and a time, from either side.
/// What leaves is RTP of one stream a side, no more of it than time has passed.
pub(crate) fn bridge(input: &[u8]) {
    let [caller, callee, rest @ ..] = input else { return };
    let (Some(near), Some(far)) = (coding(*caller), coding(*callee)) else { return };
    let settings = [(near, caller), (far, callee)].map(|(coding, choice)| leg(coding, *choice));
    let mut bridge = Bridge::new(&settings[0], &settings[1]).expect("the libraries are there");
    let (begin, mut rest) = (Time(1_000_000), rest);
    let (mut now, mut left) = (begin, Left::default());
    while let [length, pause, from, packet @ ..] = rest {
        // Clocks jump, and networks stop: up to two minutes at once.
        let pause = if *pause > 250 { u64::from(*pause - 230) * 5_000 } else { u64::from(*pause) };
        now = now + Duration::from_millis(pause);
        let (packet, after) = packet.split_at(packet.len().min(usize::from(*length)));
        rest = after;
        bridge.run(now, &mut left);
        let side = if from & 1 == 0 { Side::Caller } else { Side::Callee };
        // A flood, when it is asked for.
        for _ in 0..=usize::from(*from >> 5) {
            bridge.receive(now, side, packet, &mut left);
        }
    }
    for _ in 0..50 {
        now = now + Duration::from_millis(20);
        bridge.run(now, &mut left);
    }
    let most = now.since(begin).as_millis() / 10 + 10;
    for (side, counted) in left.packets.iter().enumerate() {
        assert!(u128::from(*counted) <= most, "{counted} packets to {side} in {:?}", now.since(begin));
    }
}

/// What left a bridge.
#[derive(Default)]
struct Left {
    packets: [u64; 2],
    sequence: [Option<u16>; 2],
}

impl Output for Left {
    fn packet(&mut self, to: Side, _: Time, packet: &[u8]) {
        let Ok(Media::Rtp(_)) = header::parse(packet, 0, packet.len(), FlowKind::Rtp) else {
            panic!("no RTP: {}", packet.escape_ascii());
        };
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        if let Some(before) = self.sequence[to.index()].replace(sequence) {
            assert_eq!(sequence, before.wrapping_add(1), "a gap on the way to {to:?}");
        }
        self.packets[to.index()] += 1;
    }

    fn key(&mut self, _: Side, _: Press) {}

    fn played(&mut self, _: Side) {}
}

fn coding(choice: u8) -> Option<Coding> {
    let (codec, fmtp) = CODECS[usize::from(choice) % CODECS.len()];
    Coding::of(&codec.parse().expect("it is a codec"), fmtp).ok()
}

fn leg(coding: Coding, choice: u8) -> LegSettings {
    let flag = |bit: u8| choice & (1 << bit) != 0;
    LegSettings {
        speech_from: [Some(96), Some(97)],
        speech_to: 96,
        packet_ms: if flag(6) { 40 } else { 20 },
        comfort_noise: flag(7).then_some(PayloadTypes { from: 13, to: 13 }),
        events: Some(Events { types: PayloadTypes { from: 101, to: 101 }, clock_rate: coding.clock_rate() }),
        keys_from: if flag(5) { KeysFrom::Tones } else { KeysFrom::Packets },
        keys_to: if flag(4) { KeysTo::Tones } else { KeysTo::Events },
        stream: Stream { ssrc: 7, sequence: 0xfff0, timestamp: 0xffff_f000 },
        jitter: JitterSettings::default(),
        coding,
    }
}
