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
    /// Octets of the message at the front, once its head is whole: a body that comes octet by octet must not have the
    /// head read again each time.
    length: Option<usize>,
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

/// How far the message at the front of a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing but line ends.
    Nothing,
    /// Some of its head.
    Head,
    /// Its head, and its body not or not all.
    Body,
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
        Self { limits, buffer: Vec::new(), taken: 0, searched: 0, length: None, failed: false }
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
        self.part() == Part::Nothing
    }

    /// What is there of the next message once there are no more frames, so that each part can have its time.
    pub fn part(&self) -> Part {
        match self.length {
            Some(_) => Part::Body,
            None if self.buffer[self.taken..].iter().all(|octet| matches!(octet, b'\r' | b'\n')) => {
                Part::Nothing
            }
            None => Part::Head,
        }
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
        let length = match self.length.map_or_else(|| self.message_length(), |length| Ok(Some(length))) {
            Ok(length) => length?,
            Err((fault, what)) => return Some(Err(self.fail(fault, what))),
        };
        let (start, end) = (self.taken, self.taken + length);
        if end > self.buffer.len() {
            self.length = Some(length);
            return None;
        }
        (self.taken, self.searched, self.length) = (end, 0, None);
        Some(Ok(Frame::Message(&self.buffer[start..end])))
    }

    fn fail(&mut self, fault: Fault, what: &'static str) -> FramingError {
        let refusal = refuse(&self.buffer[self.taken..], fault, what).map(Box::new);
        self.failed = true;
        self.taken = 0;
        self.buffer = Vec::new();
        FramingError { fault, what, refusal }
    }

    /// The octets of the message at the front, once its head is there.
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
            Some(length) if length <= self.limits.message && body <= self.limits.body => Ok(Some(length)),
            Some(_) | None => Err((Fault::MessageTooLarge, "Content-Length too large")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::parse;
    use proptest::prelude::*;

    fn message(body: &str) -> String {
        format!(
            "MESSAGE sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKa\r\nFrom: <sip:b@h>;tag=1\r\n\
             To: <sip:a@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 MESSAGE\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// What `segments` make, each frame as text, up to a failure.
    fn frames<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<FramingError>) {
        let mut framer = StreamFramer::new(Limits::DEFAULT);
        let mut found = Vec::new();
        for segment in segments {
            framer.push(segment);
            while let Some(frame) = framer.next_frame() {
                match frame {
                    Ok(Frame::Message(bytes)) => found.push(String::from_utf8_lossy(bytes).into_owned()),
                    Ok(Frame::Ping) => found.push("ping".to_owned()),
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    fn fails_with(stream: &str) -> FramingError {
        frames([stream.as_bytes()]).1.expect("must fail")
    }

    // Statement 22.
    #[test]
    fn several_messages_in_one_segment_come_one_by_one() {
        let stream = [message("one"), message(""), message("\r\n\r\n")].concat();
        assert_eq!(
            frames([stream.as_bytes()]),
            (vec![message("one"), message(""), message("\r\n\r\n")], None)
        );
    }

    // Statement 22.
    #[test]
    fn one_message_in_many_segments_comes_once_whole() {
        let stream = [message("body"), message("next")].concat();
        let (found, failure) = frames(stream.as_bytes().chunks(1));
        assert_eq!((found, failure), (vec![message("body"), message("next")], None));
    }

    // Statement 17.
    #[test]
    fn a_double_line_end_between_messages_is_a_ping_and_a_single_one_is_nothing() {
        let stream = ["\r\n\r\n", &message("a"), "\r\n", &message("b"), "\r\n\r\n\r\n"].concat();
        let expected = vec!["ping".to_owned(), message("a"), message("b"), "ping".to_owned()];
        assert_eq!(frames([stream.as_bytes()]), (expected.clone(), None));
        assert_eq!(frames(stream.as_bytes().chunks(1)), (expected, None));
    }

    #[test]
    fn a_stream_is_idle_until_a_message_begins_and_after_it_ended() {
        let text = message("a");
        let mut framer = StreamFramer::new(Limits::DEFAULT);
        assert!(framer.is_idle());
        framer.push(b"\r\n");
        assert!(framer.next_frame().is_none() && framer.is_idle());
        framer.push(&text.as_bytes()[..10]);
        assert!(framer.next_frame().is_none() && !framer.is_idle());
        framer.push(&text.as_bytes()[10..]);
        assert!(framer.next_frame().is_some() && framer.next_frame().is_none() && framer.is_idle());
    }

    #[test]
    fn a_content_length_that_is_missing_double_negative_or_huge_ends_the_stream_with_an_answer() {
        for (length, status) in [
            ("", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 1\r\nl: 1\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Content-Length: 18446744073709551615\r\n", 513),
            ("Content-Length: 65537\r\n", 513),
        ] {
            let error = fails_with(&message("").replace("Content-Length: 0\r\n", length));
            assert_eq!(error.refusal.map(|refusal| refusal.status.code()), Some(status), "{length}");
        }
    }

    // Statement 23.
    #[test]
    fn a_message_of_ten_kilobytes_with_a_header_of_four_comes_out_whole() {
        let header = format!("X-Long: {}\r\nContent-Length", "y".repeat(4_096));
        let with_body = |octets| message(&"x".repeat(octets)).replace("Content-Length", &header);
        let text = with_body(6_000 + 10_240 - with_body(6_000).len());
        assert_eq!(text.len(), 10_240);
        assert_eq!(frames([text.as_bytes()]), (vec![text.clone()], None));
        assert!(parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_head_without_end_ends_the_stream_at_its_limit() {
        let bomb = ["OPTIONS sip:a@h SIP/2.0\r\n", &"X-Bomb: 1\r\n".repeat(4000)].concat();
        assert_eq!(fails_with(&bomb).fault, Fault::MessageTooLarge);
        let mut framer = StreamFramer::new(Limits::DEFAULT);
        let mut failed = false;
        for segment in bomb.as_bytes().chunks(1000) {
            framer.push(segment);
            failed |= matches!(framer.next_frame(), Some(Err(_)));
            assert!(framer.buffer.len() <= Limits::DEFAULT.head + 1000);
        }
        assert!(failed);
    }

    #[test]
    fn after_a_failure_nothing_is_kept_and_nothing_comes() {
        let mut framer = StreamFramer::new(Limits::DEFAULT);
        framer.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let Some(Err(error)) = framer.next_frame() else { panic!("must fail") };
        assert_eq!(error.refusal, None);
        framer.push(message("").as_bytes());
        assert!(framer.next_frame().is_none() && framer.buffer.is_empty());
    }

    proptest! {
        #[test]
        fn segments_do_not_change_frames(
            bodies in proptest::collection::vec("[a\r\n]{0,8}", 1..5),
            cuts in proptest::collection::vec(1_usize..200, 1..40),
        ) {
            let messages: Vec<_> = bodies.iter().map(|body| message(body)).collect();
            let stream = messages.concat();
            let mut rest = stream.as_bytes();
            let mut segments = Vec::new();
            for cut in cuts {
                let (segment, after) = rest.split_at(cut.min(rest.len()));
                segments.push(segment);
                rest = after;
            }
            segments.push(rest);
            prop_assert_eq!(frames(segments), (messages, None));
        }

        #[test]
        fn octets_at_random_never_panic_and_never_pile_up(
            segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let (found, _) = frames(segments.iter().map(Vec::as_slice));
            for frame in found.iter().filter(|frame| *frame != "ping") {
                let _ = parse(frame.as_bytes());
            }
        }
    }
}
