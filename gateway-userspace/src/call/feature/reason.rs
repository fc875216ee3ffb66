//! Why a call ends, from one side to the other (RFC 3326; in responses RFC 6432): the causes cross, each in what the
//! other trunk understands by it; texts, which may name what stands behind us, do not.

use crate::policy::CauseMap;
use crate::sip::message::{HeaderName, Headers, StatusCode};

/// The causes that one message gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::call) struct Reasons {
    /// A SIP status code, as in a CANCEL of a call that was answered elsewhere.
    sip: Option<u16>,
    q850: Option<u8>,
}

impl Reasons {
    pub(in crate::call) fn of(headers: &Headers) -> Self {
        let mut reasons = Self::default();
        for item in headers.items(&HeaderName::Reason) {
            let mut parts = item.split(';');
            let protocol = parts.next().unwrap_or_default().trim();
            let cause = parts.find_map(|part| {
                let (name, value) = part.split_once('=')?;
                name.trim().eq_ignore_ascii_case("cause").then(|| value.trim())
            });
            let Some(cause) = cause else { continue };
            if protocol.eq_ignore_ascii_case("Q.850") {
                let known = cause.parse().ok().filter(|cause| (1..=127).contains(cause));
                reasons.q850 = reasons.q850.or(known);
            } else if protocol.eq_ignore_ascii_case("SIP") {
                let known = cause.parse().ok().filter(|cause| (200..700).contains(cause));
                reasons.sip = reasons.sip.or(known);
            }
        }
        reasons
    }

    /// Those of a refusal: busy means that the callee is, whatever a service says of its own channels with it.
    pub(in crate::call) fn of_refusal(status: StatusCode, headers: &Headers) -> Self {
        let reasons = Self::of(headers);
        match status {
            StatusCode::BUSY_HERE => Self { q850: reasons.q850.map(|_| USER_BUSY), ..reasons },
            _ => reasons,
        }
    }

    pub(in crate::call) fn q850(&self) -> Option<u8> {
        self.q850
    }

    /// The header for a peer whose trunk reads causes by `map`; `None` if there is nothing to say.
    pub(in crate::call) fn line(&self, map: &CauseMap) -> Option<String> {
        self.line_with(self.q850.map(|cause| map.of(cause)))
    }

    /// The same in a refusal with this status code.
    pub(in crate::call) fn line_of_refusal(&self, status: StatusCode, map: &CauseMap) -> Option<String> {
        self.line_with(map.of_refusal(status.code(), self.q850))
    }

    fn line_with(&self, q850: Option<u8>) -> Option<String> {
        let sip = self.sip.map(|cause| match cause {
            // What phones look for, to leave the call out of those missed (RFC 3326 section 3.1).
            200 => format!("SIP;cause={cause};text=\"Call completed elsewhere\""),
            _ => format!("SIP;cause={cause}"),
        });
        let q850 = q850.map(|cause| format!("Q.850;cause={cause}"));
        let lines: Vec<_> = [sip, q850].into_iter().flatten().collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

/// Q.850: user busy.
const USER_BUSY: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CauseTable;

    fn reasons(value: &str) -> Reasons {
        let mut headers = Headers::default();
        headers.push(HeaderName::Reason, value);
        Reasons::of(&headers)
    }

    #[test]
    fn causes_of_both_protocols_cross_and_texts_do_not() {
        let table = [
            ("Q.850;cause=16;text=\"Terminated\"", Some("Q.850;cause=16")),
            ("q.850 ; Cause = 31", Some("Q.850;cause=31")),
            ("Q.850;text=\"a;b, c\";cause=34", Some("Q.850;cause=3")),
            ("SIP;cause=200;text=\"elsewhere\"", Some("SIP;cause=200;text=\"Call completed elsewhere\"")),
            ("SIP;cause=580, Q.850;cause=41", Some("SIP;cause=580, Q.850;cause=41")),
            ("Q.850;cause=0", None),
            ("Q.850;cause=128", None),
            ("Q.850", None),
            ("preemption;cause=1", None),
            ("", None),
        ];
        let map = CauseMap::new(CauseTable::AsReceived, [(34, 3)], []);
        for (value, expected) in table {
            assert_eq!(reasons(value).line(&map).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn busy_is_busy() {
        let mut headers = Headers::default();
        headers.push(HeaderName::Reason, "Q.850;cause=34");
        assert_eq!(Reasons::of_refusal(StatusCode::BUSY_HERE, &headers).q850(), Some(17));
        assert_eq!(Reasons::of_refusal(StatusCode::DECLINE, &headers).q850(), Some(34));
        assert_eq!(Reasons::of_refusal(StatusCode::BUSY_HERE, &Headers::default()).q850(), None);
    }
}
