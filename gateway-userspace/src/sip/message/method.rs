//! Methods (RFC 3261 section 7.1): the registered ones by name, any other token as it is.

use super::lexer;
use rsip::common::Method as Registered;
use std::fmt;
use std::str::FromStr;

/// A request method. Names are case-sensitive: `invite` is an unknown method, not INVITE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Register,
    Prack,
    Update,
    Info,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    /// A token that no specification we know defines.
    Other(Box<str>),
}

impl Method {
    /// The method a token names; `None` if `text` is no token.
    pub fn from_token(text: &str) -> Option<Self> {
        // rsip refuses unknown methods with a formatted error and ignores case; both are undone here.
        if let Ok(registered) = text.parse::<Registered>() {
            let method = Self::from(registered);
            if method.as_str() == text {
                return Some(method);
            }
        }
        lexer::is_token(text.as_bytes()).then(|| Self::Other(text.into()))
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(token) => token,
        }
    }
}

impl From<Registered> for Method {
    fn from(registered: Registered) -> Self {
        match registered {
            Registered::Ack => Self::Ack,
            Registered::Bye => Self::Bye,
            Registered::Cancel => Self::Cancel,
            Registered::Info => Self::Info,
            Registered::Invite => Self::Invite,
            Registered::Message => Self::Message,
            Registered::Notify => Self::Notify,
            Registered::Options => Self::Options,
            Registered::PRack => Self::Prack,
            Registered::Publish => Self::Publish,
            Registered::Refer => Self::Refer,
            Registered::Register => Self::Register,
            Registered::Subscribe => Self::Subscribe,
            Registered::Update => Self::Update,
        }
    }
}

impl FromStr for Method {
    type Err = lexer::Syntax;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_token(text).ok_or(lexer::Syntax("method is no token"))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_method_prints_as_it_was_read() {
        for registered in Registered::all() {
            let method = Method::from(registered);
            assert_eq!(method.as_str(), registered.to_string());
            assert_eq!(Method::from_token(method.as_str()), Some(method));
        }
    }

    #[test]
    fn a_method_in_lower_case_is_another_method() {
        assert_eq!(Method::from_token("invite"), Some(Method::Other("invite".into())));
        assert_eq!(Method::from_token(" INVITE"), None);
        assert_eq!(Method::from_token("IN VITE"), None);
        assert_eq!(Method::from_token(""), None);
    }
}
