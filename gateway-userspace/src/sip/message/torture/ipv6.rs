//! RFC 5118: IPv6 in every place that can hold it.

use super::super::Host;
use super::{answered, request};

fn register(uri: &str, via: &str, contact: &str) -> String {
    format!(
        "REGISTER {uri} SIP/2.0\nTo: sip:user@example.com\nFrom: sip:user@example.com;tag=81x2\nVia: {via}\n\
         Call-ID: SSG9559905523997077@hlau_4100\nMax-Forwards: 70\nContact: {contact}\nCSeq: 98176 REGISTER\n\
         Content-Length: 0\n\n"
    )
}

const VIA: &str = "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "\"Caller\" <sip:caller@[2001:db8::1]>";

fn host(text: &str) -> Host {
    Host::V6(text.parse().expect("an address"))
}

#[test]
fn rfc5118_4_1_a_reference_in_every_header() {
    let message = request(&register("sip:[2001:db8::10]", VIA, CONTACT));
    assert_eq!(message.uri.as_sip().map(|uri| uri.host.clone()), Some(host("2001:db8::10")));
    assert_eq!(message.head.via[0].host, host("2001:db8::9:1"));
    let contact = message.head.contact.first().and_then(|contact| contact.uri.as_sip());
    assert_eq!(contact.map(|uri| uri.host.clone()), Some(host("2001:db8::1")));
}

#[test]
fn rfc5118_4_2_an_address_without_brackets_is_refused() {
    assert_eq!(answered(&register("sip:2001:db8::10", VIA, CONTACT)), Some(400));
}

#[test]
fn rfc5118_4_3_what_stands_in_the_brackets_is_the_address() {
    let message = request(&register("sip:[2001:db8::10:5070]", VIA, CONTACT));
    let uri = message.uri.as_sip().expect("a SIP URI");
    assert_eq!((uri.host.clone(), uri.port), (host("2001:db8::10:5070"), None));
}

#[test]
fn rfc5118_4_4_what_stands_behind_the_brackets_is_the_port() {
    let message = request(&register("sip:[2001:db8::10]:5070", VIA, CONTACT));
    let uri = message.uri.as_sip().expect("a SIP URI");
    assert_eq!((uri.host.clone(), uri.port), (host("2001:db8::10"), Some(5070)));
}

#[test]
fn rfc5118_4_5_received_with_and_without_brackets() {
    for received in ["[2001:db8::9:255]", "2001:db8::9:255"] {
        let message = request(&register("sip:example.com", &format!("{VIA};received={received}"), CONTACT));
        assert_eq!(message.head.via[0].received(), Some("2001:db8::9:255".parse().expect("an address")));
    }
}

#[test]
fn rfc5118_4_7_both_families_in_one_via_list() {
    let vias =
        "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=a, SIP/2.0/UDP 192.0.2.1;branch=b;received=2001:db8::9:255";
    let message = request(&register("sip:example.com", vias, CONTACT));
    assert_eq!(
        (message.head.via[0].port, message.head.via[1].host.to_string()),
        (Some(6050), "192.0.2.1".to_owned())
    );
}

#[test]
fn rfc5118_4_9_an_address_that_maps_ipv4() {
    let message =
        request(&register("sip:example.com", "SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=a", CONTACT));
    assert_eq!(message.head.via[0].host, host("::ffff:192.0.2.10"));
}

#[test]
fn rfc5118_4_10_a_third_colon_before_embedded_ipv4_is_tolerated_and_not_printed() {
    let three = request(&register("sip:user@[2001:db8:::192.0.2.1]", VIA, CONTACT));
    let two = request(&register("sip:user@[2001:db8::192.0.2.1]", VIA, CONTACT));
    assert_eq!(three, two);
    assert!(!three.uri.to_string().contains(":::"));
}
