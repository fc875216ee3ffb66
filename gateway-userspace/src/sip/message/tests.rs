//! Whole messages: what is printed is read again, what is oversize or broken is refused, and nothing panics.

use super::*;
use crate::base::fault::Fault;
use proptest::prelude::*;
use std::net::SocketAddr;

/// An INVITE as a carrier sends it.
const INVITE: &str = concat!(
    "INVITE sip:+442079460123@192.0.2.20:5060;user=phone SIP/2.0\r\n",
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK74bf9;rport,SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa\r\n",
    "Max-Forwards: 69\r\n",
    "Record-Route: <sip:192.0.2.1;lr>\r\n",
    "From: \"Alice\" <sip:+441632960123@192.0.2.1;user=phone>;tag=9fxced76sl\r\n",
    "To: <sip:+442079460123@192.0.2.20;user=phone>\r\n",
    "Call-ID: 3848276298220188511@192.0.2.1\r\n",
    "CSeq: 2 INVITE\r\n",
    "Contact: <sip:192.0.2.1:5060>\r\n",
    "Supported: 100rel,timer\r\n",
    "P-Asserted-Identity: <tel:+441632960123>\r\n",
    "Content-Type: application/sdp\r\n",
    "Content-Length: 4\r\n",
    "\r\n",
    "v=0\n",
);

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 5070))
}

fn invite() -> Request {
    match parse(INVITE.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("no request: {other:?}"),
    }
}

/// The INVITE with `lines` put behind its start line.
fn invite_with(lines: &str) -> Vec<u8> {
    INVITE.replacen("\r\n", &format!("\r\n{lines}"), 1).into_bytes()
}

fn printed(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    bytes
}

fn fault_of(bytes: &[u8]) -> Fault {
    parse(bytes).expect_err("must be refused").fault
}

#[test]
fn a_message_prints_with_its_content_length_and_reads_as_it_was() {
    let message = Message::Request(invite());
    let bytes = printed(&message);
    assert!(bytes.ends_with(b"Content-Length: 4\r\n\r\nv=0\n"));
    assert_eq!(parse(&bytes), Ok(message));
}

#[test]
fn a_content_length_put_among_the_headers_does_not_print() {
    let mut request = invite();
    request.headers.push(HeaderName::ContentLength, "99");
    assert_eq!(printed(&Message::Request(request)), printed(&Message::Request(invite())));
}

#[test]
fn keepalives_before_a_message_are_skipped() {
    assert!(parse(format!("\r\n\r\n{INVITE}").as_bytes()).is_ok());
    for nothing in ["", "\r\n", "\r\n\r\n"] {
        assert_eq!(parse(nothing.as_bytes()).expect_err("nothing there").refusal, None);
    }
}

#[test]
fn a_datagram_without_content_length_holds_a_body_to_its_end() {
    let bytes = INVITE.replace("Content-Length: 4\r\n", "");
    assert_eq!(parse(bytes.as_bytes()).map(|message| message.body().to_vec()), Ok(b"v=0\n".to_vec()));
    let cut = INVITE.replace("Content-Length: 4", "Content-Length: 2");
    assert_eq!(parse(cut.as_bytes()).map(|message| message.body().to_vec()), Ok(b"v=".to_vec()));
}

#[test]
fn oversize_of_any_kind_is_answered_with_513_and_of_the_request_uri_with_414() {
    let long = "x".repeat(Limits::DEFAULT.header_line);
    let many = "X-Bomb: 1\r\n".repeat(Limits::DEFAULT.headers);
    let vias = "Via: SIP/2.0/UDP h;branch=z9hG4bKa\r\n".repeat(Limits::DEFAULT.vias);
    let routes = format!("Route: <sip:h>{}\r\n", ",<sip:h>".repeat(Limits::DEFAULT.list));
    let heavy = format!("X-Long: {}\r\n", "x".repeat(Limits::DEFAULT.header_line - 100)).repeat(5);
    for (what, lines) in [
        ("one long header", format!("X-Long: {long}\r\n")),
        (
            "one long folded header",
            format!("X-Long: {}\r\n", "x\r\n ".repeat(Limits::DEFAULT.header_line / 4)),
        ),
        ("many headers", many.clone()),
        ("many Vias", vias),
        ("many Routes", routes),
        ("many long headers", heavy),
    ] {
        let error = parse(&invite_with(&lines)).expect_err(what);
        assert_eq!(error.fault, Fault::MessageTooLarge, "{what}");
    }
    let uri = INVITE.replacen("+442079460123", &"1".repeat(Limits::DEFAULT.uri), 1);
    assert_eq!(fault_of(uri.as_bytes()), Fault::UriTooLong);
    let body = INVITE.replace("Content-Length: 4\r\n", "") + &"x".repeat(Limits::DEFAULT.body);
    assert_eq!(fault_of(body.as_bytes()), Fault::MessageTooLarge);
    let bombs = many.repeat(40);
    assert_eq!(fault_of(&invite_with(&bombs)), Fault::MessageTooLarge);
}

#[test]
fn a_bound_is_reached_before_it_is_passed() {
    let own = 12;
    let fits = "X-Bomb: 1\r\n".repeat(Limits::DEFAULT.headers - own);
    assert!(parse(&invite_with(&fits)).is_ok());
    let vias = "Via: SIP/2.0/UDP h;branch=z9hG4bKa\r\n".repeat(Limits::DEFAULT.vias - 2);
    assert!(parse(&invite_with(&vias)).is_ok());
}

/// An INVITE with one of its parts as long as `octets`.
fn sized(part: &str, octets: usize) -> Vec<u8> {
    let filled = |prefix: &str, suffix: &str| {
        format!("{prefix}{}{suffix}", "x".repeat(octets - prefix.len() - suffix.len()))
    };
    let letters = "x".repeat(octets);
    let line = |line: String| invite_with(&format!("{line}\r\n"));
    let instead = |old: &str, new: &str| INVITE.replacen(old, new, 1).into_bytes();
    match part {
        "message" => {
            let bare = invite_with("X-Fill: \r\nX-Fill: \r\n").len();
            let (one, other) = ("x".repeat(8_000), "x".repeat(octets - bare - 8_000));
            invite_with(&format!("X-Fill: {one}\r\nX-Fill: {other}\r\n"))
        }
        "body" => [
            INVITE.replace("Content-Length: 4", &format!("Content-Length: {octets}")).as_bytes(),
            letters.as_bytes(),
        ]
        .concat(),
        "Request-URI" => instead("sip:+442079460123@192.0.2.20:5060;user=phone", &filled("sip:a@h;p=", "")),
        "Contact URI" => {
            instead("Contact: <sip:192.0.2.1:5060>", &format!("Contact: <{}>", filled("sip:a@h;p=", "")))
        }
        "userinfo of From" => instead("sip:+441632960123@", &format!("sip:{letters}@")),
        "userinfo with password" => instead("sip:+441632960123@", &format!("sip:{}@", filled("user:", ""))),
        "userinfo of To" => instead("To: <sip:+442079460123@", &format!("To: <sip:{letters}@")),
        "userinfo of Route" => line(format!("Route: <sip:a@h>, <sip:{letters}@h;lr>")),
        "userinfo of an asserted identity" => line(format!("P-Asserted-Identity: <sip:{letters}@h>")),
        "userinfo of Refer-To" => line(format!("Refer-To: <sip:{letters}@h>")),
        "host of From" => instead("60123@192.0.2.1;user=phone>;tag", &format!("60123@{letters}>;tag")),
        "header name" => line(format!("{letters}: 1")),
        "media type" => instead("application/sdp", &filled("application/", "")),
        "Supported" => instead("100rel,timer", &filled(&"100rel,".repeat(33), "")),
        "Require" => line(format!(
            "Require: {}\r\nRequire: {}",
            "timer,".repeat(20),
            &"timer,".repeat(40)[..octets - 120]
        )),
        "Proxy-Require" => line(format!("Proxy-Require: {}", &"timer,".repeat(60)[..octets])),
        "option" => line(format!("Require: timer, {letters}")),
        other => panic!("no part {other}"),
    }
}

/// The limits that certified gateways have: each is reached, and passed by one octet.
#[test]
fn each_limit_of_size_is_kept_to_the_octet_and_answered_with_513_414_or_400() {
    let roomy = Limits { message: 1024 * 1024, ..Limits::DEFAULT };
    let table = [
        ("message", 10_240, 513, Limits::DEFAULT),
        ("body", 131_072, 513, roomy),
        ("Request-URI", 256, 414, Limits::DEFAULT),
        ("Contact URI", 256, 400, Limits::DEFAULT),
        ("userinfo of From", 256, 400, Limits::DEFAULT),
        ("userinfo with password", 256, 400, Limits::DEFAULT),
        ("userinfo of To", 256, 400, Limits::DEFAULT),
        ("userinfo of Route", 256, 400, Limits::DEFAULT),
        ("userinfo of an asserted identity", 256, 400, Limits::DEFAULT),
        ("userinfo of Refer-To", 256, 400, Limits::DEFAULT),
        ("host of From", 255, 400, Limits::DEFAULT),
        ("header name", 32, 400, Limits::DEFAULT),
        ("media type", 64, 400, Limits::DEFAULT),
        ("Supported", 256, 400, Limits::DEFAULT),
        ("Require", 256, 400, Limits::DEFAULT),
        ("Proxy-Require", 256, 400, Limits::DEFAULT),
        ("option", 32, 400, Limits::DEFAULT),
    ];
    for (part, limit, status, limits) in table {
        assert_eq!(parse_within(&sized(part, limit), &limits).map(|_| ()), Ok(()), "{part}");
        let error = parse_within(&sized(part, limit + 1), &limits).expect_err(part);
        assert_eq!(error.refusal.map(|refusal| refusal.status.code()), Some(status), "{part}");
        assert_eq!(
            parse_within(
                &sized(part, limit + 1),
                &Limits { body: 131_073, message: 1024 * 1024, ..Limits::WIDEST }
            )
            .map(|_| ()),
            Ok(()),
            "{part}"
        );
    }
    let long_userinfo = Limits { uri: 1_000, ..Limits::DEFAULT };
    let called = |octets| INVITE.replacen("sip:+442079460123@", &format!("sip:{}@", "1".repeat(octets)), 1);
    assert!(parse_within(called(256).as_bytes(), &long_userinfo).is_ok());
    assert_eq!(
        parse_within(called(257).as_bytes(), &long_userinfo).expect_err("long").fault,
        Fault::UriTooLong
    );
}

#[test]
fn a_response_is_held_to_no_limit_that_only_a_refusal_could_enforce() {
    let contact = format!("Contact: <{}>", "sip:a@h;p=".to_owned() + &"x".repeat(1_000));
    let answer = INVITE
        .replacen("INVITE sip:+442079460123@192.0.2.20:5060;user=phone SIP/2.0", "SIP/2.0 200 OK", 1)
        .replacen("Contact: <sip:192.0.2.1:5060>", &contact, 1);
    assert!(matches!(parse(answer.as_bytes()), Ok(Message::Response(_))));
    assert_eq!(
        fault_of(INVITE.replacen("Contact: <sip:192.0.2.1:5060>", &contact, 1).as_bytes()),
        Fault::ElementTooLong
    );
}

#[test]
fn control_octets_and_bare_line_ends_are_refused() {
    for (what, lines) in [
        ("NUL in a value", &b"Subject: a\0b\r\n"[..]),
        ("NUL in a name", b"Sub\0ject: a\r\n"),
        ("escape in a value", b"Subject: \x1b[2J\r\n"),
        ("escaped line feed", b"Subject: \"a\\\nb\"\r\n"),
        ("bare carriage return", b"Subject: a\rVia: b\r\n"),
        ("carriage return behind the colon", b"Subject:\r a\r\n"),
        ("carriage return before the colon", b"Subject\r: a\r\n"),
        ("carriage return at the end", b"Subject: a\r\r\n"),
        ("carriage return at the end of a folded line", b"Subject: a\r\r\n b\r\n"),
        ("line end before the colon", b"Subject\r\n : a\r\n"),
        ("bare line feed", b"Subject: a\nVia: b\r\n"),
        ("no colon", b"Subject a\r\n"),
        ("no name", b": a\r\n"),
        ("space before the name", b" Subject: a\r\n"),
        ("name of two words", b"Sub ject: a\r\n"),
    ] {
        let mut bytes = b"INVITE sip:a@h SIP/2.0\r\n".to_vec();
        bytes.extend_from_slice(lines);
        bytes.extend_from_slice(INVITE.split_once("\r\n").expect("a start line").1.as_bytes());
        let error = parse(&bytes).expect_err(what);
        assert_eq!(error.fault.status(), 400, "{what}");
    }
}

#[test]
fn broken_utf8_is_replaced_in_free_text_and_refused_elsewhere() {
    let with = |line: &[u8]| {
        let mut bytes =
            b"OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nTo: <sip:a@h>\r\n".to_vec();
        bytes.extend_from_slice(b"CSeq: 1 OPTIONS\r\nCall-ID: a\r\n");
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n\r\n");
        parse(&bytes)
    };
    let latin = with(b"From: J\xfcrgen <sip:j@h>;tag=1").expect("free text");
    let name = latin.head().from.display.as_ref().map(|name| name.text().into_owned());
    assert_eq!(name.as_deref(), Some("J\u{fffd}rgen"));
    assert!(with(b"From: <sip:j@h>;tag=1\r\nSubject: \xe2\x82").is_ok());
    assert!(with(b"From: <sip:j\xe2\x82@h>;tag=1").is_err());
    assert!(with(b"From: <sip:j@h>;tag=\xe2\x82").is_err());
}

#[test]
fn a_truncated_message_is_refused_at_every_length_but_the_whole() {
    for length in 0..INVITE.len() {
        let error = parse(&INVITE.as_bytes()[..length]).expect_err("truncated");
        if let Some(refusal) = error.refusal {
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        }
    }
}

#[test]
fn a_refusal_echoes_what_routes_it_and_says_where_the_request_came_from() {
    let broken = INVITE.replace("CSeq: 2 INVITE", "CSeq: 2 BYE");
    let refusal = parse(broken.as_bytes()).expect_err("broken").refusal.expect("a request is answered");
    assert_eq!(refusal.top_via.as_ref().and_then(|via| via.branch()), Some("z9hG4bK74bf9"));
    let mut bytes = Vec::new();
    refusal.write(source(), "own", &mut bytes);
    let Ok(Message::Response(response)) = parse(&bytes) else { panic!("the answer must be readable") };
    assert_eq!((response.status.code(), response.head.to.tag()), (400, Some("own")));
    assert_eq!(response.reason, "Bad Request (CSeq names another method)");
    assert_eq!(response.head.via.len(), 2);
    assert_eq!(response.head.via[0].received(), Some(source().ip()));
    assert_eq!(response.head.via[0].rport(), Some(Some(source().port())));
    assert_eq!(response.head.via[1].received(), None);
    assert_eq!(response.head.call_id, invite().head.call_id);
}

#[test]
fn a_refusal_with_an_unreadable_via_or_to_echoes_them_as_they_came() {
    let broken =
        INVITE.replace("SIP/2.0/UDP 192.0.2.1:5060;", "SIP/2.0/UDP 192.0.2.1;;").replace("To: <", "To: \"<");
    let refusal = parse(broken.as_bytes()).expect_err("broken").refusal.expect("a request is answered");
    assert_eq!(refusal.top_via, None);
    let mut bytes = Vec::new();
    refusal.write(source(), "own", &mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.contains("\r\nVia: SIP/2.0/UDP 192.0.2.1;;branch=z9hG4bK74bf9;rport,SIP/2.0/UDP 10.0.0.1"));
    assert!(text.contains("\r\nTo: \"<sip:+442079460123@192.0.2.20;user=phone>\r\n"));
}

#[test]
fn what_is_not_sip_or_has_no_via_or_is_too_large_to_echo_is_not_answered() {
    for text in [
        "GET / HTTP/1.1\r\nVia: 1.1 proxy\r\n\r\n",
        "\u{16}\u{3}\u{1}",
        "INVITE sip:a@h SIP/2.0\r\nTo: x\r\n\r\n",
    ] {
        assert_eq!(parse(text.as_bytes()).expect_err("no message").refusal, None, "{text}");
    }
    let vias = "Via: SIP/2.0/UDP h;branch=z9hG4bKa\r\n".repeat(200);
    assert_eq!(parse(&invite_with(&vias)).expect_err("too many").refusal, None);
}

#[test]
fn a_response_copies_what_section_8_2_6_2_names() {
    let mut request = invite();
    request.headers.push(HeaderName::Timestamp, "54");
    let trying = Response::to_request(&request, StatusCode::TRYING);
    assert_eq!(trying.headers.value(&HeaderName::Timestamp), Some("54"));
    assert!(trying.head.record_route.is_empty());
    let mut ringing = Response::to_request(&request, StatusCode::RINGING);
    ringing.head.to.set_tag("b");
    assert_eq!(ringing.head.record_route, request.head.record_route);
    assert_eq!((&ringing.head.via, &ringing.head.from), (&request.head.via, &request.head.from));
    assert_eq!((&ringing.head.call_id, &ringing.head.cseq), (&request.head.call_id, &request.head.cseq));
    assert_eq!(ringing.reason, "Ringing");
    let message = Message::Response(ringing);
    assert_eq!(parse(&printed(&message)), Ok(message));
}

#[test]
fn a_draft_becomes_a_request_by_its_via() {
    let uri: Uri = "sip:+442079460123@192.0.2.20".parse().expect("well-formed");
    let from = NameAddr::new("sip:a@192.0.2.1".parse().expect("well-formed")).with_tag("1");
    let mut draft = Draft::new(Method::Invite, uri.clone(), from, NameAddr::new(uri), "id@192.0.2.1", 7);
    draft.set_body("application/sdp", "v=0\r\n");
    let request = draft.finish(Via::new(ViaTransport::Udp, source().ip(), 5060, "x"));
    assert_eq!((request.head.cseq.to_string().as_str(), request.head.max_forwards), ("7 INVITE", Some(70)));
    assert_eq!(request.media_type(), Some(MediaType::Sdp));
    let message = Message::Request(request);
    assert_eq!(parse(&printed(&message)), Ok(message));
}

#[test]
fn nothing_put_into_a_message_can_begin_another_header() {
    let mut request = invite();
    request.head.call_id = "a\r\nX-Evil: 1".to_owned();
    request.headers.push(HeaderName::Subject, "b\r\n\r\nX-Evil: 2");
    request.headers.push(HeaderName::Other("X-A: 1\r\nX-Evil".into()), "3\n");
    let bytes = printed(&Message::Request(request));
    let text = String::from_utf8(bytes).expect("text");
    assert!(!text.contains("\nX-Evil"), "{text}");
}

#[test]
fn a_log_line_masks_numbers() {
    let request = invite();
    let response = Response::to_request(&request, StatusCode::BUSY_HERE);
    for line in
        [request.to_string(), format!("{request:?}"), response.to_string(), format!("{:?}", request.head)]
    {
        assert!(!line.contains("441632960123") && !line.contains("442079460123"), "{line}");
    }
    assert!(
        request.to_string().starts_with("INVITE sip:+*********123@192.0.2.20:5060 call=3848276298220188511@")
    );
}

#[test]
fn the_call_id_is_found_without_reading_the_rest() {
    for name in ["Call-ID", "call-id ", "i", "I\t", "CALL-ID:\r\n"] {
        let text = INVITE.replace("Call-ID:", &format!("{}:", name.trim_end_matches(":\r\n")));
        let text = if name.ends_with("\r\n") { text.replace("CALL-ID: ", "CALL-ID:\r\n ") } else { text };
        let found = shallow(text.as_bytes()).map(|found| found.as_bytes().to_vec());
        assert_eq!(found.as_deref(), Some(&b"3848276298220188511@192.0.2.1"[..]), "{name}");
    }
    assert_eq!(shallow(b"OPTIONS sip:a@h SIP/2.0\r\nX: 1\r\n\r\nCall-ID: body\r\n"), None);
    assert_eq!(shallow(b"OPTIONS sip:a@h SIP/2.0\r\nCall-ID: a b\r\n\r\n"), None);
    assert_eq!(shallow(b""), None);
}

/// The INVITE with some octets replaced, removed or repeated.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        proptest::sample::select(b"\r\n \t:;,<>\"\\@?=%[]/\0\x7f\xc3".as_slice()).prop_map(Some),
        any::<u8>().prop_map(Some),
        Just(None)
    ];
    proptest::collection::vec((0..INVITE.len(), octet, 1_usize..4), 0..6).prop_map(|changes| {
        let mut bytes = INVITE.as_bytes().to_vec();
        for (at, octet, times) in changes {
            let at = at.min(bytes.len().saturating_sub(1));
            let end = (at + times).min(bytes.len());
            bytes.splice(at..end, octet.into_iter().cycle().take(times));
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn octets_at_random_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
        let _ = shallow(&bytes);
    }

    #[test]
    fn a_mutated_message_is_refused_or_read_as_it_prints(bytes in mutated()) {
        match parse(&bytes) {
            Ok(message) => {
                let found = shallow(&bytes).map(|found| found.as_bytes().to_vec());
                prop_assert_eq!(found.as_deref(), Some(message.head().call_id.as_bytes()));
                prop_assert_eq!(parse(&printed(&message)), Ok(message));
            }
            Err(error) => {
                let mut answer = Vec::new();
                if let Some(refusal) = error.refusal {
                    refusal.write(source(), "own", &mut answer);
                    prop_assert!(answer.len() < bytes.len() + 512);
                }
            }
        }
    }

    #[test]
    fn text_at_random_never_panics_in_any_value(text in "\\PC{0,40}", marks in "[\"<>;,:@?%=\\[\\]\\\\a-c0-2 ]{0,30}") {
        for text in [text, marks] {
            if let Ok(uri) = text.parse::<Uri>() {
                prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
            }
            if let Ok(address) = text.parse::<NameAddr>() {
                prop_assert_eq!(address.to_string().parse::<NameAddr>(), Ok(address));
            }
            let _ = format!("SIP/2.0/UDP {text}").parse::<Via>();
            let _ = CSeq::parse(&text);
            let _ = Method::from_token(&text);
            let mut headers = Headers::default();
            headers.push(HeaderName::ContentType, text);
            let _ = content::media_type(&headers, b"x");
        }
    }
}

/// rsip reads single canonical values behind this door and nowhere else.
#[test]
fn no_other_room_names_rsip() {
    fn visit(directory: &std::path::Path, named: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("a readable source directory") {
            let path = entry.expect("a readable source directory").path();
            if path.is_dir() {
                visit(&path, named);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && std::fs::read_to_string(&path).expect("a readable source file").contains("rsip::")
            {
                named.push(path);
            }
        }
    }
    let mut named = Vec::new();
    visit(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut named);
    named.retain(|path| !path.components().any(|part| part.as_os_str() == "message"));
    assert_eq!(named, Vec::<std::path::PathBuf>::new());
}
