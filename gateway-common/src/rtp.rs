//! RTP (RFC 3550 section 5), its separation from RTCP on one port (RFC 5761), telephone-events (RFC 4733).

use crate::{
    cursor::{Cursor, Window},
    flow::FlowKind,
    net::Be32,
    verdict::Reason,
};

pub const RTP_LEN: usize = 12;
/// Header of one RTCP packet with its sender's SSRC.
pub const RTCP_LEN: usize = 8;

/// A UDP payload that a flow may carry.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Media {
    Rtp(Rtp),
    Rtcp(Rtcp),
}

/// The fixed RTP header; CSRC list, header extension and padding have been found to fit.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Rtp {
    /// 0 to 127.
    pub payload_type: u8,
    /// In the place it has in the packet, 0x80 or 0.
    pub marker: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: Be32,
    /// Octets in front of the RTP payload.
    pub header_len: usize,
}

/// The first packet of an RTCP compound.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Rtcp {
    /// 192 to 223.
    pub packet_type: u8,
    /// Of the sender.
    pub ssrc: Be32,
}

impl Media {
    #[inline(always)]
    pub const fn ssrc(&self) -> Be32 {
        match self {
            Self::Rtp(rtp) => rtp.ssrc,
            Self::Rtcp(rtcp) => rtcp.ssrc,
        }
    }
}

/// Whether the `len` octets at `offset` are RTCP and not RTP, where they are either: by what SRTP leaves in
/// clear.
#[inline(always)]
pub fn is_rtcp<C: Cursor + ?Sized>(packet: &C, offset: usize, len: usize) -> bool {
    if len < RTCP_LEN {
        return false;
    }
    let Some(header) = packet.window::<RTCP_LEN>(offset) else { return false };
    is_rtcp_type(header.octet::<1>())
}

/// RFC 5761 section 4: RTCP packet types are 192 to 223, and RTP keeps off payload types 64 to 95.
#[inline(always)]
fn is_rtcp_type(second: u8) -> bool {
    matches!(second, 192..=223)
}

/// Reads the UDP payload of `len` octets at `offset`, and refuses what the flow is not for.
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(
    packet: &C,
    offset: usize,
    len: usize,
    kind: FlowKind,
) -> Result<Media, Reason> {
    if len < RTCP_LEN {
        return Err(Reason::NotRtp);
    }
    let header = packet.window::<RTCP_LEN>(offset).ok_or(Reason::Truncated)?;
    let (first, second) = (header.octet::<0>(), header.octet::<1>());
    if first >> 6 != 2 {
        return Err(Reason::NotRtp);
    }
    if is_rtcp_type(second) {
        if kind == FlowKind::Rtp {
            return Err(Reason::RtcpUnexpected);
        }
        return Ok(Media::Rtcp(Rtcp { packet_type: second, ssrc: header.be32::<4>() }));
    }
    if kind == FlowKind::Rtcp {
        return Err(Reason::RtpUnexpected);
    }
    if len < RTP_LEN {
        return Err(Reason::NotRtp);
    }
    let header = packet.window::<RTP_LEN>(offset).ok_or(Reason::Truncated)?;
    // Neither padding, extension nor CSRC: by far the most packets.
    let header_len = if first & 0x3f == 0 { RTP_LEN } else { header_len(packet, offset, len, first)? };
    Ok(Media::Rtp(Rtp {
        payload_type: second & 0x7f,
        marker: second & 0x80,
        sequence: header.be16::<2>().host(),
        timestamp: header.be32::<4>().host(),
        ssrc: header.be32::<8>(),
        header_len,
    }))
}

/// The header of RTP with neither padding, extension nor CSRC; `None` of all else. What [`parse`] says of such a packet,
/// sooner: for a flow that is not for RTCP alone.
#[inline(always)]
pub fn parse_plain<W: Window>(header: &W) -> Option<Rtp> {
    const NOTHING_EXTRA: u8 = 0x80;
    let second = header.octet::<1>();
    if header.octet::<0>() != NOTHING_EXTRA || is_rtcp_type(second) {
        return None;
    }
    Some(Rtp {
        payload_type: second & 0x7f,
        marker: second & 0x80,
        sequence: header.be16::<2>().host(),
        timestamp: header.be32::<4>().host(),
        ssrc: header.be32::<8>(),
        header_len: RTP_LEN,
    })
}

/// RFC 3550 section 5.1 and 5.3.1: CSRC list, header extension and padding have to fit.
#[inline(always)]
fn header_len<C: Cursor + ?Sized>(packet: &C, offset: usize, len: usize, first: u8) -> Result<usize, Reason> {
    const PADDING: u8 = 0x20;
    const EXTENSION: u8 = 0x10;
    let mut header = RTP_LEN + usize::from(first & 0x0f) * 4;
    if first & EXTENSION != 0 {
        let extension = packet.window::<4>(offset + header).ok_or(Reason::RtpHeader)?;
        header += 4 + usize::from(extension.be16::<2>().host()) * 4;
    }
    let mut padding = 0;
    if first & PADDING != 0 {
        let count = packet.window::<1>(offset + len - 1).ok_or(Reason::Truncated)?.octet::<0>();
        if count == 0 {
            return Err(Reason::RtpHeader);
        }
        padding = usize::from(count);
    }
    if header + padding > len { Err(Reason::RtpHeader) } else { Ok(header) }
}

/// The payload of a telephone-event packet (RFC 4733 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct TelephoneEvent {
    pub code: u8,
    pub end: bool,
    /// In RTP clock units.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads the event from the RTP payload at `offset`; `None` when it is shorter than an event.
    #[inline(always)]
    pub fn parse<C: Cursor + ?Sized>(packet: &C, offset: usize, len: usize) -> Option<Self> {
        if len < 4 {
            return None;
        }
        let event = packet.window::<4>(offset)?;
        Some(Self {
            code: event.octet::<0>(),
            end: event.octet::<1>() & 0x80 != 0,
            duration: event.be16::<2>().host(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rtp(first: u8, second: u8, rest: &[u8]) -> Vec<u8> {
        [&[first, second, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef], rest].concat()
    }

    fn parsed(payload: &[u8], kind: FlowKind) -> Result<Media, Reason> {
        parse(payload, 0, payload.len(), kind)
    }

    #[test]
    fn the_fixed_header_is_read() {
        let expected = Rtp {
            payload_type: 8,
            marker: 0x80,
            sequence: 0x1234,
            timestamp: 160,
            ssrc: Be32::new(0xdead_beef),
            header_len: 12,
        };
        assert_eq!(parsed(&rtp(0x80, 0x88, &[1; 160]), FlowKind::Rtp), Ok(Media::Rtp(expected)));
    }

    proptest! {
        #[test]
        fn a_plain_header_says_what_parsing_does(first in prop_oneof![Just(0x80u8), any::<u8>()], second: u8) {
            let payload = rtp(first, second, &[1; 160]);
            let plain = parse_plain(&payload.first_chunk::<RTP_LEN>().unwrap());
            match plain {
                Some(rtp) => prop_assert_eq!(parsed(&payload, FlowKind::Mux), Ok(Media::Rtp(rtp))),
                None => prop_assert!(first != 0x80 || matches!(second, 192..=223)),
            }
        }
    }

    #[test]
    fn sources_extension_and_padding_have_to_fit() {
        let header_len = |payload: &[u8]| match parsed(payload, FlowKind::Rtp) {
            Ok(Media::Rtp(rtp)) => Ok(rtp.header_len),
            Ok(Media::Rtcp(_)) => Err(Reason::RtcpUnexpected),
            Err(reason) => Err(reason),
        };
        assert_eq!(header_len(&rtp(0x82, 0, &[0; 8])), Ok(20));
        assert_eq!(header_len(&rtp(0x83, 0, &[0; 8])), Err(Reason::RtpHeader));
        assert_eq!(header_len(&rtp(0x90, 0, &[0, 0, 0, 1, 9, 9, 9, 9])), Ok(20));
        assert_eq!(header_len(&rtp(0x90, 0, &[0, 0, 0, 2, 9, 9, 9, 9])), Err(Reason::RtpHeader));
        assert_eq!(header_len(&rtp(0xa0, 0, &[0, 0, 3])), Ok(12));
        assert_eq!(header_len(&rtp(0xa0, 0, &[0, 0, 4])), Err(Reason::RtpHeader));
        assert_eq!(header_len(&rtp(0xa0, 0, &[0, 0, 0])), Err(Reason::RtpHeader));
    }

    #[test]
    fn rtp_and_rtcp_are_told_apart_by_the_second_octet() {
        let report = rtp(0x80, 200, &[0; 16]);
        assert!(matches!(parsed(&report, FlowKind::Mux), Ok(Media::Rtcp(Rtcp { packet_type: 200, .. }))));
        assert_eq!(parsed(&report, FlowKind::Rtp), Err(Reason::RtcpUnexpected));
        assert_eq!(parsed(&rtp(0x80, 0, &[]), FlowKind::Rtcp), Err(Reason::RtpUnexpected));
        assert!(matches!(parsed(&rtp(0x80, 224, &[]), FlowKind::Mux), Ok(Media::Rtp(_))));
        assert_eq!(parsed(&rtp(0x40, 0, &[]), FlowKind::Mux), Err(Reason::NotRtp));
        assert_eq!(parsed(&[0x80; 7], FlowKind::Mux), Err(Reason::NotRtp));
    }
}
