//! What a flow remembers of its packets: RFC 3550's statistics, the telephone-event in progress, and the
//! offsets that keep the far side's stream continuous. Pure rules, the same in the kernel and on the
//! plain-socket path.
//!
//! For each packet, in this order: [`hear_rtp`] or [`hear_rtcp`] when it is admitted, [`telephone_event`] when
//! it carries one, [`send_rtp`] or [`send_rtcp`] when its way out is known, [`refuse`] when it went nowhere.

use crate::{
    flow::{FlowConfig, FlowKind, flag},
    learned::FlowState,
    net::Be32,
    rtp::{Rtcp, Rtp, TelephoneEvent},
};

const NANOSECONDS: u64 = 1_000_000_000;
/// Times apart further than this measure no jitter and are not carried over a change of source; it also keeps
/// nanoseconds times clock rate within 64 bits.
const ELAPSED_MAX: u64 = 24 * 3600 * NANOSECONDS;

/// RFC 3550 appendix A.1: sequence numbers may jump ahead this far, or lie behind this far, without a restart.
const DROPOUT_MAX: u16 = 3000;
const MISORDER_MAX: u16 = 100;
const SEQUENCE_MODULUS: u32 = 1 << 16;
const NO_RESTART: u32 = SEQUENCE_MODULUS;

/// The fields of an RTP packet as the far side is to see them.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Outgoing {
    pub ssrc: Be32,
    pub sequence: u16,
    pub timestamp: u32,
}

/// What a telephone-event packet brings that userspace has not been told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct EventNews {
    pub start: bool,
    pub end: bool,
}

/// An RTP packet was admitted. `event`: it carries a telephone-event, whose timestamp says when the event
/// began and not when the packet was made, so it measures no jitter.
#[inline(always)]
pub fn hear_rtp(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, event: bool, now: u64) {
    state.statistics.last_seen = now;
    state.statistics.received = state.statistics.received.wrapping_add(1);
    if state.heard == 0 || state.ssrc != rtp.ssrc {
        begin_source(config, state, rtp, now);
    } else {
        follow_sequence(config, state, rtp, now);
        if !event {
            measure_jitter(config, state, rtp, now);
        }
    }
    let heard = state.highest.wrapping_sub(state.base).wrapping_add(1);
    state.statistics.expected = state.expected_before.wrapping_add(u64::from(heard));
}

/// An RTCP packet was admitted.
#[inline(always)]
pub fn hear_rtcp(config: &FlowConfig, state: &mut FlowState, rtcp: &Rtcp, now: u64) {
    state.statistics.last_seen = now;
    if config.kind == FlowKind::Rtcp {
        state.heard = 1;
        state.ssrc = rtcp.ssrc;
    }
}

/// The packet of `octets` UDP payload leaves: how it is to look, and the counts of what was relayed.
#[inline(always)]
pub fn send_rtp(state: &mut FlowState, rtp: &Rtp, octets: usize, now: u64) -> Outgoing {
    let sequence = rtp.sequence.wrapping_add(state.sequence_offset);
    let timestamp = rtp.timestamp.wrapping_add(state.timestamp_offset);
    // Late packets do not set back what a new source has to continue from.
    if state.sent_at == 0 || sequence.wrapping_sub(state.out_sequence) < 0x8000 {
        state.out_sequence = sequence;
        state.out_timestamp = timestamp;
        state.sent_at = now;
    }
    state.statistics.packets = state.statistics.packets.wrapping_add(1);
    state.statistics.octets = state.statistics.octets.wrapping_add(octets as u64);
    Outgoing { ssrc: state.out_ssrc, sequence, timestamp }
}

/// An RTCP packet leaves.
#[inline(always)]
pub fn send_rtcp(state: &mut FlowState) {
    state.statistics.rtcp_packets = state.statistics.rtcp_packets.wrapping_add(1);
}

/// A packet of the flow went nowhere.
#[inline(always)]
pub fn refuse(state: &mut FlowState) {
    state.statistics.refused = state.statistics.refused.wrapping_add(1);
}

/// RFC 4733 section 2.5: all packets of an event carry its first timestamp, and the last one comes three times.
#[inline(always)]
pub fn telephone_event(state: &mut FlowState, rtp: &Rtp, event: &TelephoneEvent) -> EventNews {
    const BEGUN: u8 = 1;
    const ENDED: u8 = 2;
    let known = state.event_phase != 0 && state.event_timestamp == rtp.timestamp;
    let news = EventNews { start: !known, end: event.end && !(known && state.event_phase == ENDED) };
    if news.start {
        state.event_timestamp = rtp.timestamp;
        state.event_phase = BEGUN;
    }
    if news.end {
        state.event_phase = ENDED;
    }
    news
}

/// A first source, or another one than before.
#[inline(always)]
fn begin_source(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, now: u64) {
    let first = state.heard == 0;
    if !first {
        let heard = state.highest.wrapping_sub(state.base).wrapping_add(1);
        state.expected_before = state.expected_before.wrapping_add(u64::from(heard));
        state.statistics.source_changes = state.statistics.source_changes.wrapping_add(1);
    }
    state.heard = 1;
    state.ssrc = rtp.ssrc;
    state.event_phase = 0;
    restart_sequence(state, rtp, now);
    if config.flags & flag::CONTINUITY == 0 {
        state.out_ssrc = rtp.ssrc;
        state.sequence_offset = 0;
        state.timestamp_offset = 0;
        return;
    }
    if first {
        state.out_ssrc = if config.ssrc == Be32::new(0) { rtp.ssrc } else { config.ssrc };
    }
    continue_stream(config, state, rtp, now);
}

/// Same source, next packet: RFC 3550 appendix A.1, without its probation.
#[inline(always)]
fn follow_sequence(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, now: u64) {
    let ahead = rtp.sequence.wrapping_sub(state.highest as u16);
    if ahead < DROPOUT_MAX {
        state.highest = state.highest.wrapping_add(u32::from(ahead));
        state.restart = NO_RESTART;
    } else if ahead <= 0u16.wrapping_sub(MISORDER_MAX) {
        if u32::from(rtp.sequence) == state.restart {
            let heard = state.highest.wrapping_sub(state.base).wrapping_add(1);
            state.expected_before = state.expected_before.wrapping_add(u64::from(heard));
            restart_sequence(state, rtp, now);
            if config.flags & flag::CONTINUITY != 0 {
                continue_stream(config, state, rtp, now);
            }
        } else {
            state.restart = u32::from(rtp.sequence.wrapping_add(1));
        }
    } else {
        state.statistics.late = state.statistics.late.wrapping_add(1);
    }
}

#[inline(always)]
fn restart_sequence(state: &mut FlowState, rtp: &Rtp, now: u64) {
    state.base = u32::from(rtp.sequence);
    state.highest = u32::from(rtp.sequence);
    state.restart = NO_RESTART;
    state.timestamp = rtp.timestamp;
    state.heard_at = now;
}

/// Offsets that make this packet the one after the last sent, as much later as it is by the clock.
#[inline(always)]
fn continue_stream(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, now: u64) {
    if state.sent_at == 0 {
        return;
    }
    let elapsed = clock_units(now.saturating_sub(state.sent_at), config.clock_rate);
    let next = state.out_sequence.wrapping_add(1);
    state.sequence_offset = next.wrapping_sub(rtp.sequence);
    state.timestamp_offset = state.out_timestamp.wrapping_add(elapsed).wrapping_sub(rtp.timestamp);
}

/// RFC 3550 section 6.4.1 and appendix A.8. Arrival times are taken as differences, so that the arithmetic
/// stays within 64 bits whatever the uptime; each difference is cut to whole clock units.
#[inline(always)]
fn measure_jitter(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, now: u64) {
    let arrived = clock_units(now.saturating_sub(state.heard_at), config.clock_rate);
    let made = rtp.timestamp.wrapping_sub(state.timestamp);
    let difference = arrived.wrapping_sub(made) as i32;
    let jitter = state.statistics.jitter_scaled;
    state.statistics.jitter_scaled =
        jitter.wrapping_add(difference.unsigned_abs()).wrapping_sub(jitter.wrapping_add(8) >> 4);
    state.timestamp = rtp.timestamp;
    state.heard_at = now;
}

#[inline(always)]
fn clock_units(nanoseconds: u64, clock_rate: u32) -> u32 {
    let bounded = if nanoseconds < ELAPSED_MAX { nanoseconds } else { ELAPSED_MAX };
    (bounded.wrapping_mul(u64::from(clock_rate)) / NANOSECONDS) as u32
}
