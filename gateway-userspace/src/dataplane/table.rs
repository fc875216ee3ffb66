//! The flows that the kernel knows: the index by local address and port, and the slots it points to.
//!
//! Written through mapped memory. A flow appears, changes and goes by one word of the index; what the word points
//! to is written before and left alone after. Workers write slots of their own and places of flows of their own.

use super::fault::DataplaneFault;
use super::inspect;
use super::mmap::{Access, SharedArray};
use gateway_common::abi::name;
use gateway_common::flow::{FlowConfig, FlowEntry, FlowKey, FlowSlot};
use gateway_common::index::{Entry, PLACES, Places, WAYS};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::Ordering;

/// Why a flow is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableFault {
    /// Its address and port are another flow's.
    InUse,
    /// All places that it may have are taken, or its slot is not one of the table's.
    Full,
}

/// Index and slots of a pinned data plane.
#[derive(Debug)]
pub(super) struct KernelFlows {
    index: SharedArray<u32>,
    /// By version, then slot.
    versions: [SharedArray<FlowEntry>; 2],
}

/// A flow in the table.
#[derive(Clone, Copy, Debug)]
struct Found {
    place: u32,
    config: FlowConfig,
}

impl KernelFlows {
    /// Maps the table pinned in `directory`.
    pub(super) fn open(directory: &Path, access: Access) -> Result<Self, DataplaneFault> {
        let mapping = || DataplaneFault::system("map the flow table into memory");
        let index = inspect::map(directory, name::INDEX)?;
        let flows = inspect::map(directory, name::FLOWS)?;
        let slots = inspect::entries(&flows)?;
        Ok(Self {
            index: SharedArray::map(index.fd().as_fd(), PLACES as usize, access).map_err(mapping())?,
            versions: versions(flows.fd().as_fd(), slots as usize, access).map_err(mapping())?,
        })
    }

    /// The configuration of the flow at `key`.
    pub(super) fn config(&self, key: &FlowKey) -> Option<FlowConfig> {
        self.find(key).map(|found| found.config)
    }

    /// Adds a flow.
    pub(super) fn insert(&self, key: FlowKey, config: FlowConfig) -> Result<(), TableFault> {
        if self.find(&key).is_some() {
            return Err(TableFault::InUse);
        }
        let entry = self.write(key, config)?;
        let places = Places::of(&key);
        let taken = (0..WAYS).filter_map(|way| self.index.atomic(places.place(way) as usize)).any(|place| {
            place
                .compare_exchange(Entry::EMPTY.raw(), entry.raw(), Ordering::Release, Ordering::Relaxed)
                .is_ok()
        });
        if taken { Ok(()) } else { Err(TableFault::Full) }
    }

    /// Puts a flow in the place of the one at `key`, or adds it when there is none.
    pub(super) fn replace(&self, key: FlowKey, config: FlowConfig) -> Result<(), TableFault> {
        let Some(Found { place, .. }) = self.find(&key) else { return self.insert(key, config) };
        let entry = self.write(key, config)?;
        self.index.atomic(place as usize).ok_or(TableFault::Full)?.store(entry.raw(), Ordering::Release);
        Ok(())
    }

    /// Takes the flow at `key` out; none there is as good.
    pub(super) fn remove(&self, key: &FlowKey) {
        if let Some(found) = self.find(key)
            && let Some(place) = self.index.atomic(found.place as usize)
        {
            place.store(Entry::EMPTY.raw(), Ordering::Release);
        }
    }

    /// Every flow, in no order.
    pub(super) fn flows(&self) -> impl Iterator<Item = FlowEntry> + '_ {
        (0..self.index.len()).filter_map(|place| {
            let entry = Entry::from_raw(self.index.read(place)?);
            let flow = self.entry(entry)?;
            // Not what an index in the middle of a change seems to say.
            let places = Places::of(&flow.key());
            (0..WAYS).any(|way| places.place(way) as usize == place).then_some(flow)
        })
    }

    fn find(&self, key: &FlowKey) -> Option<Found> {
        let places = Places::of(key);
        for place in (0..WAYS).map(|way| places.place(way)) {
            let entry = Entry::from_raw(self.index.read(place as usize)?);
            // Most places are empty or another address's, and a slot is far away in memory.
            if places.may_be(entry)
                && let Some(flow) = self.entry(entry)
                && flow.key() == *key
            {
                return Some(Found { place, config: flow.config });
            }
        }
        None
    }

    fn entry(&self, entry: Entry) -> Option<FlowEntry> {
        if entry == Entry::EMPTY { None } else { self.read(entry.slot(), entry.version()) }
    }

    /// Writes the version of the slot that the index does not point to.
    fn write(&self, key: FlowKey, config: FlowConfig) -> Result<Entry, TableFault> {
        let slot = config.slot;
        let version =
            [false, true].into_iter().find(|version| !self.counts(slot, *version)).ok_or(TableFault::Full)?;
        let [first, second] = &self.versions;
        let entries = if version { second } else { first };
        let revision =
            next([false, true].map(|version| self.read(slot, version).map_or(0, |flow| flow.revision)));
        entries.write(slot as usize, FlowEntry::new(key, revision, config)).ok_or(TableFault::Full)?;
        Ok(Places::of(&key).entry(slot, version))
    }

    fn read(&self, slot: u32, version: bool) -> Option<FlowEntry> {
        let [first, second] = &self.versions;
        if version { second } else { first }.read(slot as usize)
    }

    /// Whether the index points to this version of the slot.
    fn counts(&self, slot: u32, version: bool) -> bool {
        self.read(slot, version).is_some_and(|flow| {
            let places = Places::of(&flow.key());
            let entry = places.entry(slot, version);
            (0..WAYS).any(|way| self.index.read(places.place(way) as usize) == Some(entry.raw()))
        })
    }
}

/// The revision after those of a slot's two versions.
fn next([first, second]: [u32; 2]) -> u32 {
    let newest = if first.wrapping_sub(second).cast_signed() > 0 { first } else { second };
    newest.checked_add(1).unwrap_or(1)
}

/// Both versions of `slots` slots.
fn versions(flows: BorrowedFd<'_>, slots: usize, access: Access) -> io::Result<[SharedArray<FlowEntry>; 2]> {
    let map = |version: usize| {
        let offset = offset_of!(FlowSlot, versions) + version * size_of::<FlowEntry>();
        SharedArray::map_field::<FlowSlot>(flows, slots, offset, access)
    };
    Ok([map(0)?, map(1)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_common::net::{Addr128, Be16};
    use std::fs::File;

    /// A table over plain files, which are memory as well as a map of the kernel's is.
    fn table(slots: usize) -> KernelFlows {
        let file = |octets: usize| -> File {
            let file = tempfile::tempfile().unwrap();
            file.set_len(octets as u64).unwrap();
            file
        };
        let index = file(PLACES as usize * size_of::<u32>());
        let flows = file(slots * size_of::<FlowSlot>());
        KernelFlows {
            index: SharedArray::map(index.as_fd(), PLACES as usize, Access::Write).unwrap(),
            versions: versions(flows.as_fd(), slots, Access::Write).unwrap(),
        }
    }

    fn key(port: u16) -> FlowKey {
        FlowKey::new(Addr128::v4([192, 0, 2, 1]), Be16::new(port))
    }

    fn config(slot: u32, epoch: u32) -> FlowConfig {
        FlowConfig { slot, epoch, ..FlowConfig::default() }
    }

    fn entry(table: &KernelFlows, key: FlowKey) -> Entry {
        Entry::from_raw(table.index.read(table.find(&key).unwrap().place as usize).unwrap())
    }

    #[test]
    fn a_flow_is_found_until_it_is_removed() {
        let table = table(4);
        table.insert(key(1000), config(3, 1)).unwrap();
        assert_eq!(table.config(&key(1000)), Some(config(3, 1)));
        assert_eq!(table.config(&key(1001)), None);
        assert_eq!(table.flows().map(|flow| flow.key()).collect::<Vec<_>>(), [key(1000)]);
        table.remove(&key(1000));
        assert_eq!((table.config(&key(1000)), table.flows().count()), (None, 0));
    }

    #[test]
    fn an_address_and_port_have_one_flow() {
        let table = table(4);
        table.insert(key(1000), config(0, 1)).unwrap();
        assert_eq!(table.insert(key(1000), config(1, 1)), Err(TableFault::InUse));
        assert_eq!(table.config(&key(1000)), Some(config(0, 1)));
    }

    #[test]
    fn a_slot_outside_the_table_is_refused() {
        assert_eq!(table(4).insert(key(1000), config(4, 1)), Err(TableFault::Full));
    }

    #[test]
    fn a_change_never_touches_what_the_index_points_to() {
        let table = table(1);
        table.insert(key(1000), config(0, 1)).unwrap();
        for epoch in 2..6 {
            let before = entry(&table, key(1000));
            table.replace(key(1000), config(0, epoch)).unwrap();
            let after = entry(&table, key(1000));
            assert_ne!(before.version(), after.version());
            assert_eq!(table.entry(before).unwrap().config, config(0, epoch - 1), "still as it was");
            assert_eq!(table.config(&key(1000)), Some(config(0, epoch)));
        }
    }

    #[test]
    fn each_version_of_a_slot_has_a_revision_of_its_own() {
        let table = table(1);
        table.insert(key(1000), config(0, 1)).unwrap();
        let revision = |table: &KernelFlows| table.entry(entry(table, key(1000))).unwrap().revision;
        let mut before = vec![revision(&table)];
        for epoch in 2..6 {
            table.replace(key(1000), config(0, epoch)).unwrap();
            assert!(!before.contains(&revision(&table)));
            before.push(revision(&table));
        }
        table.remove(&key(1000));
        table.insert(key(2000), config(0, 6)).unwrap();
        assert!(!before.contains(&table.entry(entry(&table, key(2000))).unwrap().revision));
        assert_eq!((next([0, 0]), next([u32::MAX - 1, u32::MAX]), next([u32::MAX, 1])), (1, 1, 2));
    }

    #[test]
    fn two_flows_may_change_places() {
        let table = table(2);
        table.insert(key(1000), config(0, 1)).unwrap();
        table.insert(key(2000), config(1, 1)).unwrap();
        table.replace(key(2000), config(0, 2)).unwrap();
        table.replace(key(1000), config(1, 2)).unwrap();
        assert_eq!(table.config(&key(1000)), Some(config(1, 2)));
        assert_eq!(table.config(&key(2000)), Some(config(0, 2)));
        assert_eq!(table.flows().count(), 2);
    }

    #[test]
    fn a_flow_that_moves_is_heard_at_both_places_until_the_old_one_is_removed() {
        let table = table(1);
        table.insert(key(1000), config(0, 1)).unwrap();
        table.insert(key(2000), config(0, 2)).unwrap();
        assert_eq!(table.config(&key(1000)), Some(config(0, 1)));
        table.remove(&key(1000));
        assert_eq!(table.config(&key(2000)), Some(config(0, 2)));
        table.replace(key(2000), config(0, 3)).unwrap();
        assert_eq!(table.config(&key(2000)), Some(config(0, 3)));
    }
}
