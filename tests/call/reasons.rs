//! Why a call ends, as the other side hears it: causes cross, mapped for the trunk that they go to; texts do not.

use gateway_userspace::policy::{CauseMap, CauseTable};
use support::stage::phone::Reaction::{Branch, Describe, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

fn reason<'a>(scene: &'a Scene, phone: usize, start: &'a str) -> Option<&'a str> {
    let text = scene.phones[phone].came(start).last()?;
    text.lines().find_map(|line| line.strip_prefix("Reason: "))
}

// Statement 111.
#[test]
fn a_bye_carries_its_cause_to_the_other_side_and_into_the_record() {
    for (leaver, other) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut scene = Scene::new(Stage::default());
        scene.talk();
        let leaves = format!("Reason: Q.850;cause=31;text=\"{}\"\r\n", scene.phones[leaver].name);
        scene.leaves(leaver, &leaves);
        scene.run(1_000);
        assert_eq!(reason(&scene, other, "BYE "), Some("Q.850;cause=31"));
        assert_eq!(scene.ends().records[0].cause, 31);
    }
}

// Statement 111.
#[test]
fn a_cause_is_mapped_for_the_trunk_that_it_goes_to() {
    let mut scene = Scene::new(Stage {
        service: |trunk| trunk.sip.causes = CauseMap::new(CauseTable::AsReceived, [(31, 16)], []),
        ..Stage::default()
    });
    scene.talk();
    scene.leaves(ALICE, "Reason: Q.850;cause=31\r\n");
    scene.run(1_000);
    assert_eq!(reason(&scene, BOB, "BYE "), Some("Q.850;cause=16"));
    assert_eq!(scene.ends().records[0].cause, 31, "the record has what was said");
}

#[test]
fn a_bye_without_a_reason_is_passed_on_without_one() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].came("BYE ").count(), 1);
    assert_eq!(reason(&scene, BOB, "BYE "), None);
    assert_eq!(scene.ends().records[0].cause, 16);
}

#[test]
fn a_cancel_says_to_the_callee_that_the_call_was_answered_elsewhere() {
    let mut scene = Scene::new(Stage::default());
    // Bob says nothing at first: the CANCEL has to wait, and keeps its reason.
    scene.bob().on_invite = vec![(1_000, Say(180))];
    scene.alice_calls();
    scene.run(500);
    scene.cancels_with(ALICE, "Reason: SIP;cause=200;text=\"Alice's other phone\"\r\n");
    scene.run(2_000);
    assert_eq!(reason(&scene, BOB, "CANCEL "), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
    scene.ends();
}

// Statement 52.
#[test]
fn a_486_with_cause_34_reaches_the_caller_with_cause_17() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(486))];
    scene.bob().adds = vec![("Reason", "Q.850;cause=34;text=\"Bob\"".into())];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(reason(&scene, ALICE, "SIP/2.0 486"), Some("Q.850;cause=17"));
    assert_eq!(scene.ends().records[0].cause, 17);
}

#[test]
fn a_refusal_gets_the_cause_that_the_callers_trunk_has_for_it() {
    let rfc4497 = |trunk: &mut gateway_userspace::policy::Trunk| {
        trunk.sip.causes = CauseMap::new(CauseTable::Rfc4497, [], [(480, 19)]);
    };
    for (status, told, cause) in
        [(603, None, 21), (500, Some(17), 41), (480, Some(20), 19), (404, Some(3), 3)]
    {
        let mut scene = Scene::new(Stage { operator: rfc4497, ..Stage::default() });
        scene.bob().on_invite = vec![(50, Say(status))];
        let header = told.map(|told| ("Reason", format!("Q.850;cause={told}")));
        scene.bob().adds = header.into_iter().collect();
        scene.alice_calls();
        scene.run(1_000);
        let expected = format!("Q.850;cause={cause}");
        let start = format!("SIP/2.0 {status}");
        assert_eq!(reason(&scene, ALICE, &start), Some(expected.as_str()), "{status} with {told:?}");
        scene.ends();
    }
}

#[test]
fn another_refusal_keeps_its_cause() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Branch(1, 180, false)), (60, Say(480))];
    scene.bob().adds = vec![("Reason", "Q.850;cause=20".into())];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(reason(&scene, ALICE, "SIP/2.0 480"), Some("Q.850;cause=20"));
    assert_eq!(scene.ends().records[0].cause, 20);
}

#[test]
fn a_change_that_is_taken_back_says_why_as_well() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(50, Say(180)), (9_000, Describe(200))];
    let session = scene.phones[ALICE].session.directed("inactive");
    scene.reinvites(ALICE, session);
    scene.run(500);
    scene.cancels_with(ALICE, "Reason: Q.850;cause=16\r\n");
    scene.run(500);
    assert_eq!(reason(&scene, BOB, "CANCEL "), Some("Q.850;cause=16"));
    scene.hangs_up(BOB);
    scene.ends();
}
