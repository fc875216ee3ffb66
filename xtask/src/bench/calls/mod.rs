//! `cargo xtask bench calls`: whole calls by SIPp, INVITE to BYE with session descriptions, over UDP, TCP and TLS:
//! through Causeway, and through Kamailio as a stateful proxy that has rtpengine do the media.
//!
//! A cost is the processor time of the measured program, all its threads and processes, as the kernel charges it:
//! system calls included, and what softirq work happens to run on top of them, which on a veth is a good part of
//! what the peers' kernels do. So the figures are on the safe side, and both contenders carry it alike. Causeway has
//! one core that carries calls; its time contains the media flows, which Kamailio leaves to rtpengine. Therefore
//! Kamailio has two figures: with rtpengine's time, and without.
//!
//! Debian's SIPp has no TLS: stunnel speaks it for both ends, and its time is counted for nobody. All calls of a turn
//! go by one connection on each side.

mod goodput;
mod kamailio;
pub(super) mod memory;
mod processor_time;
mod tunnel;
mod turn;

use crate::daemon::{Shape, Signalling};
use crate::ebpf;
use crate::lab::Lab;
use crate::packages::Need;
use crate::report::{self, thousands};
use crate::run::build_daemon;
use crate::setup::{self, Options};
use crate::signalling::{Certificates, Transport};
use crate::steps::Steps;
use crate::tap::quantile;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use goodput::Goodput;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use turn::{Contender, Turn};

const PREFIX: &str = "cwcalls";
const SHAPE: Shape = Shape {
    name: "bench-calls",
    workers: Some(1),
    max_calls: 30_000,
    ports: (20000, 60999),
    signalling: Signalling::Udp,
    calls_per_second: None,
    carrier_media: "",
    services: &[],
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Calls to begin each second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Calls to complete in each turn
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..))]
    calls: u32,
    /// Turns of each program on each transport; figures are medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// Calls a second that a trunk takes when it is offered ten times as many
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..))]
    limit: u32,
    /// Measure this and nothing else
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What can be measured without the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Calls per second of processor time, beside Kamailio, and set-up delay
    Cost,
    /// Memory of held calls
    Memory,
    /// Goodput when ten times as many calls are offered as a trunk takes
    Goodput,
}

/// The last line of `--json`: what was measured.
#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    cost: Option<Cost>,
    #[serde(flatten)]
    memory: Option<Memory>,
    #[serde(flatten)]
    goodput: Option<Goodput>,
}

#[derive(Debug, Serialize)]
struct Cost {
    /// Calls through Causeway over UDP.
    placed: u64,
    answered: u64,
    failed: u64,
    /// Calls completed per second of processor time of the daemon, all its threads: `causeway_udp` again.
    calls_per_core_second: f64,
    /// From INVITE to 200, on the caller's interface, over UDP.
    setup_p50_ms: f64,
    setup_p99_ms: f64,
    datapath: String,
    #[serde(flatten)]
    comparison: Comparison,
}

/// Octets of resident memory.
#[derive(Debug, Serialize)]
struct Memory {
    /// Of a call, the larger of the two figures.
    bytes_per_call: f64,
    bytes_per_call_at_5000: f64,
    bytes_per_call_at_20000: f64,
}

/// Calls completed per second of processor time, and their ratios.
#[derive(Debug, Serialize)]
struct Comparison {
    causeway_udp: f64,
    causeway_tcp: f64,
    causeway_tls: f64,
    /// With rtpengine's time.
    kamailio_udp: f64,
    kamailio_tcp: f64,
    kamailio_tls: f64,
    kamailio_without_rtpengine_udp: f64,
    kamailio_without_rtpengine_tcp: f64,
    kamailio_without_rtpengine_tls: f64,
    /// Over UDP, with rtpengine's time.
    causeway_over_kamailio: f64,
    causeway_over_kamailio_tcp: f64,
    causeway_over_kamailio_tls: f64,
    causeway_over_kamailio_without_rtpengine: f64,
    causeway_over_kamailio_without_rtpengine_tcp: f64,
    causeway_over_kamailio_without_rtpengine_tls: f64,
    /// Of Causeway.
    tls_over_tcp: f64,
    /// Of all its turns; its figures are of completed calls only. Of Causeway none may fail.
    kamailio_failed: u64,
}

pub(super) fn run(arguments: &Arguments, json: bool, options: &Options) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let ready =
        setup::ensure(&steps, &workspace, &[Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers], options)?
            .or_fail()?;
    ebpf::build(&steps, &workspace, &ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?)?;
    let program = build_daemon(&steps, &workspace, true)?;
    let directory = fresh(&workspace.target.join("xtask"), "bench-calls")?;
    let lab = Lab { workspace: &workspace, prefix: PREFIX.to_owned(), vlans: false };
    let certificates = Certificates::make(&directory.join("certificates"))?;
    let bench = Bench { arguments, lab: &lab, program: &program, directory: &directory, certificates };
    let measured = bench.measure(&steps);
    let removed = lab.remove();
    let figures = measured?;
    removed?;
    print(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// What all turns share.
struct Bench<'a> {
    arguments: &'a Arguments,
    lab: &'a Lab<'a>,
    program: &'a Path,
    directory: &'a Path,
    certificates: Certificates,
}

impl Bench<'_> {
    fn measure(&self, steps: &Steps) -> Result<Figures> {
        let wanted = |part| self.arguments.only.is_none_or(|only| only == part);
        Ok(Figures {
            cost: wanted(Part::Cost).then(|| self.cost(steps)).transpose()?,
            memory: wanted(Part::Memory).then(|| self.memory(steps)).transpose()?,
            goodput: wanted(Part::Goodput)
                .then(|| goodput::measure(self, self.arguments.limit, steps))
                .transpose()?,
        })
    }

    fn cost(&self, steps: &Steps) -> Result<Cost> {
        let mut turns: BTreeMap<(&str, &str), Vec<Turn>> = BTreeMap::new();
        for transport in Transport::ALL {
            // In turns, so that what disturbs the host for a while disturbs both.
            for _ in 0..self.arguments.repetitions {
                for contender in Contender::ALL {
                    let name = format!("{} over {}", contender.name(), transport.name().to_ascii_uppercase());
                    let turn = steps.run(&name, |step| {
                        let turn = turn::take(self, contender, transport, step)?;
                        step.detail(turn.told());
                        Ok(turn)
                    })?;
                    turns.entry((contender.name(), transport.name())).or_default().push(turn);
                }
            }
        }
        let udp = turns.get(&("causeway", "udp")).context("turns of Causeway over UDP")?;
        let comparison = Comparison::of(&turns)?;
        let mut setup_ms: Vec<f64> = udp.iter().flat_map(|turn| turn.setup_ms.iter().copied()).collect();
        setup_ms.sort_by(f64::total_cmp);
        Ok(Cost {
            placed: udp.iter().map(|turn| turn.outcome.placed).sum(),
            answered: udp.iter().map(|turn| turn.outcome.answered).sum(),
            failed: udp.iter().map(|turn| turn.outcome.failed).sum(),
            calls_per_core_second: comparison.causeway_udp,
            setup_p50_ms: quantile(&setup_ms, 0.5),
            setup_p99_ms: quantile(&setup_ms, 0.99),
            datapath: udp.first().and_then(|turn| turn.datapath.clone()).context("the path of media")?,
            comparison,
        })
    }

    fn memory(&self, steps: &Steps) -> Result<Memory> {
        let [few, many] = memory::HELD.map(|calls| {
            let name = format!("{} held", thousands(calls.into()));
            steps.run(&name, |step| {
                let octets = memory::of_a_call(self, calls, step)?;
                step.detail(format!("{} a call", kibibytes(octets)));
                Ok(octets)
            })
        });
        let (few, many) = (few?, many?);
        Ok(Memory {
            bytes_per_call: few.max(many),
            bytes_per_call_at_5000: few,
            bytes_per_call_at_20000: many,
        })
    }
}

impl Comparison {
    fn of(turns: &BTreeMap<(&str, &str), Vec<Turn>>) -> Result<Self> {
        let median = |contender: &str, transport: Transport, rate: fn(&Turn) -> f64| {
            let turns = turns.get(&(contender, transport.name())).context("turns")?;
            report::median(&turns.iter().map(rate).collect::<Vec<f64>>())
        };
        let causeway = Transport::ALL.map(|transport| median("causeway", transport, Turn::rate));
        let kamailio = Transport::ALL.map(|transport| median("kamailio", transport, Turn::rate));
        let alone = Transport::ALL.map(|transport| median("kamailio", transport, Turn::rate_alone));
        let [causeway_udp, causeway_tcp, causeway_tls] = causeway;
        let (causeway_udp, causeway_tcp, causeway_tls) = (causeway_udp?, causeway_tcp?, causeway_tls?);
        let [kamailio_udp, kamailio_tcp, kamailio_tls] = kamailio;
        let (kamailio_udp, kamailio_tcp, kamailio_tls) = (kamailio_udp?, kamailio_tcp?, kamailio_tls?);
        let [alone_udp, alone_tcp, alone_tls] = alone;
        let (alone_udp, alone_tcp, alone_tls) = (alone_udp?, alone_tcp?, alone_tls?);
        Ok(Self {
            causeway_udp,
            causeway_tcp,
            causeway_tls,
            kamailio_udp,
            kamailio_tcp,
            kamailio_tls,
            kamailio_without_rtpengine_udp: alone_udp,
            kamailio_without_rtpengine_tcp: alone_tcp,
            kamailio_without_rtpengine_tls: alone_tls,
            causeway_over_kamailio: causeway_udp / kamailio_udp,
            causeway_over_kamailio_tcp: causeway_tcp / kamailio_tcp,
            causeway_over_kamailio_tls: causeway_tls / kamailio_tls,
            causeway_over_kamailio_without_rtpengine: causeway_udp / alone_udp,
            causeway_over_kamailio_without_rtpengine_tcp: causeway_tcp / alone_tcp,
            causeway_over_kamailio_without_rtpengine_tls: causeway_tls / alone_tls,
            tls_over_tcp: causeway_tls / causeway_tcp,
            kamailio_failed: Transport::ALL
                .iter()
                .filter_map(|transport| turns.get(&("kamailio", transport.name())))
                .flatten()
                .map(|turn| turn.failed)
                .sum(),
        })
    }
}

fn fresh(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::remove_dir_all(&path).ok();
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn kibibytes(octets: f64) -> String {
    format!("{:.1} KiB", octets / 1024.0)
}

fn print(figures: &Figures) {
    let mut rows = Vec::new();
    if let Some(cost) = &figures.cost {
        println!("{}\n", comparison_table(&cost.comparison));
        rows.extend([
            ("calls over UDP", thousands(cost.placed as f64)),
            ("TLS over TCP", format!("{:.2}", cost.comparison.tls_over_tcp)),
            ("set-up p50", format!("{:.2} ms", cost.setup_p50_ms)),
            ("set-up p99", format!("{:.2} ms", cost.setup_p99_ms)),
            ("datapath", cost.datapath.clone()),
            ("calls that Kamailio failed", thousands(cost.comparison.kamailio_failed as f64)),
        ]);
    }
    if let Some(memory) = &figures.memory {
        rows.extend([
            ("memory of a call, 5,000 held", kibibytes(memory.bytes_per_call_at_5000)),
            ("memory of a call, 20,000 held", kibibytes(memory.bytes_per_call_at_20000)),
        ]);
    }
    rows.extend(figures.goodput.iter().flat_map(Goodput::rows));
    let mut table = report::table(["Causeway", ""], &[1]);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    println!("{table}");
    if figures.cost.is_some() {
        println!(
            "set-up: INVITE to 200 over UDP, on the caller's interface. No call through Causeway failed."
        );
    }
    if figures.goodput.is_some() {
        println!("goodput: calls a second that were answered and ended by BYE.");
    }
}

fn comparison_table(comparison: &Comparison) -> comfy_table::Table {
    let Comparison {
        causeway_udp,
        causeway_tcp,
        causeway_tls,
        kamailio_udp,
        kamailio_tcp,
        kamailio_tls,
        kamailio_without_rtpengine_udp,
        kamailio_without_rtpengine_tcp,
        kamailio_without_rtpengine_tls,
        ..
    } = *comparison;
    let mut table = report::table(
        ["calls per second of processor time", "Causeway", "Kamailio, rtpengine", "Kamailio", "ratios"],
        &[1, 2, 3, 4],
    );
    for (transport, causeway, kamailio, alone) in [
        ("UDP", causeway_udp, kamailio_udp, kamailio_without_rtpengine_udp),
        ("TCP", causeway_tcp, kamailio_tcp, kamailio_without_rtpengine_tcp),
        ("TLS", causeway_tls, kamailio_tls, kamailio_without_rtpengine_tls),
    ] {
        let ratios = format!("{:.2}  {:.2}", causeway / kamailio, causeway / alone);
        table.add_row([
            transport.to_owned(),
            thousands(causeway),
            thousands(kamailio),
            thousands(alone),
            ratios,
        ]);
    }
    table
}
