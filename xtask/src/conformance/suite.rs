//! The test binaries of the workspace: built once, asked which tests they have, and run with just those that are tied.

use super::ties::Tie;
use crate::command::{ask, attempt, run};
use crate::packages::test_features;
use crate::steps::{Step, Steps};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Its suite and path: `call: setup::the_callee_hangs_up`.
    pub(super) name: String,
    pub(super) passed: bool,
}

/// Test binaries.
pub(super) struct Suites(Vec<Suite>);

/// One binary with tests.
#[derive(Debug)]
struct Suite {
    package: String,
    name: String,
    /// How `cargo test` is told to run this one only.
    selection: Vec<String>,
    /// The directory of its root file, and that file.
    root: PathBuf,
    root_file: PathBuf,
    tests: Vec<String>,
}

impl Suites {
    /// Builds what `cargo test` of each package builds, and lists the tests in it.
    ///
    /// # Errors
    /// Something does not compile.
    pub(super) fn build(workspace: &Workspace, step: &Step, packages: &BTreeSet<&str>) -> Result<Self> {
        let mut suites = Vec::new();
        for package in packages {
            let arguments =
                ["test", "--no-run", "--message-format=json-render-diagnostics", "--package", package];
            let mut command = workspace.cargo(&arguments);
            let output = run(workspace, step, command.args(test_features(package)))?;
            for line in &output.stdout {
                if let Some(suite) = Suite::built(package, line)? {
                    suites.push(suite);
                }
            }
        }
        ensure!(!suites.is_empty(), "cargo built no tests");
        Ok(Self(suites))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn tests(&self) -> usize {
        self.0.iter().map(|suite| suite.tests.len()).sum()
    }

    /// Runs the tests of `ties` and no other.
    ///
    /// # Errors
    /// A tied test is in no suite or in several, or did not run.
    pub(super) fn run(
        &self,
        steps: &Steps,
        workspace: &Workspace,
        ties: &[Tie],
    ) -> Result<Vec<(Tie, Outcome)>> {
        let mut by_suite: BTreeMap<usize, Vec<(&Tie, &str)>> = BTreeMap::new();
        for tie in ties {
            let (suite, test) = self.find(&workspace.root, tie)?;
            by_suite.entry(suite).or_default().push((tie, test));
        }
        let mut outcomes = Vec::new();
        for (index, tied) in by_suite {
            let suite = &self.0[index];
            let tests: BTreeSet<&str> = tied.iter().map(|(_, test)| *test).collect();
            let results = steps.run(&suite.name, |step| suite.run(workspace, step, &tests))?;
            for (tie, test) in tied {
                let Some(passed) = results.get(test) else {
                    bail!("{}: the test {test} did not run; is it ignored?", tie.place());
                };
                let name = format!("{}: {test}", suite.name);
                outcomes.push((tie.clone(), Outcome { name, passed: *passed }));
            }
        }
        Ok(outcomes)
    }

    fn find(&self, root: &Path, tie: &Tie) -> Result<(usize, &str)> {
        let file = root.join(&tie.file);
        let suites = self.0.iter().enumerate();
        let mut found = suites
            .flat_map(|(index, suite)| suite.find(&file, tie).into_iter().map(move |test| (index, test)));
        let first = found.next().with_context(|| {
            format!("{}: the test {} is in no suite that cargo builds", tie.place(), tie.function)
        })?;
        if let Some((_, other)) = found.next() {
            bail!("{}: {} could be {} or {other}: give one another name", tie.place(), tie.function, first.1);
        }
        Ok(first)
    }
}

impl Suite {
    /// A suite of cargo's message about a built artifact, if it is one.
    fn built(package: &str, message: &str) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Message {
            reason: String,
            target: Option<Target>,
            profile: Option<Profile>,
            executable: Option<PathBuf>,
        }
        #[derive(Deserialize)]
        struct Target {
            name: String,
            kind: Vec<String>,
            src_path: PathBuf,
        }
        #[derive(Deserialize)]
        struct Profile {
            test: bool,
        }
        let Ok(message) = serde_json::from_str::<Message>(message) else { return Ok(None) };
        let (Some(target), Some(profile), Some(executable)) =
            (message.target, message.profile, message.executable)
        else {
            return Ok(None);
        };
        if message.reason != "compiler-artifact" || !profile.test {
            return Ok(None);
        }
        let kind = target.kind.first().map(String::as_str).unwrap_or_default();
        let (name, selection) = match kind {
            "lib" => (package.trim_start_matches("gateway-").to_owned(), vec!["--lib".to_owned()]),
            kind => (target.name.clone(), vec![format!("--{kind}"), target.name]),
        };
        let listed = ask(Command::new(executable).args(["--list", "--format", "terse"]))?;
        let tests = listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned);
        let root = target.src_path.parent().map(Path::to_owned).unwrap_or_default();
        let (root_file, tests) = (target.src_path, tests.collect());
        Ok(Some(Self { package: package.to_owned(), name, selection, root, root_file, tests }))
    }

    /// Tests of this suite that `tie` in `file` may mean: its function in the file's module or in one inside it.
    fn find(&self, file: &Path, tie: &Tie) -> Vec<&str> {
        let Some(module) = (tie.package == self.package).then(|| self.module(file)).flatten() else {
            return Vec::new();
        };
        let means = |test: &&str| {
            let (path, function) = test.rsplit_once("::").unwrap_or(("", test));
            let inside = path.strip_prefix(module.as_str());
            function == tie.function
                && inside.is_some_and(|rest| module.is_empty() || rest.is_empty() || rest.starts_with("::"))
        };
        self.tests.iter().map(String::as_str).filter(means).collect()
    }

    /// The path of the module that `file` holds in this suite: `sip::message` of `src/sip/message/mod.rs`. `None` when
    /// the file is not below the suite's root.
    fn module(&self, file: &Path) -> Option<String> {
        if file == self.root_file {
            return Some(String::new());
        }
        let inside = file.strip_prefix(&self.root).ok()?.with_extension("");
        let mut parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|part| part == "mod") {
            parts.pop();
        }
        Some(parts.join("::"))
    }

    /// Runs `tests`; which of them ran, and whether they passed.
    fn run(
        &self,
        workspace: &Workspace,
        step: &Step,
        tests: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, bool>> {
        let mut command = workspace.cargo(&["test", "--package", &self.package]);
        command.args(test_features(&self.package)).args(&self.selection).args(["--", "--exact"]).args(tests);
        let finished = attempt(workspace, step, &mut command)?;
        let results = results(&finished.stdout);
        let failed = results.values().filter(|passed| !**passed).count();
        if failed > 0 {
            step.failed(format!("{failed} of {} failed", results.len()));
            eprintln!("{}", finished.complaint());
        } else {
            ensure!(finished.status.success(), finished.complaint());
            step.detail(format!("{} passed", results.len()));
        }
        Ok(results)
    }
}

/// `test setup::the_callee_hangs_up ... ok`. Ignored tests are not among the results: they did not run.
fn results(lines: &[String]) -> BTreeMap<String, bool> {
    let result = |line: &String| {
        let (name, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        match word {
            "ok" => Some((name.to_owned(), true)),
            "FAILED" => Some((name.to_owned(), false)),
            _ => None,
        }
    };
    lines.iter().filter_map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(root: &str, root_file: &str, tests: &[&str]) -> Suite {
        Suite {
            package: "gateway-userspace".to_owned(),
            name: "suite".to_owned(),
            selection: Vec::new(),
            root: root.into(),
            root_file: root_file.into(),
            tests: tests.iter().map(|test| (*test).to_owned()).collect(),
        }
    }

    fn found(suite: &Suite, file: &str, function: &str) -> Vec<String> {
        let (package, function) = ("gateway-userspace", function.to_owned());
        let tie = Tie { package, file: file.into(), line: 1, function, statements: vec![1] };
        suite.find(Path::new(file), &tie).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_test_is_found_by_its_file_and_function() {
        let library = suite(
            "/r/src",
            "/r/src/lib.rs",
            &["sip::uri::tests::a", "sip::uri::tests::b", "a", "sip::url::a"],
        );
        assert_eq!(found(&library, "/r/src/sip/uri.rs", "a"), ["sip::uri::tests::a"]);
        assert_eq!(found(&library, "/r/src/sip/uri/mod.rs", "b"), ["sip::uri::tests::b"]);
        assert_eq!(found(&library, "/r/src/sip/ur.rs", "a"), [""; 0]);
        assert_eq!(found(&library, "/r/tests/cli.rs", "a"), [""; 0]);
        let file = suite("/r/tests", "/r/tests/cli.rs", &["a"]);
        assert_eq!(found(&file, "/r/tests/cli.rs", "a"), ["a"]);
        assert_eq!(found(&file, "/r/tests/architecture.rs", "a"), [""; 0]);
    }

    #[test]
    fn only_tests_that_ran_have_results() {
        let lines = ["running 3 tests", "test a::b ... ok", "test c ... FAILED", "test d ... ignored"];
        let results = results(&lines.map(str::to_owned));
        assert_eq!(results, BTreeMap::from([("a::b".to_owned(), true), ("c".to_owned(), false)]));
    }
}
