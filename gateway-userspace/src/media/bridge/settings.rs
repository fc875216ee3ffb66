//! What a bridge is told about its two legs.

use crate::codec::Coding;
use crate::rtp::{Codec, Encoding};
use crate::sdp::Negotiated;
use std::time::Duration;

/// One leg as negotiated, and what its trunk wants beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegSettings {
    pub coding: Coding,
    /// Payload types of speech in packets from the peer, and in those to it.
    pub speech_from: [Option<u8>; 2],
    pub speech_to: u8,
    /// Milliseconds that a packet to the peer carries; brought to what the coding allows.
    pub packet_ms: u32,
    /// Comfort noise (RFC 3389), by the payload types from and to the peer.
    pub comfort_noise: Option<PayloadTypes>,
    /// Telephone-events (RFC 4733).
    pub events: Option<Events>,
    /// How keys of the peer come.
    pub keys_from: KeysFrom,
    /// How keys of the other leg go to the peer.
    pub keys_to: KeysTo,
    pub stream: Stream,
    pub jitter: JitterSettings,
}

/// Payload types of one format in packets from the peer, and in those to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTypes {
    pub from: u8,
    pub to: u8,
}

/// Telephone-events of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    pub types: PayloadTypes,
    /// Of the stream: its duration counts in the clock of its rtpmap line.
    pub clock_rate: u32,
}

/// How keys of a peer come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    /// As telephone-events, or by signalling and [`super::Bridge::press`].
    Packets,
    /// As tones, which are taken out of the audio; that delays it by 50 ms.
    Tones,
}

/// How keys go to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysTo {
    /// As telephone-events; nowhere if those are not negotiated.
    Events,
    /// As tones in the audio.
    Tones,
    /// Not in the media: [`super::Output::key`] tells of them.
    Signalling,
}

/// Where the numbers of the stream to a peer begin: by chance (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
}

/// Delay that evens out the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterSettings {
    /// To begin with, and at least.
    pub delay: Duration,
    /// What is later than this is given up.
    pub most: Duration,
}

impl Default for JitterSettings {
    fn default() -> Self {
        Self { delay: Duration::from_millis(40), most: Duration::from_millis(240) }
    }
}

impl LegSettings {
    /// Of what a leg's peer agreed to: the first format of speech that audio can be coded in, and what is beside it at
    /// its clock. `None` when there is none.
    pub fn of(negotiated: &Negotiated, stream: Stream) -> Option<Self> {
        let formats = &negotiated.formats;
        let (speech, coding) = formats
            .iter()
            .find_map(|format| Some((format, Coding::of(&format.codec, format.fmtp.as_deref()).ok()?)))?;
        let beside = |encoding: Encoding| {
            // At the clock of the speech if there is a choice (RFC 4733 section 2.1).
            let of = |codec: &Codec| codec.encoding == encoding;
            let same = formats
                .iter()
                .find(|format| of(&format.codec) && format.codec.clock_rate == coding.clock_rate());
            same.or(formats.iter().find(|format| of(&format.codec)))
        };
        let types = |format: &crate::sdp::NegotiatedFormat| PayloadTypes {
            from: format.from_peer,
            to: format.to_peer,
        };
        let events = beside(Encoding::TelephoneEvent);
        Some(Self {
            speech_from: [Some(speech.from_peer), speech.also_from_peer],
            speech_to: speech.to_peer,
            packet_ms: packet_ms(negotiated),
            comfort_noise: beside(Encoding::ComfortNoise).map(types),
            events: events.map(|format| Events { types: types(format), clock_rate: format.codec.clock_rate }),
            keys_from: if events.is_some() { KeysFrom::Packets } else { KeysFrom::Tones },
            keys_to: if events.is_some() { KeysTo::Events } else { KeysTo::Tones },
            coding,
            stream,
            jitter: JitterSettings::default(),
        })
    }
}

/// What the peer asks for, of what it takes at most (RFC 8866 section 6.4); else what RFC 3551 section 4.2 has.
pub fn packet_ms(negotiated: &Negotiated) -> u32 {
    let most = negotiated.maxptime.filter(|most| *most > 0).unwrap_or(u16::MAX);
    u32::from(negotiated.ptime.filter(|wished| *wished > 0).unwrap_or(20).min(most))
}
