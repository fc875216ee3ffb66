//! G.722 at 64 kbit/s: two sub-bands, 16 kHz of audio in 8,000 octets a second.

use super::{EncodeFault, Malformed};
use audio_codec::{Decoder as _, Encoder as _};
use std::fmt;

/// State of the coding direction.
#[derive(Default)]
pub struct Encoder(audio_codec::g722::G722Encoder);

/// State of the decoding direction.
#[derive(Default)]
pub struct Decoder(audio_codec::g722::G722Decoder);

impl Encoder {
    /// Appends one octet for every two samples at 16 kHz.
    ///
    /// # Errors
    /// An odd number of samples.
    pub fn encode(&mut self, audio: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeFault> {
        let fault = EncodeFault { codec: "G.722", samples: audio.len() };
        if !audio.len().is_multiple_of(2) {
            return Err(fault);
        }
        let start = payload.len();
        payload.resize(start + self.0.max_encode_bytes(audio.len()), 0);
        let written = self.0.encode_into(audio, &mut payload[start..]);
        payload.truncate(start + written.unwrap_or_default());
        written.map(drop).map_err(|_| fault)
    }
}

impl Decoder {
    /// Appends two samples at 16 kHz for every octet.
    ///
    /// # Errors
    /// More than `longest` samples, and nothing is appended.
    pub fn decode(&mut self, payload: &[u8], longest: usize, audio: &mut Vec<i16>) -> Result<(), Malformed> {
        let samples = self.0.max_decode_samples(payload.len());
        if samples > longest {
            return Err(Malformed::Long);
        }
        let start = audio.len();
        audio.resize(start + samples, 0);
        let written = self.0.decode_into(payload, &mut audio[start..]);
        audio.truncate(start + written.unwrap_or_default());
        written.map(drop).map_err(|_| Malformed::Refused)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("g722::Encoder")
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("g722::Decoder")
    }
}
