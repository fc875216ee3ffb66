//! The services of RFC 5359 section 2, as far as they go by a back-to-back user agent. Alice and Dave are the
//! operator's, Bob and Carol the service's.
//!
//! Not here: 2.3 asks the holding phone for music, which is `hold.rs`; 2.6 is of instant messages; 2.12 to 2.14 and 2.17
//! are decided by proxies and phones, and are calls like others to Causeway, as the two of 2.10 are, which a phone mixes.
//! Joining a conference by the Join header (2.11) is refused: Causeway mixes nothing.

use super::services::toward;
use gateway_userspace::policy::Service;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, ALICES_NUMBER, BOB, CAROL, DAVE, Outcome, Scene, Stage};
use support::stage::session::Session;

const TRYING: &str = "SIP/2.0 100 Trying (active)";
const RINGING: &str = "SIP/2.0 180 Ringing (active)";
const OK: &str = "SIP/2.0 200 OK (terminated)";

/// Trunks that take REFER, Dave let in, and no media security.
fn stage() -> Stage {
    let operator = |trunk: &mut gateway_userspace::policy::Trunk| {
        trunk.allowed = vec!["198.51.100.0/24".parse().expect("a network")];
    };
    let service = |trunk: &mut gateway_userspace::policy::Trunk| {
        toward(trunk, Service::Teams);
        trunk.media.security.security = gateway_userspace::sdp::MediaSecurity::Off;
    };
    Stage { operator, service, ..Stage::default() }
}

fn talking() -> Scene {
    let mut scene = Scene::new(stage());
    scene.talk();
    scene
}

fn ends_by(mut scene: Scene, phone: usize) -> Outcome {
    scene.hangs_up(phone);
    scene.run(1_000);
    scene.ends()
}

fn directed(scene: &mut Scene, phone: usize, direction: &'static str) {
    let session = scene.phones[phone].session.directed(direction);
    scene.reinvites(phone, session);
    scene.run(1_000);
}

/// Where media of both goes: `None` for nowhere.
fn audio(scene: &Scene) -> [Option<String>; 2] {
    let mut audio = scene.audio();
    audio.sort();
    audio
}

/// RFC 5359 section 2.1.
#[test]
fn s2_1_call_hold() {
    let mut scene = talking();
    directed(&mut scene, BOB, "sendonly");
    directed(&mut scene, BOB, "sendrecv");
    assert_eq!(scene.phones[BOB].answers, ["INVITE 200", "INVITE 200"]);
    assert!(scene.audio().iter().all(Option::is_some));
    insta::assert_snapshot!(ends_by(scene, BOB).ladder);
}

/// RFC 5359 section 2.2: Alice asks Carol something while Bob waits.
#[test]
fn s2_2_consultation_hold() {
    let mut scene = talking();
    directed(&mut scene, ALICE, "inactive");
    scene.bob().on_invite = vec![(50, Say(503))];
    scene.alice().session = Session::at("198.51.100.11", 4_010);
    scene.alice_calls();
    scene.run(3_000);
    assert!(scene.phones[CAROL].is_talking() && scene.calls() == 2);
    // The consultation ends, and the first call is taken up again.
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert!(!scene.phones[CAROL].is_talking() && scene.phones[BOB].is_talking());
    scene.alice().session = Session::at("198.51.100.11", 4_000);
    directed(&mut scene, ALICE, "sendrecv");
    assert_eq!(audio(&scene), [Some("198.18.0.21:4000".into()), Some("198.51.100.11:4000".into())]);
    insta::assert_snapshot!(ends_by(scene, ALICE).ladder);
}

/// RFC 5359 section 2.4.
#[test]
fn s2_4_unattended_transfer() {
    let mut scene = talking();
    directed(&mut scene, BOB, "sendonly");
    scene.refers(BOB, "<sip:198.18.0.30:5060;x-m=carol>");
    scene.run(3_000);
    assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(audio(&scene), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    insta::assert_snapshot!(ends_by(scene, CAROL).ladder);
}

/// RFC 5359 section 2.5.
#[test]
fn s2_5_attended_transfer() {
    let mut scene = talking();
    directed(&mut scene, ALICE, "sendonly");
    let first = scene.replaces(ALICE);
    scene.bob().on_invite = vec![(50, Say(503))];
    scene.alice().session = Session::at("198.51.100.11", 4_010);
    scene.alice_calls();
    scene.run(3_000);
    let escaped = first.replace('@', "%40").replace(';', "%3B").replace('=', "%3D").replace(':', "%3A");
    scene.refers(ALICE, &format!("<sip:+12025550147@192.0.2.1?Replaces={escaped}>"));
    scene.run(3_000);
    assert_eq!(scene.told(ALICE), [TRYING, OK]);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert_eq!(audio(&scene), [Some("198.18.0.21:4000".into()), Some("198.18.0.31:4000".into())]);
    insta::assert_snapshot!(ends_by(scene, BOB).ladder);
}

/// RFC 5359 section 2.7: Bob's proxy forwards, and says so by 181.
#[test]
fn s2_7_call_forwarding_unconditional() {
    let mut scene = Scene::new(stage());
    scene.bob().on_invite = vec![(20, Say(181)), (200, Say(180)), (1_000, Describe(200))];
    scene.talk();
    assert_eq!(scene.phones[ALICE].came("SIP/2.0 181").count(), 1);
    insta::assert_snapshot!(ends_by(scene, ALICE).ladder);
}

/// RFC 5359 sections 2.8 and 2.9: whoever is called at last stands behind the same proxy, with a tag of his own.
#[test]
fn s2_8_and_2_9_call_forwarding_on_busy_and_on_no_answer() {
    use support::stage::phone::Reaction::Branch;
    let mut scene = Scene::new(stage());
    scene.bob().on_invite = vec![
        (50, Branch(1, 180, false)),
        (3_000, Say(181)),
        (3_100, Branch(2, 180, false)),
        (4_000, Branch(2, 200, true)),
    ];
    scene.talk();
    let tags =
        |text: &&str| text.lines().find_map(|line| line.strip_prefix("To: ")).unwrap_or_default().to_owned();
    let mut heard: Vec<_> = scene.phones[ALICE]
        .inbox
        .iter()
        .map(String::as_str)
        .filter(|text| !text.contains(" 100 "))
        .map(|text| tags(&text))
        .collect();
    heard.dedup();
    assert_eq!(heard.len(), 1, "Alice has one dialog: {heard:?}");
    insta::assert_snapshot!(ends_by(scene, ALICE).ladder);
}

/// RFC 5359 section 2.11: Join is not spoken, and who requires it is told so.
#[test]
fn s2_11_who_requires_to_join_a_call_is_refused_with_420() {
    let mut scene = talking();
    scene.carol().calls_with = "Require: join\r\nJoin: 1@none;to-tag=a;from-tag=b\r\n";
    let now = scene.now;
    scene.carol().call(now, ALICES_NUMBER, true);
    scene.run(1_000);
    assert_eq!(scene.phones[CAROL].answers, ["INVITE 420"]);
    assert!(scene.phones[CAROL].came("SIP/2.0 420").all(|text| text.contains("Unsupported: join")));
    ends_by(scene, ALICE);
}

/// RFC 5359 section 2.15: Alice is parked at Carol, who plays the park server, and Bob takes her back.
#[test]
fn s2_15_call_park() {
    let mut scene = talking();
    scene.refers(BOB, "<sip:198.18.0.30:5060;park=1>");
    scene.run(3_000);
    scene.hangs_up(BOB);
    scene.run(1_000);
    let parked = scene.replaces(CAROL);
    scene.replaces_with(BOB, ALICES_NUMBER, &parked, "Require: replaces\r\n");
    scene.run(3_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 200"));
    assert_eq!(scene.requests_to(CAROL, "BYE").len(), 1);
    assert_eq!(audio(&scene), [Some("198.18.0.21:4000".into()), Some("198.51.100.11:4000".into())]);
    assert_eq!(scene.calls(), 1);
    insta::assert_snapshot!(ends_by(scene, BOB).ladder);
}

/// RFC 5359 section 2.16.
#[test]
fn s2_16_call_pickup() {
    let mut scene = Scene::new(stage());
    scene.bob().on_invite = vec![(50, Say(180))];
    scene.alice_calls();
    scene.run(1_000);
    let ringing = scene.early(BOB);
    scene.replaces_with(CAROL, ALICES_NUMBER, &format!("{ringing};early-only"), "Require: replaces\r\n");
    scene.run(3_000);
    assert_eq!(scene.phones[CAROL].answers, ["INVITE 200"]);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200"]);
    assert_eq!(scene.requests_to(BOB, "CANCEL").len(), 1);
    insta::assert_snapshot!(ends_by(scene, CAROL).ladder);
}

/// RFC 5359 section 2.18: a controller has Alice's phone call, by a REFER inside the call that it made to her.
#[test]
fn s2_18_click_to_dial() {
    let mut scene = talking();
    scene.refers(ALICE, "<sip:dave@198.51.100.20:5060>");
    scene.run(4_000);
    assert_eq!(scene.told(ALICE), [TRYING, RINGING, OK]);
    assert!(scene.phones[DAVE].is_talking());
    scene.hangs_up(ALICE);
    scene.run(1_000);
    insta::assert_snapshot!(ends_by(scene, DAVE).ladder);
}
