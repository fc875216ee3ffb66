//! What the data plane has to say of single flows, outside their figures.

use crate::base::id::FlowId;
use crate::observe::capture::Link;
use crate::signal::dtmf::body::Press;
use gateway_common::net::Addr128;
use gateway_common::record::{RecordHeader, RecordKind};
use std::net::IpAddr;

/// One thing that happened to a flow. `at` is kernel monotonic time in nanoseconds ([`super::monotonic`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A telephone-event (RFC 4733) began; `duration` so far, in RTP clock units.
    EventStart { flow: FlowId, at: u64, event: u8, duration: u16 },
    /// It ended; final `duration`.
    EventEnd { flow: FlowId, at: u64, event: u8, duration: u16 },
    /// A key for the peer whom the flow hears, who has keys by signalling.
    Key { flow: FlowId, at: u64, press: Press },
    /// What was played to the peer whom the flow hears has come to its end, or given way.
    Played { flow: FlowId, at: u64 },
    /// A copy of an RTCP packet, cut at [`gateway_common::record::RTCP_COPY_MAX`] octets.
    Rtcp { flow: FlowId, at: u64, payload: Vec<u8> },
    /// The flow latched to a source, or to another one.
    Latched { flow: FlowId, at: u64 },
    /// A packet that a capture asked for, as it came or as it leaves; `length` octets on the wire.
    Captured { flow: FlowId, at: u64, sent: bool, link: Link, length: u32, octets: Vec<u8> },
    /// A packet found no link address for `next_hop` on interface `ifindex`.
    NeighbourWanted { flow: FlowId, at: u64, next_hop: IpAddr, ifindex: u32 },
}

impl Record {
    pub fn flow(&self) -> FlowId {
        match self {
            Self::EventStart { flow, .. }
            | Self::EventEnd { flow, .. }
            | Self::Key { flow, .. }
            | Self::Played { flow, .. }
            | Self::Rtcp { flow, .. }
            | Self::Latched { flow, .. }
            | Self::Captured { flow, .. }
            | Self::NeighbourWanted { flow, .. } => *flow,
        }
    }

    /// Reads a record of the kernel's ring: a [`RecordHeader`] and its payload. `None` for what no program
    /// of our ABI writes.
    pub(super) fn parse(octets: &[u8]) -> Option<Self> {
        let mut fields = Fields(octets);
        let [kind, event] = fields.take()?;
        let duration = u16::from_be_bytes(fields.take()?);
        let flow = FlowId { slot: fields.native_u32()?, epoch: fields.native_u32()? };
        let length = fields.native_u32()? as usize;
        let _aligned: [u8; HEADER_GAP] = fields.take()?;
        let at = u64::from_ne_bytes(fields.take()?);
        let payload = fields.0.get(..length)?;
        Some(match kind {
            k if k == RecordKind::EventStart as u8 => Self::EventStart { flow, at, event, duration },
            k if k == RecordKind::EventEnd as u8 => Self::EventEnd { flow, at, event, duration },
            k if k == RecordKind::Rtcp as u8 => Self::Rtcp { flow, at, payload: payload.to_owned() },
            k if k == RecordKind::Captured as u8 => {
                let mut fields = Fields(payload);
                let (length, sent) = (fields.native_u32()?, fields.native_u32()? == 1);
                let (link, octets) = (Link::Ethernet, fields.0.to_owned());
                Self::Captured { flow, at, sent, link, length, octets }
            }
            k if k == RecordKind::Latched as u8 => Self::Latched { flow, at },
            k if k == RecordKind::NeighbourWanted as u8 => {
                let mut fields = Fields(payload);
                let next_hop: [u8; size_of::<Addr128>()] = fields.take()?;
                let next_hop = IpAddr::from(std::net::Ipv6Addr::from(next_hop)).to_canonical();
                Self::NeighbourWanted { flow, at, next_hop, ifindex: fields.native_u32()? }
            }
            _ => return None,
        })
    }
}

/// Octets between `length` and `at` in [`RecordHeader`].
const HEADER_GAP: usize =
    std::mem::offset_of!(RecordHeader, at) - std::mem::offset_of!(RecordHeader, length) - size_of::<u32>();
const _: () = assert!(
    std::mem::offset_of!(RecordHeader, duration) == 2
        && std::mem::offset_of!(RecordHeader, slot) == 4
        && std::mem::offset_of!(RecordHeader, epoch) == 8
        && std::mem::offset_of!(RecordHeader, length) == 12
        && size_of::<RecordHeader>() == std::mem::offset_of!(RecordHeader, at) + size_of::<u64>()
);

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn native_u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets_of(kind: RecordKind, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![kind as u8, 5, 0x03, 0x20];
        for field in [7u32, 9, payload.len() as u32] {
            octets.extend(field.to_ne_bytes());
        }
        octets.extend([0; HEADER_GAP]);
        octets.extend(77u64.to_ne_bytes());
        octets.extend(payload);
        octets
    }

    const FLOW: FlowId = FlowId { slot: 7, epoch: 9 };

    #[test]
    fn every_kind_of_record_is_read_back() {
        assert_eq!(
            Record::parse(&octets_of(RecordKind::EventEnd, &[])),
            Some(Record::EventEnd { flow: FLOW, at: 77, event: 5, duration: 800 })
        );
        assert_eq!(
            Record::parse(&octets_of(RecordKind::Rtcp, &[1, 2, 3])),
            Some(Record::Rtcp { flow: FLOW, at: 77, payload: vec![1, 2, 3] })
        );
        let frame = [&214u32.to_ne_bytes()[..], &1u32.to_ne_bytes(), &[7; 54]].concat();
        let (link, octets) = (Link::Ethernet, vec![7; 54]);
        assert_eq!(
            Record::parse(&octets_of(RecordKind::Captured, &frame)),
            Some(Record::Captured { flow: FLOW, at: 77, sent: true, link, length: 214, octets })
        );
        let mut hop = [[0; 10].as_slice(), &[0xff, 0xff, 192, 0, 2, 1]].concat();
        hop.extend(4u32.to_ne_bytes());
        let next_hop = "192.0.2.1".parse().unwrap();
        assert_eq!(
            Record::parse(&octets_of(RecordKind::NeighbourWanted, &hop)),
            Some(Record::NeighbourWanted { flow: FLOW, at: 77, next_hop, ifindex: 4 })
        );
    }

    #[test]
    fn a_record_cut_short_is_none() {
        let whole = octets_of(RecordKind::Rtcp, &[1, 2, 3]);
        for length in 0..whole.len() {
            assert_eq!(Record::parse(&whole[..length]), None, "{length} octets");
        }
    }
}
