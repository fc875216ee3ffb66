//! The part of `cargo xtask bench transcode --wire` with packets: calls between two codecs over Causeway, by AF_XDP and
//! the bridge of the daemon, and over rtpengine with its own transcoding, in one run.
//!
//! Every call sends 50 packets a second both ways, as phones do: what transcodes keeps a pace of its own, so nothing can
//! be sent faster. The cost is processor time of the whole machine while packets come (with `--charged`, that of this
//! program, the relay and softirq threads), above that of a sender-only run of the same packets; how many streams a core
//! carries follows from it.
//!
//! A relay has a figure only if it transcodes: before anything is measured both ends listen to what they hear
//! ([`heard`]), in every measured run as many packets have to leave as come, and of Causeway's bridges as many have to be
//! decoded and encoded. Bridges rest while others have their turn, and every run begins with a second that does not count.

use super::Quiet;
use super::causeway::{EXPEDITED_FORWARDING, RELAY_PORTS};
use super::heard;
use super::lab::{Path, Side};
use super::processor_time::{self, Reading, Use};
use super::programs::{Bench, Counter};
use super::recording::{Packet, Recording};
use super::rtpengine::{Rtpengine, Transcoded};
use super::traffic::{CallPorts, Pace, Replay, Sent, endpoint_port, port_from, words};
use super::worker::Worker;
use crate::bench::ReplayArguments;
use crate::report::median;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Result, ensure};
use gateway_userspace::codec::Coding;
use gateway_userspace::media::bridge::Work;
use gateway_userspace::media::plan::{LegMedia, MediaPlan, PlanSettings, plan};
use gateway_userspace::media::policy::MediaPolicy;
use gateway_userspace::sdp::{Direction, Negotiated, NegotiatedFormat, Security, Transcoding};
use serde::Serialize;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Length of one measured run, and of what goes before each until jitter buffers are filled again.
const RUN: Duration = Duration::from_secs(5);
const LEAD: Duration = Duration::from_secs(1);
/// How long both ends listen once: the whole recording.
const LISTEN: Duration = Duration::from_secs(8);
/// Packets of a stream in a second.
const PACKETS_PER_SECOND: f64 = 50.0;
/// Of packets that come, those that have to leave again, decoded and encoded, while the run lasts.
const COMPLETE: f64 = 0.97;

/// One side's codec, and speech in it.
pub(in crate::bench) struct Spoken {
    /// As in an `rtpmap` line.
    pub(in crate::bench) codec: &'static str,
    pub(in crate::bench) fmtp: &'static str,
    pub(in crate::bench) payload_type: u8,
    pub(in crate::bench) coding: Coding,
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
        let replay = self.replay(&path, &self.calls())?;
        Ok(Transcoder { replay, relay: Relay::Nothing, counter, pace: self.pace(), _path: path })
    }

    fn causeway(&self) -> Result<Transcoder<'a>> {
        let path = Path::up(self.workspace, "benchcw")?;
        let calls = self.calls();
        let plans =
            (0..calls.len()).map(|call| bridged(&path, call, self.spoken)).collect::<Result<Vec<_>>>()?;
        let relay = Relay::Causeway(Box::new(Worker::start(&path, &plans)?));
        let replay = self.replay(&path, &calls)?;
        self.transcoder("Causeway", path, relay, replay)
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
            .collect::<Result<Vec<_>>>()?;
        let replay = self.replay(&path, &calls)?;
        self.transcoder("rtpengine", path, Relay::Rtpengine(rtpengine), replay).map(Some)
    }

    /// Ports of calls where the relay's are ours to choose.
    fn calls(&self) -> Vec<CallPorts> {
        let ports =
            |call| CallPorts { endpoint: [endpoint_port(call); 2], relay: [port_from(RELAY_PORTS, call); 2] };
        (0..usize::from(self.arguments.calls)).map(ports).collect()
    }

    fn replay(&self, path: &Path<'a>, calls: &[CallPorts]) -> Result<Replay<'a>> {
        Replay::between(path, calls, self.recordings.each_ref())
    }

    fn pace(&self) -> Paced {
        let rate = 2.0 * PACKETS_PER_SECOND * f64::from(self.arguments.calls);
        Paced { rate, charged: self.arguments.charged }
    }

    /// A relay, once both ends have heard that it transcodes.
    fn transcoder(
        &self,
        name: &str,
        path: Path<'a>,
        mut relay: Relay,
        mut replay: Replay<'a>,
    ) -> Result<Transcoder<'a>> {
        let pace = self.pace();
        let share = heard::control(&path, self.spoken, || {
            relay.during(|| pace.send(&mut replay, LISTEN).map(|sent| sent.packets))
        })?;
        ensure!(
            share > COMPLETE,
            "{name} carries {:.1} % of the packets into the codec of the other end",
            share * 100.0
        );
        let counter = self.bench.counter(&path)?;
        Ok(Transcoder { replay, relay, counter, pace, _path: path })
    }
}

enum Relay {
    Nothing,
    Causeway(Box<Worker>),
    Rtpengine(Rtpengine),
}

impl Relay {
    /// `run` with the relay at work, if it does not work all the time.
    fn during<T>(&mut self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Self::Causeway(worker) => worker.during(run),
            Self::Nothing | Self::Rtpengine(_) => run(),
        }
    }

    /// What its codecs did so far, where it tells.
    fn work(&self) -> Option<Work> {
        match self {
            Self::Causeway(worker) => Some(worker.work()),
            Self::Nothing | Self::Rtpengine(_) => None,
        }
    }

    /// This program, and the relay if it is another.
    fn processes(&self) -> Vec<u32> {
        let rtpengine = match self {
            Self::Rtpengine(rtpengine) => Some(rtpengine.id()),
            Self::Nothing | Self::Causeway(_) => None,
        };
        [Some(std::process::id()), rtpengine].into_iter().flatten().collect()
    }
}

/// How fast all calls together send, and whose processor time their cost is.
#[derive(Clone, Copy)]
struct Paced {
    /// Packets a second, both ways.
    rate: f64,
    charged: bool,
}

impl Paced {
    fn send(self, replay: &mut Replay<'_>, length: Duration) -> Result<Sent> {
        let packets = (self.rate * length.as_secs_f64()) as u64;
        let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
        replay.run(Pace::PacketsPerSecond(self.rate), packets, last)
    }
}

/// One of the compared. Fields are dropped in this order: the lab goes last.
struct Transcoder<'a> {
    replay: Replay<'a>,
    relay: Relay,
    counter: Counter,
    pace: Paced,
    _path: Path<'a>,
}

/// One run.
struct Run {
    /// Of packets that were sent, those that came out meanwhile.
    left: f64,
    /// µs of processor time for each that was sent.
    cost: f64,
    used: Use,
    /// Packets that were sent, with those that do not count.
    sent: u64,
}

impl Transcoder<'_> {
    /// µs of processor time for each packet that was sent.
    fn cost(&mut self, step: &Step, quiet: &mut Quiet) -> Result<f64> {
        quiet.run(step, || {
            let before = self.relay.work();
            let run = self.run()?;
            let mut shares = vec![("left again", run.left)];
            if let Some((before, after)) = before.zip(self.relay.work()) {
                let share = |after: u64, before: u64| (after - before) as f64 / run.sent as f64;
                shares.push(("were decoded", share(after.decoded, before.decoded)));
                shares.push(("were made by an encoder", share(after.encoded, before.encoded)));
            }
            for (what, share) in shares {
                ensure!(share > COMPLETE, "only {:.1} % of the packets {what}", share * 100.0);
            }
            Ok((run.cost, run.used))
        })
    }

    fn run(&mut self) -> Result<Run> {
        let Self { replay, relay, counter, pace, .. } = self;
        let ours = relay.processes();
        relay.during(|| {
            let lead = pace.send(replay, LEAD)?;
            let before = counter.taken()?;
            let (reading, charged) = (Reading::start()?, charged(&ours)?);
            let sent = pace.send(replay, RUN)?;
            // The sender's thread has ended, and its time is not among that of this program's threads.
            let charged = self::charged(&ours)?.saturating_sub(charged) + sent.charged;
            let used = Reading::end()?.since(&reading, &ours);
            let packets = sent.packets as f64;
            let left = (counter.taken()? - before) as f64 / packets;
            let time = if pace.charged { charged + used.softirq_threads } else { used.busy };
            let cost = time.as_secs_f64() * 1e6 / packets;
            Ok(Run { left, cost, used, sent: lead.packets + sent.packets })
        })
    }
}

/// Processor time of these processes so far.
fn charged(processes: &[u32]) -> Result<Duration> {
    processes.iter().map(|process| processor_time::of_process(*process)).sum()
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
            metrics: false,
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
            fax: None,
        })
    };
    let (caller, callee) = (leg(Side::Caller)?, leg(Side::Callee)?);
    let media = |negotiated| LegMedia { negotiated, policy: &policy };
    let settings = PlanSettings { continuity: true, rtcp_copy: true };
    let plan = plan(media(&caller), media(&callee), settings).bridged(media(&caller), media(&callee));
    ensure!(plan.flows.iter().all(|flow| flow.bridge.is_some()), "this build has not both codecs");
    Ok(plan)
}
