//! The audio of every call in demo, benches and interop tests: made here, the same octets on every host.
//!
//! Eight seconds of a voice-like signal in G.711 A-law, one RTP packet every 20 ms, in a capture that SIPp's
//! `play_pcap_audio` accepts: classic pcap, Ethernet, IPv4 without options, UDP on an even port.

use anyhow::{Context, Result, anyhow};
use gateway_common::srtp::{self, Keys, Scratch, Session, Straight, Stream};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// RTP packets in the recording.
pub(crate) const PACKETS: u16 = 400;
/// Time that each packet carries.
const PACKET_TIME: Duration = Duration::from_millis(20);
/// Octets of audio, and ticks of the RTP clock, in each packet: 20 ms at 8 kHz.
const SAMPLES_PER_PACKET: usize = 160;
/// Static payload type of G.711 A-law (RFC 3551 section 6).
pub(crate) const PAYLOAD_TYPE: u8 = 8;

const SAMPLE_RATE: f64 = 8000.0;
const FIRST_SEQUENCE: u16 = 1000;
const FIRST_TIMESTAMP: u32 = 160_000;
const SSRC: u32 = 0x4357_0001;
/// Addresses for documentation (RFC 5737): whoever replays the recording puts its own there.
const SOURCE: [u8; 4] = [192, 0, 2, 1];
const DESTINATION: [u8; 4] = [192, 0, 2, 2];
const PORT: u16 = 6000;

/// How the recording is coded and carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// G.711 A-law.
    ALaw,
    /// G.711 µ-law.
    MuLaw,
    /// A-law, protected by AES_CM_128_HMAC_SHA1_80 with the master key of RFC 3711 appendix B.3.
    Secured,
}

/// Writes the recording to `path`, with the directories above it.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn media_pcap(path: &Path, form: Form) -> Result<()> {
    let capture = capture(form)?;
    if fs::read(path).is_ok_and(|present| present == capture) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, capture).with_context(|| format!("cannot write {}", path.display()))
}

/// The whole file.
fn capture(form: Form) -> Result<Vec<u8>> {
    // The header's byte order is fixed, so that the file does not depend on the host that made it.
    let header = PcapHeader { endianness: pcap_file::Endianness::Little, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).context("pcap header")?;
    let samples = samples(usize::from(PACKETS) * SAMPLES_PER_PACKET);
    let code = if form == Form::MuLaw { mu_law } else { a_law };
    let audio: Vec<u8> = samples.into_iter().map(code).collect();
    let (keys, mut stream) = (keys(), Stream::default());
    for (index, payload) in (0..PACKETS).zip(audio.chunks_exact(SAMPLES_PER_PACKET)) {
        let packet = rtp(index, if form == Form::MuLaw { 0 } else { PAYLOAD_TYPE }, payload);
        let packet = if form == Form::Secured { protected(&keys, &mut stream, &packet)? } else { packet };
        let packet = ethernet(&udp(&packet));
        let length = u32::try_from(packet.len()).context("length of a packet")?;
        let at = PACKET_TIME * u32::from(index);
        writer.write_packet(&PcapPacket::new_owned(at, length, packet)).context("pcap record")?;
    }
    Ok(writer.into_writer())
}

/// The session keys that RFC 3711 appendix B.3 derives for RTP; SIPp sends no RTCP.
fn keys() -> Keys {
    const CIPHER: u128 = 0xc61e_7a93_744f_39ee_1073_4afe_3ff7_a087;
    const SALT: u128 = 0x30cb_bc08_863d_8c85_d49d_b34a_9ae1;
    const AUTHENTICATION: [u8; 20] = [
        0xce, 0xbe, 0x32, 0x1f, 0x6f, 0xf7, 0x71, 0x6b, 0x6f, 0xd4, 0xab, 0x49, 0xaf, 0x25, 0x6a, 0x15, 0x6d,
        0x38, 0xba, 0xa4,
    ];
    let [_, _, salt @ ..] = SALT.to_be_bytes();
    let rtp = Session::new(&CIPHER.to_be_bytes(), &salt, &AUTHENTICATION);
    Keys { epoch: 1, tag_len: 10, rtp, ..Keys::NONE }
}

fn protected(keys: &Keys, stream: &mut Stream, packet: &[u8]) -> Result<Vec<u8>> {
    let mut scratch = Scratch::new();
    let sealed = scratch
        .load(packet)
        .and_then(|()| srtp::protect(&mut Straight, keys, stream, &mut scratch, packet.len()))
        .map_err(|reason| anyhow!("a packet of the recording: {}", reason.label()))?;
    Ok(scratch.octets(sealed.len).collect())
}

/// A voice-like signal: harmonics of a gliding pitch, shaped by the resonances of a vowel, four syllables a
/// second, and a pause after each sentence. 16 bits, linear.
pub(crate) fn samples(count: usize) -> Vec<i16> {
    let mut phase = 0.0;
    (0..count)
        .map(|index| {
            let time = index as f64 / SAMPLE_RATE;
            let pitch = 125.0 + 15.0 * (TAU * 0.7 * time).sin();
            phase += TAU * pitch / SAMPLE_RATE;
            let voice: f64 = (1..=24)
                .map(|harmonic| {
                    let harmonic = f64::from(harmonic);
                    vowel(harmonic * pitch) * (harmonic * phase).sin()
                })
                .sum();
            let syllable = 0.5 - 0.5 * (TAU * 4.0 * time).cos();
            let sentence = if time % 2.0 < 1.75 { 1.0 } else { 0.0 };
            (voice * syllable * sentence * 9000.0) as i16
        })
        .collect()
}

/// Relative strength of a frequency in Hz: three formants of an open vowel.
fn vowel(frequency: f64) -> f64 {
    [(700.0, 130.0, 1.0), (1220.0, 150.0, 0.5), (2600.0, 250.0, 0.2)]
        .iter()
        .map(|(centre, width, strength)| strength / (1.0 + ((frequency - centre) / width).powi(2)))
        .sum()
}

/// ITU-T G.711 A-law of a 16-bit linear sample.
fn a_law(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 { (0x80, sample >> 3) } else { (0x00, !sample >> 3) };
    // Segments double in size from 32 steps on; the first two share a slope.
    let segment = (0..7).take_while(|segment| magnitude >= 0x20 << segment).count();
    let mantissa = magnitude >> segment.max(1) & 0x0f;
    let code = (segment as u8) << 4 | mantissa as u8;
    (code | sign) ^ 0x55
}

/// ITU-T G.711 µ-law of a 16-bit linear sample.
fn mu_law(sample: i16) -> u8 {
    const BIAS: i32 = 132;
    let (sign, magnitude) = if sample >= 0 { (0x80, i32::from(sample)) } else { (0x00, !i32::from(sample)) };
    let biased = magnitude.min(32_635) + BIAS;
    // The highest bit in use names the segment.
    let segment = 24 - (biased.leading_zeros() as i32);
    let mantissa = biased >> (segment + 3) & 0x0f;
    !(sign as u8 ^ 0x80 | (segment << 4) as u8 | mantissa as u8)
}

/// RFC 3550 section 5.1; the marker stands at the start of the talk spurt.
fn rtp(index: u16, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let marker = if index == 0 { 0x80 } else { 0x00 };
    let timestamp = FIRST_TIMESTAMP + u32::from(index) * SAMPLES_PER_PACKET as u32;
    let mut packet = vec![0x80, marker | payload_type];
    packet.extend((FIRST_SEQUENCE + index).to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(SSRC.to_be_bytes());
    packet.extend(payload);
    packet
}

/// UDP without a checksum (RFC 768: zero says that there is none): the replayer computes its own anyway.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(8 + payload.len());
    packet.extend(PORT.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// Ethernet and IPv4 in front of a UDP packet.
fn ethernet(udp: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(20 + udp.len() as u16).to_be_bytes());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = UDP;
    ip[12..16].copy_from_slice(&SOURCE);
    ip[16..20].copy_from_slice(&DESTINATION);
    let sum: u32 = ip.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());

    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend(ip);
    frame.extend(udp);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_codes_are_those_of_the_recommendation() {
        // G.711 table 1a: the ends of the scale and the two smallest values around zero.
        assert_eq!([a_law(0), a_law(-1), a_law(i16::MAX), a_law(i16::MIN)], [0xd5, 0x55, 0xaa, 0x2a]);
        // 1000 / 8 = 125: segment 2 begins at 64 in steps of 4, so 15 steps into it.
        assert_eq!(a_law(1000) ^ 0x55, 0x80 | 2 << 4 | 15);
    }

    #[test]
    fn mu_law_codes_are_those_of_the_recommendation() {
        // G.711 table 2a: the ends of the scale and the two smallest values around zero.
        assert_eq!([mu_law(0), mu_law(-1), mu_law(i16::MAX), mu_law(i16::MIN)], [0xff, 0x7f, 0x80, 0x00]);
        // 1000 + 132 = 1132: segment 3 begins at 1024 in steps of 64, so 1 step into it.
        assert_eq!(!mu_law(1000), 3 << 4 | 1);
    }

    #[test]
    fn the_secured_recording_is_longer_by_the_tags() {
        let lengths = [Form::ALaw, Form::Secured].map(|form| capture(form).unwrap().len());
        assert_eq!(lengths[1] - lengths[0], 10 * usize::from(PACKETS));
    }

    #[test]
    fn the_recording_is_loud_in_the_middle_and_silent_in_its_pauses() {
        let audio: Vec<u8> = samples(16_000).into_iter().map(a_law).collect();
        assert!(audio[14_100..15_900].iter().all(|octet| *octet == 0xd5));
        let loud = audio[..14_000].iter().filter(|octet| (**octet ^ 0x55) & 0x7f >= 5 << 4).count();
        assert!(loud > 1000, "{loud} samples in the upper segments");
    }

    #[test]
    fn a_recording_that_is_there_is_left_alone() {
        let directory = std::env::temp_dir().join(format!("causeway-media-{}", std::process::id()));
        let path = directory.join("speech.pcap");
        media_pcap(&path, Form::ALaw).unwrap();
        let written = fs::metadata(&path).unwrap();
        media_pcap(&path, Form::ALaw).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written.modified().unwrap());
        assert_eq!(written.len(), 24 + u64::from(PACKETS) * (16 + 14 + 20 + 8 + 12 + 160));
        fs::remove_dir_all(&directory).unwrap();
    }
}
