//! The `causeway` binary: the daemon, and the questions that can be put to it.

mod cli;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
