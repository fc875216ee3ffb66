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

// Statements 50, 51, 84, 85, 197.
#[test]
fn of_all_codes_from_300_to_699_exactly_408_503_and_504_send_the_call_to_the_next_peer() {
    for status in 300..700 {
        let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
        scene.bob().on_invite = vec![(50, Say(status))];
        scene.carol().on_invite = vec![(50, Say(486))];
        scene.alice_calls();
        scene.run(3_000);
        let next = [408, 503, 504].contains(&status);
        let tried = scene.ladder.iter().any(|line| line.contains("causeway → Carol: INVITE"));
        assert_eq!(tried, next, "{status}");
        let heard = match status {
            _ if next => 486,
            300..=399 => 480,
            401 | 407 => 403,
            _ => status,
        };
        assert_eq!(scene.phones[ALICE].answers, [format!("INVITE {heard}")], "{status}");
        let invites = |phone: &str| {
            scene.ladder.iter().filter(|line| line.contains(phone) && line.contains("INVITE 1 [")).count()
        };
        assert!(invites("causeway → Bob") == 1 && invites("causeway → Carol") <= 1, "{status}");
        assert_eq!(scene.ends().records[0].peers_tried, 1 + u8::from(next), "{status}");
    }
}

// Statements 49, 84.
#[test]
fn a_peer_that_names_a_pause_gets_no_calls_for_so_long() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.bob().on_invite = vec![(50, Say(503))];
    scene.bob().adds = vec![("Retry-After", "30 (maintenance)".into())];
    scene.carol().on_invite = vec![(50, Say(486))];
    let bobs =
        |scene: &Scene| scene.ladder.iter().filter(|line| line.contains("causeway → Bob: INVITE")).count();
    for (pause, asked) in [(1_000, 1), (30_000, 1), (3_000, 2)] {
        scene.alice_calls();
        scene.run(pause);
        assert_eq!(bobs(&scene), asked, "{}", scene.ladder.join("\n"));
    }
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 486"; 3]);
    scene.ends();
}

// Statement 84.
#[test]
fn when_every_peer_wants_a_pause_the_caller_hears_503_at_once() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    for phone in [BOB, CAROL] {
        scene.phones[phone].on_invite = vec![(50, Say(503))];
        scene.phones[phone].adds = vec![("Retry-After", "30".into())];
    }
    scene.alice_calls();
    scene.run(2_000);
    let before = scene.ladder.len();
    scene.alice_calls();
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 503", "INVITE 503"]);
    assert!(scene.ladder[before..].iter().all(|line| !line.contains("Bob") && !line.contains("Carol")));
    scene.ends();
}

// Statement 83.
#[test]
fn a_caller_that_hears_of_no_progress_for_its_trunks_limit_gets_408() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.bob().on_invite = vec![(50, Say(100)), (15_000, Say(180))];
    scene.alice_calls();
    scene.run(9_900);
    assert!(scene.phones[ALICE].answers.is_empty());
    scene.run(200);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 408"]);
    let outcome = scene.ends();
    assert_eq!(outcome.records[0].fault.as_deref(), Some(Fault::PeerTimeout.label()));
}

// Statement 84.
#[test]
fn a_callee_that_rings_and_does_not_answer_is_heard_as_480_and_rings_nowhere_else() {
    for script in [vec![(50, Say(180)), (60_000, Say(408))], vec![(50, Say(180))]] {
        let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
        scene.bob().on_invite = script;
        scene.alice_calls();
        scene.run(200_000);
        assert_eq!(scene.phones[ALICE].answers, ["INVITE 480"]);
        let outcome = scene.ends();
        let record = &outcome.records[0];
        assert_eq!((record.fault.as_deref(), record.peers_tried), (Some(Fault::NoAnswer.label()), 1));
    }
}
