//! A call's flows in the data plane, and what they have counted.

use crate::base::fault::Fault;
use crate::base::id::{FlowId, Side};
use crate::base::time::Time;
use crate::dataplane::{FlowReport, Update};
use crate::media::MediaPlan;
use crate::media::bridge::PlayUntil;
use crate::media::plan::FlowSpec;
use crate::observe::path::RelayPath;
use crate::observe::quality::{
    CallMedia, Counts, FarEndQuality, LOOK_EVERY, MediaQuality, PointQuality, Series,
};
use crate::rtp::Codec;
use crate::rtp::quality::{self, Conditions};
use crate::rtp::rtcp::{self, Opinion, RoundTrip};
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
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
    /// A key for the peer whom this flow hears goes to it in its media, where something stands between it and the other.
    fn press(&mut self, flow: FlowId, press: Press);
    /// Plays to the peer whom this flow hears, where something stands between it and the other one; `None` stops.
    fn play(&mut self, flow: FlowId, what: Option<(Source, PlayUntil)>);
    /// The last report of each, in order.
    fn remove(&mut self, ids: &[FlowId]) -> Vec<FlowReport>;
    fn report(&self, id: FlowId) -> Option<FlowReport>;
    /// Copies packets of these flows to records ([`crate::dataplane::Dataplane::capture`]).
    fn capture(&mut self, ids: &[FlowId], audio: Option<bool>) -> Result<(), Fault>;
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
    /// How it went, from the first look that found media.
    series: Option<Box<Series>>,
}

/// The network between us and one far end.
#[derive(Debug, Default)]
struct Way {
    reports: RoundTrip,
    round_trip: Option<Duration>,
    /// What the far end last said of the media that goes to it.
    opinion: Option<Opinion>,
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

    /// Media that `side` sent, with the E-model's estimate of how it was heard: by flows that are gone, and by those of
    /// now as far as `table` has them.
    pub fn quality(&self, table: &dyn FlowTable, side: Side, codec: Option<&Codec>) -> MediaQuality {
        let mut heard = self.figures(table, side);
        if let Some(codec) = codec.filter(|_| heard.packets > 0) {
            heard.mos = Some(self.estimate(codec, heard.loss(), milliseconds(heard.jitter_ms)));
        }
        heard
    }

    /// The other direction, as the far end of `side` told it.
    pub fn said(&self, table: &dyn FlowTable, side: Side, codec: Option<&Codec>) -> Option<FarEndQuality> {
        let opinion = self.ways.as_ref()?[side.index()].opinion?;
        let codec = codec?;
        let sent = self.figures(table, side.other()).packets;
        let lost = u64::try_from(opinion.cumulative_lost).unwrap_or_default();
        let loss = lost as f64 / sent.max(lost).max(1) as f64;
        let jitter = quality::clock_units(u64::from(opinion.jitter), codec.clock_rate);
        Some(FarEndQuality {
            lost: i64::from(opinion.cumulative_lost),
            loss,
            jitter_ms: jitter.as_secs_f64() * 1_000.0,
            mos: Some(self.estimate(codec, loss, jitter)),
        })
    }

    /// All of it, of a call in progress whose INVITE came at `started`.
    pub fn media(&self, table: &dyn FlowTable, started: Time, codecs: [Option<&Codec>; 2]) -> CallMedia {
        let [caller, callee] = codecs;
        CallMedia {
            from_caller: self.quality(table, Side::Caller, caller),
            from_callee: self.quality(table, Side::Callee, callee),
            to_caller: self.said(table, Side::Caller, caller),
            to_callee: self.said(table, Side::Callee, callee),
            samples: self.series.as_ref().map(|series| series.points(started)).unwrap_or_default(),
        }
    }

    /// Notes how the media went since the last look, which was [`LOOK_EVERY`] ago.
    pub fn look(&mut self, table: &dyn FlowTable, now: Time, codecs: [Option<&Codec>; 2]) {
        let totals = [Side::Caller, Side::Callee].map(|side| self.figures(table, side));
        if self.series.is_none() && totals.iter().all(|heard| heard.packets == 0) {
            return;
        }
        let mut series = self.series.take().unwrap_or_else(|| Box::new(Series::new(now - LOOK_EVERY)));
        let counts =
            totals.map(|heard| Counts { expected: heard.packets + heard.lost, lost: heard.missed() });
        let seen = [Side::Caller, Side::Callee].map(|side| {
            let (heard, codec) = (totals[side.index()], codecs[side.index()]?);
            let loss = series.loss_since(side, counts[side.index()])?;
            let mos = self.estimate(codec, loss, milliseconds(heard.jitter_ms));
            let (jitter_ms, round_trip_ms) = (heard.jitter_ms, heard.round_trip_ms);
            Some(PointQuality { loss, jitter_ms, mos, round_trip_ms })
        });
        series.look(counts, seen);
        self.series = Some(series);
    }

    /// How it went.
    pub fn take_series(&mut self) -> Option<Box<Series>> {
        self.series.take()
    }

    fn figures(&self, table: &dyn FlowTable, side: Side) -> MediaQuality {
        let mut heard = self.past[side.index()];
        for (flow, (from, kind)) in self.flows.iter().zip(&self.shape) {
            if *from == side
                && *kind != FlowKind::Rtcp
                && let Some(report) = table.report(*flow)
            {
                add(&mut heard, &report);
            }
        }
        let way = self.ways.as_ref().and_then(|ways| ways[side.index()].round_trip);
        heard.round_trip_ms = way.map(|span| span.as_secs_f64() * 1_000.0);
        heard
    }

    fn estimate(&self, codec: &Codec, loss: f64, jitter: Duration) -> f64 {
        let delay = quality::mouth_to_ear(self.round_trip(), PACKET, jitter);
        quality::estimate(codec, &Conditions { delay, loss, burst_ratio: 1.0 })
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
                way.opinion = Some(Opinion::of(block));
            }
        }
    }

    /// From far end to far end and back, as far as it was measured.
    fn round_trip(&self) -> Duration {
        self.ways.iter().flat_map(|ways| ways.iter()).filter_map(|way| way.round_trip).sum()
    }

    /// A key goes to the peer of `to` in its media.
    pub fn press(&self, table: &mut dyn FlowTable, to: Side, press: Press) {
        if let Some(flow) = self.hears(to) {
            table.press(flow, press);
        }
    }

    /// Plays to the peer of `to`; `None` stops.
    pub fn play(&self, table: &mut dyn FlowTable, to: Side, what: Option<(Source, PlayUntil)>) {
        if let Some(flow) = self.hears(to) {
            table.play(flow, what);
        }
    }

    /// Whether `side` has sent RTP.
    pub fn spoke(&self, table: &dyn FlowTable, side: Side) -> bool {
        self.figures(table, side).packets > 0
    }

    /// The flow that hears RTP of the peer of this side.
    fn hears(&self, side: Side) -> Option<FlowId> {
        let hears = |(_, (own, kind)): &(&FlowId, &(Side, FlowKind))| *own == side && *kind != FlowKind::Rtcp;
        self.flows.iter().zip(&self.shape).find(hears).map(|(flow, _)| *flow)
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

fn milliseconds(span: f64) -> Duration {
    Duration::from_secs_f64(span.max(0.0) / 1_000.0)
}

fn shape(plan: &MediaPlan) -> Vec<(Side, FlowKind)> {
    plan.flows.iter().map(|flow| (flow.from, flow.kind)).collect()
}

fn add(quality: &mut MediaQuality, report: &FlowReport) {
    quality.packets += report.packets;
    quality.octets += report.octets;
    quality.lost += report.lost;
    quality.late += u64::from(report.late);
    quality.discarded += report.discarded;
    quality.concealed_ms += report.concealed_ms;
    quality.jitter_ms = report.jitter_ms;
    quality.relayed_by = Some(report.path);
    if report.path == RelayPath::Kernel {
        quality.fast_path_packets += report.packets;
    }
}
