//! Callers of an IMS (RFC 3312, RFC 3262, RFC 3311): what they wait for ends on their own leg.

use gateway_userspace::base::id::Side;
use support::stage::scene::{ALICE, BOB, Scene, Stage};

const CALLS_WITH: &str =
    "Supported: 100rel, precondition, timer\r\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE\r\n";
const MISSING: &str = "a=curr:qos local none\r\na=curr:qos remote none\r\na=des:qos mandatory local sendrecv\r\na=des:qos none remote sendrecv\r\n";
const READY: &str = "a=curr:qos local sendrecv\r\na=curr:qos remote sendrecv\r\na=des:qos mandatory local sendrecv\r\na=des:qos mandatory remote sendrecv\r\n";

fn ims() -> Scene {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = CALLS_WITH;
    scene.alice().session.attributes = MISSING;
    scene
}

// Statement 233.
#[test]
fn preconditions_of_the_caller_complete_here_and_the_callee_rings_when_they_are_met() {
    let mut scene = ims();
    scene.alice_calls();
    scene.run(2_000);
    let told = scene.phones[ALICE].came("SIP/2.0 183").next().expect("an answer").to_owned();
    for line in [
        "Require: 100rel",
        "a=curr:qos local sendrecv",
        "a=curr:qos remote none",
        "a=conf:qos remote sendrecv",
    ] {
        assert!(told.contains(&format!("\r\n{line}\r\n")), "{line} in {told}");
    }
    assert_eq!(scene.phones[ALICE].answers, ["PRACK 200"]);
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 0, "he must not ring yet");
    let mut session = scene.phones[ALICE].session.clone();
    session.attributes = READY;
    scene.updates(ALICE, Some(session));
    scene.run(5_000);
    let answer = scene.phones[ALICE].came("SIP/2.0 200").find(|text| text.contains("UPDATE\r\n"));
    let answer = answer.expect("an answer to the UPDATE").to_owned();
    assert!(answer.contains("a=curr:qos remote sendrecv") && !answer.contains("a=conf"), "{answer}");
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    for text in &scene.phones[BOB].inbox {
        assert!(!text.contains("qos") && !text.contains("precondition"), "{text}");
        assert!(!text.starts_with("UPDATE") && !text.starts_with("PRACK"), "{text}");
    }
    for side in [Side::Caller, Side::Callee] {
        assert!(scene.flows.media_of(side).is_some_and(|flow| flow.rtp.is_some() && !flow.muted));
    }
    assert_eq!(
        scene.phones[ALICE].came("INVITE ").count(),
        0,
        "the callee was offered what she was answered"
    );
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 233.
#[test]
fn a_caller_that_is_ready_rings_the_callee_at_once() {
    let mut scene = ims();
    scene.alice().session.attributes = READY;
    scene.talk();
    assert!(scene.phones[BOB].inbox.iter().all(|text| !text.contains("qos")));
    let told = scene.phones[ALICE].came("SIP/2.0 200").next().expect("the answer").to_owned();
    assert!(told.contains("a=curr:qos local sendrecv"), "{told}");
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_caller_that_gives_up_while_it_waits_leaves_nothing() {
    let mut scene = ims();
    scene.alice_calls();
    scene.run(500);
    scene.cancels(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 487"));
    assert_eq!(scene.calls(), 0);
    scene.ends();
}

#[test]
fn a_caller_that_is_never_ready_is_refused_and_the_callee_never_rang() {
    let mut scene = ims();
    scene.alice_calls();
    scene.run(200_000);
    assert_eq!(scene.phones[ALICE].answers.len(), 2, "{:?}", scene.phones[ALICE].answers);
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 0);
    scene.ends();
}
