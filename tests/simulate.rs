//! What `cargo xtask sim` runs: many seeds of the simulator, and what came of them.

use clap::Parser;
use serde::Serialize;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::simulation::{digest_of, simulate};

#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to play
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Print the ladder of each seed, not only of one that breaks a rule
    #[arg(long)]
    ladder: bool,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Summary {
    seeds: u64,
    first: u64,
    /// Of all seeds together, in hexadecimal digits.
    digest: String,
    calls: usize,
    answered: usize,
    virtual_seconds: f64,
    real_seconds: f64,
    /// How many times faster than the calls themselves.
    ratio: f64,
    /// Seeds that broke a rule.
    failed: Vec<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begun = Instant::now();
    let (mut digests, mut failed) = (Vec::new(), Vec::new());
    let (mut calls, mut answered, mut took) = (0, 0, Duration::ZERO);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let verdict = simulate(seed);
        digests.push(verdict.digest);
        calls += verdict.records.len();
        answered += verdict.records.iter().filter(|record| record.sip_status == 200).count();
        took += verdict.took;
        if !verdict.broken.is_empty() {
            println!("{}\n", verdict.report());
            failed.push(seed);
        } else if arguments.ladder {
            println!("{}\n", verdict.ladder);
        }
    }
    let real = begun.elapsed();
    let summary = Summary {
        seeds: arguments.seeds,
        first: arguments.seed,
        digest: format!("{:016x}", digest_of(digests)),
        calls,
        answered,
        virtual_seconds: took.as_secs_f64(),
        real_seconds: real.as_secs_f64(),
        ratio: took.as_secs_f64() / real.as_secs_f64().max(f64::EPSILON),
        failed,
    };
    tell(&summary, arguments.json);
    if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(summary: &Summary, json: bool) {
    let Summary { seeds, digest, calls, answered, virtual_seconds, real_seconds, ratio, failed, .. } =
        summary;
    println!(
        "{seeds} seeds, {calls} calls, {answered} of them answered, digest {digest}\n\
         {virtual_seconds:.0} s of calls in {real_seconds:.1} s: {ratio:.0} times as fast"
    );
    if !failed.is_empty() {
        println!("seeds that break a rule: {failed:?}");
    }
    if json {
        println!("{}", serde_json::to_string(summary).expect("numbers and words can be written"));
    }
}
