//! What every room stands on: identifiers, time and timers, redaction, the fault taxonomy.

pub mod fault;
pub mod id;
pub mod redact;
pub mod time;
pub mod timer;
