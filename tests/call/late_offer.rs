//! INVITEs without a session description: the answering side makes the offer (RFC 3261 section 13.2.1).

use gateway_userspace::base::id::Side;
use support::stage::phone::Reaction::{Describe, Reliable, Say};
use support::stage::scene::{ALICE, BOB, BOBS_NUMBER, Scene, Stage};
use support::stage::session::formats_of;

fn called_without_an_offer(stage: Stage) -> Scene {
    let mut scene = Scene::new(stage);
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, false);
    scene.run(5_000);
    scene
}

#[test]
fn the_callee_offers_in_its_200_and_the_caller_answers_in_its_ack() {
    let mut scene = called_without_an_offer(Stage::default());
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    assert_eq!(scene.flows.len(), 4);
    assert!(scene.flows.media_of(Side::Caller).is_some_and(|flow| !flow.muted));
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

#[test]
fn a_caller_that_never_answers_the_offer_loses_the_call_and_the_callee_has_its_ack() {
    let mut scene = Scene::new(Stage { phones_may_complain: true, ..Stage::default() });
    scene.alice().acknowledges = false;
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, false);
    scene.run(2_000);
    scene.hang_up_call(gateway_userspace::base::fault::Fault::HungUp);
    let ladder = scene.ends().ladder;
    let position = |text: &str| ladder.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{ladder}"));
    assert!(position("causeway → Bob: ACK 1") < position("causeway → Bob: BYE"), "{ladder}");
}

#[test]
fn a_change_may_leave_the_offer_to_the_other_side() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().session.at.1 = 4_800;
    let now = scene.now;
    scene.alice().reinvite(now, None);
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 200"]);
    let to = scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp).map(|output| output.to.port());
    assert_eq!(to, Some(4_800));
    scene.hangs_up(BOB);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// A service that wants an offer in each INVITE.
fn wants_offers() -> Stage {
    Stage { service: |trunk| trunk.sip.delayed_offer = false, ..Stage::default() }
}

// Statements 45, 46.
#[test]
fn a_callee_that_wants_an_offer_gets_ours_and_the_caller_answers_ours_in_its_ack() {
    let mut scene = called_without_an_offer(wants_offers());
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    let offer = scene.phones[BOB].came("INVITE ").next().expect("an INVITE").to_owned();
    let numbers: Vec<_> = formats_of(&offer).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [8, 9, 0, 101]);
    assert!(scene.phones[BOB].came("ACK ").all(|text| !text.contains("m=audio")));
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flows.media_of(side).expect("media is relayed");
        assert!(flow.rtp.is_some() && !flow.muted && !flow.payload_types.is_empty());
    }
    scene.hangs_up(ALICE);
    insta::assert_snapshot!(scene.ends().ladder);
}

// Statement 46.
#[test]
fn a_caller_that_can_answers_our_offer_in_its_prack_and_has_early_media() {
    for reliable in [false, true] {
        let mut scene = Scene::new(wants_offers());
        scene.alice().calls_with = "Supported: 100rel\r\n";
        scene.bob().on_invite = match reliable {
            true => vec![(50, Reliable(183, true)), (2_000, Say(200))],
            false => vec![(50, Describe(183)), (2_000, Describe(200))],
        };
        let now = scene.now;
        scene.alice().call(now, BOBS_NUMBER, false);
        scene.run(500);
        assert!(scene.phones[ALICE].came("SIP/2.0 183").next().is_some_and(|text| text.contains("m=audio")));
        for side in [Side::Caller, Side::Callee] {
            assert!(
                scene.flows.media_of(side).is_some_and(|flow| flow.rtp.is_some()),
                "early media both ways"
            );
        }
        scene.run(3_000);
        assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
        assert!(scene.phones[ALICE].came("SIP/2.0 200").all(|text| !text.contains("m=audio")));
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Statement 46.
#[test]
fn without_reliability_the_caller_rings_without_early_media_until_our_offer_in_the_200() {
    let mut scene = Scene::new(wants_offers());
    scene.bob().on_invite = vec![(50, Describe(183)), (2_000, Describe(200))];
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, false);
    scene.run(500);
    assert!(scene.phones[ALICE].came("SIP/2.0 183").all(|text| !text.contains("m=audio")));
    scene.run(3_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn an_offer_in_a_200_survives_the_daemon_until_its_answer_comes() {
    for stage in [Stage::default(), wants_offers()] {
        let mut scene = Scene::new(stage);
        let now = scene.now;
        scene.alice().call(now, BOBS_NUMBER, false);
        // Alice's ACK is on its way.
        scene.run(1_055);
        scene.restart();
        scene.run(3_000);
        assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
        for side in [Side::Caller, Side::Callee] {
            assert!(scene.flows.media_of(side).is_some_and(|flow| flow.rtp.is_some() && !flow.muted));
        }
        scene.hangs_up(BOB);
        scene.ends();
    }
}
