//! When two formats are the same, so that packets of one can be relayed as the other without a codec.

use super::model::Format;
use crate::rtp::{Codec, Encoding, codec};

/// Whether packets of both have one meaning: equal encoding, clock and channels, and equal values of those
/// `a=fmtp` parameters that change the payload itself.
pub(super) fn same_payload(one: (&Codec, Option<&str>), other: (&Codec, Option<&str>)) -> bool {
    one.0 == other.0
        && shaping_parameters(&one.0.encoding)
            .iter()
            .all(|(name, default)| parameter(one.1, name, default) == parameter(other.1, name, default))
}

/// Position among `candidates` of the format that `wanted` stands for; those whose position `taken` holds are
/// left out. The same number first, then the same parameters, then the first that has the same payload.
pub(super) fn counterpart(wanted: &Format, candidates: &[Format], taken: &[usize]) -> Option<usize> {
    let payload = |format: &Format| {
        same_payload((&wanted.codec, wanted.fmtp.as_deref()), (&format.codec, format.fmtp.as_deref()))
    };
    let same = |position: &usize| !taken.contains(position) && candidates.get(*position).is_some_and(payload);
    let find = |test: &dyn Fn(&Format) -> bool| {
        (0..candidates.len()).filter(same).find(|position| candidates.get(*position).is_some_and(test))
    };
    find(&|format| format.payload_type == wanted.payload_type)
        .or_else(|| find(&|format| format.fmtp == wanted.fmtp))
        .or_else(|| find(&|_| true))
}

/// Parameters that change the layout of the payload, with their defaults. All others (modes, bit rates,
/// `annexb`, event lists, what a decoder likes) are the two ends' own business and pass through.
fn shaping_parameters(encoding: &Encoding) -> &'static [(&'static str, &'static str)] {
    match encoding {
        // RFC 4867 section 8.1; interleaving has no value for "off".
        Encoding::Amr | Encoding::AmrWb => {
            &[("octet-align", "0"), ("crc", "0"), ("robust-sorting", "0"), ("interleaving", "")]
        }
        // RFC 5577 section 5.1: the bit rate is the length of the frame.
        Encoding::G7221 => &[("bitrate", "")],
        _ => &[],
    }
}

fn parameter<'a>(fmtp: Option<&'a str>, name: &str, default: &'a str) -> &'a str {
    fmtp.and_then(|fmtp| codec::parameter(fmtp, name)).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(payload_type: u8, codec: &str, fmtp: &str) -> Format {
        let fmtp = (!fmtp.is_empty()).then(|| fmtp.into());
        Format { payload_type, codec: codec.parse().unwrap(), fmtp }
    }

    #[test]
    fn formats_are_the_same_when_their_payloads_are() {
        let table = [
            ("PCMU/8000", "", "pcmu/8000/1", "", true),
            ("PCMU/8000", "", "PCMA/8000", "", false),
            ("telephone-event/8000", "0-15", "telephone-event/8000", "0-16", true),
            ("telephone-event/8000", "0-15", "telephone-event/16000", "0-15", false),
            ("opus/48000/2", "useinbandfec=1", "opus/48000/2", "", true),
            ("opus/48000/2", "", "opus/48000", "", false),
            ("G729/8000", "annexb=no", "G729/8000", "", true),
            ("AMR/8000", "octet-align=1", "AMR/8000", "mode-set=0; Octet-Align=1", true),
            ("AMR/8000", "octet-align=1", "AMR/8000", "", false),
            ("AMR/8000", "octet-align=0", "AMR/8000", "", true),
            ("AMR-WB/16000", "octet-align=1;interleaving=30", "AMR-WB/16000", "octet-align=1", false),
            ("G7221/16000", "bitrate=32000", "G7221/16000", "bitrate=24000", false),
        ];
        for (one, one_fmtp, other, other_fmtp, same) in table {
            let (one, other) = (format(96, one, one_fmtp), format(97, other, other_fmtp));
            let payload = |format: &Format| (format.codec.clone(), format.fmtp.clone());
            let ((one, one_fmtp), (other, other_fmtp)) = (payload(&one), payload(&other));
            let result = same_payload((&one, one_fmtp.as_deref()), (&other, other_fmtp.as_deref()));
            assert_eq!(result, same, "{one} {one_fmtp:?} against {other} {other_fmtp:?}");
        }
    }

    #[test]
    fn the_same_number_is_preferred_to_the_same_parameters_and_that_to_the_first() {
        let opus = |number, fmtp| format(number, "opus/48000/2", fmtp);
        let candidates = [opus(96, "stereo=0"), opus(97, "stereo=1"), opus(98, "")];
        assert_eq!(counterpart(&opus(98, "stereo=1"), &candidates, &[]), Some(2));
        assert_eq!(counterpart(&opus(111, "stereo=1"), &candidates, &[]), Some(1));
        assert_eq!(counterpart(&opus(111, "cbr=1"), &candidates, &[]), Some(0));
        assert_eq!(counterpart(&opus(111, "cbr=1"), &candidates, &[0, 1, 2]), None);
        // A number alone says nothing.
        assert_eq!(counterpart(&format(96, "G722/8000", ""), &candidates, &[]), None);
    }
}
