//! The daemon in the lab: built, configured, started, asked and stopped.

use crate::command::ask;
use crate::lab::Lab;
use crate::signalling::{Certificates, Transport};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the daemon may take until it answers, and until it ends; an emulated processor is the slowest.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(30);
/// More calls and flows than any task has.
const MANY: &str = "100000";

/// What differs between the daemons that the tasks start.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Names its pins and its node, beside those of other daemons on this host.
    pub(crate) name: &'static str,
    /// Cores that carry calls; all there are where `None`.
    pub(crate) workers: Option<u16>,
    pub(crate) max_calls: u32,
    /// First and last media port.
    pub(crate) ports: (u16, u16),
    pub(crate) signalling: Signalling,
    /// New calls that the carrier's trunk takes each second; those to 112 pass above.
    pub(crate) calls_per_second: Option<u32>,
    /// Further lines of the carrier's `[trunk.media]`.
    pub(crate) carrier_media: &'static str,
    /// Services beside the plain one, over UDP.
    pub(crate) services: &'static [Service],
}

/// A trunk toward a callee of its own.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// Numbers that are routed to it begin so.
    pub(crate) prefix: &'static str,
    /// Where it is reached, and where the gateway listens for it.
    pub(crate) port: u16,
    /// Further lines of its `[trunk.media]`.
    pub(crate) media: &'static str,
}

impl Service {
    /// Its trunk and the route to it; `tls` is for the one that speaks it.
    fn section(&self, transport: Transport, tls: &str) -> String {
        let Self { name, prefix, port, media } = self;
        let trunk = trunk_section(name, "10.81.2", (transport, *port), media, tls);
        format!("{trunk}\n[[route]]\nprefix = \"{prefix}\"\nfrom = \"{CARRIER}\"\nto = \"{name}\"\n")
    }
}

/// The trunk that calls come from.
const CARRIER: &str = "carrier";

/// A trunk between the gateway's address in a network of the lab, which is its first, and the second. `media` is further lines
/// of its `[trunk.media]`, `tables` stands behind.
fn trunk_section(
    name: &str,
    network: &str,
    (transport, port): (Transport, u16),
    media: &str,
    tables: &str,
) -> String {
    let transport = transport.name();
    format!(
        r#"
[[trunk]]
name = "{name}"
listen = "{transport}:{network}.1:{port}"
peers = [{{ address = "{network}.2:{port}" }}]

[trunk.media]
latch = "same-ssrc"
dscp = 46
{media}
{tables}"#
    )
}

/// How both trunks speak.
#[derive(Debug, Clone)]
pub(crate) enum Signalling {
    Udp,
    Tcp,
    /// With no certificate wanted of those that call.
    Tls(Certificates),
}

impl Signalling {
    fn transport(&self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
        }
    }

    /// `[trunk.tls]`.
    fn section(&self) -> String {
        let Self::Tls(Certificates { root, certificate, key }) = self else { return String::new() };
        format!(
            "\n[trunk.tls]\ncertificate = \"{}\"\nkey = \"{}\"\nroots = [\"{}\"]\nmutual = false\n",
            certificate.display(),
            key.display(),
            root.display()
        )
    }
}

impl Shape {
    /// Where its data plane outlives it.
    fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(format!("causeway-{}", self.name))
    }
}

/// A running daemon; it is ended when this is dropped.
pub(crate) struct Daemon<'a> {
    lab: &'a Lab<'a>,
    program: &'a Path,
    process: Child,
    pins: PathBuf,
    configuration: PathBuf,
    records: PathBuf,
}

/// What `causeway status --json` says, as far as the demo shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) calls: u64,
    pub(crate) calls_ended: u64,
    pub(crate) setup_p50_ms: Option<f64>,
    pub(crate) setup_p99_ms: Option<f64>,
    pub(crate) packets_relayed: u64,
    pub(crate) packets_dropped: u64,
    media: Vec<MediaPath>,
}

/// What `causeway calls --json` says, as far as the demo shows it.
#[derive(Debug, Deserialize)]
struct CallList {
    calls: Vec<CallLine>,
}

#[derive(Debug, Deserialize)]
struct CallLine {
    call: String,
    to_trunk: Option<String>,
}

/// What `causeway flows --json` says, as far as the demo shows it.
#[derive(Debug, Deserialize)]
struct FlowList {
    flows: Vec<FlowLine>,
}

#[derive(Debug, Deserialize)]
struct FlowLine {
    call: Option<String>,
    relayed_by: String,
}

#[derive(Debug, Deserialize)]
struct MediaPath {
    path: String,
}

impl Status {
    /// The path of media, the same on every interface.
    ///
    /// # Errors
    /// There is no interface, or they differ.
    pub(crate) fn datapath(&self) -> Result<String> {
        let first = self.media.first().context("the daemon has no media interface")?;
        ensure!(
            self.media.iter().all(|other| other.path == first.path),
            "media paths differ: {:?}",
            self.media
        );
        Ok(first.path.clone())
    }
}

impl<'a> Daemon<'a> {
    /// Starts it on the gateway and waits until it answers.
    ///
    /// # Errors
    /// It ends or keeps silent; the end of its log is in the error.
    pub(crate) fn start(
        lab: &'a Lab<'a>,
        program: &'a Path,
        directory: &Path,
        shape: &Shape,
    ) -> Result<Self> {
        let configuration = directory.join("causeway.toml");
        let records = directory.join("cdr.jsonl");
        fs::write(&configuration, configuration_text(shape, &directory.join("state"), &records))
            .with_context(|| configuration.display().to_string())?;
        fs::create_dir_all(directory.join("state"))?;
        let log = directory.join("causeway.log");
        let log_file = File::create(&log).with_context(|| log.display().to_string())?;
        let process = lab
            .on("gateway", &program.to_string_lossy())
            .arg("run")
            .arg("--config")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .context("cannot start the daemon in the lab")?;
        let pins = shape.pins();
        let mut daemon = Self { lab, program, process, pins, configuration, records };
        let started = Instant::now();
        loop {
            if let Some(status) = daemon.process.try_wait()? {
                bail!("the daemon ended at start with {status}:\n{}", tail(&log));
            }
            match daemon.status() {
                Ok(_) => return Ok(daemon),
                Err(error) if started.elapsed() > START => {
                    return Err(error.context(format!("the daemon does not answer:\n{}", tail(&log))));
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    pub(crate) fn status(&self) -> Result<Status> {
        self.ask(&["status"])
    }

    /// Who relays calls now and why, by the trunk that they go to: `kernel`, `userspace (codec)`.
    pub(crate) fn relayed_by(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let calls: CallList = self.ask(&["calls", "--limit", MANY])?;
        let flows: FlowList = self.ask(&["flows", "--limit", MANY])?;
        let trunks: HashMap<_, _> =
            calls.calls.into_iter().filter_map(|call| Some((call.call, call.to_trunk?))).collect();
        let mut relayed = BTreeMap::<_, BTreeSet<_>>::new();
        for flow in flows.flows {
            if let Some(trunk) = flow.call.and_then(|call| trunks.get(&call)) {
                relayed.entry(trunk.clone()).or_default().insert(flow.relayed_by);
            }
        }
        Ok(relayed)
    }

    /// What `causeway` answers to a question.
    fn ask<T: DeserializeOwned>(&self, question: &[&str]) -> Result<T> {
        let mut command = self.lab.on("gateway", &self.program.to_string_lossy());
        let answer = ask(command.args(question).args(["--json", "--config"]).arg(&self.configuration))?;
        serde_json::from_str(&answer).with_context(|| format!("answer of `causeway {}`", question.join(" ")))
    }

    /// Drains and ends it; what is left are its records.
    ///
    /// # Errors
    /// It does not end by itself.
    pub(crate) fn stop(mut self) -> Result<Records> {
        let started = Instant::now();
        self.signal(Signal::INT);
        while self.process.try_wait()?.is_none() {
            ensure!(started.elapsed() < STOP, "the daemon did not end {} s after SIGINT", STOP.as_secs());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Records { path: self.records.clone() })
    }

    /// The daemon's process: `lab.sh exec` becomes the program.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    fn signal(&self, signal: Signal) {
        // `lab.sh exec` becomes the program, so the child's number is the daemon's.
        if let Some(process) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(process, signal)
        {
            eprintln!("signal to the daemon: {error}");
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None))
            && let Err(error) = self.process.kill().and_then(|()| self.process.wait())
        {
            eprintln!("the daemon (process {}) was not ended: {error}", self.process.id());
        }
        // Pins outlive a daemon on purpose; the interfaces of these go with the lab.
        fs::remove_dir_all(&self.pins).ok();
    }
}

/// Call detail records of a daemon that has ended.
pub(crate) struct Records {
    path: PathBuf,
}

impl Records {
    /// One of each call, in the order in which they ended.
    ///
    /// # Errors
    /// No records, or a line that is none.
    pub(crate) fn read(&self) -> Result<Vec<Record>> {
        let text =
            fs::read_to_string(&self.path).with_context(|| format!("records in {}", self.path.display()))?;
        text.lines().map(|line| serde_json::from_str(line).context("call detail record")).collect()
    }
}

/// What tasks read of a call detail record.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) to_trunk: Option<String>,
    pub(crate) sip_status: u16,
    pub(crate) caller_codec: Option<String>,
    pub(crate) callee_codec: Option<String>,
    from_caller: Heard,
    from_callee: Heard,
    fast_path_share: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Heard {
    packets: u64,
    lost: u64,
    #[serde(default)]
    discarded: u64,
}

impl Record {
    /// RTP packets of both sides.
    pub(crate) fn packets(&self) -> u64 {
        self.from_caller.packets + self.from_callee.packets
    }

    /// RTP packets that never came to Causeway, or came too late to be coded anew.
    pub(crate) fn missed(&self) -> u64 {
        [&self.from_caller, &self.from_callee].map(|heard| heard.lost + heard.discarded).iter().sum()
    }

    /// Those of them that the kernel relayed.
    pub(crate) fn packets_in_kernel(&self) -> f64 {
        self.packets() as f64 * self.fast_path_share.unwrap_or(0.0)
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A carrier on the one side and services on the other, in the lab's addresses.
fn configuration_text(shape: &Shape, state: &Path, records: &Path) -> String {
    let (limits, emergency) = match shape.calls_per_second {
        Some(calls) => (
            format!("\n[trunk.limits]\ncalls_per_second = {calls}\n"),
            "\n[emergency]\nnumbers = [\"112\"]\n",
        ),
        None => (String::new(), ""),
    };
    let (transport, tls) = (shape.signalling.transport(), shape.signalling.section());
    let spoken = (transport, transport.port());
    let carrier = trunk_section(CARRIER, "10.81.1", spoken, shape.carrier_media, &[&*limits, &*tls].concat());
    let plain = Service { name: "service", prefix: "", port: transport.port(), media: "" };
    let plain = plain.section(transport, &tls);
    let services: String = shape.services.iter().map(|service| service.section(Transport::Udp, "")).collect();
    let workers = shape.workers.map(|workers| format!("workers = {workers}\n")).unwrap_or_default();
    format!(
        r#"# Written by `cargo xtask`.
[node]
name = "{name}"
{workers}max_calls = {max_calls}
state_directory = "{state}"

[dataplane]
pin_directory = "{pins}"

[media]
ports = "{first}-{last}"

[[interface]]
name = "to-caller"

[[interface]]
name = "to-callee"

[cdr]
path = "{records}"
{emergency}{carrier}{plain}{services}"#,
        name = shape.name,
        max_calls = shape.max_calls,
        first = shape.ports.0,
        last = shape.ports.1,
        pins = shape.pins().display(),
        state = state.display(),
        records = records.display(),
    )
}
