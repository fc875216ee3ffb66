//! The two ends: SIPp as caller and as callee.

use crate::lab::Lab;
use crate::signalling::Transport;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CALLER_SCENARIO: &str = include_str!("peers/uac.xml");
const CALLEE_SCENARIO: &str = include_str!("peers/uas.xml");
/// The called number.
const SERVICE: &str = "442079460000";
/// Eight seconds of audio, and time for the last packet to be sent.
const LISTEN: &str = "<pause milliseconds=\"8500\"/>";
/// SIPp ends by itself when the calls do not: the time to begin them all, and this.
const GRACE_SECONDS: u32 = 60;

/// What calls are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversation<'a> {
    pub(crate) transport: Transport,
    /// Both ends play this capture; `None`: the caller hangs up as soon as it has answered the answer.
    pub(crate) recording: Option<&'a Path>,
}

/// Where SIPp, which has no TLS, reaches what speaks it in its place.
pub(crate) const CALLER_TUNNEL: &str = "10.81.1.2:5070";
/// And where it is reached.
pub(crate) const CALLEE_PLAIN: &str = "10.81.2.2:5060";

/// What became of the calls, as the caller saw it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) placed: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

impl Outcome {
    /// From the statistics `caller.csv` that SIPp left in `directory`.
    ///
    /// # Errors
    /// They are not there, or not what SIPp writes.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let text = fs::read_to_string(directory.join("caller.csv")).context("SIPp's statistics")?;
        let column =
            |name: &str| last_value(&text, name).with_context(|| format!("{name} in SIPp's statistics"));
        Ok(Self {
            placed: column("TotalCallCreated")?,
            answered: column("SuccessfulCall(C)")?,
            failed: column("FailedCall(C)")?,
        })
    }
}

/// SIPp that answers calls until this is dropped.
pub(crate) struct Callee {
    _process: Process,
}

impl Callee {
    /// # Errors
    /// SIPp cannot be started.
    pub(crate) fn start(lab: &Lab<'_>, directory: &Path, conversation: Conversation<'_>) -> Result<Self> {
        let scenario = conversation.write(directory, "callee.xml", CALLEE_SCENARIO)?;
        let mut command = sipp(lab, "callee", "10.81.2.2", &scenario, conversation);
        Ok(Self { _process: Process::start(&mut command, directory, "callee")? })
    }
}

/// SIPp that places the calls and ends.
pub(crate) struct Caller {
    process: Process,
    directory: PathBuf,
}

impl Caller {
    /// # Errors
    /// SIPp cannot be started.
    pub(crate) fn start(
        lab: &Lab<'_>,
        directory: &Path,
        conversation: Conversation<'_>,
        calls: u32,
        rate: u32,
    ) -> Result<Self> {
        let scenario = conversation.write(directory, "caller.xml", CALLER_SCENARIO)?;
        let mut command = sipp(lab, "caller", "10.81.1.2", &scenario, conversation);
        let gateway = format!("10.81.1.1:{}", conversation.transport.port());
        let (calls_text, rate_text) = (calls.to_string(), rate.to_string());
        command.args([&gateway, "-s", SERVICE, "-m", &calls_text, "-l", &calls_text, "-r", &rate_text]);
        if conversation.transport == Transport::Tls {
            command.args(["-rsa", CALLER_TUNNEL]);
        }
        command.args(["-timeout", &format!("{}s", calls / rate + GRACE_SECONDS)]).args([
            "-trace_stat",
            "-fd",
            "1",
            "-stf",
            "caller.csv",
        ]);
        Ok(Self {
            process: Process::start(&mut command, directory, "caller")?,
            directory: directory.to_owned(),
        })
    }

    /// What became of the calls, once all of them are over.
    ///
    /// # Errors
    /// SIPp could not run its scenario.
    pub(crate) fn outcome(&mut self) -> Result<Option<Outcome>> {
        if !self.process.is_over()? {
            return Ok(None);
        }
        Outcome::read(&self.directory).map(Some)
    }
}

/// SIPp's own scenario of this name on `host`, without audio.
pub(crate) fn plain(lab: &Lab<'_>, host: &str, address: &str, scenario: &str) -> Command {
    let mut command = lab.on(host, "sipp");
    command.args(["-sn", scenario, "-i", address, "-p", "5060", "-nostdin"]);
    command
}

fn sipp(
    lab: &Lab<'_>,
    host: &str,
    address: &str,
    scenario: &Path,
    conversation: Conversation<'_>,
) -> Command {
    let mut command = lab.on(host, "sipp");
    command.arg("-sf").arg(scenario);
    command.args(["-i", address, "-mi", address, "-p", "5060", "-mp", "10000", "-nostdin", "-trace_err"]);
    // One socket for all calls: connections are what the peers of a gateway keep.
    command.args(["-t", if conversation.transport == Transport::Udp { "u1" } else { "t1" }]);
    command
}

impl Conversation<'_> {
    fn write(&self, directory: &Path, name: &str, scenario: &str) -> Result<PathBuf> {
        let path = directory.join(name);
        let audio = self.recording.map_or_else(String::new, |recording| {
            let mut play =
                format!("<nop><action><exec play_pcap_audio=\"{}\"/></action></nop>", recording.display());
            if scenario == CALLER_SCENARIO {
                play.push_str(LISTEN);
            }
            play
        });
        let text = scenario
            .replace("@AUDIO@", &audio)
            .replace("@PORT@", &self.transport.port().to_string())
            .replace("@TRANSPORT@", &self.transport.name().to_ascii_uppercase());
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// A SIPp whose screen goes to a file; ended when this is dropped.
pub(crate) struct Process {
    child: Child,
    screen: PathBuf,
}

impl Process {
    /// # Errors
    /// SIPp cannot be started.
    pub(crate) fn start(command: &mut Command, directory: &Path, name: &str) -> Result<Self> {
        let screen = directory.join(format!("{name}.screen"));
        let output = File::create(&screen).with_context(|| screen.display().to_string())?;
        let child = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start SIPp in the lab")?;
        Ok(Self { child, screen })
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// It ended because it could not do its work; its last words are in the error.
    pub(crate) fn is_over(&mut self) -> Result<bool> {
        let Some(status) = self.child.try_wait().context("SIPp")? else { return Ok(false) };
        // 0: all calls succeeded; 1: some failed; 97: it ended on its own time limit.
        if !matches!(status.code(), Some(0 | 1 | 97)) {
            bail!("SIPp ended with {status}: {}", self.complaint());
        }
        Ok(true)
    }

    fn complaint(&self) -> String {
        let text = fs::read_to_string(&self.screen).unwrap_or_default();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output").to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("SIPp (process {}) was not ended: {error}", self.child.id());
        }
    }
}

/// The newest value of a column of SIPp's statistics: a line with names, then a line each second.
fn last_value(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let position = lines.next()?.split(';').position(|name| name == column)?;
    lines.next_back()?.split(';').nth(position)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_of_statistics_counts() {
        let text = "StartTime;TotalCallCreated;FailedCall(C);\n1;10;0;\n2;25;1;\n";
        assert_eq!(last_value(text, "TotalCallCreated"), Some(25));
        assert_eq!(last_value(text, "FailedCall(C)"), Some(1));
        assert_eq!(last_value(text, "Retransmissions(C)"), None);
    }
}
