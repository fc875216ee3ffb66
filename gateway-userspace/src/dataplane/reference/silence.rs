//! Whether the other side of a relayed call reports to a peer by itself: while it does, its RTCP is relayed and
//! we say nothing; once it has been silent for long, while RTP flows, the peer has reports of ours.
//!
//! Reports leave under the keys by which the XDP program protects what the other side sends, and an index of
//! SRTCP must not be met twice (RFC 3711 section 9.1). So userspace asks for all RTCP of the flow before it
//! sends any, and lets what is under way in the kernel arrive.

use crate::base::time::Time;
use std::time::Duration;

/// So long the other side may say nothing: three of the longest usual intervals (RFC 3550 section 6.2).
pub const SILENCE: Duration = Duration::from_secs(15);
/// Between looks at what was relayed.
const LOOK: Duration = Duration::from_secs(5);
/// Looks of all legs fall on the same moments, so that a worker with many wakes up for all of them at once.
const TOGETHER: Duration = Duration::from_secs(1);
/// A packet that the kernel has begun to relay has long left it by then.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// What was relayed so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relayed {
    /// RTP packets, either way.
    pub(super) rtp: u64,
    /// RTCP packets to the peer, those of ours among them.
    pub(super) rtcp: u64,
}

/// What is known of the other side of one peer.
#[derive(Debug)]
pub(super) struct Silence {
    stage: Stage,
    /// At the last look, without RTCP of ours.
    before: Relayed,
    /// RTCP of ours.
    ours: u64,
    /// Since when it has been silent while RTP flowed.
    since: Time,
    deadline: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It speaks for itself, or may yet.
    Listening,
    /// Its RTCP was asked for.
    Asked {
        at: Time,
    },
    Reporting,
}

/// What a look finds to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    /// All RTCP to the peer is to come to userspace.
    Take,
    /// No more.
    GiveBack,
    Report,
}

impl Silence {
    pub(super) fn new(now: Time, before: Relayed) -> Self {
        let deadline = together(now + LOOK);
        Self { stage: Stage::Listening, before, ours: 0, since: now, deadline }
    }

    /// When to look next.
    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Whether RTCP to the peer was asked for.
    pub(super) fn has_asked(&self) -> bool {
        self.stage != Stage::Listening
    }

    /// Whether reports are ours to send, as far as the last look knows.
    pub(super) fn is_speaking(&self) -> bool {
        self.stage == Stage::Reporting
    }

    /// Whether reports of ours are all that the peer hears.
    pub(super) fn is_reporting(&self, relayed: Relayed) -> bool {
        self.stage == Stage::Reporting && self.theirs(relayed) == self.before.rtcp
    }

    /// RTCP of ours left.
    pub(super) fn sent(&mut self, packets: u64) {
        self.ours = self.ours.wrapping_add(packets);
    }

    /// `is_taken`: all RTCP to the peer goes through userspace.
    pub(super) fn look(&mut self, now: Time, relayed: Relayed, is_taken: bool) -> Step {
        let relayed = Relayed { rtcp: self.theirs(relayed), ..relayed };
        let spoke = relayed.rtcp != self.before.rtcp;
        if spoke || relayed.rtp == self.before.rtp {
            self.since = now;
        }
        self.before = relayed;
        self.deadline = together(now + LOOK);
        match self.stage {
            Stage::Listening if now.since(self.since) >= SILENCE => self.ask(now),
            Stage::Listening => Step::Wait,
            _ if spoke => self.listen(now),
            Stage::Asked { at } if now.since(at) < SETTLED => {
                self.deadline = at + SETTLED;
                Step::Wait
            }
            Stage::Asked { .. } if !is_taken => self.listen(now),
            Stage::Reporting if !is_taken => self.ask(now),
            Stage::Asked { .. } | Stage::Reporting => {
                self.stage = Stage::Reporting;
                Step::Report
            }
        }
    }

    fn ask(&mut self, now: Time) -> Step {
        self.stage = Stage::Asked { at: now };
        self.deadline = now + SETTLED;
        Step::Take
    }

    fn listen(&mut self, now: Time) -> Step {
        self.stage = Stage::Listening;
        self.since = now;
        Step::GiveBack
    }

    fn theirs(&self, relayed: Relayed) -> u64 {
        relayed.rtcp.wrapping_sub(self.ours)
    }
}

fn together(at: Time) -> Time {
    let every = TOGETHER.as_micros() as u64;
    Time(at.0.next_multiple_of(every))
}
