//! What can be overdue on a socket.

use super::connection::{Phase, Role, Until};
use super::fault::Closed;
use super::{Net, NetEvent, Source};
use crate::base::machine::closed_enum;
use crate::base::time::Time;
use std::time::Duration;

closed_enum! {
    pub(super) enum Deadline {
        /// A turn of reading or accepting ended before the socket was drained, or accepting failed for now.
        Resume,
        /// A write failed: the connection is to be closed.
        Broken,
        /// The peer has not accepted our connection.
        Connect,
        /// TLS is not agreed on.
        Handshake,
        /// The head of a message has begun and is not whole.
        Head,
        /// The body of a message is not all there.
        Body,
        /// The peer has not read.
        Write,
        /// No message came or went.
        Idle,
        /// A connection of ours may want a sign of life.
        Ping,
        /// Nothing came after a ping of a flow that the peer keeps.
        Pong,
        /// A connection of ours has had its time.
        Renewal,
    }
}

impl Net {
    pub(super) fn overdue(&mut self, now: Time, slot: usize, deadline: Deadline, out: &mut Vec<NetEvent>) {
        let why = match deadline {
            Deadline::Resume => return self.serve(now, slot, Until::Blocked, out),
            Deadline::Idle => match self.idle_until(slot) {
                Some(until) if until > now => return self.timers.arm((slot, Deadline::Idle), until),
                Some(_) | None => Closed::Idle,
            },
            Deadline::Ping => return self.ping(now, slot),
            Deadline::Pong => Closed::PingUnanswered,
            Deadline::Renewal => {
                out.extend(self.retire(now, slot).map(|hop| NetEvent::Retired { hop }));
                return;
            }
            Deadline::Broken => Closed::Broken,
            Deadline::Connect => Closed::ConnectTimedOut,
            Deadline::Handshake => Closed::HandshakeTimedOut,
            Deadline::Head | Deadline::Body => Closed::MessageTimedOut,
            Deadline::Write => self.last_words(slot).unwrap_or(Closed::NotRead),
        };
        self.close(slot, why, out);
    }

    /// Looked at only when it may be over, so that no message has to move the deadline.
    fn idle_until(&self, slot: usize) -> Option<Time> {
        match self.sources.get(slot) {
            Some(Source::Connection(connection)) => Some(connection.active + self.patience(connection.role)),
            Some(Source::Udp { .. } | Source::Listener { .. }) | None => None,
        }
    }

    /// How long a connection may go without a message. One of ours stays until it is replaced.
    pub(super) fn patience(&self, role: Role) -> Duration {
        match role {
            Role::Accepted => self.settings.idle,
            Role::Own => self.settings.renewal + self.settings.retirement,
            Role::Retired => self.settings.retirement,
        }
    }

    /// Why a connection was to be closed once its last words were sent.
    fn last_words(&self, slot: usize) -> Option<Closed> {
        match self.sources.get(slot) {
            Some(Source::Connection(connection)) => match connection.phase {
                Phase::Closing(why) => Some(why),
                Phase::Connecting | Phase::Shaking | Phase::Open => None,
            },
            Some(Source::Udp { .. } | Source::Listener { .. }) | None => None,
        }
    }
}
