//! What the kernel writes for each flow, and only it: the latched source, the stream's statistics, the
//! cached next hop. Userspace maps the array and reads it without a system call.
//!
//! A slot has one writer at a time as long as one flow's packets arrive on one receive queue, which RSS
//! guarantees for one source. Two sources fighting for one flow may lose counts, never memory.

use crate::net::{Addr128, Be16, Be32};

/// Statistics of one direction, as RFC 3550 section 6.4 and appendix A define them.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct StreamStatistics {
    /// RTP packets relayed.
    pub packets: u64,
    /// Octets of UDP payload relayed, RTP only.
    pub octets: u64,
    /// RTCP packets relayed.
    pub rtcp_packets: u64,
    /// Packets of this flow that were refused or dropped, whatever the reason.
    pub refused: u64,
    /// Kernel monotonic clock of the last packet relayed, in nanoseconds; 0 before the first.
    pub last_seen: u64,
    /// Packets expected so far (extended highest sequence number less the first, plus one; summed over sources).
    pub expected: u64,
    /// RTP packets received, repeats included; `expected - received` is RFC 3550's cumulative loss.
    pub received: u64,
    /// Packets that came after one with a higher sequence number.
    pub late: u32,
    /// Interarrival jitter in units of the RTP clock, times 16 (RFC 3550 appendix A.8).
    pub jitter_scaled: u32,
    /// Changes of the stream's SSRC.
    pub source_changes: u32,
    /// Changes of the latched source address.
    pub latch_changes: u32,
}

/// The next hop and the finished link header in front of the IP header.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct NextHop {
    /// Valid while it equals the global generation; 0 is never a generation.
    pub generation: u32,
    /// Interface to leave by: a device with XDP transmit, never a VLAN on top of one.
    pub ifindex: u32,
    /// Octets of `header` in use: 14, 18 or 22.
    pub header_len: u32,
    /// Destination and source MAC address, VLAN tags, EtherType.
    pub header: [u8; 22],
    pub padding: [u8; 2],
}

/// State of one flow, indexed by [`crate::flow::FlowConfig::slot`].
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct FlowState {
    /// The [`crate::flow::FlowConfig::epoch`] this state belongs to; another one in the config starts afresh.
    pub epoch: u32,
    /// The `latch_epoch` that the latch belongs to.
    pub latch_epoch: u32,
    /// Latched source, unspecified before the first packet.
    pub source: Addr128,
    pub source_port: Be16,
    /// 1 once latched.
    pub latched: u8,
    /// 1 once an RTP packet was heard.
    pub heard: u8,
    /// SSRC of the stream heard now.
    pub ssrc: Be32,
    /// SSRC, sequence and timestamp as the far side hears them.
    pub out_ssrc: Be32,
    /// Added to each sequence number.
    pub sequence_offset: u16,
    /// Last sequence number sent.
    pub out_sequence: u16,
    /// Added to each timestamp.
    pub timestamp_offset: u32,
    /// Last timestamp sent.
    pub out_timestamp: u32,
    /// Highest sequence number heard, with the count of wraps in the upper half.
    pub highest: u32,
    /// Sequence number of the first packet of this source.
    pub base: u32,
    /// Expected packets of sources heard before this one.
    pub expected_before: u64,
    /// Relative transit time of the last packet in RTP clock units (RFC 3550 appendix A.8).
    pub transit: u32,
    /// RTP timestamp of the telephone-event being heard; valid while `event_active` is 1.
    pub event_timestamp: u32,
    pub event_active: u8,
    pub padding: [u8; 3],
    /// Tokens of the rate limit, in packets times 2^16.
    pub tokens: u32,
    /// When tokens were last added, kernel monotonic nanoseconds.
    pub tokens_at: u64,
    pub statistics: StreamStatistics,
    pub rtp_hop: NextHop,
    pub rtcp_hop: NextHop,
}
