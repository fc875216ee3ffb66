//! Hold, resume and moved media between sides that understand them differently.

use gateway_userspace::base::id::Side;
use gateway_userspace::policy::{HoldForm, Trunk};
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::{direction_of, media_of};

/// Alice's operator against a service that understands `inactive` only, and takes no INVITE without an offer.
fn teams() -> Scene {
    let service: fn(&mut Trunk) = |trunk| {
        trunk.sip.hold = HoldForm::Inactive;
        trunk.sip.delayed_offer = false;
    };
    let operator: fn(&mut Trunk) = |trunk| trunk.sip.hold = HoldForm::SendOnly;
    Scene::new(Stage { operator, service, ..Stage::default() })
}

fn muted(scene: &Scene) -> [bool; 2] {
    [Side::Caller, Side::Callee].map(|side| scene.flows.media_of(side).expect("media is relayed").muted)
}

fn last_body(scene: &Scene, phone: usize) -> String {
    let described = scene.phones[phone].inbox.iter().rfind(|text| text.contains("m=audio"));
    let text = described.expect("a session description");
    text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
}

/// Session descriptions that a phone was sent, each with its kind of message.
fn bodies(scene: &Scene, phone: usize) -> Vec<String> {
    let described = scene.phones[phone].inbox.iter().filter(|text| text.contains("m=audio"));
    described.map(|text| text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()).collect()
}

const HOLDS: [(&str, Option<&str>); 4] =
    [("sendonly", None), ("recvonly", None), ("inactive", None), ("sendrecv", Some("0.0.0.0"))];

// Statements 95, 96, 97.
#[test]
fn any_hold_of_the_operator_reaches_the_service_as_inactive_and_is_answered_by_its_own_counterpart() {
    for (direction, connection) in HOLDS {
        let mut scene = teams();
        scene.talk();
        let session = scene.phones[ALICE].session.clone();
        let mut held = session.directed(direction);
        held.connection = connection;
        scene.reinvites(ALICE, held);
        scene.run(1_000);
        let offer = scene.phones[BOB].came("INVITE ").last().expect("a re-INVITE").to_owned();
        assert_eq!(direction_of(&offer), "inactive", "{direction} {connection:?}");
        let expected = match (direction, connection) {
            ("sendonly", _) | (_, Some(_)) => "recvonly",
            ("recvonly", _) => "sendonly",
            _ => "inactive",
        };
        assert_eq!(direction_of(&last_body(&scene, ALICE)), expected, "{direction} {connection:?}");
        assert_eq!(muted(&scene), [true, true]);
        scene.reinvites(ALICE, session);
        scene.run(1_000);
        assert_eq!(direction_of(&last_body(&scene, ALICE)), "sendrecv");
        assert_eq!(muted(&scene), [false, false]);
        assert!(bodies(&scene, BOB).iter().all(|body| !body.contains("0.0.0.0")));
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statement 95.
#[test]
fn a_hold_can_be_hidden_so_that_the_other_side_hears_its_music() {
    let mut scene =
        Scene::new(Stage { service: |trunk| trunk.sip.hold = HoldForm::Hidden, ..Stage::default() });
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("sendonly"));
    scene.run(1_000);
    assert_eq!(direction_of(&last_body(&scene, ALICE)), "recvonly");
    assert_eq!(muted(&scene), [false, true], "music goes through");
    scene.reinvites(ALICE, session);
    scene.run(1_000);
    assert_eq!(muted(&scene), [false, false]);
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 1, "Bob heard of the call only");
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 98.
#[test]
fn inactive_of_the_service_stops_media_to_it_and_reaches_the_operator_in_the_operators_form() {
    let mut scene = teams();
    scene.talk();
    let session = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, session.directed("inactive"));
    scene.run(1_000);
    let offer = scene.phones[ALICE].came("INVITE ").last().expect("a re-INVITE").to_owned();
    assert_eq!(direction_of(&offer), "sendonly");
    assert_eq!(direction_of(&last_body(&scene, BOB)), "inactive");
    assert_eq!(muted(&scene), [true, true]);
    scene.hangs_up(BOB);
    scene.ends();
}

// Statements 99, 100.
#[test]
fn ten_holds_from_each_side_are_resumed_and_address_and_port_never_move() {
    let mut scene = teams();
    scene.talk();
    for round in 0..10 {
        for phone in [ALICE, BOB] {
            let session = scene.phones[phone].session.clone();
            scene.reinvites(phone, session.directed(if round % 2 == 0 { "inactive" } else { "sendonly" }));
            scene.run(1_000);
            assert!(muted(&scene).contains(&true), "round {round} of {phone}");
            scene.reinvites(phone, session);
            scene.run(1_000);
            assert_eq!(muted(&scene), [false, false], "round {round} of {phone}");
        }
    }
    for (phone, at) in [(ALICE, "192.0.2.2:20000"), (BOB, "203.0.113.2:20000")] {
        let told = bodies(&scene, phone);
        assert!(told.len() > 40 && told.iter().all(|body| media_of(body) == at), "{told:?}");
    }
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 101.
#[test]
fn media_that_moves_on_one_side_is_no_news_to_the_other() {
    for phone in [ALICE, BOB] {
        let mut scene = teams();
        scene.talk();
        let mut session = scene.phones[phone].session.clone();
        session.at.1 = 5_200;
        scene.reinvites(phone, session);
        scene.run(1_000);
        let (side, other) = if phone == ALICE { (Side::Callee, BOB) } else { (Side::Caller, ALICE) };
        let to = scene.flows.media_of(side).and_then(|flow| flow.rtp).map(|output| output.to.port());
        assert_eq!(to, Some(5_200));
        let of_the_call = usize::from(other == BOB);
        assert_eq!(scene.phones[other].came("INVITE ").count(), of_the_call);
        scene.hangs_up(phone);
        scene.ends();
    }
}

// Statement 103.
#[test]
fn a_change_that_changes_nothing_is_answered_alike_each_time_and_touches_no_flow() {
    let mut scene = teams();
    scene.talk();
    let session = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, session.clone());
    scene.run(1_000);
    let (first, flows) = (
        last_body(&scene, BOB),
        [Side::Caller, Side::Callee].map(|side| scene.flows.media_of(side).cloned()),
    );
    scene.reinvites(BOB, session);
    scene.run(1_000);
    assert_eq!(last_body(&scene, BOB), first, "same o= line, same session");
    assert_eq!([Side::Caller, Side::Callee].map(|side| scene.flows.media_of(side).cloned()), flows);
    assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 102.
#[test]
fn a_change_without_an_offer_is_answered_with_ours_for_a_side_that_takes_none() {
    let mut scene = teams();
    scene.talk();
    let now = scene.now;
    scene.alice().reinvite(now, None);
    scene.alice().session.at.1 = 4_400;
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 200"));
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 1);
    let to = scene.flows.media_of(Side::Callee).and_then(|flow| flow.rtp).map(|output| output.to.port());
    assert_eq!(to, Some(4_400), "her answer came with the ACK");
    scene.hangs_up(ALICE);
    scene.ends();
}
