//! Session timers (RFC 4028): each leg has its own, and a session that nobody refreshes ends the call.

use gateway_userspace::policy::Trunk;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Scene, Stage};

const MINUTE: u64 = 60_000;
const TIMER: &str = "Supported: timer\r\n";

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Bob's 200 names this Session-Expires.
fn answered_with(expires: &str) -> Scene {
    let mut scene = Scene::new(Stage::default());
    scene.bob().adds = vec![("Session-Expires", expires.to_owned()), ("Require", "timer".into())];
    scene.talk();
    scene
}

fn bobs_invites(scene: &Scene) -> usize {
    scene.phones[BOB].came("INVITE ").count()
}

// Statements 104, 105.
#[test]
fn named_as_the_refresher_the_gateway_refreshes_at_half_the_interval_by_the_same_session_description() {
    let mut scene = answered_with("600;refresher=uac");
    scene.run(290_000);
    assert_eq!(bobs_invites(&scene), 1);
    scene.run(10_000);
    assert_eq!(bobs_invites(&scene), 2);
    let refresh = scene.phones[BOB].came("INVITE ").last().expect("a refresh").to_owned();
    assert_eq!(header(&refresh, "Session-Expires"), Some("600;refresher=uac"));
    let body = |text: &str| text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    let first = scene.phones[BOB].came("INVITE ").next().expect("the INVITE").to_owned();
    assert_eq!(body(&refresh), body(&first), "nothing changes, not even the version");
    assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0, "it stays on its leg");
    // And again half the interval after that.
    scene.run(290_000);
    assert_eq!(bobs_invites(&scene), 2);
    scene.run(15_000);
    assert_eq!(bobs_invites(&scene), 3);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 105.
#[test]
fn a_peer_that_takes_update_is_refreshed_by_one_without_a_session_description() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().adds = vec![
        ("Session-Expires", "600;refresher=uac".into()),
        ("Require", "timer".into()),
        ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE".into()),
    ];
    scene.talk();
    scene.run(10 * MINUTE);
    assert_eq!(bobs_invites(&scene), 1, "{}", scene.ladder.join("\n"));
    assert_eq!(scene.phones[BOB].came("UPDATE ").count(), 2);
    assert!(scene.phones[BOB].came("UPDATE ").all(|text| !text.contains("m=audio")));
    scene.run(10 * MINUTE);
    assert!(scene.phones[BOB].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 106.
#[test]
fn a_session_that_the_peer_should_refresh_and_does_not_ends_both_legs_before_it_expires() {
    let mut scene = answered_with("600;refresher=uas");
    // Set up after a second, 32 seconds before the end.
    scene.run(560_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.run(10_000);
    assert!(!scene.phones[ALICE].is_talking() && !scene.phones[BOB].is_talking());
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some("session_expired"));
}

// Statement 106.
#[test]
fn a_refresh_that_nobody_answers_ends_both_legs() {
    let mut scene = answered_with("600;refresher=uac");
    scene.bob().dead = true;
    scene.run(6 * MINUTE);
    assert!(!scene.phones[ALICE].is_talking());
    scene.ends();
}

// Statements 103, 104.
#[test]
fn a_peer_that_refreshes_by_a_re_invite_at_27_minutes_keeps_the_call_and_the_other_side_hears_nothing() {
    let mut scene = answered_with("1800;refresher=uas");
    let flows = scene.flows.media_of(gateway_userspace::base::id::Side::Caller).cloned();
    scene.run(27 * MINUTE);
    let session = scene.phones[BOB].session.clone();
    scene.phones[BOB].calls_with = "";
    let now = scene.now;
    scene.phones[BOB].reinvite_with(
        now,
        session,
        "Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n",
    );
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 200"));
    let answer = scene.phones[BOB].came("SIP/2.0 200").last().expect("the answer").to_owned();
    assert_eq!(header(&answer, "Session-Expires"), Some("1800;refresher=uac"));
    assert_eq!(header(&answer, "Require"), Some("timer"));
    assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0);
    assert_eq!(scene.flows.media_of(gateway_userspace::base::id::Side::Caller).cloned(), flows);
    // The old interval would have ended by now.
    scene.run(27 * MINUTE);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 104.
#[test]
fn each_leg_negotiates_its_own_timer() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = "Supported: timer\r\nSession-Expires: 900;refresher=uac\r\n";
    scene.talk();
    let told = scene.phones[ALICE].came("SIP/2.0 200").next().expect("the answer").to_owned();
    assert_eq!(header(&told, "Session-Expires"), Some("900;refresher=uac"));
    let asked = scene.phones[BOB].came("INVITE ").next().expect("the INVITE").to_owned();
    assert_eq!(header(&asked, "Session-Expires"), Some("1800"));
    assert!(!asked.contains("refresher"));
    // Bob's 200 named none: his leg has no timer, hers ends the call.
    scene.run(14 * MINUTE);
    assert!(scene.phones[BOB].is_talking());
    scene.run(MINUTE);
    assert!(!scene.phones[BOB].is_talking());
    scene.ends();
}

#[test]
fn a_caller_that_cannot_is_not_asked_for_a_timer() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    assert!(scene.phones[ALICE].came("SIP/2.0 200").all(|text| header(text, "Session-Expires").is_none()));
    scene.run(120 * MINUTE);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = TIMER;
    scene.talk();
    let told = scene.phones[ALICE].came("SIP/2.0 200").next().expect("the answer").to_owned();
    assert_eq!(header(&told, "Session-Expires"), Some("1800;refresher=uac"));
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 107.
#[test]
fn a_422_is_followed_by_the_same_invite_with_the_interval_that_it_names() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(422))];
    scene.bob().adds = vec![("Min-SE", "3600".into())];
    scene.alice_calls();
    // The second INVITE is on its way.
    scene.run(85);
    scene.bob().on_invite = vec![(50, Describe(200))];
    scene.bob().adds = Vec::new();
    scene.run(3_000);
    assert!(scene.phones[BOB].is_talking(), "{}", scene.ladder.join("\n"));
    let invites: Vec<_> = scene.phones[BOB].came("INVITE ").map(str::to_owned).collect();
    assert_eq!(invites.len(), 2);
    assert_eq!(header(&invites[0], "Call-ID"), header(&invites[1], "Call-ID"));
    assert_eq!(header(&invites[1], "Session-Expires"), Some("3600"));
    assert_eq!(header(&invites[1], "Min-SE"), Some("3600"));
    assert_eq!(scene.phones[CAROL].came("INVITE ").count(), 0);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 107.
#[test]
fn a_422_to_a_refresh_or_a_change_is_followed_by_a_longer_interval() {
    let mut scene = answered_with("600;refresher=uac");
    scene.bob().on_reinvite = vec![(50, Say(422))];
    scene.bob().adds = vec![("Min-SE", "1200".into())];
    scene.run(300_020);
    scene.bob().on_reinvite = vec![(50, Describe(200))];
    scene.bob().adds = vec![("Session-Expires", "1200;refresher=uac".into())];
    scene.run(10_000);
    let last = scene.phones[BOB].came("INVITE ").last().expect("a refresh").to_owned();
    assert_eq!(header(&last, "Session-Expires"), Some("1200;refresher=uac"));
    assert_eq!(bobs_invites(&scene), 3);
    scene.run(500_000);
    assert!(scene.phones[BOB].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 108.
#[test]
fn an_interval_shorter_than_90_seconds_is_answered_with_422_and_our_min_se() {
    let short = "Supported: timer\r\nSession-Expires: 60\r\n";
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = short;
    scene.alice_calls();
    scene.run(500);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 422"]);
    let refusal = scene.phones[ALICE].came("SIP/2.0 422").next().expect("a refusal").to_owned();
    assert_eq!(header(&refusal, "Min-SE"), Some("90"));
    scene.alice().calls_with = "";
    scene.talk();
    let session = scene.phones[BOB].session.clone();
    let now = scene.now;
    scene.phones[BOB].reinvite_with(now, session, short);
    scene.run(500);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 422"));
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_trunk_can_do_without_session_timers() {
    let off: fn(&mut Trunk) = |trunk| trunk.sip.session_expires = None;
    let mut scene = Scene::new(Stage { operator: off, service: off, ..Stage::default() });
    scene.alice().calls_with = TIMER;
    scene.talk();
    assert!(scene.phones[BOB].came("INVITE ").all(|text| !text.contains("timer")));
    assert!(scene.phones[ALICE].came("SIP/2.0 200").all(|text| header(text, "Session-Expires").is_none()));
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 109.
#[test]
fn without_a_timer_on_either_leg_the_watch_over_media_ends_a_dead_call() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.media(false);
    scene.run(2 * MINUTE);
    assert!(!scene.phones[ALICE].is_talking() && !scene.phones[BOB].is_talking());
    assert_eq!(scene.ends().records[0].fault.as_deref(), Some("media_timeout"));
}

#[test]
fn a_session_is_refreshed_by_the_daemon_that_took_its_call_over() {
    let mut scene = answered_with("600;refresher=uac");
    scene.run(4 * MINUTE);
    scene.restart();
    scene.run(2 * MINUTE);
    assert_eq!(bobs_invites(&scene), 2);
    scene.run(10 * MINUTE);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 112.
#[test]
fn the_answer_of_the_callee_is_acknowledged_at_once() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let at = |what: &str| -> f64 {
        let line = scene.ladder.iter().find(|line| line.contains(what)).expect("it is in the ladder");
        line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a time")
    };
    // The 200 takes 10 ms to arrive.
    assert!(at("causeway → Bob: ACK 1") - at("Bob → causeway: 200 to INVITE 1") < 0.011);
    scene.hangs_up(ALICE);
    scene.ends();
}
