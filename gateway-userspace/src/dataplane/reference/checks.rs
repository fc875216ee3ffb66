//! Agents of ports that take connectivity checks, and what their findings mean for flows.
//!
//! An agent belongs to the flow of its port. What it finds is written into configurations, as if signalling had said it:
//! the gate of its own flow, and where the flows go that lead to its far end. So nobody who relays knows of ICE, and
//! nothing is sent to an address that no check has vouched for.

use super::super::compile::{Compiled, Place, address, arrival, key};
use super::relay::Arrival;
use crate::base::time::Time;
use crate::ice::{LiteAgent, Outcome, Sources};
use crate::media::plan::{ChecksSpec, FlowSpec};
use gateway_common::flow::{FlowConfig, FlowKey, Gate, Output};
use gateway_common::net::{Addr128, Be16};
use std::collections::HashMap;
use std::net::SocketAddr;

/// The agents of one worker.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Checks {
    /// By the slot of the flow that their checks arrive at.
    agents: HashMap<u32, Checked>,
    /// The answer being written.
    answer: Vec<u8>,
}

#[derive(Debug)]
struct Checked {
    agent: LiteAgent,
    epoch: u32,
    /// The flow itself and those that lead to its far end.
    concerned: Vec<FlowKey>,
}

impl Checks {
    /// Agents of a plan's flows are as it says from now on.
    pub(in crate::dataplane) fn configure(&mut self, flows: &[FlowSpec], places: &[Place]) {
        for (index, (flow, place)) in flows.iter().zip(places).enumerate() {
            let Some(spec) = &flow.checks else {
                self.agents.remove(&place.slot);
                continue;
            };
            let leads_there = |flow: &&FlowSpec| {
                [flow.rtp, flow.rtcp].into_iter().flatten().any(|output| output.learned_from == Some(index))
            };
            let concerned = std::iter::once(flow).chain(flows.iter().filter(leads_there));
            let concerned = concerned.map(|flow| key(flow.at)).collect();
            let agent = match self.agents.remove(&place.slot).filter(|before| before.epoch == place.epoch) {
                Some(before) => before.agent,
                None => LiteAgent::new(spec.local.clone(), spec.unknown),
            };
            let agent = informed(agent, spec);
            self.agents.insert(place.slot, Checked { agent, epoch: place.epoch, concerned });
        }
    }

    pub(in crate::dataplane) fn forget(&mut self, slot: u32) {
        self.agents.remove(&slot);
    }

    /// Whether checks arrive at the flow of this slot.
    pub(in crate::dataplane) fn take(&self, slot: u32) -> bool {
        self.agents.contains_key(&slot)
    }

    /// Writes into a plan's configurations what agents have found.
    pub(in crate::dataplane) fn apply(&self, compiled: &mut [Compiled]) {
        if !self.agents.is_empty() {
            compiled.iter_mut().for_each(|compiled| self.write(&mut compiled.config));
        }
    }

    /// As [`Checks::apply`], for one flow.
    pub(in crate::dataplane) fn write(&self, config: &mut FlowConfig) {
        if let Some(checked) = self.agents.get(&config.slot) {
            let nobody = (Gate::Exact, Addr128::UNSPECIFIED, Be16::new(0), 128);
            let gate = match checked.agent.sources() {
                Sources::Nobody => nobody,
                Sources::Only(source) => (Gate::Exact, address(source.ip()), Be16::new(source.port()), 128),
                // Each packet is asked for: see [`Checks::hears`].
                Sources::Checked => (Gate::Any, Addr128::UNSPECIFIED, Be16::new(0), 0),
            };
            (config.gate, config.gate_address, config.gate_port, config.gate_prefix) = gate;
        }
        for output in [&mut config.rtp, &mut config.rtcp] {
            self.aim(output);
        }
    }

    fn aim(&self, output: &mut Output) {
        let Some(checked) = self.agents.get(&output.learned_slot) else { return };
        (output.remote, output.remote_port) = match checked.agent.way_out() {
            Some(to) => (address(to.ip()), Be16::new(to.port())),
            None => (Addr128::UNSPECIFIED, Be16::new(0)),
        };
    }

    /// Whether the flow of this slot hears media from there, as far as checks are concerned.
    pub(in crate::dataplane) fn hears(&self, slot: u32, arrived: &Arrival) -> bool {
        self.agents.get(&slot).is_none_or(|checked| checked.agent.hears(source_of(arrived)))
    }

    /// Which far end media from there is of: its place among those of the plan.
    pub(in crate::dataplane) fn fork(&self, slot: u32, arrived: &Arrival) -> usize {
        let checked = self.agents.get(&slot);
        checked.and_then(|checked| checked.agent.place_of(source_of(arrived))).unwrap_or(0)
    }

    /// A packet from there was proven to be of a far end's by its tag. Flows whose configuration is to be written anew by
    /// [`Checks::write`]: the first far end to send is heard alone.
    pub(in crate::dataplane) fn heard_media(&mut self, slot: u32, arrived: &Arrival) -> &[FlowKey] {
        let Some(checked) = self.agents.get_mut(&slot) else { return &[] };
        if checked.agent.heard_media(source_of(arrived)) { &checked.concerned } else { &[] }
    }

    /// Something that looks like STUN came to the flow of this slot; the answer, if there is one, is to go back.
    pub(in crate::dataplane) fn receive(
        &mut self,
        now: u64,
        slot: u32,
        arrived: &Arrival,
        packet: &[u8],
    ) -> Option<Answer<'_>> {
        let checked = self.agents.get_mut(&slot)?;
        let now = Time(now / 1_000);
        let expired = checked.agent.expire(now);
        let outcome = checked.agent.receive(now, source_of(arrived), packet, &mut self.answer);
        let news = expired || matches!(outcome, Outcome::Answered { news: true });
        let concerned = if news { checked.concerned.as_slice() } else { &[] };
        let refused = matches!(outcome, Outcome::Refused(_) | Outcome::Ignored(_));
        Some(Answer { payload: &self.answer, to: source_of(arrived), refused, concerned })
    }
}

/// What becomes of something that looks like STUN.
#[derive(Debug)]
pub(in crate::dataplane) struct Answer<'a> {
    /// Empty for none.
    pub(in crate::dataplane) payload: &'a [u8],
    pub(in crate::dataplane) to: SocketAddr,
    pub(in crate::dataplane) refused: bool,
    /// Flows whose configuration is to be written anew by [`Checks::write`].
    pub(in crate::dataplane) concerned: &'a [FlowKey],
}

fn informed(mut agent: LiteAgent, spec: &ChecksSpec) -> LiteAgent {
    let peers: Vec<_> = spec.forks.iter().map(|fork| fork.peer.clone()).collect();
    agent.configure(&spec.local, &peers, peers.first().map(|peer| &peer.ufrag));
    agent
}

fn source_of(arrived: &Arrival) -> SocketAddr {
    arrival(FlowKey::new(arrived.source, arrived.source_port))
}
