//! What the kernel writes for each flow, and only it: the latched source, the stream's statistics, the
//! cached next hop. Userspace maps the array and reads it without a system call.
//!
//! A slot has one writer at a time as long as one flow's packets arrive on one receive queue, which RSS
//! guarantees for one source. Two sources fighting for one flow may lose counts, never memory.

use crate::{
    losses::{Bursts, Losses},
    net::{Addr128, Be16, Be32},
    shortcut::Shortcut,
};
use core::mem::{offset_of, size_of};

/// Statistics of one direction, as RFC 3550 section 6.4 and appendix A define them.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct StreamStatistics {
    /// RTP packets relayed.
    pub packets: u64,
    /// Octets of UDP payload relayed, RTP only.
    pub octets: u64,
    /// RTP packets received, repeats included; [`FlowState::expected`] less these is RFC 3550's cumulative loss.
    pub received: u64,
    /// RTCP packets relayed.
    pub rtcp_packets: u64,
    /// Packets of this flow that were refused or dropped, whatever the reason.
    pub refused: u64,
    /// Kernel monotonic clock of the last packet admitted (muted ones too) whose time was taken, in nanoseconds;
    /// 0 before the first. Time is taken of every packet after a pause, and in a dense stream every quarter of
    /// a second at least (at 250 ticks a second).
    pub last_seen: u64,
    /// Interarrival jitter in units of the RTP clock, times 16 (RFC 3550 appendix A.8), over the pairs of packets
    /// that [`crate::account::is_timed`] chooses.
    pub jitter_scaled: u32,
    /// Changes of the latched source address.
    pub latch_changes: u32,
    /// RTP packets that came after one with a higher sequence number.
    pub late: u32,
    /// Changes of the stream's SSRC.
    pub source_changes: u32,
}

/// The next hop and the finished link header in front of the IP header; one cache line.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct NextHop {
    /// Valid while it equals the global generation; 0 is never a generation.
    pub generation: u32,
    /// Interface to leave by: a device with XDP transmit, never a VLAN on top of one.
    pub ifindex: u32,
    /// The far end this hop leads to: a latch or a new configuration that moves it makes the hop stale.
    pub destination: Addr128,
    /// Destination and source MAC address, VLAN tags, EtherType; as they lie in memory.
    pub header: [u64; 3],
    /// Octets of `header` in use: 14, 18 or 22.
    pub header_len: u32,
    /// Largest IP packet that the route carries, 0 for unknown.
    pub mtu: u32,
    /// The interface of arrival whose packets leave by XDP_TX, 0 for none: [`crate::abi::Link::transmits_from`].
    pub transmits_from: u32,
    pub padding: u32,
}

/// State of one flow, in its [`crate::flow::FlowSlot`].
///
/// In whole cache lines, split by who asks for them and how often: the latch is read for the opposite flow, on another
/// processor, and must not share a line with counters. What every RTP packet needs is the second line and the third,
/// which it counts in; what only some need, the others.
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
    /// 1 once an RTP packet was heard (an RTCP packet on a port for RTCP alone).
    pub heard: u8,
    /// Added to each timestamp.
    pub timestamp_offset: u32,
    /// Added to each sequence number.
    pub sequence_offset: u16,
    pub padding: [u8; 2],
    /// Sequence number of the first packet of this source.
    pub base: u32,
    /// Expected packets of sources heard before this one.
    pub expected_before: u64,
    /// When userspace was last asked to resolve a neighbour, kernel monotonic nanoseconds.
    pub wanted_at: u64,
    /// Connectivity checks of sources that none has vouched for, as [`crate::admit::within_check_rate`] counts them.
    pub checks: u64,

    pub shortcut: Shortcut,

    /// Highest sequence number heard, with the count of wraps in the upper half.
    pub highest: u32,
    /// The sequence number that would confirm a restart of the sequence (RFC 3550 appendix A.1), or a value
    /// above 65535 for none.
    pub restart: u32,
    /// Coarse ticks of the kernel when time was last taken; of the XDP program alone.
    pub ticks: u64,
    /// When the packet with `out_timestamp` was sent, kernel monotonic nanoseconds.
    pub sent_at: u64,
    /// Last sequence number sent.
    pub out_sequence: u16,
    /// Of the telephone-event being heard: 0 none, 1 begun, 2 ended (its repeats may still come).
    pub event_phase: u8,
    pub padding_2: u8,
    /// Timestamp sent at `sent_at`.
    pub out_timestamp: u32,
    /// SSRC of the stream heard now.
    pub ssrc: Be32,
    /// SSRC as the far side hears it.
    pub out_ssrc: Be32,
    pub statistics: StreamStatistics,
    /// When the packet with `timestamp` came, kernel monotonic nanoseconds.
    pub heard_at: u64,
    /// Rate limit as virtual scheduling: when the next packet is due, kernel monotonic nanoseconds.
    pub due_at: u64,
    /// RTP timestamp of the last packet that jitter was measured on.
    pub timestamp: u32,
    /// RTP timestamp that names the telephone-event; valid while `event_phase` is not 0.
    pub event_timestamp: u32,

    pub rtp_hop: NextHop,
    pub rtcp_hop: NextHop,

    pub losses: Losses,
    /// Number of the last packet that was lost, as `highest` counts, or of the one before the first.
    pub lost_up_to: u32,
    pub padding_3: [u32; 8],
}

impl FlowState {
    /// RTP packets expected so far: extended highest sequence number less the first, plus one, summed over sources
    /// (RFC 3550 appendix A.3).
    #[inline(always)]
    pub fn expected(&self) -> u64 {
        if self.statistics.received == 0 {
            return 0;
        }
        let heard = self.highest.wrapping_sub(self.base).wrapping_add(1);
        self.expected_before.wrapping_add(u64::from(heard))
    }

    /// Packets in a row that came since the last loss.
    #[inline(always)]
    pub fn heard_since_loss(&self) -> u32 {
        self.highest.wrapping_sub(self.lost_up_to)
    }

    /// How losses were spread over the stream.
    pub fn bursts(&self) -> Bursts {
        self.losses.told(self.heard_since_loss())
    }
}

const _: () = {
    assert!(offset_of!(FlowState, shortcut) == 64);
    assert!(offset_of!(FlowState, highest) == 128);
    assert!(offset_of!(FlowState, statistics) + offset_of!(StreamStatistics, rtcp_packets) == 192);
    assert!(offset_of!(FlowState, rtp_hop) == 256);
    assert!(offset_of!(FlowState, rtcp_hop) == 320);
    assert!(offset_of!(FlowState, losses) == 384);
    assert!(size_of::<FlowState>() == 448);
};
