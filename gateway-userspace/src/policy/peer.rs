//! Where a peer is: its address, or a name and what the name means now.

use super::standing::TargetStanding;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// How a peer is written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    Address(SocketAddr),
    /// A host name, looked up by RFC 3263: with a port only for its addresses, without one for its services first.
    Host {
        name: Box<str>,
        port: Option<u16>,
    },
    /// The name of an SRV record, such as `_sips._tcp.example.net`.
    Service(Box<str>),
}

/// One address that a name means, by its SRV record where it has one (RFC 2782); 0 and 1 where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub address: SocketAddr,
    pub priority: u16,
    pub weight: u16,
}

/// One address that calls to a peer can be sent to.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Within its peer: the lower is tried first (RFC 2782).
    pub priority: u16,
    pub weight: u16,
    pub standing: Arc<TargetStanding>,
}

impl PeerAddress {
    /// The host and port that a Request-URI to this peer names, where the peer has a name.
    pub fn authority(&self) -> Option<(&str, Option<u16>)> {
        match self {
            Self::Address(_) => None,
            Self::Host { name, port } => Some((name, *port)),
            // RFC 3263 section 4.2: the domain is what stands behind the service and the protocol.
            Self::Service(name) => {
                let domain = name.splitn(3, '.').nth(2).unwrap_or(name);
                Some((domain, None))
            }
        }
    }
}

impl Target {
    pub(super) fn new(found: Resolved) -> Self {
        let Resolved { address, priority, weight } = found;
        Self { address, priority, weight, standing: Arc::default() }
    }

    pub(super) fn at(address: SocketAddr) -> Self {
        Self::new(Resolved { address, priority: 0, weight: 1 })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { name, port: Some(port) } => write!(f, "{name}:{port}"),
            Self::Host { name, port: None } | Self::Service(name) => f.write_str(name),
        }
    }
}
