//! RTP: which encoding a payload type stands for, what RTCP reports say, and quality arithmetic (loss, jitter,
//! the G.107 estimate).
//!
//! * [`codec`]: the identity of an encoding, shared by session descriptions, media plans and records.

pub mod codec;

pub use codec::{Codec, Encoding};
