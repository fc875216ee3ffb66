//! Where the index of flows names a flow: by local address and port to a few places, one of which holds its
//! slot.
//!
//! An array and not a hash map of the kernel's: the way to a place is compiled into the program, and the places of
//! neighbouring ports are neighbours in memory, so the index of a whole address stays in the nearest caches.
//! Each of [`WAYS`] ways maps the ports of one address to places of their own; only flows of different addresses
//! meet in a place, and a place that is taken in one way leaves those of the other ways.

use crate::flow::FlowKey;

/// Places that a flow may have.
pub const WAYS: u32 = 8;
/// Places of one way: one for each port of an address.
pub const WAY_LEN: u32 = 1 << 16;
/// Places in all.
pub const PLACES: u32 = WAYS * WAY_LEN;
/// Places in one element of the array: the kernel gives each element a multiple of 8 octets.
pub const PLACES_PER_ELEMENT: u32 = 2;
/// Most flows that the index takes: with three quarters of its places filled the next flow still finds one of its
/// eight free, whatever the number of addresses.
pub const FLOWS_MAX: u32 = PLACES / 4 * 3;

/// The places of one flow.
#[derive(Clone, Copy)]
pub struct Places {
    hash: u64,
    port: u32,
}

impl Places {
    #[inline(always)]
    pub fn of(key: &FlowKey) -> Self {
        // Fibonacci hashing; folded on both sides, as a product's low bits know only the factor's low bits, and
        // an IPv4 address lies in the upper half.
        let [high, low] = key.address.raw();
        let folded = low ^ (low >> 32) ^ high.rotate_left(17);
        let product = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { hash: product ^ (product >> 32), port: key.port.host() as u32 }
    }

    /// The place in a way below [`WAYS`].
    #[inline(always)]
    pub fn place(&self, way: u32) -> u32 {
        way * WAY_LEN + ((self.port ^ (self.hash >> (way * 6)) as u32) & (WAY_LEN - 1))
    }

    /// Whether `entry` may be this flow's: if not, it is another's.
    #[inline(always)]
    pub fn may_be(&self, entry: Entry) -> bool {
        entry.0 >> TAG_SHIFT == self.tag()
    }

    /// The entry that names `slot` and the version of its configuration that counts.
    #[inline(always)]
    pub fn entry(&self, slot: u32, version: bool) -> Entry {
        Entry(self.tag() << TAG_SHIFT | (version as u32) << VERSION_SHIFT | slot)
    }

    /// Of the address; never 0, so that no entry is [`Entry::EMPTY`].
    #[inline(always)]
    fn tag(&self) -> u32 {
        (self.hash >> (64 - TAG_BITS)) as u32 | 1
    }
}

const VERSION_SHIFT: u32 = 20;
const TAG_SHIFT: u32 = 21;
const TAG_BITS: u32 = 32 - TAG_SHIFT;
const _: () = assert!(FLOWS_MAX < 1 << VERSION_SHIFT);

/// What a place holds, in one word that changes at once: the flow's slot, and which of the two versions of its
/// configuration counts.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Entry(u32);

impl Entry {
    pub const EMPTY: Self = Self(0);

    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 & ((1 << VERSION_SHIFT) - 1)
    }

    #[inline(always)]
    pub const fn version(self) -> bool {
        self.0 >> VERSION_SHIFT & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Addr128, Be16};
    use std::collections::HashSet;

    fn places(address: [u8; 4], port: u16) -> Places {
        Places::of(&FlowKey::new(Addr128::v4(address), Be16::new(port)))
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of_and_is_never_empty() {
        let places = places([192, 0, 2, 1], 40_000);
        for (slot, version) in [(0, false), (FLOWS_MAX - 1, true), (77, false)] {
            let entry = places.entry(slot, version);
            assert_eq!((entry.slot(), entry.version()), (slot, version));
            assert!(entry != Entry::EMPTY && places.may_be(entry));
        }
    }

    #[test]
    fn the_ports_of_one_address_never_meet() {
        for way in 0..WAYS {
            let taken: HashSet<u32> =
                (0..=u16::MAX).map(|port| places([10, 1, 2, 3], port).place(way)).collect();
            assert_eq!(taken.len(), WAY_LEN as usize);
            assert!(taken.iter().all(|place| place / WAY_LEN == way));
        }
    }

    #[test]
    fn the_index_takes_as_many_flows_as_it_says_from_few_addresses_and_from_many() {
        for addresses in [7, 8, 64, 256] {
            let mut taken = vec![false; PLACES as usize];
            let each = FLOWS_MAX / addresses;
            for address in 0..addresses {
                for port in 0..each {
                    let places = places([203, 0, 113, address as u8], 65_535 - port as u16);
                    let free = (0..WAYS).map(|way| places.place(way)).find(|place| !taken[*place as usize]);
                    let Some(place) = free else {
                        panic!("flow {port} of address {address} of {addresses} finds no place");
                    };
                    taken[place as usize] = true;
                }
            }
        }
    }
}
