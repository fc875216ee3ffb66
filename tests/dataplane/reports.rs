//! Reports of ours to a peer with SRTP whose other side sends none: the program leaves all RTCP of that flow to
//! userspace meanwhile, so that one alone counts SRTCP's index, and goes on relaying its RTP.

use crate::lab::{LAN, Lab, WAN};
use crate::row::{answer, carrying};
use crate::srtp::{far_end, key, rtp, secured};
use crate::wires::{CALLEE, CALLER, FAR, NEAR, Wires, plan};
use crate::worker::{Protecting, Worker};
use anyhow::{Context, Result, ensure};
use gateway_common::flow::flag;
use gateway_common::verdict::{Reason, Traffic};
use gateway_userspace::base::id::Side;
use gateway_userspace::dataplane::reference::SILENCE;
use gateway_userspace::dataplane::reference::frame::Verdict;
use gateway_userspace::dataplane::{Node, Record, Watch};
use gateway_userspace::media::plan::{GateSpec, Judged};
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::rtp::rtcp::{Packet, packets};
use gateway_userspace::srtp::Unprotect;
use mio::Poll;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;
use support::wire::{Frame, Rtp, rtcp};

const CALLERS: u32 = 0x1111_1111;
const CALLEES: u32 = 0x2222_2222;

#[test]
fn rtcp_of_a_flow_that_reports_leave_by_is_for_userspace_as_it_came_and_rtp_is_the_kernels() -> Result<()> {
    for is_secured_too in [false, true] {
        let mut lab = Lab::new(&format!("reported{}", u8::from(is_secured_too)))?;
        let mut flows = secured(&key(1), &key(2));
        flows[1].gate = GateSpec::Exact("203.0.113.9:5000".parse()?);
        if is_secured_too {
            (flows[0].protect, flows[1].unprotect) = (Some(key(3)), Some(key(4)));
        }
        lab.install(&flows)?;
        let [mut caller, mut ear, mut callee] = [1, 2, 4].map(|octet| far_end(&key(octet)));
        let mut says = |plain: &[u8]| {
            let payload = if is_secured_too { callee.protect(plain) } else { plain.to_vec() };
            Frame { payload, ..answer() }
        };
        let mut hears = |lab: &mut Lab, frame: &Frame, plain: &[u8]| -> Result<()> {
            let verdict = lab.relay(WAN, &frame.octets())?.verdict;
            let Verdict::Redirect(LAN, octets) = &verdict else { anyhow::bail!("{verdict:?}") };
            ensure!(ear.unprotect(&octets[42..]).as_deref() == Ok(plain));
            Ok(())
        };
        let report = rtcp(0, 201, &[CALLEES]);
        hears(&mut lab, &says(&report), &report)?;

        lab.flag(1, flag::REPORTED)?;
        let counted = |lab: &Lab| lab.dataplane.counted(lab.installed[1].0).context("a flow with keys");
        let before = counted(&lab)?;
        let diverted = says(&report);
        let alone = lab.relay(WAN, &diverted.octets())?.verdict;
        ensure!(alone == Verdict::Drop(Reason::NoSocket), "{alone:?}");
        let poll = Poll::new()?;
        lab.dataplane.register(poll.registry(), 1000..1100)?;
        [LAN, WAN].into_iter().for_each(|ifindex| lab.relay.listen(ifindex));
        // As nothing remembers it here, the same is no replay here.
        for _ in 0..2 {
            let verdict = lab.relay(WAN, &diverted.octets())?.verdict;
            ensure!(verdict == Verdict::Punt, "{verdict:?}");
        }
        let stranger = Frame { from: "203.0.113.9:5002".parse()?, ..says(&report) };
        let verdict = lab.relay(WAN, &stranger.octets())?.verdict;
        ensure!(verdict == Verdict::Drop(Reason::SourceRefused), "{verdict:?}");
        ensure!(counted(&lab)? == before, "the kernel counts what it does not relay");

        for sequence in 1000..1003 {
            let plain = rtp(sequence, 160);
            hears(&mut lab, &says(&plain), &plain)?;
        }
        let theirs = rtcp(0, 201, &[CALLERS]);
        let verdict = lab.relay(LAN, &carrying(caller.protect(&theirs)).octets())?.verdict;
        ensure!(matches!(verdict, Verdict::Redirect(WAN, _)), "the other direction's: {verdict:?}");
    }
    Ok(())
}

/// A caller with SRTP and a callee without, with the audio of both.
struct Call {
    caller: UdpSocket,
    callee: UdpSocket,
    protect: Protecting,
    unprotect: Unprotect,
    sequence: u16,
    /// Packets of the caller that were lost on their way.
    lost: u16,
    /// RTP that was heard by the caller and by the callee.
    heard: [u64; 2],
    /// RTCP that came to the caller, and its indices.
    reports: Vec<Vec<u8>>,
    indices: Vec<u32>,
    /// That came to the callee.
    callers: usize,
}

impl Call {
    fn new(wires: &Wires) -> Result<Self> {
        let bound = |namespace: &support::namespace::Namespace, at: &str| {
            let socket = namespace.inside(|| Ok(UdpSocket::bind(at)?))?;
            socket.set_nonblocking(true)?;
            Ok::<_, anyhow::Error>(socket)
        };
        Ok(Self {
            caller: bound(&wires.caller, CALLER)?,
            callee: bound(&wires.callee, CALLEE)?,
            protect: Protecting::with(&key(1)),
            unprotect: Unprotect::new(&key(2)),
            sequence: 0,
            lost: 0,
            heard: [0; 2],
            reports: Vec::new(),
            indices: Vec::new(),
            callers: 0,
        })
    }

    /// Both say a packet, and the worker has its turn, as in the daemon.
    fn step(&mut self, worker: &mut Worker, watch: &mut Watch) -> Result<()> {
        let packet = |ssrc, sequence| {
            let timestamp = u32::from(sequence) * 160;
            Rtp { ssrc, sequence, timestamp, ..Rtp::default() }.octets()
        };
        self.callee.send_to(&packet(CALLEES, self.sequence), FAR)?;
        let packet = self.protect.protected(&packet(CALLERS, self.sequence + self.lost));
        self.caller.send_to(&packet, NEAR)?;
        self.sequence = self.sequence.wrapping_add(1);
        worker.turn_for(Duration::from_millis(20))?;
        let mut records = Vec::new();
        watch.drain(&mut records)?;
        for record in records {
            if let Record::Rtcp { flow, at, payload } = record {
                worker.dataplane.rtcp(flow, at, &payload);
            }
        }
        self.hear()
    }

    fn hear(&mut self) -> Result<()> {
        while let Some(mut packet) = received(&self.caller)? {
            let is_rtcp = matches!(packet[1], 192..=223);
            let length = match is_rtcp {
                false => self.unprotect.rtp(&mut packet),
                true => {
                    // RFC 3711 section 3.4: in front of a tag of 80 bits.
                    let index = packet[..packet.len() - 10].last_chunk().context("no index")?;
                    self.indices.push(u32::from_be_bytes(*index) & 0x7fff_ffff);
                    self.unprotect.rtcp(&mut packet)
                }
            };
            packet.truncate(length.context("to the caller")?);
            match is_rtcp {
                true => self.reports.push(packet),
                false => self.heard[0] += 1,
            }
        }
        while let Some(packet) = received(&self.callee)? {
            match packet[1] {
                192..=223 => self.callers += 1,
                _ => self.heard[1] += 1,
            }
        }
        Ok(())
    }

    /// Compounds of ours that the caller heard: each names its source.
    fn ours(&self) -> usize {
        let named = |report: &&Vec<u8>| {
            packets(report).any(|packet| matches!(packet, Ok(Packet::SourceDescription(_))))
        };
        self.reports.iter().filter(named).count()
    }
}

fn received(socket: &UdpSocket) -> Result<Option<Vec<u8>>> {
    let mut buffer = [0; 2048];
    match socket.recv(&mut buffer) {
        Ok(length) => Ok(Some(buffer[..length].to_vec())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A sender report whose NTP timestamp has this in its middle.
fn sender_report(middle: u32) -> Vec<u8> {
    rtcp(0, 200, &[CALLERS, middle >> 16, middle << 16, 1, 2, 3])
}

// Statement 142.
#[test]
fn a_secured_peer_hears_ours_while_the_other_side_is_silent_and_no_index_twice_and_rtp_stays_in_the_kernel()
-> Result<()> {
    /// Steps of 20 ms at most: in which ours must have come, and in which they must have gone.
    const PATIENCE: u128 = 4 * SILENCE.as_millis() / 20;
    /// Packets of the caller in a row, now and then.
    const LOST: u16 = 4;
    let wires = Wires::new("reports")?;
    let node = Node::boot(&wires.settings())?;
    let (mut worker, mut watch) = (Worker::new(&node, 0, 1)?, node.watch()?);
    let mut flows = plan();
    flows.iter_mut().for_each(|flow| (flow.continuity, flow.rtcp_copy) = (true, true));
    flows[1].from = Side::Callee;
    (flows[0].unprotect, flows[1].protect) = (Some(key(1)), Some(key(2)));
    // And wants VoIP metrics.
    let judged = Judged { codec: "PCMU/8000".parse()?, packet: Duration::from_millis(20) };
    flows[0].judged = Some(Box::new(judged));
    let ids = worker.dataplane.install(&flows)?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    let mut call = Call::new(&wires)?;
    let punted = || node.traffic().map(|traffic| traffic.get(&Traffic::Punted).copied().unwrap_or(0));

    let mut steps = 0;
    while call.ours() < 2 {
        ensure!(steps < PATIENCE, "{} reports of ours", call.ours());
        if steps % 50 == 0 {
            call.caller.send_to(&call.protect.protected(&sender_report(0x5678_9abc)), NEAR)?;
        }
        if steps % 200 == 100 {
            call.lost += LOST;
        }
        call.step(&mut worker, &mut watch)?;
        steps += 1;
    }
    ensure!(call.callers > 0, "the caller's own reports are relayed");
    let read = packets(&call.reports[1]).collect::<Result<Vec<_>, _>>()?;
    let Packet::SenderReport { ssrc, sender, reports } = &read[0] else { anyhow::bail!("{read:?}") };
    ensure!(*ssrc == CALLEES && u64::from(sender.packets) <= call.heard[0] && sender.packets > 500);
    let [block] = &reports[..] else { anyhow::bail!("{reports:?}") };
    ensure!((block.ssrc, block.last_sender_report) == (CALLERS, 0x5678_9abc), "{block:?}");
    ensure!(block.cumulative_lost > 0 && block.cumulative_lost % i32::from(LOST) == 0, "{block:?}");
    // RFC 3611 section 4.7: each burst was lost from its first packet to its last, and nothing between.
    let (block, bursts) = (&call.reports[1][call.reports[1].len() - 36..], [255, 0, 0, 20 * LOST as u8]);
    ensure!(block[..8] == [7, 0, 0, 8, 0x11, 0x11, 0x11, 0x11] && block[10..14] == bursts, "{block:?}");
    ensure!(punted()? == 0, "RTP went through userspace");

    // The other side begins to report.
    let theirs = rtcp(0, 201, &[CALLEES]);
    let (mut said, mut relayed, mut steps) = (0, 0, 0);
    let ours = call.ours();
    while relayed < 10 {
        ensure!(steps < PATIENCE, "its RTCP is not the kernel's again");
        if steps % 10 == 0 {
            let before = punted()?;
            call.callee.send_to(&theirs, FAR)?;
            said += 1;
            call.step(&mut worker, &mut watch)?;
            relayed += usize::from(punted()? == before);
        }
        call.step(&mut worker, &mut watch)?;
        steps += 1;
    }
    for _ in 0..10 {
        call.step(&mut worker, &mut watch)?;
    }
    ensure!(call.ours() <= ours + 1, "ours go on");
    ensure!(call.reports.len() - call.ours() == said, "{said} of its reports were sent");
    ensure!(punted()? > 0, "none came to userspace at first");
    ensure!(call.indices.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", call.indices);
    let said = u64::from(call.sequence);
    for id in &ids {
        let report = worker.dataplane.report(*id).context("installed")?;
        let figures = (report.path, report.packets, report.refused);
        ensure!(figures == (RelayPath::Kernel, said, 0), "{report:?}");
    }
    ensure!(call.heard == [said; 2], "{:?} of {said}", call.heard);

    worker.dataplane.remove(&ids);
    ensure!(node.drops()?.is_empty(), "{:?}", node.drops()?);
    Ok(node.detach()?)
}
