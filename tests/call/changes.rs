//! Re-INVITEs: hold, resume, another codec, another address, and those that meet or fail.

use gateway_userspace::base::id::Side;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

fn muted(scene: &Scene) -> [bool; 2] {
    [Side::Caller, Side::Callee].map(|side| scene.flows.media_of(side).expect("media is relayed").muted)
}

fn last_answer(scene: &Scene, phone: usize) -> &str {
    scene.phones[phone].answers.last().map_or("none", String::as_str)
}

#[test]
fn the_caller_holds_and_resumes() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("sendonly"));
    scene.run(2_000);
    assert_eq!(muted(&scene), [false, true]);
    scene.reinvites(ALICE, session);
    scene.run(2_000);
    assert_eq!(muted(&scene), [false, false]);
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn either_side_holds_by_any_of_the_ways_and_resumes() {
    for holder in [ALICE, BOB] {
        for (direction, connection) in [("sendonly", None), ("inactive", None), ("sendrecv", Some("0.0.0.0"))]
        {
            let mut scene = Scene::new(Stage::default());
            scene.talk();
            let session = scene.phones[holder].session.clone();
            let mut held = session.directed(direction);
            held.connection = connection;
            scene.reinvites(holder, held);
            scene.run(2_000);
            let from_other = muted(&scene)[1 - holder];
            assert!(from_other, "{holder} holds by {direction} {connection:?}");
            scene.reinvites(holder, session);
            scene.run(2_000);
            assert_eq!(muted(&scene), [false, false], "{holder} resumes from {direction} {connection:?}");
            assert_eq!(scene.flows.len(), 4);
            scene.hangs_up(holder);
            scene.ends();
        }
    }
}

#[test]
fn both_sides_change_the_codec() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[BOB].session.with_formats(&[(0, "PCMU/8000")]);
    scene.reinvites(BOB, session);
    scene.run(2_000);
    let flow = scene.flows.media_of(Side::Caller).expect("media is relayed");
    assert_eq!(flow.payload_types.iter().map(|one| (one.near, one.far)).collect::<Vec<_>>(), [(0, 0)]);
    scene.hangs_up(ALICE);
    assert_eq!(scene.ends().records[0].caller_codec.as_deref(), Some("PCMU/8000"));
}

#[test]
fn media_follows_to_a_new_address() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let mut session = scene.phones[BOB].session.clone();
    session.at = ("198.18.0.22".to_owned(), 5_200);
    scene.reinvites(BOB, session);
    scene.run(2_000);
    let to = scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp).map(|output| output.to.to_string());
    assert_eq!(to.as_deref(), Some("198.18.0.22:5200"));
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

// Statement 110.
#[test]
fn a_change_that_crosses_one_of_the_other_side_is_tried_again_after_the_pause_of_its_leg() {
    for (first, second, least, most) in [(ALICE, BOB, 2_100, 4_000), (BOB, ALICE, 0, 2_000)] {
        let mut scene = Scene::new(Stage::default());
        scene.talk();
        let session = scene.phones[first].session.clone();
        scene.reinvites(first, session.directed("inactive"));
        let session = scene.phones[second].session.clone();
        scene.reinvites(second, session.directed("inactive"));
        scene.run(least.max(30));
        assert_eq!(last_answer(&scene, second), "INVITE 491");
        assert!(scene.phones[first].came("SIP/2.0 491").next().is_none());
        assert_eq!(muted(&scene), [false, false]);
        scene.run(most - least + 200);
        assert_eq!(last_answer(&scene, first), "INVITE 200");
        assert_eq!(muted(&scene), [true, true]);
        // The other comes back later, as RFC 3261 section 14.1 says.
        let session = scene.phones[second].session.clone();
        scene.reinvites(second, session.directed("sendrecv"));
        scene.run(2_000);
        assert_eq!(last_answer(&scene, second), "INVITE 200");
        scene.hangs_up(ALICE);
        let outcome = scene.ends();
        if first == ALICE {
            insta::assert_snapshot!(outcome.ladder);
        }
    }
}

/// The call stands as Bob sees it, and Alice's ACK is on its way for ever.
fn bob_asks_before_the_ack_of_alice() -> Scene {
    let mut scene = Scene::new(Stage::default());
    scene.loses = |text| text.starts_with("ACK") && text.contains("Alice");
    scene.alice_calls();
    scene.run(1_200);
    let session = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, session.directed("inactive"));
    scene.run(200);
    assert_eq!(scene.phones[BOB].answers, [] as [&str; 0]);
    scene
}

#[test]
fn a_change_of_the_callee_waits_for_the_callers_ack_and_is_served_at_once_then() {
    let mut scene = bob_asks_before_the_ack_of_alice();
    assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0);
    scene.loses = |_| false;
    // She acknowledges the next copy of the 200.
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 200"]);
    assert_eq!(muted(&scene), [true, true]);
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_change_that_waits_for_an_ack_can_be_taken_back() {
    let mut scene = bob_asks_before_the_ack_of_alice();
    scene.cancels(BOB);
    scene.run(200);
    assert_eq!(scene.phones[BOB].answers, ["CANCEL 200", "INVITE 487"]);
    scene.loses = |_| false;
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_change_that_waits_for_an_ack_ends_with_the_call() {
    let mut scene = bob_asks_before_the_ack_of_alice();
    scene.run(40_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 487"]);
    assert_eq!(scene.phones[ALICE].came("BYE ").count(), 1);
    assert_eq!(scene.phones[BOB].came("BYE ").count(), 1);
    scene.ends();
}

#[test]
fn a_change_can_be_taken_back_while_it_waits_for_another_try() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(10, Say(491))];
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(1_000);
    scene.cancels(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "CANCEL 200", "INVITE 487"]);
    assert_eq!(muted(&scene), [false, false]);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_change_that_the_other_side_refuses_leaves_the_session_as_it_was() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let before = scene.flows.media_of(Side::Callee).cloned();
    scene.bob().on_reinvite = vec![(50, Say(488))];
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(2_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 488");
    assert_eq!(scene.flows.media_of(Side::Callee).cloned(), before);
    scene.bob().on_reinvite = vec![(50, Describe(200))];
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(2_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 200");
    assert_eq!(muted(&scene), [true, true]);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_challenge_to_a_change_does_not_cross() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(50, Say(407))];
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(2_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 403");
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_change_is_taken_back_before_it_is_answered() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(50, Say(180))];
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(1_000);
    scene.cancels(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "CANCEL 200", "INVITE 487"]);
    assert_eq!(muted(&scene), [false, false]);
    scene.hangs_up(BOB);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_second_change_can_be_taken_back_right_after_the_first() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(1_000);
    scene.bob().on_reinvite = vec![(50, Say(180)), (20_000, Describe(200))];
    scene.reinvites(ALICE, session);
    scene.run(1_000);
    scene.cancels(ALICE);
    scene.run(1_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 487");
    assert_eq!(muted(&scene), [true, true]);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_change_is_not_answered_by_a_copy_of_an_earlier_answer() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(500);
    let copy = scene.tap().last_from(scene.phones[BOB].address);
    scene.bob().on_reinvite = vec![(3_000, Say(488))];
    scene.reinvites(ALICE, session);
    scene.run(500);
    scene.says(BOB, &copy);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 200"], "the copy was taken for an answer");
    scene.run(3_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 488");
    assert_eq!(muted(&scene), [true, true]);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_side_that_lost_its_dialog_ends_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(50, Say(481))];
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(2_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 481");
    assert!(!scene.phones[BOB].is_talking());
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some("no_such_dialog"));
}

#[test]
fn a_change_that_nobody_answers_ends_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().dead = true;
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(40_000);
    assert!(!scene.phones[ALICE].is_talking());
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some("peer_timeout"));
}

#[test]
fn a_change_that_meets_a_hang_up_is_answered_before_the_call_ends() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.hangs_up(BOB);
    scene.run(2_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 487");
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn an_extension_that_a_change_requires_is_refused_and_the_call_goes_on() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.asks(ALICE, "INVITE", "Require: foo\r\n");
    scene.run(1_000);
    assert_eq!(last_answer(&scene, ALICE), "INVITE 420");
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn questions_inside_the_dialog_are_answered_and_unknown_methods_refused() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.asks(BOB, "OPTIONS", "");
    scene.run(200);
    scene.asks(BOB, "MESSAGE", "");
    scene.run(200);
    assert_eq!(scene.phones[BOB].answers, ["OPTIONS 200", "MESSAGE 405"]);
    scene.hangs_up(BOB);
    scene.ends();
}
