//! Answers that need no running daemon: read from the maps that the kernel keeps.

use crate::admin::answer::{DeniedLine, DeniedList, DropLine, Drops, FlowLine, FlowList};
use crate::dataplane::inspect::{self, FlowView};
use crate::dataplane::{DataplaneFault, DeniedView, guard};
use crate::observe::DenialCause;
use ipnet::IpNet;
use std::path::Path;

/// At most `limit` flows pinned in `directory`.
///
/// # Errors
/// [`DataplaneFault::NothingPinned`] when no daemon ever pinned there; otherwise what the kernel says.
pub fn flows(directory: &Path, limit: usize) -> Result<FlowList, DataplaneFault> {
    let views = inspect::flows(directory)?;
    let flows = views.iter().take(limit).map(flow_line).collect();
    Ok(FlowList { flows, more: views.len() > limit })
}

/// Packets that the kernel did not relay. Requests and sources are the daemon's and absent.
///
/// # Errors
/// As [`flows`].
pub fn drops(directory: &Path) -> Result<Drops, DataplaneFault> {
    let line = |(reason, count): (gateway_common::verdict::Reason, u64)| DropLine {
        reason: reason.label().to_owned(),
        count,
        explanation: reason.explanation().trim().to_owned(),
    };
    let packets = inspect::drops(directory)?.into_iter().map(line).collect();
    Ok(Drops { packets, ..Drops::default() })
}

/// Who gets silence in the kernel.
///
/// # Errors
/// As [`flows`].
pub fn denied(directory: &Path) -> Result<DeniedList, DataplaneFault> {
    guard::denied(directory).map(|denied| denied_list(&denied))
}

pub(super) fn denied_list(denied: &[DeniedView]) -> DeniedList {
    let line = |view: &DeniedView| DeniedLine {
        source: name(&view.network),
        cause: DenialCause::of_number(view.cause).label().to_owned(),
        left_ms: u64::try_from(view.left.as_millis()).unwrap_or(u64::MAX),
    };
    DeniedList { denied: denied.iter().map(line).collect() }
}

/// A network of one address is written without its length.
pub(super) fn name(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        return network.addr().to_string();
    }
    network.trunc().to_string()
}

fn flow_line(view: &FlowView) -> FlowLine {
    let report = &view.report;
    FlowLine {
        // Whose call it is stands in the daemon's memory only.
        call: None,
        slot: view.id.slot,
        kind: view.kind.to_owned(),
        at: view.at,
        source: report.source,
        to: view.to,
        relayed_by: report.path.to_string(),
        muted: view.muted,
        packets: report.packets,
        octets: report.octets,
        refused: report.refused,
        lost: report.lost,
        late: report.late.into(),
        jitter_ms: report.jitter_ms,
        idle_ms: report.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
    }
}
