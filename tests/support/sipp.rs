//! SIPp as caller and as callee.

use crate::daemon::SOON;
use crate::lab::{Host, Lab};
use crate::media;
use crate::process::{Process, until};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// SIPp gives up by itself after this many seconds, and has failed.
const TIMEOUT: &str = "90";
const GUARD: Duration = Duration::from_secs(120);
/// Its exit code when all calls went as the scenario says.
const ALL_SUCCEEDED: i32 = 0;

/// RTP packets in the recording that scenarios replay.
pub const RECORDED_PACKETS: u64 = media::PACKETS as u64;

/// A running SIPp.
#[derive(Debug)]
pub struct Sipp {
    process: Process,
    statistics: PathBuf,
    errors: PathBuf,
}

/// The last line of its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    pub successful: u64,
    pub failed: u64,
    pub unexpected_messages: u64,
}

impl Sipp {
    /// SIPp on the callee's host, once it listens on `port`. `scenario` is a default one (`-sn`) unless it ends
    /// in `.xml`: then it is one of ours.
    pub fn callee(lab: &Lab, scenario: &str, port: u16, arguments: &[&str]) -> Result<Self> {
        let sipp = Self::start(lab, Host::Callee, scenario, port, arguments)?;
        let listening = until(SOON, || Ok(sipp.process.listens(port)?.then_some(())));
        listening.with_context(|| format!("SIPp does not listen:\n{}", sipp.process.output()))?;
        Ok(sipp)
    }

    /// SIPp on the caller's host, calling through the gateway.
    pub fn caller(lab: &Lab, scenario: &str, arguments: &[&str]) -> Result<Self> {
        let arguments = [&["10.81.1.1:5060"], arguments].concat();
        Self::start(lab, Host::Caller, scenario, 5060, &arguments)
    }

    fn start(lab: &Lab, host: Host, scenario: &str, port: u16, arguments: &[&str]) -> Result<Self> {
        let name = format!("sipp-{}-{port}", Path::new(scenario).file_stem().unwrap_or_default().display());
        let statistics = lab.directory().join(format!("{name}.csv"));
        let errors = lab.directory().join(format!("{name}.errors"));
        let address = if host == Host::Caller { "10.81.1.2" } else { "10.81.2.2" };
        let mut command = lab.command(host, "sipp");
        if scenario.ends_with(".xml") {
            // Scenarios name the recording as a file beside them, so each test has its own copy of both.
            let copy = lab.directory().join(scenario);
            fs::copy(data().join(scenario), &copy).with_context(|| scenario.to_owned())?;
            media::media_pcap(&lab.directory().join("speech.pcap"), media::Form::ALaw)?;
            command.arg("-sf").arg(copy);
        } else {
            command.args(["-sn", scenario]);
        }
        command
            .args(arguments)
            .args(["-i", address, "-mi", address, "-p", &port.to_string()])
            // SIPp refuses to start where it may open fewer files than sockets, 50,000 unless told.
            .args([
                "-max_socket",
                "1000",
                "-nostdin",
                "-timeout",
                TIMEOUT,
                "-timeout_error",
                "-trace_stat",
                "-fd",
                "1",
                "-stf",
            ])
            .arg(&statistics)
            .args(["-trace_err", "-error_file"])
            .arg(&errors);
        Ok(Self { process: lab.start(&name, command)?, statistics, errors })
    }

    pub fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    /// Waits until all calls are over, however they went.
    pub fn end(mut self) -> Result<Statistics> {
        self.process.wait(GUARD)?;
        self.statistics()
    }

    /// Waits until all calls are over.
    ///
    /// # Errors
    /// A call failed, by the exit code or by the statistics.
    pub fn finish(mut self) -> Result<Statistics> {
        let status = self.process.wait(GUARD)?;
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let statistics = self.statistics()?;
        if status.code() != Some(ALL_SUCCEEDED) || statistics.failed > 0 {
            bail!("SIPp: {status}, {statistics:?}\n{errors}\n{}", self.process.output());
        }
        Ok(statistics)
    }

    fn statistics(&self) -> Result<Statistics> {
        let text = fs::read_to_string(&self.statistics).context("SIPp's statistics")?;
        let mut lines = text.lines();
        let (names, values) = (lines.next().unwrap_or_default(), lines.next_back().unwrap_or_default());
        let row: HashMap<&str, &str> = names.split(';').zip(values.split(';')).collect();
        let count = |name: &str| -> Result<u64> {
            let value = row.get(name).with_context(|| format!("no {name} in SIPp's statistics"))?;
            value.parse().with_context(|| format!("{name} is {value}"))
        };
        Ok(Statistics {
            successful: count("SuccessfulCall(C)")?,
            failed: count("FailedCall(C)")?,
            unexpected_messages: count("FailedUnexpectedMessage(C)")?,
        })
    }
}

/// Our scenarios.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sipp")
}
