//! What an operator can set, and what is counted.

use crate::base::id::CoreId;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub worker: CoreId,
    /// The first mio token that is ours; all above are too.
    pub first_token: usize,
    /// Octets of datagrams that the kernel keeps for us.
    pub receive_buffer: usize,
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_source: usize,
    /// Octets that may wait on one connection.
    pub queue: usize,
    /// For a peer to accept our connection.
    pub connect: Duration,
    /// For a message to arrive whole once it has begun.
    pub message: Duration,
    /// For a peer to read something of what waits for it.
    pub write: Duration,
    /// For a connection without any message.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            worker: CoreId(0),
            first_token: 0,
            receive_buffer: 4 << 20,
            connections: 4096,
            connections_per_source: 256,
            queue: 1 << 20,
            connect: Duration::from_secs(5),
            message: Duration::from_secs(10),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(600),
        }
    }
}

/// What the sockets did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub datagrams_received: u64,
    pub datagrams_sent: u64,
    /// Datagrams that the kernel had no room to send.
    pub datagrams_lost: u64,
    /// Datagrams of line ends or zeros, which only keep an address translation open.
    pub keepalives: u64,
    pub frames_received: u64,
    pub frames_sent: u64,
    pub accepted: u64,
    pub dialled: u64,
    /// Connections refused because there are too many in all or from that address.
    pub refused: u64,
    /// Times that the kernel could not give us a connection.
    pub accept_failures: u64,
    pub closed: u64,
}
