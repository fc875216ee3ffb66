//! Calls that outlive the daemon.

use support::stage::phone::Reaction::{Describe, Fork, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

#[test]
fn a_bye_from_either_side_ends_a_call_that_was_taken_over() {
    for leaver in [ALICE, BOB] {
        let mut scene = Scene::new(Stage::default());
        scene.talk();
        let flows = scene.flows.len();
        scene.restart();
        assert_eq!((scene.calls(), scene.flows.len()), (1, flows));
        scene.run(1_000);
        scene.hangs_up(leaver);
        scene.run(1_000);
        assert_eq!(scene.phones[leaver].answers.last().map(String::as_str), Some("BYE 200"));
        let outcome = scene.ends();
        if leaver == BOB {
            insta::assert_snapshot!(outcome.ladder);
        }
        assert_eq!((outcome.records[0].sip_status, outcome.records[0].cause), (200, 16));
    }
}

#[test]
fn a_call_that_was_taken_over_is_held_and_resumed() {
    let mut scene = Scene::new(Stage { cores: 3, ..Stage::default() });
    scene.talk();
    scene.restart();
    let session = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, session.directed("inactive"));
    scene.run(2_000);
    scene.restart();
    scene.reinvites(BOB, session);
    scene.run(2_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 200", "INVITE 200"]);
    scene.hangs_up(ALICE);
    assert_eq!(scene.ends().records.len(), 1);
}

#[test]
fn a_change_in_progress_when_the_daemon_was_killed_spoils_nothing() {
    // Refused before, and still open.
    for delay in [50, 5_000] {
        // A refusal that comes when its transaction is gone is acknowledged by nobody.
        let mut scene = Scene::new(Stage { phones_may_complain: delay > 1_000, ..Stage::default() });
        scene.talk();
        scene.alice().on_reinvite = vec![(delay, Say(488))];
        let session = scene.phones[BOB].session.clone();
        scene.reinvites(BOB, session.directed("inactive"));
        scene.run(1_000);
        scene.restart();
        scene.alice().on_reinvite = vec![(50, Describe(200))];
        scene.run(40_000);
        scene.reinvites(BOB, session.directed("sendonly"));
        scene.run(1_000);
        assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 200"));
        scene.hangs_up(BOB);
        scene.ends();
    }
}

#[test]
fn a_call_whose_flows_the_kernel_lost_gets_new_ones() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.flows = Default::default();
    scene.restart();
    assert_eq!(scene.flows.len(), 4);
    scene.hangs_up(ALICE);
    scene.ends();
}

/// Its peers have no counters to begin with again (RFC 3711 section 9.1).
#[test]
fn a_secured_call_whose_flows_the_kernel_lost_is_hung_up_on_both_sides() {
    let mut scene = crate::srtp::teams();
    scene.talk();
    scene.flows = Default::default();
    let refused = scene.restart_losing();
    assert_eq!(refused, ["The data plane refused the flow."]);
    scene.run(2_000);
    for phone in [ALICE, BOB] {
        assert!(!scene.phones[phone].is_talking());
        assert_eq!(scene.phones[phone].came("BYE").count(), 1);
    }
    let outcome = scene.ends();
    assert_eq!(
        (outcome.records[0].sip_status, outcome.records[0].fault.as_deref()),
        (200, Some("dataplane_failed"))
    );
}

/// The record is written, and the daemon dies before the other side has heard of it.
#[test]
fn whoever_is_owed_a_bye_gets_it_from_the_next_daemon() {
    for (before, after) in [(1, 1), (3, 2)] {
        let mut scene = Scene::new(Stage { cores: before, ..Stage::default() });
        scene.talk();
        scene.hangs_up(ALICE);
        scene.run(1);
        scene.loses = |text| text.starts_with("BYE");
        scene.run(200);
        assert!(scene.phones[BOB].is_talking() && !scene.phones[ALICE].is_talking());
        scene.restart_with(after);
        scene.loses = |_| false;
        scene.run(2_000);
        assert!(!scene.phones[BOB].is_talking());
        assert_eq!(scene.ends().records.len(), 1);
    }
}

/// Both hang up, and one of the two is heard by the next daemon only.
#[test]
fn a_bye_that_crosses_that_of_the_last_daemon_is_answered() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(1);
    scene.loses = |text| text.starts_with("BYE");
    scene.run(15);
    scene.hangs_up(BOB);
    scene.run(100);
    scene.restart();
    scene.loses = |_| false;
    scene.run(5_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("BYE 200"));
    assert_eq!(scene.ends().records.len(), 1);
}

#[test]
fn a_call_killed_before_its_ack_came_goes_on() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    // Alice's ACK is on its way to the gateway.
    scene.run(1_055);
    scene.restart();
    scene.run(2_000);
    assert!(scene.phones[ALICE].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn media_that_stopped_while_nobody_watched_ends_a_call_that_was_taken_over() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.media(false);
    scene.restart();
    scene.run(90_000);
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some("media_timeout"));
}

#[test]
fn an_answer_whose_ack_was_lost_with_the_daemon_is_acknowledged_by_the_next() {
    for offers in [true, false] {
        let mut scene = Scene::new(Stage::default());
        let now = scene.now;
        scene.alice().call(now, support::stage::scene::BOBS_NUMBER, offers);
        scene.loses = |text| text.starts_with("ACK") && !text.contains("Alice");
        scene.run(1_200);
        scene.restart();
        scene.loses = |_| false;
        let acknowledged = scene.ladder.len();
        scene.run(10_000);
        let ladder = scene.ladder[acknowledged..].join("\n");
        assert!(ladder.contains("causeway → Bob: ACK 1"), "{ladder}");
        assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

#[test]
fn an_answer_of_another_branch_that_comes_when_the_call_is_forgotten_is_acknowledged_and_hung_up() {
    for restarted in [false, true] {
        let mut scene = Scene::new(Stage::default());
        scene.bob().on_invite = vec![(50, Say(180)), (1_000, Describe(200)), (12_000, Fork)];
        scene.talk();
        scene.hangs_up(ALICE);
        scene.run(3_000);
        assert_eq!(scene.calls(), 0);
        if restarted {
            scene.restart();
        }
        scene.loses = |text| text.starts_with("ACK");
        scene.run(5_000);
        scene.loses = |_| false;
        scene.run(5_000);
        let late = scene.ladder.iter().filter(|line| line.trim_start().starts_with("12."));
        let byes = late.filter(|line| line.contains("causeway → Bob: BYE")).count();
        assert_eq!(byes, 1, "one BYE for one dialog\n{}", scene.ladder.join("\n"));
        scene.ends();
    }
}

#[test]
fn calls_go_on_under_a_daemon_with_another_number_of_cores() {
    for (before, after) in [(1, 2), (2, 1), (3, 7), (7, 2)] {
        for leaver in [ALICE, BOB] {
            let mut scene = Scene::new(Stage { cores: before, ..Stage::default() });
            scene.talk();
            scene.restart_with(after);
            assert_eq!(scene.calls(), 1);
            // Each side finds its call, whichever core its Call-ID names.
            for phone in [ALICE, BOB] {
                let session = scene.phones[phone].session.clone();
                scene.reinvites(phone, session);
                scene.run(1_000);
                let answer = scene.phones[phone].answers.last().map(String::as_str);
                assert_eq!(answer, Some("INVITE 200"), "{before} cores, then {after}");
            }
            scene.restart_with(before);
            scene.hangs_up(leaver);
            scene.run(1_000);
            assert_eq!(scene.phones[leaver].answers.last().map(String::as_str), Some("BYE 200"));
            assert_eq!(scene.ends().records[0].sip_status, 200);
        }
    }
}
