//! Secure RTP (RFC 3711): suites, keys as signalled, the keys derived from them, and the transform in userspace.
//!
//! * [`Suite`] names what is computed; [`MasterKey`] is one direction's key as the session description carries it;
//!   [`MasterKey::derive`] gives the [`SessionKeys`] that packets meet.
//! * [`Unprotect`] and [`Protect`] are one direction's state: rollover counters, replay windows, RTCP indices. They work in
//!   place and allocate nothing for a packet.
//! * No room prints a key: [`MasterKey`] and [`SessionKeys`] are redacted in `Debug` and wiped on release.

mod derive;
mod fault;
mod key;
mod packet;
mod protect;
mod suite;
mod transform;
mod unprotect;
mod window;

pub use derive::{SessionKeys, StreamKeys};
pub use fault::SrtpFault;
pub use key::{KeyFault, MasterKey, Mki};
pub use protect::Protect;
pub use suite::Suite;
pub use unprotect::Unprotect;

#[cfg(test)]
mod tests;
