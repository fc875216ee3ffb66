//! Which calls are emergency calls: they pass above all limits.

use crate::base::id::TrunkId;
use crate::sip::message::Uri;

/// How emergency calls are known, and where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emergency {
    /// Called numbers exactly as they are dialled: `112`, `911`, `+49112` where a service puts the country in front.
    pub numbers: Vec<String>,
    /// The trunk that they go to, whatever the routes say.
    pub to: Option<TrunkId>,
}

impl Emergency {
    /// The number to call, if a request to this URI is an emergency call. `urn:service:sos` and what stands below it
    /// (RFC 5031 section 4.2) means the first of the numbers; without any, the URN itself.
    pub fn number<'a>(&'a self, uri: &'a Uri) -> Option<&'a str> {
        if let Uri::Absolute(absolute) = uri {
            let service = absolute.rest.to_ascii_lowercase();
            let is_sos = absolute.scheme == "urn" && (service == SOS || service.starts_with("service:sos."));
            return is_sos.then(|| self.numbers.first().map_or(SOS, String::as_str));
        }
        let user = uri.user()?;
        let dialled = user.split(';').next().unwrap_or_default();
        let same = |number: &&String| {
            let significant = dialled.chars().filter(|character| !"-.()".contains(*character));
            significant.eq(number.chars())
        };
        self.numbers.iter().find(same).map(String::as_str)
    }

    /// Whether a request to this URI is an emergency call.
    pub fn is_called(&self, uri: &Uri) -> bool {
        self.number(uri).is_some()
    }
}

const SOS: &str = "service:sos";

#[cfg(test)]
mod tests {
    use super::*;

    // Statements 184, 185.
    #[test]
    fn emergency_calls_are_those_to_the_urn_and_to_the_numbers_as_dialled() {
        let numbers = ["112", "911", "+49112"].map(str::to_owned).to_vec();
        let emergency = Emergency { numbers, to: None };
        let table = [
            ("urn:service:sos", Some("112")),
            ("urn:service:sos.fire", Some("112")),
            ("URN:service:SOS.police", Some("112")),
            ("urn:service:sosx", None),
            ("urn:service:counseling", None),
            ("sip:112@192.0.2.1;user=phone", Some("112")),
            ("sip:9-1-1@192.0.2.1", Some("911")),
            ("tel:911;phone-context=+1", Some("911")),
            ("sip:+49112@192.0.2.1", Some("+49112")),
            ("sip:+112@192.0.2.1", None),
            ("sip:1120@192.0.2.1", None),
            ("sip:192.0.2.1", None),
        ];
        for (uri, number) in table {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(emergency.number(&uri), number, "{uri}");
        }
    }
}
