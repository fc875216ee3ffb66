//! Whether a packet that is no flow's reaches the host's stack: most do; those for a SIP socket are judged first.

use crate::{
    account, maps,
    packet::{Packet, bounded},
};
use aya_ebpf::{
    bindings::{BPF_ANY, xdp_md},
    btf_maps::lpm_trie::Key,
    helpers::bpf_ktime_get_ns,
    programs::XdpContext,
};
use gateway_common::{
    cursor::Cursor,
    guard::{self, ADDRESS_BITS, Class, Due, RESPONSE_START, SOURCE_PREFIX, Service, Source, words},
    headers::{Endpoints, Headers, PROTOCOL_TCP, PROTOCOL_UDP},
    net::Addr128,
    verdict::Reason,
};

/// A packet on its way to the host.
#[repr(C)]
pub struct Approach {
    source: Addr128,
    service: Service,
}

#[inline(always)]
pub fn udp(packet: &Packet, headers: &Headers) -> u32 {
    let service = Service::new(headers.destination, headers.destination_port, PROTOCOL_UDP);
    judge(packet, Approach { source: headers.source, service }, headers.payload)
}

#[inline(always)]
pub fn tcp(packet: &Packet, endpoints: &Endpoints) -> u32 {
    let service = Service::new(endpoints.destination, endpoints.destination_port, PROTOCOL_TCP);
    judge(packet, Approach { source: endpoints.source, service }, 0)
}

#[inline(always)]
fn judge(packet: &Packet, approach: Approach, payload: usize) -> u32 {
    let number = cw_guard(packet.raw_context(), &raw const approach, payload as u32);
    match Reason::from_number(number) {
        Some(reason) => account::dropped(packet, reason),
        None => account::passed(),
    }
}

/// Gives 0 for a packet that passes, or the number of the [`Reason`] why it does not. `payload` is the offset of the
/// UDP payload, 0 for TCP.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_guard(context: *mut xdp_md, approach: *const Approach, payload: u32) -> u32 {
    // SAFETY: the verifier lets a caller pass null or a whole structure.
    let Some(approach) = (unsafe { approach.as_ref() }) else { return 0 };
    // For the verifier of 6.1: keys of maps lie on the stack of the function that looks them up.
    // SAFETY: a reference.
    let approach = &unsafe { (&raw const *approach).read_volatile() };
    // SAFETY: the program neither inserts nor removes services.
    let Some(guarded) = (unsafe { maps::CW_GUARDED.get(&approach.service) }) else { return 0 };
    // SAFETY: the helper takes nothing and returns a number.
    let now = unsafe { bpf_ktime_get_ns() };
    if is_denied(&approach.source, now) {
        return Reason::SourceDenied as u32;
    }
    let source = Source::new(guarded.number, &approach.source);
    let class = if is_known(source) {
        Class::Known
    } else if payload == 0 {
        return Reason::UnknownSource as u32;
    } else if is_response(&Packet::new(XdpContext::new(context)), bounded(payload)) {
        Class::Response
    } else {
        Class::Other
    };
    let shared = Source::shared(guarded.number, class);
    let due = Due {
        own: if class == Class::Other { 0 } else { due_at(&source) },
        shared: if class == Class::Known { 0 } else { due_at(&shared) },
    };
    match guard::judge(guarded, class, due, now) {
        Ok(due) => {
            put_off(&source, due.own);
            put_off(&shared, due.shared);
            0
        }
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
fn is_denied(source: &Addr128, now: u64) -> bool {
    // SAFETY: a number is copied at once.
    let found_out = unsafe { maps::CW_OFFENDERS.get(source) }.is_some_and(|denial| denial.until > now);
    found_out
        || maps::CW_DENIED
            .get(&Key::new(ADDRESS_BITS, words(source)))
            .is_some_and(|denial| denial.until > now)
}

#[inline(always)]
fn is_known(source: Source) -> bool {
    maps::CW_SOURCES.get(&Key::new(SOURCE_PREFIX + ADDRESS_BITS, source)).is_some()
}

#[inline(always)]
fn is_response(packet: &Packet, payload: usize) -> bool {
    packet
        .window::<{ RESPONSE_START.len() }>(payload)
        .is_some_and(|start| start.load64::<0>() == u64::from_ne_bytes(RESPONSE_START))
}

#[inline(always)]
fn due_at(of: &Source) -> u64 {
    // SAFETY: a number is copied at once.
    unsafe { maps::CW_PACES.get(of) }.copied().unwrap_or(0)
}

/// Two processors may each let a packet through where the limit was for one of them: limits here are no contracts.
#[inline(always)]
fn put_off(of: &Source, due: u64) {
    if due == 0 {
        return;
    }
    match maps::CW_PACES.get_ptr_mut(of) {
        // SAFETY: an aligned word of the map, which every processor writes whole.
        Some(there) => unsafe { there.write_volatile(due) },
        // A full table forgets who was silent longest, so this fails only for want of memory, and then nobody is
        // slowed down.
        None => drop(maps::CW_PACES.insert(of, due, BPF_ANY as u64)),
    }
}
