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
use gateway_common::flow::{FlowConfig, FlowKey, Gate, Output, Punted, flag};
use gateway_common::net::{Addr128, Be16};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

/// The agents of one worker.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Checks {
    /// By the slot of the flow that their checks arrive at.
    agents: HashMap<u32, Checked>,
    /// When findings of which slot's agent pass.
    deadlines: BTreeSet<(Time, u32)>,
    /// The answer being written.
    answer: Vec<u8>,
}

#[derive(Debug)]
struct Checked {
    agent: LiteAgent,
    epoch: u32,
    /// The flow itself and those that lead to its far end.
    concerned: Vec<FlowKey>,
    /// More than one far end may send here.
    has_forks: bool,
    /// As it stands among the deadlines.
    deadline: Option<Time>,
}

impl Checks {
    /// Agents of a plan's flows are as it says from now on.
    pub(in crate::dataplane) fn configure(&mut self, flows: &[FlowSpec], places: &[Place]) {
        for (index, (flow, place)) in flows.iter().zip(places).enumerate() {
            let Some(spec) = &flow.checks else {
                self.forget(place.slot);
                continue;
            };
            let leads_there = |flow: &&FlowSpec| {
                [flow.rtp, flow.rtcp].into_iter().flatten().any(|output| output.learned_from == Some(index))
            };
            let concerned = std::iter::once(flow).chain(flows.iter().filter(leads_there));
            let concerned = concerned.map(|flow| key(flow.at)).collect();
            let before = self.agents.remove(&place.slot);
            let deadline = before.as_ref().and_then(|before| before.deadline);
            let agent = match before.filter(|before| before.epoch == place.epoch) {
                Some(before) => before.agent,
                None => LiteAgent::new(spec.local.clone(), spec.unknown),
            };
            let agent = informed(agent, spec);
            let has_forks = spec.forks.len() > 1;
            let checked = Checked { agent, epoch: place.epoch, concerned, has_forks, deadline };
            self.agents.insert(place.slot, checked);
            self.schedule(place.slot);
        }
    }

    pub(in crate::dataplane) fn forget(&mut self, slot: u32) {
        if let Some(Checked { deadline: Some(deadline), .. }) = self.agents.remove(&slot) {
            self.deadlines.remove(&(deadline, slot));
        }
    }

    /// The agent of a flow goes on with what a daemon before this one wrote into the kernel's table: the source that the
    /// flow hears, or else where those lead that lead to its far end.
    pub(in crate::dataplane) fn resume(&mut self, now: u64, before: &[Compiled]) {
        for Compiled { config: FlowConfig { slot, gate, gate_address, gate_port, .. }, .. } in before {
            let Some(checked) = self.agents.get_mut(slot) else { continue };
            let is_somebody =
                |(address, port): &(Addr128, Be16)| !address.is_unspecified() && port.host() != 0;
            let heard =
                Some((*gate_address, *gate_port)).filter(|_| *gate == Gate::Exact).filter(is_somebody);
            let outputs = before.iter().flat_map(|other| [other.config.rtp, other.config.rtcp]);
            let ways = outputs.filter(|output| output.learned_slot == *slot);
            let way_out = ways.map(|output| (output.remote, output.remote_port)).find(is_somebody);
            if let Some((address, port)) = heard.or(way_out) {
                let remote = arrival(FlowKey::new(address, port));
                checked.agent.resume(Time(now / 1_000), remote, heard.is_some());
            }
            self.schedule(*slot);
        }
    }

    /// Forgets what was not checked for long. Flows whose configuration is to be written anew by [`Checks::write`].
    pub(in crate::dataplane) fn expire(&mut self, now: u64) -> Vec<FlowKey> {
        let now = Time(now / 1_000);
        let mut concerned = Vec::new();
        while let Some((_, slot)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_first();
            let Some(checked) = self.agents.get_mut(&slot) else { continue };
            checked.deadline = None;
            if checked.agent.expire(now) {
                concerned.extend_from_slice(&checked.concerned);
            }
            self.schedule(slot);
        }
        concerned
    }

    /// When [`Checks::expire`] has something to do.
    pub(in crate::dataplane) fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn schedule(&mut self, slot: u32) {
        let Some(checked) = self.agents.get_mut(&slot) else { return };
        let deadline = checked.agent.deadline();
        if deadline == checked.deadline {
            return;
        }
        if let Some(before) = std::mem::replace(&mut checked.deadline, deadline) {
            self.deadlines.remove(&(before, slot));
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, slot)));
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

    /// Has userspace relay the flow while its agent has to be asked of each packet.
    pub(in crate::dataplane) fn place(&self, config: &mut FlowConfig) {
        let asked = self.agents.get(&config.slot);
        let is_asked =
            asked.is_some_and(|checked| checked.has_forks || checked.agent.sources() == Sources::Checked);
        let by_checks = config.punted == Punted::Checks as u8;
        match (config.flags & flag::PUNT != 0, is_asked) {
            (false, true) => {
                config.flags |= flag::PUNT;
                config.punted = Punted::Checks as u8;
            }
            (true, false) if by_checks => {
                config.flags &= !flag::PUNT;
                config.punted = 0;
            }
            _ => {}
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
        self.schedule(slot);
        let checked = self.agents.get(&slot)?;
        let news = expired || matches!(outcome, Outcome::Answered { news: true });
        let concerned = if news { checked.concerned.as_slice() } else { &[] };
        let refused = matches!(outcome, Outcome::Refused(_) | Outcome::Ignored(_));
        Some(Answer { is_written: !self.answer.is_empty(), to: source_of(arrived), refused, concerned })
    }

    /// What was written last, to be sent.
    pub(in crate::dataplane) fn answer(&self) -> &[u8] {
        &self.answer
    }
}

/// What becomes of something that looks like STUN.
#[derive(Debug)]
pub(in crate::dataplane) struct Answer<'a> {
    /// There is one: [`Checks::answer`].
    pub(in crate::dataplane) is_written: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::token::Tokens;
    use crate::ice::{Builder, Class, Mint, Peer, UnknownAttributes, attribute};
    use crate::media::plan::Fork;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_a_check_vouched_for_passes_without_another_packet() {
        let local = Mint::new(&mut Tokens::seeded(1)).credentials();
        let username = format!("{}:them", local.ufrag);
        let peer = Peer { ufrag: "them".parse().unwrap(), candidates: Vec::new() };
        let spec = ChecksSpec {
            local: local.clone(),
            unknown: UnknownAttributes::Refuse,
            forks: vec![Fork { peer, unprotect: None }],
        };
        let mut checks = Checks::default();
        let at = FlowKey::new(Addr128::v4([192, 0, 2, 1]), Be16::new(30_000));
        let concerned = vec![at];
        let agent = informed(LiteAgent::new(local.clone(), spec.unknown), &spec);
        let checked = Checked { agent, epoch: 1, concerned, has_forks: false, deadline: None };
        checks.agents.insert(3, checked);

        let mut packet = Vec::new();
        Builder::new(&mut packet, Class::Request, [7; 12])
            .attribute(attribute::USERNAME, username.as_bytes())
            .attribute(attribute::PRIORITY, &[0x6e, 0, 1, 0xff])
            .attribute(attribute::ICE_CONTROLLING, &[1; 8])
            .finish(Some(&local.password));
        let source = (Addr128::v4([192, 0, 2, 10]), Be16::new(4000));
        let arrived = Arrival { at, source: source.0, source_port: source.1, traffic_class: 0 };
        assert_eq!(checks.deadline(), None);
        assert_eq!(checks.receive(SECOND, 3, &arrived, &packet).unwrap().concerned, [at]);
        let gate = |checks: &Checks| {
            let mut config = FlowConfig { slot: 3, ..FlowConfig::default() };
            checks.write(&mut config);
            (config.gate_address, config.gate_port)
        };
        assert_eq!(gate(&checks), source);
        assert_eq!(checks.deadline(), Some(Time(31_000_000)));
        assert!(checks.receive(11 * SECOND, 3, &arrived, &packet).unwrap().concerned.is_empty());
        assert!(checks.expire(31 * SECOND).is_empty(), "it was checked again");
        assert_eq!(checks.deadline(), Some(Time(41_000_000)));
        assert_eq!(checks.expire(41 * SECOND), [at]);
        assert_eq!(gate(&checks), (Addr128::UNSPECIFIED, Be16::new(0)));
        assert_eq!(checks.deadline(), None);
        checks.receive(50 * SECOND, 3, &arrived, &packet);
        checks.forget(3);
        assert_eq!(checks.deadline(), None, "of an agent that is gone");
    }
}
