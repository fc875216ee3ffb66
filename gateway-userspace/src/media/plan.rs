//! What a call wants from the data plane, in its own words: the flows of one negotiated media stream.
//!
//! The data plane compiles these into [`gateway_common::flow::FlowConfig`]; nothing here knows a map.

use crate::base::id::Side;
use gateway_common::flow::{FlowKind, Latch};
use ipnet::IpNet;
use std::net::SocketAddr;

/// Everything to relay for one call. Flows refer to each other by their position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaPlan {
    pub flows: Vec<FlowSpec>,
}

/// One direction of one stream: packets that arrive at `at`.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSpec {
    /// Whose media it is: the side that sends it.
    pub from: Side,
    pub at: SocketAddr,
    pub kind: FlowKind,
    pub gate: GateSpec,
    pub latch: Latch,
    /// Differentiated services mark of relayed packets, 0 to 63; `None` keeps the incoming one.
    pub dscp: Option<u8>,
    pub rate: Option<RateLimit>,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Payload types that may pass; all others are refused.
    pub payload_types: Vec<PayloadType>,
    /// The direction is closed (hold): packets are counted and swallowed.
    pub muted: bool,
    /// Keep SSRC, sequence and timestamp continuous when the source of the stream changes.
    pub continuity: bool,
    /// Copy RTCP to userspace as well.
    pub rtcp_copy: bool,
    pub rtp: Option<OutputSpec>,
    pub rtcp: Option<OutputSpec>,
}

/// Which sources a flow hears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateSpec {
    Exact(SocketAddr),
    Subnet(IpNet),
    Any,
}

/// Packets per second, and how many may come at once above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub packets_per_second: u32,
    pub burst: u32,
}

/// A payload type on the near side and its number on the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadType {
    pub near: u8,
    pub far: u8,
    /// Telephone-events (RFC 4733): recorded to userspace.
    pub event: bool,
}

/// Where packets leave from and to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputSpec {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Position in the plan of the flow that the far end sends to: its latched source replaces `to`.
    pub learned_from: Option<usize>,
}
