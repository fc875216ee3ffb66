//! SRTP and SRTCP (RFC 3711) with AES-CM-128 and HMAC-SHA1: keys as the control plane writes them, state as the
//! kernel writes it, and the rules in between. Pure, the same in the kernel and on the plain-socket path.
//!
//! [`unprotect`] and [`protect`] change the UDP payload in a [`Scratch`] and say what that does to its length and
//! checksum. Nothing of a packet changes any state before its tag is found right. What loops is behind [`Engine`], so
//! that the kernel's verifier walks it once.

pub mod aes;
mod scratch;
pub mod sha1;

pub use scratch::{Opened, PAYLOAD_MAX, Scratch, Sealing, WORDS};

use crate::{
    net::Be32,
    rewrite::Sum,
    rtp::{RTCP_LEN, RTP_LEN},
    verdict::Reason,
};
use core::{hint::black_box, mem::size_of};

/// SSRCs in one direction of a flow, for RTP and as many for RTCP.
pub const SOURCES: usize = 4;
/// Packets behind the highest that may still come (RFC 3711 section 3.3.2 asks for 64).
pub const WINDOW: u64 = 128;
/// Longest tag, and that of SRTCP in every suite (RFC 4568 section 6.2).
pub const TAG_MAX: usize = 10;
/// Longest master key identifier.
pub const MKI_MAX: usize = 4;
/// Most that protection adds to a packet: MKI, tag, and SRTCP's index.
pub const OVERHEAD_MAX: usize = TAG_MAX + MKI_MAX + INDEX_LEN;

const INDEX_LEN: usize = 4;
/// RFC 3711 section 3.4: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// No index.
const NONE: u64 = u64::MAX;

/// Session keys of RTP or of RTCP, ready for use.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Of [`aes::expand`].
    pub round_keys: [u32; aes::ROUND_KEYS],
    /// Fourteen octets and two zeros, as they lie in memory.
    pub salt: [u32; 4],
    /// SHA-1's state after the inner and after the outer padded key (RFC 2104).
    pub inner: [u32; 5],
    pub outer: [u32; 5],
}

/// Keys of one direction. Written by the control plane; `epoch` is 0 while it writes the rest.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Another one means another key, with which all counts begin anew; 0 for no keys.
    pub epoch: u32,
    /// Raised by each offer and answer that kept the key: the far end may have begun to count anew all the same.
    pub offer: u32,
    /// Octets of the tag of RTP, 4 or 10.
    pub tag_len: u8,
    /// Octets of the master key identifier in front of the tag, 0 to [`MKI_MAX`].
    pub mki_len: u8,
    pub padding: [u8; 2],
    /// The master key identifier, in its first octets.
    pub mki: [u8; MKI_MAX],
    pub rtp: Session,
    pub rtcp: Session,
    pub padding_2: [u32; 8],
}

/// Keys of a flow: for what arrives, and for what leaves.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowKeys {
    pub unprotect: Keys,
    pub protect: Keys,
}

/// What is remembered of one SSRC.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Source {
    pub ssrc: Be32,
    /// 1 once a packet was.
    pub used: u32,
    /// Highest index: rollover counter and sequence number, or SRTCP's index.
    pub highest: u64,
    /// A bit for each of the last [`WINDOW`] indices; the lowest of the first word is the highest index.
    pub window: [u64; 2],
}

/// What is remembered of one direction.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Stream {
    /// [`Keys::epoch`] that this belongs to.
    pub epoch: u32,
    /// [`Keys::offer`] since which a packet was authentic.
    pub offer: u32,
    pub padding: [u32; 6],
    /// Of RTP, then of RTCP.
    pub sources: [Source; 2 * SOURCES],
}

/// Written by the kernel.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct FlowCrypto {
    pub unprotect: Stream,
    pub protect: Stream,
}

const _: () = {
    assert!(size_of::<Keys>() == 512);
    assert!(size_of::<FlowKeys>() == 1024);
    assert!(size_of::<FlowCrypto>() == 576);
};

/// Who does the arithmetic over whole blocks.
pub trait Engine {
    /// [`hmac`].
    fn hmac(&mut self, session: &Session, scratch: &mut Scratch, len: usize, trailer: u32);

    /// [`Scratch::sum`].
    fn sum(&mut self, scratch: &mut Scratch, len: usize) -> u64;

    /// [`aes::counter_mode`].
    fn counter_mode(&mut self, session: &Session, scratch: &mut Scratch, first: usize, blocks: usize);
}

/// The arithmetic, called straight: outside the kernel, where no verifier looks at loops.
pub struct Straight;

impl Engine for Straight {
    fn hmac(&mut self, session: &Session, scratch: &mut Scratch, len: usize, trailer: u32) {
        hmac(session, scratch, len, trailer);
    }

    fn sum(&mut self, scratch: &mut Scratch, len: usize) -> u64 {
        scratch.sum(len)
    }

    fn counter_mode(&mut self, session: &Session, scratch: &mut Scratch, first: usize, blocks: usize) {
        aes::counter_mode(&session.round_keys, scratch, first, blocks);
    }
}

/// What became of a payload.
#[derive(Clone, Copy)]
pub struct Changed {
    /// Octets of it now.
    pub len: usize,
    /// To be added to the sum of the UDP checksum.
    pub sum: Sum,
}

impl Keys {
    pub const NONE: Self = Self {
        epoch: 0,
        offer: 0,
        tag_len: 0,
        mki_len: 0,
        padding: [0; 2],
        mki: [0; MKI_MAX],
        rtp: Session::NONE,
        rtcp: Session::NONE,
        padding_2: [0; 8],
    };

    /// Octets that protection adds to a packet of `len` octets that begins with the word `first`.
    #[inline(always)]
    pub fn overhead(&self, first: u32) -> usize {
        let tail = usize::from(self.mki_len) & 7;
        if is_rtcp(first) { tail + INDEX_LEN + TAG_MAX } else { tail + (usize::from(self.tag_len) & 15) }
    }
}

/// Never the keys themselves.
#[cfg(any(test, feature = "std"))]
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl FlowKeys {
    pub const NONE: Self = Self { unprotect: Keys::NONE, protect: Keys::NONE };
}

impl Session {
    pub const NONE: Self =
        Self { round_keys: [0; aes::ROUND_KEYS], salt: [0; 4], inner: [0; 5], outer: [0; 5] };

    /// From session keys (RFC 3711 section 4.3).
    pub fn new(cipher: &[u8; 16], salt: &[u8; 14], authentication: &[u8; 20]) -> Self {
        let mut words = [0; 4];
        for (index, octet) in salt.iter().enumerate() {
            words[index / 4] |= u32::from(*octet) << (8 * (index % 4));
        }
        let padded = |pad: u8| {
            let mut block = [u32::from_ne_bytes([pad; 4]); sha1::BLOCK];
            for (word, octets) in block.iter_mut().zip(authentication.as_chunks::<4>().0) {
                *word ^= u32::from_ne_bytes(*octets);
            }
            let mut state = sha1::INITIAL;
            sha1::compress(&mut state, &block, &mut [0; _]);
            state
        };
        Self { round_keys: aes::expand(cipher), salt: words, inner: padded(0x36), outer: padded(0x5c) }
    }

    /// RFC 3711 section 4.1.1, for block 0.
    #[inline(always)]
    fn counter(&self, ssrc: Be32, index: u64) -> [u32; 4] {
        let [a, b, c, d] = self.salt;
        let low = (index as u32 & 0xffff) << 16;
        [a, b ^ ssrc.raw(), c ^ ((index >> 16) as u32).to_be(), d ^ low.to_be()]
    }
}

/// Turns the SRTP or SRTCP packet of `len` octets in `scratch` into the RTP or RTCP packet that it protects.
///
/// # Errors
/// Why it is none for this flow. Then nothing is remembered of it.
#[inline(always)]
pub fn unprotect(
    engine: &mut impl Engine,
    keys: &Keys,
    stream: &mut Stream,
    scratch: &mut Scratch,
    len: usize,
) -> Result<Changed, Reason> {
    begin(keys, stream, scratch, len)?;
    let is_rtcp = is_rtcp(scratch.words[0]);
    let overhead = keys.overhead(scratch.words[0]);
    let least = if is_rtcp { RTCP_LEN } else { RTP_LEN };
    if len < least + overhead {
        return Err(Reason::SrtpShort);
    }
    let end = len - overhead;
    let before = engine.sum(scratch, len);
    let candidate = if is_rtcp { rtcp_candidate(scratch, end) } else { rtp_candidate(scratch, end)? };
    let place = stream.place(candidate.ssrc, is_rtcp)?;
    let accepted = authenticate(engine, keys, stream, scratch, (end, len), &candidate, place)?;
    let session = if is_rtcp { &keys.rtcp } else { &keys.rtp };
    if candidate.encrypted {
        scratch.counter = session.counter(candidate.ssrc, accepted.index);
        engine.counter_mode(session, scratch, candidate.header / 4, (end - candidate.header).div_ceil(16));
    }
    stream.offer = keys.offer;
    stream.sources[place].accept(candidate.ssrc, &accepted);
    let after = engine.sum(scratch, end);
    Ok(Scratch::changed((before, after), len, end))
}

/// Turns the RTP or RTCP packet of `len` octets in `scratch` into the SRTP or SRTCP packet that protects it.
///
/// # Errors
/// Why it may not be sent.
#[inline(always)]
pub fn protect(
    engine: &mut impl Engine,
    keys: &Keys,
    stream: &mut Stream,
    scratch: &mut Scratch,
    len: usize,
) -> Result<Changed, Reason> {
    begin(keys, stream, scratch, len)?;
    let is_rtcp = is_rtcp(scratch.words[0]);
    if len < if is_rtcp { RTCP_LEN } else { RTP_LEN } {
        return Err(Reason::NotRtp);
    }
    let before = engine.sum(scratch, len);
    let (header, ssrc) = if is_rtcp {
        (RTCP_LEN, Be32::from_raw(scratch.words[1]))
    } else {
        (scratch.rtp_header_len(len)?, Be32::from_raw(scratch.words[2]))
    };
    let place = stream.place(ssrc, is_rtcp)?;
    let source = &stream.sources[place];
    let index = if is_rtcp { source.next() } else { source.estimate(scratch.sequence()) };
    if index == NONE || source.used == 1 && !source.is_fresh(index) {
        return Err(Reason::Replayed);
    }
    let session = if is_rtcp { &keys.rtcp } else { &keys.rtp };
    scratch.counter = session.counter(ssrc, index);
    engine.counter_mode(session, scratch, header / 4, (len - header).div_ceil(16));
    // What follows the packet under the tag: SRTCP's index, or the rollover counter, which is not sent.
    let trailer = if is_rtcp { ENCRYPTED | index as u32 } else { (index >> 16) as u32 };
    engine.hmac(session, scratch, len, trailer);
    let [a, b, c, ..] = scratch.digest;
    let mut end = if is_rtcp { len + INDEX_LEN } else { len };
    scratch.put(end, u32::from_ne_bytes(keys.mki));
    end += usize::from(keys.mki_len) & 7;
    scratch.put(end, a.to_be());
    scratch.put(end + 4, b.to_be());
    scratch.put(end + 8, c.to_be());
    end += if is_rtcp { TAG_MAX } else { usize::from(keys.tag_len) & 15 };
    let fresh = source.used == 0;
    stream.sources[place].accept(ssrc, &Accepted { index, fresh });
    let after = engine.sum(scratch, end);
    Ok(Scratch::changed((before, after), len, end))
}

/// The checks of both ways, and a stream of these very keys.
#[inline(always)]
fn begin(keys: &Keys, stream: &mut Stream, scratch: &Scratch, len: usize) -> Result<(), Reason> {
    if keys.epoch == 0 {
        return Err(Reason::KeysMissing);
    }
    if len > PAYLOAD_MAX - OVERHEAD_MAX {
        return Err(Reason::TooBig);
    }
    if len < RTCP_LEN || scratch.words[0] & 0xc0 != 0x80 {
        return Err(Reason::NotRtp);
    }
    if stream.epoch != keys.epoch {
        // One by one: the kernel's stack has no room for a whole one.
        stream.sources.iter_mut().for_each(|source| *source = Source::default());
        stream.epoch = keys.epoch;
        stream.offer = keys.offer;
    }
    Ok(())
}

/// RFC 5761 section 4, of the first word as it lies in memory.
#[inline(always)]
fn is_rtcp(first: u32) -> bool {
    matches!(first >> 8 & 0xff, 192..=223)
}

/// A packet before its tag was looked at.
struct Candidate {
    ssrc: Be32,
    /// Octets that are not encrypted.
    header: usize,
    encrypted: bool,
    /// What the tag covers behind the packet, if it is known: of SRTCP.
    index: u64,
    is_rtcp: bool,
}

/// What a right tag says.
struct Accepted {
    index: u64,
    /// Nothing before it counts.
    fresh: bool,
}

#[inline(always)]
fn rtp_candidate(scratch: &Scratch, end: usize) -> Result<Candidate, Reason> {
    Ok(Candidate {
        ssrc: Be32::from_raw(scratch.words[2]),
        header: scratch.rtp_header_len(end)?,
        encrypted: true,
        index: NONE,
        is_rtcp: false,
    })
}

#[inline(always)]
fn rtcp_candidate(scratch: &Scratch, end: usize) -> Candidate {
    let word = u32::from_be(scratch.word_at(end));
    Candidate {
        ssrc: Be32::from_raw(scratch.words[1]),
        header: RTCP_LEN,
        encrypted: word & ENCRYPTED != 0,
        index: u64::from(word & !ENCRYPTED),
        is_rtcp: true,
    }
}

/// Looks for the index with which the tag is right: the one that is most likely, and one other where the far end
/// may have counted otherwise. `(end, len)`: where the protected packet ends, and where the tag does.
#[inline(always)]
fn authenticate(
    engine: &mut impl Engine,
    keys: &Keys,
    stream: &Stream,
    scratch: &mut Scratch,
    (end, len): (usize, usize),
    candidate: &Candidate,
    place: usize,
) -> Result<Accepted, Reason> {
    let source = &stream.sources[place];
    let sequence = scratch.sequence();
    let offered_again = stream.offer != keys.offer;
    let first = if candidate.is_rtcp { candidate.index } else { source.estimate(sequence) };
    // A first packet may be one behind a wrap, whose neighbours were lost; a far end that was offered the same key
    // again may have gone back to where it began.
    let second = match (source.used == 0, offered_again) {
        (true, _) if !candidate.is_rtcp => 1 << 16 | u64::from(sequence),
        (false, true) if candidate.is_rtcp => candidate.index,
        (false, true) => u64::from(sequence),
        _ => NONE,
    };
    let tag_len = if candidate.is_rtcp { TAG_MAX } else { usize::from(keys.tag_len) & 15 };
    let tag = scratch.tag(len - tag_len, tag_len);
    let session = if candidate.is_rtcp { &keys.rtcp } else { &keys.rtp };
    let encrypted = if candidate.encrypted { ENCRYPTED } else { 0 };
    let mut reason = Reason::Replayed;
    for attempt in 0..2 {
        let index = if attempt == 0 { first } else { second };
        let fresh = attempt == 1 || source.used == 0;
        if index == NONE || !fresh && !source.is_fresh(index) {
            continue;
        }
        let trailer = if candidate.is_rtcp { encrypted | index as u32 } else { (index >> 16) as u32 };
        engine.hmac(session, scratch, end, trailer);
        if tag == scratch.computed_tag(tag_len) {
            return Ok(Accepted { index, fresh });
        }
        reason = Reason::BadTag;
    }
    Err(reason)
}

/// HMAC-SHA1 over `len` octets and the word `trailer`, into [`Scratch::digest`].
#[inline(always)]
pub fn hmac(session: &Session, scratch: &mut Scratch, len: usize, trailer: u32) {
    const BLOCKS_MAX: usize = PAYLOAD_MAX / 64 + 1;
    let blocks = scratch.pad(len, trailer);
    scratch.begin(&session.inner);
    let mut room: sha1::Room = [black_box(0); _];
    black_box(&mut room);
    // One loop for the inner and the outer hash, as the rounds of SHA-1 are many instructions.
    for index in 0..=BLOCKS_MAX {
        if index > blocks {
            break;
        }
        let mut block = index;
        if index == blocks {
            scratch.pad_digest();
            scratch.begin(&session.outer);
            block = scratch::OUTER;
        }
        scratch.hash(block, &mut room);
    }
}

impl Stream {
    /// Writes down what another implementation counted of an SSRC, so that it survives that one; false where there is no
    /// place for another SSRC.
    pub fn record(&mut self, ssrc: Be32, is_rtcp: bool, (highest, window): (u64, [u64; 2])) -> bool {
        let place = self.place(ssrc, is_rtcp).ok().and_then(|place| self.sources.get_mut(place));
        let Some(source) = place else { return false };
        *source = Source { ssrc, used: 1, highest, window };
        true
    }

    /// The SSRCs that were counted, of RTP or of RTCP.
    pub fn recorded(&self, is_rtcp: bool) -> impl Iterator<Item = &Source> {
        let skipped = if is_rtcp { SOURCES } else { 0 };
        self.sources.iter().skip(skipped).take(SOURCES).filter(|source| source.used == 1)
    }

    /// The place of an SSRC, or one that is free.
    #[inline(always)]
    fn place(&self, ssrc: Be32, is_rtcp: bool) -> Result<usize, Reason> {
        let base = if is_rtcp { SOURCES } else { 0 };
        let mut free = NO_PLACE;
        for index in 0..SOURCES {
            let place = (base + index) % (2 * SOURCES);
            let source = &self.sources[place];
            if source.used == 1 && source.ssrc == ssrc {
                return Ok(place);
            }
            if source.used == 0 && free == NO_PLACE {
                free = place;
            }
        }
        if free == NO_PLACE { Err(Reason::TooManySources) } else { Ok(free % (2 * SOURCES)) }
    }
}

const NO_PLACE: usize = usize::MAX;

impl Source {
    /// RFC 3711 section 3.3.1: the index that is nearest to the highest; [`NONE`] for one before the first of all.
    #[inline(always)]
    fn estimate(&self, sequence: u16) -> u64 {
        const HALF: u16 = 1 << 15;
        if self.used == 0 {
            return u64::from(sequence);
        }
        let highest = self.highest as u16;
        let rollover = self.highest >> 16;
        let rollover = if highest < HALF {
            if sequence.wrapping_sub(highest) > HALF && sequence > highest {
                if rollover == 0 {
                    return NONE;
                }
                rollover - 1
            } else {
                rollover
            }
        } else if highest - HALF > sequence {
            rollover + 1
        } else {
            rollover
        };
        (rollover & 0xffff_ffff) << 16 | u64::from(sequence)
    }

    /// The index of the next packet of SRTCP.
    #[inline(always)]
    fn next(&self) -> u64 {
        match self.used {
            0 => 0,
            _ if self.highest >= u64::from(ENCRYPTED - 1) => NONE,
            _ => self.highest + 1,
        }
    }

    /// RFC 3711 section 3.3.2.
    #[inline(always)]
    fn is_fresh(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let behind = self.highest - index;
        if behind >= WINDOW {
            return false;
        }
        let word = if behind < 64 { self.window[0] } else { self.window[1] };
        word >> (behind & 63) & 1 == 0
    }

    #[inline(always)]
    fn accept(&mut self, ssrc: Be32, accepted: &Accepted) {
        let index = accepted.index;
        if accepted.fresh {
            *self = Self { ssrc, used: 1, highest: index, window: [1, 0] };
        } else if index > self.highest {
            let ahead = index - self.highest;
            let [low, high] = self.window;
            self.window = if ahead < 64 {
                // In two steps, as no shift is by 64.
                [low << ahead | 1, high << ahead | low >> 1 >> (63 - ahead)]
            } else if ahead < WINDOW {
                [1, low << (ahead & 63)]
            } else {
                [1, 0]
            };
            self.highest = index;
        } else {
            let behind = self.highest - index;
            let bit = 1 << (behind & 63);
            if behind < 64 {
                self.window[0] |= bit;
            } else {
                self.window[1] |= bit;
            }
        }
    }
}

#[cfg(test)]
mod tests;
