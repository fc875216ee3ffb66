//! Packets of RTCP, written one behind the other into a compound.

use super::{
    CNAME, EXTENDED_REPORT, GOODBYE, HEADER, RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION,
    SenderInfo, VoipMetrics,
};

/// Report blocks that a packet has room for: five bits count them.
const REPORTS_MAX: usize = 31;
/// Octets of a canonical name: one octet counts them.
const CNAME_MAX: usize = 255;
const VERSION: u8 = 2 << 6;

pub(super) fn sender_report(compound: &mut Vec<u8>, ssrc: u32, sender: &SenderInfo, reports: &[ReportBlock]) {
    let reports = reports.get(..REPORTS_MAX).unwrap_or(reports);
    packet(compound, SENDER_REPORT, reports.len(), |body| {
        words(body, &[ssrc]);
        body.extend(sender.ntp.to_be_bytes());
        words(body, &[sender.rtp_timestamp, sender.packets, sender.octets]);
        reports.iter().for_each(|report| block(body, report));
    });
}

pub(super) fn receiver_report(compound: &mut Vec<u8>, ssrc: u32, reports: &[ReportBlock]) {
    let reports = reports.get(..REPORTS_MAX).unwrap_or(reports);
    packet(compound, RECEIVER_REPORT, reports.len(), |body| {
        words(body, &[ssrc]);
        reports.iter().for_each(|report| block(body, report));
    });
}

/// The canonical name of one source; cut at 255 octets.
pub(super) fn source_description(compound: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = cname.as_bytes();
    let cname = cname.get(..CNAME_MAX).unwrap_or(cname);
    packet(compound, SOURCE_DESCRIPTION, 1, |body| {
        words(body, &[ssrc]);
        body.extend([CNAME, cname.len() as u8]);
        body.extend(cname);
        // The list of items ends with a zero at least; `packet` fills the word (RFC 3550 section 6.5).
        body.push(0);
    });
}

pub(super) fn goodbye(compound: &mut Vec<u8>, ssrc: u32) {
    packet(compound, GOODBYE, 1, |body| words(body, &[ssrc]));
}

/// RFC 3611 section 2: what `ssrc` has to say of the source that it hears.
pub(super) fn extended_report(compound: &mut Vec<u8>, ssrc: u32, (heard, metrics): (u32, &VoipMetrics)) {
    packet(compound, EXTENDED_REPORT, 0, |body| {
        words(body, &[ssrc]);
        metrics.write(body, heard);
    });
}

/// Writes the header in front of what `fill` writes, and zeros behind it up to a whole word.
fn packet(compound: &mut Vec<u8>, packet_type: u8, count: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = compound.len();
    compound.extend([VERSION | count as u8, packet_type, 0, 0]);
    fill(compound);
    let octets = (compound.len() - start).next_multiple_of(HEADER);
    compound.resize(start + octets, 0);
    // The length counts words after the first.
    let words = u16::try_from(octets / 4 - 1).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(length) = compound.get_mut(start + 2..start + HEADER) {
        length.copy_from_slice(&words);
    }
}

fn words(body: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| body.extend(value.to_be_bytes()));
}

fn block(body: &mut Vec<u8>, report: &ReportBlock) {
    let lost = report.cumulative_lost.clamp(-(1 << 23), (1 << 23) - 1).cast_unsigned() & 0xff_ffff;
    let ReportBlock { ssrc, extended_highest_sequence, jitter, last_sender_report, delay_since, .. } =
        *report;
    let lost = u32::from(report.fraction_lost) << 24 | lost;
    words(body, &[ssrc, lost, extended_highest_sequence, jitter, last_sender_report, delay_since]);
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, Source, packets};
    use super::*;
    use proptest::prelude::*;

    fn report_block() -> impl Strategy<Value = ReportBlock> {
        (any::<(u32, u8, u32, u32, u32, u32)>(), -(1i32 << 23)..1 << 23).prop_map(|(fields, cumulative_lost)| {
            let (ssrc, fraction_lost, extended_highest_sequence, jitter, last_sender_report, delay_since) = fields;
            ReportBlock {
                ssrc,
                fraction_lost,
                cumulative_lost,
                extended_highest_sequence,
                jitter,
                last_sender_report,
                delay_since,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            (ssrc, ntp, rtp_timestamp, sent, octets) in any::<(u32, u64, u32, u32, u32)>(),
            blocks in prop::collection::vec(report_block(), 0..3),
            cname in "[ -~]{0,300}",
        ) {
            let sender = SenderInfo { ntp, rtp_timestamp, packets: sent, octets };
            let mut compound = Vec::new();
            sender_report(&mut compound, ssrc, &sender, &blocks);
            receiver_report(&mut compound, ssrc, &blocks);
            source_description(&mut compound, ssrc, &cname);
            goodbye(&mut compound, ssrc);
            prop_assert_eq!(compound.len() % 4, 0);
            let cname = &cname.as_bytes()[..cname.len().min(255)];
            let expected = vec![
                Packet::SenderReport { ssrc, sender, reports: blocks.clone() },
                Packet::ReceiverReport { ssrc, reports: blocks },
                Packet::SourceDescription(vec![Source { ssrc, cname: Some(cname) }]),
                Packet::Goodbye { sources: vec![ssrc] },
            ];
            prop_assert_eq!(packets(&compound).collect::<Result<Vec<_>, _>>(), Ok(expected));
        }
    }

    #[test]
    fn losses_beyond_24_bits_stay_at_their_bound() {
        for (lost, written) in [(i32::MAX, 0x7f_ffff), (i32::MIN, -0x80_0000)] {
            let mut compound = Vec::new();
            let report = ReportBlock {
                ssrc: 1,
                fraction_lost: 0,
                cumulative_lost: lost,
                extended_highest_sequence: 0,
                jitter: 0,
                last_sender_report: 0,
                delay_since: 0,
            };
            receiver_report(&mut compound, 2, &[report]);
            let Some(Ok(Packet::ReceiverReport { reports, .. })) = packets(&compound).next() else {
                panic!()
            };
            assert_eq!(reports[0].cumulative_lost, written);
        }
    }
}
