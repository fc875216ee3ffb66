//! How calls end: by CANCEL, BYE, both at once, silence of a peer, or our own decision.

use gateway_userspace::base::fault::Fault;
use gateway_userspace::observe::event::EndedBy;
use std::time::Duration;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, Outcome, Scene, Stage};

fn unanswered(outcome: &Outcome, status: u16) {
    let record = &outcome.records[0];
    assert_eq!((record.sip_status, record.answered_at.as_deref(), record.duration_ms), (status, None, 0));
}

// Statement 73.
#[test]
fn a_caller_who_cancels_while_it_rings_takes_the_call_back_from_the_callee() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180))];
    scene.alice_calls();
    scene.run(2_000);
    scene.cancels(ALICE);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    unanswered(&outcome, 487);
    assert_eq!(outcome.records[0].ended_by, EndedBy::Caller);
}

#[test]
fn a_cancel_before_the_callee_said_anything_waits_for_its_first_word() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(1_000, Say(180))];
    scene.alice_calls();
    scene.run(500);
    scene.cancels(ALICE);
    scene.run(100);
    assert_eq!(scene.phones[ALICE].answers, ["CANCEL 200", "INVITE 487"]);
    assert!(!scene.ladder.iter().any(|line| line.contains("causeway → Bob: CANCEL")));
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    unanswered(&outcome, 487);
}

// Statement 73.
#[test]
fn a_200_that_crosses_our_cancel_is_acknowledged_and_hung_up() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180)), (983, Describe(200))];
    scene.alice_calls();
    scene.run(985);
    scene.cancels(ALICE);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    unanswered(&outcome, 487);
}

#[test]
fn a_callee_that_answers_in_spite_of_our_cancel_is_hung_up() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180)), (1_500, Describe(200))];
    scene.bob().ignores_cancel = true;
    scene.alice_calls();
    scene.run(985);
    scene.cancels(ALICE);
    scene.run(2_000);
    assert!(!scene.phones[BOB].is_talking());
    unanswered(&scene.ends(), 487);
}

#[test]
fn a_cancel_that_comes_behind_our_200_changes_nothing_and_the_caller_hangs_up() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    // The 200 is on its way to Alice.
    scene.run(1_035);
    scene.cancels(ALICE);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    assert_eq!(outcome.records[0].sip_status, 200);
    assert_eq!(outcome.records[0].ended_by, EndedBy::Caller);
}

#[test]
fn a_caller_may_hang_up_an_early_dialog_by_bye() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180))];
    scene.alice_calls();
    scene.run(2_000);
    scene.hangs_up(ALICE);
    scene.run(200);
    assert_eq!(scene.phones[ALICE].answers, ["BYE 200", "INVITE 487"]);
    unanswered(&scene.ends(), 487);
}

#[test]
fn both_sides_hang_up_at_once_and_both_are_answered() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.hangs_up(BOB);
    scene.run(500);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("BYE 200"));
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("BYE 200"));
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_callee_that_never_answers_is_given_up_after_it_rang_long_enough() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180))];
    scene.alice_calls();
    let outcome = scene.ends();
    unanswered(&outcome, 480);
    assert!(outcome.ladder.contains("causeway → Bob: CANCEL 1"));
}

#[test]
fn an_answer_that_the_caller_never_acknowledges_ends_the_call_on_both_sides() {
    let mut scene = Scene::new(Stage { media_timeout: Duration::ZERO, ..Stage::default() });
    scene.alice().acknowledges = false;
    scene.alice_calls();
    scene.run(30_000);
    assert_eq!(scene.calls(), 1);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::NoAck.label()));
    assert_eq!(outcome.records[0].sip_status, 200);
}

#[test]
fn a_caller_whose_ack_is_on_its_way_is_not_hung_up_before_it_came() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().acknowledges = false;
    scene.alice_calls();
    scene.run(1_200);
    scene.hangs_up(BOB);
    scene.run(200);
    assert!(!scene.ladder.iter().any(|line| line.contains("causeway → Alice: BYE")));
    scene.alice().acknowledges = true;
    // Our 200 is sent again, and its ACK is what the BYE waits for (RFC 3261 section 15).
    scene.run(500);
    assert!(!scene.phones[ALICE].is_talking());
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_refusal_that_is_never_acknowledged_does_not_end_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(50, Say(488))];
    let held = scene.phones[ALICE].session.directed("sendonly");
    scene.reinvites(ALICE, held);
    scene.alice().dead = true;
    scene.run(45_000);
    assert!(scene.phones[BOB].is_talking());
    scene.alice().dead = false;
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 109.
#[test]
fn media_that_stops_on_both_sides_ends_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.media(false);
    scene.run(55_000);
    assert_eq!(scene.calls(), 1);
    scene.run(25_000);
    assert!(!scene.phones[ALICE].is_talking() && !scene.phones[BOB].is_talking());
    let outcome = scene.ends();
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::MediaTimeout.label()));
    assert_eq!(outcome.records[0].ended_by, EndedBy::Causeway);
}

#[test]
fn a_call_on_hold_may_be_silent() {
    for direction in ["inactive", "sendonly", "recvonly"] {
        let mut scene = Scene::new(Stage::default());
        scene.talk();
        let held = scene.phones[ALICE].session.directed(direction);
        scene.reinvites(ALICE, held);
        scene.run(1_000);
        scene.media(false);
        scene.run(300_000);
        assert_eq!(scene.calls(), 1, "{direction}");
        scene.hangs_up(BOB);
        scene.ends();
    }
}

#[test]
fn a_call_that_is_resumed_after_a_long_hold_has_time_to_be_heard_again() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("inactive"));
    scene.run(1_000);
    scene.media(false);
    scene.run(300_000);
    scene.reinvites(ALICE, session);
    scene.run(50_000);
    assert_eq!(scene.calls(), 1, "hung up although it was resumed 50 s ago");
    scene.run(30_000);
    let outcome = scene.ends();
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::MediaTimeout.label()));
}

#[test]
fn an_operator_hangs_up_a_call_on_both_sides() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hang_up_call(Fault::HungUp);
    let outcome = scene.ends();
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::HungUp.label()));
}

#[test]
fn a_bye_goes_unanswered_and_the_call_still_ends() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().dead = true;
    scene.hangs_up(ALICE);
    let outcome = scene.ends();
    assert_eq!(outcome.records[0].sip_status, 200);
}

#[test]
fn a_change_that_rang_and_is_never_answered_leaves_nothing_when_its_call_ends() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.talk();
    scene.alice().on_reinvite = vec![(50, Say(180))];
    let session = scene.phones[BOB].session.directed("inactive");
    scene.reinvites(BOB, session);
    scene.run(500);
    // Alice forgets her INVITE with the dialog that it came in.
    scene.loses = |text| text.starts_with("SIP/2.0 487 ") && text.contains("Alice");
    scene.hangs_up(BOB);
    scene.run(40_000);
    scene.loses = |_| false;
    scene.ends();
}

#[test]
fn a_copy_of_an_answer_behind_its_senders_bye_is_acknowledged_and_not_hung_up_on_again() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.loses = |text| text.starts_with("ACK") && !text.contains("Alice");
    scene.run(1_300);
    // Bob does not wait for the ACK, as RFC 3261 section 15 asks him to.
    scene.asks(BOB, "BYE", "");
    scene.run(150);
    assert_eq!(scene.calls(), 0);
    scene.loses = |_| false;
    scene.run(5_000);
    assert!(scene.phones[BOB].came("ACK").count() > 0);
    assert_eq!(scene.phones[BOB].came("BYE").count(), 0, "{}", scene.ladder.join("\n"));
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_side_that_hung_up_while_our_bye_waited_for_its_ack_gets_none() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[BOB].session.clone();
    // The ACK of Bob's change is lost; Alice hangs up, then he does.
    scene.loses = |text| text.starts_with("ACK") && text.contains("CSeq: 101 ");
    scene.reinvites(BOB, session.directed("sendonly"));
    scene.run(200);
    scene.hangs_up(ALICE);
    scene.run(25);
    scene.hangs_up(BOB);
    scene.run(100);
    scene.loses = |_| false;
    scene.run(5_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("BYE 200"));
    assert_eq!(scene.phones[BOB].came("BYE").count(), 0);
    scene.ends();
}
