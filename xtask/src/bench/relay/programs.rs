//! The programs of `bench.o`: the empty redirect that is the floor of every relay over veth, and the counter
//! at which all packets end.

use super::lab::{ENDPOINT_INTERFACE, Path, Side, enter};
use crate::packet_socket::interface_index;
use anyhow::{Context, Result};
use aya::maps::{Array, PerCpuArray};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use gateway_common::flow::FlowSlot;
use std::fs;
use std::path::Path as FilePath;

const EMPTY_TX: &str = "empty_tx";
const MEMORY: &str = "memory";

/// An object of `cargo xtask ebpf`, loaded; what it is attached to is freed when this is dropped.
#[derive(Debug)]
pub(crate) struct Bench {
    object: Vec<u8>,
}

/// One loaded copy of a program, with maps of its own.
#[derive(Debug)]
pub(crate) struct Loaded {
    ebpf: Ebpf,
    program: &'static str,
}

/// The octets of a flow of `bench.o`.
type Slot = [u8; size_of::<FlowSlot>()];

impl Bench {
    /// # Errors
    /// The object is not built.
    pub(crate) fn read(objects: &FilePath) -> Result<Self> {
        let path = objects.join("bench.o");
        let object =
            fs::read(&path).with_context(|| format!("{} (cargo xtask ebpf builds it)", path.display()))?;
        Ok(Self { object })
    }

    /// Attaches the counter to the caller's and the callee's end of a path: a redirect into a veth is dropped
    /// unless its peer runs a program.
    ///
    /// # Errors
    /// Not permitted, or an interface without native XDP.
    pub(crate) fn counter(&self, path: &Path<'_>) -> Result<Counter> {
        let attach = |side: Side| {
            enter(&path.endpoint_namespace(side), || self.attach("count_and_drop", ENDPOINT_INTERFACE, None))
        };
        Ok(Counter { ends: [attach(Side::Caller)?, attach(Side::Callee)?] })
    }

    /// Discards what arrives at the gateway: a run over this path costs what the sender costs.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub(crate) fn discard(&self, path: &Path<'_>) -> Result<Counter> {
        let attach = |side: Side| {
            enter(&path.gateway_namespace(), || self.attach("count_and_drop", side.gateway_interface(), None))
        };
        Ok(Counter { ends: [attach(Side::Caller)?, attach(Side::Callee)?] })
    }

    /// The empty relay: what comes in by one interface leaves by the other, unread.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub(crate) fn empty_redirect(&self, path: &Path<'_>) -> Result<[Loaded; 2]> {
        let attach = |side: Side| {
            enter(&path.gateway_namespace(), || {
                self.attach(
                    "empty_redirect",
                    side.gateway_interface(),
                    Some(interface_index(side.other().gateway_interface())?),
                )
            })
        };
        Ok([attach(Side::Caller)?, attach(Side::Callee)?])
    }

    /// Loads the empty program that transmits, without attaching it to anything.
    ///
    /// # Errors
    /// Not permitted.
    pub(crate) fn empty_tx(&self) -> Result<Loaded> {
        self.load(EMPTY_TX)
    }

    /// Loads the program that does nothing but fetch the memory of flows, without attaching it to anything. A packet
    /// names its flow in the first four octets of its payload; `next` gives the one that follows on each.
    ///
    /// # Errors
    /// Not permitted, or more flows than the object has room for.
    pub(crate) fn memory(&self, flows: u32, next: impl Fn(u32) -> u32) -> Result<Loaded> {
        let mut loaded = self.load(MEMORY)?;
        let map = loaded.ebpf.map_mut("BENCH_FLOWS").context("bench.o has no BENCH_FLOWS")?;
        let mut slots = Array::<_, Slot>::try_from(map)?;
        for flow in 0..flows {
            let mut slot = [0; size_of::<FlowSlot>()];
            let (number, _) = slot.split_at_mut(size_of::<u32>());
            number.copy_from_slice(&next(flow).to_ne_bytes());
            slots.set(flow, slot, 0).context("BENCH_FLOWS")?;
        }
        Ok(loaded)
    }

    /// Loads a copy of `program` without attaching it.
    fn load(&self, program: &'static str) -> Result<Loaded> {
        let mut ebpf = EbpfLoader::new().load(&self.object).context("bench.o")?;
        let loaded: &mut Xdp =
            ebpf.program_mut(program).with_context(|| format!("bench.o has no {program}"))?.try_into()?;
        loaded.load().with_context(|| format!("load {program}"))?;
        Ok(Loaded { ebpf, program })
    }

    /// Loads a copy of `program` and attaches it natively in the namespace of the calling thread.
    fn attach(&self, program: &'static str, interface: &str, target: Option<u32>) -> Result<Loaded> {
        let mut ebpf = EbpfLoader::new().load(&self.object).context("bench.o")?;
        if let Some(target) = target {
            let map = ebpf.map_mut("BENCH_TARGET").context("bench.o has no BENCH_TARGET")?;
            Array::<_, u32>::try_from(map)?.set(0, target, 0).context("BENCH_TARGET")?;
        }
        let loaded: &mut Xdp =
            ebpf.program_mut(program).with_context(|| format!("bench.o has no {program}"))?.try_into()?;
        loaded.load().with_context(|| format!("load {program}"))?;
        loaded
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("attach {program} to {interface}"))?;
        Ok(Loaded { ebpf, program })
    }
}

/// Counting programs at both ends of a path.
#[derive(Debug)]
pub(crate) struct Counter {
    ends: [Loaded; 2],
}

impl Counter {
    /// Packets that reached the end so far.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(crate) fn taken(&self) -> Result<u64> {
        self.ends.iter().map(Loaded::taken).sum()
    }
}

impl Loaded {
    /// The program that was loaded.
    ///
    /// # Errors
    /// It is none of XDP.
    pub(crate) fn program(&self) -> Result<&Xdp> {
        let Self { ebpf, program } = self;
        Ok(ebpf.program(program).with_context(|| format!("bench.o has no {program}"))?.try_into()?)
    }

    fn taken(&self) -> Result<u64> {
        let map = self.ebpf.map("BENCH_TAKEN").context("bench.o has no BENCH_TAKEN")?;
        let values = PerCpuArray::<_, u64>::try_from(map)?.get(&0, 0).context("BENCH_TAKEN")?;
        Ok(values.iter().sum())
    }
}
