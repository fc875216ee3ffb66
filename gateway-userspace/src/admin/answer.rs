//! Answers as JSON: field names are part of the interface. Durations are milliseconds, sizes octets.

use crate::observe::calls::CallSummary;
use crate::observe::event::Datapath;
use crate::observe::sources::SilencedSource;
use crate::policy::{RegistrationState, TargetState};
use std::net::SocketAddr;

/// How the node is.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NodeStatus {
    pub node: String,
    pub version: String,
    pub uptime_ms: u64,
    pub draining: bool,
    pub media: Vec<MediaPath>,
    /// In progress.
    pub calls: u64,
    pub calls_max: u64,
    pub calls_started: u64,
    pub calls_answered: u64,
    pub calls_ended: u64,
    /// From the INVITE to the first 180, 183 or 200 sent to the caller; absent before the first call.
    pub setup_p50_ms: Option<f64>,
    pub setup_p99_ms: Option<f64>,
    pub flows: u64,
    pub flows_max: u64,
    /// Pairs of media ports that calls hold.
    pub media_port_pairs_in_use: u64,
    pub media_port_pairs: u64,
    pub packets_relayed: u64,
    pub packets_dropped: u64,
    pub call_records_lost: u64,
    pub cores: Vec<CoreStatus>,
    /// Of the trunks that use TLS.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
}

/// The certificate of one trunk.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CertificateStatus {
    pub trunk: String,
    pub subject: String,
    /// The day, as in `2026-03-31`.
    pub expires: String,
    pub days_left: u64,
    /// What runs the trunk's connections: `rustls`, `openssl`.
    pub engine: String,
}

/// The way of media on one interface.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MediaPath {
    pub interface: String,
    pub path: Datapath,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CoreStatus {
    pub core: u16,
    pub calls: u64,
    /// Whether it answered in time.
    pub answers: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallList {
    pub calls: Vec<CallSummary>,
    /// There are more than were asked for.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowList {
    pub flows: Vec<FlowLine>,
    /// There are more than were asked for.
    pub more: bool,
}

/// One direction of one stream.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowLine {
    /// Absent when the flow was read from the kernel without the daemon.
    pub call: Option<String>,
    pub slot: u32,
    /// `rtp`, `rtcp` or `mux`.
    pub kind: String,
    /// Where its packets arrive.
    pub at: SocketAddr,
    /// Where the far end really sends from, once heard.
    pub source: Option<SocketAddr>,
    /// Where its packets go.
    pub to: Option<SocketAddr>,
    /// `kernel`, `sockets`, or `userspace` with the reason for it behind, in brackets.
    pub relayed_by: String,
    pub muted: bool,
    pub packets: u64,
    pub octets: u64,
    pub refused: u64,
    pub lost: u64,
    pub late: u64,
    pub jitter_ms: f64,
    /// Since the last packet; absent before the first.
    pub idle_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrunkList {
    /// In the order of the configuration.
    pub trunks: Vec<TrunkLine>,
}

/// One trunk with its peers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrunkLine {
    pub trunk: String,
    /// As in the configuration: `udp:192.0.2.1:5060`.
    pub listen: String,
    /// New calls are refused by command.
    pub drained: bool,
    /// In progress: those that come by it and those that go to it.
    pub calls: u32,
    /// How many may be; absent without a limit.
    pub calls_max: Option<u32>,
    pub peers: Vec<PeerLine>,
}

/// One address of a peer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PeerLine {
    pub peer: String,
    /// Absent as long as its name means nothing.
    pub address: Option<SocketAddr>,
    /// It stands in another region and is tried last.
    pub remote: bool,
    pub priority: u8,
    pub weight: u16,
    pub state: TargetState,
    /// It gets no new calls by command.
    pub drained: bool,
    /// It asked for no new calls for so long.
    pub rests_ms: Option<u64>,
    /// How much of our calls it takes while it is overloaded, in words.
    pub overload: Option<String>,
    /// Whether it knows our Contact; absent where the trunk does not register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationState>,
    /// Since the last OPTIONS that has its outcome; absent if it is not asked.
    pub asked_ms: Option<u64>,
    /// Status that answered it; absent if none did.
    pub answered: Option<u16>,
}

/// What was not relayed and not answered, and why.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Drops {
    /// On all interfaces: of media, and those that did not get as far as a SIP socket.
    pub packets: Vec<DropLine>,
    /// SIP requests answered with an error, by fault.
    pub requests: Vec<DropLine>,
    /// Sources that no trunk allows, most frequent first.
    pub silenced: Vec<SilencedSource>,
}

/// Who gets silence from the kernel, whoever allows it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeniedList {
    pub denied: Vec<DeniedLine>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeniedLine {
    /// An address, or a network such as `192.0.2.0/24`.
    pub source: String,
    /// `operator`; or what it did too often: `malformed`, `scan`, `handshake`.
    pub cause: String,
    pub left_ms: u64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DropLine {
    pub reason: String,
    pub count: u64,
    pub explanation: String,
}

/// Answer to an order that was carried out.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Done {
    pub done: String,
}

/// Answer to a question that could not be answered.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Failed {
    pub error: String,
}
