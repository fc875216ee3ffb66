//! The way out of an admitted packet: where to, by which hop, and only then its new octets.

use crate::{
    admit::Admitted,
    packet::Packet,
    route,
    steer::{self, Flow},
};
use aya_ebpf::{bindings::xdp_md, helpers::bpf_redirect, programs::XdpContext};
use gateway_common::{
    account::{self, Outgoing},
    cursor::{Cursor, CursorMut},
    flow::{FlowConfig, NO_SLOT, Output},
    headers::{Headers, IPV4_LEN, IPV6_LEN},
    learned::{FlowState, NextHop},
    net::Be16,
    rewrite::{self, Envelope, Sum},
    rtcp::{self, Translation},
    rtp::{Media, Rtp},
    verdict::Reason,
};

const ETHERNET_LEN: usize = 14;
const TAGGED_LEN: usize = 18;
const DOUBLE_TAGGED_LEN: usize = 22;
/// Payload that a full checksum is made over, when an IPv4 packet without one goes to IPv6.
const SUMMED_MAX: usize = 2048;

/// How a relayed packet left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Relayed {
    Transmitted,
    /// The action that the redirect helper gave.
    Redirected(u32),
}

#[inline(always)]
pub fn forward(
    packet: &mut Packet,
    headers: &Headers,
    flow: &mut Flow,
    admitted: &Admitted,
) -> Result<Relayed, Reason> {
    let is_rtcp = matches!(admitted.media, Media::Rtcp(_));
    let config = flow.config;
    let output = if is_rtcp { &config.rtcp } else { &config.rtp };
    let envelope = envelope(headers, config.dscp, output)?;
    let hop = next_hop(packet, flow, &envelope, is_rtcp)?;
    let ip_len = envelope.ip_len();
    if hop.mtu != 0 && ip_len > hop.mtu as usize {
        return Err(Reason::TooBig);
    }
    let payload = make_room(packet, headers, usize::from(hop.header_len) + ip_len - headers.payload_len)?;

    let sum = Sum::of_checksum(headers.udp_checksum)
        .minus_address(&headers.source)
        .minus_address(&headers.destination)
        .minus_ports(headers.source_port, headers.destination_port)
        .plus_address(&envelope.source)
        .plus_address(&envelope.destination)
        .plus_ports(envelope.source_port, envelope.destination_port);
    let sum = match &admitted.media {
        Media::Rtp(rtp) => {
            let out = account::send_rtp(flow.state, rtp, headers.payload_len, flow.now);
            rewrite_rtp(packet, payload, rtp, admitted.payload_type, &out, sum).ok_or(Reason::Truncated)?
        }
        Media::Rtcp(_) => {
            account::send_rtcp(flow.state);
            rewrite_rtcp(packet, payload, headers.payload_len, config, sum)
        }
    };
    let checksum = udp_checksum(packet, headers, &envelope, payload, sum)?;
    write_headers(packet, hop, &envelope, checksum).ok_or(Reason::Truncated)?;

    let ifindex = hop.ifindex;
    if ifindex == packet.ingress() {
        return Ok(Relayed::Transmitted);
    }
    // SAFETY: the helper takes plain integers.
    Ok(Relayed::Redirected(unsafe { bpf_redirect(ifindex, 0) } as u32))
}

#[inline(always)]
fn envelope(headers: &Headers, dscp: u8, output: &Output) -> Result<Envelope, Reason> {
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
        payload_len: headers.payload_len as u16,
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

/// Moves the start of the packet so that headers of `len` octets fit in front of the payload, and cuts what
/// lies behind it (Ethernet padding). Gives the new offset of the payload, which is `len`.
#[inline(always)]
fn make_room(packet: &mut Packet, headers: &Headers, len: usize) -> Result<usize, Reason> {
    let excess = packet.len() as i32 - (headers.payload + headers.payload_len) as i32;
    if excess > 0 {
        packet.trim(excess).map_err(|()| Reason::Truncated)?;
    }
    let delta = headers.payload as i32 - len as i32;
    if delta != 0 {
        packet.move_start(delta).map_err(|()| Reason::NoHeadroom)?;
    }
    Ok(len)
}

/// Payload type, sequence number, timestamp and SSRC, each only if it changes.
#[inline(always)]
fn rewrite_rtp(
    packet: &mut Packet,
    payload: usize,
    rtp: &Rtp,
    payload_type: u8,
    out: &Outgoing,
    mut sum: Sum,
) -> Option<Sum> {
    if payload_type != rtp.payload_type || out.sequence != rtp.sequence {
        let [a, b] = rtp.sequence.to_be_bytes();
        let [c, d] = out.sequence.to_be_bytes();
        let old = [0, rtp.marker | rtp.payload_type, a, b];
        let new = [0, rtp.marker | payload_type, c, d];
        packet.write(payload + 1, [new[1], c, d])?;
        sum = sum.minus(old).plus(new);
    }
    if out.timestamp != rtp.timestamp {
        let (old, new) = (rtp.timestamp.to_be_bytes(), out.timestamp.to_be_bytes());
        packet.write(payload + 4, new)?;
        sum = sum.minus(old).plus(new);
    }
    if out.ssrc != rtp.ssrc {
        packet.write(payload + 8, out.ssrc.bytes())?;
        sum = sum.minus(rtp.ssrc.bytes()).plus(out.ssrc.bytes());
    }
    Some(sum)
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
    rtcp::translate(&mut packet, offset as usize, len as usize, &translation, sum).raw()
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
    let sum = envelope.pseudo_header().raw();
    let len = headers.payload_len as u32;
    Ok(Sum::from_raw(cw_sum(packet.raw_context(), payload as u32, len, sum)).udp_checksum())
}

/// Adds `len` octets at `offset` to a checksum's sum.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_sum(context: *mut xdp_md, offset: u32, len: u32, sum: u64) -> u64 {
    let packet = Packet::new(XdpContext::new(context));
    let mut sum = Sum::from_raw(sum);
    let mut at = offset as usize;
    let end = at + len as usize;
    for _ in 0..SUMMED_MAX / 4 {
        if at + 4 > end {
            break;
        }
        let Some(word) = packet.read::<4>(at) else { break };
        sum = sum.plus(word);
        at += 4;
    }
    for index in 0..3 {
        if at < end
            && let Some([octet]) = packet.read::<1>(at)
        {
            // RFC 1071: an odd octet at the end counts as if a zero followed it.
            sum = sum.plus(if index % 2 == 0 { [octet, 0, 0, 0] } else { [0, octet, 0, 0] });
            at += 1;
        }
    }
    sum.raw()
}

#[inline(always)]
fn write_headers(packet: &mut Packet, hop: &NextHop, envelope: &Envelope, checksum: Be16) -> Option<()> {
    let header = &hop.header;
    let mut at = ETHERNET_LEN;
    packet.write(0, *header.first_chunk::<ETHERNET_LEN>()?)?;
    if hop.header_len > 14 {
        packet.write(14, [header[14], header[15], header[16], header[17]])?;
        at = TAGGED_LEN;
    }
    if hop.header_len > 18 {
        packet.write(18, [header[18], header[19], header[20], header[21]])?;
        at = DOUBLE_TAGGED_LEN;
    }
    if envelope.source.is_v4() {
        packet.write(at, envelope.ipv4())?;
        packet.write(at + IPV4_LEN, envelope.udp(checksum))
    } else {
        packet.write(at, envelope.ipv6())?;
        packet.write(at + IPV6_LEN, envelope.udp(checksum))
    }
}
