//! REFER: whom to call in the place of its sender.

use super::Replaces;
use crate::base::fault::Fault;
use crate::sip::message::{HeaderName, NameAddr, Request, Response, StatusCode, Uri};

/// What a REFER asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Referral {
    /// Whom to call: the URI of Refer-To, each parameter as it came, without the headers that a Request-URI cannot have
    /// (RFC 3261 section 19.1.1, table 1).
    pub(in crate::call) target: Uri,
    /// Refer-To as it came.
    pub(in crate::call) refer_to: String,
    /// The dialog that the new one takes the place of: the transferor has asked the target first (RFC 5589 section 7).
    pub(in crate::call) replaces: Option<Replaces>,
    /// Referred-By as it came (RFC 3892).
    pub(in crate::call) referred_by: Option<String>,
    /// Its sender wants to hear how it goes (RFC 4488 section 4).
    pub(in crate::call) notifies: bool,
    /// Tells the subscription from others in the dialog (RFC 3515 section 2.4.6).
    pub(in crate::call) id: u32,
}

impl Referral {
    /// # Errors
    /// [`Fault::MalformedHeader`] without exactly one Refer-To that can be read (RFC 3515 section 2.4.2),
    /// [`Fault::UnsupportedUriScheme`] for one that names no SIP or telephone address, [`Fault::TransferForbidden`] for one
    /// that asks for something else than an INVITE.
    pub(in crate::call) fn of(request: &Request) -> Result<Self, Fault> {
        let mut values = request.headers.values(&HeaderName::ReferTo);
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Fault::MalformedHeader) };
        let NameAddr { uri: mut target, .. } = value.parse().map_err(|_| Fault::MalformedHeader)?;
        let mut replaces = None;
        match &mut target {
            Uri::Sip(uri) => {
                if uri.params.value("method").is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
                    return Err(Fault::TransferForbidden);
                }
                uri.params.remove("method");
                if let Some(headers) = uri.headers.take() {
                    replaces = Replaces::of_uri(&headers)?;
                }
            }
            Uri::Tel(_) => {}
            Uri::Absolute(_) => return Err(Fault::UnsupportedUriScheme),
        }
        let suppressed = request.headers.value(&HeaderName::Other("Refer-Sub".into()));
        Ok(Self {
            target,
            refer_to: value.to_owned(),
            replaces,
            referred_by: request.headers.value(&HeaderName::ReferredBy).map(str::to_owned),
            notifies: !suppressed.is_some_and(|value| value.trim().eq_ignore_ascii_case("false")),
            id: request.head.cseq.number,
        })
    }
}

/// Makes `response`, a 202, say whether NOTIFYs follow (RFC 4488 section 4).
pub(in crate::call) fn accepted(referral: &Referral, response: &mut Response) {
    response.status = ACCEPTED;
    response.reason = ACCEPTED.phrase().into_owned();
    if !referral.notifies {
        response.headers.push(HeaderName::Other("Refer-Sub".into()), "false");
    }
}

/// RFC 7647 section 4 asks for 200 where RFC 3515 asked for 202; both sides of the change take either, and Teams expects
/// the older.
const ACCEPTED: StatusCode = StatusCode::new(202).expect("202 is a status code");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Message, parse};

    fn referral(lines: &str) -> Result<Referral, Fault> {
        let text = format!(
            "REFER sip:gw@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 7 REFER\r\nMax-Forwards: 70\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => Referral::of(&request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refer_names_one_target_octet_for_octet() {
        let uri = "sip:sip.pstnhub.microsoft.com:443;x-m=8:orgid:1%2F2;x-t=aBc;transport=TLS";
        let by = "<sip:sip.pstnhub.microsoft.com;x-m=8:orgid:1;x-tt=aHR0cHM%3D>;y";
        let found = referral(&format!("Refer-To: <{uri}>\r\nReferred-By: {by}\r\n")).unwrap();
        assert_eq!(found.target.to_string(), uri);
        assert_eq!(found.referred_by.as_deref(), Some(by));
        assert!(found.notifies && found.replaces.is_none());
        assert_eq!(found.id, 7);
    }

    #[test]
    fn headers_of_the_target_go_but_the_dialog_that_they_name_is_kept() {
        let to = "<sip:+1202@gw;user=phone?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&Require=replaces>";
        let found = referral(&format!("r: {to}\r\nRefer-Sub: false\r\n")).unwrap();
        assert_eq!(found.target.to_string(), "sip:+1202@gw;user=phone");
        let replaces = found.replaces.unwrap();
        assert_eq!((&*replaces.call_id, &*replaces.to_tag, &*replaces.from_tag), ("a@b", "1", "2"));
        assert!(!found.notifies);
    }

    #[test]
    fn what_is_no_invitation_is_refused() {
        for (lines, fault) in [
            ("", Fault::MalformedHeader),
            ("Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>\r\n", Fault::MalformedHeader),
            ("Refer-To: <nothing>\r\n", Fault::MalformedHeader),
            ("Refer-To: <sip:a@b?Replaces=x>\r\n", Fault::MalformedHeader),
            ("Refer-To: <https://example.org/>\r\n", Fault::UnsupportedUriScheme),
            ("Refer-To: <sip:a@b;method=BYE>\r\n", Fault::TransferForbidden),
        ] {
            assert_eq!(referral(lines), Err(fault), "{lines}");
        }
    }
}
