//! Where a message came from, and where one goes.

use crate::sip::message::ViaTransport;
use std::fmt;
use std::net::SocketAddr;

/// A transport that this gateway carries SIP over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// A stream connection, unique over the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One hop: our address, theirs, and the connection between them if the transport has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// `None` for UDP, and for a stream that is not open yet.
    pub connection: Option<ConnectionId>,
}

impl Transport {
    /// Whether it delivers by itself, so that transactions do not retransmit (RFC 3261 section 17.1.1.2).
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls => true,
        }
    }

    /// Whether it runs over connections.
    pub fn is_stream(self) -> bool {
        self.is_reliable()
    }

    /// The port where none is written (RFC 3261 section 19.1.2).
    pub fn default_port(self) -> u16 {
        self.via().default_port()
    }

    /// As a Via names it.
    pub fn via(self) -> ViaTransport {
        match self {
            Self::Udp => ViaTransport::Udp,
            Self::Tcp => ViaTransport::Tcp,
            Self::Tls => ViaTransport::Tls,
        }
    }

    /// As a URI's transport parameter and the configuration name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.transport, self.local, self.remote)
    }
}
