//! `cargo xtask test`: the whole proof, from a fresh machine to one line that says how it went.
//!
//! Everything is built once, in the dev profile; only lints need a second pass of the compiler. A check that
//! could not run is a failure when root runs this; for other users it is left out, and the table says why.

use crate::command::{Finished, attempt};
use crate::packages::{Host, Need, test_features};
use crate::report;
use crate::setup::{self, Options, Ready};
use crate::steps::Steps;
use crate::workspace::{Workspace, cargo};
use crate::{demo, ebpf, fuzz, guest, verify};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::process::Command;
use std::time::Instant;

/// After this a suite is ended and has failed; the slowest takes a small part of it.
const SUITE_LIMIT: &str = "20m";
/// What libFuzzer has for each target: enough to run the corpus and to look a little further.
const LIBFUZZER_SECONDS: u64 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these checks (default: all of them)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CHECK")]
    only: Vec<Check>,
    #[command(flatten)]
    options: Options,
}

/// The checks, in the order in which they run: quick and telling ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// rustfmt finds nothing to change
    Format,
    /// clippy finds nothing to say
    Lints,
    /// Unit tests of the shared vocabulary
    Common,
    /// Unit tests of the daemon
    Userspace,
    /// Unit tests of these tasks
    Xtask,
    /// Call scenarios on virtual time
    Call,
    /// Speech between every two codecs, scored against what was said
    Speech,
    /// Readers of what comes from the network hold their promises for made-up inputs
    Fuzz,
    /// libFuzzer finds nothing in some seconds of each of those readers
    Libfuzzer,
    /// The verifiers of this kernel and of Debian's 6.1 and 6.12 take the XDP objects
    Verify,
    /// The data plane's table of sentences, in the kernel and against the reference
    Dataplane,
    /// Real peers in network namespaces
    Interop,
    /// Calls between VLANs, with their media in the kernel, on Debian's 6.1 and 6.12
    Guests,
}

impl Check {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn needs(self) -> &'static [Need] {
        match self {
            Self::Format | Self::Common | Self::Call | Self::Fuzz | Self::Userspace => &[],
            Self::Speech => &[Need::Codecs, Need::Speech],
            Self::Libfuzzer => &[Need::Codecs, Need::Fuzz],
            Self::Lints | Self::Xtask => &[Need::Kernel],
            Self::Verify => &[Need::Ebpf, Need::Kernel, Need::Verify],
            Self::Dataplane => &[Need::Ebpf, Need::Lab],
            Self::Interop => &[Need::Ebpf, Need::Lab, Need::Peers],
            Self::Guests => &[Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers, Need::Verify],
        }
    }

    /// Loads programs or makes namespaces.
    fn needs_root(self) -> bool {
        matches!(self, Self::Verify | Self::Dataplane | Self::Interop | Self::Guests)
    }
}

/// How a check went.
struct Outcome {
    check: String,
    counts: Counts,
    seconds: f64,
    /// Why it did not run.
    left_out: Option<String>,
}

/// Tests, or for a check that is not made of tests, the check itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    /// Marked `#[ignore]`.
    ignored: u64,
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let (workspace, steps, started) = (Workspace::find()?, Steps::new(), Instant::now());
    let checks = if arguments.only.is_empty() { Check::value_variants() } else { arguments.only.as_slice() };
    let root = Host::inspect()?.root;
    // Builds of all checks have what can be had of the last.
    let mut needs = vec![Need::Ebpf, Need::Codecs, Need::Optional];
    needs.extend(checks.iter().flat_map(|check| check.needs()).filter(|&&need| need != Need::Ebpf));
    let ready = setup::ensure(&steps, &workspace, &needs, &arguments.options)?;
    let ready = if root { ready.or_fail()? } else { ready };
    if let Some(toolchain) = &ready.ebpf {
        ebpf::build(&steps, &workspace, toolchain)?;
    }

    if let Some(lacking) = ready.lacks(Need::Optional) {
        let text = format!("left out: {} missing ({})", lacking.what, lacking.fix);
        steps.note("options of the daemon", &text);
    }
    let runner = Runner { workspace: &workspace, steps: &steps, ready: &ready, root };
    let outcomes: Vec<Outcome> = checks.iter().map(|&check| runner.outcome(check)).collect();
    conclude(&outcomes, started)
}

struct Runner<'a> {
    workspace: &'a Workspace,
    steps: &'a Steps,
    ready: &'a Ready,
    root: bool,
}

impl Runner<'_> {
    /// Never an error: what went wrong with one check is told, counted, and does not hide the next.
    fn outcome(&self, check: Check) -> Outcome {
        let (name, started) = (check.name(), Instant::now());
        let outcome = |counts, left_out| {
            let seconds = started.elapsed().as_secs_f64();
            Outcome { check: name.clone(), counts, seconds, left_out }
        };
        if let Some(reason) = self.obstacle(check) {
            self.steps.note(&name, &format!("left out: {reason}"));
            return outcome(Counts::default(), Some(reason));
        }
        match self.run(check, &name) {
            Ok(counts) => outcome(counts, None),
            Err(error) => {
                eprintln!("{error:#}");
                outcome(Counts { failed: 1, ..Counts::default() }, None)
            }
        }
    }

    /// Why `check` cannot run here. Root was already refused by set-up if anything is missing.
    fn obstacle(&self, check: Check) -> Option<String> {
        if check.needs_root() && !self.root {
            return Some("loading programs and making namespaces needs root".to_owned());
        }
        let lacking = check.needs().iter().find_map(|&need| self.ready.lacks(need))?;
        Some(format!("{} missing ({})", lacking.what, lacking.fix))
    }

    fn run(&self, check: Check, name: &str) -> Result<Counts> {
        match check {
            Check::Format => {
                self.tool(name, &["fmt", "--all", "--check"])?;
                // Not a member of the workspace, because another compiler builds it.
                self.tool(name, &["fmt", "--check", "--manifest-path", "gateway-ebpf/Cargo.toml"])
            }
            Check::Lints => {
                let features = match test_features("gateway-tests") {
                    [] => "xtask/kernel,xtask/bench",
                    _ => "xtask/kernel,xtask/bench,gateway-userspace/everything,gateway-tests/everything",
                };
                let scope = ["--workspace", "--all-targets", "--features", features];
                self.tool(name, &[&["clippy"], &scope[..], &["--", "--deny", "warnings"]].concat())
            }
            Check::Common => self.suite(name, "gateway-common", &[]),
            Check::Userspace => self.suite(name, "gateway-userspace", &[]),
            Check::Xtask => {
                let features = match test_features("gateway-userspace") {
                    [] => "kernel,bench",
                    _ => "kernel,bench,gateway-userspace/everything",
                };
                self.suite(name, "xtask", &["--features", features])
            }
            Check::Call | Check::Speech | Check::Fuzz | Check::Dataplane | Check::Interop => {
                self.suite(name, "gateway-tests", &["--test", name])
            }
            Check::Libfuzzer => {
                let (passed, broken) = fuzz::under_libfuzzer(self.workspace, self.steps, LIBFUZZER_SECONDS)?;
                broken.iter().for_each(|error| eprintln!("{error:#}"));
                Ok(Counts { passed, failed: broken.len() as u64, ignored: 0 })
            }
            Check::Verify => {
                let verdicts = verify::on_all_kernels(self.workspace, self.steps)?;
                let failed = verdicts.iter().filter(|verdict| !verdict.passed()).count() as u64;
                Ok(Counts { passed: verdicts.len() as u64 - failed, failed, ignored: 0 })
            }
            Check::Guests => {
                let broken = demo::on_other_kernels(self.workspace, self.steps)?;
                broken.iter().for_each(|error| eprintln!("{error:#}"));
                let failed = broken.len() as u64;
                Ok(Counts { passed: guest::KERNELS.len() as u64 - failed, failed, ignored: 0 })
            }
        }
    }

    /// A check that either passes or does not.
    fn tool(&self, name: &str, arguments: &[&str]) -> Result<Counts> {
        self.steps.run(name, |step| {
            let finished = attempt(self.workspace, step, &mut limited_cargo(self.workspace, arguments))?;
            if !finished.status.success() {
                bail!(finished.complaint());
            }
            Ok(Counts { passed: 1, ..Counts::default() })
        })
    }

    /// A suite of `cargo test`.
    fn suite(&self, name: &str, package: &str, arguments: &[&str]) -> Result<Counts> {
        let fixed = ["test", "--no-fail-fast", "--package", package];
        let arguments = [&fixed[..], test_features(package), arguments].concat();
        let result = self.steps.run(name, |step| {
            let finished = attempt(self.workspace, step, &mut limited_cargo(self.workspace, &arguments))?;
            let counts = count(&finished.stdout);
            if counts.failed > 0 {
                step.failed(format!("{} of {} failed", counts.failed, counts.passed + counts.failed));
                return Ok(Err((counts, failures(&finished))));
            }
            if !finished.status.success() {
                bail!(finished.complaint());
            }
            if counts.passed == 0 {
                bail!("{name}: no test ran");
            }
            step.detail(format!("{} passed", counts.passed));
            Ok(Ok(counts))
        })?;
        result.or_else(|(counts, text)| {
            eprintln!("{text}");
            Ok(counts)
        })
    }
}

/// The host's cargo under a time limit that ends what it started too.
fn limited_cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", SUITE_LIMIT])
        .arg(cargo())
        .args(arguments)
        .current_dir(&workspace.root)
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "120");
    command
}

/// Sums the closing lines of all test binaries of one cargo run.
fn count(stdout: &[String]) -> Counts {
    let mut total = Counts::default();
    for line in stdout.iter().filter_map(|line| line.strip_prefix("test result: ")) {
        let number = |label: &str| {
            let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
            let found = words.windows(2).find(|pair| pair[1] == label);
            found.and_then(|pair| pair[0].parse::<u64>().ok()).unwrap_or(0)
        };
        total.passed += number("passed");
        total.failed += number("failed");
        total.ignored += number("ignored");
    }
    total
}

/// What the failed tests printed, rather than the end of the output.
fn failures(finished: &Finished) -> String {
    let told = finished.stdout.iter().skip_while(|line| *line != "failures:");
    told.map(|line| format!("    | {line}\n")).collect::<String>() + &finished.complaint()
}

fn conclude(outcomes: &[Outcome], started: Instant) -> Result<()> {
    let mut table = report::table(["check", "passed", "failed", "ignored", "time, s", ""], &[1, 2, 3, 4]);
    let mut total = Counts::default();
    for outcome in outcomes {
        let Outcome { check, counts, seconds, left_out } = outcome;
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.ignored += counts.ignored;
        table.add_row([
            check.clone(),
            counts.passed.to_string(),
            counts.failed.to_string(),
            counts.ignored.to_string(),
            format!("{seconds:.1}"),
            left_out.as_ref().map_or_else(String::new, |reason| format!("left out: {reason}")),
        ]);
    }
    println!("{table}");
    println!("{} s in all, set-up included", started.elapsed().as_secs());
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_all_test_binaries_are_summed() {
        let lines = [
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(count(&lines), Counts { passed: 42, failed: 3, ignored: 1 });
    }

    #[test]
    fn output_without_a_closing_line_counts_nothing() {
        assert_eq!(count(&["error: could not compile".to_owned()]), Counts::default());
    }
}
