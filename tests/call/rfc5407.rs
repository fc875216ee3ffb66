//! The race conditions of RFC 5407, each of its section 3, with Causeway as the user agent that meets the race.
//!
//! Alice is always the caller; which side of Causeway meets the race is said by each test. Messages take 10 ms.

use std::time::Duration;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

/// Messages of Alice's dialogs that are lost where a test says so.
fn acks_of_alice(text: &str) -> bool {
    text.starts_with("ACK") && text.contains("Alice")
}

/// Alice's ACK is on its way for ever: Causeway has answered her and waits.
fn answered_without_ack(stage: Stage) -> Scene {
    let mut scene = Scene::new(stage);
    scene.loses = acks_of_alice;
    scene.alice_calls();
    scene.run(1_200);
    assert!(scene.phones[ALICE].is_talking());
    scene
}

/// Her re-INVITE is put off, and served when it comes again behind her ACK.
fn alice_holds_before_her_ack(scene: &mut Scene) {
    let held = scene.phones[ALICE].session.directed("sendonly");
    scene.reinvites(ALICE, held.clone());
    scene.run(100);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 491"]);
    scene.loses = |_| false;
    scene.run(3_000);
    scene.reinvites(ALICE, held);
    scene.run(1_000);
    assert_eq!(last_answer(scene, ALICE), "INVITE 200");
}

fn came(scene: &Scene, phone: usize, start: &str) -> usize {
    scene.phones[phone].came(start).count()
}

fn last_answer(scene: &Scene, phone: usize) -> &str {
    scene.phones[phone].answers.last().map_or("", String::as_str)
}

/// RFC 5407 section 3.1.1.
#[test]
fn s3_1_1_an_initial_invite_that_comes_again_behind_its_200_makes_no_second_call() {
    let mut scene = Scene::new(Stage::default());
    // No provisional response reaches Alice, so that her INVITE goes out again when the 200 leaves.
    scene.loses = |text| text.starts_with("SIP/2.0 100");
    scene.bob().on_invite = vec![(470, Describe(200))];
    scene.alice_calls();
    scene.run(3_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200"]);
    assert_eq!(scene.calls(), 1);
    assert_eq!(came(&scene, BOB, "INVITE "), 1);
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.1.2.
#[test]
fn s3_1_2_a_cancel_behind_the_200_is_answered_and_cancels_nothing() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.run(1_035);
    scene.cancels(ALICE);
    // This phone then hangs up by BYE, as the RFC's Alice does.
    scene.run(1_000);
    assert_eq!(came(&scene, BOB, "CANCEL "), 0);
    assert_eq!(came(&scene, ALICE, "SIP/2.0 487"), 0);
    let mut answers = scene.phones[ALICE].answers.clone();
    answers.sort();
    assert_eq!(answers, ["BYE 200", "CANCEL 200", "INVITE 200"]);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.1.3.
#[test]
fn s3_1_3_a_bye_of_the_early_dialog_that_crosses_the_200_ends_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.run(1_035);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert_eq!(last_answer(&scene, ALICE), "BYE 200");
    assert_eq!(came(&scene, BOB, "BYE "), 1);
    assert!(!scene.phones[BOB].is_talking());
    // The 200 was acknowledged although its dialog has ended.
    assert!(scene.ladder.iter().any(|line| line.contains("Alice → causeway: ACK 1")));
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.1.4: offer and answer were exchanged by INVITE and 200, so that it could be served at once. The RFC
/// prefers that and takes 491 as well; Causeway puts it off like that of section 3.1.5, and serves it when it comes again.
#[test]
fn s3_1_4_a_reinvite_that_comes_before_the_ack_is_put_off_until_the_ack_has_come() {
    let mut scene = answered_without_ack(Stage::default());
    alice_holds_before_her_ack(&mut scene);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.1.5: the offer was in the 200, and its answer is in the ACK that is not there.
#[test]
fn s3_1_5_a_reinvite_that_comes_before_the_ack_with_the_answer_is_put_off() {
    let mut scene = Scene::new(Stage::default());
    scene.loses = acks_of_alice;
    let now = scene.now;
    scene.alice().call(now, support::stage::scene::BOBS_NUMBER, false);
    scene.run(1_200);
    alice_holds_before_her_ack(&mut scene);
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.1.6: the call is over with the BYE. Its 200 goes out until somebody acknowledges it, as the
/// transaction does (RFC 3261 section 13.3.1.4); nothing else does.
#[test]
fn s3_1_6_a_bye_that_comes_before_the_ack_ends_the_call() {
    let mut scene = answered_without_ack(Stage::default());
    scene.hangs_up(ALICE);
    scene.run(50);
    assert_eq!(last_answer(&scene, ALICE), "BYE 200");
    assert_eq!(scene.calls(), 0);
    assert!(!scene.phones[BOB].is_talking() && scene.flows.is_empty());
    scene.loses = |_| false;
    scene.run(40_000);
    assert_eq!((came(&scene, ALICE, "BYE "), came(&scene, BOB, "BYE ")), (0, 1));
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.2.1, on Bob's side.
#[test]
fn s3_2_1_a_bye_that_crosses_our_bye_is_answered_200() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(15);
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(last_answer(&scene, ALICE), "BYE 200");
    assert_eq!(last_answer(&scene, BOB), "BYE 200");
    assert_eq!((came(&scene, BOB, "BYE "), came(&scene, ALICE, "BYE ")), (1, 0));
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.2.2, on Bob's side.
#[test]
fn s3_2_2_a_reinvite_that_crosses_our_bye_is_refused_with_481() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(15);
    let held = scene.phones[BOB].session.directed("sendonly");
    scene.reinvites(BOB, held);
    scene.run(1_000);
    assert_eq!(last_answer(&scene, BOB), "INVITE 481");
    assert!(scene.flows.is_empty());
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.2.3, on Bob's side: our re-INVITE is answered behind our BYE.
#[test]
fn s3_2_3_a_200_of_our_reinvite_that_crosses_our_bye_is_acknowledged() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let held = scene.phones[ALICE].session.directed("sendonly");
    scene.reinvites(ALICE, held);
    scene.run(55);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    let acks = scene.phones[BOB].came("ACK ").filter(|ack| ack.contains("CSeq: 2 ACK")).count();
    assert_eq!(acks, 1, "{}", scene.ladder.join("\n"));
    assert_eq!(came(&scene, BOB, "BYE "), 1);
    assert!(scene.flows.is_empty());
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.2.4: the BYE overtakes the ACK.
#[test]
fn s3_2_4_an_ack_that_comes_behind_its_dialogs_bye_is_dropped() {
    let mut scene = answered_without_ack(Stage::default());
    let ack = scene.tap().last_from(scene.phones[ALICE].address);
    assert!(ack.starts_with("ACK "), "{ack}");
    scene.hangs_up(ALICE);
    scene.run(50);
    assert_eq!(scene.calls(), 0);
    let (sent, heard) = (scene.tap().sent().count(), came(&scene, ALICE, ""));
    scene.loses = |_| false;
    scene.says(ALICE, &ack);
    scene.run(500);
    assert_eq!(last_answer(&scene, ALICE), "BYE 200");
    assert_eq!((scene.tap().sent().count(), came(&scene, ALICE, "")), (sent, heard));
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.3.1: each side of a back-to-back user agent meets it; which of the two waits longer is told by
/// who made the Call-ID (RFC 3261 section 14.1).
#[test]
fn s3_3_1_reinvites_that_cross_are_both_put_off_and_both_succeed_later() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    for phone in [ALICE, BOB] {
        let session = scene.phones[phone].session.directed("sendonly");
        scene.reinvites(phone, session);
    }
    scene.run(5_000);
    // Causeway's own crossed Bob's and is tried again by it; Bob tries his again himself.
    assert_eq!(last_answer(&scene, ALICE), "INVITE 200");
    assert_eq!(last_answer(&scene, BOB), "INVITE 491");
    let session = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, session);
    scene.run(1_000);
    assert_eq!(last_answer(&scene, BOB), "INVITE 200");
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.3.2, on Alice's side: her UPDATE comes while our re-INVITE is on its way to her.
#[test]
fn s3_3_2_an_update_that_crosses_our_reinvite_is_refused_with_491() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let held = scene.phones[BOB].session.directed("sendonly");
    scene.reinvites(BOB, held);
    scene.run(15);
    let update = scene.phones[ALICE].session.directed("sendonly");
    scene.updates(ALICE, Some(update.clone()));
    scene.run(30);
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 491");
    scene.run(3_000);
    assert_eq!(last_answer(&scene, BOB), "INVITE 200");
    scene.updates(ALICE, Some(update));
    scene.run(3_000);
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 200");
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 section 3.3.3, on Bob's side.
#[test]
fn s3_3_3_a_refer_that_crosses_our_bye_is_refused_and_calls_nobody() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(15);
    scene.refers(BOB, "<sip:+441632960199@203.0.113.1>");
    scene.run(3_000);
    assert_eq!(last_answer(&scene, BOB), "REFER 481");
    assert_eq!(came(&scene, ALICE, "INVITE "), 0);
    assert_eq!(came(&scene, BOB, "NOTIFY "), 0);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 5407 appendix B: the side that changes the session hangs up before it is answered.
#[test]
fn b_a_bye_that_overtakes_its_senders_reinvite_leaves_no_invite_unanswered() {
    let mut scene = Scene::new(Stage { media_timeout: Duration::ZERO, ..Stage::default() });
    scene.talk();
    scene.bob().on_reinvite = vec![(50, Say(180)), (4_000, Describe(200))];
    let held = scene.phones[ALICE].session.directed("inactive");
    scene.reinvites(ALICE, held);
    scene.run(500);
    scene.hangs_up(ALICE);
    scene.run(5_000);
    assert!(
        scene.phones[ALICE].answers.contains(&"INVITE 487".to_owned()),
        "{:?}",
        scene.phones[ALICE].answers
    );
    assert!(scene.phones[ALICE].answers.contains(&"BYE 200".to_owned()));
    assert_eq!(scene.calls(), 0);
    insta::assert_snapshot!(scene.ends().ladder);
}
