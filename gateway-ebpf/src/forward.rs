//! The way out of an admitted packet: where to, by which hop, and only then its new octets.

use crate::{
    crypto,
    packet::{Packet, PacketWindow, bounded},
    route,
    steer::{self, Flow},
};
use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::bpf_redirect,
    programs::XdpContext,
};
use gateway_common::{
    account::{self, Outgoing},
    cursor::{Cursor, Window},
    flow::{FlowConfig, NO_SLOT, Output},
    headers::{ETHERNET_LEN, Headers, IPV4_LEN, IPV6_LEN, PLAIN_PAYLOAD, UDP_LEN, VLAN_TAG_LEN},
    learned::{FlowState, NextHop},
    net::{Be16, Be32},
    rewrite::{self, Envelope, Sum},
    rtcp::{self, Translation},
    rtp::{RTP_LEN, Rtp},
    shortcut::{Found, Shortcut},
    verdict::Reason,
};

/// Payload that a full checksum is made over, when an IPv4 packet without one goes to IPv6.
const SUMMED_MAX: usize = 2048;

/// How a relayed packet left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Relayed {
    Transmitted,
    Redirected,
}

impl Relayed {
    #[inline(always)]
    pub fn action(self) -> u32 {
        match self {
            Self::Transmitted => xdp_action::XDP_TX,
            Self::Redirected => xdp_action::XDP_REDIRECT,
        }
    }
}

/// `SECURED`: the payload may grow behind this stage.
#[inline(always)]
pub fn rtp<const SECURED: bool>(
    packet: &mut Packet,
    headers: &Headers,
    flow: &mut Flow,
    rtp: &Rtp,
    payload_type: u8,
) -> Result<Relayed, Reason> {
    let out = Out::of::<false, SECURED>(packet, headers, flow)?;
    let sum = out.readdressed(Sum::of_checksum(headers.udp_checksum), headers);
    if !SECURED && out.is_plain(headers) {
        out.keep(headers, flow, rtp, payload_type);
    }
    let payload = out.make_room(packet, headers)?;
    let sent = account::send_rtp(flow.state, rtp, headers.payload_len, flow.now);
    let header = packet.window::<RTP_LEN>(payload).ok_or(Reason::Truncated)?;
    let sum = rewrite_rtp(&header, rtp, payload_type, &sent, sum);
    out.send(packet, headers, payload, sum)
}

#[inline(always)]
pub fn rtcp<const SECURED: bool>(
    packet: &mut Packet,
    headers: &Headers,
    flow: &mut Flow,
) -> Result<Relayed, Reason> {
    let out = Out::of::<true, SECURED>(packet, headers, flow)?;
    let payload = out.make_room(packet, headers)?;
    account::send_rtcp(flow.state);
    let sum = out.readdressed(Sum::of_checksum(headers.udp_checksum), headers);
    let sum = rewrite_rtcp(packet, payload, headers.payload_len, flow.config, sum);
    out.send(packet, headers, payload, sum)
}

/// A way that is clear.
struct Out {
    envelope: Envelope,
    hop: &'static NextHop,
    /// Octets that link, IP and UDP headers take.
    len: usize,
}

impl Out {
    #[inline(always)]
    fn of<const RTCP: bool, const SECURED: bool>(
        packet: &Packet,
        headers: &Headers,
        flow: &mut Flow,
    ) -> Result<Self, Reason> {
        let config = flow.config;
        let growth = if SECURED { crypto::growth::<RTCP>(flow)? } else { 0 };
        let output = if RTCP { &config.rtcp } else { &config.rtp };
        let envelope = envelope(headers, config.dscp, output, growth)?;
        let hop = next_hop(packet, flow, &envelope, RTCP)?;
        let ip_len = envelope.ip_len();
        if hop.mtu != 0 && ip_len > hop.mtu as usize {
            return Err(Reason::TooBig);
        }
        let len = hop.header_len as usize + ip_len - growth - headers.payload_len;
        Ok(Self { envelope, hop, len })
    }

    /// Whether the new headers lie where the old ones do, Ethernet, IPv4 and UDP both.
    #[inline(always)]
    fn is_plain(&self, headers: &Headers) -> bool {
        headers.payload == PLAIN_PAYLOAD
            && headers.source.is_v4()
            && self.hop.header_len == ETHERNET_LEN as u32
            && self.envelope.source.is_v4()
    }

    /// Leaves a shortcut for packets like this one, which is about to leave.
    #[inline(always)]
    fn keep(&self, headers: &Headers, flow: &mut Flow, rtp: &Rtp, payload_type: u8) {
        // What is asked of every packet, or not of the first.
        if flow.config.rate != 0 || flow.state.sent_at == 0 {
            return;
        }
        flow.state.shortcut = Shortcut::take(&Found {
            revision: flow.revision,
            headers,
            payload_type: rtp.payload_type,
            envelope: &self.envelope,
            hop: self.hop,
            out_payload_type: payload_type,
            sequence_offset: flow.state.sequence_offset,
            timestamp_offset: flow.state.timestamp_offset,
            readdressed: self.readdressed(Sum::default(), headers),
        });
    }

    /// A UDP checksum's sum with the new addresses and ports in the place of the old.
    #[inline(always)]
    fn readdressed(&self, sum: Sum, headers: &Headers) -> Sum {
        let envelope = &self.envelope;
        sum.readdressed([&headers.source, &headers.destination], [&envelope.source, &envelope.destination])
            .minus_ports(headers.source_port, headers.destination_port)
            .plus_ports(envelope.source_port, envelope.destination_port)
    }

    /// Moves the start of the packet so that the headers fit in front of the payload, and cuts what lies behind it
    /// (Ethernet padding). Gives the new offset of the payload.
    #[inline(always)]
    fn make_room(&self, packet: &mut Packet, headers: &Headers) -> Result<usize, Reason> {
        let excess = packet.len() as i32 - (headers.payload + headers.payload_len) as i32;
        if excess > 0 {
            packet.trim(excess).map_err(|()| Reason::Truncated)?;
        }
        let delta = headers.payload as i32 - self.len as i32;
        if delta != 0 {
            packet.move_start(delta).map_err(|()| Reason::NoHeadroom)?;
        }
        Ok(bounded(self.len as u32))
    }

    #[inline(always)]
    fn send(&self, packet: &Packet, headers: &Headers, payload: usize, sum: Sum) -> Result<Relayed, Reason> {
        let checksum = udp_checksum(packet, headers, &self.envelope, payload, sum)?;
        write_headers(packet, self.hop, &self.envelope, checksum).ok_or(Reason::Truncated)?;
        Ok(leave(packet, self.hop))
    }
}

#[inline(always)]
fn leave(packet: &Packet, hop: &NextHop) -> Relayed {
    leave_by(packet, hop.ifindex, hop.transmits_from)
}

#[inline(always)]
pub fn leave_by(packet: &Packet, ifindex: u32, transmits_from: u32) -> Relayed {
    if transmits_from == packet.ingress() {
        return Relayed::Transmitted;
    }
    // SAFETY: the helper takes plain integers. Without flags its answer is always XDP_REDIRECT.
    unsafe { bpf_redirect(ifindex, 0) };
    Relayed::Redirected
}

#[inline(always)]
fn envelope(headers: &Headers, dscp: u8, output: &Output, growth: usize) -> Result<Envelope, Reason> {
    let learned = if output.learned_slot == NO_SLOT { None } else { steer::state_of(output.learned_slot) };
    let (destination, destination_port) = output.destination(learned)?;
    if destination.is_v4() != output.local.is_v4() {
        return Err(Reason::NoDestination);
    }
    Ok(Envelope {
        source: output.local,
        destination,
        source_port: output.local_port,
        destination_port,
        traffic_class: rewrite::traffic_class(headers.traffic_class, dscp),
        payload_len: (headers.payload_len + growth) as u16,
        padding: 0,
    })
}

/// The cached hop, found anew if it does not lead to the destination by what is known now.
#[inline(always)]
fn next_hop(
    packet: &Packet,
    flow: &mut Flow,
    envelope: &Envelope,
    is_rtcp: bool,
) -> Result<&'static NextHop, Reason> {
    let state: *mut FlowState = flow.state;
    // SAFETY: array elements live as long as the map, and nothing but `cw_route` changes a hop: on another
    // processor only while a route changes, and then to another whole hop or one that is stale.
    let hop = unsafe { if is_rtcp { &(*state).rtcp_hop } else { &(*state).rtp_hop } };
    if route::is_fresh(hop, &envelope.destination, route::generation()) {
        return Ok(hop);
    }
    // A copy, so that the way of most packets keeps its envelope in registers.
    let envelope = *envelope;
    let number = route::cw_route(
        packet.raw_context(),
        state,
        &raw const envelope,
        flow.config.slot,
        u32::from(is_rtcp),
    );
    match Reason::from_number(number) {
        Some(reason) => Err(reason),
        None => Ok(hop),
    }
}

/// Payload type, sequence number, timestamp and SSRC, each only if it changes.
#[inline(always)]
pub fn rewrite_rtp(
    header: &PacketWindow<RTP_LEN>,
    rtp: &Rtp,
    payload_type: u8,
    out: &Outgoing,
    mut sum: Sum,
) -> Sum {
    let first = |payload_type: u8, sequence: u16| {
        Be32::new(u32::from(rtp.marker | payload_type) << 16 | u32::from(sequence))
    };
    if payload_type != rtp.payload_type || out.sequence != rtp.sequence {
        header.put8::<1>(rtp.marker | payload_type);
        header.put16::<2>(out.sequence.to_be());
        sum = sum.minus(first(rtp.payload_type, rtp.sequence)).plus(first(payload_type, out.sequence));
    }
    if out.timestamp != rtp.timestamp {
        let (old, new) = (Be32::new(rtp.timestamp), Be32::new(out.timestamp));
        header.put32::<4>(new.raw());
        sum = sum.minus(old).plus(new);
    }
    if out.ssrc != rtp.ssrc {
        header.put32::<8>(out.ssrc.raw());
        sum = sum.minus(rtp.ssrc).plus(out.ssrc);
    }
    sum
}

#[inline(always)]
fn rewrite_rtcp(packet: &mut Packet, payload: usize, len: usize, config: &FlowConfig, sum: Sum) -> Sum {
    if config.stream_slot == NO_SLOT && config.reported_slot == NO_SLOT {
        return sum;
    }
    let slots = u64::from(config.stream_slot) << 32 | u64::from(config.reported_slot);
    Sum::from_raw(cw_rtcp_translate(packet.raw_context(), payload as u32, len as u32, slots, sum.raw()))
}

/// Translates the compound of `len` octets at `offset` by the states in two slots, the stream's own in the upper
/// half of `slots`. Gives the checksum's sum as it is then.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_rtcp_translate(
    context: *mut xdp_md,
    offset: u32,
    len: u32,
    slots: u64,
    sum: u64,
) -> u64 {
    let mut packet = Packet::new(XdpContext::new(context));
    let translation = Translation::new(steer::state_of((slots >> 32) as u32), steer::state_of(slots as u32));
    if translation.is_identity() {
        return sum;
    }
    let sum = Sum::from_raw(sum);
    rtcp::translate(&mut packet, bounded(offset), len as usize, &translation, sum).raw()
}

/// None stays none over IPv4; over IPv6 there has to be one (RFC 8200 section 8.1).
#[inline(always)]
fn udp_checksum(
    packet: &Packet,
    headers: &Headers,
    envelope: &Envelope,
    payload: usize,
    sum: Sum,
) -> Result<Be16, Reason> {
    if headers.udp_checksum != Be16::new(0) {
        return Ok(sum.udp_checksum());
    }
    if envelope.source.is_v4() {
        return Ok(Be16::new(0));
    }
    if headers.payload_len > SUMMED_MAX {
        return Err(Reason::TooBig);
    }
    // Over the payload as it is: what grows it says what that changes.
    let sum = Envelope { payload_len: headers.payload_len as u16, ..*envelope }.pseudo_header().raw();
    let len = headers.payload_len as u32;
    Ok(Sum::from_raw(cw_sum(packet.raw_context(), payload as u32, len, sum)).udp_checksum())
}

/// Adds `len` octets at `offset` to a checksum's sum.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_sum(context: *mut xdp_md, offset: u32, len: u32, sum: u64) -> u64 {
    let packet = Packet::new(XdpContext::new(context));
    let mut sum = Sum::from_raw(sum);
    let mut at = bounded(offset);
    let end = at + len as usize;
    for _ in 0..SUMMED_MAX / 4 {
        if at + 4 > end {
            break;
        }
        let Some(word) = packet.window::<4>(at) else { break };
        sum = sum.plus(word.be32::<0>());
        at += 4;
    }
    for index in 0..3 {
        if at < end
            && let Some(octet) = packet.window::<1>(at)
        {
            // RFC 1071: an odd octet at the end counts as if a zero followed it.
            let octet = u32::from(octet.octet::<0>());
            sum = sum.plus(Be32::new(if index % 2 == 0 { octet << 8 } else { octet }));
            at += 1;
        }
    }
    sum.raw()
}

#[inline(always)]
fn write_headers(packet: &Packet, hop: &NextHop, envelope: &Envelope, checksum: Be16) -> Option<()> {
    let at = write_link_header(packet, hop)?;
    if envelope.source.is_v4() {
        write_ipv4(&packet.window(at)?, envelope, checksum);
    } else {
        let [ports, rest] = envelope.udp(checksum);
        let window = packet.window::<{ IPV6_LEN + UDP_LEN }>(at)?;
        let [a, b] = envelope.ipv6();
        let ([c, d], [e, f]) = (envelope.source.raw(), envelope.destination.raw());
        window.put32::<0>(a.raw());
        window.put32::<4>(b.raw());
        window.put64::<8>(c);
        window.put64::<16>(d);
        window.put64::<24>(e);
        window.put64::<32>(f);
        window.put32::<40>(ports.raw());
        window.put32::<44>(rest.raw());
    }
    Some(())
}

/// Gives the offset of the IP header.
#[inline(always)]
fn write_link_header(packet: &Packet, hop: &NextHop) -> Option<usize> {
    let [_, second, third] = hop.header;
    write_ethernet(&packet.window(0)?, hop);
    let len = hop.header_len;
    if len == ETHERNET_LEN as u32 {
        return Some(ETHERNET_LEN);
    }
    let window = packet.window::<{ ETHERNET_LEN + VLAN_TAG_LEN }>(0)?;
    window.put64::<8>(second);
    window.put16::<16>(third as u16);
    if len == (ETHERNET_LEN + VLAN_TAG_LEN) as u32 {
        return Some(ETHERNET_LEN + VLAN_TAG_LEN);
    }
    let window = packet.window::<{ ETHERNET_LEN + 2 * VLAN_TAG_LEN }>(0)?;
    window.put32::<16>(third as u32);
    window.put16::<20>((third >> 32) as u16);
    Some(ETHERNET_LEN + 2 * VLAN_TAG_LEN)
}

#[inline(always)]
fn write_ethernet(window: &PacketWindow<ETHERNET_LEN>, hop: &NextHop) {
    let [first, second, _] = hop.header;
    window.put64::<0>(first);
    window.put32::<8>(second as u32);
    window.put16::<12>((second >> 32) as u16);
}

#[inline(always)]
fn write_ipv4(window: &PacketWindow<{ IPV4_LEN + UDP_LEN }>, envelope: &Envelope, checksum: Be16) {
    let [a, b, c, d, e] = envelope.ipv4();
    let [ports, rest] = envelope.udp(checksum);
    window.put32::<0>(a.raw());
    window.put32::<4>(b.raw());
    window.put32::<8>(c.raw());
    window.put32::<12>(d.raw());
    window.put32::<16>(e.raw());
    window.put32::<20>(ports.raw());
    window.put32::<24>(rest.raw());
}
