//! Callers and callees of an IMS (RFC 3312, RFC 3262, RFC 3311): what they wait for ends on their own leg.

use gateway_userspace::base::id::Side;
use gateway_userspace::policy::PreconditionPolicy;
use support::stage::phone::Reaction::{Reliable, Say};
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

/// A callee that waits for its own access, and for word of ours.
const WAITING: &str = "a=curr:qos local none\r\na=curr:qos remote none\r\na=des:qos mandatory local sendrecv\r\na=des:qos mandatory remote sendrecv\r\na=conf:qos remote sendrecv\r\n";

fn ims_callee(policy: fn(&mut gateway_userspace::policy::Trunk)) -> Scene {
    let mut scene = Scene::new(Stage { service: policy, ..Stage::default() });
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (2_000, Reliable(180, false)), (3_000, Say(200))];
    scene.bob().session.attributes = WAITING;
    scene
}

fn offered(trunk: &mut gateway_userspace::policy::Trunk) {
    trunk.sip.preconditions = PreconditionPolicy::Offered;
}

// Statement 233.
#[test]
fn a_callee_that_waits_is_offered_our_readiness_and_told_of_it_once_more_by_update() {
    let mut scene = ims_callee(offered);
    scene.bob().session.formats.retain(|(number, _)| *number != 0);
    scene.alice_calls();
    scene.run(1_000);
    let invite = scene.phones[BOB].came("INVITE ").next().expect("an INVITE").to_owned();
    for line in [
        "a=curr:qos local sendrecv",
        "a=curr:qos remote none",
        "a=des:qos optional local sendrecv",
        "a=des:qos optional remote sendrecv",
    ] {
        assert!(invite.contains(&format!("\r\n{line}\r\n")), "{line} in {invite}");
    }
    assert!(invite.lines().any(|line| line.starts_with("Supported:") && line.contains("precondition")));
    let update = scene.phones[BOB].came("UPDATE ").next().expect("word of our readiness").to_owned();
    assert!(
        update.contains("a=curr:qos local sendrecv") && update.contains("a=curr:qos remote none"),
        "{update}"
    );
    assert!(update.contains("a=des:qos mandatory remote sendrecv"), "what he demands stands in it: {update}");
    assert!(!update.contains("PCMU"), "it offers what was agreed on: {update}");
    let mut session = scene.phones[BOB].session.clone();
    session.attributes = READY;
    scene.bob().session = session.clone();
    scene.updates(BOB, Some(session));
    scene.run(5_000);
    assert_eq!(scene.phones[BOB].answers, ["UPDATE 200"]);
    assert_eq!(scene.phones[BOB].came("UPDATE ").count(), 1, "word is said once");
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    for text in &scene.phones[ALICE].inbox {
        assert!(!text.contains("qos") && !text.contains("precondition"), "{text}");
        let is_early = text.starts_with("SIP/2.0 18");
        assert!(
            !is_early || !text.contains("m=audio"),
            "nothing is heard of media before there is some: {text}"
        );
    }
    for side in [Side::Caller, Side::Callee] {
        assert!(scene.flows.media_of(side).is_some_and(|flow| flow.rtp.is_some() && !flow.muted));
    }
    scene.reinvites(BOB, scene.phones[BOB].session.directed("sendonly"));
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 200"));
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_callee_that_is_ready_hears_no_update() {
    let mut scene = ims_callee(offered);
    scene.bob().session.attributes = READY;
    scene.talk();
    assert_eq!(scene.phones[BOB].came("UPDATE ").count(), 0);
    let told = scene.phones[ALICE].came("SIP/2.0 183").next().expect("early media").to_owned();
    assert!(told.contains("m=audio"), "what needs no waiting is heard at once: {told}");
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 233.
#[test]
fn a_callee_that_refuses_without_preconditions_gets_them_and_others_never_hear_of_any() {
    let mut scene = ims_callee(|_| {});
    scene.bob().on_invite = vec![(50, Say(421))];
    scene.bob().adds = vec![("Require", "precondition, 100rel".to_owned())];
    scene.alice_calls();
    scene.run(85);
    assert!(!scene.phones[BOB].came("INVITE ").next().expect("an INVITE").contains("qos"));
    scene.bob().adds.clear();
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (2_000, Say(180)), (3_000, Say(200))];
    scene.run(5_000);
    let invite = scene.phones[BOB].came("INVITE ").nth(1).expect("one more INVITE").to_owned();
    assert!(invite.contains("a=curr:qos local sendrecv"), "{invite}");
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    assert_eq!(scene.phones[BOB].came("UPDATE ").count(), 1);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_refusal_for_an_extension_that_we_do_not_have_or_may_not_speak_reaches_the_caller() {
    type Policy = fn(&mut gateway_userspace::policy::Trunk);
    let off: Policy = |trunk| trunk.sip.preconditions = PreconditionPolicy::Off;
    let usual: Policy = |_| {};
    for (policy, required) in [(off, "precondition"), (offered, "precondition"), (usual, "precondition, foo")]
    {
        let mut scene = ims_callee(policy);
        scene.bob().on_invite = vec![(50, Say(421))];
        scene.bob().adds = vec![("Require", required.to_owned())];
        scene.alice_calls();
        scene.run(2_000);
        assert_eq!(scene.phones[BOB].came("INVITE ").count(), 1, "{required}");
        assert_eq!(scene.phones[ALICE].answers, ["INVITE 421"]);
        scene.ends();
    }
}

/// A callee's network that plays its own ringing says so in P-Early-Media (RFC 5009).
#[test]
fn early_media_of_a_callee_that_waited_is_told_when_its_network_says_that_there_is_some() {
    let mut scene = ims_callee(offered);
    scene.alice_calls();
    scene.run(1_000);
    let session = scene.phones[BOB].session.clone();
    scene.bob().session.attributes = READY;
    scene.updates(BOB, Some(support::stage::session::Session { attributes: READY, ..session }));
    scene.bob().adds = vec![("P-Early-Media", "sendrecv".to_owned())];
    scene.run(1_500);
    let told = scene.phones[ALICE].came("SIP/2.0 180").next().expect("ringing").to_owned();
    assert!(told.contains("m=audio"), "{told}");
    scene.bob().adds.clear();
    scene.run(5_000);
    scene.hangs_up(ALICE);
    scene.ends();
}

/// RFC 3311 section 5.1: the 2xx may overtake the answer to an UPDATE; it is taken after it.
#[test]
fn a_2xx_that_comes_before_the_answer_to_our_word_waits_for_it() {
    let mut scene = ims_callee(offered);
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (200, Say(200))];
    scene.loses = |text| text.starts_with("SIP/2.0 200") && text.contains("UPDATE\r\n");
    scene.alice_calls();
    scene.run(400);
    assert_eq!(scene.phones[ALICE].came("SIP/2.0 200").count(), 0, "it waits");
    scene.loses = |_| false;
    scene.run(6_000);
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    scene.hangs_up(ALICE);
    scene.ends();
}
