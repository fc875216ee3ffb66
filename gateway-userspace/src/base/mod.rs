//! What every room stands on: identifiers, time and timers, transition tables, tokens, redaction,
//! the fault taxonomy.

pub mod fault;
pub mod id;
pub mod machine;
pub mod redact;
pub mod share;
pub mod time;
pub mod timer;
pub mod token;
