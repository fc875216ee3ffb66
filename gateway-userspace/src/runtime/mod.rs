//! The cores: one poll, one timer table, calls owned by exactly one core.
//!
//! [`core`] is a value fed input and time; [`worker`] is the thread around it that reads the clock, polls the
//! sockets and carries out what each [`turn`] leaves in its outbox. [`boot`] makes them from a configuration,
//! [`supervisor`] waits for signals, [`watcher`] listens to the data plane. Threads reach a core through its
//! [`mailbox`] and in no other way.

pub mod admission;
mod adopt;
pub mod boot;
mod callers;
mod captures;
mod commands;
pub mod core;
mod defence;
mod dispatch;
mod execute;
mod expiry;
pub mod fence;
mod fuse;
mod guests;
mod ladder;
pub mod mailbox;
mod names;
pub mod offline;
mod probes;
mod readings;
mod registrations;
pub mod relay;
mod rules;
mod sampling;
pub mod supervisor;
pub mod turn;
pub mod watcher;
pub mod worker;
mod wreck;
