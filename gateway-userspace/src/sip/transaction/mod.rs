//! The four transactions of RFC 3261 section 17 with RFC 6026, as printed transition tables.
//!
//! Each machine has a file with its states, its events and one exhaustive table; `snapshots/` holds every pair of
//! each table and a graph of its moves.

pub mod cancellation;
pub mod client;
pub mod invite_client;
pub mod invite_server;
pub mod non_invite_client;
pub mod non_invite_server;
pub mod server;
mod timer;

pub use timer::{Intervals, Span, Timer};
