//! The only entry for people and for CI. One subcommand, one file.

mod command;
mod ebpf;
mod lab;
mod packages;
mod report;
mod setup;
mod steps;
mod toolchain;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, proves and shows Causeway.
///
/// Every task does the set-up it needs by itself. Start with `cargo xtask test`; on a host where nothing may
/// be installed, `cargo xtask setup --no-install` tells what is missing.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Find or install what the other tasks need: eBPF toolchain, libraries, lab tools, test peers
    Setup(setup::Arguments),
    /// Build the XDP objects into <target>/ebpf and list what is in them
    Ebpf(setup::Options),
    /// Three hosts as network namespaces, with nothing but the gateway between caller and callee
    Lab(lab::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Ebpf(options) => ebpf::run_task(&options),
        Task::Lab(arguments) => lab::run_task(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
