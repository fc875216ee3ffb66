//! Plans of calls in which a peer hears something of our own instead of the other one.

use super::bridging::settings;
use super::{BridgeSpec, Bridged, FlowKind, GateSpec, LegMedia, MediaPlan, nobody};
use crate::base::id::Side;
use crate::media::bridge::{KeysFrom, KeysTo, LegSettings};
use std::sync::Arc;

/// What is known of the peer that is not heard meanwhile, or heard when it begins to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opposite {
    /// It is where the plan says.
    Present,
    /// It has not agreed to anything that it could be heard by.
    Unheard,
    /// It has left: nothing is sent to it either.
    Gone,
}

impl MediaPlan {
    /// The same with something between the two peers that can play to the one of `to`, who is `hearer`. What stands between
    /// them already does; else it is put there, and does not change what they say.
    ///
    /// `None` where that peer takes no media, or no speech that we can code.
    pub fn playing(
        mut self,
        to: Side,
        (hearer, other): (LegMedia<'_>, LegMedia<'_>),
        opposite: Opposite,
    ) -> Option<Self> {
        if !hearer.negotiated.direction.receives() {
            return None;
        }
        let own = settings(hearer)?;
        let beyond = settings(other).filter(|_| opposite == Opposite::Present);
        let beyond = beyond.unwrap_or_else(|| unheard(&own));
        let is_bridged = self.flows.iter().any(|flow| flow.bridge.is_some());
        if !is_bridged || opposite != Opposite::Present {
            let (caller, callee) = if to == Side::Caller { (own, beyond) } else { (beyond, own) };
            let spec = Arc::new(BridgeSpec { why: Bridged::Tones, caller, callee });
            for flow in &mut self.flows {
                flow.bridge = Some(Arc::clone(&spec));
                if flow.kind != FlowKind::Rtcp {
                    let near = if flow.from == to { hearer } else { other };
                    flow.payload_types = super::bridging::payload_types(near.negotiated);
                }
            }
        }
        for flow in &mut self.flows {
            if flow.from != to {
                // It leads to the hearer, whatever the other one has said of its own media.
                flow.muted = false;
                if opposite != Opposite::Present {
                    flow.payload_types = Vec::new();
                    if flow.checks.is_none() {
                        flow.gate = GateSpec::Exact(nobody(flow.at.ip()));
                    }
                }
            } else if opposite == Opposite::Gone {
                (flow.rtp, flow.rtcp) = (None, None);
            }
        }
        Some(self)
    }
}

/// A leg whose peer says nothing that could be told from anything.
fn unheard(hearer: &LegSettings) -> LegSettings {
    LegSettings {
        speech_from: [None, None],
        comfort_noise: None,
        events: None,
        keys_from: KeysFrom::Packets,
        keys_to: KeysTo::Signalling,
        ..hearer.clone()
    }
}
