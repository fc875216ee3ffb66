//! Printing: canonical names, typed headers first, Content-Length last and always right.

use super::headers::{HeaderName, Headers};
use super::name_addr::Contact;
use super::{Draft, Head, Message, Request, Response};
use std::fmt;
use std::io::Write;

impl Request {
    /// Appends the message to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut lines = LineWriter(out);
        lines.start(format_args!("{} {} SIP/2.0", self.method, self.uri));
        write_rest(&self.head, &self.headers, &self.body, lines);
    }
}

impl Response {
    /// Appends the message to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut lines = LineWriter(out);
        lines.start(format_args!("SIP/2.0 {} {}", self.status, self.reason));
        write_rest(&self.head, &self.headers, &self.body, lines);
    }
}

impl Message {
    /// Appends the message to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Request(request) => request.write(out),
            Self::Response(response) => response.write(out),
        }
    }
}

fn write_rest(head: &Head, headers: &Headers, body: &[u8], mut lines: LineWriter<'_>) {
    for via in &head.via {
        lines.header("Via", via);
    }
    for route in &head.route {
        lines.header("Route", route);
    }
    for route in &head.record_route {
        lines.header("Record-Route", route);
    }
    if let Some(max_forwards) = head.max_forwards {
        lines.header("Max-Forwards", max_forwards);
    }
    lines.header("From", &head.from);
    lines.header("To", &head.to);
    lines.header("Call-ID", &head.call_id);
    lines.header("CSeq", &head.cseq);
    match &head.contact {
        Contact::Wildcard => lines.header("Contact", "*"),
        Contact::Addresses(addresses) => {
            for address in addresses {
                lines.header("Contact", address);
            }
        }
    }
    // Whoever put a length among the headers does not know the body as well as we do.
    for header in headers.iter().filter(|header| header.name != HeaderName::ContentLength) {
        lines.header(header.name.as_str(), &header.value);
    }
    lines.end(body);
}

/// Writes lines; nothing written into one can end it, so no value from elsewhere becomes a header.
pub(super) struct LineWriter<'a>(pub(super) &'a mut Vec<u8>);

impl LineWriter<'_> {
    pub(super) fn start(&mut self, line: fmt::Arguments<'_>) {
        self.put(line);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(super) fn header(&mut self, name: &str, value: impl fmt::Display) {
        self.put(name);
        self.0.extend_from_slice(b": ");
        self.put(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Content-Length, the empty line and the body.
    pub(super) fn end(mut self, body: &[u8]) {
        self.header("Content-Length", body.len());
        self.0.extend_from_slice(b"\r\n");
        self.0.extend_from_slice(body);
    }

    fn put(&mut self, value: impl fmt::Display) {
        let start = self.0.len();
        write!(self.0, "{value}").expect("writing to memory cannot fail");
        // Looked through as a whole: values come in many small pieces.
        let mut rest = &mut self.0[start..];
        while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
            rest[at] = b' ';
            rest = &mut rest[at + 1..];
        }
    }
}

/// One line for logs: what it is and which dialog and transaction it belongs to, user parts masked.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.method, self.uri, Summary(&self.head))
    }
}

/// One line for logs: what it is and which dialog and transaction it belongs to, user parts masked.
impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {} {}", self.status, self.reason, self.head.cseq.method, Summary(&self.head))
    }
}

/// One line for logs, as for the request or response it is.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => request.fmt(f),
            Self::Response(response) => response.fmt(f),
        }
    }
}

struct Summary<'a>(&'a Head);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.0;
        write!(f, "call={} cseq={} from={:?} to={:?}", head.call_id, head.cseq.number, head.from, head.to)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} call={} cseq={}", self.method, self.uri, self.call_id, self.sequence)
    }
}
