//! One worker's handle on the data plane: programs flows in slots of its own, without locks.

use super::backend::{Backend, KernelBackend};
use super::compile::{Compiled, Place, compile, far_end_moved};
use super::fault::DataplaneFault;
use super::kernel::monotonic;
use super::keys::{self, Passing, is_secured};
use super::record::Record;
use super::reference::Counters;
use super::reference::sockets::SocketRelay;
use super::report::{self, FlowReport};
use super::slots::Slots;
use crate::base::id::FlowId;
use crate::base::time::Time;
use crate::media::bridge::{PlayUntil, Work};
use crate::media::plan::FlowSpec;
use crate::observe::path::RelayPath;
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
use gateway_common::flow::{FlowConfig, FlowKey, NO_SLOT, flag};
use gateway_common::srtp::FlowCrypto;
use mio::{Registry, Token};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// What no plan says of a flow.
const CAPTURES: u16 = flag::CAPTURE | flag::CAPTURE_AUDIO;

/// What [`Dataplane::update`] made of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Of the new plan's flows, in its order.
    pub ids: Vec<FlowId>,
    /// Flows of the plan before that are gone: their place in it, and their last figures.
    pub ended: Vec<(usize, FlowReport)>,
}

/// One worker's flows.
#[derive(Debug)]
pub struct Dataplane {
    slots: Slots,
    /// Of flows with SRTP.
    crypto_slots: Slots,
    /// By slot.
    installed: HashMap<u32, Installed>,
    backend: Backend,
    capacity: u32,
}

#[derive(Clone, Copy, Debug)]
struct Installed {
    key: FlowKey,
    epoch: u32,
    clock_rate: u32,
    crypto_slot: u32,
    /// By its plan.
    path: RelayPath,
}

impl Dataplane {
    pub(super) fn kernel([slots, crypto_slots]: [Slots; 2], backend: KernelBackend, capacity: u32) -> Self {
        let backend = Backend::Kernel(Box::new(backend));
        Self { slots, crypto_slots, installed: HashMap::new(), backend, capacity }
    }

    pub(super) fn sockets([slots, crypto_slots]: [Slots; 2], counters: Arc<Counters>, capacity: u32) -> Self {
        let backend = Backend::Sockets(Box::new(SocketRelay::new(counters)));
        Self { slots, crypto_slots, installed: HashMap::new(), backend, capacity }
    }

    /// Who relays the flows of this worker.
    pub fn path(&self) -> RelayPath {
        match self.backend {
            Backend::Kernel(_) => RelayPath::Kernel,
            Backend::Sockets(_) => RelayPath::Sockets,
        }
    }

    /// Installs the flows of a plan, all or none; their identifiers come back in the plan's order.
    ///
    /// The kernel is asked for link addresses of far ends at once, so that the first packet finds them.
    pub fn install(&mut self, flows: &[FlowSpec]) -> Result<Vec<FlowId>, DataplaneFault> {
        self.carried(flows)?;
        let prepared = self.backend.prepare(&[], flows)?;
        let mut places = Vec::with_capacity(flows.len());
        for flow in flows {
            match self.fresh_place(flow) {
                Ok(place) => places.push(place),
                Err(fault) => {
                    self.give_back(&places);
                    return Err(fault);
                }
            }
        }
        self.secure(flows, &places, false);
        self.backend.check(flows, &places);
        let installed =
            self.compile(flows, &places).and_then(|compiled| self.insert_all(&compiled).map(|()| compiled));
        match installed {
            Ok(compiled) => {
                compiled.iter().for_each(|compiled| self.remember(compiled));
                self.backend.secure(&compiled, flows, false);
                self.backend.host(&compiled, flows, prepared);
                self.prepare(&compiled);
                Ok(places.iter().map(id).collect())
            }
            Err(fault) => {
                self.give_back(&places);
                Err(fault)
            }
        }
    }

    /// Replaces the plan of installed flows. Where there are as many as before, each goes on in order, wherever it
    /// arrives now; else those go on that still arrive where they did, beside others that come or go. What goes on
    /// keeps its slot and figures; a latched source is forgotten where the far end may have moved. On an error the
    /// plan before stays in force.
    pub fn update(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<Update, DataplaneFault> {
        self.carried(flows)?;
        let prepared = self.backend.prepare(ids, flows)?;
        let before = ids.iter().map(|id| self.compiled(*id)).collect::<Result<Vec<_>, _>>()?;
        // By the agreement before, and ahead of what the kernel may relay from now on.
        self.backend.settle(&before);
        self.backend.conclude(ids, flows);
        let heirs = heirs(&before, flows);
        let (mut places, mut fresh) = (Vec::with_capacity(flows.len()), Vec::new());
        for (heir, flow) in heirs.iter().zip(flows) {
            let place = match heir.and_then(|index| before.get(index)) {
                Some(compiled) => self.secured_place(place(&compiled.config), flow, &mut fresh),
                None => self.fresh_place(flow).inspect(|place| fresh.push(*place)),
            };
            match place {
                Ok(place) => places.push(place),
                Err(fault) => {
                    self.give_back(&fresh);
                    return Err(fault);
                }
            }
        }
        let kept = self.keys_of(&before);
        self.secure(flows, &places, true);
        self.backend.check(flows, &places);
        let changed = self.change(&before, &heirs, &mut places, flows);
        let after = changed.inspect_err(|_| {
            if let Backend::Kernel(kernel) = &self.backend {
                kept.iter().for_each(|(slot, keys)| kernel.keys.write(*slot, &keys.0));
            }
            self.give_back(&fresh);
        })?;
        for (compiled, place) in after.iter().zip(&places) {
            // A flow that needs no keys any more.
            let before = self.installed.get(&place.slot).map_or(NO_SLOT, |installed| installed.crypto_slot);
            if before != compiled.config.crypto_slot {
                self.free_keys(before);
            }
        }
        after.iter().for_each(|compiled| self.remember(compiled));
        self.backend.secure(&after, flows, false);
        self.backend.host(&after, flows, prepared);
        // What was under way while the table changed.
        self.backend.settle(&before);
        self.prepare(&after);
        let ended = (0..ids.len()).filter(|index| !heirs.contains(&Some(*index)));
        let ended = ended.filter_map(|index| Some((index, self.forget(*ids.get(index)?)?))).collect();
        Ok(Update { ids: places.iter().map(id).collect(), ended })
    }

    /// Takes over flows that a daemon before this one installed: `ids` as it stored them, `flows` the plan that
    /// they were installed with. The kernel's configuration is written only where it differs. A slot may be
    /// of another worker's range ([`super::Split::owner`]), where the daemon before had another number of workers.
    ///
    /// # Errors
    /// [`DataplaneFault::UnknownFlow`] when one of them is no longer pinned, else why they cannot be carried here. Then none
    /// is taken over, and none is left in the kernel.
    pub fn adopt(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<(), DataplaneFault> {
        let adopted = self.take_over(ids, flows);
        if adopted.is_err() {
            self.discard(ids, flows);
        }
        adopted
    }

    fn take_over(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<(), DataplaneFault> {
        if ids.len() != flows.len() {
            let fault = super::compile::CompileFault::Count { flows: flows.len(), places: ids.len() };
            return Err(fault.into());
        }
        let mut before = Vec::with_capacity(ids.len());
        for (&id, spec) in ids.iter().zip(flows) {
            let key = super::compile::key(spec.at);
            let config = self.backend.config(&key);
            let same = config.filter(|config| config.slot == id.slot && config.epoch == id.epoch);
            before.push(Compiled { key, config: same.ok_or(DataplaneFault::UnknownFlow { id })? });
        }
        self.carried(flows)?;
        // What a bridge knew of the call died with its daemon: another goes on in the streams that it sent.
        let prepared = self.backend.prepare(&[], flows)?;
        let places: Vec<_> = before.iter().map(|compiled| place(&compiled.config)).collect();
        self.backend.check(flows, &places);
        self.backend.engine().0.checks().resume(monotonic(), &before);
        let after = self.compile(flows, &places)?;
        self.secure(flows, &places, false);
        if before != after {
            self.replace_all(&before, &after)?;
        }
        after.iter().for_each(|compiled| self.remember(compiled));
        if let Backend::Kernel(kernel) = &self.backend {
            after.iter().for_each(|compiled| kernel.userspace.adopt(compiled.config.slot));
        }
        self.backend.secure(&after, flows, true);
        self.backend.host(&after, flows, prepared);
        self.prepare(&after);
        Ok(())
    }

    /// Removes what is pinned of flows that were not taken over.
    fn discard(&mut self, ids: &[FlowId], flows: &[FlowSpec]) {
        for (id, spec) in ids.iter().zip(flows) {
            let key = super::compile::key(spec.at);
            let config = self.backend.config(&key);
            let Some(config) = config.filter(|config| config.slot == id.slot && config.epoch == id.epoch)
            else {
                continue;
            };
            self.backend.remove(key);
            self.give_back(&[place(&config)]);
        }
    }

    /// Removes flows and returns their last figures, in the order of `ids`; identifiers that are not installed
    /// are passed over.
    pub fn remove(&mut self, ids: &[FlowId]) -> Vec<FlowReport> {
        let mut reports = Vec::with_capacity(ids.len());
        let (engine, mut carrier) = self.backend.engine();
        engine.goodbye(monotonic(), ids, &mut carrier);
        for &id in ids {
            let Some(installed) = self.lookup(id) else { continue };
            self.backend.remove(installed.key);
            // After the removal, so that no packet is missing from it.
            reports.extend(self.forget(id));
        }
        reports
    }

    /// Copies packets of these flows to records from now on, whole with `audio`, or no more with `None`. Identifiers that
    /// are not installed are passed over. It lasts until the flow goes, or this daemon.
    pub fn capture(&mut self, ids: &[FlowId], audio: Option<bool>) -> Result<(), DataplaneFault> {
        let flags = match audio {
            None => 0,
            Some(false) => flag::CAPTURE,
            Some(true) => flag::CAPTURE | flag::CAPTURE_AUDIO,
        };
        for id in ids {
            let Ok(Compiled { key, config }) = self.compiled(*id) else { continue };
            let config = FlowConfig { flags: config.flags & !CAPTURES | flags, ..config };
            self.backend.replace(&Compiled { key, config }, self.capacity)?;
        }
        Ok(())
    }

    /// The figures of a flow now; `None` when it is not installed here. Costs no system call.
    pub fn report(&self, id: FlowId) -> Option<FlowReport> {
        let installed = self.lookup(id)?;
        let state = self.backend.state(id.slot);
        // One that has left the table went by it to the end.
        let path = self.backend.path(&installed.key).unwrap_or(installed.path);
        let report = FlowReport::of(&state, id.epoch, installed.clock_rate, monotonic(), path);
        let Some(counters) = self.backend.bridges().counters(id.slot) else { return Some(report) };
        Some(FlowReport { discarded: counters.discarded(), concealed_ms: counters.concealed_ms, ..report })
    }

    /// Where the keys of a flow with SRTP are; `None` for a plain flow.
    pub fn crypto_slot(&self, id: FlowId) -> Option<u32> {
        self.lookup(id).map(|installed| installed.crypto_slot).filter(|slot| *slot != NO_SLOT)
    }

    /// What was counted of the SSRCs of a flow with SRTP.
    pub fn counted(&self, id: FlowId) -> Option<FlowCrypto> {
        let slot = self.crypto_slot(id)?;
        let Backend::Kernel(kernel) = &self.backend else { return None };
        Some(kernel.keys.counted(slot))
    }

    /// Flows installed by this worker.
    pub fn len(&self) -> usize {
        self.installed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.installed.is_empty()
    }

    /// Lets sockets, where flows need them, wake `registry`'s poll by tokens of this range: those of flows over sockets,
    /// and of receive queues whose packets the program hands to userspace. Before the first flow.
    pub fn register(&mut self, registry: &Registry, tokens: Range<usize>) -> std::io::Result<()> {
        match &mut self.backend {
            Backend::Sockets(relay) => relay.register(registry.try_clone()?, tokens),
            Backend::Kernel(kernel) => kernel.userspace.register(registry, tokens)?,
        }
        Ok(())
    }

    /// Whether a poll event's token is one of this data plane's sockets.
    pub fn owns(&self, token: Token) -> bool {
        match &self.backend {
            Backend::Sockets(relay) => relay.owns(token),
            Backend::Kernel(kernel) => kernel.userspace.owns(token),
        }
    }

    /// Relays what waits at the socket of `token`.
    pub fn ready(&mut self, token: Token, records: &mut Vec<Record>) {
        match &mut self.backend {
            Backend::Sockets(relay) => relay.ready(token, records),
            Backend::Kernel(kernel) => kernel.userspace.ready(token, records),
        }
    }

    /// Sends what calls that are more than a relay have to send by now, and reports; lets pass what checks
    /// vouch for no more.
    pub fn run(&mut self, records: &mut Vec<Record>) {
        let (engine, mut carrier) = self.backend.engine();
        engine.run(monotonic(), &mut carrier);
        records.extend(engine.records());
        if let Backend::Kernel(kernel) = &mut self.backend {
            kernel.userspace.publish();
        }
    }

    /// When [`Self::run`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        match &self.backend {
            Backend::Kernel(kernel) => kernel.userspace.deadline(),
            Backend::Sockets(relay) => relay.deadline(),
        }
    }

    /// RTCP that the kernel relayed came by this flow at `at` (kernel monotonic nanoseconds), as its peer sent
    /// it: what it says of our own.
    pub fn rtcp(&mut self, flow: FlowId, at: u64, compound: &[u8]) {
        if self.lookup(flow).is_some() {
            self.backend.engine().0.rtcp(at, flow.slot, compound);
        }
    }

    /// A key that signalling brought goes to the peer whom this flow hears. Nothing where no bridge is.
    pub fn press(&mut self, flow: FlowId, press: Press) {
        if self.lookup(flow).is_some() {
            let (engine, mut carrier) = self.backend.engine();
            engine.press(monotonic(), flow.slot, press, &mut carrier);
        }
    }

    /// Plays to the peer whom this flow hears, in the place of what the other one sends, or stops. Nothing where no bridge
    /// is.
    pub fn play(&mut self, flow: FlowId, what: Option<(Source, PlayUntil)>) {
        if self.lookup(flow).is_some() {
            self.backend.engine().0.play(monotonic(), flow.slot, what);
        }
    }

    /// What codecs did for the peer whom this flow hears; `None` where no bridge is.
    pub fn work(&self, flow: FlowId) -> Option<Work> {
        self.lookup(flow).and_then(|_| self.backend.bridges().work(flow.slot))
    }

    /// Whether calls can be more than a relay here: hear tones, speak different codecs.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn bridges(&self) -> Result<(), DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) => kernel.userspace.available(),
            Backend::Sockets(_) => Ok(()),
        }
    }

    fn lookup(&self, id: FlowId) -> Option<Installed> {
        self.installed.get(&id.slot).copied().filter(|installed| installed.epoch == id.epoch)
    }

    fn compiled(&self, id: FlowId) -> Result<Compiled, DataplaneFault> {
        let key = self.lookup(id).ok_or(DataplaneFault::UnknownFlow { id })?.key;
        let config = self.backend.config(&key).ok_or(DataplaneFault::UnknownFlow { id })?;
        Ok(Compiled { key, config })
    }

    fn remember(&mut self, compiled: &Compiled) {
        let FlowConfig { slot, epoch, clock_rate, crypto_slot, .. } = compiled.config;
        let path = match self.backend {
            Backend::Kernel(_) => report::path(&compiled.config),
            Backend::Sockets(_) => RelayPath::Sockets,
        };
        self.installed.insert(slot, Installed { key: compiled.key, epoch, clock_rate, crypto_slot, path });
    }

    fn fresh_place(&mut self, flow: &FlowSpec) -> Result<Place, DataplaneFault> {
        let full = DataplaneFault::FlowTableFull { flows: self.capacity };
        let (slot, epoch) = self.slots.take().ok_or(full)?;
        let epoch = self.backend.state(slot).epoch.max(epoch.unwrap_or(0)).wrapping_add(1).max(1);
        let place = Place { slot, epoch, latch_epoch: 0, crypto_slot: NO_SLOT };
        self.secured_place(place, flow, &mut Vec::new()).inspect_err(|_| self.slots.free(slot, epoch))
    }

    /// The place with a crypto slot, where the flow asks for one that it has not. What was taken is added to `fresh`,
    /// as a place that holds nothing else.
    fn secured_place(
        &mut self,
        mut place: Place,
        flow: &FlowSpec,
        fresh: &mut Vec<Place>,
    ) -> Result<Place, DataplaneFault> {
        let in_kernel = matches!(self.backend, Backend::Kernel(_));
        if in_kernel && is_secured(flow) && place.crypto_slot == NO_SLOT {
            let full = DataplaneFault::SecuredFull { flows: self.crypto_slots.capacity() };
            place.crypto_slot = self.crypto_slots.take().ok_or(full)?.0;
            fresh.push(Place { slot: NO_SLOT, ..place });
        }
        Ok(place)
    }

    /// Puts keys where packets of the flows will look for them; `offered`: by a new agreement of the call.
    fn secure(&mut self, flows: &[FlowSpec], places: &[Place], offered: bool) {
        let Backend::Kernel(kernel) = &self.backend else { return };
        for (flow, place) in flows.iter().zip(places).filter(|(flow, _)| is_secured(flow)) {
            let slot = place.crypto_slot;
            let before = Passing(kernel.keys.read(slot));
            let keys = Passing(keys::compile(flow, &before.0, &kernel.keys.counted(slot), offered));
            kernel.keys.write(slot, &keys.0);
        }
    }

    fn keys_of(&self, flows: &[Compiled]) -> Vec<(u32, Passing)> {
        let Backend::Kernel(kernel) = &self.backend else { return Vec::new() };
        let slots = flows.iter().map(|flow| flow.config.crypto_slot).filter(|slot| *slot != NO_SLOT);
        slots.map(|slot| (slot, Passing(kernel.keys.read(slot)))).collect()
    }

    fn free_keys(&mut self, slot: u32) {
        if let Backend::Kernel(kernel) = &self.backend
            && slot != NO_SLOT
        {
            kernel.keys.wipe(slot);
            self.crypto_slots.free(slot, 0);
        }
    }

    /// Puts the plan in force; raises the latch epoch in `places` where a far end may have moved.
    fn change(
        &mut self,
        before: &[Compiled],
        heirs: &[Option<usize>],
        places: &mut [Place],
        flows: &[FlowSpec],
    ) -> Result<Vec<Compiled>, DataplaneFault> {
        let mut after = self.compile(flows, places)?;
        let going_on: Vec<_> = heirs
            .iter()
            .zip(&after)
            .filter_map(|(heir, after)| Some((before.get((*heir)?)?.config, after.config)))
            .collect();
        let (were, are): (Vec<_>, Vec<_>) = going_on.into_iter().unzip();
        let moved = far_end_moved(&were, &are);
        if moved.contains(&true) {
            let going_on = places.iter_mut().zip(heirs).filter(|(_, heir)| heir.is_some());
            for ((place, _), moved) in going_on.zip(moved) {
                place.latch_epoch = place.latch_epoch.wrapping_add(u32::from(moved));
            }
            after = self.compile(flows, places)?;
        }
        for (heir, after) in heirs.iter().zip(&mut after) {
            // A capture goes on.
            let before = heir.and_then(|index| before.get(index));
            after.config.flags |= before.map_or(0, |before| before.config.flags & CAPTURES);
        }
        self.replace_all(before, &after)?;
        Ok(after)
    }

    /// Whether whoever is to relay the flows is there.
    fn carried(&self, flows: &[FlowSpec]) -> Result<(), DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) if flows.iter().any(|flow| kernel.is_in_userspace(flow)) => {
                kernel.userspace.available()
            }
            _ => Ok(()),
        }
    }

    /// Compiles a plan for the relay that there is, with what connectivity checks have found.
    fn compile(&mut self, flows: &[FlowSpec], places: &[Place]) -> Result<Vec<Compiled>, DataplaneFault> {
        let mut compiled = compile(flows, places)?;
        self.backend.apply_checks(&mut compiled);
        if let Backend::Kernel(kernel) = &mut self.backend {
            for (compiled, flow) in compiled.iter_mut().zip(flows) {
                if let Some(why) = kernel.punted(flow) {
                    compiled.config.flags |= flag::PUNT;
                    compiled.config.punted = why as u8;
                }
                kernel.userspace.checks().place(&mut compiled.config);
            }
        }
        Ok(compiled)
    }

    /// Frees the slot of a flow that is no longer in the table, and gives its last figures.
    fn forget(&mut self, id: FlowId) -> Option<FlowReport> {
        let report = self.report(id)?;
        let installed = self.installed.remove(&id.slot)?;
        self.free_keys(installed.crypto_slot);
        self.slots.free(id.slot, id.epoch);
        self.backend.forget(id.slot, installed.crypto_slot);
        Some(report)
    }

    fn give_back(&mut self, places: &[Place]) {
        for place in places {
            self.free_keys(place.crypto_slot);
            if place.slot != NO_SLOT {
                self.backend.forget(place.slot, place.crypto_slot);
                self.slots.free(place.slot, place.epoch);
            }
        }
    }

    fn insert_all(&mut self, compiled: &[Compiled]) -> Result<(), DataplaneFault> {
        for (index, flow) in compiled.iter().enumerate() {
            if let Err(fault) = self.backend.insert(flow, self.capacity) {
                compiled[..index].iter().for_each(|flow| self.backend.remove(flow.key));
                return Err(fault);
            }
        }
        Ok(())
    }

    /// New arrivals first and old ones last, so that a moved flow hears packets at either address meanwhile.
    fn replace_all(&mut self, before: &[Compiled], after: &[Compiled]) -> Result<(), DataplaneFault> {
        let is_in = |flows: &[Compiled], key| flows.iter().any(|flow| flow.key == key);
        for (index, flow) in after.iter().enumerate() {
            let written = match is_in(before, flow.key) {
                true => self.backend.replace(flow, self.capacity),
                false => self.backend.insert(flow, self.capacity),
            };
            if let Err(fault) = written {
                let added = after[..index].iter().filter(|flow| !is_in(before, flow.key));
                added.for_each(|flow| self.backend.remove(flow.key));
                for flow in before {
                    self.backend.replace(flow, self.capacity)?;
                }
                return Err(fault);
            }
        }
        before.iter().filter(|flow| !is_in(after, flow.key)).for_each(|flow| self.backend.remove(flow.key));
        Ok(())
    }

    fn prepare(&mut self, compiled: &[Compiled]) {
        let Backend::Kernel(kernel) = &mut self.backend else { return };
        let Some(neighbours) = &mut kernel.neighbours else { return };
        let now = monotonic();
        for Compiled { config, .. } in compiled {
            for output in [config.rtp, config.rtcp] {
                let remote = IpAddr::from(output.remote);
                if remote.is_unspecified() {
                    continue;
                }
                if let Err(error) = neighbours.prepare(remote, now) {
                    tracing::debug!("cannot have a far end's link address resolved beforehand: {error}");
                }
            }
        }
    }
}

/// Which flow of the plan before goes on as each flow of the new one.
fn heirs(before: &[Compiled], flows: &[FlowSpec]) -> Vec<Option<usize>> {
    if before.len() == flows.len() {
        return (0..flows.len()).map(Some).collect();
    }
    let arrivals = flows.iter().map(|flow| super::compile::key(flow.at));
    arrivals.map(|key| before.iter().position(|compiled| compiled.key == key)).collect()
}

fn id(place: &Place) -> FlowId {
    FlowId { slot: place.slot, epoch: place.epoch }
}

fn place(config: &FlowConfig) -> Place {
    let FlowConfig { slot, epoch, latch_epoch, crypto_slot, .. } = *config;
    Place { slot, epoch, latch_epoch, crypto_slot }
}
