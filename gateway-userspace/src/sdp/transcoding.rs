//! Codecs beside those that both sides speak: what an offer names of our own, and what an answer takes where nothing is
//! common. Audio then goes through a codec of ours.

use super::events;
use super::leg::Terms;
use super::model::{Audio, Format};
use crate::codec::Coding;
use crate::rtp::{Codec, Encoding};

/// When the peers of a trunk may speak another codec than the other side of their call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transcoding {
    /// Calls without a common codec are refused.
    #[default]
    Never,
    /// Offers name the trunk's own codecs behind those of the other side.
    WhenNeeded,
    /// Offers name the trunk's codecs in its order, whatever the other side prefers.
    Always,
}

/// Events that a telephone's keys make (RFC 4733 section 3.2).
pub(super) const KEYS: &str = "0-15";

impl Terms {
    /// Whether calls between the trunks of both may go through a codec of ours.
    pub(super) fn transcodes(&self, other: &Self) -> bool {
        self.transcoding != Transcoding::Never && other.transcoding != Transcoding::Never
    }

    /// What the peer of this leg is offered where the one of `other` speaks `formats`: those that both trunks allow, in
    /// this one's order, and codecs that audio can be turned into: those of this trunk, and `known`, which the peer has
    /// agreed to before. Speech first.
    pub(super) fn offer(&self, other: &Self, formats: &[Format], known: &[Format]) -> Vec<Format> {
        let allowed = formats.iter().filter(|format| self.allow(format) && other.allow(format)).cloned();
        // Without codecs of its own there is neither an order nor anything to add.
        if self.codecs.is_none() && (known.is_empty() || !self.transcodes(other)) {
            return self.beside(other, allowed.collect());
        }
        let (mut speech, mut beside): (Vec<_>, Vec<_>) =
            allowed.partition(|format| format.codec.encoding.is_speech());
        self.sort(&mut speech);
        // A side that speaks nothing we read cannot be translated.
        let readable = || formats.iter().any(|format| other.allow(format) && is_codable(format));
        if self.transcodes(other) && readable() {
            let is_named = |speech: &[Format], own: &Format| {
                speech.iter().any(|format| format.codec.encoding == own.codec.encoding)
            };
            let known = known.iter().filter(|format| format.codec.encoding.is_speech() && is_codable(format));
            let own: Vec<_> =
                known.cloned().chain(self.own()).filter(|own| !is_named(&speech, own)).collect();
            speech.extend(own);
            if self.transcoding == Transcoding::Always {
                self.sort(&mut speech);
            }
            add_events(&speech, &mut beside);
        }
        speech.extend(beside);
        self.beside(other, speech)
    }

    /// What the peer of this leg is offered, with what is beside speech of our own accord.
    pub(super) fn beside(&self, other: &Self, formats: Vec<Format>) -> Vec<Format> {
        self.comfort_noise.offer(self.keys.offer(other.keys, formats))
    }

    /// Formats of an answer to `offer` where the other side has nothing of it: the first speech that can be read and
    /// written here, and keys and comfort noise beside it.
    pub(super) fn answer(&self, offer: &Audio) -> Vec<Format> {
        let mut speech: Vec<_> =
            offer.formats.iter().filter(|format| self.allow(format) && is_codable(format)).cloned().collect();
        self.sort(&mut speech);
        speech.truncate(1);
        let Some(clock_rate) = speech.first().map(|format| format.codec.clock_rate) else { return speech };
        let events = events::beside(&speech, &offer.formats);
        let goes_with = |format: &&Format| {
            format.codec.encoding == Encoding::ComfortNoise && format.codec.clock_rate == clock_rate
        };
        let noise = offer.formats.iter().find(goes_with).cloned();
        speech.extend(events.into_iter().chain(noise));
        speech
    }

    /// Brings formats of speech into the order of the trunk's codecs, where it has one.
    fn sort(&self, speech: &mut [Format]) {
        let Some(codecs) = &self.codecs else { return };
        speech.sort_by_key(|format| codecs.iter().position(|codec| *codec == format.codec.encoding));
    }

    /// The trunk's codecs that audio can be coded in here, as we describe them.
    fn own(&self) -> impl Iterator<Item = Format> {
        self.codecs.iter().flatten().flat_map(described).filter(is_codable)
    }
}

/// Whether audio can be read from and written into packets of this format.
pub(super) fn is_codable(format: &Format) -> bool {
    Coding::of(&format.codec, format.fmtp.as_deref()).is_ok()
}

/// How we describe an encoding of our own accord. Numbers above 95 are wishes.
fn described(encoding: &Encoding) -> Vec<Format> {
    let format = |payload_type, codec: Codec, fmtp: &str| Format {
        payload_type,
        codec,
        fmtp: (!fmtp.is_empty()).then(|| fmtp.into()),
    };
    let mono = |clock_rate| Codec::mono(encoding.clone(), clock_rate);
    match encoding {
        Encoding::Pcmu => vec![format(0, mono(8_000), "")],
        Encoding::Pcma => vec![format(8, mono(8_000), "")],
        Encoding::G722 => vec![format(9, mono(8_000), "")],
        Encoding::G729 => vec![format(18, mono(8_000), "")],
        // RFC 7587 section 7: two channels, whatever is sent.
        Encoding::Opus => {
            vec![format(96, Codec { channels: 2, ..mono(48_000) }, "useinbandfec=1")]
        }
        // Either layout of the payload is another format (RFC 4867 section 8.3.1): terminals of mobile networks have one
        // or the other. Modes may change at any frame boundary that the peer names.
        Encoding::Amr | Encoding::AmrWb => {
            let clock_rate = if *encoding == Encoding::Amr { 8_000 } else { 16_000 };
            vec![
                format(97, mono(clock_rate), "mode-change-capability=2"),
                format(98, mono(clock_rate), "octet-align=1;mode-change-capability=2"),
            ]
        }
        Encoding::Silk => vec![format(103, mono(16_000), ""), format(104, mono(8_000), "")],
        _ => Vec::new(),
    }
}

/// Keys at the clock of each codec (RFC 4733 section 2.1), where the other side has keys as events at all.
fn add_events(speech: &[Format], beside: &mut Vec<Format>) {
    let events = |format: &&Format| format.codec.encoding == Encoding::TelephoneEvent;
    let Some(known) = beside.iter().find(events).cloned() else { return };
    for clock_rate in speech.iter().map(|format| format.codec.clock_rate) {
        if beside.iter().filter(events).all(|format| format.codec.clock_rate != clock_rate) {
            let codec = Codec { clock_rate, ..known.codec.clone() };
            beside.push(Format { payload_type: 101, codec, fmtp: Some(KEYS.into()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(payload_type: u8, codec: &str, fmtp: &str) -> Format {
        let fmtp = (!fmtp.is_empty()).then(|| fmtp.into());
        Format { payload_type, codec: codec.parse().unwrap(), fmtp }
    }

    fn terms(codecs: &[&str], transcoding: Transcoding) -> Terms {
        let codecs = (!codecs.is_empty()).then(|| codecs.iter().map(|name| Encoding::named(name)).collect());
        Terms { codecs, transcoding, ..Terms::default() }
    }

    fn names(formats: &[Format]) -> Vec<String> {
        formats.iter().map(|format| format.codec.to_string()).collect()
    }

    fn offered(own: &Terms, formats: &[Format]) -> Vec<String> {
        names(&own.offer(&terms(&[], Transcoding::WhenNeeded), formats, &[]))
    }

    #[test]
    fn each_policy_offers_what_it_says() {
        let formats = [
            format(0, "PCMU/8000", ""),
            format(9, "G722/8000", ""),
            format(101, "telephone-event/8000", "0-16"),
        ];
        let codecs = ["PCMA", "G722", "PCMU"];
        let table = [
            (Transcoding::Never, vec!["G722/8000", "PCMU/8000", "telephone-event/8000"]),
            (Transcoding::WhenNeeded, vec!["G722/8000", "PCMU/8000", "PCMA/8000", "telephone-event/8000"]),
            (Transcoding::Always, vec!["PCMA/8000", "G722/8000", "PCMU/8000", "telephone-event/8000"]),
        ];
        for (transcoding, expected) in table {
            assert_eq!(offered(&terms(&codecs, transcoding), &formats), expected, "{transcoding:?}");
        }
        assert_eq!(
            offered(&terms(&[], Transcoding::WhenNeeded), &formats),
            ["PCMU/8000", "G722/8000", "telephone-event/8000"],
            "a trunk that names no codecs adds none, and leaves the order"
        );
    }

    #[test]
    fn one_trunk_that_never_transcodes_is_enough() {
        let formats = [format(0, "PCMU/8000", "")];
        let own = terms(&["PCMA"], Transcoding::WhenNeeded);
        assert!(own.offer(&terms(&[], Transcoding::Never), &formats, &[]).is_empty());
        let known = [format(0, "PCMU/8000", "")];
        let bare = terms(&[], Transcoding::WhenNeeded);
        assert_eq!(
            names(&bare.offer(&bare, &[format(9, "G722/8000", "")], &known)),
            ["G722/8000", "PCMU/8000"]
        );
        assert_eq!(offered(&own, &formats), ["PCMA/8000"]);
        assert_eq!(offered(&own, &[format(96, "EVS/16000", "")]), [""; 0], "nobody here reads it");
    }

    #[cfg(feature = "opus")]
    // Statement 163.
    #[test]
    fn keys_are_offered_at_the_clock_of_each_codec_where_the_other_side_has_them() {
        let own = terms(&["opus", "PCMA"], Transcoding::Always);
        let keys = format(101, "telephone-event/8000", "0-15");
        assert_eq!(
            offered(&own, &[format(0, "PCMU/8000", ""), keys]),
            ["opus/48000/2", "PCMA/8000", "telephone-event/8000", "telephone-event/48000"]
        );
        assert_eq!(offered(&own, &[format(0, "PCMU/8000", "")]), ["opus/48000/2", "PCMA/8000"]);
    }

    #[cfg(feature = "amr")]
    #[test]
    fn adaptive_codecs_are_offered_in_both_layouts() {
        let offer = terms(&["AMR-WB"], Transcoding::WhenNeeded).offer(
            &terms(&[], Transcoding::WhenNeeded),
            &[format(0, "PCMU/8000", "")],
            &[],
        );
        let fmtp: Vec<_> = offer.iter().filter_map(|format| format.fmtp.as_deref()).collect();
        assert_eq!(fmtp, ["mode-change-capability=2", "octet-align=1;mode-change-capability=2"]);
    }

    // Statement 151.
    #[test]
    fn an_answer_takes_the_first_codec_that_is_here_and_what_goes_with_it() {
        let offer = |formats: &[Format]| {
            let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
            let description = crate::sdp::parse(text.as_bytes()).unwrap();
            Audio { formats: formats.to_vec(), ..description.audio }
        };
        let formats = [
            format(95, "SILK/16000", ""),
            format(96, "EVS/16000", ""),
            format(9, "G722/8000", ""),
            format(0, "PCMU/8000", ""),
            format(13, "CN/8000", ""),
            format(102, "telephone-event/16000", ""),
            format(101, "telephone-event/8000", "0-16"),
        ];
        let answer = terms(&["G722", "PCMU"], Transcoding::WhenNeeded).answer(&offer(&formats));
        assert_eq!(names(&answer), ["G722/8000", "telephone-event/8000", "CN/8000"]);
        assert_eq!(answer[1].fmtp.as_deref(), Some("0-15"));
        let answer = terms(&["PCMU", "G722"], Transcoding::WhenNeeded).answer(&offer(&formats));
        assert_eq!(names(&answer)[0], "PCMU/8000");
        assert!(terms(&["PCMA"], Transcoding::WhenNeeded).answer(&offer(&formats)).is_empty());
    }
}
