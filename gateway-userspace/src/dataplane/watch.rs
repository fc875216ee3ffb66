//! What the kernel has to say: records of flows, changes of routes and neighbours, logs of the traced program.
//! For one thread, beside the call path.

use super::attachment::Attachments;
use super::fault::DataplaneFault;
use super::inspect;
use super::kernel::monotonic;
use super::neighbour::{KnownNeighbours, Neighbours};
use super::netlink::{Changes, Events, NextHopAddress, Requests};
use super::node::{bump_generation, generation, write_links};
use super::pins::PinDirectory;
use super::record::Record;
use aya::maps::{Array, Map, MapData, RingBuf};
use aya_log::EbpfLogger;
use gateway_common::abi::name;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io;
use std::os::fd::AsRawFd;

/// Everything the data plane says without being asked. Register it, and call [`Watch::drain`] whenever one of
/// its tokens is ready.
pub struct Watch(Option<Sources>);

struct Sources {
    ring: RingBuf<MapData>,
    captures: RingBuf<MapData>,
    events: Events,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    generation: Array<MapData, u32>,
    requests: Requests,
    attachments: Attachments,
    neighbours: Neighbours,
    known: KnownNeighbours,
}

impl Watch {
    /// Tokens that [`Watch::register`] uses.
    pub const TOKENS: usize = 4;

    pub(super) fn kernel(
        pins: &PinDirectory,
        program: Option<u32>,
        attachments: Attachments,
    ) -> Result<Self, DataplaneFault> {
        let netlink = |error| DataplaneFault::system("listen to changes of routes and neighbours")(error);
        let ring = |name| {
            let failed = |error| DataplaneFault::map("open the ring of records", &error);
            Map::RingBuf(inspect::map(pins.path(), name)?).try_into().map_err(failed)
        };
        // Heard of before they are listed, so that no change falls in between.
        let events = Events::open().map_err(netlink)?;
        let mut requests = Requests::open().map_err(netlink)?;
        let mut known = KnownNeighbours::default();
        for entry in requests.neighbours().map_err(netlink)? {
            known.learn(entry.hop, entry.link_address);
        }
        Ok(Self(Some(Sources {
            ring: ring(name::RECORDS)?,
            captures: ring(name::CAPTURES)?,
            events,
            // Only the traced program has a log.
            logger: program.and_then(|id| EbpfLogger::init_from_id(id).ok()),
            generation: generation(pins)?,
            requests,
            attachments,
            neighbours: Neighbours::open().map_err(netlink)?,
            known,
        })))
    }

    /// Over plain sockets there is nothing to watch: records come from [`super::Dataplane::ready`].
    pub(super) fn silent() -> Self {
        Self(None)
    }

    /// Registers its file descriptors with `first` and the [`Watch::TOKENS`] - 1 tokens after it.
    pub fn register(&self, registry: &Registry, first: Token) -> io::Result<()> {
        let Some(sources) = &self.0 else { return Ok(()) };
        let logger = sources.logger.as_ref().map(|logger| logger.as_raw_fd());
        let [ring, captures] = [&sources.ring, &sources.captures].map(|ring| Some(ring.as_raw_fd()));
        let all = [ring, captures, Some(sources.events.as_raw_fd()), logger];
        for (index, fd) in all.into_iter().enumerate() {
            if let Some(fd) = fd {
                registry.register(&mut SourceFd(&fd), Token(first.0 + index), Interest::READABLE)?;
            }
        }
        Ok(())
    }

    /// Takes everything that waits, without blocking: records go to `records`, for the worker that owns the
    /// flow's slot ([`super::Split::owner`]); routes, neighbours and logs are dealt with here.
    pub fn drain(&mut self, records: &mut Vec<Record>) -> Result<(), DataplaneFault> {
        let Some(sources) = &mut self.0 else { return Ok(()) };
        sources.records(records);
        while let Some(item) = sources.captures.next() {
            records.extend(Record::parse(&item));
        }
        if let Some(logger) = &mut sources.logger {
            logger.flush();
        }
        let changes = sources.events.drain().map_err(DataplaneFault::system("hear of changed routes"))?;
        sources.follow(changes)
    }
}

impl Sources {
    fn records(&mut self, records: &mut Vec<Record>) {
        while let Some(item) = self.ring.next() {
            let Some(record) = Record::parse(&item) else {
                tracing::warn!(
                    octets = item.len(),
                    "a record of the XDP program that no such program writes"
                );
                continue;
            };
            if let Record::NeighbourWanted { next_hop, ifindex, .. } = record {
                let hop = NextHopAddress { ifindex, address: next_hop };
                if let Err(error) = self.neighbours.keep(hop, monotonic()) {
                    tracing::warn!(%next_hop, ifindex, "cannot have the next hop's link address resolved: {error}");
                }
            }
            records.push(record);
        }
    }

    fn follow(&mut self, changes: Changes) -> Result<(), DataplaneFault> {
        let mut stale = changes.hops;
        for change in changes.neighbours {
            stale |= self.known.learn(change.hop, change.link_address);
        }
        if changes.devices {
            let listing = DataplaneFault::system("list network interfaces");
            let devices = self.requests.devices().map_err(listing)?;
            self.attachments.follow(&devices);
            write_links(&self.attachments.directory, &devices, &self.attachments.media)?;
        }
        if stale { bump_generation(&mut self.generation) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.0.as_ref().map(|sources| &sources.events)).finish()
    }
}
