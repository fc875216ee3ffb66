//! What the kernel tells userspace through its ring buffer.

use crate::net::{Addr128, Be16};

/// Longest copy of an RTCP packet; longer ones are cut and say so by `length`.
pub const RTCP_COPY_MAX: usize = 256;

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

/// A record as the kernel reserves it for [`RecordKind::NeighbourWanted`].
#[repr(C)]
pub struct NeighbourRecord {
    pub header: RecordHeader,
    pub payload: NeighbourWanted,
}
