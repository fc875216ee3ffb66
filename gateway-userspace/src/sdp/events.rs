//! Telephone-events beside the codecs that both sides speak (RFC 4733): what is offered and taken of our own accord, where
//! keys are converted between the two sides of a call.

use super::model::Format;
use super::transcoding::KEYS;
use crate::rtp::{Codec, Encoding};

/// A number for them where the peer has none yet, as nearly everybody has it.
const PAYLOAD_TYPE: u8 = 101;

/// How keys travel between us and the peers of a trunk, as far as descriptions are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyTerms {
    /// As both sides of a call agree.
    #[default]
    Pass,
    /// As telephone-events, wherever the peer has those.
    Events,
    /// In the audio, or by signalling.
    Otherwise,
}

impl KeyTerms {
    /// Whether peers of a trunk with these terms have telephone-events where those of the other side, with its terms, have
    /// none: keys of the one become keys of the other then.
    fn are_ours(self, other: Self) -> bool {
        self == Self::Events || (self, other) == (Self::Pass, Self::Otherwise)
    }

    /// What its peer is offered, with events at the clock of each codec (RFC 4733 section 2.1).
    pub(super) fn offer(self, other: Self, mut formats: Vec<Format>) -> Vec<Format> {
        if !self.are_ours(other) || formats.iter().any(is_events) {
            return formats;
        }
        let mut clock_rates: Vec<u32> = Vec::new();
        for format in formats.iter().filter(|format| format.codec.encoding.is_speech()) {
            if !clock_rates.contains(&format.codec.clock_rate) {
                clock_rates.push(format.codec.clock_rate);
            }
        }
        formats.extend(clock_rates.into_iter().map(|clock_rate| Format {
            payload_type: PAYLOAD_TYPE,
            codec: Codec::mono(Encoding::TelephoneEvent, clock_rate),
            fmtp: Some(KEYS.into()),
        }));
        formats
    }

    /// What is taken of them beside `formats` of an offer that has these.
    pub(super) fn accept(self, other: Self, formats: &[Format], offered: &[Format]) -> Option<Format> {
        if !self.are_ours(other) || formats.iter().any(is_events) {
            return None;
        }
        beside(formats, offered)
    }
}

/// Of the events that are offered, those at the clock of the speech: a stream has one (RFC 4733 section 2.1); some peers of
/// wideband codecs have events at 8 kHz alone.
pub(super) fn beside(speech: &[Format], offered: &[Format]) -> Option<Format> {
    let clock_rate = speech.iter().find(|format| format.codec.encoding.is_speech())?.codec.clock_rate;
    let mut events = offered.iter().filter(|format| is_events(format));
    let same = events.clone().find(|format| format.codec.clock_rate == clock_rate);
    let chosen = same.or_else(|| events.next())?;
    Some(Format { fmtp: Some(KEYS.into()), ..chosen.clone() })
}

fn is_events(format: &Format) -> bool {
    format.codec.encoding == Encoding::TelephoneEvent
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyTerms::{Events, Otherwise, Pass};

    fn format(payload_type: u8, codec: &str) -> Format {
        Format { payload_type, codec: codec.parse().unwrap(), fmtp: None }
    }

    fn names(formats: impl IntoIterator<Item = Format>) -> Vec<String> {
        formats.into_iter().map(|format| format.codec.to_string()).collect()
    }

    #[test]
    fn who_has_events_of_our_own_accord_is_offered_them_and_may_offer_them() {
        let speech = vec![format(0, "PCMU/8000")];
        let offered = [format(0, "PCMU/8000"), format(96, "telephone-event/8000")];
        for (own, other, has) in [
            (Pass, Pass, false),
            (Pass, Events, false),
            (Pass, Otherwise, true),
            (Events, Pass, true),
            (Events, Events, true),
            (Events, Otherwise, true),
            (Otherwise, Pass, false),
            (Otherwise, Events, false),
            (Otherwise, Otherwise, false),
        ] {
            let offer = names(own.offer(other, speech.clone()));
            assert_eq!(offer.contains(&"telephone-event/8000".to_owned()), has, "{own:?} {other:?}");
            let accepted = own.accept(other, &speech, &offered);
            assert_eq!(accepted.map(|format| format.payload_type), has.then_some(96), "{own:?} {other:?}");
        }
    }

    #[test]
    fn events_have_the_clock_of_the_speech_and_are_there_once() {
        let speech = vec![format(96, "opus/48000/2"), format(0, "PCMU/8000"), format(8, "PCMA/8000")];
        let events = ["telephone-event/48000", "telephone-event/8000"];
        let offer = Events.offer(Pass, speech);
        assert_eq!(names(offer.clone())[3..], events);
        assert_eq!(Events.offer(Pass, offer.clone()), offer);
        assert_eq!(Events.accept(Pass, &offer, &offer), None);
        let taken = |speech: &[Format], offered: &[Format]| names(Events.accept(Pass, speech, offered));
        assert_eq!(taken(&offer[..1], &offer), ["telephone-event/48000"]);
        assert_eq!(taken(&offer[1..2], &offer), ["telephone-event/8000"]);
        assert_eq!(taken(&[format(9, "AMR-WB/16000")], &offer[4..]), ["telephone-event/8000"]);
        assert_eq!(taken(&offer[1..2], &offer[..3]), [""; 0]);
    }
}
