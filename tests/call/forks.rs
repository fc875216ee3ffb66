//! Branches behind the callee's trunk: the caller sees one dialog and one session description.

use gateway_userspace::base::id::Side;
use gateway_userspace::policy::{EarlyMedia, Trunk};
use support::stage::phone::Reaction::{Branch, Describe, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::{Session, formats_of, media_of};

/// Status codes of the provisional responses that Alice heard, `s` where a session description came with them.
fn heard(scene: &Scene) -> Vec<String> {
    let status = |text: &str| text.split(' ').nth(1).unwrap_or_default().to_owned();
    let told = scene.phones[ALICE].came("SIP/2.0 18");
    told.map(|text| status(text) + if text.contains("m=audio") { "s" } else { "" }).collect()
}

fn far_end(scene: &Scene) -> String {
    let flow = scene.flows.media_of(Side::Caller).expect("media is relayed");
    flow.rtp.map(|output| output.to.to_string()).unwrap_or_default()
}

fn branch_at(port: u16) -> Session {
    Session::at("198.18.0.21", port)
}

fn in_mode(mode: fn(&mut Trunk)) -> Scene {
    Scene::new(Stage { service: mode, ..Stage::default() })
}

// Statements 55, 56, 57.
#[test]
fn nine_branches_ring_and_the_caller_hears_one_180_in_one_dialog() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite =
        (1..=9).map(|branch| (40 + u64::from(branch) * 20, Branch(branch, 180, false))).collect();
    scene.bob().on_invite.push((2_000, Branch(9, 200, true)));
    scene.talk();
    assert_eq!(heard(&scene), ["180"]);
    // Alice complains when two tags answer her.
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 60, 61.
#[test]
fn a_183_of_a_branch_never_heard_of_brings_early_media() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().branches.insert(2, branch_at(6_002));
    scene.bob().on_invite =
        vec![(50, Branch(1, 180, false)), (400, Branch(2, 183, true)), (2_000, Branch(2, 200, true))];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(heard(&scene), ["180", "183s"]);
    let described = scene.phones[ALICE].came("SIP/2.0 183").next().expect("early media").to_owned();
    assert_eq!(media_of(&described), "192.0.2.2:20000");
    assert_eq!(far_end(&scene), "198.18.0.21:6002");
    scene.run(3_000);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 62, 63, 64.
#[test]
fn a_200_of_a_branch_never_heard_of_moves_media_and_the_caller_is_told_the_same_as_before() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().branches.insert(1, branch_at(6_002));
    scene.bob().branches.insert(2, branch_at(6_004));
    scene.bob().on_invite = vec![(50, Branch(1, 183, true)), (2_000, Branch(2, 200, true))];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(far_end(&scene), "198.18.0.21:6002");
    scene.run(2_000);
    assert_eq!(far_end(&scene), "198.18.0.21:6004");
    let body = |start: &str| {
        let text = scene.phones[ALICE].came(start).find(|text| text.contains("m=audio")).expect("SDP");
        text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(body("SIP/2.0 183"), body("SIP/2.0 200"));
    assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0, "nothing changed for the caller");
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 63, 64.
#[test]
fn a_branch_that_answers_with_another_codec_makes_a_new_offer_to_the_caller_behind_its_ack() {
    for reliable in ["", "Supported: 100rel\r\n"] {
        let mut scene = Scene::new(Stage::default());
        scene.alice().calls_with = reliable;
        scene.bob().branches.insert(1, branch_at(6_002).with_formats(&[(8, "PCMA/8000")]));
        scene.bob().branches.insert(2, branch_at(6_004).with_formats(&[(0, "PCMU/8000")]));
        scene.bob().on_invite = vec![(50, Branch(1, 183, true)), (2_000, Branch(2, 200, true))];
        scene.alice_calls();
        scene.run(4_000);
        let offer = scene.phones[ALICE].came("INVITE ").next().expect("a re-INVITE").to_owned();
        assert_eq!(formats_of(&offer), [(0, "PCMU/8000".to_owned())]);
        assert_eq!(media_of(&offer), "192.0.2.2:20000", "address and port stay");
        assert_eq!(scene.phones[BOB].came("INVITE ").count(), 1, "the callee is left alone");
        let types = |side| {
            let flow = scene.flows.media_of(side).expect("media is relayed");
            flow.payload_types.iter().map(|one| (one.near, one.far)).collect::<Vec<_>>()
        };
        assert_eq!((types(Side::Caller), types(Side::Callee)), (vec![(0, 0)], vec![(0, 0)]));
        assert_eq!(far_end(&scene), "198.18.0.21:6004");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

#[test]
fn a_new_offer_that_the_caller_refuses_ends_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().branches.insert(1, branch_at(6_002).with_formats(&[(8, "PCMA/8000")]));
    scene.bob().branches.insert(2, branch_at(6_004).with_formats(&[(0, "PCMU/8000")]));
    scene.bob().on_invite = vec![(50, Branch(1, 183, true)), (2_000, Branch(2, 200, true))];
    scene.alice().on_reinvite = vec![(50, Say(488))];
    scene.alice_calls();
    scene.run(6_000);
    assert!(!scene.phones[ALICE].is_talking() && !scene.phones[BOB].is_talking());
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some("not_acceptable_here"));
}

// Statement 65.
#[test]
fn the_200_of_a_second_branch_is_acknowledged_and_released() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![
        (50, Branch(1, 180, false)),
        (60, Branch(2, 180, false)),
        (1_000, Branch(1, 200, true)),
        (1_005, Branch(2, 200, true)),
    ];
    scene.talk();
    let sent = |method: &str| {
        let mut tags: Vec<_> = scene.phones[BOB]
            .came(method)
            .filter_map(|text| text.lines().find(|line| line.starts_with("To: ")))
            .collect();
        tags.sort_unstable();
        tags.dedup();
        tags.len()
    };
    assert_eq!((sent("ACK "), sent("BYE ")), (2, 1));
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 58.
#[test]
fn in_first_only_mode_what_comes_after_the_first_18x_is_not_told() {
    let mut scene = in_mode(|trunk| trunk.sip.early_media = EarlyMedia::FirstOnly);
    scene.bob().on_invite =
        vec![(50, Say(180)), (400, Describe(183)), (600, Say(180)), (2_000, Describe(200))];
    scene.talk();
    assert_eq!(heard(&scene), ["180"]);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 59.
#[test]
fn in_ringing_mode_a_183_with_sdp_is_told_as_a_180_without() {
    let mut scene = in_mode(|trunk| trunk.sip.early_media = EarlyMedia::Ringing);
    scene.bob().on_invite = vec![(50, Describe(183)), (2_000, Describe(200))];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(heard(&scene), ["180"]);
    scene.run(3_000);
    assert_eq!(far_end(&scene), "198.18.0.21:4000");
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 57, 75.
#[test]
fn a_180_stays_bare_and_a_183_brings_its_description() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180)), (400, Describe(183)), (2_000, Describe(200))];
    scene.talk();
    assert_eq!(heard(&scene), ["180", "183s"]);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 67.
#[test]
fn keys_pressed_before_the_answer_are_relayed() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Describe(183)), (3_000, Describe(200))];
    scene.alice_calls();
    scene.run(1_000);
    let flow = scene.flows.media_of(Side::Caller).expect("early media is relayed");
    assert!(!flow.muted && flow.rtp.is_some());
    assert!(flow.payload_types.iter().any(|one| one.near == 101 && one.event));
    scene.run(4_000);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 73.
#[test]
fn a_caller_who_cancels_takes_the_call_back_from_every_branch() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite =
        vec![(50, Branch(1, 180, false)), (60, Branch(2, 180, false)), (500, Branch(2, 200, true))];
    scene.alice_calls();
    // The CANCEL crosses the 200.
    scene.run(525);
    scene.cancels(ALICE);
    scene.run(3_000);
    assert!(!scene.phones[BOB].is_talking());
    assert_eq!(scene.phones[BOB].came("BYE ").count(), 1);
    scene.ends();
}

// Statement 74.
#[test]
fn a_caller_that_asked_hears_who_may_send_early_media() {
    for (callee, expected) in [(None, "sendrecv"), (Some("sendonly"), "sendonly")] {
        let mut scene = in_mode(|trunk| trunk.sip.p_early_media = true);
        scene.alice().calls_with = "P-Early-Media: supported\r\n";
        scene.bob().adds = callee.into_iter().map(|value: &str| ("P-Early-Media", value.into())).collect();
        scene.bob().on_invite = vec![(50, Describe(183)), (1_000, Describe(200))];
        scene.talk();
        let told = scene.phones[ALICE].came("SIP/2.0 183").next().expect("early media").to_owned();
        assert!(told.contains(&format!("\r\nP-Early-Media: {expected}\r\n")), "{told}");
        assert!(scene.phones[BOB].came("INVITE ").all(|text| text.contains("P-Early-Media: supported")));
        scene.hangs_up(ALICE);
        scene.ends();
    }
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Describe(183)), (1_000, Describe(200))];
    scene.talk();
    assert!(scene.phones[ALICE].came("SIP/2.0").all(|text| !text.contains("P-Early-Media")));
    assert!(scene.phones[BOB].came("INVITE ").all(|text| !text.contains("P-Early-Media")));
    scene.hangs_up(ALICE);
    scene.ends();
}
