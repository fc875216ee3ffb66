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

/// Packets of a flow that are all timed, so that jitter is soon known, and the distance of timed pairs after them.
pub const TIMED_FIRST: u64 = 64;
pub const TIMED_EVERY: u64 = 32;

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

/// Whether the time of this packet is needed. Reading the clock is the dearest thing that happens to a packet in
/// the kernel, so after the first [`TIMED_FIRST`] packets jitter is measured on one pair of neighbours in
/// [`TIMED_EVERY`] packets. Asked before [`hear_rtp`].
#[inline(always)]
pub fn is_timed(config: &FlowConfig, state: &FlowState, rtp: &Rtp) -> bool {
    let index = state.statistics.received;
    index < TIMED_FIRST
        || index % TIMED_EVERY <= 1
        || state.heard == 0
        || state.ssrc != rtp.ssrc
        || state.restart == u32::from(rtp.sequence)
        || config.rate != 0
}

/// An RTP packet was admitted. `now` may be 0 for a time not taken, unless [`is_timed`]. `event`: it carries a
/// telephone-event, whose timestamp says when the event began and not when the packet was made, so it measures
/// no jitter.
#[inline(always)]
pub fn hear_rtp(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, event: bool, now: u64) {
    let index = state.statistics.received;
    state.statistics.received = index.wrapping_add(1);
    if now != 0 {
        state.statistics.last_seen = now;
    }
    if state.heard == 0 || state.ssrc != rtp.ssrc {
        begin_source(config, state, rtp, now);
    } else {
        follow_sequence(config, state, rtp, now);
        if now != 0 && !event {
            measure_timing(config, state, rtp, index, now);
        }
    }
}

/// A packet between those that [`is_timed`] chooses has its time taken after a pause, and measures nothing.
#[inline(always)]
fn measure_timing(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, index: u64, now: u64) {
    let place = index % TIMED_EVERY;
    if index < TIMED_FIRST || place == 1 {
        measure_jitter(config, state, rtp, now);
    }
    if index < TIMED_FIRST || place <= 1 {
        state.timestamp = rtp.timestamp;
        state.heard_at = now;
    }
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

/// The packet of `octets` UDP payload leaves: how it is to look, and the counts of what was relayed. `now` as for
/// [`hear_rtp`].
#[inline(always)]
pub fn send_rtp(state: &mut FlowState, rtp: &Rtp, octets: usize, now: u64) -> Outgoing {
    let sequence = rtp.sequence.wrapping_add(state.sequence_offset);
    let timestamp = rtp.timestamp.wrapping_add(state.timestamp_offset);
    // Late packets do not set back what a new source has to continue from.
    if state.sent_at == 0 || sequence.wrapping_sub(state.out_sequence) < 0x8000 {
        state.out_sequence = sequence;
        if now != 0 {
            state.out_timestamp = timestamp;
            state.sent_at = now;
        }
    }
    state.statistics.packets = state.statistics.packets.wrapping_add(1);
    state.statistics.octets = state.statistics.octets.wrapping_add(octets as u64);
    Outgoing { ssrc: state.out_ssrc, sequence, timestamp }
}

/// What [`hear_rtp`] and [`send_rtp`] come to for a packet of the stream that is heard, the next one, that
/// carries no telephone-event and whose time is not taken. `offsets`: of the flow, sequence number and timestamp. `None`,
/// and nothing has changed, for any other.
#[inline(always)]
pub fn pass_rtp(state: &mut FlowState, rtp: &Rtp, octets: usize, offsets: (u16, u32)) -> Option<Outgoing> {
    let index = state.statistics.received;
    let ahead = rtp.sequence.wrapping_sub(state.highest as u16);
    if index < TIMED_FIRST || index % TIMED_EVERY <= 1 || state.ssrc != rtp.ssrc || ahead > 1 {
        return None;
    }
    state.highest = state.highest.wrapping_add(u32::from(ahead));
    state.restart = NO_RESTART;
    let sequence = rtp.sequence.wrapping_add(offsets.0);
    if sequence.wrapping_sub(state.out_sequence) < 0x8000 {
        state.out_sequence = sequence;
    }
    state.statistics.received = index.wrapping_add(1);
    state.statistics.packets = state.statistics.packets.wrapping_add(1);
    state.statistics.octets = state.statistics.octets.wrapping_add(octets as u64);
    Some(Outgoing { ssrc: state.out_ssrc, sequence, timestamp: rtp.timestamp.wrapping_add(offsets.1) })
}

/// An RTCP packet leaves.
#[inline(always)]
pub fn send_rtcp(state: &mut FlowState) {
    state.statistics.rtcp_packets = state.statistics.rtcp_packets.wrapping_add(1);
}

/// A packet of `octets` UDP payload that is no RTP came and leaves.
pub fn relay_datagram(state: &mut FlowState, octets: usize, now: u64) {
    state.statistics.last_seen = now;
    state.statistics.packets = state.statistics.packets.wrapping_add(1);
    state.statistics.octets = state.statistics.octets.wrapping_add(octets as u64);
}

/// A packet that [`send_rtp`] or [`relay_datagram`] counted did not leave after all.
#[inline(always)]
pub fn rtp_not_sent(state: &mut FlowState, octets: usize) {
    state.statistics.packets = state.statistics.packets.wrapping_sub(1);
    state.statistics.octets = state.statistics.octets.wrapping_sub(octets as u64);
}

/// A packet that [`send_rtcp`] counted did not leave after all.
#[inline(always)]
pub fn rtcp_not_sent(state: &mut FlowState) {
    state.statistics.rtcp_packets = state.statistics.rtcp_packets.wrapping_sub(1);
}

/// A packet that was made here, and not by the flow's source, leaves in its stream.
pub fn send_made(state: &mut FlowState, rtp: &Rtp, octets: usize, now: u64) {
    state.out_ssrc = rtp.ssrc;
    state.out_sequence = rtp.sequence;
    state.out_timestamp = rtp.timestamp;
    state.sent_at = now;
    state.statistics.packets = state.statistics.packets.wrapping_add(1);
    state.statistics.octets = state.statistics.octets.wrapping_add(octets as u64);
}

/// What was made here, ahead of its time perhaps, reaches to this timestamp at `now`: what follows begins there.
pub fn reach(state: &mut FlowState, timestamp: u32, now: u64) {
    if state.sent_at != 0 {
        state.out_timestamp = timestamp;
        state.sent_at = now;
    }
}

/// How a packet that is made now has to look to follow on what the flow has sent, at `clock_rate`.
pub fn next_made(state: &FlowState, clock_rate: u32, now: u64) -> Outgoing {
    let elapsed = clock_units(now.saturating_sub(state.sent_at), clock_rate);
    Outgoing {
        ssrc: state.out_ssrc,
        sequence: state.out_sequence.wrapping_add(1),
        timestamp: state.out_timestamp.wrapping_add(elapsed),
    }
}

/// Nothing is made here any more: the next packet of the source follows on what was, as that of another source would.
pub fn take_over(state: &mut FlowState) {
    if state.heard != 0 {
        state.ssrc = Be32::new(!state.ssrc.host());
        state.statistics.source_changes = state.statistics.source_changes.wrapping_sub(1);
    }
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
        state.expected_before = state.expected();
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
        let heard = state.heard_since_loss();
        state.highest = state.highest.wrapping_add(u32::from(ahead));
        state.restart = NO_RESTART;
        if ahead > 1 {
            state.losses.lose(heard, u32::from(ahead) - 1);
            state.lost_up_to = state.highest.wrapping_sub(1);
        }
    } else if ahead <= 0u16.wrapping_sub(MISORDER_MAX) {
        if u32::from(rtp.sequence) == state.restart {
            state.expected_before = state.expected();
            restart_sequence(state, rtp, now);
            if config.flags & flag::CONTINUITY != 0 {
                continue_stream(config, state, rtp, now);
            }
        } else {
            state.restart = u32::from(rtp.sequence.wrapping_add(1));
        }
    } else {
        state.statistics.late = state.statistics.late.wrapping_add(1);
        state.losses.find();
    }
}

#[inline(always)]
fn restart_sequence(state: &mut FlowState, rtp: &Rtp, now: u64) {
    // Packets of before and of now follow one another.
    let heard = state.heard_since_loss().wrapping_add(1);
    state.lost_up_to = u32::from(rtp.sequence).wrapping_sub(heard);
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
}

#[inline(always)]
fn clock_units(nanoseconds: u64, clock_rate: u32) -> u32 {
    let bounded = if nanoseconds < ELAPSED_MAX { nanoseconds } else { ELAPSED_MAX };
    (bounded.wrapping_mul(u64::from(clock_rate)) / NANOSECONDS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{Stretch, Stretches};
    use proptest::prelude::*;

    const MILLISECOND: u64 = 1_000_000;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Rtp {
        let ssrc = Be32::new(ssrc);
        Rtp { payload_type: 0, marker: 0, sequence, timestamp, ssrc, header_len: 12 }
    }

    fn relay(config: &FlowConfig, state: &mut FlowState, rtp: &Rtp, now: u64) -> Outgoing {
        hear_rtp(config, state, rtp, false, now);
        send_rtp(state, rtp, 172, now)
    }

    /// RFC 3550 appendix A.8 as it is printed, with arrival times in clock units.
    fn printed_jitter(arrivals: &[(u64, u32)], clock_rate: u64) -> u32 {
        let transit =
            |&(at, timestamp): &(u64, u32)| (at * clock_rate / NANOSECONDS) as i64 - i64::from(timestamp);
        let mut jitter = 0i64;
        for pair in arrivals.windows(2) {
            let difference = (transit(&pair[1]) - transit(&pair[0])).abs();
            jitter += difference - ((jitter + 8) >> 4);
        }
        jitter as u32
    }

    proptest! {
        #[test]
        fn a_packet_that_passes_is_counted_as_one_that_is_heard_and_sent(
            steps in proptest::collection::vec((prop_oneof![2 => Just(1), 1 => -5i16..9], 0u8..40), 100..300),
            continuity: bool,
        ) {
            let flags = if continuity { flag::CONTINUITY } else { 0 };
            let config = FlowConfig { flags, ssrc: Be32::new(9), ..FlowConfig::default() };
            let (mut state, mut sequence, mut passed) = (FlowState::default(), 65_000_u16, 0);
            for (index, (step, luck)) in steps.into_iter().enumerate() {
                sequence = sequence.wrapping_add_signed(step);
                let rtp = packet(if luck == 0 { 8 } else { 7 }, sequence, index as u32 * 160);
                let is_timed = is_timed(&config, &state, &rtp);
                let now = if is_timed { (index as u64 + 1) * 20 * MILLISECOND } else { 0 };
                let (mut long, mut short) = (state, state);
                let expected = relay(&config, &mut long, &rtp, now);
                match pass_rtp(&mut short, &rtp, 172, (state.sequence_offset, state.timestamp_offset)) {
                    None => prop_assert_eq!(short, state),
                    Some(sent) => {
                        prop_assert_eq!(sent, expected);
                        // One that would have confirmed a restart has its time taken, to no effect but that.
                        prop_assert!(is_timed || short == long);
                        passed += 1;
                    }
                }
                state = long;
            }
            prop_assert!(passed > 0);
        }

        #[test]
        fn jitter_is_that_of_the_rfc_to_the_rounding(delays in proptest::collection::vec(0u64..20, 2..60)) {
            let arrivals: Vec<_> = delays.iter().zip(0u64..)
                .map(|(delay, index)| ((1000 + index * 20 + delay) * MILLISECOND, (index * 160) as u32))
                .collect();
            let (config, mut state) = (FlowConfig::default(), FlowState::default());
            for (index, &(at, timestamp)) in arrivals.iter().enumerate() {
                hear_rtp(&config, &mut state, &packet(1, index as u16, timestamp), false, at);
            }
            let printed = printed_jitter(&arrivals, 8000);
            prop_assert!(state.statistics.jitter_scaled.abs_diff(printed) <= 32);
        }

        #[test]
        fn expected_less_received_is_what_the_network_lost(
            first: u16,
            kept in proptest::collection::vec(any::<bool>(), 1..400),
        ) {
            let (config, mut state) = (FlowConfig::default(), FlowState::default());
            let heard: Vec<u16> = kept.iter().zip(0u16..).filter(|(kept, _)| **kept).map(|(_, index)| index).collect();
            for &index in &heard {
                relay(&config, &mut state, &packet(9, first.wrapping_add(index), 0), 1);
            }
            if let (Some(low), Some(high)) = (heard.first(), heard.last()) {
                prop_assert_eq!(state.expected(), u64::from(high - low) + 1);
                prop_assert_eq!(state.statistics.received, heard.len() as u64);
                prop_assert_eq!(state.statistics.late, 0);
            }
        }
    }

    #[test]
    fn after_the_first_packets_only_chosen_ones_are_timed_and_jitter_stays_right() {
        let (config, mut state) = (FlowConfig::default(), FlowState::default());
        let mut timed = 0;
        for index in 0..1000u32 {
            // Every second packet is 4 ms late: 32 units of jitter in each difference.
            let at = (1 + u64::from(index) * 20 + u64::from(index % 2) * 4) * MILLISECOND;
            let rtp = packet(1, index as u16, index * 160);
            let needed = is_timed(&config, &state, &rtp);
            timed += u32::from(needed);
            hear_rtp(&config, &mut state, &rtp, false, if needed { at } else { 0 });
        }
        assert_eq!(timed, 64 + 2 * (1000 - 64u32).div_ceil(32));
        assert_eq!(state.statistics.jitter_scaled.div_ceil(16), 32);
    }

    #[test]
    fn a_late_packet_is_counted_and_does_not_move_the_highest() {
        let (config, mut state) = (FlowConfig::default(), FlowState::default());
        for sequence in [10, 12, 11, 13] {
            relay(&config, &mut state, &packet(1, sequence, 0), 1);
        }
        assert_eq!((state.statistics.late, state.expected(), state.statistics.received), (1, 4, 4));
    }

    #[test]
    fn losses_are_in_bursts_and_gaps_whatever_the_source_and_over_a_wrap() {
        let (config, mut state) = (FlowConfig::default(), FlowState::default());
        let mut hear = |ssrc, sequences: &mut dyn Iterator<Item = u16>| {
            sequences.for_each(|sequence| {
                relay(&config, &mut state, &packet(ssrc, sequence, 0), 1);
            });
            state.bursts()
        };
        let gap = |packets, lost| Stretches { count: 1, all: Stretch { packets, lost } };
        assert_eq!(hear(1, &mut (0..0)).gaps, gap(0, 0));
        assert_eq!(hear(1, &mut (65_500..65_530)).gaps, gap(30, 0));
        // Six are missing, of which one comes late; then another source, as one stream with the first.
        assert_eq!(
            hear(1, &mut [65_534, 0, 3, 65_532].into_iter()).gaps.all,
            Stretch { packets: 31, lost: 0 }
        );
        let told = hear(2, &mut (700..710));
        assert_eq!(told.bursts, Stretches { count: 1, all: Stretch { packets: 9, lost: 6 } });
        assert_eq!(told.gaps, Stretches { count: 2, all: Stretch { packets: 41, lost: 0 } });
        // A restart, believed at its second packet, continues it too.
        assert_eq!(hear(2, &mut [9_000, 9_001].into_iter()).gaps.all.packets, 42);
        assert_eq!(hear(2, &mut (9_002..9_012)).gaps.all, Stretch { packets: 52, lost: 0 });
    }

    #[test]
    fn a_restarted_sequence_is_believed_at_its_second_packet() {
        let (config, mut state) = (FlowConfig::default(), FlowState::default());
        for sequence in [10, 11, 40_000, 40_001, 40_002] {
            relay(&config, &mut state, &packet(1, sequence, 0), 1);
        }
        assert_eq!(state.expected(), 2 + 2);
        assert_eq!(state.statistics.late, 0);
    }

    #[test]
    fn the_far_side_hears_one_stream_when_the_source_changes() {
        let config = FlowConfig { flags: flag::CONTINUITY, ..FlowConfig::default() };
        let mut state = FlowState::default();
        relay(&config, &mut state, &packet(0xaaaa, 500, 10_000), 1_000 * MILLISECOND);
        let last = relay(&config, &mut state, &packet(0xaaaa, 501, 10_160), 1_020 * MILLISECOND);
        let next = relay(&config, &mut state, &packet(0xbbbb, 7, 99), 1_120 * MILLISECOND);
        assert_eq!(next.ssrc, last.ssrc);
        assert_eq!(next.sequence, 502);
        assert_eq!(next.timestamp, 10_160 + 800);
        let after = relay(&config, &mut state, &packet(0xbbbb, 8, 259), 1_140 * MILLISECOND);
        assert_eq!((after.sequence, after.timestamp), (503, 10_160 + 960));
        assert_eq!(state.statistics.source_changes, 1);
    }

    #[test]
    fn without_continuity_a_new_source_is_heard_as_it_is() {
        let (config, mut state) = (FlowConfig::default(), FlowState::default());
        relay(&config, &mut state, &packet(1, 500, 10_000), MILLISECOND);
        let next = relay(&config, &mut state, &packet(2, 7, 99), 2 * MILLISECOND);
        assert_eq!(next, Outgoing { ssrc: Be32::new(2), sequence: 7, timestamp: 99 });
    }

    #[test]
    fn a_telephone_event_starts_and_ends_once() {
        let mut state = FlowState::default();
        let mut news = |timestamp, end| {
            let event = TelephoneEvent { code: 5, end, duration: 160 };
            let EventNews { start, end } = telephone_event(&mut state, &packet(1, 0, timestamp), &event);
            (start, end)
        };
        assert_eq!(news(1000, false), (true, false));
        assert_eq!(news(1000, false), (false, false));
        assert_eq!(news(1000, true), (false, true));
        assert_eq!(news(1000, true), (false, false));
        assert_eq!(news(2000, true), (true, true), "only its last packet came through");
    }
}
