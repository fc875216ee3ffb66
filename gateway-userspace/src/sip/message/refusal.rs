//! The answer to a request that cannot be parsed (RFC 4475 shows many): its routing headers echoed as they came.

use super::headers::HeaderName;
use super::lexer::{self, Lines};
use super::name_addr::NameAddr;
use super::status::StatusCode;
use super::via::Via;
use super::write::LineWriter;
use crate::base::fault::Fault;
use std::fmt;
use std::net::SocketAddr;

/// A final response without a transaction.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// Says what is wrong (RFC 3261 section 21.4.1).
    pub reason: String,
    /// The topmost Via, where the response goes; unreadable, the response goes to the source of the request.
    pub top_via: Option<Via>,
    /// Via, From, To, Call-ID and CSeq as far as they are there, values as they came.
    echo: Vec<(HeaderName, String)>,
}

/// No answer is larger than this, so that nobody makes us send more than he sent.
const MAX_ECHO: usize = 4096;

/// The answer to the request in `bytes`, whole or not; `None` if it must not be answered: a response, an ACK, a
/// request without Via, something that is not SIP.
pub fn refuse(bytes: &[u8], fault: Fault, what: &str) -> Option<Refusal> {
    let bytes = lexer::skip_keepalive(bytes);
    let (start_line, headers) = lexer::start_line(bytes);
    let is_sip = memchr::memmem::find(start_line, b" SIP/").is_some() && !start_line.starts_with(b"SIP/");
    if !is_sip || start_line.starts_with(b"ACK ") {
        return None;
    }
    let mut echo: Vec<(HeaderName, String)> = Vec::new();
    let mut size = 0;
    // Behind a broken line nothing can be trusted, but what stood before it can.
    for line in Lines::new(headers).map_while(Result::ok) {
        let Some(name) = HeaderName::from_token(line.name) else { break };
        let is_wanted = match name {
            HeaderName::Via => true,
            HeaderName::From | HeaderName::To | HeaderName::CallId | HeaderName::CSeq => {
                !echo.iter().any(|(own, _)| *own == name)
            }
            _ => false,
        };
        if is_wanted {
            size += line.len;
            if size > MAX_ECHO {
                return None;
            }
            echo.push((name, lexer::text(&line.value).into_owned()));
        }
    }
    let (_, via) = echo.iter().find(|(name, _)| *name == HeaderName::Via)?;
    let top_via = lexer::list(via).next()?.ok().and_then(|via| via.parse().ok());
    let status = StatusCode::new(fault.status()).expect("every fault has a status code that can be sent");
    Some(Refusal { reason: format!("{} ({what})", status.phrase()), status, top_via, echo })
}

impl Refusal {
    /// Appends the response to `out`. `to_tag` goes into a To without tag (RFC 3261 section 8.2.6.2); `source` into
    /// the topmost Via (section 18.2.1, RFC 3581).
    pub fn write(&self, source: SocketAddr, to_tag: &str, out: &mut Vec<u8>) {
        let mut lines = LineWriter(out);
        lines.start(format_args!("SIP/2.0 {} {}", self.status, self.reason));
        let mut top_via = self.top_via.clone();
        for (name, value) in &self.echo {
            match name {
                HeaderName::Via => match top_via.take() {
                    Some(mut via) => {
                        via.fill_received(source);
                        lines.header("Via", via);
                        for lower in lexer::list(value).skip(1).map_while(Result::ok) {
                            lines.header("Via", lower);
                        }
                    }
                    None => lines.header("Via", value),
                },
                HeaderName::To => match value.parse::<NameAddr>() {
                    Ok(to) if to.tag().is_none() => lines.header("To", to.with_tag(to_tag)),
                    Ok(_) | Err(_) => lines.header("To", value),
                },
                other => lines.header(other.as_str(), value),
            }
        }
        lines.end(&[]);
    }
}

/// For logs: without the headers, because they name people.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.reason)
    }
}
