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

/// A stretch of a packet that is all there. Positions are constants, and one that is not within its length does not
/// compile: they come from a header's layout, never from a packet.
pub trait Window {
    fn octet<const AT: usize>(&self) -> u8;
    fn be16<const AT: usize>(&self) -> Be16;
    fn be32<const AT: usize>(&self) -> Be32;
    /// As they lie in memory.
    fn raw64<const AT: usize>(&self) -> u64;
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
    fn octet<const AT: usize>(&self) -> u8 {
        let [octet] = part::<AT, 1, N>(self);
        octet
    }

    fn be16<const AT: usize>(&self) -> Be16 {
        Be16::from_bytes(part::<AT, 2, N>(self))
    }

    fn be32<const AT: usize>(&self) -> Be32 {
        Be32::from_bytes(part::<AT, 4, N>(self))
    }

    fn raw64<const AT: usize>(&self) -> u64 {
        u64::from_ne_bytes(part::<AT, 8, N>(self))
    }
}

fn part<const AT: usize, const LEN: usize, const N: usize>(octets: &[u8; N]) -> [u8; LEN] {
    const { assert!(AT + LEN <= N) };
    core::array::from_fn(|index| octets[AT + index])
}
