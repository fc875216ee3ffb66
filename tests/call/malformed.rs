//! What is wrong in messages that are really sent, and in printed examples of services: it harms nothing, and is never
//! passed on as it is.

use super::services::teams;
use gateway_userspace::base::fault::Fault;
use gateway_userspace::policy::{Service, Trunk};
use gateway_userspace::sip::message::{HeaderName, Message, NameAddr, parse};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.18.0.21\r\ns=-\r\nc=IN IP4 198.18.0.21\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 9 0 8 Bearer 13\r\n";

/// With the curly quotes and unescaped semicolons of a printed example, and a cause that no one has.
const HISTORY: &str = "History-Info: <sip:+14255550101@198.18.0.20;user=phone?Reason=SIP;cause=302;text=\u{201c}Moved \
    Temporarily\u{201d}>;index=1\r\nHistory-Info: <sip:+441632960123@198.18.0.20;user=phone?Privacy=history&Reason=SIP;\
    cause=4960;text=\u{201c}Busy\u{201d}>;index=1.1\r\n";

const FROM: &str = "<sip:+12025550147@198.18.0.20>;tag=tag-Bob-raw";

fn message(start: &str, from: &str, cseq: &str, lines: &str, body: &str) -> String {
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 198.18.0.20:5060;branch=z9hG4bK-Bob-raw\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: <sip:+441632960123@203.0.113.1>\r\nCall-ID: call-Bob-raw\r\nCSeq: {cseq}\r\n\
         Contact: <sip:198.18.0.20:5060>\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What Bob's text is answered with, and that everything that we sent is a message by the letter.
fn said(text: &str) -> (Vec<String>, Scene) {
    let operator = |trunk: &mut Trunk| *trunk = trunk.clone().toward(Service::Operator);
    let mut scene = Scene::new(Stage { operator, phones_may_complain: true, ..teams() });
    scene.says(BOB, text);
    scene.run(3_000);
    for sent in scene.tap().sent() {
        assert!(sent.is_ascii() && parse(sent.as_bytes()).is_ok(), "{sent}");
    }
    let statuses = scene.phones[BOB].inbox.iter().filter_map(|text| text.strip_prefix("SIP/2.0 "));
    let statuses = statuses.map(|text| text[..3].to_owned()).collect();
    (statuses, scene)
}

// Statement 240.
#[test]
fn examples_that_no_grammar_allows_are_refused_or_unheard_and_leave_nothing() {
    let open = FROM.replace('>', "");
    let options = "OPTIONS sip:203.0.113.1 SIP/2.0";
    let blank = options.replace("SIP/", "SIP /");
    let table: [(&str, String, &[&str]); 4] = [
        ("a CSeq of another method", message(options, FROM, "1 INVITE", "", ""), &["400"]),
        ("a blank in the version", message(&blank, FROM, "1 OPTIONS", "", ""), &[]),
        ("a blank in a response", message("SIP /2.0 200 OK", FROM, "1 OPTIONS", "", ""), &[]),
        ("From without its bracket", message(options, &open, "1 OPTIONS", "", ""), &["400"]),
    ];
    for (what, text, expected) in table {
        let (statuses, scene) = said(&text);
        assert_eq!(statuses, expected, "{what}");
        assert_eq!(scene.calls(), 0);
        scene.ends();
    }
}

// Statements 89, 240.
#[test]
fn an_invite_with_a_stray_word_among_its_formats_and_a_history_as_printed_is_a_call_and_leaves_in_valid_form()
{
    let lines = format!("{HISTORY}Content-Type: application/sdp\r\n");
    let start = "INVITE sip:+441632960123@203.0.113.1:5060 SIP/2.0";
    let (statuses, mut scene) = said(&message(start, FROM, "1 INVITE", &lines, SDP));
    assert!(statuses.contains(&"200".to_owned()), "{statuses:?}");
    let invite = scene.phones[ALICE].came("INVITE ").next().expect("a call").to_owned();
    assert!(!invite.contains("Bearer"), "{invite}");
    let Ok(Message::Request(request)) = parse(invite.as_bytes()) else { panic!("{invite}") };
    let mut entries = Vec::new();
    for value in request.headers.values(&HeaderName::HistoryInfo) {
        NameAddr::parse_list(value, &mut entries).expect("a list of addresses");
    }
    assert!(!entries.is_empty(), "{invite}");
    for entry in &entries {
        assert!(entry.param("index").is_some(), "{entry}");
        let headers = entry.uri.as_sip().and_then(|uri| uri.headers.clone()).unwrap_or_default();
        assert!(!headers.contains([';', '"']), "{entry}");
    }
    scene.hang_up_call(Fault::HungUp);
    scene.run(1_000);
}
