//! Reads a pinned data plane, with or without a daemon on it: for the command line while the daemon is dead,
//! and for the daemon's own metrics. Reads only; takes no lock.

use super::compile::arrival;
use super::fault::{DataplaneFault, os_error};
use super::kernel::monotonic;
use super::mmap::{Access, SharedArray};
use super::pins;
use super::report::{self, FlowReport};
use super::table::KernelFlows;
use crate::base::id::FlowId;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use gateway_common::abi::name;
use gateway_common::flow::{FlowEntry, FlowKey, FlowKind, FlowSlot, NO_SLOT, Output};
use gateway_common::learned::FlowState;
use gateway_common::verdict::{REASONS_MAX, Reason, TRAFFIC_MAX, Traffic};
use std::collections::BTreeMap;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

/// One pinned flow.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FlowView {
    pub id: FlowId,
    /// Where its packets arrive.
    pub at: SocketAddr,
    /// `rtp`, `rtcp` or `mux`.
    pub kind: &'static str,
    /// Where its RTP goes (of a flow of RTCP: its RTCP), as signalled.
    pub to: Option<SocketAddr>,
    /// Slot of the flow whose latched source replaces `to`.
    pub learned_slot: Option<u32>,
    pub muted: bool,
    pub report: FlowReport,
}

/// Every flow pinned in `directory`, ordered by where it arrives.
pub fn flows(directory: &Path) -> Result<Vec<FlowView>, DataplaneFault> {
    let table = KernelFlows::open(directory, Access::Read)?;
    let states = states(directory, Access::Read)?;
    let now = monotonic();
    let mut views: Vec<_> = table
        .flows()
        .filter_map(|flow| Some(view(&flow, &states.read(flow.config.slot as usize)?, now)))
        .collect();
    views.sort_by_key(|view| view.at);
    Ok(views)
}

/// Packets not relayed, by reason, summed over processors; reasons that never occurred are left out.
pub fn drops(directory: &Path) -> Result<BTreeMap<Reason, u64>, DataplaneFault> {
    let sums = sums(directory, name::DROPS, REASONS_MAX)?;
    let count = |reason: Reason| (reason, sums.get(reason as usize).copied().unwrap_or(0));
    Ok(Reason::ALL.iter().map(|reason| count(*reason)).filter(|(_, count)| *count > 0).collect())
}

/// Counters that are no drops, summed over processors.
pub fn traffic(directory: &Path) -> Result<BTreeMap<Traffic, u64>, DataplaneFault> {
    let sums = sums(directory, name::TRAFFIC, TRAFFIC_MAX)?;
    Ok(Traffic::ALL.iter().map(|kind| (*kind, sums.get(*kind as usize).copied().unwrap_or(0))).collect())
}

/// Layout fingerprint of whoever made the maps; 0 when it never finished.
pub fn fingerprint(directory: &Path) -> Result<u64, DataplaneFault> {
    let failed = |error: MapError| DataplaneFault::map("read the ABI fingerprint", &error);
    let abi: Array<MapData, u64> = Map::Array(map(directory, name::ABI)?).try_into().map_err(failed)?;
    abi.get(&0, 0).map_err(failed)
}

/// What the kernel knows of each flow, by slot.
pub(super) fn states(directory: &Path, access: Access) -> Result<SharedArray<FlowState>, DataplaneFault> {
    let flows = map(directory, name::FLOWS)?;
    let slots = entries(&flows)? as usize;
    SharedArray::map_field::<FlowSlot>(flows.fd().as_fd(), slots, offset_of!(FlowSlot, state), access)
        .map_err(DataplaneFault::system("map the flow states into memory"))
}

/// Elements of an array.
pub(super) fn entries(map: &MapData) -> Result<u32, DataplaneFault> {
    let info = map.info().map_err(|error| DataplaneFault::map("read the size of a map", &error))?;
    Ok(info.max_entries())
}

/// A pinned map by name.
pub(super) fn map(directory: &Path, name: &str) -> Result<MapData, DataplaneFault> {
    MapData::from_pin(pins::maps(directory).join(name)).map_err(|error| match os_error(&error) {
        Some(libc::ENOENT) => DataplaneFault::NothingPinned { path: directory.to_owned() },
        Some(libc::EPERM | libc::EACCES) => {
            DataplaneFault::NoPermission { doing: format!("open the maps pinned in {}", directory.display()) }
        }
        _ => DataplaneFault::map(&format!("open pinned map {name}"), &error),
    })
}

fn view(entry: &FlowEntry, state: &FlowState, now: u64) -> FlowView {
    let config = &entry.config;
    let output: &Output = if config.kind == FlowKind::Rtcp { &config.rtcp } else { &config.rtp };
    let to = arrival(FlowKey::new(output.remote, output.remote_port));
    FlowView {
        id: FlowId { slot: config.slot, epoch: config.epoch },
        at: arrival(entry.key()),
        kind: config.kind.label(),
        to: (to.port() != 0).then_some(to),
        learned_slot: (output.learned_slot != NO_SLOT).then_some(output.learned_slot),
        muted: config.flags & gateway_common::flow::flag::MUTED != 0,
        report: FlowReport::of(state, config.epoch, config.clock_rate, now, report::path(config)),
    }
}

fn sums(directory: &Path, name: &str, length: u32) -> Result<Vec<u64>, DataplaneFault> {
    let failed = |error: MapError| DataplaneFault::map(&format!("read counters {name}"), &error);
    let counters: PerCpuArray<MapData, u64> =
        Map::PerCpuArray(map(directory, name)?).try_into().map_err(failed)?;
    (0..length).map(|index| Ok(counters.get(&index, 0).map_err(failed)?.iter().sum())).collect()
}
