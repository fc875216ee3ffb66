//! The shared structures as aya takes them: `aya::Pod` is not ours and neither are they, so each is wrapped.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use gateway_common::abi::Link;
use gateway_common::flow::{FlowConfig, FlowKey};
use gateway_common::learned::FlowState;

/// A structure of `gateway_common` as a map holds it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plain<T>(pub T);

// SAFETY: octets and big-endian integers, padding spelt out; every bit pattern is a key.
unsafe impl aya::Pod for Plain<FlowKey> {}
// SAFETY: repr(C), padding spelt out. Its enums make some bit patterns invalid: values come only from maps
// whose ABI fingerprint is ours, written only by daemons that compiled the same structure.
unsafe impl aya::Pod for Plain<FlowConfig> {}
// SAFETY: integers and octets only; every bit pattern is a state.
unsafe impl aya::Pod for Plain<FlowState> {}
// SAFETY: integers only, without padding.
unsafe impl aya::Pod for Plain<Link> {}
