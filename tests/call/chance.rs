//! Calls without a plan: phones, operators and daemons do what a seed says, in fair weather and foul, and every rule
//! still holds.

use gateway_userspace::base::fault::Fault;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::stage::phone::Reaction::{self, Branch, Describe, Fork, Reliable, Say};
use support::stage::scene::{ALICE, BOB, CAROL, Outcome, Scene, Stage};
use support::stage::weather::Weather;

const SEEDS: u64 = 250;

type Script = &'static [(u64, Reaction)];

const ANSWERS: [Script; 12] = [
    &[(30, Say(180)), (700, Describe(200))],
    &[(30, Describe(183)), (1_500, Describe(200))],
    &[(10, Describe(200))],
    &[(30, Describe(183)), (900, Say(503))],
    &[(30, Say(486))],
    &[(30, Say(503))],
    &[(30, Say(180))],
    &[(5_500, Describe(200))],
    &[(30, Say(180)), (700, Describe(200)), (800, Fork)],
    &[(30, Reliable(180, false)), (300, Reliable(183, true)), (1_500, Say(200))],
    &[(30, Branch(1, 183, true)), (300, Branch(2, 183, true)), (900, Branch(3, 200, true))],
    &[(30, Branch(1, 180, false)), (900, Branch(1, 200, true)), (920, Branch(2, 200, true))],
];

const CHANGES: [Script; 7] = [
    &[(30, Describe(200))],
    &[(30, Describe(200))],
    &[(900, Describe(200))],
    &[(30, Say(488))],
    &[(30, Say(491))],
    &[(300, Say(180)), (2_000, Describe(200))],
    &[(30, Say(481))],
];

fn play(seed: u64) -> Outcome {
    let mut chance = StdRng::seed_from_u64(seed);
    let weather = if seed.is_multiple_of(4) { Weather::FAIR } else { Weather::FOUL };
    let cores = chance.random_range(1..4);
    let mut scene = Scene::new(Stage { weather, seed, cores, phones_may_complain: true, ..Stage::default() });
    for _ in 0..chance.random_range(4..16) {
        for phone in [ALICE, BOB, CAROL] {
            scene.phones[phone].calls_with =
                ["", "Supported: 100rel\r\n", "Require: 100rel\r\n"][chance.random_range(0..3)];
            let timer = [None, Some("90;refresher=uac"), Some("90;refresher=uas")][chance.random_range(0..3)];
            let timer = timer.map(|value| ("Session-Expires", value.to_owned()));
            let update =
                chance.random_bool(0.5).then(|| ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE".to_owned()));
            scene.phones[phone].adds = timer.into_iter().chain(update).collect();
            scene.phones[phone].on_invite = ANSWERS[chance.random_range(0..ANSWERS.len())].to_vec();
            scene.phones[phone].on_reinvite = CHANGES[chance.random_range(0..CHANGES.len())].to_vec();
        }
        act(&mut scene, &mut chance);
        let pause = if chance.random_ratio(1, 4) { 40 } else { 4_000 };
        scene.run(chance.random_range(0..pause));
    }
    for _ in 0..6 {
        for phone in [ALICE, BOB, CAROL] {
            scene.hangs_up(phone);
        }
        scene.run(45_000);
    }
    scene.ends()
}

fn act(scene: &mut Scene, chance: &mut StdRng) {
    let phone = [ALICE, BOB, CAROL][chance.random_range(0..3)];
    match chance.random_range(0..16) {
        0..3 => scene.alice_calls(),
        3 => {
            let now = scene.now;
            scene.alice().call(now, support::stage::scene::BOBS_NUMBER, false);
        }
        4..7 => {
            let direction = ["sendrecv", "sendonly", "recvonly", "inactive"][chance.random_range(0..4)];
            let session = scene.phones[phone].session.directed(direction);
            scene.reinvites(phone, session);
        }
        7 => scene.hangs_up(phone),
        8 => scene.cancels(phone),
        9 => scene.restart(),
        10 => scene.unreachable(phone),
        11 => {
            let talks = chance.random();
            scene.media(talks);
        }
        12 => scene.hang_up_any(Fault::HungUp),
        13..15 => {
            let direction = ["sendrecv", "sendonly", "inactive"][chance.random_range(0..3)];
            let session = scene.phones[phone].session.directed(direction);
            scene.updates(phone, chance.random_bool(0.7).then_some(session));
        }
        _ => {
            let now = scene.now;
            scene.phones[phone].reinvite(now, None);
        }
    }
}

#[test]
fn whatever_phones_do_no_rule_is_broken() {
    let mut answered = 0;
    for seed in 0..SEEDS {
        let told = std::panic::catch_unwind(|| play(seed));
        let outcome = told.unwrap_or_else(|_| panic!("seed {seed} breaks a rule: see above"));
        answered += outcome.records.iter().filter(|record| record.sip_status == 200).count();
    }
    assert!(answered > 200, "only {answered} calls were answered: nothing was tried");
}
