//! The only entry for people and for CI. One subcommand, one file.

mod bench;
mod command;
mod conformance;
mod daemon;
mod demo;
mod doctor;
mod ebpf;
mod fuzz;
mod guest;
mod lab;
mod media;
mod namespace;
mod packages;
mod packet_socket;
mod peers;
mod report;
mod run;
mod setup;
mod signalling;
mod sim;
mod steps;
mod tap;
mod test;
mod toolchain;
mod verify;
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
    /// Load the XDP objects with two loaders, on the running kernel and on Debian's 6.1 and 6.12 under QEMU
    Verify(verify::Arguments),
    /// Three hosts as network namespaces, with nothing but the gateway between caller and callee
    Lab(lab::Arguments),
    /// Run the daemon on the gateway of the lab, in the foreground
    Run(run::Arguments),
    /// The whole proof: formatting, lints, unit tests, verifiers, data plane, calls, real peers
    Test(test::Arguments),
    /// Which statements of the wire are kept: the test that shows each, its result, and what is not covered yet
    Conformance(conformance::Arguments),
    /// Throw made-up messages, URIs, descriptions, rules and streams at their readers
    Fuzz(fuzz::Arguments),
    /// Calls without a plan on virtual time, by seeds, and whether any rule was broken
    Sim(sim::Arguments),
    /// Check whether this host is fit for production; every finding with its fix
    Doctor(doctor::Arguments),
    /// Place real SIPp calls with audio through Causeway in a lab, and watch them
    Demo(demo::Arguments),
    /// Measure what a relayed packet and a call cost
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Ebpf(options) => ebpf::run_task(&options),
        Task::Verify(arguments) => verify::run_task(&arguments),
        Task::Lab(arguments) => lab::run_task(&arguments),
        Task::Run(arguments) => run::run_task(&arguments),
        Task::Test(arguments) => test::run_task(&arguments),
        Task::Conformance(arguments) => conformance::run_task(&arguments),
        Task::Fuzz(arguments) => fuzz::run_task(&arguments),
        Task::Sim(arguments) => sim::run_task(&arguments),
        Task::Doctor(arguments) => doctor::run_task(&arguments),
        Task::Demo(arguments) => demo::run_task(&arguments),
        Task::Bench(arguments) => bench::run_task(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
