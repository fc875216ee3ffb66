//! Keeps the kernel's neighbour entries for far ends resolved, so that the first packet finds a link address.

use super::netlink::{NextHopAddress, Requests};
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Far ends remembered; past this the table starts afresh.
const REMEMBERED: usize = 65_536;

/// A far end's route is asked for again after this long: routes change.
const ROUTE_REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// An unresolved next hop is asked for again after this long, however many packets miss it.
const HOP_REMEMBERED_FOR: Duration = Duration::from_secs(1);

/// Asks the kernel, once in a while per far end, to resolve and keep the next hop towards it.
#[derive(Debug)]
pub(super) struct Neighbours {
    requests: Requests,
    /// When each far end, and each next hop, was last asked for, in monotonic nanoseconds.
    far_ends: HashMap<IpAddr, u64>,
    hops: HashMap<NextHopAddress, u64>,
}

impl Neighbours {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { requests: Requests::open()?, far_ends: HashMap::new(), hops: HashMap::new() })
    }

    /// Before packets flow to a far end: costs a hash look-up for one asked for lately.
    pub(super) fn prepare(&mut self, to: IpAddr, now: u64) -> io::Result<()> {
        if !due(&mut self.far_ends, to, now, ROUTE_REMEMBERED_FOR) {
            return Ok(());
        }
        match self.requests.next_hop(to)? {
            Some(hop) => self.keep(hop, now),
            None => Ok(()),
        }
    }

    /// A next hop is wanted now: the kernel resolves it, and keeps it where it can.
    pub(super) fn keep(&mut self, hop: NextHopAddress, now: u64) -> io::Result<()> {
        if due(&mut self.hops, hop, now, HOP_REMEMBERED_FOR) {
            self.requests.keep_neighbour(hop)
        } else {
            Ok(())
        }
    }
}

/// Whether `what` was not asked for within `span`; remembers that it is now.
fn due<K: Hash + Eq>(asked: &mut HashMap<K, u64>, what: K, now: u64, span: Duration) -> bool {
    if asked.len() >= REMEMBERED {
        asked.clear();
    }
    let before = asked.get(&what).copied();
    if before.is_some_and(|at| Duration::from_nanos(now.saturating_sub(at)) < span) {
        return false;
    }
    asked.insert(what, now);
    true
}

/// The link addresses known, so that only a changed one invalidates cached next hops: entries that merely go
/// from reachable to stale and back do so all day.
#[derive(Debug, Default)]
pub(super) struct KnownNeighbours(HashMap<NextHopAddress, Vec<u8>>);

impl KnownNeighbours {
    /// Whether a next hop cached before may now be wrong.
    pub(super) fn learn(&mut self, hop: NextHopAddress, link_address: Option<Vec<u8>>) -> bool {
        match link_address {
            Some(octets) => self.0.insert(hop, octets.clone()).is_some_and(|before| before != octets),
            None => self.0.remove(&hop).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_end_is_asked_for_once_in_a_while() {
        let mut asked = HashMap::new();
        let span = Duration::from_nanos(100);
        let due = [1, 2, 100, 101, 102].map(|now| due(&mut asked, 'a', now, span));
        assert_eq!(due, [true, false, false, true, false]);
    }

    #[test]
    fn only_a_changed_or_lost_link_address_invalidates_cached_hops() {
        let mut known = KnownNeighbours::default();
        let hop = NextHopAddress { ifindex: 2, address: "192.0.2.1".parse().unwrap() };
        assert!(!known.learn(hop, Some(vec![1; 6])));
        assert!(!known.learn(hop, Some(vec![1; 6])));
        assert!(known.learn(hop, Some(vec![2; 6])));
        assert!(known.learn(hop, None));
        assert!(!known.learn(hop, None));
    }
}
