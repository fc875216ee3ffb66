//! Which trunk a request came from and where a call goes: snapshot in, decision out, no I/O.
//!
//! A [`Snapshot`] is built once from the configuration, checked as a whole, and never changes; a reload builds
//! another one. [`TrunkId`]s are positions in the snapshot that they came from.

mod route;
mod source;
mod trunk;

pub use route::{Candidates, Route, retries};
pub use trunk::{Advertised, Peer, Trunk};

use crate::base::fault::Fault;
use crate::base::id::TrunkId;
use crate::sip::transport::Transport;
use ipnet::IpNet;
use route::RouteTable;
use source::SourceTable;
use std::net::SocketAddr;

/// Trunks and routes in force.
#[derive(Debug)]
pub struct Snapshot {
    trunks: Vec<Trunk>,
    sources: SourceTable,
    routes: RouteTable,
}

impl Snapshot {
    /// Checks trunks and routes against each other. A trunk's id is its position in `trunks`.
    pub fn new(trunks: Vec<Trunk>, routes: Vec<Route>) -> Result<Self, PolicyError> {
        if trunks.len() > usize::from(u16::MAX) {
            return Err(PolicyError::TooManyTrunks(trunks.len()));
        }
        for (position, trunk) in trunks.iter().enumerate() {
            trunk.check()?;
            if trunks[..position].iter().any(|other| other.name == trunk.name) {
                return Err(PolicyError::DuplicateTrunk(trunk.name.clone()));
            }
        }
        let sources = SourceTable::new(&trunks)?;
        let routes = RouteTable::new(&trunks, routes)?;
        Ok(Self { trunks, sources, routes })
    }

    /// A trunk of this snapshot; `None` for an id of an older one with more trunks.
    pub fn trunk(&self, id: TrunkId) -> Option<&Trunk> {
        self.trunks.get(usize::from(id.0))
    }

    pub fn trunks(&self) -> impl Iterator<Item = (TrunkId, &Trunk)> {
        numbered(&self.trunks)
    }

    /// The trunk of this name, to find it again after a reload.
    pub fn trunk_named(&self, name: &str) -> Option<(TrunkId, &Trunk)> {
        self.trunks().find(|(_, trunk)| trunk.name == name)
    }

    /// The trunk that a message belongs to which came from `source` to our socket `local`; `None` for an unknown
    /// source, which deserves silence.
    ///
    /// A UDP peer's own address and port decides first, then the longest of the prefixes that trunks on this
    /// socket allow.
    pub fn identify(&self, local: SocketAddr, source: SocketAddr, transport: Transport) -> Option<TrunkId> {
        self.sources.identify(local, source, transport)
    }

    /// Where a call to `called` (the user part of the Request-URI) from trunk `from` goes: the peers to try,
    /// in order. `spread` (random, or a hash of the Call-ID) orders peers of equal priority by their weights.
    pub fn route(&self, from: TrunkId, called: &str, spread: u64) -> Result<Candidates, Fault> {
        let to = self.routes.find(from, called).ok_or(Fault::NoRoute)?;
        let trunk = self.trunk(to).ok_or(Fault::NoRoute)?;
        Ok(Candidates::new(to, &trunk.peers, spread))
    }
}

/// Trunks with the ids that their positions give them.
fn numbered(trunks: &[Trunk]) -> impl Iterator<Item = (TrunkId, &Trunk)> {
    (0..).map(TrunkId).zip(trunks)
}

/// Settings that contradict themselves or each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{0} trunks: 65535 are the most")]
    TooManyTrunks(usize),
    #[error("a trunk has no name")]
    UnnamedTrunk,
    #[error("two trunks are named {0:?}")]
    DuplicateTrunk(String),
    #[error("trunk {trunk:?} listens on {listen}, which peers cannot be told: set the advertised address")]
    NothingToAdvertise { trunk: String, listen: SocketAddr },
    #[error("trunk {trunk:?} listens on port 0")]
    NoListenPort { trunk: String },
    #[error("trunk {trunk:?} has media address {address}: name one address of this host")]
    MediaAddress { trunk: String, address: std::net::IpAddr },
    #[error(
        "trunk {trunk:?} has a media gate network {network} of another address family than its media address"
    )]
    GateFamily { trunk: String, network: IpNet },
    #[error("trunk {trunk:?} has a gate prefix beyond 32 bits for IPv4 or 128 for IPv6")]
    GatePrefix { trunk: String },
    #[error("trunk {trunk:?} marks packets with DSCP {dscp}: 63 is the highest")]
    Dscp { trunk: String, dscp: u8 },
    #[error("trunk {trunk:?} limits media to no packets at all")]
    Rate { trunk: String },
    #[error("trunk {trunk:?} allows no codec")]
    NoCodec { trunk: String },
    #[error("trunk {trunk:?} gives its peers no time to answer: peer_timeout is zero")]
    NoPeerTimeout { trunk: String },
    #[error("trunk {trunk:?} has peer {peer}, which no packet can be sent to")]
    PeerAddress { trunk: String, peer: SocketAddr },
    #[error(
        "trunk {trunk:?} listens on {listen} and cannot reach its peer {peer} of the other address family"
    )]
    PeerFamily { trunk: String, listen: SocketAddr, peer: SocketAddr },
    #[error("trunk {trunk:?} names its peer {peer} twice")]
    DuplicatePeer { trunk: String, peer: SocketAddr },
    #[error("trunks {first:?} and {second:?} both claim requests from {network} to {listen} ({transport:?})")]
    AmbiguousSource {
        first: String,
        second: String,
        network: IpNet,
        listen: SocketAddr,
        transport: Transport,
    },
    #[error(
        "{0:?} is no called-number prefix: write digits, * or #, with a + in front if numbers come with one"
    )]
    Prefix(String),
    #[error("the route for prefix {prefix:?} names trunk number {trunk}, which does not exist")]
    UnknownTrunk { prefix: String, trunk: u16 },
    #[error("the route for prefix {prefix:?} leads to trunk {trunk:?}, which has no peers")]
    NoPeers { prefix: String, trunk: String },
    #[error("two routes from the same trunks have the prefix {0:?}")]
    DuplicateRoute(String),
}
