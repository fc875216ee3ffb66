//! `cargo xtask bench transcode`: processor time of each codec for 20 ms of speech, and of the media bridge for
//! each packet that it transcodes, with all that goes with it: jitter buffer, resampling, packets.
//!
//! With `--wire` the same for pairs of codecs with all that packets cost, beside rtpengine ([`transcoded`]).
//!
//! Time is the processor time of this thread. A stream is one direction of a call, 50 packets a second; how many of
//! them a core carries follows from the time of one packet, before sockets.

use super::calls::memory::resident_octets;
use super::relay::transcoded::{self, Spoken, WireFigures};
use super::{ReplayArguments, TranscodeArguments};
use crate::media::samples;
use crate::report::{self, thousands};
use crate::steps::Steps;
use anyhow::{Context, Result};
use gateway_userspace::base::id::Side;
use gateway_userspace::base::time::Time;
use gateway_userspace::codec::resample::Resampler;
use gateway_userspace::codec::{Coding, Decoder, Encoder};
use gateway_userspace::media::bridge::{
    Bridge, JitterSettings, KeysFrom, KeysTo, LegSettings, Output, Stream,
};
use gateway_userspace::signal::dtmf::body::Press;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::hint::black_box;
use std::process;

/// Packets of 20 ms in one measurement: eight seconds.
const PACKETS: usize = 400;
const PACKETS_PER_SECOND: f64 = 50.0;
const PAYLOAD_TYPE: u8 = 96;
/// Bridges of each pair whose memory is counted. They stay until all pairs are measured: what is given back to the
/// allocator would be had again by the next without the kernel's knowledge.
const HELD: usize = 200;
/// Packets of each side before it is counted: what grows by use has grown.
const WARM: usize = 25;

const CODECS: [(&str, &str, &str); 9] = [
    ("PCMU", "PCMU/8000", ""),
    ("PCMA", "PCMA/8000", ""),
    ("G.722", "G722/8000", ""),
    ("Opus", "opus/48000/2", ""),
    ("AMR 12.2", "AMR/8000", "octet-align=1"),
    ("AMR-WB 12.65", "AMR-WB/16000", "octet-align=1"),
    ("G.729", "G729/8000", ""),
    ("SILK 8 kHz", "SILK/8000", ""),
    ("SILK 16 kHz", "SILK/16000", ""),
];
/// By name in [`CODECS`].
const PAIRS: [(&str, &str); 8] = [
    ("PCMU", "PCMA"),
    ("PCMU", "Opus"),
    ("PCMA", "G.722"),
    ("PCMU", "AMR-WB 12.65"),
    ("PCMU", "AMR 12.2"),
    ("Opus", "AMR-WB 12.65"),
    ("PCMA", "G.729"),
    ("PCMA", "SILK 16 kHz"),
];

/// Over the wires: those that carriers meet, by name in [`CODECS`], with payload types (RFC 3551 section 6). rtpengine is
/// asked to code into the second, whose number it knows.
const WIRES: [[(&str, u8); 2]; 3] =
    [[("Opus", 96), ("PCMU", 0)], [("PCMA", 8), ("G.722", 9)], [("AMR-WB 12.65", 96), ("PCMU", 0)]];

/// The last line of `--json`. Nanoseconds of one core.
#[derive(Debug, Serialize)]
struct Figures {
    codecs: Vec<CodecFigures>,
    pairs: Vec<PairFigures>,
    wires: Vec<WireFigures>,
    /// The least of all pairs that both carry over wires.
    rtpengine_over_causeway: Option<f64>,
}

#[derive(Debug, Serialize)]
struct CodecFigures {
    codec: &'static str,
    /// For 20 ms.
    encode_ns: f64,
    decode_ns: f64,
}

#[derive(Debug, Serialize)]
struct PairFigures {
    pair: String,
    /// Of a packet, the mean of both directions.
    packet_ns: f64,
    streams_per_core: f64,
    /// Of each of the two legs: jitter buffer, decoder, encoder and all between; the mean of both.
    leg_octets: f64,
}

pub(super) fn run(arguments: &TranscodeArguments, json: bool) -> Result<()> {
    let repetitions = arguments.repetitions;
    let codecs = CODECS.iter().map(|row| codec(row, repetitions)).collect::<Result<Vec<_>>>()?;
    let mut held = Vec::new();
    let pairs = PAIRS.iter().map(|pair| bridged(pair, repetitions, &mut held)).collect::<Result<Vec<_>>>()?;
    let wires = if arguments.wire { over_wires(arguments)? } else { Vec::new() };
    let least = wires.iter().filter_map(|wire| wire.rtpengine_over_causeway).min_by(f64::total_cmp);
    let figures = Figures { codecs, pairs, wires, rtpengine_over_causeway: least };
    print(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

fn over_wires(arguments: &TranscodeArguments) -> Result<Vec<WireFigures>> {
    let TranscodeArguments { repetitions, calls, patience, charged, .. } = *arguments;
    let replay = ReplayArguments { calls, repetitions, patience, charged };
    let steps = Steps::new();
    let measure = |pair: &[(&str, u8); 2]| {
        let [caller, callee] = pair.map(|(wanted, payload_type)| -> Result<Spoken> {
            let (_, codec, fmtp) =
                CODECS.into_iter().find(|(name, ..)| *name == wanted).context("a codec of the table")?;
            let coding = coding(codec, fmtp)?;
            let units = coding.clock_rate() / PACKETS_PER_SECOND as u32;
            Ok(Spoken { codec, fmtp, payload_type, payloads: spoken(&coding)?, coding, units })
        });
        let name = format!("{} ↔ {}", pair[1].0, pair[0].0);
        transcoded::measure(&steps, name, &[caller?, callee?], &replay)
    };
    WIRES.iter().map(measure).collect()
}

fn codec((name, codec, fmtp): &(&'static str, &str, &str), repetitions: u8) -> Result<CodecFigures> {
    let coding = coding(codec, fmtp)?;
    let payloads = spoken(&coding)?;
    let audio = audio(coding.sampling_rate());
    let frame = audio.len() / PACKETS;
    let encode_ns = median(repetitions, || {
        let mut encoder = Encoder::new(&coding)?;
        let mut payload = Vec::new();
        timed(|| {
            for speech in audio.chunks_exact(frame) {
                payload.clear();
                encoder.encode(black_box(speech), &mut payload)?;
            }
            Ok(())
        })
    })?;
    let decode_ns = median(repetitions, || {
        let mut decoder = Decoder::new(&coding)?;
        let mut heard = Vec::new();
        timed(|| {
            for payload in &payloads {
                heard.clear();
                decoder.decode(black_box(payload), &mut heard)?;
            }
            Ok(())
        })
    })?;
    Ok(CodecFigures { codec: name, encode_ns, decode_ns })
}

/// Both directions of a call between two codecs.
fn bridged((caller, callee): &(&str, &str), repetitions: u8, held: &mut Vec<Bridge>) -> Result<PairFigures> {
    let coding_of = |wanted: &str| {
        let row = CODECS.iter().find(|(name, ..)| *name == wanted).context("a codec of the table")?;
        coding(row.1, row.2)
    };
    let codings = [coding_of(caller)?, coding_of(callee)?];
    let packets = [packets(&codings[0])?, packets(&codings[1])?];
    let [caller_leg, callee_leg] = codings.map(leg);
    let converse = |bridge: &mut Bridge, sent: &mut Sent, count: usize| {
        for (at, (caller, callee)) in packets[0].iter().zip(&packets[1]).take(count).enumerate() {
            let now = Time(at as u64 * 20_000);
            bridge.receive(now, Side::Caller, caller, sent);
            bridge.receive(now, Side::Callee, callee, sent);
            bridge.run(now, sent);
        }
    };
    let before = resident_octets(process::id())?;
    for _ in 0..HELD {
        let mut bridge = Bridge::new(&caller_leg, &callee_leg)?;
        converse(&mut bridge, &mut Sent::default(), WARM);
        held.push(bridge);
    }
    let leg_octets = resident_octets(process::id())?.saturating_sub(before) as f64 / (2 * HELD) as f64;
    let both_ns = median(repetitions, || {
        let (mut bridge, mut sent) = (Bridge::new(&caller_leg, &callee_leg)?, Sent::default());
        let time = timed(|| {
            converse(&mut bridge, &mut sent, PACKETS);
            Ok(())
        })?;
        anyhow::ensure!(sent.packets == 2 * PACKETS, "{} packets came out of {}", sent.packets, 2 * PACKETS);
        Ok(time)
    })?;
    let packet_ns = both_ns / 2.0;
    let streams_per_core = 1e9 / PACKETS_PER_SECOND / packet_ns;
    Ok(PairFigures { pair: format!("{caller} ↔ {callee}"), packet_ns, streams_per_core, leg_octets })
}

#[derive(Default)]
struct Sent {
    packets: usize,
}

impl Output for Sent {
    fn packet(&mut self, _to: Side, _at: Time, packet: &[u8]) {
        black_box(packet);
        self.packets += 1;
    }

    fn key(&mut self, _to: Side, _press: Press) {}

    fn played(&mut self, _to: Side) {}
}

fn coding(codec: &str, fmtp: &str) -> Result<Coding> {
    Ok(Coding::of(&codec.parse()?, Some(fmtp))?)
}

fn leg(coding: Coding) -> LegSettings {
    LegSettings {
        coding,
        speech_from: [Some(PAYLOAD_TYPE), None],
        speech_to: PAYLOAD_TYPE,
        packet_ms: 20,
        comfort_noise: None,
        events: None,
        keys_from: KeysFrom::Packets,
        keys_to: KeysTo::Signalling,
        stream: Stream::default(),
        jitter: JitterSettings::default(),
    }
}

/// The recording of the demo at `rate`.
fn audio(rate: u32) -> Vec<i16> {
    let narrow = samples(PACKETS * 160);
    let mut audio = Vec::new();
    Resampler::new(8_000, rate).process(&narrow, &mut audio);
    audio
}

fn spoken(coding: &Coding) -> Result<Vec<Vec<u8>>> {
    let (audio, mut encoder) = (audio(coding.sampling_rate()), Encoder::new(coding)?);
    let payload = |speech: &[i16]| {
        let mut payload = Vec::new();
        encoder.encode(speech, &mut payload)?;
        Ok(payload)
    };
    audio.chunks_exact(audio.len() / PACKETS).map(payload).collect()
}

fn packets(coding: &Coding) -> Result<Vec<Vec<u8>>> {
    let packet = |(at, payload): (usize, &Vec<u8>)| {
        let timestamp = at as u32 * (coding.clock_rate() / 50);
        let mut packet = vec![0x80, PAYLOAD_TYPE];
        packet.extend((at as u16).to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(1u32.to_be_bytes());
        packet.extend(payload);
        packet
    };
    Ok(spoken(coding)?.iter().enumerate().map(packet).collect())
}

/// Nanoseconds of this thread for each of [`PACKETS`] that `work` goes through.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let before = now();
    work()?;
    Ok((now() - before) / PACKETS as f64)
}

fn median(repetitions: u8, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = (0..repetitions).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values[values.len() / 2])
}

fn print(figures: &Figures) {
    let mut table = report::table(["codec, 20 ms", "encode", "decode"], &[1, 2]);
    let nanoseconds = |value: f64| format!("{} ns", thousands(value));
    for row in &figures.codecs {
        table.add_row([row.codec.to_owned(), nanoseconds(row.encode_ns), nanoseconds(row.decode_ns)]);
    }
    println!("{table}");
    let mut table = report::table(["bridged", "a packet", "streams a core", "a leg"], &[1, 2, 3]);
    for row in &figures.pairs {
        table.add_row([
            row.pair.clone(),
            nanoseconds(row.packet_ns),
            thousands(row.streams_per_core),
            format!("{} octets", thousands(row.leg_octets)),
        ]);
    }
    println!("{table}");
    println!(
        "a stream: one direction, 50 packets a second; processor time of the bridge alone, without sockets. \
         a leg: resident memory of {HELD} bridges after {WARM} packets each way, C libraries included, by two."
    );
    if figures.wires.is_empty() {
        return;
    }
    let mut table = report::table(["over wires", "Causeway", "rtpengine", "× Causeway"], &[1, 2, 3]);
    let streams = |value: Option<f64>| value.map_or("does not".to_owned(), thousands);
    for row in &figures.wires {
        table.add_row([
            row.pair.clone(),
            streams(Some(row.causeway_streams_per_core)),
            streams(row.rtpengine_streams_per_core),
            row.rtpengine_over_causeway.map_or(String::new(), |quotient| format!("{quotient:.2}")),
        ]);
    }
    println!("{table}");
    println!("streams a core, by processor time above that of the sender; medians.");
}
