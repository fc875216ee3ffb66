//! SRTP: what arrives is unprotected before admission, what leaves is protected behind forwarding, and the stages in
//! between never know. The rules are those of `gateway_common::srtp`; here is where their memory comes from.

use crate::{
    account, admit, capture, forward, maps,
    packet::{Packet, bounded},
    punt,
    steer::Flow,
};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
};
use core::hint::black_box;
use gateway_common::{
    abi::stage,
    account as counts,
    admit::gate_opens,
    cursor::{Cursor, Window},
    flow::flag,
    headers::Headers,
    learned::FlowState,
    net::Be16,
    rewrite::Sum,
    rtp::Media,
    srtp::{
        self, Changed, Engine, FlowCrypto, FlowKeys, Opened, PAYLOAD_MAX, Scratch, Sealing, Session, aes,
    },
    verdict::Reason,
};

/// Out of the first program into those of flows that are not like most. Comes back only where they are not loaded.
#[inline(always)]
pub fn hand_over(packet: &Packet, flow: &Flow) {
    let to = match flow.config.flags & (flag::PUNT | flag::CAPTURE) {
        0 => after_capture(flow),
        // Whoever relays a packet takes its copies.
        flags if flags & flag::PUNT != 0 => stage::PUNT,
        _ => stage::CAPTURE,
    };
    go_on(packet, to);
}

/// Out of the capture into the programs that unprotect, relay and protect.
#[inline(always)]
pub fn enter(packet: &Packet, flow: &Flow) {
    go_on(packet, after_capture(flow));
}

#[inline(always)]
fn after_capture(flow: &Flow) -> u32 {
    if flow.config.flags & flag::UNPROTECT != 0 { stage::OPEN } else { stage::RELAY }
}

#[inline(always)]
pub fn go_on(packet: &Packet, stage: u32) {
    // SAFETY: nothing on this program's stack has to be dropped.
    unsafe { maps::CW_STAGES.tail_call(&packet.context, stage) };
}

/// The payload in the packet becomes what it protected.
#[inline(always)]
pub fn open(packet: Packet, headers: Headers, mut flow: Flow) -> u32 {
    punt::divert(&packet, &headers, &flow);
    let verdict = match unprotect(&packet, &headers, &flow) {
        Ok(()) => {
            go_on(&packet, stage::RELAY);
            Err(Reason::NoSrtp)
        }
        Err(reason) => Err(reason),
    };
    account::finished(&packet, &mut flow, verdict)
}

#[inline(always)]
fn unprotect(packet: &Packet, headers: &Headers, flow: &Flow) -> Result<(), Reason> {
    if let Some(fault) = headers.fault {
        return Err(fault);
    }
    // A stranger is not worth the arithmetic.
    if !gate_opens(flow.config, headers.source, headers.source_port) {
        return Err(Reason::SourceRefused);
    }
    let (offset, len) = (headers.payload as u32, headers.payload_len as u32);
    let outcome = Outcome(cw_unprotect(packet.raw_context(), flow.config.crypto_slot, offset, len));
    let Changed { len, sum } = outcome.result()?;
    let checksum = match headers.udp_checksum {
        none if none == Be16::new(0) => none,
        checksum => Sum::of_checksum(checksum).plus_sum(sum).udp_checksum(),
    };
    let scratch = scratch().ok_or(Reason::StateMissing)?;
    scratch.opened = Opened { len: len as u32, checksum: u32::from(checksum.raw()) };
    Ok(())
}

/// The relay of all flows, of a packet that is as if it had come unprotected.
#[inline(always)]
pub fn relay(mut packet: Packet, mut headers: Headers, mut flow: Flow) -> u32 {
    if flow.config.flags & flag::UNPROTECT == 0 {
        punt::divert(&packet, &headers, &flow);
    } else if let Some(scratch) = scratch() {
        headers.payload_len = (scratch.opened.len & 0xffff) as usize;
        headers.udp_checksum = Be16::from_raw(scratch.opened.checksum as u16);
    }
    let verdict = match admit::parse(&packet, &headers, &flow) {
        Ok(Media::Rtp(rtp)) => admit::rtp(&packet, &headers, &mut flow, rtp).and_then(|payload_type| {
            let relayed = forward::rtp::<true>(&mut packet, &headers, &mut flow, &rtp, payload_type)?;
            Ok((relayed, false))
        }),
        Ok(Media::Rtcp(rtcp)) => admit::rtcp(&packet, &headers, &mut flow, rtcp).and_then(|()| {
            let relayed = forward::rtcp::<true>(&mut packet, &headers, &mut flow)?;
            Ok((relayed, true))
        }),
        Err(reason) => Err(reason),
    };
    let verdict = verdict.and_then(|(relayed, is_rtcp)| {
        if flow.config.flags & flag::PROTECT == 0 {
            if flow.config.flags & flag::CAPTURE != 0 {
                capture::sent(&packet, capture::Of::flow(&flow), headers.payload_len, is_rtcp);
            }
            return Ok(relayed);
        }
        let scratch = scratch().ok_or(Reason::StateMissing)?;
        let len = headers.payload_len as u32;
        scratch.sealing = Sealing {
            slot: flow.config.slot,
            crypto_slot: flow.config.crypto_slot,
            // The payload is the last of the packet.
            offset: packet.len() as u32 - len,
            len,
            is_rtcp: u32::from(is_rtcp),
            action: relayed.action(),
            epoch: flow.config.epoch,
            flags: flow.config.flags.into(),
        };
        go_on(&packet, stage::SEAL);
        not_sent(flow.state, headers.payload_len, is_rtcp);
        Err(Reason::NoSrtp)
    });
    account::finished(&packet, &mut flow, verdict)
}

/// Octets by which a packet that leaves is to grow.
#[inline(always)]
pub fn growth<const RTCP: bool>(flow: &Flow) -> Result<usize, Reason> {
    if flow.config.flags & flag::PROTECT == 0 {
        return Ok(0);
    }
    const REPORT: u32 = u32::from_ne_bytes([0x80, 200, 0, 0]);
    let keys = maps::CW_KEYS.get(flow.config.crypto_slot).ok_or(Reason::KeysMissing)?;
    Ok(keys.protect.overhead(if RTCP { REPORT } else { 0 }))
}

/// The payload of a packet that is ready to leave becomes what protects it.
#[inline(always)]
pub fn seal(packet: Packet) -> u32 {
    let Some(scratch) = scratch() else { return account::dropped(&packet, Reason::StateMissing) };
    let sealing = scratch.sealing;
    match protect(&packet, &sealing) {
        Ok(len) => {
            let of = capture::Of { slot: sealing.slot, epoch: sealing.epoch, flags: sealing.flags };
            if of.is_captured() {
                capture::sent(&packet, of, len, sealing.is_rtcp == 1);
            }
            account::left(sealing.action)
        }
        Err(reason) => {
            if let Some(slot) = maps::CW_FLOWS.get_ptr_mut(sealing.slot) {
                // SAFETY: as of `steer`.
                let state = unsafe { &mut (*slot).state };
                not_sent(state, sealing.len as usize, sealing.is_rtcp == 1);
                counts::refuse(state);
            }
            account::dropped(&packet, reason)
        }
    }
}

/// Gives the octets of payload that there are then.
#[inline(always)]
fn protect(packet: &Packet, sealing: &Sealing) -> Result<usize, Reason> {
    let outcome = Outcome(cw_protect(packet.raw_context(), sealing.crypto_slot, sealing.offset, sealing.len));
    let Changed { len, sum } = outcome.result()?;
    // The last field of the UDP header.
    let at = bounded(sealing.offset.wrapping_sub(2));
    let field = packet.window::<2>(at).ok_or(Reason::Truncated)?;
    let checksum = field.be16::<0>();
    if checksum != Be16::new(0) {
        field.put16::<0>(Sum::of_checksum(checksum).plus_sum(sum).udp_checksum().raw());
    }
    Ok(len)
}

#[inline(always)]
fn not_sent(state: &mut FlowState, octets: usize, is_rtcp: bool) {
    if is_rtcp { counts::rtcp_not_sent(state) } else { counts::rtp_not_sent(state, octets) }
}

/// This processor's working memory.
#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a per-CPU element belongs to this processor while the programs of one packet run.
    maps::CW_SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// A result on its way through a function of the verifier's: the length in the lowest 16 bits, the sum in the next,
/// and above them the reason.
#[derive(Clone, Copy)]
struct Outcome(u64);

impl Outcome {
    #[inline(always)]
    fn of(result: Result<Changed, Reason>) -> Self {
        Self(match result {
            Ok(Changed { len, sum }) => (len & 0xffff) as u64 | u64::from(sum.folded()) << 16,
            Err(reason) => (reason as u64) << 32,
        })
    }

    #[inline(always)]
    fn result(self) -> Result<Changed, Reason> {
        match Reason::from_number((self.0 >> 32) as u32) {
            Some(reason) => Err(reason),
            None => {
                Ok(Changed { len: (self.0 & 0xffff) as usize, sum: Sum::from_raw(self.0 >> 16 & 0xffff) })
            }
        }
    }
}

/// [`srtp::unprotect`] of `len` octets at `offset`, in place.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_unprotect(context: *mut xdp_md, slot: u32, offset: u32, len: u32) -> u64 {
    let result = with_memory(context, slot, (offset, len), |keys, crypto, scratch| {
        let changed =
            srtp::unprotect(&mut Calls, &keys.unprotect, &mut crypto.unprotect, scratch, len as usize)?;
        store(context, offset, scratch, changed.len)?;
        still_there(&keys.unprotect.epoch, crypto.unprotect.epoch)?;
        Ok(changed)
    });
    Outcome::of(result).0
}

/// [`srtp::protect`] of `len` octets at `offset`, which are the last of the packet, in place.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_protect(context: *mut xdp_md, slot: u32, offset: u32, len: u32) -> u64 {
    let result = with_memory(context, slot, (offset, len), |keys, crypto, scratch| {
        let changed = srtp::protect(&mut Calls, &keys.protect, &mut crypto.protect, scratch, len as usize)?;
        let growth = changed.len as i32 - len as i32;
        // SAFETY: the context is the one that the kernel passed in; pointers are taken anew at each access.
        if unsafe { bpf_xdp_adjust_tail(context, growth) } != 0 {
            return Err(Reason::NoTailroom);
        }
        store(context, offset, scratch, changed.len)?;
        still_there(&keys.protect.epoch, crypto.protect.epoch)?;
        Ok(changed)
    });
    Outcome::of(result).0
}

/// Calls `change` with the payload in working memory.
#[inline(always)]
fn with_memory(
    context: *mut xdp_md,
    slot: u32,
    (offset, len): (u32, u32),
    change: impl FnOnce(&FlowKeys, &mut FlowCrypto, &mut Scratch) -> Result<Changed, Reason>,
) -> Result<Changed, Reason> {
    if len == 0 {
        return Err(Reason::NotRtp);
    }
    if len as usize > PAYLOAD_MAX {
        return Err(Reason::TooBig);
    }
    let (Some(keys), Some(crypto), Some(scratch)) =
        (maps::CW_KEYS.get(slot), maps::CW_CRYPTO.get_ptr_mut(slot), scratch())
    else {
        return Err(Reason::KeysMissing);
    };
    // SAFETY: array elements live as long as the map; another processor may count in the same element, which loses
    // counts and nothing else: all its fields are integers.
    let crypto = unsafe { &mut *crypto };
    let length = within_room(len);
    let words = (&raw mut scratch.words).cast();
    // SAFETY: `length` octets fit the words.
    if unsafe { bpf_xdp_load_bytes(context, bounded(offset) as u32, words, length) } != 0 {
        return Err(Reason::Truncated);
    }
    change(keys, crypto, scratch)
}

/// Writes the first `len` octets of working memory into the packet.
#[inline(always)]
fn store(context: *mut xdp_md, offset: u32, scratch: &mut Scratch, len: usize) -> Result<(), Reason> {
    if len == 0 {
        return Err(Reason::Truncated);
    }
    let length = within_room(len as u32);
    let words = (&raw mut scratch.words).cast();
    // SAFETY: `length` octets are within the words.
    match unsafe { bpf_xdp_store_bytes(context, bounded(offset) as u32, words, length) } {
        0 => Ok(()),
        _ => Err(Reason::Truncated),
    }
}

/// A length above 0, for the verifier of all kernels: 1 to 2,048 by arithmetic on the very value that the helper gets.
#[inline(always)]
fn within_room(len: u32) -> u32 {
    const { assert!(size_of::<Scratch>() > 2048, "the mask is one less") };
    (black_box(len - 1) & 2047) + 1
}

/// Control takes the epoch away before it changes keys: half a key protects nothing.
#[inline(always)]
fn still_there(epoch: &u32, began: u32) -> Result<(), Reason> {
    // SAFETY: a reference; control may write meanwhile, a whole word.
    let now = unsafe { (&raw const *epoch).read_volatile() };
    if now == began { Ok(()) } else { Err(Reason::KeysMissing) }
}

/// The arithmetic behind calls.
struct Calls;

impl Engine for Calls {
    #[inline(always)]
    fn hmac(&mut self, session: &Session, scratch: &mut Scratch, len: usize, trailer: u32) {
        cw_hmac(session, scratch, len as u32, trailer);
    }

    #[inline(always)]
    fn sum(&mut self, scratch: &mut Scratch, len: usize) -> u64 {
        cw_payload_sum(scratch, len as u32)
    }

    #[inline(always)]
    fn counter_mode(&mut self, session: &Session, scratch: &mut Scratch, first: usize, blocks: usize) {
        cw_counter_mode(session, scratch, first as u32, blocks as u32);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_hmac(session: *const Session, scratch: *mut Scratch, len: u32, trailer: u32) -> u32 {
    // SAFETY: the verifier lets a caller pass null or whole structures.
    let (Some(session), Some(scratch)) = (unsafe { session.as_ref() }, unsafe { scratch.as_mut() }) else {
        return 0;
    };
    srtp::hmac(session, scratch, len as usize, trailer);
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_payload_sum(scratch: *mut Scratch, len: u32) -> u64 {
    // SAFETY: the verifier lets a caller pass null or a whole structure.
    unsafe { scratch.as_mut() }.map_or(0, |scratch| scratch.sum(len as usize))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_counter_mode(
    session: *const Session,
    scratch: *mut Scratch,
    first: u32,
    blocks: u32,
) -> u32 {
    // SAFETY: the verifier lets a caller pass null or whole structures.
    let (Some(session), Some(scratch)) = (unsafe { session.as_ref() }, unsafe { scratch.as_mut() }) else {
        return 0;
    };
    aes::counter_mode(&session.round_keys, scratch, first as usize, blocks as usize);
    1
}
