//! Two legs whose peers speak different codecs, or one of whom hears what the other did not send: packets in,
//! packets out, each side at its own pace.
//!
//! Sans-IO: fed packets and the time, it gives packets with theirs to an [`Output`]. A leg is a jitter buffer and a
//! decoder on the way in, and an encoder and a packetiser on the way out; between them go audio and keys. Each side
//! sends one packet a packet time from the first thing there is to send on, so timestamps, sequence numbers and SSRC
//! go on whatever becomes of the packets of the other side.
//!
//! Everything is bounded: packets that are held, keys that wait, audio that is made up. Nothing is allocated for a
//! packet once the buffers have grown to the size of those that come.

mod inbound;
mod jitter;
mod outbound;
mod settings;
mod stretch;
#[cfg(test)]
mod tests;
mod tones;

use crate::base::id::Side;
use crate::base::time::Time;
use crate::codec::LibraryRefused;
use crate::signal::dtmf::Key;
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
pub use inbound::{Counters, Listening};
use inbound::{Inbound, KeyChange, Presence};
use outbound::Outbound;
pub use outbound::PlayUntil;
pub use settings::{Events, JitterSettings, KeysFrom, KeysTo, LegSettings, PayloadTypes, Stream, packet_ms};
use smallvec::SmallVec;
use std::time::Duration;

/// Packets that may be due at once; a core that was away for longer goes on from now, and what it missed is not sent.
const MOST_DUE: u32 = 10;

/// Packets that may be sent ahead of their time at once: what a full jitter buffer holds in packets of 10 ms.
const CONCLUDED_MAX: usize = 24;

/// Where a bridge's packets go.
pub trait Output {
    /// An RTP packet to the peer of `to`, to be sent at `at`, which is not after now.
    fn packet(&mut self, to: Side, at: Time, packet: &[u8]);

    /// A key for the peer of `to`, whose leg has its keys by signalling.
    fn key(&mut self, to: Side, press: Press);

    /// What was played to the peer of `to` has come to its end, or given way.
    fn played(&mut self, to: Side);
}

/// Two legs and what goes between them.
#[derive(Debug)]
pub struct Bridge {
    caller: Leg,
    callee: Leg,
}

/// Packets of speech that codecs of one leg had to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Of its peer.
    pub decoded: u64,
    /// To its peer; silence that is encoded counts too.
    pub encoded: u64,
}

#[derive(Debug)]
struct Leg {
    inbound: Inbound,
    outbound: Outbound,
    /// When the next packet to this peer is due; `None` before there was anything to send.
    due: Option<Time>,
    /// What of the other leg is being sent.
    presence: Presence,
}

type Keys = SmallVec<[KeyChange; 4]>;

impl Bridge {
    /// # Errors
    /// The library of a codec refused.
    pub fn new(caller: &LegSettings, callee: &LegSettings) -> Result<Self, LibraryRefused> {
        Ok(Self { caller: Leg::new(caller, callee)?, callee: Leg::new(callee, caller)? })
    }

    /// Where the stream to the peer of `to` begins, before anything of it was sent.
    pub fn begin(&mut self, to: Side, stream: Stream) {
        self.legs(to).0.outbound.begin(stream);
    }

    /// Takes an RTP packet from the peer of `from`; RTCP is not this room's, and ignored.
    pub fn receive(&mut self, now: Time, from: Side, packet: &[u8], output: &mut impl Output) {
        let mut keys = Keys::new();
        let (near, far) = self.legs(from);
        if near.inbound.receive(now, packet, &mut |key| keys.push(key)) {
            far.due.get_or_insert(now);
        }
        far.keys(from.other(), now, &keys, output);
    }

    /// Sends what is due.
    pub fn run(&mut self, now: Time, output: &mut impl Output) {
        for to in [Side::Caller, Side::Callee] {
            let (far, near) = self.legs(to);
            let mut keys = Keys::new();
            near.inbound.expire(now, &mut |key| keys.push(key));
            far.keys(to, now, &keys, output);
            far.catch_up(now);
            while let Some(due) = far.due.filter(|due| *due <= now) {
                far.send(to, due, near, output);
                far.due = Some(due + far.outbound.interval());
            }
        }
    }

    /// Sends at once, ahead of its time, what of either peer has not been played yet: another takes the place of this one.
    pub fn conclude(&mut self, now: Time, output: &mut impl Output) {
        for to in [Side::Caller, Side::Callee] {
            let (far, near) = self.legs(to);
            for _ in 0..CONCLUDED_MAX {
                let Some(due) = far.due.filter(|_| near.inbound.holds()) else { break };
                far.send(to, now, near, output);
                far.due = Some(due + far.outbound.interval());
            }
        }
    }

    /// What the next packet to the peer of `to` begins with.
    pub fn next(&self, to: Side) -> Stream {
        match to {
            Side::Caller => self.caller.outbound.next(),
            Side::Callee => self.callee.outbound.next(),
        }
    }

    /// When [`Self::run`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        let leg = |leg: &Leg| leg.due.into_iter().chain(leg.inbound.deadline()).min();
        leg(&self.caller).into_iter().chain(leg(&self.callee)).min()
    }

    /// Plays a tone or an announcement to the peer of `to`, in the place of what the other leg sends.
    pub fn play(&mut self, now: Time, to: Side, source: Source, until: PlayUntil) {
        let (far, _) = self.legs(to);
        far.outbound.play(source, until);
        far.due.get_or_insert(now);
    }

    /// Stops what is played to the peer of `to`.
    pub fn stop(&mut self, to: Side) {
        self.legs(to).0.outbound.stop();
    }

    /// A key that signalling of the other leg brought goes to the peer of `to`, the way that its leg has its keys.
    pub fn press(&mut self, now: Time, to: Side, press: Press, output: &mut impl Output) {
        let code = press.key.code();
        let keys = [KeyChange::Down(code), KeyChange::Up(code, press.duration)];
        self.legs(to).0.keys(to, now, &keys, output);
    }

    /// What became of the packets of a peer.
    pub fn counters(&self, from: Side) -> Counters {
        match from {
            Side::Caller => self.caller.inbound.counters(),
            Side::Callee => self.callee.inbound.counters(),
        }
    }

    /// How the peer of `side` is heard.
    pub fn listening(&self, side: Side) -> Listening {
        match side {
            Side::Caller => self.caller.inbound.listening(),
            Side::Callee => self.callee.inbound.listening(),
        }
    }

    /// What has been coded for the leg of `side`.
    pub fn work(&self, side: Side) -> Work {
        let leg = match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        };
        Work { decoded: leg.inbound.decoded(), encoded: leg.outbound.encoded() }
    }

    /// The leg of `side`, and the other.
    fn legs(&mut self, side: Side) -> (&mut Leg, &mut Leg) {
        match side {
            Side::Caller => (&mut self.caller, &mut self.callee),
            Side::Callee => (&mut self.callee, &mut self.caller),
        }
    }
}

impl Leg {
    fn new(settings: &LegSettings, far: &LegSettings) -> Result<Self, LibraryRefused> {
        Ok(Self {
            inbound: Inbound::new(settings, far.coding.packet_ms(far.packet_ms))?,
            outbound: Outbound::new(settings)?,
            due: None,
            presence: Presence::Nothing,
        })
    }

    /// Sends the packet of `due` to this leg's peer, out of what the other leg has.
    fn send(&mut self, to: Side, due: Time, other: &mut Self, output: &mut impl Output) {
        let mut keys = Keys::new();
        while self.outbound.missing() > 0 {
            let rate = other.inbound.rate();
            let (audio, presence) = other.inbound.pull(due, &mut |key| keys.push(key));
            self.outbound.take(audio, rate);
            self.presence = presence;
        }
        self.keys(to, due, &keys, output);
        if let Some(mode) = other.inbound.requested_mode() {
            other.outbound.heed(mode);
        }
        let (packet, played) = self.outbound.packet(due, self.presence);
        if let Some(packet) = packet {
            output.packet(to, due, packet);
        }
        if played {
            output.played(to);
        }
    }

    /// Passes keys of the other leg on to this leg's peer.
    fn keys(&mut self, to: Side, now: Time, keys: &[KeyChange], output: &mut impl Output) {
        for key in keys {
            match *key {
                KeyChange::Down(code) => self.outbound.press(code),
                KeyChange::Up(code, duration) => {
                    let signalled = self.outbound.release(duration);
                    if let (true, Some(key)) = (signalled, Key::of_code(code)) {
                        output.key(to, Press { key, duration });
                    }
                }
            }
        }
        if self.outbound.is_active() {
            self.due.get_or_insert(now);
        }
    }

    fn catch_up(&mut self, now: Time) {
        let most: Duration = self.outbound.interval() * MOST_DUE;
        if self.due.is_some_and(|due| now.since(due) > most) {
            self.due = Some(now);
        }
    }
}
