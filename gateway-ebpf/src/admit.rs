//! Whether the flow hears the packet, and what userspace is told of it.

use crate::{
    packet::{Packet, bounded},
    record, shortcut,
    steer::Flow,
};
use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use gateway_common::{
    account,
    admit::{self, Admitted},
    flow::flag,
    headers::Headers,
    rtcp,
    rtp::{self, Media, Rtcp, Rtp, TelephoneEvent},
    verdict::Reason,
};

/// What the payload is, if the flow may carry it.
#[inline(always)]
pub fn parse(packet: &Packet, headers: &Headers, flow: &Flow) -> Result<Media, Reason> {
    match headers.fault {
        Some(fault) => Err(fault),
        None => rtp::parse(packet, headers.payload, headers.payload_len, flow.config.kind),
    }
}

/// Gives the outgoing payload type.
#[inline(always)]
pub fn rtp(packet: &Packet, headers: &Headers, flow: &mut Flow, rtp: Rtp) -> Result<u8, Reason> {
    flow.take_time(account::is_timed(flow.config, flow.state, &rtp));
    let admitted = admit(headers, flow, &Media::Rtp(rtp))?;
    account::hear_rtp(flow.config, flow.state, &rtp, admitted.event, flow.now);
    if admitted.event && flow.config.flags & flag::TELEPHONE_EVENT != 0 {
        telephone_event(packet, headers, flow, &rtp);
    }
    if admitted.muted { Err(Reason::Muted) } else { Ok(admitted.payload_type) }
}

#[inline(always)]
pub fn rtcp(packet: &Packet, headers: &Headers, flow: &mut Flow, rtcp: Rtcp) -> Result<(), Reason> {
    let (offset, len) = (headers.payload as u32, headers.payload_len as u32);
    if cw_rtcp_fits(packet.raw_context(), offset, len) == 0 {
        return Err(Reason::RtcpHeader);
    }
    flow.take_time(true);
    admit(headers, flow, &Media::Rtcp(rtcp))?;
    account::hear_rtcp(flow.config, flow.state, &rtcp, flow.now);
    if flow.config.flags & flag::RTCP_COPY != 0 {
        record::cw_record_rtcp(packet.raw_context(), flow.config.slot, flow.config.epoch, offset, len);
    }
    Ok(())
}

#[inline(always)]
fn admit(headers: &Headers, flow: &mut Flow, media: &Media) -> Result<Admitted, Reason> {
    let source = (headers.source, headers.source_port);
    let admitted = admit::admit(flow.config, flow.state, source, media, flow.now)?;
    if admitted.latched {
        shortcut::forget_follower(flow);
        record::latched(flow);
    }
    Ok(admitted)
}

/// Whether the compound of `len` octets at `offset` is well-formed: 1 or 0.
///
/// Global, as are all functions named `cw_`: the verifier walks their loops once each, and not once for every
/// path that leads to a call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_rtcp_fits(context: *mut xdp_md, offset: u32, len: u32) -> u32 {
    let packet = Packet::new(XdpContext::new(context));
    u32::from(rtcp::check(&packet, bounded(offset), len as usize).is_ok())
}

#[inline(always)]
fn telephone_event(packet: &Packet, headers: &Headers, flow: &mut Flow, rtp: &Rtp) {
    let offset = headers.payload + rtp.header_len;
    let len = headers.payload_len.saturating_sub(rtp.header_len);
    let Some(event) = TelephoneEvent::parse(packet, offset, len) else { return };
    let news = account::telephone_event(flow.state, rtp, &event);
    if news.start {
        record::event_start(flow, &event);
    }
    if news.end {
        record::event_end(flow, &event);
    }
}
