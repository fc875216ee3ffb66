//! Opus (RFC 6716) by the system's libopus, in the payload format of RFC 7587: one packet of Opus a packet of RTP.

use super::{EncodeFault, LONGEST_PACKET_MS, LibraryRefused, Malformed};
use crate::rtp::codec::parameter;
use opusic_c::{Application, Bitrate, Channels, InbandFec, SampleRate, Signal};
use std::fmt;

/// RFC 7587 section 4.1: whatever is sent, the timestamp counts 48,000 a second.
pub const CLOCK_RATE: u32 = 48_000;

/// The longest packet that is sent: the most that a payload of an Opus frame of 60 ms may have.
const LONGEST_PAYLOAD: usize = 1_275 * 3 + 7;
/// Bit rates that RFC 7587 section 3.1.1 recommends for narrowband and wideband speech, rounded up.
const NARROWBAND_BIT_RATE: u32 = 12_000;
const WIDEBAND_BIT_RATE: u32 = 24_000;
/// Of 10: about half the processor time of the highest, and hard to tell from it at these bit rates.
const COMPLEXITY: u8 = 5;
/// Per cent of loss that redundancy is made for, where the peer can use it: below 10, libopus makes none at the
/// wideband bit rate.
const EXPECTED_LOSS: u8 = 10;
/// What redundancy takes, as a share of the bit rate: libopus takes it from the speech, which is heard (a MOS-LQO of 2.5
/// where it is 3.7 without), so it comes on top.
const REDUNDANCY_PERCENT: u32 = 50;

/// What the peer's `a=fmtp` says of packets to it (RFC 7587 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Samples a second of the linear audio on our side; 8,000 where the peer plays no more, else 16,000.
    pub sampling_rate: u32,
    /// Bits a second that the peer takes at most on average.
    pub bit_rate: u32,
    /// Redundancy for the packet before.
    pub forward_error_correction: bool,
    pub constant_bit_rate: bool,
    /// Silence need not be sent.
    pub discontinuous: bool,
}

impl Parameters {
    /// Reads `a=fmtp`; values that are none count as not given.
    pub fn read(fmtp: &str) -> Self {
        let number = |name: &str| parameter(fmtp, name).and_then(|value| value.parse::<u32>().ok());
        let flag = |name: &str| parameter(fmtp, name) == Some("1");
        let narrow = number("maxplaybackrate").is_some_and(|rate| rate < 16_000);
        let forward_error_correction = flag("useinbandfec");
        let speech = if narrow { NARROWBAND_BIT_RATE } else { WIDEBAND_BIT_RATE };
        let redundancy = if forward_error_correction { speech * REDUNDANCY_PERCENT / 100 } else { 0 };
        let usual = speech + redundancy;
        Self {
            sampling_rate: if narrow { 8_000 } else { 16_000 },
            bit_rate: number("maxaveragebitrate").map_or(usual, |most| most.clamp(6_000, usual)),
            forward_error_correction,
            constant_bit_rate: flag("cbr"),
            discontinuous: flag("usedtx"),
        }
    }

    fn rate(&self) -> SampleRate {
        match self.sampling_rate {
            48_000 => SampleRate::Hz48000,
            16_000 => SampleRate::Hz16000,
            _ => SampleRate::Hz8000,
        }
    }
}

/// The length of a frame (RFC 6716 section 2.1.4) for packets of at least `ms`.
pub(super) fn packet_ms(ms: u32) -> u32 {
    match ms {
        0..=10 => 10,
        11..=20 => 20,
        21..=40 => 40,
        _ => 60,
    }
}

/// State of the coding direction.
pub struct Encoder {
    library: Box<opusic_c::Encoder>,
    /// The library's wrapper takes samples as unsigned.
    samples: Vec<u16>,
    payload: Vec<u8>,
    samples_per_ms: usize,
}

impl Encoder {
    /// # Errors
    /// The library refused.
    pub fn new(parameters: &Parameters) -> Result<Self, LibraryRefused> {
        let library = set_up(parameters).map_err(|_| LibraryRefused("Opus"))?;
        Ok(Self {
            library: Box::new(library),
            samples: Vec::new(),
            payload: vec![0; LONGEST_PAYLOAD],
            samples_per_ms: parameters.sampling_rate as usize / 1000,
        })
    }

    /// Appends one packet of Opus; nothing in silence that need not be sent.
    ///
    /// # Errors
    /// A length that no frame has.
    pub fn encode(&mut self, audio: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeFault> {
        let fault = EncodeFault { codec: "Opus", samples: audio.len() };
        if ![10, 20, 40, 60].iter().any(|ms| ms * self.samples_per_ms == audio.len()) {
            return Err(fault);
        }
        self.samples.clear();
        self.samples.extend(audio.iter().map(|&sample| sample as u16));
        let written = self.library.encode_to_slice(&self.samples, &mut self.payload).map_err(|_| fault)?;
        // libopus says by a packet of two octets at most that it need not be sent.
        if written > 2 {
            payload.extend_from_slice(&self.payload[..written]);
        }
        Ok(())
    }
}

fn set_up(parameters: &Parameters) -> Result<opusic_c::Encoder, opusic_c::ErrorCode> {
    let mut library = opusic_c::Encoder::new(Channels::Mono, parameters.rate(), Application::Voip)?;
    library.set_bitrate(Bitrate::Value(parameters.bit_rate))?;
    library.set_complexity(COMPLEXITY)?;
    library.set_signal(Signal::Voice)?;
    library.set_vbr(!parameters.constant_bit_rate)?;
    library.set_dtx(parameters.discontinuous)?;
    if parameters.forward_error_correction {
        library.set_inband_fec(InbandFec::Mode1)?;
        library.set_packet_loss(EXPECTED_LOSS)?;
    }
    Ok(library)
}

/// State of the decoding direction.
pub struct Decoder {
    library: Box<opusic_c::Decoder>,
    /// The library's wrapper gives samples as unsigned.
    samples: Vec<u16>,
    samples_per_ms: usize,
}

impl Decoder {
    /// # Errors
    /// The library refused.
    pub fn new(parameters: &Parameters) -> Result<Self, LibraryRefused> {
        let library =
            opusic_c::Decoder::new(Channels::Mono, parameters.rate()).map_err(|_| LibraryRefused("Opus"))?;
        let samples_per_ms = parameters.sampling_rate as usize / 1000;
        let samples = vec![0; samples_per_ms * LONGEST_PACKET_MS as usize];
        Ok(Self { library: Box::new(library), samples, samples_per_ms })
    }

    /// Appends the audio of one packet; two channels are mixed into one.
    ///
    /// # Errors
    /// What is no packet of Opus (RFC 6716 section 3.4).
    pub fn decode(&mut self, payload: &[u8], audio: &mut Vec<i16>) -> Result<(), Malformed> {
        // An empty payload means a loss to the library.
        if payload.is_empty() {
            return Err(Malformed::Empty);
        }
        let decoded = self.library.decode_to_slice(payload, &mut self.samples, false);
        let samples = decoded.map_err(|_| Malformed::Refused)?;
        audio.extend(self.samples[..samples].iter().map(|&sample| sample as i16));
        Ok(())
    }

    /// Appends up to `samples` in place of a lost packet: from the redundancy in `next` where it has some.
    pub fn conceal(&mut self, samples: usize, next: Option<&[u8]>, audio: &mut Vec<i16>) {
        // The library conceals in steps of 2.5 ms.
        let step = (self.samples_per_ms * 5).div_ceil(2);
        let wanted = (samples / step * step).min(self.samples.len());
        if wanted == 0 {
            return;
        }
        let redundant = next.filter(|next| !next.is_empty());
        let decoded = self.library.decode_to_slice(
            redundant.unwrap_or_default(),
            &mut self.samples[..wanted],
            redundant.is_some(),
        );
        // Malformed redundancy: the loss is then concealed without it.
        let decoded =
            decoded.or_else(|_| self.library.decode_to_slice(&[], &mut self.samples[..wanted], false));
        let decoded = decoded.unwrap_or_default().min(wanted);
        audio.extend(self.samples[..decoded].iter().map(|&sample| sample as i16));
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opus::Encoder")
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opus::Decoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_wishes_are_read() {
        let usual = Parameters::read("minptime=10;useinbandfec=1");
        assert_eq!((usual.sampling_rate, usual.bit_rate), (16_000, 36_000));
        assert!(usual.forward_error_correction && !usual.discontinuous && !usual.constant_bit_rate);
        let narrow = Parameters::read("maxplaybackrate=8000; maxaveragebitrate=8000; cbr=1; usedtx=1");
        assert_eq!((narrow.sampling_rate, narrow.bit_rate), (8_000, 8_000));
        assert!(narrow.constant_bit_rate && narrow.discontinuous);
        assert_eq!(Parameters::read("maxaveragebitrate=lots").bit_rate, 24_000);
    }

    #[test]
    fn redundancy_in_the_next_packet_restores_what_was_lost() {
        let parameters = Parameters::read("useinbandfec=1");
        let (mut encoder, mut decoder) =
            (Encoder::new(&parameters).unwrap(), Decoder::new(&parameters).unwrap());
        let mut plain = Decoder::new(&parameters).unwrap();
        let audio = crate::codec::voice::speech_like(16_000, 3);
        let packets: Vec<Vec<u8>> = audio
            .chunks_exact(320)
            .map(|frame| {
                let mut payload = Vec::new();
                encoder.encode(frame, &mut payload).unwrap();
                payload
            })
            .collect();
        let (mut whole, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
        let mut reference = Decoder::new(&parameters).unwrap();
        for (at, packet) in packets.iter().enumerate() {
            reference.decode(packet, &mut whole).unwrap();
            if at % 10 == 9 && at + 1 < packets.len() {
                decoder.conceal(320, Some(&packets[at + 1]), &mut with);
                plain.conceal(320, None, &mut without);
            } else {
                decoder.decode(packet, &mut with).unwrap();
                plain.decode(packet, &mut without).unwrap();
            }
        }
        let error = |audio: &[i16]| {
            whole
                .iter()
                .zip(audio)
                .map(|(one, other)| (f64::from(*one) - f64::from(*other)).powi(2))
                .sum::<f64>()
        };
        assert_eq!((with.len(), without.len()), (whole.len(), whole.len()));
        assert!(error(&with) < error(&without) / 2.0, "{} against {}", error(&with), error(&without));
    }
}
