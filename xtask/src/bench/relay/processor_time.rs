//! Processor time of the whole machine, and whose it was.
//!
//! A packet's cost falls on many accounts: the sender's system call, softirqs on top of whatever ran, kernel
//! threads, a relay's own threads. None is complete, and without `CONFIG_IRQ_TIME_ACCOUNTING` softirq time is
//! charged to bystanders. What is complete is the time in which processors did *not* sleep. With `CONFIG_NO_HZ`
//! the kernel stamps each entry to and exit from idle (interrupts included) with its clock; /proc/timer_list tells
//! the sums in nanoseconds, where /proc/stat rounds them to 10 ms, which is a hundredth of what is measured here.
//!
//! The time of whole processors contains that of every other program. Each [`Reading`] therefore also takes the
//! time of every process there is: what processes ran that are neither the bench, nor the relay, nor the kernel's
//! softirq threads is taken off, and when it was much ([`Use::disturbance`]) the run does not count, because others
//! also cost a relay its caches.

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// proc(5) counts in hundredths of a second, whatever the kernel's tick (`USER_HZ`).
const STEP: Duration = Duration::from_millis(10);
/// Above this share of all processors in use by other programs, a run is none of the relay.
const QUIET: f64 = 0.03;
/// The same for time that a hypervisor took away.
const NOT_STOLEN: f64 = 0.03;

/// A reading of the clocks of all processors and processes.
#[derive(Debug)]
pub(crate) struct Reading {
    processors: Vec<Processor>,
    stolen: Duration,
    processes: Processes,
}

type Processes = HashMap<u32, Process>;

#[derive(Debug)]
struct Processor {
    at: Instant,
    asleep: Duration,
}

#[derive(Debug)]
struct Process {
    name: String,
    /// Of its threads and of its children that ended and were waited for: when a process ends, its time moves to
    /// its parent, so the sum over all of them only ever grows by what ran.
    time: Duration,
}

/// How processors were used between two readings.
#[derive(Debug)]
pub(crate) struct Use {
    /// Time of all processors together.
    whole: Duration,
    /// Part of it in which they were awake, less `others`.
    pub(crate) busy: Duration,
    /// Part of it that was charged to the softirq threads of the kernel.
    pub(crate) softirq_threads: Duration,
    others: Duration,
    stolen: Duration,
    loudest: Option<String>,
}

impl Reading {
    /// At the start of what is measured: processes first, so that reading them is not in it.
    ///
    /// # Errors
    /// Not root, or a kernel without `CONFIG_NO_HZ`.
    pub(crate) fn start() -> Result<Self> {
        let processes = processes()?;
        Ok(Self { stolen: stolen()?, processors: processors()?, processes })
    }

    /// At its end: processes last.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn end() -> Result<Self> {
        let (processors, stolen) = (processors()?, stolen()?);
        Ok(Self { processors, stolen, processes: processes()? })
    }

    /// What happened since `earlier`; `ours` are the processes that do not count as others.
    pub(crate) fn since(&self, earlier: &Self, ours: &[u32]) -> Use {
        let (mut whole, mut awake) = (Duration::ZERO, Duration::ZERO);
        for (now, before) in self.processors.iter().zip(&earlier.processors) {
            let elapsed = now.at - before.at;
            whole += elapsed;
            awake += elapsed.saturating_sub(now.asleep.saturating_sub(before.asleep));
        }
        let sum = |reading: &Self, counts: &dyn Fn(u32, &Process) -> bool| -> Duration {
            let counted = reading.processes.iter().filter(|(id, process)| counts(**id, process));
            counted.map(|(_, process)| process.time).sum()
        };
        let is_softirq = |process: &Process| process.name.starts_with("ksoftirqd/");
        let is_other = |id: u32, process: &Process| !ours.contains(&id) && !is_softirq(process);
        let ran =
            |counts: &dyn Fn(u32, &Process) -> bool| sum(self, counts).saturating_sub(sum(earlier, counts));
        let (others, softirq_threads) = (ran(&is_other), ran(&|_, process| is_softirq(process)));
        let loudest = self.processes.iter().filter(|(id, process)| is_other(**id, process)).max_by_key(
            |(id, process)| {
                let before = earlier.processes.get(*id).map_or(Duration::ZERO, |before| before.time);
                process.time.saturating_sub(before)
            },
        );
        Use {
            whole,
            busy: awake.saturating_sub(others),
            softirq_threads,
            others,
            stolen: self.stolen.saturating_sub(earlier.stolen),
            loudest: loudest.map(|(id, process)| format!("{} (process {id})", process.name)),
        }
    }
}

impl Use {
    /// Share of all processors' time that other programs used, 0 to 1.
    pub(crate) fn background(&self) -> f64 {
        self.others.as_secs_f64() / self.whole.as_secs_f64()
    }

    /// Who disturbed so much that figures of this time say nothing about a relay.
    pub(crate) fn disturbance(&self) -> Option<String> {
        let stolen = self.stolen.as_secs_f64() / self.whole.as_secs_f64();
        if self.background() > QUIET {
            let share = self.background() * 100.0;
            let loudest = self.loudest.as_deref().unwrap_or("somebody");
            return Some(format!("other programs use {share:.0} % of the processors, most of it {loudest}"));
        }
        (stolen > NOT_STOLEN)
            .then(|| format!("the hypervisor takes {:.0} % of the processors away", stolen * 100.0))
    }
}

/// Each processor's clocks, read on that processor: the sum of its sleep is complete while it is awake.
fn processors() -> Result<Vec<Processor>> {
    let usual = sched_getaffinity(None).context("processors of this thread")?;
    let all = (0..CpuSet::MAX_CPU).filter(|processor| usual.is_set(*processor));
    let read = all.map(processor).collect();
    sched_setaffinity(None, &usual).context("processors of this thread")?;
    read
}

fn processor(number: usize) -> Result<Processor> {
    let mut here = CpuSet::new();
    here.set(number);
    sched_setaffinity(None, &here).with_context(|| format!("cannot run on processor {number}"))?;
    let text = fs::read_to_string("/proc/timer_list").context("/proc/timer_list (root is needed)")?;
    let at = Instant::now();
    let asleep = asleep(&text, number).context("no idle times in /proc/timer_list (CONFIG_NO_HZ)")?;
    Ok(Processor { at, asleep })
}

/// Time that processor `number` slept since it started, with and without input or output under way.
fn asleep(timer_list: &str, number: usize) -> Option<Duration> {
    let head = format!("cpu: {number}");
    let mut section = timer_list.lines().skip_while(|line| *line != head).skip(1);
    let mut nanoseconds = |name: &str| -> Option<u64> {
        let line = section.find(|line| line.trim_start().starts_with(name))?;
        line.split_once(':')?.1.trim().strip_suffix(" nsecs")?.parse().ok()
    };
    let idle = nanoseconds(".idle_sleeptime")?;
    Some(Duration::from_nanos(idle + nanoseconds(".iowait_sleeptime")?))
}

/// Time that a hypervisor gave to others while this machine had something to do.
fn stolen() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    // cpu user nice system idle iowait irq softirq steal
    let steps = text.lines().next().and_then(|line| line.split_ascii_whitespace().nth(8)?.parse().ok());
    Ok(STEP * steps.context("no steal time in /proc/stat")?)
}

fn processes() -> Result<Processes> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let entry = entry.context("/proc")?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended since the directory was read is among the ended children of another.
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, own, children)) = times(&text) else { continue };
        // Exact as long as no thread has ended; the other one, in steps, knows of those too.
        let threads = of_process(id).unwrap_or_default();
        processes.insert(id, Process { name: name.to_owned(), time: own.max(threads) + children });
    }
    ensure!(!processes.is_empty(), "/proc lists no process");
    Ok(processes)
}

/// Name of a process; user and system time of its own, and of its children that ended and were waited for.
fn times(stat: &str) -> Option<(&str, Duration, Duration)> {
    // The name in parentheses may hold anything; fields 14 to 17 of proc(5) are the 12th to 15th after it.
    let (head, fields) = stat.rsplit_once(')')?;
    let mut steps = fields.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u32>().ok());
    let own = steps.next()? + steps.next()?;
    let children = steps.next()? + steps.next()?;
    Some((head.split_once('(')?.1, STEP * own, STEP * children))
}

/// Processor time that the kernel charged to one task.
fn of_task(directory: &Path) -> Result<Duration> {
    let text = fs::read_to_string(directory.join("schedstat")).context("schedstat of a task")?;
    let nanoseconds = text.split_ascii_whitespace().next().and_then(|field| field.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.context("schedstat of a task")?))
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
        total += of_task(&task?.path()).unwrap_or_default();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sleep_of_one_processor_is_not_taken_for_that_of_another() {
        let section = |number: u8| {
            format!(
                "cpu: {number}\n  .idle_entrytime : 9 nsecs\n  .idle_sleeptime : {number}000 nsecs\n  .iowait_sleeptime: 7 nsecs\n"
            )
        };
        let text = format!("now at 5 nsecs\n{}{}", section(1), section(2));
        assert_eq!(asleep(&text, 1), Some(Duration::from_nanos(1007)));
        assert_eq!(asleep(&text, 2), Some(Duration::from_nanos(2007)));
        assert_eq!(asleep(&text, 3), None);
    }

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194304 10 20 0 0 11 12 13 14 20 0 1 0 100";
        let (own, children) = (Duration::from_millis(230), Duration::from_millis(270));
        assert_eq!(times(stat), Some(("a) (b", own, children)));
    }

    fn reading<const N: usize>(at: Instant, processes: [(u32, &str, u64); N]) -> Reading {
        let processes = processes.map(|(id, name, milliseconds)| {
            (id, Process { name: name.to_owned(), time: Duration::from_millis(milliseconds) })
        });
        Reading {
            processors: vec![Processor { at, asleep: Duration::ZERO }],
            stolen: Duration::ZERO,
            processes: HashMap::from(processes),
        }
    }

    #[test]
    fn what_others_ran_is_neither_busy_time_nor_silent() {
        let start = Instant::now();
        let before = reading(start, [(1, "relay", 5), (2, "compiler", 5), (3, "ksoftirqd/0", 5)]);
        let end = start + Duration::from_secs(1);
        let after = reading(end, [(1, "relay", 505), (2, "compiler", 205), (3, "ksoftirqd/0", 55)]);
        let used = after.since(&before, &[1]);
        assert_eq!(used.busy, Duration::from_millis(800));
        assert_eq!(used.softirq_threads, Duration::from_millis(50));
        assert!(used.disturbance().is_some_and(|text| text.contains("20 %") && text.contains("compiler")));
        assert_eq!(after.since(&before, &[1, 2]).disturbance(), None);
    }

    #[test]
    fn a_process_that_ends_is_not_counted_again_when_its_parent_has_waited_for_it() {
        let start = Instant::now();
        let before = reading(start, [(2, "cargo", 100), (3, "rustc", 9000)]);
        let after = reading(start + Duration::from_secs(1), [(2, "cargo", 9150)]);
        assert_eq!(after.since(&before, &[]).others, Duration::from_millis(50));
    }
}
