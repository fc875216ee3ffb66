//! OPTIONS in both directions: who is asked, who answers, and where calls go after that.

use gateway_userspace::config::parse_rules;
use gateway_userspace::policy::{Advertised, Drainable as _, Health, TargetState, Trunk};
use std::time::Duration;
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Scene, Stage};

/// The customer's name stands in what is sent of a call.
const OF_A_CUSTOMER: &str = r#"
    [[rule]]
    name = "the customer's domain"
    direction = "send"
    method = ["INVITE"]
    do = [{ set = "header.From.host", value = "cust7.corp.example" }]
"#;

/// The service's peers are asked every minute, as Teams wants it.
fn asking() -> Stage {
    let service = |trunk: &mut Trunk| {
        trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
        trunk.health = Health { interval: Some(Duration::from_secs(60)), ..Health::default() };
    };
    Stage { service, ..Stage::default() }
}

fn count(scene: &Scene, line: &str) -> usize {
    scene.ladder.iter().filter(|have| have.contains(line)).count()
}

// Statement 24.
#[test]
fn each_peer_is_asked_at_the_start_and_once_a_minute_and_answers_make_it_up() {
    let mut scene = Scene::new(asking());
    scene.run(1_000);
    assert_eq!((count(&scene, "→ Bob: OPTIONS"), count(&scene, "→ Carol: OPTIONS")), (1, 1));
    assert_eq!(scene.states("service"), [TargetState::Up; 2]);
    scene.run(180_000);
    assert_eq!((count(&scene, "→ Bob: OPTIONS"), count(&scene, "→ Carol: OPTIONS")), (4, 4));
    assert_eq!(scene.total("causeway_probes"), 8);
    scene.ends();
}

// Statements 25, 26, 27.
#[test]
fn the_question_names_us_as_the_service_knows_us() {
    let mut scene = Scene::new(asking());
    scene.run(1_000);
    let asked: Vec<&str> = scene.tap().sent().filter(|text| text.starts_with("OPTIONS ")).collect();
    assert_eq!(asked.len(), 2);
    for text in asked {
        assert!(text.contains("\r\nContact: <sip:sbc1.corp.example:5060>\r\n"), "{text}");
        assert!(text.contains("\r\nVia: SIP/2.0/UDP sbc1.corp.example:5060;"), "{text}");
        assert!(text.contains("\r\nAllow: INVITE, ACK,") && text.contains(", REFER, NOTIFY\r\n"), "{text}");
        let uris = text.lines().take_while(|line| !line.is_empty()).filter(|line| line.contains("sip:"));
        assert!(uris.clone().count() >= 4 && uris.clone().all(|line| !line.contains('@')), "{text}");
    }
    scene.ends();
}

// Statement 29.
#[test]
fn a_customers_name_in_calls_brings_no_questions_in_that_name() {
    let service = |trunk: &mut Trunk| {
        (asking().service)(trunk);
        trunk.rules = parse_rules("rules.toml", OF_A_CUSTOMER).unwrap_or_else(|errors| panic!("{errors}"));
    };
    let mut scene = Scene::new(Stage { service, ..Stage::default() });
    scene.talk();
    scene.run(180_000);
    let is_invite = |text: &&str| text.starts_with("INVITE ");
    let invite = scene.tap().said_to_service().find(is_invite).expect("an INVITE").to_owned();
    assert!(invite.contains("@cust7.corp.example"), "{invite}");
    let asked: Vec<_> = scene.tap().sent().filter(|text| text.starts_with("OPTIONS ")).collect();
    assert_eq!(asked.len(), 8, "one a peer and minute");
    for text in asked {
        assert!(!text.contains("cust7") && text.contains("\r\nFrom: <sip:sbc1.corp.example"), "{text}");
    }
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statements 30, 48.
#[test]
fn a_peer_that_falls_silent_gets_no_calls_until_it_answers_again() {
    let mut scene = Scene::new(asking());
    scene.bob().dead = true;
    scene.run(20_000);
    assert_eq!(scene.states("service"), [TargetState::Down, TargetState::Up]);
    scene.alice_calls();
    scene.run(3_000);
    assert!(scene.phones[CAROL].is_talking());
    assert_eq!(count(&scene, "→ Bob: INVITE"), 0);
    scene.hangs_up(ALICE);
    scene.bob().dead = false;
    scene.run(15_000);
    assert_eq!(scene.states("service"), [TargetState::Up; 2]);
    scene.alice_calls();
    scene.run(3_000);
    assert!(scene.phones[BOB].is_talking());
    assert_eq!((scene.total("causeway_peers_went_down"), scene.total("causeway_peers_went_up")), (1, 2));
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 30.
#[test]
fn a_peer_that_answers_503_or_408_goes_down_and_one_that_answers_404_does_not() {
    for (status, state) in [
        (503, TargetState::Down),
        (408, TargetState::Down),
        (404, TargetState::Up),
        (403, TargetState::Unknown),
    ] {
        let mut scene = Scene::new(asking());
        scene.bob().on_options = status;
        scene.run(40_000);
        assert_eq!(scene.states("service")[0], state, "{status}");
        scene.ends();
    }
}

// Statement 30.
#[test]
fn a_host_that_is_not_there_counts_as_a_failure_at_once() {
    let mut scene = Scene::new(asking());
    scene.bob().dead = true;
    scene.run(20);
    scene.unreachable(BOB);
    scene.run(10_000);
    scene.unreachable(BOB);
    assert_eq!(scene.states("service")[0], TargetState::Down);
    scene.ends();
}

// Statement 31.
#[test]
fn a_peer_that_does_not_know_our_name_raises_one_alarm() {
    let mut scene = Scene::new(asking());
    scene.bob().on_options = 403;
    scene.run(300_000);
    assert_eq!(scene.total("causeway_contacts_refused"), 1);
    scene.ends();
}

// Statement 84.
#[test]
fn when_every_peer_is_down_the_caller_hears_503_at_once() {
    let mut scene = Scene::new(asking());
    for phone in [BOB, CAROL] {
        scene.phones[phone].dead = true;
    }
    scene.run(20_000);
    scene.alice_calls();
    scene.run(100);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 503"]);
    assert_eq!((count(&scene, "→ Bob: INVITE"), count(&scene, "→ Carol: INVITE")), (0, 0));
    assert_eq!(scene.total("causeway_requests_refused"), 1);
    scene.ends();
}

fn options(number: u32) -> String {
    format!(
        "OPTIONS sip:192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-Alice-o{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:198.51.100.10>;tag=tag-Alice-o{number}\r\nTo: <sip:192.0.2.1:5060>\r\n\
         Call-ID: call-Alice-o{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

// Statements 28, 218.
#[test]
fn a_question_of_a_peer_is_answered_at_once_on_each_side_and_makes_no_dialog() {
    let mut scene = Scene::new(Stage::default());
    scene.says(ALICE, &options(1));
    let of_bob = options(2).replace("198.51.100.10", "198.18.0.20").replace("192.0.2.1", "203.0.113.1");
    scene.says(BOB, &of_bob.replace("Alice", "Bob"));
    scene.run(100);
    assert_eq!((count(&scene, "→ Alice: 200 to OPTIONS"), count(&scene, "→ Bob: 200 to OPTIONS")), (1, 1));
    for text in scene.tap().sent() {
        assert!(
            text.contains("\r\nAllow: INVITE, ACK,") && text.contains("\r\nAccept: application/sdp"),
            "{text}"
        );
    }
    assert_eq!(scene.calls(), 0);
    scene.ends();
}

// Statement 32.
#[test]
fn a_drained_trunk_refuses_what_is_new_and_finishes_what_is_not() {
    let mut scene = Scene::new(asking());
    scene.run(1_000);
    scene.talk();
    assert!(scene.trunk("service").drain(true));
    scene.alice_calls();
    scene.run(500);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 503"]);
    assert!(scene.phones[BOB].is_talking());
    let before = count(&scene, "→ Bob: OPTIONS");
    scene.run(200_000);
    assert_eq!(count(&scene, "→ Bob: OPTIONS"), before, "a drained trunk asks nobody");
    scene.trunk("operator").drain(true);
    scene.says(ALICE, &options(1));
    scene.run(100);
    assert_eq!(count(&scene, "→ Alice: 503 to OPTIONS"), 1);
    for trunk in ["operator", "service"] {
        assert!(scene.trunk(trunk).drain(false));
    }
    scene.says(ALICE, &options(2));
    scene.run(100);
    assert_eq!(count(&scene, "→ Alice: 200 to OPTIONS"), 1);
    scene.hangs_up(BOB);
    scene.run(1_000);
    scene.alice_calls();
    scene.run(3_000);
    assert!(scene.phones[BOB].is_talking());
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 32.
#[test]
fn a_draining_node_stops_asking_and_starts_again_when_it_is_undrained() {
    let mut scene = Scene::new(asking());
    scene.run(1_000);
    scene.drain();
    scene.run(120_000);
    assert_eq!(count(&scene, "→ Bob: OPTIONS"), 1);
    scene.undrain();
    scene.run(61_000);
    assert_eq!(count(&scene, "→ Bob: OPTIONS"), 2);
    scene.bob().on_invite = vec![(50, Say(180)), (500, Describe(200))];
    scene.talk();
    scene.hangs_up(ALICE);
    scene.ends();
}
