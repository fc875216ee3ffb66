//! Overload control between neighbours, by loss (RFC 7339) and by rate (RFC 7415): who is overloaded says in the Via of
//! its responses how much to send, and who sends heeds it.
//!
//! Both roles are atomics that all cores share: a [`Throttle`] for each address that calls are sent to, a
//! [`LoadEstimate`] for each meter of calls that come.

use super::admission::CallRate;
use crate::base::time::Time;
use crate::sip::message::Via;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How much an overloaded neighbour takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// All but so many of a hundred new calls (RFC 7339 section 6).
    Loss { percent: u8 },
    /// So many new calls a second (RFC 7415 section 3).
    Rate { per_second: u32 },
}

/// What a response says of its sender's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    pub allowance: Allowance,
    /// How long it holds; zero ends what held before.
    pub validity: Duration,
}

/// RFC 7339 section 4.3: what holds where the response does not say.
const USUAL_VALIDITY: Duration = Duration::from_millis(500);

impl Feedback {
    /// A rate that so many peers share.
    pub fn rate(per_second: u32, peers: usize) -> Self {
        let share = per_second / u32::try_from(peers.max(1)).unwrap_or(u32::MAX);
        Self { allowance: Allowance::Rate { per_second: share.max(1) }, validity: VALIDITY }
    }

    /// Calls of a hundred that are to stay away.
    pub fn loss(&self) -> u8 {
        match self.allowance {
            Allowance::Loss { percent } => percent,
            Allowance::Rate { .. } => 0,
        }
    }

    /// What the topmost Via of a response says; `None` where it says nothing that we understand.
    pub fn of_response(via: &Via) -> Option<Self> {
        let value: u32 = via.params.value("oc")?.parse().ok()?;
        let algorithm = via.params.value("oc-algo").map_or("loss", |text| text.trim_matches('"'));
        let allowance = match algorithm.to_ascii_lowercase().as_str() {
            "loss" => {
                Allowance::Loss { percent: u8::try_from(value).ok().filter(|percent| *percent <= 100)? }
            }
            "rate" => Allowance::Rate { per_second: value },
            _ => return None,
        };
        let validity = via.params.value("oc-validity").and_then(|text| text.parse().ok());
        Some(Self { allowance, validity: validity.map_or(USUAL_VALIDITY, Duration::from_millis) })
    }

    /// Writes it into the Via that responses to this request will copy, if the request's sender heeds it.
    pub fn write(self, via: &mut Via, now: Time) {
        let (algorithm, value) = match self.allowance {
            Allowance::Loss { percent } => ("loss", u32::from(percent)),
            Allowance::Rate { per_second } => ("rate", per_second),
        };
        via.params.set("oc", &value.to_string());
        via.params.set_quoted("oc-algo", algorithm);
        via.params.set("oc-validity", &self.validity.as_millis().to_string());
        // RFC 7339 section 4.4: seconds and a fraction that grow.
        via.params.set("oc-seq", &format!("{}.{:05}", now.0 / 1_000_000, now.0 % 1_000_000 / 10));
    }
}

/// Whether the sender of a request heeds feedback, and whether by rate (RFC 7339 section 5.1). A value behind `oc` is
/// somebody's answer and no announcement.
pub fn announced(via: &Via) -> Option<bool> {
    if !via.params.has("oc") || via.params.value("oc").is_some() {
        return None;
    }
    let algorithms = via.params.value("oc-algo").map_or("loss", |text| text.trim_matches('"'));
    Some(algorithms.split(',').any(|name| name.trim().eq_ignore_ascii_case("rate")))
}

/// What one address takes, as its responses say. Everything passes while nothing holds.
#[derive(Debug, Default)]
pub struct Throttle {
    /// [`Allowance`] in one word.
    allowance: AtomicU64,
    /// Microseconds of [`Time`] at which it ends.
    until: AtomicU64,
    /// Of the rate: theoretical arrival time of the next call, as in [`super::Meter`].
    next: AtomicU64,
}

/// Tells a rate from a loss in [`Throttle::allowance`].
const RATE: u64 = 1 << 32;

impl Throttle {
    /// Takes what a response says.
    pub fn heed(&self, feedback: Feedback, now: Time) {
        let word = match feedback.allowance {
            Allowance::Loss { percent } => percent.into(),
            Allowance::Rate { per_second } => RATE | u64::from(per_second),
        };
        self.allowance.store(word, Relaxed);
        self.until.store((now + feedback.validity).0, Relaxed);
    }

    /// What holds now.
    pub fn allowance(&self, now: Time) -> Option<Allowance> {
        if self.until.load(Relaxed) <= now.0 {
            return None;
        }
        let word = self.allowance.load(Relaxed);
        let value = (word & (RATE - 1)) as u32;
        Some(if word & RATE == 0 {
            Allowance::Loss { percent: value.min(100) as u8 }
        } else {
            Allowance::Rate { per_second: value }
        })
    }

    /// Whether one more call may be sent; `draw` is random.
    pub fn passes(&self, now: Time, draw: u64) -> bool {
        match self.allowance(now) {
            None => true,
            Some(Allowance::Loss { percent }) => draw % 100 >= u64::from(percent),
            Some(Allowance::Rate { per_second: 0 }) => false,
            Some(Allowance::Rate { per_second }) => {
                let pause = 1_000_000 / u64::from(per_second);
                let turn = |next: u64| (next <= now.0).then(|| next.max(now.0) + pause);
                self.next.fetch_update(Relaxed, Relaxed, turn).is_ok()
            }
        }
    }
}

/// How many of the calls that come have to stay away, so that those that come are as many as are taken.
#[derive(Debug, Default)]
pub(super) struct LoadEstimate {
    /// The second of [`Time`] that is being counted.
    second: AtomicU64,
    offered: AtomicU32,
    loss: AtomicU32,
}

/// Feedback holds for longer than the second that it is made from, so that it does not lapse between two.
const VALIDITY: Duration = Duration::from_secs(2);

impl LoadEstimate {
    /// Counts a new call that came, taken or not.
    pub(super) fn offered(&self, rate: CallRate, now: Time) {
        let second = now.0 / 1_000_000;
        let before = self.second.swap(second, Relaxed);
        if before < second {
            let offered = self.offered.swap(0, Relaxed);
            self.loss.store(self.next_loss(rate, offered, second - before), Relaxed);
        }
        self.offered.fetch_add(1, Relaxed);
    }

    /// What those who send to us are to be told.
    pub(super) fn feedback(&self, now: Time) -> Feedback {
        let seconds = (now.0 / 1_000_000).saturating_sub(self.second.load(Relaxed));
        // Nobody has called for two seconds: whatever it was, it is over.
        let percent = if seconds > 2 { 0 } else { self.loss.load(Relaxed).min(100) as u8 };
        Feedback { allowance: Allowance::Loss { percent }, validity: VALIDITY }
    }

    /// Those that came are what was sent less what stayed away, so the share that may come is scaled by what may be
    /// over what came. Only the root of it, because senders follow a second late and would swing; and it grows slowly,
    /// lest everybody comes back at once.
    fn next_loss(&self, rate: CallRate, offered: u32, seconds: u64) -> u32 {
        let share = 1.0 - f64::from(self.loss.load(Relaxed).min(100)) / 100.0;
        let a_second = f64::from(offered) / seconds as f64;
        let wanted = share * (f64::from(rate.per_second) / a_second.max(1.0)).sqrt();
        let next = wanted.min(share * 1.25 + 0.01).clamp(0.01, 1.0);
        ((1.0 - next) * 100.0).round() as u32
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { percent } => write!(f, "takes {} %", 100 - percent),
            Self::Rate { per_second } => write!(f, "takes {per_second} a second"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(params: &str) -> Via {
        format!("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa{params}").parse().unwrap()
    }

    fn at(milliseconds: u64) -> Time {
        Time(1_000_000_000) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn feedback_is_read_as_it_stands_in_the_two_rfcs() {
        let loss = |percent| Allowance::Loss { percent };
        let milliseconds = Duration::from_millis;
        let table = [
            (
                ";oc=20;oc-algo=\"loss\";oc-validity=500;oc-seq=1282321615.782",
                Some((loss(20), milliseconds(500))),
            ),
            (";oc=20;oc-validity=1000", Some((loss(20), milliseconds(1000)))),
            (";oc=0;oc-algo=\"loss\"", Some((loss(0), milliseconds(500)))),
            (
                ";oc=150;oc-algo=\"rate\";oc-validity=1000",
                Some((Allowance::Rate { per_second: 150 }, milliseconds(1000))),
            ),
            (";oc=101;oc-algo=\"loss\"", None),
            (";oc=5;oc-algo=\"magic\"", None),
            (";oc;oc-algo=\"loss,rate\"", None),
            ("", None),
        ];
        for (params, expected) in table {
            let found = Feedback::of_response(&via(params)).map(|it| (it.allowance, it.validity));
            assert_eq!(found, expected, "{params}");
        }
    }

    #[test]
    fn who_heeds_feedback_says_so_and_gets_it_in_the_same_via() {
        let mut own = via("");
        own.announce_overload_control();
        assert_eq!(own.to_string(), "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;oc;oc-algo=\"rate,loss\"");
        assert_eq!(announced(&own), Some(true));
        assert_eq!(announced(&via(";oc;oc-algo=\"loss\"")), Some(false));
        assert_eq!((announced(&via("")), announced(&via(";oc=5"))), (None, None));
        let feedback =
            Feedback { allowance: Allowance::Rate { per_second: 40 }, validity: Duration::from_secs(2) };
        feedback.write(&mut own, Time(1_282_321_615_782_000));
        assert!(
            own.to_string().ends_with(";oc=40;oc-algo=\"rate\";oc-validity=2000;oc-seq=1282321615.78200"),
            "{own}"
        );
        assert_eq!(Feedback::of_response(&own), Some(feedback));
    }

    #[test]
    fn a_loss_keeps_its_share_away_and_a_rate_its_distance_and_both_end() {
        let throttle = Throttle::default();
        let passed = |now, tries: u64| (0..tries).filter(|draw| throttle.passes(now, *draw)).count();
        assert_eq!(passed(at(0), 100), 100);
        let heed = |allowance| throttle.heed(Feedback { allowance, validity: Duration::from_secs(1) }, at(0));
        heed(Allowance::Loss { percent: 30 });
        assert_eq!(passed(at(999), 1_000), 700);
        assert_eq!(passed(at(1_000), 100), 100);
        heed(Allowance::Rate { per_second: 10 });
        let over_time: usize = (0..100).map(|tenth| passed(at(tenth * 10), 5)).sum();
        assert_eq!(over_time, 10);
        heed(Allowance::Rate { per_second: 0 });
        assert_eq!(passed(at(500), 10), 0);
        throttle.heed(
            Feedback { allowance: Allowance::Loss { percent: 100 }, validity: Duration::ZERO },
            at(500),
        );
        assert_eq!(passed(at(500), 10), 10);
    }

    #[test]
    fn the_estimate_settles_where_those_that_come_are_those_that_are_taken_and_forgets() {
        let (estimate, rate) = (LoadEstimate::default(), CallRate { per_second: 100, burst: 100 });
        // A sender that heeds us, with a thousand calls a second to send.
        let second = |number: u64| {
            let Allowance::Loss { percent } = estimate.feedback(at(number * 1_000)).allowance else {
                panic!()
            };
            let sent = 1_000 * (100 - u64::from(percent)) / 100;
            (0..sent).for_each(|call| estimate.offered(rate, at(number * 1_000 + call * 1_000 / sent)));
            sent
        };
        let sent: Vec<u64> = (0..60).map(second).collect();
        assert!(sent[10..].iter().all(|sent| (60..=140).contains(sent)), "{sent:?}");
        // It has only fifty left to send.
        for number in 60..90 {
            (0..50).for_each(|call| estimate.offered(rate, at(number * 1_000 + call * 20)));
        }
        assert_eq!(estimate.feedback(at(90_000)).allowance, Allowance::Loss { percent: 0 });
    }
}
