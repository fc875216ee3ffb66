//! The thread that listens to the data plane: records go to the core that owns the flow; routes and neighbours
//! are followed on the spot.

use super::mailbox::{Mail, Mailbox};
use super::worker::Worker;
use crate::base::id::CoreId;
use crate::dataplane::{Split, Watch};
use mio::{Events, Poll, Token, Waker};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

const WAKER: Token = Token(0);
const SOURCES: Token = Token(1);

/// Which core has the call of a flow.
pub struct FlowOwners {
    split: Split,
    /// Slots of calls that a daemon with another number of workers left: as long as this one runs, nobody gets them anew.
    elsewhere: HashMap<u32, CoreId>,
}

impl FlowOwners {
    /// As things stand once `workers` have taken over what there was.
    pub fn new(split: Split, workers: &[Worker]) -> Self {
        let mut elsewhere = HashMap::new();
        for worker in workers {
            let core = worker.share.core;
            let foreign = worker.core.flow_slots().filter(|slot| split.owner(*slot) != core);
            elsewhere.extend(foreign.map(|slot| (slot, core)));
        }
        Self { split, elsewhere }
    }

    fn of(&self, slot: u32) -> CoreId {
        self.elsewhere.get(&slot).copied().unwrap_or_else(|| self.split.owner(slot))
    }
}

/// Ends its thread when dropped.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub fn start(mut watch: Watch, owners: FlowOwners, cores: Arc<[Mailbox]>) -> io::Result<Self> {
        let mut poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        watch.register(poll.registry(), SOURCES)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("causeway-watch".into()).spawn(move || {
            let mut events = Events::with_capacity(16);
            let mut records = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = watch.drain(&mut records) {
                    tracing::error!(%error, "the data plane cannot be followed");
                }
                for record in records.drain(..) {
                    let owner = owners.of(record.flow().slot);
                    if let Some(core) = cores.get(usize::from(owner.0)) {
                        core.post(Mail::Record(record));
                    }
                }
                match poll.poll(&mut events, None) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                        tracing::error!(%error, "the data plane's watcher cannot poll");
                        return;
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        })?;
        Ok(Self { stop, waker, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let woken = self.waker.wake();
        if let (Ok(()), Some(thread)) = (woken, self.thread.take()) {
            // It does not panic on purpose; if it did, the log has it.
            let _ = thread.join();
        }
    }
}
