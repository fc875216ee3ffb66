//! Calls with the far ends that nobody can reach from a test: Teams and Zoom as they describe themselves. Their own rules
//! are asked in every scenario of services, transfers and Zoom; here is what they do of their own accord, and that they
//! refuse what they say they refuse.

use super::services::{teams, to_bob, toward};
use gateway_userspace::base::id::Side;
use gateway_userspace::policy::{Service, TargetState, Trunk};
use std::collections::BTreeSet;
use std::time::Duration;
use support::stage::far_end::FarEnd;
use support::stage::phone::Reaction::{Branch, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Scene, Stage};
use support::stage::session::{Session, media_of};

fn complaints(scene: &Scene, phone: usize) -> String {
    scene.phones[phone].complaints.join(", ")
}

#[test]
fn teams_knows_no_gateway_by_its_address_nor_by_a_name_of_no_tenant() {
    // As a trunk to anybody else: one to Teams is refused without a name.
    let address = |trunk: &mut Trunk| trunk.health.interval = Some(Duration::from_secs(60));
    let named = |trunk: &mut Trunk| toward(trunk, Service::Teams);
    let strangers = FarEnd::knowing(&["fabrikam.example"]);
    type Case = (fn(&mut Trunk), FarEnd, &'static str);
    let table: [Case; 2] = [
        (address, FarEnd::new(Service::Teams), "its Contact is an address"),
        (named, strangers, "its Contact is of no tenant"),
    ];
    for (service, far_end, why) in table {
        let stage = Stage { service, far_end: Some(far_end), phones_may_complain: true, ..Stage::default() };
        let mut scene = Scene::new(stage);
        scene.run(1_000);
        assert!(complaints(&scene, BOB).starts_with(&format!("OPTIONS refused: {why}")), "{why}");
        scene.alice_calls();
        scene.run(5_000);
        assert!(complaints(&scene, BOB).contains(&format!("INVITE refused: {why}")), "{why}");
        assert_eq!(scene.phones[ALICE].answers, ["INVITE 403"], "{}", scene.ladder.join("\n"));
        scene.ends();
    }
}

#[test]
fn both_services_find_nothing_to_refuse_in_a_call_of_each_side_and_their_questions() {
    let zoom = |trunk: &mut Trunk| toward(trunk, Service::Zoom);
    let zoom = Stage { service: zoom, far_end: Some(FarEnd::new(Service::Zoom)), ..Stage::default() };
    for stage in [teams(), zoom] {
        let mut scene = Scene::new(stage);
        scene.talk();
        scene.hangs_up(ALICE);
        scene.run(90_000);
        assert_eq!(scene.states("service"), [TargetState::Up; 2]);
        scene.bob_calls_alice();
        scene.run(5_000);
        assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Section 4.3: an endpoint each with a To-tag of its own, one of them describing media, and a 200 of one never heard of.
#[test]
fn teams_rings_three_endpoints_and_a_fourth_answers_and_the_operator_sees_one_call() {
    let mut scene = Scene::new(teams());
    scene.bob().branches.insert(2, Session::at("198.18.0.22", 4_200).with_formats(&[(0, "PCMU/8000")]));
    scene.bob().branches.insert(4, Session::at("198.18.0.24", 4_400).with_formats(&[(8, "PCMA/8000")]));
    scene.bob().on_invite = vec![
        (20, Say(100)),
        (100, Branch(1, 180, false)),
        (150, Branch(2, 180, false)),
        (200, Branch(3, 180, false)),
        (400, Branch(2, 183, true)),
        (2_000, Branch(4, 200, true)),
    ];
    scene.alice_calls();
    scene.run(5_000);
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    let tags: BTreeSet<_> = scene.phones[ALICE]
        .came("SIP/2.0 ")
        .filter(|text| text.contains("CSeq: 1 INVITE") && !text.starts_with("SIP/2.0 100"))
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("To: ")))
        .collect();
    assert_eq!(tags.len(), 1, "{tags:?}");
    let to_callee = scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp).expect("media is relayed");
    assert_eq!(to_callee.to.to_string(), "198.18.0.24:4400");
    scene.hangs_up(ALICE);
    scene.ends();
}

// Section 6.3: a re-INVITE of Teams with its description as it was, at 27 minutes.
#[test]
fn teams_describes_itself_again_after_27_minutes_and_the_call_goes_on_as_it_was() {
    for teams_calls in [false, true] {
        let mut scene = Scene::new(Stage { media_timeout: Duration::from_secs(4 * 3600), ..teams() });
        if teams_calls {
            scene.bob().calls_with = "Session-Expires: 1800;refresher=uac\r\nSupported: timer\r\n";
            scene.bob_calls_alice();
            scene.run(5_000);
        } else {
            scene.talk();
        }
        let before = scene.phones[BOB].answers.len();
        scene.run(60 * 60_000);
        assert!(
            scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
            "{}",
            scene.ladder.join("\n")
        );
        let answers = &scene.phones[BOB].answers[before..];
        let refreshed = answers.iter().filter(|answer| *answer == "INVITE 200").count();
        assert_eq!(refreshed, 2, "{answers:?}");
        let described: Vec<_> = to_bob(&scene, "")
            .iter()
            .filter(|text| text.contains("m=audio"))
            .map(|text| media_of(text))
            .collect();
        assert!(
            described.len() >= 3 && described.iter().all(|media| *media == described[0]),
            "{described:?}"
        );
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Section 6.1, steps 2 to 8.
#[test]
fn teams_transfers_by_what_only_it_can_read_and_leaves_when_the_target_answers() {
    let mut scene = Scene::new(teams());
    scene.talk();
    scene.asks(
        BOB,
        "REFER",
        "Refer-To: <sip:198.18.0.20:5060;x-m=8:orgid:7f3c-Target;x-t=d1~tenant>\r\n\
         Referred-By: <sip:198.18.0.20:5060;x-m=8:orgid:Bob;x-ti=77;x-tt=aHR0cHM6>\r\n",
    );
    scene.run(5_000);
    let awaits = scene.phones[BOB].far_end.as_ref().map(FarEnd::awaits);
    assert_eq!(awaits, Some(0), "the INVITE came back: {}", scene.ladder.join("\n"));
    assert!(scene.phones[ALICE].is_talking(), "{}", scene.ladder.join("\n"));
    let byes = scene.phones[BOB].answers.iter().filter(|answer| *answer == "BYE 200").count();
    assert_eq!(byes, 1, "Teams left: {}", scene.ladder.join("\n"));
    assert!(scene.phones[CAROL].inbox.iter().all(|text| text.starts_with("OPTIONS ")));
    scene.hangs_up(ALICE);
    scene.ends();
}
