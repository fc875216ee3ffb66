//! `cargo xtask bench calls`: whole calls by SIPp, INVITE to BYE with session descriptions and flows.
//!
//! The daemon has one core that carries calls. Its cost is the processor time of all its threads, as the kernel
//! charges it to the process: system calls included, and what softirq work happens to run on top of it, which on
//! a veth is a good part of what the peers' kernels do. So the figure is on the safe side.
//!
//! Memory is the resident set with N calls held, less that of the same daemon before its first call, by N.

use crate::daemon::{Daemon, Shape};
use crate::ebpf;
use crate::lab::Lab;
use crate::packages::Need;
use crate::peers::{self, Outcome, Process};
use crate::report::{self, thousands};
use crate::run::build_daemon;
use crate::setup::{self, Options};
use crate::steps::{Step, Steps};
use crate::tap::{Taps, quantile};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const PREFIX: &str = "cwcalls";
const SHAPE: Shape =
    Shape { name: "bench-calls", workers: Some(1), max_calls: 30_000, ports: (20000, 60999) };
/// Calls held at once when memory is measured.
const HELD: [u32; 2] = [5_000, 20_000];
/// Calls begun each second while they pile up.
const FILL_RATE: u32 = 800;
/// How long a bench waits for calls that should be there.
const PATIENCE: Duration = Duration::from_secs(120);
/// proc(5): processor time is counted in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Calls to begin each second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Calls to complete
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    calls: u32,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Figures {
    placed: u64,
    answered: u64,
    failed: u64,
    /// Calls completed per second of processor time of the daemon, all its threads.
    calls_per_core_second: f64,
    /// From INVITE to 200, on the caller's interface.
    setup_p50_ms: f64,
    setup_p99_ms: f64,
    /// Resident memory of one of [`HELD`] calls, the larger of the two figures.
    bytes_per_call: f64,
    bytes_per_call_at_5000: f64,
    bytes_per_call_at_20000: f64,
    datapath: String,
}

pub(super) fn run(arguments: &Arguments, json: bool, options: &Options) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let ready =
        setup::ensure(&steps, &workspace, &[Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers], options)?
            .or_fail()?;
    ebpf::build(&steps, &workspace, &ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?)?;
    let program = build_daemon(&steps, &workspace, true)?;
    let directory = workspace.target.join("xtask/bench-calls");
    let lab = Lab { workspace: &workspace, prefix: PREFIX.to_owned() };
    lab.renew(&steps)?;
    let measured = measure(arguments, &lab, &steps, &program, &directory);
    let removed = lab.remove();
    let figures = measured?;
    removed?;
    print(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    ensure!(figures.failed == 0, "{} calls failed", figures.failed);
    Ok(())
}

fn measure(
    arguments: &Arguments,
    lab: &Lab<'_>,
    steps: &Steps,
    program: &Path,
    directory: &Path,
) -> Result<Figures> {
    let Throughput { outcome, setup_ms, calls_per_core_second, datapath } = steps.run("calls", |step| {
        let done = throughput(arguments, lab, program, &fresh(directory, "throughput")?, step)?;
        let (count, rate) = (done.outcome.answered as f64, done.calls_per_core_second);
        step.detail(format!("{} completed, {} per second of one core", thousands(count), thousands(rate)));
        Ok(done)
    })?;
    let held = |calls: u32| {
        let name = format!("{} held", thousands(calls.into()));
        steps.run(&name, |step| {
            let octets = memory(calls, lab, program, &fresh(directory, &calls.to_string())?, step)?;
            step.detail(format!("{} a call", kibibytes(octets)));
            Ok(octets)
        })
    };
    let [few, many] = HELD;
    let (few, many) = (held(few)?, held(many)?);
    Ok(Figures {
        placed: outcome.placed,
        answered: outcome.answered,
        failed: outcome.failed,
        calls_per_core_second,
        setup_p50_ms: quantile(&setup_ms, 0.5),
        setup_p99_ms: quantile(&setup_ms, 0.99),
        bytes_per_call: few.max(many),
        bytes_per_call_at_5000: few,
        bytes_per_call_at_20000: many,
        datapath,
    })
}

struct Throughput {
    outcome: Outcome,
    setup_ms: Vec<f64>,
    calls_per_core_second: f64,
    datapath: String,
}

/// Calls at the wanted rate; what became of them, and how many the daemon completes in a second of its own time.
fn throughput(
    arguments: &Arguments,
    lab: &Lab<'_>,
    program: &Path,
    directory: &Path,
    step: &Step,
) -> Result<Throughput> {
    let daemon = Daemon::start(lab, program, directory, &SHAPE)?;
    let datapath = daemon.status()?.datapath()?;
    let _callee = Process::start(&mut peers::plain(lab, "callee", "10.81.2.2", "uas"), directory, "callee")?;
    let taps = Taps::open(PREFIX)?;
    let before = processor_seconds(daemon.process())?;
    let mut command = peers::plain(lab, "caller", "10.81.1.2", "uac");
    let text = |value: u32| value.to_string();
    command.args(["10.81.1.1:5060", "-s", "442079460000", "-m", &text(arguments.calls)]);
    command.args(["-r", &text(arguments.rate), "-l", &text(arguments.calls)]);
    command.args(["-timeout", &format!("{}s", arguments.calls / arguments.rate + 60)]);
    command.args(["-trace_stat", "-fd", "1", "-stf", "caller.csv"]);
    let mut caller = Process::start(&mut command, directory, "caller")?;
    while !caller.is_over()? {
        // SIPp's own figures: to ask the daemon would be charged to it.
        let begun = Outcome::read(directory).map_or(0, |outcome| outcome.placed);
        step.progress(begun, arguments.calls.into(), "calls begun");
        thread::sleep(Duration::from_millis(200));
    }
    let used = processor_seconds(daemon.process())? - before;
    let ended = daemon.status()?.calls_ended;
    ensure!(used > 0.0, "the daemon used no processor time");
    Ok(Throughput {
        outcome: Outcome::read(directory)?,
        setup_ms: taps.close()?.setup_ms,
        calls_per_core_second: ended as f64 / used,
        datapath,
    })
}

/// Octets of resident memory a call, with so many held.
fn memory(calls: u32, lab: &Lab<'_>, program: &Path, directory: &Path, step: &Step) -> Result<f64> {
    let daemon = Daemon::start(lab, program, directory, &SHAPE)?;
    let before = resident_octets(daemon.process())?;
    let _callee = Process::start(&mut peers::plain(lab, "callee", "10.81.2.2", "uas"), directory, "callee")?;
    let mut command = peers::plain(lab, "caller", "10.81.1.2", "uac");
    // Calls last an hour; everything is ended long before.
    command.args(["10.81.1.1:5060", "-s", "442079460000", "-d", "3600000"]);
    command.args(["-m", &calls.to_string(), "-l", &calls.to_string(), "-r", &FILL_RATE.to_string()]);
    let mut caller = Process::start(&mut command, directory, "caller")?;
    let started = Instant::now();
    loop {
        let calls_now = daemon.status()?.calls;
        if calls_now >= u64::from(calls) {
            break;
        }
        step.progress(calls_now, calls.into(), "calls held");
        ensure!(!caller.is_over()?, "the caller ended before {calls} calls were held");
        ensure!(
            started.elapsed() < PATIENCE,
            "only {calls_now} of {calls} calls after {} s",
            PATIENCE.as_secs()
        );
        thread::sleep(Duration::from_millis(500));
    }
    let octets = resident_octets(daemon.process())?.saturating_sub(before);
    Ok(octets as f64 / f64::from(calls))
}

fn fresh(directory: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = directory.join(name);
    fs::remove_dir_all(&path).ok();
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// User and system time of all threads of a process.
fn processor_seconds(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold anything; fields 14 and 15 of proc(5) are the 12th and 13th after it.
    let fields = text.rsplit_once(')').context("/proc/PID/stat without a name")?.1;
    let ticks: u64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().context("times in /proc/PID/stat"))
        .sum::<Result<u64>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn resident_octets(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kibibytes * 1024)
}

fn kibibytes(octets: f64) -> String {
    format!("{:.1} KiB", octets / 1024.0)
}

fn print(figures: &Figures) {
    let mut table = report::table(["calls", ""], &[1]);
    for (name, value) in [
        ("placed", thousands(figures.placed as f64)),
        ("failed", thousands(figures.failed as f64)),
        ("completed per second of one core", format!("{}/s", thousands(figures.calls_per_core_second))),
        ("set-up p50", format!("{:.2} ms", figures.setup_p50_ms)),
        ("set-up p99", format!("{:.2} ms", figures.setup_p99_ms)),
        ("memory of a call, 5,000 held", kibibytes(figures.bytes_per_call_at_5000)),
        ("memory of a call, 20,000 held", kibibytes(figures.bytes_per_call_at_20000)),
        ("datapath", figures.datapath.clone()),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    println!("{table}");
    println!(
        "one core: processor time of the daemon, all its threads. set-up: INVITE to 200, on the caller's interface."
    );
}
