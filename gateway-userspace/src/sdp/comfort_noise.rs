//! Comfort noise beside the codecs that both sides speak (RFC 3389): what is offered and taken of our own accord.

use super::model::Format;
use crate::rtp::{Codec, Encoding};

/// Its static payload type (RFC 3551 section 6).
const PAYLOAD_TYPE: u8 = 13;
const CLOCK_RATE: u32 = 8_000;

/// What becomes of comfort noise toward the peers of a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseTerms {
    /// It is between the two sides of a call.
    #[default]
    Pass,
    /// Its peers are offered it, and offers of it are taken, also where the other side has none. What they send of it then
    /// ends here.
    Offer,
    /// As well, and it is made where the other side falls silent, and made audible where that side has none.
    Make,
}

impl NoiseTerms {
    /// What its peer is offered, with comfort noise where there is speech that it goes with.
    pub(super) fn offer(self, mut formats: Vec<Format>) -> Vec<Format> {
        if self.is_ours() && formats.iter().any(goes_with) && !formats.iter().any(is_noise) {
            formats.push(Format {
                payload_type: PAYLOAD_TYPE,
                codec: Codec::mono(Encoding::ComfortNoise, CLOCK_RATE),
                fmtp: None,
            });
        }
        formats
    }

    /// What is taken of it beside `formats` of an offer that has these.
    pub(super) fn accept(self, formats: &[Format], offered: &[Format]) -> Option<Format> {
        let is_wanted = self.is_ours() && formats.iter().any(goes_with) && !formats.iter().any(is_noise);
        offered.iter().find(|format| is_wanted && is_noise(format)).cloned()
    }

    fn is_ours(self) -> bool {
        self != Self::Pass
    }
}

fn is_noise(format: &Format) -> bool {
    format.codec.encoding == Encoding::ComfortNoise && format.codec.clock_rate == CLOCK_RATE
}

/// Speech at its clock (RFC 3389 section 4).
fn goes_with(format: &Format) -> bool {
    format.codec.encoding.is_speech() && format.codec.clock_rate == CLOCK_RATE
}
