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
    /// RTP is to be heard and counted, then dropped with [`Reason::Muted`]; RTCP goes on while media is held
    /// (RFC 3264 section 5.1).
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
    let latched = latch_moves(config, state, source, port, |state| state.ssrc == media.ssrc())?;
    if !within_rate(config, state, now) {
        return Err(Reason::RateLimited);
    }
    if latched {
        latch(config, state, source, port);
    }
    Ok(Admitted { payload_type, event, latched, muted: config.flags & flag::MUTED != 0 })
}

/// The same of a packet that is no RTP and has no payload type: whether the latch took its source. No stream tells a
/// second source to be the first one.
pub fn admit_datagram(
    config: &FlowConfig,
    state: &mut FlowState,
    (source, port): (Addr128, Be16),
    now: u64,
) -> Result<bool, Reason> {
    if !gate_opens(config, source, port) {
        return Err(Reason::SourceRefused);
    }
    let latched = latch_moves(config, state, source, port, |_| false)?;
    if !within_rate(config, state, now) {
        return Err(Reason::RateLimited);
    }
    if latched {
        latch(config, state, source, port);
    }
    Ok(latched)
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
    let entry = match config.usual.incoming == incoming {
        true => config.usual.entry,
        false => config.payload_types[usize::from(incoming & 0x7f)],
    };
    match entry {
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
    is_same_stream: impl FnOnce(&FlowState) -> bool,
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
    let same_stream = config.latch == Latch::SameSsrc && state.heard == 1 && is_same_stream(state);
    if same_stream { Ok(true) } else { Err(Reason::LatchRefused) }
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

/// Whether checks have vouched for this source: media is heard of it and of no other.
#[inline(always)]
pub fn is_vouched_for(config: &FlowConfig, source: Addr128, port: Be16) -> bool {
    config.gate == Gate::Exact && gate_opens(config, source, port)
}

/// Connectivity checks of strangers that a port hears in 2^[`CHECK_TIME_SHIFT`] nanoseconds, a second or so. An agent sends
/// one every 50 ms (RFC 8445 section 14.2); a forked call has several agents, each with several addresses.
pub const CHECKS_MAX: u64 = 256;
pub const CHECK_TIME_SHIFT: u32 = 30;
/// Below the number of that time, the count.
pub const CHECK_COUNT_BITS: u32 = 16;

/// Counts a connectivity check of a stranger, who proves himself to userspace or not: false if it is one too many.
#[inline(always)]
pub fn within_check_rate(state: &mut FlowState, now: u64) -> bool {
    let time = now >> CHECK_TIME_SHIFT;
    if state.checks >> CHECK_COUNT_BITS != time {
        state.checks = time << CHECK_COUNT_BITS;
    }
    if state.checks & ((1 << CHECK_COUNT_BITS) - 1) >= CHECKS_MAX {
        return false;
    }
    state.checks += 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::Be32, rtp::Rtp};
    use proptest::prelude::*;

    const A: Addr128 = Addr128::v4([192, 0, 2, 1]);
    const B: Addr128 = Addr128::v4([192, 0, 2, 2]);

    fn media(ssrc: u32) -> Media {
        let ssrc = Be32::new(ssrc);
        Media::Rtp(Rtp { payload_type: 0, marker: 0, sequence: 1, timestamp: 1, ssrc, header_len: 12 })
    }

    fn open(latch: Latch) -> FlowConfig {
        let mut config = FlowConfig { gate: Gate::Any, latch, ..FlowConfig::default() };
        config.payload_types[0] = 8;
        config
    }

    /// Admits, and hears the SSRC as accounting would.
    fn hear(config: &FlowConfig, state: &mut FlowState, from: Addr128, ssrc: u32) -> Result<bool, Reason> {
        let admitted = admit(config, state, (from, Be16::new(4000)), &media(ssrc), 1)?;
        (state.heard, state.ssrc) = (1, Be32::new(ssrc));
        Ok(admitted.latched)
    }

    #[test]
    fn each_latch_policy_treats_a_second_source_its_own_way() {
        let refused = Err(Reason::LatchRefused);
        // Policy; then from A; from B with another SSRC; from B with the same; back from A.
        let table = [
            (Latch::Signalled, [Ok(false), Ok(false), Ok(false), Ok(false)]),
            (Latch::SameSsrc, [Ok(true), refused, Ok(true), Ok(true)]),
            (Latch::FirstPacket, [Ok(true), refused, refused, Ok(false)]),
        ];
        for (latch, expected) in table {
            let (config, mut state) = (open(latch), FlowState::default());
            let same = if latch == Latch::Signalled { 8 } else { 7 };
            let heard = [(A, 7), (B, 8), (B, same), (A, same)]
                .map(|(from, ssrc)| hear(&config, &mut state, from, ssrc));
            assert_eq!(heard, expected, "{latch:?}");
        }
    }

    #[test]
    fn a_raised_latch_epoch_lets_the_far_end_move() {
        let (mut config, mut state) = (open(Latch::FirstPacket), FlowState::default());
        assert_eq!(hear(&config, &mut state, A, 1), Ok(true));
        config.latch_epoch = 1;
        assert_eq!(hear(&config, &mut state, B, 2), Ok(true));
        assert_eq!((state.source, state.statistics.latch_changes), (B, 1));
    }

    #[test]
    fn a_stranger_neither_latches_nor_uses_up_the_rate() {
        let config = FlowConfig {
            gate: Gate::Exact,
            gate_address: A,
            gate_port: Be16::new(4000),
            rate: 1,
            ..open(Latch::FirstPacket)
        };
        let mut state = FlowState::default();
        for _ in 0..10 {
            assert_eq!(hear(&config, &mut state, B, 1), Err(Reason::SourceRefused));
        }
        assert_eq!(hear(&config, &mut state, A, 1), Ok(true));
    }

    #[test]
    fn a_gate_opens_for_its_subnet_alone() {
        let network = FlowConfig {
            gate: Gate::Subnet,
            gate_address: Addr128::v4([192, 0, 2, 0]),
            gate_prefix: 96 + 24,
            ..FlowConfig::default()
        };
        assert!(gate_opens(&network, A, Be16::new(1)));
        assert!(!gate_opens(&network, Addr128::v4([192, 0, 3, 1]), Be16::new(1)));
    }

    #[test]
    fn another_epoch_starts_afresh() {
        let mut state = FlowState { epoch: 1, latched: 1, heard: 1, ..FlowState::default() };
        begin(&FlowConfig { epoch: 2, ..FlowConfig::default() }, &mut state);
        assert_eq!((state.epoch, state.latched, state.heard), (2, 0, 0));
    }

    #[test]
    fn payload_types_are_mapped_and_others_refused() {
        let mut config = open(Latch::Signalled);
        config.payload_types[101] = 96 | PT_EVENT;
        assert_eq!(payload_type(&config, 0), Ok((8, false)));
        assert_eq!(payload_type(&config, 101), Ok((96, true)));
        assert_eq!(payload_type(&config, 9), Err(Reason::PayloadType));
    }

    #[test]
    fn strangers_have_so_many_checks_a_second_and_as_many_in_the_next() {
        let mut state = FlowState::default();
        let second = 1 << CHECK_TIME_SHIFT;
        for now in [5 * second, 6 * second, 6_000 * second] {
            for _ in 0..CHECKS_MAX {
                assert!(within_check_rate(&mut state, now));
            }
            assert!(!within_check_rate(&mut state, now));
            assert!(!within_check_rate(&mut state, now + second - 1));
        }
    }

    proptest! {
        #[test]
        fn the_rate_holds_over_any_arrivals(
            rate in 1u32..2000,
            burst in 0u32..50,
            gaps in proptest::collection::vec(0u64..20_000_000, 1..300),
        ) {
            let config = FlowConfig { rate, burst, ..FlowConfig::default() };
            let (mut state, mut now, mut passed) = (FlowState::default(), 1_000_000_000, 0u64);
            let begun = now;
            for gap in gaps {
                now += gap;
                passed += u64::from(within_rate(&config, &mut state, now));
            }
            let interval = NANOSECONDS / u64::from(rate);
            prop_assert!(passed <= (now - begun) / interval + u64::from(burst) + 1);
        }

        #[test]
        fn a_stream_within_its_rate_loses_nothing(rate in 1u32..2000, count in 1u64..200) {
            let config = FlowConfig { rate, burst: 0, ..FlowConfig::default() };
            let mut state = FlowState::default();
            let interval = NANOSECONDS / u64::from(rate);
            for index in 0..count {
                prop_assert!(within_rate(&config, &mut state, 1 + index * interval));
            }
        }
    }
}
