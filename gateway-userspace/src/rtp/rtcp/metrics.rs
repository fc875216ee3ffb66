//! The VoIP metrics block of an extended report (RFC 3611 section 4.7): what a receiver has to say of speech.

use std::time::Duration;

/// Octets of the block with its header.
pub(super) const LENGTH: usize = 36;
pub(super) const BLOCK_TYPE: u8 = 7;
/// Of levels and ratings that are not measured.
const UNAVAILABLE: u8 = 127;
/// Losses are concealed by the usual means of a codec, and the jitter buffer adapts, at no rate that would be told.
const PLAYED: u8 = 0b11 << 6 | 0b11 << 4;
/// Neither is known of who plays it.
const PASSED_ON: u8 = 0;

/// Of the stream that is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VoipMetrics {
    /// Shares of the packets, 0 to 1: those that never came, and those that came too late.
    pub loss: f64,
    pub discard: f64,
    pub burst: Stretch,
    pub gap: Stretch,
    /// Fewest packets between two bursts.
    pub gmin: u8,
    /// From one end of RTP to the other and back, and inside this end; zero where it is not known.
    pub round_trip: Duration,
    pub end_system: Duration,
    /// R of ITU-T G.107, 0 to 100, and the mean opinion scores of listening and conversation, 1 to 5.
    pub rating: f64,
    pub listening: f64,
    pub conversation: f64,
    /// `None` where the stream is passed on as it comes.
    pub jitter_buffer: Option<JitterBuffer>,
}

/// Delay of a jitter buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JitterBuffer {
    /// To begin with.
    pub nominal: Duration,
    pub most: Duration,
}

/// The bursts, or the gaps between them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stretch {
    /// Share of the packets in them that were not heard, 0 to 1.
    pub density: f64,
    /// Of one of them, on average.
    pub duration: Duration,
}

impl VoipMetrics {
    /// The block, of the source with this SSRC.
    pub(super) fn write(&self, body: &mut Vec<u8>, ssrc: u32) {
        // The length counts words after the first.
        body.extend([BLOCK_TYPE, 0, 0, LENGTH as u8 / 4 - 1]);
        body.extend(ssrc.to_be_bytes());
        body.extend([self.loss, self.discard, self.burst.density, self.gap.density].map(fraction));
        for span in [self.burst.duration, self.gap.duration, self.round_trip, self.end_system] {
            body.extend(milliseconds(span));
        }
        let score = |score: f64| (score * 10.0).round() as u8;
        body.extend([UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, self.gmin]);
        body.extend([self.rating.clamp(0.0, 100.0).round() as u8, UNAVAILABLE]);
        body.extend([self.listening, self.conversation].map(score));
        body.extend([if self.jitter_buffer.is_some() { PLAYED } else { PASSED_ON }, 0]);
        let JitterBuffer { nominal, most } = self.jitter_buffer.unwrap_or_default();
        for span in [nominal, most, most] {
            body.extend(milliseconds(span));
        }
    }
}

/// In 1/256.
fn fraction(share: f64) -> u8 {
    (share * 256.0) as u8
}

fn milliseconds(span: Duration) -> [u8; 2] {
    u16::try_from(span.as_millis()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_stands_where_rfc_3611_has_it() {
        let span = Duration::from_millis;
        let metrics = VoipMetrics {
            loss: 0.5,
            discard: 0.25,
            burst: Stretch { density: 0.75, duration: span(0x102) },
            gap: Stretch { density: 0.125, duration: span(0x304) },
            gmin: 16,
            round_trip: span(0x506),
            end_system: span(0x708),
            rating: 80.4,
            listening: 4.02,
            conversation: 3.96,
            jitter_buffer: Some(JitterBuffer { nominal: span(40), most: span(240) }),
        };
        let mut block = Vec::new();
        metrics.write(&mut block, 0xa1b2_c3d4);
        #[rustfmt::skip]
        let expected = [
            7, 0, 0, 8,
            0xa1, 0xb2, 0xc3, 0xd4,
            128, 64, 192, 32,
            1, 2, 3, 4,
            5, 6, 7, 8,
            127, 127, 127, 16,
            80, 127, 40, 40,
            0xf0, 0, 0, 40,
            0, 240, 0, 240,
        ];
        assert_eq!(block, expected);
        assert_eq!(block.len(), LENGTH);

        let mut relayed = Vec::new();
        VoipMetrics { jitter_buffer: None, ..metrics }.write(&mut relayed, 0xa1b2_c3d4);
        assert_eq!((&relayed[..28], &relayed[28..]), (&expected[..28], &[0; 8][..]));
    }

    #[test]
    fn what_is_beyond_a_field_stays_at_its_bound() {
        let long = Duration::from_secs(100);
        let metrics = VoipMetrics { loss: 1.0, round_trip: long, rating: -5.0, ..VoipMetrics::default() };
        let mut block = Vec::new();
        metrics.write(&mut block, 1);
        assert_eq!((block[8], &block[16..18], block[24]), (255, &[0xff, 0xff][..], 0));
    }
}
