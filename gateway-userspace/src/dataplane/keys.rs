//! Session keys of flows with SRTP: from a plan's master keys to what the relay uses, and into the kernel.
//!
//! Packets meet keys whole or not at all: while they change their epoch is 0, and a packet that finds another epoch at
//! its end than at its beginning is dropped.

use super::fault::DataplaneFault;
use super::inspect;
use super::mmap::{Access, SharedArray};
use crate::media::plan::FlowSpec;
use crate::srtp::{MasterKey, StreamKeys, Suite};
use gateway_common::abi::name;
use gateway_common::flow::Punted;
use gateway_common::srtp::{FlowCrypto, FlowKeys, Keys, MKI_MAX, Session, Stream};
use std::hint::black_box;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Whether packets of the flow are to be unprotected or protected.
pub(super) fn is_secured(spec: &FlowSpec) -> bool {
    spec.unprotect.is_some() || spec.protect.is_some()
}

/// Whether the XDP program knows how to compute with this key.
pub(super) fn is_of_the_kernel(key: &MasterKey) -> bool {
    matches!(key.suite(), Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32)
        && key.mki().is_none_or(|mki| mki.len() <= MKI_MAX)
}

/// Whether the XDP program unprotects what arrives: not where several far ends with keys of their own may send it.
pub(super) fn opens_in_kernel(spec: &FlowSpec) -> bool {
    let has_forks = spec.checks.as_ref().is_some_and(|checks| checks.forks.len() > 1);
    !has_forks && spec.unprotect.as_ref().is_some_and(is_of_the_kernel)
}

/// Why the packets of a flow go through userspace, whatever the kernel; `None` where the program relays them.
pub(super) fn punted(spec: &FlowSpec) -> Option<Punted> {
    if let Some(bridge) = &spec.bridge {
        return Some(bridge.why.punted());
    }
    let foreign = [&spec.unprotect, &spec.protect].into_iter().flatten().any(|key| !is_of_the_kernel(key));
    if foreign { Some(Punted::SrtpSuite) } else { spec.userspace }
}

/// The kernel's keys of a flow whose slot holds `before` and has counted `counted`. A key that stays keeps its count, and is
/// offered anew when it was `offered` again.
pub fn compile(spec: &FlowSpec, before: &FlowKeys, counted: &FlowCrypto, offered: bool) -> FlowKeys {
    let direction = |key: Option<&MasterKey>, before: &Keys, counted: &Stream| {
        key.filter(|key| is_of_the_kernel(key))
            .map_or(Keys::NONE, |key| one_direction(key, before, counted, offered))
    };
    FlowKeys {
        unprotect: direction(
            spec.unprotect.as_ref().filter(|_| opens_in_kernel(spec)),
            &before.unprotect,
            &counted.unprotect,
        ),
        protect: direction(spec.protect.as_ref(), &before.protect, &counted.protect),
    }
}

fn one_direction(key: &MasterKey, before: &Keys, counted: &Stream, offered: bool) -> Keys {
    let derived = key.derive();
    let mut mki = [0; MKI_MAX];
    let identifier = key.mki();
    mki.iter_mut()
        .zip(identifier.iter().flat_map(|mki| mki.octets()))
        .for_each(|(octet, signalled)| *octet = signalled);
    let keys = Keys {
        epoch: before.epoch,
        offer: before.offer,
        tag_len: key.suite().rtp_tag_len() as u8,
        mki_len: identifier.map_or(0, |mki| mki.len() as u8),
        mki,
        rtp: session(&derived.rtp),
        rtcp: session(&derived.rtcp),
        ..Keys::NONE
    };
    if keys == *before && before.epoch != 0 {
        return Keys { offer: before.offer.wrapping_add(u32::from(offered)), ..keys };
    }
    // Never one that the slot's state may belong to.
    Keys { epoch: before.epoch.max(counted.epoch).wrapping_add(1).max(1), offer: 0, ..keys }
}

fn session(keys: &StreamKeys) -> Session {
    let cut = "the kernel's suites have keys of this length";
    Session::new(
        keys.cipher().try_into().expect(cut),
        keys.salt().try_into().expect(cut),
        keys.authentication().try_into().expect(cut),
    )
}

/// The kernel's keys and counts, mapped into memory.
#[derive(Debug)]
pub(super) struct KernelKeys {
    /// Two for each slot: for what arrives, and for what leaves.
    keys: SharedArray<Keys>,
    counts: Arc<SharedArray<FlowCrypto>>,
}

impl KernelKeys {
    /// Maps those that are pinned in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, DataplaneFault> {
        let mapping = || DataplaneFault::system("map the keys of SRTP into memory");
        let keys = inspect::map(directory, name::KEYS)?;
        let counts = inspect::map(directory, name::CRYPTO)?;
        let slots = inspect::entries(&keys)? as usize;
        Ok(Self {
            keys: SharedArray::map(keys.fd().as_fd(), 2 * slots, Access::Write).map_err(mapping())?,
            counts: Arc::new(SharedArray::map(counts.fd().as_fd(), slots, Access::Write).map_err(mapping())?),
        })
    }

    /// How many flows fit.
    pub(super) fn slots(&self) -> u32 {
        self.counts.len() as u32
    }

    pub(super) fn read(&self, slot: u32) -> FlowKeys {
        let read = |at: usize| self.keys.read(at).unwrap_or(Keys::NONE);
        FlowKeys { unprotect: read(2 * slot as usize), protect: read(2 * slot as usize + 1) }
    }

    /// What the program counts, for who relays in its place.
    pub(super) fn counts(&self) -> Arc<SharedArray<FlowCrypto>> {
        Arc::clone(&self.counts)
    }

    pub(super) fn counted(&self, slot: u32) -> FlowCrypto {
        self.counts.read(slot as usize).unwrap_or_default()
    }

    /// Puts keys where they differ from those that are there.
    pub(super) fn write(&self, slot: u32, keys: &FlowKeys) {
        let at = 2 * slot as usize;
        for (at, keys) in [(at, &keys.unprotect), (at + 1, &keys.protect)] {
            if self.keys.read(at).is_some_and(|before| before != *keys) {
                self.keys.publish(at, keys);
            }
        }
    }

    /// Overwrites keys that no flow needs any more.
    pub(super) fn wipe(&self, slot: u32) {
        self.write(slot, &FlowKeys::NONE);
    }
}

/// Keys in memory of our own, overwritten when they go.
pub(super) struct Passing(pub(super) FlowKeys);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0 = FlowKeys::NONE;
        black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_common::srtp::Source;

    fn key(octet: u8) -> MasterKey {
        MasterKey::new(Suite::AesCm128HmacSha1_80, &[octet; 30]).unwrap()
    }

    #[test]
    fn a_key_that_stays_keeps_its_epoch_and_another_never_has_one_that_was() {
        let counted = Stream { epoch: 7, sources: [Source::default(); 8], ..Stream::default() };
        let first = one_direction(&key(1), &Keys::NONE, &counted, false);
        assert_eq!((first.epoch, first.offer), (8, 0));
        let again = one_direction(&key(1), &first, &counted, true);
        assert_eq!((again.epoch, again.offer), (8, 1));
        let adopted = one_direction(&key(1), &again, &counted, false);
        assert!(adopted == again);
        let other = one_direction(&key(2), &again, &counted, true);
        assert_eq!((other.epoch, other.offer), (9, 0));
        let returned = one_direction(&key(1), &other, &counted, true);
        assert_eq!(returned.epoch, 10);
    }

    #[test]
    fn the_identifier_stands_in_its_first_octets() {
        let mki = crate::srtp::Mki::new(0x0102, 2).unwrap();
        let keys = one_direction(&key(1).with_mki(Some(mki)), &Keys::NONE, &Stream::default(), false);
        assert_eq!((keys.mki_len, keys.mki), (2, [1, 2, 0, 0]));
    }
}
