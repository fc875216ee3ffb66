//! Whether the flow hears the packet, and what userspace is told of it.

use crate::{packet::Packet, record, steer::Flow};
use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use gateway_common::{
    account, admit,
    flow::flag,
    headers::Headers,
    rtcp,
    rtp::{self, Media, Rtp, TelephoneEvent},
    verdict::Reason,
};

/// A packet that goes on to [`crate::forward`].
pub struct Admitted {
    pub media: Media,
    /// Outgoing payload type of RTP.
    pub payload_type: u8,
}

#[inline(always)]
pub fn admit(packet: &Packet, headers: &Headers, flow: &mut Flow) -> Result<Admitted, Reason> {
    if let Some(fault) = headers.fault {
        return Err(fault);
    }
    let Flow { config, now, .. } = *flow;
    let media = rtp::parse(packet, headers.payload, headers.payload_len, config.kind)?;
    if let Media::Rtcp(_) = media {
        let fits = cw_rtcp_fits(packet.raw_context(), headers.payload as u32, headers.payload_len as u32);
        if fits == 0 {
            return Err(Reason::RtcpHeader);
        }
    }
    let source = (headers.source, headers.source_port);
    let admitted = admit::admit(config, flow.state, source, &media, now)?;
    if admitted.latched {
        record::latched(flow);
    }
    match &media {
        Media::Rtp(rtp) => {
            account::hear_rtp(config, flow.state, rtp, admitted.event, now);
            if admitted.event && config.flags & flag::TELEPHONE_EVENT != 0 {
                telephone_event(packet, headers, flow, rtp);
            }
        }
        Media::Rtcp(rtcp) => {
            account::hear_rtcp(config, flow.state, rtcp, now);
            if config.flags & flag::RTCP_COPY != 0 {
                let (offset, len) = (headers.payload as u32, headers.payload_len as u32);
                record::cw_record_rtcp(packet.raw_context(), config.slot, config.epoch, offset, len);
            }
        }
    }
    if admitted.muted {
        Err(Reason::Muted)
    } else {
        Ok(Admitted { media, payload_type: admitted.payload_type })
    }
}

/// Whether the compound of `len` octets at `offset` is well-formed: 1 or 0.
///
/// Global, as are all functions named `cw_`: the verifier walks their loops once each, and not once for every
/// path that leads to a call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_rtcp_fits(context: *mut xdp_md, offset: u32, len: u32) -> u32 {
    let packet = Packet::new(XdpContext::new(context));
    u32::from(rtcp::check(&packet, offset as usize, len as usize).is_ok())
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
