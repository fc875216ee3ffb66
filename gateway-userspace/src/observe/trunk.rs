//! What happens to trunks and their peers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to a trunk, by its name.
#[derive(Clone, Debug, PartialEq)]
pub enum TrunkEvent {
    /// An OPTIONS of ours has its outcome.
    Probed { failed: bool },
    /// An address of a peer serves calls, for the first time or again.
    PeerUp { trunk: Arc<str>, peer: Arc<str>, address: SocketAddr },
    /// An address of a peer gets no more calls; `outcome` of the last OPTIONS.
    PeerDown { trunk: Arc<str>, peer: Arc<str>, address: SocketAddr, outcome: ProbeOutcome },
    /// A peer answers our OPTIONS with 403: it does not know `contact`, the name and port that we told it.
    ContactRefused { trunk: Arc<str>, peer: Arc<str>, address: SocketAddr, contact: Arc<str> },
    /// A peer knows our Contact for so long, for the first time or again.
    Registered { trunk: Arc<str>, peer: Arc<str>, address: SocketAddr, expires: Duration },
    /// A peer was asked to forget our Contact.
    Unregistered { trunk: Arc<str>, peer: Arc<str>, address: SocketAddr },
    /// A peer did not take our Contact; it is asked again.
    RegistrationFailed { trunk: Arc<str>, peer: Arc<str>, address: SocketAddr, outcome: ProbeOutcome },
    /// Somebody who calls by this trunk gave a wrong name or password.
    AuthenticationFailed { trunk: Arc<str>, source: SocketAddr },
    /// Nine tenths of the calls that a trunk is set to carry are in progress.
    NearLimit { trunk: Arc<str>, limit: u32 },
    /// The same of a tenant's.
    TenantNearLimit { tenant: Arc<str>, limit: u32 },
    /// New calls of a trunk, or those to one of its peers, are refused from now on, or taken again.
    Drained { trunk: Arc<str>, peer: Option<Arc<str>>, drained: bool },
}

/// What became of an OPTIONS of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// By the status of its final response.
    Answered(u16),
    /// No answer in time.
    Silence,
    /// The transport could not deliver it.
    Unreachable,
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "answered {status}"),
            Self::Silence => f.write_str("no answer"),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}

pub(super) fn log(event: &TrunkEvent) {
    match event {
        TrunkEvent::Probed { failed } => tracing::trace!(failed, "peer asked"),
        TrunkEvent::PeerUp { trunk, peer, address } => {
            tracing::info!(%trunk, %peer, %address, "peer is up");
        }
        TrunkEvent::PeerDown { trunk, peer, address, outcome } => {
            tracing::warn!(%trunk, %peer, %address, %outcome, "peer is down: it gets no more calls");
        }
        TrunkEvent::ContactRefused { trunk, peer, address, contact } => {
            tracing::error!(%trunk, %peer, %address, %contact,
                "peer answers OPTIONS with 403: it does not know our Contact; register this name there");
        }
        TrunkEvent::Registered { trunk, peer, address, expires } => {
            tracing::info!(%trunk, %peer, %address, ?expires, "registered");
        }
        TrunkEvent::Unregistered { trunk, peer, address } => {
            tracing::info!(%trunk, %peer, %address, "registration taken back");
        }
        TrunkEvent::RegistrationFailed { trunk, peer, address, outcome } => {
            tracing::error!(%trunk, %peer, %address, %outcome, "not registered: it is tried again");
        }
        TrunkEvent::AuthenticationFailed { trunk, source } => {
            tracing::warn!(%trunk, %source, "caller gave a wrong name or password");
        }
        TrunkEvent::NearLimit { trunk, limit } => {
            tracing::warn!(%trunk, limit, "trunk carries nine tenths of the calls that it may");
        }
        TrunkEvent::TenantNearLimit { tenant, limit } => {
            tracing::warn!(%tenant, limit, "tenant has nine tenths of the calls that it may");
        }
        TrunkEvent::Drained { trunk, peer, drained: true } => {
            tracing::info!(%trunk, peer = peer.as_deref(), "draining: no new calls");
        }
        TrunkEvent::Drained { trunk, peer, drained: false } => {
            tracing::info!(%trunk, peer = peer.as_deref(), "drain ended: new calls are taken");
        }
    }
}

#[cfg(test)]
pub(super) fn samples() -> Vec<TrunkEvent> {
    let (trunk, peer): (Arc<str>, Arc<str>) = ("teams".into(), "teams1".into());
    let address = super::event::samples::peer();
    let (first, second) = (|| trunk.clone(), || peer.clone());
    vec![
        TrunkEvent::Probed { failed: false },
        TrunkEvent::Probed { failed: true },
        TrunkEvent::PeerUp { trunk: first(), peer: second(), address },
        TrunkEvent::PeerDown { trunk: first(), peer: second(), address, outcome: ProbeOutcome::Silence },
        TrunkEvent::ContactRefused {
            trunk: first(),
            peer: second(),
            address,
            contact: "sbc1.corp.example:5061".into(),
        },
        TrunkEvent::Registered { trunk: first(), peer: second(), address, expires: Duration::from_secs(600) },
        TrunkEvent::Unregistered { trunk: first(), peer: second(), address },
        TrunkEvent::RegistrationFailed {
            trunk: first(),
            peer: second(),
            address,
            outcome: ProbeOutcome::Answered(403),
        },
        TrunkEvent::AuthenticationFailed { trunk: first(), source: address },
        TrunkEvent::NearLimit { trunk: first(), limit: 100 },
        TrunkEvent::TenantNearLimit { tenant: "contoso".into(), limit: 100 },
        TrunkEvent::Drained { trunk: first(), peer: Some(second()), drained: true },
        TrunkEvent::Drained { trunk: first(), peer: None, drained: false },
    ]
}
