//! Counters that each core keeps and the scrape adds up.
//!
//! A metric is a field of [`CoreMetrics`], incremented by [`CoreMetrics::observe`] alone and listed by
//! [`CoreMetrics::series`]; a test fails on one that no event increments. What is not an event (kernel
//! counters, tables in use) is read at the scrape: [`NodeReadings`].

use super::event::{Datapath, Direction, Event, StartLine, TransferStep};
use super::trunk::TrunkEvent;
use crate::base::fault::Fault;
use gateway_common::verdict::Reason;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the set-up delay's buckets, in seconds.
const SETUP_BUCKETS: [f64; 12] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Counters of one core: written by it, read by the scrape.
#[derive(Debug, Default)]
pub struct CoreMetrics {
    calls: AtomicU64,
    calls_started: Counter,
    calls_adopted: Counter,
    calls_answered: Counter,
    calls_ended: Counter,
    calls_failed: PerFault,
    requests_refused: PerFault,
    sip_requests: PerDirection,
    sip_responses: PerDirection,
    sip_repeated: PerDirection,
    peers_tried: Counter,
    peer_failovers: Counter,
    media_plans: Counter,
    telephone_events: Counter,
    transfers: Counter,
    transfers_failed: Counter,
    sources_silenced: Counter,
    reloads: Counter,
    reloads_failed: Counter,
    path_changes: Counter,
    drains: Counter,
    drains_ended: Counter,
    probes: Counter,
    probes_failed: Counter,
    peers_up: Counter,
    peers_down: Counter,
    contacts_refused: Counter,
    trunk_drains: Counter,
    handshakes_failed: Counter,
    expiries_told: Counter,
    sources_denied: Counter,
    call_panics: Counter,
    trunks_near_limit: Counter,
    authentications_failed: Counter,
    registrations: Counter,
    registrations_ended: Counter,
    registrations_failed: Counter,
    records: Counter,
    records_lost: Counter,
    setup_delay: Delay,
}

/// The node's metrics: all cores together and what is read at the scrape.
pub struct Metrics {
    pub cores: Vec<Arc<CoreMetrics>>,
    pub read_node: Box<dyn Fn() -> NodeReadings + Send + Sync>,
}

/// What is not counted by events but stands in tables: read at each scrape and by `causeway status`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeReadings {
    /// The way of media by interface.
    pub paths: Vec<(Arc<str>, Datapath)>,
    pub flows: u64,
    pub flows_max: u64,
    /// Pairs that calls hold.
    pub port_pairs_in_use: u64,
    pub port_pairs: u64,
    pub draining: bool,
    /// Packets by what the kernel (or the socket path) did with them.
    pub passed: u64,
    pub transmitted: u64,
    pub redirected: u64,
    pub route_lookups: u64,
    pub drops: Vec<(Reason, u64)>,
    /// Addresses and networks that are denied.
    pub denied: u64,
    pub certificates: Vec<CertificateReading>,
    pub trunks: Vec<TrunkReading>,
}

/// A trunk at the moment of the scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrunkReading {
    pub trunk: String,
    pub draining: bool,
    /// Calls in progress that come by it or go to it, and how many may.
    pub calls: u32,
    pub calls_max: Option<u32>,
    pub peers: Vec<PeerReading>,
}

/// One address of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerReading {
    pub peer: String,
    pub address: SocketAddr,
    /// New calls are sent there.
    pub serves: bool,
}

/// The certificate of a trunk, as it is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateReading {
    pub trunk: Arc<str>,
    pub subject: String,
    /// The day, as in `2026-03-31`.
    pub expires: String,
    /// Seconds since the epoch.
    pub not_after: u64,
    /// Whole ones; 0 on the last, and after it.
    pub days_left: u64,
    /// What runs the trunk's connections: `rustls`, `openssl`.
    pub engine: &'static str,
}

/// One line of the exposition before all cores are added up.
struct Series {
    name: &'static str,
    help: &'static str,
    label: Option<(&'static str, &'static str)>,
    value: u64,
}

impl CoreMetrics {
    /// The only place where a metric is incremented.
    pub(super) fn observe(&self, event: &Event) {
        match event {
            Event::CallStarted(_) => self.calls_started.add(),
            Event::CallAdopted { .. } => self.calls_adopted.add(),
            Event::Sip { message, .. } => {
                let counters = match (message.repeated, message.line) {
                    (true, _) => &self.sip_repeated,
                    (false, StartLine::Request) => &self.sip_requests,
                    (false, StartLine::Response { .. }) => &self.sip_responses,
                };
                counters.of(message.direction).add();
            }
            Event::Routed { attempt, .. } => {
                self.peers_tried.add();
                if *attempt > 1 {
                    self.peer_failovers.add();
                }
            }
            Event::Alerted { since_invite, .. } => self.setup_delay.record(*since_invite),
            Event::Answered { .. } => self.calls_answered.add(),
            Event::MediaPlanned { .. } => self.media_plans.add(),
            Event::Transfer { step, .. } => match step {
                TransferStep::Begun => {}
                TransferStep::Done => self.transfers.add(),
                TransferStep::Failed(_) => self.transfers_failed.add(),
            },
            Event::Dtmf { .. } => self.telephone_events.add(),
            Event::Ended(end) => {
                self.calls_ended.add();
                if let Some(fault) = end.fault {
                    self.calls_failed.of(fault).add();
                }
            }
            Event::Refused { fault, .. } => self.requests_refused.of(*fault).add(),
            Event::Silenced { .. } => self.sources_silenced.add(),
            Event::ConfigReloaded { outcome: Ok(()) } => self.reloads.add(),
            Event::ConfigReloaded { outcome: Err(_) } => self.reloads_failed.add(),
            Event::PathChanged { .. } => self.path_changes.add(),
            Event::DrainBegun { .. } => self.drains.add(),
            Event::DrainEnded => self.drains_ended.add(),
            Event::Trunk(event) => self.observe_trunk(event),
            Event::HandshakeFailed { .. } => self.handshakes_failed.add(),
            Event::CertificateExpires { .. } => self.expiries_told.add(),
            Event::SourceDenied { .. } => self.sources_denied.add(),
            // What is denied now is read at the scrape.
            Event::SourceAllowed { .. } => {}
            Event::CallPanicked { .. } => self.call_panics.add(),
        }
    }

    fn observe_trunk(&self, event: &TrunkEvent) {
        match event {
            TrunkEvent::Probed { failed } => {
                self.probes.add();
                if *failed {
                    self.probes_failed.add();
                }
            }
            TrunkEvent::PeerUp { .. } => self.peers_up.add(),
            TrunkEvent::PeerDown { .. } => self.peers_down.add(),
            TrunkEvent::ContactRefused { .. } => self.contacts_refused.add(),
            TrunkEvent::Registered { .. } => self.registrations.add(),
            TrunkEvent::Unregistered { .. } => self.registrations_ended.add(),
            TrunkEvent::RegistrationFailed { .. } => self.registrations_failed.add(),
            TrunkEvent::AuthenticationFailed { .. } => self.authentications_failed.add(),
            TrunkEvent::NearLimit { .. } => self.trunks_near_limit.add(),
            TrunkEvent::Drained { .. } => self.trunk_drains.add(),
        }
    }

    pub(super) fn set_calls(&self, calls: usize) {
        self.calls.store(calls as u64, Ordering::Relaxed);
    }

    pub(super) fn record_sent(&self) {
        self.records.add();
    }

    pub(super) fn record_lost(&self) {
        self.records_lost.add();
    }

    /// Sum over the labels of a metric, for answers and tests.
    pub fn total(&self, name: &str) -> u64 {
        self.series().iter().filter(|series| series.name == name).map(|series| series.value).sum()
    }

    /// Calls in progress.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn transfer_series(&self) -> [Series; 2] {
        [
            ("causeway_transfers", "Times that a side of a call got another peer", &self.transfers),
            ("causeway_transfers_failed", "Transfers that left the call as it was", &self.transfers_failed),
        ]
        .map(|(name, help, counter)| Series { name, help, label: None, value: counter.value() })
    }

    #[expect(clippy::too_many_lines, reason = "a list: each metric once, with its name and its help")]
    fn series(&self) -> Vec<Series> {
        // Taken apart in full, so that the compiler asks for a metric that is not listed.
        let Self {
            calls: _,
            calls_started,
            calls_adopted,
            calls_answered,
            calls_ended,
            calls_failed,
            requests_refused,
            sip_requests,
            sip_responses,
            sip_repeated,
            peers_tried,
            peer_failovers,
            media_plans,
            telephone_events,
            transfers: _,
            transfers_failed: _,
            sources_silenced,
            reloads,
            reloads_failed,
            path_changes,
            drains,
            drains_ended,
            probes,
            probes_failed,
            peers_up,
            peers_down,
            contacts_refused,
            trunk_drains,
            handshakes_failed,
            expiries_told,
            sources_denied,
            call_panics,
            trunks_near_limit,
            authentications_failed,
            registrations,
            registrations_ended,
            registrations_failed,
            records,
            records_lost,
            setup_delay: _,
        } = self;
        let mut list = Vec::with_capacity(96);
        list.extend(self.transfer_series());
        let mut one = |name, help, counter: &Counter| {
            list.push(Series { name, help, label: None, value: counter.value() });
        };
        one("causeway_calls_started", "INVITEs accepted as new calls", calls_started);
        one("causeway_calls_adopted", "Calls taken over from an earlier daemon", calls_adopted);
        one("causeway_calls_answered", "Calls answered with 200", calls_answered);
        one("causeway_calls_ended", "Calls that ended, however they did", calls_ended);
        one("causeway_peers_tried", "Peers that a call was sent to", peers_tried);
        one("causeway_peer_failovers", "Calls sent to another peer after one failed", peer_failovers);
        one("causeway_media_plans", "Media negotiated and programmed, re-INVITEs included", media_plans);
        one("causeway_telephone_events", "Telephone-events heard (RFC 4733)", telephone_events);
        one("causeway_sources_silenced", "Messages dropped: no trunk allows their source", sources_silenced);
        one("causeway_config_reloads", "Configurations taken into force while running", reloads);
        one("causeway_config_reloads_failed", "Configurations refused while running", reloads_failed);
        one(
            "causeway_media_path_changes",
            "Changes of the way that media takes on an interface",
            path_changes,
        );
        one(
            "causeway_tls_handshakes_failed",
            "TLS handshakes that failed, by either side",
            handshakes_failed,
        );
        one("causeway_certificate_warnings", "Certificates found within 30 days of their end", expiries_told);
        one("causeway_sources_denied", "Times that an address or a network was denied", sources_denied);
        one("causeway_call_panics", "Calls that were lost to a panic", call_panics);
        one("causeway_drains", "Times that the node began to drain", drains);
        one("causeway_drains_ended", "Times that the node was undrained", drains_ended);
        one("causeway_probes", "OPTIONS that peers were asked by", probes);
        one("causeway_probes_failed", "OPTIONS answered by 408, 503 or not at all", probes_failed);
        one("causeway_peers_went_up", "Times that an address of a peer came to serve calls", peers_up);
        one(
            "causeway_peers_went_down",
            "Times that an address of a peer was taken out of service",
            peers_down,
        );
        one(
            "causeway_contacts_refused",
            "Times that a peer began to answer OPTIONS with 403",
            contacts_refused,
        );
        one(
            "causeway_trunks_near_limit",
            "Times that a trunk came to nine tenths of its calls",
            trunks_near_limit,
        );
        one(
            "causeway_authentications_failed",
            "Calls whose callers gave a wrong name or password",
            authentications_failed,
        );
        one("causeway_registrations", "Times that a peer began to know our Contact", registrations);
        one("causeway_registrations_ended", "Registrations taken back", registrations_ended);
        one(
            "causeway_registrations_failed",
            "Times that a peer began to refuse our Contact, or fell silent about it",
            registrations_failed,
        );
        one("causeway_trunk_drains", "Drains of trunks and peers begun and ended", trunk_drains);
        one("causeway_call_records", "Call detail records handed to the writer", records);
        one("causeway_call_records_lost", "Call detail records lost: the writer was too slow", records_lost);
        calls_failed.series("causeway_calls_failed", "Calls that a fault ended", &mut list);
        requests_refused.series("causeway_requests_refused", "Requests answered with an error", &mut list);
        sip_requests.series("causeway_sip_requests", "SIP requests, without repeats", &mut list);
        sip_responses.series("causeway_sip_responses", "SIP responses, without repeats", &mut list);
        sip_repeated.series("causeway_sip_repeats", "SIP messages seen or sent again", &mut list);
        list
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
        let count = |fault| self.cores.iter().map(|core| core.requests_refused.of(fault).value()).sum();
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
        let mut cores = self.cores.iter().map(|core| core.series());
        let mut sum = cores.next().unwrap_or_else(|| CoreMetrics::default().series());
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
                match line.label {
                    Some(label) => counter.encode(metric.encode_family(&[label])?)?,
                    None => metric.encode_counter::<NoLabels, _, u64>(&line.value, None)?,
                }
            }
        }
        self.encode_setup_delay(&mut encoder)?;
        gauge(&mut encoder, "causeway_calls", "Calls in progress", self.calls())?;
        (self.read_node)().encode(&mut encoder)
    }
}

type NoLabels = [(&'static str, &'static str); 0];

impl Metrics {
    fn encode_setup_delay(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let delays = self.setup_delay();
        let mut before = 0;
        let mut buckets: Vec<_> = SETUP_BUCKETS
            .iter()
            .map(|bound| {
                let until = delays.count_between(0, (bound * 1e6) as u64);
                let bucket = (*bound, until - before);
                before = until;
                bucket
            })
            .collect();
        buckets.push((f64::INFINITY, delays.len() - before));
        let sum = delays.mean() * delays.len() as f64 / 1e6;
        let help = "From the INVITE to the first 180, 183 or 200 sent to the caller";
        encoder
            .encode_descriptor("causeway_setup_delay_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabels>(sum, delays.len(), &buckets, None)
    }
}

impl NodeReadings {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(encoder, "causeway_draining", "1 while new calls are refused", u64::from(self.draining))?;
        gauge(encoder, "causeway_denied", "Addresses and networks that are denied", self.denied)?;
        gauge(encoder, "causeway_flows", "Media flows programmed", self.flows)?;
        gauge(encoder, "causeway_flows_max", "Media flows that fit", self.flows_max)?;
        gauge(
            encoder,
            "causeway_media_port_pairs_in_use",
            "Pairs of media ports that calls hold",
            self.port_pairs_in_use,
        )?;
        gauge(encoder, "causeway_media_port_pairs", "Pairs of media ports configured", self.port_pairs)?;
        let help = "The way that media takes: 1 for the path in use on the interface";
        let mut metric = encoder.encode_descriptor("causeway_media_path", help, None, MetricType::Gauge)?;
        for (interface, used) in &self.paths {
            for path in Datapath::ALL {
                let labels = [("interface", &**interface), ("path", path.label())];
                ConstGauge::new(u64::from(path == *used)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let packets =
            [("passed", self.passed), ("transmitted", self.transmitted), ("redirected", self.redirected)];
        let help = "Packets seen on media interfaces by what was done with them";
        labelled(encoder, "causeway_packets", help, "action", packets)?;
        let help = "Packets not relayed, by reason";
        let drops = self.drops.iter().map(|(reason, count)| (reason.label(), *count));
        labelled(encoder, "causeway_packets_dropped", help, "reason", drops)?;
        self.encode_trunks(encoder)?;
        let help = "Seconds since the epoch at which the certificate of a trunk ends";
        let mut metric = encoder.encode_descriptor(
            "causeway_certificate_not_after_seconds",
            help,
            None,
            MetricType::Gauge,
        )?;
        for certificate in &self.certificates {
            let labels = [("trunk", &*certificate.trunk), ("subject", certificate.subject.as_str())];
            ConstGauge::new(certificate.not_after).encode(metric.encode_family(&labels)?)?;
        }
        let lookups = ConstCounter::new(self.route_lookups);
        let help = "Route look-ups by the data plane because no cached next hop was valid";
        let metric = encoder.encode_descriptor("causeway_route_lookups", help, None, MetricType::Counter)?;
        lookups.encode(metric)
    }
}

impl NodeReadings {
    fn encode_trunks(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "1 while new calls of the trunk are refused by command";
        let mut metric =
            encoder.encode_descriptor("causeway_trunk_draining", help, None, MetricType::Gauge)?;
        for trunk in &self.trunks {
            let labels = [("trunk", trunk.trunk.as_str())];
            ConstGauge::new(u64::from(trunk.draining)).encode(metric.encode_family(&labels)?)?;
        }
        let help = "Calls in progress that come by the trunk or go to it";
        let mut metric = encoder.encode_descriptor("causeway_trunk_calls", help, None, MetricType::Gauge)?;
        for trunk in &self.trunks {
            let labels = [("trunk", trunk.trunk.as_str())];
            ConstGauge::new(u64::from(trunk.calls)).encode(metric.encode_family(&labels)?)?;
        }
        let help = "Calls that the trunk may carry at once";
        let mut metric =
            encoder.encode_descriptor("causeway_trunk_calls_max", help, None, MetricType::Gauge)?;
        for (trunk, most) in self.trunks.iter().filter_map(|trunk| trunk.calls_max.map(|most| (trunk, most)))
        {
            let labels = [("trunk", trunk.trunk.as_str())];
            ConstGauge::new(u64::from(most)).encode(metric.encode_family(&labels)?)?;
        }
        let help = "1 while new calls are sent to this address of the peer";
        let mut metric = encoder.encode_descriptor("causeway_peer_serves", help, None, MetricType::Gauge)?;
        for trunk in &self.trunks {
            for peer in &trunk.peers {
                let address = peer.address.to_string();
                let labels = [
                    ("trunk", trunk.trunk.as_str()),
                    ("peer", peer.peer.as_str()),
                    ("address", address.as_str()),
                ];
                ConstGauge::new(u64::from(peer.serves)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn labelled(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    key: &'static str,
    values: impl IntoIterator<Item = (&'static str, u64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (label, value) in values {
        ConstCounter::new(value).encode(metric.encode_family(&[(key, label)])?)?;
    }
    Ok(())
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("cores", &self.cores).finish_non_exhaustive()
    }
}

/// One writer, so no atomic addition is needed, only that readers never see half a number.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self) {
        self.0.store(self.value().wrapping_add(1), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct PerFault([Counter; Fault::ALL.len()]);

impl Default for PerFault {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl PerFault {
    fn of(&self, fault: Fault) -> &Counter {
        // `Fault::ALL` lists the variants in the order they are declared in, so the discriminant is the place.
        &self.0[fault as usize]
    }

    fn series(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>) {
        for (fault, counter) in Fault::ALL.iter().zip(&self.0) {
            list.push(Series { name, help, label: Some(("fault", fault.label())), value: counter.value() });
        }
    }
}

#[derive(Debug, Default)]
struct PerDirection {
    received: Counter,
    sent: Counter,
}

impl PerDirection {
    fn of(&self, direction: Direction) -> &Counter {
        match direction {
            Direction::Received => &self.received,
            Direction::Sent => &self.sent,
        }
    }

    fn series(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>) {
        for (word, counter) in [("received", &self.received), ("sent", &self.sent)] {
            list.push(Series { name, help, label: Some(("direction", word)), value: counter.value() });
        }
    }
}

/// Microseconds in two halves: the core writes to whichever the scrape does not hold, so it never waits.
#[derive(Debug)]
struct Delay([Mutex<Histogram<u64>>; 2]);

impl Default for Delay {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(Self::empty())))
    }
}

impl Delay {
    fn empty() -> Histogram<u64> {
        const LONGEST: u64 = 600_000_000;
        Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are constants that hdrhistogram takes")
    }

    fn record(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let [first, second] = &self.0;
        let mut half = first.try_lock().unwrap_or_else(|| second.lock());
        half.saturating_record(micros);
    }

    fn add_to(&self, sum: &mut Histogram<u64>) {
        for half in &self.0 {
            sum.add(&*half.lock()).expect("all halves have the same bounds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{CallEnd, samples};
    use super::*;
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
        for name in core.series().iter().map(|series| series.name) {
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
            let counted = core.series().into_iter().find(|series| {
                series.name == "causeway_requests_refused" && series.label == Some(("fault", fault.label()))
            });
            assert_eq!(counted.unwrap().value, 1, "{fault:?}");
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
        for line in [
            "causeway_calls_started_total 2",
            "causeway_requests_refused_total{fault=\"no_ack\"} 2",
            "causeway_sip_requests_total{direction=\"sent\"} 2",
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
            "causeway_peer_serves{trunk=\"teams\",peer=\"teams1\",address=\"203.0.113.9:5060\"} 0",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn the_core_records_a_delay_while_the_scrape_holds_a_half() {
        let delay = Delay::default();
        let held = delay.0[0].lock();
        delay.record(Duration::from_millis(3));
        drop(held);
        let mut sum = Delay::empty();
        delay.add_to(&mut sum);
        assert_eq!(sum.len(), 1);
    }
}
