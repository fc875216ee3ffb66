//! Which trunk a request came from and where a call goes: snapshot in, decision out, no I/O.
//!
//! A [`Snapshot`] is built once from the configuration, checked as a whole, and its settings never change; a reload
//! builds another one. [`TrunkId`]s are positions in the snapshot that they came from. What does change while the
//! settings stay (who serves, who is drained) is a [`standing`] that snapshots hand on to one another, and what names
//! mean now comes by [`Snapshot::resolved`].

mod admission;
mod cause;
mod defence;
mod emergency;
mod health;
mod identity;
pub mod manipulation;
mod number;
mod overload;
mod peer;
mod probe;
mod redirection;
mod registration;
mod route;
mod service;
mod sip;
mod source;
pub mod standing;
mod tenant;
mod trunk;

pub use admission::{CallRate, Limits, Meter, Permit};
pub use cause::{CauseMap, CauseTable};
pub use defence::{DefenceSettings, Heard, Offenders, Spare};
pub use emergency::Emergency;
pub use health::Health;
pub use identity::{AssertedSource, Caller, FromSource, IdentityForm, IdentityPolicy, Party, Privacy};
pub use number::{NumberFormat, NumberPlan};
pub use overload::{Allowance, Feedback, announced};
pub use peer::{PeerAddress, Resolved, Target};
pub use probe::{Probe, ProbeId, ProbeSettings, Prober};
pub use redirection::{Diversion, DiversionReason, Redirection, RedirectionForm};
pub use registration::{
    Instance, NoInstance, Registrant, Registration, RegistrationId, RegistrationPolicy, ServiceRoute, Turnout,
};
pub use route::{Candidate, Candidates, Route, retries};
pub use service::{Service, Usual};
pub use sip::{EarlyMedia, HoldForm, PreconditionPolicy, ReferPolicy, ReliableProvisional, SipPolicy};
pub use standing::{Drainable, PeerStanding, RegistrationState, TargetState, TrunkStanding};
pub use tenant::{Tenant, Tenants};
pub use trunk::{Advertised, MAX_PRIORITY, Peer, Trunk};

use crate::base::fault::Fault;
use crate::base::id::TrunkId;
use crate::base::time::Time;
use crate::resolve::Findings;
use crate::sip::message::{Host, Request};
use crate::sip::transport::Transport;
use ipnet::IpNet;
use route::RouteTable;
use source::SourceTable;
use standing::LiveTrunk;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Trunks and routes in force.
#[derive(Clone, Debug)]
pub struct Snapshot {
    trunks: Arc<[Trunk]>,
    sources: Arc<SourceTable>,
    routes: Arc<RouteTable>,
    emergency: Arc<Emergency>,
    tenants: Arc<Tenants>,
    /// By trunk.
    live: Vec<LiveTrunk>,
    names: Arc<Findings>,
    has_rules: bool,
}

/// What a call asks of policy before it goes anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// The trunk that it came by.
    pub from: TrunkId,
    /// The user part of the Request-URI.
    pub called: &'a str,
    /// It is an emergency call.
    pub emergency: bool,
    pub now: Time,
    /// Random, or a hash of the Call-ID: orders peers of equal priority by their weights.
    pub spread: u64,
}

/// Where a call goes.
#[derive(Debug)]
pub struct Decision {
    /// The peers to try, in order; at least one.
    pub candidates: Candidates,
    /// Of the trunk that it goes to, for as long as the call lasts.
    pub permit: Permit,
    /// Whose number is called, where the trunk that it goes to is the tenants'.
    pub tenant: Option<Arc<str>>,
}

/// One peer with what is known of it now.
#[derive(Clone, Copy, Debug)]
pub struct PeerView<'a> {
    pub peer: &'a Peer,
    pub standing: &'a Arc<PeerStanding>,
    pub targets: &'a [Target],
}

impl Snapshot {
    /// Checks trunks and routes against each other. A trunk's id is its position in `trunks`.
    pub fn new(trunks: Vec<Trunk>, routes: Vec<Route>) -> Result<Self, PolicyError> {
        if trunks.len() > usize::from(u16::MAX) {
            return Err(PolicyError::TooManyTrunks(trunks.len()));
        }
        for (position, trunk) in trunks.iter().enumerate() {
            trunk.check()?;
            if trunks[..position].iter().any(|other| other.name == trunk.name) {
                return Err(PolicyError::DuplicateTrunk(trunk.name.clone()));
            }
        }
        let sources = Arc::new(SourceTable::new(&trunks)?);
        let routes = Arc::new(RouteTable::new(&trunks, routes)?);
        let live = trunks.iter().map(LiveTrunk::new).collect();
        let (emergency, tenants) = (Arc::default(), Arc::default());
        let has_rules = trunks.iter().any(|trunk| trunk.rules != manipulation::Manipulation::default());
        let (trunks, names) = (trunks.into(), Arc::default());
        Ok(Self { trunks, sources, routes, emergency, tenants, live, names, has_rules })
    }

    /// With emergency calls known and routed so.
    pub fn with_emergency(mut self, emergency: Emergency) -> Result<Self, PolicyError> {
        if let Some(to) = emergency.to {
            let prefix = || "emergency".to_owned();
            let unknown = || PolicyError::UnknownTrunk { prefix: prefix(), trunk: to.0 };
            let trunk = self.trunk(to).ok_or_else(unknown)?;
            if trunk.peers.is_empty() {
                return Err(PolicyError::NoPeers { prefix: prefix(), trunk: trunk.name.clone() });
            }
        }
        self.emergency = Arc::new(emergency);
        Ok(self)
    }

    pub fn emergency(&self) -> &Emergency {
        &self.emergency
    }

    /// With these customers behind the trunks that are theirs.
    pub fn with_tenants(self, tenants: Tenants) -> Self {
        Self { tenants: Arc::new(tenants), ..self }
    }

    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Whose call an INVITE is that came by this trunk; `None` where the trunk is not the tenants'.
    ///
    /// # Errors
    /// As [`Tenants::screen`].
    pub fn screen(
        &self,
        from: &Trunk,
        request: &Request,
        caller: &Caller,
        emergency: bool,
    ) -> Result<Option<Arc<str>>, Fault> {
        if !from.tenants {
            return Ok(None);
        }
        let tenant = self.tenants.screen(request, caller, emergency)?;
        Ok(tenant.map(|tenant| Arc::clone(&tenant.name)))
    }

    /// Goes on with what `old` knows of trunks and peers that keep their names.
    pub fn succeed(mut self, old: &Self) -> Self {
        self.names = Arc::clone(&old.names);
        for (trunk, live) in self.trunks.iter().zip(&mut self.live) {
            if let Some((id, before)) = old.trunk_named(&trunk.name) {
                live.succeed(trunk, before, &old.live[usize::from(id.0)]);
            }
        }
        // Nobody else has them yet.
        Arc::make_mut(&mut self.tenants).succeed(&old.tenants);
        self
    }

    /// The same trunks and routes where names mean what `look_up` says now; where it says nothing, they mean what they
    /// meant before.
    pub fn resolved(&self, look_up: &dyn Fn(&Trunk, &PeerAddress) -> Option<Vec<Resolved>>) -> Self {
        let mut next = self.clone();
        for (trunk, live) in self.trunks.iter().zip(&mut next.live) {
            for (peer, live) in trunk.peers.iter().zip(&mut live.peers) {
                if let (Some(_), Some(found)) = (peer.address.authority(), look_up(trunk, &peer.address)) {
                    live.resolve(&found);
                }
            }
        }
        next
    }

    /// Whether any trunk has rules that change messages.
    pub fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// A trunk of this snapshot; `None` for an id of an older one with more trunks.
    pub fn trunk(&self, id: TrunkId) -> Option<&Trunk> {
        self.trunks.get(usize::from(id.0))
    }

    pub fn trunks(&self) -> impl Iterator<Item = (TrunkId, &Trunk)> {
        numbered(&self.trunks)
    }

    /// The trunk of this name, to find it again after a reload.
    pub fn trunk_named(&self, name: &str) -> Option<(TrunkId, &Trunk)> {
        self.trunks().find(|(_, trunk)| trunk.name == name)
    }

    /// The trunk that a message belongs to which came from `source` to our socket `local`; `None` for an unknown
    /// source, which deserves silence.
    ///
    /// A UDP peer's own address and port decides first, then the longest of the prefixes that trunks on this
    /// socket allow.
    pub fn identify(&self, local: SocketAddr, source: SocketAddr, transport: Transport) -> Option<TrunkId> {
        self.sources.identify(local, source, transport)
    }

    /// The trunk that a connection of ours from socket `local` to `remote` belongs to: one that has it as a peer, else
    /// the one that hears it. With it the name by which the peer is written down, if it is one.
    pub fn towards(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        transport: Transport,
    ) -> Option<(TrunkId, Option<&str>)> {
        let called = self.trunks().find_map(|(id, trunk)| {
            let peer =
                self.peers(id).find(|view| view.targets.iter().any(|target| target.address == remote))?;
            let name = peer.peer.address.authority().map(|(name, _)| name);
            ((trunk.listen, trunk.transport) == (local, transport)).then_some((id, name))
        });
        called.or_else(|| Some((self.identify(local, remote, transport)?, None)))
    }

    /// The address that `host` and `port` in a URI of this trunk's peer mean: an address that the trunk hears, or what
    /// one of its peers' names means now, or another name that the trunk's dialogs go to.
    pub fn meant_by(&self, id: TrunkId, host: &Host, port: Option<u16>) -> Option<SocketAddr> {
        let trunk = self.trunk(id)?;
        let heard = |at: &SocketAddr| self.identify(trunk.listen, *at, trunk.transport) == Some(id);
        if let Some(address) = host.address() {
            let port = port.unwrap_or(trunk.transport.default_port());
            return Some(SocketAddr::new(address, port)).filter(heard);
        }
        let host = host.to_string();
        let mut namesakes = self.peers(id).filter(|view| {
            view.peer.address.authority().is_some_and(|(name, _)| name.eq_ignore_ascii_case(&host))
        });
        let target = namesakes.find_map(|view| view.targets.first()).map(|target| target.address);
        let learned = || {
            let wanted = trunk.wanted(PeerAddress::Host { name: host.to_ascii_lowercase().into(), port });
            self.names.meaning(&wanted)?.iter().map(|found| found.address).find(heard)
        };
        target.or_else(learned)
    }

    /// The same, knowing what the names mean that dialogs go to.
    pub fn knowing(self, names: Arc<Findings>) -> Self {
        Self { names, ..self }
    }

    /// What is known of names.
    pub fn names(&self) -> &Findings {
        &self.names
    }

    /// Where a call goes: the peers to try, in order.
    ///
    /// # Errors
    /// [`Fault::NoRoute`]; [`Fault::NumberNotAssigned`] when the trunk is the tenants' and the number is none of theirs;
    /// [`Fault::TrunkDraining`]; [`Fault::PeersDown`] when no peer of the trunk serves now;
    /// [`Fault::TrunkCallsExhausted`] and [`Fault::CallRateExceeded`] where it is at its limits.
    pub fn decide(&self, inquiry: &Inquiry<'_>) -> Result<Decision, Fault> {
        let by_route = || self.routes.find(inquiry.from, inquiry.called);
        let to = self.emergency.to.filter(|_| inquiry.emergency).or_else(by_route).ok_or(Fault::NoRoute)?;
        let (trunk, live) = self.trunk(to).zip(self.live.get(usize::from(to.0))).ok_or(Fault::NoRoute)?;
        let tenant = self.tenants.of_number(inquiry.called).filter(|_| trunk.tenants);
        if trunk.tenants && tenant.is_none() && !inquiry.emergency {
            return Err(Fault::NumberNotAssigned);
        }
        let tenant = tenant.map(|tenant| Arc::clone(&tenant.name));
        if live.standing.is_drained() {
            return Err(Fault::TrunkDraining);
        }
        let mut candidates = Candidates::new(to, trunk, live, inquiry);
        if !candidates.find_first(inquiry.now) {
            return Err(Fault::PeersDown);
        }
        let meter = &live.standing.meter;
        if inquiry.emergency {
            return Ok(Decision { candidates, permit: meter.enter_above(&trunk.limits), tenant });
        }
        let permit = meter.enter(&trunk.limits)?;
        meter.take_turn(&trunk.limits, inquiry.now)?;
        Ok(Decision { candidates, permit, tenant })
    }

    /// What changes about a trunk.
    pub fn standing(&self, id: TrunkId) -> Option<&Arc<TrunkStanding>> {
        self.live.get(usize::from(id.0)).map(|live| &live.standing)
    }

    /// Drains a trunk or one of its peers, or ends that; whether it changed anything, `None` if there is no such one.
    pub fn drain(&self, trunk: &str, peer: Option<&str>, drained: bool) -> Option<bool> {
        let (id, _) = self.trunk_named(trunk)?;
        match peer {
            None => self.standing(id).map(|standing| standing.drain(drained)),
            Some(name) => {
                let view = self.peers(id).find(|view| view.peer.name == name)?;
                Some(view.standing.drain(drained))
            }
        }
    }

    /// The peers of a trunk with what is known of them now, in the order of the configuration.
    pub fn peers(&self, id: TrunkId) -> impl Iterator<Item = PeerView<'_>> {
        let position = usize::from(id.0);
        let settings = self.trunks.get(position).map_or(&[][..], |trunk| &trunk.peers);
        let live = self.live.get(position).map_or(&[][..], |live| &live.peers);
        settings.iter().zip(live).map(|(peer, live)| PeerView {
            peer,
            standing: &live.standing,
            targets: &live.targets,
        })
    }

    /// A response from this address says how much of our calls it takes.
    pub fn heed(&self, id: TrunkId, address: SocketAddr, feedback: Feedback, now: Time) {
        let targets = self.peers(id).flat_map(|view| view.targets);
        for target in targets.filter(|target| target.address == address) {
            target.standing.throttle.heed(feedback, now);
        }
    }

    /// An address of this trunk asked for no new calls for so long (503 with Retry-After).
    pub fn rest(&self, id: TrunkId, address: SocketAddr, now: Time, pause: Duration) {
        let targets = self.peers(id).flat_map(|view| view.targets);
        for target in targets.filter(|target| target.address == address) {
            target.standing.rest_until(now + pause.min(LONGEST_REST));
        }
    }
}

/// A peer that asks for a longer pause is asked again after this one, so that a slip of its clock costs minutes and
/// not days.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Trunks with the ids that their positions give them.
fn numbered(trunks: &[Trunk]) -> impl Iterator<Item = (TrunkId, &Trunk)> {
    (0..).map(TrunkId).zip(trunks)
}

/// Settings that contradict themselves or each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{0} trunks: 65535 are the most")]
    TooManyTrunks(usize),
    #[error("a trunk has no name")]
    UnnamedTrunk,
    #[error("two trunks are named {0:?}")]
    DuplicateTrunk(String),
    #[error("trunk {trunk:?} listens on {listen}, which peers cannot be told: set the advertised address")]
    NothingToAdvertise { trunk: String, listen: SocketAddr },
    #[error("trunk {trunk:?} listens on port 0")]
    NoListenPort { trunk: String },
    #[error("trunk {trunk:?} has media address {address}: name one address of this host")]
    MediaAddress { trunk: String, address: std::net::IpAddr },
    #[error(
        "trunk {trunk:?} has a media gate network {network} of another address family than its media address"
    )]
    GateFamily { trunk: String, network: IpNet },
    #[error("trunk {trunk:?} has a gate prefix beyond 32 bits for IPv4 or 128 for IPv6")]
    GatePrefix { trunk: String },
    #[error("trunk {trunk:?} marks packets with DSCP {dscp}: 63 is the highest")]
    Dscp { trunk: String, dscp: u8 },
    #[error("trunk {trunk:?} limits media to no packets at all")]
    Rate { trunk: String },
    #[error("trunk {trunk:?} allows no codec")]
    NoCodec { trunk: String },
    #[error("trunk {trunk:?} gives its peers no time to answer: peer_timeout is zero")]
    NoPeerTimeout { trunk: String },
    #[error("trunk {trunk:?} has peer {peer}, which no packet can be sent to")]
    PeerAddress { trunk: String, peer: SocketAddr },
    #[error(
        "trunk {trunk:?} listens on {listen} and cannot reach its peer {peer} of the other address family"
    )]
    PeerFamily { trunk: String, listen: SocketAddr, peer: SocketAddr },
    #[error("trunk {trunk:?} has peer {peer:?} twice, by name or by address")]
    DuplicatePeer { trunk: String, peer: String },
    #[error("trunk {trunk:?} gives peer {peer:?} priority {priority}: 0 is the highest, 100 the lowest")]
    PeerPriority { trunk: String, peer: String, priority: u8 },
    #[error("trunk {trunk:?} has peer {peer:?} by its name and no networks that its requests come from")]
    NameWithoutNetworks { trunk: String, peer: String },
    #[error("trunk {trunk:?} leads to a service that knows gateways by name, and {advertised} is an address")]
    NameWanted { trunk: String, advertised: Advertised },
    #[error("trunk {trunk:?} has country code {country:?}: digits that do not begin with 0, three at most")]
    Country { trunk: String, country: String },
    #[error("trunk {trunk:?} writes numbers in the national format of no country")]
    NoCountry { trunk: String },
    #[error("trunk {trunk:?} is limited to no calls at all")]
    NoCalls { trunk: String },
    #[error("trunk {trunk:?} calls peers down or up after no answer at all")]
    HealthThreshold { trunk: String },
    #[error(
        "trunk {trunk:?} waits {timeout:?} for the answer to an OPTIONS, and asks again after {shortest:?}"
    )]
    HealthTimeout { trunk: String, timeout: Duration, shortest: Duration },
    #[error("trunks {first:?} and {second:?} both claim requests from {network} to {listen} ({transport:?})")]
    AmbiguousSource {
        first: String,
        second: String,
        network: IpNet,
        listen: SocketAddr,
        transport: Transport,
    },
    #[error(
        "{0:?} is no called-number prefix: write digits, * or #, with a + in front if numbers come with one"
    )]
    Prefix(String),
    #[error("the route for prefix {prefix:?} names trunk number {trunk}, which does not exist")]
    UnknownTrunk { prefix: String, trunk: u16 },
    #[error("the route for prefix {prefix:?} leads to trunk {trunk:?}, which has no peers")]
    NoPeers { prefix: String, trunk: String },
    #[error("two tenants have the {what} {value:?}")]
    TenantTwice { what: &'static str, value: String },
    #[error("tenant {tenant:?} has {number:?}, which is no number: a + and up to 15 digits")]
    TenantNumber { tenant: String, number: String },
    #[error("two routes from the same trunks have the prefix {0:?}")]
    DuplicateRoute(String),
}
