//! `cargo xtask fuzz`: the targets of `tests/fuzz` for as long as is wanted, beyond what each test run gives them.
//!
//! Inputs are mutations of the corpus, the same in each run: what fails here by a number fails again by that number.
//! It belongs into `tests/fuzz/corpus`, with a test of its name, once it is mended.

use crate::command::run;
use crate::packages::test_features;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The target (default: all of them, one after the other)
    #[arg(value_enum)]
    target: Option<Target>,
    /// How long each target is fuzzed
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// SIP messages: read, written, read again
    Message,
    /// URIs
    Uri,
    /// Via values
    Via,
    /// Session descriptions: read, offered, answered
    Sdp,
    /// Rules that change messages: read, and run over a message
    Rules,
    /// Streams cut into messages
    Stream,
    /// RTP headers with extensions, sources and padding
    Rtp,
    /// RTCP compounds: read, believed, translated
    Rtcp,
    /// SRTP and SRTCP: forged, and protected
    Srtp,
    /// Payloads of every codec, at every length
    Audio,
    /// Telephone-events
    Events,
    /// Calls between two codecs
    Bridge,
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    steps.run("fuzz program", |step| run(&workspace, step, program(&workspace).arg("--no-run")).map(drop))?;
    let targets = match arguments.target {
        Some(target) => vec![target],
        None => Target::value_variants().to_vec(),
    };
    for target in targets {
        let name = target.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        steps.run(&name, |step| fuzz(&workspace, step, &name, arguments.seconds))?;
    }
    Ok(())
}

fn program(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo(&["test", "--quiet", "--package", "gateway-tests", "--test", "fuzz"]);
    command.args(test_features("gateway-tests"));
    command
}

/// Fuzzes one target; what it came to is the step's detail.
fn fuzz(workspace: &Workspace, step: &Step, target: &str, seconds: u64) -> Result<()> {
    let log = workspace.log(&format!("fuzz {target}"))?;
    let mut command = program(workspace);
    command.args(["--", "--nocapture", "made_up"]);
    command.env("FUZZ_TARGET", target).env("FUZZ_SECONDS", seconds.to_string());
    watch(step, &mut command, &log, seconds)?;
    let told = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    step.detail(inputs(&told, target).context("it does not say how many inputs it tried")?);
    Ok(())
}

/// Waits for its end under the step's bar.
fn watch(step: &Step, command: &mut Command, log: &Path, seconds: u64) -> Result<()> {
    let output = File::create(log).with_context(|| log.display().to_string())?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start the fuzz program")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        step.progress(started.elapsed().as_secs().min(seconds), seconds, "seconds");
        thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let told: Vec<&str> =
            text.lines().skip_while(|line| !line.contains("panicked at")).take(30).collect();
        bail!("a promise is broken; all of it is in {}\n{}", log.display(), told.join("\n"));
    }
    Ok(())
}

/// How many inputs were tried.
fn inputs(told: &str, target: &str) -> Option<String> {
    let count = |line: &str| {
        let (_, count) = line.split_once(&format!("{target}: "))?;
        Some(format!("{} inputs", count.strip_suffix(" inputs")?))
    };
    told.lines().find_map(count)
}

#[cfg(test)]
mod tests {
    use super::inputs;

    #[test]
    fn the_number_of_inputs_is_found_behind_the_name_of_the_test() {
        let told = "running 6 tests\n.....test uris_made_up_hold ... uri: 77 inputs\n.\n";
        assert_eq!(inputs(told, "uri").as_deref(), Some("77 inputs"));
        assert_eq!(inputs("uri: panicked", "uri"), None);
    }
}
