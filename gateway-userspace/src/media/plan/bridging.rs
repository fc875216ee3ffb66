//! Which calls need more between their peers than a relay, and what.

use super::{FlowKind, LegMedia, MediaPlan, PayloadType};
use crate::base::id::Side;
use crate::media::bridge::{KeysFrom, KeysTo, LegSettings, Stream};
use crate::media::policy::KeyTransport;
use crate::rtp::Encoding;
use crate::sdp::{Negotiated, NoiseTerms, Transcoding};
use gateway_common::flow::Punted;
use std::sync::Arc;

/// What stands between the two peers of a call: where their streams begin is of the moment, and not said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSpec {
    pub why: Bridged,
    pub caller: LegSettings,
    pub callee: LegSettings,
}

/// Why packets are not relayed as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridged {
    /// The peers speak different codecs.
    Codec,
    /// Keys travel differently on either side.
    Keys,
    /// A trunk wants packets of another length.
    PacketTime,
    /// One of them hears something of our own.
    Tones,
    /// Silence of one becomes comfort noise for the other.
    Silence,
}

impl Bridged {
    /// Why userspace relays then.
    pub fn punted(self) -> Punted {
        match self {
            Self::Codec => Punted::Codec,
            Self::Keys => Punted::Keys,
            Self::PacketTime => Punted::PacketTime,
            Self::Tones => Punted::Tones,
            Self::Silence => Punted::Silence,
        }
    }
}

impl BridgeSpec {
    pub fn leg(&self, side: Side) -> &LegSettings {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    /// `None` where a relay does.
    fn of(caller: LegMedia<'_>, callee: LegMedia<'_>) -> Option<Self> {
        let why = why(caller, callee)?;
        Some(Self { why, caller: settings(caller)?, callee: settings(callee)? })
    }
}

impl MediaPlan {
    /// The plan of two legs that have agreed, with what stands between them if a relay does not do.
    pub fn bridged(mut self, caller: LegMedia<'_>, callee: LegMedia<'_>) -> Self {
        if self.flows.iter().any(|flow| flow.kind == FlowKind::Udptl) {
            return self;
        }
        let Some(spec) = BridgeSpec::of(caller, callee).map(Arc::new) else { return self };
        for flow in &mut self.flows {
            let near = if flow.from == Side::Caller { caller } else { callee };
            flow.bridge = Some(Arc::clone(&spec));
            if flow.kind != FlowKind::Rtcp {
                flow.payload_types = payload_types(near.negotiated);
            }
        }
        self
    }
}

fn why(caller: LegMedia<'_>, callee: LegMedia<'_>) -> Option<Bridged> {
    let may_transcode = [caller, callee].iter().all(|leg| leg.policy.transcoding != Transcoding::Never);
    let is_strange = |near: &Negotiated, far: &Negotiated| {
        let carried = |format| far.formats.iter().any(|other| other.relays_as(format));
        near.preferred().is_some_and(|format| !carried(format))
    };
    let (of_caller, of_callee) = (caller.negotiated, callee.negotiated);
    if may_transcode && (is_strange(of_caller, of_callee) || is_strange(of_callee, of_caller)) {
        return Some(Bridged::Codec);
    }
    let [one, other] = [caller, callee].map(way);
    let as_negotiated = [caller, callee].iter().all(|leg| leg.policy.keys == KeyTransport::AsNegotiated);
    if one != other && !as_negotiated {
        return Some(Bridged::Keys);
    }
    let too_long = |near: LegMedia<'_>, far: LegMedia<'_>| {
        let wanted = near.policy.packet_ms;
        wanted.is_some_and(|wanted| far.negotiated.ptime.is_some_and(|sent| sent != wanted))
    };
    if too_long(caller, callee) || too_long(callee, caller) {
        return Some(Bridged::PacketTime);
    }
    let hears_noise = |leg: &LegMedia<'_>| {
        let mut formats = leg.negotiated.formats.iter();
        leg.policy.comfort_noise == NoiseTerms::Make
            && formats.any(|format| format.codec.encoding == Encoding::ComfortNoise)
    };
    [caller, callee].iter().any(hears_noise).then_some(Bridged::Silence)
}

/// How keys travel on a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Events,
    Tones,
    Signalling,
}

fn way(leg: LegMedia<'_>) -> Way {
    let has_events =
        leg.negotiated.formats.iter().any(|format| format.codec.encoding == Encoding::TelephoneEvent);
    match leg.policy.keys {
        keys if keys.is_signalling() => Way::Signalling,
        KeyTransport::AsNegotiated | KeyTransport::Events if has_events => Way::Events,
        _ => Way::Tones,
    }
}

pub(super) fn settings(leg: LegMedia<'_>) -> Option<LegSettings> {
    let settings = LegSettings::of(leg.negotiated, Stream::default())?;
    let (keys_from, keys_to) = match way(leg) {
        Way::Events => (KeysFrom::Packets, KeysTo::Events),
        Way::Tones => (KeysFrom::Tones, KeysTo::Tones),
        Way::Signalling => (KeysFrom::Packets, KeysTo::Signalling),
    };
    let packet_ms = leg.policy.packet_ms.map_or(settings.packet_ms, u32::from);
    Some(LegSettings { keys_from, keys_to, packet_ms, ..settings })
}

/// All that the peer may send: none of it goes on by a number of the other side's.
pub(super) fn payload_types(near: &Negotiated) -> Vec<PayloadType> {
    let mut types = Vec::with_capacity(near.formats.len());
    for format in &near.formats {
        for number in [Some(format.from_peer), format.also_from_peer].into_iter().flatten() {
            if types.iter().all(|known: &PayloadType| known.near != number) {
                let event = format.codec.encoding == Encoding::TelephoneEvent && number != 127;
                types.push(PayloadType { near: number, far: number, event });
            }
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use super::super::tests::{callee, caller, format, planned_by};
    use super::*;
    use crate::media::MediaPolicy;
    use crate::sdp::Negotiated;

    fn willing() -> MediaPolicy {
        MediaPolicy { transcoding: Transcoding::WhenNeeded, ..MediaPolicy::default() }
    }

    fn speaking(formats: &[(&str, u8)], negotiated: Negotiated) -> Negotiated {
        let formats = formats.iter().map(|(codec, number)| format(codec, *number, *number)).collect();
        Negotiated { formats, ..negotiated }
    }

    fn why_of(caller: (&Negotiated, &MediaPolicy), callee: (&Negotiated, &MediaPolicy)) -> Option<Bridged> {
        let leg = |(negotiated, policy)| LegMedia { negotiated, policy };
        Some(BridgeSpec::of(leg(caller), leg(callee))?.why)
    }

    #[test]
    fn a_codec_stands_between_peers_that_have_none_in_common_and_else_the_kernel_relays() {
        let pcma = speaking(&[("PCMA/8000", 8), ("telephone-event/8000", 101)], caller(true));
        let renumbered = speaking(&[("PCMA/8000", 98), ("telephone-event/8000", 96)], callee(true));
        let g722 = speaking(&[("G722/8000", 9), ("telephone-event/8000", 101)], callee(true));
        let both = speaking(&[("PCMA/8000", 8), ("G722/8000", 9)], callee(true));
        let (willing, never) = (willing(), MediaPolicy::default());
        assert_eq!(why_of((&pcma, &willing), (&renumbered, &willing)), None);
        assert_eq!(why_of((&pcma, &willing), (&both, &willing)), None);
        assert_eq!(why_of((&pcma, &willing), (&g722, &willing)), Some(Bridged::Codec));
        assert_eq!(why_of((&pcma, &never), (&g722, &willing)), None);
        let evs = speaking(&[("EVS/16000", 97)], callee(true));
        assert_eq!(why_of((&pcma, &willing), (&evs, &willing)), None, "nobody here speaks it");
    }

    #[test]
    fn keys_that_travel_differently_on_either_side_are_converted() {
        let with = speaking(&[("PCMA/8000", 8), ("telephone-event/8000", 101)], caller(true));
        let without = speaking(&[("PCMA/8000", 8)], callee(true));
        let by = |keys| MediaPolicy { keys, ..MediaPolicy::default() };
        use KeyTransport::{AsNegotiated, Events, InBand, Info, Notify};
        let table = [
            (AsNegotiated, AsNegotiated, None),
            (Events, AsNegotiated, Some(Bridged::Keys)),
            (AsNegotiated, InBand, Some(Bridged::Keys)),
            (Info, AsNegotiated, Some(Bridged::Keys)),
            (InBand, InBand, None),
            (Info, Notify, None),
        ];
        for (of_caller, of_callee, expected) in table {
            let found = why_of((&with, &by(of_caller)), (&without, &by(of_callee)));
            assert_eq!(found, expected, "{of_caller:?} and {of_callee:?}");
        }
        assert_eq!(why_of((&with, &by(Events)), (&with, &by(AsNegotiated))), None, "both have events");
    }

    // Statement 154.
    #[test]
    fn packets_of_another_length_are_made_anew_where_a_trunk_wants_so() {
        let teams = MediaPolicy { packet_ms: Some(20), ..MediaPolicy::default() };
        let operator = MediaPolicy::default();
        for (ptime, expected) in [(10, true), (20, false), (30, true), (40, true)] {
            let sends = Negotiated { ptime: Some(ptime), ..caller(true) };
            let receives = callee(true);
            let leg = |negotiated, policy| LegMedia { negotiated, policy };
            let spec = BridgeSpec::of(leg(&sends, &operator), leg(&receives, &teams));
            assert_eq!(
                spec.as_ref().map(|spec| spec.why),
                expected.then_some(Bridged::PacketTime),
                "{ptime}"
            );
            let packets = spec.map(|spec| (spec.caller.packet_ms, spec.callee.packet_ms));
            assert_eq!(packets, expected.then_some((ptime.into(), 20)), "{ptime}");
        }
    }

    #[test]
    fn a_bridge_hears_all_that_its_peers_agreed_to_by_their_own_numbers() {
        let near = speaking(&[("opus/48000/2", 111), ("telephone-event/48000", 110)], caller(false));
        let far = speaking(&[("PCMA/8000", 8)], callee(false));
        let plan = planned_by((&near, &willing()), (&far, &willing()));
        let types: Vec<_> =
            plan.flows[0].payload_types.iter().map(|one| (one.near, one.far, one.event)).collect();
        #[cfg(feature = "opus")]
        assert_eq!(types, [(111, 111, false), (110, 110, true)]);
        assert!(plan.flows.iter().all(|flow| flow.bridge.is_some()), "reports end here too: {types:?}");
        assert_eq!(plan.flows[1].payload_types, []);
    }
}
