//! Overload control between neighbours (RFC 7339, RFC 7415), in both roles.

use gateway_userspace::policy::{CallRate, Limits, Trunk};
use support::stage::phone::Reaction::Say;
use support::stage::scene::{ALICE, Scene, Stage};

fn controlled(trunk: &mut Trunk) {
    trunk.overload_control = true;
}

fn limited(trunk: &mut Trunk) {
    trunk.overload_control = true;
    trunk.limits = Limits { calls: None, rate: Some(CallRate { per_second: 10, burst: 10 }) };
}

/// What Alice hears in the Via of the answer to an OPTIONS that carries these parameters.
fn told(scene: &mut Scene, number: u32, params: &str) -> String {
    scene.says(
        ALICE,
        &format!(
            "OPTIONS sip:192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-Alice-v{number}{params}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:198.51.100.10>;tag=tag-Alice-v{number}\r\nTo: <sip:192.0.2.1:5060>\r\n\
             Call-ID: call-Alice-v{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    scene.run(100);
    let answer = scene.tap().last_sent();
    let via = answer.lines().find(|line| line.starts_with("Via:")).unwrap_or_default();
    via.split_once(&format!("v{number}")).map(|(_, rest)| rest.to_owned()).unwrap_or_default()
}

#[test]
fn who_asks_hears_how_many_calls_to_keep_back() {
    let mut scene = Scene::new(Stage { operator: limited, ..Stage::default() });
    let quiet = told(&mut scene, 1, ";oc;oc-algo=\"loss\"");
    assert!(quiet.starts_with(";oc=0;oc-algo=\"loss\";oc-validity=2000;oc-seq="), "{quiet}");
    scene.bob().on_invite = vec![(50, Say(486))];
    for _ in 0..150 {
        scene.alice_calls();
        scene.run(20);
    }
    let loud = told(&mut scene, 2, ";oc;oc-algo=\"loss\"");
    let loss: u32 = loud.trim_start_matches(";oc=").split(';').next().unwrap().parse().unwrap();
    assert!((75..=99).contains(&loss), "fifty calls a second and ten are taken: {loud}");
    let by_rate = told(&mut scene, 3, ";oc;oc-algo=\"rate,loss\"");
    assert!(by_rate.starts_with(";oc=10;oc-algo=\"rate\";oc-validity=2000"), "{by_rate}");
    assert_eq!(told(&mut scene, 4, ""), "");
    assert_eq!(told(&mut scene, 5, ";oc=7"), ";oc=7");
    scene.ends();
}

#[test]
fn a_trunk_without_overload_control_says_nothing_and_heeds_nothing() {
    let mut scene = Scene::new(Stage::default());
    assert_eq!(told(&mut scene, 1, ";oc;oc-algo=\"loss\""), ";oc;oc-algo=\"loss\"");
    scene.bob().load = Some((100, "loss"));
    scene.talk();
    scene.hangs_up(ALICE);
    scene.run(1_000);
    scene.talk();
    scene.hangs_up(ALICE);
    assert!(scene.tap().sent().all(|text| !text.contains(";oc-algo=\"rate,loss\"")));
    scene.ends();
}

#[test]
fn a_peer_that_takes_no_calls_gets_none_for_so_long_and_then_again() {
    for load in [(100, "loss"), (0, "rate")] {
        let mut scene = Scene::new(Stage { service: controlled, ..Stage::default() });
        scene.bob().on_invite = vec![(50, Say(486))];
        scene.carol().on_invite = vec![(50, Say(486))];
        scene.bob().load = Some(load);
        let count = |scene: &Scene, name: &str| {
            scene.ladder.iter().filter(|line| line.contains(&format!("causeway → {name}: INVITE"))).count()
        };
        scene.alice_calls();
        scene.run(1_000);
        let invite = scene.tap().sent().find(|text| text.starts_with("INVITE ")).expect("one").to_owned();
        assert!(invite.contains(";oc;oc-algo=\"rate,loss\"\r\n"), "{invite}");
        for _ in 0..3 {
            scene.alice_calls();
            scene.run(1_000);
        }
        assert_eq!((count(&scene, "Bob"), count(&scene, "Carol")), (1, 3), "{load:?}");
        scene.run(5_000);
        scene.bob().load = None;
        scene.alice_calls();
        scene.run(1_000);
        assert_eq!((count(&scene, "Bob"), count(&scene, "Carol")), (2, 3), "{load:?}");
        scene.ends();
    }
}
