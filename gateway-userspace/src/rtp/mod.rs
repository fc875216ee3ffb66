//! RTP: which encoding a payload type stands for, what RTCP says, and quality arithmetic.
//!
//! * [`codec`]: the identity of an encoding, shared by session descriptions, media plans and records.
//! * [`rtcp`]: reports read and written, when they are due, and round-trip times from them.
//! * [`quality`]: loss, jitter, and the G.107 estimate of what people hear.

pub mod codec;
pub mod quality;
pub mod rtcp;

pub use codec::{Codec, Encoding};
