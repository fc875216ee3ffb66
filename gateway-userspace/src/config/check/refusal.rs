//! What the policy room refuses, told at the field it is about and with what mends it.

use super::super::error::ConfigErrors;
use super::super::file::{self, File, Span};
use super::span;
use super::trunk::socket_address;
use crate::policy::PolicyError;
use std::net::SocketAddr;
use toml::Spanned;

/// A trunk as the file has it: its entry, what stands in it, and what it is called in errors.
pub(super) type Written<'a> = (&'a Span, &'a file::Trunk, &'a str);

/// The trunk that an error is about.
pub(super) fn about<'a>(error: &PolicyError, file: &'a File, labels: &'a [String]) -> Option<Written<'a>> {
    let wanted = match error {
        PolicyError::AmbiguousSource { second, .. } => second,
        PolicyError::NoPeers { trunk, .. } => trunk,
        _ => return None,
    };
    let trunks = file.trunks.iter().zip(labels);
    let named = |((_, trunk), _): &(&(Span, file::Trunk), &String)| {
        trunk.name.as_ref().is_some_and(|name| name.get_ref().trim() == wanted)
    };
    trunks.into_iter().find(named).map(|((entry, trunk), label)| (entry, trunk, label.as_str()))
}

pub(super) fn refuse(error: &PolicyError, about: Option<Written<'_>>, errors: &mut ConfigErrors) {
    let Some((entry, trunk, label)) = about else {
        return errors.add(None, "trunks and routes", error.to_string(), "see docs/configuration.md");
    };
    let (place, field) = place(error, trunk);
    let place = place.unwrap_or_else(|| entry.clone());
    errors.add(Some(place), format!("{label} {field}"), error.to_string(), fix(error));
}

/// Where in its trunk an error is to be mended; no span where nothing is written there yet.
fn place(error: &PolicyError, trunk: &file::Trunk) -> (Option<Span>, &'static str) {
    match error {
        PolicyError::UnnamedTrunk | PolicyError::DuplicateTrunk(_) => (span(&trunk.name), "name"),
        PolicyError::NothingToAdvertise { .. } | PolicyError::NoListenPort { .. } => {
            (span(&trunk.listen), "listen")
        }
        PolicyError::MediaAddress { .. } => {
            (span(&trunk.media_address).or_else(|| span(&trunk.listen)), "media_address")
        }
        PolicyError::GateFamily { .. } | PolicyError::GatePrefix { .. } => {
            (span(&trunk.media.gate), "media.gate")
        }
        PolicyError::Dscp { .. } => (span(&trunk.media.dscp), "media.dscp"),
        PolicyError::Rate { .. } => (span(&trunk.media.packets_per_second), "media.packets_per_second"),
        PolicyError::NoCodec { .. } => (span(&trunk.media.codecs), "media.codecs"),
        PolicyError::NoPeerTimeout { .. } => (span(&trunk.peer_timeout_ms), "peer_timeout_ms"),
        PolicyError::PeerAddress { peer, .. } | PolicyError::PeerFamily { peer, .. } => {
            (peer_at(trunk, *peer), "peers")
        }
        PolicyError::DuplicatePeer { peer, .. } | PolicyError::PeerPriority { peer, .. } => {
            (peer_named(trunk, peer), "peers")
        }
        PolicyError::NameWithoutNetworks { peer, .. } => (peer_named(trunk, peer), "allowed"),
        PolicyError::NameWanted { .. } => {
            (span(&trunk.advertised).or_else(|| span(&trunk.service)), "advertised")
        }
        PolicyError::Country { .. } => (span(&trunk.numbers.country), "numbers.country"),
        PolicyError::NoCountry { .. } => (span(&trunk.numbers.format), "numbers.format"),
        PolicyError::NoCalls { .. } => (span(&trunk.limits.calls), "limits.calls"),
        PolicyError::HealthThreshold { .. } => (span(&trunk.health.down_after), "health.down_after"),
        PolicyError::HealthTimeout { .. } => (span(&trunk.health.timeout_ms), "health.timeout_ms"),
        PolicyError::AmbiguousSource { .. } => (trunk.allowed.first().map(Spanned::span), "allowed"),
        PolicyError::NoPeers { .. } => (None, "peers"),
        PolicyError::TooManyTrunks(_)
        | PolicyError::Prefix(_)
        | PolicyError::UnknownTrunk { .. }
        | PolicyError::TenantTwice { .. }
        | PolicyError::TenantNumber { .. }
        | PolicyError::DuplicateRoute(_) => (None, ""),
    }
}

/// The peer that is written with this address.
fn peer_at(trunk: &file::Trunk, wanted: SocketAddr) -> Option<Span> {
    peer(trunk, |peer| socket_address(peer.address.get_ref()) == Some(wanted))
}

/// The peer of this name, or of this address where it has none.
fn peer_named(trunk: &file::Trunk, wanted: &str) -> Option<Span> {
    peer(trunk, |peer| match &peer.name {
        Some(name) => name.get_ref().trim() == wanted,
        None => socket_address(peer.address.get_ref()).is_some_and(|at| at.to_string() == wanted),
    })
}

/// The last of them: of two that are the same it is the one too many.
fn peer(trunk: &file::Trunk, is_wanted: impl Fn(&file::Peer) -> bool) -> Option<Span> {
    let peer = trunk.peers.iter().rev().find(|peer| is_wanted(peer.get_ref()))?;
    Some(peer.get_ref().address.span())
}

/// What mends an error.
fn fix(error: &PolicyError) -> &'static str {
    match error {
        PolicyError::UnnamedTrunk => "write a name: letters that logs and routes use",
        PolicyError::DuplicateTrunk(_) => "give each trunk a name of its own",
        PolicyError::NothingToAdvertise { .. } => {
            "listen on one address, or add advertised = \"203.0.113.1:5060\""
        }
        PolicyError::NoListenPort { .. } => "write a port, 5060 as a rule",
        PolicyError::MediaAddress { .. } => "write one address of this host",
        PolicyError::GateFamily { .. } => "write a network of the family that media_address has",
        PolicyError::GatePrefix { .. } => "write a shorter prefix",
        PolicyError::Dscp { .. } => "write 0 to 63; voice has 46",
        PolicyError::Rate { .. } => "write more than a call sends, 50 as a rule, or leave it out",
        PolicyError::NoCodec { .. } => "name a speech codec, as in \"PCMA\", or leave it out",
        PolicyError::NoPeerTimeout { .. } => "write milliseconds, 4000 as a rule",
        PolicyError::PeerAddress { .. } => "write the address and port that the peer listens on",
        PolicyError::PeerFamily { .. } => "listen on an address of the peer's family, in a trunk of its own",
        PolicyError::DuplicatePeer { .. } => "keep one of them",
        PolicyError::PeerPriority { .. } => "write a priority from 0 to 100",
        PolicyError::NameWithoutNetworks { .. } => {
            "add allowed = [\"52.112.0.0/14\"], the networks that its requests come from"
        }
        PolicyError::NameWanted { .. } => {
            "write the name that the service has of this trunk, as in \"sbc1.example.net:5061\""
        }
        PolicyError::Country { .. } => "write a country code, as in \"44\"",
        PolicyError::NoCountry { .. } => "add country = \"44\", or write \"e164\"",
        PolicyError::NoCalls { .. } => {
            "write how many, or leave it out; to refuse new calls, use `causeway drain trunk`"
        }
        PolicyError::HealthThreshold { .. } => "write 1 or more, for up_after too",
        PolicyError::HealthTimeout { .. } => "write less than retry_seconds",
        PolicyError::AmbiguousSource { .. } => {
            "let each network belong to one trunk, or give one trunk another port"
        }
        PolicyError::NoPeers { .. } => "add peers = [{ address = \"192.0.2.20:5060\" }]",
        PolicyError::TooManyTrunks(_)
        | PolicyError::Prefix(_)
        | PolicyError::UnknownTrunk { .. }
        | PolicyError::TenantTwice { .. }
        | PolicyError::TenantNumber { .. }
        | PolicyError::DuplicateRoute(_) => "see docs/configuration.md",
    }
}
