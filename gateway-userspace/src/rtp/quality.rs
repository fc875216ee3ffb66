//! What people hear, estimated: the E-model of ITU-T G.107 with the codec figures of G.113 appendix I.
//!
//! The estimate is on the narrowband scale, where no call is better than 93.2 (a mean opinion score of 4.41).
//! G.107's default values stand for all that a gateway cannot know: loudness, noise, echo return loss.

use super::codec::{Codec, Encoding};
use std::time::Duration;

/// What a direction of a call suffered on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// From mouth to ear, one way; see [`mouth_to_ear`].
    pub delay: Duration,
    /// Share of packets that did not arrive in time, 0 to 1; see [`loss_ratio`].
    pub loss: f64,
    /// How much longer runs of lost packets are than if each were lost by chance; 1 for chance, more for
    /// bursts (G.107 section 7.4).
    pub burst_ratio: f64,
}

/// Mean opinion score of conversation, 1.0 to 4.5: [`mos`] of [`rating`].
pub fn estimate(codec: &Codec, conditions: &Conditions) -> f64 {
    mos(rating(codec, conditions))
}

/// The transmission rating factor R of G.107 section 7.1, with an advantage factor of 0. Below 0 for the worst.
pub fn rating(codec: &Codec, conditions: &Conditions) -> f64 {
    SIGNAL_TO_NOISE
        - SIMULTANEOUS
        - delay_impairment(conditions.delay)
        - equipment_impairment(codec, conditions)
}

/// Mean opinion score of a rating (G.107 annex B).
pub fn mos(rating: f64) -> f64 {
    // Between 0 and 6.5 the cubic of the annex falls below the worst score that there is.
    match rating {
        rating if rating <= 0.0 => 1.0,
        rating if rating >= 100.0 => 4.5,
        rating => (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).max(1.0),
    }
}

/// Share of the packets that a stream should have had and did not, 0 to 1. Repeats can hide losses, as RFC 3550
/// section 6.4.1 accepts.
pub fn loss_ratio(expected: u64, received: u64) -> f64 {
    if expected == 0 { 0.0 } else { expected.saturating_sub(received) as f64 / expected as f64 }
}

/// Interarrival jitter as time, from the form that RFC 3550 appendix A.8 keeps: in units of the RTP clock, times
/// 16.
pub fn jitter(scaled: u32, clock_rate: u32) -> Duration {
    clock_units(u64::from(scaled), clock_rate) / 16
}

/// An interval of the RTP clock as time, as in the jitter field of a report.
pub fn clock_units(units: u64, clock_rate: u32) -> Duration {
    Duration::from_micros(units.saturating_mul(1_000_000) / u64::from(clock_rate.max(1)))
}

/// A one-way delay for [`Conditions`] from what a gateway sees: half the network's round trip, one packet's
/// worth of speech that has to be gathered before it is sent, and a receive buffer of twice the jitter, the
/// usual rule for adaptive ones.
pub fn mouth_to_ear(round_trip: Duration, packet: Duration, jitter: Duration) -> Duration {
    round_trip / 2 + packet + jitter * 2
}

/// Ro: basic signal-to-noise ratio with the default values of G.107 table 3.
const SIGNAL_TO_NOISE: f64 = 94.77;
/// Is: impairments that come with the voice itself, with the same defaults. Ro less Is less what an undelayed
/// call is charged for its echo is the well-known 93.2.
const SIMULTANEOUS: f64 = 1.41;
/// TELR: talker echo loudness rating, in decibels.
const TALKER_ECHO: f64 = 65.0;
/// WEPL: weighted echo path loss, in decibels.
const ECHO_PATH_LOSS: f64 = 110.0;

/// Id of G.107 section 7.3: talker echo, listener echo, and too long a delay, with the default echo losses.
fn delay_impairment(delay: Duration) -> f64 {
    let one_way = delay.as_secs_f64() * 1000.0;
    talker_echo(one_way) + listener_echo(2.0 * one_way) + too_long(one_way)
}

/// Idte, for a sidetone between 9 and 20 dB.
fn talker_echo(one_way: f64) -> f64 {
    let echo = TALKER_ECHO - 40.0 * ((1.0 + one_way / 10.0) / (1.0 + one_way / 150.0)).log10()
        + 6.0 * (-0.3 * one_way * one_way).exp();
    let half = (SIGNAL_TO_NOISE - (80.0 + 2.5 * (echo - 14.0))) / 2.0;
    (half + half.hypot(10.0) - 1.0) * (1.0 - (-one_way).exp())
}

/// Idle.
fn listener_echo(round_trip: f64) -> f64 {
    let half = (SIGNAL_TO_NOISE - 10.5 * (ECHO_PATH_LOSS + 7.0) * (round_trip + 1.0).powf(-0.25)) / 2.0;
    half + half.hypot(13.0)
}

/// Idd.
fn too_long(one_way: f64) -> f64 {
    if one_way <= 100.0 {
        return 0.0;
    }
    let doublings = (one_way / 100.0).log2();
    let sixth = |value: f64| (1.0 + value.powi(6)).powf(1.0 / 6.0);
    25.0 * (sixth(doublings) - 3.0 * sixth(doublings / 3.0) + 2.0)
}

/// Ie,eff of G.107 section 7.4.
fn equipment_impairment(codec: &Codec, conditions: &Conditions) -> f64 {
    let Impairment { equipment, robustness } = impairment(&codec.encoding);
    let percent = conditions.loss.clamp(0.0, 1.0) * 100.0;
    let burst_ratio = conditions.burst_ratio.max(f64::MIN_POSITIVE);
    equipment + (95.0 - equipment) * percent / (percent / burst_ratio + robustness)
}

/// What a codec costs.
struct Impairment {
    /// Ie, without loss.
    equipment: f64,
    /// Bpl: the higher, the better it bears lost packets.
    robustness: f64,
}

/// Figures of G.113 appendix I, as far as they are given there. Where Bpl is
/// not, that of the nearest kind stands in: G.711 without concealment for codecs of single samples, GSM-EFR for
/// codecs of frames. Wideband codecs have figures on the scale of G.107.1 only and are taken as unimpaired
/// here, so their estimate is a lower bound of what they deserve.
fn impairment(encoding: &Encoding) -> Impairment {
    let (equipment, robustness) = match encoding {
        // With the concealment of G.711 appendix I, or the like, which nearly all receivers have.
        Encoding::Pcmu | Encoding::Pcma => (0.0, 25.1),
        Encoding::G723 => (15.0, 16.1),
        Encoding::G729 => (11.0, 19.0),
        // AMR at 12.2 kbit/s is GSM-EFR.
        Encoding::GsmEfr | Encoding::Amr => (5.0, 10.0),
        Encoding::Gsm => (20.0, 10.0),
        Encoding::G726_32 | Encoding::G728 => (7.0, 4.3),
        Encoding::Ilbc => (11.0, 10.0),
        Encoding::L16 | Encoding::G722 => (0.0, 4.3),
        Encoding::G7221 | Encoding::AmrWb | Encoding::Evs | Encoding::Opus | Encoding::Silk => (0.0, 10.0),
        Encoding::TelephoneEvent | Encoding::ComfortNoise | Encoding::Red | Encoding::Other(_) => (0.0, 10.0),
    };
    Impairment { equipment, robustness }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(delay_ms: u64, loss: f64) -> Conditions {
        Conditions { delay: Duration::from_millis(delay_ms), loss, burst_ratio: 1.0 }
    }

    fn codec(text: &str) -> Codec {
        text.parse().unwrap()
    }

    #[track_caller]
    fn close(value: f64, expected: f64, within: f64) {
        assert!((value - expected).abs() <= within, "{value} is not {expected} ± {within}");
    }

    #[test]
    fn the_default_connection_of_g107_rates_93_2() {
        let pcma = codec("PCMA/8000");
        close(rating(&pcma, &conditions(0, 0.0)), 93.2, 0.05);
        close(estimate(&pcma, &conditions(0, 0.0)), 4.41, 0.005);
    }

    /// The curve of R over delay that Cole and Rosenbluth (2001) fitted to G.107 with its defaults:
    /// 0.024 d + 0.11 (d - 177.3) beyond 177.3 ms.
    #[test]
    fn delay_costs_what_the_usual_fit_of_g107_says() {
        for delay in [50u64, 100, 150, 200, 250, 300] {
            let fit = 0.024 * delay as f64 + 0.11 * (delay as f64 - 177.3).max(0.0);
            let cost = rating(&codec("PCMU/8000"), &conditions(0, 0.0))
                - rating(&codec("PCMU/8000"), &conditions(delay, 0.0));
            close(cost, fit, 2.5);
        }
    }

    #[test]
    fn loss_costs_what_ie_eff_says() {
        // G.107 section 7.4: 0 + 95 · 2 / (2 + 25.1).
        let pcma = codec("PCMA/8000");
        let cost = rating(&pcma, &conditions(0, 0.0)) - rating(&pcma, &conditions(0, 0.02));
        close(cost, 95.0 * 2.0 / 27.1, 1e-9);
        let g729 = codec("G729/8000");
        let cost = rating(&pcma, &conditions(0, 0.0)) - rating(&g729, &conditions(0, 0.01));
        close(cost, 11.0 + 84.0 / 20.0, 1e-9);
        let burst = Conditions { burst_ratio: 2.0, ..conditions(0, 0.02) };
        assert!(rating(&pcma, &burst) < rating(&pcma, &conditions(0, 0.02)));
    }

    #[test]
    fn scores_follow_annex_b_and_never_leave_their_scale() {
        for (rating, score) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            close(mos(rating), score, 0.01);
        }
        for rating in -200..300 {
            assert!((1.0..=4.5).contains(&mos(f64::from(rating))), "{rating}");
        }
        let worst = Conditions { delay: Duration::MAX, loss: 2.0, burst_ratio: 0.0 };
        assert_eq!(estimate(&codec("PCMA/8000"), &worst), 1.0);
    }

    #[test]
    fn counts_become_ratios_and_times() {
        assert_eq!(loss_ratio(1000, 990), 0.01);
        assert_eq!(loss_ratio(0, 0), 0.0);
        assert_eq!(loss_ratio(10, 12), 0.0, "repeats");
        assert_eq!(jitter(16 * 80, 8_000), Duration::from_millis(10));
        assert_eq!(jitter(u32::MAX, 0), Duration::from_micros(u64::from(u32::MAX) * 1_000_000 / 16));
        let ms = Duration::from_millis;
        assert_eq!(mouth_to_ear(ms(100), ms(20), ms(5)), ms(80));
    }
}
