//! Where a payload is worked on: in words, with room for what SHA-1 wants behind it. Positions are cut to the room
//! that there is, so that nothing here can panic and the kernel's verifier sees it.

use super::{Changed, sha1};
use crate::{headers::UDP_LEN, rewrite::Sum, rtp::RTP_LEN, verdict::Reason};

use core::hint::black_box;

/// Longest payload, protected: nothing longer passes an Ethernet of 1,500 octets.
pub const PAYLOAD_MAX: usize = 1536;
/// Words that a position may name.
pub const WORDS: usize = 512;
/// Words behind them, for what is written from there on.
const SLACK: usize = 32;
/// Blocks of SHA-1 in what a position may name.
const BLOCKS: usize = WORDS / sha1::BLOCK;
/// Block that the outer hash is made of.
pub(super) const OUTER: usize = 30;
/// Words that are cleared behind a payload: the rest of its last block, and another one.
const CLEARED: usize = 18;

/// One processor's working memory.
#[repr(C, align(8))]
pub struct Scratch {
    /// The payload, as it lies in memory.
    pub words: [u32; WORDS + SLACK],
    /// Of the next key stream.
    pub counter: [u32; 4],
    pub digest: [u32; 5],
    pub padding: u32,
    /// What one of the kernel's programs leaves for the next.
    pub opened: Opened,
    pub sealing: Sealing,
}

/// A packet as it is now, whose headers still say otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Opened {
    /// Octets of UDP payload.
    pub len: u32,
    /// UDP checksum, as it lies in memory.
    pub checksum: u32,
}

/// A packet that leaves once its payload is protected.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sealing {
    pub slot: u32,
    pub crypto_slot: u32,
    /// Where the payload begins, and its octets.
    pub offset: u32,
    pub len: u32,
    /// 1 for RTCP.
    pub is_rtcp: u32,
    /// By which it leaves.
    pub action: u32,
    /// Epoch and flags of its flow.
    pub epoch: u32,
    pub flags: u32,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    pub const fn new() -> Self {
        let sealing =
            Sealing { slot: 0, crypto_slot: 0, offset: 0, len: 0, is_rtcp: 0, action: 0, epoch: 0, flags: 0 };
        Self {
            words: [0; WORDS + SLACK],
            counter: [0; 4],
            digest: [0; 5],
            padding: 0,
            opened: Opened { len: 0, checksum: 0 },
            sealing,
        }
    }

    /// Takes a payload in.
    ///
    /// # Errors
    /// It is longer than [`PAYLOAD_MAX`], or empty.
    pub fn load(&mut self, payload: &[u8]) -> Result<(), Reason> {
        if payload.is_empty() {
            return Err(Reason::NotRtp);
        }
        if payload.len() > PAYLOAD_MAX {
            return Err(Reason::TooBig);
        }
        let (words, rest) = payload.as_chunks::<4>();
        let mut last = [0; 4];
        last.iter_mut().zip(rest).for_each(|(octet, from)| *octet = *from);
        let words = words.iter().chain(core::iter::once(&last));
        self.words.iter_mut().zip(words).for_each(|(word, octets)| *word = u32::from_ne_bytes(*octets));
        Ok(())
    }

    /// The first `len` octets.
    pub fn octets(&self, len: usize) -> impl Iterator<Item = u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).take(len)
    }

    /// Block `index` of 64 octets.
    #[inline(always)]
    fn block(&self, index: usize) -> &[u32; sha1::BLOCK] {
        let (blocks, _) = self.words.as_chunks();
        &blocks[index % BLOCKS]
    }

    /// Begins a hash. Word by word: for a copy of the whole the compiler would call a function.
    #[inline(always)]
    pub(super) fn begin(&mut self, &[a, b, c, d, e]: &[u32; 5]) {
        self.digest = [a, b, c, d, e];
    }

    /// Takes block `index` into the digest.
    #[inline(always)]
    pub(super) fn hash(&mut self, index: usize, room: &mut sha1::Room) {
        let (blocks, _) = self.words.as_chunks();
        sha1::compress(&mut self.digest, &blocks[index % BLOCKS], room);
    }

    /// The word at an offset in octets, as it lies in memory.
    #[inline(always)]
    pub(super) fn word_at(&self, offset: usize) -> u32 {
        let at = position(offset);
        let pair = u64::from(self.words[at + 1]) << 32 | u64::from(self.words[at]);
        (pair >> (8 * (offset % 4))) as u32
    }

    /// Puts a word at an offset in octets, and zeros up to the next whole word.
    #[inline(always)]
    pub(super) fn put(&mut self, offset: usize, word: u32) {
        let at = position(offset);
        let shift = 8 * (offset % 4);
        let shifted = u64::from(word) << shift;
        self.words[at] = self.words[at] & !(u32::MAX << shift) | shifted as u32;
        self.words[at + 1] = (shifted >> 32) as u32;
    }

    /// Zeros behind `len` octets.
    #[inline(always)]
    pub(super) fn end_at(&mut self, len: usize) {
        self.put(len, 0);
        let at = position(len);
        // Not a constant: the compiler would call a function that clears octet by octet.
        let zero = black_box(0);
        let mut word = 1;
        while word < CLEARED {
            self.words[at + word] = zero;
            word += 1;
        }
    }

    /// RFC 3711 section 4.2 and FIPS 180-4 section 5.1.1: what follows `len` octets of a packet in its hash, behind
    /// a block that was hashed before. Gives the blocks that there are then.
    #[inline(always)]
    pub(super) fn pad(&mut self, len: usize, trailer: u32) -> usize {
        const END: u32 = u32::from_ne_bytes([0x80, 0, 0, 0]);
        self.end_at(len);
        self.put(len, trailer.to_be());
        let at = position(len);
        self.words[at + 1] |= END << (8 * (len % 4));
        let octets = len + 4;
        let blocks = (octets + 9).div_ceil(64);
        self.words[position(64 * blocks - 4)] = ((octets + 64) as u32 * 8).to_be();
        blocks
    }

    /// The digest as the message of the outer hash.
    #[inline(always)]
    pub(super) fn pad_digest(&mut self) {
        const AT: usize = OUTER * sha1::BLOCK;
        let mut index = 0;
        while index < 5 {
            self.words[AT + index] = self.digest[index].to_be();
            index += 1;
        }
        self.words[AT + 5] = u32::from_ne_bytes([0x80, 0, 0, 0]);
        let zero = black_box(0);
        while index < 14 {
            index += 1;
            self.words[AT + index] = zero;
        }
        self.words[AT + 15] = ((64 + 20) * 8u32).to_be();
    }

    /// The tag of `len` octets at an offset.
    #[inline(always)]
    pub(super) fn tag(&self, offset: usize, len: usize) -> [u32; 3] {
        let [a, b, c] = [0, 4, 8].map(|at| u32::from_be(self.word_at(offset + at)));
        cut([a, b, c], len)
    }

    /// The tag that the digest makes.
    #[inline(always)]
    pub(super) fn computed_tag(&self, len: usize) -> [u32; 3] {
        cut([self.digest[0], self.digest[1], self.digest[2]], len)
    }

    /// The sequence number of RTP.
    #[inline(always)]
    pub(super) fn sequence(&self) -> u16 {
        u32::from_be(self.words[0]) as u16
    }

    /// Octets in front of the RTP payload, which have to fit into `len` (RFC 3550 section 5.1, 5.3.1).
    #[inline(always)]
    pub(super) fn rtp_header_len(&self, len: usize) -> Result<usize, Reason> {
        const EXTENSION: u32 = 0x10;
        let first = self.words[0];
        let mut header = RTP_LEN + (first & 0x0f) as usize * 4;
        if first & EXTENSION != 0 {
            if header + 4 > len {
                return Err(Reason::RtpHeader);
            }
            let extension = u32::from_be(self.words[position(header)]);
            header += 4 + (extension & 0xffff) as usize * 4;
        }
        if header > len { Err(Reason::RtpHeader) } else { Ok(header) }
    }

    /// One's complement sum of `len` octets, behind which zeros are put.
    #[inline(always)]
    pub fn sum(&mut self, len: usize) -> u64 {
        self.end_at(len);
        let mut sum = 0;
        let blocks = len.div_ceil(64);
        for index in 0..PAYLOAD_MAX / 64 {
            if index >= blocks {
                break;
            }
            let block = self.block(index);
            let mut word = 0;
            while word < sha1::BLOCK {
                sum += u64::from(block[word]);
                word += 1;
            }
        }
        sum
    }

    /// Of a payload of `len` octets that is now one of `now`, by their sums.
    #[inline(always)]
    pub(super) fn changed((before, after): (u64, u64), len: usize, now: usize) -> Changed {
        let count = |len: usize| u64::from(((len + UDP_LEN) as u16).to_be());
        let complement = |sum: u64| u64::from(!Sum::from_raw(sum).folded());
        // The length stands in the header and in the pseudo-header (RFC 768).
        let (old, new) = (before + 2 * count(len), after + 2 * count(now));
        Changed { len: now, sum: Sum::from_raw(complement(old) + new) }
    }
}

/// Word of an offset. The compiler may know that the cut is not needed; the kernel's verifier does not.
#[inline(always)]
fn position(offset: usize) -> usize {
    black_box(offset / 4) % WORDS
}

/// The first `len` octets, 4 or 10.
#[inline(always)]
fn cut([a, b, c]: [u32; 3], len: usize) -> [u32; 3] {
    if len < super::TAG_MAX { [a, 0, 0] } else { [a, b, c & 0xffff_0000] }
}
