//! When the next report is due (RFC 3550 sections 6.2, 6.3 and appendix A.7), between two parties.

use crate::base::time::Time;
use crate::base::token::Tokens;
use std::time::Duration;

/// Between reports at least, on average; half of it before the first (RFC 3550 section 6.2).
const LEAST: Duration = Duration::from_secs(5);
/// Octets per second that all reports of a session may take: 5 % of 64 kbit/s of speech with its headers.
const BANDWIDTH: f64 = 500.0;
/// Members of a session of two parties.
const MEMBERS: f64 = 2.0;
/// Timer reconsideration lets intervals converge below what was meant: e - 3/2 (RFC 3550 section 6.3.1).
const COMPENSATION: f64 = std::f64::consts::E - 1.5;
/// UDP and IPv4 headers, which count as well (RFC 3550 section 6.2).
const LOWER_HEADERS: f64 = 28.0;

/// The transmission timer of one participant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// `tp` of the RFC: when a report was sent last, or when the session began.
    last: Time,
    /// `tn`: when the timer runs out.
    next: Time,
    /// `avg_rtcp_size`, lower headers included.
    average_octets: f64,
    initial: bool,
}

impl Schedule {
    pub(super) fn new(now: Time, tokens: &mut Tokens) -> Self {
        // A guess at the first compound: a report with a block, and a name.
        let mut schedule = Self { last: now, next: now, average_octets: 76.0 + LOWER_HEADERS, initial: true };
        schedule.next = now + schedule.interval(0, tokens);
        schedule
    }

    pub(super) fn deadline(&self) -> Time {
        self.next
    }

    /// Whether a report is to be sent now. `senders` of the two that sent RTP lately. A timer that ran out is
    /// reconsidered: what was learned meanwhile may make the interval longer (RFC 3550 section 6.3.6).
    pub(super) fn is_due(&mut self, now: Time, senders: usize, tokens: &mut Tokens) -> bool {
        if now < self.next {
            return false;
        }
        self.next = self.last + self.interval(senders, tokens);
        self.next <= now
    }

    /// A compound of so many octets was sent.
    pub(super) fn sent(&mut self, now: Time, octets: usize, senders: usize, tokens: &mut Tokens) {
        self.heard(octets);
        self.initial = false;
        self.last = now;
        self.next = now + self.interval(senders, tokens);
    }

    /// A compound of so many octets came.
    pub(super) fn heard(&mut self, octets: usize) {
        self.average_octets += (octets as f64 + LOWER_HEADERS - self.average_octets) / 16.0;
    }

    /// RFC 3550 section 6.3.1. With two members, senders are more than a quarter of them as soon as one sends, so the
    /// bandwidth is shared by all; three quarters are the receivers' while nobody sends.
    fn interval(&self, senders: usize, tokens: &mut Tokens) -> Duration {
        let bandwidth = if senders == 0 { BANDWIDTH * 0.75 } else { BANDWIDTH };
        let least = if self.initial { LEAST / 2 } else { LEAST };
        let deterministic = (self.average_octets * MEMBERS / bandwidth).max(least.as_secs_f64());
        // 53 bits of chance, as many as the number between 0 and 1 has.
        let chance = (tokens.number() >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(deterministic * (0.5 + chance) / COMPENSATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_every_five_seconds_on_average_and_never_in_step() {
        let mut tokens = Tokens::seeded(7);
        let (mut now, mut sent) = (Time(1), Vec::new());
        let mut schedule = Schedule::new(now, &mut tokens);
        while sent.len() < 1_000 {
            now = schedule.deadline().max(now + Duration::from_millis(1));
            if schedule.is_due(now, 2, &mut tokens) {
                sent.push(now);
                schedule.sent(now, 100, 2, &mut tokens);
            }
        }
        assert!(sent[0].since(Time(1)) <= Duration::from_millis(3_100), "half the interval before the first");
        let gaps: Vec<_> = sent.windows(2).map(|pair| pair[1].since(pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((4.5..5.5).contains(&mean), "{mean}");
        let (least, most) =
            (LEAST.as_secs_f64() * 0.5 / COMPENSATION, LEAST.as_secs_f64() * 1.5 / COMPENSATION);
        assert!(gaps.iter().all(|gap| (least..most).contains(gap)));
    }

    #[test]
    fn long_compounds_are_sent_less_often() {
        let mut tokens = Tokens::seeded(7);
        let mut schedule = Schedule::new(Time(0), &mut tokens);
        (0..100).for_each(|_| schedule.heard(10_000));
        schedule.sent(Time(0), 10_000, 2, &mut tokens);
        assert!(schedule.deadline().since(Time(0)) > Duration::from_secs(15), "5 % of the bandwidth");
    }
}
