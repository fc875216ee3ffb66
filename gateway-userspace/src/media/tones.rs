//! What peers of a trunk hear of the network, where it falls to us to play it.

use crate::signal::tone::Plan;
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
}

impl Tones {
    /// The tones of a plan, as usual where the network rings by itself.
    pub fn of(plan: Plan) -> Self {
        Self { plan, on_ringing: false, on_silence: Some(Duration::from_secs(2)), on_transfer: true }
    }
}
