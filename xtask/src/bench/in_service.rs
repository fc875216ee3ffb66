//! What a program takes where it is attached: the kernel's own statistics (`BPF_ENABLE_STATS`) while a recording is
//! replayed over the lab. Between two packets the processor does a sender's and a driver's work, so caches and branch
//! predictors are as cold as in service, which test-run never shows. Reading the clock twice is in every figure.

use super::relay::contender::{Contender, Maker};
use super::relay::programs::Bench;
use super::relay::recording::Recording;
use super::relay::traffic::Pace;
use crate::media::{Form, media_pcap};
use crate::report;
use crate::steps::Steps;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use serde::Serialize;

/// Calls in both directions, each with an RTP and an RTCP flow: 100 and 100,000 flows that carry RTP.
const CALLS: [u16; 2] = [50, 50_000];
/// Packets of one measured run, and packets of each flow before the first: next hops are found and streams settled.
const PACKETS: u64 = 400_000;
const SETTLING: u64 = 20;

/// Nanoseconds a packet, the kernel's two looks at the clock included.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct InService {
    pub(super) empty_redirect_ns: f64,
    pub(super) flows_100_ns: f64,
    pub(super) flows_100000_ns: f64,
}

pub(super) fn measure(
    steps: &Steps,
    workspace: &Workspace,
    bench: &Bench,
    repetitions: u8,
) -> Result<InService> {
    let pcap = workspace.target.join("xtask/media/speech.pcap");
    media_pcap(&pcap, Form::ALaw)?;
    let recording = Recording::read(&pcap)?;
    let maker = |calls| Maker { workspace, bench, recording: &recording, calls, secured: false };
    let _enabled = enable_stats(Stats::RunTime).context("statistics of BPF programs")?;
    let [few, many] = CALLS;
    let [empty_redirect_ns, flows_100_ns] = steps.run("in service, 100 flows", |step| {
        let mut contenders = [maker(few).empty()?, maker(few).causeway()?];
        let [empty, causeway] = &mut contenders;
        settle(causeway, few)?;
        let (mut empty_runs, mut causeway_runs) = (Vec::new(), Vec::new());
        for turn in 0..repetitions {
            step.progress(turn.into(), repetitions.into(), "turns");
            empty_runs.push(run(empty)?);
            causeway_runs.push(run(causeway)?);
        }
        let figures = [report::median(&empty_runs)?, report::median(&causeway_runs)?];
        step.detail(format!("{:.0} ns, the empty redirect {:.0} ns", figures[1], figures[0]));
        Ok(figures)
    })?;
    let flows_100000_ns = steps.run("in service, 100,000 flows", |step| {
        step.doing("installing flows");
        let mut causeway = maker(many).causeway()?;
        settle(&mut causeway, many)?;
        let mut runs = Vec::new();
        for turn in 0..repetitions {
            step.progress(turn.into(), repetitions.into(), "turns");
            runs.push(run(&mut causeway)?);
        }
        let ns = report::median(&runs)?;
        step.detail(format!("{ns:.0} ns"));
        Ok(ns)
    })?;
    Ok(InService { empty_redirect_ns, flows_100_ns, flows_100000_ns })
}

fn settle(causeway: &mut Contender<'_>, calls: u16) -> Result<()> {
    let packets = 2 * u64::from(calls) * SETTLING;
    let (run, _) = causeway.run(Pace::Unpaced, packets)?;
    let lost = run.lost;
    ensure!(lost * 1000 <= packets, "{lost} of {packets} packets were not relayed");
    Ok(())
}

/// Nanoseconds of the relay's programs a packet.
fn run(contender: &mut Contender<'_>) -> Result<f64> {
    let (runs_before, time_before) = contender.program_time()?;
    contender.run(Pace::Unpaced, PACKETS)?;
    let (runs, time) = contender.program_time()?;
    let runs = runs - runs_before;
    ensure!(runs >= PACKETS / 2, "the program ran {runs} times for {PACKETS} packets");
    Ok((time - time_before).as_nanos() as f64 / runs as f64)
}
