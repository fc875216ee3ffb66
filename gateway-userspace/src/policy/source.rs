//! From a source address to its trunk: exact UDP peers first, then the longest prefix.

use super::{PeerAddress, PolicyError, Trunk, numbered};
use crate::base::id::TrunkId;
use crate::sip::transport::Transport;
use ipnet::IpNet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};

/// One of our sockets.
type Socket = (SocketAddr, Transport);

/// Sources by the socket of ours that they send to.
#[derive(Debug, Default)]
pub(super) struct SourceTable {
    sockets: HashMap<Socket, Sources>,
}

/// Whom one socket hears. A look-up costs one hash for each distinct prefix length, however many trunks.
#[derive(Debug, Default)]
struct Sources {
    /// UDP peers by address and port: two trunks may share a host.
    peers: HashMap<SocketAddr, TrunkId>,
    networks: HashMap<IpNet, TrunkId>,
    /// Prefix lengths in use, longest first.
    ipv4_lengths: Vec<u8>,
    ipv6_lengths: Vec<u8>,
}

impl SourceTable {
    pub(super) fn new(trunks: &[Trunk]) -> Result<Self, PolicyError> {
        let mut table = Self::default();
        for (id, trunk) in numbered(trunks) {
            let sources = table.sockets.entry((trunk.listen, trunk.transport)).or_default();
            if trunk.transport == Transport::Udp {
                sources.claim_peers(id, trunk).map_err(|(first, host)| ambiguous(trunks, first, id, host))?;
            }
            for network in trunk.networks() {
                sources.claim(network.trunc(), id).map_err(|first| ambiguous(trunks, first, id, *network))?;
            }
        }
        for (id, trunk) in numbered(trunks).filter(|(_, trunk)| trunk.allowed.is_empty()) {
            table.claim_hosts(trunks, id, trunk)?;
        }
        for sources in table.sockets.values_mut() {
            sources.sort_lengths();
        }
        Ok(table)
    }

    pub(super) fn identify(&self, local: SocketAddr, source: SocketAddr, by: Transport) -> Option<TrunkId> {
        let sources = self.sockets.get(&(local, by))?;
        if let Some(id) = sources.peers.get(&source) {
            return Some(*id);
        }
        sources.longest(source.ip())
    }

    /// Without a list of networks, a trunk hears the hosts of its peers, from any port: many send from another
    /// port than they listen on, and TCP always does.
    fn claim_hosts(&mut self, trunks: &[Trunk], id: TrunkId, trunk: &Trunk) -> Result<(), PolicyError> {
        let Some(sources) = self.sockets.get_mut(&(trunk.listen, trunk.transport)) else { return Ok(()) };
        for peer in trunk.peers.iter().filter(|peer| peer.allowed.is_empty()) {
            let PeerAddress::Address(address) = peer.address else { continue };
            let host = IpNet::from(address.ip());
            let Err(first) = sources.claim(host, id) else { continue };
            // Over UDP two trunks on one host are told apart by their ports, and only requests from a third port
            // belong to the first of them. Over TCP nothing tells them apart.
            if trunk.transport != Transport::Udp {
                return Err(ambiguous(trunks, first, id, host));
            }
        }
        Ok(())
    }
}

impl Sources {
    /// Gives the addresses of `trunk`'s UDP peers to it, or names the trunk that has one of them. A list of
    /// networks rules: a peer outside of it is only called, never heard.
    fn claim_peers(&mut self, id: TrunkId, trunk: &Trunk) -> Result<(), (TrunkId, IpNet)> {
        for peer in &trunk.peers {
            let PeerAddress::Address(address) = &peer.address else { continue };
            let by_host = trunk.allowed.is_empty() && peer.allowed.is_empty();
            if !by_host && !trunk.networks().any(|network| network.contains(&address.ip())) {
                continue;
            }
            let first = *self.peers.entry(*address).or_insert(id);
            if first != id {
                return Err((first, address.ip().into()));
            }
        }
        Ok(())
    }

    /// Gives `network` to `id`, or names the trunk that has it.
    fn claim(&mut self, network: IpNet, id: TrunkId) -> Result<(), TrunkId> {
        match self.networks.entry(network) {
            Entry::Vacant(vacant) => {
                vacant.insert(id);
                Ok(())
            }
            Entry::Occupied(occupied) if *occupied.get() == id => Ok(()),
            Entry::Occupied(occupied) => Err(*occupied.get()),
        }
    }

    fn sort_lengths(&mut self) {
        for network in self.networks.keys() {
            let lengths = match network {
                IpNet::V4(_) => &mut self.ipv4_lengths,
                IpNet::V6(_) => &mut self.ipv6_lengths,
            };
            lengths.push(network.prefix_len());
        }
        for lengths in [&mut self.ipv4_lengths, &mut self.ipv6_lengths] {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
    }

    fn longest(&self, source: IpAddr) -> Option<TrunkId> {
        let lengths = if source.is_ipv4() { &self.ipv4_lengths } else { &self.ipv6_lengths };
        lengths.iter().find_map(|length| {
            let network = IpNet::new(source, *length).ok()?.trunc();
            self.networks.get(&network).copied()
        })
    }
}

fn ambiguous(trunks: &[Trunk], first: TrunkId, second: TrunkId, network: IpNet) -> PolicyError {
    let name =
        |id: TrunkId| trunks.get(usize::from(id.0)).map(|trunk| trunk.name.clone()).unwrap_or_default();
    let trunk = &trunks[usize::from(second.0)];
    PolicyError::AmbiguousSource {
        first: name(first),
        second: name(second),
        network,
        listen: trunk.listen,
        transport: trunk.transport,
    }
}

#[cfg(test)]
mod tests {
    use super::super::trunk::tests::trunk;
    use super::*;
    use proptest::prelude::*;

    const LISTEN: &str = "192.0.2.1:5060";

    fn identify(trunks: &[Trunk], source: &str) -> Option<u16> {
        let table = SourceTable::new(trunks).unwrap();
        table.identify(LISTEN.parse().unwrap(), source.parse().unwrap(), Transport::Udp).map(|id| id.0)
    }

    fn allowing(name: &str, networks: &[&str]) -> Trunk {
        let allowed = networks.iter().map(|network| network.parse().unwrap()).collect();
        Trunk { allowed, ..trunk(name, LISTEN, &[]) }
    }

    #[test]
    fn the_longest_prefix_wins_and_an_unknown_source_is_nobodys() {
        let trunks =
            [allowing("wide", &["10.0.0.0/8"]), allowing("narrow", &["10.1.0.0/16", "2001:db8::/48"])];
        assert_eq!(identify(&trunks, "10.2.0.1:5060"), Some(0));
        assert_eq!(identify(&trunks, "10.1.0.1:5060"), Some(1));
        assert_eq!(identify(&trunks, "[2001:db8::9]:40000"), Some(1));
        assert_eq!(identify(&trunks, "11.0.0.1:5060"), None);
    }

    #[test]
    fn a_trunk_without_networks_hears_the_hosts_of_its_peers_from_any_port() {
        let trunks = [trunk("core", LISTEN, &["198.51.100.7:5060"])];
        assert_eq!(identify(&trunks, "198.51.100.7:5060"), Some(0));
        assert_eq!(identify(&trunks, "198.51.100.7:33333"), Some(0));
        assert_eq!(identify(&trunks, "198.51.100.8:5060"), None);
    }

    #[test]
    fn two_udp_trunks_on_one_host_are_told_apart_by_port() {
        let trunks =
            [trunk("core", LISTEN, &["198.51.100.7:5060"]), trunk("service", LISTEN, &["198.51.100.7:5070"])];
        assert_eq!(identify(&trunks, "198.51.100.7:5060"), Some(0));
        assert_eq!(identify(&trunks, "198.51.100.7:5070"), Some(1));
        assert_eq!(identify(&trunks, "198.51.100.7:6000"), Some(0));
    }

    #[test]
    fn two_tcp_trunks_on_one_host_are_refused() {
        let mut trunks =
            [trunk("core", LISTEN, &["198.51.100.7:5060"]), trunk("service", LISTEN, &["198.51.100.7:5070"])];
        for trunk in &mut trunks {
            trunk.transport = Transport::Tcp;
        }
        let error = SourceTable::new(&trunks).unwrap_err();
        assert!(matches!(error, PolicyError::AmbiguousSource { first, second, .. }
            if first == "core" && second == "service"));
    }

    #[test]
    fn one_peer_claimed_by_two_trunks_is_refused() {
        let trunks = [trunk("a", LISTEN, &["198.51.100.7:5060"]), trunk("b", LISTEN, &["198.51.100.7:5060"])];
        assert!(matches!(SourceTable::new(&trunks), Err(PolicyError::AmbiguousSource { .. })));
    }

    #[test]
    fn a_list_of_networks_rules_over_the_addresses_of_peers() {
        let mut trunk = trunk("core", LISTEN, &["198.51.100.7:5060"]);
        trunk.allowed = vec!["10.0.0.0/8".parse().unwrap()];
        let trunks = [trunk];
        assert_eq!(identify(&trunks, "198.51.100.7:5060"), None);
        assert_eq!(identify(&trunks, "10.0.0.1:5060"), Some(0));
    }

    #[test]
    fn networks_of_a_peer_replace_its_host_and_leave_other_peers_theirs() {
        let mut trunk = trunk("core", LISTEN, &["198.51.100.7:5060", "198.51.100.8:5060"]);
        trunk.peers[0].allowed = vec!["10.0.0.0/8".parse().unwrap()];
        let trunks = [trunk];
        assert_eq!(identify(&trunks, "10.0.0.1:5060"), Some(0));
        assert_eq!(identify(&trunks, "198.51.100.7:5060"), None);
        assert_eq!(identify(&trunks, "198.51.100.8:40000"), Some(0));
    }

    #[test]
    fn one_network_claimed_by_two_trunks_is_refused_however_it_is_written() {
        let trunks = [allowing("a", &["10.1.2.3/16"]), allowing("b", &["10.1.0.0/16"])];
        assert!(matches!(SourceTable::new(&trunks), Err(PolicyError::AmbiguousSource { .. })));
    }

    #[test]
    fn the_same_source_on_another_socket_is_another_matter() {
        let mut other = trunk("tcp", LISTEN, &["198.51.100.7:5060"]);
        other.transport = Transport::Tcp;
        let trunks = [trunk("udp", LISTEN, &["198.51.100.7:5060"]), other];
        let table = SourceTable::new(&trunks).unwrap();
        let source = "198.51.100.7:5060".parse().unwrap();
        let at =
            |local: &str, transport| table.identify(local.parse().unwrap(), source, transport).map(|id| id.0);
        assert_eq!(at(LISTEN, Transport::Udp), Some(0));
        assert_eq!(at(LISTEN, Transport::Tcp), Some(1));
        assert_eq!(at("192.0.2.1:5080", Transport::Udp), None);
    }

    proptest! {
        #[test]
        fn look_up_agrees_with_a_search_of_all_networks(
            networks in prop::collection::hash_map((any::<u32>(), 0..=32u8), 0..1u8, 0..60),
            sources in prop::collection::vec(any::<u32>(), 1..40),
        ) {
            let mut taken = std::collections::HashSet::new();
            let networks: Vec<IpNet> = networks
                .into_keys()
                .map(|(bits, length)| IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap().trunc())
                .filter(|network| taken.insert(*network))
                .collect();
            let trunks: Vec<Trunk> = networks
                .iter()
                .enumerate()
                .map(|(number, network)| allowing(&number.to_string(), &[&network.to_string()]))
                .collect();
            let table = SourceTable::new(&trunks).unwrap();
            let inside = networks.iter().map(|network| network.addr());
            for address in sources.into_iter().map(|bits| std::net::Ipv4Addr::from(bits).into()).chain(inside) {
                let expected = (0..)
                    .zip(&networks)
                    .filter(|(_, network)| network.contains(&address))
                    .max_by_key(|(_, network)| network.prefix_len())
                    .map(|(number, _)| TrunkId(number));
                let source = SocketAddr::new(address, 5060);
                prop_assert_eq!(table.identify(LISTEN.parse().unwrap(), source, Transport::Udp), expected);
            }
        }
    }
}
