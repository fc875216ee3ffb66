//! The data plane of this host: loaded or adopted once, then handed out to workers and the watch.

use super::attachment::{Attachments, InterfacePath, PathKind, attach, unlink_others};
use super::backend::KernelBackend;
use super::fault::DataplaneFault;
use super::guard::Guard;
use super::handover::Handover;
use super::inspect::{self, FlowView};
use super::keys::KernelKeys;
use super::links::ways_out;
use super::load::{self, Loaded, PINNED_MAPS};
use super::mmap::{Access, SharedArray};
use super::netlink::{Device, Requests};
use super::pins::PinDirectory;
use super::pod::Plain;
use super::reference::counters::Counters;
use super::slots::{Slots, Split};
use super::table::KernelFlows;
use super::userspace::{Parts, Userspace};
use super::watch::Watch;
use super::worker::Dataplane;
use super::{Mode, Settings};
use crate::base::id::{CoreId, FlowId};
use aya::Ebpf;
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, XskMap};
use gateway_common::abi::{FINGERPRINT, INTERFACES_MAX, Queues, SOCKETS_MAX, name};
use gateway_common::flow::NO_SLOT;
use gateway_common::learned::FlowState;
use gateway_common::verdict::{Reason, Traffic};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The data plane of this host. Dropping it leaves everything pinned and relaying; [`Node::detach`] does not.
#[derive(Debug)]
pub struct Node {
    paths: Arc<Mutex<Vec<InterfacePath>>>,
    split_flows: u32,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Kernel(Box<KernelNode>),
    Sockets { counters: Arc<Counters> },
}

#[derive(Debug)]
struct KernelNode {
    pins: PinDirectory,
    /// Keeps the maps of the object open that are not pinned.
    _ebpf: Ebpf,
    table: Arc<KernelFlows>,
    states: Arc<SharedArray<FlowState>>,
    keys: Arc<KernelKeys>,
    /// Of the program that the links run.
    program: Option<u32>,
    mode: Mode,
    media: Vec<u32>,
    /// Slots of the flows that were pinned at boot and survived the sweep.
    taken: HashSet<u32>,
    /// Crypto slots of those flows.
    taken_crypto: HashSet<u32>,
    /// Whether the programs for SRTP are loaded.
    srtp: bool,
    queues: Vec<Queue>,
    /// Frames of each AF_XDP socket.
    socket_frames: u32,
    /// Between the workers, once it is known how many there are.
    handover: OnceLock<Arc<Handover>>,
    /// Of what userspace relays.
    counters: Arc<Counters>,
}

/// One receive queue of a media interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) ifindex: u32,
    pub(super) queue: u32,
    /// Of its socket, in the program's map.
    pub(super) place: u32,
}

impl Node {
    /// Loads, attaches and pins the data plane, or adopts the one that is pinned already.
    ///
    /// # Errors
    /// Everything that keeps packets from being relayed as `settings` ask, by name and with its fix.
    pub fn boot(settings: &Settings) -> Result<Self, DataplaneFault> {
        Self::boot_object(settings, load::chosen(settings))
    }

    /// The same with this XDP object in the place of the embedded one.
    ///
    /// # Errors
    /// As of [`Node::boot`].
    pub fn boot_object(settings: &Settings, object: &[u8]) -> Result<Self, DataplaneFault> {
        if settings.mode == Mode::Sockets {
            return Ok(Self::sockets(settings, "configured: dataplane.mode = \"sockets\""));
        }
        load::check(object)?;
        let devices = media_devices(settings)?;
        let pins = PinDirectory::open(&settings.pin_directory)?;
        let adopting = adoptable(&pins)?;
        match boot_kernel(settings, object, pins, &devices, adopting) {
            Ok(node) => Ok(node),
            Err(DataplaneFault::AttachRefused { interface, why, .. })
                if settings.mode == Mode::Auto && !adopting =>
            {
                let why = format!("{interface} refused XDP, native and generic: {why}");
                tracing::warn!("media goes over plain sockets: {why}");
                Ok(Self::sockets(settings, &why))
            }
            Err(fault) => Err(fault),
        }
    }

    /// The path in use on each media interface.
    pub fn paths(&self) -> Vec<InterfacePath> {
        self.paths.lock().clone()
    }

    /// Flows pinned now, with their figures; none over plain sockets, where nothing outlives a daemon.
    pub fn flows(&self) -> Result<Vec<FlowView>, DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) => inspect::flows(kernel.pins.path()),
            Backend::Sockets { .. } => Ok(Vec::new()),
        }
    }

    /// Removes every pinned flow that is not in `keep`, and returns what it removed. To be called between boot
    /// and the first [`Node::worker`]: slots of flows that nobody will adopt are free again after it.
    pub fn sweep(&mut self, keep: &HashSet<FlowId>) -> Result<Vec<FlowView>, DataplaneFault> {
        let Backend::Kernel(kernel) = &mut self.backend else { return Ok(Vec::new()) };
        let (kept, swept): (Vec<_>, Vec<_>) =
            inspect::flows(kernel.pins.path())?.into_iter().partition(|flow| keep.contains(&flow.id));
        for flow in &swept {
            kernel.table.remove(&super::compile::key(flow.at));
        }
        // Those of flows that were just removed, and of any that a daemon left when it was killed in between.
        kernel.taken_crypto = crypto_slots(&kernel.table);
        let unused = (0..kernel.keys.slots()).filter(|slot| !kernel.taken_crypto.contains(slot));
        unused.for_each(|slot| kernel.keys.wipe(slot));
        kernel.taken = kept.iter().map(|flow| flow.id.slot).collect();
        Ok(swept)
    }

    /// How slots are split among `cores` workers.
    pub fn split(&self, cores: u16) -> Split {
        Split { flows: self.split_flows, cores }
    }

    /// The handle of worker `core` of `cores`, with slots of its own. One per core.
    pub fn worker(&self, core: CoreId, cores: u16) -> Result<Dataplane, DataplaneFault> {
        let range = |flows| Split { flows, cores }.range(core);
        match &self.backend {
            Backend::Kernel(kernel) => {
                let slots = Slots::new(range(self.split_flows), kernel.taken.iter().copied());
                let crypto_slots =
                    Slots::new(range(kernel.keys.slots()), kernel.taken_crypto.iter().copied());
                let backend = kernel.worker(core, self.split(cores))?;
                Ok(Dataplane::kernel([slots, crypto_slots], backend, self.split_flows))
            }
            Backend::Sockets { counters } => {
                let slots = [(); 2].map(|()| Slots::new(range(self.split_flows), []));
                Ok(Dataplane::sockets(slots, counters.clone(), self.split_flows))
            }
        }
    }

    /// The one listener to the kernel's records and to changes of routes and neighbours.
    pub fn watch(&self) -> Result<Watch, DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) => {
                let attachments = Attachments {
                    directory: kernel.pins.path().to_owned(),
                    mode: kernel.mode,
                    media: kernel.media.clone(),
                    paths: Arc::clone(&self.paths),
                };
                Watch::kernel(&kernel.pins, kernel.program, attachments)
            }
            Backend::Sockets { .. } => Ok(Watch::silent()),
        }
    }

    /// The one writer of who may send to our SIP sockets.
    pub fn guard(&self) -> Result<Guard, DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) => Guard::kernel(kernel.pins.path()),
            Backend::Sockets { .. } => Ok(Guard::none()),
        }
    }

    /// Packets not relayed, by reason, since the maps were made; reasons that never occurred are left out.
    pub fn drops(&self) -> Result<BTreeMap<Reason, u64>, DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) => {
                let mut drops = inspect::drops(kernel.pins.path())?;
                for (reason, count) in kernel.counters.drops() {
                    *drops.entry(reason).or_default() += count;
                }
                Ok(drops)
            }
            Backend::Sockets { counters } => Ok(counters.drops()),
        }
    }

    /// Counters that are no drops, since the maps were made.
    pub fn traffic(&self) -> Result<BTreeMap<Traffic, u64>, DataplaneFault> {
        match &self.backend {
            Backend::Kernel(kernel) => {
                let mut traffic = inspect::traffic(kernel.pins.path())?;
                for (kind, count) in kernel.counters.traffic() {
                    *traffic.entry(kind).or_default() += count;
                }
                Ok(traffic)
            }
            Backend::Sockets { counters } => Ok(counters.traffic()),
        }
    }

    /// A clean stop: takes the program off the interfaces and removes every pin. Calls still in progress lose
    /// their media.
    pub fn detach(self) -> Result<(), DataplaneFault> {
        match self.backend {
            Backend::Kernel(kernel) => {
                kernel.pins.remove().map_err(DataplaneFault::system("remove the pinned data plane"))
            }
            Backend::Sockets { .. } => Ok(()),
        }
    }

    fn sockets(settings: &Settings, why: &str) -> Self {
        let path = |interface: &String| InterfacePath {
            interface: interface.clone(),
            path: PathKind::Sockets,
            why: why.to_owned(),
        };
        Self {
            paths: Arc::new(Mutex::new(settings.interfaces.iter().map(path).collect())),
            split_flows: settings.flows,
            backend: Backend::Sockets { counters: Arc::default() },
        }
    }
}

impl KernelNode {
    fn worker(&self, core: CoreId, split: Split) -> Result<KernelBackend, DataplaneFault> {
        let failed = |error| DataplaneFault::map("open the map of sockets", &error);
        let sockets: XskMap<MapData> =
            Map::XskMap(inspect::map(self.pins.path(), name::XSKS)?).try_into().map_err(failed)?;
        let cores = u32::from(split.cores.max(1));
        let handover = self.handover.get_or_init(|| Arc::new(Handover::new(split)));
        let parts = Parts {
            worker: core,
            queues: self.queues.iter().copied().filter(|at| at.queue % cores == u32::from(core.0)).collect(),
            frames: self.socket_frames,
            sockets,
            handover: Arc::clone(handover),
            counters: Arc::clone(&self.counters),
        };
        let (table, states) = (Arc::clone(&self.table), Arc::clone(&self.states));
        let userspace =
            Userspace::new(parts, Arc::clone(&table), Arc::clone(&states), Arc::clone(&self.keys));
        Ok(KernelBackend::new(table, states, Arc::clone(&self.keys), userspace, self.srtp))
    }
}

/// Crypto slots of all flows in the table.
fn crypto_slots(table: &KernelFlows) -> HashSet<u32> {
    table.flows().map(|flow| flow.config.crypto_slot).filter(|slot| *slot != NO_SLOT).collect()
}

fn boot_kernel(
    settings: &Settings,
    object: &[u8],
    pins: PinDirectory,
    devices: &Devices,
    adopting: bool,
) -> Result<Node, DataplaneFault> {
    // First what needs the most rights: without them the error names those, not a setting.
    let Loaded { mut ebpf, without_srtp } = load::load(settings, object, &pins)?;
    if let Some(fault) = &without_srtp {
        tracing::warn!("SRTP is computed in userspace, at several times the cost: {fault}");
    }
    switch_forwarding_on()?;
    let capacity = capacity(&ebpf, settings.flows)?;
    let queues = describe_host(&pins, devices)?;
    let xdp = load::program(&mut ebpf)?;
    let attached: Result<Vec<_>, _> =
        devices.media.iter().map(|device| attach(settings.mode, xdp, &pins, device)).collect();
    if attached.is_err() && !adopting {
        pins.clear().map_err(DataplaneFault::system("remove pins"))?;
    }
    let (paths, links): (Vec<_>, Vec<_>) = attached?.into_iter().unzip();
    unlink_others(&pins, &devices.media_indices())?;
    let program = links.first().and_then(|link| link.info().ok()).map(|info| info.program_id());
    let table = Arc::new(KernelFlows::open(pins.path(), Access::Write)?);
    let states = Arc::new(inspect::states(pins.path(), Access::Write)?);
    let keys = Arc::new(KernelKeys::open(pins.path())?);
    let taken = table.flows().map(|flow| flow.config.slot).collect();
    let taken_crypto = crypto_slots(&table);
    Ok(Node {
        paths: Arc::new(Mutex::new(paths)),
        split_flows: capacity,
        backend: Backend::Kernel(Box::new(KernelNode {
            pins,
            _ebpf: ebpf,
            table,
            states,
            keys,
            program,
            mode: settings.mode,
            media: devices.media_indices(),
            taken,
            taken_crypto,
            srtp: without_srtp.is_none(),
            queues,
            socket_frames: settings.socket_frames.clamp(64, 1 << 16).next_power_of_two(),
            handover: OnceLock::new(),
            counters: Arc::default(),
        })),
    })
}

/// Tells the program of the host as it is now: the ways out, and the receive queues of the media interfaces.
fn describe_host(pins: &PinDirectory, devices: &Devices) -> Result<Vec<Queue>, DataplaneFault> {
    write_links(pins.path(), &devices.all, &devices.media_indices())?;
    let queues = write_queues(pins.path(), &devices.media)?;
    bump_generation(&mut generation(pins)?)?;
    // Written last of the maps: a directory with the fingerprint is a whole one.
    stamp(pins)?;
    Ok(queues)
}

/// Devices of the namespace, and of those the media interfaces in the order of the settings.
struct Devices {
    all: Vec<Device>,
    media: Vec<Device>,
}

impl Devices {
    fn media_indices(&self) -> Vec<u32> {
        self.media.iter().map(|device| device.index).collect()
    }
}

fn media_devices(settings: &Settings) -> Result<Devices, DataplaneFault> {
    if settings.interfaces.is_empty() {
        return Err(DataplaneFault::NoInterfaces);
    }
    let listing = DataplaneFault::system("list network interfaces");
    let all = Requests::open().and_then(|mut requests| requests.devices()).map_err(listing)?;
    let find = |interface: &String| match all.iter().find(|device| device.name == *interface) {
        Some(device) if device.up => Ok(device.clone()),
        Some(_) => Err(DataplaneFault::InterfaceDown { interface: interface.clone() }),
        None => Err(DataplaneFault::InterfaceMissing { interface: interface.clone() }),
    };
    let media = settings.interfaces.iter().map(find).collect::<Result<_, _>>()?;
    Ok(Devices { all, media })
}

/// Whether the pins are a whole data plane of our layout. What a boot left half done is removed.
fn adoptable(pins: &PinDirectory) -> Result<bool, DataplaneFault> {
    let removing = DataplaneFault::system("remove what an interrupted start left pinned");
    let found = match inspect::fingerprint(pins.path()) {
        Ok(found) => found,
        Err(DataplaneFault::NothingPinned { .. }) => 0,
        Err(fault) => return Err(fault),
    };
    match found {
        0 => pins.clear().map_err(removing).map(|()| false),
        FINGERPRINT if PINNED_MAPS.iter().all(|map| pins.map(map).exists()) => Ok(true),
        FINGERPRINT => pins.clear().map_err(removing).map(|()| false),
        found => Err(DataplaneFault::AbiMismatch { path: pins.path().to_owned(), found, ours: FINGERPRINT }),
    }
}

/// The program looks routes up as the host itself, from `lo`, and the kernel answers only where packets from that
/// device may be forwarded. No packet of another device is forwarded for it.
fn switch_forwarding_on() -> Result<(), DataplaneFault> {
    let settings = [
        ("net.ipv4.conf.lo.forwarding", "/proc/sys/net/ipv4/conf/lo/forwarding"),
        ("net.ipv6.conf.lo.forwarding", "/proc/sys/net/ipv6/conf/lo/forwarding"),
    ];
    for (setting, path) in settings {
        match std::fs::read_to_string(path) {
            // Built without this family.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(on) if on.trim() == "1" => {}
            _ => std::fs::write(path, "1")
                .map_err(|error| DataplaneFault::ForwardingOff { setting, why: error.to_string() })?,
        }
    }
    Ok(())
}

/// Flows that the table holds: those `configured`, unless it was adopted.
fn capacity(ebpf: &Ebpf, configured: u32) -> Result<u32, DataplaneFault> {
    let invalid = || DataplaneFault::ObjectInvalid { why: format!("it has no array {}", name::FLOWS) };
    let Some(Map::Array(flows)) = ebpf.map(name::FLOWS) else { return Err(invalid()) };
    let info =
        flows.info().map_err(|error| DataplaneFault::map("read the size of the flow table", &error))?;
    let capacity = info.max_entries();
    if capacity != configured {
        tracing::warn!(
            capacity,
            configured,
            "the adopted flow table keeps its size until the daemon is stopped cleanly"
        );
    }
    Ok(capacity)
}

fn stamp(pins: &PinDirectory) -> Result<(), DataplaneFault> {
    let failed = |error| DataplaneFault::map("write the ABI fingerprint", &error);
    let mut abi: Array<MapData, u64> =
        Map::Array(inspect::map(pins.path(), name::ABI)?).try_into().map_err(failed)?;
    abi.set(0, FINGERPRINT, 0).map_err(failed)
}

pub(super) fn generation(pins: &PinDirectory) -> Result<Array<MapData, u32>, DataplaneFault> {
    let failed = |error| DataplaneFault::map("open the generation", &error);
    Map::Array(inspect::map(pins.path(), name::GENERATION)?).try_into().map_err(failed)
}

/// Makes every cached next hop stale. 0 is never a generation.
pub(super) fn bump_generation(generation: &mut Array<MapData, u32>) -> Result<(), DataplaneFault> {
    let failed = |error| DataplaneFault::map("raise the generation", &error);
    let now = generation.get(&0, 0).map_err(failed)?;
    generation.set(0, now.wrapping_add(1).max(1), 0).map_err(failed)
}

/// Fills the table of ways out, and takes out what is no longer one.
pub(super) fn write_links(directory: &Path, devices: &[Device], media: &[u32]) -> Result<(), DataplaneFault> {
    let failed = |error| DataplaneFault::map("write the table of ways out", &error);
    let mut map: BpfHashMap<MapData, u32, Plain<gateway_common::abi::Link>> =
        Map::HashMap(inspect::map(directory, name::LINKS)?).try_into().map_err(failed)?;
    let (wanted, refused) = ways_out(devices, media);
    for (vlan, why) in refused {
        tracing::warn!(interface = vlan, "no media leaves by this VLAN: {why}");
    }
    let there = map.keys().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    for ifindex in there.into_iter().filter(|ifindex| !wanted.contains_key(ifindex)) {
        map.remove(&ifindex).map_err(failed)?;
    }
    for (ifindex, link) in wanted {
        map.insert(ifindex, Plain(link), 0).map_err(failed)?;
    }
    Ok(())
}

/// Says where the sockets of each media interface's receive queues stand in the program's map.
fn write_queues(directory: &Path, media: &[Device]) -> Result<Vec<Queue>, DataplaneFault> {
    let failed = |error| DataplaneFault::map("write the table of receive queues", &error);
    let mut map: BpfHashMap<MapData, u32, Plain<Queues>> =
        Map::HashMap(inspect::map(directory, name::QUEUES)?).try_into().map_err(failed)?;
    let there = map.keys().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    for ifindex in there.into_iter().filter(|index| media.iter().all(|device| device.index != *index)) {
        map.remove(&ifindex).map_err(failed)?;
    }
    let (mut queues, mut first) = (Vec::new(), 0);
    for device in media.iter().take(INTERFACES_MAX as usize) {
        let count = device.receive_queues.min(SOCKETS_MAX - first);
        map.insert(device.index, Plain(Queues { first, count }), 0).map_err(failed)?;
        queues.extend((0..count).map(|queue| Queue { ifindex: device.index, queue, place: first + queue }));
        first += count;
    }
    Ok(queues)
}
