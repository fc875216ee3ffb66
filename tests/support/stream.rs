//! RTP between caller and callee of many calls, counted packet by packet at the far end.

use crate::lab::{Host, Lab};
use crate::secured::Keys;
use crate::wire::Rtp;
use anyhow::{Context as _, Result};
use gateway_userspace::admin::answer::FlowLine;
use rtc_srtp::context::Context;
use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One packet each way of each call.
pub const PACKET_TIME: Duration = Duration::from_millis(20);
/// After the last packet was sent: silence that long means that no more will come.
const SILENCE: Duration = Duration::from_millis(500);

/// Streams that run until they are stopped.
pub struct Streams {
    stop: Arc<AtomicBool>,
    hosts: Vec<JoinHandle<Result<Vec<End>>>>,
}

/// What became of all packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub streams: usize,
    pub sent: usize,
    /// Of those sent; each counts once.
    pub received: usize,
    /// Received again.
    pub repeated: usize,
}

/// A phone's media socket.
struct End {
    socket: UdpSocket,
    /// The gateway's address for what this end sends.
    towards: SocketAddr,
    /// Of our stream, and of the one that we hear.
    ssrc: u32,
    far_ssrc: u32,
    sent: u16,
    received: BTreeSet<u16>,
    repeated: usize,
    /// For what is sent, and for what is heard.
    contexts: Option<[Context; 2]>,
}

impl Streams {
    /// Starts both directions of every call whose RTP flows are listed, from and to the addresses that its SDP
    /// named.
    pub fn start(lab: &Lab, flows: &[FlowLine]) -> Result<Self> {
        Self::start_secured(lab, flows, &HashMap::new())
    }

    /// The same, with SRTP at callees' ports that have keys.
    pub fn start_secured(lab: &Lab, flows: &[FlowLine], keys: &HashMap<u16, Keys>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (callers, mut callees) = ends(lab, flows)?;
        for end in &mut callees {
            let keys = keys.get(&end.socket.local_addr()?.port());
            end.contexts = keys.map(Keys::contexts).transpose()?;
        }
        let hosts = [callers, callees].into_iter().map(|ends| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || run(ends, &stop))
        });
        Ok(Self { hosts: hosts.collect(), stop })
    }

    /// Stops sending, waits for what is on its way, and counts.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ends = Vec::new();
        for host in self.hosts {
            ends.extend(host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        let sent: HashMap<u32, u16> = ends.iter().map(|end| (end.ssrc, end.sent)).collect();
        let mut tally = Tally { streams: ends.len(), ..Tally::default() };
        for end in &ends {
            let sent = sent.get(&end.far_ssrc).copied().unwrap_or_default();
            tally.sent += usize::from(sent);
            tally.received += end.received.range(..sent).count();
            tally.repeated += end.repeated;
        }
        Ok(tally)
    }
}

/// The callers' and the callees' sockets: a flow goes from the far end of its call's other flow to its own.
fn ends(lab: &Lab, flows: &[FlowLine]) -> Result<(Vec<End>, Vec<End>)> {
    let mut calls: HashMap<&str, Vec<&FlowLine>> = HashMap::new();
    for flow in flows.iter().filter(|flow| flow.kind != "rtcp") {
        calls.entry(flow.call.as_deref().context("a flow without a call")?).or_default().push(flow);
    }
    let (mut callers, mut callees) = (Vec::new(), Vec::new());
    for (number, (call, flows)) in (1..).step_by(2).zip(calls) {
        let arriving = |addresses: [&str; 2]| {
            let found = flows.iter().find(|flow| addresses.contains(&flow.at.ip().to_string().as_str()));
            found.with_context(|| format!("call {call} has no flow at {addresses:?}: {flows:?}"))
        };
        let from_caller = arriving(["10.81.1.1", "fd00:81:1::1"])?;
        let from_callee = arriving(["10.81.2.1", "fd00:81:2::1"])?;
        let end = |host, out: &FlowLine, back: &FlowLine, ssrc, far_ssrc| -> Result<End> {
            let address = back.to.context("a flow without destination")?;
            let socket = lab.on(host, || UdpSocket::bind(address).with_context(|| address.to_string()))?;
            socket.set_nonblocking(true)?;
            let received = BTreeSet::new();
            let contexts = None;
            Ok(End { socket, towards: out.at, ssrc, far_ssrc, sent: 0, received, repeated: 0, contexts })
        };
        callers.push(end(Host::Caller, from_caller, from_callee, number, number + 1)?);
        callees.push(end(Host::Callee, from_callee, from_caller, number + 1, number)?);
    }
    Ok((callers, callees))
}

fn run(mut ends: Vec<End>, stop: &AtomicBool) -> Result<Vec<End>> {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for end in &mut ends {
            end.send()?;
            end.receive();
        }
        next += PACKET_TIME;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let mut last = Instant::now();
    while last.elapsed() < SILENCE {
        let heard = ends.iter_mut().map(End::receive).filter(|count| *count > 0).count();
        if heard > 0 {
            last = Instant::now();
        }
        thread::sleep(PACKET_TIME);
    }
    Ok(ends)
}

impl End {
    fn send(&mut self) -> Result<()> {
        let packet = Rtp {
            sequence: self.sent,
            timestamp: u32::from(self.sent) * 160,
            ssrc: self.ssrc,
            ..Rtp::default()
        };
        let mut packet = packet.octets();
        if let Some([protect, _]) = &mut self.contexts {
            packet = protect.encrypt_rtp(&packet)?.to_vec();
        }
        self.socket.send_to(&packet, self.towards).context("send RTP")?;
        self.sent += 1;
        Ok(())
    }

    /// How many packets came.
    fn receive(&mut self) -> usize {
        let mut count = 0;
        let mut buffer = [0; 2048];
        // Only "nothing there" ends it: nobody answers media by an error here.
        while let Ok(length) = self.socket.recv(&mut buffer) {
            count += 1;
            let mut packet = buffer[..length].to_vec();
            if let Some([_, unprotect]) = &mut self.contexts {
                // What does not open was not heard.
                let Ok(opened) = unprotect.decrypt_rtp(&packet) else { continue };
                packet = opened.to_vec();
            }
            let ssrc = packet.get(8..12).map(|word| u32::from_be_bytes(word.try_into().unwrap_or_default()));
            if let (Some([high, low]), true) = (packet.get(2..4), ssrc == Some(self.far_ssrc))
                && !self.received.insert(u16::from_be_bytes([*high, *low]))
            {
                self.repeated += 1;
            }
        }
        count
    }
}
