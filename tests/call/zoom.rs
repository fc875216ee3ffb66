//! What Zoom sends and expects.

use super::services::{to_bob, toward};
use gateway_userspace::policy::{Service, Trunk};
use support::stage::far_end::FarEnd;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, BOBS_NUMBER, CAROL, Scene, Stage};

fn zoom() -> Stage {
    let far_end = Some(FarEnd::new(Service::Zoom));
    Stage { service: |trunk| toward(trunk, Service::Zoom), far_end, ..Stage::default() }
}

/// What its INVITE carries besides; Bob stands for it.
const LINES: &str = "Accept: application/sdp, application/isup, application/dtmf, application/dtmf-relay, \
    multipart/mixed\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, REGISTER, REFER, INFO, SUBSCRIBE, NOTIFY, UPDATE, OPTIONS, MESSAGE, PUBLISH\r\n\
    Allow-Events: refer, dialog, presence, vq-rtcpxr, message-summary\r\n\
    Privacy: none\r\n\
    P-Asserted-Identity: \"Bob\" <sip:+12025550147@198.18.0.20:5060>\r\n\
    X-Trace-ID: 1715590011223344\r\n\
    Supported: timer,replaces\r\n\
    Session-Expires: 1800\r\n\
    Min-SE: 90\r\n\
    Content-Disposition: session; handling=required\r\n";

fn called_by_zoom(as_whom: &'static str) -> Scene {
    let mut scene = Scene::new(zoom());
    (scene.bob().calls_as, scene.bob().calls_with) = (as_whom, LINES);
    scene.bob_calls_alice();
    scene.run(5_000);
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    scene
}

// Statement 207.
#[test]
fn both_forms_of_from_are_taken_and_the_number_reaches_the_operator() {
    for from in
        ["\"Ann\" <sip:+12025550147@10012345678.zoom.us>", "\"Ann\" <sip:+12025550147@sbc1.corp.example>"]
    {
        let mut scene = called_by_zoom(from);
        let invite = scene.phones[ALICE].came("INVITE ").next().expect("a call").to_owned();
        let heard = invite.lines().find(|line| line.starts_with("From: ")).expect("a From");
        assert!(heard.starts_with("From: \"Ann\" <sip:+12025550147@192.0.2.1"), "{heard}");
        assert!(!invite.contains("zoom.us") && !invite.contains("X-Trace-ID"), "{invite}");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statement 208.
#[test]
fn an_invite_without_an_offer_reaches_it_with_one() {
    let mut scene = Scene::new(zoom());
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, false);
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
    let invites = to_bob(&scene, "INVITE ");
    assert!(!invites.is_empty());
    assert!(invites.iter().all(|invite| invite.contains("\r\n\r\nv=0\r\n")), "{invites:?}");
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 214.
#[test]
fn its_session_timer_is_accepted_as_it_is() {
    let mut scene = called_by_zoom("");
    let answer = scene.phones[BOB].came("SIP/2.0 200").next().expect("an answer").to_owned();
    assert!(answer.contains("\r\nSession-Expires: 1800;refresher="), "{answer}");
    scene.hangs_up(BOB);
    scene.ends();
}

/// A request of Bob's outside any dialog.
fn outside(method: &str, lines: &str) -> String {
    format!(
        "{method} sip:+441632960123@203.0.113.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.18.0.20:5060;\
         branch=z9hG4bK-Bob-{method}\r\nMax-Forwards: 70\r\nFrom: <sip:198.18.0.20>;tag=tag-Bob-{method}\r\n\
         To: <sip:203.0.113.1>\r\nCall-ID: call-Bob-{method}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:198.18.0.20:5060>\r\n{lines}Content-Length: 0\r\n\r\n"
    )
}

const METHODS: [&str; 6] = ["UPDATE", "INFO", "REFER", "MESSAGE", "PUBLISH", "SUBSCRIBE"];

// Statement 215.
#[test]
fn each_method_that_it_allows_is_answered_here_and_none_is_relayed() {
    let mut scene = called_by_zoom("");
    let before = scene.phones[ALICE].inbox.len();
    let inside: [(&str, &str, &[u16]); 5] = [
        ("UPDATE", "", &[200]),
        ("INFO", "Content-Type: application/isup\r\n", &[200, 405, 415]),
        ("MESSAGE", "", &[405]),
        ("PUBLISH", "Event: presence\r\n", &[405, 489]),
        ("SUBSCRIBE", "Event: dialog\r\n", &[405, 489]),
    ];
    for (method, header, expected) in inside {
        scene.asks(BOB, method, header);
        scene.run(1_000);
        let answer = scene.phones[BOB].answers.last().cloned().unwrap_or_default();
        let fits = |status: &u16| answer == format!("{method} {status}");
        assert!(expected.iter().any(fits), "{answer} to {method}");
    }
    assert_eq!(scene.phones[ALICE].inbox.len(), before, "{}", scene.ladder.join("\n"));
    scene.hangs_up(BOB);
    scene.run(1_000);
    let expected: [(&str, &[u16]); 6] = [
        ("", &[481]),
        ("", &[481]),
        ("Refer-To: <sip:+12025550199@198.18.0.20>\r\n", &[403, 405]),
        ("", &[405]),
        ("Event: presence\r\n", &[405]),
        ("Event: presence\r\n", &[489]),
    ];
    for (method, (lines, expected)) in METHODS.into_iter().zip(expected) {
        scene.says(BOB, &outside(method, lines));
        scene.run(1_000);
        let cseq = format!("CSeq: 1 {method}\r\n");
        let answers = scene.phones[BOB].inbox.iter().filter(|text| text.contains(&cseq));
        let codes: Vec<u16> = answers.filter_map(|text| text.split(' ').nth(1)?.parse().ok()).collect();
        assert!(codes.len() == 1 && expected.contains(&codes[0]), "{codes:?} to {method}");
    }
    let was_relayed = |text: &String| METHODS.iter().any(|method| text.starts_with(method));
    assert!(!scene.phones[ALICE].inbox.iter().any(was_relayed));
    scene.ends();
}

// Statement 216.
#[test]
fn reliable_responses_are_not_required_of_it() {
    let mut scene = Scene::new(zoom());
    scene.alice().calls_with = "Require: 100rel\r\n";
    scene.talk();
    for text in to_bob(&scene, "") {
        assert!(!text.contains("\r\nRequire:") && !text.contains("\r\nRSeq:"), "{text}");
    }
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 217.
#[test]
fn its_trace_id_is_in_the_record_whoever_called() {
    let mut scene = called_by_zoom("");
    scene.hangs_up(ALICE);
    let record = scene.ends().records.remove(0);
    assert_eq!(record.caller_trace_id.as_deref(), Some("1715590011223344"));
    assert_eq!(record.callee_trace_id, None);
    let mut scene = Scene::new(zoom());
    scene.bob().adds = vec![("X-Trace-ID", "77".into())];
    scene.talk();
    scene.restart();
    scene.run(1_000);
    scene.hangs_up(ALICE);
    let record = scene.ends().records.remove(0);
    assert_eq!((record.caller_trace_id, record.callee_trace_id.as_deref()), (None, Some("77")));
}

// Statement 219.
#[test]
fn a_primary_zone_that_is_silent_or_out_of_service_hands_over_to_the_secondary() {
    let zones = |trunk: &mut Trunk| {
        toward(trunk, Service::Zoom);
        (trunk.peers[0].priority, trunk.peers[1].priority) = (0, 1);
    };
    for is_silent in [true, false] {
        let mut scene = Scene::new(Stage { service: zones, ..Stage::default() });
        (scene.bob().dead, scene.bob().on_invite) = (is_silent, vec![(50, Say(503))]);
        scene.carol().on_invite = vec![(50, Describe(200))];
        scene.alice_calls();
        scene.run(8_000);
        assert!(
            scene.phones[ALICE].is_talking() && scene.phones[CAROL].is_talking(),
            "{}",
            scene.ladder.join("\n")
        );
        scene.hangs_up(ALICE);
        scene.ends();
    }
}
