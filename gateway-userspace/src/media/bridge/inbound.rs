//! From a peer's packets to audio and keys.

use super::jitter::{Arrival, Header, JitterBuffer, Kind, Next};
use super::settings::{Events, JitterSettings, KeysFrom, LegSettings, PayloadTypes};
use super::stretch::shorten;
use super::tones::TonesOut;
use crate::base::time::Time;
use crate::codec::comfort_noise::{Generator, Silence};
use crate::codec::{Decoder, LibraryRefused};
use crate::rtp::quality;
use crate::signal::dtmf::event::{Happened, Receiver};
use crate::signal::dtmf::{Detection, Key};
use gateway_common::flow::FlowKind;
use gateway_common::losses::{Bursts, Losses};
use gateway_common::rtp::{Media, TelephoneEvent, parse};
use std::ops::AddAssign;
use std::time::Duration;

/// Audio that is made at a time where none came.
const GAP_MS: u32 = 20;
/// After so long without a packet the peer has fallen silent; concealment has faded by then.
const FALLEN_SILENT_MS: u32 = 100;
/// After so long it is on hold, or gone: silence that nobody hears is not made for it. Shorter pauses are a slow network, or a
/// codec that leaves silence out, and the far peer's stream goes on over them.
const ABSENT_MS: u32 = 1_000;

/// What became of a peer's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of speech and comfort noise, kept to be played.
    pub received: u64,
    pub late: u64,
    pub repeated: u64,
    /// No RTP, or a payload that is none of its codec.
    pub malformed: u64,
    /// Of a payload type that was not negotiated.
    pub unknown: u64,
    /// Milliseconds that were made up because nothing was here to be played.
    pub concealed_ms: u64,
}

impl Counters {
    /// Packets that came and were not heard, as if they had been lost on the way (RFC 3611 section 4.7.1).
    pub fn discarded(&self) -> u64 {
        self.late + self.malformed
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.late += other.late;
        self.repeated += other.repeated;
        self.malformed += other.malformed;
        self.unknown += other.unknown;
        self.concealed_ms += other.concealed_ms;
    }
}

/// How a peer is heard.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// Packets that came and were not heard.
    pub discarded: u64,
    pub bursts: Bursts,
    /// What one of its packets carries.
    pub packet: Duration,
    /// `None` where what comes goes on at once.
    pub jitter: Option<JitterSettings>,
}

/// A key of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyChange {
    Down(u8),
    Up(u8, Duration),
}

/// What the audio that was pulled last is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Presence {
    /// Sound: sent by the peer, or concealed.
    Speech,
    /// The peer describes its silence.
    ComfortNoise(Silence),
    /// The peer sends nothing.
    Nothing,
    /// It has not for long.
    Absent,
}

#[derive(Debug)]
pub(super) struct Inbound {
    speech: [Option<u8>; 2],
    comfort_noise: Option<PayloadTypes>,
    event_format: Option<Events>,
    clock_rate: u32,
    rate: u32,
    decoder: Decoder,
    jitter: JitterBuffer,
    jitter_settings: JitterSettings,
    losses: Losses,
    /// Packets in a row since the last loss.
    heard: u32,
    /// What the last packet of speech carried, in clock units.
    packet: u32,
    events: Receiver,
    tones: Option<TonesOut>,
    noise: Generator,
    presence: Presence,
    /// Milliseconds without a packet.
    starved_ms: u32,
    audio: Vec<i16>,
    counters: Counters,
    /// Packets of speech that became audio.
    decoded: u64,
    /// Timestamps from and until which a key was sent as an event: audio of that time is its tone, or nothing.
    key: Option<(u32, u32)>,
}

impl Inbound {
    /// A leg whose audio leaves in packets of `far_packet_ms`: so much has to be here at once.
    pub(super) fn new(settings: &LegSettings, far_packet_ms: u32) -> Result<Self, LibraryRefused> {
        let far_packet = Duration::from_millis(far_packet_ms.into());
        let JitterSettings { delay, most } = settings.jitter;
        let jitter = JitterSettings { delay: delay.max(far_packet), most: most.max(far_packet * 2) };
        let (rate, clock_rate) = (settings.coding.sampling_rate(), settings.coding.clock_rate());
        Ok(Self {
            speech: settings.speech_from,
            comfort_noise: settings.comfort_noise,
            event_format: settings.events,
            clock_rate,
            rate,
            decoder: Decoder::new(&settings.coding)?,
            jitter: JitterBuffer::new(clock_rate, jitter),
            jitter_settings: jitter,
            losses: Losses::default(),
            heard: 0,
            packet: GAP_MS * clock_rate / 1000,
            events: Receiver::new(settings.events.map_or(clock_rate, |events| events.clock_rate)),
            tones: (settings.keys_from == KeysFrom::Tones).then(|| TonesOut::new(rate)),
            noise: Generator::new(Silence::white(0)),
            presence: Presence::Nothing,
            starved_ms: FALLEN_SILENT_MS,
            audio: Vec::new(),
            counters: Counters::default(),
            decoded: 0,
            key: None,
        })
    }

    /// Samples a second of what [`Self::pull`] gives.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    pub(super) fn counters(&self) -> Counters {
        Counters { late: self.counters.late + self.jitter.skipped(), ..self.counters }
    }

    pub(super) fn listening(&self) -> Listening {
        Listening {
            discarded: self.counters().discarded(),
            bursts: self.losses.told(self.heard),
            packet: quality::clock_units(self.packet.into(), self.clock_rate),
            jitter: Some(self.jitter_settings),
        }
    }

    pub(super) fn decoded(&self) -> u64 {
        self.decoded
    }

    /// The mode that the peer asks for in its packets since the last question.
    pub(super) fn requested_mode(&mut self) -> Option<u8> {
        self.decoder.requested_mode()
    }

    /// Takes a packet; whether it is one to be played.
    pub(super) fn receive(&mut self, now: Time, packet: &[u8], keys: &mut impl FnMut(KeyChange)) -> bool {
        let rtp = match parse(packet, 0, packet.len(), FlowKind::Mux) {
            Ok(Media::Rtp(rtp)) => rtp,
            Ok(Media::Rtcp(_)) => return false,
            Err(_) => {
                self.counters.malformed += 1;
                return false;
            }
        };
        // The parser has found that the padding fits (RFC 3550 section 5.1).
        let padding = if packet[0] & 0x20 != 0 { packet.last().copied().map_or(0, usize::from) } else { 0 };
        let payload = &packet[rtp.header_len..packet.len() - padding];
        let kind = match rtp.payload_type {
            number if self.event_format.is_some_and(|events| events.types.from == number) => {
                self.jitter.pass(rtp.sequence);
                self.cover(rtp.timestamp, payload);
                self.events.receive(now, rtp.timestamp, payload, |happened| keys(change(happened)));
                return true;
            }
            number if self.speech.contains(&Some(number)) => Kind::Speech,
            number if self.comfort_noise.is_some_and(|types| types.from == number) => Kind::ComfortNoise,
            _ => {
                self.counters.unknown += 1;
                return false;
            }
        };
        let header = Header { sequence: rtp.sequence, timestamp: rtp.timestamp, ssrc: rtp.ssrc.host() };
        match self.jitter.insert(now, &header, kind, payload) {
            Arrival::Kept => self.counters.received += 1,
            Arrival::Late => self.counters.late += 1,
            Arrival::Repeated => self.counters.repeated += 1,
            Arrival::Long => self.counters.malformed += 1,
        }
        true
    }

    /// Whether something of the peer is here that has not been played.
    pub(super) fn holds(&self) -> bool {
        self.jitter.holds() || self.tones.as_ref().is_some_and(TonesOut::holds)
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.events.deadline()
    }

    pub(super) fn expire(&mut self, now: Time, keys: &mut impl FnMut(KeyChange)) {
        self.events.expire(now, |happened| keys(change(happened)));
    }

    /// The next audio, at least a little, and what it is.
    pub(super) fn pull(&mut self, now: Time, keys: &mut impl FnMut(KeyChange)) -> (&[i16], Presence) {
        self.audio.clear();
        let mut heard = false;
        while self.audio.is_empty() {
            heard = self.step();
        }
        if self.presence == Presence::Speech && self.jitter.has_too_much(now) {
            shorten(&mut self.audio, self.rate);
        }
        if let Some(tones) = &mut self.tones {
            let rate = 8_000;
            tones.process(&mut self.audio, heard, |detection| {
                keys(match detection {
                    Detection::Began { key, .. } => KeyChange::Down(Key::code(key)),
                    Detection::Ended { key, samples, .. } => {
                        KeyChange::Up(key.code(), Duration::from_micros(samples as u64 * 1_000_000 / rate))
                    }
                });
            });
        }
        (&self.audio, self.presence)
    }

    /// Notes the time that an event has lasted so far.
    fn cover(&mut self, timestamp: u32, payload: &[u8]) {
        let (Some(events), Some(event)) =
            (self.event_format, TelephoneEvent::parse(payload, 0, payload.len()))
        else {
            return;
        };
        let lasted =
            u64::from(event.duration) * u64::from(self.clock_rate) / u64::from(events.clock_rate.max(1));
        self.key = Some((timestamp, timestamp.wrapping_add(lasted as u32)));
    }

    /// Whether the packet that is played now is of the time of a key.
    fn is_covered(&mut self) -> bool {
        let Some((from, until)) = self.key else { return false };
        let position = self.jitter.position();
        if until.wrapping_sub(position).cast_signed() <= 0 {
            self.key = None;
            return false;
        }
        position.wrapping_sub(from).cast_signed() >= 0
    }

    /// Takes one thing out of the buffer, or makes up for it; whether there was any.
    fn step(&mut self) -> bool {
        let most = GAP_MS * self.clock_rate / 1000;
        let next = self.jitter.next(most);
        let heard = !matches!(next, Next::Starved);
        match next {
            Next::Packet { kind: Kind::Speech, payload, missed } => {
                self.starved_ms = 0;
                if missed > 0 {
                    self.losses.lose(std::mem::take(&mut self.heard), missed);
                }
                self.heard = self.heard.saturating_add(1);
                self.presence = Presence::Speech;
                if self.decoder.decode(payload, &mut self.audio).is_ok() {
                    self.decoded += 1;
                } else {
                    self.counters.malformed += 1;
                    self.conceal(most, GAP_MS);
                }
                if self.is_covered() {
                    self.audio.fill(0);
                }
                let units = self.audio.len() as u64 * u64::from(self.clock_rate) / u64::from(self.rate);
                self.jitter.played(units as u32);
                self.packet = units as u32;
            }
            Next::Packet { kind: Kind::ComfortNoise, payload, .. } => {
                self.starved_ms = 0;
                self.key = None;
                match Silence::read(payload) {
                    Ok(silence) => {
                        self.noise.follow(silence);
                        self.presence = Presence::ComfortNoise(silence);
                    }
                    Err(_) => self.counters.malformed += 1,
                }
            }
            Next::Lost { units, next } => {
                let samples = samples(units, self.rate, self.clock_rate);
                self.counters.concealed_ms += u64::from(units * 1000 / self.clock_rate);
                self.decoder.conceal(samples, next, &mut self.audio);
            }
            Next::Silence { units } => self.fill(units),
            Next::Starved => {
                self.starved_ms = self.starved_ms.saturating_add(GAP_MS);
                self.presence = match self.presence {
                    Presence::Speech if self.starved_ms > FALLEN_SILENT_MS => Presence::Nothing,
                    Presence::Nothing if self.starved_ms > ABSENT_MS => Presence::Absent,
                    presence => presence,
                };
                self.fill(most);
                self.jitter.played(most);
            }
        }
        heard
    }

    /// Audio while the peer sends nothing: noise as it described, what its codec makes of silence, or none.
    fn fill(&mut self, units: u32) {
        let samples = samples(units, self.rate, self.clock_rate);
        match self.presence {
            // A key is sent in the place of audio.
            _ if self.key.is_some() => self.audio.resize(self.audio.len() + samples, 0),
            Presence::ComfortNoise(_) => self.noise.generate(samples, &mut self.audio),
            Presence::Speech => self.conceal(units, units * 1000 / self.clock_rate),
            Presence::Nothing | Presence::Absent => self.audio.resize(self.audio.len() + samples, 0),
        }
    }

    fn conceal(&mut self, units: u32, milliseconds: u32) {
        let samples = samples(units, self.rate, self.clock_rate);
        self.counters.concealed_ms += u64::from(milliseconds);
        self.decoder.conceal(samples, None, &mut self.audio);
    }
}

/// Samples of so many units of the RTP clock; at least one, so that pulling always gets on.
fn samples(units: u32, rate: u32, clock_rate: u32) -> usize {
    (u64::from(units) * u64::from(rate) / u64::from(clock_rate)).max(1) as usize
}

fn change(happened: Happened) -> KeyChange {
    match happened {
        Happened::Began { code } => KeyChange::Down(code),
        Happened::Ended { code, duration } => KeyChange::Up(code, duration),
    }
}
