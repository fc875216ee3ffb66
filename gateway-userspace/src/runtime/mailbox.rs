//! The way into a core from other threads: a queue and a waker.

use super::turn::Errand;
use crate::admin::command::Ask;
use crate::dataplane::Record;
use crate::net::tls::TlsTable;
use crate::observe;
use crate::policy::Snapshot;
use crate::sip::transport::Hop;
use crossbeam::channel::{Receiver, Sender, unbounded};
use mio::Waker;
use std::sync::Arc;

/// All that can wake a core besides its own sockets and timers.
#[derive(Debug)]
pub enum Mail {
    /// One message that arrived at another core's socket, for the core that owns its Call-ID.
    Message {
        hop: Hop,
        bytes: Vec<u8>,
    },
    /// Bytes for a connection that this core holds.
    Send {
        hop: Hop,
        bytes: Arc<[u8]>,
    },
    /// A connection that another core held is gone: answers of this core may have been on it.
    ConnectionClosed {
        hop: Hop,
    },
    Errand(Errand),
    Record(Record),
    /// A configuration that was read again.
    Policy {
        policy: Arc<Snapshot>,
        tls: Arc<TlsTable>,
    },
    /// Something that happened elsewhere, for this core's observer to tell.
    Tell(observe::Event),
    Ask(Ask),
    Drain,
    /// Leave at once; calls in progress stay in the kernel and in the journal.
    Stop,
}

/// A core's address.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: Sender<Mail>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox that wakes `waker`, and the end that its core reads.
    pub fn new(waker: Waker) -> (Self, Receiver<Mail>) {
        let (sender, receiver) = unbounded();
        (Self { sender, waker: Arc::new(waker) }, receiver)
    }

    /// Mail to a core that has ended is dropped: nobody is left to act on it.
    pub fn post(&self, mail: Mail) {
        if self.sender.send(mail).is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a core cannot be woken");
        }
    }
}
