//! What other systems call the call by: it goes into the record, and no name of one side goes to the other.

use crate::policy::Trunk;
use crate::sip::message::{HeaderName, Headers, Params};

/// Longer names are no names: they would only swell records and our messages.
const LONGEST: usize = 256;

/// P-Charging-Vector of a peer whose word counts, for our messages on its leg (RFC 7315 sections 4.6 and 5.6).
pub(in crate::call) fn charging_vector(headers: &Headers, trunk: &Trunk) -> Option<Box<str>> {
    let vector = headers.value(&HeaderName::PChargingVector).filter(|_| trunk.identity.trusted)?;
    (vector.len() <= LONGEST && icid(vector).is_some()).then(|| vector.into())
}

/// The identity for charging that a P-Charging-Vector names.
pub(in crate::call) fn icid(vector: &str) -> Option<Box<str>> {
    let params = Params::parse(&format!(";{vector}")).ok()?;
    let value = params.value("icid-value")?.trim_matches('"');
    (!value.is_empty()).then(|| value.into())
}

/// The trace id that peers of this trunk give their calls.
pub(in crate::call) fn trace_id(headers: &Headers, trunk: &Trunk) -> Option<Box<str>> {
    let id = headers.value(trunk.sip.trace_header.as_ref()?)?.trim();
    (!id.is_empty() && id.len() <= LONGEST).then(|| id.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icid_is_found_quoted_or_not_and_wherever_it_stands() {
        let table = [
            (
                "icid-value=\"1234bc9876e\";icid-generated-at=192.0.2.8;orig-ioi=home1.example",
                Some("1234bc9876e"),
            ),
            (
                "icid-value=AyretyU0dm+6O2IrT5tAFrbHLso=023551024",
                Some("AyretyU0dm+6O2IrT5tAFrbHLso=023551024"),
            ),
            ("orig-ioi=\"a;b\"; ICID-value=x", Some("x")),
            ("icid-value=\"\"", None),
            ("icid-value", None),
            ("icid-generated-at=192.0.2.8", None),
            ("\"", None),
        ];
        for (vector, expected) in table {
            assert_eq!(icid(vector).as_deref(), expected, "{vector}");
        }
    }
}
