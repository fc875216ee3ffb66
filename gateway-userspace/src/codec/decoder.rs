//! Payloads to linear audio.

#[cfg(feature = "amr")]
use super::amr;
use super::conceal::Concealer;
#[cfg(feature = "g729")]
use super::g729;
#[cfg(feature = "opus")]
use super::opus;
#[cfg(feature = "silk")]
use super::silk;
use super::{Coding, LONGEST_PACKET_MS, LibraryRefused, g711, g722};

/// One direction of a leg: payloads in, linear audio out.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Samples of the longest packet.
    longest: usize,
}

#[derive(Debug)]
enum State {
    /// Codecs without memory of what was lost.
    Waveform(Waveform, Box<Concealer>),
    #[cfg(feature = "opus")]
    Opus(Box<opus::Decoder>),
    #[cfg(feature = "amr")]
    Amr(Box<amr::Decoder>),
    #[cfg(feature = "g729")]
    G729(g729::Decoder),
    #[cfg(feature = "silk")]
    Silk(silk::Decoder),
}

#[derive(Debug)]
enum Waveform {
    Pcmu,
    Pcma,
    G722(Box<g722::Decoder>),
}

/// A payload that is none of the codec: to be counted, and concealed like a lost one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a payload without audio")]
    Empty,
    #[error("a payload longer than any packet of the codec")]
    Long,
    #[error("a payload that ends before what it announces")]
    Truncated,
    #[error("a frame type that is reserved")]
    FrameType,
    #[error("a payload that the library refuses")]
    Refused,
}

impl Decoder {
    /// # Errors
    /// The library of the coding refused.
    pub fn new(coding: &Coding) -> Result<Self, LibraryRefused> {
        let rate = coding.sampling_rate();
        let waveform = |waveform| State::Waveform(waveform, Box::new(Concealer::new(rate)));
        let state = match coding {
            Coding::Pcmu => waveform(Waveform::Pcmu),
            Coding::Pcma => waveform(Waveform::Pcma),
            Coding::G722 => waveform(Waveform::G722(Box::default())),
            #[cfg(feature = "opus")]
            Coding::Opus(parameters) => State::Opus(Box::new(opus::Decoder::new(parameters)?)),
            #[cfg(feature = "amr")]
            Coding::Amr(parameters) => State::Amr(Box::new(amr::Decoder::new(parameters)?)),
            #[cfg(feature = "g729")]
            Coding::G729 => State::G729(g729::Decoder::new()?),
            #[cfg(feature = "silk")]
            Coding::Silk(parameters) => State::Silk(silk::Decoder::new(parameters)?),
        };
        Ok(Self { state, longest: (rate * LONGEST_PACKET_MS / 1000) as usize })
    }

    /// Appends the audio of one packet: at most [`LONGEST_PACKET_MS`].
    ///
    /// # Errors
    /// The payload is none of this codec; nothing is appended, and the next one is read as if this had not come.
    pub fn decode(&mut self, payload: &[u8], audio: &mut Vec<i16>) -> Result<(), Malformed> {
        if payload.is_empty() {
            return Err(Malformed::Empty);
        }
        match &mut self.state {
            State::Waveform(waveform, concealer) => {
                let start = audio.len();
                match waveform {
                    _ if payload.len() > self.longest => return Err(Malformed::Long),
                    Waveform::Pcmu => {
                        audio.extend(payload.iter().map(|&code| g711::linear_of_ulaw(code)));
                    }
                    Waveform::Pcma => {
                        audio.extend(payload.iter().map(|&code| g711::linear_of_alaw(code)));
                    }
                    Waveform::G722(decoder) => decoder.decode(payload, self.longest, audio)?,
                }
                concealer.heard(&mut audio[start..]);
                Ok(())
            }
            #[cfg(feature = "opus")]
            State::Opus(decoder) => decoder.decode(payload, audio),
            #[cfg(feature = "amr")]
            State::Amr(decoder) => decoder.decode(payload, audio),
            #[cfg(feature = "g729")]
            State::G729(decoder) => decoder.decode(payload, self.longest, audio),
            #[cfg(feature = "silk")]
            State::Silk(decoder) => decoder.decode(payload, audio),
        }
    }

    /// Appends `samples` of audio in place of a packet that did not come. `next` is the packet after it, if that is
    /// here already: some codecs repeat in it what was lost.
    pub fn conceal(&mut self, samples: usize, next: Option<&[u8]>, audio: &mut Vec<i16>) {
        let end = audio.len() + samples;
        match &mut self.state {
            State::Waveform(_, concealer) => concealer.conceal(samples, audio),
            #[cfg(feature = "opus")]
            State::Opus(decoder) => decoder.conceal(samples, next, audio),
            #[cfg(feature = "amr")]
            State::Amr(decoder) => decoder.conceal(samples, audio),
            #[cfg(feature = "g729")]
            State::G729(decoder) => decoder.conceal(samples, audio),
            #[cfg(feature = "silk")]
            State::Silk(decoder) => decoder.conceal(samples, audio),
        }
        let _ = next;
        audio.resize(end, 0);
    }

    /// The mode that the peer asked for since the last question, for [`super::Encoder::heed`].
    pub fn requested_mode(&mut self) -> Option<u8> {
        match &mut self.state {
            #[cfg(feature = "amr")]
            State::Amr(decoder) => decoder.requested_mode(),
            _ => None,
        }
    }
}
