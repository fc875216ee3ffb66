//! `cargo xtask sim`: calls without a plan on virtual time, by seeds, and whether any rule was broken.
//!
//! The simulator itself stands beside the call scenarios it shares its stage with, in `tests/support/simulation`.

use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::process::Command;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds to play
    #[arg(long, value_name = "N", default_value_t = 500)]
    seeds: u64,
    /// The first of them; with `--seeds 1` this one again
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Print the ladder of each seed, not only of one that breaks a rule
    #[arg(long)]
    ladder: bool,
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut command: Command =
        workspace.cargo(&["run", "--quiet", "--package", "gateway-tests", "--bin", "simulate"]);
    command.args(["--", "--seeds", &arguments.seeds.to_string(), "--seed", &arguments.seed.to_string()]);
    command.args(arguments.json.then_some("--json")).args(arguments.ladder.then_some("--ladder"));
    let status = command.status().context("cargo run")?;
    ensure!(status.success(), "a rule was broken, or the simulator does not build");
    Ok(())
}
