//! Bytes in, bytes out: UDP, TCP and TLS on mio (RFC 3261 section 18).
//!
//! Each worker has one [`Net`] with sockets of its own on the shared addresses; the kernel spreads peers over the
//! workers. Connections belong to the worker that accepted or dialled them, for life, and their ids name it
//! ([`owner`]). What comes in leaves as [`NetEvent`]; the caller's instant is an argument, no clock is read here.
//!
//! * A message for an open connection goes out on it; one for a peer without connection dials, once.
//! * Everything a peer can make us hold has a bound: connections in all and per address, octets waiting to be sent,
//!   the time a message takes to arrive or to be read.
//! * Connections from a source that no trunk allows are closed before a word, TLS or not.
//! * A request that names no connection goes by one of our own. Those are pinged, renewed within the hour, and replaced
//!   when certificates are read again ([`tls`]).

mod connection;
mod fault;
mod settings;
mod socket;
mod stream;
mod streams;
mod timer;
pub mod tls;
mod udp;

#[cfg(test)]
pub(crate) mod tests;

pub use fault::{Closed, ListenFault, NetFault};
pub use settings::{Counts, Settings};
pub use socket::probe;

use crate::base::id::CoreId;
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::policy::Snapshot;
use crate::sip::transport::{ConnectionId, Hop, Transport};
use connection::{Connection, Until};
use mio::event::Event;
use mio::net::{TcpListener, UdpSocket};
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use timer::Deadline;
use tls::TlsTable;

/// What the sockets have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A datagram, to be read as one message.
    Datagram { hop: Hop, bytes: Box<[u8]> },
    /// Exactly one message of a stream.
    Frame { hop: Hop, bytes: Box<[u8]> },
    /// A connection that was open is gone, and what waited to be sent with it.
    Closed { hop: Hop, why: Closed },
    /// A connection of ours takes no more requests: the next one opens another.
    Retired { hop: Hop },
    /// The same of one that another had replaced: requests under way go by that.
    RetiredClosed { hop: Hop, why: Closed },
    /// A connection could not be opened, and what waited to be sent is lost.
    Failed { hop: Hop, why: Closed },
    /// Somebody whom no trunk allows opened a connection.
    Stranger { source: SocketAddr },
}

/// The sockets of one worker.
#[derive(Debug)]
pub struct Net {
    registry: Registry,
    settings: Settings,
    /// By mio token, behind the first of ours.
    sources: Slab<Source>,
    connections: HashMap<ConnectionId, usize>,
    /// Connections that we opened, by our address and the peer's, for messages that name none.
    by_peer: HashMap<(Transport, SocketAddr, SocketAddr), usize>,
    /// Connections of each peer address.
    per_source: HashMap<IpAddr, usize>,
    /// Connections with messages that [`Net::flush_all`] is to send.
    gathering: Vec<usize>,
    timers: TimerTable<(usize, Deadline)>,
    last_connection: u64,
    /// Who may connect, and with which certificates; `None` lets everybody in, by TCP.
    access: Option<Access>,
    /// Everything is read into this and copied to its size.
    buffer: Box<[u8]>,
    counts: Counts,
}

/// Who may connect, and with which certificates.
#[derive(Clone, Debug)]
struct Access {
    policy: Arc<Snapshot>,
    tls: Arc<TlsTable>,
}

#[derive(Debug)]
enum Source {
    Udp { socket: UdpSocket, local: SocketAddr },
    Listener { listener: TcpListener, transport: Transport, local: SocketAddr },
    Connection(Box<Connection>),
}

/// One datagram at most, and more than a read of a stream needs.
const BUFFER: usize = 65_536;

/// When a socket that had its turn is read on: after what is due now, and after the caller's other work.
const NEXT_ROUND: Duration = Duration::from_micros(1);

/// The bits of a [`ConnectionId`] that count; those above name the worker.
const COUNT_BITS: u32 = 48;

/// The worker whose [`Net`] has the connection.
pub fn owner(connection: ConnectionId) -> CoreId {
    CoreId(u16::try_from(connection.0 >> COUNT_BITS).expect("16 bits are left of 64"))
}

impl Net {
    /// `registry` is the worker's; tokens from [`Settings::first_token`] on are ours.
    pub fn new(registry: Registry, settings: Settings) -> Self {
        Self {
            registry,
            last_connection: u64::from(settings.worker.0) << COUNT_BITS,
            access: None,
            settings,
            sources: Slab::new(),
            connections: HashMap::new(),
            by_peer: HashMap::new(),
            per_source: HashMap::new(),
            gathering: Vec::new(),
            timers: TimerTable::default(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            counts: Counts::default(),
        }
    }

    /// Opens a socket of this worker on `address`, which other workers may share. Gives the address back with its
    /// port, should that have been 0.
    pub fn listen(&mut self, address: SocketAddr, transport: Transport) -> Result<SocketAddr, ListenFault> {
        let fault = |error| ListenFault::new(transport, address, error);
        let socket = socket::open(address, transport, socket::Sharing::Workers)?;
        let source = match transport {
            Transport::Udp => {
                socket::set_receive_buffer(&socket, self.settings.receive_buffer).map_err(fault)?;
                let socket = UdpSocket::from_std(socket.into());
                let local = socket.local_addr().map_err(fault)?;
                Source::Udp { socket, local }
            }
            Transport::Tcp | Transport::Tls => {
                let listener = TcpListener::from_std(socket.into());
                let local = listener.local_addr().map_err(fault)?;
                Source::Listener { listener, transport, local }
            }
        };
        let entry = self.sources.vacant_entry();
        let token = Token(self.settings.first_token + entry.key());
        match entry.insert(source) {
            Source::Udp { socket, local } => {
                self.registry.register(socket, token, Interest::READABLE).map(|()| *local)
            }
            Source::Listener { listener, local, .. } => {
                self.registry.register(listener, token, Interest::READABLE).map(|()| *local)
            }
            Source::Connection(connection) => Ok(connection.hop.local),
        }
        .map_err(fault)
    }

    /// Lets those connect whom a trunk of `policy` allows, with certificates of `tls`. If that is another table than
    /// before, connections of our own are replaced, each when it is next needed: the peer is to see the new
    /// certificate, and new names of the trunk.
    pub fn set_access(&mut self, now: Time, policy: Arc<Snapshot>, tls: Arc<TlsTable>) {
        let before = self.access.replace(Access { policy, tls: Arc::clone(&tls) });
        if before.is_some_and(|before| Arc::ptr_eq(&before.tls, &tls)) {
            return;
        }
        let own: Vec<usize> = self.by_peer.values().copied().collect();
        for slot in own {
            self.retire(now, slot);
        }
    }

    /// Whether an event with this token is for [`Net::ready`].
    pub fn owns(&self, token: Token) -> bool {
        token.0 >= self.settings.first_token
    }

    /// Reads what is there, writes what waits.
    pub fn ready(&mut self, now: Time, event: &Event, out: &mut Vec<NetEvent>) {
        let ends = event.is_read_closed() || event.is_write_closed() || event.is_error();
        let until = if ends { Until::Blocked } else { Until::Drained };
        if let Some(slot) = event.token().0.checked_sub(self.settings.first_token) {
            self.serve(now, slot, until, out);
        }
    }

    /// Sends one message to `hop`, over the connection it names or else over one to its peer.
    ///
    /// A datagram leaves at once, what goes by a connection with [`Net::flush_all`]. An error means that the message is
    /// lost and the transport has failed for that hop; of a connection that fails later [`NetEvent::Closed`] tells. A
    /// datagram that the kernel has no room for is lost without one: that is what retransmission is for.
    pub fn send(&mut self, now: Time, hop: &Hop, bytes: &Arc<[u8]>) -> Result<(), NetFault> {
        match hop.transport {
            Transport::Udp => self.send_datagram(hop, bytes),
            Transport::Tcp | Transport::Tls => self.send_frame(now, hop, bytes),
        }
    }

    /// Sends no more by our own connection to this peer: it ends when what was sent by it has had its time, and the next
    /// message opens another.
    pub fn leave(&mut self, now: Time, hop: &Hop) {
        if let Some(slot) = self.by_peer.get(&(hop.transport, hop.local, hop.remote)).copied() {
            self.retire(now, slot);
        }
    }

    /// Does what is due: takes up reading where a turn ended, closes what took too long.
    pub fn expire(&mut self, now: Time, out: &mut Vec<NetEvent>) {
        while let Some((slot, deadline)) = self.timers.expire(now) {
            self.overdue(now, slot, deadline, out);
        }
    }

    /// When [`Net::expire`] is next due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Connections that are open or being opened.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn serve(&mut self, now: Time, slot: usize, until: Until, out: &mut Vec<NetEvent>) {
        match self.sources.get(slot) {
            Some(Source::Udp { .. }) => self.read_datagrams(now, slot, out),
            Some(Source::Listener { .. }) => self.accept(now, slot, out),
            Some(Source::Connection(_)) => self.serve_connection(now, slot, until, out),
            // An event of a connection that was closed in the same round.
            None => {}
        }
    }
}
