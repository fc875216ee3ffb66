//! Peers that ask who we are: digest challenges to an INVITE.

use gateway_userspace::policy::Trunk;
use gateway_userspace::sip::auth::{Credentials, Password};
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Scene, Stage};

/// What the service's trunk has other than the usual.
type Setting = fn(&mut Trunk);

fn known(trunk: &mut Trunk) {
    trunk.digest = Some(Credentials {
        realm: "service.example".into(),
        user: "gateway".into(),
        password: Password::new("Circle of Life"),
        md5: false,
    });
}

fn scene(service: Setting) -> Scene {
    Scene::new(Stage { service, phones_may_complain: true, ..Stage::default() })
}

fn challenge(algorithm: &str) -> String {
    format!("Digest realm=\"service.example\", nonce=\"7ypf/xlj\", algorithm={algorithm}, qop=\"auth\"")
}

/// Bob asks by these challenges, and takes the call when it comes again.
fn asked(service: Setting, status: u16, lines: Vec<(&'static str, String)>) -> Scene {
    let mut scene = scene(service);
    scene.bob().on_invite = vec![(50, Say(status))];
    scene.bob().adds = lines;
    scene.alice_calls();
    // An INVITE that comes again is on its way.
    scene.run(85);
    scene.bob().on_invite = vec![(50, Describe(200))];
    scene.bob().adds = Vec::new();
    scene.run(3_000);
    scene
}

fn line<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

// Statement 236.
#[test]
fn a_challenge_is_answered_by_the_same_invite_with_the_strongest_algorithm_and_the_ack_says_it_again() {
    for (status, asks, answers) in
        [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")]
    {
        let lines = ["MD5", "SHA-256"].map(|algorithm| (asks, challenge(algorithm)));
        let mut scene = asked(known, status, lines.to_vec());
        assert!(scene.phones[ALICE].is_talking(), "{}", scene.ladder.join("\n"));
        let invites: Vec<_> = scene.phones[BOB].came("INVITE ").collect();
        assert_eq!(invites.len(), 2);
        assert_eq!(line(invites[0], "Call-ID"), line(invites[1], "Call-ID"));
        assert_eq!((line(invites[0], answers), line(invites[1], "CSeq")), (None, Some("2 INVITE")));
        let answer = line(invites[1], answers).expect("an answer");
        assert!(
            answer.starts_with("Digest username=\"gateway\", realm=\"service.example\", nonce="),
            "{answer}"
        );
        assert!(
            answer.contains("algorithm=SHA-256,") && answer.contains("qop=auth, nc=00000001"),
            "{answer}"
        );
        let uri = invites[1].split(' ').nth(1).expect("a Request-URI");
        assert!(answer.contains(&format!("uri=\"{uri}\"")), "{answer}");
        let ack = scene.phones[BOB].came("ACK ").last().expect("an ACK of the 200");
        assert_eq!((line(ack, "CSeq"), line(ack, answers)), (Some("2 ACK"), Some(answer)));
        assert!(scene.tap().said_to_operator().all(|text| !text.contains("service.example")));
        scene.hangs_up(ALICE);
        assert_eq!(scene.ends().records[0].peers_tried, 1);
    }
}

#[test]
fn a_password_that_is_refused_a_foreign_realm_and_a_weak_algorithm_end_the_call_with_403() {
    let foreign = challenge("SHA-256").replace("service.example", "evil.example");
    let table: [(Setting, String, usize); 4] = [
        (known, challenge("SHA-256"), 2),
        (known, foreign, 1),
        (known, challenge("MD5"), 1),
        (|_| {}, challenge("SHA-256"), 1),
    ];
    for (service, challenge, sent) in table {
        let mut scene = scene(service);
        scene.bob().on_invite = vec![(50, Say(401))];
        scene.bob().adds = vec![("WWW-Authenticate", challenge)];
        scene.alice_calls();
        scene.run(5_000);
        assert_eq!(scene.phones[ALICE].answers, ["INVITE 403"]);
        assert_eq!(scene.phones[BOB].came("INVITE ").count(), sent);
        assert_eq!(scene.phones[CAROL].came("INVITE ").count(), 0);
        scene.ends();
    }
}

#[test]
fn a_peer_that_finds_every_nonce_too_old_is_left_after_a_few() {
    let mut scene = scene(known);
    scene.bob().on_invite = vec![(50, Say(401))];
    scene.bob().adds = vec![("WWW-Authenticate", format!("{}, stale=true", challenge("SHA-256")))];
    scene.alice_calls();
    scene.run(10_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 403"]);
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 5);
    scene.ends();
}
