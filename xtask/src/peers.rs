//! The two ends: SIPp as caller and as callee.

use crate::lab::Lab;
use crate::signalling::Transport;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CALLER_SCENARIO: &str = include_str!("peers/uac.xml");
const CALLEE_SCENARIO: &str = include_str!("peers/uas.xml");
/// What a caller does about 503: it is refused, and content.
const REFUSAL: &str = r#"<recv response="503" optional="true" next="refused"/>"#;
const REFUSED: &str = r#"<label id="refused"/>
  <send>
    <![CDATA[
      ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      CSeq: 1 ACK
      Max-Forwards: 70
      Content-Length: 0

    ]]>
  </send>
  <label id="over"/>
  <nop hide="true"/>"#;
/// Eight seconds of audio, and time for the last packet to be sent.
const LISTEN: &str = "<pause milliseconds=\"8500\"/>";
/// SIPp binds its media ports this far above its own, so that two on one host do not meet.
const MEDIA_ABOVE: u16 = 10_000 - 5_060;
/// SIPp ends by itself when the calls do not: the time to begin them all, and this.
const GRACE_SECONDS: u32 = 60;

/// What calls are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversation<'a> {
    pub(crate) transport: Transport,
    /// Both ends play this capture; `None`: the caller hangs up as soon as it has answered the answer.
    pub(crate) recording: Option<&'a Path>,
}

/// What a callee answers with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// Where it listens over UDP.
    pub(crate) port: u16,
    /// The line of its audio behind the port, and the attributes that go with it.
    pub(crate) media: &'a str,
}

impl Answer<'static> {
    /// G.711 A-law, as the caller offers.
    pub(crate) const PLAIN: Self = Self { port: 5060, media: "RTP/AVP 8 101\na=rtpmap:8 PCMA/8000" };
}

/// The calls that a caller places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) calls: u32,
    /// Calls begun each second.
    pub(crate) rate: u32,
    /// The called number.
    pub(crate) called: &'static str,
    /// Where the caller sends from.
    pub(crate) port: u16,
    /// Whether 503 is no failure.
    pub(crate) may_be_refused: bool,
}

impl Offer {
    pub(crate) fn new(calls: u32, rate: u32) -> Self {
        Self { calls, rate, called: "442079460000", port: 5060, may_be_refused: false }
    }
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

/// What a caller had done at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Seconds since the epoch.
    pub(crate) at: f64,
    pub(crate) placed: u64,
    /// Calls answered and ended by BYE.
    pub(crate) completed: u64,
}

/// All seconds of a caller, from the statistics that it left in `directory`.
///
/// # Errors
/// They are not there, or not what SIPp writes.
pub(crate) fn samples(directory: &Path) -> Result<Vec<Sample>> {
    let text = fs::read_to_string(directory.join("caller.csv")).context("SIPp's statistics")?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
    let sample = |line: &str| {
        let values: Vec<&str> = line.split(';').collect();
        let value = |name: &str| {
            let position = names.iter().position(|other| *other == name)?;
            // A time of day is followed by a tab and the same as seconds.
            values.get(position)?.rsplit('\t').next()
        };
        Some(Sample {
            at: value("CurrentTime")?.parse().ok()?,
            placed: value("TotalCallCreated")?.parse().ok()?,
            completed: value("completed(C)")?.parse().ok()?,
        })
    };
    lines.map(|line| sample(line).context("a line of SIPp's statistics")).collect()
}

/// SIPp that answers calls until this is dropped.
pub(crate) struct Callee {
    _process: Process,
}

impl Callee {
    /// # Errors
    /// SIPp cannot be started.
    pub(crate) fn start(
        lab: &Lab<'_>,
        directory: &Path,
        conversation: Conversation<'_>,
        answer: Answer<'_>,
    ) -> Result<Self> {
        // In front of the one who speaks TLS in its place it is reached elsewhere.
        let reached =
            if conversation.transport == Transport::Tls { Transport::Tls.port() } else { answer.port };
        let scenario =
            CALLEE_SCENARIO.replace("@MEDIA@", answer.media).replace("@PORT@", &reached.to_string());
        let scenario = conversation.write(directory, "callee.xml", &scenario)?;
        let mut command = sipp(lab, "callee", ("10.81.2.2", answer.port), &scenario, conversation);
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
        offer: Offer,
    ) -> Result<Self> {
        let Offer { calls, rate, called, port, may_be_refused } = offer;
        let (refusal, leave, refused) =
            if may_be_refused { (REFUSAL, r#"next="over""#, REFUSED) } else { ("", "", "") };
        let scenario = CALLER_SCENARIO
            .replace("@REFUSAL@", refusal)
            .replace("@LEAVE@", leave)
            .replace("@REFUSED@", refused);
        let scenario = conversation.write(directory, "caller.xml", &scenario)?;
        let mut command = sipp(lab, "caller", ("10.81.1.2", port), &scenario, conversation);
        let gateway = format!("10.81.1.1:{}", conversation.transport.port());
        let (calls_text, rate_text) = (calls.to_string(), rate.to_string());
        command.args([&gateway, "-s", called, "-m", &calls_text, "-l", &calls_text, "-r", &rate_text]);
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
    (address, port): (&str, u16),
    scenario: &Path,
    conversation: Conversation<'_>,
) -> Command {
    let mut command = lab.on(host, "sipp");
    command.arg("-sf").arg(scenario);
    command.args(["-i", address, "-mi", address, "-p", &port.to_string(), "-nostdin", "-trace_err"]);
    command.args(["-mp", &(port + MEDIA_ABOVE).to_string()]);
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
            if name == "caller.xml" {
                play.push_str(LISTEN);
            }
            play
        });
        let text = scenario
            .replace("@AUDIO@", &audio)
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
