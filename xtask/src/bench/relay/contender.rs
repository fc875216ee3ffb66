//! The relays that are compared, each in a lab of its own with its own replay of the calls, all up at once.

use super::causeway::Causeway;
use super::lab::Path;
use super::latency::{self, Latency};
use super::processor_time::{self, Reading, Use};
use super::programs::{Bench, Counter, Loaded};
use super::recording::Recording;
use super::rtpengine::Rtpengine;
use super::traffic::{CallPorts, Pace, Replay, Sent, endpoint_port, port_from};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use aya::programs::ProgramInfo;
use std::thread;
use std::time::Duration;

/// The sender is pinned to the last processor: interrupts and most kernel threads live on the first.
fn sending_processor() -> usize {
    thread::available_parallelism().map_or(0, |count| count.get() - 1)
}

/// A relay that delivers nothing for this long after a run has emptied its sockets.
const SETTLE: Duration = Duration::from_millis(100);

/// Calls that need no set-up use these ports at the gateway.
const UNREAD_PORT: u16 = 20_000;

/// What stands between caller and callee.
#[derive(Debug)]
pub(crate) enum Relay {
    /// Packets end at the gateway's interface: a run costs what the sender costs.
    Nothing,
    /// Each interface redirects all it gets to the other one.
    Empty([Loaded; 2]),
    Causeway(Box<Causeway>),
    Rtpengine(Rtpengine),
}

/// One of the compared. Fields are dropped in this order: the lab goes last.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    replay: Replay<'a>,
    pub(crate) relay: Relay,
    counter: Option<Counter>,
    bench: &'a Bench,
    path: Path<'a>,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) sent: Sent,
    pub(crate) lost: u64,
    /// Packets that were still under way when the last one had been sent.
    pub(crate) backlog: u64,
    /// Processor time of the whole machine per packet, less that of other programs, µs.
    pub(crate) machine: f64,
    /// Processor time that was charged to the sender's thread, to the relay's process and to the kernel's softirq
    /// threads per packet, µs. Less complete: going to sleep and waking up are nobody's.
    pub(crate) charged: f64,
}

/// What contenders are made from.
pub(crate) struct Maker<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) bench: &'a Bench,
    pub(crate) recording: &'a Recording,
    pub(crate) calls: u16,
    /// SRTP between gateway and callee.
    pub(crate) secured: bool,
}

impl<'a> Maker<'a> {
    pub(crate) fn nothing(&self) -> Result<Contender<'a>> {
        let path = self.path("benchnothing")?;
        let counter = self.bench.discard(&path)?;
        self.contender("sender alone", path, Relay::Nothing, self.unread_calls(), Some(counter))
    }

    pub(crate) fn empty(&self) -> Result<Contender<'a>> {
        let path = self.path("benchempty")?;
        let relay = Relay::Empty(self.bench.empty_redirect(&path)?);
        self.contender("empty redirect", path, relay, self.unread_calls(), None)
    }

    pub(crate) fn causeway(&self) -> Result<Contender<'a>> {
        let path = self.path("benchcw")?;
        let mut causeway = Causeway::start(&path)?;
        let calls = (0..self.calls)
            .map(|call| causeway.call(&path, call.into(), self.secured))
            .collect::<Result<_>>()?;
        self.contender("Causeway", path, Relay::Causeway(Box::new(causeway)), calls, None)
    }

    pub(crate) fn rtpengine(&self) -> Result<Contender<'a>> {
        let path = self.path("benchrtpe")?;
        let mut rtpengine = Rtpengine::start(&path)?;
        let calls = (0..self.calls)
            .map(|call| rtpengine.call(&path, call.into(), self.secured))
            .collect::<Result<_>>()?;
        self.contender("rtpengine", path, Relay::Rtpengine(rtpengine), calls, None)
    }

    fn path(&self, prefix: &str) -> Result<Path<'a>> {
        Path::up(self.workspace, prefix)
    }

    fn unread_calls(&self) -> Vec<CallPorts> {
        let calls = (0..usize::from(self.calls)).map(|call| CallPorts {
            endpoint: [endpoint_port(call); 2],
            relay: [port_from(UNREAD_PORT, call); 2],
        });
        calls.collect()
    }

    fn contender(
        &self,
        name: &'static str,
        path: Path<'a>,
        relay: Relay,
        calls: Vec<CallPorts>,
        counter: Option<Counter>,
    ) -> Result<Contender<'a>> {
        let counter = counter.map_or_else(|| self.bench.counter(&path), Ok)?;
        let mut replay = Replay::over(&path, &calls, self.recording)?;
        if self.secured {
            replay.secure(super::causeway::flows(&path, 0, 2, 2).flows)?;
        }
        Ok(Contender { name, replay, relay, counter: Some(counter), bench: self.bench, path })
    }
}

impl Contender<'_> {
    /// Sends about `packets` and waits for what is still under way; also tells how the processors were used.
    ///
    /// # Errors
    /// The relay ended, or an interface is gone.
    pub(crate) fn run(&mut self, pace: Pace, packets: u64) -> Result<(Run, Use)> {
        self.replay.prepare(packets)?;
        let before = self.taken()?;
        let reading = Reading::start()?;
        let charged = self.charged()?;
        let sent = self.replay.run(pace, packets, sending_processor())?;
        let taken_at_once = self.taken()? - before;
        self.settle()?;
        let charged = self.charged()?.saturating_sub(charged) + sent.charged;
        let used = Reading::end()?.since(&reading, &self.ours());
        let taken = self.taken()? - before;
        ensure!(taken <= sent.packets, "{}: {taken} packets arrived of {} sent", self.name, sent.packets);
        let per_packet = |time: Duration| time.as_secs_f64() * 1e6 / sent.packets as f64;
        let run = Run {
            sent,
            lost: sent.packets - taken,
            backlog: taken - taken_at_once,
            machine: per_packet(used.busy),
            charged: per_packet(charged + used.softirq_threads),
        };
        Ok((run, used))
    }

    /// Runs of a relay's programs and the time they took, which the kernel counts while statistics are enabled.
    ///
    /// # Errors
    /// The relay is none of XDP.
    pub(crate) fn program_time(&self) -> Result<(u64, Duration)> {
        let infos = match &self.relay {
            Relay::Empty(programs) => {
                programs.iter().map(|loaded| Ok(loaded.program()?.info()?)).collect::<Result<Vec<_>>>()?
            }
            Relay::Causeway(causeway) => vec![causeway.program()?.info()?],
            Relay::Nothing | Relay::Rtpengine(_) => bail!("{} is no program of XDP", self.name),
        };
        Ok((infos.iter().map(ProgramInfo::run_count).sum(), infos.iter().map(ProgramInfo::run_time).sum()))
    }

    /// Waits until nothing arrives any more. Sleeping, it adds nothing to the time that processors are awake.
    fn settle(&self) -> Result<()> {
        let mut before = self.taken()?;
        loop {
            thread::sleep(SETTLE);
            match self.taken()? {
                now if now == before => return Ok(()),
                now => before = now,
            }
        }
    }

    /// Processor time charged to the relay's own threads; relays in the kernel have none.
    fn charged(&self) -> Result<Duration> {
        self.process().map_or(Ok(Duration::ZERO), processor_time::of_process)
    }

    /// The relay's process, if it is one.
    fn process(&self) -> Option<u32> {
        match &self.relay {
            Relay::Rtpengine(rtpengine) => Some(rtpengine.id()),
            Relay::Nothing | Relay::Empty(_) | Relay::Causeway(_) => None,
        }
    }

    fn taken(&self) -> Result<u64> {
        self.counter.as_ref().with_context(|| format!("{} is no longer counted", self.name))?.taken()
    }

    /// Measures delays at the endpoints, whose counters are off meanwhile.
    ///
    /// # Errors
    /// A packet was lost, or overtaken by a later one of its stream.
    pub(crate) fn latency(&mut self, packets: usize) -> Result<(Latency, Use)> {
        self.counter = None;
        let reading = Reading::start()?;
        let latency = latency::measure(&self.path, &mut self.replay, packets)?;
        let used = Reading::end()?.since(&reading, &self.ours());
        latency::complete(self.name, &latency)?;
        self.counter = Some(self.bench.counter(&self.path)?);
        Ok((latency, used))
    }

    /// Processes that are no disturbance.
    fn ours(&self) -> Vec<u32> {
        [Some(std::process::id()), self.process()].into_iter().flatten().collect()
    }
}
