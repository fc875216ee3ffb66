//! Round-trip times, from reports and the moments at which what they speak of passed us.

use super::{ReportBlock, SenderInfo};
use crate::base::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Round-trip times between the gateway and one far end, from RTCP that passes through.
///
/// RFC 3550 section 6.4.1 lets a sender subtract: arrival of the report, less the time of its own sender report
/// quoted there, less the time that the far end held it. A relay does the same from the moment when the sender
/// report passed it, by its own clock, so that nobody's clock has to be right. Feed it the sender reports that
/// go *to* the far end and the report blocks that come *from* it.
#[derive(Clone, Debug, Default)]
pub struct RoundTrip {
    /// Sender reports that passed, the last ones last.
    passed: VecDeque<(u32, Time)>,
}

/// Sender reports to remember: a far end reports on the last one or, crossing it, on the one before; two legs
/// of a conference bridge may alternate.
const PASSED_MAX: usize = 4;

impl RoundTrip {
    /// A sender report went by, to the far end.
    pub fn sender_report(&mut self, sender: &SenderInfo, now: Time) {
        if self.passed.len() == PASSED_MAX {
            self.passed.pop_front();
        }
        self.passed.push_back((sender.ntp_middle(), now));
    }

    /// A report block came from the far end. `None` if it quotes no sender report that went by lately, or says
    /// that it held it for longer than it was away.
    pub fn report(&self, block: &ReportBlock, now: Time) -> Option<Duration> {
        if block.last_sender_report == 0 {
            return None;
        }
        let (_, sent) = self.passed.iter().rev().find(|(ntp, _)| *ntp == block.last_sender_report)?;
        let held = Duration::from_micros(u64::from(block.delay_since) * 1_000_000 / 65_536);
        now.since(*sent).checked_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(last_sender_report: u32, delay_since: u32) -> ReportBlock {
        ReportBlock {
            ssrc: 0xb,
            fraction_lost: 0,
            cumulative_lost: 0,
            extended_highest_sequence: 0,
            jitter: 0,
            last_sender_report,
            delay_since,
        }
    }

    #[test]
    fn a_round_trip_is_what_is_left_of_the_time_away() {
        let mut round_trip = RoundTrip::default();
        let sender = |middle: u32| SenderInfo {
            ntp: u64::from(middle) << 16,
            rtp_timestamp: 0,
            packets: 0,
            octets: 0,
        };
        let at = |ms: u64| Time(ms * 1000);
        round_trip.sender_report(&sender(7), at(1000));
        round_trip.sender_report(&sender(8), at(6000));
        let half_a_second = 32_768;
        assert_eq!(round_trip.report(&block(8, half_a_second), at(6540)), Some(Duration::from_millis(40)));
        assert_eq!(round_trip.report(&block(7, 0), at(1100)), Some(Duration::from_millis(100)));
        assert_eq!(round_trip.report(&block(0, 0), at(7000)), None, "none heard yet");
        assert_eq!(round_trip.report(&block(9, 0), at(7000)), None, "another relay's");
        assert_eq!(round_trip.report(&block(8, half_a_second), at(6400)), None, "held longer than away");
        for middle in 10..14 {
            round_trip.sender_report(&sender(middle), at(9000));
        }
        assert_eq!(round_trip.report(&block(8, 0), at(9000)), None, "forgotten");
    }
}
