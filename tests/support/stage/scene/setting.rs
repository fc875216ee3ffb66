//! What is set up before a scenario begins: the gateway's sizes, its trunks and routes, the weather.

use super::{OPERATOR, SERVICE};
use crate::stage::far_end::FarEnd;
use crate::stage::weather::Weather;
use gateway_userspace::base::id::TrunkId;
use gateway_userspace::media::MediaPolicy;
use gateway_userspace::policy::{Emergency, Peer, Route, Snapshot, Tenant, Tenants, Trunk};
use gateway_userspace::runtime::admission::Quota;
use gateway_userspace::sip::transport::Transport;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What differs from one scenario to the next.
#[derive(Clone, Debug)]
pub struct Stage {
    pub cores: u16,
    pub weather: Weather,
    pub seed: u64,
    pub max_calls: usize,
    pub quota: Quota,
    pub emergency_numbers: &'static [&'static str],
    /// Customers behind the trunks that are theirs.
    pub tenants: fn() -> Vec<Tenant>,
    pub media_timeout: Duration,
    /// The data plane can play.
    pub plays: bool,
    pub ports: RangeInclusive<u16>,
    /// Ends the scenario without asking whether the phones complain, for those who misbehave on purpose.
    pub phones_may_complain: bool,
    /// What the operator's and the service's trunk have other than the usual.
    pub operator: fn(&mut Trunk),
    pub service: fn(&mut Trunk),
    /// The service that Bob and Carol stand for, where they are more than phones.
    pub far_end: Option<FarEnd>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            cores: 1,
            weather: Weather::FAIR,
            seed: 1,
            max_calls: 100,
            quota: Quota::default(),
            emergency_numbers: &[],
            tenants: Vec::new,
            media_timeout: Duration::from_secs(60),
            plays: true,
            ports: 20_000..=20_099,
            phones_may_complain: false,
            operator: |_| {},
            service: |_| {},
            far_end: None,
        }
    }
}

pub(super) fn policy(stage: &Stage) -> Snapshot {
    let trunk = |name: &str, listen: &str, media: &str, peers: &[&str]| Trunk {
        peers: (0..)
            .zip(peers)
            .map(|(priority, peer)| Peer::at(peer.parse().expect("an address"), priority))
            .collect(),
        media_address: media.parse().expect("an address"),
        media: MediaPolicy { offer_rtcp_mux: false, ..MediaPolicy::default() },
        ..Trunk::new(name, Transport::Udp, listen.parse().expect("an address"))
    };
    let mut trunks = vec![
        trunk("operator", OPERATOR, "192.0.2.2", &["198.51.100.10:5060"]),
        trunk("service", SERVICE, "203.0.113.2", &["198.18.0.20:5060", "198.18.0.30:5060"]),
    ];
    (stage.operator)(&mut trunks[0]);
    (stage.service)(&mut trunks[1]);
    let numbers = stage.emergency_numbers.iter().map(|number| (*number).to_owned()).collect();
    let emergency = Emergency { numbers, to: None };
    Snapshot::new(trunks, routes())
        .and_then(|policy| policy.with_emergency(emergency))
        .and_then(|policy| Ok(policy.with_tenants(Tenants::new((stage.tenants)())?)))
        .expect("a sound policy")
}

pub(super) fn routes() -> Vec<Route> {
    let route =
        |prefix, from, to| Route::new(prefix, Some(TrunkId(from)), TrunkId(to)).expect("a sound prefix");
    // Numbers in +9 lead nowhere.
    vec![route("+1", 0, 1), route("+44", 1, 0)]
}
