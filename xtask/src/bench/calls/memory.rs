//! What a held call takes: resident memory with N calls held, less that of the same daemon before its first, by N.

use super::{Bench, SHAPE, fresh};
use crate::daemon::Daemon;
use crate::peers::{self, Process};
use crate::steps::Step;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Calls held at once when memory is measured.
pub(super) const HELD: [u32; 2] = [5_000, 20_000];
/// Calls begun each second while they pile up.
const FILL_RATE: u32 = 800;
/// How long a bench waits for calls that should be there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Octets of resident memory a call, with so many held.
pub(super) fn of_a_call(bench: &Bench<'_>, calls: u32, step: &Step) -> Result<f64> {
    bench.renew_lab()?;
    let (lab, directory) = (bench.lab, &fresh(bench.directory, &calls.to_string())?);
    let daemon = Daemon::start(lab, bench.program, directory, &SHAPE)?;
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

pub(in crate::bench) fn resident_octets(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kibibytes * 1024)
}
