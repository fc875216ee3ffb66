//! The daemon under test: the `causeway` binary on the lab's gateway.

use crate::lab::{Host, Lab};
use crate::process::{Process, until};
use anyhow::{Context, Result, bail};
use gateway_userspace::admin::answer::{CallList, NodeStatus};
use gateway_userspace::observe::cdr::CallRecord;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

/// A guard for what takes a moment, also on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Each lab's gateway has a loopback of its own.
const ADMIN: &str = "127.0.0.1:9090";

/// A running daemon.
#[derive(Debug)]
pub struct Daemon<'a> {
    lab: &'a Lab,
    process: Process,
    config: PathBuf,
}

impl<'a> Daemon<'a> {
    /// Starts the daemon with [`config`] and these trunks and routes, and waits until it is ready.
    pub fn start(lab: &'a Lab, trunks: &str) -> Result<Self> {
        let path = lab.directory().join("causeway.toml");
        fs::write(&path, config(lab, trunks))?;
        Self::start_with(lab, path)
    }

    /// As [`Daemon::start`], without XDP.
    pub fn start_over_sockets(lab: &'a Lab, trunks: &str) -> Result<Self> {
        let path = lab.directory().join("causeway.toml");
        fs::write(&path, config(lab, trunks).replacen("mode = \"native\"", "mode = \"sockets\"", 1))?;
        Self::start_with(lab, path)
    }

    fn start_with(lab: &'a Lab, config: PathBuf) -> Result<Self> {
        let mut command = lab.command(Host::Gateway, binary()?);
        command.args(["run", "--config"]).arg(&config).env("NO_COLOR", "1");
        let process = lab.start("causeway", command)?;
        let mut daemon = Self { lab, process, config };
        let ready = until(SOON, || {
            if !daemon.process.is_running()? {
                bail!("the daemon ended:\n{}", daemon.log());
            }
            Ok(daemon.status().ok())
        });
        ready.with_context(|| format!("the daemon does not answer:\n{}", daemon.log()))?;
        Ok(daemon)
    }

    /// Another daemon in its place, with the same configuration.
    pub fn restart(mut self) -> Result<Self> {
        self.process.kill()?;
        Self::start_with(self.lab, self.config)
    }

    /// The same with another number of workers.
    pub fn restart_with_workers(self, workers: u16) -> Result<Self> {
        let config = fs::read_to_string(&self.config)?;
        let line = format!("workers = {workers}\n");
        fs::write(
            &self.config,
            config.replacen("workers = 2\n", &line, 1).replacen("workers = 1\n", &line, 1),
        )?;
        self.restart()
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub fn signal(&self, signal: &str) -> Result<()> {
        self.process.signal(signal)
    }

    pub fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait(SOON)
    }

    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Writes other trunks and routes where the daemon will read them at its next reload.
    pub fn rewrite(&self, trunks: &str) -> Result<()> {
        Ok(fs::write(&self.config, config(self.lab, trunks))?)
    }

    /// The answer of the command line to a question, by `--json`.
    pub fn ask<T: DeserializeOwned>(&self, question: &[&str]) -> Result<T> {
        let output = self.command(question)?.arg("--json").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("causeway {}: {text}{}", question.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_str(&text).with_context(|| format!("causeway {}: {text}", question.join(" ")))
    }

    /// A question to this daemon, to be run.
    pub fn command(&self, question: &[&str]) -> Result<Command> {
        let mut command = self.lab.command(Host::Gateway, binary()?);
        command.args(question).args(["--admin", ADMIN]);
        Ok(command)
    }

    pub fn status(&self) -> Result<NodeStatus> {
        self.ask(&["status"])
    }

    /// The whole answer of the admin port, as a scraper on the gateway gets it.
    pub fn http(&self, path: &str) -> Result<String> {
        self.request("GET", path)
    }

    /// Makes a call panic, which builds with debug assertions can be told to.
    pub fn panic_in(&self, call: &str) -> Result<()> {
        let answer = self.request("POST", &format!("/v1/calls/{call}/panic"))?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { bail!("{answer}") }
    }

    fn request(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = self.lab.on(Host::Gateway, || Ok(TcpStream::connect(ADMIN)?))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {ADMIN}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of a metric without labels, by the name that a scrape has.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let scrape = self.http("/metrics")?;
        let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} in:\n{scrape}"))?.parse()?)
    }

    pub fn calls(&self) -> Result<CallList> {
        self.ask(&["calls"])
    }

    /// Waits until this many call records are written, and returns them all: there must not be more.
    pub fn records(&self, count: usize) -> Result<Vec<CallRecord>> {
        let written = until(SOON, || {
            let records = self.records_now()?;
            Ok((records.len() >= count).then_some(records))
        });
        let records = written.with_context(|| format!("{count} call records: {:#?}", self.records_now()))?;
        if records.len() > count {
            bail!("{} call records instead of {count}", records.len());
        }
        Ok(records)
    }

    fn records_now(&self) -> Result<Vec<CallRecord>> {
        let text = fs::read_to_string(self.lab.directory().join("state/cdr.jsonl"))?;
        // The last line may be half written.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(whole.map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

/// The configuration of all tests: XDP in the driver or nothing, everything that stays in the lab's directory.
pub fn config(lab: &Lab, trunks: &str) -> String {
    format!(
        r#"
[node]
name = "lab"
workers = 2
max_calls = 1000
state_directory = "{directory}/state"

[dataplane]
mode = "native"
flows = 4000
pin_directory = "{pins}"

[admin]
listen = "{ADMIN}"

[[interface]]
name = "to-caller"

[[interface]]
name = "to-callee"

{trunks}
"#,
        directory = lab.directory().display(),
        pins = lab.pins().display(),
    )
}

macro_rules! service {
    () => {
        r#"
[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{ address = "10.81.2.2:5060" }]
"#
    };
}

/// The trunk to the callee over UDP, without a route to it.
pub const SERVICE: &str = service!();

/// Calls from the caller's network to the callee over UDP, and over TCP.
pub const TRUNKS: &str = concat!(
    r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
peers = [{ address = "10.81.1.2:5060" }]
allowed = ["10.81.1.0/24"]
"#,
    service!(),
    r#"
[[trunk]]
name = "operator-tcp"
listen = "tcp:10.81.1.1:5060"
peers = [{ address = "10.81.1.2:5060" }]
allowed = ["10.81.1.0/24"]

[[trunk]]
name = "service-tcp"
listen = "tcp:10.81.2.1:5060"
peers = [{ address = "10.81.2.2:5060" }]

[[route]]
prefix = ""
from = "operator"
to = "service"

[[route]]
prefix = ""
from = "operator-tcp"
to = "service-tcp"
"#
);

/// The `causeway` binary beside this test, built of the same sources.
///
/// Cargo builds the binaries of a package for that package's own tests only, so this asks it to.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "gateway-userspace",
            "--bin",
            "causeway",
            "--profile",
            profile,
        ])
        .args(if cfg!(feature = "everything") { &["--features", "everything"][..] } else { &[] })
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    if !output.status.success() {
        bail!("the daemon does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    // <target>/<profile>/deps/interop-0123: two directories up.
    let test = std::env::current_exe()?;
    let binary = test.ancestors().nth(2).context("where tests are built")?.join("causeway");
    if !binary.exists() {
        bail!("{} is not there", binary.display());
    }
    Ok(binary)
}
