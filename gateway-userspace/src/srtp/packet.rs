//! Of RTP and RTCP only what protection has to know: what stays in clear, and what the packet is numbered by.

use super::SrtpFault;
use super::transform::RTCP_CLEAR;

const RTP_LEN: usize = 12;
const VERSION: u8 = 2;

/// What stands in an RTP header (RFC 3550 section 5.1).
pub(super) struct RtpParts {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    /// Where the payload begins: behind CSRC list and header extension, which stay in clear.
    pub(super) payload: usize,
}

impl RtpParts {
    pub(super) fn of(packet: &[u8]) -> Result<Self, SrtpFault> {
        let header = packet.first_chunk::<RTP_LEN>().ok_or(SrtpFault::Malformed)?;
        let [first, _, sequence_high, sequence_low, _, _, _, _, ssrc @ ..] = *header;
        if first >> 6 != VERSION {
            return Err(SrtpFault::Malformed);
        }
        let mut payload = RTP_LEN + 4 * usize::from(first & 0xf);
        if first & 0x10 != 0 {
            let [_, _, high, low] =
                *packet.get(payload..).and_then(<[u8]>::first_chunk).ok_or(SrtpFault::Malformed)?;
            payload += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        }
        let sequence = u16::from_be_bytes([sequence_high, sequence_low]);
        let parts = Self { ssrc: u32::from_be_bytes(ssrc), sequence, payload };
        if payload > packet.len() { Err(SrtpFault::Malformed) } else { Ok(parts) }
    }
}

/// Who sends an RTCP compound (RFC 3550 section 6.4).
pub(super) fn ssrc_of_rtcp(packet: &[u8]) -> Result<u32, SrtpFault> {
    let [first, _, _, _, ssrc @ ..] = *packet.first_chunk::<RTCP_CLEAR>().ok_or(SrtpFault::Malformed)?;
    if first >> 6 == VERSION { Ok(u32::from_be_bytes(ssrc)) } else { Err(SrtpFault::Malformed) }
}
