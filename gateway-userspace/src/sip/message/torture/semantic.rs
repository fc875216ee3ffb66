//! RFC 4475 sections 3.2 to 3.4: messages whose trouble lies above the grammar. They parse, and what decides is there.

use super::super::{HeaderName, MediaType, Uri};
use super::{request, response};

fn invite(uri: &str, headers: &str) -> super::Request {
    request(&format!(
        "INVITE {uri} SIP/2.0\nTo: sip:j.user@example.com\nFrom: <sip:caller@example.net>;tag=134161461246\n\
         Call-ID: semantic.0ha0isndaksdjasdf3234nas\nCSeq: 8 INVITE\n\
         Via: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw\n{headers}\n"
    ))
}

#[test]
fn rfc4475_badbranch_a_bare_magic_cookie_is_readable() {
    let text = "OPTIONS sip:user@example.com SIP/2.0\nTo: sip:user@example.com\nFrom: sip:a@example.org;tag=33242\n\
                Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK\nCall-ID: badbranch.sadonfo23i420jv0as0derf3j3n\n\
                CSeq: 8 OPTIONS\nl: 0\n\n";
    assert_eq!(request(text).head.via[0].branch(), Some("z9hG4bK"));
}

#[test]
fn rfc4475_unkscm_and_novelsc_an_unknown_scheme_is_kept_for_a_416() {
    assert_eq!(
        invite("nobodyKnowsThisScheme:totallyopaquecontent", "").uri.scheme(),
        "nobodyknowsthisscheme"
    );
    assert_eq!(invite("soap.beep://192.0.2.103:3002", "").uri.scheme(), "soap.beep");
}

#[test]
fn rfc4475_unksm2_unknown_schemes_in_to_and_from_are_kept() {
    let register = request(
        "REGISTER sip:example.com SIP/2.0\nTo: isbn:2983792873\nFrom: <http://www.example.com>;tag=3234233\n\
         Call-ID: unksm2.daksdj@hyphenated-host.example.com\nCSeq: 234902 REGISTER\nMax-Forwards: 70\n\
         Via: SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKkdjuw\nContact: <name:John_Smith>\nl: 0\n\n",
    );
    assert_eq!(register.head.to.uri.to_string(), "isbn:2983792873");
    assert_eq!(register.head.from.uri.to_string(), "http://www.example.com");
}

#[test]
fn rfc4475_bext01_required_options_are_listed() {
    let message =
        invite("sip:j@example.com", "Require: nothingSupportsThis, nothingSupportsThisEither\nl: 0\n");
    let options: Vec<_> = message.headers.items(&HeaderName::Require).collect();
    assert_eq!(options, ["nothingSupportsThis", "nothingSupportsThisEither"]);
}

#[test]
fn rfc4475_invut_an_unknown_media_type_is_named() {
    let message =
        invite("sip:j@example.com", "Content-Type: application/unknownformat\nContent-Length: 2\n\n<>");
    assert_eq!(message.media_type(), Some(MediaType::Other("application/unknownformat".to_owned())));
}

#[test]
fn rfc4475_regaut01_an_unknown_authorization_scheme_is_kept() {
    let message = invite("sip:j@example.com", "Authorization: NoOneKnowsThisScheme opaque-data=here\nl: 0\n");
    let value = message.headers.value(&HeaderName::Authorization);
    assert_eq!(value, Some("NoOneKnowsThisScheme opaque-data=here"));
}

#[test]
fn rfc4475_bcast_a_via_with_a_broadcast_address_is_readable() {
    let answer = response(
        "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\n\
         Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\nCall-ID: bcast.0384840201234ksdfak3j2erwedfsASdf\n\
         CSeq: 35 INVITE\nFrom: sip:user@example.com;tag=11141343\nTo: sip:user@example.edu;tag=2229\nl: 0\n\n",
    );
    assert_eq!(answer.head.via.len(), 2);
}

#[test]
fn rfc4475_zeromf_max_forwards_of_zero_is_readable() {
    assert_eq!(invite("sip:j@example.com", "Max-Forwards: 0\nl: 0\n").head.max_forwards, Some(0));
}

#[test]
fn rfc4475_cparam01_and_02_parameters_belong_to_the_header_or_the_uri_by_the_brackets() {
    let header =
        invite("sip:j@example.com", "Contact: sip:+19725552222@gw1.example.net;unknownparam\nl: 0\n");
    let contact = header.head.contact.first().expect("a Contact");
    assert!(contact.params.has("unknownparam"));
    let uri = invite("sip:j@example.com", "Contact: <sip:+19725552222@gw1.example.net;unknownparam>\nl: 0\n");
    let contact = uri.head.contact.first().expect("a Contact");
    assert!(
        contact.params.is_empty() && contact.uri.params().is_some_and(|params| params.has("unknownparam"))
    );
}

#[test]
fn rfc4475_regescrt_escaped_headers_in_a_contact_are_kept() {
    let contact = "Contact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\nl: 0\n";
    let message = invite("sip:j@example.com", contact);
    let uri = message.head.contact.first().and_then(|contact| contact.uri.as_sip());
    assert_eq!(uri.and_then(|uri| uri.headers.as_deref()), Some("Route=%3Csip:sip.example.com%3E"));
}

#[test]
fn rfc4475_sdp01_a_request_may_want_another_body_type_in_the_answer() {
    let message = invite("sip:j@example.com", "Accept: text/nobodyKnowsThis\nl: 0\n");
    assert!(message.headers.has_token(&HeaderName::Accept, "text/nobodyKnowsThis"));
}

#[test]
fn rfc4475_inv2543_a_request_of_the_old_protocol_is_read() {
    let message = request(
        "INVITE sip:UserB@example.com SIP/2.0\nVia: SIP/2.0/UDP iftgw.example.com\n\
         From: <sip:+13035551111@ift.client.example.net;user=phone>\n\
         Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>\nTo: sip:+16505552222@ss1.example.net;user=phone\n\
         Call-ID: inv2543.1717@ift.client.example.com\nCSeq: 56 INVITE\nContent-Type: application/sdp\n\nv=0\n",
    );
    assert_eq!((message.head.via[0].branch(), message.head.from.tag()), (None, None));
    assert_eq!((message.head.max_forwards, message.media_type()), (None, Some(MediaType::Sdp)));
    assert_eq!(message.body, b"v=0\r\n");
    assert_eq!(
        message.head.from.uri.number().map(|number| number.reveal().to_owned()).as_deref(),
        Some("+13035551111")
    );
    assert!(matches!(message.uri, Uri::Sip(_)));
}
