//! One message out of its bytes.

use super::headers::{HeaderName, Headers};
use super::lexer::{self, Line, Lines, Syntax};
use super::limits::{ElementLimits, Limits, TooLong};
use super::refusal::{Refusal, refuse};
use super::{CSeq, Contact, Head, Message, Method, NameAddr, Request, Response, StatusCode, Uri, Via};
use crate::base::fault::Fault;
use std::borrow::Cow;
use std::fmt;

/// Reads the message of one datagram, or one that [`crate::sip::transport::StreamFramer`] cut.
///
/// Octets behind the length that Content-Length gives are dropped; fewer are an error (RFC 3261 section 18.3).
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    parse_within(bytes, &Limits::DEFAULT)
}

/// [`parse`] with other bounds.
pub fn parse_within(bytes: &[u8], limits: &Limits) -> Result<Message, ParseError> {
    let bytes = lexer::skip_keepalive(bytes);
    read(bytes, limits).map_err(|problem| {
        let Problem { fault, place, what } = problem;
        ParseError { fault, place, what, refusal: refuse(bytes, fault, what).map(Box::new) }
    })
}

/// Why bytes are no message we can act on, and what to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub fault: Fault,
    pub place: Place,
    /// What is wrong there, in words.
    pub what: &'static str,
    /// The answer to send; `None` for a response, an ACK, and what is not SIP at all.
    pub refusal: Option<Box<Refusal>>,
}

/// Where in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    StartLine,
    /// A header line, counted from 1 without the start line.
    Header {
        name: HeaderName,
        line: usize,
    },
    /// A line without a header name, or the headers as a whole.
    Head,
    Body,
}

/// The Call-ID of a message that is not parsed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallIdRef<'a>(Cow<'a, [u8]>);

/// Finds the Call-ID without reading the rest, so that a worker can hand the bytes to the core that owns the call.
///
/// Equals `head.call_id` of the parsed message whenever [`parse`] succeeds.
pub fn shallow(bytes: &[u8]) -> Option<CallIdRef<'_>> {
    let (_, headers) = lexer::start_line(lexer::skip_keepalive(bytes));
    for line in Lines::new(headers).take(Limits::DEFAULT.headers) {
        let line = line.ok()?;
        if line.name.eq_ignore_ascii_case(b"Call-ID") || line.name.eq_ignore_ascii_case(b"i") {
            return is_call_id(&line.value).then_some(CallIdRef(line.value));
        }
    }
    None
}

impl CallIdRef<'_> {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A [`ParseError`] before its answer.
struct Problem {
    fault: Fault,
    place: Place,
    what: &'static str,
}

impl Problem {
    fn new(fault: Fault, place: Place, what: &'static str) -> Self {
        Self { fault, place, what }
    }
}

enum StartLine {
    Request(Method, Uri),
    Response(StatusCode, String),
}

fn read(bytes: &[u8], limits: &Limits) -> Result<Message, Problem> {
    let (start_line, _) = lexer::start_line(bytes);
    if start_line.len() > limits.header_line {
        return Err(Problem::new(Fault::MessageTooLarge, Place::StartLine, "start line too long"));
    }
    let head_len = lexer::head_end(bytes);
    if bytes.len() > limits.message || head_len.unwrap_or(bytes.len()) > limits.head {
        return Err(Problem::new(Fault::MessageTooLarge, Place::Head, "message too large"));
    }
    let start = read_start_line(start_line, limits)?;
    let Some(head_len) = head_len else {
        return Err(Problem::new(Fault::MalformedMessage, Place::Head, "no empty line behind the headers"));
    };
    // `start_line` ends at the first CRLF, which is at or before the CRLFCRLF that ends the head.
    let elements = match start {
        StartLine::Request(..) => limits.elements,
        StartLine::Response(..) => ElementLimits::WIDEST,
    };
    let limits = &Limits { elements, ..*limits };
    let mut fields = Fields::default();
    for (index, line) in Lines::new(&bytes[start_line.len() + 2..head_len]).enumerate() {
        let line = line.map_err(|Syntax(what)| Problem::new(Fault::MalformedMessage, Place::Head, what))?;
        fields.take(&line, index + 1, limits)?;
    }
    let (head, headers, content_length) = fields.finish()?;
    let body = cut_body(&bytes[head_len..], content_length, limits)?.to_vec();
    Ok(match start {
        StartLine::Request(method, uri) => {
            if head.cseq.method != method {
                return Err(Problem::new(Fault::MalformedHeader, Place::Head, "CSeq names another method"));
            }
            Message::Request(Request { method, uri, head, headers, body })
        }
        StartLine::Response(status, reason) => {
            Message::Response(Response { status, reason, head, headers, body })
        }
    })
}

/// `METHOD uri SIP/2.0` or `SIP/2.0 code reason`, one space between (RFC 3261 sections 7.1 and 7.2).
fn read_start_line(line: &[u8], limits: &Limits) -> Result<StartLine, Problem> {
    let malformed = |what| Problem::new(Fault::MalformedMessage, Place::StartLine, what);
    if lexer::has_bare_control(line) {
        return Err(malformed("control octet in the start line"));
    }
    let text = lexer::text(line);
    let (first, rest) = text.split_once(' ').ok_or_else(|| malformed("start line of one word"))?;
    if is_version_2(first) {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status =
            Some(code).filter(|code| code.len() == 3).and_then(|code| lexer::decimal(code.as_bytes()));
        let status =
            status.and_then(StatusCode::new).ok_or_else(|| malformed("status code outside 100 to 699"))?;
        return Ok(StartLine::Response(status, reason.to_owned()));
    }
    let (uri, version) = rest.rsplit_once(' ').ok_or_else(|| malformed("start line of two words"))?;
    if !is_version_2(version) {
        let is_version = version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/"));
        let fault = if is_version { Fault::VersionNotSupported } else { Fault::MalformedMessage };
        return Err(Problem::new(fault, Place::StartLine, "version is not SIP/2.0"));
    }
    let method = Method::from_token(first).ok_or_else(|| malformed("method is no token"))?;
    if uri.len() > limits.uri {
        return Err(Problem::new(Fault::UriTooLong, Place::StartLine, "Request-URI too long"));
    }
    let uri: Uri = uri.parse().map_err(|Syntax(what)| malformed(what))?;
    if uri.as_sip().is_some_and(|uri| uri.headers.is_some()) {
        return Err(malformed("headers in the Request-URI"));
    }
    let too_long = |TooLong { fault, what }| Problem::new(fault, Place::StartLine, what);
    limits.elements.request_uri(&uri).map_err(too_long)?;
    Ok(StartLine::Request(method, uri))
}

fn is_version_2(word: &str) -> bool {
    word.eq_ignore_ascii_case("SIP/2.0")
}

fn cut_body<'a>(rest: &'a [u8], length: Option<usize>, limits: &Limits) -> Result<&'a [u8], Problem> {
    let body = match length {
        // Only a datagram may leave Content-Length out: its end is the body's (RFC 3261 section 18.3).
        None => rest,
        Some(length) => rest.get(..length).ok_or_else(|| {
            Problem::new(Fault::MalformedMessage, Place::Body, "fewer octets than Content-Length says")
        })?,
    };
    if body.len() > limits.body {
        return Err(Problem::new(Fault::MessageTooLarge, Place::Body, "body too large"));
    }
    Ok(body)
}

/// The headers met so far.
#[derive(Default)]
struct Fields {
    via: Vec<Via>,
    from: Option<NameAddr>,
    to: Option<NameAddr>,
    call_id: Option<String>,
    cseq: Option<CSeq>,
    max_forwards: Option<u8>,
    contact: Contact,
    route: Vec<NameAddr>,
    record_route: Vec<NameAddr>,
    content_length: Option<usize>,
    has_content_type: bool,
    headers: Headers,
}

impl Fields {
    fn take(&mut self, line: &Line<'_>, number: usize, limits: &Limits) -> Result<(), Problem> {
        let Some(name) = HeaderName::from_token(line.name) else {
            return Err(Problem::new(Fault::MalformedMessage, Place::Head, "header name is no token"));
        };
        if line.len > limits.header_line || number > limits.headers {
            let what = if number > limits.headers { "too many header lines" } else { "header line too long" };
            return Err(Problem::new(Fault::MessageTooLarge, Place::Header { name, line: number }, what));
        }
        let value = lexer::text(&line.value);
        let named = limits.elements.name(line.name).map_err(Misfit::TooLong);
        let (fault, what) = match named.and_then(|()| self.put(&name, value, limits)) {
            Ok(()) => return Ok(()),
            Err(Misfit::Syntax(Syntax(what))) => (Fault::MalformedHeader, what),
            Err(Misfit::TooLong(TooLong { fault, what })) => (fault, what),
            Err(Misfit::TooMany) => (Fault::MessageTooLarge, "too many values"),
        };
        Err(Problem::new(fault, Place::Header { name, line: number }, what))
    }

    fn put(&mut self, name: &HeaderName, value: Cow<'_, str>, limits: &Limits) -> Result<(), Misfit> {
        match name {
            HeaderName::Via => {
                Via::parse_list(&value, &mut self.via)?;
                at_most(self.via.len(), limits.vias)
            }
            HeaderName::From => once(&mut self.from, address(name, &value, limits)?),
            HeaderName::To => once(&mut self.to, address(name, &value, limits)?),
            HeaderName::CallId if is_call_id(value.as_bytes()) => once(&mut self.call_id, value.into_owned()),
            HeaderName::CallId => Err(Syntax("Call-ID is no word").into()),
            HeaderName::CSeq => once(&mut self.cseq, CSeq::parse(&value)?),
            HeaderName::MaxForwards => once(&mut self.max_forwards, number(&value)?),
            HeaderName::ContentLength => once(&mut self.content_length, number(&value)?),
            HeaderName::Contact => self.put_contact(&value, limits),
            HeaderName::Route => put_list(name, &value, &mut self.route, limits),
            HeaderName::RecordRoute => put_list(name, &value, &mut self.record_route, limits),
            HeaderName::ContentType if std::mem::replace(&mut self.has_content_type, true) => {
                Err(TWICE.into())
            }
            _ => {
                let before = self.headers.values(name).map(str::len).sum();
                limits.elements.value(name, &value, before)?;
                self.headers.push(name.clone(), value);
                Ok(())
            }
        }
    }

    fn put_contact(&mut self, value: &str, limits: &Limits) -> Result<(), Misfit> {
        match &mut self.contact {
            Contact::Addresses(addresses) if value == "*" && addresses.is_empty() => {
                self.contact = Contact::Wildcard;
                Ok(())
            }
            Contact::Addresses(addresses) if value != "*" => {
                put_list(&HeaderName::Contact, value, addresses, limits)
            }
            Contact::Addresses(_) | Contact::Wildcard => Err(Syntax("* and an address as Contact").into()),
        }
    }

    /// What RFC 3261 section 8.1.1 makes mandatory must be there.
    fn finish(self) -> Result<(Head, Headers, Option<usize>), Problem> {
        let missing = |what| Problem::new(Fault::MalformedHeader, Place::Head, what);
        if self.via.is_empty() {
            return Err(missing("missing Via"));
        }
        let head = Head {
            via: self.via,
            from: self.from.ok_or_else(|| missing("missing From"))?,
            to: self.to.ok_or_else(|| missing("missing To"))?,
            call_id: self.call_id.ok_or_else(|| missing("missing Call-ID"))?,
            cseq: self.cseq.ok_or_else(|| missing("missing CSeq"))?,
            max_forwards: self.max_forwards,
            contact: self.contact,
            route: self.route,
            record_route: self.record_route,
        };
        Ok((head, self.headers, self.content_length))
    }
}

const TWICE: Syntax = Syntax("single-value header stands twice");

/// Why a header's value was not taken.
enum Misfit {
    Syntax(Syntax),
    TooMany,
    TooLong(TooLong),
}

impl From<TooLong> for Misfit {
    fn from(too_long: TooLong) -> Self {
        Self::TooLong(too_long)
    }
}

impl From<Syntax> for Misfit {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Misfit> {
    if slot.replace(value).is_some() { Err(TWICE.into()) } else { Ok(()) }
}

fn at_most(count: usize, limit: usize) -> Result<(), Misfit> {
    if count > limit { Err(Misfit::TooMany) } else { Ok(()) }
}

fn address(name: &HeaderName, value: &str, limits: &Limits) -> Result<NameAddr, Misfit> {
    let address = value.parse()?;
    limits.elements.addresses(name, value, std::slice::from_ref(&address))?;
    Ok(address)
}

fn put_list(
    name: &HeaderName,
    value: &str,
    addresses: &mut Vec<NameAddr>,
    limits: &Limits,
) -> Result<(), Misfit> {
    let before = addresses.len();
    NameAddr::parse_list(value, addresses)?;
    at_most(addresses.len(), limits.list)?;
    Ok(limits.elements.addresses(name, value, &addresses[before..])?)
}

fn number<N: TryFrom<u64>>(value: &str) -> Result<N, Syntax> {
    lexer::decimal(value.as_bytes()).ok_or(Syntax("value is no number in range"))
}

/// A word, or two with `@` between (RFC 3261 section 25.1): some printing octets, no white space.
fn is_call_id(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_graphic)
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::StartLine => write!(f, "start line: {}", self.what),
            Place::Header { name, line } => write!(f, "header {line} ({name}): {}", self.what),
            Place::Head => write!(f, "headers: {}", self.what),
            Place::Body => write!(f, "body: {}", self.what),
        }
    }
}

impl std::error::Error for ParseError {}
