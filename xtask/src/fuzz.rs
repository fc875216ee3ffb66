//! `cargo xtask fuzz`: the targets of `tests/fuzz` for as long as is wanted, beyond what each test run gives them.
//!
//! It is libFuzzer that looks for inputs, led by what they reach: the program in `tests/fuzz` is built with the
//! instrumentation that `cargo fuzz` asks for, by the compiler that is there, no nightly one. With `--seeded` inputs are
//! mutations of the corpus, the same in each run: what fails by a number fails again by that number.
//! What was found stands below `<target>/xtask/fuzz/TARGET`, and belongs into `tests/fuzz/corpus`, with a test of its name,
//! once it is mended.

use crate::command::{ask, run};
use crate::packages::{Need, test_features};
use crate::setup::{self, Options};
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Context, Error, Result, bail};
use clap::ValueEnum;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What `cargo fuzz` hands to the compiler for libFuzzer without a sanitizer: there is no memory to be unsafe with.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Longer inputs say the same, slower.
const LONGEST: &str = "-max_len=16384";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The target (default: all of them, one after the other)
    #[arg(value_enum)]
    target: Option<Target>,
    /// How long each target is fuzzed
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The mutations of the test suite instead of libFuzzer
    #[arg(long)]
    seeded: bool,
    #[command(flatten)]
    options: Options,
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
    /// Connectivity checks
    Stun,
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

/// What makes the inputs.
enum Engine {
    LibFuzzer(PathBuf),
    Seeded,
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    setup::ensure(&steps, &workspace, &[Need::Codecs, Need::Fuzz], &arguments.options)?.or_fail()?;
    let engine = if arguments.seeded {
        steps.run("fuzz program", |step| run(&workspace, step, seeded(&workspace).arg("--no-run")))?;
        Engine::Seeded
    } else {
        Engine::LibFuzzer(steps.run("fuzz program", |step| build(&workspace, step))?)
    };
    let targets = match arguments.target {
        Some(target) => vec![target],
        None => Target::value_variants().to_vec(),
    };
    for target in targets {
        let name = target.name();
        steps.run(&name, |step| fuzz(&workspace, step, &engine, &name, arguments.seconds))?;
    }
    Ok(())
}

/// Each target under libFuzzer for so long: how many held, and what the others say.
///
/// # Errors
/// The program cannot be built.
pub(crate) fn under_libfuzzer(
    workspace: &Workspace,
    steps: &Steps,
    seconds: u64,
) -> Result<(u64, Vec<Error>)> {
    let engine = Engine::LibFuzzer(steps.run("libfuzzer program", |step| build(workspace, step))?);
    let (mut held, mut broken) = (0, Vec::new());
    for target in Target::value_variants() {
        let name = target.name();
        match steps.run(&format!("libfuzzer {name}"), |step| fuzz(workspace, step, &engine, &name, seconds)) {
            Ok(()) => held += 1,
            Err(error) => broken.push(error),
        }
    }
    Ok((held, broken))
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

fn build(workspace: &Workspace, step: &Step) -> Result<PathBuf> {
    let target = workspace.target.join("fuzz");
    // With a target of its own name, build scripts and macros are spared the instrumentation.
    let told = ask(Command::new("rustc").arg("-vV"))?;
    let host =
        told.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV tells no host")?;
    let mut command = workspace.cargo(&["build", "--locked", "--release", "--target", host]);
    command.arg("--manifest-path").arg(workspace.root.join("tests/fuzz/Cargo.toml"));
    command.arg("--target-dir").arg(&target);
    run(workspace, step, command.env("RUSTFLAGS", INSTRUMENTATION))?;
    Ok(target.join(host).join("release/causeway-fuzz"))
}

fn seeded(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo(&["test", "--quiet", "--package", "gateway-tests", "--test", "fuzz"]);
    command.args(test_features("gateway-tests"));
    command
}

/// Fuzzes one target; what it came to is the step's detail.
fn fuzz(workspace: &Workspace, step: &Step, engine: &Engine, target: &str, seconds: u64) -> Result<()> {
    let log = workspace.log(&format!("fuzz {target}"))?;
    let mut command = match engine {
        Engine::LibFuzzer(program) => {
            let own = workspace.target.join("xtask/fuzz").join(target);
            let found = own.join("corpus");
            fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
            let mut command = Command::new(program);
            // What is new goes to the first; the second is the one that is kept.
            command.arg(&found).arg(workspace.root.join("tests/fuzz/corpus").join(target)).arg(LONGEST);
            command.args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()]);
            command.arg(format!("-artifact_prefix={}/", own.display()));
            command
        }
        Engine::Seeded => {
            let mut command = seeded(workspace);
            command.args(["--", "--nocapture", "made_up"]).env("FUZZ_SECONDS", seconds.to_string());
            command
        }
    };
    watch(step, command.env("FUZZ_TARGET", target), &log, seconds)?;
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

/// How many inputs were tried, as either engine says it.
fn inputs(told: &str, target: &str) -> Option<String> {
    told.lines().find_map(|line| {
        let by_libfuzzer = || line.strip_prefix("stat::number_of_executed_units:");
        let by_suite = || line.split_once(&format!("{target}: "))?.1.strip_suffix(" inputs");
        Some(format!("{} inputs", by_libfuzzer().or_else(by_suite)?.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::inputs;

    #[test]
    fn either_engine_says_how_many_inputs_it_tried() {
        let told = "running 6 tests\n.....test uris_made_up_hold ... uri: 77 inputs\n.\n";
        assert_eq!(inputs(told, "uri").as_deref(), Some("77 inputs"));
        assert_eq!(inputs("uri: panicked", "uri"), None);
        let libfuzzer = "Done 5 runs\nstat::number_of_executed_units: 1234\nstat::peak_rss_mb: 50\n";
        assert_eq!(inputs(libfuzzer, "uri").as_deref(), Some("1234 inputs"));
    }
}
