//! INVITEs without a session description: the answering side makes the offer (RFC 3261 section 13.2.1).

use gateway_userspace::base::id::Side;
use support::stage::scene::{ALICE, BOB, BOBS_NUMBER, Scene, Stage};

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
