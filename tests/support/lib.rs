//! Shared by every test target.

pub mod daemon;
pub mod lab;
#[path = "../../xtask/src/media.rs"]
mod media;
pub mod namespace;
pub mod phone;
pub mod process;
pub mod sipp;
pub mod stage;
pub mod stream;
pub mod tone;
pub mod wire;
