//! Which peer gets the call, and what the caller hears of those that do not take it.

use gateway_userspace::base::fault::Fault;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Scene, Stage};

/// What the caller hears when the first peer says `status`, and the peers that were tried.
fn refused(status: u16) -> (String, u8, Scene) {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(status))];
    scene.alice_calls();
    scene.run(5_000);
    let tried =
        if scene.ladder.iter().any(|line| line.contains("causeway → Carol: INVITE")) { 2 } else { 1 };
    let heard = scene.phones[ALICE].answers.join(" ");
    (heard, tried, scene)
}

#[test]
fn refusals_that_are_the_callees_own_word_pass_through() {
    for status in [404, 480, 486, 488, 500, 600, 603] {
        let (heard, tried, scene) = refused(status);
        assert_eq!((heard, tried), (format!("INVITE {status}"), 1));
        let outcome = scene.ends();
        assert_eq!((outcome.records[0].sip_status, outcome.records[0].peers_tried), (status, 1));
    }
}

#[test]
fn a_busy_callee_is_heard_as_busy() {
    let (_, _, scene) = refused(486);
    let outcome = scene.ends();
    insta::assert_snapshot!(outcome.ladder);
    assert_eq!(outcome.records[0].cause, 17);
}

#[test]
fn redirections_and_challenges_do_not_cross() {
    for (status, seen) in [(302, 480), (300, 480), (401, 403), (407, 403)] {
        let (heard, tried, scene) = refused(status);
        assert_eq!((heard, tried), (format!("INVITE {seen}"), 1), "{status}");
        scene.ends();
    }
}

#[test]
fn a_peer_that_is_out_of_service_is_followed_by_the_next() {
    for status in [408, 503, 504] {
        let (heard, tried, mut scene) = refused(status);
        assert_eq!((heard.as_str(), tried), ("INVITE 200", 2), "{status}");
        assert!(scene.phones[CAROL].is_talking());
        scene.hangs_up(ALICE);
        let outcome = scene.ends();
        assert_eq!(outcome.records[0].peers_tried, 2);
        if status == 503 {
            insta::assert_snapshot!(outcome.ladder);
        }
    }
}

#[test]
fn a_silent_peer_is_followed_by_the_next() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().dead = true;
    scene.alice_calls();
    scene.run(8_000);
    assert!(scene.phones[CAROL].is_talking());
    scene.hangs_up(CAROL);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_host_that_is_not_there_is_followed_by_the_next_at_once() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().dead = true;
    scene.alice_calls();
    scene.run(100);
    scene.unreachable(BOB);
    scene.run(2_000);
    assert!(scene.phones[CAROL].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn when_no_peer_answers_the_caller_hears_a_timeout() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().dead = true;
    scene.carol().dead = true;
    scene.alice_calls();
    scene.run(10_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 408"]);
    let outcome = scene.ends();
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::PeerTimeout.label()));
    assert_eq!(outcome.records[0].peers_tried, 2);
}

#[test]
fn when_every_peer_is_out_of_service_the_caller_hears_the_last_of_them() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(503))];
    scene.carol().on_invite = vec![(50, Say(504))];
    scene.alice_calls();
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 504"]);
    scene.ends();
}

#[test]
fn a_late_answer_of_a_peer_that_was_given_up_is_acknowledged_and_hung_up() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(6_000, Describe(200))];
    scene.alice_calls();
    scene.run(10_000);
    assert!(scene.phones[CAROL].is_talking() && !scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn early_media_of_a_peer_that_then_fails_gives_way_to_the_next() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Describe(183)), (1_000, Say(503))];
    scene.carol().on_invite = vec![(50, Describe(183)), (1_000, Describe(200))];
    scene.alice_calls();
    scene.run(5_000);
    assert!(scene.phones[CAROL].is_talking());
    let to = scene.flows.media_of(gateway_userspace::base::id::Side::Caller).and_then(|flow| flow.rtp);
    assert_eq!(to.map(|output| output.to.to_string()).as_deref(), Some("198.18.0.31:4000"));
    scene.hangs_up(ALICE);
    scene.ends();
}
