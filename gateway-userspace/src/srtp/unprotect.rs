//! Packets of one direction that arrive: authenticated, told from repeated ones, decrypted.
//!
//! Nothing is remembered of a packet before its tag was found right (RFC 3711 section 3.3). Where the index that a
//! sequence number means is in doubt, the guesses are tried in turn; each costs one tag:
//!
//! * the nearest index to the highest seen, or the sequence number itself where none was seen;
//! * the one a turn later where the nearest is far behind, since more than half a turn was lost, and where none was seen,
//!   since what came before (early media that no key was there for) may have crossed a turn;
//! * after [`Unprotect::renegotiated`] with the same key, the sequence number itself once more: there are senders that
//!   keep their rollover counter then and senders that begin again.

use super::packet::{RtpParts, ssrc_of_rtcp};
use super::transform::{ENCRYPTED, RTCP_CLEAR, TRAILER, Transform};
use super::window::Window;
use super::{MasterKey, Mki, SrtpFault};
use smallvec::SmallVec;
use std::ops::Range;

/// Sources remembered under one key; of more, the one that was silent longest is forgotten.
const SOURCES_MAX: usize = 16;
/// Packets of one guess in a row that settle it after [`Unprotect::renegotiated`].
const SETTLED: u8 = 128;
/// Longest GCM packet whose index can be guessed twice: a refused guess leaves the packet void, so it is kept aside.
const KEPT_MAX: usize = 2048;

/// What arrives under one key.
#[derive(Debug)]
pub struct Unprotect {
    rtp: Transform,
    rtcp: Transform,
    mki: Option<Mki>,
    sources: SmallVec<[Source; 1]>,
    /// Counts authentic packets, to tell which source was silent longest.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
    /// The other guess since the session was renegotiated, and packets in a row that spoke against it.
    other: Option<(Window, u8)>,
    heard: u64,
}

/// Which of a source's windows a guess belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guess {
    Current(u64),
    Other(u64),
}

impl Unprotect {
    pub fn new(key: &MasterKey) -> Self {
        let keys = key.derive();
        Self {
            rtp: Transform::new(&keys.rtp),
            rtcp: Transform::new(&keys.rtcp),
            mki: key.mki(),
            sources: SmallVec::new(),
            clock: 0,
        }
    }

    /// Offer and answer went again and left the key as it is: the peer may have kept its rollover counters, or not.
    pub fn renegotiated(&mut self) {
        for source in &mut self.sources {
            let rolled_over = source.rtp.highest().is_some_and(|highest| highest >> 16 != 0);
            if source.other.is_none() && rolled_over {
                source.other = Some((Window::default(), 0));
            }
        }
    }

    /// What was counted of a source, to be written down: the highest index and a bit for each one seen below it.
    pub fn counted(&self, ssrc: u32, is_rtcp: bool) -> Option<(u64, [u64; 2])> {
        let source = self.sources.iter().find(|source| source.ssrc == ssrc)?;
        Some(if is_rtcp { source.rtcp.record() } else { source.rtp.record() })
    }

    /// Goes on from what was written down.
    pub fn resume(&mut self, ssrc: u32, is_rtcp: bool, counted: (u64, [u64; 2])) {
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let source = known.and_then(|position| self.sources.get(position)).copied();
        self.remember(known, source.unwrap_or(Source::new(ssrc)), |source| {
            *(if is_rtcp { &mut source.rtcp } else { &mut source.rtp }) = Window::of(counted);
        });
    }

    /// Unprotects an RTP packet in place; returns the length that is left of it.
    ///
    /// # Errors
    /// Why the packet is to be dropped; what is left in the buffer is of no use then.
    pub fn rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpFault> {
        let tag_len = self.rtp.suite().rtp_tag_len();
        let behind = self.behind(packet.len(), 0, tag_len)?;
        self.check_mki(packet, &behind)?;
        let parts = RtpParts::of(packet.get(..behind.end_of_body).ok_or(SrtpFault::Malformed)?)?;
        let known = self.sources.iter().position(|source| source.ssrc == parts.ssrc);
        let source = known.and_then(|position| self.sources.get(position)).copied();
        let source = source.unwrap_or(Source::new(parts.ssrc));
        let guesses = source.guesses(parts.sequence);
        if guesses.is_empty() {
            return Err(SrtpFault::Replayed);
        }
        let tag = Tag::copied(packet, &behind)?;
        let body = parts.payload..behind.end_of_body;
        let refused = match source.rtp.admits(source.rtp.estimate(parts.sequence)) {
            true => SrtpFault::Unauthentic,
            false => SrtpFault::Replayed,
        };
        let right = self.try_rtp(packet, body, tag.as_slice(), parts.ssrc, &guesses).ok_or(refused)?;
        self.remember(known, source, |source| source.accept(right));
        Ok(behind.end_of_body)
    }

    /// Unprotects an RTCP compound in place; returns the length that is left of it.
    ///
    /// # Errors
    /// As [`Unprotect::rtp`].
    pub fn rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpFault> {
        let tag_len = self.rtcp.suite().rtcp_tag_len();
        let behind = self.behind(packet.len(), TRAILER, tag_len)?;
        self.check_mki(packet, &behind)?;
        let ssrc = ssrc_of_rtcp(packet.get(..behind.end_of_body).ok_or(SrtpFault::Malformed)?)?;
        let word = packet.get(behind.word..).and_then(<[u8]>::first_chunk).ok_or(SrtpFault::Malformed)?;
        let trailer = u32::from_be_bytes(*word);
        // A session without encryption is never negotiated.
        if trailer & ENCRYPTED == 0 {
            return Err(SrtpFault::Malformed);
        }
        let index = u64::from(trailer & !ENCRYPTED);
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let source = known.and_then(|position| self.sources.get(position)).copied();
        let source = source.unwrap_or(Source::new(ssrc));
        if !source.rtcp.admits(index) {
            return Err(SrtpFault::Replayed);
        }
        let tag = Tag::copied(packet, &behind)?;
        let body = RTCP_CLEAR..behind.end_of_body;
        self.rtcp
            .open_rtcp(packet, body, tag.as_slice(), (ssrc, trailer))
            .map_err(|_| SrtpFault::Unauthentic)?;
        self.remember(known, source, |source| source.rtcp.accept(index));
        Ok(behind.end_of_body)
    }

    /// Tries the guesses in turn; the one that the tag agrees to.
    fn try_rtp(
        &self,
        packet: &mut [u8],
        body: Range<usize>,
        tag: &[u8],
        ssrc: u32,
        guesses: &[Guess],
    ) -> Option<Guess> {
        let opens = |packet: &mut [u8], guess: &Guess| {
            let (Guess::Current(index) | Guess::Other(index)) = *guess;
            self.rtp.open_rtp(packet, body.clone(), tag, (ssrc, index)).is_ok()
        };
        let right = match guesses {
            [only] => opens(packet, only).then_some(only),
            [likeliest, ..] if self.rtp.suite().is_aead() => {
                let mut kept = [0; KEPT_MAX];
                match kept.get_mut(..packet.len()) {
                    None => opens(packet, likeliest).then_some(likeliest),
                    Some(kept) => {
                        kept.copy_from_slice(packet);
                        guesses.iter().find(|guess| {
                            packet.copy_from_slice(kept);
                            opens(packet, guess)
                        })
                    }
                }
            }
            _ => guesses.iter().find(|guess| opens(packet, guess)),
        };
        right.copied()
    }

    fn remember(&mut self, known: Option<usize>, mut source: Source, accept: impl FnOnce(&mut Source)) {
        self.clock += 1;
        source.heard = self.clock;
        accept(&mut source);
        let silent = || self.sources.iter().enumerate().min_by_key(|(_, source)| source.heard);
        let position = known.or_else(|| match self.sources.len() < SOURCES_MAX {
            true => None,
            false => silent().map(|(position, _)| position),
        });
        match position.and_then(|position| self.sources.get_mut(position)) {
            Some(place) => *place = source,
            None => self.sources.push(source),
        }
    }

    fn behind(&self, length: usize, word: usize, tag: usize) -> Result<Behind, SrtpFault> {
        let mki = self.mki.map_or(0, Mki::len);
        let end_of_body = length.checked_sub(word + mki + tag).ok_or(SrtpFault::Malformed)?;
        Ok(match self.rtp.suite().is_aead() {
            true => Behind {
                end_of_body,
                word: end_of_body + tag,
                mki: end_of_body + tag + word..length,
                tag: end_of_body..end_of_body + tag,
            },
            false => Behind {
                end_of_body,
                word: end_of_body,
                mki: end_of_body + word..length - tag,
                tag: length - tag..length,
            },
        })
    }

    fn check_mki(&self, packet: &[u8], behind: &Behind) -> Result<(), SrtpFault> {
        let found = packet.get(behind.mki.clone()).unwrap_or_default();
        let wanted = self.mki.into_iter().flat_map(Mki::octets);
        if wanted.eq(found.iter().copied()) { Ok(()) } else { Err(SrtpFault::WrongMki) }
    }
}

/// Where what stands behind the body begins and ends: see [`super::Protect`] for the order.
struct Behind {
    end_of_body: usize,
    word: usize,
    mki: Range<usize>,
    tag: Range<usize>,
}

/// A tag aside from its packet, which is changed in place.
struct Tag {
    octets: [u8; super::transform::TAG_MAX],
    length: usize,
}

impl Tag {
    fn copied(packet: &[u8], behind: &Behind) -> Result<Self, SrtpFault> {
        let found = packet.get(behind.tag.clone()).ok_or(SrtpFault::Malformed)?;
        let mut octets = [0; super::transform::TAG_MAX];
        octets.get_mut(..found.len()).ok_or(SrtpFault::Malformed)?.copy_from_slice(found);
        Ok(Self { octets, length: found.len() })
    }

    fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

impl Source {
    fn new(ssrc: u32) -> Self {
        Self { ssrc, rtp: Window::default(), rtcp: Window::default(), other: None, heard: 0 }
    }

    /// What index a packet may have, likeliest first, without those that were seen.
    fn guesses(&self, sequence: u16) -> SmallVec<[Guess; 3]> {
        let mut guesses = SmallVec::new();
        let nearest = self.rtp.estimate(sequence);
        let in_doubt = self.rtp.highest().is_none() || !self.rtp.reaches(nearest);
        let later = in_doubt.then_some(nearest + 0x1_0000);
        for index in std::iter::once(nearest).chain(later) {
            if self.rtp.admits(index) && index >> 48 == 0 {
                guesses.push(Guess::Current(index));
            }
        }
        if let Some((other, _)) = &self.other {
            let index = other.estimate(sequence);
            if other.admits(index) && !guesses.contains(&Guess::Current(index)) {
                guesses.push(Guess::Other(index));
            }
        }
        guesses
    }

    fn accept(&mut self, right: Guess) {
        match (right, &mut self.other) {
            (Guess::Current(index), Some((_, against))) => {
                self.rtp.accept(index);
                *against += 1;
                if *against == SETTLED {
                    self.other = None;
                }
            }
            (Guess::Current(index), None) => self.rtp.accept(index),
            (Guess::Other(index), Some((other, against))) => {
                // What was believed before stays the other guess: a packet of old, repeated by somebody, does not make
                // the source inaudible.
                std::mem::swap(&mut self.rtp, other);
                *against = 0;
                self.rtp.accept(index);
            }
            (Guess::Other(index), None) => self.rtp.accept(index),
        }
    }
}
