//! One stream: frames in, a bounded queue out.

use super::NetEvent;
use super::fault::Closed;
use super::stream::{Stream, Taken};
use crate::base::time::Time;
use crate::sip::message::Limits;
use crate::sip::transport::{Frame, Hop, Part, StreamFramer};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

/// How often a connection is read before the others have their turn.
const READS_A_TURN: usize = 16;

/// How many messages are written together.
const MESSAGES_A_WRITE: usize = 32;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Names the connection. Of one that we dialled, `local` is the address that the sender named, not the port it
    /// happened to leave by.
    pub(super) hop: Hop,
    pub(super) phase: Phase,
    pub(super) role: Role,
    /// When a message last came or went.
    pub(super) active: Time,
    /// The pause between pings, where the peer knows us by this connection and has to answer them.
    pub(super) kept_every: Option<Duration>,
    framer: StreamFramer,
    queue: VecDeque<Arc<[u8]>>,
    /// Octets of the first in the queue that are sent already.
    written: usize,
    waiting: usize,
}

/// Who opened a connection, and what for. Requests of ours go by connections of ours only: whoever called us may be
/// behind a proxy or a balancer that does not expect them (RFC 5923 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Accepted,
    /// Ours, and requests go by it.
    Own,
    /// Ours, and another has its place or will have: it only brings what is still to come.
    Retired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// TLS is being negotiated.
    Shaking,
    Open,
    /// The last words are in the queue; nothing is read any more.
    Closing(Closed),
}

/// How far a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The socket has given less than was asked for: it tells of what comes later.
    Drained,
    /// The socket has said that there is nothing, or that nothing more comes: what it told may have been its end.
    Blocked,
}

/// What a turn of reading left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// All that was there.
    Drained,
    /// More is there, but it is the turn of others.
    More,
    Ended(Closed),
}

/// What reading did to the message at the front of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Messages that ended.
    pub(super) finished: u64,
    /// What is there of the next.
    pub(super) part: Part,
    /// Octets came, be it a pong only.
    pub(super) heard: bool,
}

impl Connection {
    pub(super) fn new(stream: Stream, hop: Hop, phase: Phase, role: Role, limits: Limits, now: Time) -> Self {
        Self {
            stream,
            hop,
            phase,
            role,
            active: now,
            kept_every: None,
            framer: StreamFramer::new(limits),
            queue: VecDeque::new(),
            written: 0,
            waiting: 0,
        }
    }

    /// Octets that wait to be sent. What waits inside the stream counts as one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting + usize::from(self.stream.waits())
    }

    pub(super) fn enqueue(&mut self, bytes: Arc<[u8]>) {
        if !bytes.is_empty() {
            self.waiting += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Writes what the kernel takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self.stream.push() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            pushed => pushed?,
        }
        while !self.queue.is_empty() {
            let written = self.stream.write(&gathered(&self.queue, self.written));
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets what the stream has taken from the front of the queue.
    fn sent(&mut self, count: usize) {
        self.waiting = self.waiting.saturating_sub(count);
        self.written += count;
        while let Some(bytes) = self.queue.front() {
            let Some(beyond) = self.written.checked_sub(bytes.len()) else { return };
            self.written = beyond;
            self.queue.pop_front();
        }
    }

    /// Reads a turn's worth and gives out the messages in it: until the socket has no more or, where it may have ended,
    /// until that has been read as well.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        until: Until,
        out: &mut Vec<NetEvent>,
    ) -> (Read, Progress) {
        let (mut finished, mut heard) = (0, false);
        let mut end = Read::More;
        for _ in 0..READS_A_TURN {
            match self.stream.read(buffer) {
                Ok(Taken { count: 0, .. }) => {
                    let why = if self.framer.is_idle() { Closed::ByPeer } else { Closed::Broken };
                    end = Read::Ended(why);
                    break;
                }
                Ok(Taken { count, drained }) => {
                    heard = true;
                    self.framer.push(buffer.get(..count).unwrap_or_default());
                    match self.frames(out) {
                        Ok(count) => finished += count,
                        Err(why) => {
                            end = Read::Ended(why);
                            break;
                        }
                    }
                    if drained && until == Until::Drained {
                        end = Read::Drained;
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    end = Read::Drained;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    end = Read::Ended(Closed::Broken);
                    break;
                }
            }
        }
        (end, Progress { finished, part: self.framer.part(), heard })
    }

    /// How many messages came out.
    fn frames(&mut self, out: &mut Vec<NetEvent>) -> Result<u64, Closed> {
        let mut finished = 0;
        let mut pongs = 0;
        let mut end = Ok(());
        while let Some(frame) = self.framer.next_frame() {
            match frame {
                Ok(Frame::Message(bytes)) => {
                    finished += 1;
                    out.push(NetEvent::Frame { hop: self.hop, bytes: bytes.into() });
                }
                Ok(Frame::Ping) => pongs += 1,
                Err(error) => end = Err((error.fault, error.refusal)),
            }
        }
        // One answer is enough for pings that came together, so that nobody makes us queue more than he sends.
        if pongs > 0 {
            self.enqueue(Frame::PONG.into());
        }
        match end {
            Ok(()) => Ok(finished),
            Err((fault, refusal)) => {
                if let Some(refusal) = refusal {
                    let mut bytes = Vec::new();
                    // Nothing will follow in this dialog: the tag needs to be there, not to be known.
                    refusal.write(self.hop.remote, "unframed", &mut bytes);
                    self.enqueue(bytes.into());
                }
                Err(Closed::Unframed(fault))
            }
        }
    }
}

/// What is to be written next: messages as they stand in the queue, the first without what of it is `written`.
fn gathered(queue: &VecDeque<Arc<[u8]>>, written: usize) -> SmallVec<[IoSlice<'_>; MESSAGES_A_WRITE]> {
    let begun = std::iter::once(written).chain(std::iter::repeat(0));
    let messages = queue.iter().zip(begun).take(MESSAGES_A_WRITE);
    messages.map(|(bytes, begun)| IoSlice::new(bytes.get(begun..).unwrap_or_default())).collect()
}
