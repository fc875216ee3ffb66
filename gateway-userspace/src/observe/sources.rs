//! Who knocks without being known: the sources that are silenced most often, in bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;

/// Sources that a core remembers.
pub const SOURCES_MAX: usize = 64;

/// Counts per source by the Space-Saving rule (Metwally, Agrawal, El Abbadi, 2005): a source that is new to a
/// full table takes the place and the count of the least. Counts may be too high, never too low, and whoever
/// knocks often is in the table however many others there are.
#[derive(Debug, Default)]
pub struct Sources {
    counts: HashMap<IpAddr, u64>,
}

/// One silenced source.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SilencedSource {
    pub address: IpAddr,
    /// Messages dropped, at most.
    pub messages: u64,
}

impl Sources {
    pub(super) fn count(&mut self, address: IpAddr) {
        if let Some(count) = self.counts.get_mut(&address) {
            *count += 1;
            return;
        }
        let mut inherited = 0;
        if self.counts.len() >= SOURCES_MAX
            && let Some((least, count)) = self.counts.iter().min_by_key(|(_, count)| **count)
        {
            inherited = *count;
            let least = *least;
            self.counts.remove(&least);
        }
        self.counts.insert(address, inherited + 1);
    }

    /// Most frequent first.
    pub fn list(&self) -> Vec<SilencedSource> {
        let mut list: Vec<_> = self
            .counts
            .iter()
            .map(|(address, messages)| SilencedSource { address: *address, messages: *messages })
            .collect();
        list.sort_unstable_by(|a, b| b.messages.cmp(&a.messages).then(a.address.cmp(&b.address)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_frequent_source_stays_among_many_rare_ones() {
        let mut sources = Sources::default();
        let frequent = IpAddr::from([198, 51, 100, 7]);
        for rare in 0..10_000_u32 {
            sources.count(IpAddr::V4(Ipv4Addr::from(rare)));
            if rare % 10 == 0 {
                sources.count(frequent);
            }
        }
        let list = sources.list();
        assert_eq!(list.len(), SOURCES_MAX);
        assert_eq!(list[0].address, frequent);
        assert!(list[0].messages >= 1_000);
    }
}
