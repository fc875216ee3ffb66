//! The maps, as `gateway_common::abi::name` names them. Control writes the index, the versions of flows, links, the
//! generation and all that the guard knows; the kernel writes states of flows, counters, paces and the ring; nobody writes
//! what the other writes.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf, XskMap},
    macros::btf_map,
};
use gateway_common::{
    abi::{
        self, ADDRESSES_MAX, CAPTURE_RING_BYTES, DENIED_MAX, FLOWS_DEFAULT, GUARDED_MAX, INTERFACES_MAX,
        LINKS_MAX, Link, Queues, RING_BYTES, SECURED_FLOWS_DEFAULT, SOCKETS_MAX, SOURCES_MAX, stage,
    },
    flow::FlowSlot,
    guard::{Denial, Guarded, Service, Source},
    index::PLACES,
    net::Addr128,
    srtp::{FlowCrypto, FlowKeys, Scratch},
    verdict::{REASONS_MAX, TRAFFIC_MAX},
};

/// Read by the loader from the object, before anything is loaded: no program looks at it.
#[unsafe(no_mangle)]
#[used]
pub static CW_FINGERPRINT: u64 = abi::FINGERPRINT;

/// The integers of [`gateway_common::index::Entry`], in one element: the look-up of a known one waits for nothing.
#[btf_map]
pub static CW_INDEX: Array<[u32; PLACES as usize], 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static CW_FLOWS: Array<FlowSlot, { FLOWS_DEFAULT as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static CW_KEYS: Array<FlowKeys, { SECURED_FLOWS_DEFAULT as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map]
pub static CW_CRYPTO: Array<FlowCrypto, { SECURED_FLOWS_DEFAULT as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

/// Memory to work in, of the program alone.
#[btf_map]
pub static CW_SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

#[btf_map]
pub static CW_STAGES: ProgramArray<{ stage::COUNT as usize }> = ProgramArray::new();

#[btf_map]
pub static CW_QUEUES: HashMap<u32, Queues, { INTERFACES_MAX as usize }> = HashMap::new();

#[btf_map]
pub static CW_XSKS: XskMap<{ SOCKETS_MAX as usize }> = XskMap::new();

#[btf_map]
pub static CW_DROPS: PerCpuArray<u64, { REASONS_MAX as usize }> = PerCpuArray::new();

#[btf_map]
pub static CW_TRAFFIC: PerCpuArray<u64, { TRAFFIC_MAX as usize }> = PerCpuArray::new();

#[btf_map]
pub static CW_GENERATION: Array<u32, 1> = Array::new();

#[btf_map]
pub static CW_LINKS: HashMap<u32, Link, { LINKS_MAX as usize }> = HashMap::new();

#[btf_map]
pub static CW_GUARDED: HashMap<Service, Guarded, { GUARDED_MAX as usize }> = HashMap::new();

#[btf_map]
pub static CW_SOURCES: LpmTrie<Source, u32, { SOURCES_MAX as usize }> = LpmTrie::new();

#[btf_map]
pub static CW_DENIED: LpmTrie<[u32; 4], Denial, { DENIED_MAX as usize }> = LpmTrie::new();

#[btf_map]
pub static CW_OFFENDERS: LruHashMap<Addr128, Denial, { ADDRESSES_MAX as usize }> = LruHashMap::new();

#[btf_map]
pub static CW_PACES: LruHashMap<Source, u64, { ADDRESSES_MAX as usize }> = LruHashMap::new();

/// Of `()`: libbpf refuses a ring whose value type has a size.
#[btf_map]
pub static CW_RECORDS: RingBuf<(), { RING_BYTES as usize }> = RingBuf::new();

/// As above.
#[btf_map]
pub static CW_CAPTURES: RingBuf<(), { CAPTURE_RING_BYTES as usize }> = RingBuf::new();

#[btf_map]
pub static CW_ABI: Array<u64, 1> = Array::new();
