//! From two negotiated legs to flows: which ports, which payload types, who relays.

pub mod plan;
