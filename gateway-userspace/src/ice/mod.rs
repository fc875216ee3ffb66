//! ICE-lite for media bypass (RFC 8445 section 2.5): connectivity checks of the far end are answered, and none are sent.
//!
//! * [`Message`] reads a STUN message and [`Builder`] writes one (RFC 8489); both stay off the heap but for the buffer
//!   that a message is written to.
//! * [`Credentials`] are what both sides of signalling know and nobody else; [`Mint`] makes those of one session.
//! * [`LiteAgent`] answers checks that arrive at one port and says which addresses they have vouched for.

mod agent;
mod credentials;
mod message;

pub use agent::{Ignored, LiteAgent, Outcome, Peer, Sources, UnknownAttributes};
pub use credentials::{Credentials, IllFormed, Mint, Password, Ufrag};
pub use message::{Builder, Class, Code, Message, StunFault, attribute, is_stun};

#[cfg(test)]
mod tests;
