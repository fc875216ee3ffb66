//! UPDATE (RFC 3311) on each leg: answered here, or carried over where both sides can.

use gateway_userspace::base::id::Side;
use support::stage::phone::Reaction::{Describe, Reliable, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

const ALLOW: &str = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n";

fn last_answer(scene: &Scene, phone: usize) -> &str {
    scene.phones[phone].answers.last().map_or("none", String::as_str)
}

fn muted(scene: &Scene) -> [bool; 2] {
    [Side::Caller, Side::Callee].map(|side| scene.flows.media_of(side).expect("media is relayed").muted)
}

// Statement 72.
#[test]
fn an_update_is_answered_here_and_not_sent_to_a_side_that_does_not_allow_it() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.updates(ALICE, None);
    scene.run(500);
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 200");
    let session = scene.phones[ALICE].session.directed("sendonly");
    scene.updates(ALICE, Some(session));
    scene.run(500);
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 200");
    let answer = scene.phones[ALICE].inbox.last().expect("the answer");
    assert!(answer.contains("a=recvonly"), "{answer}");
    assert_eq!(muted(&scene), [false, true]);
    assert_eq!(scene.phones[BOB].came("UPDATE ").count() + scene.phones[BOB].came("INVITE ").count(), 1);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 72.
#[test]
fn an_update_that_concerns_the_other_side_is_carried_over_where_it_is_allowed() {
    for (asker, asked) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut scene = Scene::new(Stage::default());
        scene.alice().calls_with = ALLOW;
        scene.bob().adds = vec![("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE".into())];
        scene.talk();
        let session = scene.phones[asker].session.directed("sendonly");
        scene.updates(asker, Some(session));
        scene.run(500);
        assert_eq!(last_answer(&scene, asker), "UPDATE 200");
        let carried = scene.phones[asked].came("UPDATE ").next().expect("an UPDATE").to_owned();
        assert!(carried.contains("a=sendonly"), "{carried}");
        assert!(muted(&scene).contains(&true));
        // Another address is nobody else's business.
        let mut session = scene.phones[asker].session.clone();
        session.at.1 = 4_700;
        scene.updates(asker, Some(session));
        scene.run(500);
        assert_eq!(scene.phones[asked].came("UPDATE ").count(), 1);
        scene.hangs_up(asked);
        scene.ends();
    }
}

#[test]
fn an_update_that_the_other_side_refuses_leaves_the_session_as_it_was() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().adds = vec![("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE".into())];
    scene.talk();
    scene.bob().refuses_update = Some(488);
    let before = scene.flows.media_of(Side::Callee).cloned();
    let session = scene.phones[ALICE].session.directed("inactive");
    scene.updates(ALICE, Some(session));
    scene.run(500);
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 488");
    assert_eq!(scene.flows.media_of(Side::Callee).cloned(), before);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn an_update_in_the_early_dialog_is_answered_once_the_first_answer_is_known() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = "Supported: 100rel\r\n";
    scene.bob().on_invite = vec![(50, Say(180)), (500, Reliable(183, true)), (3_000, Say(200))];
    scene.alice_calls();
    scene.run(300);
    let mut session = scene.phones[ALICE].session.clone();
    scene.updates(ALICE, Some(session.clone()));
    scene.run(100);
    // RFC 3311 section 5.2: we owe her the answer to her first offer.
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 500");
    assert!(scene.phones[ALICE].inbox.last().is_some_and(|text| text.contains("Retry-After: ")));
    scene.run(500);
    session.at.1 = 4_600;
    scene.updates(ALICE, Some(session));
    scene.run(100);
    assert_eq!(last_answer(&scene, ALICE), "UPDATE 200");
    let to = scene.flows.media_of(Side::Callee).and_then(|flow| flow.rtp).map(|output| output.to.port());
    assert_eq!(to, Some(4_600));
    scene.run(4_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn an_update_of_the_callee_in_its_early_dialog_is_answered_here() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Reliable(183, true)), (3_000, Say(200))];
    scene.alice_calls();
    scene.run(500);
    let mut session = scene.phones[BOB].session.clone();
    session.at.1 = 4_800;
    scene.updates(BOB, Some(session));
    scene.run(200);
    assert_eq!(last_answer(&scene, BOB), "UPDATE 200");
    assert_eq!(scene.phones[ALICE].came("UPDATE ").count(), 0);
    let to = scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp).map(|output| output.to.port());
    assert_eq!(to, Some(4_800));
    scene.run(4_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn an_update_while_a_change_is_under_way_is_refused_with_491_unless_it_changes_nothing() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    scene.bob().on_reinvite = vec![(3_000, Describe(200))];
    let session = scene.phones[ALICE].session.directed("inactive");
    scene.reinvites(ALICE, session);
    scene.run(500);
    let session = scene.phones[BOB].session.directed("sendonly");
    scene.updates(BOB, Some(session));
    scene.run(100);
    assert_eq!(last_answer(&scene, BOB), "UPDATE 491");
    scene.updates(BOB, None);
    scene.run(100);
    assert_eq!(last_answer(&scene, BOB), "UPDATE 200");
    scene.run(4_000);
    scene.hangs_up(BOB);
    scene.ends();
}
