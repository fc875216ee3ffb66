//! Connections: accepted, dialled, served, closed.

use super::connection::{Connection, Phase, Progress, Read};
use super::fault::{Closed, NetFault};
use super::stream::Stream;
use super::timer::Deadline;
use super::{NEXT_ROUND, Net, NetEvent, Source, socket};
use crate::base::time::Time;
use crate::sip::transport::{ConnectionId, Hop, Transport};
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
    pub(super) fn accept(&mut self, now: Time, slot: usize) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(Source::Listener { listener, local }) = self.sources.get(slot) else { return };
            let local = *local;
            match listener.accept() {
                Ok((stream, remote)) if self.has_room_for(remote) => {
                    self.accepted(now, stream, local, remote)
                }
                Ok(_) => self.counts.refused += 1,
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
            None => match self.by_peer.get(&(hop.local, hop.remote)) {
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
        let before = connection.waiting();
        let (waiting, limit) = (before + bytes.len(), self.settings.queue);
        if waiting > limit {
            return Err(NetFault::QueueFull { hop: *hop, waiting: before, limit });
        }
        connection.enqueue(bytes.clone());
        connection.active = now;
        if connection.phase == Phase::Open
            && let Err(source) = connection.flush()
        {
            self.timers.arm((slot, Deadline::Broken), now);
            return Err(NetFault::Unreachable { hop: *hop, source });
        }
        if before == 0 && connection.waiting() > 0 && connection.phase == Phase::Open {
            self.timers.arm((slot, Deadline::Write), now + self.settings.write);
        }
        self.counts.frames_sent += 1;
        Ok(())
    }

    pub(super) fn serve_connection(&mut self, now: Time, slot: usize, out: &mut Vec<NetEvent>) {
        match self.turn(now, slot, out) {
            Ok(()) => {}
            Err(why) => self.close(slot, why, out),
        }
    }

    pub(super) fn close(&mut self, slot: usize, why: Closed, out: &mut Vec<NetEvent>) {
        if !matches!(self.sources.get(slot), Some(Source::Connection(_))) {
            return;
        }
        let Source::Connection(mut connection) = self.sources.remove(slot) else { return };
        // A descriptor that mio no longer knows is about to be closed all the same.
        let _ = self.registry.deregister(&mut connection.stream);
        for deadline in Deadline::ALL {
            self.timers.disarm((slot, *deadline));
        }
        let hop = connection.hop;
        if let Some(id) = hop.connection {
            self.connections.remove(&id);
        }
        if self.by_peer.get(&(hop.local, hop.remote)) == Some(&slot) {
            self.by_peer.remove(&(hop.local, hop.remote));
        }
        if let Some(count) = self.per_source.get_mut(&hop.remote.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&hop.remote.ip());
            }
        }
        self.counts.closed += 1;
        out.push(match connection.phase {
            Phase::Connecting => NetEvent::Failed { hop, why },
            Phase::Open | Phase::Closing(_) => NetEvent::Closed { hop, why },
        });
    }

    fn has_room_for(&self, remote: SocketAddr) -> bool {
        let from_source = self.per_source.get(&remote.ip()).copied().unwrap_or_default();
        self.connections.len() < self.settings.connections
            && from_source < self.settings.connections_per_source
    }

    fn accepted(&mut self, now: Time, stream: TcpStream, local: SocketAddr, remote: SocketAddr) {
        let prepared = socket::prepare_stream(&SockRef::from(&stream));
        match prepared.and_then(|()| self.adopt(now, stream, local, remote, Phase::Open)) {
            Ok(slot) => {
                self.counts.accepted += 1;
                self.timers.arm((slot, Deadline::Idle), now + self.settings.idle);
            }
            Err(_) => self.counts.accept_failures += 1,
        }
    }

    fn dial(&mut self, now: Time, hop: &Hop) -> Result<usize, NetFault> {
        let limit = self.settings.connections;
        if self.connections.len() >= limit {
            return Err(NetFault::TooManyConnections { hop: *hop, limit });
        }
        let dialled = socket::dial(hop.local, hop.remote)
            .map(|socket| TcpStream::from_std(socket.into()))
            .and_then(|stream| self.adopt(now, stream, hop.local, hop.remote, Phase::Connecting));
        let slot = dialled.map_err(|source| NetFault::Unreachable { hop: *hop, source })?;
        self.counts.dialled += 1;
        self.timers.arm((slot, Deadline::Connect), now + self.settings.connect);
        Ok(slot)
    }

    fn adopt(
        &mut self,
        now: Time,
        stream: TcpStream,
        local: SocketAddr,
        remote: SocketAddr,
        phase: Phase,
    ) -> io::Result<usize> {
        let mut stream = Stream::Tcp(stream);
        let slot = self.sources.vacant_key();
        let token = Token(self.settings.first_token + slot);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let hop = Hop { transport: Transport::Tcp, local, remote, connection: Some(id) };
        self.sources.insert(Source::Connection(Box::new(Connection::new(stream, hop, phase, now))));
        self.connections.insert(id, slot);
        self.by_peer.insert((local, remote), slot);
        *self.per_source.entry(remote.ip()).or_default() += 1;
        Ok(slot)
    }

    /// Opens, writes and reads what is possible now; an error is why the connection ends.
    fn turn(&mut self, now: Time, slot: usize, out: &mut Vec<NetEvent>) -> Result<(), Closed> {
        let Some(Source::Connection(connection)) = self.sources.get_mut(slot) else { return Ok(()) };
        if connection.phase == Phase::Connecting {
            match connection.stream.is_open() {
                Ok(true) => {
                    connection.phase = Phase::Open;
                    self.timers.disarm((slot, Deadline::Connect));
                    self.timers.arm((slot, Deadline::Idle), now + self.settings.idle);
                }
                Ok(false) => return Ok(()),
                Err(_) => return Err(Closed::NotOpened),
            }
        }
        if connection.phase == Phase::Open {
            let (read, progress) = connection.read(&mut self.buffer, out);
            if progress.finished > 0 {
                connection.active = now;
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

    /// A message has its time from its first octet on, however the octets trickle in.
    fn watch_message(&mut self, now: Time, slot: usize, progress: Progress) {
        let key = (slot, Deadline::Message);
        match progress {
            Progress { begun: false, .. } => self.timers.disarm(key),
            Progress { begun: true, finished: 0 } if self.timers.is_armed(key) => {}
            Progress { begun: true, .. } => self.timers.arm(key, now + self.settings.message),
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
            (0, Phase::Connecting | Phase::Open) => self.timers.disarm(key),
            (waiting, _) if waiting < before || !self.timers.is_armed(key) => {
                self.timers.arm(key, now + self.settings.write);
            }
            (_, _) => {}
        }
        Ok(())
    }
}
