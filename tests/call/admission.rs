//! How many calls are let in and how fast, and who passes above that.

use gateway_userspace::policy::{CallRate, Limits, Trunk};
use gateway_userspace::runtime::admission::Quota;
use support::stage::phone::Reaction::Describe;
use support::stage::scene::{ALICE, BOB, Scene, Stage};

fn per_second(calls: u32) -> Limits {
    Limits { calls: None, rate: Some(CallRate { per_second: calls, burst: calls }) }
}

fn answers(scene: &Scene, answer: &str) -> usize {
    scene.phones[ALICE].answers.iter().filter(|have| *have == answer).count()
}

/// Alice calls so often, so many milliseconds apart.
fn calls(scene: &mut Scene, count: usize, pause: u64) {
    for _ in 0..count {
        scene.alice_calls();
        scene.run(pause);
    }
}

// Statement 84.
#[test]
fn a_trunk_carries_as_many_calls_as_it_is_set_to_on_either_side() {
    let limit = |trunk: &mut Trunk| trunk.limits = Limits { calls: Some(2), rate: None };
    for stage in [Stage { operator: limit, ..Stage::default() }, Stage { service: limit, ..Stage::default() }]
    {
        let mut scene = Scene::new(stage);
        calls(&mut scene, 4, 2_000);
        assert_eq!((answers(&scene, "INVITE 200"), answers(&scene, "INVITE 503")), (2, 2));
        assert_eq!(scene.total("causeway_trunks_near_limit"), 1);
        scene.hangs_up(BOB);
        scene.run(1_000);
        calls(&mut scene, 2, 2_000);
        assert_eq!((answers(&scene, "INVITE 200"), answers(&scene, "INVITE 503")), (3, 3));
        while scene.calls() > 0 {
            scene.hangs_up(BOB);
            scene.run(1_000);
        }
        assert_eq!(scene.trunk("operator").meter.calls() + scene.trunk("service").meter.calls(), 0);
        assert_eq!(scene.ends().records.len(), 3);
    }
}

#[test]
fn a_failed_call_gives_its_place_back_at_once() {
    let service = |trunk: &mut Trunk| trunk.limits = Limits { calls: Some(1), rate: None };
    let mut scene = Scene::new(Stage { service, ..Stage::default() });
    scene.bob().on_invite = vec![(50, support::stage::phone::Reaction::Say(486))];
    calls(&mut scene, 5, 500);
    assert_eq!(answers(&scene, "INVITE 486"), 5);
    scene.ends();
}

#[test]
fn calls_taken_over_from_another_daemon_count_as_well() {
    let service = |trunk: &mut Trunk| trunk.limits = Limits { calls: Some(1), rate: None };
    let mut scene = Scene::new(Stage { service, ..Stage::default() });
    scene.talk();
    scene.restart();
    assert_eq!(scene.trunk("service").meter.calls(), 1);
    calls(&mut scene, 1, 1_000);
    assert_eq!(answers(&scene, "INVITE 503"), 1);
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 84.
#[test]
fn calls_that_come_too_fast_get_503_with_nothing_built_for_them() {
    let operator = |trunk: &mut Trunk| trunk.limits = per_second(2);
    let node = Quota { limits: per_second(2), ..Quota::default() };
    let limited = [Stage { operator, ..Stage::default() }, Stage { quota: node, ..Stage::default() }];
    for stage in limited {
        let mut scene = Scene::new(stage);
        scene.bob().on_invite = vec![(50, support::stage::phone::Reaction::Say(486))];
        calls(&mut scene, 10, 20);
        scene.run(5_000);
        assert_eq!((answers(&scene, "INVITE 486"), answers(&scene, "INVITE 503")), (2, 8));
        assert_eq!(scene.total("causeway_requests_refused"), 8);
        let refusal = scene.tap().sent().find(|text| text.starts_with("SIP/2.0 503 "));
        let refusal = refusal.expect("eight were refused");
        assert!(refusal.contains("call_rate_exceeded") && !refusal.contains("Retry-After"), "{refusal}");
        calls(&mut scene, 1, 500);
        assert_eq!(answers(&scene, "INVITE 486"), 3);
        assert_eq!(scene.ends().records.len(), 3);
    }
}

// Statement 189.
#[test]
fn emergency_calls_pass_above_every_limit() {
    let full = |trunk: &mut Trunk| {
        trunk.limits = Limits { calls: Some(1), rate: Some(CallRate { per_second: 1, burst: 1 }) };
    };
    let quota = Quota { limits: per_second(1), ..Quota::default() };
    let stage = Stage {
        operator: full,
        service: full,
        quota,
        max_calls: 1,
        emergency_numbers: &["112", "+1911"],
        ..Stage::default()
    };
    let mut scene = Scene::new(stage);
    scene.bob().on_invite = vec![(50, Describe(200))];
    calls(&mut scene, 3, 300);
    assert_eq!((answers(&scene, "INVITE 200"), answers(&scene, "INVITE 503")), (1, 2));
    for _ in 0..5 {
        scene.alice_dials("+1911");
        scene.run(300);
    }
    assert_eq!((answers(&scene, "INVITE 200"), answers(&scene, "INVITE 503")), (6, 2));
    assert_eq!(scene.trunk("service").meter.calls(), 6);
    while scene.calls() > 0 {
        scene.hangs_up(ALICE);
        scene.run(1_000);
    }
    scene.ends();
}

#[test]
fn a_copy_of_an_invite_that_was_let_in_takes_no_turn_of_another() {
    let operator = |trunk: &mut Trunk| trunk.limits = per_second(1);
    let mut scene = Scene::new(Stage { operator, ..Stage::default() });
    scene.loses = |text| text.starts_with("SIP/2.0 100 ");
    scene.bob().on_invite = vec![(1_700, Describe(200))];
    scene.alice_calls();
    scene.run(3_000);
    let copies = scene.ladder.iter().filter(|line| line.contains("Alice → causeway: INVITE 1")).count();
    assert!(copies >= 2, "{}", scene.ladder.join("\n"));
    assert_eq!(answers(&scene, "INVITE 200"), 1);
    assert_eq!(scene.total("causeway_requests_refused"), 0);
    scene.hangs_up(ALICE);
    scene.ends();
}
