//! The relay with Ethernet frames around it: an independent account of what the XDP program is to do with a
//! packet. Headers that leave are written here from the RFCs and every checksum is computed over all it covers.

use super::relay::{Arrival, Passage, Relay};
use gateway_common::flow::{FlowConfig, FlowKey, flag};
use gateway_common::headers::{self, Headers, Parsed};
use gateway_common::net::{Addr128, Be16};
use gateway_common::rtp::is_rtcp;
use gateway_common::stun::is_stun;
use gateway_common::verdict::{Reason, Traffic};
use std::net::IpAddr;

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For the host's own stack.
    Pass,
    Drop(Reason),
    /// Out of the interface that it came in by.
    Transmit(Vec<u8>),
    /// Out of another one, by index.
    Redirect(u32, Vec<u8>),
    /// To userspace, as it came.
    Punt,
}

/// A way out, as a route look-up finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub ifindex: u32,
    /// Destination and source MAC address, VLAN tags, EtherType.
    pub link_header: Vec<u8>,
    /// Largest IP packet that fits.
    pub mtu: usize,
}

impl Relay {
    /// One frame that came in by interface `ifindex` at `now` (monotonic nanoseconds). `route` finds the way
    /// from a local address to a far end.
    pub fn frame(
        &mut self,
        now: u64,
        ifindex: u32,
        frame: &[u8],
        route: impl FnOnce(IpAddr, IpAddr) -> Result<Hop, Reason>,
    ) -> Verdict {
        let headers = match headers::parse(frame) {
            Parsed::Udp(headers) => headers,
            Parsed::Tcp(_) | Parsed::Other => return self.pass(Traffic::Passed),
            Parsed::LaterFragment => return self.pass(Traffic::LaterFragments),
            Parsed::Malformed(reason) => {
                self.counters().refuse(reason);
                return Verdict::Drop(reason);
            }
        };
        let at = FlowKey::new(headers.destination, headers.destination_port);
        match self.config(at) {
            None => return self.pass(Traffic::Passed),
            Some(config) if is_for_userspace(config, frame, &headers) => {
                let is_check = is_check(config, frame, &headers);
                return self.punt(now, ifindex, &headers, at, is_check).unwrap_or_else(Verdict::Drop);
            }
            Some(_) => {}
        }
        self.relayed(now, ifindex, frame, &headers, at, route).unwrap_or_else(Verdict::Drop)
    }

    fn pass(&self, traffic: Traffic) -> Verdict {
        self.counters().count(traffic);
        Verdict::Pass
    }

    fn relayed(
        &mut self,
        now: u64,
        ifindex: u32,
        frame: &[u8],
        headers: &Headers,
        at: FlowKey,
        route: impl FnOnce(IpAddr, IpAddr) -> Result<Hop, Reason>,
    ) -> Result<Verdict, Reason> {
        let received = frame.get(headers.payload..headers.payload + headers.payload_len).unwrap_or_default();
        let mut payload = received.to_owned();
        let passage = self.judge(now, arrival(headers, at), headers.fault, &mut payload)?;
        let hop = self
            .way_out(headers, &passage, payload.len(), route)
            .inspect_err(|reason| self.refuse(at, *reason))?;
        self.commit(now, &passage, &mut payload)?;
        let frame = build(&hop, headers, &passage, received, &payload);
        if hop.ifindex == ifindex {
            self.counters().count(Traffic::Transmitted);
            Ok(Verdict::Transmit(frame))
        } else {
            self.counters().count(Traffic::Redirected);
            Ok(Verdict::Redirect(hop.ifindex, frame))
        }
    }

    /// Gate and rate, of all but connectivity checks, and whether anybody listens.
    fn punt(
        &mut self,
        now: u64,
        ifindex: u32,
        headers: &Headers,
        at: FlowKey,
        is_check: bool,
    ) -> Result<Verdict, Reason> {
        let punted = self
            .knocks(now, arrival(headers, at), headers.fault, is_check)
            .and_then(|()| if self.listening.contains(&ifindex) { Ok(()) } else { Err(Reason::NoSocket) });
        punted.inspect_err(|reason| self.refuse(at, *reason))?;
        self.counters().count(Traffic::Punted);
        Ok(Verdict::Punt)
    }

    /// The route, if the packet fits it.
    fn way_out(
        &self,
        headers: &Headers,
        passage: &Passage,
        payload_len: usize,
        route: impl FnOnce(IpAddr, IpAddr) -> Result<Hop, Reason>,
    ) -> Result<Hop, Reason> {
        let hop = route(passage.from.0.into(), passage.to.0.into())?;
        let to_v4 = passage.to.0.is_v4();
        let ip = if to_v4 { headers::IPV4_LEN } else { headers::IPV6_LEN };
        if ip + headers::UDP_LEN + payload_len + passage.growth > hop.mtu {
            return Err(Reason::TooBig);
        }
        // The kernel side sums no longer payload when it has to make a checksum that did not come.
        let summed = headers.udp_checksum == Be16::new(0) && !to_v4;
        if summed && payload_len > SUMMED_MAX { Err(Reason::TooBig) } else { Ok(hop) }
    }
}

fn is_for_userspace(config: &FlowConfig, frame: &[u8], headers: &Headers) -> bool {
    config.flags & flag::PUNT != 0 || is_check(config, frame, headers) || is_reported(config, frame, headers)
}

fn is_reported(config: &FlowConfig, frame: &[u8], headers: &Headers) -> bool {
    config.flags & flag::REPORTED != 0 && is_rtcp(frame, headers.payload, headers.payload_len)
}

fn is_check(config: &FlowConfig, frame: &[u8], headers: &Headers) -> bool {
    config.flags & flag::ICE != 0 && is_stun(frame, headers.payload, headers.payload_len)
}

fn arrival(headers: &Headers, at: FlowKey) -> Arrival {
    let Headers { source, source_port, traffic_class, .. } = *headers;
    Arrival { at, source, source_port, traffic_class }
}

/// Longest payload for which a missing UDP checksum is made.
const SUMMED_MAX: usize = 2048;

/// The frame that leaves, written from scratch.
fn build(hop: &Hop, headers: &Headers, passage: &Passage, received: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = ((headers::UDP_LEN + payload.len()) as u16).to_be_bytes();
    let mut udp = Vec::new();
    udp.extend(passage.from.1.bytes());
    udp.extend(passage.to.1.bytes());
    udp.extend(length);
    udp.extend([0, 0]);
    udp.extend(payload);
    let checksum = udp_checksum(headers, passage, received, &udp);
    if let Some(field) = udp.get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }

    let mut frame = hop.link_header.clone();
    match (IpAddr::from(passage.from.0), IpAddr::from(passage.to.0)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = ((headers::IPV4_LEN + udp.len()) as u16).to_be_bytes();
            // RFC 791 section 3.1: version and IHL, traffic class, length, identification, Don't Fragment, TTL.
            let mut ip = vec![0x45, passage.traffic_class, total[0], total[1], 0, 0, 0x40, 0, 64, 17, 0, 0];
            ip.extend(from.octets());
            ip.extend(to.octets());
            let checksum = !ones_complement(&ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend(ip);
        }
        (from, to) => {
            // RFC 8200 section 3: version, traffic class, flow label, payload length, next header, hop limit.
            frame.extend([0x60 | passage.traffic_class >> 4, passage.traffic_class << 4, 0, 0]);
            frame.extend(length);
            frame.extend([17, 64]);
            frame.extend(octets(from));
            frame.extend(octets(to));
        }
    }
    frame.extend(udp);
    frame
}

/// The checksum of the packet that leaves. One that was wrong stays wrong by as much: the relay must not vouch
/// for a payload that was damaged on its way here. One that was absent (RFC 768, over IPv4 only) stays absent
/// where it may.
fn udp_checksum(headers: &Headers, passage: &Passage, received: &[u8], udp: &[u8]) -> u16 {
    let to_v4 = passage.to.0.is_v4();
    let whole = pseudo_header(passage.from.0, passage.to.0, udp);
    let came = headers.udp_checksum.host();
    if came == 0 {
        return if to_v4 { 0 } else { nonzero(!whole) };
    }
    let mut before = Vec::new();
    before.extend(headers.source_port.bytes());
    before.extend(headers.destination_port.bytes());
    before.extend(((headers::UDP_LEN + received.len()) as u16).to_be_bytes());
    before.extend([0, 0]);
    before.extend(received);
    let should_have_come = !pseudo_header(headers.source, headers.destination, &before);
    // In one's complement: what came less what should have come, added to what is to leave.
    let error = add(came, !should_have_come);
    nonzero(add(!whole, error))
}

fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Sum over the pseudo-header (RFC 768, RFC 8200 section 8.1) and a UDP packet whose checksum field is zero.
fn pseudo_header(from: Addr128, to: Addr128, udp: &[u8]) -> u16 {
    let mut sum = 0;
    for address in [from, to] {
        sum = add(sum, ones_complement(&octets(address.into())));
    }
    let length = Be16::new(udp.len() as u16).host();
    add(add(add(sum, 17), length), ones_complement(udp))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071: the sum of 16-bit words in one's complement, an odd octet padded with zero.
fn ones_complement(octets: &[u8]) -> u16 {
    octets.chunks(2).fold(0, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        add(sum, u16::from_be_bytes([word[0], low]))
    })
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}
