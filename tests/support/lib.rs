//! Shared by every test target.

pub mod namespace;
pub mod wire;
