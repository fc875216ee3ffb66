//! A panic inside one call ends that call, tells both sides, writes its record, and leaves all else as it is. Builds
//! without debug assertions have no fuse to light.
#![cfg(debug_assertions)]

use crate::transfers;
use support::stage::phone::Reaction::{Describe, Reliable, Say};
use support::stage::scene::{ALICE, BOB, Outcome, Scene, Stage};

/// What the only record says: status, fault, who ended the call.
fn ends_with_fault(scene: Scene, status: u16) -> Outcome {
    assert_eq!(scene.total("causeway_call_panics"), 1);
    let outcome = scene.ends();
    let [record] = &outcome.records[..] else { panic!("{:?}", outcome.records) };
    assert_eq!((record.sip_status, record.fault.as_deref()), (status, Some("internal")));
    outcome
}

#[test]
fn a_panic_in_an_answered_call_hangs_up_on_both_sides() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.lights_fuse();
    scene.asks(ALICE, "INFO", "");
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INFO 500"));
    for phone in [ALICE, BOB] {
        assert_eq!(scene.phones[phone].came("BYE").count(), 1, "{}", scene.ladder.join("\n"));
        assert!(!scene.phones[phone].is_talking());
    }
    let outcome = ends_with_fault(scene, 200);
    insta::assert_snapshot!(outcome.ladder);
    assert_eq!(outcome.records[0].from_caller.packets, 100, "what the flows had counted is in the record");
}

#[test]
fn a_bye_that_panics_is_answered_and_the_other_side_is_hung_up_on() {
    let mut scene = Scene::new(Stage { cores: 2, ..Stage::default() });
    scene.talk();
    scene.lights_fuse();
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("BYE 500"));
    assert_eq!(scene.phones[ALICE].came("BYE").count(), 1);
    ends_with_fault(scene, 200);
}

#[test]
fn a_change_that_panics_is_refused_with_500() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("sendonly"));
    scene.run(15);
    // Bob's answer to it.
    scene.lights_fuse();
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 500"));
    ends_with_fault(scene, 200);
}

#[test]
fn a_panic_while_it_rings_refuses_the_caller_and_cancels_the_callee() {
    for reaction in [Say(180), Describe(183), Reliable(183, true)] {
        let mut scene = Scene::new(Stage::default());
        scene.alice().calls_with = "Supported: 100rel\r\n";
        scene.bob().on_invite = vec![(50, reaction), (400, Say(181)), (30_000, Say(200))];
        scene.alice_calls();
        scene.run(400);
        scene.lights_fuse();
        scene.run(2_000);
        assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 500"));
        assert_eq!(scene.phones[BOB].came("CANCEL").count(), 1, "{}", scene.ladder.join("\n"));
        ends_with_fault(scene, 500);
    }
}

#[test]
fn an_answer_that_panics_is_acknowledged_and_hung_up() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    scene.run(500);
    scene.lights_fuse();
    scene.run(5_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 500"]);
    assert_eq!(scene.phones[BOB].came("BYE").count(), 1, "{}", scene.ladder.join("\n"));
    ends_with_fault(scene, 500);
}

#[test]
fn an_invite_that_panics_is_refused_and_takes_nothing_with_it() {
    let mut scene = Scene::new(Stage { ports: 20_000..=20_001, ..Stage::default() });
    scene.lights_fuse();
    scene.alice_calls();
    scene.run(8_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 500"]);
    assert_eq!((scene.calls(), scene.total("causeway_call_panics")), (0, 1));
    // The only pair of ports is free again once it has rested.
    scene.talk();
    scene.hangs_up(ALICE);
    assert_eq!(scene.ends().records.len(), 1);
}

#[test]
fn a_panic_behind_the_end_of_a_call_writes_no_second_record() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(15);
    // Bob's answer to the BYE.
    scene.lights_fuse();
    scene.run(1_000);
    assert_eq!(scene.total("causeway_call_panics"), 1);
    assert_eq!(scene.ends().records[0].fault, None);
}

#[test]
fn a_panic_behind_the_end_of_a_call_leaves_nobody_in_it() {
    let mut scene = Scene::new(transfers::teams());
    scene.talk();
    scene.refers(BOB, transfers::CAROL_AT_TEAMS);
    scene.run(5_000);
    scene.hangs_up(ALICE);
    scene.run(15);
    // Carol's answer to the BYE.
    scene.lights_fuse();
    scene.run(1_000);
    assert_eq!(scene.total("causeway_call_panics"), 1);
    assert!(scene.phones[BOB].is_talking(), "he has half a minute to leave by himself");
    scene.run(40_000);
    assert!(!scene.phones[BOB].is_talking());
    assert_eq!(scene.ends().records.len(), 1);
}

#[test]
fn other_calls_of_the_core_go_on() {
    let mut scene = Scene::new(Stage::default());
    for _ in 0..3 {
        scene.talk();
    }
    let flows = scene.flows.len();
    scene.lights_fuse();
    scene.asks(ALICE, "INFO", "");
    scene.run(1_000);
    assert_eq!((scene.calls(), scene.flows.len()), (2, flows * 2 / 3));
    for _ in 0..2 {
        scene.hangs_up(BOB);
        scene.run(1_000);
    }
    let faults: Vec<_> = scene.ends().records.into_iter().filter_map(|record| record.fault).collect();
    assert_eq!(faults, ["internal"]);
}

#[test]
fn a_call_that_was_taken_over_may_panic_as_well() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.restart();
    scene.lights_fuse();
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].came("BYE").count(), 1);
    ends_with_fault(scene, 200);
}
