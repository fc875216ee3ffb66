//! Packets of one direction that leave: encrypted, with tag.

use super::packet::{RtpParts, ssrc_of_rtcp};
use super::transform::{ENCRYPTED, RTCP_CLEAR, TRAILER, Tag, Transform};
use super::window::Window;
use super::{MasterKey, Mki, SrtpFault};
use smallvec::SmallVec;

/// Sources that one key protects, at most. Beyond it packets are refused: the counter of a forgotten source would begin
/// again, and a key stream must never be used twice.
const SOURCES_MAX: usize = 16;

/// What leaves under one key: its rollover counters by source, and one index for the RTCP of all sources, which is never
/// met twice for any of them.
#[derive(Debug)]
pub struct Protect {
    rtp: Transform,
    rtcp: Transform,
    mki: Option<Mki>,
    sources: SmallVec<[(u32, Window); 1]>,
    next_rtcp: u32,
}

impl Protect {
    pub fn new(key: &MasterKey) -> Self {
        let keys = key.derive();
        Self {
            rtp: Transform::new(&keys.rtp),
            rtcp: Transform::new(&keys.rtcp),
            mki: key.mki(),
            sources: SmallVec::new(),
            next_rtcp: 0,
        }
    }

    /// What was counted of a source, to be written down: the highest index and a bit for each one seen below it.
    pub fn counted(&self, ssrc: u32, is_rtcp: bool) -> Option<(u64, [u64; 2])> {
        if is_rtcp {
            return Some((u64::from(self.next_rtcp.checked_sub(1)?), [1, 0]));
        }
        self.sources.iter().find(|(known, _)| *known == ssrc).map(|(_, window)| window.record())
    }

    /// Goes on from what was written down, where that is further than what was counted here.
    pub fn resume(&mut self, ssrc: u32, is_rtcp: bool, counted: (u64, [u64; 2])) {
        if is_rtcp {
            let next = u32::try_from(counted.0 + 1).unwrap_or(ENCRYPTED);
            self.next_rtcp = self.next_rtcp.max(next);
            return;
        }
        match self.sources.iter_mut().find(|(known, _)| *known == ssrc) {
            Some((_, window)) if window.highest() < Some(counted.0) => *window = Window::of(counted),
            Some(_) => {}
            None => self.sources.push((ssrc, Window::of(counted))),
        }
    }

    /// Octets that an RTP packet grows by at most, or an RTCP packet.
    pub fn growth(&self) -> usize {
        let suite = self.rtp.suite();
        let mki = self.mki.map_or(0, Mki::len);
        suite.rtp_tag_len().max(suite.rtcp_tag_len() + TRAILER) + mki
    }

    /// Protects the RTP packet in the first `length` octets of `buffer`; returns the length that leaves.
    ///
    /// # Errors
    /// [`SrtpFault::Malformed`] for what is no RTP packet, [`SrtpFault::NoRoom`] when the buffer is too short for the tag,
    /// [`SrtpFault::Replayed`] for a number that was used before or is far behind: its key stream may have been
    /// (RFC 3711 section 9.1), [`SrtpFault::Exhausted`] after 2^48 packets or for a source too many. The packet is then as
    /// it was.
    pub fn rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        let parts = RtpParts::of(buffer.get(..length).ok_or(SrtpFault::NoRoom)?)?;
        self.room(buffer, length, self.rtp.suite().rtp_tag_len())?;
        let position = self.source(parts.ssrc)?;
        let (_, window) = self.sources.get_mut(position).ok_or(SrtpFault::Exhausted)?;
        let index = window.estimate(parts.sequence);
        if index >> 48 != 0 {
            return Err(SrtpFault::Exhausted);
        }
        if !window.admits(index) {
            return Err(SrtpFault::Replayed);
        }
        window.accept(index);
        let tag = self.rtp.seal_rtp(buffer, parts.payload..length, (parts.ssrc, index));
        Ok(self.append(buffer, length, &[], &tag.ok_or(SrtpFault::NoRoom)?))
    }

    /// Protects the RTCP compound in the first `length` octets of `buffer`; returns the length that leaves.
    ///
    /// # Errors
    /// As [`Protect::rtp`]; exhausted after 2^31 packets.
    pub fn rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpFault> {
        let ssrc = ssrc_of_rtcp(buffer.get(..length).ok_or(SrtpFault::NoRoom)?)?;
        self.room(buffer, length, self.rtp.suite().rtcp_tag_len() + TRAILER)?;
        if self.next_rtcp & ENCRYPTED != 0 {
            return Err(SrtpFault::Exhausted);
        }
        let trailer = ENCRYPTED | self.next_rtcp;
        self.next_rtcp += 1;
        let tag = self.rtcp.seal_rtcp(buffer, RTCP_CLEAR..length, (ssrc, trailer));
        Ok(self.append(buffer, length, &trailer.to_be_bytes(), &tag.ok_or(SrtpFault::NoRoom)?))
    }

    fn room(&self, buffer: &[u8], length: usize, tag: usize) -> Result<(), SrtpFault> {
        let needed = length + tag + self.mki.map_or(0, Mki::len);
        if buffer.len() < needed { Err(SrtpFault::NoRoom) } else { Ok(()) }
    }

    fn source(&mut self, ssrc: u32) -> Result<usize, SrtpFault> {
        if let Some(position) = self.sources.iter().position(|(known, _)| *known == ssrc) {
            return Ok(position);
        }
        if self.sources.len() == SOURCES_MAX {
            return Err(SrtpFault::Exhausted);
        }
        self.sources.push((ssrc, Window::default()));
        Ok(self.sources.len() - 1)
    }

    /// Behind the body: word, identifier, tag (RFC 3711 section 3.4); with GCM the tag belongs to the body and stands
    /// first (RFC 7714 sections 8.2 and 9.2).
    fn append(&self, buffer: &mut [u8], length: usize, word: &[u8], tag: &Tag) -> usize {
        let (first, last) =
            if self.rtp.suite().is_aead() { (tag.as_slice(), &[][..]) } else { (&[][..], tag.as_slice()) };
        let mki = self.mki.into_iter().flat_map(Mki::octets);
        let behind = first.iter().chain(word).copied().chain(mki).chain(last.iter().copied());
        let room = buffer.get_mut(length..).unwrap_or_default();
        length + room.iter_mut().zip(behind).map(|(to, from)| *to = from).count()
    }
}
