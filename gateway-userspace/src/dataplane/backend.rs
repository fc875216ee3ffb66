//! What relays a worker's flows: the XDP program with the engine beside it, or the engine alone over plain sockets.

use super::compile::{Compiled, Place, arrival};
use super::fault::DataplaneFault;
use super::kernel::monotonic;
use super::keys::{KernelKeys, is_secured, punted};
use super::mmap::SharedArray;
use super::neighbour::Neighbours;
use super::reference::bridges::{Bridges, Member};
use super::reference::engine::{Carrier, Engine};
use super::reference::sockets::SocketRelay;
use super::report;
use super::table::{KernelFlows, TableFault};
use super::userspace::Userspace;
use crate::base::id::FlowId;
use crate::media::bridge::Bridge;
use crate::media::plan::FlowSpec;
use crate::observe::path::RelayPath;
use gateway_common::account::TIMED_EVERY;
use gateway_common::flow::{FlowConfig, FlowKey, FlowKind, Punted, flag};
use gateway_common::learned::FlowState;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// A stream that has paused for so long has no packet under way. Longer than [`TIMED_EVERY`] packets of 60 ms, as the last
/// one is known no better.
const SILENCE: Duration = Duration::from_millis(60 * (TIMED_EVERY + 1));

#[derive(Debug)]
pub(super) enum Backend {
    Kernel(Box<KernelBackend>),
    Sockets(Box<SocketRelay>),
}

#[derive(Debug)]
pub(super) struct KernelBackend {
    flows: Arc<KernelFlows>,
    states: Arc<SharedArray<FlowState>>,
    pub(super) keys: Arc<KernelKeys>,
    pub(super) neighbours: Option<Neighbours>,
    /// What the program does not relay.
    pub(super) userspace: Userspace,
    /// Whether the program knows SRTP on this kernel.
    srtp: bool,
}

impl KernelBackend {
    pub(super) fn new(
        flows: Arc<KernelFlows>,
        states: Arc<SharedArray<FlowState>>,
        keys: Arc<KernelKeys>,
        userspace: Userspace,
        srtp: bool,
    ) -> Self {
        let neighbours = Neighbours::open().inspect_err(|error| {
            tracing::warn!("first packets may miss link addresses: no netlink socket: {error}")
        });
        Self { flows, states, keys, neighbours: neighbours.ok(), userspace, srtp }
    }

    /// What a flow is to be at once: one that leaves userspace in the middle of a stream stays there for its next packet.
    fn next(&mut self, flow: &Compiled) -> FlowConfig {
        let Compiled { key, config } = *flow;
        let before = self.flows.config(&key).filter(|before| before.flags & flag::PUNT != 0);
        let before = before.filter(|_| self.is_streaming(&config));
        match before {
            Some(before) if config.flags & flag::PUNT == 0 && self.userspace.leave(key, config).is_some() => {
                FlowConfig { flags: config.flags | flag::PUNT, punted: before.punted, ..config }
            }
            _ => {
                self.userspace.stay(key);
                config
            }
        }
    }

    /// Whether a packet of the flow may follow one under way to userspace so closely that it could overtake it: reports
    /// come seconds apart.
    fn is_streaming(&self, config: &FlowConfig) -> bool {
        let statistics = self.states.read(config.slot as usize).unwrap_or_default().statistics;
        let silence = Duration::from_nanos(monotonic().saturating_sub(statistics.last_seen));
        config.kind != FlowKind::Rtcp && silence < SILENCE
    }

    /// Whether packets of a flow come to userspace: all, or connectivity checks.
    pub(super) fn is_in_userspace(&self, flow: &FlowSpec) -> bool {
        flow.checks.is_some() || self.punted(flow).is_some()
    }

    /// Why userspace relays a flow, on this kernel; `None` where the program does.
    pub(super) fn punted(&self, flow: &FlowSpec) -> Option<Punted> {
        // The program that tells checks from media is the one of those.
        let without = !self.srtp && (is_secured(flow) || flow.checks.is_some());
        punted(flow).or(without.then_some(Punted::KernelWithoutSrtp))
    }
}

impl Backend {
    /// Adds a flow.
    pub(super) fn insert(&mut self, flow: &Compiled, capacity: u32) -> Result<(), DataplaneFault> {
        let in_use = DataplaneFault::AddressInUse { at: arrival(flow.key) };
        match self {
            Self::Kernel(kernel) => match kernel.flows.insert(flow.key, flow.config) {
                Err(TableFault::InUse) => Err(in_use),
                Err(TableFault::Full) => Err(DataplaneFault::FlowTableFull { flows: capacity }),
                Ok(()) => Ok(()),
            },
            Self::Sockets(relay) if relay.config(flow.key).is_some() => Err(in_use),
            Self::Sockets(relay) => relay.insert(flow.key, flow.config),
        }
    }

    /// Puts a flow in the place of the one at the same address and port.
    pub(super) fn replace(&mut self, flow: &Compiled, capacity: u32) -> Result<(), DataplaneFault> {
        match self {
            Self::Kernel(kernel) => {
                let config = kernel.next(flow);
                let replaced = kernel.flows.replace(flow.key, config);
                replaced.map_err(|_| DataplaneFault::FlowTableFull { flows: capacity })?;
                kernel.userspace.follow(flow.key, config);
                Ok(())
            }
            Self::Sockets(relay) => relay.insert(flow.key, flow.config),
        }
    }

    pub(super) fn remove(&mut self, key: FlowKey) {
        match self {
            Self::Kernel(kernel) => {
                kernel.flows.remove(&key);
                kernel.userspace.remove(key);
            }
            Self::Sockets(relay) => relay.remove(key),
        }
    }

    /// Who relays a flow now; `None` of one that is not in the table.
    pub(super) fn path(&self, key: &FlowKey) -> Option<RelayPath> {
        match self {
            Self::Kernel(kernel) => kernel.flows.config(key).map(|config| report::path(&config)),
            Self::Sockets(_) => Some(RelayPath::Sockets),
        }
    }

    /// Agents answer the checks of these flows as the plan says, as far as it is not in force yet.
    pub(super) fn check(&mut self, flows: &[FlowSpec], places: &[Place]) {
        self.engine().0.configure_checks(flows, places);
    }

    /// What relays in userspace, and what takes its packets away.
    pub(super) fn engine(&mut self) -> (&mut Engine, &mut dyn Carrier) {
        match self {
            Self::Kernel(kernel) => kernel.userspace.engine(),
            Self::Sockets(relay) => relay.engine(),
        }
    }

    pub(super) fn bridges(&self) -> &Bridges {
        match self {
            Self::Kernel(kernel) => kernel.userspace.bridges(),
            Self::Sockets(relay) => relay.bridges(),
        }
    }

    /// What will stand between the peers of a plan in place of what `before` has.
    pub(super) fn prepare(
        &self,
        before: &[FlowId],
        flows: &[FlowSpec],
    ) -> Result<Option<Bridge>, DataplaneFault> {
        Ok(self.bridges().prepare(before, flows)?)
    }

    /// Has what stands there end by the agreement before, where the plan has another or none.
    pub(super) fn conclude(&mut self, before: &[FlowId], flows: &[FlowSpec]) {
        let (engine, mut carrier) = self.engine();
        engine.conclude(monotonic(), before, flows, &mut carrier);
    }

    /// Puts there what was prepared.
    pub(super) fn host(&mut self, compiled: &[Compiled], flows: &[FlowSpec], prepared: Option<Bridge>) {
        let member = |Compiled { key, config }: &Compiled| Member {
            at: *key,
            id: FlowId { slot: config.slot, epoch: config.epoch },
        };
        let members: SmallVec<[Member; 4]> = compiled.iter().map(member).collect();
        self.engine().0.host(monotonic(), &members, flows, prepared);
    }

    pub(super) fn apply_checks(&mut self, compiled: &mut [Compiled]) {
        self.engine().0.checks().apply(compiled);
    }

    /// Gives installed flows their keys.
    pub(super) fn secure(&mut self, compiled: &[Compiled], flows: &[FlowSpec], adopted: bool) {
        for (compiled, spec) in compiled.iter().zip(flows) {
            match self {
                Self::Kernel(kernel) => kernel.userspace.secure(spec, compiled, adopted),
                Self::Sockets(relay) => relay.secure(compiled.config.slot, spec),
            }
        }
    }

    /// Has userspace relay all that came so far, where one of the flows is its.
    pub(super) fn settle(&mut self, flows: &[Compiled]) {
        if let Self::Kernel(kernel) = self
            && flows.iter().any(|flow| flow.config.flags & (flag::PUNT | flag::REPORTED) != 0)
        {
            kernel.userspace.settle();
        }
    }

    pub(super) fn forget(&mut self, slot: u32, crypto_slot: u32) {
        match self {
            Self::Kernel(kernel) => kernel.userspace.forget(slot, crypto_slot),
            Self::Sockets(relay) => relay.forget(slot),
        }
    }

    pub(super) fn config(&self, key: &FlowKey) -> Option<FlowConfig> {
        match self {
            Self::Kernel(kernel) => kernel.flows.config(key),
            Self::Sockets(relay) => relay.config(*key).copied(),
        }
    }

    pub(super) fn state(&self, slot: u32) -> FlowState {
        match self {
            Self::Kernel(kernel) => kernel.states.read(slot as usize).unwrap_or_default(),
            Self::Sockets(relay) => relay.state(slot),
        }
    }
}
