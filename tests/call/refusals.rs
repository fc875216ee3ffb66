//! Requests that become no call.

use support::stage::phone::Reaction::Say;
use support::stage::scene::{ALICE, BOB as BOB_PHONE, MALLORY, Scene, Stage};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.11\r\ns=-\r\nc=IN IP4 198.51.100.11\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 8\r\n";

/// A request as it stands on the wire; `lines` are further headers.
fn request(method: &str, uri: &str, to_tag: &str, lines: &str, body: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-Alice-raw-{method}\r\n\
         From: <sip:+441632960123@198.51.100.10>;tag=tag-Alice-raw\r\nTo: <{uri}>{to_tag}\r\nCall-ID: call-Alice-raw\r\n\
         CSeq: 1 {method}\r\nContact: <sip:Alice@198.51.100.10:5060>\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const BOB: &str = "sip:+12025550147@192.0.2.1";
const FORWARDS: &str = "Max-Forwards: 70\r\n";

/// The first answer to what Alice says, the ACK left out.
fn answer_to(text: &str) -> (String, Scene) {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.says(ALICE, text);
    scene.run(100);
    let mut answers = scene.ladder.iter().filter_map(|line| line.split(" → Alice: ").nth(1));
    (answers.next().unwrap_or_default().to_owned(), scene)
}

fn invite(lines: &str, body: &str) -> String {
    request("INVITE", BOB, "", lines, body)
}

// Statements 223, 224, 225, 226.
#[test]
fn requests_that_cannot_be_served_are_refused_by_the_code_that_says_why() {
    let sdp = "Max-Forwards: 70\r\nContent-Type: application/sdp\r\n";
    let video = SDP.replace("m=audio", "m=video");
    let unknown = SDP.replace("AVP 8\r\n", "AVP 77\r\na=rtpmap:77 LYRA/16000\r\n");
    let table = [
        (
            "no hops left",
            invite("Max-Forwards: 0\r\nContent-Type: application/sdp\r\n", SDP),
            "483 to INVITE 1",
        ),
        (
            "an extension",
            invite("Max-Forwards: 70\r\nRequire: foo\r\nContent-Type: application/sdp\r\n", SDP),
            "420 to INVITE 1",
        ),
        (
            "another content",
            invite("Max-Forwards: 70\r\nContent-Type: text/plain\r\n", "hello"),
            "415 to INVITE 1",
        ),
        (
            "an answer that must not be SDP",
            invite("Max-Forwards: 70\r\nAccept: application/isup\r\nContent-Type: application/sdp\r\n", SDP),
            "406 to INVITE 1",
        ),
        (
            "a part that must be understood",
            invite(
                "Max-Forwards: 70\r\nContent-Type: multipart/mixed;boundary=b\r\n",
                "--b\r\nContent-Type: application/isup\r\n\r\nx\r\n--b--\r\n",
            ),
            "415 to INVITE 1",
        ),
        ("broken SDP", invite(sdp, "v=0\r\nthis is no session\r\n"), "400 to INVITE 1"),
        ("no audio", invite(sdp, &video), "488 to INVITE 1"),
        (
            "a scheme that is no telephone",
            request("INVITE", "http://example.com/", "", sdp, SDP),
            "416 to INVITE 1",
        ),
        ("a number without a route", request("INVITE", "sip:+99@192.0.2.1", "", sdp, SDP), "404 to INVITE 1"),
        (
            "nowhere to reach the caller",
            invite(sdp, SDP).replace("Contact:", "X-Contact:"),
            "400 to INVITE 1",
        ),
        ("an unknown dialog", request("INVITE", BOB, ";tag=nobody", sdp, SDP), "481 to INVITE 1"),
        ("a BYE of nothing", request("BYE", BOB, ";tag=nobody", FORWARDS, ""), "481 to BYE 1"),
        ("a BYE outside any dialog", request("BYE", BOB, "", FORWARDS, ""), "481 to BYE 1"),
        ("a CANCEL of nothing", request("CANCEL", BOB, "", FORWARDS, ""), "481 to CANCEL 1"),
        ("a method of others", request("PUBLISH", BOB, "", FORWARDS, ""), "405 to PUBLISH 1"),
        (
            "a subscription to what we do not have",
            request("SUBSCRIBE", BOB, "", "Max-Forwards: 70\r\nEvent: dialog\r\n", ""),
            "489 to SUBSCRIBE 1",
        ),
        ("a message", request("MESSAGE", BOB, "", FORWARDS, ""), "405 to MESSAGE 1"),
        ("a method that nobody knows", request("FROBNICATE", BOB, "", FORWARDS, ""), "405 to FROBNICATE 1"),
        ("a question whether we are there", request("OPTIONS", BOB, "", FORWARDS, ""), "200 to OPTIONS 1"),
    ];
    for (what, text, expected) in table {
        let (answer, scene) = answer_to(&text);
        assert_eq!(answer, expected, "{what}");
        let allows = scene.tap().last_sent().contains("\r\nAllow: INVITE,");
        assert!(allows || !expected.starts_with("405"), "{what}: a 405 says what is allowed");
        assert_eq!(scene.calls(), 0, "{what}");
        assert!(scene.ends().records.is_empty(), "{what}");
    }
    let (answer, scene) = answer_to(&invite(sdp, &unknown));
    // An encoding that nobody here knows may still be common to both sides.
    assert_eq!(answer, "100 to INVITE 1");
    drop(scene);
}

// Statement 225.
#[test]
fn optional_parts_beside_the_session_are_ignored() {
    let body = format!(
        "--b\r\nContent-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\nx\r\n\
         --b\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b--\r\n"
    );
    let lines = "Max-Forwards: 70\r\nAccept: text/plain, application/*;q=0.5\r\n\
                 Content-Type: multipart/mixed;boundary=b\r\n";
    let (answer, scene) = answer_to(&invite(lines, &body));
    assert_eq!(answer, "100 to INVITE 1");
    let to_bob =
        scene.tap().sent().find(|text| text.starts_with("INVITE ")).expect("the call goes on").to_owned();
    assert!(to_bob.contains("\r\nContent-Type: application/sdp\r\n") && !to_bob.contains("isup"), "{to_bob}");
}

// Statement 224.
#[test]
fn a_refused_extension_is_named_in_unsupported() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.says(
        ALICE,
        &invite("Max-Forwards: 70\r\nRequire: foo, bar\r\nContent-Type: application/sdp\r\n", SDP),
    );
    scene.run(100);
    let said = scene.tap().last_sent();
    assert!(said.contains("Unsupported: foo, bar\r\n"), "{said}");
    scene.ends();
}

#[test]
fn an_unknown_source_gets_silence_and_is_counted() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.says(MALLORY, &invite("Max-Forwards: 70\r\nContent-Type: application/sdp\r\n", SDP));
    scene.says(MALLORY, &request("OPTIONS", BOB, "", FORWARDS, ""));
    scene.says(MALLORY, "INVITE what is this\r\n\r\n");
    scene.run(5_000);
    assert_eq!(scene.ladder.len(), 3, "{:?}", scene.ladder);
    assert_eq!(scene.total("causeway_sources_silenced"), 3);
    assert!(scene.ends().records.is_empty());
}

#[test]
fn what_cannot_be_read_is_answered_if_it_is_enough_of_a_request() {
    let broken = invite("Max-Forwards: many\r\n", "");
    assert_eq!(answer_to(&broken).0, "400 to INVITE 1");
    let (answer, scene) = answer_to("\0\0\0\0");
    assert_eq!((answer.as_str(), scene.ladder.len()), ("", 1));
}

// Statement 226.
#[test]
fn an_invite_of_ours_that_comes_back_is_a_loop_unless_it_calls_another_number() {
    for (called, answer, calls) in [("+12025550147", 482, 1), ("+441632960199", 100, 2)] {
        let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
        scene.bob().on_invite = vec![(60_000, Say(486))];
        scene.alice_calls();
        scene.run(1_000);
        let ours =
            scene.tap().sent().find(|text| text.starts_with("INVITE ")).expect("it went to Bob").to_owned();
        // Bob is a proxy that sends it on: to where it came from.
        let via =
            "\r\nVia: SIP/2.0/UDP 198.18.0.20:5060;branch=z9hG4bK-Bob-loop\r\nVia: SIP/2.0/UDP 203.0.113.1";
        let back = ours.replacen("\r\nVia: SIP/2.0/UDP 203.0.113.1", via, 1);
        assert_ne!(back, ours);
        scene.says(BOB_PHONE, &back.replacen("+12025550147", called, 1));
        scene.run(30);
        let line = format!("causeway → Bob: {answer} to INVITE");
        assert!(scene.ladder.iter().any(|have| have.contains(&line)), "{}", scene.ladder.join("\n"));
        assert_eq!(scene.calls(), calls);
    }
}

// Statement 226.
#[test]
fn an_invite_that_comes_by_two_ways_is_one_call() {
    let text = invite("Max-Forwards: 70\r\nContent-Type: application/sdp\r\n", SDP);
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.says(ALICE, &text);
    scene.run(20);
    scene.says(ALICE, &text.replace("branch=z9hG4bK-Alice-raw", "branch=z9hG4bK-Alice-other"));
    scene.run(20);
    assert!(
        scene.ladder.last().is_some_and(|line| line.ends_with("→ Alice: 482 to INVITE 1")),
        "{:?}",
        scene.ladder
    );
    assert_eq!(scene.calls(), 1);
    // Nobody acknowledges the 200 of the one that is carried.
    assert_eq!(scene.ends().records.len(), 1);
}

#[test]
fn the_same_request_again_gets_the_same_answer() {
    let text = request("OPTIONS", BOB, "", FORWARDS, "");
    let mut scene = Scene::new(Stage::default());
    for _ in 0..3 {
        scene.says(ALICE, &text);
        scene.run(200);
    }
    let answers: Vec<_> =
        scene.ladder.iter().filter(|line| line.contains("→ Alice: 200 to OPTIONS 1")).collect();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers.iter().filter(|line| line.ends_with("again")).count(), 2);
    scene.ends();
}
