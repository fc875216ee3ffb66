//! What client and server transactions share: settings, timers, tokens, counts, and the step of a machine.

use super::Settings;
use super::key::KeyBuffer;
use super::output::{ClientId, Counts, Output, ServerId};
use super::timer::{Span, Timer};
use crate::base::machine::{Machine, Step};
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::sip::message::Via;
use crate::sip::transport::{Hop, own_via};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tokens: Tokens,
    pub(super) timers: TimerTable<(Owner, Timer)>,
    pub(super) counts: Counts,
    pub(super) key: KeyBuffer,
    /// Messages are printed here and then copied to their size.
    print: Vec<u8>,
    /// Makes the tags of responses without a transaction.
    pub(super) secret: u64,
}

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    Client(ClientId),
    Server(ServerId),
}

/// What of a hop has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The connection, and with it what was sent without naming one.
    Way,
    /// The connection alone.
    Connection,
}

/// Who hears of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    User,
    /// The layer made or answered the request itself.
    Nobody,
}

/// The part of a transaction that the timers and the transport need.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) hop: Hop,
    /// The bytes to send again as long as the RFC may ask for them.
    kept: Option<Arc<[u8]>>,
    was_sent: bool,
    /// The pause that the retransmission timer last made. No machine runs two of them.
    pause: Duration,
    /// One bit for each [`Timer`] that runs.
    armed: u16,
}

impl Shared {
    pub(super) fn new(settings: Settings, mut tokens: Tokens) -> Self {
        Self {
            secret: tokens.number(),
            settings,
            tokens,
            timers: TimerTable::default(),
            counts: Counts::default(),
            key: KeyBuffer::default(),
            print: Vec::new(),
        }
    }

    pub(super) fn print(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Arc<[u8]> {
        self.print.clear();
        write(&mut self.print);
        Arc::from(self.print.as_slice())
    }

    /// Moves `state` by its table and says what to do: nothing when the event is absorbed or illegal.
    pub(super) fn step<M: Machine>(&mut self, state: &mut M::State, event: M::Event) -> &'static [M::Act] {
        match M::step(*state, event) {
            Step::To(next, acts) => {
                *state = next;
                acts
            }
            Step::Already => {
                self.counts.absorbed += 1;
                &[]
            }
            Step::Illegal => self.illegal(),
        }
    }

    pub(super) fn illegal<A>(&mut self) -> &'static [A] {
        self.counts.illegal += 1;
        &[]
    }

    /// The Via of a new request of ours by `hop`.
    pub(super) fn own_via(&mut self, hop: &Hop) -> Via {
        own_via(hop.transport, hop.local, &self.tokens.token())
    }
}

impl Carrier {
    pub(super) fn new(hop: Hop) -> Self {
        Self { hop, kept: None, was_sent: false, pause: Duration::ZERO, armed: 0 }
    }

    /// Whether what we send goes by `hop`: over that connection, or by the way that led to it.
    pub(super) fn goes_by(&self, hop: &Hop, scope: Scope) -> bool {
        self.hop == *hop || scope == Scope::Way && self.hop == Hop { connection: None, ..*hop }
    }

    pub(super) fn kept(&self) -> Option<&Arc<[u8]>> {
        self.kept.as_ref()
    }

    /// Puts `bytes` in the place of those kept before.
    pub(super) fn keep(&mut self, bytes: Arc<[u8]>) {
        // A user may say the same again: reliable provisional responses are its own to repeat (RFC 3262 section 3).
        self.was_sent &= self.kept.as_ref() == Some(&bytes);
        self.kept = Some(bytes);
    }

    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    pub(super) fn send(&mut self, shared: &mut Shared, out: &mut Vec<Output>) {
        if let Some(bytes) = &self.kept {
            let again = std::mem::replace(&mut self.was_sent, true);
            shared.counts.retransmissions += u64::from(again);
            out.push(Output::Send { hop: self.hop, bytes: bytes.clone(), again });
        }
    }

    /// Starts `timer`; `Some` if it is to fire in this same step.
    pub(super) fn arm(
        &mut self,
        shared: &mut Shared,
        owner: Owner,
        timer: Timer,
        now: Time,
    ) -> Option<Timer> {
        let pause = match timer.span(&shared.settings.intervals, self.hop.transport.is_reliable()) {
            Span::Never => return None,
            Span::Once(Duration::ZERO) => return Some(timer),
            Span::Once(span) => span,
            Span::Doubling { first, cap } => {
                let doubled = if self.pause.is_zero() { first } else { self.pause * 2 };
                // Settings of no time at all must not make the timer fire for ever in one instant.
                self.pause = cap.map_or(doubled, |cap| doubled.min(cap)).max(Duration::from_millis(1));
                self.pause
            }
        };
        self.start(shared, owner, timer, now + pause);
        None
    }

    /// Starts a doubling `timer` with its cap.
    pub(super) fn arm_longest(&mut self, shared: &mut Shared, owner: Owner, timer: Timer, now: Time) {
        if let Span::Doubling { cap: Some(cap), .. } =
            timer.span(&shared.settings.intervals, self.hop.transport.is_reliable())
        {
            self.pause = cap;
            self.start(shared, owner, timer, now + cap);
        }
    }

    fn start(&mut self, shared: &mut Shared, owner: Owner, timer: Timer, at: Time) {
        shared.timers.arm((owner, timer), at);
        self.armed |= 1 << timer as u16;
    }

    pub(super) fn disarm(&mut self, shared: &mut Shared, owner: Owner, timer: Timer) {
        if self.armed & (1 << timer as u16) != 0 {
            shared.timers.disarm((owner, timer));
            self.fired(timer);
        }
    }

    /// To be told when the timer table gives `timer` out.
    pub(super) fn fired(&mut self, timer: Timer) {
        self.armed &= !(1 << timer as u16);
    }

    pub(super) fn disarm_all(&mut self, shared: &mut Shared, owner: Owner) {
        for timer in Timer::ALL {
            self.disarm(shared, owner, *timer);
        }
    }
}

const _: () = assert!(Timer::ALL.len() <= u16::BITS as usize, "a timer needs a bit");
