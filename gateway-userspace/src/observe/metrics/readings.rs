//! What stands in tables and is read at the scrape.

use super::super::event::Datapath;
use super::gauge;
use gateway_common::verdict::Reason;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// Tenants with a limit: name, calls in progress, and how many they may be.
    pub tenants: Vec<(Arc<str>, u32, u32)>,
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

impl NodeReadings {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
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
        self.encode_tenants(encoder)?;
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

    fn encode_tenants(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Calls in progress of a tenant that has a limit";
        let mut metric = encoder.encode_descriptor("causeway_tenant_calls", help, None, MetricType::Gauge)?;
        for (tenant, calls, _) in &self.tenants {
            ConstGauge::new(u64::from(*calls)).encode(metric.encode_family(&[("tenant", &**tenant)])?)?;
        }
        let help = "Calls that the tenant may have at once";
        let mut metric =
            encoder.encode_descriptor("causeway_tenant_calls_max", help, None, MetricType::Gauge)?;
        for (tenant, _, most) in &self.tenants {
            ConstGauge::new(u64::from(*most)).encode(metric.encode_family(&[("tenant", &**tenant)])?)?;
        }
        Ok(())
    }

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
