//! The handshake between a loaded program and a daemon: a daemon adopts pinned maps only when version and
//! layout are its own.

use crate::{flow, guard, index, learned, record, srtp};
use core::mem::{offset_of, size_of};

/// Raised when meaning changes while the layout does not.
pub const VERSION: u32 = 11;

/// Version and layout in one number: the program exports it as a global, the loader compares.
pub const FINGERPRINT: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let parts = [
        VERSION as usize,
        index::PLACES as usize,
        size_of::<flow::FlowSlot>(),
        offset_of!(flow::FlowSlot, state),
        size_of::<flow::FlowConfig>(),
        size_of::<flow::Output>(),
        offset_of!(flow::FlowConfig, rtp),
        offset_of!(flow::FlowConfig, payload_types),
        offset_of!(flow::FlowConfig, stream_slot),
        size_of::<learned::FlowState>(),
        offset_of!(learned::FlowState, statistics),
        offset_of!(learned::FlowState, rtp_hop),
        offset_of!(learned::FlowState, shortcut),
        offset_of!(learned::FlowState, due_at),
        size_of::<record::RecordHeader>(),
        size_of::<guard::Guarded>(),
        offset_of!(guard::Guarded, samples),
        size_of::<guard::Source>(),
        size_of::<guard::Denial>(),
        offset_of!(flow::FlowConfig, crypto_slot),
        size_of::<srtp::FlowKeys>(),
        offset_of!(srtp::Keys, rtcp),
        size_of::<srtp::FlowCrypto>(),
        size_of::<Queues>(),
        size_of::<record::CaptureRecord>(),
    ];
    let mut index = 0;
    while index < parts.len() {
        hash = (hash ^ parts[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
};

/// Flows that fit unless the loader is told otherwise.
pub const FLOWS_DEFAULT: u32 = 200_000;

/// Flows with SRTP that fit unless the loader is told otherwise.
pub const SECURED_FLOWS_DEFAULT: u32 = 20_000;

/// Octets of the ring to userspace.
pub const RING_BYTES: u32 = 1 << 20;

/// Octets of the ring for captures.
pub const CAPTURE_RING_BYTES: u32 = 1 << 20;

/// Names of maps, globals and programs in the object, at most 15 octets each (the kernel cuts longer ones).
pub mod name {
    /// Mmapable array of one element, the [`crate::index::PLACES`] [`crate::index::Entry`] by
    /// [`crate::index::Places`]. Written by the control plane.
    pub const INDEX: &str = "CW_INDEX";
    /// Mmapable array: slot to [`crate::flow::FlowSlot`], of which the control plane writes the versions and the kernel the
    /// state.
    pub const FLOWS: &str = "CW_FLOWS";
    /// Per-CPU array of u64 by [`crate::verdict::Reason`]. Written by the kernel.
    pub const DROPS: &str = "CW_DROPS";
    /// Per-CPU array of u64 by [`crate::verdict::Traffic`]. Written by the kernel.
    pub const TRAFFIC: &str = "CW_TRAFFIC";
    /// Array of one u32: the generation of routes and neighbours. Written by the control plane.
    pub const GENERATION: &str = "CW_GENERATION";
    /// Hash: interface index to [`crate::abi::Link`]. Written by the control plane.
    pub const LINKS: &str = "CW_LINKS";
    /// Hash: [`crate::guard::Service`] to [`crate::guard::Guarded`]. Written by the control plane.
    pub const GUARDED: &str = "CW_GUARDED";
    /// Trie: [`crate::guard::Source`] to nothing that matters. Written by the control plane.
    pub const SOURCES: &str = "CW_SOURCES";
    /// Trie: addresses and networks that the operator denied to [`crate::guard::Denial`]. Written by the control plane.
    pub const DENIED: &str = "CW_DENIED";
    /// Hash, the least recently used entry goes first: addresses that the daemon found out to
    /// [`crate::guard::Denial`]. Written by the control plane.
    pub const OFFENDERS: &str = "CW_OFFENDERS";
    /// Hash, the least recently used entry goes first: [`crate::guard::Source`] to kernel monotonic nanoseconds at
    /// which its next packet is due. Written by the kernel.
    pub const PACES: &str = "CW_PACES";
    /// Mmapable array: crypto slot to [`crate::srtp::FlowKeys`]. Written by the control plane.
    pub const KEYS: &str = "CW_KEYS";
    /// Mmapable array: crypto slot to [`crate::srtp::FlowCrypto`]. Written by the kernel.
    pub const CRYPTO: &str = "CW_CRYPTO";
    /// Hash: interface index to [`crate::abi::Queues`]. Written by the control plane.
    pub const QUEUES: &str = "CW_QUEUES";
    /// AF_XDP sockets, by [`crate::abi::Queues`]. Written by the control plane; a socket that is closed goes by itself.
    pub const XSKS: &str = "CW_XSKS";
    /// Programs that [`PROGRAM`] hands packets to, by [`super::stage`]. Written by the control plane.
    pub const STAGES: &str = "CW_STAGES";
    /// Ring buffer of [`crate::record::CaptureRecord`]. Written by the kernel.
    pub const CAPTURES: &str = "CW_CAPTURES";
    /// Ring buffer of [`crate::record`]. Written by the kernel.
    pub const RECORDS: &str = "CW_RECORDS";
    /// Array of one u64: [`super::FINGERPRINT`] of whoever loaded the maps.
    pub const ABI: &str = "CW_ABI";
    /// Read-only global of the object: the [`super::FINGERPRINT`] it was built with.
    pub const FINGERPRINT: &str = "CW_FINGERPRINT";
    /// The program on every media interface.
    pub const PROGRAM: &str = "causeway";
    /// The programs for packets of flows that are not like most, by [`super::stage`].
    pub const STAGE_PROGRAMS: [&str; super::stage::COUNT as usize] =
        ["causeway_open", "causeway_relay", "causeway_seal", "causeway_punt", "causeway_capture"];
    /// An empty program: lets a veth peer or an output-only interface take redirected packets.
    pub const PASS: &str = "causeway_pass";
}

/// Places of [`name::STAGES`].
pub mod stage {
    /// Unprotects what arrives, and goes on with [`RELAY`].
    pub const OPEN: u32 = 0;
    /// Relays, and goes on with [`SEAL`] where the flow asks for it.
    pub const RELAY: u32 = 1;
    /// Protects what leaves.
    pub const SEAL: u32 = 2;
    /// Hands to userspace.
    pub const PUNT: u32 = 3;
    /// Copies for a capture, and hands on.
    pub const CAPTURE: u32 = 4;
    /// How many there are.
    pub const COUNT: u32 = 5;
}

/// How packets leave by an interface that the route look-up may name: itself, or as VLANs on a parent.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Link {
    /// The device to transmit on.
    pub ifindex: u32,
    /// Outer and inner VLAN identifier, 0 for none; the outer tag is 802.1ad when both are set.
    pub vlans: [u16; 2],
    /// `ifindex` where packets that came in by it may leave by XDP_TX; 0 where they are redirected like all others. A
    /// veth leaves what it is to transmit lying in the ring of a far end that has no XDP program (the kernel's
    /// `veth_xdp_flush`), and wakes it for what is redirected.
    pub transmits_from: u32,
}

/// The places of an interface's receive queues in [`name::XSKS`].
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Queues {
    /// Of queue 0; the others follow.
    pub first: u32,
    pub count: u32,
}

/// Interfaces with sockets, and sockets that fit.
pub const INTERFACES_MAX: u32 = 64;
pub const SOCKETS_MAX: u32 = 1024;

/// Sockets, their sources, what the operator denied, and addresses found out or counted that fit.
pub const GUARDED_MAX: u32 = 256;
pub const SOURCES_MAX: u32 = 16_384;
pub const DENIED_MAX: u32 = 4_096;
pub const ADDRESSES_MAX: u32 = 65_536;

/// Interfaces and VLANs that fit.
pub const LINKS_MAX: u32 = 1024;
