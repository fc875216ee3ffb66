//! What can go wrong with a socket: start-up failures with their fix, and why a message or a connection failed.

use super::tls::HandshakeFault;
use crate::base::fault::Fault;
use crate::sip::transport::{ConnectionId, Hop, Transport};
use std::io;
use std::net::SocketAddr;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenFault {
    #[error(
        "{transport} {address} is in use by another program: stop it (`ss -lnp 'sport = :{}'` names it) or change the port in `listen`",
        address.port()
    )]
    InUse { transport: Transport, address: SocketAddr },
    #[error(
        "{} is an address of no interface of this host: correct `listen`, or add it (`ip address add {}/… dev …`)",
        address.ip(),
        address.ip()
    )]
    NoSuchAddress { transport: Transport, address: SocketAddr },
    #[error(
        "{transport} port {} needs a privilege: give the service CAP_NET_BIND_SERVICE or a port above 1023",
        address.port()
    )]
    NotPermitted { transport: Transport, address: SocketAddr },
    #[error(
        "cannot listen on {address}: messages have to carry an address that peers can answer to, so name each one in `listen`"
    )]
    Wildcard { address: SocketAddr },
    #[error("cannot listen on {transport} {address}: {source}")]
    Other { transport: Transport, address: SocketAddr, source: io::Error },
}

impl ListenFault {
    pub(super) fn new(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { transport, address },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { transport, address },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { transport, address },
            _ => Self::Other { transport, address, source },
        }
    }
}

/// Why a message was not sent. Each means that the transport failed for that hop.
#[derive(Debug, thiserror::Error)]
pub enum NetFault {
    #[error("no {} socket of this worker has the address {}", hop.transport, hop.local)]
    NoSocket { hop: Hop },
    #[error("connection {} to {} is closed", connection.0, hop.remote)]
    Gone { hop: Hop, connection: ConnectionId },
    #[error("{hop}: {source}")]
    Unreachable { hop: Hop, source: io::Error },
    #[error("{hop}: {waiting} octets wait to be sent, and {limit} is the limit")]
    QueueFull { hop: Hop, waiting: usize, limit: usize },
    #[error("{hop}: {limit} connections are open, which is the limit")]
    TooManyConnections { hop: Hop, limit: usize },
    #[error("{hop}: no trunk has TLS settings for this peer")]
    NoTls { hop: Hop },
    #[error("{hop}: a datagram of {length} octets is too large")]
    TooLarge { hop: Hop, length: usize },
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// The peer closed it between messages.
    ByPeer,
    /// The peer closed it, or the network broke it, inside a message.
    Broken,
    /// It was never opened: refused, or no way to the peer.
    NotOpened,
    /// The peer did not accept it in time.
    ConnectTimedOut,
    /// TLS could not be agreed on.
    Handshake(HandshakeFault),
    /// The peer did not do its part of the TLS handshake in time.
    HandshakeTimedOut,
    /// No message came or went for a long time.
    Idle,
    /// A peer that keeps our flow did not answer a ping (RFC 5626 section 4.4.1).
    PingUnanswered,
    /// A message was begun, and its head or its body was not finished in time.
    MessageTimedOut,
    /// The peer did not read in time what we had to send.
    NotRead,
    /// The stream carries something that is no SIP message.
    Unframed(Fault),
}

impl Closed {
    /// The word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ByPeer => "by_peer",
            Self::Broken => "broken",
            Self::NotOpened => "not_opened",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::Handshake(_) => "handshake",
            Self::HandshakeTimedOut => "handshake_timed_out",
            Self::Idle => "idle",
            Self::PingUnanswered => "ping_unanswered",
            Self::MessageTimedOut => "message_timed_out",
            Self::NotRead => "not_read",
            Self::Unframed(_) => "unframed",
        }
    }
}
