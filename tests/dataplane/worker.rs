//! A worker without signalling: a poll, and the data plane behind it.

use anyhow::{Result, ensure};
use gateway_userspace::base::id::CoreId;
use gateway_userspace::base::time::Time;
use gateway_userspace::dataplane::{Dataplane, Node, Record, monotonic};
use gateway_userspace::srtp::{MasterKey, Protect};
use mio::{Events, Poll};
use std::time::{Duration, Instant};

pub struct Worker {
    poll: Poll,
    events: Events,
    pub dataplane: Dataplane,
    /// What flows had to say.
    pub records: Vec<Record>,
}

impl Worker {
    pub fn new(node: &Node, core: u16, cores: u16) -> Result<Self> {
        let mut dataplane = node.worker(CoreId(core), cores)?;
        let poll = Poll::new()?;
        dataplane.register(poll.registry(), 1000..1100)?;
        Ok(Self { poll, events: Events::with_capacity(64), dataplane, records: Vec::new() })
    }

    /// Waits for packets, and relays them; what is due meanwhile is done.
    pub fn turn(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.turn_for(Duration::from_secs(5))? == 0 {
            ensure!(begun.elapsed() < Duration::from_secs(5), "nothing came to the worker");
        }
        Ok(())
    }

    /// Waits so long for packets, and no longer than for what is due meanwhile; how many sockets had some.
    pub fn turn_for(&mut self, patience: Duration) -> Result<usize> {
        let due = self.dataplane.deadline().map(|at| at.since(Time(monotonic() / 1_000)));
        let patience = due.map_or(patience, |due| due.min(patience));
        while let Err(error) = self.poll.poll(&mut self.events, Some(patience)) {
            ensure!(error.kind() == std::io::ErrorKind::Interrupted, "{error}");
        }
        for event in &self.events {
            ensure!(self.dataplane.owns(event.token()), "a token of somebody else");
            self.dataplane.ready(event.token(), &mut self.records);
        }
        self.dataplane.run(&mut self.records);
        Ok(self.events.iter().count())
    }
}

/// A far end's SRTP for what it sends.
pub struct Protecting(Protect);

impl Protecting {
    pub fn with(key: &MasterKey) -> Self {
        Self(Protect::new(key))
    }

    /// Of RTP or RTCP (RFC 5761 section 4).
    pub fn protected(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = [packet, &[0; 32]].concat();
        let length = match packet.get(1) {
            Some(192..=223) => self.0.rtcp(&mut buffer, packet.len()),
            _ => self.0.rtp(&mut buffer, packet.len()),
        };
        buffer.truncate(length.expect("a fresh packet"));
        buffer
    }
}
