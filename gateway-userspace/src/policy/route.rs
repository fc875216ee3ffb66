//! From a called number to a trunk by its longest prefix, and from a trunk to its peers in order.

use super::{Peer, PolicyError, Trunk};
use crate::base::id::TrunkId;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Calls to numbers that begin with a prefix go to a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    prefix: String,
    from: Option<TrunkId>,
    to: TrunkId,
}

impl Route {
    /// `prefix`: digits, `*` and `#`, compared from the first character on; `+` in front matches only numbers
    /// that come with one, so that a local 112 is no North American number. Empty matches every called user
    /// part, names included. `from`: only calls from this trunk.
    pub fn new(prefix: &str, from: Option<TrunkId>, to: TrunkId) -> Result<Self, PolicyError> {
        let digits = prefix.strip_prefix('+').unwrap_or(prefix);
        if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*' || byte == b'#') {
            return Err(PolicyError::Prefix(prefix.to_owned()));
        }
        Ok(Self { prefix: prefix.to_owned(), from, to })
    }
}

/// Routes by prefix. A look-up costs two hashes for each prefix length up to the longest configured.
#[derive(Debug, Default)]
pub(super) struct RouteTable {
    routes: HashMap<Box<str>, Destinations>,
    longest: usize,
}

/// Where one prefix leads.
#[derive(Debug, Default)]
struct Destinations {
    by_trunk: HashMap<TrunkId, TrunkId>,
    otherwise: Option<TrunkId>,
}

impl RouteTable {
    pub(super) fn new(trunks: &[Trunk], routes: Vec<Route>) -> Result<Self, PolicyError> {
        let mut table = Self::default();
        for Route { prefix, from, to } in routes {
            let known = |id: TrunkId| {
                let unknown = || PolicyError::UnknownTrunk { prefix: prefix.clone(), trunk: id.0 };
                trunks.get(usize::from(id.0)).ok_or_else(unknown)
            };
            from.map(known).transpose()?;
            let target = known(to)?;
            if target.peers.is_empty() {
                return Err(PolicyError::NoPeers { prefix, trunk: target.name.clone() });
            }
            table.longest = table.longest.max(prefix.len());
            let destinations = table.routes.entry(prefix.as_str().into()).or_default();
            let before = match from {
                Some(from) => destinations.by_trunk.insert(from, to),
                None => destinations.otherwise.replace(to),
            };
            if before.is_some() {
                return Err(PolicyError::DuplicateRoute(prefix));
            }
        }
        Ok(table)
    }

    /// The longest prefix that has a route for calls from `from`; of two with one prefix, the one made for
    /// `from`.
    pub(super) fn find(&self, from: TrunkId, called: &str) -> Option<TrunkId> {
        let number = dialled(called, self.longest);
        (0..=number.len()).rev().find_map(|length| {
            let destinations = self.routes.get(number.get(..length)?)?;
            destinations.by_trunk.get(&from).copied().or(destinations.otherwise)
        })
    }
}

/// The first `longest` characters that count: without visual separators (RFC 3966 section 5.1.1), and without
/// the parameters that a telephone-subscriber brings along.
fn dialled(called: &str, longest: usize) -> String {
    let number = called.split(';').next().unwrap_or_default();
    number.chars().filter(|character| !"-.()".contains(*character)).take(longest).collect()
}

/// The peers of one trunk in the order to try them, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    trunk: TrunkId,
    /// Last first: trying one pops it.
    left: SmallVec<[SocketAddr; 4]>,
}

impl Candidates {
    /// By priority, and within one priority drawn by weight (RFC 2782) from the stream of numbers that `spread`
    /// begins.
    pub(super) fn new(trunk: TrunkId, peers: &[Peer], spread: u64) -> Self {
        let mut draws = Draws(spread);
        let mut keyed: SmallVec<[_; 4]> =
            peers.iter().map(|peer| (peer.priority, draws.weighted(peer.weight), peer.address)).collect();
        keyed.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        Self { trunk, left: keyed.into_iter().map(|(_, _, address)| address).collect() }
    }

    /// The trunk whose peers these are.
    pub fn trunk(&self) -> TrunkId {
        self.trunk
    }
}

impl Iterator for Candidates {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        self.left.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.len(), Some(self.left.len()))
    }
}

impl ExactSizeIterator for Candidates {}

/// Whether an answer with this status sends the call on to the next peer: the peer timed out, is unavailable,
/// or could not reach its own next hop. All others are the callee's own word.
pub const fn retries(status: u16) -> bool {
    matches!(status, 408 | 503 | 504)
}

/// Numbers that follow from a seed (SplitMix64 by Steele, Lea and Flood), because a decision may not ask for
/// randomness itself.
struct Draws(u64);

impl Draws {
    /// A key that sorts a peer in front of others with a probability in proportion to its weight: the
    /// exponential variates of weighted sampling without replacement (Efraimidis and Spirakis).
    fn weighted(&mut self, weight: u16) -> f64 {
        // 53 random bits as a fraction above 0, up to 1.
        let fraction = ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        if weight == 0 { f64::MAX * fraction } else { -fraction.ln() / f64::from(weight) }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::super::Snapshot;
    use super::super::trunk::tests::trunk;
    use super::*;
    use crate::base::fault::Fault;

    /// Trunks 0 and 1 call, 2 to 4 are called; each route is (prefix, from, to).
    fn snapshot(routes: &[(&str, Option<u16>, u16)]) -> Result<Snapshot, PolicyError> {
        let listen = "192.0.2.1:5060";
        let mut trunks = vec![trunk("a", listen, &[]), trunk("b", listen, &[])];
        for number in 2..5 {
            trunks.push(trunk(&number.to_string(), listen, &[&format!("198.51.100.{number}:5060")]));
        }
        let routes = routes
            .iter()
            .map(|(prefix, from, to)| Route::new(prefix, from.map(TrunkId), TrunkId(*to)))
            .collect::<Result<_, _>>()?;
        Snapshot::new(trunks, routes)
    }

    #[test]
    fn the_longest_prefix_decides_and_a_trunks_own_route_beats_the_common_one() {
        let snapshot = snapshot(&[
            ("", None, 2),
            ("+44", None, 3),
            ("+44", Some(1), 4),
            ("+4420", Some(0), 4),
            ("112", None, 4),
            ("+1", None, 3),
            ("*72#", None, 3),
        ])
        .unwrap();
        let table = [
            (0, "+441632960123", 3),
            (1, "+441632960123", 4),
            (0, "+442079460000", 4),
            (1, "+442079460000", 4),
            (0, "+44-(16).32", 3),
            (0, "+49301234", 2),
            (0, "112", 4),
            (0, "1", 2),
            (0, "+12025550100;phone-context=example.com", 3),
            (0, "*72#5", 3),
            (0, "service", 2),
            (0, "", 2),
            (0, "\u{661}\u{661}2", 2),
        ];
        for (from, called, to) in table {
            let candidates = snapshot.route(TrunkId(from), called, 0).unwrap();
            assert_eq!(candidates.trunk(), TrunkId(to), "{from} calls {called}");
        }
    }

    #[test]
    fn a_number_without_a_route_is_a_fault() {
        let snapshot = snapshot(&[("+44", Some(0), 2)]).unwrap();
        assert_eq!(snapshot.route(TrunkId(1), "+44123", 0), Err(Fault::NoRoute));
        assert_eq!(snapshot.route(TrunkId(0), "+4", 0), Err(Fault::NoRoute));
    }

    #[test]
    fn routes_that_cannot_work_are_refused_by_name() {
        assert_eq!(snapshot(&[("12a", None, 2)]).unwrap_err(), PolicyError::Prefix("12a".into()));
        assert_eq!(snapshot(&[("1+2", None, 2)]).unwrap_err(), PolicyError::Prefix("1+2".into()));
        let unknown = PolicyError::UnknownTrunk { prefix: "1".into(), trunk: 9 };
        assert_eq!(snapshot(&[("1", None, 9)]).unwrap_err(), unknown);
        assert_eq!(snapshot(&[("1", Some(9), 2)]).unwrap_err(), unknown);
        let no_peers = PolicyError::NoPeers { prefix: "1".into(), trunk: "b".into() };
        assert_eq!(snapshot(&[("1", None, 1)]).unwrap_err(), no_peers);
        let twice = snapshot(&[("1", None, 2), ("1", None, 3)]).unwrap_err();
        assert_eq!(twice, PolicyError::DuplicateRoute("1".into()));
    }

    fn peer(last: u8, priority: u8, weight: u16) -> Peer {
        Peer { address: SocketAddr::from(([198, 51, 100, last], 5060)), priority, weight }
    }

    fn order(peers: &[Peer], spread: u64) -> Vec<u8> {
        let last_octet = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("all peers of this test are IPv4"),
        };
        Candidates::new(TrunkId(0), peers, spread).map(last_octet).collect()
    }

    #[test]
    fn peers_come_by_priority_each_once_and_the_same_call_sees_the_same_order() {
        let peers = [peer(1, 20, 1), peer(2, 10, 1), peer(3, 10, 1), peer(4, 0, 1)];
        for spread in 0..100 {
            let seen = order(&peers, spread);
            assert_eq!((seen[0], seen[3]), (4, 1));
            assert_eq!(seen, order(&peers, spread));
        }
    }

    #[test]
    fn weights_share_first_attempts_and_weight_zero_comes_last() {
        let peers = [peer(1, 0, 0), peer(2, 0, 1), peer(3, 0, 3)];
        let mut first = [0u32; 4];
        for spread in 0..40_000u64 {
            let seen = order(&peers, spread);
            first[usize::from(seen[0])] += 1;
            assert_eq!(seen[2], 1);
        }
        assert!((9_500..10_500).contains(&first[2]), "{first:?}");
        assert!((29_500..30_500).contains(&first[3]), "{first:?}");
    }

    #[test]
    fn only_unavailable_peers_are_passed_over() {
        let passed_over: Vec<u16> = (300..700).filter(|status| retries(*status)).collect();
        assert_eq!(passed_over, [408, 503, 504]);
    }
}
