//! What a user agent says it can do, in Allow, Supported and Require (RFC 3261 sections 20.5, 20.32, 20.37).

use crate::sip::message::{HeaderName, Headers, Method};

/// Methods that this gateway serves, for Allow.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";

/// Options that may be required of this gateway.
const OPTIONS: [&str; 5] = [REL100, TIMER, PRECONDITION, REPLACES, NO_REFER_SUBSCRIPTION];

/// Reliable provisional responses (RFC 3262).
pub(in crate::call) const REL100: &str = "100rel";

/// Session timers (RFC 4028).
pub(in crate::call) const TIMER: &str = "timer";

/// Quality-of-service preconditions (RFC 3312).
pub(in crate::call) const PRECONDITION: &str = "precondition";

/// INVITEs that take the place of another dialog (RFC 3891).
pub(crate) const REPLACES: &str = "replaces";

/// REFER without NOTIFYs (RFC 4488).
const NO_REFER_SUBSCRIPTION: &str = "norefersub";

/// The options that `headers` require and this gateway does not have, for Unsupported; empty if none.
pub(crate) fn unsupported(headers: &Headers) -> Vec<&str> {
    let known = |item: &&str| !OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(item));
    headers.items(&HeaderName::Require).filter(known).collect()
}

/// What a leg's peer can do, as its last INVITE, UPDATE or 2xx to one said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::call) struct Abilities {
    /// It takes UPDATE (RFC 3311).
    pub(in crate::call) update: bool,
    /// It takes REFER (RFC 3515).
    #[serde(default)]
    pub(in crate::call) refer: bool,
}

impl Abilities {
    pub(in crate::call) fn of(headers: &Headers) -> Self {
        let allows = |method| headers.allowed_methods().is_some_and(|allowed| allowed.contains(&method));
        Self { update: allows(Method::Update), refer: allows(Method::Refer) }
    }

    /// Takes over what a later message says, if it says anything.
    pub(in crate::call) fn learn(&mut self, headers: &Headers) {
        if headers.value(&HeaderName::Allow).is_some() {
            *self = Self::of(headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_known_is_unsupported() {
        let mut headers = Headers::default();
        assert!(unsupported(&headers).is_empty());
        headers.push(HeaderName::Require, "100REL, foo, timer");
        headers.push(HeaderName::Require, "bar");
        assert_eq!(unsupported(&headers), ["foo", "bar"]);
    }

    #[test]
    fn abilities_are_those_that_the_last_allow_lists() {
        let mut headers = Headers::default();
        assert!(!Abilities::of(&headers).update);
        headers.push(HeaderName::Allow, "INVITE, UPDATE");
        let mut abilities = Abilities::of(&headers);
        assert!(abilities.update);
        abilities.learn(&Headers::default());
        assert!(abilities.update, "a message without Allow says nothing");
        headers.set(HeaderName::Allow, "INVITE");
        abilities.learn(&headers);
        assert!(!abilities.update);
    }
}
