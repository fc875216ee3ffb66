//! Frames out of a byte stream (RFC 3261 section 18.3): one message each, whatever the segments were.

use crate::base::fault::Fault;
use crate::sip::message::{HeadLength, Limits, Refusal, head_length, refuse};

/// Cuts a stream into messages. Push what arrived, then take frames until there is none.
///
/// Holds at most one message and what came behind it in the same push. The caller owns deadlines: a stream for which
/// [`StreamFramer::is_idle`] stays false too long is to be closed.
#[derive(Debug)]
pub struct StreamFramer {
    limits: Limits,
    buffer: Vec<u8>,
    /// Octets of `buffer` already given out.
    taken: usize,
    /// Octets behind `taken` already searched for the end of a head.
    searched: usize,
    failed: bool,
}

/// What a stream carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Exactly one message, for [`crate::sip::message::parse`].
    Message(&'a [u8]),
    /// A double CRLF between messages: to be answered with [`Frame::PONG`] (RFC 5626 section 4.4.1).
    Ping,
}

/// A stream in which the next message cannot be found any more: answer if there is an answer, then close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream cannot be framed: {what}")]
pub struct FramingError {
    pub fault: Fault,
    pub what: &'static str,
    pub refusal: Option<Box<Refusal>>,
}

impl Frame<'_> {
    pub const PING: &'static [u8] = b"\r\n\r\n";
    pub const PONG: &'static [u8] = b"\r\n";
}

impl StreamFramer {
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: Vec::new(), taken: 0, searched: 0, failed: false }
    }

    /// Appends what arrived. After a [`FramingError`] input is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether no message has begun: the stream may stay open without traffic.
    pub fn is_idle(&self) -> bool {
        self.buffer[self.taken..].iter().all(|octet| matches!(octet, b'\r' | b'\n'))
    }

    /// The next frame; `None` until more is pushed.
    pub fn next_frame(&mut self) -> Option<Result<Frame<'_>, FramingError>> {
        if self.failed {
            return None;
        }
        let rest = &self.buffer[self.taken..];
        if rest.starts_with(Frame::PING) {
            self.taken += Frame::PING.len();
            return Some(Ok(Frame::Ping));
        }
        // A single CRLF before a start line, or the pong to a ping of ours (RFC 3261 section 7.5).
        if rest.starts_with(b"\r\n") && rest.len() > 2 && rest[2] != b'\r' {
            self.taken += 2;
            return self.next_frame();
        }
        if matches!(rest, b"" | b"\r" | b"\r\n" | b"\r\n\r") {
            return None;
        }
        match self.message_length() {
            Ok(None) => None,
            Ok(Some(length)) => {
                let start = self.taken;
                self.taken += length;
                self.searched = 0;
                Some(Ok(Frame::Message(&self.buffer[start..start + length])))
            }
            Err((fault, what)) => {
                let refusal = refuse(&self.buffer[self.taken..], fault, what).map(Box::new);
                self.failed = true;
                self.taken = 0;
                self.buffer = Vec::new();
                Some(Err(FramingError { fault, what, refusal }))
            }
        }
    }

    /// The octets of the message at the front, once all are there.
    fn message_length(&mut self) -> Result<Option<usize>, (Fault, &'static str)> {
        let rest = &self.buffer[self.taken..];
        let (head, body) = match head_length(rest, self.searched) {
            HeadLength::Incomplete { searched } if searched > self.limits.head => {
                return Err((Fault::MessageTooLarge, "headers without end"));
            }
            HeadLength::Incomplete { searched } => {
                self.searched = searched;
                return Ok(None);
            }
            HeadLength::Complete { head, body } => (head, body),
        };
        if head > self.limits.head {
            return Err((Fault::MessageTooLarge, "headers too large"));
        }
        // In a stream nothing else tells where the body ends (RFC 3261 section 20.14).
        let body = body.map_err(|what| (Fault::MalformedHeader, what))?;
        match head.checked_add(body) {
            Some(length) if length <= self.limits.message && body <= self.limits.body => {
                Ok((length <= rest.len()).then_some(length))
            }
            Some(_) | None => Err((Fault::MessageTooLarge, "Content-Length too large")),
        }
    }
}
