//! One AF_XDP socket: packets of one receive queue that the XDP program redirects, in memory of our own.
//!
//! For receiving only, by copy: zero-copy would take the whole queue from the driver's own path, and with it the packets
//! that the kernel relays (`Documentation/networking/af_xdp.rst`).
#![expect(unsafe_code, reason = "rings and frames shared with the kernel")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Octets of a frame. In front of the packet the kernel leaves 256 free.
const FRAME: usize = 2048;

/// A socket and its frames.
#[derive(Debug)]
pub(super) struct Xsk {
    // Rings and frames go before the socket that they belong to.
    received: Ring,
    free: Ring,
    frames: Mapping,
    descriptor: OwnedFd,
    /// Packets that found no room, as of the last look.
    missed: u64,
}

/// One side of a queue between the kernel and us. Indices run freely; entries are found by their lowest bits.
#[derive(Debug)]
struct Ring {
    memory: Mapping,
    producer: usize,
    consumer: usize,
    entries: usize,
    mask: u32,
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping lives until drop and belongs to its owner alone, the kernel apart.
unsafe impl Send for Mapping {}

impl Xsk {
    /// Listens at a receive queue with `count` frames, which is a power of two.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW, `InvalidInput` for a queue that is not there, `ResourceBusy` while another
    /// socket has it; out of memory where RLIMIT_MEMLOCK leaves no room for the frames.
    pub(super) fn open(ifindex: u32, queue: u32, count: u32) -> io::Result<Self> {
        // SAFETY: the call takes integers only.
        let descriptor = checked(unsafe {
            libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        })?;
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let fd = descriptor.as_raw_fd();
        let frames = Mapping::anonymous(count as usize * FRAME)?;
        // SAFETY: integers, of which zero is a value.
        let mut memory: libc::xdp_umem_reg = unsafe { zeroed() };
        (memory.addr, memory.len) = (frames.start.as_ptr() as u64, frames.len as u64);
        memory.chunk_size = FRAME as u32;
        set(fd, libc::XDP_UMEM_REG, &memory)?;
        set(fd, libc::XDP_UMEM_FILL_RING, &count)?;
        // The kernel asks for one, though nothing is sent by this socket.
        set(fd, libc::XDP_UMEM_COMPLETION_RING, &1u32)?;
        set(fd, libc::XDP_RX_RING, &count)?;
        // SAFETY: as above.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
        get(fd, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
        let received =
            Ring::map(fd, &offsets.rx, count, size_of::<libc::xdp_desc>(), libc::XDP_PGOFF_RX_RING)?;
        let pages = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let mut free = Ring::map(fd, &offsets.fr, count, size_of::<u64>(), pages)?;
        for index in 0..count {
            free.put(index, u64::from(index) * FRAME as u64);
        }
        free.produced(count);
        // SAFETY: as above.
        let mut address: libc::sockaddr_xdp = unsafe { zeroed() };
        address.sxdp_family = libc::AF_XDP as u16;
        address.sxdp_flags = libc::XDP_COPY;
        (address.sxdp_ifindex, address.sxdp_queue_id) = (ifindex, queue);
        let length = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: an address of this length that lives through the call.
        checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
        Ok(Self { received, free, frames, descriptor, missed: 0 })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Calls `each` for every packet that waits when the call begins: with the memory from its first octet to the end of
    /// its frame, and its length. How many there were.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&mut [u8], usize)) -> u32 {
        let first = self.received.consumed_so_far();
        let waiting = self.received.produced_so_far().wrapping_sub(first);
        let room = self.free.produced_so_far();
        for step in 0..waiting {
            let (address, length) = self.received.descriptor(first.wrapping_add(step));
            if let Some(frame) = self.frames.tail(address) {
                let length = length.min(frame.len());
                each(frame, length);
            }
            // As many frames are under way as there are entries, so there is room for each that comes back.
            self.free.put(room.wrapping_add(step), address as u64 / FRAME as u64 * FRAME as u64);
        }
        self.received.consumed(first.wrapping_add(waiting));
        self.free.produced(room.wrapping_add(waiting));
        waiting
    }

    /// Whether no packet waits.
    pub(super) fn is_empty(&self) -> bool {
        self.received.produced_so_far() == self.received.consumed_so_far()
    }

    /// Packets that found no room since the last call.
    pub(super) fn missed(&mut self) -> u64 {
        // SAFETY: integers, of which zero is a value.
        let mut statistics: libc::xdp_statistics = unsafe { zeroed() };
        if get(self.descriptor(), libc::XDP_STATISTICS, &mut statistics).is_err() {
            return 0;
        }
        let now = statistics.rx_dropped + statistics.rx_ring_full + statistics.rx_fill_ring_empty_descs;
        now - std::mem::replace(&mut self.missed, now)
    }
}

impl Ring {
    fn map(
        socket: RawFd,
        offsets: &libc::xdp_ring_offset,
        count: u32,
        entry: usize,
        page: libc::off_t,
    ) -> io::Result<Self> {
        let entries = offsets.desc as usize;
        let memory = Mapping::of(socket, entries + count as usize * entry, page)?;
        let (producer, consumer) = (offsets.producer as usize, offsets.consumer as usize);
        Ok(Self { memory, producer, consumer, entries, mask: count - 1 })
    }

    fn index(&self, at: usize) -> &AtomicU32 {
        assert!(at + size_of::<u32>() <= self.memory.len);
        // SAFETY: within the mapping, at an offset that the kernel gave and that is a multiple of a cache line; both sides
        // access it as a whole word.
        unsafe { AtomicU32::from_ptr(self.memory.start.as_ptr().wrapping_add(at).cast()) }
    }

    fn produced_so_far(&self) -> u32 {
        self.index(self.producer).load(Ordering::Acquire)
    }

    fn produced(&self, index: u32) {
        self.index(self.producer).store(index, Ordering::Release);
    }

    fn consumed_so_far(&self) -> u32 {
        self.index(self.consumer).load(Ordering::Relaxed)
    }

    fn consumed(&self, index: u32) {
        self.index(self.consumer).store(index, Ordering::Release);
    }

    fn entry<T>(&self, index: u32) -> *mut T {
        let at = self.entries + (index & self.mask) as usize * size_of::<T>();
        assert!(at + size_of::<T>() <= self.memory.len);
        self.memory.start.as_ptr().wrapping_add(at).cast()
    }

    /// Of a ring of received packets: where one lies among the frames, and its length.
    fn descriptor(&self, index: u32) -> (usize, usize) {
        // SAFETY: `entry` is within the mapping and aligned; the kernel wrote it before it moved the producer past it.
        let libc::xdp_desc { addr, len, .. } = unsafe { self.entry::<libc::xdp_desc>(index).read() };
        (addr as usize, len as usize)
    }

    /// Of a ring of free frames.
    fn put(&mut self, index: u32, address: u64) {
        // SAFETY: as above; the kernel reads it after we moved the producer past it.
        unsafe { self.entry::<u64>(index).write(address) };
    }
}

impl Mapping {
    fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn of(socket: RawFd, len: usize, page: libc::off_t) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED, socket, page)
    }

    fn map(len: usize, flags: i32, descriptor: RawFd, page: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, flags | libc::MAP_POPULATE, descriptor, page)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, len })
    }

    /// From an address to the end of its frame; `None` outside the frames.
    fn tail(&mut self, address: usize) -> Option<&mut [u8]> {
        let end = (address / FRAME + 1) * FRAME;
        if end > self.len {
            return None;
        }
        // SAFETY: within the mapping, which lives as long as `self`; the kernel leaves a frame alone that it handed over
        // until it is given back.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr().wrapping_add(address), end - address)
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, with the same length, unmapped here only.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn set<T>(socket: RawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: a value of this length that lives through the call; the kernel only reads it.
    checked(unsafe {
        libc::setsockopt(socket, libc::SOL_XDP, option, std::ptr::from_ref(value).cast(), length)
    })
    .map(drop)
}

fn get<T>(socket: RawFd, option: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: room of this length that lives through the call; every content is a value, as `T` is integers.
    checked(unsafe {
        libc::getsockopt(socket, libc::SOL_XDP, option, std::ptr::from_mut(value).cast(), &raw mut length)
    })
    .map(drop)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
