//! A capture as a file that Wireshark and its kin read.

use super::super::event::Direction;
use super::{Captured, Item, Link};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};
use std::borrow::Cow;
use std::time::Duration;

/// The file could not be made of it.
#[derive(Debug, thiserror::Error)]
#[error("the capture cannot be written: {0}")]
pub struct CaptureUnwritable(#[from] PcapError);

/// Links in the order of their interface blocks.
const LINKS: [(Link, DataLink, &str, &str); 2] = [
    (Link::Ethernet, DataLink::ETHERNET, "xdp", "media as the XDP program saw it come and leave"),
    (Link::Ip, DataLink::RAW, "causeway", "media and SIP of the daemon, with headers made up for them"),
];
/// Exponent of 10 of a time unit: nanoseconds.
const RESOLUTION: u8 = 9;

/// The file: items in order of time, what did not fit in the statistics of the last interface.
pub fn write(captured: &Captured, comment: &str) -> Result<Vec<u8>, CaptureUnwritable> {
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        options: vec![
            SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                "causeway ",
                env!("CARGO_PKG_VERSION")
            ))),
            SectionHeaderOption::Comment(Cow::Owned(comment.to_owned())),
        ],
        ..SectionHeaderBlock::default()
    };
    let mut writer = PcapNgWriter::with_section_header(Vec::new(), section)?;
    for (_, linktype, name, description) in LINKS {
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
            InterfaceDescriptionOption::IfDescription(Cow::Borrowed(description)),
            InterfaceDescriptionOption::IfTsResol(RESOLUTION),
        ];
        writer.write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen: 0, options })?;
    }
    let mut items: Vec<&Item> = captured.capture.items().iter().collect();
    items.sort_by_key(|item| item.at);
    for item in items {
        writer.write_pcapng_block(packet(item, captured.clock.since_unix_epoch(item.at)))?;
    }
    let dropped = InterfaceStatisticsOption::IsbIfDrop(captured.capture.dropped());
    let interface_id = LINKS.len() as u32 - 1;
    let statistics = InterfaceStatisticsBlock { interface_id, timestamp: 0, options: vec![dropped] };
    writer.write_pcapng_block(statistics)?;
    Ok(writer.into_inner())
}

fn packet(item: &Item, timestamp: Duration) -> EnhancedPacketBlock<'_> {
    let interface = LINKS.iter().position(|(link, ..)| *link == item.link).unwrap_or_default();
    // Lowest two bits: 1 inbound, 2 outbound.
    let flags = match item.direction {
        Direction::Received => 1,
        Direction::Sent => 2,
    };
    EnhancedPacketBlock {
        interface_id: interface as u32,
        timestamp,
        original_len: item.length,
        data: Cow::Borrowed(&item.octets),
        options: vec![EnhancedPacketOption::Flags(flags)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::WallClock;
    use super::super::{Capture, Wanted};
    use super::*;
    use crate::base::time::Time;
    use pcap_file::pcapng::{Block, PcapNgReader};
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_capture_reads_back_in_order_of_time_with_what_was_dropped() {
        let mut capture = Capture::new(Wanted::default(), Time(0), Duration::from_secs(1));
        let item = |at: u64, direction, link| {
            let octets = vec![at as u8; 20].into();
            Item { at: Time(at * 1_000_000), direction, link, length: 214, octets }
        };
        capture.packet(item(2, Direction::Sent, Link::Ip));
        capture.packet(item(1, Direction::Received, Link::Ethernet));
        let clock = WallClock::new(Time::ZERO, UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let file = write(&Captured { capture, clock }, "call 7").unwrap();
        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let mut seen = Vec::new();
        let mut dropped = None;
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::EnhancedPacket(packet) => {
                    seen.push((
                        packet.interface_id,
                        packet.timestamp.as_secs(),
                        packet.original_len,
                        packet.data[0],
                    ));
                }
                Block::InterfaceStatistics(statistics) => dropped = Some(format!("{:?}", statistics.options)),
                _ => {}
            }
        }
        assert_eq!(seen, [(0, 1_800_000_001, 214, 1), (1, 1_800_000_002, 214, 2)]);
        assert_eq!(dropped.as_deref(), Some("[IsbIfDrop(0)]"));
    }
}
