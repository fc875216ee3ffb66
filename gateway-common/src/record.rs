//! What the kernel tells userspace through its ring buffer.

use crate::net::Be16;

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
    /// No neighbour entry for the next hop: userspace has to resolve it. One record a second and flow at most.
    NeighbourWanted = 5,
}

/// A record without a payload; an RTCP copy follows it where the kind says so.
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
