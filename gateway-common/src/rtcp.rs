//! RTCP compounds (RFC 3550 section 6): their shape is checked, and where a flow changes SSRC, sequence or
//! timestamps, what RTCP says of them changes the same way.
//!
//! Translated are the sender's SSRC of every packet, the RTP timestamp of sender reports, the SSRC and highest
//! sequence number of report blocks, the media source of feedback messages, the first chunk of a source
//! description, and the sources of a BYE. Left alone: the SSRCs inside extended report blocks (RFC 3611),
//! feedback control information (NACK, FIR), application-defined data, and report blocks, sources and packets
//! past the bounds below. SRTCP cannot be translated.

use crate::{
    cursor::{Cursor, CursorMut, Window},
    learned::FlowState,
    net::Be32,
    rewrite::Sum,
    verdict::Reason,
};

/// Packets in one compound; a longer one is refused.
pub const PACKETS_MAX: usize = 8;
/// Report blocks per report, and sources per BYE, that are translated.
pub const BLOCKS_MAX: usize = 4;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const SENDER_INFO_LEN: usize = 20;
const REPORT_BLOCK_LEN: usize = 24;

/// One packet of a compound.
struct Packet {
    packet_type: u8,
    /// Report blocks, sources or chunks: the five bits after the padding flag.
    count: usize,
    /// Offset of the next packet.
    next: usize,
}

/// Refuses a compound whose packets do not fill it exactly (RFC 3550 appendix A.2; a report need not come
/// first, RFC 5506).
#[inline(always)]
pub fn check<C: Cursor + ?Sized>(packet: &C, offset: usize, len: usize) -> Result<(), Reason> {
    let end = offset + len;
    let mut at = offset;
    for _ in 0..PACKETS_MAX {
        at = packet_at(packet, at, end).ok_or(Reason::RtcpHeader)?.next;
        if at == end {
            return Ok(());
        }
    }
    Err(Reason::RtcpHeader)
}

#[inline(always)]
fn packet_at<C: Cursor + ?Sized>(packet: &C, at: usize, end: usize) -> Option<Packet> {
    let header = packet.window::<4>(at)?;
    let (first, packet_type) = (header.octet::<0>(), header.octet::<1>());
    let next = at + (usize::from(header.be16::<2>().host()) + 1) * 4;
    (first >> 6 == 2 && matches!(packet_type, 192..=223) && next <= end).then_some(Packet {
        packet_type,
        count: usize::from(first & 0x1f),
        next,
    })
}

/// What changes between the two sides of a relay.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Translation {
    /// SSRC of the sender's stream, as it comes and as it leaves.
    pub own: (Be32, Be32),
    pub timestamp_offset: u32,
    /// SSRC of the stream reported on: as the sender of the report hears it, and as it was sent to us.
    pub reported: (Be32, Be32),
    /// That was added to the sequence numbers of the stream reported on.
    pub sequence_offset: u16,
}

impl Translation {
    /// From the states of the flow that carries the sender's stream and of the one it reports on.
    #[inline(always)]
    pub fn new(stream: Option<&FlowState>, reported: Option<&FlowState>) -> Self {
        let mut translation = Self::default();
        if let Some(state) = stream.filter(|state| state.heard == 1) {
            translation.own = (state.ssrc, state.out_ssrc);
            translation.timestamp_offset = state.timestamp_offset;
        }
        if let Some(state) = reported.filter(|state| state.heard == 1) {
            translation.reported = (state.out_ssrc, state.ssrc);
            translation.sequence_offset = state.sequence_offset;
        }
        translation
    }

    /// Whether anything would change.
    #[inline(always)]
    pub fn is_identity(&self) -> bool {
        self.own.0 == self.own.1
            && self.reported.0 == self.reported.1
            && self.timestamp_offset == 0
            && self.sequence_offset == 0
    }

    #[inline(always)]
    fn ssrc(&self, ssrc: Be32) -> Be32 {
        if ssrc == self.own.0 {
            self.own.1
        } else if ssrc == self.reported.0 {
            self.reported.1
        } else {
            ssrc
        }
    }
}

/// Translates a compound that [`check`] let through; the checksum `sum` follows.
#[inline(always)]
pub fn translate<C: CursorMut + ?Sized>(
    packet: &mut C,
    offset: usize,
    len: usize,
    translation: &Translation,
    mut sum: Sum,
) -> Sum {
    let end = offset + len;
    let mut at = offset;
    for _ in 0..PACKETS_MAX {
        let Some(header) = packet_at(packet, at, end) else { break };
        sum = translate_one(packet, at, &header, translation, sum);
        at = header.next;
    }
    sum
}

#[inline(always)]
fn translate_one<C: CursorMut + ?Sized>(
    packet: &mut C,
    at: usize,
    header: &Packet,
    translation: &Translation,
    sum: Sum,
) -> Sum {
    let Packet { packet_type, count, next } = *header;
    let ssrc = |word| translation.ssrc(word);
    match packet_type {
        SENDER_REPORT => {
            let sum = change(packet, at + 4, next, sum, ssrc);
            // RFC 3550 section 6.4.1: the RTP timestamp follows the 64-bit NTP timestamp.
            let sum = change(packet, at + 16, next, sum, |timestamp| {
                Be32::new(timestamp.host().wrapping_add(translation.timestamp_offset))
            });
            report_blocks(packet, at + 8 + SENDER_INFO_LEN, count, next, translation, sum)
        }
        RECEIVER_REPORT => {
            let sum = change(packet, at + 4, next, sum, ssrc);
            report_blocks(packet, at + 8, count, next, translation, sum)
        }
        SOURCE_DESCRIPTION if count == 0 => sum,
        SOURCE_DESCRIPTION => change(packet, at + 4, next, sum, ssrc),
        BYE => {
            let mut sum = sum;
            for index in 0..BLOCKS_MAX {
                if index < count {
                    sum = change(packet, at + 4 + index * 4, next, sum, ssrc);
                }
            }
            sum
        }
        TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => {
            let sum = change(packet, at + 4, next, sum, ssrc);
            change(packet, at + 8, next, sum, ssrc)
        }
        _ => change(packet, at + 4, next, sum, ssrc),
    }
}

/// RFC 3550 section 6.4.1: SSRC first, the extended highest sequence number third. The number keeps its upper
/// half, as the count of wraps is the receiver's own.
#[inline(always)]
fn report_blocks<C: CursorMut + ?Sized>(
    packet: &mut C,
    first: usize,
    count: usize,
    end: usize,
    translation: &Translation,
    mut sum: Sum,
) -> Sum {
    for index in 0..BLOCKS_MAX {
        let block = first + index * REPORT_BLOCK_LEN;
        let Some(ssrc) = word(packet, block) else { break };
        if index < count && ssrc == translation.reported.0 {
            sum = change(packet, block, end, sum, |_| translation.reported.1);
            sum = change(packet, block + 8, end, sum, |highest| {
                let sequence = (highest.host() as u16).wrapping_sub(translation.sequence_offset);
                Be32::new(highest.host() & 0xffff_0000 | u32::from(sequence))
            });
        }
    }
    sum
}

/// Replaces the word at `at`, if it lies before `end`, and keeps the sum right.
#[inline(always)]
fn change<C: CursorMut + ?Sized>(
    packet: &mut C,
    at: usize,
    end: usize,
    sum: Sum,
    to: impl FnOnce(Be32) -> Be32,
) -> Sum {
    if at + 4 > end {
        return sum;
    }
    let Some(old) = word(packet, at) else { return sum };
    let new = to(old);
    match packet.put(at, new) {
        Some(()) => sum.minus(old).plus(new),
        None => sum,
    }
}

#[inline(always)]
fn word<C: Cursor + ?Sized>(packet: &C, at: usize) -> Option<Be32> {
    Some(packet.window::<4>(at)?.be32::<0>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// A sender report with one report block, and a source description.
    fn compound(own: u32, timestamp: u32, reported: u32, highest: u32) -> Vec<u8> {
        let report = [0x81c8_000c, own, 1, 2, timestamp, 3, 4, reported, 5, highest, 6, 7, 8];
        let description = [0x81ca_0003, own, 0x0104_6a6f, 0x686e_0000];
        [words(&report), words(&description)].concat()
    }

    #[test]
    fn a_compound_fills_its_datagram_exactly() {
        let good = compound(1, 2, 3, 4);
        assert_eq!(check(&good[..], 0, good.len()), Ok(()));
        assert_eq!(check(&good[..], 0, good.len() - 4), Err(Reason::RtcpHeader));
        let padded = [good, vec![0; 4]].concat();
        assert_eq!(check(&padded[..], 0, padded.len()), Err(Reason::RtcpHeader));
        let many = words(&[0x80c9_0001, 1].repeat(PACKETS_MAX + 1));
        assert_eq!(check(&many[..], 0, many.len()), Err(Reason::RtcpHeader));
        assert_eq!(check(&many[..], 0, many.len() - 8), Ok(()));
    }

    #[test]
    fn what_a_report_says_of_a_stream_follows_the_stream() {
        let mut packet = compound(0xa, 1000, 0xb1, 0x0002_0005);
        let translation = Translation {
            own: (Be32::new(0xa), Be32::new(0xa1)),
            timestamp_offset: 500,
            reported: (Be32::new(0xb1), Be32::new(0xb)),
            sequence_offset: 7,
        };
        let len = packet.len();
        let before = Sum::default();
        let sum = |packet: &[u8]| {
            packet.chunks(4).fold(before, |sum, word| sum.plus(Be32::from_bytes(word.try_into().unwrap())))
        };
        let old = sum(&packet);
        let carried = translate(&mut packet[..], 0, len, &translation, old);
        assert_eq!(packet, compound(0xa1, 1500, 0xb, 0x0002_fffe));
        assert_eq!(carried.udp_checksum(), sum(&packet).udp_checksum());
    }

    #[test]
    fn streams_that_pass_unchanged_leave_their_reports_alone() {
        let state =
            FlowState { heard: 1, ssrc: Be32::new(5), out_ssrc: Be32::new(5), ..FlowState::default() };
        assert!(Translation::new(Some(&state), Some(&state)).is_identity());
        assert!(Translation::new(None, None).is_identity());
    }
}
