//! From a called number to a trunk by its longest prefix, and from a trunk to its peers in order.

use super::standing::{Drainable as _, LiveTrunk, TargetStanding};
use super::{Inquiry, PolicyError, Trunk};
use crate::base::id::TrunkId;
use crate::base::time::Time;
use crate::sip::message::{Host, Uri};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

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

    /// Whether it is for the same calls, wherever they go.
    pub fn is_same_case(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.from == other.from
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

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub address: SocketAddr,
    /// Position of its peer in the trunk.
    pub peer: u16,
    /// Host and port that the Request-URI names, where the peer has a name: it is told by that, and certificates
    /// are checked against it.
    pub authority: Option<(Box<str>, Option<u16>)>,
}

impl Candidate {
    /// A Request-URI that sends a request there.
    pub fn uri(&self, user: Option<&str>) -> Uri {
        let by_address = || (Host::from(self.address.ip()), Some(self.address.port()));
        let by_name = |(host, port): &(Box<str>, Option<u16>)| host.parse().ok().map(|host| (host, *port));
        let (host, port) = self.authority.as_ref().and_then(by_name).unwrap_or_else(by_address);
        Uri::sip(user, host, port)
    }
}

/// The peers of one trunk in the order to try them, each address once.
#[derive(Debug)]
pub struct Candidates {
    trunk: TrunkId,
    /// Last first: trying one pops it.
    left: SmallVec<[Seeded; 2]>,
    /// The next one was asked already if it takes the call.
    is_first_found: bool,
    /// Emergency calls pass above what an overloaded peer takes.
    emergency: bool,
    draws: Draws,
}

/// A candidate, and what is known of it at the moment that it is tried.
type Seeded = (Candidate, Arc<TargetStanding>);

/// Sorts peers: those of this region first, then by priority, then as drawn by weight; within a peer its addresses.
type Rank = (bool, u8, f64, u16, f64);

impl Candidates {
    /// Peers that serve now, drawn by weight (RFC 2782) from the stream of numbers that the inquiry's `spread` begins.
    pub(super) fn new(id: TrunkId, trunk: &Trunk, live: &LiveTrunk, inquiry: &Inquiry<'_>) -> Self {
        let mut draws = Draws(inquiry.spread);
        let mut ranked: SmallVec<[(Rank, Seeded); 2]> = SmallVec::new();
        for ((position, peer), live) in (0..).zip(&trunk.peers).zip(&live.peers) {
            let drawn = draws.weighted(peer.weight);
            for target in live.targets.iter() {
                let within = draws.weighted(target.weight);
                if live.standing.is_drained() || !target.standing.serves(inquiry.now) {
                    continue;
                }
                let rank = (peer.is_remote, peer.priority, drawn, target.priority, within);
                let authority = peer.address.authority().map(|(host, port)| (host.into(), port));
                let candidate = Candidate { address: target.address, peer: position, authority };
                ranked.push((rank, (candidate, Arc::clone(&target.standing))));
            }
        }
        ranked.sort_by(|(a, _), (b, _)| {
            let peers = (b.0, b.1).cmp(&(a.0, a.1)).then(b.2.total_cmp(&a.2));
            peers.then(b.3.cmp(&a.3)).then(b.4.total_cmp(&a.4))
        });
        let mut left: SmallVec<[Seeded; 2]> = SmallVec::new();
        // Two names may mean one address: what came first keeps it, and the first ones stand last.
        for (_, seeded) in ranked.into_iter().rev() {
            if !left.iter().any(|(other, _)| other.address == seeded.0.address) {
                left.push(seeded);
            }
        }
        left.reverse();
        Self { trunk: id, left, is_first_found: false, emergency: inquiry.emergency, draws }
    }

    /// The trunk whose peers these are.
    pub fn trunk(&self) -> TrunkId {
        self.trunk
    }

    /// Passes over those that are too loaded for this call; whether one is left. It counts against what that one takes.
    pub(super) fn find_first(&mut self, now: Time) -> bool {
        while let Some((_, standing)) = self.left.last() {
            if self.emergency || standing.throttle.passes(now, self.draws.next()) {
                self.is_first_found = true;
                return true;
            }
            self.left.pop();
        }
        false
    }

    /// The next one that takes the call.
    pub fn next(&mut self, now: Time) -> Option<Candidate> {
        if !std::mem::replace(&mut self.is_first_found, false) && !self.find_first(now) {
            return None;
        }
        self.is_first_found = false;
        self.left.pop().map(|(candidate, _)| candidate)
    }
}

/// Whether an answer with this status sends the call on to the next peer: the peer timed out, is unavailable,
/// or could not reach its own next hop. All others are the callee's own word.
pub const fn retries(status: u16) -> bool {
    matches!(status, 408 | 503 | 504)
}

/// Numbers that follow from a seed (SplitMix64 by Steele, Lea and Flood), because a decision may not ask for
/// randomness itself.
#[derive(Debug)]
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
    use super::super::trunk::tests::trunk;
    use super::super::{Allowance, Feedback, Peer, PeerAddress, Resolved, Snapshot};
    use super::*;
    use crate::base::fault::Fault;
    use std::time::Duration;

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

    fn ask(snapshot: &Snapshot, from: u16, called: &str) -> Result<TrunkId, Fault> {
        let inquiry = Inquiry { from: TrunkId(from), called, emergency: false, now: Time::ZERO, spread: 0 };
        snapshot.decide(&inquiry).map(|decision| decision.candidates.trunk())
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
            assert_eq!(ask(&snapshot, from, called), Ok(TrunkId(to)), "{from} calls {called}");
        }
    }

    #[test]
    fn a_number_without_a_route_is_a_fault() {
        let snapshot = snapshot(&[("+44", Some(0), 2)]).unwrap();
        assert_eq!(ask(&snapshot, 1, "+44123"), Err(Fault::NoRoute));
        assert_eq!(ask(&snapshot, 0, "+4"), Err(Fault::NoRoute));
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
        Peer { weight, ..Peer::at(SocketAddr::from(([198, 51, 100, last], 5060)), priority) }
    }

    /// A trunk of these peers that all calls go to.
    fn toward(peers: &[Peer]) -> Snapshot {
        let mut target = trunk("service", "192.0.2.1:5060", &[]);
        target.peers = peers.to_vec();
        target.allowed = vec!["198.51.100.0/24".parse().unwrap()];
        Snapshot::new(vec![target], vec![Route::new("", None, TrunkId(0)).unwrap()]).unwrap()
    }

    fn tried(snapshot: &Snapshot, now: Time, spread: u64) -> Result<Vec<u8>, Fault> {
        let inquiry = Inquiry { from: TrunkId(0), called: "1", emergency: false, now, spread };
        let last_octet = |candidate: Candidate| match candidate.address {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("all peers of this test are IPv4"),
        };
        let mut candidates = snapshot.decide(&inquiry)?.candidates;
        Ok(std::iter::from_fn(|| candidates.next(now)).map(last_octet).collect())
    }

    fn order(peers: &[Peer], spread: u64) -> Vec<u8> {
        tried(&toward(peers), Time::ZERO, spread).unwrap()
    }

    fn standing(snapshot: &Snapshot, peer: usize) -> std::sync::Arc<TargetStanding> {
        let view = snapshot.peers(TrunkId(0)).nth(peer).unwrap();
        std::sync::Arc::clone(&view.targets[0].standing)
    }

    // Statement 197.
    #[test]
    fn peers_come_by_priority_each_once_and_the_same_call_sees_the_same_order() {
        let peers = [peer(1, 20, 1), peer(2, 10, 1), peer(3, 10, 1), peer(4, 0, 1)];
        for spread in 0..100 {
            let seen = order(&peers, spread);
            assert_eq!((seen[0], seen[3]), (4, 1));
            assert_eq!(seen, order(&peers, spread));
        }
    }

    // Statement 197.
    #[test]
    fn peers_of_another_region_come_after_all_of_this_one() {
        let remote = |last, priority| Peer { is_remote: true, ..peer(last, priority, 1) };
        let peers = [remote(1, 0), peer(2, 100, 1), peer(3, 50, 1), remote(4, 1)];
        assert_eq!(order(&peers, 7), [3, 2, 1, 4]);
    }

    #[test]
    fn weights_share_first_attempts_and_weight_zero_comes_last() {
        let peers = toward(&[peer(1, 0, 0), peer(2, 0, 1), peer(3, 0, 3)]);
        let mut first = [0u32; 4];
        for spread in 0..40_000u64 {
            let seen = tried(&peers, Time::ZERO, spread).unwrap();
            first[usize::from(seen[0])] += 1;
            assert_eq!(seen[2], 1);
        }
        assert!((9_500..10_500).contains(&first[2]), "{first:?}");
        assert!((29_500..30_500).contains(&first[3]), "{first:?}");
    }

    #[test]
    fn peers_that_are_down_resting_or_drained_are_passed_over_and_a_reload_does_not_forget_them() {
        let peers = [peer(1, 0, 1), peer(2, 1, 1), peer(3, 2, 1), peer(4, 3, 1)];
        let first = toward(&peers);
        standing(&first, 0).set_state(super::super::TargetState::Down);
        standing(&first, 1).rest_until(Time::ZERO + Duration::from_secs(5));
        assert!(first.peers(TrunkId(0)).nth(2).unwrap().standing.drain(true));
        let again = toward(&peers).succeed(&first);
        for snapshot in [&first, &again] {
            assert_eq!(tried(snapshot, Time::ZERO, 1), Ok(vec![4]));
            assert_eq!(tried(snapshot, Time::ZERO + Duration::from_secs(5), 1), Ok(vec![2, 4]));
        }
        standing(&again, 3).set_state(super::super::TargetState::Down);
        assert_eq!(tried(&first, Time::ZERO, 1), Err(Fault::PeersDown));
    }

    #[test]
    fn an_overloaded_peer_gets_its_share_the_next_one_the_rest_and_emergencies_all() {
        let snapshot = toward(&[peer(1, 0, 1), peer(2, 1, 1)]);
        let validity = Duration::from_secs(1);
        let first = "198.51.100.1:5060".parse().unwrap();
        let feedback = Feedback { allowance: Allowance::Loss { percent: 40 }, validity };
        snapshot.heed(TrunkId(0), first, feedback, Time::ZERO);
        let to_first =
            |now| (0..10_000).filter(|spread| tried(&snapshot, now, *spread).unwrap()[0] == 1).count();
        assert!((5_700..6_300).contains(&to_first(Time::ZERO)));
        assert_eq!(to_first(Time::ZERO + validity), 10_000);
        let nothing = Feedback { allowance: Allowance::Rate { per_second: 0 }, validity };
        for last in [1, 2] {
            let address = SocketAddr::from(([198, 51, 100, last], 5060));
            snapshot.heed(TrunkId(0), address, nothing, Time::ZERO);
        }
        assert_eq!(tried(&snapshot, Time::ZERO, 1), Err(Fault::PeersDown));
        let inquiry = Inquiry { from: TrunkId(0), called: "1", emergency: true, now: Time::ZERO, spread: 1 };
        assert!(snapshot.decide(&inquiry).is_ok());
    }

    #[test]
    fn a_drained_trunk_takes_no_calls_until_it_is_undrained() {
        let snapshot = toward(&[peer(1, 0, 1)]);
        let trunk = snapshot.standing(TrunkId(0)).unwrap();
        assert!(trunk.drain(true) && !trunk.drain(true));
        assert_eq!(tried(&snapshot, Time::ZERO, 1), Err(Fault::TrunkDraining));
        assert!(trunk.drain(false));
        assert_eq!(tried(&snapshot, Time::ZERO, 1), Ok(vec![1]));
    }

    // Statements 21, 48.
    #[test]
    fn names_are_tried_in_their_order_at_what_they_mean_now_and_no_address_twice() {
        let named = |name: &str, priority| Peer {
            name: name.into(),
            address: PeerAddress::Host { name: name.into(), port: Some(5061) },
            ..peer(0, priority, 1)
        };
        let snapshot = toward(&[named("teams1.example", 0), named("teams2.example", 1), peer(9, 2, 1)]);
        assert_eq!(tried(&snapshot, Time::ZERO, 1), Ok(vec![9]), "a name that means nothing yet is nowhere");
        let at = |last: u8, priority| Resolved {
            address: SocketAddr::from(([198, 51, 100, last], 5061)),
            priority,
            weight: 1,
        };
        let resolve = |snapshot: &Snapshot, first: &[Resolved]| {
            snapshot.resolved(&|_, address| match address.to_string().as_str() {
                "teams1.example:5061" => Some(first.to_vec()),
                "teams2.example:5061" => Some(vec![at(3, 0), at(1, 1)]),
                _ => None,
            })
        };
        let now = resolve(&snapshot, &[at(2, 10), at(1, 0)]);
        let inquiry = Inquiry { from: TrunkId(0), called: "1", emergency: false, now: Time::ZERO, spread: 1 };
        let first = now.decide(&inquiry).unwrap().candidates.next(Time::ZERO).unwrap();
        assert_eq!(first.authority, Some(("teams1.example".into(), Some(5061))));
        assert_eq!(tried(&now, Time::ZERO, 1), Ok(vec![1, 2, 3, 9]));
        // What is known of an address stays when the name comes to mean more.
        standing(&now, 0).set_state(super::super::TargetState::Down);
        let later = resolve(&now, &[at(2, 10), at(1, 0), at(5, 1)]);
        assert_eq!(tried(&later, Time::ZERO, 1), Ok(vec![1, 5, 3, 9]));
    }

    #[test]
    fn only_unavailable_peers_are_passed_over() {
        let passed_over: Vec<u16> = (300..700).filter(|status| retries(*status)).collect();
        assert_eq!(passed_over, [408, 503, 504]);
    }
}
