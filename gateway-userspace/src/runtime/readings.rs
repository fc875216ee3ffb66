//! What stands in tables and in standings, read for the scrape and for `causeway status`.

use super::defence::Defence;
use super::worker::{Gauges, clock};
use crate::base::id::TrunkId;
use crate::config::Config;
use crate::dataplane::{self, Node};
use crate::net::tls::{Date, TlsTable, TrunkCertificate};
use crate::observe::event::Datapath;
use crate::observe::metrics::{CertificateReading, NodeReadings, PeerReading, TrunkReading};
use crate::policy::{Drainable as _, PeerView, Snapshot, Target, Trunk};
use gateway_common::verdict::Traffic;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads what stands in tables, for the scrape and for `causeway status`.
pub(super) fn read_node(
    node: &Arc<Mutex<Node>>,
    gauges: Vec<Arc<Gauges>>,
    config: &Arc<Mutex<(PathBuf, Config)>>,
    defence: &Arc<Defence>,
) -> Box<dyn Fn() -> NodeReadings + Send + Sync> {
    let (node, config, defence) = (Arc::downgrade(node), Arc::clone(config), Arc::clone(defence));
    Box::new(move || {
        let sum = |gauge: fn(&Gauges) -> u64| gauges.iter().map(|core| gauge(core)).sum();
        let (flows_max, policy, tls) = {
            let (_, config) = &*config.lock();
            (config.dataplane.flows, Arc::clone(&config.policy), Arc::clone(&config.tls))
        };
        let mut readings = NodeReadings {
            flows: sum(|core| core.flows.load(Ordering::Relaxed)),
            flows_max: u64::from(flows_max),
            port_pairs_in_use: sum(|core| core.ports_in_use.load(Ordering::Relaxed)),
            port_pairs: sum(|core| core.ports.load(Ordering::Relaxed)),
            draining: gauges.iter().any(|core| core.draining.load(Ordering::Relaxed)),
            trunks: trunks(&policy),
            tenants: policy
                .tenants()
                .limited()
                .map(|(name, calls, most)| (Arc::clone(name), calls, most))
                .collect(),
            denied: defence.denied_count(),
            certificates: certificates(&tls),
            ..NodeReadings::default()
        };
        let Some(node) = node.upgrade() else { return readings };
        let node = node.lock();
        readings.paths =
            node.paths().iter().map(|path| (path.interface.as_str().into(), datapath(path.path))).collect();
        match (node.traffic(), node.drops()) {
            (Ok(traffic), Ok(drops)) => {
                let of = |kind| traffic.get(&kind).copied().unwrap_or_default();
                readings.passed = of(Traffic::Passed);
                readings.transmitted = of(Traffic::Transmitted);
                readings.redirected = of(Traffic::Redirected);
                readings.route_lookups = of(Traffic::RouteLookups);
                readings.drops = drops.into_iter().collect();
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "the data plane's counters cannot be read")
            }
        }
        readings
    })
}

fn trunks(policy: &Snapshot) -> Vec<TrunkReading> {
    let now = clock();
    let peers = |view: PeerView<'_>| {
        let open = !view.standing.is_drained();
        let reading = |target: &Target| PeerReading {
            peer: view.peer.name.clone(),
            address: target.address,
            serves: open && target.standing.serves(now),
        };
        view.targets.iter().map(reading).collect::<Vec<_>>()
    };
    let reading = |(id, trunk): (TrunkId, &Trunk)| TrunkReading {
        trunk: trunk.name.clone(),
        draining: policy.standing(id).is_some_and(|standing| standing.is_drained()),
        calls: policy.standing(id).map_or(0, |standing| standing.meter.calls()),
        calls_max: trunk.limits.calls,
        peers: policy.peers(id).flat_map(peers).collect(),
    };
    policy.trunks().map(reading).collect()
}

fn certificates(tls: &TlsTable) -> Vec<CertificateReading> {
    let now = SystemTime::now();
    let reading = |TrunkCertificate { trunk, certificate, engine }: &TrunkCertificate| CertificateReading {
        trunk: Arc::clone(trunk),
        subject: certificate.subject.clone(),
        expires: Date(certificate.not_after).to_string(),
        not_after: certificate.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        days_left: certificate.remaining(now).as_secs() / 86_400,
        engine: engine.as_str(),
    };
    tls.certificates().iter().map(reading).collect()
}

pub(super) fn datapath(path: dataplane::PathKind) -> Datapath {
    match path {
        dataplane::PathKind::Native => Datapath::Native,
        dataplane::PathKind::Generic => Datapath::Generic,
        dataplane::PathKind::Sockets => Datapath::Sockets,
        dataplane::PathKind::None => Datapath::None,
    }
}
