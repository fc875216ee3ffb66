//! What changes about trunks while their settings stay: who serves, who is drained, who asked for a pause.
//!
//! All cores share it. Every value is one atomic that stands for itself, so that no core waits for another and none
//! needs an order between two of them. A reload hands it on to the trunks and peers that keep their names.

use super::overload::Throttle;
use super::peer::{PeerAddress, Resolved, Target};
use super::{Meter, Trunk};
use crate::base::time::Time;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Of a trunk.
#[derive(Debug, Default)]
pub struct TrunkStanding {
    drained: AtomicBool,
    /// Calls that come by the trunk or go to it.
    pub meter: Arc<Meter>,
}

/// Of a peer.
#[derive(Debug, Default)]
pub struct PeerStanding {
    drained: AtomicBool,
}

/// Of one address of a peer.
#[derive(Debug, Default)]
pub struct TargetStanding {
    state: AtomicU8,
    /// Microseconds of [`Time`]: no new calls before.
    rests_until: AtomicU64,
    /// Status of the last answer to an OPTIONS of ours; 0 where there was none.
    last_answer: AtomicU16,
    last_asked: AtomicU64,
    /// 0 where nobody registers; else one more than [`RegistrationState`].
    registration: AtomicU8,
    /// How much of our calls it takes while it is overloaded.
    pub throttle: Throttle,
}

/// Whether an address serves calls, as far as OPTIONS tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TargetState {
    /// Nobody asked, or the first answers are awaited: calls are sent.
    #[default]
    Unknown,
    Up,
    Down,
}

/// Whether our Contact is bound at an address, where the trunk registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RegistrationState {
    /// Not asked for yet, or taken back.
    Unregistered,
    Registered,
    /// Refused, or nobody answered: it is tried again.
    Failed,
}

impl RegistrationState {
    /// The word in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::Registered => "registered",
            Self::Failed => "not registered",
        }
    }
}

/// A drain that can be begun and ended.
pub trait Drainable {
    /// Refuses new calls, or takes them again; whether that changed anything. Calls in progress go on.
    fn drain(&self, drained: bool) -> bool;

    fn is_drained(&self) -> bool;
}

impl Drainable for TrunkStanding {
    fn drain(&self, drained: bool) -> bool {
        self.drained.swap(drained, Relaxed) != drained
    }

    fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }
}

impl Drainable for PeerStanding {
    fn drain(&self, drained: bool) -> bool {
        self.drained.swap(drained, Relaxed) != drained
    }

    fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }
}

impl TargetState {
    /// Metric label and the word in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl TargetStanding {
    pub fn state(&self) -> TargetState {
        match self.state.load(Relaxed) {
            1 => TargetState::Up,
            2 => TargetState::Down,
            _ => TargetState::Unknown,
        }
    }

    /// Whether new calls may be sent there.
    pub fn serves(&self, now: Time) -> bool {
        self.state() != TargetState::Down && self.rest(now).is_none()
    }

    /// How long it still wants no new calls.
    pub fn rest(&self, now: Time) -> Option<Duration> {
        let left = Time(self.rests_until.load(Relaxed)).since(now);
        (!left.is_zero()).then_some(left)
    }

    /// It asked for no new calls until then (503 with Retry-After, RFC 3261 section 21.5.4).
    pub fn rest_until(&self, until: Time) {
        self.rests_until.fetch_max(until.0, Relaxed);
    }

    /// Status of the last answer to an OPTIONS of ours, and when that was sent; no status where none came.
    pub fn last_probe(&self) -> Option<(Time, Option<u16>)> {
        let at = self.last_asked.load(Relaxed);
        let status = self.last_answer.load(Relaxed);
        (at > 0).then_some((Time(at), (status > 0).then_some(status)))
    }

    /// `None` where nobody registers.
    pub fn registration(&self) -> Option<RegistrationState> {
        match self.registration.load(Relaxed) {
            1 => Some(RegistrationState::Unregistered),
            2 => Some(RegistrationState::Registered),
            3 => Some(RegistrationState::Failed),
            _ => None,
        }
    }

    pub(super) fn set_registration(&self, state: RegistrationState) {
        self.registration.store(state as u8 + 1, Relaxed);
    }

    pub(super) fn set_state(&self, state: TargetState) {
        self.state.store(state as u8, Relaxed);
    }

    pub(super) fn note_probe(&self, at: Time, status: Option<u16>) {
        self.last_asked.store(at.0, Relaxed);
        self.last_answer.store(status.unwrap_or(0), Relaxed);
    }
}

/// A trunk's standing, with its peers in the order of the settings.
#[derive(Clone, Debug)]
pub(super) struct LiveTrunk {
    pub(super) standing: Arc<TrunkStanding>,
    pub(super) peers: Vec<LivePeer>,
}

/// A peer's standing, and what its name means now.
#[derive(Clone, Debug)]
pub(super) struct LivePeer {
    pub(super) standing: Arc<PeerStanding>,
    pub(super) targets: Arc<[Target]>,
}

impl LiveTrunk {
    /// At the start: names mean nothing yet.
    pub(super) fn new(trunk: &Trunk) -> Self {
        let peers = trunk.peers.iter().map(|peer| LivePeer::new(&peer.address));
        Self { standing: Arc::default(), peers: peers.collect() }
    }

    /// Goes on with what is known of `old`, which `before` was the settings of: peers keep it by name, their targets
    /// by address.
    pub(super) fn succeed(&mut self, trunk: &Trunk, before: &Trunk, old: &Self) {
        self.standing = Arc::clone(&old.standing);
        for (peer, live) in trunk.peers.iter().zip(&mut self.peers) {
            let found = before.peers.iter().zip(&old.peers).find(|(other, _)| other.name == peer.name);
            let Some((other, known)) = found else { continue };
            live.standing = Arc::clone(&known.standing);
            if other.address == peer.address {
                live.targets = Arc::clone(&known.targets);
            }
        }
    }
}

impl LivePeer {
    fn new(address: &PeerAddress) -> Self {
        let targets = match address {
            PeerAddress::Address(address) => [Target::at(*address)].into(),
            PeerAddress::Host { .. } | PeerAddress::Service(_) => [].into(),
        };
        Self { standing: Arc::default(), targets }
    }

    /// Takes what its name means now; addresses that it meant before keep their standing.
    pub(super) fn resolve(&mut self, found: &[Resolved]) {
        let target = |found: &Resolved| {
            let mut target = Target::new(*found);
            if let Some(known) = self.targets.iter().find(|known| known.address == found.address) {
                target.standing = Arc::clone(&known.standing);
            }
            target
        };
        self.targets = found.iter().map(target).collect();
    }
}
