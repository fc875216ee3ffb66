//! The timers of transactions: a closed list and the table of how long each runs (RFC 3261 table 4, RFC 6026).

use crate::base::machine::closed_enum;
use std::time::Duration;

closed_enum! {
    /// Letters are the RFC's; timer C is a proxy's and absent. The last three are named, as no RFC letters them.
    pub enum Timer {
        /// INVITE client: send the request again.
        A,
        /// INVITE client: no response at all came.
        B,
        /// INVITE client: absorb retransmissions of the failure.
        D,
        /// Non-INVITE client: send the request again.
        E,
        /// Non-INVITE client: no final response came.
        F,
        /// INVITE server: send the failure again.
        G,
        /// INVITE server: no ACK for the failure came.
        H,
        /// INVITE server: absorb retransmissions of the ACK.
        I,
        /// Non-INVITE server: absorb retransmissions of the request.
        J,
        /// Non-INVITE client: absorb retransmissions of the response.
        K,
        /// INVITE server: absorb retransmissions of an accepted INVITE; without ACK the answer has failed.
        L,
        /// INVITE client: pass up further 2xx of an accepted INVITE.
        M,
        /// INVITE server: the user has been silent, say 100 (RFC 3261 section 17.2.1).
        Trying,
        /// INVITE server: send the 2xx again (RFC 3261 section 13.3.1.4), over any transport.
        Answer,
        /// INVITE client: a cancelled INVITE got no final response (RFC 3261 section 9.1).
        Cancelled,
    }
}

/// The base intervals of RFC 3261 section 17.1.1.1, and the patience of section 17.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// An estimate of the round trip.
    pub t1: Duration,
    /// The longest pause between retransmissions of non-INVITE requests and of INVITE responses.
    pub t2: Duration,
    /// How long a message can stay in the network.
    pub t4: Duration,
    /// How long the user may be silent about an INVITE before the layer says 100 for it; zero says it at once.
    pub trying: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            trying: Duration::from_millis(200),
        }
    }
}

/// How long a timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Never armed: a reliable transport retransmits for itself.
    Never,
    /// Once; zero fires in the same step.
    Once(Duration),
    /// First so long, then doubling, up to the cap if there is one.
    Doubling { first: Duration, cap: Option<Duration> },
}

impl Timer {
    /// The timer's span over a reliable or an unreliable transport.
    pub fn span(self, intervals: &Intervals, reliable: bool) -> Span {
        let Intervals { t1, t2, t4, trying } = *intervals;
        match (self, reliable) {
            (Self::A | Self::E | Self::G, true) => Span::Never,
            (Self::A, false) => Span::Doubling { first: t1, cap: None },
            (Self::E | Self::G, false) | (Self::Answer, true | false) => {
                Span::Doubling { first: t1, cap: Some(t2) }
            }
            (Self::D | Self::I | Self::J | Self::K, true) => Span::Once(Duration::ZERO),
            // "At least 32 seconds", which is 64 × T1 with the default T1; with a smaller T1 the peer's timer H
            // may still be running on the default, so the 32 seconds stand.
            (Self::D, false) => Span::Once((64 * t1).max(Duration::from_secs(32))),
            (Self::I | Self::K, false) => Span::Once(t4),
            (Self::J, false)
            | (Self::B | Self::F | Self::H | Self::L | Self::M | Self::Cancelled, true | false) => {
                Span::Once(64 * t1)
            }
            (Self::Trying, true | false) => Span::Once(trying),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn the_table_of_timers_reads_as_the_rfc() {
        let mut table = String::from("timer      unreliable                                  reliable\n");
        for timer in Timer::ALL {
            let words = |reliable| match timer.span(&Intervals::default(), reliable) {
                Span::Never => String::from("never"),
                Span::Once(span) => format!("{span:?}"),
                Span::Doubling { first, cap: Some(cap) } => format!("{first:?}, doubling to {cap:?}"),
                Span::Doubling { first, cap: None } => format!("{first:?}, doubling"),
            };
            let _ = writeln!(table, "{:<10} {:<43} {}", format!("{timer:?}"), words(false), words(true));
        }
        insta::assert_snapshot!(table);
    }
}
