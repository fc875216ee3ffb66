//! From two negotiated legs to flows: which ports, which payload types, who relays.
//!
//! * [`policy`]: what a trunk says about media: whom to hear, when to latch, how to mark, how fast.
//! * [`ports`]: pairs of RTP and RTCP ports, taken, rested and adopted.
//! * [`bridge`]: two legs that need a codec, keys or tones between them: packets in, packets out.
//! * [`Tones`]: what peers of a trunk hear of the network instead of each other.
//! * [`plan`]: the flows of a call, in the call's own words; the contract with the data plane.

pub mod bridge;
pub mod plan;
pub mod policy;
pub mod ports;
mod tones;

pub use plan::{LegMedia, MediaPlan, PlanSettings, plan, plan_before_answer};
pub use policy::{GatePolicy, KeyTransport, MediaPolicy};
pub use ports::{PortPair, PortPool};
pub use tones::Tones;
