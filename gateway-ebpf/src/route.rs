//! The next hop: cached per flow, found anew when control has raised the generation or the far end moved.

use crate::{account, maps, record};
use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT,
        BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE, BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup,
        xdp_md,
    },
    helpers,
};
use gateway_common::{
    abi::Link,
    headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, PROTOCOL_UDP},
    learned::{FlowState, NextHop},
    net::{Addr128, Be32},
    record::NeighbourWanted,
    rewrite::Envelope,
    verdict::{Reason, Traffic},
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The loopback interface of every network namespace. As the interface of arrival it stands for the host
/// itself: the look-up then follows the rules for the host's own packets, and asks for forwarding to be
/// enabled on `lo` alone.
const LOOPBACK: u32 = 1;
const NEIGHBOUR_INTERVAL: u64 = 1_000_000_000;

/// Whether the cached hop leads to `destination` by what is known now.
#[inline(always)]
pub fn is_fresh(hop: &NextHop, destination: &Addr128, generation: u32) -> bool {
    hop.generation == generation && hop.destination == *destination
}

/// The generation of routes and neighbours.
#[inline(always)]
pub fn generation() -> u32 {
    maps::CW_GENERATION.get(0).copied().unwrap_or(0)
}

/// Looks the route up and leaves it in the state's hop for RTP, or for RTCP when `is_rtcp` is not 0. Gives 0, or
/// the number of the [`Reason`] why there is no way out.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_route(
    context: *mut xdp_md,
    state: *mut FlowState,
    envelope: *const Envelope,
    slot: u32,
    is_rtcp: u32,
) -> u32 {
    // SAFETY: the verifier lets a caller pass null or whole structures.
    let (Some(state), Some(envelope)) = (unsafe { state.as_mut() }, unsafe { envelope.as_ref() }) else {
        return Reason::StateMissing as u32;
    };
    match refresh(context, state, envelope, slot, is_rtcp != 0) {
        Ok(()) => 0,
        Err(reason) => reason as u32,
    }
}

#[inline(always)]
fn refresh(
    context: *mut xdp_md,
    state: &mut FlowState,
    envelope: &Envelope,
    slot: u32,
    is_rtcp: bool,
) -> Result<(), Reason> {
    account::count(Traffic::RouteLookups);
    // Taken before the look-up: a change in between makes the hop stale at once.
    let generation = generation();
    let mut query = query(envelope);
    // SAFETY: context and parameters are valid for the length given.
    let answer = unsafe {
        helpers::bpf_fib_lookup(context.cast(), &raw mut query, size_of::<bpf_fib_lookup>() as i32, 0)
    };
    if answer < 0 {
        return Err(Reason::RouteLookup);
    }
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS if query.dmac != [0; 6] => {}
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH => {
            want_neighbour(state, slot, &query);
            return Err(Reason::NoNeighbour);
        }
        BPF_FIB_LKUP_RET_BLACKHOLE => return Err(Reason::RouteBlackhole),
        BPF_FIB_LKUP_RET_UNREACHABLE => return Err(Reason::RouteUnreachable),
        BPF_FIB_LKUP_RET_PROHIBIT => return Err(Reason::RouteRefused),
        BPF_FIB_LKUP_RET_NOT_FWDED => return Err(Reason::NoRoute),
        BPF_FIB_LKUP_RET_FWD_DISABLED => return Err(Reason::ForwardingDisabled),
        BPF_FIB_LKUP_RET_UNSUPP_LWT => return Err(Reason::RouteEncapsulated),
        BPF_FIB_LKUP_RET_FRAG_NEEDED => return Err(Reason::TooBig),
        _ => return Err(Reason::RouteLookup),
    }
    // SAFETY: the program neither inserts nor removes links.
    let link = unsafe { maps::CW_LINKS.get(&query.ifindex) }.ok_or(Reason::NoTransmit)?;
    // SAFETY: the look-up left the route's MTU where the length was.
    let mtu = u32::from(unsafe { query.__bindgen_anon_1.mtu_result });
    let hop = if is_rtcp { &mut state.rtcp_hop } else { &mut state.rtp_hop };
    hop.ifindex = link.ifindex;
    hop.transmits_from = link.transmits_from;
    hop.destination = envelope.destination;
    hop.mtu = mtu;
    write_link_header(hop, link, &query, envelope.source.is_v4());
    hop.generation = generation;
    Ok(())
}

#[inline(always)]
fn query(envelope: &Envelope) -> bpf_fib_lookup {
    // SAFETY: plain integers, for which zero is a value.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.l4_protocol = PROTOCOL_UDP;
    query.sport = envelope.source_port.raw();
    query.dport = envelope.destination_port.raw();
    query.__bindgen_anon_1.tot_len = envelope.ip_len() as u16;
    query.ifindex = LOOPBACK;
    if envelope.source.is_v4() {
        query.family = AF_INET;
        query.__bindgen_anon_3.ipv4_src = word(envelope.source.v4_word());
        query.__bindgen_anon_4.ipv4_dst = word(envelope.destination.v4_word());
    } else {
        query.family = AF_INET6;
        query.__bindgen_anon_3.ipv6_src = envelope.source.words().map(word);
        query.__bindgen_anon_4.ipv6_dst = envelope.destination.words().map(word);
    }
    query
}

/// The look-up left the gateway, or the far end itself when it is on the link, in the place of the destination.
#[inline(always)]
fn want_neighbour(state: &mut FlowState, slot: u32, query: &bpf_fib_lookup) {
    // SAFETY: the helper takes nothing and returns a number.
    let now = unsafe { helpers::bpf_ktime_get_ns() };
    if state.wanted_at != 0 && now.wrapping_sub(state.wanted_at) < NEIGHBOUR_INTERVAL {
        return;
    }
    state.wanted_at = now;
    let address = if query.family == AF_INET {
        // SAFETY: every octet of the union is initialised; the family says what it means.
        Addr128::v4_from(Be32::from_raw(unsafe { query.__bindgen_anon_4.ipv4_dst }))
    } else {
        // SAFETY: as above.
        let words = unsafe { query.__bindgen_anon_4.ipv6_dst };
        Addr128::v6(words.map(Be32::from_raw))
    };
    let wanted = NeighbourWanted { address, ifindex: query.ifindex, padding: 0 };
    record::neighbour_wanted(slot, state.epoch, now, wanted);
}

#[inline(always)]
fn write_link_header(hop: &mut NextHop, link: &Link, query: &bpf_fib_lookup, is_v4: bool) {
    let ether_type = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let [outer, inner] = link.vlans;
    let (len, tail) = if outer == 0 {
        (14, [ether_type, 0, 0, 0, 0])
    } else if inner == 0 {
        (18, [ETHERTYPE_VLAN, outer, ether_type, 0, 0])
    } else {
        (22, [ETHERTYPE_SERVICE_VLAN, outer, ETHERTYPE_VLAN, inner, ether_type])
    };
    let [a, b, c, d, e, f] = query.dmac;
    let [g, h, i, j, k, l] = query.smac;
    let [[m, n], [o, p], [q, r], [s, t], [u, v]] = tail.map(u16::to_be_bytes);
    hop.header_len = len;
    hop.header = [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        u64::from_ne_bytes([q, r, s, t, u, v, 0, 0]),
    ];
}

#[inline(always)]
fn word(word: Be32) -> u32 {
    word.raw()
}
