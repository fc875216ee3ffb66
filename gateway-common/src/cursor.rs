//! A packet as parsers see it, in both worlds: the program reads packet memory under the verifier's eyes,
//! userspace and tests read a slice.

use crate::net::{Be16, Be32};

/// Reads a packet. What is not all there is `None`, never a panic.
pub trait Cursor {
    type Window<'a, const N: usize>: Window
    where
        Self: 'a;

    /// The `N` octets at `offset`, compared with the end of the packet once for all of them.
    fn window<const N: usize>(&self, offset: usize) -> Option<Self::Window<'_, N>>;

    /// Octets in the packet.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Changes a packet in place.
pub trait CursorMut: Cursor {
    /// Replaces the word at `offset`; `None`, and nothing changed, when it is not all there.
    fn put(&mut self, offset: usize, word: Be32) -> Option<()>;
}

/// A stretch of a packet that is all there. Positions are constants within its length: they come from a header's
/// layout, never from a packet.
pub trait Window {
    fn octet(&self, at: usize) -> u8;
    fn be16(&self, at: usize) -> Be16;
    fn be32(&self, at: usize) -> Be32;
    /// As they lie in memory.
    fn raw64(&self, at: usize) -> u64;
}

impl Cursor for [u8] {
    type Window<'a, const N: usize> = &'a [u8; N];

    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

impl CursorMut for [u8] {
    fn put(&mut self, offset: usize, word: Be32) -> Option<()> {
        self.get_mut(offset..offset.checked_add(4)?)?.copy_from_slice(&word.bytes());
        Some(())
    }
}

impl<const N: usize> Window for &[u8; N] {
    fn octet(&self, at: usize) -> u8 {
        self[at]
    }

    fn be16(&self, at: usize) -> Be16 {
        Be16::from_bytes([self[at], self[at + 1]])
    }

    fn be32(&self, at: usize) -> Be32 {
        Be32::from_bytes([self[at], self[at + 1], self[at + 2], self[at + 3]])
    }

    fn raw64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(core::array::from_fn(|index| self[at + index]))
    }
}
