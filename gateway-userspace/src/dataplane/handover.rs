//! A packet that came by one worker's socket and belongs to another worker's flow: one bounded hop, in memory that is
//! made once and goes round.

use super::slots::Split;
use crate::base::id::CoreId;
use crossbeam::queue::ArrayQueue;
use gateway_common::verdict::Reason;
use mio::unix::pipe::Sender;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// Packets that may wait for one worker.
const WAITING_MAX: usize = 256;
/// As a frame of a socket.
const PACKET_MAX: usize = 2048;

/// The ways between workers, one inbox for each.
#[derive(Debug)]
pub(super) struct Handover {
    inboxes: Box<[Inbox]>,
    split: Split,
    /// By slot: one more than the worker that has the flow though another one's range holds its slot; else 0.
    elsewhere: Box<[AtomicU16]>,
}

#[derive(Debug)]
struct Inbox {
    waiting: ArrayQueue<Box<Packet>>,
    free: ArrayQueue<Box<Packet>>,
    /// A pipe, as a poll takes one waker and that is the mailbox's.
    bell: OnceLock<Sender>,
    /// Woken, and has not looked since.
    woken: AtomicBool,
}

/// A frame under way.
#[derive(Debug)]
struct Packet {
    len: usize,
    octets: [u8; PACKET_MAX],
}

impl Handover {
    pub(super) fn new(split: Split) -> Self {
        Self {
            inboxes: (0..split.cores).map(|_| Inbox::new()).collect(),
            split,
            elsewhere: (0..split.flows).map(|_| AtomicU16::new(0)).collect(),
        }
    }

    /// The worker whose flow has this slot.
    pub(super) fn owner(&self, slot: u32) -> CoreId {
        let elsewhere = self.elsewhere.get(slot as usize).map_or(0, |owner| owner.load(Ordering::Relaxed));
        elsewhere.checked_sub(1).map_or_else(|| self.split.owner(slot), CoreId)
    }

    /// The flow in this slot is this worker's: a daemon with another number of workers installed it.
    pub(super) fn adopt(&self, slot: u32, worker: CoreId) {
        if let Some(owner) = self.elsewhere.get(slot as usize)
            && self.split.owner(slot) != worker
        {
            owner.store(worker.0 + 1, Ordering::Relaxed);
        }
    }

    /// From now on `bell` rings for packets for this worker.
    pub(super) fn announce(&self, worker: CoreId, bell: Sender) {
        if let Some(inbox) = self.inboxes.get(usize::from(worker.0)) {
            // A worker registers once.
            let _ = inbox.bell.set(bell);
        }
    }

    /// Passes a frame on.
    ///
    /// # Errors
    /// [`Reason::HandoverFull`] when the worker has not taken enough off yet.
    pub(super) fn pass(&self, to: CoreId, frame: &[u8]) -> Result<(), Reason> {
        let inbox = self.inboxes.get(usize::from(to.0)).ok_or(Reason::HandoverFull)?;
        let mut packet = inbox.free.pop().ok_or(Reason::HandoverFull)?;
        let Some(room) = packet.octets.get_mut(..frame.len()) else {
            let _ = inbox.free.push(packet);
            return Err(Reason::TooBig);
        };
        room.copy_from_slice(frame);
        packet.len = frame.len();
        // There are as many places as packets.
        let _ = inbox.waiting.push(packet);
        if !inbox.woken.swap(true, Ordering::AcqRel) {
            inbox.ring();
        }
        Ok(())
    }

    /// Calls `each` for every frame that waits for this worker, with its memory to the end and its length.
    pub(super) fn take(&self, worker: CoreId, mut each: impl FnMut(&mut [u8], usize)) {
        let Some(inbox) = self.inboxes.get(usize::from(worker.0)) else { return };
        // Before the look: whoever comes after it wakes again.
        inbox.woken.store(false, Ordering::Release);
        for _ in 0..WAITING_MAX {
            let Some(mut packet) = inbox.waiting.pop() else { return };
            let len = packet.len;
            each(&mut packet.octets, len);
            let _ = inbox.free.push(packet);
        }
        // More may wait: not a wake-up is left for those.
        if !inbox.waiting.is_empty() {
            inbox.ring();
        }
    }
}

impl Inbox {
    fn new() -> Self {
        let free = ArrayQueue::new(WAITING_MAX);
        for _ in 0..WAITING_MAX {
            let _ = free.push(Box::new(Packet { len: 0, octets: [0; PACKET_MAX] }));
        }
        Self {
            waiting: ArrayQueue::new(WAITING_MAX),
            free,
            bell: OnceLock::new(),
            woken: AtomicBool::new(false),
        }
    }

    fn ring(&self) {
        let Some(mut bell) = self.bell.get() else { return };
        match bell.write(&[0]) {
            // A pipe that is full rings already.
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                tracing::error!(%error, "a worker cannot be woken for media");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn taken(handover: &Handover, worker: u16) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        handover.take(CoreId(worker), |octets, len| taken.push(octets[..len].to_vec()));
        taken
    }

    #[test]
    fn frames_come_out_in_order_at_the_worker_that_they_are_for() {
        let handover = Handover::new(Split { flows: 8, cores: 2 });
        for frame in [[1, 2], [3, 4]] {
            handover.pass(CoreId(1), &frame).unwrap();
        }
        assert!(taken(&handover, 0).is_empty());
        assert_eq!(taken(&handover, 1), [[1, 2], [3, 4]]);
        assert!(taken(&handover, 1).is_empty());
    }

    #[test]
    fn a_worker_that_does_not_look_costs_packets_by_name_and_no_memory() {
        let handover = Handover::new(Split { flows: 8, cores: 1 });
        for _ in 0..3 {
            let passed = (0..300).filter(|_| handover.pass(CoreId(0), &[7]).is_ok()).count();
            assert_eq!(passed, WAITING_MAX);
            assert_eq!(handover.pass(CoreId(0), &[7]), Err(Reason::HandoverFull));
            assert_eq!(taken(&handover, 0).len(), WAITING_MAX);
        }
        assert_eq!(handover.pass(CoreId(0), &[0; PACKET_MAX + 1]), Err(Reason::TooBig));
        assert_eq!(handover.pass(CoreId(9), &[7]), Err(Reason::HandoverFull));
    }

    #[test]
    fn an_adopted_flow_is_its_adopters_whoever_has_the_range() {
        let handover = Handover::new(Split { flows: 8, cores: 2 });
        handover.adopt(1, CoreId(1));
        handover.adopt(2, CoreId(0));
        let owners: Vec<_> = (0..8).map(|slot| handover.owner(slot).0).collect();
        assert_eq!(owners, [0, 1, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn a_sleeping_worker_is_woken() {
        let mut poll = mio::Poll::new().unwrap();
        let handover = Handover::new(Split { flows: 8, cores: 1 });
        let (sender, mut bell) = mio::unix::pipe::new().unwrap();
        poll.registry().register(&mut bell, mio::Token(7), mio::Interest::READABLE).unwrap();
        handover.announce(CoreId(0), sender);
        let mut events = mio::Events::with_capacity(8);
        for _ in 0..2 {
            handover.pass(CoreId(0), &[7]).unwrap();
            handover.pass(CoreId(0), &[8]).unwrap();
            poll.poll(&mut events, Some(std::time::Duration::from_secs(10))).unwrap();
            assert!(events.iter().any(|event| event.token() == mio::Token(7)));
            assert_eq!(bell.read(&mut [0; 8]).unwrap(), 1, "woken once");
            assert_eq!(taken(&handover, 0).len(), 2);
        }
    }
}
