//! One flow's figures, from the state that the kernel (or the reference path) keeps.

use super::compile::arrival;
use crate::observe::path::RelayPath;
use gateway_common::flow::{FlowConfig, FlowKey, Punted, flag};
use gateway_common::learned::FlowState;
use std::net::SocketAddr;
use std::time::Duration;

/// What a configuration in the kernel's table says of who relays the flow.
pub(super) fn path(config: &FlowConfig) -> RelayPath {
    match Punted::from_number(config.punted) {
        Some(why) if config.flags & flag::PUNT != 0 => RelayPath::Userspace(why),
        _ => RelayPath::Kernel,
    }
}

/// What one flow has relayed since it was installed.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct FlowReport {
    /// RTP packets relayed.
    pub packets: u64,
    /// Octets of UDP payload in them.
    pub octets: u64,
    /// RTCP packets relayed.
    pub rtcp_packets: u64,
    /// Packets that were not relayed, whatever the reason.
    pub refused: u64,
    /// RTP packets that the sequence numbers promise (RFC 3550 appendix A.3).
    pub expected: u64,
    /// Of those, the ones that never came; repeats count against it, so it never goes below zero.
    pub lost: u64,
    /// Packets that came after one with a higher sequence number.
    pub late: u32,
    /// RTP packets relayed that a bridge could not play: too late, or nothing of their codec.
    pub discarded: u64,
    /// Audio that a bridge made up in the place of what did not come.
    pub concealed_ms: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter_ms: f64,
    /// Changes of the stream's SSRC.
    pub source_changes: u32,
    /// Changes of the latched source address.
    pub latch_changes: u32,
    /// The address that the far end really sends from, once latched.
    pub source: Option<SocketAddr>,
    /// Since the last packet was relayed; `None` before the first.
    pub idle: Option<Duration>,
    pub path: RelayPath,
}

impl FlowReport {
    /// `state` as of `now` (kernel monotonic nanoseconds); a state of another epoch than `epoch` belongs to
    /// a flow that had the slot before, and this one heard nothing yet.
    pub(super) fn of(state: &FlowState, epoch: u32, clock_rate: u32, now: u64, path: RelayPath) -> Self {
        if state.epoch != epoch {
            return Self::of(&FlowState { epoch, ..FlowState::default() }, epoch, clock_rate, now, path);
        }
        let figures = &state.statistics;
        Self {
            packets: figures.packets,
            octets: figures.octets,
            rtcp_packets: figures.rtcp_packets,
            refused: figures.refused,
            expected: state.expected(),
            lost: state.expected().saturating_sub(figures.received),
            late: figures.late,
            discarded: 0,
            concealed_ms: 0,
            jitter_ms: f64::from(figures.jitter_scaled) / 16.0 * 1000.0 / f64::from(clock_rate.max(1)),
            source_changes: figures.source_changes,
            latch_changes: figures.latch_changes,
            source: (state.latched != 0).then(|| arrival(FlowKey::new(state.source, state.source_port))),
            idle: (figures.last_seen != 0)
                .then(|| Duration::from_nanos(now.saturating_sub(figures.last_seen))),
            path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_common::learned::StreamStatistics;
    use gateway_common::net::{Addr128, Be16};

    #[test]
    fn a_state_of_another_epoch_reports_nothing() {
        let statistics = StreamStatistics { packets: 9, last_seen: 5, ..Default::default() };
        let state = FlowState { epoch: 3, latched: 1, statistics, ..Default::default() };
        let report = FlowReport::of(&state, 4, 8000, 10, RelayPath::Kernel);
        assert_eq!((report.packets, report.source, report.idle), (0, None, None));
    }

    #[test]
    fn figures_come_out_in_units_that_people_use() {
        let statistics = StreamStatistics {
            packets: 98,
            received: 98,
            last_seen: 1_000_000,
            jitter_scaled: 16 * 80,
            ..Default::default()
        };
        let state = FlowState {
            epoch: 4,
            base: 1001,
            highest: 1100,
            latched: 1,
            source: Addr128::v4([10, 0, 0, 1]),
            source_port: Be16::new(4000),
            statistics,
            ..Default::default()
        };
        let report = FlowReport::of(&state, 4, 8000, 3_000_000, RelayPath::Kernel);
        assert_eq!(report.lost, 2);
        assert_eq!(report.jitter_ms, 10.0);
        assert_eq!(report.source, Some("10.0.0.1:4000".parse().unwrap()));
        assert_eq!(report.idle, Some(Duration::from_millis(2)));
    }
}
