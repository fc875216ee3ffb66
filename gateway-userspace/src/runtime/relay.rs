//! A call's flows in the data plane, and what they have counted.

use crate::base::fault::Fault;
use crate::base::id::{FlowId, Side};
use crate::base::time::Time;
use crate::dataplane::{FlowReport, RelayPath, Update};
use crate::media::MediaPlan;
use crate::media::plan::FlowSpec;
use crate::observe::event::MediaQuality;
use crate::rtp::Codec;
use crate::rtp::quality::{self, Conditions};
use crate::rtp::rtcp::{self, RoundTrip};
use gateway_common::flow::FlowKind;
use std::time::Duration;

/// The data plane as a core sees it. The seam between the core, which is a value, and the kernel, which is not.
pub trait FlowTable {
    /// All of them or none.
    fn install(&mut self, flows: &[FlowSpec]) -> Result<Vec<FlowId>, Fault>;
    /// Changes flows in place: those that go on keep what they counted ([`crate::dataplane::Dataplane::update`]).
    fn update(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<Update, Fault>;
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
    /// By side: the way to that side's far end and back, once RTCP told.
    ways: Option<Box<[Way; 2]>>,
}

/// The network between us and one far end.
#[derive(Debug, Default)]
struct Way {
    reports: RoundTrip,
    round_trip: Option<Duration>,
}

/// What one packet carries where nobody knows better: the usual 20 ms of speech (RFC 3551 section 4.2).
const PACKET: Duration = Duration::from_millis(20);

impl Relay {
    /// Flows taken over from another daemon; `plan` is what they carry.
    pub fn adopted(flows: Vec<FlowId>, plan: &MediaPlan) -> Self {
        Self { flows, shape: shape(plan), ..Self::default() }
    }

    pub fn flows(&self) -> &[FlowId] {
        &self.flows
    }

    /// Makes the data plane carry exactly `plan`. After an error it carries what it did before.
    pub fn carry(&mut self, table: &mut dyn FlowTable, plan: MediaPlan) -> Result<(), Fault> {
        if self.flows.is_empty() {
            self.flows = table.install(&plan.flows)?;
        } else {
            let Update { ids, ended } = table.update(&self.flows, &plan.flows)?;
            for (place, report) in &ended {
                self.count(*place, report);
            }
            self.flows = ids;
        }
        self.shape = shape(&plan);
        Ok(())
    }

    /// Takes the flows down and keeps what they counted.
    pub fn end(&mut self, table: &mut dyn FlowTable) {
        let flows = std::mem::take(&mut self.flows);
        for (place, report) in table.remove(&flows).iter().enumerate() {
            self.count(place, report);
        }
        self.shape.clear();
    }

    /// Keeps the figures of a flow that is gone.
    fn count(&mut self, place: usize, report: &FlowReport) {
        if let Some(&(side, kind)) = self.shape.get(place)
            && kind != FlowKind::Rtcp
        {
            add(&mut self.past[side.index()], report);
        }
    }

    /// Media that `side` sent, flows that are gone included, with the E-model's estimate of how it was heard.
    pub fn quality(&self, side: Side, codec: Option<&Codec>) -> MediaQuality {
        let mut heard = self.past[side.index()];
        if let Some(codec) = codec.filter(|_| heard.packets > 0) {
            let jitter = Duration::from_secs_f64(heard.jitter_ms.max(0.0) / 1_000.0);
            let conditions = Conditions {
                delay: quality::mouth_to_ear(self.round_trip(), PACKET, jitter),
                loss: heard.lost as f64 / (heard.packets + heard.lost) as f64,
                burst_ratio: 1.0,
            };
            heard.mos = Some(quality::estimate(codec, &conditions));
        }
        heard
    }

    /// A copy of RTCP that `from` sent. A sender report is on its way to the other far end; report blocks say how
    /// long ago one that was sent to this far end had passed us.
    pub fn rtcp(&mut self, from: Side, compound: &[u8], now: Time) {
        let ways = self.ways.get_or_insert_default();
        // A copy may be cut, and a peer may send anything: what can be read is used.
        for packet in rtcp::packets(compound).map_while(Result::ok) {
            let (sender, reports) = match packet {
                rtcp::Packet::SenderReport { sender, reports, .. } => (Some(sender), reports),
                rtcp::Packet::ReceiverReport { reports, .. } => (None, reports),
                _ => continue,
            };
            if let Some(sender) = sender {
                ways[from.other().index()].reports.sender_report(&sender, now);
            }
            let way = &mut ways[from.index()];
            for block in &reports {
                way.round_trip = way.reports.report(block, now).or(way.round_trip);
            }
        }
    }

    /// From far end to far end and back, as far as it was measured.
    fn round_trip(&self) -> Duration {
        self.ways.iter().flat_map(|ways| ways.iter()).filter_map(|way| way.round_trip).sum()
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
