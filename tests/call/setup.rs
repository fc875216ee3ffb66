//! From the INVITE to the answer.

use gateway_userspace::base::id::Side;
use support::stage::phone::Reaction::{Describe, Fork, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

// Statements 57, 238.
#[test]
fn a_call_is_set_up_talks_and_is_hung_up_by_the_caller() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    let record = &outcome.records[0];
    assert_eq!((record.sip_status, record.cause, record.peers_tried), (200, 16, 1));
    assert_eq!(record.caller_codec.as_deref(), Some("PCMA/8000"));
    assert_eq!(record.fast_path_share, Some(1.0));
}

#[test]
fn the_callee_hangs_up() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(BOB);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    assert_eq!(outcome.records[0].ended_by, gateway_userspace::observe::event::EndedBy::Callee);
}

#[test]
fn calls_come_from_the_service_side_as_well() {
    let mut scene = Scene::new(Stage::default());
    let now = scene.now;
    scene.bob().call(now, "+441632960001", true);
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    assert_eq!(scene.ends().records[0].from_trunk, "service");
}

// Statement 238.
#[test]
fn max_forwards_counts_down_and_the_number_crosses_but_no_via_does() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.run(15);
    let invite = scene.tap().last_sent();
    assert!(invite.starts_with("INVITE sip:+12025550147@198.18.0.20:5060 SIP/2.0\r\n"), "{invite}");
    assert!(invite.contains("\r\nMax-Forwards: 69\r\n"), "{invite}");
    assert!(invite.contains("<sip:+441632960123@203.0.113.1:5060>;tag="), "{invite}");
    assert_eq!(invite.matches("\r\nVia: ").count(), 1, "{invite}");
    scene.run(3_000);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 60.
#[test]
fn early_media_is_relayed_from_the_183_on_before_anybody_answers() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Describe(183)), (3_000, Describe(200))];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(scene.flows.len(), 4);
    assert!(!scene.phones[ALICE].is_talking());
    scene.run(4_000);
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_200_without_sdp_confirms_what_the_183_described() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Describe(183)), (3_000, Say(200))];
    scene.alice_calls();
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking());
    assert_eq!(scene.flows.len(), 4);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn ringing_without_sdp_changes_nothing_in_the_flows() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.run(15);
    let before = scene.flows.media_of(Side::Callee).cloned();
    scene.run(500);
    assert_eq!(scene.flows.media_of(Side::Callee).cloned(), before);
    scene.run(2_000);
    assert_eq!(scene.flows.len(), 4);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 144.
#[test]
fn payload_numbers_are_translated_where_the_two_sides_number_differently() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().session.formats = vec![(8, "PCMA/8000"), (96, "telephone-event/8000")];
    scene.bob().own_numbers = true;
    scene.talk();
    let types = |side| {
        let flow = scene.flows.media_of(side).expect("media is relayed");
        flow.payload_types.iter().map(|one| (one.near, one.far, one.event)).collect::<Vec<_>>()
    };
    assert!(types(Side::Caller).contains(&(101, 96, true)), "{:?}", types(Side::Caller));
    assert!(types(Side::Callee).contains(&(96, 101, true)), "{:?}", types(Side::Callee));
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 65.
#[test]
fn a_second_answer_from_another_branch_of_a_fork_is_acknowledged_and_hung_up() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180)), (1_000, Describe(200)), (1_500, Fork)];
    scene.talk();
    let acks = scene.ladder.iter().filter(|line| line.contains("causeway → Bob: ACK")).count();
    let byes = scene.ladder.iter().filter(|line| line.contains("causeway → Bob: BYE")).count();
    assert_eq!((acks, byes), (2, 1));
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn an_invite_in_the_early_dialog_is_refused_and_the_call_goes_on() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.run(500);
    scene.asks(ALICE, "INVITE", "");
    scene.run(4_000);
    assert!(scene.phones[BOB].is_talking());
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 500", "INVITE 200"]);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("BYE 200"));
    scene.ends();
}
