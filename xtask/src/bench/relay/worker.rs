//! Causeway's data plane with a worker of the daemon's, for calls that the program does not relay by itself.

use super::causeway::Attached;
use super::lab::{Path, enter};
use anyhow::{Context, Result, anyhow};
use gateway_userspace::base::id::FlowId;
use gateway_userspace::base::time::Time;
use gateway_userspace::dataplane::{Dataplane, monotonic};
use gateway_userspace::media::bridge::Work;
use gateway_userspace::media::plan::MediaPlan;
use mio::{Events, Poll};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long the worker sleeps at most, and so how long its end takes.
const NAP: Duration = Duration::from_millis(200);

/// A worker that turns only [during](Self::during) something: a bridge that hears nothing more still codes silence, and
/// what that takes is not to be found in the runs of others.
pub(super) struct Worker {
    poll: Poll,
    dataplane: Dataplane,
    flows: Vec<FlowId>,
    /// Last, as it detaches.
    attached: Attached,
}

impl Worker {
    /// # Errors
    /// As [`Attached::boot`], and what the data plane says of a plan.
    pub(super) fn start(path: &Path<'_>, plans: &[MediaPlan]) -> Result<Self> {
        let (attached, mut dataplane) = Attached::boot(path)?;
        let (poll, flows) = enter(attached.namespace(), || {
            let poll = Poll::new()?;
            dataplane.register(poll.registry(), 0..1000)?;
            let mut flows = Vec::new();
            for plan in plans {
                flows.extend(dataplane.install(&plan.flows).context("flows of a call")?);
            }
            Ok((poll, flows))
        })?;
        Ok(Self { poll, dataplane, flows, attached })
    }

    /// Turns, as the daemon's worker does without signalling, in a thread of its own while `work` lasts.
    ///
    /// # Errors
    /// Those of `work`, and of the poll.
    pub(super) fn during<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Self { poll, dataplane, attached, .. } = self;
        let over = AtomicBool::new(false);
        let namespace = attached.namespace();
        thread::scope(|scope| {
            let worker = scope.spawn(|| enter(namespace, || turns(poll, dataplane, &over)));
            let done = work();
            over.store(true, Ordering::Relaxed);
            worker.join().unwrap_or_else(|_| Err(anyhow!("the worker panicked")))?;
            done
        })
    }

    /// What codecs did so far in all calls.
    pub(super) fn work(&self) -> Work {
        let each = self.flows.iter().filter_map(|flow| self.dataplane.work(*flow));
        each.fold(Work::default(), |sum, work| Work {
            decoded: sum.decoded + work.decoded,
            encoded: sum.encoded + work.encoded,
        })
    }
}

fn turns(poll: &mut Poll, dataplane: &mut Dataplane, over: &AtomicBool) -> Result<()> {
    let (mut events, mut records) = (Events::with_capacity(64), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let due = dataplane.deadline().map(|at| at.since(Time(monotonic() / 1_000)));
        match poll.poll(&mut events, Some(due.unwrap_or(NAP).min(NAP))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            dataplane.ready(event.token(), &mut records);
        }
        dataplane.run(&mut records);
        records.clear();
    }
    Ok(())
}
