//! The simulator: whole calls without a plan, on virtual time, in one thread. A seed decides what phones, network, clocks
//! and daemons do; the same seed does the same again, to the last message. What must hold is checked by the scene, in
//! each turn and at the end.

mod actors;

use crate::stage::scene::{Scene, Stage};
use actors::Actors;
use gateway_userspace::observe::cdr::CallRecord;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How one seed went.
#[derive(Debug)]
pub struct Verdict {
    pub seed: u64,
    /// Of all that was sent, programmed and written down.
    pub digest: u64,
    /// How long it took on the scenario's clock.
    pub took: Duration,
    pub records: Vec<CallRecord>,
    /// Rules that were broken.
    pub broken: Vec<String>,
    pub ladder: String,
}

impl Verdict {
    /// What a person needs of a seed that broke a rule.
    pub fn report(&self) -> String {
        let Self { seed, broken, ladder, .. } = self;
        let broken = broken.join("\n  ");
        format!("{ladder}\n\nseed {seed} breaks\n  {broken}\nagain: cargo xtask sim --seeds 1 --seed {seed}")
    }
}

/// Plays one seed to its end.
pub fn simulate(seed: u64) -> Verdict {
    let mut actors = Actors::new(seed);
    let mut scene = Scene::new(actors.stage(seed));
    let begun = scene.now;
    let played = catch_unwind(AssertUnwindSafe(|| {
        actors.play(&mut scene);
        scene.comes_to_its_end()
    }));
    let broken = played.unwrap_or_else(|panic| vec![format!("it panicked: {}", message(&*panic))]);
    let ladder = scene.ladder.join("\n");
    let records = scene.records().to_vec();
    let digest = fnv(format!("{ladder}{records:?}").as_bytes());
    Verdict { seed, digest, took: scene.now.since(begun), records, broken, ladder }
}

/// Many seeds, one digest.
pub fn digest_of(verdicts: impl IntoIterator<Item = u64>) -> u64 {
    let bytes: Vec<u8> = verdicts.into_iter().flat_map(u64::to_le_bytes).collect();
    fnv(&bytes)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    fixed.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// FNV-1a: the same on every machine.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Stage {
    /// Phones in a simulation misbehave on purpose.
    fn of_simulation(seed: u64) -> Self {
        Self { seed, phones_may_complain: true, ..Self::default() }
    }
}
