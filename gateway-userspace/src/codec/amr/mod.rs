//! AMR and AMR-WB (3GPP TS 26.071, TS 26.171) by opencore-amr and vo-amrwbenc, in the payload format of RFC 4867.
//!
//! * [`Parameters`]: what `a=fmtp` settles.
//! * [`payload`]: frames in packets, bandwidth-efficient or octet-aligned.
//! * `library`: the C libraries, behind types that are safe.

mod library;
mod parameters;
pub mod payload;

use super::{EncodeFault, LibraryRefused, Malformed};
use library::{FrameDecoder, FrameEncoder, SpeechFrame};
pub use parameters::{Band, Modes, Parameters};
use payload::{Frame, Layout, NO_MODE_REQUEST};

/// Every frame carries 20 ms.
pub const FRAME_MS: u32 = 20;

/// State of the coding direction.
#[derive(Debug)]
pub struct Encoder {
    library: FrameEncoder,
    layout: Layout,
    modes: Modes,
    /// The mode of the frames now, and the one that was asked for.
    mode: u8,
    wanted: u8,
    /// Frames since the mode changed.
    steady: u32,
    frames: Vec<Frame>,
}

impl Encoder {
    /// # Errors
    /// The library refused.
    pub fn new(parameters: &Parameters) -> Result<Self, LibraryRefused> {
        let mode = parameters.modes.highest(parameters.band.usual_mode());
        Ok(Self {
            library: FrameEncoder::new(parameters.band)?,
            layout: parameters.layout(),
            modes: parameters.modes,
            mode,
            wanted: mode,
            steady: 0,
            frames: Vec::new(),
        })
    }

    /// Goes over to the highest allowed mode that is no higher than `mode`, which the peer asked for.
    pub fn heed(&mut self, mode: u8) {
        self.wanted = self.modes.highest(mode.min(self.layout.band.highest_mode()));
    }

    /// Appends one payload with a frame for every 20 ms.
    ///
    /// # Errors
    /// A length that is no multiple of 20 ms.
    pub fn encode(&mut self, audio: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeFault> {
        let samples = self.layout.band.frame_samples();
        if audio.is_empty() || !audio.len().is_multiple_of(samples) {
            return Err(EncodeFault { codec: self.layout.band.name(), samples: audio.len() });
        }
        self.frames.clear();
        for speech in audio.chunks_exact(samples) {
            self.steady += 1;
            if let Some(mode) = self.modes.next(self.mode, self.wanted, self.steady) {
                (self.mode, self.steady) = (mode, 0);
            }
            self.frames.push(self.library.encode(speech, self.mode));
        }
        payload::write(self.layout, NO_MODE_REQUEST, &self.frames, payload);
        Ok(())
    }
}

/// State of the decoding direction.
#[derive(Debug)]
pub struct Decoder {
    library: FrameDecoder,
    layout: Layout,
    frames: Vec<Frame>,
    speech: SpeechFrame,
    requested_mode: Option<u8>,
}

impl Decoder {
    /// # Errors
    /// The library refused.
    pub fn new(parameters: &Parameters) -> Result<Self, LibraryRefused> {
        Ok(Self {
            library: FrameDecoder::new(parameters.band)?,
            layout: parameters.layout(),
            frames: Vec::new(),
            speech: [0; library::LONGEST_FRAME],
            requested_mode: None,
        })
    }

    /// Appends 20 ms for every frame of the payload; frames without data or marked as damaged are concealed.
    ///
    /// # Errors
    /// What is no payload of this layout; nothing is appended.
    pub fn decode(&mut self, payload: &[u8], audio: &mut Vec<i16>) -> Result<(), Malformed> {
        let request = payload::read(self.layout, payload, &mut self.frames)?;
        if request != NO_MODE_REQUEST {
            self.requested_mode = Some(request);
        }
        for frame in &self.frames {
            self.library.decode(frame, &mut self.speech);
            audio.extend_from_slice(&self.speech[..self.layout.band.frame_samples()]);
        }
        Ok(())
    }

    /// Appends up to `samples` in place of a lost packet.
    pub fn conceal(&mut self, samples: usize, audio: &mut Vec<i16>) {
        let frame = self.layout.band.frame_samples();
        let end = audio.len() + samples;
        while audio.len() < end {
            self.library.decode(&Frame::NO_DATA, &mut self.speech);
            let missing = frame.min(end - audio.len());
            audio.extend_from_slice(&self.speech[..missing]);
        }
    }

    /// The mode that the peer asked for since the last question.
    pub fn requested_mode(&mut self) -> Option<u8> {
        self.requested_mode.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::voice::speech_like;

    fn lengths(encoder: &mut Encoder, frames: usize) -> Vec<usize> {
        let audio = speech_like(8_000, 2);
        let frames = audio.chunks_exact(160).take(frames);
        frames
            .map(|frame| {
                let mut payload = Vec::new();
                encoder.encode(frame, &mut payload).unwrap();
                payload.len()
            })
            .collect()
    }

    #[test]
    fn the_encoder_heeds_requests_within_the_mode_set_and_its_rules_of_change() {
        let fmtp = "octet-align=1;mode-set=0,2,5,7;mode-change-period=2;mode-change-neighbor=1";
        let mut encoder = Encoder::new(&Parameters::read(Band::Narrow, fmtp).unwrap()).unwrap();
        // Two octets in front of the speech bits of modes 7, 5, 2 and 0: 31, 20, 15 and 12 octets.
        assert_eq!(lengths(&mut encoder, 2), [33, 33]);
        encoder.heed(1);
        assert_eq!(lengths(&mut encoder, 7), [22, 22, 17, 17, 14, 14, 14]);
        encoder.heed(15);
        assert_eq!(lengths(&mut encoder, 3), [17, 17, 22]);
    }

    #[test]
    fn a_request_in_a_packet_reaches_who_asks_for_it_once() {
        let parameters = Parameters::read(Band::Narrow, "").unwrap();
        let mut decoder = Decoder::new(&parameters).unwrap();
        let mut payload = Vec::new();
        payload::write(parameters.layout(), 2, &[Frame::NO_DATA], &mut payload);
        decoder.decode(&payload, &mut Vec::new()).unwrap();
        assert_eq!(decoder.requested_mode(), Some(2));
        assert_eq!(decoder.requested_mode(), None);
    }
}
