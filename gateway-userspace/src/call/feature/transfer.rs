//! What a request to transfer a call says, and what its sender hears of how it goes (RFC 3515, RFC 3891, RFC 3892, RFC
//! 4488, RFC 5589).

mod referral;
mod replaces;
mod subscription;

pub(in crate::call) use referral::{Referral, accepted};
pub(crate) use replaces::Replaces;
pub(in crate::call) use subscription::{Passed, Referred, Subscription, notify, reported};

use std::time::Duration;

/// How long a dialog that was transferred away is left to its peer's BYE, when the peer knows that the new one stands:
/// 64*T1, in which its BYE arrives or never does (RFC 3261 section 17.1.2.2).
pub(in crate::call) const GUARD: Duration = Duration::from_secs(32);
