//! From audio and keys to packets to a peer, one every packet time.

use super::inbound::Presence;
use super::settings::{Events, KeysTo, LegSettings, PayloadTypes, Stream};
use crate::base::time::Time;
use crate::codec::comfort_noise::Silence;
use crate::codec::resample::Resampler;
use crate::codec::{Encoder, LibraryRefused};
use crate::signal::dtmf::{Generator, Key, event};
use crate::signal::tone::{Player, Source};
use std::time::Duration;

const RTP_LEN: usize = 12;
/// Room that is made for a packet at least: codecs of variable rate seldom need more.
const USUAL_PACKET: usize = 512;
const VERSION: u8 = 0x80;
const MARKER: u8 = 0x80;
/// Comfort noise is described anew so often while it lasts, for who lost the first description.
const DESCRIBED_EVERY: Duration = Duration::from_millis(500);
/// Level of the noise where nobody describes it, in dB below overload.
const QUIET: u8 = 68;

/// What a [`Source`] that is played gives way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayUntil {
    /// [`super::Bridge::stop`], or its end.
    Stopped,
    /// The first speech of the other leg.
    Speech,
}

#[derive(Debug)]
pub(super) struct Outbound {
    encoder: Encoder,
    payload_type: u8,
    comfort_noise: Option<PayloadTypes>,
    events: Option<Events>,
    keys_to: KeysTo,
    event_sender: event::Sender,
    tones: Generator,
    player: Option<(Player, PlayUntil)>,
    stream: Stream,
    rate: u32,
    packet_ms: u32,
    /// Samples, and units of the RTP clock, that a packet carries.
    samples: usize,
    units: u32,
    resampler: Option<(u32, Resampler)>,
    /// Audio that has not been sent, and what is played in its place.
    audio: Vec<i16>,
    overlay: Vec<i16>,
    packet: Vec<u8>,
    /// The last packet was no speech: the next one that is has the marker (RFC 3551 section 4.1).
    silent: bool,
    /// Packets of speech that were made.
    encoded: u64,
    described: Option<(Silence, Time)>,
}

impl Outbound {
    pub(super) fn new(settings: &LegSettings) -> Result<Self, LibraryRefused> {
        let coding = &settings.coding;
        let (rate, packet_ms) = (coding.sampling_rate(), coding.packet_ms(settings.packet_ms));
        let clock_rate = settings.events.map_or(coding.clock_rate(), |events| events.clock_rate);
        Ok(Self {
            encoder: Encoder::new(coding)?,
            payload_type: settings.speech_to,
            comfort_noise: settings.comfort_noise,
            events: settings.events,
            keys_to: settings.keys_to,
            event_sender: event::Sender::new(clock_rate),
            tones: Generator::new(rate),
            player: None,
            stream: settings.stream,
            rate,
            packet_ms,
            samples: (rate * packet_ms / 1000) as usize,
            units: coding.clock_rate() * packet_ms / 1000,
            resampler: None,
            audio: Vec::new(),
            overlay: Vec::new(),
            packet: Vec::with_capacity(USUAL_PACKET),
            silent: true,
            encoded: 0,
            described: None,
        })
    }

    pub(super) fn begin(&mut self, stream: Stream) {
        self.stream = stream;
    }

    /// What the next packet begins with.
    pub(super) fn next(&self) -> Stream {
        self.stream
    }

    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// Time from one packet to the next.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.packet_ms.into())
    }

    /// Samples of a packet that are missing yet.
    pub(super) fn missing(&self) -> usize {
        self.samples.saturating_sub(self.audio.len())
    }

    /// Takes audio of `rate` samples a second.
    pub(super) fn take(&mut self, audio: &[i16], rate: u32) {
        let resampler = match &mut self.resampler {
            Some((from, resampler)) if *from == rate => resampler,
            other => &mut other.insert((rate, Resampler::new(rate, self.rate))).1,
        };
        resampler.process(audio, &mut self.audio);
    }

    /// A key of the other leg went down, by its event code.
    pub(super) fn press(&mut self, code: u8) {
        match (self.keys_to, self.events) {
            (KeysTo::Events, Some(_)) => self.event_sender.press(code),
            (KeysTo::Tones, _) => Key::of_code(code).into_iter().for_each(|key| self.tones.press(key)),
            _ => {}
        }
    }

    /// It is up after `duration`. Whether signalling is to tell of it.
    pub(super) fn release(&mut self, duration: Duration) -> bool {
        match (self.keys_to, self.events) {
            (KeysTo::Events, Some(_)) => self.event_sender.release(duration),
            (KeysTo::Tones, _) => self.tones.release(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)),
            _ => {}
        }
        self.keys_to == KeysTo::Signalling
    }

    pub(super) fn play(&mut self, source: Source, until: PlayUntil) {
        self.player = Some((Player::new(source, self.rate), until));
    }

    pub(super) fn stop(&mut self) {
        self.player = None;
    }

    /// What the peer asks its sender for.
    pub(super) fn heed(&mut self, mode: u8) {
        self.encoder.heed(mode);
    }

    /// Whether there is something to send though the other leg has sent nothing yet.
    pub(super) fn is_active(&self) -> bool {
        self.player.is_some() || self.tones.is_active() || self.event_sender.is_active()
    }

    /// The packet for `now`, if anything is to be sent; `presence` says what the audio taken last is. Audio that is
    /// missing is silence. Also tells whether what was played has come to its end.
    pub(super) fn packet(&mut self, now: Time, presence: Presence) -> (Option<&[u8]>, bool) {
        let missing = self.missing();
        self.audio.extend(std::iter::repeat_n(0, missing));
        let (presence, ended) = self.overlay(presence);
        self.packet.clear();
        let timestamp = self.stream.timestamp;
        self.stream.timestamp = timestamp.wrapping_add(self.units);
        let made = self.event(timestamp)
            || self.silence(now, timestamp, presence)
            || self.speech(timestamp, presence);
        self.audio.drain(..self.samples);
        if !made {
            return (None, ended);
        }
        self.stream.sequence = self.stream.sequence.wrapping_add(1);
        (Some(&self.packet), ended)
    }

    /// Puts keys and what is played in the place of the audio.
    fn overlay(&mut self, presence: Presence) -> (Presence, bool) {
        self.overlay.clear();
        let mut ended = false;
        if self.tones.is_active() {
            self.tones.generate(self.samples, &mut self.overlay);
        } else if let Some((player, until)) = &mut self.player {
            let gives_way = *until == PlayUntil::Speech && presence == Presence::Speech;
            ended = gives_way || !player.play(self.samples, &mut self.overlay);
            if ended {
                self.player = None;
            }
            if gives_way {
                return (presence, ended);
            }
        } else {
            return (presence, ended);
        }
        self.audio[..self.samples].copy_from_slice(&self.overlay);
        (Presence::Speech, ended)
    }

    /// A packet of the event that goes on.
    fn event(&mut self, timestamp: u32) -> bool {
        let Some(events) = self.events else { return false };
        // An event counts in its own clock, and begins where the audio that it replaces does.
        let units = events.clock_rate * self.packet_ms / 1000;
        let Some(packet) = self.event_sender.packet(timestamp, units) else { return false };
        self.header(events.types.to, packet.marker, packet.timestamp);
        self.packet.extend_from_slice(&packet.payload);
        self.silent = true;
        true
    }

    /// A description of silence where the peer takes those and there is one to be given; true as well where the last
    /// one still holds, and the packet then stays empty.
    fn silence(&mut self, now: Time, timestamp: u32, presence: Presence) -> bool {
        let silence = match presence {
            Presence::Speech => {
                self.described = None;
                return false;
            }
            Presence::ComfortNoise(silence) => silence,
            Presence::Nothing | Presence::Absent => Silence::white(QUIET),
        };
        let Some(types) = self.comfort_noise else { return false };
        let known = |(before, at): (Silence, Time)| before == silence && now.since(at) < DESCRIBED_EVERY;
        if self.described.is_some_and(known) {
            return false;
        }
        self.described = Some((silence, now));
        self.header(types.to, false, timestamp);
        silence.write(&mut self.packet);
        self.silent = true;
        true
    }

    fn speech(&mut self, timestamp: u32, presence: Presence) -> bool {
        // Silence has been described, and the description holds.
        if self.described.is_some() {
            return false;
        }
        // The peer hears as little as it would without a bridge in between.
        if presence == Presence::Absent {
            self.silent = true;
            return false;
        }
        let marker = self.silent;
        self.header(self.payload_type, marker, timestamp);
        let coded = self.encoder.encode(&self.audio[..self.samples], &mut self.packet);
        // The codec itself may say that silence need not be sent.
        let made = coded.is_ok() && self.packet.len() > RTP_LEN;
        self.silent = !made;
        self.encoded += u64::from(made);
        made
    }

    fn header(&mut self, payload_type: u8, marker: bool, timestamp: u32) {
        self.packet.clear();
        self.packet.push(VERSION);
        self.packet.push(payload_type | if marker { MARKER } else { 0 });
        self.packet.extend_from_slice(&self.stream.sequence.to_be_bytes());
        self.packet.extend_from_slice(&timestamp.to_be_bytes());
        self.packet.extend_from_slice(&self.stream.ssrc.to_be_bytes());
    }
}
