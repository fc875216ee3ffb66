//! Transfers: REFER from either side, INVITE with Replaces, and what each of the three hears of it.

use gateway_userspace::policy::{Advertised, ReferPolicy, Service, Trunk};
use gateway_userspace::sdp::MediaSecurity;
use gateway_userspace::sip::message::HeaderName;
use support::stage::far_end::FarEnd;
use support::stage::phone::Reaction;
use support::stage::scene::{ALICE, ALICES_NUMBER, BOB, CAROL, DAVE, MALLORY, Outcome, Scene, Stage};
use support::stage::session::Session;

/// Carol, as Teams names her: no number, no user, parameters that only Teams understands.
pub(crate) const CAROL_AT_TEAMS: &str =
    "<sip:198.18.0.30:5060;x-m=8:orgid:Ab%2F-1;x-t=72F988bf-86f1;x-tt=aHR0cHM6Ly9h%3d;transport=udp>";
const BY_BOB: &str = "Referred-By: <sip:198.18.0.20:5060;x-m=8:orgid:Bob;x-t=72f988bf;x-ti=c1;x-tt=aHR0cHM%3D>;note=\"As, is\"\r\n";

pub(crate) const TRYING: &str = "SIP/2.0 100 Trying (active)";
pub(crate) const RINGING: &str = "SIP/2.0 180 Ringing (active)";
pub(crate) const OK: &str = "SIP/2.0 200 OK (terminated)";

fn toward(trunk: &mut Trunk, service: Service) {
    *trunk = trunk.clone().toward(service);
    // Security has tests of its own.
    trunk.media.security.security = MediaSecurity::Off;
    trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
    trunk.health = Default::default();
}

pub(crate) fn teams() -> Stage {
    // Whoever transfers leaves when the test says so.
    let far_end = Some(FarEnd::new(Service::Teams).lingering());
    Stage { service: |trunk| toward(trunk, Service::Teams), far_end, ..Stage::default() }
}

/// Dave is let in on the operator's side.
fn with_dave() -> Stage {
    let operator = |trunk: &mut Trunk| trunk.allowed = vec!["198.51.100.0/24".parse().expect("a network")];
    Stage { operator, ..teams() }
}

fn talking(stage: Stage) -> Scene {
    let mut scene = Scene::new(stage);
    scene.talk();
    scene
}

/// Bob transfers Alice to Carol, and leaves when he hears that they talk.
fn transfer(scene: &mut Scene) {
    scene.asks(BOB, "REFER", &format!("Refer-To: {CAROL_AT_TEAMS}\r\n{BY_BOB}"));
    scene.run(3_000);
    scene.hangs_up(BOB);
    scene.run(1_000);
}

fn ends(mut scene: Scene, phone: usize) -> Outcome {
    scene.hangs_up(phone);
    scene.run(1_000);
    scene.ends()
}

// Statement 113.
#[test]
fn allow_lists_refer_and_notify_in_invites_and_their_answers() {
    let mut scene = talking(teams());
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.bob_calls_alice();
    scene.run(3_000);
    let with_allow: Vec<_> = scene
        .tap()
        .said_to_service()
        .filter(|text| {
            text.starts_with("INVITE ")
                || text.contains("CSeq: 1 INVITE\r\n") && text.starts_with("SIP/2.0 200")
        })
        .map(str::to_owned)
        .collect();
    assert!(with_allow.len() >= 2);
    for text in with_allow {
        let allow = text.lines().find(|line| line.starts_with("Allow: ")).expect("an Allow header");
        assert!(allow.contains("REFER") && allow.contains("NOTIFY"), "{text}");
        assert!(text.contains("Supported: replaces") || text.contains("\r\nSupported: "), "{text}");
    }
    ends(scene, ALICE);
}

// Statements 114, 115, 116, 117, 119, 120, 122.
#[test]
fn a_refer_of_teams_is_sent_back_to_teams_octet_for_octet() {
    let mut scene = talking(teams());
    let to_operator = scene.tap().said_to_operator().filter(|text| text.starts_with("INVITE ")).count();
    scene.asks(BOB, "REFER", &format!("Refer-To: {CAROL_AT_TEAMS}\r\n{BY_BOB}"));
    scene.run(30);
    assert_eq!(scene.phones[BOB].answers, ["REFER 202"]);
    assert_eq!(scene.told(BOB), [TRYING]);
    scene.run(3_000);
    let invite = scene.requests_to(CAROL, "INVITE").remove(0);
    assert_eq!(format!("<{}>", invite.uri), CAROL_AT_TEAMS);
    let by =
        format!("Referred-By: {}\r\n", invite.headers.value(&HeaderName::ReferredBy).expect("a Referred-By"));
    assert_eq!(by, BY_BOB);
    assert_eq!(invite.head.contact.first().expect("a Contact").to_string(), "<sip:sbc1.corp.example:5060>");
    assert_eq!(invite.head.from.uri.user().as_deref(), Some(ALICES_NUMBER));
    assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
    assert!(scene.requests_to(BOB, "BYE").is_empty(), "the old dialog is Bob's to end");
    assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers, ["REFER 202", "BYE 200"]);
    let after = scene.tap().said_to_operator().filter(|text| text.starts_with("INVITE ")).count();
    assert_eq!(
        after, to_operator,
        "nobody is called on the operator's side, and Alice's session stays as it is"
    );
    assert_eq!(scene.total("causeway_transfers"), 1);
    let outcome = ends(scene, CAROL);
    let record = &outcome.records[0];
    let legs: Vec<_> = record.legs.iter().map(|leg| (leg.trunk.as_str(), leg.joined_by)).collect();
    use gateway_userspace::observe::event::JoinedBy::{Invite, Refer};
    assert_eq!(legs, [("service", Invite), ("operator", Invite), ("service", Refer)]);
    assert!(record.legs[0].left_at < record.legs[2].left_at);
    insta::assert_snapshot!(outcome.ladder);
}

// Statement 116.
#[test]
fn a_target_with_a_number_is_sent_back_too() {
    let mut scene = talking(teams());
    scene.refers(BOB, "<sip:+12025550199@198.18.0.30:5060;user=phone>");
    scene.run(3_000);
    let invite = scene.requests_to(CAROL, "INVITE").remove(0);
    assert_eq!(invite.uri.to_string(), "sip:+12025550199@198.18.0.30:5060;user=phone");
    scene.hangs_up(BOB);
    ends(scene, ALICE);
}

// Statement 118.
#[test]
fn targets_and_referrers_of_two_thousand_characters_pass_whole() {
    for length in [400, 2_000] {
        let mut scene = talking(teams());
        let uri = "sip:198.18.0.30:5060;x-m=";
        let uri =
            format!("{uri}{}", "aB%2F9-".repeat(300).split_at(length - uri.len()).0.trim_end_matches('%'));
        let uri = format!("{}{}", &uri[..uri.len() - 2], "zz");
        let by = format!("<sip:198.18.0.20:5060;x-tt={}>", "Zz9".repeat(length / 3));
        scene.asks(BOB, "REFER", &format!("Refer-To: <{uri}>\r\nReferred-By: {by}\r\n"));
        scene.run(3_000);
        let invite = scene.requests_to(CAROL, "INVITE").remove(0);
        assert_eq!(invite.uri.to_string(), uri);
        assert_eq!(invite.headers.value(&HeaderName::ReferredBy), Some(&*by));
        scene.hangs_up(BOB);
        ends(scene, ALICE);
    }
}

// Statement 120.
#[test]
fn a_transferor_that_never_hangs_up_is_hung_up_on_after_half_a_minute() {
    let mut scene = talking(teams());
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(30_000);
    assert!(scene.requests_to(BOB, "BYE").is_empty());
    scene.run(5_000);
    assert_eq!(scene.requests_to(BOB, "BYE").len(), 1);
    assert!(scene.phones[CAROL].is_talking() && scene.phones[ALICE].is_talking());
    ends(scene, ALICE);
}

/// Whether it hangs up itself or not, its dialog is known to the daemon that comes after.
#[test]
fn a_transferors_dialog_outlives_the_daemon() {
    for leaves in [true, false] {
        let mut scene = talking(teams());
        scene.asks(BOB, "REFER", &format!("Refer-To: {CAROL_AT_TEAMS}\r\n{BY_BOB}"));
        scene.run(5_000);
        scene.restart();
        scene.run(1_000);
        assert!(scene.phones[BOB].is_talking() && scene.requests_to(BOB, "BYE").is_empty());
        if leaves {
            scene.hangs_up(BOB);
            scene.run(1_000);
            assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("BYE 200"));
            scene.restart();
        }
        scene.run(40_000);
        assert_eq!(scene.requests_to(BOB, "BYE").len(), usize::from(!leaves));
        assert_eq!((scene.dialogs(), scene.ports_in_use()), (2, 2));
        ends(scene, ALICE);
    }
}

/// Who is left of the call hangs up at once; who transferred it has as long as ever.
#[test]
fn a_transferors_dialog_outlives_its_call_and_the_daemon() {
    let mut scene = talking(teams());
    scene.asks(BOB, "REFER", &format!("Refer-To: {CAROL_AT_TEAMS}\r\n{BY_BOB}"));
    scene.run(5_000);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.restart();
    assert!(!scene.phones[CAROL].is_talking() && scene.phones[BOB].is_talking());
    scene.run(20_000);
    assert!(scene.requests_to(BOB, "BYE").is_empty());
    scene.run(20_000);
    assert_eq!(scene.requests_to(BOB, "BYE").len(), 1);
    assert!(!scene.phones[BOB].is_talking());
    assert_eq!(scene.ends().records.len(), 1);
}

/// The target's provisional responses may be reliable (RFC 3262), with the answer in them.
#[test]
fn a_target_that_answers_in_a_reliable_response_is_acknowledged_and_talks() {
    let mut scene = talking(teams());
    scene.carol().on_invite = vec![
        (50, Reaction::Reliable(183, true)),
        (500, Reaction::Reliable(180, false)),
        (2_000, Reaction::Say(200)),
    ];
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(4_000);
    let invite = scene.requests_to(CAROL, "INVITE").remove(0);
    assert!(invite.headers.has_token(&HeaderName::Supported, "100rel"));
    assert_eq!(scene.requests_to(CAROL, "PRACK").len(), 2);
    assert_eq!(scene.told(BOB), [TRYING, "SIP/2.0 183 Session Progress (active)", RINGING, OK]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    ends(scene, ALICE);
}

// Statement 120.
#[test]
fn the_transferors_dialog_is_its_own_to_end_even_when_the_call_is_over() {
    let mut scene = talking(teams());
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(3_000);
    scene.hangs_up(ALICE);
    scene.run(5_000);
    assert!(scene.requests_to(BOB, "BYE").is_empty());
    ends(scene, BOB);
}

// Statement 123.
#[test]
fn a_target_that_refuses_leaves_the_call_as_it_was() {
    for (reactions, told) in [
        (
            vec![(50, Reaction::Say(180)), (500, Reaction::Say(486))],
            vec![TRYING, RINGING, "SIP/2.0 486 Busy Here (terminated)"],
        ),
        (vec![(50, Reaction::Say(603))], vec![TRYING, "SIP/2.0 603 Decline (terminated)"]),
        (vec![(50, Reaction::Say(302))], vec![TRYING, "SIP/2.0 480 Temporarily Unavailable (terminated)"]),
    ] {
        let mut scene = talking(teams());
        scene.carol().on_invite = reactions;
        scene.refers(BOB, CAROL_AT_TEAMS);
        scene.run(3_000);
        assert_eq!(scene.told(BOB), told);
        assert!(scene.phones[BOB].is_talking() && scene.phones[ALICE].is_talking());
        assert_eq!(scene.audio(), [Some("198.18.0.21:4000".into()), Some("198.51.100.11:4000".into())]);
        assert_eq!(scene.total("causeway_transfers_failed"), 1);
        let outcome = ends(scene, ALICE);
        assert!(outcome.records[0].legs.is_empty());
    }
}

// Statement 123.
#[test]
fn a_target_that_is_silent_or_never_answers_leaves_the_call_as_it_was() {
    for (dead, told) in [
        (true, "SIP/2.0 408 Request Timeout (terminated)"),
        (false, "SIP/2.0 480 Temporarily Unavailable (terminated)"),
    ] {
        let mut scene = talking(teams());
        scene.carol().dead = dead;
        scene.carol().on_invite = vec![(50, Reaction::Say(180))];
        scene.refers(BOB, CAROL_AT_TEAMS);
        scene.run(200_000);
        assert_eq!(scene.told(BOB).last().map(String::as_str), Some(told));
        assert!(scene.phones[BOB].is_talking() && scene.phones[ALICE].is_talking());
        ends(scene, ALICE);
    }
}

// Statement 124.
#[test]
fn an_outside_target_is_reached_by_the_call_that_teams_makes() {
    let mut scene = talking(with_dave());
    // Teams takes the transfer's call itself, and calls the outside number by a call of its own.
    scene.refers(BOB, "<sip:+441632960199@198.18.0.30:5060;user=phone>");
    scene.run(200);
    let now = scene.now;
    scene.carol().call(now, ALICES_NUMBER, true);
    scene.run(3_000);
    scene.hangs_up(BOB);
    scene.run(1_000);
    assert_eq!(scene.calls(), 2);
    let invites = scene.requests_to(ALICE, "INVITE");
    assert_eq!(invites.len(), 1, "the second call reaches the operator");
    scene.hangs_up(CAROL);
    scene.run(1_000);
    scene.hangs_up(CAROL);
    scene.run(1_000);
    scene.ends();
}

// Statement 127.
#[test]
fn a_refer_that_is_in_no_call_or_names_nobody_is_refused_and_goes_nowhere() {
    let mut scene = talking(teams());
    let outside = "REFER sip:gw@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.18.0.20:5060;branch=z9hG4bKx1\r\n\
                   Max-Forwards: 70\r\nFrom: <sip:x@198.18.0.20>;tag=a\r\nTo: <sip:gw@203.0.113.1>\r\nCall-ID: none-1\r\n\
                   CSeq: 1 REFER\r\nRefer-To: <sip:198.18.0.30:5060>\r\nContact: <sip:198.18.0.20>\r\nContent-Length: 0\r\n\r\n";
    scene.says(BOB, outside);
    scene.run(100);
    assert!(scene.tap().last_sent().starts_with("SIP/2.0 403 "), "{}", scene.tap().last_sent());
    scene.says(
        BOB,
        &outside.replace("To: <sip:gw@203.0.113.1>", "To: <sip:gw@203.0.113.1>;tag=b").replace("x1", "x2"),
    );
    scene.run(100);
    assert!(scene.tap().last_sent().starts_with("SIP/2.0 481 "), "{}", scene.tap().last_sent());
    scene.asks(BOB, "REFER", "");
    scene.run(100);
    scene.asks(BOB, "REFER", "Refer-To: <sip:198.18.0.30>\r\nRefer-To: <sip:198.18.0.30>\r\n");
    scene.run(100);
    assert_eq!(scene.phones[BOB].answers, ["REFER 400", "REFER 400"]);
    assert!(scene.tap().sent().all(|text| !text.starts_with("REFER ") && !text.starts_with("NOTIFY ")));
    assert!(scene.phones[CAROL].inbox.is_empty());
    ends(scene, ALICE);
}

// Statement 128.
#[test]
fn a_refer_of_the_operator_is_executed_here() {
    let mut scene = talking(with_dave());
    scene.bob().on_invite = vec![(50, Reaction::Say(503))];
    scene.asks(
        ALICE,
        "REFER",
        "Refer-To: <sip:+12025550148@192.0.2.1>\r\nReferred-By: <sip:198.51.100.10>\r\n",
    );
    scene.run(4_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "REFER 202"]);
    assert_eq!(scene.told(ALICE), [TRYING, RINGING, OK]);
    let invite = scene.requests_to(CAROL, "INVITE").remove(0);
    assert_eq!(invite.uri.to_string(), "sip:+12025550148@198.18.0.30:5060;user=phone");
    assert!(
        invite.headers.value(&HeaderName::ReferredBy).is_none(),
        "it names what stands behind the other trunk"
    );
    assert_eq!(scene.audio(), [Some("198.18.0.21:4000".into()), Some("198.18.0.31:4000".into())]);
    assert!(scene.tap().sent().all(|text| !text.starts_with("REFER ")));
    scene.hangs_up(ALICE);
    scene.run(1_000);
    ends(scene, CAROL);
}

#[test]
fn a_target_of_the_operators_own_without_a_route_is_called_there() {
    let mut scene = talking(with_dave());
    scene.refers(ALICE, "<sip:dave@198.51.100.20:5060>");
    scene.run(4_000);
    assert_eq!(scene.told(ALICE), [TRYING, RINGING, OK]);
    assert_eq!(scene.requests_to(DAVE, "INVITE")[0].uri.to_string(), "sip:dave@198.51.100.20:5060");
    assert_eq!(scene.audio(), [Some("198.18.0.21:4000".into()), Some("198.51.100.21:4000".into())]);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    ends(scene, BOB);
}

#[test]
fn a_target_without_route_is_told_and_the_call_goes_on() {
    let mut scene = talking(teams());
    scene.refers(ALICE, "<sip:+9123456@elsewhere.example>");
    scene.run(1_000);
    assert_eq!(scene.told(ALICE), [TRYING, "SIP/2.0 404 Not Found (terminated)"]);
    ends(scene, BOB);
}

// Statement 129.
#[test]
fn ten_transfers_in_a_row_leave_nothing_behind() {
    let mut scene = talking(teams());
    for turn in 0..10 {
        let (from, to) = if turn % 2 == 0 { (BOB, "198.18.0.30") } else { (CAROL, "198.18.0.20") };
        scene.refers(from, &format!("<sip:{to}:5060;x-m=turn{turn}>"));
        scene.run(3_000);
        assert_eq!(scene.told(from).last().map(String::as_str), Some(OK), "turn {turn}");
        scene.hangs_up(from);
        scene.run(1_000);
        assert_eq!(scene.flows.len(), 4, "turn {turn}");
        assert_eq!(scene.ports_in_use(), 2, "turn {turn}");
        assert_eq!(scene.dialogs(), 2, "turn {turn}");
    }
    assert_eq!(scene.total("causeway_transfers"), 10);
    let outcome = ends(scene, ALICE);
    assert_eq!(outcome.records[0].legs.len(), 12);
}

#[test]
fn a_transferor_may_leave_before_the_target_answers() {
    let mut scene = talking(teams());
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(200);
    scene.hangs_up(BOB);
    scene.run(200);
    assert!(scene.phones[ALICE].is_talking(), "Alice waits for Carol");
    scene.run(3_000);
    assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    ends(scene, CAROL);
}

#[test]
fn who_waits_is_released_when_the_transferor_has_left_and_the_target_refuses() {
    let mut scene = talking(teams());
    scene.carol().on_invite = vec![(50, Reaction::Say(180)), (1_000, Reaction::Say(486))];
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(200);
    scene.hangs_up(BOB);
    scene.run(3_000);
    assert_eq!(scene.requests_to(ALICE, "BYE").len(), 1);
    assert_eq!(scene.requests_to(BOB, "BYE").len(), 0);
    scene.ends();
}

#[test]
fn who_is_to_be_transferred_may_hang_up_meanwhile() {
    let mut scene = talking(teams());
    scene.carol().on_invite = vec![(50, Reaction::Say(180))];
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(1_000);
    scene.hangs_up(ALICE);
    scene.run(1_000);
    assert_eq!(scene.told(BOB), [TRYING, RINGING, "SIP/2.0 487 Request Terminated (terminated)"]);
    assert_eq!(scene.requests_to(CAROL, "CANCEL").len(), 1);
    assert_eq!(scene.requests_to(BOB, "BYE").len(), 1);
    scene.ends();
}

#[test]
fn a_target_that_answers_while_it_is_cancelled_is_put_down() {
    let mut scene = talking(teams());
    scene.carol().on_invite = vec![(50, Reaction::Say(180)), (1_000, Reaction::Describe(200))];
    scene.carol().ignores_cancel = true;
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(990);
    scene.hangs_up(ALICE);
    scene.run(3_000);
    assert_eq!(scene.requests_to(CAROL, "BYE").len(), 1);
    scene.ends();
}

#[test]
fn a_target_that_forks_brings_one_dialog_and_the_other_is_released() {
    let mut scene = talking(teams());
    scene.carol().on_invite = vec![
        (50, Reaction::Branch(1, 180, false)),
        (80, Reaction::Branch(2, 180, false)),
        (100, Reaction::Branch(3, 183, true)),
        (1_000, Reaction::Branch(2, 200, true)),
        (1_010, Reaction::Fork),
    ];
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(4_000);
    assert_eq!(scene.told(BOB), [TRYING, RINGING, "SIP/2.0 183 Session Progress (active)", OK]);
    assert_eq!(scene.requests_to(CAROL, "BYE").len(), 1, "the second answer came too late");
    scene.hangs_up(BOB);
    scene.run(1_000);
    ends(scene, ALICE);
}

#[test]
fn who_was_on_hold_hears_the_target() {
    let mut scene = talking(teams());
    let held = scene.phones[BOB].session.directed("inactive");
    scene.reinvites(BOB, held);
    scene.run(2_000);
    assert_eq!(scene.audio(), [None, None]);
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(4_000);
    assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    ends(scene, ALICE);
}

#[test]
fn who_stays_is_offered_what_the_target_speaks() {
    let mut scene = Scene::new(teams());
    let ulaw = [(0, "PCMU/8000"), (101, "telephone-event/8000")];
    scene.carol().session = Session::at("198.18.0.31", 4000).with_formats(&ulaw);
    scene.bob().session = Session::at("198.18.0.21", 4000).with_formats(&[(8, "PCMA/8000")]);
    scene.talk();
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(4_000);
    let offers = scene.requests_to(ALICE, "INVITE");
    let offer = String::from_utf8_lossy(&offers[0].body).into_owned();
    assert!(offer.contains("PCMU/8000") && !offer.contains("PCMA/8000"), "{offer}");
    assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    ends(scene, ALICE);
}

#[test]
fn a_change_under_way_ends_before_the_target_takes_its_place() {
    // Either side's re-INVITE is slow to be answered, and the target answers meanwhile.
    for changing in [ALICE, BOB] {
        let mut scene = talking(teams());
        for phone in [ALICE, BOB] {
            scene.phones[phone].on_reinvite = vec![(2_000, Reaction::Describe(200))];
        }
        scene.refers(BOB, CAROL_AT_TEAMS);
        scene.run(100);
        let held = scene.phones[changing].session.directed("inactive");
        scene.reinvites(changing, held);
        scene.run(1_500);
        assert!(scene.requests_to(CAROL, "ACK").len() == 1, "Carol is answered at once");
        assert_eq!(scene.told(BOB), [TRYING, RINGING]);
        scene.run(6_000);
        assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
        scene.hangs_up(BOB);
        scene.run(1_000);
        ends(scene, ALICE);
    }
}

#[test]
fn one_transfer_at_a_time() {
    let mut scene = talking(teams());
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(100);
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.refers(ALICE, "<sip:+12025550148@192.0.2.1>");
    scene.run(100);
    assert_eq!(scene.phones[BOB].answers, ["REFER 202", "REFER 491"]);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "REFER 491"]);
    scene.run(3_000);
    scene.hangs_up(BOB);
    scene.run(1_000);
    ends(scene, ALICE);
}

#[test]
fn a_referrer_that_wants_no_news_gets_none() {
    let mut scene = talking(teams());
    scene.asks(
        BOB,
        "REFER",
        &format!("Refer-To: {CAROL_AT_TEAMS}\r\nRefer-Sub: false\r\nRequire: norefersub\r\n"),
    );
    scene.run(4_000);
    let accepted = scene.phones[BOB].came("SIP/2.0 202").next().expect("a 202").to_owned();
    assert!(accepted.contains("\r\nRefer-Sub: false\r\n"), "{accepted}");
    assert!(scene.told(BOB).is_empty());
    assert!(scene.phones[CAROL].is_talking());
    scene.hangs_up(BOB);
    scene.run(1_000);
    ends(scene, ALICE);
}

#[test]
fn a_trunk_may_refuse_transfers() {
    for (service, answer) in [
        ((|trunk| trunk.sip.refer = ReferPolicy::Forbid) as fn(&mut Trunk), "REFER 403"),
        (|trunk| trunk.sip.refer = ReferPolicy::Decline, "REFER 603"),
    ] {
        let mut scene = talking(Stage { service, ..Stage::default() });
        scene.refers(BOB, CAROL_AT_TEAMS);
        scene.run(1_000);
        assert_eq!(scene.phones[BOB].answers, [answer]);
        assert!(scene.phones[CAROL].inbox.is_empty() && scene.told(BOB).is_empty());
        ends(scene, ALICE);
    }
}

#[test]
fn a_daemon_that_is_killed_during_a_transfer_ends_it_cleanly() {
    let mut scene = talking(teams());
    scene.carol().on_invite = vec![(50, Reaction::Say(180)), (3_000, Reaction::Describe(200))];
    scene.refers(BOB, CAROL_AT_TEAMS);
    scene.run(1_000);
    scene.restart();
    scene.run(5_000);
    let told = scene.told(BOB);
    assert_eq!(told.last().map(String::as_str), Some("SIP/2.0 503 Service Unavailable (terminated)"));
    assert!(!scene.phones[CAROL].is_talking(), "her answer finds nobody");
    assert!(scene.phones[BOB].is_talking() && scene.phones[ALICE].is_talking());
    ends(scene, ALICE);
}

#[test]
fn a_transferred_call_outlives_the_daemon() {
    for cores in [1, 4] {
        let mut scene = talking(Stage { cores, ..teams() });
        transfer(&mut scene);
        scene.restart();
        assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
        scene.run(1_000);
        let outcome = ends(scene, ALICE);
        assert_eq!(outcome.records[0].legs.len(), 3);
    }
}

// Statement 126.
#[test]
fn an_invite_with_replaces_takes_the_place_of_its_dialog() {
    for require in ["", "Require: replaces\r\n"] {
        // Whichever core the new Call-ID leads to, the call it joins is found.
        for cores in [1, 2, 5] {
            let mut scene = talking(Stage { cores, ..teams() });
            let replaces = scene.replaces(BOB);
            scene.replaces_with(CAROL, ALICES_NUMBER, &replaces, require);
            scene.run(3_000);
            assert_eq!(scene.phones[CAROL].answers, ["INVITE 200"]);
            assert_eq!(scene.requests_to(BOB, "BYE").len(), 1, "the replaced dialog is ours to end");
            assert!(scene.requests_to(ALICE, "INVITE").is_empty());
            assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
            assert_eq!(scene.calls(), 1);
            // What comes later in the dialog finds the call, too.
            let held = scene.phones[CAROL].session.directed("inactive");
            scene.reinvites(CAROL, held);
            scene.run(2_000);
            assert_eq!(scene.audio(), [None, None]);
            let resumed = scene.phones[CAROL].session.directed("sendrecv");
            scene.reinvites(CAROL, resumed);
            scene.run(2_000);
            ends(scene, CAROL);
        }
    }
}

// Statement 126.
#[test]
fn an_invite_that_replaces_nothing_is_refused() {
    let mut scene = talking(Stage { cores: 3, ..with_dave() });
    let good = scene.replaces(BOB);
    let (call_id, tags) = good.split_once(';').expect("tags behind the Call-ID");
    for (phone, replaces, status) in [
        (CAROL, format!("x{good}"), 481),
        (CAROL, format!("{call_id};to-tag=1;from-tag=2"), 481),
        (
            CAROL,
            format!(
                "{call_id};{}",
                tags.replace("to-tag", "TT").replace("from-tag", "to-tag").replace("TT", "from-tag")
            ),
            481,
        ),
        // The dialog of another trunk is nobody's to replace.
        (DAVE, good.clone(), 481),
        (CAROL, format!("{call_id};to-tag=1"), 400),
        (CAROL, format!("{good};early-only"), 486),
    ] {
        let before = scene.phones[phone].answers.len();
        let number = if phone == DAVE { "+12025550147" } else { ALICES_NUMBER };
        scene.replaces_with(phone, number, &replaces, "");
        scene.run(1_000);
        assert_eq!(scene.phones[phone].answers[before..], [format!("INVITE {status}")], "{replaces}");
    }
    assert!(scene.phones[BOB].is_talking());
    ends(scene, ALICE);
}

// Statement 126.
#[test]
fn a_call_that_rings_is_picked_up_by_replaces() {
    for cores in [1, 3] {
        for reactions in [vec![(50, Reaction::Say(180))], vec![(50, Reaction::Describe(183))]] {
            let mut scene = Scene::new(Stage { cores, ..teams() });
            scene.bob().on_invite = reactions;
            scene.alice_calls();
            scene.run(1_000);
            let ringing = scene.early(BOB);
            // Her own dialog is none that we began.
            scene.replaces_with(
                CAROL,
                ALICES_NUMBER,
                &format!("{ringing};early-only"),
                "Require: replaces\r\n",
            );
            scene.run(3_000);
            assert_eq!(scene.phones[CAROL].answers, ["INVITE 200"]);
            assert_eq!(scene.phones[ALICE].answers, ["INVITE 200"]);
            assert_eq!(scene.requests_to(BOB, "CANCEL").len(), 1);
            assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
            assert_eq!(scene.calls(), 1);
            ends(scene, CAROL);
        }
    }
}

// Statement 126.
#[test]
fn a_callers_early_dialog_is_not_one_that_can_be_replaced() {
    let mut scene = Scene::new(teams());
    scene.alice().on_invite = vec![(50, Reaction::Say(180)), (3_000, Reaction::Describe(200))];
    scene.bob_calls_alice();
    scene.run(1_000);
    let ringing = scene.early_answer(BOB);
    scene.replaces_with(CAROL, ALICES_NUMBER, &ringing, "");
    scene.run(1_000);
    assert_eq!(scene.phones[CAROL].answers, ["INVITE 481"]);
    scene.run(3_000);
    ends(scene, ALICE);
}

#[test]
fn an_invite_with_replaces_may_leave_the_offer_to_us() {
    let mut scene = talking(teams());
    let replaces = scene.replaces(BOB);
    scene.carol().calls_with = format!("Replaces: {replaces}\r\n").leak();
    let now = scene.now;
    scene.carol().call(now, ALICES_NUMBER, false);
    scene.run(3_000);
    assert_eq!(scene.audio(), [Some("198.18.0.31:4000".into()), Some("198.51.100.11:4000".into())]);
    ends(scene, ALICE);
}

#[test]
fn the_callers_dialog_can_be_replaced_and_the_call_transferred_after_that() {
    let mut scene = Scene::new(teams());
    scene.bob_calls_alice();
    scene.run(3_000);
    let replaces = scene.replaces(BOB);
    scene.replaces_with(CAROL, ALICES_NUMBER, &replaces, "");
    scene.run(3_000);
    scene.refers(CAROL, "<sip:198.18.0.20:5060;x-m=back>");
    scene.run(3_000);
    assert_eq!(scene.told(CAROL), [TRYING, RINGING, OK]);
    scene.hangs_up(CAROL);
    scene.run(1_000);
    assert_eq!(scene.audio(), [Some("198.51.100.11:4000".into()), Some("198.18.0.21:4000".into())]);
    ends(scene, BOB);
}

#[test]
fn an_attended_transfer_joins_the_two_calls_of_the_transferor() {
    for cores in [1, 2, 3, 7] {
        let mut scene = talking(Stage { cores, ..with_dave() });
        // Alice holds Bob, calls Carol, and brings the two together.
        let held = scene.phones[ALICE].session.directed("sendonly");
        scene.reinvites(ALICE, held);
        scene.run(2_000);
        let first = scene.replaces(ALICE);
        scene.bob().on_invite = vec![(50, Reaction::Say(503))];
        scene.phones[ALICE].session = Session::at("198.51.100.11", 4_010);
        scene.alice_calls();
        scene.run(3_000);
        assert!(scene.phones[CAROL].is_talking());
        // The REFER comes in the second dialog and names the first.
        let escaped = first.replace('@', "%40").replace(';', "%3B").replace('=', "%3D").replace(':', "%3A");
        scene.refers(ALICE, &format!("<sip:+12025550147@192.0.2.1?Replaces={escaped}>"));
        scene.run(4_000);
        assert_eq!(scene.told(ALICE), [TRYING, OK], "{cores} cores");
        assert_eq!(scene.calls(), 1, "{cores} cores");
        assert_eq!(scene.requests_to(ALICE, "BYE").len(), 1, "the dialog that was named is ours to end");
        let mut audio = scene.audio();
        audio.sort();
        assert_eq!(
            audio,
            [Some("198.18.0.21:4000".into()), Some("198.18.0.31:4000".into())],
            "{cores} cores"
        );
        scene.hangs_up(ALICE);
        scene.run(1_000);
        // Both find their call still.
        for phone in [BOB, CAROL] {
            let session = scene.phones[phone].session.clone();
            scene.reinvites(phone, session);
            scene.run(1_000);
            assert_eq!(scene.phones[phone].answers, ["INVITE 200"], "{cores} cores");
        }
        let outcome = ends(scene, BOB);
        assert_eq!(outcome.records.len(), 2);
    }
}

#[test]
fn a_dialog_that_is_not_ours_is_not_named_behind_another_trunk() {
    let mut scene = talking(Stage::default());
    scene.refers(ALICE, "<sip:+12025550148@192.0.2.1?Replaces=far%3Bto-tag%3D1%3Bfrom-tag%3D2>");
    scene.run(3_000);
    assert_eq!(scene.told(ALICE), [TRYING, "SIP/2.0 481 Call/Transaction Does Not Exist (terminated)"]);
    assert_eq!(scene.requests_to(BOB, "INVITE").len(), 1);
    ends(scene, ALICE);
}

// Statement 44.
#[test]
fn a_dialog_that_is_not_ours_is_asked_for_where_the_target_is() {
    let mut scene = talking(with_dave());
    scene.refers(ALICE, "<sip:dave@198.51.100.20:5060?Replaces=far%3Bto-tag%3D1%3Bfrom-tag%3D2>");
    scene.run(3_000);
    let invite = scene.requests_to(DAVE, "INVITE").remove(0);
    assert_eq!(invite.headers.value(&HeaderName::Replaces), Some("far;to-tag=1;from-tag=2"));
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.refers(BOB, "<sip:198.18.0.30:5060?Replaces=far%3Bto-tag%3D1%3Bfrom-tag%3D2>");
    scene.run(3_000);
    assert_eq!(
        scene.told(BOB).last().map(String::as_str),
        Some("SIP/2.0 481 Call/Transaction Does Not Exist (terminated)")
    );
    assert!(scene.tap().said_to_service().all(|text| !text.contains("\r\nReplaces: ")), "never to Teams");
    ends(scene, DAVE);
}

// Statement 125.
#[test]
fn a_refer_from_another_address_of_the_trunk_is_in_its_dialog() {
    let stage = Stage {
        service: |trunk| {
            toward(trunk, Service::Teams);
            trunk.allowed = vec!["198.18.0.0/24".parse().expect("a network")];
        },
        ..Stage::default()
    };
    let mut scene = talking(stage);
    // As Bob's machine writes it, but it comes from another one.
    let now = scene.now;
    scene.bob().ask(now, "REFER", &format!("Refer-To: {CAROL_AT_TEAMS}\r\n"));
    let text = scene.bob().outbox.pop().expect("a REFER");
    scene.phones[MALLORY].address = "198.18.0.77:5060".parse().expect("an address");
    scene.phones[MALLORY].gateway = scene.phones[BOB].gateway;
    scene.says(MALLORY, &String::from_utf8_lossy(&text));
    scene.run(3_000);
    assert!(scene.phones[MALLORY].came("SIP/2.0 202").next().is_some(), "answered where it came from");
    assert_eq!(scene.told(BOB), [TRYING, RINGING, OK]);
    scene.hangs_up(BOB);
    scene.run(1_000);
    ends(scene, ALICE);
}
