//! `cargo xtask bench relay`: one recording, replayed as N calls in both directions, over three relays in one
//! run: an empty XDP redirect that reads nothing (the floor of every relay between two veth interfaces),
//! Causeway with the flows of those calls, and rtpengine in userspace.
//!
//! **Processor time** is that of the whole machine per packet, less that of a run whose packets are discarded
//! by XDP at the gateway's interface, so sender and first hop are subtracted. It contains everything from
//! there to the far host's interface, where a counting program ends each packet. Relays and their sender-only
//! runs take turns; the figure is the median of the differences. Relays in the kernel are measured with the
//! sender unpaced, which makes one processor entirely busy and leaves no room for errors of idle accounting.
//! rtpengine cannot take that: it is measured at a pace that it keeps up without loss, against a sender-only run
//! of the same pace.
//!
//! **Highest rate** is the highest at which none of a second's packets is lost in one of three attempts, sender
//! and relay sharing the machine. **Latency** is measured apart, one packet at a time ([`latency`]).

mod bencode;
pub(super) mod causeway;
mod contender;
pub(super) mod lab;
mod latency;
mod processor_time;
pub(super) mod programs;
mod recording;
mod rtpengine;
pub(super) mod traffic;

use super::RelayArguments;
use crate::media::media_pcap;
use crate::report::{self, median};
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Result, bail, ensure};
use contender::{Contender, Maker, Relay, Run};
use latency::Latency;
use programs::Bench;
use recording::Recording;
use serde::Serialize;
use std::time::Duration;
use traffic::Pace;

/// Packets of one measured run of a relay in the kernel: about a second.
const UNPACED_PACKETS: u64 = 500_000;
/// Length of one run at a pace.
const PACED_RUN: Duration = Duration::from_secs(3);
/// Length of one probe for the highest rate, where the search begins, and when it ends: this close.
const PROBE: Duration = Duration::from_secs(1);
/// Packets per second at which rtpengine's cost is measured: well below what it can keep up on one processor.
const RTPENGINE_PACE: f64 = 20_000.0;
const LOWEST_RATE: f64 = 5000.0;
const PRECISION: f64 = 1.05;
/// Packets that tell the latency, over all calls.
const LATENCY_PACKETS: usize = 20_000;
/// Above this share of processors in use by others the figures mean little.
const QUIET: f64 = 0.05;

/// The last line of `--json`. Times in µs, rates in packets per second.
#[derive(Debug, Serialize)]
struct Figures {
    calls: u16,
    repetitions: u8,
    /// Processor time of a packet above that of the sender.
    empty_us: f64,
    causeway_us: f64,
    rtpengine_us: f64,
    causeway_over_empty: f64,
    rtpengine_over_causeway: f64,
    /// The same by what the kernel charged to sender and relay: incomplete, but deaf to other programs.
    charged: Costs,
    rtpengine_pace: f64,
    rates: PerRelay<f64>,
    latency_p50_us: PerRelay<f64>,
    latency_p99_us: PerRelay<f64>,
    /// How Causeway's packets were taken from the interface.
    datapath: &'static str,
    /// Share of processor time that others used before the run began.
    background: f64,
}

#[derive(Debug, Serialize)]
struct PerRelay<T> {
    empty: T,
    causeway: T,
    rtpengine: T,
}

#[derive(Debug, Serialize)]
struct Costs {
    empty_us: f64,
    causeway_us: f64,
    rtpengine_us: f64,
}

pub(super) fn run(arguments: &RelayArguments, json: bool) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let recording = steps.run("recording", |step| {
        let pcap = arguments.pcap.clone().unwrap_or_else(|| workspace.target.join("xtask/media/speech.pcap"));
        if arguments.pcap.is_none() {
            media_pcap(&pcap)?;
        }
        let recording = Recording::read(&pcap)?;
        step.detail(format!("{}: {} packets", workspace.relative(&pcap).display(), recording.packets.len()));
        Ok(recording)
    })?;
    let background = steps.run("background load", |step| {
        let background = processor_time::background(Duration::from_secs(1))?;
        step.detail(format!("{:.1} % of the processors", background * 100.0));
        Ok(background)
    })?;
    if background > QUIET {
        steps.note("background load", "other programs keep this machine busy: figures will be off");
    }
    let bench = Bench::read(&workspace.objects())?;
    let maker = Maker {
        workspace: &workspace,
        steps: &steps,
        bench: &bench,
        recording: &recording,
        calls: arguments.calls,
    };
    let mut contest = Contest {
        alone: maker.nothing()?,
        empty: maker.empty()?,
        causeway: maker.causeway()?,
        rtpengine: maker.rtpengine()?,
    };
    let figures = contest.measure(&steps, arguments, background)?;
    print_table(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

struct Contest<'a> {
    alone: Contender<'a>,
    empty: Contender<'a>,
    causeway: Contender<'a>,
    rtpengine: Contender<'a>,
}

/// Differences to the sender-only run of the same turn.
#[derive(Default)]
struct Differences {
    machine: Vec<f64>,
    charged: Vec<f64>,
}

impl Differences {
    fn push(&mut self, run: &Run, alone: &Run) {
        self.machine.push(run.machine - alone.machine);
        self.charged.push(run.charged - alone.charged);
    }
}

impl Contest<'_> {
    fn measure(&mut self, steps: &Steps, arguments: &RelayArguments, background: f64) -> Result<Figures> {
        self.warm_up(steps)?;
        let [empty, causeway, rtpengine] =
            steps.run("processor time", |step| self.costs(step, arguments.repetitions, RTPENGINE_PACE))?;
        // After the costs, because rtpengine takes long to recover from a flood.
        let rates = PerRelay {
            empty: highest_rate(steps, &mut self.empty)?,
            causeway: highest_rate(steps, &mut self.causeway)?,
            rtpengine: highest_rate(steps, &mut self.rtpengine)?,
        };
        let datapath = self.check_causeway()?;
        let rounds = LATENCY_PACKETS.div_ceil(2 * usize::from(arguments.calls));
        let latency = PerRelay {
            empty: latency(steps, &mut self.empty, rounds)?,
            causeway: latency(steps, &mut self.causeway, rounds)?,
            rtpengine: latency(steps, &mut self.rtpengine, rounds)?,
        };
        let quantile = |quantile| PerRelay {
            empty: latency.empty.microseconds(quantile),
            causeway: latency.causeway.microseconds(quantile),
            rtpengine: latency.rtpengine.microseconds(quantile),
        };
        let charged = Costs {
            empty_us: median(empty.charged)?,
            causeway_us: median(causeway.charged)?,
            rtpengine_us: median(rtpengine.charged)?,
        };
        let (empty_us, causeway_us) = (median(empty.machine)?, median(causeway.machine)?);
        let rtpengine_us = median(rtpengine.machine)?;
        Ok(Figures {
            calls: arguments.calls,
            repetitions: arguments.repetitions,
            empty_us,
            causeway_us,
            rtpengine_us,
            causeway_over_empty: causeway_us / empty_us,
            rtpengine_over_causeway: rtpengine_us / causeway_us,
            charged,
            rtpengine_pace: RTPENGINE_PACE,
            rates,
            latency_p50_us: quantile(0.5),
            latency_p99_us: quantile(0.99),
            datapath,
            background,
        })
    }

    /// Until rtpengine has learned where each call's packets come from, which takes it some seconds.
    fn warm_up(&mut self, steps: &Steps) -> Result<()> {
        steps.run("warm-up", |_| {
            for contender in [&mut self.alone, &mut self.empty, &mut self.causeway, &mut self.rtpengine] {
                let run = contender.run(Pace::PacketsPerSecond(2000.0), 8000)?;
                let name = contender.name;
                ensure!(
                    run.lost == 0,
                    "{name} lost {} of {} packets at a low pace",
                    run.lost,
                    run.sent.packets
                );
            }
            Ok(())
        })
    }

    fn costs(&mut self, step: &Step, repetitions: u8, pace: f64) -> Result<[Differences; 3]> {
        let mut differences: [Differences; 3] = Default::default();
        let [empty, causeway, rtpengine] = &mut differences;
        let (paced, packets) = (Pace::PacketsPerSecond(pace), (pace * PACED_RUN.as_secs_f64()) as u64);
        for turn in 1..=repetitions {
            step.progress(turn.into(), repetitions.into(), "turns");
            let alone = self.alone.run(Pace::Unpaced, UNPACED_PACKETS)?;
            empty.push(&lossless(&mut self.empty, Pace::Unpaced, UNPACED_PACKETS)?, &alone);
            causeway.push(&lossless(&mut self.causeway, Pace::Unpaced, UNPACED_PACKETS)?, &alone);
            let alone = self.alone.run(paced, packets)?;
            rtpengine.push(&lossless(&mut self.rtpengine, paced, packets)?, &alone);
        }
        step.detail(format!("{repetitions} turns, rtpengine at {pace:.0} packets/s"));
        Ok(differences)
    }

    /// The figures are Causeway's only if its program relayed the packets.
    fn check_causeway(&self) -> Result<&'static str> {
        let Relay::Causeway(causeway) = &self.causeway.relay else { bail!("Causeway is not in its own lab") };
        ensure!(
            causeway.relayed()? > UNPACED_PACKETS,
            "packets went past Causeway; refused: {}",
            causeway.refused()?
        );
        causeway.datapath()
    }
}

fn lossless(contender: &mut Contender<'_>, pace: Pace, packets: u64) -> Result<Run> {
    let run = contender.run(pace, packets)?;
    let (name, sent) = (contender.name, run.sent.packets);
    ensure!(
        run.lost * 1000 <= sent,
        "{name} lost {} of {sent} packets at {:.0}/s: its cost there is none of a relay",
        run.lost,
        run.sent.rate()
    );
    Ok(run)
}

/// Doubles the rate until packets are lost or the sender is at its end, and bisects between the last two. Never
/// far above what the relay takes: one that was flooded may not recover in time for the next probe.
fn highest_rate(steps: &Steps, contender: &mut Contender<'_>) -> Result<f64> {
    steps.run(&format!("rate, {}", contender.name), |step| {
        let (mut rate, mut held, mut too_high) = (LOWEST_RATE, 0.0, f64::INFINITY);
        while too_high > PRECISION * held {
            step.doing(&format!("{rate:.0} packets/s"));
            match probe(contender, rate)? {
                Some(sent) if sent < rate / PRECISION => {
                    step.detail(format!("{sent:.0} packets/s, as fast as the sender"));
                    return Ok(sent);
                }
                Some(sent) => held = sent,
                None => too_high = rate,
            }
            ensure!(held > 0.0, "{} loses packets at {too_high:.0}/s already", contender.name);
            rate = if too_high.is_finite() { (too_high * held).sqrt() } else { 2.0 * held };
        }
        step.detail(format!("{held:.0} packets/s"));
        Ok(held)
    })
}

/// The rate that was really sent, if all of it arrived in one of a few attempts: a packet that some other
/// program's burst of work cost does not show what the relay can do.
fn probe(contender: &mut Contender<'_>, rate: f64) -> Result<Option<f64>> {
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        let run = contender.run(Pace::PacketsPerSecond(rate), (rate * PROBE.as_secs_f64()) as u64)?;
        if run.lost == 0 {
            return Ok(Some(run.sent.rate()));
        }
    }
    Ok(None)
}

fn latency(steps: &Steps, contender: &mut Contender<'_>, rounds: usize) -> Result<Latency> {
    steps.run(&format!("latency, {}", contender.name), |step| {
        let latency = contender.latency(rounds)?;
        let (p50, p99) = (latency.microseconds(0.5), latency.microseconds(0.99));
        step.detail(format!("{} packets, p50 {p50:.1} µs, p99 {p99:.1} µs", latency.received));
        Ok(latency)
    })
}

fn print_table(figures: &Figures) {
    let header = ["relay", "processor time, µs", "× empty", "charged, µs", "packets/s", "p50, µs", "p99, µs"];
    let mut table = report::table(header, &[1, 2, 3, 4, 5, 6]);
    let Figures { rates, latency_p50_us: p50, latency_p99_us: p99, charged, .. } = figures;
    let rows = [
        ("empty redirect", figures.empty_us, charged.empty_us, rates.empty, p50.empty, p99.empty),
        ("Causeway", figures.causeway_us, charged.causeway_us, rates.causeway, p50.causeway, p99.causeway),
        (
            "rtpengine",
            figures.rtpengine_us,
            charged.rtpengine_us,
            rates.rtpengine,
            p50.rtpengine,
            p99.rtpengine,
        ),
    ];
    for (name, cost, charged, rate, p50, p99) in rows {
        table.add_row([
            name.to_owned(),
            format!("{cost:.3}"),
            format!("{:.2}", cost / figures.empty_us),
            format!("{charged:.3}"),
            format!("{rate:.0}"),
            format!("{p50:.1}"),
            format!("{p99:.1}"),
        ]);
    }
    println!("{table}");
    println!("processor time: of the whole machine per packet, above that of the sender; medians.");
    println!("charged: the part that the kernel charged to sender and relay, deaf to other programs.");
    println!(
        "packets/s: without loss, sender on the same machine. latency: a quiet relay, one packet at a time."
    );
}
