//! An RTP capture as something to replay: the order, spacing and audio of its packets, without its addresses.

use super::traffic::words;
use anyhow::{Context, Result, bail, ensure};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use std::fs::File;
use std::path::Path;

const RTP_HEADER: usize = 12;

/// One RTP stream. Replaying it in a loop keeps sequence numbers and timestamps continuous.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) packets: Vec<Packet>,
    /// Ticks of the RTP clock from the first packet to the first of the next loop.
    pub(crate) span: u32,
}

/// What replaying does not change.
#[derive(Debug, PartialEq)]
pub(crate) struct Packet {
    /// Marker bit and payload type, as in the second octet of the header.
    pub(crate) marker_and_type: u8,
    /// Ticks of the RTP clock since the first packet.
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
    /// Of the payload's 16-bit words, for checksums.
    pub(crate) sum: u64,
}

impl Recording {
    /// Reads the first RTP stream in a classic pcap of Ethernet frames; other packets are left out.
    ///
    /// # Errors
    /// Not such a capture, or fewer than two RTP packets in it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let context = || format!("capture {}", path.display());
        let mut reader = PcapReader::new(File::open(path).with_context(context)?).with_context(context)?;
        if reader.header().datalink != DataLink::ETHERNET {
            bail!("{}: link type {:?}, Ethernet is needed", path.display(), reader.header().datalink);
        }
        let mut stream = None;
        let mut packets = Vec::new();
        while let Some(record) = reader.next_packet() {
            let record = record.with_context(context)?;
            let Some(rtp) = udp_payload(&record.data).and_then(Rtp::parse) else { continue };
            let &mut (ssrc, first) = stream.get_or_insert((rtp.ssrc, rtp.timestamp));
            if rtp.ssrc == ssrc {
                packets.push(Packet {
                    marker_and_type: rtp.marker_and_type,
                    timestamp: rtp.timestamp.wrapping_sub(first),
                    payload: rtp.payload.to_vec(),
                    sum: words(rtp.payload),
                });
            }
        }
        ensure!(packets.len() > 1, "{}: no RTP stream in it", path.display());
        let last = packets.last().map_or(0, |packet| packet.timestamp);
        let step = last / (packets.len() as u32 - 1);
        Ok(Self { packets, span: last.wrapping_add(step) })
    }

    /// The packet at `position` of an endless replay, and its RTP timestamp.
    pub(crate) fn at(&self, position: u64) -> (&Packet, u32) {
        let length = self.packets.len() as u64;
        let packet = &self.packets[(position % length) as usize];
        let loops = (position / length) as u32;
        (packet, self.span.wrapping_mul(loops).wrapping_add(packet.timestamp))
    }
}

struct Rtp<'a> {
    marker_and_type: u8,
    timestamp: u32,
    ssrc: u32,
    payload: &'a [u8],
}

impl<'a> Rtp<'a> {
    /// Version 2 with neither padding, extension nor contributing sources, as SIPp and phones send audio.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, payload) = packet.split_first_chunk::<RTP_HEADER>()?;
        let [0x80, marker_and_type, _, _, t0, t1, t2, t3, s0, s1, s2, s3] = *header else { return None };
        // RTCP on the same port (RFC 5761 section 4).
        if (192..224).contains(&marker_and_type) {
            return None;
        }
        let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
        Some(Self { marker_and_type, timestamp, ssrc: u32::from_be_bytes([s0, s1, s2, s3]), payload })
    }
}

/// What an Ethernet frame with IPv4 and UDP carries.
fn udp_payload(frame: &[u8]) -> Option<&[u8]> {
    let (ethernet, ip) = frame.split_first_chunk::<14>()?;
    if ethernet[12..] != [0x08, 0x00] || *ip.get(9)? != 17 {
        return None;
    }
    let header = usize::from(*ip.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    ip.get(header..total)?.get(8..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media;

    #[test]
    fn our_own_recording_reads_back_and_loops_without_a_seam() {
        let directory = std::env::temp_dir().join(format!("causeway-recording-{}", std::process::id()));
        let path = directory.join("speech.pcap");
        media::media_pcap(&path, media::Form::ALaw).unwrap();
        let recording = Recording::read(&path).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();

        assert_eq!(recording.packets.len(), usize::from(media::PACKETS));
        let (first, at_start) = recording.at(0);
        let (again, after_a_loop) = recording.at(u64::from(media::PACKETS));
        let (_, last) = recording.at(u64::from(media::PACKETS) - 1);
        assert_eq!((first, at_start, after_a_loop - last), (again, 0, 160));
        assert_eq!(first.marker_and_type, 0x80 | media::PAYLOAD_TYPE);
    }

    #[test]
    fn rtcp_and_extended_headers_are_not_taken_for_the_stream() {
        let mut packet = [0_u8; 40];
        packet[0] = 0x80;
        packet[1] = 200;
        assert!(Rtp::parse(&packet).is_none());
        packet[0] = 0x90;
        packet[1] = 8;
        assert!(Rtp::parse(&packet).is_none());
    }
}
