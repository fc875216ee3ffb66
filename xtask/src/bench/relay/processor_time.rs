//! Processor time of the whole machine.
//!
//! A packet's cost falls on many accounts: the sender's system call, softirqs on top of whatever ran, kernel
//! threads, a relay's own threads. None is complete, and without `CONFIG_IRQ_TIME_ACCOUNTING` softirq time is
//! charged to bystanders. What is complete is the time in which processors did *not* sleep: elapsed time of
//! all processors less idle time less time that a hypervisor took away. With `CONFIG_NO_HZ` the kernel stamps
//! each entry to and exit from idle (interrupts included) with its clock, so `idle` of /proc/stat is not
//! sampled by ticks; only its text form is in steps of 10 ms a processor. Runs are long enough for that not
//! to matter, and the machine has to be quiet: [`background`] tells how quiet it is.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// /proc/stat counts in hundredths of a second, whatever the kernel's tick (`USER_HZ`).
const STEP: Duration = Duration::from_millis(10);

/// A reading of the whole machine's clocks.
#[derive(Debug)]
pub(crate) struct Reading {
    at: Instant,
    asleep: Duration,
    processors: u32,
}

impl Reading {
    /// # Errors
    /// /proc/stat is not there or is not what proc(5) says.
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let at = Instant::now();
        let mut processors = 0;
        let mut steps = 0;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            // "cpu" alone is the sum, which the kernel makes of other roundings.
            if !fields.next().is_some_and(|name| name.len() > 3 && name.starts_with("cpu")) {
                continue;
            }
            let times: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
            // user nice system idle iowait irq softirq steal
            let [_, _, _, idle, iowait, _, _, steal, ..] = times[..] else { continue };
            processors += 1;
            steps += idle + iowait + steal;
        }
        ensure!(processors > 0, "/proc/stat names no processor");
        Ok(Self { at, asleep: STEP * u32::try_from(steps).context("idle time in /proc/stat")?, processors })
    }

    /// Time that all processors together were awake since `earlier`.
    pub(crate) fn busy_since(&self, earlier: &Self) -> Duration {
        let elapsed = (self.at - earlier.at) * self.processors;
        elapsed.saturating_sub(self.asleep.saturating_sub(earlier.asleep))
    }
}

/// Share of the machine's processor time that is in use when no bench runs, 0 to 1.
///
/// # Errors
/// As [`Reading::now`].
pub(crate) fn background(over: Duration) -> Result<f64> {
    let before = Reading::now()?;
    thread::sleep(over);
    let after = Reading::now()?;
    let all = (after.at - before.at) * after.processors;
    Ok(after.busy_since(&before).as_secs_f64() / all.as_secs_f64())
}

/// Processor time that the kernel charged to the calling thread.
pub(crate) fn of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time that the kernel charged to all threads of a process.
///
/// # Errors
/// No such process.
pub(crate) fn of_process(id: u32) -> Result<Duration> {
    let tasks = format!("/proc/{id}/task");
    let mut total = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        // A thread that ended meanwhile takes its time with it; the relays compared here keep theirs.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let nanoseconds = text.split_ascii_whitespace().next().and_then(|field| field.parse().ok());
        total += Duration::from_nanos(nanoseconds.context("schedstat")?);
    }
    Ok(total)
}
