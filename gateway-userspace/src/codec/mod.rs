//! Audio codings: RTP payloads to linear audio and back, one leg at a time.
//!
//! * [`Coding`]: a coding with what its `a=fmtp` settled: the way in.
//! * [`Encoder`], [`Decoder`]: the state of one direction. Both append to vectors that the caller keeps, so that
//!   nothing is allocated per packet once those have grown.
//! * [`g711`], [`g722`], `g729`, `opus`, `amr`, `silk`: one codec each; the latter four by features of their name.
//! * [`comfort_noise`]: silence descriptions of RFC 3389, for codecs that have none of their own.
//! * [`conceal`]: lost audio, for codecs that have no concealment of their own.
//! * [`resample`]: linear audio from one sampling rate to another.
//!
//! Linear audio is one channel of 16 bits. Payloads come from the network: a decoder refuses what is malformed by
//! a [`Malformed`], and never panics.

#[cfg(feature = "amr")]
pub mod amr;
mod coding;
pub mod comfort_noise;
pub mod conceal;
mod decoder;
mod encoder;
pub mod g711;
pub mod g722;
#[cfg(feature = "g729")]
pub mod g729;
#[cfg(feature = "opus")]
pub mod opus;
pub mod resample;
#[cfg(feature = "silk")]
pub mod silk;

pub use coding::{Coding, CodingError};
pub use decoder::{Decoder, Malformed};
pub use encoder::{EncodeFault, Encoder};

/// Milliseconds of audio that one packet may carry, on every leg: what RFC 7587 section 4.2 allows at most.
pub const LONGEST_PACKET_MS: u32 = 120;

/// A library refused to set up a codec: out of memory, or a version that lacks what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the library of {0} refused to set up a codec")]
pub struct LibraryRefused(pub &'static str);

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod voice;
