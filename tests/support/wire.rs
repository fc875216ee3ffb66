//! Frames as tests write them: every field with a usual value, each of them to be changed, checksums computed
//! at the end. Independent of the parser and the builder that are under test.

use std::net::{IpAddr, SocketAddr};

pub const VLAN: u16 = 0x8100;
pub const SERVICE_VLAN: u16 = 0x88a8;
pub const RTP_LEN: usize = 12;

/// What the UDP checksum field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Right,
    /// Zero: none (RFC 768).
    Absent,
    /// Off by this much in one's complement.
    Off(u16),
}

/// A UDP packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    /// EtherType and identifier of each VLAN tag, outermost first.
    pub tags: Vec<(u16, u16)>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub hop_limit: u8,
    pub identification: u16,
    /// Flags and fragment offset of IPv4.
    pub fragment: u16,
    pub flow_label: u32,
    /// IPv4 options, a multiple of 4 octets.
    pub options: Vec<u8>,
    /// IPv6 extension headers: type, and content after the next-header octet.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub checksum: Checksum,
    pub payload: Vec<u8>,
    /// Octets after the IP packet, as Ethernet pads short frames.
    pub trailer: Vec<u8>,
}

impl Frame {
    pub fn new(from: &str, to: &str, payload: Vec<u8>) -> Self {
        let address = |text: &str| text.parse().expect("the test writes addresses right");
        Self {
            to_mac: [2, 0, 0, 0, 0, 1],
            from_mac: [2, 0, 0, 0, 0, 0x99],
            tags: Vec::new(),
            from: address(from),
            to: address(to),
            traffic_class: 0,
            hop_limit: 57,
            identification: 0x1234,
            fragment: 0,
            flow_label: 0xabcde,
            options: Vec::new(),
            extensions: Vec::new(),
            checksum: Checksum::Right,
            payload,
            trailer: Vec::new(),
        }
    }

    /// The frame on the wire.
    pub fn octets(&self) -> Vec<u8> {
        let udp = self.udp();
        let mut frame = [self.to_mac, self.from_mac].concat();
        for (ether_type, identifier) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(identifier.to_be_bytes());
        }
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([0x08, 0x00]);
                let length = 20 + self.options.len() + udp.len();
                let mut header = vec![0x45 + (self.options.len() / 4) as u8, self.traffic_class];
                header.extend((length as u16).to_be_bytes());
                header.extend(self.identification.to_be_bytes());
                header.extend(self.fragment.to_be_bytes());
                header.extend([self.hop_limit, 17, 0, 0]);
                header.extend(from.octets());
                header.extend(to.octets());
                header.extend(&self.options);
                let checksum = !sum(&[&header]);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd]);
                let extensions = self.extension_headers();
                let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
                frame.extend(word.to_be_bytes());
                frame.extend(((extensions.len() + udp.len()) as u16).to_be_bytes());
                frame.extend([self.extensions.first().map_or(17, |(kind, _)| *kind), self.hop_limit]);
                frame.extend(from.octets());
                frame.extend(to.octets());
                frame.extend(extensions);
            }
            _ => panic!("a packet has addresses of one family"),
        }
        frame.extend(udp);
        frame.extend(&self.trailer);
        frame
    }

    fn extension_headers(&self) -> Vec<u8> {
        let next = self.extensions.iter().skip(1).map(|(kind, _)| *kind).chain([17]);
        let headers = self.extensions.iter().zip(next);
        headers.flat_map(|((_, content), next)| [[next].as_slice(), content].concat()).collect()
    }

    fn udp(&self) -> Vec<u8> {
        let length = ((8 + self.payload.len()) as u16).to_be_bytes();
        let mut udp = Vec::new();
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend(length);
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let right = !sum(&[&octets(self.from.ip()), &octets(self.to.ip()), &[0, 17], &length, &udp]);
        let checksum = match self.checksum {
            Checksum::Absent => 0,
            Checksum::Right => nonzero(right),
            Checksum::Off(error) => nonzero(add(right, error)),
        };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        udp
    }
}

/// An RTP packet (RFC 3550 section 5.1).
#[derive(Clone, Debug)]
pub struct Rtp {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub csrc: Vec<u32>,
    /// Profile and words of the header extension.
    pub extension: Option<(u16, Vec<u32>)>,
    /// Octets of padding, the count included.
    pub padding: u8,
    pub body: Vec<u8>,
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            payload_type: 0,
            marker: false,
            sequence: 1000,
            timestamp: 160_000,
            ssrc: 0x1111_1111,
            csrc: Vec::new(),
            extension: None,
            padding: 0,
            body: (0..160).map(|octet| octet as u8).collect(),
        }
    }
}

impl Rtp {
    pub fn octets(&self) -> Vec<u8> {
        let first = 0x80
            | u8::from(self.padding > 0) << 5
            | u8::from(self.extension.is_some()) << 4
            | self.csrc.len() as u8;
        let mut octets = vec![first, u8::from(self.marker) << 7 | self.payload_type];
        octets.extend(self.sequence.to_be_bytes());
        octets.extend(self.timestamp.to_be_bytes());
        octets.extend(self.ssrc.to_be_bytes());
        octets.extend(self.csrc.iter().flat_map(|csrc| csrc.to_be_bytes()));
        if let Some((profile, words)) = &self.extension {
            octets.extend(profile.to_be_bytes());
            octets.extend((words.len() as u16).to_be_bytes());
            octets.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        }
        octets.extend(&self.body);
        if self.padding > 0 {
            octets.extend(vec![0; usize::from(self.padding) - 1]);
            octets.push(self.padding);
        }
        octets
    }
}

/// One RTCP packet (RFC 3550 section 6.1): count or subtype, packet type, words after the header.
pub fn rtcp(count: u8, packet_type: u8, words: &[u32]) -> Vec<u8> {
    let mut octets = vec![0x80 | count, packet_type];
    octets.extend((words.len() as u16).to_be_bytes());
    octets.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    octets
}

/// The four octets of a telephone-event (RFC 4733 section 2.3).
pub fn telephone_event(code: u8, end: bool, duration: u16) -> Vec<u8> {
    let [high, low] = duration.to_be_bytes();
    vec![code, u8::from(end) << 7 | 10, high, low]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071; only the last part may have an odd length.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    words.fold(0, |sum, word| add(sum, u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
