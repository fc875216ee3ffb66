//! RTCP (RFC 3550 section 6): reports read and written, round-trip times from them, and who sends them when.
//!
//! * [`packets`]: what is in a compound that came;
//! * [`RoundTrip`]: times there and back, from reports that pass through a relay or answer our own;
//! * [`Reporter`]: the reports of one leg that ends here.

mod metrics;
mod read;
mod reporter;
mod round_trip;
mod schedule;
mod write;

pub use metrics::{JitterBuffer, Stretch, VoipMetrics};
pub use read::{Packets, RtcpFault, packets};
pub use reporter::{Heard, Opinion, Reporter, Sent, ntp_timestamp};
pub use round_trip::RoundTrip;

/// One packet of a compound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    SenderReport {
        ssrc: u32,
        sender: SenderInfo,
        reports: Vec<ReportBlock>,
    },
    ReceiverReport {
        ssrc: u32,
        reports: Vec<ReportBlock>,
    },
    SourceDescription(Vec<Source<'a>>),
    Goodbye {
        sources: Vec<u32>,
    },
    /// Application-defined, feedback, extended reports and what may come.
    Other {
        packet_type: u8,
    },
}

/// What a sender says of its own stream (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP timestamp: seconds since 1900 in the upper half, their fraction in the lower.
    pub ntp: u64,
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

impl SenderInfo {
    /// The middle 32 bits of the NTP timestamp, as reports quote it.
    pub fn ntp_middle(&self) -> u32 {
        (self.ntp >> 16) as u32
    }
}

/// What a receiver says of one stream that it hears (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Lost since its last report, in 1/256 of the packets expected.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative when repeats outnumber losses.
    pub cumulative_lost: i32,
    pub extended_highest_sequence: u32,
    /// In units of the RTP clock: [`super::quality::clock_units`].
    pub jitter: u32,
    /// Middle of the NTP timestamp of the last sender report heard, 0 before the first.
    pub last_sender_report: u32,
    /// Time since then, in 1/65536 s.
    pub delay_since: u32,
}

/// A source and its canonical name (RFC 3550 section 6.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    pub ssrc: u32,
    pub cname: Option<&'a [u8]>,
}

const HEADER: usize = 4;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const EXTENDED_REPORT: u8 = 207;
/// Item type of a canonical name.
const CNAME: u8 = 1;
