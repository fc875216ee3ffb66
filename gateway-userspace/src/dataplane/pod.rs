//! The shared structures as aya takes them: `aya::Pod` is not ours and neither are they, so each is wrapped.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use gateway_common::abi::{Link, Queues};
use gateway_common::flow::FlowSlot;
use gateway_common::guard::{Denial, Guarded, Service, Source};
use gateway_common::net::Addr128;

/// A structure of `gateway_common` as a map holds it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plain<T>(pub T);

// SAFETY: integers, octets, and enumerations that only daemons with our ABI fingerprint write; zero is a value of each.
unsafe impl aya::Pod for Plain<FlowSlot> {}
// SAFETY: integers only, without padding.
unsafe impl aya::Pod for Plain<Link> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Queues> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Service> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Guarded> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Source> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Denial> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Addr128> {}
