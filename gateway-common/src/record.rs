//! What the kernel tells userspace through its ring buffer.

use crate::{
    net::{Addr128, Be16},
    rtp::RTP_LEN,
};

/// Longest copy of an RTCP packet; longer ones are cut and say so by `length`.
pub const RTCP_COPY_MAX: usize = 256;

/// How much of a UDP payload of `len` octets a capture takes: all of it with `audio`, and of RTCP, which the second octet
/// tells (RFC 5761 section 4); of RTP the fixed header, since extensions tell who speaks (RFC 6464).
#[inline(always)]
pub const fn captured(second: u8, len: usize, audio: bool) -> usize {
    let is_rtcp = matches!(second, 192..=223);
    if audio || is_rtcp || len < RTP_LEN { len } else { RTP_LEN }
}

/// What a record is about.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum RecordKind {
    /// A telephone-event began: `event`, `duration` so far.
    EventStart = 1,
    /// The first packet of it with the end bit: `event`, final `duration` in RTP clock units.
    EventEnd = 2,
    /// A copy of an RTCP packet in `payload`.
    Rtcp = 3,
    /// The flow latched to a source, or to another one.
    Latched = 4,
    /// No neighbour entry for the next hop: userspace has to resolve it, as [`NeighbourWanted`] in the payload
    /// says. One record a second and flow at most.
    NeighbourWanted = 5,
    /// A copy of a packet for a capture: a [`CaptureHead`], and the frame's first octets. In a ring of its own.
    Captured = 6,
}

/// What every record begins with; `length` octets of payload follow it, and then possibly unused room.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct RecordHeader {
    pub kind: u8,
    /// Telephone-event code, 0 to 255.
    pub event: u8,
    /// Of the event, in RTP clock units.
    pub duration: Be16,
    pub slot: u32,
    pub epoch: u32,
    /// Octets that follow, 0 to [`RTCP_COPY_MAX`].
    pub length: u32,
    /// Kernel monotonic nanoseconds.
    pub at: u64,
}

/// Payload of [`RecordKind::NeighbourWanted`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct NeighbourWanted {
    /// The gateway, or the far end itself when it is on the link.
    pub address: Addr128,
    /// Interface that the route names.
    pub ifindex: u32,
    pub padding: u32,
}

/// A record with room for the longest RTCP copy: what the kernel reserves for [`RecordKind::Rtcp`].
#[repr(C)]
pub struct RtcpRecord {
    pub header: RecordHeader,
    pub payload: [u8; RTCP_COPY_MAX],
}

/// Longest copy for a capture: a frame with 40 ms of G.711 and whatever headers.
pub const CAPTURE_COPY_MAX: usize = 512;

/// What the copy in a [`RecordKind::Captured`] is of.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct CaptureHead {
    /// Octets of the frame.
    pub wire: u32,
    /// 1 for a frame that leaves.
    pub sent: u32,
}

/// A record as the kernel reserves it for [`RecordKind::Captured`].
#[repr(C)]
pub struct CaptureRecord {
    pub header: RecordHeader,
    pub head: CaptureHead,
    pub payload: [u8; CAPTURE_COPY_MAX],
}

/// A record as the kernel reserves it for [`RecordKind::NeighbourWanted`].
#[repr(C)]
pub struct NeighbourRecord {
    pub header: RecordHeader,
    pub payload: NeighbourWanted,
}
