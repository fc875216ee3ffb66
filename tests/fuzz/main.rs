//! The targets over their corpus and over inputs made of it, with any compiler and the same each time.
//!
//! `FUZZ_SECONDS=60 FUZZ_TARGET=uri cargo test --package gateway-tests --test fuzz -- --nocapture made_up` goes on from
//! there, as `cargo xtask fuzz` does. An input that broke a promise is kept in `corpus/`, with a test of its name below.

mod media;
mod mutation;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};
use targets::{TARGETS, Target};

/// Name and octets of each input that is kept for a target, in order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut kept: Vec<(String, Vec<u8>)> = fs::read_dir(&directory)
        .expect("each target has a corpus")
        .map(|entry| {
            let entry = entry.expect("the corpus can be read");
            let bytes = fs::read(entry.path()).expect("the corpus can be read");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    kept.sort();
    assert!(!kept.is_empty(), "{}", directory.display());
    kept
}

/// Runs a target over one input; what it came from is told with the panic.
fn check(target: &str, function: Target, input: &[u8], source: &dyn std::fmt::Display) {
    if catch_unwind(AssertUnwindSafe(|| function(input))).is_err() {
        panic!("{target} fails on {source}:\n\"{}\"", input.escape_ascii());
    }
}

#[test]
fn all_that_is_kept_holds() {
    for (target, function) in TARGETS {
        for (name, input) in corpus(target) {
            check(target, function, &input, &format_args!("corpus/{target}/{name}"));
        }
    }
}

#[test]
fn messages_made_up_hold() {
    mutations("message", 30_000);
}

#[test]
fn uris_made_up_hold() {
    mutations("uri", 30_000);
}

#[test]
fn vias_made_up_hold() {
    mutations("via", 30_000);
}

#[test]
fn descriptions_made_up_hold() {
    mutations("sdp", 12_000);
}

/// Fewer, because reading rules compiles patterns.
#[test]
fn rules_made_up_hold() {
    mutations("rules", 4_000);
}

#[test]
fn streams_made_up_hold() {
    mutations("stream", 12_000);
}

#[test]
fn checks_made_up_hold() {
    mutations("stun", 12_000);
}

#[test]
fn rtp_made_up_holds() {
    mutations("rtp", 60_000);
}

#[test]
fn reports_made_up_hold() {
    mutations("rtcp", 30_000);
}

#[test]
fn srtp_made_up_holds() {
    mutations("srtp", 6_000);
}

/// Fewer, because each input is decoded at many lengths.
#[test]
fn audio_made_up_holds() {
    mutations("audio", 1_500);
}

#[test]
fn events_made_up_hold() {
    mutations("events", 30_000);
}

/// Fewer, because each input is a call.
#[test]
fn bridged_calls_made_up_hold() {
    mutations("bridge", 500);
}

/// Runs a target over inputs made of its corpus: so many, or for as long as `FUZZ_SECONDS` says.
fn mutations(target: &str, inputs: u64) {
    if env::var("FUZZ_TARGET").is_ok_and(|wanted| wanted != target) {
        return;
    }
    let (_, function) =
        TARGETS.into_iter().find(|(name, _)| *name == target).expect("there is such a target");
    let seeds: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let seconds = env::var("FUZZ_SECONDS").ok().map(|text| text.parse().expect("FUZZ_SECONDS is a number"));
    let (started, mut number) = (Instant::now(), 0);
    while match seconds {
        Some(seconds) => started.elapsed() < Duration::from_secs(seconds),
        None => number < inputs,
    } {
        let input = mutation::input(&seeds, number);
        check(target, function, &input, &format_args!("mutation {number}"));
        number += 1;
    }
    println!("{target}: {number} inputs");
}
