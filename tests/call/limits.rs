//! What a gateway that has no more to give says, and what it keeps then.

use gateway_userspace::base::fault::Fault;
use support::stage::scene::{ALICE, BOB, Scene, Stage};

#[test]
fn without_a_free_port_the_caller_hears_503_and_the_call_in_progress_goes_on() {
    // One pair on each side.
    let mut scene = Scene::new(Stage { ports: 20_000..=20_001, ..Stage::default() });
    scene.talk();
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 503"]);
    assert_eq!(scene.calls(), 1);
    scene.hangs_up(BOB);
    let outcome = scene.ends();
    assert_eq!(outcome.records.len(), 1);
}

#[test]
fn a_port_is_used_again_after_its_quarantine_and_not_before() {
    let mut scene = Scene::new(Stage { ports: 20_000..=20_001, ..Stage::default() });
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(2_000);
    scene.alice_calls();
    scene.run(5_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 503"));
    scene.talk();
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_full_flow_table_refuses_the_caller_before_the_callee_hears_of_the_call() {
    let mut scene = Scene::new(Stage::default());
    scene.flows.room = 3;
    scene.alice_calls();
    scene.run(3_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 503"]);
    assert_eq!(scene.calls(), 0);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::FlowsExhausted.label()));
    assert_eq!(outcome.records[0].answered_at, None);
}

/// A callee that is not heard before its answer, and a table that is full then.
fn full_at_the_answer() -> Scene {
    let mut scene =
        Scene::new(Stage { service: |trunk| trunk.media.hear_before_answer = false, ..Stage::default() });
    scene.flows.room = 3;
    scene
}

#[test]
fn a_flow_table_that_is_full_at_the_answer_refuses_the_caller_and_hangs_up_the_callee() {
    let mut scene = full_at_the_answer();
    scene.alice_calls();
    scene.run(3_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 503"]);
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some(Fault::FlowsExhausted.label()));
}

#[test]
fn a_flow_table_that_is_full_at_early_media_refuses_the_caller_and_cancels_the_callee() {
    let mut scene = full_at_the_answer();
    scene.bob().on_invite = vec![(50, support::stage::phone::Reaction::Describe(183))];
    scene.alice_calls();
    scene.run(3_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 503"]);
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some(Fault::FlowsExhausted.label()));
}

#[test]
fn a_draining_gateway_refuses_new_calls_and_finishes_the_others() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.drain();
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 503"]);
    let held = scene.phones[BOB].session.directed("inactive");
    scene.reinvites(BOB, held);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 200"]);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn calls_above_the_limit_hear_503() {
    let mut scene = Scene::new(Stage { max_calls: 1, ..Stage::default() });
    scene.talk();
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 503"]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    scene.talk();
    scene.hangs_up(ALICE);
    assert_eq!(scene.ends().records.len(), 2);
}
