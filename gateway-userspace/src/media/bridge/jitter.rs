//! Packets in the order and at the pace in which they were sent.
//!
//! The far leg pulls audio at its own pace; what is to be played then is decided by timestamps, and what was lost by
//! sequence numbers. The delay adapts by itself: a packet that is late although nothing newer is here is played all
//! the same, and from then on everything is that much later; audio that has not been needed for some seconds is
//! taken out, which the caller does by playing it shorter.

use super::settings::JitterSettings;
use crate::base::time::Time;
use std::time::Duration;

/// Packets that are held at most, also those out of order: more than a second of 20 ms.
const SLOTS: usize = 64;
/// The longest payload that is kept; longer ones are no speech.
const LONGEST_PAYLOAD: usize = 1_500;
/// Room that is made for a payload at least.
const USUAL_PAYLOAD: usize = 192;
/// A timestamp that is further off is of another time base.
const ANOTHER_TIME: Duration = Duration::from_secs(3);
/// How long there must have been too much before it is taken out.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Speech,
    ComfortNoise,
}

/// What is to be played next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A packet whose time has come, and how many in front of it were never played.
    Packet { kind: Kind, payload: &'a [u8], missed: u32 },
    /// A packet is lost; `next` is the one after it, if that is here.
    Lost { units: u32, next: Option<&'a [u8]> },
    /// The sender had nothing to say until the next packet.
    Silence { units: u32 },
    /// Nothing is here.
    Starved,
}

/// What became of a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Kept,
    Late,
    Repeated,
    /// Longer than any payload of speech.
    Long,
}

#[derive(Debug, Default)]
struct Slot {
    held: bool,
    sequence: u64,
    timestamp: u32,
    kind: Kind,
    payload: Vec<u8>,
    /// The packet of this sequence number came, and is none to be played.
    elsewhere: bool,
}

#[derive(Debug)]
pub(super) struct JitterBuffer {
    slots: Vec<Slot>,
    clock_rate: u32,
    settings: JitterSettings,
    ssrc: Option<u32>,
    /// Of the newest packet, counted on past 65,535.
    newest: u64,
    /// The lowest sequence that may still be played.
    next: u64,
    /// What is to be played next, in the sender's clock.
    position: u32,
    held: usize,
    /// The least that was held over what was needed since `since`, in clock units.
    spare: u32,
    since: Time,
    /// Taking out what was too much.
    draining: bool,
    /// Packets that were given up: everything had become too late, or another stream began.
    skipped: u64,
    /// Packets that were not played since the last that was, as far as they are known.
    missed: u32,
}

impl JitterBuffer {
    pub(super) fn new(clock_rate: u32, settings: JitterSettings) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(SLOTS).collect();
        Self {
            slots,
            clock_rate,
            settings,
            ssrc: None,
            newest: 0,
            next: 0,
            position: 0,
            held: 0,
            spare: u32::MAX,
            since: Time::ZERO,
            draining: false,
            skipped: 0,
            missed: 0,
        }
    }

    /// Takes a packet.
    pub(super) fn insert(&mut self, now: Time, header: &Header, kind: Kind, payload: &[u8]) -> Arrival {
        if payload.len() > LONGEST_PAYLOAD {
            return Arrival::Long;
        }
        if self.ssrc != Some(header.ssrc) {
            self.begin(now, header);
        }
        let mut sequence = self.extended(header.sequence);
        let off = header.timestamp.wrapping_sub(self.position).cast_signed();
        let another_time = u64::from(off.unsigned_abs()) > self.units(ANOTHER_TIME);
        if another_time || sequence >= self.next + SLOTS as u64 {
            self.begin(now, header);
            sequence = self.extended(header.sequence);
        }
        if sequence < self.next || (off < 0 && sequence < self.newest) {
            return Arrival::Late;
        }
        // Nothing newer is here: the network has become slower, or the talk goes on after a pause. Either way this
        // is what there is to play.
        if off < 0 || (self.held == 0 && self.resumes(off)) {
            self.position = header.timestamp.wrapping_sub(if off < 0 { 0 } else { self.least_units() });
            self.spare = u32::MAX;
        }
        self.newest = self.newest.max(sequence);
        let slot = &mut self.slots[sequence as usize % SLOTS];
        if slot.held {
            return Arrival::Repeated;
        }
        slot.elsewhere = false;
        slot.payload.clear();
        // Codecs of variable rate: room for more than this one, so that the next is seldom longer.
        slot.payload.reserve(payload.len().next_power_of_two().max(USUAL_PAYLOAD));
        slot.payload.extend_from_slice(payload);
        (slot.held, slot.sequence, slot.timestamp, slot.kind) = (true, sequence, header.timestamp, kind);
        self.held += 1;
        self.skip();
        Arrival::Kept
    }

    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// Packets given up so far: everything had become later than [`JitterSettings::most`], or another stream began.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// A packet of this stream that is not to be played: it is not lost either.
    pub(super) fn pass(&mut self, sequence: u16) {
        let sequence = self.extended(sequence);
        if self.ssrc.is_none() || sequence < self.next || sequence >= self.next + SLOTS as u64 {
            return;
        }
        self.newest = self.newest.max(sequence);
        let slot = &mut self.slots[sequence as usize % SLOTS];
        if !slot.held {
            (slot.elsewhere, slot.sequence) = (true, sequence);
        }
    }

    /// What is to be played now. Who plays a packet says by [`Self::played`] how long it was; gaps are accounted for
    /// here, at most `most` clock units at a time.
    pub(super) fn next(&mut self, most: u32) -> Next<'_> {
        let Some(at) = self.earliest() else {
            return Next::Starved;
        };
        let Slot { sequence, timestamp, .. } = self.slots[at];
        let ahead = timestamp.wrapping_sub(self.position).cast_signed();
        if ahead > 0 {
            let units = ahead.unsigned_abs().min(most);
            self.position = self.position.wrapping_add(units);
            if self.lost_before(sequence) == 0 {
                return Next::Silence { units };
            }
            let after = (sequence == self.next + 1).then_some(self.slots[at].payload.as_slice());
            return Next::Lost { units, next: after.filter(|_| ahead.unsigned_abs() <= units) };
        }
        self.position = timestamp;
        let missed = std::mem::take(&mut self.missed) + self.lost_before(sequence);
        self.next = sequence + 1;
        self.held -= 1;
        let slot = &mut self.slots[at];
        slot.held = false;
        Next::Packet { kind: slot.kind, payload: &slot.payload, missed }
    }

    /// The packet that was just given lasted `units`, or that much was played in place of what is not here.
    pub(super) fn played(&mut self, units: u32) {
        self.position = self.position.wrapping_add(units);
    }

    /// Timestamp of the packet that [`Self::next`] has just given.
    pub(super) fn position(&self) -> u32 {
        self.position
    }

    /// Whether more is held than has been needed for a while: what is played next may be played shorter.
    pub(super) fn has_too_much(&mut self, now: Time) -> bool {
        let spare = self.ahead();
        self.spare = self.spare.min(spare);
        if self.draining {
            self.draining = spare > self.least_units();
        } else if now.since(self.since) >= PATIENCE {
            self.draining = self.spare > self.least_units();
            (self.since, self.spare) = (now, u32::MAX);
        }
        self.draining
    }

    /// Clock units from what is played next to the newest packet.
    fn ahead(&self) -> u32 {
        let newest = &self.slots[self.newest as usize % SLOTS];
        if !newest.held {
            return 0;
        }
        newest.timestamp.wrapping_sub(self.position).cast_signed().max(0).unsigned_abs()
    }

    /// After a stall everything comes at once: what would be too late to talk with is given up.
    fn skip(&mut self) {
        if u64::from(self.ahead()) <= self.units(self.settings.most) {
            return;
        }
        while let Some(at) = self.earliest() {
            if self.ahead() <= self.least_units() {
                break;
            }
            self.position = self.slots[at].timestamp;
            if self.ahead() <= self.least_units() {
                break;
            }
            self.missed += self.lost_before(self.slots[at].sequence) + 1;
            self.slots[at].held = false;
            self.next = self.slots[at].sequence + 1;
            self.held -= 1;
            self.skipped += 1;
        }
    }

    /// Starts over with a stream whose first packet this is.
    fn begin(&mut self, now: Time, header: &Header) {
        self.slots.iter_mut().for_each(|slot| slot.held = false);
        self.skipped += self.held as u64;
        self.ssrc = Some(header.ssrc);
        // Far from zero, so that packets before the first have a place too.
        self.newest = 0x1_0000 + u64::from(header.sequence);
        self.next = self.newest;
        self.held = 0;
        self.position = header.timestamp.wrapping_sub(self.least_units());
        (self.spare, self.since, self.draining) = (u32::MAX, now, false);
        self.missed = 0;
    }

    /// Whether a packet `off` ahead is the first after a silence: it then gets its delay anew.
    fn resumes(&self, off: i32) -> bool {
        off.unsigned_abs() > self.least_units()
    }

    /// RFC 3550 appendix A.1: the count that is nearest to the newest.
    fn extended(&self, sequence: u16) -> u64 {
        let step = sequence.wrapping_sub(self.newest as u16).cast_signed();
        self.newest.saturating_add_signed(i64::from(step))
    }

    fn earliest(&self) -> Option<usize> {
        if self.held == 0 {
            return None;
        }
        (self.next..=self.newest).map(|sequence| sequence as usize % SLOTS).find(|&at| self.slots[at].held)
    }

    /// Packets from what may be played next up to this one that never came.
    fn lost_before(&self, sequence: u64) -> u32 {
        let passed = |sequence: u64| {
            let slot = &self.slots[sequence as usize % SLOTS];
            slot.elsewhere && slot.sequence == sequence
        };
        (self.next..sequence).filter(|sequence| !passed(*sequence)).count() as u32
    }

    fn least_units(&self) -> u32 {
        self.units(self.settings.delay) as u32
    }

    fn units(&self, span: Duration) -> u64 {
        span.as_millis() as u64 * u64::from(self.clock_rate) / 1000
    }
}

/// What of an RTP header matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}
