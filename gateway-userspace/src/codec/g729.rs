//! G.729 Annex A with the silence of Annex B (RFC 3551 section 4.5.6): frames of 10 ms in 10 octets.
//!
//! Silence descriptions of the peer are decoded; none are sent, so `annexb` of `a=fmtp` changes nothing here.

use super::{EncodeFault, LibraryRefused, Malformed};
use codec_core::codecs::g729::G729Codec;
use codec_core::types::{AudioCodecExt, CodecConfig, CodecType};
use std::fmt;

/// Milliseconds of one frame.
pub const FRAME_MS: u32 = 10;
/// Samples of one frame.
const FRAME: usize = G729Codec::FRAME_SAMPLES;
const SPEECH_OCTETS: usize = G729Codec::MAX_ENCODED_BYTES;
/// Of a silence description, which only the end of a payload may be.
const SILENCE_OCTETS: usize = 2;

/// State of the coding direction.
pub struct Encoder(Box<G729Codec>);

/// State of the decoding direction.
pub struct Decoder(Box<G729Codec>);

impl Encoder {
    /// # Errors
    /// The library refused.
    pub fn new() -> Result<Self, LibraryRefused> {
        library(CodecType::G729A).map(Self)
    }

    /// Appends ten octets for every 80 samples at 8 kHz.
    ///
    /// # Errors
    /// A length that is not a multiple of 80 samples.
    pub fn encode(&mut self, audio: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeFault> {
        let fault = EncodeFault { codec: "G.729", samples: audio.len() };
        if !audio.len().is_multiple_of(FRAME) {
            return Err(fault);
        }
        for speech in audio.chunks_exact(FRAME) {
            let mut frame = [0; SPEECH_OCTETS];
            let written = self.0.encode_to_buffer(speech, &mut frame).map_err(|_| fault)?;
            payload.extend_from_slice(&frame[..written]);
        }
        Ok(())
    }
}

impl Decoder {
    /// # Errors
    /// The library refused.
    pub fn new() -> Result<Self, LibraryRefused> {
        library(CodecType::G729BA).map(Self)
    }

    /// Appends 80 samples for every frame of speech, and for the silence description at the end of a payload.
    ///
    /// # Errors
    /// A length that frames do not add up to, or more than `longest` samples; then nothing is appended.
    pub fn decode(&mut self, payload: &[u8], longest: usize, audio: &mut Vec<i16>) -> Result<(), Malformed> {
        let silence = match payload.len() % SPEECH_OCTETS {
            0 => 0,
            SILENCE_OCTETS => 1,
            _ => return Err(Malformed::Truncated),
        };
        if (payload.len() / SPEECH_OCTETS + silence) * FRAME > longest {
            return Err(Malformed::Long);
        }
        let start = audio.len();
        for frame in payload.chunks(SPEECH_OCTETS) {
            if let Err(refused) = self.frame(frame, audio) {
                audio.truncate(start);
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Appends at least `samples` in place of what was lost, or of what a silent peer did not send.
    pub fn conceal(&mut self, samples: usize, audio: &mut Vec<i16>) {
        for _ in 0..samples.div_ceil(FRAME) {
            if self.frame(&[], audio).is_err() {
                return;
            }
        }
    }

    fn frame(&mut self, frame: &[u8], audio: &mut Vec<i16>) -> Result<(), Malformed> {
        let mut speech = [0; FRAME];
        self.0.decode_to_buffer(frame, &mut speech).map_err(|_| Malformed::Refused)?;
        audio.extend_from_slice(&speech);
        Ok(())
    }
}

fn library(kind: CodecType) -> Result<Box<G729Codec>, LibraryRefused> {
    G729Codec::new(CodecConfig::new(kind)).map(Box::new).map_err(|_| LibraryRefused("G.729"))
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("g729::Encoder")
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("g729::Decoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_frames_of_speech_and_at_most_one_silence_description_at_its_end() {
        let decoded = |octets: usize| {
            let mut audio = Vec::new();
            let result = Decoder::new().unwrap().decode(&vec![0x55; octets], 960, &mut audio);
            result.map(|()| audio.len())
        };
        assert_eq!([10, 20, 2, 12, 120].map(decoded), [80, 160, 80, 160, 960].map(Ok));
        assert_eq!([1, 4, 9, 11, 14].map(decoded), [Err(Malformed::Truncated); 5]);
        assert_eq!([122, 130].map(decoded), [Err(Malformed::Long); 2]);
    }
}
