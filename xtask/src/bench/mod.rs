//! `cargo xtask bench`: what a relayed packet and a call cost, by measurement on this host.
//!
//! The benches of packets load programs and program flows by the daemon's own loader. That embeds the XDP objects, so a
//! bench first sets the host up, builds the objects, and then runs in a second xtask that is built with the
//! feature `bench`.

mod calls;
#[cfg(feature = "bench")]
mod in_service;
#[cfg(feature = "bench")]
mod program;
#[cfg(feature = "bench")]
mod relay;
#[cfg(feature = "bench")]
mod srtp_program;
#[cfg(feature = "bench")]
mod transcode;

use crate::packages::Host;
use crate::setup::Options;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{File, TryLockError};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// End with the figures as one line of JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Processor time, highest rate and latency of a relayed packet: empty XDP redirect, Causeway, rtpengine
    Relay(RelayArguments),
    /// Processor time and latency with SRTP on one side of each call: Causeway, rtpengine
    Srtp(RecordedArguments),
    /// Whole SIP calls over UDP, TCP and TLS: processor time beside Kamailio with rtpengine, set-up delay, memory,
    /// goodput under overload
    Calls(calls::Arguments),
    /// Nanoseconds of the XDP program alone, by test-run and in service: against an empty program, by number of flows
    Program(ProgramArguments),
    /// Processor time of codecs, and transcoded streams that a core carries
    Transcode(TranscodeArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TranscodeArguments {
    /// Times that each codec and pair is measured; figures are medians
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// Also over wires, with packets: beside rtpengine with its own transcoding
    #[arg(long)]
    wire: bool,
    /// Calls of each pair over the wires, at the pace of phones
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    calls: u16,
    /// How long runs that other programs disturb are repeated before the bench gives up
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    patience: u64,
    /// Costs over the wires by what the kernel charged to sender, relay and softirq: for hosts that never rest
    #[arg(long)]
    charged: bool,
}

/// What every comparison of relays asks.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArguments {
    /// Calls that the recording is replayed as, in both directions
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=5000))]
    calls: u16,
    /// Times that each relay is measured; figures are medians
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// How long runs that other programs disturb are repeated before the bench gives up
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    patience: u64,
    /// Costs by what the kernel charged to sender, relay and softirq, whatever else runs: for hosts that never rest
    #[arg(long)]
    charged: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RelayArguments {
    #[command(flatten)]
    recorded: RecordedArguments,
    /// SRTP on one side of each call: as `bench srtp`
    #[arg(long)]
    srtp: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecordedArguments {
    #[command(flatten)]
    replay: ReplayArguments,
    /// An RTP capture to replay (classic pcap, Ethernet) instead of the recording that is made here
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProgramArguments {
    /// Times that each program is measured; figures are medians
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// Test-run with flows, and nothing else but this
    #[arg(long, value_enum)]
    only: Option<ProgramPart>,
}

/// What `bench program` measures beside test-run with flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgramPart {
    /// Neither of these
    TestRun,
    /// SRTP, by test-run
    Srtp,
    /// The programs where packets come over the lab
    InService,
}

#[cfg(not(feature = "bench"))]
impl Bench {
    fn needs(&self) -> &'static [crate::packages::Need] {
        use crate::packages::Need;
        match self {
            Self::Relay(_) | Self::Srtp(_) => &[Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers],
            Self::Program(_) => &[Need::Ebpf, Need::Codecs, Need::Lab],
            Self::Transcode(_) => &[Need::Ebpf, Need::Codecs, Need::Optional, Need::Lab, Need::Peers],
            Self::Calls(_) => &[Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers],
        }
    }
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    ensure!(
        Host::inspect()?.root,
        "benches load programs and make namespaces, which needs root: sudo cargo xtask bench …"
    );
    match &arguments.bench {
        Bench::Calls(calls) => {
            let _alone = alone()?;
            calls::run(calls, arguments.json, &arguments.options)
        }
        Bench::Relay(_) | Bench::Srtp(_) | Bench::Program(_) | Bench::Transcode(_) => {
            in_this_program(arguments)
        }
    }
}

/// One bench on a host at a time: namespaces belong to the host, and two would measure each other.
///
/// # Errors
/// Another one is running.
fn alone() -> Result<File> {
    const LOCK: &str = "/run/lock/causeway-bench.lock";
    let file = File::create(LOCK).context(LOCK)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another bench is running on this host: wait for its end"),
        Err(TryLockError::Error(error)) => Err(error).context(LOCK),
    }
}

#[cfg(feature = "bench")]
fn in_this_program(arguments: &Arguments) -> Result<()> {
    let _alone = alone()?;
    match &arguments.bench {
        Bench::Relay(RelayArguments { recorded, srtp: false }) => relay::run(recorded, arguments.json),
        Bench::Relay(RelayArguments { recorded, srtp: true }) | Bench::Srtp(recorded) => {
            relay::srtp::run(recorded, arguments.json)
        }
        Bench::Program(program) => program::run(program, arguments.json),
        Bench::Transcode(transcode) => transcode::run(transcode, arguments.json),
        Bench::Calls(_) => unreachable!("`run_task` has run it"),
    }
}

/// Sets up, builds what the daemon embeds, and goes on in the program that has it.
#[cfg(not(feature = "bench"))]
fn in_this_program(arguments: &Arguments) -> Result<()> {
    use crate::command::run;
    use crate::steps::Steps;
    use crate::workspace::Workspace;
    use crate::{ebpf, setup};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    let (workspace, steps) = (Workspace::find()?, Steps::new());
    // What is measured by the kernel does not care how this program was built; what runs in it does.
    let release = matches!(arguments.bench, Bench::Transcode(_));
    let features = if release { "bench,gateway-userspace/everything" } else { "bench" };
    let ready = setup::ensure(&steps, &workspace, arguments.bench.needs(), &arguments.options)?.or_fail()?;
    ebpf::build(&steps, &workspace, &ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?)?;
    steps.run("bench program", |step| {
        let mut command = workspace.cargo(&["build", "--package", "xtask", "--features", features]);
        run(&workspace, step, command.args(release.then_some("--release"))).map(drop)
    })?;
    let profile = if release { "release" } else { "debug" };
    let mut command = Command::new(workspace.target.join(profile).join("xtask"));
    command.args(std::env::args_os().skip(1)).current_dir(&workspace.root);
    // Only returns when the program cannot be started.
    Err(command.exec()).context("the bench program")
}
