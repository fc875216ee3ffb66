//! Domain events and their subscribers: metrics, call detail records, ladders, the log.
//!
//! A room that does something worth knowing publishes one [`Event`]; nothing but this room counts, records or
//! draws. Each core owns one [`Observer`], so publishing never waits for another thread: the scrape of
//! `/metrics` reads the cores' counters while they run.

pub mod calls;
pub mod capture;
pub mod cdr;
pub mod clock;
pub mod event;
pub mod ladder;
mod log;
pub mod metrics;
mod observer;
mod offence;
pub mod path;
pub mod quality;
pub mod sources;
mod trunk;

pub use event::Event;
pub use observer::{Observer, ObserverSettings};
pub use offence::{DenialCause, Offence};
pub use trunk::{ProbeOutcome, TrunkEvent};
