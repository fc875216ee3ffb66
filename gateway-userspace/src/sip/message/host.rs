//! Hosts of URIs and Vias (RFC 3261 section 25.1).

use super::lexer::{self, Syntax};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The host of a SIP URI or a Via.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// As written; compares without case by [`Host::matches`].
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host {
    /// The address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some((*address).into()),
            Self::V6(address) => Some((*address).into()),
        }
    }

    /// Equality of hosts: names without case.
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => one == two,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn parse_hostport(text: &str) -> Result<(Host, Option<u16>), Syntax> {
    let colon = if text.starts_with('[') {
        let end = text.find(']').ok_or(Syntax("IPv6 reference without end"))? + 1;
        (end < text.len()).then_some(end)
    } else {
        text.find(':')
    };
    let (host, port) = match colon {
        Some(colon) => {
            let port = text[colon..].strip_prefix(':').ok_or(Syntax("host goes on behind its end"))?;
            (
                &text[..colon],
                Some(lexer::decimal(port.as_bytes()).ok_or(Syntax("port is no number below 65536"))?),
            )
        }
        None => (text, None),
    };
    Ok((host.parse()?, port))
}

impl FromStr for Host {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return parse_v6(address).map(Self::V6).ok_or(Syntax("IPv6 reference is no address"));
        }
        let last_label = text.strip_suffix('.').unwrap_or(text).rsplit('.').next().unwrap_or_default();
        if last_label.bytes().all(|octet| octet.is_ascii_digit()) {
            // RFC 3261 section 25.1: the top label starts with a letter, so this is an address or nothing.
            return text.parse().map(Self::V4).map_err(|_| Syntax("host is neither name nor address"));
        }
        let is_octet = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
        if text.bytes().all(is_octet) && !text.starts_with('.') {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(Syntax("host is neither name nor address"))
        }
    }
}

/// With the third colon before an embedded IPv4 address that RFC 3261's grammar gives by mistake and RFC 5118 section
/// 4.10 wants tolerated.
fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok().or_else(|| {
        let (hexadecimal, embedded) = text.split_once(":::")?;
        let embedded: Ipv4Addr = embedded.parse().ok()?;
        format!("{hexadecimal}::{embedded}").parse().ok()
    })
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_references_are_told_apart() {
        let v6 = |text: &str| Host::V6(text.parse().expect("an address"));
        for (text, host) in [
            ("example.com.", Host::Name("example.com.".to_owned())),
            ("a_b-c.1st", Host::Name("a_b-c.1st".to_owned())),
            ("192.0.2.1", Host::V4(Ipv4Addr::new(192, 0, 2, 1))),
            ("[2001:db8::9:1]", v6("2001:db8::9:1")),
            ("[::ffff:192.0.2.10]", v6("::ffff:192.0.2.10")),
        ] {
            assert_eq!(text.parse(), Ok(host), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "192.0.2",
            "192.0.2.256",
            "2001:db8::1",
            "[2001:db8::1",
            "[192.0.2.1]",
            "a b",
            "a,b",
            "ex\u{e4}mple",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_third_colon_is_tolerated_before_an_ipv4_address_only() {
        let host = "[2001:db8::192.0.2.1]".parse::<Host>();
        assert_eq!("[2001:db8:::192.0.2.1]".parse::<Host>(), host);
        assert!("[2001:db8:::1]".parse::<Host>().is_err());
        assert!("[2001:db8::::192.0.2.1]".parse::<Host>().is_err());
    }

    #[test]
    fn a_port_follows_the_host_and_fits_sixteen_bits() {
        let name = Host::Name("h".to_owned());
        assert_eq!(parse_hostport("h"), Ok((name.clone(), None)));
        assert_eq!(parse_hostport("h:65535"), Ok((name, Some(65535))));
        let ambiguous = "[2001:db8::10:5070]".parse().map(|host| (host, None));
        assert_eq!(parse_hostport("[2001:db8::10:5070]"), ambiguous);
        for text in ["h:", "h:65536", "h:-1", "h:5060x", "2001:db8::10", "[::1]5060", ":5060"] {
            assert!(parse_hostport(text).is_err(), "{text}");
        }
    }
}
