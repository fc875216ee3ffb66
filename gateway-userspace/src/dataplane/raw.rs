//! Out of userspace while XDP has the interfaces: IP packets with headers of ours, by raw sockets. The kernel finds
//! route, neighbour and VLAN, as for any packet of the host; no port is opened, so nothing arrives here.

use super::reference::engine::Carrier;
use gateway_common::verdict::Reason;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};

/// `IPPROTO_RAW`: the header is part of what is sent.
const HEADER_INCLUDED: i32 = libc::IPPROTO_RAW;
const UDP: u8 = 17;
const UDP_LEN: usize = 8;
/// RFC 1700's default, as the XDP program writes it.
const HOP_LIMIT: u8 = 64;

/// Raw sockets by the address that packets leave from, so that the kernel routes by it.
#[derive(Debug, Default)]
pub(super) struct RawSender {
    sockets: HashMap<IpAddr, Socket>,
}

impl RawSender {
    /// Whether this process may have raw sockets at all.
    pub(super) fn probe() -> io::Result<()> {
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(HEADER_INCLUDED))).map(drop)
    }

    fn socket(&mut self, from: IpAddr) -> io::Result<&Socket> {
        use std::collections::hash_map::Entry;
        match self.sockets.entry(from) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let domain = if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
                let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(HEADER_INCLUDED)))?;
                socket.set_nonblocking(true)?;
                socket.bind(&SocketAddr::new(from, 0).into())?;
                Ok(entry.insert(socket))
            }
        }
    }
}

impl Carrier for RawSender {
    fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        traffic_class: u8,
        payload: &[u8],
    ) -> Result<(), Reason> {
        let headers = Headers::new(from, to, traffic_class, payload).ok_or(Reason::TooBig)?;
        let socket = self.socket(from.ip()).map_err(|_| Reason::NoTransmit)?;
        let parts = [IoSlice::new(headers.octets()), IoSlice::new(payload)];
        // An IPv6 raw socket takes the port for the protocol.
        let to = SockAddr::from(SocketAddr::new(to.ip(), 0));
        socket.send_to_vectored(&parts, &to).map(drop).map_err(|error| reason(&error))
    }
}

/// Why a send of the kernel's failed.
pub(super) fn reason(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => Reason::TooBig,
        Some(libc::ENETUNREACH) => Reason::NoRoute,
        Some(libc::EHOSTUNREACH) => Reason::NoNeighbour,
        Some(libc::EACCES | libc::EPERM) => Reason::RouteRefused,
        _ => Reason::NoTransmit,
    }
}

/// IP and UDP headers.
struct Headers {
    octets: [u8; 40 + UDP_LEN],
    len: usize,
}

impl Headers {
    /// `None` for a payload longer than UDP carries, and for addresses of two families.
    fn new(from: SocketAddr, to: SocketAddr, traffic_class: u8, payload: &[u8]) -> Option<Self> {
        let udp_len = u16::try_from(UDP_LEN + payload.len()).ok()?;
        let mut ip = IpHeader::new(from.ip(), to.ip(), traffic_class, udp_len)?;
        let at = ip.len;
        let udp = ip.octets.get_mut(at..at + UDP_LEN)?;
        udp[..2].copy_from_slice(&from.port().to_be_bytes());
        udp[2..4].copy_from_slice(&to.port().to_be_bytes());
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        let pseudo = ip.pseudo + u64::from(UDP) + u64::from(udp_len);
        let sum = folded(pseudo + sum(udp) + sum(payload));
        // RFC 768: what comes out as none is sent as all ones.
        let checksum = if sum == 0xffff { 0xffff } else { !sum };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        Some(Self { octets: ip.octets, len: at + UDP_LEN })
    }

    fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

/// An IP header with room for UDP's behind it.
struct IpHeader {
    octets: [u8; 40 + UDP_LEN],
    len: usize,
    /// Sum of the addresses.
    pseudo: u64,
}

impl IpHeader {
    fn new(from: IpAddr, to: IpAddr, traffic_class: u8, udp_len: u16) -> Option<Self> {
        let mut octets = [0; 40 + UDP_LEN];
        let len = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                (octets[0], octets[1]) = (0x45, traffic_class);
                octets[2..4].copy_from_slice(&udp_len.checked_add(20)?.to_be_bytes());
                // Never fragmented. Identification and checksum are the kernel's to write (raw(7)).
                octets[6] = 0x40;
                (octets[8], octets[9]) = (HOP_LIMIT, UDP);
                octets[12..16].copy_from_slice(&from.octets());
                octets[16..20].copy_from_slice(&to.octets());
                20
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                (octets[0], octets[1]) = (0x60 | traffic_class >> 4, traffic_class << 4);
                octets[4..6].copy_from_slice(&udp_len.to_be_bytes());
                (octets[6], octets[7]) = (UDP, HOP_LIMIT);
                octets[8..24].copy_from_slice(&from.octets());
                octets[24..40].copy_from_slice(&to.octets());
                40
            }
            _ => return None,
        };
        let addresses = if len == 20 { &octets[12..20] } else { &octets[8..40] };
        Some(Self { pseudo: sum(addresses), octets, len })
    }
}

/// RFC 1071, not folded.
fn sum(octets: &[u8]) -> u64 {
    let (pairs, last) = octets.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    sum + last.first().map_or(0, |octet| u64::from(*octet) << 8)
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071: over all that it covers, its own field included, the sum is all ones.
    fn covered(headers: &Headers, payload: &[u8]) -> u16 {
        let octets = headers.octets();
        let (ip, udp) = octets.split_at(headers.len - UDP_LEN);
        let addresses = if ip.len() == 20 { &ip[12..20] } else { &ip[8..40] };
        let length = (UDP_LEN + payload.len()) as u64;
        folded(sum(addresses) + u64::from(UDP) + length + sum(udp) + sum(payload))
    }

    #[test]
    fn headers_of_both_families_carry_addresses_mark_lengths_and_a_right_checksum() {
        let payload: Vec<u8> = (0..173).collect();
        let v4 = Headers::new(
            "192.0.2.1:30000".parse().unwrap(),
            "198.51.100.9:5000".parse().unwrap(),
            0xb8,
            &payload,
        );
        let v4 = v4.unwrap();
        assert_eq!(v4.octets()[..4], [0x45, 0xb8, 0, 201]);
        assert_eq!(
            v4.octets()[12..],
            [&[192, 0, 2, 1, 198, 51, 100, 9, 0x75, 0x30, 0x13, 0x88, 0, 181][..], &v4.octets()[26..28]]
                .concat()
        );
        assert_eq!(covered(&v4, &payload), 0xffff);
        let (from, to) = ("[2001:db8::1]:30000", "[2001:db8::9]:5000");
        let v6 = Headers::new(from.parse().unwrap(), to.parse().unwrap(), 0xb8, &payload).unwrap();
        assert_eq!(v6.octets()[..8], [0x6b, 0x80, 0, 0, 0, 181, 17, 64]);
        assert_eq!(covered(&v6, &payload), 0xffff);
    }

    #[test]
    fn no_packet_leads_from_one_family_to_the_other_or_is_longer_than_udp_carries() {
        let v4 = "192.0.2.1:30000".parse().unwrap();
        assert!(Headers::new(v4, "[2001:db8::9]:5000".parse().unwrap(), 0, &[]).is_none());
        assert!(Headers::new(v4, v4, 0, &[0; 65_530]).is_none());
    }
}
