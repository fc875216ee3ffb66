//! RFC 4475 section 3.1.1: messages that are well-formed however they look.

use super::super::{Method, ViaTransport};
use super::{parse, request, response, wire};
use crate::sip::message::{HeaderName, Message};

#[test]
fn rfc4475_wsinv_folding_and_white_space_everywhere() {
    let invite = request(concat!(
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\n",
        "TO :\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\n",
        "from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\n",
        "MaX-fOrWaRdS: 0068\n",
        "Call-ID: wsinv.ndaksdj@192.0.2.1\n",
        "Content-Length   : 0\n",
        "cseq: 0009\n  INVITE\n",
        "Via  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw\n",
        "s :\n",
        "NewFangledHeader:   newfangled value\n continued newfangled value\n",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;\n",
        "Content-Type: application/sdp\n",
        "Route:\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\n",
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n",
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n",
        "m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\n      newvalue ;\n",
        "  secondparam ; q = 0.33\n",
        "\n",
    ));
    let head = &invite.head;
    assert_eq!(head.to.tag(), Some("1918181833n"));
    assert_eq!(
        head.from.display.as_ref().map(|name| name.text().into_owned()).as_deref(),
        Some("J Rosenberg \\\"")
    );
    assert_eq!((head.from.tag(), head.max_forwards, head.cseq.number), (Some("98asjd8"), Some(68), 9));
    let branches: Vec<_> = head.via.iter().filter_map(|via| via.branch()).collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert_eq!(head.route[0].uri.param("unknownwith"), Some("value"));
    let contact = head.contact.first().expect("a Contact");
    assert_eq!((contact.param("newparam"), contact.param("q")), (Some("newvalue"), Some("0.33")));
    let unusual = HeaderName::from_token(b"unknownheaderwithunusualvalue").expect("a token");
    assert_eq!(invite.headers.value(&unusual), Some(";;,,;;,;"));
    let folded = HeaderName::from_token(b"NewFangledHeader").expect("a token");
    assert_eq!(invite.headers.value(&folded), Some("newfangled value continued newfangled value"));
    assert_eq!(invite.headers.value(&HeaderName::Subject), Some(""));
}

#[test]
fn rfc4475_intmeth_wide_range_of_characters() {
    let strange = request(concat!(
        "!interesting-Method0123456789_*+`.%indeed'~ ",
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
        " SIP/2.0\n",
        "Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\n",
        "To: \"BEL:\\\u{7} NUL:\\\u{0} DEL:\\\u{7f}\" ",
        "<sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\n",
        "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>",
        ";fromParam''~+*_!.-%=\"\u{440}\u{430}\u{431}\u{43e}\u{442}\u{430}\u{44e}\u{449}\u{438}\u{439}\"",
        ";tag=_token~1'+`*%!-.\n",
        "Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\n",
        "CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\n",
        "Max-Forwards: 255\n",
        "extensionHeader-!.%*+_`'~: \u{fb06}\u{1f917}\n",
        "Content-Length: 0\n\n",
    ));
    assert_eq!(strange.method, Method::Other("!interesting-Method0123456789_*+`.%indeed'~".into()));
    assert_eq!(strange.uri.user().as_deref(), Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    let uri = strange.uri.as_sip().expect("a SIP URI");
    assert_eq!(uri.password.as_deref(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(strange.head.from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(strange.head.max_forwards, Some(255));
}

#[test]
fn rfc4475_esc01_escapes_in_a_user_part_do_not_change_its_bounds() {
    let invite = request(concat!(
        "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0\n",
        "To: sip:%75se%72@example.com\nFrom: <sip:I%20have%20spaces@example.net>;tag=938\n",
        "Max-Forwards: 87\ni: esc01.239409asdfakjkn23onasd0-3234\nCSeq: 234234 INVITE\n",
        "Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw\nC: application/sdp\n",
        "Contact:\n  <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>\nContent-Length: 0\n\n",
    ));
    assert_eq!(invite.uri.user().as_deref(), Some("sips:user@example.com"));
    assert_eq!(invite.uri.as_sip().map(|uri| uri.host.to_string()).as_deref(), Some("example.net"));
    assert_eq!(invite.head.to.uri.user().as_deref(), Some("user"));
    assert_eq!(invite.head.from.uri.user().as_deref(), Some("I have spaces"));
}

#[test]
fn rfc4475_escnull_an_escaped_nul_is_one_octet_of_a_user() {
    let register = request(concat!(
        "REGISTER sip:example.com SIP/2.0\nTo: sip:null-%00-null@example.com\n",
        "From: sip:null-%00-null@example.com;tag=839923423\nMax-Forwards: 70\n",
        "Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd\nCSeq: 14398234 REGISTER\n",
        "Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw\n",
        "Contact: <sip:%00@host5.example.com>\nContact: <sip:%00%00@host5.example.com>\nL:0\n\n",
    ));
    let users: Vec<_> =
        register.head.contact.addresses().iter().filter_map(|contact| contact.uri.user()).collect();
    assert_eq!(users, ["\0", "\0\0"]);
    assert_eq!(register.head.to.uri.user().as_deref(), Some("null-\0-null"));
}

#[test]
fn rfc4475_esc02_a_percent_sign_is_no_escape_outside_a_uri() {
    let extension = request(concat!(
        "RE%47IST%45R sip:registrar.example.com SIP/2.0\nTo: \"%Z%45\" <sip:resource@example.com>\n",
        "From: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23\nCall-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf\n",
        "Via: SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234\nCSeq: 29344 RE%47IST%45R\n",
        "Max-Forwards: 70\nContact: <sip:alias1@host1.example.com>\nC%6Fntact: <sip:alias2@host2.example.com>\n",
        "Contact: <sip:alias3@host3.example.com>\nl: 0\n\n",
    ));
    assert_eq!(extension.method.as_str(), "RE%47IST%45R");
    assert_eq!(extension.head.contact.addresses().len(), 2);
    assert_eq!(extension.head.via[0].branch(), Some("z9hG4bK209%fzsnel234"));
}

#[test]
fn rfc4475_lwsdisp_no_space_between_name_and_bracket() {
    let options = request(concat!(
        "OPTIONS sip:user@example.com SIP/2.0\nTo: sip:user@example.com\nFrom: caller<sip:caller@example.com>;tag=323\n",
        "Max-Forwards: 70\nCall-ID: lwsdisp.1234abcd@funky.example.com\nCSeq: 60 OPTIONS\n",
        "Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw\nl: 0\n\n",
    ));
    assert_eq!(options.head.from.to_string(), "caller <sip:caller@example.com>;tag=323");
}

#[test]
fn rfc4475_longreq_long_values_in_every_header() {
    let long = |unit: &str, times| unit.repeat(times);
    let vias: String = (1..=34)
        .map(|hop| format!("Via: SIP/2.0/TCP sip{hop}.example.com;unknownparam={}\n", long("verylong", 20)))
        .collect();
    let text = [
        "INVITE sip:user@example.com SIP/2.0\nTo: \"I have a user name of ",
        &long("extreme", 60),
        " proportion\"<sip:user@example.com:6000;unknownparam1=",
        &long("verylong", 40),
        ";longparam",
        &long("name", 40),
        "=shortvalue>\nF: sip:",
        &long("amazinglylongcallername", 20),
        "@example.net;tag=12",
        &long("982", 60),
        "424\nCall-ID: longreq.one",
        &long("really", 30),
        "longcallid\nCSeq: 3882340 INVITE\nUnknown-",
        &long("Long", 40),
        "-Name: value\n",
        &vias,
        "Contact: <sip:",
        &long("amazinglylongcallername", 20),
        "@host5.example.net>\nl: 0\n\n",
    ]
    .concat();
    let invite = request(&text);
    assert_eq!(invite.head.via.len(), 34);
    assert_eq!(invite.head.from.uri.user().map(|user| user.len()), Some(460));
}

#[test]
fn rfc4475_dblreq_octets_behind_the_body_are_dropped() {
    let register = concat!(
        "REGISTER sip:example.com SIP/2.0\nTo: sip:j.user@example.com\nFrom: sip:j.user@example.com;tag=43251j3j324\n",
        "Max-Forwards: 8\nI: dblreq.0ha0isndaksdj99sdfafnl3lk233412\nContact: sip:j.user@host.example.com\n",
        "CSeq: 8 REGISTER\nVia: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492\nContent-Length: 0\n\n",
    );
    let both = [register, "\n", &register.replace("REGISTER", "INVITE")].concat();
    assert_eq!(request(&both), request(register));
}

#[test]
fn rfc4475_semiuri_semicolons_in_a_user_part() {
    let options = request(concat!(
        "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0\nTo: sip:j_user@example.com\n",
        "From: sip:caller@example.org;tag=33242\nMax-Forwards: 3\nCall-ID: semiuri.0ha0isndaksdj\nCSeq: 8 OPTIONS\n",
        "Accept: application/sdp, application/pkcs7-mime,\n        multipart/mixed, multipart/signed\n",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw\nl: 0\n\n",
    ));
    assert_eq!(options.uri.user().as_deref(), Some("user;par=u@example.net"));
    assert!(options.uri.params().is_some_and(|params| params.is_empty()));
    assert_eq!(options.headers.items(&HeaderName::Accept).count(), 4);
}

#[test]
fn rfc4475_transports_unknown_ones_are_kept() {
    let options = request(concat!(
        "OPTIONS sip:user@example.com SIP/2.0\nTo: sip:user@example.com\nFrom: <sip:caller@example.com>;tag=323\n",
        "Max-Forwards: 70\nCall-ID:  transports.kijh4akdnaqjkwendsasfdj\nAccept: application/sdp\nCSeq: 60 OPTIONS\n",
        "Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw\nVia: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf\n",
        "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj\n",
        "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en\n",
        "Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee\nl: 0\n\n",
    ));
    let transports: Vec<_> = options.head.via.iter().map(|via| via.transport.clone()).collect();
    let unknown = ViaTransport::Other("UNKNOWN".into());
    let expected = [ViaTransport::Udp, ViaTransport::Sctp, ViaTransport::Tls, unknown, ViaTransport::Tcp];
    assert_eq!(transports, expected);
}

#[test]
fn rfc4475_mpart01_a_binary_body_comes_through_unchanged() {
    let mut bytes = wire(concat!(
        "MESSAGE sip:kumiko@example.org SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee\n",
        "Max-Forwards: 70\nRoute: <sip:127.0.0.1:5080>\nTo: <sip:kumiko@example.org>\n",
        "From: <sip:fluffy@example.org>;tag=2fb0dcc9\nCall-ID: 3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..\n",
        "CSeq: 1 MESSAGE\nContent-Type: multipart/mixed;boundary=7a9cbec02ceef655\nContent-Length: 256\n\n",
    ));
    bytes.extend(0..=u8::MAX);
    let Ok(Message::Request(message)) = parse(&bytes) else { panic!("no request") };
    assert!(message.body.iter().copied().eq(0..=u8::MAX));
    let mut printed = Vec::new();
    message.write(&mut printed);
    assert_eq!(parse(&printed), Ok(Message::Request(message)));
}

const RESPONSE_HEADERS: &str = concat!(
    "Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\nCall-ID: unreason.1234ksdfak3j2erwedfsASdf\n",
    "CSeq: 35 INVITE\nFrom: sip:user@example.com;tag=11141343\nTo: sip:user@example.edu;tag=2229\nContent-Length: 0\n\n",
);

#[test]
fn rfc4475_unreason_a_reason_phrase_is_any_text() {
    let phrase = "= 2**3 * 5**2 \u{43d}\u{43e} \u{441}\u{442}\u{43e}";
    let answer = response(&format!("SIP/2.0 200 {phrase}\n{RESPONSE_HEADERS}"));
    assert_eq!((answer.status.code(), answer.reason.as_str()), (200, phrase));
}

#[test]
fn rfc4475_noreason_a_reason_phrase_may_be_empty() {
    for line in ["SIP/2.0 100 ", "SIP/2.0 100"] {
        let answer = response(&format!("{line}\n{RESPONSE_HEADERS}"));
        assert_eq!((answer.status.code(), answer.reason.as_str()), (100, ""));
    }
}
