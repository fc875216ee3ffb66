//! What the admin thread asks of one core.

use super::core::{Core, Turn};
use super::relay::FlowTable;
use crate::admin::answer::FlowLine;
use crate::admin::command::{CoreAnswer, CoreCommand};
use crate::base::fault::Fault;
use crate::base::id::FlowId;
use crate::dataplane::RelayPath;
use crate::media::plan::FlowSpec;
use gateway_common::flow::FlowKind;

pub(super) fn execute(core: &mut Core, turn: &mut Turn<'_>, command: CoreCommand) -> CoreAnswer {
    match command {
        CoreCommand::Alive => CoreAnswer::Done,
        CoreCommand::Calls { filter, limit } => {
            CoreAnswer::Calls(core.observer().calls(turn.now, limit, |call| filter.accepts(call)))
        }
        CoreCommand::Call(id) => CoreAnswer::Call(core.observer().call(id, turn.now).map(Box::new)),
        CoreCommand::HangUp(id) => CoreAnswer::HangUp(core.hang_up(turn, id, Fault::HungUp)),
        CoreCommand::Flows { limit } => CoreAnswer::Flows(flows(core, turn.flows, limit)),
        CoreCommand::Silenced => CoreAnswer::Silenced(core.observer().silenced()),
        CoreCommand::Drain => {
            core.drain(turn.now);
            CoreAnswer::Done
        }
    }
}

fn flows(core: &Core, table: &dyn FlowTable, limit: usize) -> Vec<FlowLine> {
    let mut lines = Vec::new();
    for (id, entry) in &core.calls {
        let plan = entry.call.plan();
        for (flow, spec) in entry.relay.flows().iter().zip(&plan.flows) {
            if lines.len() == limit {
                return lines;
            }
            lines.extend(line(table, id.to_string(), *flow, spec));
        }
    }
    lines
}

fn line(table: &dyn FlowTable, call: String, flow: FlowId, spec: &FlowSpec) -> Option<FlowLine> {
    let report = table.report(flow)?;
    let (kind, output) = match spec.kind {
        FlowKind::Rtp => ("rtp", spec.rtp),
        FlowKind::Rtcp => ("rtcp", spec.rtcp),
        FlowKind::Mux => ("mux", spec.rtp),
    };
    Some(FlowLine {
        call: Some(call),
        slot: flow.slot,
        kind: kind.to_owned(),
        at: spec.at,
        source: report.source,
        to: output.map(|output| output.to),
        relayed_by: match report.path {
            RelayPath::Kernel => "kernel".to_owned(),
            RelayPath::Sockets => "sockets".to_owned(),
        },
        muted: spec.muted,
        packets: report.packets,
        octets: report.octets,
        refused: report.refused,
        lost: report.lost,
        late: u64::from(report.late),
        jitter_ms: report.jitter_ms,
        idle_ms: report.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
    })
}
