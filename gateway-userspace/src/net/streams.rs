//! Connections: accepted, dialled, served, closed.

use super::connection::{Connection, Phase, Progress, Read, Role, Until};
use super::fault::{Closed, NetFault};
use super::stream::Stream;
use super::timer::Deadline;
use super::tls::{HandshakeFault, Session};
use super::{NEXT_ROUND, Net, NetEvent, Source, socket};
use crate::base::time::Time;
use crate::sip::transport::{ConnectionId, Frame, Hop, Part, Transport};
use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How many connections are accepted before the other sockets have their turn.
const ACCEPTS_A_TURN: usize = 64;

/// When to try again after the kernel could not give us a connection, having no descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Net {
    pub(super) fn accept(&mut self, now: Time, slot: usize, out: &mut Vec<NetEvent>) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(Source::Listener { listener, transport, local }) = self.sources.get(slot) else {
                return;
            };
            let (transport, local) = (*transport, *local);
            match listener.accept() {
                Ok((stream, remote)) => {
                    let hop = Hop { transport, local, remote, connection: None };
                    self.admit(now, stream, hop, out);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.counts.accept_failures += 1;
                        return self.timers.arm((slot, Deadline::Resume), now + ACCEPT_PAUSE);
                    }
                },
            }
        }
        self.timers.arm((slot, Deadline::Resume), now + NEXT_ROUND);
    }

    pub(super) fn send_frame(&mut self, now: Time, hop: &Hop, bytes: &Arc<[u8]>) -> Result<(), NetFault> {
        let slot = match hop.connection {
            Some(connection) => {
                *self.connections.get(&connection).ok_or(NetFault::Gone { hop: *hop, connection })?
            }
            None => match self.by_peer.get(&(hop.transport, hop.local, hop.remote)) {
                Some(slot) => *slot,
                None => self.dial(now, hop)?,
            },
        };
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else {
            return Err(NetFault::NoSocket { hop: *hop });
        };
        if let (Phase::Closing(_), Some(id)) = (connection.phase, connection.hop.connection) {
            return Err(NetFault::Gone { hop: *hop, connection: id });
        }
        let (limit, is_open) = (self.settings.queue, connection.phase == Phase::Open);
        if connection.waiting() + bytes.len() > limit && is_open {
            // It may only have been gathered, while the peer reads well.
            self.flush_gathered(now, slot);
        }
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else {
            return Err(NetFault::NoSocket { hop: *hop });
        };
        let waiting = connection.waiting();
        if waiting + bytes.len() > limit {
            return Err(NetFault::QueueFull { hop: *hop, waiting, limit });
        }
        connection.enqueue(bytes.clone());
        connection.active = now;
        if waiting == 0 && is_open {
            self.gathering.push(slot);
        }
        self.counts.frames_sent += 1;
        Ok(())
    }

    /// Sends what [`Net::send`] has gathered for connections: what goes to one leaves together, which costs the kernel and
    /// TLS little more than a single message. A connection that fails is closed when [`Net::expire`] is next called.
    pub fn flush_all(&mut self, now: Time) {
        while let Some(slot) = self.gathering.pop() {
            self.flush_gathered(now, slot);
        }
    }

    fn flush_gathered(&mut self, now: Time, slot: usize) {
        let Some(Source::Connection(connection)) = self.sources.get(slot) else { return };
        if connection.phase == Phase::Open && self.flush(now, slot).is_err() {
            self.timers.arm((slot, Deadline::Broken), now);
        }
    }

    pub(super) fn serve_connection(&mut self, now: Time, slot: usize, until: Until, out: &mut Vec<NetEvent>) {
        match self.turn(now, slot, until, out) {
            Ok(()) => {}
            Err(why) => self.close(slot, why, out),
        }
    }

    pub(super) fn close(&mut self, slot: usize, why: Closed, out: &mut Vec<NetEvent>) {
        if !matches!(self.sources.get(slot), Some(Source::Connection(_))) {
            return;
        }
        let Source::Connection(mut connection) = self.sources.remove(slot) else { return };
        if !matches!(connection.phase, Phase::Connecting | Phase::Shaking) {
            connection.stream.finish();
        }
        // A descriptor that mio no longer knows is about to be closed all the same.
        let _ = self.registry.deregister(&mut connection.stream);
        for deadline in Deadline::ALL {
            self.timers.disarm((slot, *deadline));
        }
        let hop = connection.hop;
        if let Some(id) = hop.connection {
            self.connections.remove(&id);
        }
        self.forget_peer(slot, &hop);
        if let Some(count) = self.per_source.get_mut(&hop.remote.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&hop.remote.ip());
            }
        }
        self.counts.closed += 1;
        out.push(match (connection.phase, connection.role) {
            (Phase::Connecting | Phase::Shaking, _) => NetEvent::Failed { hop, why },
            (Phase::Open | Phase::Closing(_), Role::Retired) => NetEvent::RetiredClosed { hop, why },
            (Phase::Open | Phase::Closing(_), Role::Accepted | Role::Own) => NetEvent::Closed { hop, why },
        });
    }

    /// Pings our connection to this peer at this pause from now on, and closes it when a ping has no answer: the peer knows
    /// us by it (RFC 5626 section 4.4.1).
    pub fn keep_alive(&mut self, now: Time, hop: &Hop, pause: Duration) {
        let Some(slot) = self.by_peer.get(&(hop.transport, hop.local, hop.remote)) else { return };
        if let Some(Source::Connection(connection)) = self.sources.get_mut(*slot) {
            connection.kept_every = Some(pause);
            self.timers.arm((*slot, Deadline::Ping), now + pause);
        }
    }

    /// Lets no more requests go by a connection of ours. What was sent by it may still be answered.
    pub(super) fn retire(&mut self, now: Time, slot: usize) -> Option<Hop> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return None };
        if connection.role != Role::Own {
            return None;
        }
        connection.role = Role::Retired;
        let (hop, until) = (connection.hop, connection.active + self.settings.retirement);
        self.counts.retired += 1;
        self.forget_peer(slot, &hop);
        self.timers.arm((slot, Deadline::Idle), until.max(now));
        Some(hop)
    }

    /// Keeps the peer, and every address translation on the way, from taking a connection of ours for dead.
    pub(super) fn ping(&mut self, now: Time, slot: usize) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return };
        let pause = connection.kept_every.unwrap_or(self.settings.ping);
        let due = connection.active + pause;
        if due > now {
            return self.timers.arm((slot, Deadline::Ping), due);
        }
        self.timers.arm((slot, Deadline::Ping), now + pause);
        if connection.kept_every.is_some() && !self.timers.is_armed((slot, Deadline::Pong)) {
            self.timers.arm((slot, Deadline::Pong), now + self.settings.pong);
        }
        if connection.phase == Phase::Open && connection.waiting() == 0 {
            connection.enqueue(Frame::PING.into());
            self.counts.pings_sent += 1;
            if self.flush(now, slot).is_err() {
                self.timers.arm((slot, Deadline::Broken), now);
            }
        }
    }

    fn forget_peer(&mut self, slot: usize, hop: &Hop) {
        let peer = (hop.transport, hop.local, hop.remote);
        if self.by_peer.get(&peer) == Some(&slot) {
            self.by_peer.remove(&peer);
        }
    }

    fn has_room_for(&self, remote: SocketAddr) -> bool {
        let from_source = self.per_source.get(&remote.ip()).copied().unwrap_or_default();
        self.connections.len() < self.settings.connections
            && from_source < self.settings.connections_per_source
    }

    /// Takes a connection from a source that may have one. Others see it closed before a word of TLS.
    fn admit(&mut self, now: Time, stream: TcpStream, hop: Hop, out: &mut Vec<NetEvent>) {
        let stranger = self
            .access
            .as_ref()
            .is_some_and(|access| access.policy.identify(hop.local, hop.remote, hop.transport).is_none());
        if stranger {
            self.counts.strangers += 1;
            return out.push(NetEvent::Stranger { source: hop.remote });
        }
        if !self.has_room_for(hop.remote) {
            self.counts.refused += 1;
            return;
        }
        let prepared = socket::prepare_stream(&SockRef::from(&stream)).and_then(|()| match hop.transport {
            Transport::Tls => Ok(Stream::Tls(stream, self.serve_tls(&hop)?)),
            Transport::Udp | Transport::Tcp => Ok(Stream::Tcp(stream)),
        });
        match prepared.and_then(|stream| self.adopt(now, stream, hop, Phase::Shaking, Role::Accepted)) {
            Ok(slot) => {
                self.counts.accepted += 1;
                self.timers.arm((slot, Deadline::Handshake), now + self.settings.handshake);
                // Without TLS there is nothing to wait for.
                if hop.transport == Transport::Tcp {
                    self.opened(now, slot);
                }
            }
            Err(_) => self.counts.accept_failures += 1,
        }
    }

    fn serve_tls(&self, hop: &Hop) -> io::Result<Session> {
        let access = self.access.as_ref();
        let profile = access.and_then(|access| {
            let trunk = access.policy.identify(hop.local, hop.remote, hop.transport)?;
            access.tls.profile(&access.policy.trunk(trunk)?.name)
        });
        Session::server(profile.ok_or(io::ErrorKind::Unsupported)?)
    }

    fn dial_tls(&self, hop: &Hop) -> Option<io::Result<Session>> {
        let access = self.access.as_ref()?;
        let (trunk, name) = access.policy.towards(hop.local, hop.remote, hop.transport)?;
        let profile = access.tls.profile(&access.policy.trunk(trunk)?.name)?;
        Some(Session::client(profile, name, hop.remote.ip()))
    }

    fn dial(&mut self, now: Time, hop: &Hop) -> Result<usize, NetFault> {
        let limit = self.settings.connections;
        if self.connections.len() >= limit {
            return Err(NetFault::TooManyConnections { hop: *hop, limit });
        }
        let unreachable = |source| NetFault::Unreachable { hop: *hop, source };
        let session = match hop.transport {
            Transport::Tls => {
                let session = self.dial_tls(hop).ok_or(NetFault::NoTls { hop: *hop })?;
                Some(session.map_err(unreachable)?)
            }
            Transport::Udp | Transport::Tcp => None,
        };
        let slot = socket::dial(hop.local, hop.remote)
            .map(|socket| TcpStream::from_std(socket.into()))
            .map(|socket| match session {
                Some(session) => Stream::Tls(socket, session),
                None => Stream::Tcp(socket),
            })
            .and_then(|stream| self.adopt(now, stream, *hop, Phase::Connecting, Role::Own))
            .map_err(unreachable)?;
        self.counts.dialled += 1;
        self.by_peer.insert((hop.transport, hop.local, hop.remote), slot);
        self.timers.arm((slot, Deadline::Connect), now + self.settings.connect);
        Ok(slot)
    }

    fn adopt(
        &mut self,
        now: Time,
        mut stream: Stream,
        hop: Hop,
        phase: Phase,
        role: Role,
    ) -> io::Result<usize> {
        let slot = self.sources.vacant_key();
        let token = Token(self.settings.first_token + slot);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let hop = Hop { connection: Some(id), ..hop };
        self.sources.insert(Source::Connection(Box::new(Connection::new(
            stream,
            hop,
            phase,
            role,
            self.settings.limits,
            now,
        ))));
        self.connections.insert(id, slot);
        *self.per_source.entry(hop.remote.ip()).or_default() += 1;
        Ok(slot)
    }

    /// A connection over which messages can go from now on.
    fn opened(&mut self, now: Time, slot: usize) {
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return };
        connection.phase = Phase::Open;
        connection.active = now;
        let (role, transport) = (connection.role, connection.hop.transport);
        self.counts.handshakes += u64::from(transport == Transport::Tls);
        self.timers.disarm((slot, Deadline::Handshake));
        self.timers.arm((slot, Deadline::Idle), now + self.patience(role));
        if role != Role::Accepted {
            self.timers.arm((slot, Deadline::Ping), now + self.settings.ping);
            self.timers.arm((slot, Deadline::Renewal), now + self.settings.renewal);
        }
    }

    /// Takes a connection that is not open yet as far as it goes; whether it is open.
    fn open(&mut self, now: Time, slot: usize) -> Result<bool, Closed> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return Ok(false) };
        if connection.phase == Phase::Connecting {
            match connection.stream.is_open() {
                Ok(true) => {
                    connection.phase = Phase::Shaking;
                    self.timers.disarm((slot, Deadline::Connect));
                    self.timers.arm((slot, Deadline::Handshake), now + self.settings.handshake);
                }
                Ok(false) => return Ok(false),
                Err(_) => return Err(Closed::NotOpened),
            }
        }
        if connection.phase == Phase::Shaking {
            match connection.stream.shake() {
                Ok(true) => self.opened(now, slot),
                Ok(false) => return Ok(false),
                Err(error) => {
                    self.counts.handshakes_failed += 1;
                    tracing::warn!(hop = %connection.hop, %error, "TLS could not be agreed on");
                    return Err(Closed::Handshake(HandshakeFault::of(&error)));
                }
            }
        }
        Ok(true)
    }

    /// Opens, writes and reads what is possible now; an error is why the connection ends.
    fn turn(&mut self, now: Time, slot: usize, until: Until, out: &mut Vec<NetEvent>) -> Result<(), Closed> {
        if !self.open(now, slot)? {
            return Ok(());
        }
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return Ok(()) };
        if connection.phase == Phase::Open {
            let (read, progress) = connection.read(&mut self.buffer, until, out);
            if progress.finished > 0 {
                connection.active = now;
            }
            if progress.heard {
                self.timers.disarm((slot, Deadline::Pong));
            }
            self.counts.frames_received += progress.finished;
            match read {
                Read::Drained => {}
                Read::More => self.timers.arm((slot, Deadline::Resume), now),
                // Its last words may still be read: the answer that tells what was wrong.
                Read::Ended(why @ Closed::Unframed(_)) => connection.phase = Phase::Closing(why),
                Read::Ended(why) => return Err(why),
            }
            self.watch_message(now, slot, progress);
        }
        self.flush(now, slot)
    }

    /// Head and body each have their time from their first octet on, however the octets trickle in.
    fn watch_message(&mut self, now: Time, slot: usize, progress: Progress) {
        let (begun, other) = match progress.part {
            Part::Nothing => {
                self.timers.disarm((slot, Deadline::Head));
                return self.timers.disarm((slot, Deadline::Body));
            }
            Part::Head => ((Deadline::Head, self.settings.head), Deadline::Body),
            Part::Body => ((Deadline::Body, self.settings.body), Deadline::Head),
        };
        self.timers.disarm((slot, other));
        let key = (slot, begun.0);
        if progress.finished > 0 || !self.timers.is_armed(key) {
            self.timers.arm(key, now + begun.1);
        }
    }

    /// Writes what waits. A peer that reads nothing has its time from when something began to wait, or was last read.
    fn flush(&mut self, now: Time, slot: usize) -> Result<(), Closed> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return Ok(()) };
        let key = (slot, Deadline::Write);
        let before = connection.waiting();
        connection.flush().map_err(|_| Closed::Broken)?;
        match (connection.waiting(), connection.phase) {
            (0, Phase::Closing(why)) => return Err(why),
            (0, Phase::Connecting | Phase::Shaking | Phase::Open) => self.timers.disarm(key),
            (waiting, _) if waiting < before || !self.timers.is_armed(key) => {
                self.timers.arm(key, now + self.settings.write);
            }
            (_, _) => {}
        }
        Ok(())
    }
}
