//! Calls on virtual time, for `tests/call`: the scene with the cores in the middle, scripted phones around them, a
//! seeded network between, a data plane that only remembers, and a tap that hears every wire.

pub mod far_end;
pub mod flows;
pub mod phone;
pub mod scene;
pub mod session;
mod sessions;
pub mod tap;
pub mod transfer;
pub mod weather;
