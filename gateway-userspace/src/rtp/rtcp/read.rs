//! The packets of a compound, read.
//!
//! The reader takes what the data plane copies to userspace: the kernel has checked the first header only, and
//! long compounds are cut, so each packet is checked here and a cut one ends the reading by name.

use super::{
    CNAME, GOODBYE, HEADER, Packet, RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION,
    SenderInfo, Source,
};

/// Why a compound cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpFault {
    /// The packet is longer than what is left: a cut copy, or a wrong length.
    #[error("an RTCP packet says {said} octets and {left} are left")]
    Cut { said: usize, left: usize },
    #[error("RTCP version {0} is not 2")]
    Version(u8),
    #[error("an RTCP packet of type {packet_type} is shorter than its count of {count} asks for")]
    Short { packet_type: u8, count: u8 },
    #[error("the padding of an RTCP packet is longer than the packet")]
    Padding,
}

/// The packets of a compound, in order; an error is the last item.
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { left: compound }
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    left: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let item = first(self.left);
        self.left = item.as_ref().map_or(&[], |(_, rest)| *rest);
        Some(item.map(|(packet, _)| packet))
    }
}

/// The first packet and what follows it.
fn first(left: &[u8]) -> Result<(Packet<'_>, &[u8]), RtcpFault> {
    let cut = |said| RtcpFault::Cut { said, left: left.len() };
    let [flags, packet_type, high, low] = *left.first_chunk::<HEADER>().ok_or(cut(HEADER))?;
    if flags >> 6 != 2 {
        return Err(RtcpFault::Version(flags >> 6));
    }
    // The length counts words after the first.
    let said = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    let (packet, rest) = left.split_at_checked(said).ok_or(cut(said))?;
    let mut body = packet.get(HEADER..).unwrap_or_default();
    if flags & 0x20 != 0 {
        let padding = usize::from(body.last().copied().unwrap_or_default());
        body = body.len().checked_sub(padding).and_then(|end| body.get(..end)).ok_or(RtcpFault::Padding)?;
    }
    let count = flags & 0x1f;
    let packet = read(packet_type, count, body).ok_or(RtcpFault::Short { packet_type, count })?;
    Ok((packet, rest))
}

/// `None` if the body is shorter than its count asks for.
fn read(packet_type: u8, count: u8, body: &[u8]) -> Option<Packet<'_>> {
    let mut body = Reader(body);
    Some(match packet_type {
        SENDER_REPORT => Packet::SenderReport {
            ssrc: body.word()?,
            sender: SenderInfo {
                ntp: u64::from(body.word()?) << 32 | u64::from(body.word()?),
                rtp_timestamp: body.word()?,
                packets: body.word()?,
                octets: body.word()?,
            },
            reports: body.reports(count)?,
        },
        RECEIVER_REPORT => Packet::ReceiverReport { ssrc: body.word()?, reports: body.reports(count)? },
        SOURCE_DESCRIPTION => {
            Packet::SourceDescription((0..count).map(|_| body.source()).collect::<Option<_>>()?)
        }
        GOODBYE => Packet::Goodbye { sources: (0..count).map(|_| body.word()).collect::<Option<_>>()? },
        packet_type => Packet::Other { packet_type },
    })
}

/// What is left of a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    fn reports(&mut self, count: u8) -> Option<Vec<ReportBlock>> {
        (0..count).map(|_| self.report()).collect()
    }

    fn report(&mut self) -> Option<ReportBlock> {
        let ssrc = self.word()?;
        let lost = self.word()?;
        Some(ReportBlock {
            ssrc,
            fraction_lost: (lost >> 24) as u8,
            // 24 bits with a sign.
            cumulative_lost: (lost << 8).cast_signed() >> 8,
            extended_highest_sequence: self.word()?,
            jitter: self.word()?,
            last_sender_report: self.word()?,
            delay_since: self.word()?,
        })
    }

    /// A chunk: items up to a zero, padded to a word.
    fn source(&mut self) -> Option<Source<'a>> {
        let ssrc = self.word()?;
        let chunk = self.0;
        let mut cname = None;
        loop {
            let (kind, rest) = self.0.split_first()?;
            if *kind == 0 {
                self.0 = rest;
                break;
            }
            let (length, rest) = rest.split_first()?;
            let (text, rest) = rest.split_at_checked(usize::from(*length))?;
            if *kind == CNAME {
                cname = Some(text);
            }
            self.0 = rest;
        }
        let used = (chunk.len() - self.0.len()).next_multiple_of(4);
        self.0 = chunk.get(used..)?;
        Some(Source { ssrc, cname })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet: flags with the count, type, then the body, whose length is filled in.
    fn packet(count: u8, packet_type: u8, body: &[u8]) -> Vec<u8> {
        assert_eq!(body.len() % 4, 0);
        let words = u16::try_from(body.len() / 4).unwrap().to_be_bytes();
        [&[0x80 | count, packet_type], &words[..], body].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn block(last_sender_report: u32, delay_since: u32) -> ReportBlock {
        ReportBlock {
            ssrc: 0xb,
            fraction_lost: 64,
            cumulative_lost: -2,
            extended_highest_sequence: 0x1_0005,
            jitter: 80,
            last_sender_report,
            delay_since,
        }
    }

    fn block_words(block: &ReportBlock) -> Vec<u8> {
        let lost = u32::from(block.fraction_lost) << 24 | block.cumulative_lost.cast_unsigned() & 0xff_ffff;
        let ReportBlock { ssrc, extended_highest_sequence, jitter, last_sender_report, delay_since, .. } =
            *block;
        words(&[ssrc, lost, extended_highest_sequence, jitter, last_sender_report, delay_since])
    }

    #[test]
    fn a_compound_is_read_packet_by_packet() {
        let block = block(7, 65_536);
        let sender = [words(&[0xa, 0x1234_5678, 0x9abc_def0, 160, 3, 480]), block_words(&block)].concat();
        let description = b"\0\0\0\x0a\x01\x05a@b.c\x02\x01x\0\0";
        let compound = [
            packet(1, 200, &sender),
            packet(0, 201, &words(&[0xa])),
            packet(1, 202, description),
            packet(1, 203, &words(&[0xa])),
            packet(2, 207, &words(&[1, 2])),
        ]
        .concat();
        let read: Result<Vec<_>, _> = packets(&compound).collect();
        let info = SenderInfo { ntp: 0x1234_5678_9abc_def0, rtp_timestamp: 160, packets: 3, octets: 480 };
        assert_eq!(info.ntp_middle(), 0x5678_9abc);
        assert_eq!(
            read.unwrap(),
            [
                Packet::SenderReport { ssrc: 0xa, sender: info, reports: vec![block] },
                Packet::ReceiverReport { ssrc: 0xa, reports: vec![] },
                Packet::SourceDescription(vec![Source { ssrc: 0xa, cname: Some(b"a@b.c") }]),
                Packet::Goodbye { sources: vec![0xa] },
                Packet::Other { packet_type: 207 },
            ]
        );
    }

    #[test]
    fn a_cut_copy_gives_what_was_whole_and_then_says_so() {
        let whole = packet(0, 201, &words(&[0xa]));
        let cut = packet(1, 200, &words(&[0xb; 12]));
        let copy = [&whole[..], &cut[..20]].concat();
        let read: Vec<_> = packets(&copy).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], Ok(Packet::ReceiverReport { ssrc: 0xa, reports: vec![] }));
        assert_eq!(read[1], Err(RtcpFault::Cut { said: 52, left: 20 }));
    }

    #[test]
    fn packets_that_contradict_themselves_are_refused_by_name() {
        let one = |bytes: &[u8]| packets(bytes).next().unwrap().unwrap_err();
        assert_eq!(one(&[0x40, 201, 0, 0]), RtcpFault::Version(1));
        assert_eq!(one(&packet(1, 201, &words(&[1]))), RtcpFault::Short { packet_type: 201, count: 1 });
        assert_eq!(one(&packet(2, 203, &words(&[1]))), RtcpFault::Short { packet_type: 203, count: 2 });
        assert_eq!(
            one(&packet(1, 202, b"\0\0\0\x0a\x01\xffab")),
            RtcpFault::Short { packet_type: 202, count: 1 }
        );
        assert_eq!(one(&[0xa0, 201, 0, 1, 0, 0, 0, 9]), RtcpFault::Padding);
        assert_eq!(one(&[0x80]), RtcpFault::Cut { said: 4, left: 1 });
    }

    #[test]
    fn padding_is_no_part_of_the_last_packet() {
        let mut padded = packet(1, 203, &words(&[0xa, 4]));
        padded[0] |= 0x20;
        assert_eq!(packets(&padded).next(), Some(Ok(Packet::Goodbye { sources: vec![0xa] })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_for_ever(mut bytes in prop::collection::vec(any::<u8>(), 0..300), valid in any::<bool>()) {
            if valid && let [flags, packet_type, ..] = &mut bytes[..] {
                *flags = 0x80 | *flags & 0x3f;
                *packet_type = 200 + *packet_type % 5;
            }
            prop_assert!(packets(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
