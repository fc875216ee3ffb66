//! Who is denied, and who never: sources that keep offending, within what the operator allows.

use super::Snapshot;
use crate::base::time::Time;
use crate::sip::transport::Transport;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The `[defence]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefenceSettings {
    /// Whether the kernel guards our sockets.
    pub enabled: bool,
    /// How fast one source that a trunk knows may send.
    pub packets_per_second: u32,
    pub burst: u32,
    /// So many offences within `window` are too many.
    pub offences: u32,
    pub window: Duration,
    /// How long a source is denied then.
    pub denial: Duration,
    pub spare: Spare,
}

impl Default for DefenceSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            packets_per_second: 50_000,
            burst: 50_000,
            offences: 20,
            window: Duration::from_secs(60),
            denial: Duration::from_secs(600),
            spare: Spare::Trunks,
        }
    }
}

/// Who is never denied but by command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spare {
    /// Peers of trunks, and the networks that trunks allow.
    #[default]
    Trunks,
    /// Peers alone, for trunks that allow half of the world.
    Peers,
    /// Nobody.
    Nobody,
}

/// One of our sockets with everybody whom its trunks allow or call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub listen: SocketAddr,
    pub transport: Transport,
    pub sources: Vec<IpNet>,
}

impl Snapshot {
    /// Whom each of our sockets hears or calls, as names of peers are known now.
    pub fn heard(&self) -> Vec<Heard> {
        let mut sockets = BTreeMap::new();
        for (id, trunk) in self.trunks() {
            let sources: &mut Vec<_> = sockets.entry((trunk.transport, trunk.listen)).or_default();
            sources.extend(trunk.networks().map(IpNet::trunc));
            let targets = self.peers(id).flat_map(|view| view.targets);
            sources.extend(targets.map(|target| IpNet::from(target.address.ip())));
        }
        let heard = |((transport, listen), mut sources): ((Transport, SocketAddr), Vec<IpNet>)| {
            sources.sort_unstable();
            sources.dedup();
            Heard { listen, transport, sources }
        };
        sockets.into_iter().map(heard).collect()
    }

    /// A trunk that would lose something if `network` were denied, of those that are to be spared.
    pub fn spared(&self, network: &IpNet, spare: Spare) -> Option<&str> {
        let meets = |other: &IpNet| network.contains(other) || other.contains(network);
        let (networks, peers) = match spare {
            Spare::Trunks => (true, true),
            Spare::Peers => (false, true),
            Spare::Nobody => return None,
        };
        let found = self.trunks().find(|(id, trunk)| {
            let mut targets = self.peers(*id).flat_map(|view| view.targets);
            networks && trunk.networks().any(meets)
                || peers && targets.any(|target| network.contains(&target.address.ip()))
        });
        found.map(|(_, trunk)| trunk.name.as_str())
    }
}

/// Sources that offended lately.
#[derive(Debug, Default)]
pub struct Offenders {
    /// When each has worked off what it did: a word as of virtual scheduling (ITU-T I.371 annex A).
    clean_at: HashMap<IpAddr, Time>,
}

/// Sources that are remembered: half of them, those with the least on their account, make room when these are more.
const OFFENDERS_MAX: usize = 4_096;

impl Offenders {
    /// Counts an offence; whether that was one too many within the window. Who is told so starts afresh.
    pub fn offend(&mut self, source: IpAddr, settings: &DefenceSettings, now: Time) -> bool {
        if self.clean_at.len() >= OFFENDERS_MAX && !self.clean_at.contains_key(&source) {
            self.forget(now);
        }
        let each = settings.window / settings.offences.max(1);
        let clean_at = self.clean_at.entry(source).or_insert(now);
        *clean_at = (*clean_at).max(now) + each;
        // The last of so many reaches the window's end, less what rounding took.
        let too_many = clean_at.since(now) + each > settings.window;
        if too_many {
            self.clean_at.remove(&source);
        }
        too_many
    }

    fn forget(&mut self, now: Time) {
        let mut times: Vec<Time> = self.clean_at.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let least = (*median).max(now);
        self.clean_at.retain(|_, clean_at| *clean_at > least);
    }
}

#[cfg(test)]
mod tests {
    use super::super::trunk::tests::trunk;
    use super::super::{PeerAddress, Resolved, Trunk};
    use super::*;
    use std::net::Ipv4Addr;

    const LISTEN: &str = "192.0.2.1:5060";

    fn settings() -> DefenceSettings {
        DefenceSettings { offences: 20, window: Duration::from_secs(60), ..DefenceSettings::default() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_offences_in_the_window_are_too_many_and_the_same_over_a_longer_time_are_not() {
        let count = |pause: Duration, times: u32| {
            let mut offenders = Offenders::default();
            let mut now = Time(1_000_000);
            (0..times)
                .filter(|_| {
                    now = now + pause;
                    offenders.offend(address("198.51.100.66"), &settings(), now)
                })
                .count()
        };
        assert_eq!(count(Duration::ZERO, 19), 0);
        assert_eq!(count(Duration::ZERO, 20), 1);
        assert_eq!(count(Duration::from_millis(10), 100), 5);
        assert_eq!(count(Duration::from_secs(3), 500), 0);
    }

    #[test]
    fn each_source_has_an_account_of_its_own_and_the_worst_are_remembered_among_many() {
        let mut offenders = Offenders::default();
        let worst = address("203.0.113.9");
        let mut told = 0;
        for number in 0..100_000_u32 {
            let forged = IpAddr::V4(Ipv4Addr::from(number));
            assert!(!offenders.offend(forged, &settings(), Time(1_000_000)), "one offence is not too many");
            if number % 500 == 0 {
                told += usize::from(offenders.offend(worst, &settings(), Time(1_000_000)));
            }
            assert!(offenders.clean_at.len() <= OFFENDERS_MAX);
        }
        // One of its offences may be among those that made room, while it has no other.
        assert!((8..=10).contains(&told), "{told}");
    }

    #[test]
    fn peers_and_networks_of_trunks_are_spared_as_far_as_the_operator_says() {
        let open =
            Trunk { allowed: vec![network("0.0.0.0/0")], ..trunk("open", LISTEN, &["198.51.100.7:5060"]) };
        let closed = Trunk { allowed: vec![network("10.1.0.0/16")], ..trunk("closed", LISTEN, &[]) };
        let of = |trunk: Trunk| Snapshot::new(vec![trunk], Vec::new()).unwrap();
        let (open, closed) = (of(open), of(closed));
        assert_eq!(closed.spared(&network("10.1.2.3/32"), Spare::Trunks), Some("closed"));
        assert_eq!(closed.spared(&network("10.0.0.0/8"), Spare::Trunks), Some("closed"));
        assert_eq!(closed.spared(&network("10.2.0.0/16"), Spare::Trunks), None);
        assert_eq!(closed.spared(&network("10.1.2.3/32"), Spare::Peers), None);
        assert_eq!(open.spared(&network("203.0.113.1/32"), Spare::Trunks), Some("open"));
        assert_eq!(open.spared(&network("203.0.113.1/32"), Spare::Peers), None);
        assert_eq!(open.spared(&network("198.51.100.0/24"), Spare::Peers), Some("open"));
        assert_eq!(open.spared(&network("198.51.100.7/32"), Spare::Nobody), None);
    }

    #[test]
    fn a_socket_hears_networks_and_peers_of_all_its_trunks_and_what_their_names_mean_now() {
        let mut named = trunk("named", LISTEN, &["198.51.100.7:5060"]);
        named.peers[0].address = PeerAddress::Host { name: "peer.example".into(), port: None };
        named.allowed = vec![network("10.1.2.3/16")];
        let trunks = vec![named, trunk("other", LISTEN, &["198.51.100.9:5060"])];
        let policy = Snapshot::new(trunks, Vec::new()).unwrap();
        let sources = |policy: &Snapshot| {
            let [heard] = &policy.heard()[..] else { panic!("{:?}", policy.heard()) };
            assert_eq!((heard.listen, heard.transport), (LISTEN.parse().unwrap(), Transport::Udp));
            heard.sources.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(sources(&policy), ["10.1.0.0/16", "198.51.100.9/32"]);
        let found = Resolved { address: "203.0.113.4:5060".parse().unwrap(), priority: 0, weight: 1 };
        let policy = policy.resolved(&|_, _| Some(vec![found]));
        assert_eq!(sources(&policy), ["10.1.0.0/16", "198.51.100.9/32", "203.0.113.4/32"]);
    }
}
