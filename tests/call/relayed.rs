//! REFERs that are passed on: the other side's peer calls the target itself, and its news come back.

use crate::transfers::{OK, RINGING, TRYING};
use gateway_userspace::policy::{ReferPolicy, Trunk};
use gateway_userspace::sip::message::HeaderName;
use support::stage::phone::Reaction;
use support::stage::scene::{ALICE, BOB, CAROL, DAVE, Scene, Stage};
use support::stage::session::Session;

const TARGET: &str = "<sip:+441632960999@198.51.100.77;x-m=8:Ab%2F-1;x-tt=aHR0cHM6Ly9h%3d>;note=\"As, is\"";
const BY: &str = "<sip:+12025550147@pbx.example;x-ti=c1>;cid=\"2UWQFN309shb3@h\"";
const ALLOWS: &str = "Allow: INVITE, ACK, BYE, CANCEL, REFER, NOTIFY\r\n";

fn relay(trunk: &mut Trunk) {
    trunk.sip.refer = ReferPolicy::Relay;
}

/// Bob's trunk passes REFERs on, and Alice takes them.
fn talking() -> Scene {
    let mut scene = Scene::new(Stage { service: relay, ..Stage::default() });
    scene.alice().calls_with = ALLOWS;
    scene.alice().on_refer = 202;
    scene.talk();
    scene
}

fn ends(mut scene: Scene) {
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(scene.requests_to(ALICE, "BYE").len(), 1);
    assert_eq!(scene.ends().records.len(), 1);
}

#[test]
fn a_refer_reaches_the_other_side_octet_for_octet_and_its_news_come_back() {
    let mut scene = talking();
    scene.asks(BOB, "REFER", &format!("Refer-To: {TARGET}\r\nReferred-By: {BY}\r\n"));
    scene.run(1_000);
    let refer = scene.requests_to(ALICE, "REFER").remove(0);
    assert_eq!(refer.headers.value(&HeaderName::ReferTo), Some(TARGET));
    assert_eq!(refer.headers.value(&HeaderName::ReferredBy), Some(BY));
    assert_eq!(scene.phones[BOB].answers, ["REFER 202"]);
    assert_eq!(scene.told(BOB), [TRYING]);
    let event = format!("refer;id={}", refer.head.cseq.number);
    for (line, state) in [("180 Ringing", "active;expires=60"), ("200 OK", "terminated;reason=noresource")] {
        scene.notifies(ALICE, &event, state, line);
        scene.run(500);
    }
    assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "NOTIFY 200", "NOTIFY 200"]);
    for phone in [ALICE, CAROL, DAVE] {
        assert!(scene.requests_to(phone, "INVITE").is_empty(), "who was asked calls, not we");
    }
    // It is over: what comes still is of no subscription of ours (RFC 6665 section 4.1.3).
    scene.notifies(ALICE, &event, "active", "180 Ringing");
    scene.run(500);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("NOTIFY 481"));
    ends(scene);
}

#[test]
fn a_refusal_comes_back_and_the_call_goes_on() {
    let mut scene = talking();
    scene.alice().on_refer = 603;
    for _ in 0..2 {
        scene.refers(BOB, TARGET);
        scene.run(1_000);
    }
    assert_eq!(scene.phones[BOB].answers, ["REFER 603", "REFER 603"]);
    assert!(scene.told(BOB).is_empty());
    ends(scene);
}

#[test]
fn a_target_that_fails_is_told_and_another_refer_may_follow() {
    let mut scene = talking();
    scene.refers(BOB, TARGET);
    scene.run(500);
    scene.refers(BOB, TARGET);
    scene.run(500);
    assert_eq!(scene.phones[BOB].answers, ["REFER 202", "REFER 491"], "one at a time");
    scene.notifies(ALICE, "refer", "terminated;reason=timeout", "100 Trying");
    scene.run(500);
    assert_eq!(scene.told(BOB), [TRYING, "SIP/2.0 503 Service Unavailable (terminated)"]);
    scene.refers(BOB, TARGET);
    scene.run(500);
    assert_eq!(scene.requests_to(ALICE, "REFER").len(), 2);
    ends(scene);
}

#[test]
fn a_side_that_does_not_take_refer_is_served_here() {
    let mut scene = Scene::new(Stage { service: relay, ..Stage::default() });
    scene.talk();
    scene.refers(BOB, "<sip:198.18.0.30:5060>");
    scene.run(3_000);
    assert!(scene.requests_to(ALICE, "REFER").is_empty());
    assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    scene.hangs_up(ALICE);
    scene.ends();
}

/// What the other side has accepted goes on without us: its news belong to who asked, whichever daemon they meet.
#[test]
fn a_referral_that_was_passed_on_is_told_of_by_the_next_daemon_too() {
    let mut scene = talking();
    scene.refers(BOB, TARGET);
    scene.run(500);
    for _ in 0..2 {
        scene.restart();
        scene.run(1_000);
        assert_eq!(scene.told(BOB), [TRYING]);
    }
    scene.notifies(ALICE, "refer", "active", "180 Ringing");
    scene.run(500);
    scene.restart();
    scene.notifies(ALICE, "refer", "terminated;reason=noresource", "200 OK");
    scene.run(500);
    assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
    assert!(scene.phones[ALICE].answers.iter().all(|answer| answer != "NOTIFY 481"));
    // Another one may follow.
    scene.refers(BOB, TARGET);
    scene.run(500);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("REFER 202"));
    ends(scene);
}

/// RFC 5589 section 7: the dialog that the REFER names is one that the other side knows, and not we.
#[test]
fn an_attended_transfer_to_a_dialog_that_is_not_here_is_passed_on() {
    let target = "<sip:dave@198.51.100.77?Replaces=far%40x%3Bto-tag%3D1%3Bfrom-tag%3D2>";
    let mut scene = talking();
    scene.refers(BOB, target);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers, ["REFER 202"]);
    let refer = scene.requests_to(ALICE, "REFER").remove(0);
    assert_eq!(refer.headers.value(&HeaderName::ReferTo), Some(target));
    scene.notifies(ALICE, "refer", "terminated", "200 OK");
    scene.run(500);
    assert_eq!(scene.told(BOB), [TRYING, OK]);
    scene.alice().on_refer = 603;
    scene.refers(BOB, target);
    scene.run(1_000);
    assert_eq!(scene.told(BOB)[2..], [TRYING, "SIP/2.0 603 Decline (terminated)"]);
    ends(scene);
}

/// Both calls of the transferor are here: nobody else has to join them.
#[test]
fn an_attended_transfer_between_two_calls_of_ours_is_joined_here() {
    for cores in [1, 3] {
        let mut scene = Scene::new(Stage { cores, operator: relay, ..Stage::default() });
        scene.carol().adds = vec![("Allow", "INVITE, ACK, BYE, CANCEL, REFER, NOTIFY".into())];
        scene.carol().on_refer = 202;
        scene.talk();
        let first = scene.replaces(ALICE);
        scene.bob().on_invite = vec![(50, Reaction::Say(503))];
        scene.alice().session = Session::at("198.51.100.11", 4_010);
        scene.alice_calls();
        scene.run(3_000);
        assert!(scene.phones[CAROL].is_talking());
        let escaped = first.replace('@', "%40").replace(';', "%3B").replace('=', "%3D").replace(':', "%3A");
        scene.refers(ALICE, &format!("<sip:+12025550147@192.0.2.1?Replaces={escaped}>"));
        scene.run(4_000);
        assert!(scene.requests_to(CAROL, "REFER").is_empty());
        assert_eq!(scene.told(ALICE), [TRYING, OK], "{cores} cores");
        assert_eq!(scene.calls(), 1, "{cores} cores");
        scene.hangs_up(ALICE);
        scene.run(1_000);
        scene.hangs_up(BOB);
        scene.run(1_000);
        scene.ends();
    }
}
