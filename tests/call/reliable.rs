//! Reliable provisional responses (RFC 3262): spoken on each leg by itself, whatever the other leg speaks.

use gateway_userspace::base::id::Side;
use gateway_userspace::policy::{ReliableProvisional, Trunk};
use support::stage::phone::Reaction::{Describe, Reliable, Say};
use support::stage::scene::{ALICE, BOB, BOBS_NUMBER, CAROL, Scene, Stage};

const SUPPORTED: &str = "Supported: 100rel\r\n";
const REQUIRED: &str = "Require: 100rel\r\n";

/// Responses to the INVITE that Alice heard, those sent reliably with an `r`, those with SDP with an `s`.
fn heard(scene: &Scene) -> Vec<String> {
    let word = |text: &&str| {
        let status = text.split(' ').nth(1)?.to_owned();
        let invite = text.contains("INVITE\r\n") && status != "100";
        let reliable = if text.contains("Require: 100rel") && text.contains("RSeq: ") { "r" } else { "" };
        let describes = if text.contains("m=audio") { "s" } else { "" };
        invite.then(|| format!("{status}{reliable}{describes}"))
    };
    scene.phones[ALICE].came("SIP/2.0").filter_map(|text| word(&text)).collect()
}

fn talks_and_ends(mut scene: Scene) {
    scene.run(5_000);
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    assert_eq!(scene.flows.len(), 4);
    assert!(scene.flows.media_of(Side::Caller).is_some_and(|flow| flow.rtp.is_some() && !flow.muted));
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 70.
#[test]
fn reliable_responses_of_the_callee_are_acknowledged_here_and_reach_the_caller_without_their_reliability() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (400, Reliable(180, false)), (2_000, Say(200))];
    scene.alice_calls();
    scene.run(3_000);
    assert_eq!(scene.phones[BOB].came("PRACK ").count(), 2);
    assert_eq!(heard(&scene), ["183s", "180", "200s"]);
    for text in scene.phones[ALICE].came("SIP/2.0 18") {
        assert!(!text.contains("RSeq") && !text.contains("100rel"), "{text}");
    }
    talks_and_ends(scene);
}

#[test]
fn each_leg_speaks_what_its_own_peer_speaks() {
    // (caller's line, reliable answers of the callee, what the caller hears)
    let table: [(&'static str, bool, &[&str]); 6] = [
        ("", false, &["180", "183s", "200s"]),
        ("", true, &["180", "183s", "200s"]),
        (SUPPORTED, false, &["180", "183rs", "200"]),
        (SUPPORTED, true, &["180", "183rs", "200"]),
        (REQUIRED, false, &["180r", "183rs", "200"]),
        (REQUIRED, true, &["180r", "183rs", "200"]),
    ];
    for (lines, reliable, expected) in table {
        let mut scene = Scene::new(Stage::default());
        scene.alice().calls_with = lines;
        scene.bob().on_invite = match reliable {
            false => vec![(50, Say(180)), (500, Describe(183)), (2_000, Describe(200))],
            true => vec![(50, Reliable(180, false)), (500, Reliable(183, true)), (2_000, Say(200))],
        };
        scene.alice_calls();
        scene.run(3_000);
        assert_eq!(heard(&scene), expected, "{lines:?} and {reliable}");
        let offered = scene.phones[BOB].came("INVITE ").all(|text| text.contains("Supported: 100rel"));
        assert!(offered && scene.phones[BOB].came("INVITE ").all(|text| !text.contains("Require")));
        talks_and_ends(scene);
    }
}

// Statement 71.
#[test]
fn a_caller_that_requires_reliability_and_never_acknowledges_loses_the_call_after_64_t1() {
    let mut scene = Scene::new(Stage::default());
    (scene.alice().calls_with, scene.alice().pracks) = (REQUIRED, false);
    scene.bob().on_invite = vec![(50, Say(180))];
    scene.alice_calls();
    scene.run(31_900);
    assert_eq!(scene.phones[ALICE].answers, Vec::<String>::new());
    // At 0.5, 1, 2, 4, 8 and 16 s after the one before.
    assert_eq!(heard(&scene), ["180r"; 7]);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 504"]);
    let outcome = scene.ends();
    assert!(outcome.ladder.contains("causeway → Bob: CANCEL"), "{}", outcome.ladder);
    assert_eq!(outcome.records[0].fault.as_deref(), Some("no_prack"));
}

// Statement 71.
#[test]
fn a_prack_that_names_another_response_is_refused_and_acknowledges_nothing() {
    let mut scene = Scene::new(Stage::default());
    (scene.alice().calls_with, scene.alice().pracks) = (REQUIRED, false);
    scene.bob().on_invite = vec![(50, Say(180)), (3_000, Describe(200))];
    scene.alice_calls();
    scene.run(200);
    let rseq: u32 = {
        let text = scene.phones[ALICE].came("SIP/2.0 180").next().expect("it rings").to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("RSeq: ")).expect("a reliable response");
        line.parse().expect("a number")
    };
    for wrong in [format!("{} 1 INVITE", rseq + 1), format!("{rseq} 2 INVITE"), "nonsense".to_owned()] {
        scene.asks(ALICE, "PRACK", &format!("RAck: {wrong}\r\n"));
        scene.run(100);
        assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("PRACK 481"), "{wrong}");
    }
    scene.asks(ALICE, "PRACK", &format!("RAck: {rseq} 1 INVITE\r\n"));
    scene.run(4_000);
    assert_eq!(scene.phones[ALICE].answers[3..], ["PRACK 200", "INVITE 200"]);
    talks_and_ends(scene);
}

#[test]
fn the_next_reliable_response_and_the_answer_wait_for_the_prack_of_the_one_before() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = REQUIRED;
    scene.loses = |text| text.starts_with("PRACK") && text.contains("Alice");
    scene.bob().on_invite = vec![(50, Say(180)), (100, Describe(183)), (200, Describe(200))];
    scene.alice_calls();
    scene.run(2_000);
    assert!(heard(&scene).iter().all(|word| word == "180r"), "{:?}", heard(&scene));
    assert!(!scene.phones[ALICE].is_talking());
    scene.loses = |_| false;
    scene.run(6_000);
    let last: Vec<_> = heard(&scene).into_iter().filter(|word| word != "180r").collect();
    assert_eq!(last, ["183rs", "200"]);
    talks_and_ends(scene);
}

#[test]
fn a_caller_that_gives_up_while_the_answer_waits_for_its_prack_frees_the_callee() {
    let mut scene = Scene::new(Stage::default());
    (scene.alice().calls_with, scene.alice().pracks) = (REQUIRED, false);
    scene.bob().on_invite = vec![(50, Say(180)), (200, Describe(200))];
    scene.alice_calls();
    scene.run(1_000);
    scene.cancels(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["CANCEL 200", "INVITE 487"]);
    assert!(!scene.phones[BOB].is_talking());
    scene.ends();
}

#[test]
fn a_copy_of_a_reliable_response_is_not_acknowledged_again_and_one_that_overtook_is_left_alone() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Reliable(180, false)), (400, Reliable(183, true)), (3_000, Say(200))];
    // The first response is lost at first: the second overtakes it, and Bob says both again.
    scene.loses = |text| text.starts_with("SIP/2.0 180") && text.contains("Bob");
    scene.alice_calls();
    scene.run(500);
    scene.loses = |_| false;
    scene.run(2_400);
    assert_eq!(heard(&scene)[0], "183s");
    talks_and_ends(scene);
}

#[test]
fn a_trunk_can_require_reliability_of_callers_and_callees() {
    let required: fn(&mut Trunk) = |trunk| trunk.sip.reliable_provisional = ReliableProvisional::Required;
    let mut scene = Scene::new(Stage { operator: required, service: required, ..Stage::default() });
    scene.alice_calls();
    scene.run(500);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 421"]);
    assert!(scene.phones[ALICE].came("SIP/2.0 421").all(|text| text.contains("Require: 100rel")));
    scene.alice().calls_with = SUPPORTED;
    scene.alice_calls();
    scene.run(3_000);
    assert!(scene.phones[BOB].came("INVITE ").all(|text| text.contains("Require: 100rel")));
    assert_eq!(heard(&scene), ["421", "180r", "200s"]);
    talks_and_ends(scene);
}

#[test]
fn a_trunk_can_leave_reliability_to_those_who_require_it() {
    let off: fn(&mut Trunk) = |trunk| trunk.sip.reliable_provisional = ReliableProvisional::Off;
    for (lines, expected) in [(SUPPORTED, ["183s", "200s"]), (REQUIRED, ["183rs", "200"])] {
        let mut scene = Scene::new(Stage { operator: off, service: off, ..Stage::default() });
        scene.alice().calls_with = lines;
        scene.bob().on_invite = vec![(50, Describe(183)), (1_000, Describe(200))];
        scene.alice_calls();
        scene.run(2_000);
        assert_eq!(heard(&scene), expected);
        assert!(scene.phones[BOB].came("INVITE ").all(|text| !text.contains("100rel")));
        talks_and_ends(scene);
    }
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_200() {
    let mut scene = Scene::new(Stage::default());
    (scene.alice().calls_with, scene.alice().pracks) = (REQUIRED, false);
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (3_000, Say(200))];
    scene.alice_calls();
    scene.run(300);
    let text = scene.phones[ALICE].came("SIP/2.0 183").next().expect("early media").to_owned();
    let rseq = text.lines().find_map(|line| line.strip_prefix("RSeq: ")).expect("RSeq").to_owned();
    let mut session = scene.phones[ALICE].session.clone();
    session.at.1 = 4_600;
    scene.offers(ALICE, "PRACK", session, &format!("RAck: {rseq} 1 INVITE\r\n"));
    scene.run(300);
    assert!(
        scene.phones[ALICE]
            .came("SIP/2.0 200")
            .any(|text| text.contains("PRACK\r\n") && text.contains("m=audio"))
    );
    let to = scene.flows.media_of(Side::Callee).and_then(|flow| flow.rtp).map(|output| output.to.port());
    assert_eq!(to, Some(4_600));
    talks_and_ends(scene);
}

#[test]
fn reliability_follows_the_call_to_the_next_peer() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = REQUIRED;
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (500, Say(503))];
    scene.carol().on_invite = vec![(50, Reliable(183, true)), (1_000, Say(200))];
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, true);
    scene.run(5_000);
    assert!(scene.phones[CAROL].is_talking(), "{}", scene.ladder.join("\n"));
    assert_eq!(scene.phones[CAROL].came("PRACK ").count(), 1);
    scene.hangs_up(CAROL);
    scene.ends();
}
