//! Why a packet cannot be protected or unprotected.

/// A packet that is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpFault {
    #[error("too short for SRTP, or no packet of it")]
    Malformed,
    #[error("the master key identifier is not the one that was signalled")]
    WrongMki,
    #[error("the index was seen before, or is older than the replay window")]
    Replayed,
    #[error("the authentication tag is wrong")]
    Unauthentic,
    #[error("the key has protected as many packets or sources as it may")]
    Exhausted,
    #[error("the buffer has no room for the tag")]
    NoRoom,
}
