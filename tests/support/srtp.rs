//! The far end of an SRTP stream: what it sends, and what it makes of what it hears.

use gateway_common::net::Be32;
use gateway_common::srtp::{self, Keys, SOURCES, Scratch, Source, Straight, Stream};
use gateway_common::verdict::Reason;

/// One direction of a far end.
pub struct FarEnd {
    pub keys: Keys,
    stream: Stream,
}

impl FarEnd {
    pub fn new(keys: Keys) -> Self {
        Self { keys, stream: Stream::default() }
    }

    /// Protects a packet with an index of its own choice: rollover counter and sequence number, or SRTCP's index.
    pub fn protect_at(&mut self, payload: &[u8], index: u64) -> Vec<u8> {
        let is_rtcp = matches!(payload.get(1), Some(192..=223));
        let (place, ssrc) = if is_rtcp { (SOURCES, 4) } else { (0, 8) };
        let ssrc = payload.get(ssrc..).and_then(|octets| octets.first_chunk()).copied().unwrap_or_default();
        self.stream = Stream { epoch: self.keys.epoch, offer: self.keys.offer, ..Stream::default() };
        if let Some(highest) = index.checked_sub(1) {
            let source = Source { ssrc: Be32::from_bytes(ssrc), used: 1, highest, window: [1, 0] };
            self.stream.sources[place] = source;
        }
        self.protect(payload)
    }

    pub fn protect(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut scratch = Scratch::new();
        let done = scratch.load(payload).and_then(|()| {
            srtp::protect(&mut Straight, &self.keys, &mut self.stream, &mut scratch, payload.len())
        });
        scratch.octets(done.unwrap_or_else(|reason| panic!("not to be sent: {reason:?}")).len).collect()
    }

    /// # Errors
    /// Why it is nothing that this end would play.
    pub fn unprotect(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut scratch = Scratch::new();
        scratch.load(payload)?;
        let done = srtp::unprotect(&mut Straight, &self.keys, &mut self.stream, &mut scratch, payload.len())?;
        Ok(scratch.octets(done.len).collect())
    }
}
