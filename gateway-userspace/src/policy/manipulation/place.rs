//! Parts of a message by name: `header.From.user`, `request-uri.param.user`, `sdp.attribute.ptime`.

use super::fault::RuleFault;
use super::rule::Direction;
use crate::sip::message::{HeaderName, Method};
use std::fmt;

/// A part of a message. Prints as it is written in the configuration, but for the case of registered names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Method,
    CallId,
    Status,
    Reason,
    RequestUri(UriPart),
    Header(HeaderName, HeaderPart),
    /// Lines `a=NAME` of the session and of its audio.
    Attribute(Box<str>),
    /// Lines `b=TYPE` of the session and of its audio.
    Bandwidth(Box<str>),
    Direction,
    /// The names of the audio's formats, in order.
    Codecs,
    /// The session description as a whole.
    Sdp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPart {
    /// Each of its lines.
    Whole,
    /// Of the address in each of its items.
    Uri(UriPart),
    Display,
    /// A parameter behind the address or value of each of its items.
    Param(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriPart {
    Whole,
    Scheme,
    /// The user part of a SIP URI without escapes, the number of a tel URI.
    User,
    Host,
    Port,
    Param(Box<str>),
}

impl Place {
    pub fn parse(text: &str) -> Result<Self, RuleFault> {
        let unknown = || RuleFault::UnknownPlace(text.to_owned());
        let (first, rest) = text.split_once('.').unwrap_or((text, ""));
        match (first, rest) {
            ("method", "") => Ok(Self::Method),
            ("call-id", "") => Ok(Self::CallId),
            ("status", "") => Ok(Self::Status),
            ("reason", "") => Ok(Self::Reason),
            ("request-uri", part) => {
                UriPart::parse(part, "param.")?.map(Self::RequestUri).ok_or_else(unknown)
            }
            ("header", rest) => Self::parse_header(rest)?.ok_or_else(unknown),
            ("sdp", "") => Ok(Self::Sdp),
            ("sdp", "direction") => Ok(Self::Direction),
            ("sdp", "codecs") => Ok(Self::Codecs),
            ("sdp", "ptime" | "maxptime") => Ok(Self::Attribute(rest.into())),
            ("sdp", rest) => match rest.split_once('.') {
                Some(("attribute", name)) => token(name).map(Self::Attribute),
                Some(("bandwidth", name)) => token(name).map(Self::Bandwidth),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    /// The name of a whole header.
    pub fn parse_header_name(text: &str) -> Result<HeaderName, RuleFault> {
        match Self::parse(text)? {
            Self::Header(name, HeaderPart::Whole) => Ok(name),
            other => Err(RuleFault::NotAHeader(other.to_string())),
        }
    }

    fn parse_header(text: &str) -> Result<Option<Self>, RuleFault> {
        let (name, part) = text.split_once('.').unwrap_or((text, ""));
        let header =
            HeaderName::from_token(name.as_bytes()).ok_or_else(|| RuleFault::BadName(name.to_owned()))?;
        if is_withheld(&header) {
            return Err(RuleFault::Withheld(header.to_string()));
        }
        let part = match part {
            "" => Some(HeaderPart::Whole),
            "display" => Some(HeaderPart::Display),
            "uri" => Some(HeaderPart::Uri(UriPart::Whole)),
            part => match part.strip_prefix("param.") {
                Some(name) => Some(HeaderPart::Param(token(name)?)),
                None => UriPart::parse(part, "uri-param.")?.map(HeaderPart::Uri),
            },
        };
        Ok(part.map(|part| Self::Header(header, part)))
    }

    /// Whether rules of this direction may change it.
    pub(super) fn check_writable(&self, direction: Direction) -> Result<(), RuleFault> {
        let told = || self.to_string();
        match self {
            Self::Method | Self::CallId | Self::Codecs | Self::Sdp => Err(RuleFault::ReadOnly(told())),
            Self::Header(name, part) if is_protected(name, part, direction) => {
                Err(RuleFault::Protected(told()))
            }
            Self::Attribute(name) if is_protected_attribute(name) => Err(RuleFault::Protected(told())),
            _ => Ok(()),
        }
    }

    /// Whether several of it may stand in one message.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Header(_, HeaderPart::Whole) | Self::Attribute(_) | Self::Bandwidth(_))
    }

    /// Whether the message is still one without it.
    pub(super) fn is_removable(&self) -> bool {
        match self {
            Self::RequestUri(part) | Self::Header(_, HeaderPart::Uri(part)) => {
                matches!(part, UriPart::User | UriPart::Port | UriPart::Param(_))
            }
            Self::Status | Self::Reason | Self::Direction => false,
            _ => true,
        }
    }

    /// Whether requests, and whether responses can have it.
    pub(super) fn is_in(&self) -> (bool, bool) {
        match self {
            Self::RequestUri(_) => (true, false),
            Self::Status | Self::Reason => (false, true),
            _ => (true, true),
        }
    }
}

impl UriPart {
    /// `None` if it is none; "" is the whole.
    fn parse(text: &str, param: &str) -> Result<Option<Self>, RuleFault> {
        Ok(Some(match text {
            "" => Self::Whole,
            "scheme" => Self::Scheme,
            "user" => Self::User,
            "host" => Self::Host,
            "port" => Self::Port,
            other => match other.strip_prefix(param) {
                Some(name) => Self::Param(token(name)?),
                None => return Ok(None),
            },
        }))
    }
}

/// What is not even shown to rules: it is the transaction's and the transport's, and is not there yet when a request of
/// ours passes the rules.
fn is_withheld(name: &HeaderName) -> bool {
    matches!(
        name,
        HeaderName::Via
            | HeaderName::Route
            | HeaderName::RecordRoute
            | HeaderName::CSeq
            | HeaderName::CallId
            | HeaderName::MaxForwards
            | HeaderName::ContentLength
    )
}

/// What holds a dialog together (RFC 3261 section 12), its reliable responses (RFC 3262), and the body with its type.
fn is_protected(name: &HeaderName, part: &HeaderPart, direction: Direction) -> bool {
    match (name, part) {
        (HeaderName::RSeq | HeaderName::RAck, _) => true,
        (HeaderName::ContentType | HeaderName::ContentEncoding, _) => true,
        (HeaderName::From | HeaderName::To, HeaderPart::Whole) => true,
        (HeaderName::From | HeaderName::To, HeaderPart::Param(name)) => name.eq_ignore_ascii_case("tag"),
        (HeaderName::Contact, HeaderPart::Whole) => true,
        // Requests in the dialog go there: a peer's Contact is sent back to it letter by letter.
        (HeaderName::Contact, HeaderPart::Uri(part)) => match part {
            UriPart::Whole | UriPart::Scheme | UriPart::Host | UriPart::Port => true,
            UriPart::User => direction == Direction::Receive,
            UriPart::Param(name) => {
                direction == Direction::Receive
                    || ["transport", "maddr", "lr"].iter().any(|own| own.eq_ignore_ascii_case(name))
            }
        },
        _ => false,
    }
}

/// Attributes that say how media is carried, which is the media plan's.
fn is_protected_attribute(name: &str) -> bool {
    [
        "rtpmap",
        "rtcp",
        "rtcp-mux",
        "crypto",
        "fingerprint",
        "setup",
        "candidate",
        "ice-ufrag",
        "ice-pwd",
        "mid",
        "group",
        "sendrecv",
        "sendonly",
        "recvonly",
        "inactive",
    ]
    .iter()
    .any(|own| own.eq_ignore_ascii_case(name))
}

/// A name that is a token.
fn token(text: &str) -> Result<Box<str>, RuleFault> {
    Method::from_token(text).map(|_| text.into()).ok_or_else(|| RuleFault::BadName(text.to_owned()))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::CallId => f.write_str("call-id"),
            Self::Status => f.write_str("status"),
            Self::Reason => f.write_str("reason"),
            Self::RequestUri(part) => write_part(f, "request-uri", part, "param."),
            Self::Header(name, part) => match part {
                HeaderPart::Whole => write!(f, "header.{name}"),
                HeaderPart::Display => write!(f, "header.{name}.display"),
                HeaderPart::Param(param) => write!(f, "header.{name}.param.{param}"),
                HeaderPart::Uri(UriPart::Whole) => write!(f, "header.{name}.uri"),
                HeaderPart::Uri(part) => write_part(f, &format!("header.{name}"), part, "uri-param."),
            },
            Self::Attribute(name) => write!(f, "sdp.attribute.{name}"),
            Self::Bandwidth(name) => write!(f, "sdp.bandwidth.{name}"),
            Self::Direction => f.write_str("sdp.direction"),
            Self::Codecs => f.write_str("sdp.codecs"),
            Self::Sdp => f.write_str("sdp"),
        }
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, whole: &str, part: &UriPart, param: &str) -> fmt::Result {
    f.write_str(whole)?;
    match part {
        UriPart::Whole => Ok(()),
        UriPart::Scheme => f.write_str(".scheme"),
        UriPart::User => f.write_str(".user"),
        UriPart::Host => f.write_str(".host"),
        UriPart::Port => f.write_str(".port"),
        UriPart::Param(name) => write!(f, ".{param}{name}"),
    }
}
