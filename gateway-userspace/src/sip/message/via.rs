//! Via (RFC 3261 section 20.42, RFC 3581).

use super::host::{self, Host};
use super::lexer::{self, Syntax};
use super::params::Params;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// One hop of a Via list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Via {
    pub transport: ViaTransport,
    /// The host of sent-by.
    pub host: Host,
    /// The port of sent-by.
    pub port: Option<u16>,
    pub params: Params,
}

/// The transport that a Via names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ViaTransport {
    Udp,
    Tcp,
    Tls,
    Sctp,
    Ws,
    Wss,
    /// Any other token.
    Other(Box<str>),
}

/// What every branch starts with since RFC 3261 (section 8.1.1.7).
const MAGIC_COOKIE: &str = "z9hG4bK";

impl Via {
    /// A Via for a request of our own: `branch` is what follows the magic cookie, `rport` asks for the response at
    /// the source port (RFC 3581 section 3).
    pub fn new(transport: ViaTransport, host: impl Into<Host>, port: u16, branch: &str) -> Self {
        let mut params = Params::default();
        params.set_flag("rport");
        params.set("branch", &format!("{MAGIC_COOKIE}{branch}"));
        Self { transport, host: host.into(), port: Some(port), params }
    }

    pub fn branch(&self) -> Option<&str> {
        self.params.value("branch")
    }

    /// Whether the branch is unique by itself, as RFC 3261 section 17.2.3 needs for matching.
    pub fn has_magic_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.get(..MAGIC_COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
        })
    }

    /// The address a server saw the request come from; also without the brackets that IPv6 does not need here
    /// (RFC 5118 section 4.5).
    pub fn received(&self) -> Option<IpAddr> {
        parse_address(self.params.value("received")?)
    }

    /// `Some(None)`: asked for, not yet filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.has("rport").then(|| lexer::decimal(self.params.value("rport")?.as_bytes()))
    }

    /// Notes where the request came from: `received` if sent-by is another address or a name (RFC 3261 section 18.2.1),
    /// both `received` and `rport` if rport was asked for (RFC 3581 section 4).
    pub fn fill_received(&mut self, source: SocketAddr) {
        let wants_port = self.params.has("rport");
        if wants_port {
            self.params.set("rport", &source.port().to_string());
        }
        let address = source.ip().to_canonical();
        if wants_port || self.host.address() != Some(address) {
            self.params.set("received", &address.to_string());
        } else {
            // Only a server that saw the packet may say this.
            self.params.remove("received");
        }
    }

    /// Says that we heed what responses tell of their sender's load (RFC 7339 section 4.1), by rate (RFC 7415) rather than
    /// by loss.
    pub fn announce_overload_control(&mut self) {
        self.params.set_flag("oc");
        self.params.set_quoted("oc-algo", "rate,loss");
    }

    pub fn maddr(&self) -> Option<Host> {
        let maddr = self.params.value("maddr")?;
        parse_address(maddr).map(Host::from).or_else(|| maddr.parse().ok())
    }

    pub fn ttl(&self) -> Option<u8> {
        lexer::decimal(self.params.value("ttl")?.as_bytes())
    }

    /// Reads a comma-separated list into `vias`.
    pub(super) fn parse_list(text: &str, vias: &mut Vec<Self>) -> Result<(), Syntax> {
        for item in lexer::list(text) {
            vias.push(item?.parse()?);
        }
        Ok(())
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok()
}

impl FromStr for Via {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        const NOT_VIA: Syntax = Syntax("Via does not start with SIP/2.0/transport");
        let mut parts = text.splitn(3, '/');
        let (name, version, rest) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(version), Some(rest)) => {
                (lexer::trim(name), lexer::trim(version), lexer::trim(rest))
            }
            _ => return Err(NOT_VIA),
        };
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" {
            return Err(NOT_VIA);
        }
        let (transport, sent_by) = rest.split_once([' ', '\t']).ok_or(NOT_VIA)?;
        let end = sent_by.find(';').unwrap_or(sent_by.len());
        let (sent_by, params) = sent_by.split_at(end);
        let (host, port) = parse_sent_by(lexer::trim(sent_by))?;
        Ok(Self { transport: transport.parse()?, host, port, params: Params::parse(params)? })
    }
}

/// `host`, or `host : port` with white space around the colon (RFC 3261 section 25.1, COLON).
fn parse_sent_by(text: &str) -> Result<(Host, Option<u16>), Syntax> {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with([' ', '\t']) || port.starts_with([' ', '\t']) => {
            let port = lexer::decimal(lexer::trim(port).as_bytes())
                .ok_or(Syntax("port is no number below 65536"))?;
            Ok((lexer::trim(host).parse()?, Some(port)))
        }
        _ => host::parse_hostport(text),
    }
}

impl FromStr for ViaTransport {
    type Err = Syntax;

    fn from_str(token: &str) -> Result<Self, Syntax> {
        for known in [Self::Udp, Self::Tcp, Self::Tls, Self::Sctp, Self::Ws, Self::Wss] {
            if known.as_str().eq_ignore_ascii_case(token) {
                return Ok(known);
            }
        }
        if lexer::is_token(token.as_bytes()) {
            Ok(Self::Other(token.into()))
        } else {
            Err(Syntax("transport is no token"))
        }
    }
}

impl ViaTransport {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Sctp => "SCTP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
            Self::Other(token) => token,
        }
    }

    /// The port that a sent-by without one means (RFC 3261 section 18.2.2, RFC 7118 section 5.2.4).
    pub fn default_port(&self) -> u16 {
        match self {
            Self::Tls | Self::Wss => 5061,
            Self::Udp | Self::Tcp | Self::Sctp | Self::Ws | Self::Other(_) => 5060,
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport.as_str(), self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Via {
        text.parse().unwrap_or_else(|syntax| panic!("{text}: {syntax}"))
    }

    #[test]
    fn white_space_may_stand_around_every_separator() {
        let via = via("SIP  / 2.0  / TCP     spindle.example.com : 5070  ; branch  =   z9hG4bK9ikj8");
        assert_eq!(via.to_string(), "SIP/2.0/TCP spindle.example.com:5070;branch=z9hG4bK9ikj8");
    }

    #[test]
    fn every_value_of_a_list_is_read() {
        let mut vias = Vec::new();
        let list = "SIP/2.0/UDP a;x=\"1,2\";branch=z9hG4bK1, SIP/2.0/UNKNOWN b";
        Via::parse_list(list, &mut vias).expect("well-formed");
        assert_eq!(vias.len(), 2);
        assert_eq!(vias[0].branch(), Some("z9hG4bK1"));
        assert_eq!(vias[1].transport, ViaTransport::Other("UNKNOWN".into()));
        assert!(Via::parse_list("SIP/2.0/UDP a;branch=z9hG4bK1,", &mut vias).is_err());
    }

    #[test]
    fn received_and_maddr_are_read_with_and_without_brackets() {
        let expected = Some("2001:db8::9:255".parse().expect("an address"));
        assert_eq!(via("SIP/2.0/UDP h;received=[2001:db8::9:255]").received(), expected);
        assert_eq!(via("SIP/2.0/UDP h;received=2001:db8::9:255;rport=5070").received(), expected);
        let maddr = via("SIP/2.0/UDP h;maddr=2001:db8::9:255").maddr();
        assert_eq!(maddr.and_then(|host| host.address()), expected);
        assert_eq!(via("SIP/2.0/UDP h;maddr=m.example.com;ttl=16").ttl(), Some(16));
        assert_eq!(via("SIP/2.0/UDP h;received=x;ttl=256").ttl(), None);
    }

    #[test]
    fn the_branch_of_rfc_3261_is_told_from_older_ones() {
        assert!(via("SIP/2.0/UDP h;branch=z9hG4bKa").has_magic_cookie());
        assert!(Via::new(ViaTransport::Udp, IpAddr::from([192, 0, 2, 1]), 5060, "a").has_magic_cookie());
        for old in ["SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP h", "SIP/2.0/UDP h;branch=\"z9hG4b\u{e4}\""] {
            assert!(!via(old).has_magic_cookie(), "{old}");
        }
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for text in [
            "",
            "SIP/2.0",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/U(P h",
            "SIP/2.0/UDP h h",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/2.0/UDP h:port",
            "SIP/2.0/UDP h:;branch=a",
            "SIP/2.0/UDP ;branch=a",
        ] {
            assert!(text.parse::<Via>().is_err(), "{text}");
        }
    }
}
