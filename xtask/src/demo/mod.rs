//! `cargo xtask demo`: real SIPp calls with audio out of one network namespace, through Causeway, into another.
//!
//! ```text
//!     SIPp ── to-gateway ═══ to-caller ── causeway ── to-callee ═══ to-gateway ── SIPp
//!    caller                              (gateway)                              callee
//! ```
//!
//! Both ends play the recording. What they send and receive is counted on their own interfaces, so that the
//! figures do not rest on what Causeway says of itself; only the kernel's share does.

mod guest;
mod kind;
mod view;

use crate::daemon::{Daemon, Record, Shape, Signalling};
use crate::guest::{KERNELS, Kernel};
use crate::lab::Lab;
use crate::media::{Form, PACKETS, media_pcap};
use crate::packages::Need;
use crate::peers::{Answer, Callee, Caller, Conversation, Offer, Outcome};
use crate::run::build_daemon;
use crate::setup::{self, Options};
use crate::signalling::Transport;
use crate::steps::Steps;
use crate::tap::{Seen, Taps, quantile};
use crate::workspace::Workspace;
use crate::{ebpf, packages};
use anyhow::{Context, Result, ensure};
use kind::{Kind, KindFigures};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the lab, and of everything else that the demo makes.
const PREFIX: &str = "cwdemo";
/// Room for the calls that `--calls` may ask for.
const SHAPE: Shape = Shape {
    name: "demo",
    workers: None,
    max_calls: 2000,
    ports: (20000, 39999),
    signalling: Signalling::Udp,
    calls_per_second: None,
    carrier_media: "",
    services: &[],
};
/// How often the view is renewed.
const REFRESH: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Calls to place
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    calls: u32,
    /// Calls to begin each second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// A part of the calls goes to a callee that takes SRTP only
    #[arg(long)]
    srtp: bool,
    /// A part of the calls goes to a callee that speaks another codec
    #[arg(long)]
    transcode: bool,
    /// Both ends are behind VLANs: one tag toward the caller, two toward the callee
    #[arg(long)]
    vlans: bool,
    /// Carry the calls on Debian's kernel of this version, under QEMU
    #[arg(long, value_name = "VERSION", value_parser = guest::kernel)]
    kernel: Option<Kernel>,
    /// Set nothing up, and carry the calls with this daemon
    #[arg(long, hide = true, value_name = "DAEMON", conflicts_with = "kernel")]
    prepared: Option<PathBuf>,
    /// End with the figures as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

impl Arguments {
    /// Few calls, because a processor is emulated for them.
    fn in_guest(kernel: Kernel) -> Self {
        let options = Options { no_install: false };
        let kernel = Some(kernel);
        Self {
            calls: 4,
            rate: 1,
            srtp: false,
            transcode: false,
            vlans: true,
            kernel,
            prepared: None,
            json: false,
            options,
        }
    }
}

/// The last line of `--json`.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    placed: u64,
    answered: u64,
    failed: u64,
    /// RTP packets that left the two ends, and that reached the other one.
    rtp_sent: u64,
    rtp_received: u64,
    rtp_lost: u64,
    /// Of the packets received, the share that Causeway relayed in the kernel.
    kernel_share: f64,
    /// From INVITE to 200, on the caller's interface.
    setup_p50_ms: f64,
    setup_p99_ms: f64,
    /// How packets are taken from the interfaces: `native`, `generic`, `sockets`.
    datapath: String,
    /// Release of the kernel that carried the calls.
    kernel: String,
    kinds: Vec<KindFigures>,
}

impl Figures {
    fn all_answered(&self, arguments: &Arguments) -> Result<()> {
        let answered = self.failed == 0 && self.answered == u64::from(arguments.calls);
        ensure!(answered, "not every call was answered");
        Ok(())
    }

    fn all_in_kernel(&self, arguments: &Arguments) -> Result<()> {
        self.all_answered(arguments)?;
        let expected = u64::from(arguments.calls) * 2 * u64::from(PACKETS);
        ensure!(self.rtp_sent == expected && self.rtp_lost == 0, "not every packet was sent and received");
        ensure!(self.kernel_share == 1.0, "not every packet was relayed in the kernel");
        Ok(())
    }
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    ensure!(
        packages::Host::inspect()?.root,
        "the demo makes namespaces and loads programs: sudo cargo xtask demo"
    );
    let steps = Steps::new();
    let figures = match &arguments.prepared {
        Some(daemon) => here(arguments, &Workspace::of_guest(), &steps, daemon)?,
        None => {
            let workspace = Workspace::find()?;
            let daemon = daemon(arguments, &workspace, &steps)?;
            carry(arguments, &workspace, &steps, &daemon)?
        }
    };
    view::print_figures(&figures);
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    figures.all_answered(arguments)
}

/// Calls between VLANs on every kernel that Causeway promises beside the running one. The host is set up and the
/// objects are built; what is returned is what was not as it should be.
///
/// # Errors
/// The daemon could not be built.
pub(crate) fn on_other_kernels(workspace: &Workspace, steps: &Steps) -> Result<Vec<anyhow::Error>> {
    let daemon = build_daemon(steps, workspace, false)?;
    let results = KERNELS.map(|kernel| {
        let arguments = Arguments::in_guest(kernel);
        let figures = guest::run(&arguments, kernel, workspace, steps, &daemon)?;
        figures.all_in_kernel(&arguments).with_context(|| format!("{figures:?}"))
    });
    Ok(results.into_iter().filter_map(Result::err).collect())
}

/// Sets the host up and builds the daemon.
fn daemon(arguments: &Arguments, workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let mut needs = vec![Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers];
    needs.extend(arguments.kernel.map(|_| Need::Verify));
    let ready = setup::ensure(steps, workspace, &needs, &arguments.options)?.or_fail()?;
    ebpf::build(steps, workspace, &ready.ebpf.context("set-up succeeded and found no eBPF toolchain")?)?;
    build_daemon(steps, workspace, false)
}

/// The calls on the kernel that was asked for.
fn carry(arguments: &Arguments, workspace: &Workspace, steps: &Steps, daemon: &Path) -> Result<Figures> {
    match arguments.kernel {
        Some(kernel) => guest::run(arguments, kernel, workspace, steps, daemon),
        None => here(arguments, workspace, steps, daemon),
    }
}

/// The calls in a lab of their own on this kernel.
fn here(arguments: &Arguments, workspace: &Workspace, steps: &Steps, daemon: &Path) -> Result<Figures> {
    let directory = workspace.target.join("xtask/demo");
    // Records and state of the demo before belong to calls that are over.
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let lab = Lab { workspace, prefix: PREFIX.to_owned(), vlans: arguments.vlans };
    lab.renew(steps)?;
    let shown = run(arguments, &lab, steps, daemon, &directory);
    let removed = lab.remove();
    let figures = shown?;
    removed?;
    Ok(figures)
}

/// The demo in a lab that is up.
fn run(
    arguments: &Arguments,
    lab: &Lab<'_>,
    steps: &Steps,
    program: &Path,
    directory: &Path,
) -> Result<Figures> {
    let (kinds, services) = kind::asked(arguments);
    // Both sides of a call have to allow another codec.
    let carrier_media = if arguments.transcode { "transcode = \"when_needed\"" } else { "" };
    let daemon = steps.run("causeway", |step| {
        let daemon = Daemon::start(lab, program, directory, &Shape { carrier_media, services, ..SHAPE })?;
        step.detail(format!("answers; media path: {}", daemon.status()?.datapath()?));
        Ok(daemon)
    })?;
    let datapath = daemon.status()?.datapath()?;
    let taps = Taps::open(PREFIX)?;
    let mut ends = kinds
        .iter()
        .zip(shares(arguments, kinds.len()))
        .map(|(kind, (calls, rate))| {
            Ends::start(lab, directory, kind, Offer { calls, rate, ..Offer::new(1, 1) })
        })
        .collect::<Result<Vec<_>>>()?;

    let mut view = view::View::new(arguments.calls);
    let mut relayed = BTreeMap::<_, BTreeSet<_>>::new();
    let outcomes = loop {
        let outcomes =
            ends.iter_mut().map(|ends| ends.caller.outcome()).collect::<Result<Option<Vec<_>>>>()?;
        if let Some(outcomes) = outcomes {
            break outcomes;
        }
        std::thread::sleep(REFRESH);
        view.show(&daemon.status()?, taps.counts());
        for (trunk, by) in daemon.relayed_by()? {
            relayed.entry(trunk).or_default().extend(by);
        }
    };
    view.finish();
    let Seen { counts, setup_ms } = taps.close()?;
    let records = daemon.stop()?.read()?;
    let kernel: f64 = records.iter().map(Record::packets_in_kernel).sum();
    let total = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum();
    ensure!(counts.received > 0, "no RTP arrived; SIPp's messages are in {}", directory.display());
    Ok(Figures {
        placed: total(|outcome| outcome.placed),
        answered: total(|outcome| outcome.answered),
        failed: total(|outcome| outcome.failed),
        rtp_sent: counts.sent,
        rtp_received: counts.received,
        rtp_lost: counts.sent.saturating_sub(counts.received),
        kernel_share: kernel.min(counts.received as f64) / counts.received as f64,
        setup_p50_ms: quantile(&setup_ms, 0.5),
        setup_p99_ms: quantile(&setup_ms, 0.99),
        datapath,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("release of the kernel")?
            .trim()
            .to_owned(),
        kinds: kinds.iter().map(|kind| KindFigures::of(kind, &records, &relayed)).collect(),
    })
}

/// Caller and callee of one kind of calls.
struct Ends {
    caller: Caller,
    _callee: Callee,
}

impl Ends {
    fn start(lab: &Lab<'_>, above: &Path, kind: &Kind, offer: Offer) -> Result<Self> {
        let directory = kind.directory(above);
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let recording = |name: &str, form: Form| {
            let path = directory.join(name);
            media_pcap(&path, form).map(|()| path)
        };
        let heard = recording("callee.pcap", kind.form)?;
        let said = recording("caller.pcap", Form::ALaw)?;
        let conversation = |recording| Conversation { transport: Transport::Udp, recording: Some(recording) };
        let (port, media) = kind.answer();
        let _callee = Callee::start(lab, &directory, conversation(&heard), Answer { port, media: &media })?;
        let offer = Offer { called: kind.called, port: kind.caller_port, ..offer };
        let caller = Caller::start(lab, &directory, conversation(&said), offer)?;
        Ok(Self { caller, _callee })
    }
}

/// Calls and calls a second of each kind: as many of each, and what is left over of the first.
fn shares(arguments: &Arguments, kinds: usize) -> impl Iterator<Item = (u32, u32)> {
    let kinds = kinds as u32;
    let (calls, rate) = (arguments.calls, arguments.rate);
    let share = move |whole: u32, first: bool| whole / kinds + if first { whole % kinds } else { 0 };
    (0..kinds).map(move |kind| (share(calls, kind == 0), share(rate, kind == 0).max(1)))
}
