//! A data plane that only remembers: what plans it was given, and what a scenario says was heard.

use gateway_common::flow::FlowKind;
use gateway_userspace::base::fault::Fault;
use gateway_userspace::base::id::{FlowId, Side};
use gateway_userspace::base::time::Time;
use gateway_userspace::dataplane::{FlowReport, Update};
use gateway_userspace::media::bridge::PlayUntil;
use gateway_userspace::media::plan::FlowSpec;
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::runtime::relay::FlowTable;
use gateway_userspace::signal::dtmf::body::Press;
use gateway_userspace::signal::tone::Source;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Debug)]
pub struct MemoryFlows {
    pub now: Time,
    /// Flows that fit.
    pub room: usize,
    /// Since when each side is silent; `None` while it talks.
    pub silent_since: [Option<Time>; 2],
    /// What was done, for the ladder.
    pub log: Vec<String>,
    /// Keys that signalling brought, and whose media they went to.
    pub pressed: Vec<(Side, Press)>,
    /// What is played to each side now, and when that began.
    played: [Option<(Source, PlayUntil, Time)>; 2],
    /// Sides that have sent no RTP yet.
    pub never_spoke: [bool; 2],
    flows: BTreeMap<u32, (FlowId, FlowSpec)>,
    /// Since when there is a flow at an address.
    since: BTreeMap<SocketAddr, Time>,
    epoch: u32,
}

impl Default for MemoryFlows {
    fn default() -> Self {
        Self {
            now: Time::ZERO,
            room: usize::MAX,
            silent_since: [None; 2],
            log: Vec::new(),
            pressed: Vec::new(),
            played: [None, None],
            never_spoke: [false; 2],
            flows: BTreeMap::new(),
            since: BTreeMap::new(),
            epoch: 0,
        }
    }
}

impl MemoryFlows {
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &FlowSpec> {
        self.flows.values().map(|(_, flow)| flow)
    }

    /// The flow that relays this side's media.
    pub fn media_of(&self, side: Side) -> Option<&FlowSpec> {
        let mut flows = self.flows.values().map(|(_, flow)| flow);
        flows.find(|flow| flow.from == side && flow.kind != FlowKind::Rtcp)
    }

    /// What this side hears of the gateway, and since when: as long as something stands between it and the other one.
    pub fn playing_to(&self, side: Side) -> Option<&(Source, PlayUntil, Time)> {
        self.media_of(side).and_then(|flow| flow.bridge.as_ref())?;
        self.played[side.index()].as_ref()
    }

    /// Since when the flow at this address is there.
    pub fn since(&self, at: SocketAddr) -> Time {
        self.since.get(&at).copied().unwrap_or(Time::ZERO)
    }

    /// The flow that relays this side's media, by its identifier.
    pub fn id_of(&self, side: Side) -> Option<FlowId> {
        let mut flows = self.flows.values().filter(|(_, flow)| flow.kind != FlowKind::Rtcp);
        flows.find(|(_, flow)| flow.from == side).map(|(id, _)| *id)
    }

    /// Every flow, in no order.
    pub fn all(&self) -> impl Iterator<Item = &FlowSpec> {
        self.flows.values().map(|(_, flow)| flow)
    }

    /// Takes away all flows but these, as a daemon does that adopts pinned maps.
    pub fn sweep(&mut self, kept: &[FlowId]) {
        self.flows.retain(|_, (id, _)| kept.contains(id));
    }

    fn put(&mut self, ids: &[FlowId], flows: &[FlowSpec], verb: &str) {
        for (id, flow) in ids.iter().zip(flows) {
            let was_there = self.flows.insert(id.slot, (*id, flow.clone()));
            if was_there.is_none_or(|(_, own)| own.at != flow.at) && verb != "adopted:" {
                self.since.insert(flow.at, self.now);
            }
        }
        let told: Vec<_> = flows.iter().filter(|flow| flow.kind != FlowKind::Rtcp).map(told).collect();
        self.log.push(format!("{verb} {}", told.join(", ")));
    }
}

/// Who is heard where and relayed whereto, by which payload types.
fn told(flow: &FlowSpec) -> String {
    let side = match flow.from {
        Side::Caller => "caller",
        Side::Callee => "callee",
    };
    let to = flow.rtp.map_or("nowhere".to_owned(), |output| output.to.to_string());
    let types: Vec<_> = flow
        .payload_types
        .iter()
        .map(
            |one| {
                if one.near == one.far { one.near.to_string() } else { format!("{}>{}", one.near, one.far) }
            },
        )
        .collect();
    let muted = if flow.muted { " muted" } else { "" };
    format!("{side} → {to} [{}]{muted}", types.join(" "))
}

impl FlowTable for MemoryFlows {
    fn capture(&mut self, _: &[FlowId], _: Option<bool>) -> Result<(), Fault> {
        // No packet comes here.
        Ok(())
    }

    fn install(&mut self, flows: &[FlowSpec]) -> Result<Vec<FlowId>, Fault> {
        if self.flows.len().saturating_add(flows.len()) > self.room {
            self.log.push("refused: full".to_owned());
            return Err(Fault::FlowsExhausted);
        }
        for flow in flows {
            let clash = self.flows.values().any(|(_, own)| own.at == flow.at);
            assert!(!clash, "{} is another flow's", flow.at);
        }
        self.epoch += 1;
        let free = (0..).filter(|slot| !self.flows.contains_key(slot));
        let ids: Vec<_> = free.take(flows.len()).map(|slot| FlowId { slot, epoch: self.epoch }).collect();
        self.put(&ids, flows, "installed:");
        Ok(ids)
    }

    fn update(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<Update, Fault> {
        for id in ids {
            assert!(self.flows.get(&id.slot).is_some_and(|(own, _)| own == id), "{id:?} is nobody's");
        }
        if ids.len() == flows.len() {
            self.put(ids, flows, "now:");
            return Ok(Update { ids: ids.to_vec(), ended: Vec::new() });
        }
        // As the kernel's: who still arrives where it did goes on.
        let before: Vec<_> = ids.iter().filter_map(|id| self.flows.get(&id.slot).cloned()).collect();
        let goes_on = |at| flows.iter().any(|flow| flow.at == at);
        let ended: Vec<_> = before
            .iter()
            .enumerate()
            .filter(|(_, (_, flow))| !goes_on(flow.at))
            .map(|(index, _)| index)
            .collect();
        let ended: Vec<_> =
            ended.into_iter().filter_map(|index| Some((index, self.report(*ids.get(index)?)?))).collect();
        for id in ids {
            self.flows.remove(&id.slot);
        }
        self.epoch += 1;
        let epoch = self.epoch;
        let mut ids = Vec::new();
        for flow in flows {
            let heir = before.iter().find(|(_, own)| own.at == flow.at).map(|(id, _)| *id);
            let taken = |slot: &u32| {
                self.flows.contains_key(slot)
                    || ids.iter().any(|id: &FlowId| id.slot == *slot)
                    || before.iter().any(|(id, _)| id.slot == *slot)
            };
            let slot = (0..).find(|slot| !taken(slot)).unwrap_or_default();
            ids.push(heir.unwrap_or(FlowId { slot, epoch }));
        }
        self.put(&ids, flows, "now:");
        Ok(Update { ids, ended })
    }

    fn adopt(&mut self, ids: &[FlowId], flows: &[FlowSpec]) -> Result<(), Fault> {
        let known = |id: &FlowId| self.flows.get(&id.slot).is_some_and(|(own, _)| own == id);
        if !ids.iter().all(known) || ids.len() != flows.len() {
            return Err(Fault::DataplaneFailed);
        }
        self.put(ids, flows, "adopted:");
        Ok(())
    }

    fn press(&mut self, flow: FlowId, press: Press) {
        let Some((_, heard)) = self.flows.get(&flow.slot).filter(|(own, _)| *own == flow) else { return };
        self.log.push(format!("{} → {:?}", press.key.letter(), heard.from));
        self.pressed.push((heard.from, press));
    }

    fn play(&mut self, flow: FlowId, what: Option<(Source, PlayUntil)>) {
        let Some((_, heard)) = self.flows.get(&flow.slot).filter(|(own, _)| *own == flow) else { return };
        let verb = if what.is_some() { "plays to" } else { "stops playing to" };
        self.log.push(format!("{verb} {:?}", heard.from));
        self.played[heard.from.index()] = what.map(|(source, until)| (source, until, self.now));
    }

    fn remove(&mut self, ids: &[FlowId]) -> Vec<FlowReport> {
        let reports = ids.iter().filter_map(|id| self.report(*id)).collect();
        for id in ids {
            let known = self.flows.remove(&id.slot);
            assert!(known.is_some_and(|(own, _)| own == *id), "{id:?} was removed before");
        }
        if !ids.is_empty() {
            self.log.push("removed".to_owned());
        }
        reports
    }

    fn report(&self, id: FlowId) -> Option<FlowReport> {
        let (_, flow) = self.flows.get(&id.slot).filter(|(own, _)| *own == id)?;
        let silent = match flow.from {
            Side::Caller => self.silent_since[0],
            Side::Callee => self.silent_since[1],
        };
        Some(FlowReport {
            packets: if self.never_spoke[flow.from.index()] { 0 } else { 100 },
            octets: 17_200,
            rtcp_packets: 0,
            refused: 0,
            expected: 100,
            lost: 0,
            late: 0,
            discarded: 0,
            concealed_ms: 0,
            jitter_ms: 0.0,
            source_changes: 0,
            latch_changes: 0,
            source: None,
            idle: Some(silent.map_or(Duration::ZERO, |since| self.now.since(since))),
            path: RelayPath::Kernel,
        })
    }
}
