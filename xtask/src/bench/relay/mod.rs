//! `cargo xtask bench relay`: one recording, replayed as N calls in both directions, over three relays in one
//! run: an empty XDP redirect that reads nothing (the floor of every relay between two veth interfaces),
//! Causeway with the flows of those calls, and rtpengine in userspace.
//!
//! **Processor time** is that of the whole machine per packet, less that of a run whose packets are discarded
//! by XDP at the gateway's interface, so sender and first hop are subtracted. It contains everything from
//! there to the far host's interface, where a counting program ends each packet. Relays and their sender-only
//! runs take turns, every other turn in reverse order; the figure is the median of the differences. Relays in the
//! kernel are measured with the sender unpaced. rtpengine cannot take that: it is measured at a pace that it keeps
//! up without loss, against a sender-only run of the same pace. So that nobody has to believe that the pace makes
//! no difference, all three are also measured at that one pace.
//!
//! What other programs run is known of every run ([`processor_time`]): a run that they disturbed is repeated, and
//! when patience is at an end the bench fails and names who disturbed it, rather than print a figure. On a host that
//! never rests `--charged` takes costs from what the kernel charged to sender, relay and softirq threads instead,
//! which leaves out going to sleep and waking up, and says so; rates and latencies are then those of a busy host.
//!
//! **Highest rate** is the highest that a relay keeps up for seconds: no packet is lost in one of three attempts,
//! and when the last one is sent no more are under way than come in [`BACKLOG`], so that a queue which merely grows
//! does not pass for a relay that keeps up. Sender and relay share the machine.
//!
//! **Latency** is measured before that, one packet at a time ([`latency`]): a relay that was flooded may not be itself
//! afterwards. All three take turns; what a relay **adds** is what it takes longer in a turn than the empty redirect in the
//! same turn, at the same quantile; the figure is the median of the turns.

mod bencode;
pub(super) mod causeway;
pub(super) mod contender;
mod heard;
pub(super) mod lab;
mod latency;
mod processor_time;
pub(super) mod programs;
pub(super) mod recording;
mod rtpengine;
mod secured;
pub(super) mod srtp;
pub(super) mod traffic;
pub(super) mod transcoded;
mod worker;

use super::{RecordedArguments, ReplayArguments};
use crate::media::{Form, media_pcap};
use crate::report::{self, median, thousands};
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use contender::{Contender, Maker, Relay, Run};
use latency::Latencies;
use processor_time::Use;
use programs::Bench;
use recording::Recording;
use serde::Serialize;
use std::thread;
use std::time::{Duration, Instant};
use traffic::Pace;

/// Packets of one measured run of a relay in the kernel, and such runs in a turn. Short ones: what a relay costs
/// drifts with the host's clock rate and its neighbours by more than the relays differ, and the runs that are
/// compared should be no further apart than they must.
const UNPACED_PACKETS: u64 = 100_000;
const UNPACED_RUNS: u8 = 6;
/// Length of one run at a pace.
const PACED_RUN: Duration = Duration::from_secs(2);
/// Packets per second at which all relays are measured, rtpengine included: well below what it can keep up on one
/// processor.
const PACE: f64 = 20_000.0;
/// Length of one probe for the highest rate, and what may be under way at its end: a hundredth of it, and not what
/// the buffers of a relay's sockets hold.
const PROBE: Duration = Duration::from_secs(3);
const BACKLOG: Duration = Duration::from_millis(30);
/// Where the search begins, and when it ends: this close.
const LOWEST_RATE: f64 = 5000.0;
const PRECISION: f64 = 1.05;
/// What others do to a run is often over after this.
const RESPITE: Duration = Duration::from_millis(500);

/// The last line of `--json`. Times in µs, rates in packets per second.
#[derive(Debug, Serialize)]
struct Figures {
    calls: u16,
    repetitions: u8,
    /// Whose processor time the costs are: `machine` or `charged`.
    clock: &'static str,
    /// Processor time of a packet above that of the sender.
    empty_us: f64,
    causeway_us: f64,
    rtpengine_us: f64,
    causeway_over_empty: f64,
    rtpengine_over_causeway: f64,
    /// The quotients of the single turns: the lower and the upper quartile.
    causeway_over_empty_quartiles: [f64; 2],
    /// Costs by what the kernel charged to sender, relay and its own softirq threads.
    charged: PerRelay<f64>,
    /// All three at one pace, packets per second; by what the kernel charged, for what a relay in the kernel costs is
    /// less there than the noise of a whole machine.
    pace: f64,
    charged_at_pace: PerRelay<f64>,
    rates: PerRelay<f64>,
    /// Whether the sender could send no faster.
    rates_bound_by_sender: PerRelay<bool>,
    #[serde(flatten)]
    latency: Latencies,
    /// How Causeway's packets were taken from the interface.
    datapath: &'static str,
    /// Share of processor time that others used in the runs that count, the most of all runs.
    background: f64,
    /// Runs that were repeated because others disturbed them.
    disturbed_runs: u32,
}

#[derive(Debug, Serialize)]
struct PerRelay<T> {
    empty: T,
    causeway: T,
    rtpengine: T,
}

impl<T> PerRelay<T> {
    fn map<U>(&self, figure: impl Fn(&T) -> U) -> PerRelay<U> {
        PerRelay {
            empty: figure(&self.empty),
            causeway: figure(&self.causeway),
            rtpengine: figure(&self.rtpengine),
        }
    }
}

pub(super) fn run(arguments: &RecordedArguments, json: bool) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let recording = recording(&steps, &workspace, arguments)?;
    let bench = Bench::read(&workspace.objects())?;
    let maker = Maker {
        workspace: &workspace,
        bench: &bench,
        recording: &recording,
        calls: arguments.replay.calls,
        secured: false,
    };
    let mut contest = steps.run("labs", |step| {
        step.progress(0, 4, "sender alone");
        let alone = maker.nothing()?;
        step.progress(1, 4, "empty redirect");
        let empty = maker.empty()?;
        step.progress(2, 4, "Causeway");
        let causeway = maker.causeway()?;
        step.progress(3, 4, "rtpengine");
        let rtpengine = maker.rtpengine()?;
        step.detail(format!("4, each with {} calls", arguments.replay.calls));
        Ok(Contest { alone, empty, causeway, rtpengine })
    })?;
    let mut quiet = Quiet::new(&arguments.replay);
    let figures = contest.measure(&steps, &mut quiet, &arguments.replay)?;
    print_table(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// What is replayed: a capture that was given, or the one that is made here.
fn recording(steps: &Steps, workspace: &Workspace, arguments: &RecordedArguments) -> Result<Recording> {
    steps.run("recording", |step| {
        let pcap = arguments.pcap.clone().unwrap_or_else(|| workspace.target.join("xtask/media/speech.pcap"));
        if arguments.pcap.is_none() {
            media_pcap(&pcap, Form::ALaw)?;
        }
        let recording = Recording::read(&pcap)?;
        let name = pcap.file_name().unwrap_or_default().to_string_lossy().into_owned();
        step.detail(format!("{name}: {} packets", recording.packets.len()));
        Ok(recording)
    })
}

/// Keeps runs that other programs disturbed out of the figures.
struct Quiet {
    patience: Duration,
    left: Duration,
    /// Whether disturbed runs count all the same.
    tolerant: bool,
    background: f64,
    disturbed: u32,
}

impl Quiet {
    fn new(arguments: &ReplayArguments) -> Self {
        let patience = Duration::from_secs(arguments.patience);
        Self { patience, left: patience, tolerant: arguments.charged, background: 0.0, disturbed: 0 }
    }

    /// Repeats `run` until nobody disturbs it.
    ///
    /// # Errors
    /// `run` fails, or patience is at an end; the error names who disturbed.
    fn run<T>(&mut self, step: &Step, mut run: impl FnMut() -> Result<(T, Use)>) -> Result<T> {
        loop {
            let started = Instant::now();
            let (figure, used) = run()?;
            let Some(disturbance) = used.disturbance().filter(|_| !self.tolerant) else {
                self.background = self.background.max(used.background());
                return Ok(figure);
            };
            self.disturbed += 1;
            step.doing(&format!("once more: {disturbance}"));
            thread::sleep(RESPITE);
            self.left = self.left.checked_sub(started.elapsed()).with_context(|| {
                format!(
                    "{disturbance}. {} s went into runs that others disturbed; figures would not be those of the \
                     relays. Let this machine rest, or give --patience SECONDS or --charged",
                    self.patience.as_secs()
                )
            })?;
        }
    }
}

struct Contest<'a> {
    alone: Contender<'a>,
    empty: Contender<'a>,
    causeway: Contender<'a>,
    rtpengine: Contender<'a>,
}

/// What relays cost above the sender-only run of the same turn, turn by turn.
#[derive(Default)]
struct Costs {
    machine: Vec<f64>,
    charged: Vec<f64>,
}

impl Costs {
    fn push(&mut self, run: &Run, alone: &Run) {
        self.machine.push(run.machine - alone.machine);
        self.charged.push(run.charged - alone.charged);
    }

    fn machine(&self) -> &[f64] {
        &self.machine
    }

    fn charged(&self) -> &[f64] {
        &self.charged
    }
}

/// Costs at either pace.
#[derive(Default)]
struct Measured {
    /// Unpaced: empty redirect, Causeway.
    unpaced: [Costs; 2],
    /// At [`PACE`]: empty redirect, Causeway, rtpengine.
    paced: [Costs; 3],
}

impl Contest<'_> {
    fn measure(&mut self, steps: &Steps, quiet: &mut Quiet, arguments: &ReplayArguments) -> Result<Figures> {
        warm_up(steps, [&mut self.alone, &mut self.empty, &mut self.causeway, &mut self.rtpengine])?;
        let Measured { unpaced: [empty, causeway], paced: [paced_empty, paced_causeway, rtpengine] } =
            steps.run("processor time", |step| self.costs(step, quiet, arguments.repetitions))?;
        let relays =
            PerRelay { empty: &mut self.empty, causeway: &mut self.causeway, rtpengine: &mut self.rtpengine };
        let latency = Latencies::measure(steps, quiet, arguments.calls, relays)?;
        let rates = PerRelay {
            empty: highest_rate(steps, quiet, &mut self.empty)?,
            causeway: highest_rate(steps, quiet, &mut self.causeway)?,
            rtpengine: highest_rate(steps, quiet, &mut self.rtpengine)?,
        };
        let clock = if arguments.charged { Costs::charged } else { Costs::machine };
        let quotients: Vec<f64> =
            clock(&causeway).iter().zip(clock(&empty)).map(|(cost, floor)| cost / floor).collect();
        let [empty_us, causeway_us, rtpengine_us] =
            [median(clock(&empty))?, median(clock(&causeway))?, median(clock(&rtpengine))?];
        let rtpengine_charged = median(&rtpengine.charged)?;
        Ok(Figures {
            calls: arguments.calls,
            repetitions: arguments.repetitions,
            clock: if arguments.charged { "charged" } else { "machine" },
            empty_us,
            causeway_us,
            rtpengine_us,
            causeway_over_empty: causeway_us / empty_us,
            rtpengine_over_causeway: rtpengine_us / causeway_us,
            causeway_over_empty_quartiles: quartiles(quotients),
            charged: PerRelay {
                empty: median(&empty.charged)?,
                causeway: median(&causeway.charged)?,
                rtpengine: rtpengine_charged,
            },
            pace: PACE,
            charged_at_pace: PerRelay {
                empty: median(&paced_empty.charged)?,
                causeway: median(&paced_causeway.charged)?,
                rtpengine: rtpengine_charged,
            },
            rates: rates.map(|rate| rate.packets_per_second),
            rates_bound_by_sender: rates.map(|rate| rate.bound_by_sender),
            latency,
            datapath: self.check_causeway()?,
            background: quiet.background,
            disturbed_runs: quiet.disturbed,
        })
    }

    fn costs(&mut self, step: &Step, quiet: &mut Quiet, repetitions: u8) -> Result<Measured> {
        let mut measured = Measured::default();
        let (paced, packets) = (Pace::PacketsPerSecond(PACE), (PACE * PACED_RUN.as_secs_f64()) as u64);
        for turn in 0..repetitions {
            step.progress(turn.into(), repetitions.into(), "turns");
            let reverse = turn % 2 == 1;
            for run in 0..UNPACED_RUNS {
                let in_kernel = [&mut self.alone, &mut self.empty, &mut self.causeway];
                let [alone, relays @ ..] =
                    turn_of(in_kernel, run % 2 == 1, step, quiet, Pace::Unpaced, UNPACED_PACKETS)?;
                for (costs, run) in measured.unpaced.iter_mut().zip(&relays) {
                    costs.push(run, &alone);
                }
            }
            let all = [&mut self.alone, &mut self.empty, &mut self.causeway, &mut self.rtpengine];
            let [alone, relays @ ..] = turn_of(all, reverse, step, quiet, paced, packets)?;
            for (costs, run) in measured.paced.iter_mut().zip(&relays) {
                costs.push(run, &alone);
            }
        }
        step.detail(format!("{repetitions} turns, rtpengine at {} packets/s", thousands(PACE)));
        Ok(measured)
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

/// Until rtpengine has learned where each call's packets come from, which takes it some seconds.
fn warm_up<const N: usize>(steps: &Steps, contenders: [&mut Contender<'_>; N]) -> Result<()> {
    steps.run("warm-up", |step| {
        for (done, contender) in (0..).zip(contenders) {
            step.progress(done, N as u64, contender.name);
            let (run, _) = contender.run(Pace::PacketsPerSecond(2000.0), 8000)?;
            let (name, sent) = (contender.name, run.sent.packets);
            ensure!(run.lost == 0, "{name} lost {} of {sent} packets at a low pace", run.lost);
        }
        Ok(())
    })
}

/// One run of each, in their order or from the last to the first: what drifts does so for and against everyone.
fn turn_of<const N: usize>(
    mut contenders: [&mut Contender<'_>; N],
    reverse: bool,
    step: &Step,
    quiet: &mut Quiet,
    pace: Pace,
    packets: u64,
) -> Result<[Run; N]> {
    let mut runs = [const { None }; N];
    for place in 0..N {
        let index = if reverse { N - 1 - place } else { place };
        let run = quiet.run(step, || contenders[index].run(pace, packets))?;
        let (name, lost) = (contenders[index].name, run.lost);
        ensure!(
            lost * 1000 <= run.sent.packets,
            "{name} lost {lost} of {packets} packets of a measured run: its cost there is none of a relay"
        );
        runs[index] = Some(run);
    }
    Ok(runs.map(|run| run.expect("each index was met once")))
}

/// The highest rate that was found.
struct Rate {
    packets_per_second: f64,
    bound_by_sender: bool,
}

/// Doubles the rate until packets are lost or the sender is at its end, and bisects between the last two. Never
/// far above what the relay takes: one that was flooded may not recover in time for the next probe.
fn highest_rate(steps: &Steps, quiet: &mut Quiet, contender: &mut Contender<'_>) -> Result<Rate> {
    steps.run(&format!("rate, {}", contender.name), |step| {
        let (mut rate, mut held, mut too_high) = (LOWEST_RATE, 0.0, f64::INFINITY);
        while too_high > PRECISION * held {
            step.doing(&format!("{} packets/s", thousands(rate)));
            match probe(contender, step, quiet, rate)? {
                Some(sent) if sent < rate / PRECISION => {
                    step.detail(format!("{} packets/s, as fast as the sender", thousands(sent)));
                    return Ok(Rate { packets_per_second: sent, bound_by_sender: true });
                }
                Some(sent) => held = sent,
                None => too_high = rate,
            }
            ensure!(held > 0.0, "{} loses packets at {too_high:.0}/s already", contender.name);
            rate = if too_high.is_finite() { (too_high * held).sqrt() } else { 2.0 * held };
        }
        step.detail(format!("{} packets/s", thousands(held)));
        Ok(Rate { packets_per_second: held, bound_by_sender: false })
    })
}

/// The rate that was really sent, if the relay kept it up in one of a few attempts: a packet that some burst of
/// work cost does not show what the relay can do.
fn probe(contender: &mut Contender<'_>, step: &Step, quiet: &mut Quiet, rate: f64) -> Result<Option<f64>> {
    const ATTEMPTS: usize = 3;
    let packets = (rate * PROBE.as_secs_f64()) as u64;
    for _ in 0..ATTEMPTS {
        let run = quiet.run(step, || contender.run(Pace::PacketsPerSecond(rate), packets))?;
        let sent = run.sent.rate();
        if run.lost == 0 && run.backlog as f64 <= sent * BACKLOG.as_secs_f64() {
            return Ok(Some(sent));
        }
    }
    Ok(None)
}

/// The values below which a quarter and three quarters of all lie.
fn quartiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [1, 3].map(|quarters| values.get(values.len() * quarters / 4).copied().unwrap_or_default())
}

fn print_table(figures: &Figures) {
    let header = ["relay", "cost", "× empty", "charged", "at pace", "highest rate", "p50", "p99"];
    let mut table = report::table(header, &[1, 2, 3, 4, 5, 6, 7]);
    let relays = [
        ("empty redirect", figures.empty_us, (|relay| &relay.empty) as fn(&PerRelay<f64>) -> &f64),
        ("Causeway", figures.causeway_us, |relay| &relay.causeway),
        ("rtpengine", figures.rtpengine_us, |relay| &relay.rtpengine),
    ];
    let bound = [
        figures.rates_bound_by_sender.empty,
        figures.rates_bound_by_sender.causeway,
        figures.rates_bound_by_sender.rtpengine,
    ];
    for ((name, cost, of), bound) in relays.into_iter().zip(bound) {
        table.add_row([
            name.to_owned(),
            format!("{cost:.3} µs"),
            format!("{:.2}", cost / figures.empty_us),
            format!("{:.3} µs", of(&figures.charged)),
            format!("{:.3} µs", of(&figures.charged_at_pace)),
            format!("{}{}/s", if bound { "≥ " } else { "" }, thousands(*of(&figures.rates))),
            format!("{:.1} µs", of(&figures.latency.latency_p50_us)),
            format!("{:.1} µs", of(&figures.latency.latency_p99_us)),
        ]);
    }
    println!("{table}");
    let [low, high] = figures.causeway_over_empty_quartiles;
    println!(
        "Causeway costs {:.2} × the empty redirect (half of the turns: {low:.2} to {high:.2})",
        figures.causeway_over_empty
    );
    println!("rtpengine costs {:.1} × Causeway", figures.rtpengine_over_causeway);
    figures.latency.print_added();
    println!();
    let whose = match figures.clock {
        "machine" => "of the whole machine, less that of other programs,",
        _ => "charged to sender, relay and softirq threads",
    };
    println!("cost           processor time {whose} per packet, above that of the sender; medians");
    println!("charged        the part of it that the kernel charged to sender, relay and softirq threads");
    println!("at pace        the same for all three at {} packets/s", thousands(figures.pace));
    println!(
        "highest rate   kept up without loss; ≥ where the sender, on the same machine, could send no faster"
    );
    println!("p50, p99       latency of a quiet relay, one packet at a time");
    println!("added          above the empty redirect of the same turn; median of the turns");
}
