//! Speech of a person through the media bridge between every two codecs, scored against what was said: level, delay,
//! and listening quality as ITU-T P.862 predicts it (PESQ; P.862.2 where both codecs are wideband).

use anyhow::{Context, Result, ensure};
use gateway_userspace::base::id::Side;
use gateway_userspace::base::time::Time;
use gateway_userspace::codec::resample::Resampler;
use gateway_userspace::codec::{Coding, Decoder, Encoder};
use gateway_userspace::media::bridge::{
    Bridge, JitterSettings, KeysFrom, KeysTo, LegSettings, Output, Stream,
};
use gateway_userspace::signal::dtmf::body::Press;
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

const CODECS: [(&str, &str); 9] = [
    ("PCMU/8000", ""),
    ("PCMA/8000", ""),
    ("G722/8000", ""),
    ("opus/48000/2", "useinbandfec=1"),
    ("AMR/8000", "octet-align=1"),
    ("AMR-WB/16000", ""),
    ("SILK/8000", ""),
    ("SILK/16000", ""),
    ("G729/8000", ""),
];

/// The least MOS-LQO, by the callers' codec and the callees', in the order of [`CODECS`]: 0.15 below what was measured.
/// Of a row and a column that are both wideband it is on the scale of P.862.2, whose figures are lower.
const LEAST: [[f32; 9]; 9] = [
    [3.63, 3.54, 3.61, 3.32, 3.69, 3.52, 3.75, 3.67, 3.36],
    [3.57, 3.68, 3.66, 3.45, 3.71, 3.65, 3.77, 3.73, 3.39],
    [3.61, 3.65, 4.04, 3.90, 3.86, 2.91, 4.24, 4.04, 3.45],
    [3.46, 3.50, 3.67, 3.58, 3.65, 2.77, 4.04, 3.66, 3.32],
    [3.21, 3.28, 3.82, 3.71, 3.50, 3.58, 3.83, 3.83, 3.18],
    [3.28, 3.31, 2.76, 3.02, 3.54, 2.67, 3.86, 3.04, 3.29],
    [3.58, 3.67, 4.26, 4.03, 3.77, 3.82, 4.17, 4.10, 3.36],
    [3.52, 3.55, 3.90, 3.67, 3.67, 2.88, 4.12, 3.83, 3.34],
    [2.83, 2.85, 3.39, 3.28, 3.05, 3.26, 3.37, 3.33, 2.85],
];

/// Of Debian's package asterisk-core-sounds-en-g722: one who speaks American English, in sentences with pauses.
const RECORDINGS: [&str; 2] = ["vm-intro.g722", "tt-weasels.g722"];
const DIRECTORY: &str = "/usr/share/asterisk/sounds/en_US_f_Allison";
/// Of the recordings.
const WIDE: u32 = 16_000;
const NARROW: u32 = 8_000;
const PACKET_MS: u32 = 20;
const PAYLOAD_TYPE: u8 = 96;
/// -26 dBov, the level of speech for which codecs and P.862 are made (ITU-T P.830 section 7.2.2), as an amplitude.
const ACTIVE_LEVEL: f64 = 1_642.0;

#[test]
fn speech_keeps_level_delay_and_quality_between_any_two_codecs() -> Result<()> {
    let said = recording()?;
    let codecs = codecs()?;
    let said = &said;
    let scored: Vec<Vec<Scored>> = thread::scope(|scope| {
        let from_each = codecs.iter().map(|from| {
            let codecs = &codecs;
            scope.spawn(move || codecs.iter().map(|to| score(said, from, to)).collect::<Result<Vec<_>>>())
        });
        let from_each: Vec<_> = from_each.collect();
        from_each
            .into_iter()
            .map(|pairs| pairs.join().expect("scoring does not panic"))
            .collect::<Result<_>>()
    })?;
    let mut faults = Vec::new();
    println!("{:<30} {:>6} {:>8} {:>9} {:>6} {:>6}", "", "scale", "delay", "level", "MOS", "least");
    for Scored { pair, scale, delay_ms, level_db, mos, least } in scored.iter().flatten() {
        let row =
            format!("{pair:<30} {scale:>6} {delay_ms:>5} ms {level_db:>6.2} dB {mos:>6.2} {least:>6.2}");
        println!("{row}");
        // The jitter buffer's 20 ms, a packet's 20 ms, and what codecs look ahead.
        if !(20..70).contains(delay_ms) || level_db.abs() > 1.0 || mos < least {
            faults.push(row);
        }
    }
    ensure!(faults.is_empty(), "not as it was said:\n{}", faults.join("\n"));
    Ok(())
}

struct Codec {
    /// In [`CODECS`].
    row: usize,
    name: &'static str,
    coding: Coding,
}

struct Scored {
    pair: String,
    scale: &'static str,
    delay_ms: usize,
    level_db: f64,
    mos: f32,
    least: f32,
}

/// Those of this build: all, in a build with everything.
fn codecs() -> Result<Vec<Codec>> {
    let mut codecs = Vec::new();
    for (row, (name, fmtp)) in CODECS.into_iter().enumerate() {
        match Coding::of(&name.parse()?, Some(fmtp)) {
            Ok(coding) => codecs.push(Codec { row, name, coding }),
            Err(_) if !cfg!(feature = "everything") => {}
            Err(error) => return Err(error).context(name),
        }
    }
    Ok(codecs)
}

/// The recordings one after another at the level that codecs are made for, and a moment of silence behind them in which
/// all of it comes out.
fn recording() -> Result<Vec<i16>> {
    let mut decoder = Decoder::new(&Coding::G722)?;
    let mut audio = Vec::new();
    for name in RECORDINGS {
        let path = Path::new(DIRECTORY).join(name);
        let coded = fs::read(&path)
            .with_context(|| format!("{} is missing: `cargo xtask setup` installs it", path.display()))?;
        for packet in coded.chunks_exact(160) {
            decoder.decode(packet, &mut audio)?;
        }
    }
    let frames = audio.chunks_exact(320).map(power);
    let loudest = frames.clone().fold(0.0, f64::max);
    let active: Vec<f64> = frames.filter(|power| *power > loudest / 1_000.0).collect();
    let gain = ACTIVE_LEVEL / (active.iter().sum::<f64>() / active.len() as f64).sqrt();
    let mut said: Vec<i16> = audio.iter().map(|&sample| (f64::from(sample) * gain) as i16).collect();
    said.resize(said.len() + WIDE as usize / 5, 0);
    Ok(said)
}

fn score(said: &[i16], from: &Codec, to: &Codec) -> Result<Scored> {
    let pair = format!("{} to {}", from.name, to.name);
    let sent = at_rate(said, WIDE, from.coding.sampling_rate());
    let heard = bridged(&sent, &from.coding, &to.coding).with_context(|| pair.clone())?;
    let is_wide = [from, to].iter().all(|codec| codec.coding.sampling_rate() >= WIDE);
    let rate = if is_wide { WIDE } else { NARROW };
    let heard = at_rate(&heard, to.coding.sampling_rate(), rate);
    let said = at_rate(said, WIDE, rate);
    let (scale, mos) = match is_wide {
        true => ("wide", pesq::pesq_wb(&said, &heard)?),
        false => ("narrow", pesq::score::mos_lqo(pesq::pesq_8k(&said, &heard)?.into())),
    };
    Ok(Scored {
        pair,
        scale,
        delay_ms: delay_ms(&said, &heard, rate as usize / 1_000),
        level_db: 10.0 * (power(&heard) * heard.len() as f64 / (power(&said) * said.len() as f64)).log10(),
        mos,
        least: LEAST[from.row][to.row],
    })
}

/// What a callee hears of a caller who says this, in packets that come when they should.
fn bridged(said: &[i16], from: &Coding, to: &Coding) -> Result<Vec<i16>> {
    let [from_leg, to_leg] = [from, to].map(|coding| LegSettings {
        coding: coding.clone(),
        speech_from: [Some(PAYLOAD_TYPE), None],
        speech_to: PAYLOAD_TYPE,
        packet_ms: PACKET_MS,
        comfort_noise: None,
        events: None,
        keys_from: KeysFrom::Packets,
        keys_to: KeysTo::Signalling,
        stream: Stream::default(),
        jitter: JitterSettings { delay: Duration::from_millis(20), ..JitterSettings::default() },
    });
    let mut bridge = Bridge::new(&from_leg, &to_leg)?;
    let mut callee = Callee { decoder: Decoder::new(to)?, heard: Vec::new(), fault: None };
    let mut encoder = Encoder::new(from)?;
    let samples = (from.sampling_rate() * PACKET_MS / 1_000) as usize;
    for (at, speech) in said.chunks_exact(samples).enumerate() {
        let now = Time(at as u64 * u64::from(PACKET_MS) * 1_000);
        while let Some(due) = bridge.deadline().filter(|due| *due < now) {
            bridge.run(due, &mut callee);
        }
        let timestamp = at as u32 * (from.clock_rate() * PACKET_MS / 1_000);
        let mut packet = vec![0x80, PAYLOAD_TYPE];
        packet.extend((at as u16).to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(7_u32.to_be_bytes());
        encoder.encode(speech, &mut packet)?;
        bridge.receive(now, Side::Caller, &packet, &mut callee);
        bridge.run(now, &mut callee);
    }
    match callee.fault {
        Some(fault) => Err(fault),
        None => Ok(callee.heard),
    }
}

struct Callee {
    decoder: Decoder,
    heard: Vec<i16>,
    fault: Option<anyhow::Error>,
}

impl Output for Callee {
    fn packet(&mut self, to: Side, _at: Time, packet: &[u8]) {
        if to == Side::Callee
            && let Err(error) = self.decoder.decode(&packet[12..], &mut self.heard)
        {
            self.fault = Some(error.into());
        }
    }

    fn key(&mut self, _to: Side, _press: Press) {}

    fn played(&mut self, _to: Side) {}
}

fn at_rate(audio: &[i16], from: u32, to: u32) -> Vec<i16> {
    let mut resampled = Vec::new();
    Resampler::new(from, to).process(audio, &mut resampled);
    resampled
}

fn power(audio: &[i16]) -> f64 {
    audio.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / audio.len().max(1) as f64
}

/// By which `heard` is later than `said`: where their envelopes are most alike.
fn delay_ms(said: &[i16], heard: &[i16], samples: usize) -> usize {
    let envelope =
        |audio: &[i16]| audio.chunks_exact(samples).map(|chunk| power(chunk).sqrt()).collect::<Vec<_>>();
    let (said, heard) = (envelope(said), envelope(heard));
    let likeness = |delay: usize| said.iter().zip(heard.iter().skip(delay)).map(|(a, b)| a * b).sum::<f64>();
    (0..300).max_by(|one, other| likeness(*one).total_cmp(&likeness(*other))).unwrap_or_default()
}
