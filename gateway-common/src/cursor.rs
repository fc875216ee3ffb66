//! A packet as parsers see it, in both worlds: the program reads packet memory under the verifier's eyes,
//! userspace and tests read a slice.

/// Reads a packet. An access beyond the end is `None`, never a panic.
pub trait Cursor {
    /// The `N` octets at `offset`.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Octets in the packet.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Changes a packet in place.
pub trait CursorMut: Cursor {
    /// Replaces the `N` octets at `offset`; `None`, and nothing changed, when they are not all there.
    fn write<const N: usize>(&mut self, offset: usize, octets: [u8; N]) -> Option<()>;
}

impl Cursor for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

impl CursorMut for [u8] {
    fn write<const N: usize>(&mut self, offset: usize, octets: [u8; N]) -> Option<()> {
        self.get_mut(offset..offset.checked_add(N)?)?.copy_from_slice(&octets);
        Some(())
    }
}
