//! A call's flows in the data plane, and what they have counted.

use crate::base::fault::Fault;
use crate::base::id::{FlowId, Side};
use crate::dataplane::{FlowReport, RelayPath};
use crate::media::MediaPlan;
use crate::media::plan::FlowSpec;
use crate::observe::event::MediaQuality;
use gateway_common::flow::FlowKind;
use std::time::Duration;

/// The data plane as a core sees it. The seam between the core, which is a value, and the kernel, which is not.
pub trait FlowTable {
    /// All of them or none.
    fn install(&mut self, flows: &[FlowSpec]) -> Result<Vec<FlowId>, Fault>;
    /// Changes flows in place; what they counted goes on.
    fn update(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<(), Fault>;
    /// Takes over flows that another daemon installed for the same plan.
    fn adopt(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<(), Fault>;
    /// The last report of each, in order.
    fn remove(&mut self, ids: &[FlowId]) -> Vec<FlowReport>;
    fn report(&self, id: FlowId) -> Option<FlowReport>;
}

/// The flows of one call.
#[derive(Debug, Default)]
pub struct Relay {
    flows: Vec<FlowId>,
    /// Side and kind of each flow, by position.
    shape: Vec<(Side, FlowKind)>,
    /// By side: what flows counted that are gone.
    past: [MediaQuality; 2],
}

impl Relay {
    /// Flows taken over from another daemon; `plan` is what they carry.
    pub fn adopted(flows: Vec<FlowId>, plan: &MediaPlan) -> Self {
        Self { flows, shape: shape(plan), past: Default::default() }
    }

    pub fn flows(&self) -> &[FlowId] {
        &self.flows
    }

    /// Makes the data plane carry exactly `plan`. After an error nothing is carried.
    pub fn carry(&mut self, table: &mut dyn FlowTable, plan: MediaPlan) -> Result<(), Fault> {
        if self.flows.len() == plan.flows.len() && !self.flows.is_empty() {
            table.update(&self.flows, &plan.flows)?;
        } else {
            // Old flows go first: the new ones may arrive at the same addresses and ports.
            self.end(table);
            self.flows = table.install(&plan.flows)?;
        }
        self.shape = shape(&plan);
        Ok(())
    }

    /// Takes the flows down and keeps what they counted.
    pub fn end(&mut self, table: &mut dyn FlowTable) {
        let flows = std::mem::take(&mut self.flows);
        for (report, (side, kind)) in table.remove(&flows).iter().zip(std::mem::take(&mut self.shape)) {
            if kind != FlowKind::Rtcp {
                add(&mut self.past[index(side)], report);
            }
        }
    }

    /// Media that `side` sent, flows that are gone included.
    pub fn quality(&self, side: Side) -> MediaQuality {
        self.past[index(side)]
    }

    pub fn side_of(&self, flow: FlowId) -> Option<Side> {
        let position = self.flows.iter().position(|own| *own == flow)?;
        self.shape.get(position).map(|(side, _)| *side)
    }

    /// How long ago `side` was last heard, RTCP included; `None` if never.
    pub fn idle(&self, table: &dyn FlowTable, side: Side) -> Option<Duration> {
        self.flows
            .iter()
            .zip(&self.shape)
            .filter(|(_, (own, _))| *own == side)
            .filter_map(|(flow, _)| table.report(*flow)?.idle)
            .min()
    }
}

fn shape(plan: &MediaPlan) -> Vec<(Side, FlowKind)> {
    plan.flows.iter().map(|flow| (flow.from, flow.kind)).collect()
}

fn index(side: Side) -> usize {
    match side {
        Side::Caller => 0,
        Side::Callee => 1,
    }
}

fn add(quality: &mut MediaQuality, report: &FlowReport) {
    quality.packets += report.packets;
    quality.octets += report.octets;
    quality.lost += report.lost;
    quality.late += u64::from(report.late);
    quality.jitter_ms = report.jitter_ms;
    if report.path == RelayPath::Kernel {
        quality.fast_path_packets += report.packets;
    }
}
