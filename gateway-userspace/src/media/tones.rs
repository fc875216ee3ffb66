//! What peers of a trunk hear of the network, where it falls to us to play it.

use crate::signal::tone::{Announcement, Plan, Signal, Source};
use std::collections::BTreeMap;
use std::time::Duration;

/// A trunk's say about tones that are played to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tones {
    /// Of the country that they are used to.
    pub plan: Plan,
    /// Its callers hear ringback from us when the called party rings: their network does not ring by itself.
    pub on_ringing: bool,
    /// Its callers hear ringback after early media was announced and nothing came for so long; `None` leaves them to wait.
    pub on_silence: Option<Duration>,
    /// Its peers hear ringback while who they are transferred to rings.
    pub on_transfer: bool,
    /// Its callers hear for so long that the called party is busy, or that the network cannot carry the call, before they
    /// are refused; `None` refuses at once.
    pub on_refusal: Option<Duration>,
    /// What they hear in place of that, by the status code of the refusal.
    pub announcements: BTreeMap<u16, Announcement>,
}

impl Tones {
    /// The tones of a plan, as usual where the network rings by itself.
    pub fn of(plan: Plan) -> Self {
        Self {
            plan,
            on_ringing: false,
            on_silence: Some(Duration::from_secs(2)),
            on_transfer: true,
            on_refusal: None,
            announcements: BTreeMap::new(),
        }
    }

    /// What a caller hears before it is refused with `status`, and how long that takes at most.
    pub fn refusal(&self, status: u16) -> Option<(Source, Duration)> {
        if let Some(announcement) = self.announcements.get(&status) {
            return Some((Source::Announcement(announcement.clone()), announcement.length()));
        }
        let signal = match status {
            486 | 600 => Signal::Busy,
            500..=599 => Signal::Congestion,
            _ => return None,
        };
        Some((Source::Cadence(self.plan.cadence(signal).clone()), self.on_refusal?))
    }
}
