//! The part of `cargo xtask bench transcode --wire` with packets: calls between two codecs over Causeway, by AF_XDP and
//! the bridge of the daemon, and over rtpengine with its own transcoding, in one run.
//!
//! Every call sends 50 packets a second both ways, as phones do: what transcodes keeps a pace of its own, so nothing can
//! be sent faster. The cost is processor time of the whole machine while packets come (with `--charged`, that of this
//! program, the relay and softirq threads), above that of a sender-only run of the same packets; how many streams a core
//! carries follows from it. A relay that answers with fewer packets than came has no figure.

use super::Quiet;
use super::causeway::{EXPEDITED_FORWARDING, RELAY_PORTS};
use super::lab::{Path, Side, enter};
use super::processor_time::{self, Reading, Use};
use super::programs::{Bench, Counter};
use super::recording::{Packet, Recording};
use super::rtpengine::{Rtpengine, Transcoded};
use super::traffic::{CallPorts, Pace, Replay, endpoint_port, port_from, words};
use crate::bench::ReplayArguments;
use crate::report::median;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Context, Result, anyhow, ensure};
use gateway_userspace::base::id::CoreId;
use gateway_userspace::base::time::Time;
use gateway_userspace::dataplane::{Dataplane, Mode, Node, Settings, monotonic};
use gateway_userspace::media::plan::{LegMedia, MediaPlan, PlanSettings, plan};
use gateway_userspace::media::policy::MediaPolicy;
use gateway_userspace::sdp::{Direction, Negotiated, NegotiatedFormat, Security, Transcoding};
use mio::{Events, Poll};
use serde::Serialize;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Length of one measured run, and of the one before it in which jitter buffers fill and sources are learned.
const RUN: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(8);
/// Packets of a stream in a second.
const PACKETS_PER_SECOND: f64 = 50.0;
/// Of packets that came, those that have to leave again while the run lasts.
const COMPLETE: f64 = 0.97;

/// One side's codec, and speech in it.
pub(in crate::bench) struct Spoken {
    /// As in an `rtpmap` line.
    pub(in crate::bench) codec: &'static str,
    pub(in crate::bench) fmtp: &'static str,
    pub(in crate::bench) payload_type: u8,
    /// Payloads of 20 ms, and units of the RTP clock in each.
    pub(in crate::bench) payloads: Vec<Vec<u8>>,
    pub(in crate::bench) units: u32,
}

/// A pair of codecs by both relays.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct WireFigures {
    pub(in crate::bench) pair: String,
    /// µs of processor time for a packet that comes and one that leaves.
    pub(in crate::bench) causeway_us: f64,
    /// `None` where it has not both codecs, or does not carry all packets.
    pub(in crate::bench) rtpengine_us: Option<f64>,
    pub(in crate::bench) causeway_streams_per_core: f64,
    pub(in crate::bench) rtpengine_streams_per_core: Option<f64>,
    pub(in crate::bench) rtpengine_over_causeway: Option<f64>,
    pub(in crate::bench) disturbed_runs: u32,
}

/// Measures one pair, the first one being the caller's.
pub(in crate::bench) fn measure(
    steps: &Steps,
    name: String,
    spoken: &[Spoken; 2],
    arguments: &ReplayArguments,
) -> Result<WireFigures> {
    let workspace = Workspace::find()?;
    let bench = Bench::read(&workspace.objects())?;
    let recordings = spoken.each_ref().map(recording);
    let maker = Maker { workspace: &workspace, bench: &bench, recordings: &recordings, spoken, arguments };
    steps.run(&name.clone(), |step| {
        step.doing("labs");
        let mut alone = maker.alone()?;
        let mut causeway = maker.causeway()?;
        let mut rtpengine = maker.rtpengine()?;
        let mut quiet = Quiet::new(arguments);
        alone.warm_up()?;
        ensure!(causeway.warm_up()?, "Causeway does not carry all of it");
        if let Some(relay) = &mut rtpengine
            && !relay.warm_up()?
        {
            rtpengine = None;
        }
        let mut costs = [Vec::new(), Vec::new()];
        for turn in 0..arguments.repetitions {
            step.progress(turn.into(), arguments.repetitions.into(), "turns");
            let floor = alone.cost(step, &mut quiet)?;
            for (costs, relay) in costs.iter_mut().zip([Some(&mut causeway), rtpengine.as_mut()]) {
                if let Some(relay) = relay {
                    costs.push(relay.cost(step, &mut quiet)? - floor);
                }
            }
        }
        let causeway_us = median(&costs[0])?;
        let rtpengine_us = if rtpengine.is_some() { Some(median(&costs[1])?) } else { None };
        let streams = |cost: f64| 1e6 / PACKETS_PER_SECOND / cost;
        step.detail(format!("{:.0} streams a core", streams(causeway_us)));
        Ok(WireFigures {
            pair: name,
            causeway_us,
            rtpengine_us,
            causeway_streams_per_core: streams(causeway_us),
            rtpengine_streams_per_core: rtpengine_us.map(streams),
            rtpengine_over_causeway: rtpengine_us.map(|cost| cost / causeway_us),
            disturbed_runs: quiet.disturbed,
        })
    })
}

fn recording(spoken: &Spoken) -> Recording {
    let packet = |(at, payload): (usize, &Vec<u8>)| Packet {
        marker_and_type: spoken.payload_type,
        timestamp: at as u32 * spoken.units,
        sum: words(payload),
        payload: payload.clone(),
    };
    Recording {
        packets: spoken.payloads.iter().enumerate().map(packet).collect(),
        span: spoken.payloads.len() as u32 * spoken.units,
    }
}

struct Maker<'a> {
    workspace: &'a Workspace,
    bench: &'a Bench,
    recordings: &'a [Recording; 2],
    spoken: &'a [Spoken; 2],
    arguments: &'a ReplayArguments,
}

impl<'a> Maker<'a> {
    fn alone(&self) -> Result<Transcoder<'a>> {
        let path = Path::up(self.workspace, "benchnothing")?;
        let counter = self.bench.discard(&path)?;
        let calls = (0..usize::from(self.arguments.calls)).map(ports).collect();
        self.transcoder(path, Relay::Nothing, calls, counter)
    }

    fn causeway(&self) -> Result<Transcoder<'a>> {
        let path = Path::up(self.workspace, "benchcw")?;
        let calls: Vec<_> = (0..usize::from(self.arguments.calls)).map(ports).collect();
        let plans = (0..calls.len()).map(|call| bridged(&path, call, self.spoken)).collect::<Result<_>>()?;
        let relay = Relay::Causeway { _running: Running::start(&path, plans)? };
        let counter = self.bench.counter(&path)?;
        self.transcoder(path, relay, calls, counter)
    }

    /// `None` where it has not both codecs.
    fn rtpengine(&self) -> Result<Option<Transcoder<'a>>> {
        let codec = |spoken: &Spoken| Transcoded {
            codec: spoken.codec,
            fmtp: spoken.fmtp,
            payload_type: spoken.payload_type,
        };
        let codecs = self.spoken.each_ref().map(codec);
        for codec in &codecs {
            if !Rtpengine::codes(codec)? {
                return Ok(None);
            }
        }
        let path = Path::up(self.workspace, "benchrtpe")?;
        let mut rtpengine = Rtpengine::start(&path)?;
        let calls = (0..usize::from(self.arguments.calls))
            .map(|call| rtpengine.transcode(&path, call, &codecs))
            .collect::<Result<_>>()?;
        let counter = self.bench.counter(&path)?;
        self.transcoder(path, Relay::Rtpengine(rtpengine), calls, counter).map(Some)
    }

    fn transcoder(
        &self,
        path: Path<'a>,
        relay: Relay,
        calls: Vec<CallPorts>,
        counter: Counter,
    ) -> Result<Transcoder<'a>> {
        let replay = Replay::between(&path, &calls, self.recordings.each_ref())?;
        let rate = 2.0 * PACKETS_PER_SECOND * calls.len() as f64;
        let charged = self.arguments.charged;
        Ok(Transcoder { replay, relay, counter, rate, charged, _path: path })
    }
}

enum Relay {
    Nothing,
    Causeway { _running: Running },
    Rtpengine(Rtpengine),
}

/// One of the compared. Fields are dropped in this order: the lab goes last.
struct Transcoder<'a> {
    replay: Replay<'a>,
    relay: Relay,
    counter: Counter,
    /// Packets a second, of all calls both ways.
    rate: f64,
    charged: bool,
    _path: Path<'a>,
}

impl Transcoder<'_> {
    /// Until sources are learned and jitter buffers filled; whether as many packets leave then as come.
    fn warm_up(&mut self) -> Result<bool> {
        self.run(WARM_UP)?;
        Ok(self.run(RUN)?.0 > COMPLETE)
    }

    /// µs of the whole machine for each packet that was sent.
    fn cost(&mut self, step: &Step, quiet: &mut Quiet) -> Result<f64> {
        let (share, cost) = quiet.run(step, || {
            let (share, cost, used) = self.run(RUN)?;
            Ok(((share, cost), used))
        })?;
        ensure!(share > COMPLETE, "only {:.1} % of the packets left again", share * 100.0);
        Ok(cost)
    }

    /// The share of packets that came out again meanwhile, µs of processor time for each that was sent, and how
    /// processors were used.
    fn run(&mut self, length: Duration) -> Result<(f64, f64, Use)> {
        let packets = (self.rate * length.as_secs_f64()) as u64;
        let ours = self.processes();
        let before = self.counter.taken()?;
        let (reading, charged) = (Reading::start()?, charged(&ours)?);
        let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
        let sent = self.replay.run(Pace::PacketsPerSecond(self.rate), packets, last)?;
        // The sender's thread has ended, and its time is not among that of this program's threads.
        let charged = self::charged(&ours)?.saturating_sub(charged) + sent.charged;
        let used = Reading::end()?.since(&reading, &ours);
        let packets = sent.packets as f64;
        let share = (self.counter.taken()? - before) as f64 / packets;
        let time = if self.charged { charged + used.softirq_threads } else { used.busy };
        Ok((share, time.as_secs_f64() * 1e6 / packets, used))
    }

    /// This program, and the relay if it is another.
    fn processes(&self) -> Vec<u32> {
        let rtpengine = match &self.relay {
            Relay::Rtpengine(rtpengine) => Some(rtpengine.id()),
            Relay::Nothing | Relay::Causeway { .. } => None,
        };
        [Some(std::process::id()), rtpengine].into_iter().flatten().collect()
    }
}

/// Processor time of these processes so far.
fn charged(processes: &[u32]) -> Result<Duration> {
    processes.iter().map(|process| processor_time::of_process(*process)).sum()
}

/// Ports of a call where the relay's are ours to choose.
fn ports(call: usize) -> CallPorts {
    CallPorts { endpoint: [endpoint_port(call); 2], relay: [port_from(RELAY_PORTS, call); 2] }
}

/// What the daemon plans for a call whose sides have no codec in common.
fn bridged(path: &Path<'_>, call: usize, spoken: &[Spoken; 2]) -> Result<MediaPlan> {
    let policy = MediaPolicy {
        dscp: Some(EXPEDITED_FORWARDING),
        transcoding: Transcoding::WhenNeeded,
        ..MediaPolicy::default()
    };
    let (relay, endpoint) = (port_from(RELAY_PORTS, call), endpoint_port(call));
    let leg = |side: Side| -> Result<Negotiated> {
        let [local, remote] =
            [path.gateway(side), path.endpoint(side)].map(|port| port.of_call(call).address);
        let Spoken { codec, fmtp, payload_type, .. } = &spoken[side as usize];
        Ok(Negotiated {
            local: SocketAddr::from((local, relay)),
            remote: Some(SocketAddr::from((remote, endpoint))),
            remote_rtcp: Some(SocketAddr::from((remote, endpoint + 1))),
            rtcp_mux: false,
            direction: Direction::SendReceive,
            ptime: Some(20),
            maxptime: None,
            formats: vec![NegotiatedFormat {
                codec: codec.parse()?,
                fmtp: (!fmtp.is_empty()).then(|| (*fmtp).into()),
                from_peer: *payload_type,
                also_from_peer: None,
                to_peer: *payload_type,
            }],
            security: Security::Plain,
            checks: None,
        })
    };
    let (caller, callee) = (leg(Side::Caller)?, leg(Side::Callee)?);
    let media = |negotiated| LegMedia { negotiated, policy: &policy };
    let settings = PlanSettings { continuity: true, rtcp_copy: true };
    let plan = plan(media(&caller), media(&callee), settings).bridged(media(&caller), media(&callee));
    ensure!(plan.flows.iter().all(|flow| flow.bridge.is_some()), "this build has not both codecs");
    Ok(plan)
}

/// The daemon's data plane with one worker in a thread of its own, until this is dropped.
struct Running {
    node: Option<Node>,
    worker: Option<JoinHandle<Result<()>>>,
    over: Arc<AtomicBool>,
    namespace: String,
}

/// How long the worker sleeps at most, and so how long its end takes.
const NAP: Duration = Duration::from_millis(200);

impl Running {
    fn start(path: &Path<'_>, plans: Vec<MediaPlan>) -> Result<Self> {
        let namespace = path.gateway_namespace();
        let pins = PathBuf::from(format!("/sys/fs/bpf/{namespace}"));
        // What a bench that was killed left pinned belongs to a lab that is gone.
        if pins.exists() {
            fs::remove_dir_all(&pins).with_context(|| pins.display().to_string())?;
        }
        let settings = Settings {
            mode: Mode::Native,
            pin_directory: pins,
            interfaces: Side::BOTH.map(|side| side.gateway_interface().to_owned()).to_vec(),
            ..Settings::default()
        };
        let (node, mut dataplane, poll) = enter(&namespace, || {
            let node = Node::boot(&settings).context("Causeway's data plane")?;
            let mut dataplane = node.worker(CoreId(0), 1).context("Causeway's data plane")?;
            let poll = Poll::new()?;
            dataplane.register(poll.registry(), 0..1000)?;
            for plan in &plans {
                dataplane.install(&plan.flows).context("flows of a call")?;
            }
            Ok((node, dataplane, poll))
        })?;
        let over = Arc::new(AtomicBool::new(false));
        let (end, inside) = (Arc::clone(&over), namespace.clone());
        let worker = thread::spawn(move || enter(&inside, || turns(poll, &mut dataplane, &end)));
        Ok(Self { node: Some(node), worker: Some(worker), over, namespace })
    }
}

/// As the daemon's worker turns, without signalling.
fn turns(mut poll: Poll, dataplane: &mut Dataplane, over: &AtomicBool) -> Result<()> {
    let (mut events, mut records) = (Events::with_capacity(64), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let due = dataplane.deadline().map(|at| at.since(Time(monotonic() / 1_000)));
        match poll.poll(&mut events, Some(due.unwrap_or(NAP).min(NAP))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            dataplane.ready(event.token(), &mut records);
        }
        dataplane.run(&mut records);
        records.clear();
    }
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self
            .worker
            .take()
            .map_or(Ok(()), |worker| worker.join().unwrap_or_else(|_| Err(anyhow!("the worker panicked"))));
        let node = self.node.take();
        let detached = enter(&self.namespace, || node.map_or(Ok(()), |node| node.detach().context("detach")));
        for error in [ended, detached].into_iter().filter_map(Result::err) {
            eprintln!("Causeway's data plane does not end well: {error:#}");
        }
    }
}
