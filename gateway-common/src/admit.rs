//! Which packets a flow hears: source gate, payload type, latch, rate. Pure rules, the same in the kernel and
//! on the plain-socket path.
//!
//! The order matters: nothing that a stranger sends may move the latch or use up the rate of the rightful
//! source.

use crate::{
    flow::{FlowConfig, Gate, Latch, PT_EVENT, PT_REFUSED, flag},
    learned::FlowState,
    net::{Addr128, Be16},
    rtp::Media,
    verdict::Reason,
};

const NANOSECONDS: u64 = 1_000_000_000;

/// What admission found out.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Admitted {
    /// Outgoing payload type of an RTP packet, 0 to 127.
    pub payload_type: u8,
    /// The packet carries a telephone-event.
    pub event: bool,
    /// The latch took this packet's source: tell userspace.
    pub latched: bool,
    /// To be heard and counted, then dropped with [`Reason::Muted`].
    pub muted: bool,
}

/// Starts the state afresh when its slot has come to another flow. Before anything else that reads it.
#[inline(always)]
pub fn begin(config: &FlowConfig, state: &mut FlowState) {
    if state.epoch != config.epoch {
        *state = FlowState { epoch: config.epoch, latch_epoch: config.latch_epoch, ..FlowState::default() };
    }
}

/// Decides whether the flow hears a packet from `source`, and moves its latch and rate when it does.
#[inline(always)]
pub fn admit(
    config: &FlowConfig,
    state: &mut FlowState,
    (source, port): (Addr128, Be16),
    media: &Media,
    now: u64,
) -> Result<Admitted, Reason> {
    if !gate_opens(config, source, port) {
        return Err(Reason::SourceRefused);
    }
    let (payload_type, event) = match media {
        Media::Rtp(rtp) => payload_type(config, rtp.payload_type)?,
        Media::Rtcp(_) => (0, false),
    };
    let latched = latch_moves(config, state, source, port, media)?;
    if !within_rate(config, state, now) {
        return Err(Reason::RateLimited);
    }
    if latched {
        latch(config, state, source, port);
    }
    Ok(Admitted { payload_type, event, latched, muted: config.flags & flag::MUTED != 0 })
}

/// Whether the source gate lets this address and port in.
#[inline(always)]
pub fn gate_opens(config: &FlowConfig, source: Addr128, port: Be16) -> bool {
    match config.gate {
        Gate::Exact => source == config.gate_address && port == config.gate_port,
        Gate::Subnet => source.in_prefix(&config.gate_address, config.gate_prefix),
        Gate::Any => true,
    }
}

/// The outgoing payload type, and whether it carries telephone-events.
#[inline(always)]
pub fn payload_type(config: &FlowConfig, incoming: u8) -> Result<(u8, bool), Reason> {
    match config.payload_types[usize::from(incoming & 0x7f)] {
        PT_REFUSED => Err(Reason::PayloadType),
        entry => Ok((entry & !PT_EVENT, entry & PT_EVENT != 0)),
    }
}

/// Whether the latch is to take this source; an error when another source holds it.
#[inline(always)]
fn latch_moves(
    config: &FlowConfig,
    state: &FlowState,
    source: Addr128,
    port: Be16,
    media: &Media,
) -> Result<bool, Reason> {
    if config.latch == Latch::Signalled {
        return Ok(false);
    }
    if state.latched == 0 || state.latch_epoch != config.latch_epoch {
        return Ok(true);
    }
    if state.source == source && state.source_port == port {
        return Ok(false);
    }
    let same_stream = state.heard == 1 && state.ssrc == media.ssrc();
    if config.latch == Latch::SameSsrc && same_stream { Ok(true) } else { Err(Reason::LatchRefused) }
}

#[inline(always)]
fn latch(config: &FlowConfig, state: &mut FlowState, source: Addr128, port: Be16) {
    if state.latched == 1 && (state.source != source || state.source_port != port) {
        state.statistics.latch_changes = state.statistics.latch_changes.wrapping_add(1);
    }
    state.latch_epoch = config.latch_epoch;
    state.latched = 1;
    state.source = source;
    state.source_port = port;
}

/// The token bucket of `burst` packets above `rate` packets a second, as virtual scheduling (ITU-T I.371's
/// generic cell rate algorithm): one time stands for the fill level.
#[inline(always)]
pub fn within_rate(config: &FlowConfig, state: &mut FlowState, now: u64) -> bool {
    if config.rate == 0 {
        return true;
    }
    let interval = NANOSECONDS / u64::from(config.rate);
    let due = if state.due_at > now { state.due_at } else { now };
    if due - now > interval * u64::from(config.burst) {
        return false;
    }
    state.due_at = due + interval;
    true
}
