//! Arrays of the kernel's, mapped into memory: read and written without a system call.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use gateway_common::flow::FlowEntry;
use gateway_common::learned::FlowState;
use gateway_common::srtp::{FlowCrypto, Keys};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// An element of a mapped array.
///
/// # Safety
/// Whatever the other side may have written is a value of the type: integers and octets, or enumerations that
/// only programs and daemons with our ABI fingerprint write.
pub(in crate::dataplane) unsafe trait Element: Copy {}

// SAFETY: integers and octets only.
unsafe impl Element for FlowState {}
// SAFETY: integers, octets, and enumerations that only daemons write; zero is a value of each.
unsafe impl Element for FlowEntry {}
// SAFETY: integers and octets only.
unsafe impl Element for Keys {}
// SAFETY: integers and octets only.
unsafe impl Element for FlowCrypto {}
// SAFETY: an integer.
unsafe impl Element for u32 {}

/// An array map with `BPF_F_MMAPABLE`, as `len` elements of `T`. A map's element may hold several, or one beside other
/// things.
#[derive(Debug)]
pub(in crate::dataplane) struct SharedArray<T> {
    start: NonNull<u8>,
    len: usize,
    /// Octets from one to the next, and in front of the first.
    stride: usize,
    offset: usize,
    access: Access,
    element: PhantomData<T>,
}

// SAFETY: the mapping lives until drop; elements are copied by volatile accesses and no reference is handed out
// but to atomics.
unsafe impl<T: Element> Send for SharedArray<T> {}
// SAFETY: as above; `write` asks its callers to be the only ones at an element.
unsafe impl<T: Element> Sync for SharedArray<T> {}

impl<T: Element> SharedArray<T> {
    /// Maps the values of `map`, which are `len` times `T` in all.
    pub(super) fn map(map: BorrowedFd<'_>, len: usize, access: Access) -> io::Result<Self> {
        Self::map_field::<T>(map, len, 0, access)
    }

    /// Maps, of the values of `map`, which are `len` times `Whole` in all, the field of each that is `offset` octets from
    /// its start.
    pub(super) fn map_field<Whole>(
        map: BorrowedFd<'_>,
        len: usize,
        offset: usize,
        access: Access,
    ) -> io::Result<Self> {
        // The kernel lays values out at multiples of 8 octets, which each of ours is, alone or in all.
        const {
            assert!(align_of::<Whole>() <= 64 && align_of::<Whole>() >= align_of::<T>());
            assert!(size_of::<Whole>().is_multiple_of(8) || size_of::<Whole>() == 4);
        };
        let stride = size_of::<Whole>();
        if offset + size_of::<T>() > stride || !offset.is_multiple_of(align_of::<T>()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len * stride, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, len, stride, offset, access, element: PhantomData })
    }

    /// A copy of an element; the other side may be writing it, so fields of one change may be missing beside
    /// those of the one before. `None` outside the array.
    pub(super) fn read(&self, index: usize) -> Option<T> {
        // SAFETY: within the mapping and aligned, as `at` says; every content is a value, as `Element` says;
        // volatile because the other side writes meanwhile.
        self.at(index).map(|at| unsafe { at.read_volatile() })
    }

    /// Writes an element that nobody else writes, and no program reads, before it returns. `None` outside the
    /// array, and where the mapping is for reading.
    pub(super) fn write(&self, index: usize, value: T) -> Option<()> {
        if self.access != Access::Write {
            return None;
        }
        // SAFETY: within the mapping, aligned and writable; volatile because a program reads it later.
        self.at(index).map(|at| unsafe { at.write_volatile(value) })
    }

    /// Writes the words of an element in which `after` differs from `before`, for one writer among several that each
    /// keep to words of their own. `None` outside the array, and where the mapping is for reading.
    pub(super) fn amend(&self, index: usize, before: &T, after: &T) -> Option<()> {
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() >= 8) };
        if self.access != Access::Write {
            return None;
        }
        let at = self.at(index)?.cast::<u64>();
        fn words<T>(value: &T) -> &[u64] {
            // SAFETY: whole words of a value that is aligned to them; it is integers and octets throughout, padding among
            // them.
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u64>(), size_of::<T>() / 8) }
        }
        for (word, (before, after)) in words(before).iter().zip(words(after)).enumerate() {
            if before != after {
                // SAFETY: a whole aligned word of an element of the mapping, which is writable.
                unsafe { at.wrapping_add(word).write_volatile(*after) };
            }
        }
        Some(())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn at(&self, index: usize) -> Option<*mut T> {
        if index >= self.len {
            return None;
        }
        // SAFETY: index < len and the field is within its element, so it lies within the mapping. It is aligned: the
        // mapping begins at a page, sizes are multiples of alignments, and so is the offset.
        Some(unsafe { self.start.as_ptr().add(index * self.stride + self.offset).cast() })
    }
}

impl SharedArray<u32> {
    /// An element that several sides change as a whole. `None` outside the array, and where the mapping is for
    /// reading.
    pub(super) fn atomic(&self, index: usize) -> Option<&AtomicU32> {
        if self.access != Access::Write {
            return None;
        }
        // SAFETY: within the mapping and aligned as a u32; it lives as long as `self`; everybody accesses these
        // elements as whole words.
        self.at(index).map(|at| unsafe { AtomicU32::from_ptr(at) })
    }
}

impl SharedArray<Keys> {
    /// Writes keys that programs may be reading: their epoch is 0 from before the first octet changes until after the
    /// last. `None` outside the array, and where the mapping is for reading.
    pub(super) fn publish(&self, index: usize, keys: &Keys) -> Option<()> {
        const { assert!(std::mem::offset_of!(Keys, epoch) == 0) };
        if self.access != Access::Write {
            return None;
        }
        let at = self.at(index)?;
        // SAFETY: within the mapping and aligned as a u32, the first field; programs read it as a whole word.
        let epoch = unsafe { AtomicU32::from_ptr(at.cast()) };
        epoch.store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // SAFETY: within the mapping, aligned and writable; volatile because programs read it.
        unsafe { at.write_volatile(Keys { epoch: 0, ..*keys }) };
        fence(Ordering::SeqCst);
        epoch.store(keys.epoch, Ordering::SeqCst);
        Some(())
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, with the same length, unmapped here only.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * self.stride) };
    }
}
