//! The cores: one poll, one timer table, calls owned by exactly one core.
//!
//! [`core`] is a value fed input and time; [`worker`] is the thread around it that reads the clock, polls the
//! sockets and carries out what the core leaves in its outbox; [`boot`] makes them from a configuration.

pub mod core;
mod dispatch;
mod execute;
pub mod offline;
pub mod relay;
