//! What an operator can set, and what is counted.

use crate::base::id::CoreId;
use crate::sip::message::Limits;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub worker: CoreId,
    /// The first mio token that is ours; all above are too.
    pub first_token: usize,
    /// Of messages, so that no stream makes us keep more than one may have.
    pub limits: Limits,
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
    /// For the peer to do its part of a TLS handshake.
    pub handshake: Duration,
    /// For the head of a message to arrive once it has begun.
    pub head: Duration,
    /// For its body to arrive after that.
    pub body: Duration,
    /// For a peer to read something of what waits for it.
    pub write: Duration,
    /// For a connection that a peer opened, without any message.
    pub idle: Duration,
    /// After so long without a message a connection of ours is pinged (RFC 5626 section 4.4.1): Teams ends those that
    /// are silent for two minutes.
    pub ping: Duration,
    /// For a peer to answer a ping, where it has to (RFC 5626 section 4.4.1).
    pub pong: Duration,
    /// After so long another connection of ours takes the place of one: Teams wants it at least hourly, and finds
    /// changes of its own only then.
    pub renewal: Duration,
    /// For a connection of ours that was replaced, without any message: longer than a call may ring, so that its
    /// answer still arrives.
    pub retirement: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            worker: CoreId(0),
            first_token: 0,
            limits: Limits::DEFAULT,
            receive_buffer: 4 << 20,
            connections: 4096,
            connections_per_source: 256,
            queue: 1 << 20,
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            ping: Duration::from_secs(60),
            pong: Duration::from_secs(10),
            renewal: Duration::from_secs(55 * 60),
            retirement: Duration::from_secs(200),
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
    /// TLS handshakes that came to an end, well or badly.
    pub handshakes: u64,
    pub handshakes_failed: u64,
    /// Connections refused before a word, because no trunk allows their source.
    pub strangers: u64,
    pub pings_sent: u64,
    /// Connections of ours whose place another takes.
    pub retired: u64,
    /// Connections refused because there are too many in all or from that address.
    pub refused: u64,
    /// Times that the kernel could not give us a connection.
    pub accept_failures: u64,
    pub closed: u64,
}
