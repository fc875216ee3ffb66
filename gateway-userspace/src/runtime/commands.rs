//! What the admin thread asks of one core.

use super::captures;
use super::core::Core;
use super::relay::FlowTable;
use super::turn::Turn;
use crate::admin::answer::{FlowLine, PeerLine, TrunkLine};
use crate::admin::command::{CoreAnswer, CoreCommand, DrainTarget};
use crate::base::fault::Fault;
use crate::base::id::{CallId, FlowId, Side, TrunkId};
use crate::base::time::Time;
use crate::media::plan::FlowSpec;
use crate::observe::calls::CallDetail;
use crate::observe::{self, TrunkEvent};
use crate::policy::{Drainable as _, PeerView, Snapshot, Target, TargetState, Trunk};
use gateway_common::flow::FlowKind;
use std::time::Duration;

pub(super) fn execute(core: &mut Core, turn: &mut Turn<'_>, command: CoreCommand) -> CoreAnswer {
    match command {
        CoreCommand::Alive => CoreAnswer::Done,
        CoreCommand::Calls { filter, limit } => {
            CoreAnswer::Calls(core.observer().calls(turn.now, limit, |call| filter.accepts(call)))
        }
        CoreCommand::Call(id) => CoreAnswer::Call(call(core, turn, id).map(Box::new)),
        CoreCommand::Capture { call, wanted, span } => CoreAnswer::Capture(
            captures::begin(core, turn, call, wanted, span).map_err(|why| why == captures::NotCaptured::Busy),
        ),
        CoreCommand::Captured(call) => CoreAnswer::Captured(captures::end(core, turn, call).map(Box::new)),
        CoreCommand::HangUp(id) => CoreAnswer::HangUp(core.hang_up(turn, id, Fault::HungUp)),
        #[cfg(debug_assertions)]
        CoreCommand::Panic(id) => {
            // Every core is asked; the fuse of another would wait for its next call.
            if core.calls.contains_key(&id) {
                core.light_fuse();
            }
            CoreAnswer::HangUp(core.hang_up(turn, id, Fault::HungUp))
        }
        CoreCommand::Flows { limit } => CoreAnswer::Flows(flows(core, turn.flows, limit)),
        CoreCommand::Silenced => CoreAnswer::Silenced(core.observer().silenced()),
        CoreCommand::Trunks => CoreAnswer::Trunks(trunks(core.policy(), turn.now)),
        CoreCommand::Drain { what, drained } => drain(core, turn.now, what, drained),
    }
}

fn call(core: &Core, turn: &Turn<'_>, id: CallId) -> Option<CallDetail> {
    let detail = core.observer().call(id, turn.now)?;
    let media = core.calls.get(&id).filter(|entry| !entry.recorded).map(|entry| {
        let codecs = [Side::Caller, Side::Callee].map(|side| entry.call.codec(side));
        entry.relay.media(turn.flows, entry.call.started(), codecs)
    });
    Some(CallDetail { media: media.or(detail.media), ..detail })
}

fn drain(core: &mut Core, now: Time, what: DrainTarget, drained: bool) -> CoreAnswer {
    let (trunk, peer) = match what {
        DrainTarget::Node if drained => {
            core.drain(now);
            return CoreAnswer::Done;
        }
        DrainTarget::Node => {
            core.undrain(now);
            return CoreAnswer::Done;
        }
        DrainTarget::Trunk(trunk) => (trunk, None),
        DrainTarget::Peer { trunk, peer } => (trunk, Some(peer)),
    };
    match core.policy().drain(&trunk, peer.as_deref(), drained) {
        None => return CoreAnswer::NoSuchTrunk,
        Some(false) => {}
        Some(true) => {
            let (trunk, peer) = (trunk.into(), peer.map(Into::into));
            core.publish(now, &observe::Event::Trunk(TrunkEvent::Drained { trunk, peer, drained }));
        }
    }
    CoreAnswer::Done
}

fn trunks(policy: &Snapshot, now: Time) -> Vec<TrunkLine> {
    let line = |(id, trunk): (TrunkId, &Trunk)| TrunkLine {
        trunk: trunk.name.clone(),
        listen: format!("{}:{}", trunk.transport, trunk.listen),
        drained: policy.standing(id).is_some_and(|standing| standing.is_drained()),
        calls: policy.standing(id).map_or(0, |standing| standing.meter.calls()),
        calls_max: trunk.limits.calls,
        peers: policy.peers(id).flat_map(|view| peers(view, now)).collect(),
    };
    policy.trunks().map(line).collect()
}

/// A line for each address of a peer; one without address where its name means nothing.
fn peers(view: PeerView<'_>, now: Time) -> Vec<PeerLine> {
    let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let line = |target: Option<&Target>| {
        let standing = target.map(|target| &target.standing);
        let probe = standing.and_then(|standing| standing.last_probe());
        PeerLine {
            peer: view.peer.name.clone(),
            address: target.map(|target| target.address),
            remote: view.peer.is_remote,
            priority: view.peer.priority,
            weight: view.peer.weight,
            state: standing.map_or(TargetState::Unknown, |standing| standing.state()),
            drained: view.standing.is_drained(),
            rests_ms: standing.and_then(|standing| standing.rest(now)).map(milliseconds),
            overload: standing.and_then(|standing| standing.throttle.allowance(now)).map(|it| it.to_string()),
            registration: standing.and_then(|standing| standing.registration()),
            asked_ms: probe.map(|(at, _)| milliseconds(now.since(at))),
            answered: probe.and_then(|(_, status)| status),
        }
    };
    if view.targets.is_empty() {
        return vec![line(None)];
    }
    view.targets.iter().map(|target| line(Some(target))).collect()
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
    let output = if spec.kind == FlowKind::Rtcp { spec.rtcp } else { spec.rtp };
    Some(FlowLine {
        call: Some(call),
        slot: flow.slot,
        kind: spec.kind.label().to_owned(),
        at: spec.at,
        source: report.source,
        to: output.map(|output| output.to),
        relayed_by: report.path.to_string(),
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
