//! Whole Ethernet frames in and out of one interface (packet(7)): many in one system call out, one at a time
//! with the kernel's time of arrival in.
#![expect(unsafe_code, reason = "the standard library has neither packet sockets nor sendmmsg")]

use anyhow::{Context, Result};
use std::ffi::CString;
use std::io;
#[cfg(feature = "bench")]
use std::io::IoSlice;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{from_mut, from_ref};
use std::time::Duration;

/// Frames that [`PacketSocket::send`] hands to the kernel at once.
#[cfg(feature = "bench")]
pub(crate) const BATCH: usize = 64;

/// A frame in two parts: headers that differ, and audio that many frames share.
#[cfg(feature = "bench")]
pub(crate) type Frame<'a> = [IoSlice<'a>; 2];

/// A frame as the kernel saw it pass an interface.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) frame: &'a [u8],
    /// By the real-time clock.
    pub(crate) at: Duration,
    /// Sent by this host, not to it.
    pub(crate) outgoing: bool,
}

/// A raw packet socket bound to one interface of the namespace it was opened in.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    descriptor: OwnedFd,
}

impl PacketSocket {
    /// Sends only: receives nothing, and hands frames to the driver without a queueing discipline.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    #[cfg(feature = "bench")]
    pub(crate) fn sender(interface: &str) -> Result<Self> {
        let socket = Self::open(interface, 0)?;
        socket.set_option(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)?;
        Ok(socket)
    }

    /// Hears frames that arrive, whatever address they are for. Receiving gives up after `patience`.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    #[cfg(feature = "bench")]
    pub(crate) fn receiver(interface: &str, patience: Duration) -> Result<Self> {
        /// From `linux/if_packet.h`.
        const PACKET_IGNORE_OUTGOING: i32 = 23;
        let socket = Self::tap(interface, patience)?;
        socket.set_option(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
        Ok(socket)
    }

    /// Hears frames in both directions. Receiving gives up after `patience`.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    pub(crate) fn tap(interface: &str, patience: Duration) -> Result<Self> {
        // Not ETH_P_IP: for one protocol alone the kernel does not show what this host sends.
        let socket = Self::open(interface, libc::ETH_P_ALL as u16)?;
        socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16 << 20_i32))?;
        socket.set_option(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32)?;
        let timeout = libc::timeval {
            tv_sec: patience.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(patience.subsec_micros() as i32),
        };
        socket.set_option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
        Ok(socket)
    }

    fn open(interface: &str, protocol: u16) -> Result<Self> {
        let index = interface_index(interface)?;
        // SAFETY: plain integers in, a descriptor or -1 out.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(descriptor as isize).context("packet socket (CAP_NET_RAW is needed)")?;
        // SAFETY: the descriptor was opened above and nobody else has it.
        let socket = Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } };

        // SAFETY: zero is a value for each field of this structure of integers.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: address and length describe `address`, which outlives the call.
        let bound = unsafe { libc::bind(descriptor, from_ref(&address).cast(), length) };
        check(bound as isize).with_context(|| format!("bind to {interface}"))?;
        Ok(socket)
    }

    fn set_option<T>(&self, level: i32, name: i32, value: &T) -> Result<()> {
        let (pointer, length) = (from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
        // SAFETY: pointer and length describe `value`, which outlives the call.
        let set = unsafe { libc::setsockopt(self.descriptor.as_raw_fd(), level, name, pointer, length) };
        check(set as isize).with_context(|| format!("socket option {name}"))?;
        Ok(())
    }

    /// Sends up to [`BATCH`] frames with one system call; answers how many went. Fewer than asked for means
    /// that the interface refused the next one (its ring is full).
    #[cfg(feature = "bench")]
    pub(crate) fn send(&self, frames: &[Frame<'_>]) -> io::Result<usize> {
        let count = frames.len().min(BATCH);
        // SAFETY: zero is a value for each field: null pointers with lengths of 0.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (message, frame) in messages.iter_mut().zip(frames) {
            // An `IoSlice` has the layout of an iovec, and the kernel only reads it.
            message.msg_hdr.msg_iov = frame.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_iovlen = frame.len();
        }
        // SAFETY: the first `count` messages point into `frames`, which outlives the call.
        let sent =
            unsafe { libc::sendmmsg(self.descriptor.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
        match check(sent as isize) {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(0),
            sent => sent,
        }
    }

    /// Waits for a frame; `None` when nothing came for the patience of this socket.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0_u64; 8];
        // SAFETY: zero is a value for each field of this structure of integers.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        // SAFETY: zero is a value for each field: null pointers with lengths of 0.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_name = from_mut(&mut address).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = from_mut(&mut part);
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message describes `buffer`, `control` and `address`, which outlive the call.
        let received = unsafe { libc::recvmsg(self.descriptor.as_raw_fd(), from_mut(&mut message), 0) };
        let length = match check(received) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        /// From `linux/if_packet.h`.
        const PACKET_OUTGOING: u8 = 4;
        let outgoing = address.sll_pkttype == PACKET_OUTGOING;
        Ok(buffer.get(..length).map(|frame| Received { frame, at: arrival(&message), outgoing }))
    }
}

/// Number of an interface in the namespace of the calling thread.
///
/// # Errors
/// No such interface.
pub(crate) fn interface_index(interface: &str) -> Result<u32> {
    let name = CString::new(interface).context("interface name")?;
    // SAFETY: the name is a string that ends with NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("interface {interface}")),
        index => Ok(index),
    }
}

/// The time of arrival in a received message; zero if the kernel sent none.
fn arrival(message: &libc::msghdr) -> Duration {
    // SAFETY: the kernel filled this message and its control buffer is alive.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    if header.is_null() {
        return Duration::ZERO;
    }
    // SAFETY: a first header that is not null lies inside the control buffer.
    let kind = unsafe { header.read_unaligned() };
    if kind.cmsg_level != libc::SOL_SOCKET || kind.cmsg_type != libc::SCM_TIMESTAMPNS {
        return Duration::ZERO;
    }
    // SAFETY: as above.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: a message of this type carries one timespec; nothing is assumed of its alignment.
    let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A system call's answer: a count, or the thread's error.
fn check(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}
