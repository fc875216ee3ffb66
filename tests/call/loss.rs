//! The same calls over a network that loses, repeats and reorders: every rule still holds.

use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::weather::Weather;

const SEEDS: u64 = 240;

fn foul(seed: u64, cores: u16) -> Scene {
    Scene::new(Stage { weather: Weather::FOUL, seed, cores, ..Stage::default() })
}

/// One of the basic flows, chosen by the seed.
fn play(seed: u64) -> Scene {
    let mut scene = foul(seed, 1 + (seed % 3) as u16);
    match seed % 7 {
        0 => {
            scene.alice_calls();
            scene.run(10_000);
            scene.hangs_up(ALICE);
        }
        1 => {
            scene.bob().on_invite = vec![(30, Describe(183)), (900, Describe(200))];
            scene.alice_calls();
            scene.run(10_000);
            scene.hangs_up(BOB);
        }
        2 => {
            scene.bob().on_invite = vec![(30, Say(180))];
            scene.alice_calls();
            scene.run(seed * 20 % 3_000);
            scene.cancels(ALICE);
        }
        3 => {
            scene.bob().on_invite = vec![(30, Say(503))];
            scene.alice_calls();
            scene.run(12_000);
            scene.hangs_up(ALICE);
        }
        4 => {
            scene.alice_calls();
            scene.run(8_000);
            let session = scene.phones[ALICE].session.clone();
            scene.reinvites(ALICE, session.directed("sendonly"));
            scene.run(seed * 30 % 4_000);
            scene.reinvites(ALICE, session);
            scene.run(4_000);
            scene.hangs_up(BOB);
        }
        5 => {
            scene.alice_calls();
            scene.run(10_000);
            scene.restart();
            scene.hangs_up(if seed.is_multiple_of(2) { ALICE } else { BOB });
        }
        _ => {
            scene.alice_calls();
            scene.run(8_000);
            let (alices, bobs) = (scene.phones[ALICE].session.clone(), scene.phones[BOB].session.clone());
            scene.reinvites(ALICE, alices.directed("inactive"));
            scene.run(seed * 7 % 400);
            scene.reinvites(BOB, bobs.directed("sendonly"));
            scene.run(3_000);
            scene.hangs_up(ALICE);
            scene.run(seed * 3 % 60);
            scene.hangs_up(BOB);
        }
    }
    scene
}

#[test]
fn no_weather_breaks_a_rule() {
    let (mut lost, mut answered) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = play(seed).ends();
        lost += outcome.ladder.lines().filter(|line| line.ends_with("lost")).count();
        answered += outcome.records.iter().filter(|record| record.sip_status == 200).count() as u64;
    }
    assert!(lost > 500, "only {lost} datagrams were lost: the weather was too fair");
    // All flows but the cancelled one, which is every seventh.
    assert!(answered >= SEEDS * 6 / 7, "only {answered} of {SEEDS} calls were answered");
}

#[test]
fn the_same_seed_gives_the_same_ladder() {
    for seed in 0..12 {
        assert_eq!(play(seed).ends().ladder, play(seed).ends().ladder, "seed {seed}");
    }
}

#[test]
fn retransmissions_of_either_side_are_absorbed() {
    // Every datagram comes twice.
    let weather = Weather { repeated: 1_000, ..Weather::FAIR };
    let mut scene = Scene::new(Stage { weather, ..Stage::default() });
    scene.talk();
    let session = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, session.directed("sendonly"));
    scene.run(2_000);
    scene.hangs_up(ALICE);
    let outcome = scene.ends();
    let invites = outcome.ladder.lines().filter(|line| line.contains("→ Bob: INVITE 1 ")).count();
    assert_eq!((invites, outcome.records.len()), (1, 1));
}

#[test]
fn many_calls_at_once_share_the_cores_and_nothing_else() {
    let mut scene = Scene::new(Stage { cores: 4, ports: 20_000..=20_399, ..Stage::default() });
    for _ in 0..30 {
        scene.alice_calls();
        scene.run(10);
    }
    scene.run(5_000);
    assert_eq!((scene.calls(), scene.flows.len()), (30, 120));
    for call in 0..30 {
        scene.hangs_up(if call % 2 == 0 { ALICE } else { BOB });
        scene.run(40);
    }
    assert_eq!(scene.ends().records.len(), 30);
}

#[test]
fn messages_seen_and_sent_again_are_counted_as_repeats() {
    let mut scene = Scene::new(Stage::default());
    scene.talk();
    assert_eq!(scene.total("causeway_sip_repeats"), 0);
    scene.hangs_up(ALICE);
    scene.ends();
    // Every datagram comes twice: the INVITE, the 180 aside, the 200 and the ACK.
    let weather = Weather { repeated: 1_000, ..Weather::FAIR };
    let mut scene = Scene::new(Stage { weather, ..Stage::default() });
    scene.talk();
    assert!(scene.total("causeway_sip_repeats") >= 3, "{}", scene.total("causeway_sip_repeats"));
    scene.hangs_up(ALICE);
    scene.ends();
}
