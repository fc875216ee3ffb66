//! Status codes (RFC 3261 section 21) and their reason phrases.

use std::borrow::Cow;
use std::fmt;

/// A status code, 100 to 699.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusCode(u16);

impl StatusCode {
    pub const TRYING: Self = Self(100);
    pub const RINGING: Self = Self(180);
    pub const SESSION_PROGRESS: Self = Self(183);
    pub const OK: Self = Self(200);
    pub const BAD_REQUEST: Self = Self(400);
    pub const REQUEST_TIMEOUT: Self = Self(408);
    pub const TEMPORARILY_UNAVAILABLE: Self = Self(480);
    pub const NO_SUCH_TRANSACTION: Self = Self(481);
    pub const BUSY_HERE: Self = Self(486);
    pub const UNAUTHORIZED: Self = Self(401);
    pub const PROXY_AUTHENTICATION_REQUIRED: Self = Self(407);
    pub const REQUEST_TERMINATED: Self = Self(487);
    pub const NOT_ACCEPTABLE_HERE: Self = Self(488);
    pub const REQUEST_PENDING: Self = Self(491);
    pub const SERVER_INTERNAL_ERROR: Self = Self(500);
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    pub const DECLINE: Self = Self(603);

    /// `None` outside 100 to 699.
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 100 && code <= 699 { Some(Self(code)) } else { None }
    }

    pub const fn code(self) -> u16 {
        self.0
    }

    /// 1xx.
    pub const fn is_provisional(self) -> bool {
        self.0 < 200
    }

    /// 2xx.
    pub const fn is_success(self) -> bool {
        self.0 >= 200 && self.0 < 300
    }

    /// 200 and above: ends the transaction.
    pub const fn is_final(self) -> bool {
        self.0 >= 200
    }

    /// 3xx to 6xx.
    pub const fn is_failure(self) -> bool {
        self.0 >= 300
    }

    /// The registered reason phrase; the one of the class (x00) for a code nobody registered, as RFC 3261 section
    /// 8.1.3.2 has such codes treated.
    pub fn phrase(self) -> Cow<'static, str> {
        Cow::Borrowed(match self.0 {
            // Phrases that are not the words of rsip's name for the code.
            200 => "OK",
            414 => "Request-URI Too Long",
            416 => "Unsupported URI Scheme",
            417 => "Unknown Resource-Priority",
            422 => "Session Interval Too Small",
            428 => "Use Identity Header",
            481 => "Call/Transaction Does Not Exist",
            504 => "Server Time-out",
            606 => "Not Acceptable",
            608 => "Rejected",
            code => return registered_phrase(code),
        })
    }
}

/// rsip knows the codes by name: `SessionProgress` is "Session Progress".
fn registered_phrase(code: u16) -> Cow<'static, str> {
    let name = match rsip::StatusCode::from(code) {
        rsip::StatusCode::Other(..) => {
            return Cow::Borrowed(match code / 100 {
                1 => "Session Progress",
                2 => "OK",
                3 => "Multiple Choices",
                4 => "Bad Request",
                5 => "Server Internal Error",
                _ => "Busy Everywhere",
            });
        }
        registered => format!("{registered:?}"),
    };
    let mut phrase = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() && !phrase.is_empty() {
            phrase.push(' ');
        }
        phrase.push(character);
    }
    Cow::Owned(phrase)
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::Fault;

    #[test]
    fn a_registered_code_has_its_registered_phrase() {
        for (code, phrase) in [
            (100, "Trying"),
            (181, "Call Is Being Forwarded"),
            (183, "Session Progress"),
            (200, "OK"),
            (414, "Request-URI Too Long"),
            (480, "Temporarily Unavailable"),
            (481, "Call/Transaction Does Not Exist"),
            (505, "Version Not Supported"),
            (513, "Message Too Large"),
            (603, "Decline"),
            (299, "OK"),
            (499, "Bad Request"),
            (698, "Busy Everywhere"),
        ] {
            assert_eq!(StatusCode(code).phrase(), phrase, "{code}");
        }
    }

    #[test]
    fn a_code_outside_the_six_classes_is_none() {
        for code in [0, 99, 700, u16::MAX] {
            assert_eq!(StatusCode::new(code), None);
        }
    }

    #[test]
    fn every_fault_has_a_status_code_that_can_be_sent() {
        for fault in Fault::ALL {
            assert!(StatusCode::new(fault.status()).is_some_and(StatusCode::is_failure), "{fault:?}");
        }
    }
}
