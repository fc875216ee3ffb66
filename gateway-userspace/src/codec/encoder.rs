//! Linear audio to payloads.

#[cfg(feature = "amr")]
use super::amr;
#[cfg(feature = "g729")]
use super::g729;
#[cfg(feature = "opus")]
use super::opus;
#[cfg(feature = "silk")]
use super::silk;
use super::{Coding, LibraryRefused, g711, g722};

/// One direction of a leg: linear audio in, payloads out.
#[derive(Debug)]
pub struct Encoder(State);

#[derive(Debug)]
enum State {
    Pcmu,
    Pcma,
    G722(Box<g722::Encoder>),
    #[cfg(feature = "opus")]
    Opus(Box<opus::Encoder>),
    #[cfg(feature = "amr")]
    Amr(Box<amr::Encoder>),
    #[cfg(feature = "g729")]
    G729(g729::Encoder),
    #[cfg(feature = "silk")]
    Silk(silk::Encoder),
}

/// Audio that makes no packet; always our own mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{samples} samples are no packet of {codec}")]
pub struct EncodeFault {
    pub codec: &'static str,
    pub samples: usize,
}

impl Encoder {
    /// # Errors
    /// The library of the coding refused.
    pub fn new(coding: &Coding) -> Result<Self, LibraryRefused> {
        Ok(Self(match coding {
            Coding::Pcmu => State::Pcmu,
            Coding::Pcma => State::Pcma,
            Coding::G722 => State::G722(Box::default()),
            #[cfg(feature = "opus")]
            Coding::Opus(parameters) => State::Opus(Box::new(opus::Encoder::new(parameters)?)),
            #[cfg(feature = "amr")]
            Coding::Amr(parameters) => State::Amr(Box::new(amr::Encoder::new(parameters)?)),
            #[cfg(feature = "g729")]
            Coding::G729 => State::G729(g729::Encoder::new()?),
            #[cfg(feature = "silk")]
            Coding::Silk(parameters) => State::Silk(silk::Encoder::new(parameters)?),
        }))
    }

    /// Appends the payload of one packet that carries `audio`: a length that [`Coding::packet_ms`] allows.
    ///
    /// Nothing is appended where the coding says by itself that the packet need not be sent (DTX).
    ///
    /// # Errors
    /// Another length, and nothing is appended.
    pub fn encode(&mut self, audio: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeFault> {
        match &mut self.0 {
            State::Pcmu => {
                payload.extend(audio.iter().map(|&sample| g711::ulaw_of_linear(sample)));
                Ok(())
            }
            State::Pcma => {
                payload.extend(audio.iter().map(|&sample| g711::alaw_of_linear(sample)));
                Ok(())
            }
            State::G722(encoder) => encoder.encode(audio, payload),
            #[cfg(feature = "opus")]
            State::Opus(encoder) => encoder.encode(audio, payload),
            #[cfg(feature = "amr")]
            State::Amr(encoder) => encoder.encode(audio, payload),
            #[cfg(feature = "g729")]
            State::G729(encoder) => encoder.encode(audio, payload),
            #[cfg(feature = "silk")]
            State::Silk(encoder) => encoder.encode(audio, payload),
        }
    }

    /// Heeds what the peer asks for in its packets: [`super::Decoder::requested_mode`].
    pub fn heed(&mut self, mode: u8) {
        match &mut self.0 {
            #[cfg(feature = "amr")]
            State::Amr(encoder) => encoder.heed(mode),
            _ => {
                let _ = mode;
            }
        }
    }
}
