//! What names of peers mean (RFC 3263): names in, addresses out, as a value that is fed the answers of the DNS.
//!
//! A [`Resolver`] is told what is [`Wanted`], says which [`Question`]s to ask, and is given each [`Outcome`]; what the
//! names mean is a [`Findings`] that never changes once it is handed out. Records are used for their time to live, and
//! beyond it for as long as the DNS does not answer. It asks nobody itself: the admin thread does.

mod procedure;
mod resolver;

#[cfg(test)]
mod tests;

pub use resolver::{Findings, Resolver};

use crate::policy::PeerAddress;
use crate::sip::transport::Transport;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A name whose addresses are wanted, for this transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    pub address: PeerAddress,
    pub transport: Transport,
    pub family: Family,
}

/// The addresses that our own address can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// One question to the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// Lower case, without a dot at its end.
    pub name: Box<str>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Naptr,
    Srv,
    A,
    Aaaa,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Records {
        records: Records,
        /// The shortest of the records'.
        ttl: Duration,
    },
    /// There is no such name, or it has no such records; for so long if the answer says it (RFC 2308 section 5).
    Nothing { ttl: Option<Duration> },
    /// No answer, or one that says nothing.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    Naptr(Vec<Naptr>),
    Srv(Vec<Srv>),
    Addresses(Vec<IpAddr>),
}

/// RFC 3403 section 4.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    pub order: u16,
    pub preference: u16,
    pub flags: Box<str>,
    pub service: Box<str>,
    pub replacement: Box<str>,
}

/// RFC 2782.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// Empty where the service is decidedly not there.
    pub target: Box<str>,
}

impl Question {
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.trim_end_matches('.').to_ascii_lowercase().into(), kind }
    }
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn kind(self) -> Kind {
        match self {
            Self::V4 => Kind::A,
            Self::V6 => Kind::Aaaa,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Naptr => "NAPTR",
            Kind::Srv => "SRV",
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
        };
        write!(f, "{} {kind}", self.name)
    }
}
