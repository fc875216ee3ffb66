//! Shared by every test target.

pub mod baresip;
pub mod certificate;
pub mod checks;
pub mod daemon;
pub mod flood;
pub mod kamailio;
pub mod lab;
#[path = "../../xtask/src/media.rs"]
mod media;
pub mod namespace;
pub mod openssl;
pub mod phone;
pub mod process;
pub mod rtpengine;
pub mod secured;
pub mod simulation;
pub mod sipp;
pub mod srtp;
pub mod stage;
pub mod stream;
pub mod tone;
pub mod wire;
