//! What each core counts and the scrape adds up.
//!
//! A counter has its line in [`counters`] and is incremented by [`CoreMetrics::observe`] alone; a test fails on one that
//! no event increments. Distributions are in [`histogram`]. What is not an event (kernel counters, tables in use) is
//! read at the scrape: [`NodeReadings`].

mod counters;
mod histogram;
mod readings;

use super::event::{Event, StartLine, TransferStep};
use super::trunk::TrunkEvent;
use crate::base::fault::Fault;
use counters::{Counters, Series};
use hdrhistogram::Histogram;
use histogram::{Delay, Quality, encode_quality, encode_setup_delay};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
pub use readings::{CertificateReading, NodeReadings, PeerReading, TrunkReading};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one core: written by it, read by the scrape.
#[derive(Debug, Default)]
pub struct CoreMetrics {
    calls: AtomicU64,
    counters: Counters,
    setup_delay: Delay,
    quality: Quality,
}

/// The node's metrics: all cores together and what is read at the scrape.
pub struct Metrics {
    pub cores: Vec<Arc<CoreMetrics>>,
    pub read_node: Box<dyn Fn() -> NodeReadings + Send + Sync>,
}

impl CoreMetrics {
    /// The only place where a metric is incremented.
    pub(super) fn observe(&self, event: &Event) {
        match event {
            Event::CallStarted(_) => self.counters.calls_started.add(),
            Event::CallAdopted { .. } => self.counters.calls_adopted.add(),
            Event::Sip { message, .. } => {
                let counters = match (message.repeated, message.line) {
                    (true, _) => &self.counters.sip_repeated,
                    (false, StartLine::Request) => &self.counters.sip_requests,
                    (false, StartLine::Response { .. }) => &self.counters.sip_responses,
                };
                counters.of(message.direction).add();
            }
            Event::Routed { attempt, .. } => {
                self.counters.peers_tried.add();
                if *attempt > 1 {
                    self.counters.peer_failovers.add();
                }
            }
            Event::Alerted { since_invite, .. } => self.setup_delay.record(*since_invite),
            Event::Answered { .. } => self.counters.calls_answered.add(),
            Event::MediaPlanned { .. } => self.counters.media_plans.add(),
            Event::Transfer { step, .. } => match step {
                TransferStep::Begun => {}
                TransferStep::Done => self.counters.transfers.add(),
                TransferStep::Failed(_) => self.counters.transfers_failed.add(),
            },
            Event::Dtmf { .. } => self.counters.telephone_events.add(),
            Event::Ended(end) => {
                self.counters.calls_ended.add();
                self.quality.record(end);
                for path in
                    [&end.from_caller, &end.from_callee].into_iter().filter_map(|heard| heard.relayed_by)
                {
                    self.counters.media_directions.of(path).add();
                }
                if let Some(fault) = end.fault {
                    self.counters.calls_failed.of(fault).add();
                }
            }
            Event::Refused { fault, .. } => self.counters.requests_refused.of(*fault).add(),
            Event::Silenced { .. } => self.counters.sources_silenced.add(),
            Event::ConfigReloaded { outcome: Ok(()) } => self.counters.reloads.add(),
            Event::ConfigReloaded { outcome: Err(_) } => self.counters.reloads_failed.add(),
            Event::PathChanged { .. } => self.counters.path_changes.add(),
            Event::DrainBegun { .. } => self.counters.drains.add(),
            Event::DrainEnded => self.counters.drains_ended.add(),
            Event::Trunk(event) => self.observe_trunk(event),
            Event::HandshakeFailed { .. } => self.counters.handshakes_failed.add(),
            Event::CertificateExpires { .. } => self.counters.expiries_told.add(),
            Event::SourceDenied { .. } => self.counters.sources_denied.add(),
            // What is denied now is read at the scrape.
            Event::SourceAllowed { .. } => {}
            Event::CallPanicked { .. } => self.counters.call_panics.add(),
        }
    }

    fn observe_trunk(&self, event: &TrunkEvent) {
        match event {
            TrunkEvent::Probed { failed } => {
                self.counters.probes.add();
                if *failed {
                    self.counters.probes_failed.add();
                }
            }
            TrunkEvent::PeerUp { .. } => self.counters.peers_up.add(),
            TrunkEvent::PeerDown { .. } => self.counters.peers_down.add(),
            TrunkEvent::ContactRefused { .. } => self.counters.contacts_refused.add(),
            TrunkEvent::Registered { .. } => self.counters.registrations.add(),
            TrunkEvent::Unregistered { .. } => self.counters.registrations_ended.add(),
            TrunkEvent::RegistrationFailed { .. } => self.counters.registrations_failed.add(),
            TrunkEvent::AuthenticationFailed { .. } => self.counters.authentications_failed.add(),
            TrunkEvent::NearLimit { .. } => self.counters.trunks_near_limit.add(),
            TrunkEvent::TenantNearLimit { .. } => self.counters.tenants_near_limit.add(),
            TrunkEvent::Drained { .. } => self.counters.trunk_drains.add(),
        }
    }

    pub(super) fn set_calls(&self, calls: usize) {
        self.calls.store(calls as u64, Ordering::Relaxed);
    }

    pub(super) fn record_sent(&self) {
        self.counters.records.add();
    }

    pub(super) fn record_lost(&self) {
        self.counters.records_lost.add();
    }

    /// Sum over the labels of a metric, for answers and tests.
    pub fn total(&self, name: &str) -> u64 {
        self.counters.series().iter().filter(|series| series.name == name).map(|series| series.value).sum()
    }

    /// Calls in progress.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Calls in progress on all cores.
    pub fn calls(&self) -> u64 {
        self.cores.iter().map(|core| core.calls()).sum()
    }

    /// Sum over cores and labels of a metric, by its name without the suffix that the exposition adds.
    pub fn total(&self, name: &str) -> u64 {
        self.cores.iter().map(|core| core.total(name)).sum()
    }

    /// Requests answered with an error, all cores, by fault.
    pub fn requests_refused(&self) -> Vec<(Fault, u64)> {
        let count =
            |fault| self.cores.iter().map(|core| core.counters.requests_refused.of(fault).value()).sum();
        Fault::ALL.iter().map(|fault| (*fault, count(*fault))).collect()
    }

    /// Set-up delay in microseconds, all cores: from the INVITE to the first 180, 183 or 200 sent to the
    /// caller. It holds the far side's time to ring, so it is what the caller waits, not what Causeway costs.
    pub fn setup_delay(&self) -> Histogram<u64> {
        let mut sum = Delay::empty();
        for core in &self.cores {
            core.setup_delay.add_to(&mut sum);
        }
        sum
    }

    fn series(&self) -> Vec<Series> {
        let mut cores = self.cores.iter().map(|core| core.counters.series());
        let mut sum = cores.next().unwrap_or_else(|| Counters::default().series());
        for core in cores {
            for (total, series) in sum.iter_mut().zip(core) {
                total.value += series.value;
            }
        }
        sum
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let series = self.series();
        for family in series.chunk_by(|a, b| a.name == b.name) {
            let Some(first) = family.first() else { continue };
            let mut metric = encoder.encode_descriptor(first.name, first.help, None, MetricType::Counter)?;
            for line in family {
                let counter = ConstCounter::new(line.value);
                match line.labels.is_empty() {
                    false => counter.encode(metric.encode_family(&line.labels)?)?,
                    true => metric.encode_counter::<NoLabels, _, u64>(&line.value, None)?,
                }
            }
        }
        encode_setup_delay(&self.setup_delay(), &mut encoder)?;
        encode_quality(self.cores.iter().map(|core| &core.quality), &mut encoder)?;
        gauge(&mut encoder, "causeway_calls", "Calls in progress", self.calls())?;
        (self.read_node)().encode(&mut encoder)
    }
}

type NoLabels = [(&'static str, &'static str); 0];

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("cores", &self.cores).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{CallEnd, Datapath, samples};
    use super::*;
    use gateway_common::verdict::Reason;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    fn busy_core() -> Arc<CoreMetrics> {
        let core = Arc::new(CoreMetrics::default());
        for event in samples::all() {
            core.observe(&event);
        }
        for fault in Fault::ALL {
            core.observe(&Event::Refused { fault: *fault, source: samples::source() });
            core.observe(&Event::Ended(Box::new(CallEnd { fault: Some(*fault), ..samples::end() })));
        }
        core.record_sent();
        core.record_lost();
        core
    }

    fn exposition(metrics: Metrics) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn every_declared_metric_is_incremented_by_some_event() {
        let core = busy_core();
        for name in core.counters.series().iter().map(|series| series.name) {
            assert!(core.total(name) > 0, "no event increments {name}");
        }
        let metrics = Metrics { cores: vec![core], read_node: Box::new(NodeReadings::default) };
        assert_eq!(metrics.setup_delay().len(), 1);
    }

    #[test]
    fn a_fault_counts_under_its_own_label() {
        let core = CoreMetrics::default();
        for fault in Fault::ALL {
            core.observe(&Event::Refused { fault: *fault, source: samples::source() });
            let counted = core.counters.series().into_iter().find(|series| {
                series.name == "causeway_requests_refused" && series.labels == [("fault", fault.label())]
            });
            assert_eq!(counted.unwrap().value, 1, "{fault:?}");
        }
    }

    #[test]
    fn quality_of_calls_is_told_by_trunk() {
        let cores = vec![busy_core(), busy_core()];
        let text = exposition(Metrics { cores, read_node: Box::new(NodeReadings::default) });
        let calls = 2 * (Fault::ALL.len() + 1);
        for line in [
            format!("causeway_call_mos_count{{trunk=\"operator\"}} {calls}"),
            format!("causeway_call_loss_ratio_bucket{{le=\"0.002\",trunk=\"teams\"}} {calls}"),
            "causeway_call_jitter_seconds_bucket{le=\"0.001\",trunk=\"teams\"} 0".to_owned(),
            format!("causeway_call_round_trip_seconds_bucket{{le=\"0.05\",trunk=\"operator\"}} {calls}"),
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn the_scrape_adds_up_the_cores() {
        let cores = vec![busy_core(), busy_core()];
        let read_node = || NodeReadings {
            paths: vec![("eth0".into(), Datapath::Native)],
            drops: vec![(Reason::SourceRefused, 7)],
            transmitted: 5,
            trunks: vec![TrunkReading {
                trunk: "teams".into(),
                draining: true,
                calls: 7,
                calls_max: Some(10),
                peers: vec![PeerReading { peer: "teams1".into(), address: samples::peer(), serves: false }],
            }],
            tenants: vec![("contoso".into(), 3, 20)],
            certificates: vec![CertificateReading {
                trunk: "service".into(),
                subject: "sbc.example.net".into(),
                expires: "2026-12-24".into(),
                not_after: 1_798_070_400,
                days_left: 31,
                engine: "rustls",
            }],
            ..NodeReadings::default()
        };
        let text = exposition(Metrics { cores, read_node: Box::new(read_node) });
        let directions = 2 * 2 * (Fault::ALL.len() + 1);
        for line in [
            "causeway_calls_started_total 2",
            "causeway_requests_refused_total{fault=\"no_ack\"} 2",
            "causeway_sip_requests_total{direction=\"sent\"} 2",
            &format!("causeway_call_media_total{{path=\"kernel\",reason=\"\"}} {directions}"),
            "causeway_call_media_total{path=\"userspace\",reason=\"srtp_suite\"} 0",
            "causeway_setup_delay_seconds_count 2",
            "causeway_setup_delay_seconds_bucket{le=\"0.2\"} 0",
            "causeway_setup_delay_seconds_bucket{le=\"0.5\"} 2",
            "causeway_setup_delay_seconds_bucket{le=\"+Inf\"} 2",
            "causeway_media_path{interface=\"eth0\",path=\"native\"} 1",
            "causeway_media_path{interface=\"eth0\",path=\"sockets\"} 0",
            "causeway_certificate_not_after_seconds{trunk=\"service\",subject=\"sbc.example.net\"} 1798070400",
            "causeway_packets_dropped_total{reason=\"source_refused\"} 7",
            "causeway_trunk_draining{trunk=\"teams\"} 1",
            "causeway_trunk_calls{trunk=\"teams\"} 7",
            "causeway_trunk_calls_max{trunk=\"teams\"} 10",
            "causeway_tenant_calls{tenant=\"contoso\"} 3",
            "causeway_tenant_calls_max{tenant=\"contoso\"} 20",
            "causeway_peer_serves{trunk=\"teams\",peer=\"teams1\",address=\"203.0.113.9:5060\"} 0",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line} not in\n{text}");
        }
    }
}
