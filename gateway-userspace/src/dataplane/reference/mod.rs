//! The data plane over plain sockets: the same rules as the XDP program, at the cost of a socket per flow and
//! two system calls per packet.
//!
//! [`relay`] is sans-IO and shares its rules with the kernel side through `gateway_common`; [`frame`] puts
//! Ethernet frames in front of it and builds what leaves from scratch, as the oracle of the XDP program;
//! `engine` puts the keys of SRTP around it, for whoever carries packets; [`sockets`] puts sockets in front of that, as
//! the fall-back where XDP is not to be had.

pub(super) mod bridges;
pub(in crate::dataplane) mod checks;
pub mod counters;
mod crypto;
mod datagram;
pub(super) mod engine;
mod exit;
pub mod frame;
pub mod relay;
pub(super) mod reports;
mod secured;
mod silence;
pub(super) mod sockets;
pub(super) mod states;

pub use counters::Counters;
pub use relay::{Arrival, Outcome, Relay};
pub use silence::SILENCE;
