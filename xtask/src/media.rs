//! The audio of every call in demo, benches and interop tests: made here, the same octets on every host.
//!
//! Eight seconds of a voice-like signal in G.711 A-law, one RTP packet every 20 ms, in a capture that SIPp's
//! `play_pcap_audio` accepts: classic pcap, Ethernet, IPv4 without options, UDP on an even port.

use anyhow::{Context, Result};
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

/// Writes the recording to `path`, with the directories above it.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn media_pcap(path: &Path) -> Result<()> {
    let capture = capture()?;
    if fs::read(path).is_ok_and(|present| present == capture) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, capture).with_context(|| format!("cannot write {}", path.display()))
}

/// The whole file.
fn capture() -> Result<Vec<u8>> {
    // The header's byte order is fixed, so that the file does not depend on the host that made it.
    let header = PcapHeader { endianness: pcap_file::Endianness::Little, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).context("pcap header")?;
    let audio = speech(usize::from(PACKETS) * SAMPLES_PER_PACKET);
    for (index, payload) in (0..PACKETS).zip(audio.chunks_exact(SAMPLES_PER_PACKET)) {
        let packet = ethernet(&udp(&rtp(index, payload)));
        let length = u32::try_from(packet.len()).context("length of a packet")?;
        let at = PACKET_TIME * u32::from(index);
        writer.write_packet(&PcapPacket::new_owned(at, length, packet)).context("pcap record")?;
    }
    Ok(writer.into_writer())
}

/// A voice-like signal: harmonics of a gliding pitch, shaped by the resonances of a vowel, four syllables a
/// second, and a pause after each sentence. A-law octets.
pub(crate) fn speech(samples: usize) -> Vec<u8> {
    let mut phase = 0.0;
    (0..samples)
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
            a_law((voice * syllable * sentence * 9000.0) as i16)
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

/// RFC 3550 section 5.1; the marker stands at the start of the talk spurt.
fn rtp(index: u16, payload: &[u8]) -> Vec<u8> {
    let marker = if index == 0 { 0x80 } else { 0x00 };
    let timestamp = FIRST_TIMESTAMP + u32::from(index) * SAMPLES_PER_PACKET as u32;
    let mut packet = vec![0x80, marker | PAYLOAD_TYPE];
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
    fn the_recording_is_loud_in_the_middle_and_silent_in_its_pauses() {
        let audio = speech(16_000);
        assert!(audio[14_100..15_900].iter().all(|octet| *octet == 0xd5));
        let loud = audio[..14_000].iter().filter(|octet| (**octet ^ 0x55) & 0x7f >= 5 << 4).count();
        assert!(loud > 1000, "{loud} samples in the upper segments");
    }

    #[test]
    fn a_recording_that_is_there_is_left_alone() {
        let directory = std::env::temp_dir().join(format!("causeway-media-{}", std::process::id()));
        let path = directory.join("speech.pcap");
        media_pcap(&path).unwrap();
        let written = fs::metadata(&path).unwrap();
        media_pcap(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written.modified().unwrap());
        assert_eq!(written.len(), 24 + u64::from(PACKETS) * (16 + 14 + 20 + 8 + 12 + 160));
        fs::remove_dir_all(&directory).unwrap();
    }
}
