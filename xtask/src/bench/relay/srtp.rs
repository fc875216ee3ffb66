//! `cargo xtask bench srtp`, or `bench relay --srtp`: the same replay with SRTP between the gateway and the callee, over Causeway and over
//! rtpengine in one run: one direction is protected by the relay, the other one unprotected.
//!
//! What the callee sends is protected beforehand, so that a sender costs the same whoever relays, and the costs are
//! those above a sender-only run of the same packets at the same pace. Causeway is measured at a pace that says more
//! about a relay in the kernel than that of rtpengine would; neither may lose packets. The empty redirect, which protects
//! nothing, is what latency is measured above.

use super::contender::{Maker, Relay};
use super::latency::Latencies;
use super::programs::Bench;
use super::traffic::Pace;
use super::{Costs, PACE, PACED_RUN, PerRelay, Quiet, recording, turn_of, warm_up};
use crate::bench::RecordedArguments;
use crate::report::{self, median, thousands};
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Result, bail, ensure};
use serde::Serialize;

/// Packets per second over Causeway, and packets of one run.
const KERNEL_PACE: f64 = 100_000.0;
const KERNEL_PACKETS: u64 = 100_000;

/// The last line of `--json`. Times in µs a packet, both directions alike.
#[derive(Debug, Serialize)]
struct Figures {
    calls: u16,
    repetitions: u8,
    suite: &'static str,
    /// Whose processor time the costs are: `machine` or `charged`.
    clock: &'static str,
    causeway_us: f64,
    rtpengine_us: f64,
    rtpengine_over_causeway: f64,
    causeway_charged_us: f64,
    rtpengine_charged_us: f64,
    causeway_pace: f64,
    rtpengine_pace: f64,
    #[serde(flatten)]
    latency: Latencies,
    datapath: &'static str,
    background: f64,
    disturbed_runs: u32,
}

pub(in crate::bench) fn run(arguments: &RecordedArguments, json: bool) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let recording = recording(&steps, &workspace, arguments)?;
    let arguments = &arguments.replay;
    let bench = Bench::read(&workspace.objects())?;
    let maker = Maker {
        workspace: &workspace,
        bench: &bench,
        recording: &recording,
        calls: arguments.calls,
        secured: true,
    };
    let [mut alone, mut empty, mut causeway, mut rtpengine] = steps.run("labs", |step| {
        step.progress(0, 4, "sender alone");
        let alone = maker.nothing()?;
        step.progress(1, 4, "empty redirect");
        let empty = maker.empty()?;
        step.progress(2, 4, "Causeway");
        let causeway = maker.causeway()?;
        step.progress(3, 4, "rtpengine");
        let rtpengine = maker.rtpengine()?;
        step.detail(format!("4, each with {} calls", arguments.calls));
        Ok([alone, empty, causeway, rtpengine])
    })?;
    warm_up(&steps, [&mut alone, &mut empty, &mut causeway, &mut rtpengine])?;
    let mut quiet = Quiet::new(arguments);
    let mut costs = [Costs::default(), Costs::default()];
    steps.run("processor time", |step| {
        for turn in 0..arguments.repetitions {
            step.progress(turn.into(), arguments.repetitions.into(), "turns");
            let paces = [
                (Pace::PacketsPerSecond(KERNEL_PACE), KERNEL_PACKETS, &mut causeway),
                (Pace::PacketsPerSecond(PACE), (PACE * PACED_RUN.as_secs_f64()) as u64, &mut rtpengine),
            ];
            for (costs, (pace, packets, relay)) in costs.iter_mut().zip(paces) {
                let (reverse, pair) = (turn % 2 == 1, [&mut alone, relay]);
                let [alone, relay] = turn_of(pair, reverse, step, &mut quiet, pace, packets)?;
                costs.push(&relay, &alone);
            }
        }
        Ok(())
    })?;
    let relays = PerRelay { empty: &mut empty, causeway: &mut causeway, rtpengine: &mut rtpengine };
    let latency = Latencies::measure(&steps, &mut quiet, arguments.calls, relays)?;
    let Relay::Causeway(relay) = &causeway.relay else { bail!("Causeway is not in its own lab") };
    let refused = relay.refused()?;
    ensure!(refused == "none", "Causeway refused packets: {refused}");
    let clock = if arguments.charged { Costs::charged } else { Costs::machine };
    let [causeway_us, rtpengine_us] = [median(clock(&costs[0]))?, median(clock(&costs[1]))?];
    let figures = Figures {
        calls: arguments.calls,
        repetitions: arguments.repetitions,
        suite: "AES_CM_128_HMAC_SHA1_80",
        clock: if arguments.charged { "charged" } else { "machine" },
        causeway_us,
        rtpengine_us,
        rtpengine_over_causeway: rtpengine_us / causeway_us,
        causeway_charged_us: median(costs[0].charged())?,
        rtpengine_charged_us: median(costs[1].charged())?,
        causeway_pace: KERNEL_PACE,
        rtpengine_pace: PACE,
        latency,
        datapath: relay.datapath()?,
        background: quiet.background,
        disturbed_runs: quiet.disturbed,
    };
    print_table(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

fn print_table(figures: &Figures) {
    let mut table = report::table(["relay", "µs a packet", "packets/s", "p50", "p99"], &[1, 2, 3, 4]);
    let (p50, p99) = (&figures.latency.latency_p50_us, &figures.latency.latency_p99_us);
    let rows = [
        ("Causeway", figures.causeway_us, figures.causeway_pace, p50.causeway, p99.causeway),
        ("rtpengine", figures.rtpengine_us, figures.rtpengine_pace, p50.rtpengine, p99.rtpengine),
    ];
    for (relay, cost, pace, p50, p99) in rows {
        let latency = |quantile: f64| format!("{quantile:.1} µs");
        table.add_row([relay.to_owned(), format!("{cost:.2}"), thousands(pace), latency(p50), latency(p99)]);
    }
    println!("{table}");
    println!(
        "RTP to SRTP and back ({}), {} calls; medians of {}; rtpengine over Causeway: {:.1}",
        figures.suite, figures.calls, figures.repetitions, figures.rtpengine_over_causeway
    );
    figures.latency.print_added();
}
