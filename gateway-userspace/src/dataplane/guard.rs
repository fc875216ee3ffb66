//! The guard of our SIP sockets in the kernel: who is known there, how fast who may send, who is denied.
//!
//! What is written here outlives the daemon, and holds while none runs.

use super::compile::address;
use super::fault::{DataplaneFault, os_error};
use super::inspect;
use super::kernel::monotonic;
use super::pod::Plain;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use gateway_common::abi::{DENIED_MAX, name};
use gateway_common::guard::{
    ADDRESS_BITS, Denial, Guarded, MAPPED_PREFIX, Pace, SOURCE_PREFIX, Service, Source, words,
};
use gateway_common::headers::{PROTOCOL_TCP, PROTOCOL_UDP};
use gateway_common::net::{Addr128, Be16, Be32};
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// A socket of ours, and everybody who may send to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedSocket {
    pub at: SocketAddr,
    pub protocol: Protocol,
    pub sources: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Udp,
    Tcp,
}

/// How fast who may send to each guarded socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// One source that is known.
    pub known: Pace,
    /// SIP responses of one source that is not, and of all those together.
    pub stranger: Pace,
    pub strangers: Pace,
    /// Other datagrams of all those together: they get no answer, but the daemon learns who sends them.
    pub samples: Pace,
}

impl Default for GuardLimits {
    /// Of a known source more than one core answers; of strangers what a few calls need whose far end left its
    /// trunk's networks.
    fn default() -> Self {
        Self {
            known: Pace::new(50_000, 50_000),
            stranger: Pace::new(50, 100),
            strangers: Pace::new(1_000, 1_000),
            samples: Pace::new(10, 20),
        }
    }
}

/// An address or a network that gets silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedView {
    pub network: IpNet,
    /// The number that it was denied with.
    pub cause: u32,
    pub left: Duration,
}

/// The one writer of the guard's maps. Over plain sockets there is no guard, and only [`Guard::protect`] is of no
/// consequence.
#[derive(Debug)]
pub struct Guard(Option<Maps>);

#[derive(Debug)]
struct Maps {
    guarded: BpfHashMap<MapData, Plain<Service>, Plain<Guarded>>,
    sources: LpmTrie<MapData, Plain<Source>, u32>,
    denials: Denials,
}

impl Guard {
    pub(super) fn kernel(directory: &Path) -> Result<Self, DataplaneFault> {
        let guarded = Map::HashMap(inspect::map(directory, name::GUARDED)?);
        let sources = Map::LpmTrie(inspect::map(directory, name::SOURCES)?);
        Ok(Self(Some(Maps {
            guarded: guarded.try_into().map_err(failed("open the guarded sockets"))?,
            sources: sources.try_into().map_err(failed("open the known sources"))?,
            denials: Denials::open(directory)?,
        })))
    }

    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Whether packets pass a guard at all.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Guards these sockets and no others from now on. A source that was known and stays so is known at every moment.
    ///
    /// # Errors
    /// What does not fit or cannot be written; then nothing is guarded any more.
    pub fn protect(&mut self, sockets: &[GuardedSocket], limits: &GuardLimits) -> Result<(), DataplaneFault> {
        let Some(maps) = &mut self.0 else { return Ok(()) };
        let written = maps.protect(sockets, limits);
        if written.is_err() {
            // Better a gateway without a guard than one that does not hear its peers.
            maps.unguard(&HashSet::new()).map_err(failed("take the guard away"))?;
        }
        written.map_err(failed("write the guarded sockets and their sources"))
    }

    /// Denies one address that was found out, for so long. Where too many are denied, the kernel forgets those that
    /// were silent longest.
    ///
    /// # Errors
    /// [`DataplaneFault::NoGuard`] over plain sockets; otherwise what the kernel says.
    pub fn deny_offender(
        &mut self,
        address: IpAddr,
        span: Duration,
        cause: u32,
    ) -> Result<(), DataplaneFault> {
        self.denials()?.deny_offender(address, span, cause).map_err(failed("deny an address"))
    }

    /// Denies a network or an address by order, for so long; networks inside it are part of it from then on, unless
    /// they are denied for longer.
    ///
    /// # Errors
    /// [`DataplaneFault::DeniedFull`]; otherwise as [`Guard::deny_offender`].
    pub fn deny(&mut self, network: IpNet, span: Duration, cause: u32) -> Result<(), DataplaneFault> {
        self.denials()?.deny(network.trunc(), span, cause)
    }

    /// Takes back what denies this network, and everything inside it; how many entries that were.
    ///
    /// # Errors
    /// As [`Guard::deny_offender`].
    pub fn allow(&mut self, network: IpNet) -> Result<usize, DataplaneFault> {
        let within = |view: &DeniedView| network.contains(&view.network);
        self.denials()?.remove(within).map_err(failed("allow a network"))
    }

    /// Takes back what [`Guard::deny_offender`] did to this address, and leaves orders in force.
    ///
    /// # Errors
    /// As [`Guard::deny_offender`].
    pub fn forgive(&mut self, address: IpAddr) -> Result<bool, DataplaneFault> {
        self.denials()?.forgive(address).map_err(failed("allow an address"))
    }

    /// Everything that is denied now, networks first.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn denied(&self) -> Result<Vec<DeniedView>, DataplaneFault> {
        self.0.as_ref().map_or(Ok(Vec::new()), |maps| maps.denials.list())
    }

    /// Removes what is over, which the kernel has stopped heeding by itself; how many are left.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&mut self) -> Result<usize, DataplaneFault> {
        let Some(maps) = &mut self.0 else { return Ok(0) };
        maps.denials.remove(|view| view.left.is_zero()).map_err(failed("remove denials that are over"))?;
        Ok(maps.denials.list()?.len())
    }

    fn denials(&mut self) -> Result<&mut Denials, DataplaneFault> {
        self.0.as_mut().map(|maps| &mut maps.denials).ok_or(DataplaneFault::NoGuard)
    }
}

/// What the maps pinned in `directory` deny now, with or without a daemon on them.
///
/// # Errors
/// [`DataplaneFault::NothingPinned`] when no daemon ever pinned there; otherwise what the kernel says.
pub fn denied(directory: &Path) -> Result<Vec<DeniedView>, DataplaneFault> {
    Denials::open(directory)?.list()
}

impl Maps {
    /// Sources before sockets, so that no packet meets a socket whose sources are not all known yet; a socket that
    /// stays keeps its number, so that its sources are known throughout.
    fn protect(&mut self, sockets: &[GuardedSocket], limits: &GuardLimits) -> Result<(), MapError> {
        let there: HashMap<Service, u32> = self
            .guarded
            .iter()
            .map(|entry| entry.map(|(service, guarded)| (service.0, guarded.0.number)))
            .collect::<Result<_, _>>()?;
        let mut free = (0..).filter(|number| !there.values().any(|taken| taken == number));
        let mut known = HashSet::new();
        let mut services = HashMap::new();
        for socket in sockets {
            let service = socket.service();
            let number = there.get(&service).copied().unwrap_or_else(|| free.next().unwrap_or(u32::MAX));
            known.extend(socket.sources.iter().map(|network| {
                let (prefix, address) = prefix(network);
                (SOURCE_PREFIX + prefix, Source::new(number, &address))
            }));
            services.insert(service, number);
        }
        let before: HashSet<_> = self
            .sources
            .keys()
            .map(|key| key.map(|key| (key.prefix_len(), key.data().0)))
            .collect::<Result<_, _>>()?;
        for (prefix, source) in known.difference(&before) {
            self.sources.insert(&Key::new(*prefix, Plain(*source)), 0, 0)?;
        }
        for (service, number) in &services {
            self.guarded.insert(Plain(*service), Plain(limits.of(*number)), 0)?;
        }
        self.unguard(&services.into_keys().collect())?;
        for (prefix, source) in before.difference(&known) {
            self.sources.remove(&Key::new(*prefix, Plain(*source)))?;
        }
        Ok(())
    }

    fn unguard(&mut self, but: &HashSet<Service>) -> Result<(), MapError> {
        let there = self.guarded.keys().collect::<Result<Vec<_>, _>>()?;
        for service in there.iter().filter(|service| !but.contains(&service.0)) {
            self.guarded.remove(service)?;
        }
        Ok(())
    }
}

impl GuardedSocket {
    fn service(&self) -> Service {
        let protocol = match self.protocol {
            Protocol::Udp => PROTOCOL_UDP,
            Protocol::Tcp => PROTOCOL_TCP,
        };
        Service::new(address(self.at.ip()), Be16::new(self.at.port()), protocol)
    }
}

impl GuardLimits {
    fn of(&self, number: u32) -> Guarded {
        let Self { known, stranger, strangers, samples } = *self;
        Guarded { number, padding: 0, known, stranger, strangers, samples }
    }
}

/// Both lists of who is denied.
#[derive(Debug)]
struct Denials {
    networks: LpmTrie<MapData, [u32; 4], Plain<Denial>>,
    offenders: BpfHashMap<MapData, Plain<Addr128>, Plain<Denial>>,
}

impl Denials {
    fn open(directory: &Path) -> Result<Self, DataplaneFault> {
        let networks = Map::LpmTrie(inspect::map(directory, name::DENIED)?);
        let offenders = Map::LruHashMap(inspect::map(directory, name::OFFENDERS)?);
        Ok(Self {
            networks: networks.try_into().map_err(failed("open the denied networks"))?,
            offenders: offenders.try_into().map_err(failed("open the denied addresses"))?,
        })
    }

    fn deny_offender(&mut self, source: IpAddr, span: Duration, cause: u32) -> Result<(), MapError> {
        self.offenders.insert(Plain(address(source)), Plain(denial(span, cause)), 0)
    }

    /// The trie gives the longest prefix alone, so none may be in it that ends before one around it.
    fn deny(&mut self, network: IpNet, span: Duration, cause: u32) -> Result<(), DataplaneFault> {
        let there = self.networks().map_err(failed("read what is denied"))?;
        let lasts = |view: &&DeniedView| view.left > span;
        if there.iter().filter(lasts).any(|view| view.network.contains(&network)) {
            return Ok(());
        }
        let swallowed = |view: &DeniedView| network.contains(&view.network) && view.left <= span;
        self.remove_networks(swallowed).map_err(failed("deny a network"))?;
        self.networks.insert(&key(&network), Plain(denial(span, cause)), 0).map_err(|error| {
            match os_error(&error) {
                Some(libc::ENOSPC) => DataplaneFault::DeniedFull { most: DENIED_MAX },
                _ => failed("deny a network")(error),
            }
        })
    }

    fn remove(&mut self, which: impl Fn(&DeniedView) -> bool) -> Result<usize, MapError> {
        let offenders = self.offenders()?;
        let mut removed = self.remove_networks(&which)?;
        for view in offenders.iter().filter(|view| which(view)) {
            removed += usize::from(self.forgive(view.network.addr())?);
        }
        Ok(removed)
    }

    fn forgive(&mut self, source: IpAddr) -> Result<bool, MapError> {
        // The kernel may have forgotten it.
        gone(self.offenders.remove(&Plain(address(source))))
    }

    fn remove_networks(&mut self, which: impl Fn(&DeniedView) -> bool) -> Result<usize, MapError> {
        let mut removed = 0;
        for view in self.networks()?.iter().filter(|view| which(view)) {
            removed += usize::from(gone(self.networks.remove(&key(&view.network)))?);
        }
        Ok(removed)
    }

    fn list(&self) -> Result<Vec<DeniedView>, DataplaneFault> {
        let reading = || failed("read what is denied");
        let mut views = self.networks().map_err(reading())?;
        views.sort_unstable_by_key(|view| view.network);
        let mut offenders = self.offenders().map_err(reading())?;
        offenders.sort_unstable_by_key(|view| view.network);
        views.extend(offenders);
        views.retain(|view| !view.left.is_zero());
        Ok(views)
    }

    fn networks(&self) -> Result<Vec<DeniedView>, MapError> {
        let now = monotonic();
        let view = |entry: Result<(Key<[u32; 4]>, Plain<Denial>), MapError>| {
            let (key, Plain(denial)) = entry?;
            let address = IpAddr::from(Addr128::v6(key.data().map(Be32::from_raw)));
            Ok(network(address, key.prefix_len()).map(|network| view(network, &denial, now)))
        };
        self.networks.iter().map(view).filter_map(Result::transpose).collect()
    }

    fn offenders(&self) -> Result<Vec<DeniedView>, MapError> {
        let now = monotonic();
        let view = |entry: Result<(Plain<Addr128>, Plain<Denial>), MapError>| {
            let (Plain(address), Plain(denial)) = entry?;
            Ok(view(IpNet::from(IpAddr::from(address)), &denial, now))
        };
        self.offenders.iter().map(view).collect()
    }
}

fn denial(span: Duration, cause: u32) -> Denial {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Denial { until: monotonic().saturating_add(span), cause, padding: 0 }
}

fn view(network: IpNet, denial: &Denial, now: u64) -> DeniedView {
    let left = Duration::from_nanos(denial.until.saturating_sub(now));
    DeniedView { network, cause: denial.cause, left }
}

fn key(network: &IpNet) -> Key<[u32; 4]> {
    let (prefix, address) = prefix(network);
    Key::new(prefix, words(&address))
}

/// Bits and address of a network in the one form that addresses have in maps.
fn prefix(network: &IpNet) -> (u32, Addr128) {
    let bits = u32::from(network.prefix_len());
    let mapped = if network.addr().is_ipv4() { MAPPED_PREFIX } else { 0 };
    (mapped + bits, address(network.network()))
}

/// And back; `None` for a prefix that no network of ours has.
fn network(address: IpAddr, prefix: u32) -> Option<IpNet> {
    let bits = match address {
        IpAddr::V4(_) => prefix.checked_sub(MAPPED_PREFIX)?,
        IpAddr::V6(_) => prefix.min(ADDRESS_BITS),
    };
    IpNet::new(address, u8::try_from(bits).ok()?).ok()
}

/// Whether there was something to remove.
fn gone(removed: Result<(), MapError>) -> Result<bool, MapError> {
    match removed {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) if os_error(&error) == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn failed(doing: &'static str) -> impl FnOnce(MapError) -> DataplaneFault {
    move |error| DataplaneFault::map(doing, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_keep_their_family_and_length_in_the_maps() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "198.51.100.7/32", "2001:db8::/48", "::/0"] {
            let written: IpNet = text.parse().unwrap();
            let (bits, address) = prefix(&written);
            assert_eq!(network(address.into(), bits), Some(written), "{text}");
        }
        assert_eq!(network("192.0.2.0".parse().unwrap(), 95), None);
    }
}
