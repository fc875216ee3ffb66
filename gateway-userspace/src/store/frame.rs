//! Records in a journal segment, framed so that a torn or damaged one is seen.
//!
//! ```text
//! length u32 | CRC-32 u32 | kind u8 | call u64 | payload      all little endian
//! ```
//! Length and checksum cover everything after the checksum.

use crate::base::id::CallId;

const HEADER: usize = 8;
const PREFIX: usize = 9;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// Longest payload: far above any call's checkpoint, so that a damaged length is not believed.
pub(super) const PAYLOAD_MAX: usize = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Put(CallId, &'a [u8]),
    Remove(CallId),
}

impl Frame<'_> {
    /// Appends the frame and returns its length.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> usize {
        let (kind, call, payload) = match self {
            Self::Put(call, payload) => (PUT, call, *payload),
            Self::Remove(call) => (REMOVE, call, &[][..]),
        };
        let start = out.len();
        let length = u32::try_from(PREFIX + payload.len()).unwrap_or(u32::MAX);
        out.extend(length.to_le_bytes());
        out.extend([0; 4]);
        out.push(kind);
        out.extend(call.0.to_le_bytes());
        out.extend(payload);
        let checksum = crc32fast::hash(&out[start + HEADER..]);
        out[start + 4..start + HEADER].copy_from_slice(&checksum.to_le_bytes());
        out.len() - start
    }
}

/// Reads frames one after the other; ends at the end or at the first that is not whole and sound.
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Octets behind the last sound frame: a torn tail, or damage.
    pub(super) fn unread(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (kind, body) = body.split_first()?;
        let (call, payload) = body.split_first_chunk()?;
        let call = CallId(u64::from_le_bytes(*call));
        let frame = match *kind {
            PUT => Frame::Put(call, payload),
            REMOVE => Frame::Remove(call),
            _ => return None,
        };
        self.rest = rest;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_end_at_the_first_damaged_octet() {
        let mut bytes = Vec::new();
        let first = Frame::Put(CallId(7), b"ringing").write(&mut bytes);
        Frame::Remove(CallId(7)).write(&mut bytes);
        let whole: Vec<_> = Frames::new(&bytes).collect();
        assert_eq!(whole, [Frame::Put(CallId(7), b"ringing"), Frame::Remove(CallId(7))]);

        for cut in 0..bytes.len() {
            let mut frames = Frames::new(&bytes[..cut]);
            assert_eq!(frames.by_ref().count(), usize::from(cut >= first), "cut at {cut}");
        }
        for damaged in 0..bytes.len() {
            let mut copy = bytes.clone();
            copy[damaged] ^= 0x10;
            let mut frames = Frames::new(&copy);
            assert_eq!(frames.by_ref().count(), usize::from(damaged >= first), "damaged at {damaged}");
            assert!(frames.unread() > 0);
        }
    }
}
