//! The basic flows of RFC 3665 section 3, as far as a back-to-back user agent takes part in them: Causeway stands
//! where the RFC has its proxies. Section 2, registration, is for registrars; as one that registers, Causeway meets a
//! real one in `tests/interop/registration.rs`.

use gateway_userspace::base::id::Side;
use gateway_userspace::policy::Trunk;
use gateway_userspace::sip::auth::{Credentials, Password};
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, BOBS_NUMBER, CAROL, Outcome, Scene, Stage};

fn ends_by(mut scene: Scene, phone: usize) -> Outcome {
    scene.hangs_up(phone);
    scene.run(1_000);
    scene.ends()
}

/// What came to a phone with this start, by its lines of this name.
fn lines(scene: &Scene, phone: usize, start: &str, name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    let of = |text: &str| {
        text.lines().filter_map(|line| line.strip_prefix(&prefix)).collect::<Vec<_>>().join(", ")
    };
    scene.phones[phone].came(start).map(of).collect()
}

/// RFC 3665 section 3.1.
#[test]
fn s3_1_a_session_is_established_and_ended_by_the_callee() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    assert_eq!(scene.flows.len(), 4);
    let outcome = ends_by(scene, BOB);
    assert_eq!(outcome.records[0].sip_status, 200);
    insta::assert_snapshot!(outcome.ladder);
}

/// RFC 3665 section 3.2: a proxy on each side wants to see the dialog's requests.
#[test]
fn s3_2_requests_of_each_dialog_go_by_the_proxies_that_recorded_their_route() {
    const NEAR: &str = "<sip:198.51.100.10;lr>";
    const FAR: &str = "<sip:198.18.0.20;lr;name=far>, <sip:198.18.0.20;lr;name=near>";
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = "Record-Route: <sip:198.51.100.10;lr>\r\n";
    scene.bob().adds = vec![("Record-Route", FAR.to_owned())];
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(1_000);
    // The callee's proxies stand in the response as Causeway's requests meet them from the last on (RFC 3261 section
    // 12.1.2).
    let toward = "<sip:198.18.0.20;lr;name=near>, <sip:198.18.0.20;lr;name=far>";
    assert_eq!(lines(&scene, BOB, "ACK ", "Route"), [toward]);
    assert_eq!(lines(&scene, BOB, "BYE ", "Route"), [toward]);
    assert_eq!(lines(&scene, ALICE, "SIP/2.0 200", "Record-Route")[0], NEAR);
    assert_eq!(scene.phones[BOB].came("INVITE ").filter(|text| text.contains("Record-Route")).count(), 0);
    scene.alice().calls_with = "";
    scene.bob().adds = Vec::new();
    scene.bob_calls_alice();
    scene.run(3_000);
    insta::assert_snapshot!(ends_by(scene, BOB).ladder);
}

/// RFC 3665 section 3.3: the proxy behind Causeway asks who it is.
#[test]
fn s3_3_a_proxy_that_authenticates_is_answered_and_the_caller_hears_nothing_of_it() {
    let known = |trunk: &mut Trunk| {
        trunk.digest = Some(Credentials {
            realm: "biloxi.example.com".into(),
            user: "gateway".into(),
            password: Password::new("Circle of Life"),
            md5: true,
        });
    };
    let mut scene = Scene::new(Stage { service: known, ..Stage::default() });
    scene.bob().on_invite = vec![(50, Say(407))];
    let challenge = "Digest realm=\"biloxi.example.com\", nonce=\"wf84f1ceczx41ae6cbe5aea9c8e88d359\", algorithm=MD5, qop=\"auth\"";
    scene.bob().adds = vec![("Proxy-Authenticate", challenge.to_owned())];
    scene.alice_calls();
    scene.run(85);
    scene.bob().on_invite = vec![(50, Say(180)), (500, Describe(200))];
    scene.bob().adds = Vec::new();
    scene.run(3_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200"]);
    assert_eq!(lines(&scene, ALICE, "SIP/2.0 ", "Proxy-Authenticate").concat(), "");
    assert!(lines(&scene, BOB, "INVITE ", "Proxy-Authorization")[1].contains("username=\"gateway\""));
    insta::assert_snapshot!(ends_by(scene, ALICE).ladder);
}

/// RFC 3665 section 3.4: the first proxy does not answer.
#[test]
fn s3_4_a_proxy_that_fails_is_followed_by_the_next() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().dead = true;
    scene.alice_calls();
    scene.run(15_000);
    assert!(scene.phones[ALICE].is_talking() && scene.phones[CAROL].is_talking());
    let outcome = ends_by(scene, ALICE);
    assert_eq!(outcome.records[0].peers_tried, 2);
    insta::assert_snapshot!(outcome.ladder);
}

/// RFC 3665 section 3.5: the gateway in the middle is what signalling and media know of the other side.
#[test]
fn s3_5_neither_side_learns_an_address_of_the_other() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let connection = |phone: usize| {
        let inbox = scene.phones[phone].inbox.iter();
        let mut lines: Vec<_> =
            inbox.flat_map(|text| text.lines()).filter(|line| line.starts_with("c=")).collect();
        lines.dedup();
        lines.join("|")
    };
    assert_eq!(
        (connection(ALICE), connection(BOB)),
        ("c=IN IP4 192.0.2.2".into(), "c=IN IP4 203.0.113.2".into())
    );
    assert!(lines(&scene, BOB, "INVITE ", "Contact")[0].contains("203.0.113.1"));
    assert!(lines(&scene, ALICE, "SIP/2.0 200", "Contact")[0].contains("192.0.2.1"));
    // The rest is what `Scene::ends` holds every scenario to.
    ends_by(scene, ALICE);
}

/// RFC 3665 section 3.6, the part with the answer in the ACK.
#[test]
fn s3_6_an_offer_in_the_200_has_its_answer_in_the_ack() {
    let mut scene = Scene::new(Stage::default());
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, false);
    scene.run(3_000);
    let acks: Vec<_> = scene.phones[BOB].came("ACK ").collect();
    assert!(acks[0].contains("m=audio"), "{}", acks[0]);
    assert!(scene.phones[ALICE].is_talking());
    insta::assert_snapshot!(ends_by(scene, ALICE).ladder);
}

/// RFC 3665 section 3.6, the part with the redirection: where a call goes is for the routes to say, so what a peer
/// answers with 3xx is a refusal, and the addresses in it do not cross.
#[test]
fn s3_6_a_redirection_does_not_cross() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(302))];
    scene.alice_calls();
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 480"]);
    assert_eq!(lines(&scene, ALICE, "SIP/2.0 480", "Contact").concat(), "");
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 3665 section 3.7.
#[test]
fn s3_7_a_callee_whose_address_changes_takes_its_media_along() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    let mut session = scene.phones[BOB].session.clone();
    session.at = ("198.18.0.25".to_owned(), 47_172);
    scene.reinvites(BOB, session);
    scene.run(1_000);
    let to = scene.flows.media_of(Side::Caller).and_then(|flow| flow.rtp).map(|output| output.to.to_string());
    assert_eq!(to.as_deref(), Some("198.18.0.25:47172"));
    insta::assert_snapshot!(ends_by(scene, ALICE).ladder);
}

/// RFC 3665 section 3.8.
#[test]
fn s3_8_a_caller_who_hears_no_answer_cancels() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(180))];
    scene.alice_calls();
    scene.run(10_000);
    scene.cancels(ALICE);
    scene.run(1_000);
    assert_eq!(scene.phones[ALICE].answers, ["CANCEL 200", "INVITE 487"]);
    assert_eq!(scene.phones[BOB].came("CANCEL ").count(), 1);
    insta::assert_snapshot!(scene.ends().ladder);
}

/// RFC 3665 sections 3.9 and 3.11: the callee's own word.
#[test]
fn s3_9_and_3_11_busy_and_unavailable_are_heard_as_they_were_said() {
    for (status, cause) in [(486, 17), (480, 18)] {
        let mut scene = Scene::new(Stage::default());
        scene.bob().on_invite = vec![(50, Say(180)), (900, Say(status))];
        scene.alice_calls();
        scene.run(2_000);
        assert_eq!(scene.phones[ALICE].answers, [format!("INVITE {status}")]);
        let outcome = scene.ends();
        assert_eq!((outcome.records[0].sip_status, outcome.records[0].cause), (status, cause));
        insta::assert_snapshot!(format!("s3_9_and_3_11_{status}"), outcome.ladder);
    }
}

/// RFC 3665 section 3.10: nobody there answers.
#[test]
fn s3_10_a_callee_that_says_nothing_is_told_as_such() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().dead = true;
    scene.carol().dead = true;
    scene.alice_calls();
    scene.run(40_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 408"]);
    insta::assert_snapshot!(scene.ends().ladder);
}
