//! Connectivity checks among the packets of a media port.

use crate::cursor::{Cursor, Window};
use crate::net::Be32;

/// In every message (RFC 8489 section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_a442;

/// Whether the `len` octets at `offset` are STUN (RFC 7983 section 7) and not RTP, RTCP, what protects them, or noise.
#[inline(always)]
pub fn is_stun<C: Cursor + ?Sized>(packet: &C, offset: usize, len: usize) -> bool {
    if len < 8 {
        return false;
    }
    let Some(window) = packet.window::<8>(offset) else { return false };
    window.octet::<0>() <= 3 && window.be32::<4>() == Be32::new(MAGIC_COOKIE)
}
