//! Telephone-events in RTP (RFC 4733): one key, one event: a marker on its first packet, one timestamp, a growing
//! duration, and three packets that end it.
//!
//! * [`Receiver`]: packets that may be lost, repeated or out of order, to what happened.
//! * [`Sender`]: what happens to packets, one a packet time, at the clock of the stream.

use crate::base::time::Time;
use gateway_common::rtp::TelephoneEvent;
use std::collections::VecDeque;
use std::time::Duration;

/// Octets of a payload.
pub const PAYLOAD_LEN: usize = 4;
/// Power of events that are sent, in dB below 0 dBm0 (section 2.3.4).
const VOLUME: u8 = 10;
/// Section 2.5.1.4: the last packet of an event is sent three times.
const ENDS: u8 = 3;
/// Section 2.5.1.3: what the duration of a packet can say.
const LONGEST_SEGMENT: u32 = 0xffff;
/// An event whose packets stop without an end is over: three packets of the longest usual packet time.
const SILENCE: Duration = Duration::from_millis(200);
/// Events that wait to be sent; more are refused.
const MOST_WAITING: usize = 32;

/// What happened to a key on the other side. Codes are those of RFC 4733 section 3.2: keys, the flash, and others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Began { code: u8 },
    Ended { code: u8, duration: Duration },
}

/// The events of one incoming stream.
#[derive(Debug)]
pub struct Receiver {
    clock_rate: u32,
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    code: u8,
    /// Of the segment that goes on now, in clock units.
    timestamp: u32,
    duration: u32,
    /// Of the segments before.
    before: u32,
    /// Ends are repeated, and packets are late: an event that is over is remembered until the next one.
    over: bool,
    heard: Time,
}

impl Receiver {
    /// For a stream of `clock_rate` units a second.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, current: None }
    }

    /// Takes the payload of one packet; octets behind the event are ignored. What does not read as an event is too.
    pub fn receive(&mut self, now: Time, timestamp: u32, payload: &[u8], mut happened: impl FnMut(Happened)) {
        let Some(event) = TelephoneEvent::parse(payload, 0, payload.len()) else { return };
        let duration = u32::from(event.duration);
        let age = |current: &Current| timestamp.wrapping_sub(current.timestamp).cast_signed();
        match &mut self.current {
            Some(current) if age(current) == 0 && current.code == event.code => {
                current.duration = current.duration.max(duration);
                current.heard = now;
            }
            // Of an event before this one, late on its way.
            Some(current) if age(current) < 0 => return,
            Some(current) if current.goes_on(timestamp, event.code) => {
                current.before += current.duration;
                (current.timestamp, current.duration, current.heard) = (timestamp, duration, now);
            }
            _ => {
                self.end(&mut happened);
                let (code, heard) = (event.code, now);
                self.current = Some(Current { code, timestamp, duration, before: 0, over: false, heard });
                happened(Happened::Began { code });
            }
        }
        if event.end {
            self.end(&mut happened);
        }
    }

    /// When [`Self::expire`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        self.current.filter(|current| !current.over).map(|current| current.heard + SILENCE)
    }

    /// Ends an event whose packets have stopped.
    pub fn expire(&mut self, now: Time, mut happened: impl FnMut(Happened)) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.end(&mut happened);
        }
    }

    fn end(&mut self, happened: &mut impl FnMut(Happened)) {
        if let Some(current) = self.current.as_mut().filter(|current| !current.over) {
            current.over = true;
            let units = u64::from(current.before) + u64::from(current.duration);
            let duration = duration_of(units, self.clock_rate);
            happened(Happened::Ended { code: current.code, duration });
        }
    }
}

impl Current {
    /// Section 2.5.1.3: the next segment of an event that is longer than a packet can say begins where the one before
    /// ended.
    fn goes_on(&self, timestamp: u32, code: u8) -> bool {
        let step = timestamp.wrapping_sub(self.timestamp);
        !self.over
            && self.code == code
            && self.duration > LONGEST_SEGMENT / 2
            && step.abs_diff(LONGEST_SEGMENT) <= 1
    }
}

/// One packet to be sent in place of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub marker: bool,
    pub timestamp: u32,
    pub payload: [u8; PAYLOAD_LEN],
}

/// The events of one outgoing stream, one after the other.
#[derive(Debug)]
pub struct Sender {
    clock_rate: u32,
    waiting: VecDeque<Press>,
    sending: Option<Sending>,
}

/// An event, and for how long: `None` while nobody knows.
#[derive(Clone, Copy, Debug)]
struct Press {
    code: u8,
    units: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    press: Press,
    /// Of the segment that goes on now.
    timestamp: u32,
    /// Units sent before this segment, and in it.
    before: u64,
    duration: u32,
    begun: bool,
    ends: u8,
}

impl Sender {
    /// For a stream of `clock_rate` units a second.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, waiting: VecDeque::with_capacity(MOST_WAITING), sending: None }
    }

    /// An event began; it lasts until [`Self::release`]. Nothing happens when too many wait.
    pub fn press(&mut self, code: u8) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(Press { code, units: None });
        }
    }

    /// The event that began last has lasted `duration`, and is over.
    pub fn release(&mut self, duration: Duration) {
        let units = units_of(duration, self.clock_rate).max(1);
        let sending = self.sending.as_mut().map(|sending| &mut sending.press);
        if let Some(press) = self.waiting.back_mut().or(sending) {
            press.units.get_or_insert(units);
        }
    }

    /// Whether [`Self::packet`] will give something.
    pub fn is_active(&self) -> bool {
        self.sending.is_some() || !self.waiting.is_empty()
    }

    /// The packet for the `step` clock units from `timestamp` on; `None` when nothing is to be said in them.
    pub fn packet(&mut self, timestamp: u32, step: u32) -> Option<Packet> {
        let sending = match &mut self.sending {
            Some(sending) => sending,
            none => none.insert(Sending {
                press: self.waiting.pop_front()?,
                timestamp,
                before: 0,
                duration: 0,
                begun: false,
                ends: 0,
            }),
        };
        let packet = sending.packet(step);
        if sending.ends == ENDS {
            self.sending = None;
        }
        Some(packet)
    }
}

impl Sending {
    fn packet(&mut self, step: u32) -> Packet {
        let end = self.grow(step);
        let marker = !self.begun;
        self.begun = true;
        self.ends += u8::from(end);
        let duration = self.duration.min(LONGEST_SEGMENT) as u16;
        let [high, low] = duration.to_be_bytes();
        let payload = [self.press.code, u8::from(end) << 7 | VOLUME, high, low];
        Packet { marker, timestamp: self.timestamp, payload }
    }

    /// Lasts `step` units more, at most to the end; whether that is reached.
    fn grow(&mut self, step: u32) -> bool {
        if self.duration == LONGEST_SEGMENT && self.ends == 0 {
            self.timestamp = self.timestamp.wrapping_add(LONGEST_SEGMENT);
            self.before += u64::from(LONGEST_SEGMENT);
            self.duration = 0;
        }
        let left = self.press.units.map(|units| units.saturating_sub(self.before));
        let grown = self.duration + step;
        match left {
            Some(left) if left <= u64::from(grown.min(LONGEST_SEGMENT)) => {
                // Never shorter than what was said already.
                self.duration = self.duration.max(left as u32);
                true
            }
            _ => {
                self.duration = grown.min(LONGEST_SEGMENT);
                false
            }
        }
    }
}

fn duration_of(units: u64, clock_rate: u32) -> Duration {
    Duration::from_nanos(units.saturating_mul(1_000_000_000) / u64::from(clock_rate.max(1)))
}

/// To the nearest unit, so that a duration survives any chain of clocks that can say it.
fn units_of(duration: Duration, clock_rate: u32) -> u64 {
    let units = (duration.as_nanos() * u128::from(clock_rate) + 500_000_000) / 1_000_000_000;
    u64::try_from(units).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(sender: &mut Sender, first: u32, step: u32) -> Vec<Packet> {
        let ticks = (0u32..).map(|tick| first.wrapping_add(tick * step));
        ticks.map_while(|timestamp| sender.packet(timestamp, step)).collect()
    }

    fn heard(receiver: &mut Receiver, packets: &[Packet]) -> Vec<Happened> {
        let mut heard = Vec::new();
        for packet in packets {
            receiver.receive(Time::ZERO, packet.timestamp, &packet.payload, |what| heard.push(what));
        }
        heard
    }

    #[test]
    fn one_press_is_one_marker_one_timestamp_a_growing_duration_and_three_ends() {
        for clock_rate in [8_000, 16_000, 48_000] {
            let mut sender = Sender::new(clock_rate);
            sender.press(5);
            sender.release(Duration::from_millis(130));
            let sent = packets(&mut sender, 7_000, clock_rate / 50);
            let expected =
                [20, 40, 60, 80, 100, 120, 130, 130, 130].map(|ms| (ms * clock_rate / 1000) as u16);
            let durations =
                sent.iter().map(|packet| u16::from_be_bytes([packet.payload[2], packet.payload[3]]));
            assert_eq!(durations.collect::<Vec<_>>(), expected);
            assert!(sent.iter().all(|packet| packet.timestamp == 7_000 && packet.payload[0] == 5));
            assert_eq!(
                sent.iter().map(|packet| packet.marker).collect::<Vec<_>>(),
                [true, false, false, false, false, false, false, false, false]
            );
            let ends = sent.iter().map(|packet| packet.payload[1] >> 7);
            assert_eq!(ends.collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 1, 1, 1]);
            let expected = [
                Happened::Began { code: 5 },
                Happened::Ended { code: 5, duration: Duration::from_millis(130) },
            ];
            assert_eq!(heard(&mut Receiver::new(clock_rate), &sent), expected);
        }
    }

    #[test]
    fn a_duration_survives_every_pair_of_clocks() {
        let clocks = [8_000, 16_000, 48_000];
        for (from, to) in clocks.iter().flat_map(|from| clocks.map(|to| (*from, to))) {
            for units in [from / 25, from / 25 + 1, from, 30 * from] {
                let duration = duration_of(units.into(), from);
                let mut sender = Sender::new(to);
                sender.press(11);
                sender.release(duration);
                let sent = packets(&mut sender, 0xffff_ff00, to / 50);
                let heard = heard(&mut Receiver::new(to), &sent);
                let Some(Happened::Ended { duration: out, .. }) = heard.last() else { panic!("{heard:?}") };
                assert_eq!(heard.len(), 2, "{heard:?}");
                assert!(
                    out.abs_diff(duration) < duration_of(1, to.min(from)),
                    "{from} to {to}: {duration:?} as {out:?}"
                );
            }
        }
    }

    #[test]
    fn presses_follow_one_another_and_a_held_key_goes_on_until_it_is_released() {
        let mut sender = Sender::new(8_000);
        sender.press(1);
        let held: Vec<_> = (0..4u32).filter_map(|tick| sender.packet(tick * 160, 160)).collect();
        assert!(held.iter().all(|packet| packet.payload[1] >> 7 == 0));
        sender.release(Duration::from_millis(85));
        sender.press(1);
        sender.release(Duration::from_millis(40));
        let rest = packets(&mut sender, 640, 160);
        let all = [held, rest].concat();
        let ended = |ms| Happened::Ended { code: 1, duration: Duration::from_millis(ms) };
        let began = Happened::Began { code: 1 };
        assert_eq!(heard(&mut Receiver::new(8_000), &all), [began, ended(85), began, ended(40)]);
        assert_eq!(all.iter().filter(|packet| packet.marker).count(), 2);
        assert!(!sender.is_active());
    }

    #[test]
    fn an_event_is_one_whatever_is_lost_repeated_or_late() {
        let mut sender = Sender::new(8_000);
        sender.press(9);
        sender.release(Duration::from_millis(100));
        let sent = packets(&mut sender, 0, 160);
        for lost in 0..sent.len() {
            let mut arrived = sent.clone();
            arrived.remove(lost);
            arrived.extend_from_slice(&sent);
            arrived.swap(0, 1);
            let heard = heard(&mut Receiver::new(8_000), &arrived);
            assert_eq!(heard.len(), 2, "without packet {lost}: {heard:?}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_over_when_its_packets_stop() {
        let mut receiver = Receiver::new(8_000);
        let mut heard = Vec::new();
        receiver.receive(Time(1_000_000), 160, &[3, 10, 1, 0x40], |what| heard.push(what));
        assert_eq!(receiver.deadline(), Some(Time(1_200_000)));
        receiver.expire(Time(1_199_999), |what| heard.push(what));
        assert_eq!(heard.len(), 1);
        receiver.expire(Time(1_200_000), |what| heard.push(what));
        assert_eq!(heard.last(), Some(&Happened::Ended { code: 3, duration: Duration::from_millis(40) }));
        assert_eq!(receiver.deadline(), None);
    }

    #[test]
    fn short_and_strange_payloads_are_ignored() {
        let mut receiver = Receiver::new(8_000);
        for payload in [&[][..], &[1], &[1, 2, 3]] {
            receiver.receive(Time::ZERO, 0, payload, |what| panic!("{what:?}"));
        }
    }

    #[test]
    fn no_more_presses_wait_than_there_is_room_for() {
        let mut sender = Sender::new(8_000);
        for _ in 0..10_000 {
            sender.press(1);
            sender.release(Duration::from_millis(40));
        }
        assert_eq!(packets(&mut sender, 0, 160).iter().filter(|packet| packet.marker).count(), MOST_WAITING);
    }
}
