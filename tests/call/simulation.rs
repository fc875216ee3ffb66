//! Calls without a plan: phones, networks, clocks and daemons do what a seed says, and every rule still holds.

use support::simulation::simulate;

const SEEDS: u64 = 500;

#[test]
fn whatever_happens_no_rule_is_broken() {
    let (mut answered, mut failed) = (0, Vec::new());
    for seed in 0..SEEDS {
        let verdict = simulate(seed);
        answered += verdict.records.iter().filter(|record| record.sip_status == 200).count();
        if !verdict.broken.is_empty() {
            failed.push(verdict);
        }
    }
    let all: Vec<_> = failed.iter().map(|verdict| (verdict.seed, &verdict.broken)).collect();
    assert!(failed.is_empty(), "{}\n{all:#?}", failed[0].report());
    assert!(answered > 400, "only {answered} calls were answered: nothing was tried");
}

#[test]
fn the_same_seed_does_the_same_again() {
    for seed in 0..40 {
        let (one, other) = (simulate(seed), simulate(seed));
        assert_eq!(one.ladder, other.ladder, "seed {seed}");
        assert_eq!(one.digest, other.digest, "seed {seed}");
    }
    assert_ne!(simulate(1).digest, simulate(2).digest);
}
