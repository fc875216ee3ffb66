//! What the XDP program and the userspace daemon both say: map layouts, reasons, header parsing and the
//! arithmetic of a relayed packet.
//!
//! `no_std`, no allocation, no I/O. Everything here is either plain data with a fixed layout or a pure
//! function, so the host tests prove what the kernel runs.
//!
//! * [`abi`]: version and layout fingerprint, map names, limits.
//! * [`net`]: big-endian integers and 128-bit addresses.
//! * [`flow`]: what the control plane writes per flow. [`learned`]: what the kernel writes per flow.
//! * [`verdict`]: the one list of reasons for which a packet is not relayed.
//! * [`record`]: what the kernel tells userspace through its ring.
//! * [`cursor`], [`headers`], [`rtp`], [`rtcp`]: from a frame to what a flow needs to know of it.
//! * [`admit`], [`account`], [`losses`]: the rules of a flow, pure functions over its configuration and state.
//! * [`rewrite`]: fresh headers and checksums. [`shortcut`]: a way through all of these, kept for packets like the last.
//!   [`srtp`]: payloads protected and unprotected.
//! * [`guard`]: who may speak SIP to the host.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod abi;
pub mod account;
pub mod admit;
pub mod cursor;
pub mod flow;
pub mod guard;
pub mod headers;
pub mod index;
pub mod learned;
pub mod losses;
pub mod net;
pub mod record;
pub mod rewrite;
pub mod rtcp;
pub mod rtp;
pub mod shortcut;
pub mod srtp;
pub mod stun;
pub mod verdict;
