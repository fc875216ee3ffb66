//! The kernel's flow states, mapped read-only: a report costs no system call.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use gateway_common::learned::FlowState;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// The mmapable array of [`FlowState`], by slot.
#[derive(Debug)]
pub(super) struct StateArray {
    start: NonNull<u8>,
    octets: usize,
    slots: u32,
}

/// The kernel lays values of an array out at multiples of 8 octets.
const STRIDE: usize = size_of::<FlowState>().next_multiple_of(8);
const _: () = assert!(align_of::<FlowState>() <= 8);

// SAFETY: the mapping is read-only memory that lives until drop; reading it from any thread is sound.
unsafe impl Send for StateArray {}
// SAFETY: as above; `state` copies by volatile reads and hands out no reference.
unsafe impl Sync for StateArray {}

impl StateArray {
    /// Maps `map`, an array with `BPF_F_MMAPABLE` of `slots` values of [`FlowState`]'s size.
    pub(super) fn map(map: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let octets = STRIDE * slots as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), octets, libc::PROT_READ, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, octets, slots })
    }

    /// A copy of the state; the kernel may be writing it, so fields of one packet may be missing beside
    /// those of the one before. `None` outside the array.
    pub(super) fn state(&self, slot: u32) -> Option<FlowState> {
        if slot >= self.slots {
            return None;
        }
        // SAFETY: slot < slots, so the offset and STRIDE octets from it lie within the mapping.
        let at = unsafe { self.start.add(STRIDE * slot as usize) };
        // SAFETY: `at` is aligned (page start plus a multiple of 8) and in bounds; every bit pattern is a
        // FlowState (integers and octets only); volatile because the kernel writes the page meanwhile.
        Some(unsafe { at.cast::<FlowState>().read_volatile() })
    }
}

impl Drop for StateArray {
    fn drop(&mut self) {
        // SAFETY: `start` and `octets` are those of the mapping made in `map`, unmapped here only.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}
