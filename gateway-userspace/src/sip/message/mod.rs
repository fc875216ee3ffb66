//! SIP messages (RFC 3261 sections 7, 19, 20): bytes in, meaning out, and back.
//!
//! Two forms. [`parse`] turns the bytes of one message into a [`Message`] whose mandatory headers are already
//! typed ([`Head`]); after it succeeds no access can fail. [`Draft`] is a request that has no Via yet and so
//! cannot be sent; [`Draft::finish`] gives it one. [`Request::write`] and [`Response::write`] print canonically,
//! always with the right Content-Length.
//!
//! rsip stops at this door. It never sees a line from the network, because it drops the second Via of a list and
//! takes `tel:911` for a host; it names methods and status codes and reads single values that the lexer has already
//! made canonical, and each of its readings counts only if it prints as it was read.

mod content;
mod cseq;
mod framing;
mod headers;
mod host;
mod item;
mod lexer;
mod limits;
mod method;
mod name_addr;
mod params;
mod parse;
mod refusal;
mod status;
mod uri;
mod via;
mod write;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torture;

pub use content::{MediaType, Unsupported};
pub use cseq::CSeq;
pub use framing::{HeadLength, head_length};
pub use headers::{Header, HeaderName, Headers};
pub use host::Host;
pub use item::Item;
pub use lexer::{Syntax, unescape};
pub use limits::{ElementLimits, Limits};
pub use method::Method;
pub use name_addr::{Contact, DisplayName, NameAddr};
pub use params::Params;
pub use parse::{CallIdRef, ParseError, Place, parse, parse_within, shallow};
pub use refusal::{Refusal, refuse};
pub use status::StatusCode;
pub use uri::{AbsoluteUri, SipUri, TelUri, Uri};
pub use via::{Via, ViaTransport};

/// A whole message, ready to be acted on or sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Response(Response),
}

/// A request that has everything RFC 3261 section 8.1.1 asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub head: Head,
    /// All headers that [`Head`] does not hold, in the order they came, without Content-Length.
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A response that has everything RFC 3261 section 8.2.6 asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub status: StatusCode,
    /// The phrase as it came, which need not be the registered one.
    pub reason: String,
    pub head: Head,
    /// All headers that [`Head`] does not hold, in the order they came, without Content-Length.
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// The headers that routing, transactions and dialogs need, typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Topmost first; never empty in a parsed message or one made by [`Draft::finish`].
    pub via: Vec<Via>,
    pub from: NameAddr,
    pub to: NameAddr,
    pub call_id: String,
    pub cseq: CSeq,
    /// Absent in some requests of RFC 2543 times and in responses.
    pub max_forwards: Option<u8>,
    pub contact: Contact,
    /// Topmost first.
    pub route: Vec<NameAddr>,
    /// Topmost first.
    pub record_route: Vec<NameAddr>,
}

/// A request without Via: what a dialog makes and only a client transaction can send.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    pub method: Method,
    pub uri: Uri,
    /// Host and port that the Via names us by, where they are others than those of the hop.
    pub sent_by: Option<(Host, u16)>,
    /// The Via says that we heed what the response tells of its sender's load (RFC 7339 section 4.1).
    pub heeds_overload: bool,
    /// It goes by TCP instead of UDP where it is too large for a datagram (RFC 3261 section 18.1.1).
    pub by_tcp_when_large: bool,
    pub from: NameAddr,
    pub to: NameAddr,
    pub call_id: String,
    pub sequence: u32,
    pub max_forwards: u8,
    pub contact: Contact,
    pub route: Vec<NameAddr>,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Draft {
    /// A draft with Max-Forwards 70 (RFC 3261 section 8.1.1.6), no Contact, no Route, no body.
    pub fn new(
        method: Method,
        uri: Uri,
        from: NameAddr,
        to: NameAddr,
        call_id: impl Into<String>,
        sequence: u32,
    ) -> Self {
        Self {
            method,
            uri,
            sent_by: None,
            heeds_overload: false,
            by_tcp_when_large: false,
            from,
            to,
            call_id: call_id.into(),
            sequence,
            max_forwards: 70,
            contact: Contact::default(),
            route: Vec::new(),
            headers: Headers::default(),
            body: Vec::new(),
        }
    }

    /// Sets the body and its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Vec<u8>>) {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
    }

    /// The request as sent through the hop that `via` names.
    pub fn finish(self, mut via: Via) -> Request {
        if let Some((host, port)) = self.sent_by {
            (via.host, via.port) = (host, Some(port));
        }
        if self.heeds_overload {
            via.announce_overload_control();
        }
        let cseq = CSeq { number: self.sequence, method: self.method.clone() };
        Request {
            method: self.method,
            uri: self.uri,
            head: Head {
                via: vec![via],
                from: self.from,
                to: self.to,
                call_id: self.call_id,
                cseq,
                max_forwards: Some(self.max_forwards),
                contact: self.contact,
                route: self.route,
                record_route: Vec::new(),
            },
            headers: self.headers,
            body: self.body,
        }
    }
}

impl Response {
    /// The response to `request` with the registered reason phrase, by RFC 3261 section 8.2.6.2: Via, From, To,
    /// Call-ID and CSeq copied; Record-Route too where it makes a dialog (section 12.1.1); Timestamp into a 100.
    ///
    /// The To tag is the caller's to add ([`NameAddr::set_tag`]): all but a 100 need one.
    pub fn to_request(request: &Request, status: StatusCode) -> Self {
        let makes_dialog = (101..300).contains(&status.code());
        let mut headers = Headers::default();
        if status == StatusCode::TRYING
            && let Some(timestamp) = request.headers.value(&HeaderName::Timestamp)
        {
            headers.push(HeaderName::Timestamp, timestamp);
        }
        Self {
            reason: status.phrase().into_owned(),
            status,
            head: Head {
                via: request.head.via.clone(),
                from: request.head.from.clone(),
                to: request.head.to.clone(),
                call_id: request.head.call_id.clone(),
                cseq: request.head.cseq.clone(),
                max_forwards: None,
                contact: Contact::default(),
                route: Vec::new(),
                record_route: if makes_dialog { request.head.record_route.clone() } else { Vec::new() },
            },
            headers,
            body: Vec::new(),
        }
    }

    /// Sets the body and its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Vec<u8>>) {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
    }
}

impl Request {
    /// The media type of the body, if there is a body and its type can be read.
    pub fn media_type(&self) -> Option<MediaType> {
        content::media_type(&self.headers, &self.body)
    }

    /// The session description in the body, if there is one.
    ///
    /// # Errors
    /// The body holds something else that its sender wants understood.
    pub fn session(&self) -> Result<Option<&[u8]>, Unsupported> {
        content::session(&self.headers, &self.body)
    }
}

impl Response {
    /// The media type of the body, if there is a body and its type can be read.
    pub fn media_type(&self) -> Option<MediaType> {
        content::media_type(&self.headers, &self.body)
    }

    /// The session description in the body, if there is one.
    ///
    /// # Errors
    /// The body holds something else that its sender wants understood.
    pub fn session(&self) -> Result<Option<&[u8]>, Unsupported> {
        content::session(&self.headers, &self.body)
    }
}

impl Message {
    pub fn head(&self) -> &Head {
        match self {
            Self::Request(request) => &request.head,
            Self::Response(response) => &response.head,
        }
    }

    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    pub fn body(&self) -> &[u8] {
        match self {
            Self::Request(request) => &request.body,
            Self::Response(response) => &response.body,
        }
    }
}
