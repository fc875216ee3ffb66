//! A trunk: a named group of peers that one service or one operator's core has, and how we deal with them.

use super::manipulation::Manipulation;
use super::sip::SipPolicy;
use super::{
    Candidate, Health, IdentityPolicy, Limits, NumberFormat, NumberPlan, PeerAddress, PolicyError,
    RedirectionForm, RegistrationPolicy, Service, Usual,
};
use crate::media::{GatePolicy, MediaPolicy, Tones};
use crate::resolve::{Family, Wanted};
use crate::sip::auth::{Challenger, Credentials};
use crate::sip::message::{Draft, HeaderName, Host, NameAddr, Uri};
use crate::sip::transport::Transport;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A named set of peers reached by one transport from one address of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    pub name: String,
    /// What stands behind it, if we know how to deal with that.
    pub service: Option<Service>,
    /// Where calls to this trunk go.
    pub peers: Vec<Peer>,
    /// Networks whose requests belong to this trunk. When empty, the hosts of `peers`.
    pub allowed: Vec<IpNet>,
    pub transport: Transport,
    /// Our signalling address: the very address that the socket is bound to.
    pub listen: SocketAddr,
    /// What Via and Contact say instead of `listen`.
    pub advertised: Option<Advertised>,
    /// The address of this host that media of this trunk's legs uses.
    pub media_address: IpAddr,
    pub media: MediaPolicy,
    /// Users of several customers are behind it: whose a call is, is asked of the table of [`Tenants`](super::Tenants).
    pub tenants: bool,
    /// What its peers hear of us; `None` plays nothing to them.
    pub tones: Option<Arc<Tones>>,
    /// How its far end writes numbers.
    pub numbers: NumberPlan,
    pub identity: IdentityPolicy,
    /// How its peers hear who passed a call on.
    pub redirection: RedirectionForm,
    /// It learns where we are by REGISTER.
    pub registration: Option<RegistrationPolicy>,
    /// Its callers have to say who they are.
    pub callers: Option<Challenger>,
    /// Who we are to its peers, where they ask.
    pub digest: Option<Credentials>,
    pub sip: SipPolicy,
    /// What is changed in its messages.
    pub rules: Manipulation,
    /// How long a peer may leave an INVITE without any answer before the next one is tried.
    pub peer_timeout: Duration,
    /// How long a caller of this trunk waits at most for a 18x or a final response: at the end it hears 408. `None`
    /// leaves the caller to its own patience.
    pub progress_timeout: Option<Duration>,
    /// On calls that come by the trunk or go to it.
    pub limits: Limits,
    /// Whether we and its peers tell each other how many calls we take (RFC 7339).
    pub overload_control: bool,
    /// Whether and how peers are asked by OPTIONS if they serve calls.
    pub health: Health,
}

impl Peer {
    /// A peer at an address, named after it, of weight 1 in this node's region.
    pub fn at(address: SocketAddr, priority: u8) -> Self {
        Self {
            name: address.to_string(),
            address: PeerAddress::Address(address),
            is_remote: false,
            priority,
            weight: 1,
            allowed: Vec::new(),
        }
    }
}

impl Trunk {
    /// A trunk without peers that listens there, with media on the same address, and everything else as usual.
    pub fn new(name: &str, transport: Transport, listen: SocketAddr) -> Self {
        let usual = Usual::of(None);
        Self {
            name: name.into(),
            service: None,
            peers: Vec::new(),
            allowed: Vec::new(),
            transport,
            listen,
            advertised: None,
            media_address: listen.ip(),
            media: MediaPolicy::default(),
            tenants: false,
            tones: None,
            numbers: NumberPlan::default(),
            identity: usual.identity,
            redirection: usual.redirection,
            registration: None,
            callers: None,
            digest: None,
            sip: usual.sip,
            rules: Manipulation::default(),
            peer_timeout: Duration::from_secs(4),
            progress_timeout: Some(usual.progress_timeout),
            limits: Limits::default(),
            overload_control: false,
            health: usual.health,
        }
    }

    /// The same trunk toward this service, with what is usual there.
    pub fn toward(mut self, service: Service) -> Self {
        let usual = Usual::of(Some(service));
        self.service = Some(service);
        self.health = usual.health;
        self.progress_timeout = Some(usual.progress_timeout);
        self.numbers.format = usual.format;
        self.identity = usual.identity;
        self.redirection = usual.redirection;
        self.sip = usual.sip;
        self.media.security = usual.security;
        self.media.ice.unknown = usual.ice.unknown;
        self.media.comfort_noise = usual.comfort_noise;
        self.media.voip_metrics = usual.voip_metrics;
        self
    }

    /// Networks whose requests belong to this trunk, its peers' included.
    pub fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.allowed.iter().chain(self.peers.iter().flat_map(|peer| &peer.allowed))
    }

    /// A name of the DNS, as this trunk wants to know it.
    pub fn wanted(&self, address: PeerAddress) -> Wanted {
        Wanted { address, transport: self.transport, family: Family::of(self.listen.ip()) }
    }

    /// Host and port for Via and Contact, an IPv6 address in brackets.
    pub fn sent_by(&self) -> Advertised {
        self.advertised.clone().unwrap_or_else(|| Advertised::of(self.listen))
    }

    /// Whether requests of ours may go by a connection that a peer opened, as phones behind address translation need
    /// it. With TLS they may not: a proxy that calls by one machine wants to be called by another (RFC 5923 section 3).
    pub fn shares_connections(&self) -> bool {
        self.transport != Transport::Tls
    }

    /// A URI at the address that this trunk's peers reach us by.
    pub fn own_uri(&self, user: Option<&str>) -> Uri {
        let (host, port) = self.authority();
        Uri::sip(user, host, Some(port))
    }

    /// The URI by which this trunk's peers reach us: without user part.
    pub fn contact(&self) -> NameAddr {
        NameAddr::new(self.with_transport(self.own_uri(None)))
    }

    /// The Request-URI of a call to `number` at this peer.
    pub fn target_uri(&self, peer: &Candidate, number: &str) -> Uri {
        self.with_transport(self.as_phone(peer.uri(Some(number)), number))
    }

    /// Says that a URI with this user part is a telephone number, where the far end wants to hear it.
    pub fn as_phone(&self, mut uri: Uri, number: &str) -> Uri {
        if let (true, Uri::Sip(uri)) = (self.numbers.is_phone(number), &mut uri) {
            uri.params.set("user", "phone");
        }
        uri
    }

    /// Makes a request of ours one of this trunk: its Via names us as this trunk's peers know us, and it says what the
    /// service wants to hear.
    pub fn sign(&self, draft: &mut Draft) {
        draft.sent_by = self.advertised.is_some().then(|| self.authority());
        draft.heeds_overload = self.overload_control;
        draft.by_tcp_when_large = self.sip.tcp_when_large;
        if let Some((name, value)) = self.service.and_then(Service::greeting) {
            draft.headers.set(HeaderName::Other(name.into()), value);
        }
    }

    /// Names the transport where it is not the one that a URI means anyway (RFC 3261 section 19.1.1).
    fn with_transport(&self, mut uri: Uri) -> Uri {
        if let (Transport::Tcp | Transport::Tls, Uri::Sip(uri)) = (self.transport, &mut uri) {
            uri.params.set("transport", self.transport.as_str());
        }
        uri
    }

    fn authority(&self) -> (Host, u16) {
        let Advertised { host, port } = self.sent_by();
        (host.parse().unwrap_or_else(|_| Host::from(self.listen.ip())), port)
    }

    /// What can be wrong with a trunk by itself.
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let trunk = self.name.clone();
        if trunk.is_empty() {
            return Err(PolicyError::UnnamedTrunk);
        }
        if self.listen.port() == 0 {
            return Err(PolicyError::NoListenPort { trunk });
        }
        if self.listen.ip().is_unspecified() && self.advertised.is_none() {
            return Err(PolicyError::NothingToAdvertise { trunk, listen: self.listen });
        }
        if self.media_address.is_unspecified() || self.media_address.is_multicast() {
            return Err(PolicyError::MediaAddress { trunk, address: self.media_address });
        }
        if self.peer_timeout.is_zero() {
            return Err(PolicyError::NoPeerTimeout { trunk });
        }
        let rate = self.limits.rate;
        if self.limits.calls == Some(0) || rate.is_some_and(|rate| rate.per_second == 0 || rate.burst == 0) {
            return Err(PolicyError::NoCalls { trunk });
        }
        self.health.check(&self.name)?;
        self.check_service()?;
        self.check_media()?;
        self.check_peers()
    }

    fn check_service(&self) -> Result<(), PolicyError> {
        let trunk = self.name.clone();
        let advertised = self.sent_by();
        let is_name = matches!(advertised.host.parse(), Ok(Host::Name(_)));
        if self.service.is_some_and(Service::wants_a_name) && !is_name {
            return Err(PolicyError::NameWanted { trunk, advertised });
        }
        let country = self.numbers.country.as_deref();
        let is_code = |code: &str| {
            (1..=3).contains(&code.len())
                && !code.starts_with('0')
                && code.bytes().all(|byte| byte.is_ascii_digit())
        };
        match country {
            Some(country) if !is_code(country) => {
                Err(PolicyError::Country { trunk, country: country.to_owned() })
            }
            None if self.numbers.format == NumberFormat::National => Err(PolicyError::NoCountry { trunk }),
            Some(_) | None => Ok(()),
        }
    }

    fn check_media(&self) -> Result<(), PolicyError> {
        let trunk = self.name.clone();
        match &self.media.gate {
            GatePolicy::Networks(networks) => {
                let foreign = |network: &&IpNet| network.addr().is_ipv4() != self.media_address.is_ipv4();
                if let Some(network) = networks.iter().find(foreign) {
                    return Err(PolicyError::GateFamily { trunk, network: *network });
                }
            }
            GatePolicy::Around { ipv4_prefix, ipv6_prefix } if *ipv4_prefix > 32 || *ipv6_prefix > 128 => {
                return Err(PolicyError::GatePrefix { trunk });
            }
            GatePolicy::Signalled | GatePolicy::Around { .. } | GatePolicy::Any => {}
        }
        if let Some(dscp) = self.media.dscp.filter(|dscp| *dscp > 63) {
            return Err(PolicyError::Dscp { trunk, dscp });
        }
        if self.media.rate.is_some_and(|rate| rate.packets_per_second == 0) {
            return Err(PolicyError::Rate { trunk });
        }
        if self.media.codecs.as_ref().is_some_and(|codecs| !codecs.iter().any(|codec| codec.is_speech())) {
            return Err(PolicyError::NoCodec { trunk });
        }
        Ok(())
    }

    fn check_peers(&self) -> Result<(), PolicyError> {
        for (position, peer) in self.peers.iter().enumerate() {
            let trunk = self.name.clone();
            if peer.priority > MAX_PRIORITY {
                return Err(PolicyError::PeerPriority {
                    trunk,
                    peer: peer.name.clone(),
                    priority: peer.priority,
                });
            }
            match peer.address {
                PeerAddress::Address(at) => self.check_address(at)?,
                // Teams and others answer from any address of their networks, whatever their names resolve to, so
                // that a list made from look-ups would silence them.
                PeerAddress::Host { .. } | PeerAddress::Service(_)
                    if self.allowed.is_empty() && peer.allowed.is_empty() =>
                {
                    return Err(PolicyError::NameWithoutNetworks { trunk, peer: peer.name.clone() });
                }
                PeerAddress::Host { .. } | PeerAddress::Service(_) => {}
            }
            let before = &self.peers[..position];
            if before.iter().any(|other| other.name == peer.name || other.address == peer.address) {
                return Err(PolicyError::DuplicatePeer { trunk, peer: peer.name.clone() });
            }
        }
        Ok(())
    }

    fn check_address(&self, peer: SocketAddr) -> Result<(), PolicyError> {
        let trunk = self.name.clone();
        if peer.port() == 0 || peer.ip().is_unspecified() || peer.ip().is_multicast() {
            return Err(PolicyError::PeerAddress { trunk, peer });
        }
        if peer.is_ipv4() != self.listen.is_ipv4() {
            return Err(PolicyError::PeerFamily { trunk, listen: self.listen, peer });
        }
        Ok(())
    }
}

/// The priority that is tried last.
pub const MAX_PRIORITY: u8 = 100;

/// One place that calls to a trunk can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Unique in its trunk: commands, metrics and events use it.
    pub name: String,
    pub address: PeerAddress,
    /// It stands in another region than this node: tried only when no peer of this region serves.
    pub is_remote: bool,
    /// 0 to [`MAX_PRIORITY`], as seen from this node's region; the lower number is tried first.
    pub priority: u8,
    /// Share of first attempts among peers of equal priority, as in RFC 2782; those of weight 0 come after all
    /// others of their priority.
    pub weight: u16,
    /// Networks whose requests belong to the trunk because of this peer. When both these and the trunk's own are
    /// empty, the peer's host.
    pub allowed: Vec<IpNet>,
}

/// Host and port as peers are told them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advertised {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: Box<str>,
    pub port: u16,
}

impl Advertised {
    pub fn of(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string().into(), port: address.port() }
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::media::plan::RateLimit;
    use crate::rtp::Encoding;

    /// A sound trunk on `listen` with these peers, all of priority 0 and weight 1.
    pub(in super::super) fn trunk(name: &str, listen: &str, peers: &[&str]) -> Trunk {
        let peer = |text: &&str| Peer::at(text.parse().unwrap(), 0);
        Trunk {
            peers: peers.iter().map(peer).collect(),
            media_address: "192.0.2.1".parse().unwrap(),
            ..Trunk::new(name, Transport::Udp, listen.parse().unwrap())
        }
    }

    #[test]
    fn what_via_and_contact_say_is_what_peers_can_reach() {
        let mut trunk = trunk("core", "[2001:db8::1]:5060", &[]);
        assert_eq!(trunk.sent_by().to_string(), "[2001:db8::1]:5060");
        trunk.advertised = Some(Advertised { host: "sbc.example.net".into(), port: 5080 });
        assert_eq!(trunk.sent_by().to_string(), "sbc.example.net:5080");
    }

    #[test]
    fn each_setting_that_cannot_work_is_refused_by_name() {
        let name = || "core".to_owned();
        type Spoil = fn(&mut Trunk);
        let table: &[(Spoil, PolicyError)] = &[
            (|trunk| trunk.name.clear(), PolicyError::UnnamedTrunk),
            (|trunk| trunk.listen.set_port(0), PolicyError::NoListenPort { trunk: name() }),
            (
                |trunk| trunk.listen = "0.0.0.0:5060".parse().unwrap(),
                PolicyError::NothingToAdvertise { trunk: name(), listen: "0.0.0.0:5060".parse().unwrap() },
            ),
            (
                |trunk| trunk.media_address = "::".parse().unwrap(),
                PolicyError::MediaAddress { trunk: name(), address: "::".parse().unwrap() },
            ),
            (
                |trunk| trunk.media.gate = GatePolicy::Networks(["2001:db8::/32".parse().unwrap()].into()),
                PolicyError::GateFamily { trunk: name(), network: "2001:db8::/32".parse().unwrap() },
            ),
            (
                |trunk| trunk.media.gate = GatePolicy::Around { ipv4_prefix: 33, ipv6_prefix: 64 },
                PolicyError::GatePrefix { trunk: name() },
            ),
            (|trunk| trunk.media.dscp = Some(64), PolicyError::Dscp { trunk: name(), dscp: 64 }),
            (
                |trunk| trunk.media.rate = Some(RateLimit { packets_per_second: 0, burst: 10 }),
                PolicyError::Rate { trunk: name() },
            ),
            (
                |trunk| trunk.media.codecs = Some(vec![Encoding::TelephoneEvent]),
                PolicyError::NoCodec { trunk: name() },
            ),
            (|trunk| trunk.peer_timeout = Duration::ZERO, PolicyError::NoPeerTimeout { trunk: name() }),
            (
                |trunk| trunk.peers[0].address = PeerAddress::Address("198.51.100.7:0".parse().unwrap()),
                PolicyError::PeerAddress { trunk: name(), peer: "198.51.100.7:0".parse().unwrap() },
            ),
            (
                |trunk| trunk.listen = "[2001:db8::1]:5060".parse().unwrap(),
                PolicyError::PeerFamily {
                    trunk: name(),
                    listen: "[2001:db8::1]:5060".parse().unwrap(),
                    peer: "198.51.100.7:5060".parse().unwrap(),
                },
            ),
            (
                |trunk| trunk.peers.push(Peer { name: "other".into(), ..trunk.peers[0].clone() }),
                PolicyError::DuplicatePeer { trunk: name(), peer: "other".into() },
            ),
            (
                |trunk| trunk.peers[0].priority = 101,
                PolicyError::PeerPriority { trunk: name(), peer: "198.51.100.7:5060".into(), priority: 101 },
            ),
            (
                |trunk| trunk.peers[0].address = PeerAddress::Host { name: "a.example".into(), port: None },
                PolicyError::NameWithoutNetworks { trunk: name(), peer: "198.51.100.7:5060".into() },
            ),
            (|trunk| trunk.health.down_after = 0, PolicyError::HealthThreshold { trunk: name() }),
        ];
        for (spoil, error) in table {
            let mut trunk = trunk("core", "192.0.2.1:5060", &["198.51.100.7:5060"]);
            assert_eq!(trunk.check(), Ok(()));
            spoil(&mut trunk);
            assert_eq!(trunk.check().as_ref(), Err(error));
        }
    }
}
