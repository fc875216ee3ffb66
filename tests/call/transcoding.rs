//! Sides that speak different codecs, or have their keys in different ways: what is offered, what is answered, and when the
//! media of a call is more than a relay.

use gateway_userspace::base::id::Side;
use gateway_userspace::media::KeyTransport;
use gateway_userspace::media::plan::Bridged;
use gateway_userspace::policy::Trunk;
use gateway_userspace::rtp::Encoding;
use gateway_userspace::sdp::Transcoding;
use gateway_userspace::signal::dtmf::Key;
use gateway_userspace::signal::dtmf::body::Press;
use std::time::Duration;
use support::stage::phone::Reaction::{Branch, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::formats_of;

fn willing(trunk: &mut Trunk) {
    trunk.media.transcoding = Transcoding::WhenNeeded;
}

/// A service whose peers speak G.722 and PCMA.
fn of_the_service(trunk: &mut Trunk) {
    willing(trunk);
    trunk.media.codecs = Some(vec![Encoding::Pcmu, Encoding::G722, Encoding::Pcma]);
}

fn stage() -> Stage {
    Stage { operator: willing, service: of_the_service, ..Stage::default() }
}

const PCMU: &[(u8, &str)] = &[(0, "PCMU/8000"), (101, "telephone-event/8000")];
const G722: &[(u8, &str)] = &[(9, "G722/8000"), (101, "telephone-event/8000")];

fn between(stage: Stage, alice: &[(u8, &'static str)], bob: &[(u8, &'static str)]) -> Scene {
    let mut scene = Scene::new(stage);
    scene.alice().session.formats = alice.to_vec();
    scene.bob().session.formats = bob.to_vec();
    scene
}

fn bridged(scene: &Scene) -> Option<Bridged> {
    scene.flows.media_of(Side::Caller)?.bridge.as_ref().map(|bridge| bridge.why)
}

fn names(sdp: &str) -> Vec<String> {
    formats_of(sdp).into_iter().map(|(number, name)| format!("{number} {name}")).collect()
}

/// What the answer to Alice's INVITE names.
fn answered(scene: &mut Scene) -> Vec<String> {
    let ok = scene.phones[ALICE].came("SIP/2.0 200").find(|text| text.contains("INVITE")).expect("an answer");
    names(ok)
}

// Statement 153.
#[test]
fn peers_without_a_common_codec_are_each_answered_in_their_own() {
    let mut scene = between(stage(), PCMU, G722);
    scene.talk();
    let offer = scene.phones[BOB].came("INVITE ").next().expect("an INVITE").to_owned();
    assert_eq!(names(&offer), ["0 PCMU/8000", "9 G722/8000", "8 PCMA/8000", "101 telephone-event/8000"]);
    assert_eq!(answered(&mut scene), ["0 PCMU/8000", "101 telephone-event/8000"]);
    assert_eq!(bridged(&scene), Some(Bridged::Codec));
    let spec = scene.flows.media_of(Side::Callee).and_then(|flow| flow.bridge.clone()).expect("a bridge");
    assert_eq!((spec.caller.speech_to, spec.callee.speech_to), (0, 9));
    scene.hangs_up(ALICE);
    let outcome = scene.ends();
    let record = &outcome.records[0];
    assert_eq!(record.caller_codec.as_deref(), Some("PCMU/8000"));
    assert_eq!(record.callee_codec.as_deref(), Some("G722/8000"));
}

// Statement 152.
#[test]
fn a_common_codec_is_relayed_by_whatever_numbers() {
    let mut scene = between(stage(), &[(97, "G722/8000"), (0, "PCMU/8000")], G722);
    scene.bob().own_numbers = true;
    scene.talk();
    assert_eq!(bridged(&scene), None);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn without_leave_of_both_trunks_a_call_without_a_common_codec_is_refused() {
    for stage in [
        Stage { operator: |_| {}, service: of_the_service, ..Stage::default() },
        Stage {
            operator: willing,
            service: |trunk| trunk.media.codecs = Some(vec![Encoding::G722]),
            ..Stage::default()
        },
    ] {
        let mut scene = between(stage, PCMU, G722);
        scene.bob().on_invite = vec![(10, Say(488))];
        scene.carol().on_invite = vec![(10, Say(488))];
        scene.alice_calls();
        scene.run(10_000);
        assert_eq!(scene.phones[ALICE].answers, ["INVITE 488"]);
        scene.ends();
    }
}

#[test]
fn a_change_of_codec_by_either_side_puts_a_codec_between_them_or_takes_it_away() {
    let mut scene =
        between(stage(), &[(0, "PCMU/8000"), (8, "PCMA/8000")], &[(8, "PCMA/8000"), (9, "G722/8000")]);
    scene.talk();
    assert_eq!(bridged(&scene), None, "PCMA is common");
    let only =
        |formats: &[(u8, &'static str)], scene: &Scene| scene.phones[BOB].session.with_formats(formats);
    let session = only(&[(9, "G722/8000")], &scene);
    scene.bob().session = session.clone();
    scene.reinvites(BOB, session);
    scene.run(2_000);
    assert_eq!(bridged(&scene), Some(Bridged::Codec));
    let session = only(&[(8, "PCMA/8000")], &scene);
    scene.bob().session = session.clone();
    scene.reinvites(BOB, session);
    scene.run(2_000);
    assert_eq!(bridged(&scene), None);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn early_media_of_a_fork_that_prefers_another_codec_is_transcoded_and_the_other_branch_is_relayed() {
    let mut scene = between(stage(), PCMU, G722);
    let own = scene.phones[BOB].session.with_formats(PCMU);
    scene.bob().branches.insert(2, own);
    scene.bob().on_invite =
        vec![(50, Branch(1, 183, true)), (1_000, Branch(2, 180, true)), (3_000, Branch(1, 200, true))];
    scene.alice_calls();
    scene.run(500);
    assert_eq!(bridged(&scene), Some(Bridged::Codec));
    scene.run(1_500);
    assert_eq!(bridged(&scene), None);
    scene.run(10_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    assert_eq!(bridged(&scene), Some(Bridged::Codec));
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_caller_that_lets_the_callee_offer_answers_in_its_own_codec_too() {
    let operator = |trunk: &mut Trunk| {
        willing(trunk);
        trunk.media.codecs = Some(vec![Encoding::Pcmu]);
    };
    let mut scene = between(
        Stage { operator, ..stage() },
        PCMU,
        &[(9, "G722/8000"), (101, "telephone-event/8000"), (0, "PCMU/8000")],
    );
    let now = scene.now;
    scene.alice().call(now, support::stage::scene::BOBS_NUMBER, false);
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
}

fn by_info(trunk: &mut Trunk) {
    trunk.media.keys = KeyTransport::InfoRelay;
}

fn press(letter: char, milliseconds: u64) -> Press {
    Press { key: Key::of_letter(letter).expect("a key"), duration: Duration::from_millis(milliseconds) }
}

// Statement 161.
#[test]
fn a_key_in_info_goes_into_the_media_of_the_other_side_once_and_with_its_duration() {
    let mut scene = between(Stage { operator: by_info, ..Stage::default() }, PCMU, PCMU);
    scene.talk();
    assert_eq!(bridged(&scene), Some(Bridged::Keys));
    for (body, expected) in [
        ("Content-Type: application/dtmf-relay\r\n", "Signal=5\r\nDuration=250\r\n"),
        ("Content-Type: application/dtmf\r\n", "7"),
    ] {
        scene.tells(ALICE, "INFO", body, expected);
    }
    assert_eq!(scene.flows.pressed, [(Side::Callee, press('5', 250)), (Side::Callee, press('7', 160))]);
    assert!(scene.phones[ALICE].answers.ends_with(&["INFO 200".into(), "INFO 200".into()]));
    assert!(scene.phones[BOB].came("INFO ").next().is_none());
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 160.
#[test]
fn a_key_in_the_media_goes_to_a_side_that_has_keys_by_signalling_in_one_request() {
    let notify = |trunk: &mut Trunk| trunk.media.keys = KeyTransport::Notify;
    let info = |trunk: &mut Trunk| trunk.media.keys = KeyTransport::Info;
    type Change = fn(&mut Trunk);
    let table: [(Change, &str, &str, &str); 3] = [
        (by_info, "INFO ", "application/dtmf-relay", "Signal=#\r\nDuration=200\r\n"),
        (info, "INFO ", "application/dtmf", "#"),
        (notify, "NOTIFY ", "audio/telephone-event", "\u{b}"),
    ];
    for (operator, method, content_type, body) in table {
        let mut scene = between(Stage { operator, ..Stage::default() }, PCMU, PCMU);
        scene.talk();
        scene.hears_key(Side::Caller, press('#', 200));
        let came: Vec<_> = scene.phones[ALICE].came(method).map(str::to_owned).collect();
        assert_eq!(came.len(), 1, "{method}");
        assert!(came[0].contains(&format!("Content-Type: {content_type}\r\n")), "{}", came[0]);
        assert!(came[0].split("\r\n\r\n").nth(1).is_some_and(|text| text.starts_with(body)), "{}", came[0]);
        scene.hangs_up(BOB);
        scene.ends();
    }
}

#[test]
fn keys_that_both_sides_have_by_signalling_pass_without_touching_the_media() {
    let info = |trunk: &mut Trunk| trunk.media.keys = KeyTransport::Info;
    let mut scene = between(Stage { operator: by_info, service: info, ..Stage::default() }, PCMU, PCMU);
    scene.talk();
    assert_eq!(bridged(&scene), None);
    scene.tells(ALICE, "INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=1\r\nDuration=100\r\n");
    let came: Vec<_> = scene.phones[BOB].came("INFO ").map(str::to_owned).collect();
    assert_eq!(came.len(), 1);
    assert!(came[0].contains("application/dtmf\r\n") && came[0].ends_with("\r\n\r\n1"), "{}", came[0]);
    assert!(scene.flows.pressed.is_empty());
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn info_about_something_else_is_refused_and_info_without_a_body_is_welcome() {
    let mut scene = between(Stage::default(), PCMU, PCMU);
    scene.talk();
    scene.tells(ALICE, "INFO", "", "");
    scene.tells(ALICE, "INFO", "Content-Type: application/isup\r\n", "x");
    assert!(scene.phones[ALICE].answers.ends_with(&["INFO 200".into(), "INFO 415".into()]));
    scene.hangs_up(ALICE);
    scene.ends();
}
