//! Packets of flows that userspace relays, connectivity checks of all flows, and RTCP of those by which
//! userspace sends reports: out of the program to the socket of their receive queue.
//!
//! Gate and rate are asked here, so that no stranger and no flood keeps a worker busy. Checks come from strangers by design
//! and prove themselves to the worker: of those a port hears so many a second. All else (payload type, latch, SRTP, counts) is the worker's:
//! what it asks for has to be authentic first.

use crate::{account, crypto, maps, packet::Packet, steer::Flow};
use aya_ebpf::bindings::xdp_action;
use gateway_common::{
    abi::stage,
    admit::{gate_opens, is_vouched_for, within_check_rate, within_rate},
    flow::flag,
    headers::Headers,
    rtp::is_rtcp,
    stun::is_stun,
    verdict::{Reason, Traffic},
};

/// Out of the programs of flows that the kernel relays, if this is for userspace all the same. Comes back for
/// all else.
#[inline(always)]
pub fn divert(packet: &Packet, headers: &Headers, flow: &Flow) {
    if is_check(packet, headers, flow) || is_reported(packet, headers, flow) {
        crypto::go_on(packet, stage::PUNT);
    }
}

#[inline(always)]
fn is_check(packet: &Packet, headers: &Headers, flow: &Flow) -> bool {
    flow.config.flags & flag::ICE != 0 && is_stun(packet, headers.payload, headers.payload_len)
}

/// RFC 3711 section 9.1: the index of SRTCP has one writer, which is userspace while it sends reports of its
/// own.
#[inline(always)]
fn is_reported(packet: &Packet, headers: &Headers, flow: &Flow) -> bool {
    flow.config.flags & flag::REPORTED != 0 && is_rtcp(packet, headers.payload, headers.payload_len)
}

/// The packet leaves for userspace as it came, or is dropped.
#[inline(always)]
pub fn punt(packet: Packet, headers: Headers, mut flow: Flow) -> u32 {
    match punted(&packet, &headers, &mut flow) {
        Ok(action) => {
            account::count(Traffic::Punted);
            action
        }
        Err(reason) => account::finished(&packet, &mut flow, Err(reason)),
    }
}

#[inline(always)]
fn punted(packet: &Packet, headers: &Headers, flow: &mut Flow) -> Result<u32, Reason> {
    if let Some(fault) = headers.fault {
        return Err(fault);
    }
    if is_check(packet, headers, flow) && !is_vouched_for(flow.config, headers.source, headers.source_port) {
        flow.take_time(true);
        if !within_check_rate(flow.state, flow.now) {
            return Err(Reason::CheckRate);
        }
    } else {
        knock(headers, flow)?;
    }
    // SAFETY: control writes an element before packets come to it, and again with the same value.
    let queues = unsafe { maps::CW_QUEUES.get(packet.ingress()) }.ok_or(Reason::NoSocket)?;
    let queue = packet.receive_queue();
    if queue >= queues.count {
        return Err(Reason::NoSocket);
    }
    let no_socket = u64::from(xdp_action::XDP_DROP);
    maps::CW_XSKS.redirect(queues.first.wrapping_add(queue), no_socket).map_err(|_| Reason::NoSocket)
}

#[inline(always)]
fn knock(headers: &Headers, flow: &mut Flow) -> Result<(), Reason> {
    if !gate_opens(flow.config, headers.source, headers.source_port) {
        return Err(Reason::SourceRefused);
    }
    if flow.config.rate != 0 {
        flow.take_time(true);
        if !within_rate(flow.config, flow.state, flow.now) {
            return Err(Reason::RateLimited);
        }
    }
    Ok(())
}
