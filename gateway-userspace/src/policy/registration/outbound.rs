//! Flows that we open and keep, so that calls come to us by them (RFC 5626), and the way that our own calls take from a
//! registrar on (RFC 3608).

use crate::sip::message::{HeaderName, NameAddr, Response, StatusCode};
use std::str::FromStr;
use std::time::Duration;

/// What tells this node from all others, for good: a UUID as a URN (RFC 5626 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance(String);

/// It is not `urn:uuid:` and a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not \"urn:uuid:\" and a UUID")]
pub struct NoInstance;

impl FromStr for Instance {
    type Err = NoInstance;

    fn from_str(text: &str) -> Result<Self, NoInstance> {
        let uuid = text.strip_prefix("urn:uuid:").ok_or(NoInstance)?;
        let groups: Vec<_> = uuid.split('-').map(str::len).collect();
        let is_hex = uuid.bytes().all(|octet| octet == b'-' || octet.is_ascii_hexdigit());
        if groups != [8, 4, 4, 4, 12] || !is_hex {
            return Err(NoInstance);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// RFC 5626 section 11.6.
pub(super) const FIRST_HOP_LACKS_OUTBOUND: StatusCode = StatusCode::new(439).expect("439 is a status code");
/// The option tag.
pub(super) const OUTBOUND: &str = "outbound";
/// Between pings where the registrar says nothing of it: below the 120 seconds that section 4.4.1 expects.
const USUAL_PAUSE: Duration = Duration::from_secs(95);
/// A registrar that wants more pings than this gets no more.
const SHORTEST_PAUSE: u64 = 10;
const LONGEST_PAUSE: u64 = 3_600;
/// Proxies behind the registrar: more than any network has.
const MAX_ROUTES: usize = 8;

/// Makes a Contact that of one flow of ours (section 4.2).
pub(super) fn mark(contact: &mut NameAddr, instance: &Instance, flow: u16) {
    contact.params.set_quoted("+sip.instance", &format!("<{}>", instance.0));
    contact.params.set("reg-id", &flow.to_string());
}

/// The pause between pings of a flow that the registrar keeps (section 4.4.1): nine tenths of the time after which it takes
/// the flow for dead. `None` if it knows nothing of flows.
pub(super) fn pause(response: &Response) -> Option<Duration> {
    let timer = response.headers.value(&HeaderName::Other("Flow-Timer".into()));
    let seconds = timer.and_then(|text| text.trim().parse::<u64>().ok());
    match seconds {
        Some(seconds) => Some(Duration::from_secs(seconds.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)) * 9 / 10),
        None if response.headers.has_token(&HeaderName::Require, OUTBOUND) => Some(USUAL_PAUSE),
        None => None,
    }
}

/// The proxies that our calls are to pass, in order; none if the registrar names none, or in words that cannot be read.
pub(super) fn service_route(response: &Response) -> Vec<NameAddr> {
    let mut route = Vec::new();
    for line in response.headers.values(&HeaderName::ServiceRoute) {
        if let Err(error) = NameAddr::parse_list(line, &mut route) {
            tracing::warn!(%error, "a Service-Route cannot be read and is not heeded");
            return Vec::new();
        }
    }
    route.truncate(MAX_ROUTES);
    route
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_uuid_as_a_urn() {
        let right = "urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF";
        assert_eq!(right.parse(), Ok(Instance(right.to_lowercase())));
        for wrong in
            ["", "urn:uuid:", "00000000-0000-1000-8000-AABBCCDDEEFF", "urn:uuid:0-0-0-0-0", "urn:imei:90"]
        {
            assert_eq!(wrong.parse::<Instance>(), Err(NoInstance), "{wrong}");
        }
    }
}
