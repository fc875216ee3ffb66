//! One datagram with its traffic class, which no safe call of the standard library gives.
#![expect(unsafe_code, reason = "control messages of recvmsg")]

use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, SockRef};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

/// Room for one control message of an int.
const CONTROL: usize = 64;

/// Octets of the payload in `buffer`, its source, its DSCP and ECN.
pub(super) fn receive(socket: &SockRef<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, u8)> {
    let (_, mut from) = {
        // SAFETY: the closure leaves storage and length untouched; the kernel fills both before use.
        unsafe { SockAddr::try_init(|_, _| Ok(())) }?
    };
    let mut control = [MaybeUninit::new(0u8); CONTROL];
    let (octets, control_len) = {
        // SAFETY: MaybeUninit<u8> has the layout of u8, and recvmsg writes initialised octets only, so
        // `buffer` holds initialised octets whatever happens.
        let uninit = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
        let mut slices = [MaybeUninitSlice::new(uninit)];
        let mut message =
            MsgHdrMut::new().with_addr(&mut from).with_buffers(&mut slices).with_control(&mut control);
        let octets = socket.recvmsg(&mut message, 0)?;
        (octets, message.control_len())
    };
    // SAFETY: every octet of `control` was initialised to 0 above, and the kernel only overwrites them.
    let control = control.map(|octet| unsafe { octet.assume_init() });
    let from = from.as_socket().ok_or_else(|| io::Error::other("a datagram from no IP address"))?;
    Ok((octets, from, traffic_class(control.get(..control_len).unwrap_or_default())))
}

/// The int of an `IP_TOS` (an octet) or `IPV6_TCLASS` (an int) message; 0 without one.
fn traffic_class(mut control: &[u8]) -> u8 {
    // struct cmsghdr: length including itself, level, type; data follows at a multiple of a word.
    const HEADER: usize = size_of::<libc::cmsghdr>();
    while let Some((length, rest)) = control.split_first_chunk::<{ size_of::<usize>() }>() {
        let length = usize::from_ne_bytes(*length);
        let (level, kind) = match (rest.first_chunk::<4>(), rest.get(4..).and_then(<[u8]>::first_chunk::<4>))
        {
            (Some(level), Some(kind)) => (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)),
            _ => return 0,
        };
        let data = control.get(HEADER..length).unwrap_or_default();
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_TOS) => return data.first().copied().unwrap_or(0),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                return data.first_chunk::<4>().map_or(0, |int| i32::from_ne_bytes(*int) as u8);
            }
            _ => {}
        }
        control = control.get(length.max(HEADER).next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    0
}
