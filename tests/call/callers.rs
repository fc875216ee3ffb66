//! Trunks that ask callers who they are.

use gateway_userspace::policy::Trunk;
use gateway_userspace::sip::auth::{Algorithm, Challenger, Credentials, Password};
use gateway_userspace::sip::message::{Draft, HeaderName, Message, Method, NameAddr, parse};
use std::time::Duration;
use support::stage::scene::{ALICE, BOB, MALLORY, Scene, Stage};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.11\r\ns=-\r\nc=IN IP4 198.51.100.11\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 8\r\n";
const TARGET: &str = "sip:+12025550147@192.0.2.1:5060";

fn asking(trunk: &mut Trunk) {
    trunk.callers = Some(Challenger {
        realm: "gateway.example".into(),
        users: vec![("pbx".into(), Password::new("Circle of Life"))],
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        lifetime: Duration::from_secs(300),
    });
}

fn scene() -> Scene {
    Scene::new(Stage {
        operator: asking,
        phones_may_complain: true,
        emergency_numbers: &["112"],
        ..Stage::default()
    })
}

fn invite(uri: &str, sequence: u32, lines: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-Alice-c{sequence}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:+441632960123@198.51.100.10>;tag=tag-Alice-c\r\nTo: <{uri}>\r\n\
         Call-ID: call-Alice-c\r\nCSeq: {sequence} INVITE\r\nContact: <sip:Alice@198.51.100.10:5060>\r\n{lines}\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
}

fn acknowledge(sequence: u32) -> String {
    invite(TARGET, sequence, "")
        .replace("INVITE", "ACK")
        .replace(SDP, "")
        .replace("Content-Type: application/sdp\r\n", "")
        .replace(&format!("Content-Length: {}", SDP.len()), "Content-Length: 0")
}

/// What answers the last 401 of Alice's.
fn answer(scene: &Scene, password: &str) -> String {
    let asked = scene.phones[ALICE].came("SIP/2.0 401").last().expect("a challenge").to_owned();
    let Ok(Message::Response(response)) = parse(asked.as_bytes()) else { panic!("{asked}") };
    let address = || NameAddr::new("sip:a@h".parse().expect("a URI"));
    let mut draft = Draft::new(Method::Invite, TARGET.parse().expect("a URI"), address(), address(), "1", 1);
    let credentials = Credentials {
        realm: "gateway.example".into(),
        user: "pbx".into(),
        password: Password::new(password),
        md5: false,
    };
    assert!(credentials.answer(&response, &mut draft, "c"), "{asked}");
    let line = draft.headers.value(&HeaderName::Authorization).expect("an answer");
    format!("Authorization: {line}\r\n")
}

fn statuses(scene: &Scene) -> Vec<&str> {
    scene.phones[ALICE].came("SIP/2.0 ").map(|text| &text[8..11]).filter(|status| *status != "100").collect()
}

#[test]
fn a_caller_that_answers_the_challenge_is_put_through_and_the_callee_hears_nothing_of_it() {
    let mut scene = scene();
    scene.says(ALICE, &invite(TARGET, 1, ""));
    scene.run(100);
    assert_eq!((statuses(&scene), scene.calls()), (vec!["401"], 0));
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 0, "nobody rings before");
    scene.says(ALICE, &acknowledge(1));
    let lines = answer(&scene, "Circle of Life");
    scene.says(ALICE, &invite(TARGET, 2, &lines));
    scene.run(30);
    // A copy of it is no second use of the nonce.
    scene.says(ALICE, &invite(TARGET, 2, &lines));
    scene.run(1_500);
    assert_eq!(statuses(&scene)[1..], ["180", "200"], "{}", scene.ladder.join("\n"));
    assert!(
        scene.phones[BOB].inbox.iter().all(|text| !text.contains("Authorization") && !text.contains("pbx"))
    );
    // The same answer again is out of date: somebody may have overheard it.
    scene.says(ALICE, &invite(TARGET, 3, &lines).replace("call-Alice-c", "call-Alice-d"));
    scene.run(100);
    let last = scene.phones[ALICE].came("SIP/2.0 401").last().expect("another challenge").to_owned();
    assert!(last.contains("stale=true"), "{last}");
    assert_eq!(scene.total("causeway_authentications_failed"), 0);
    scene.hang_up_call(gateway_userspace::base::fault::Fault::HungUp);
    scene.run(40_000);
}

#[test]
fn a_wrong_password_is_refused_counted_and_leaves_nothing_behind() {
    let mut scene = scene();
    scene.says(ALICE, &invite(TARGET, 1, ""));
    scene.run(100);
    let lines = answer(&scene, "Circle of Death");
    scene.says(ALICE, &invite(TARGET, 2, &lines));
    scene.run(100);
    assert_eq!(statuses(&scene), ["401", "403"]);
    let refused = scene.phones[ALICE].came("SIP/2.0 403").next().expect("a refusal").to_owned();
    assert!(!refused.contains("Authenticate") && !refused.contains("pbx"), "{refused}");
    assert_eq!(scene.total("causeway_authentications_failed"), 1);
    assert_eq!(scene.calls(), 0);
    scene.ends();
}

#[test]
fn an_emergency_call_is_not_asked_and_a_stranger_gets_silence() {
    let mut scene = scene();
    scene.says(ALICE, &invite("sip:112@192.0.2.1", 1, ""));
    scene.says(
        MALLORY,
        &invite(TARGET, 1, "").replace("198.51.100.10", "100.64.0.9").replace("Alice", "Mallory"),
    );
    scene.run(100);
    assert!(!statuses(&scene).contains(&"401"), "{:?}", statuses(&scene));
    assert!(scene.phones[MALLORY].inbox.is_empty());
    scene.run(40_000);
}
