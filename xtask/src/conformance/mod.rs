//! `cargo xtask conformance`: what this gateway promises to do on the wire, statement by statement, with the test
//! that shows each, and why the others have none yet.
//!
//! The statements stand in `tests/conformance/statements.toml`. A test is tied to them by a line comment directly above
//! its `#[test]`, wherever that is in the workspace:
//!
//! ```text
//!     // Statements 71, 73.
//!     #[test]
//! ```
//!
//! A statement has tests or a reason for having none, never both and never neither; a tied test that does not run is
//! an error, not a gap.

mod statements;
mod suite;
mod ties;

use crate::packages::{Host, Need};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{ebpf, report, setup};
use anyhow::{Result, bail, ensure};
use comfy_table::{ColumnConstraint, Width};
use serde::Serialize;
use statements::Statement;
use std::collections::{BTreeMap, BTreeSet};
use suite::{Outcome, Suites};
use ties::Tie;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these statements (default: all of them)
    #[arg(value_name = "NUMBER")]
    only: Vec<u16>,
    /// End with the table as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: setup::Options,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Conformance<'a> {
    statements: &'a [Row],
}

/// One statement and how it fared.
#[derive(Debug, Serialize)]
struct Row {
    n: u16,
    state: State,
    /// The tests that show it, comma-separated; empty when there are none.
    test: String,
    /// Why it is not covered, or which of the tests failed.
    reason: String,
    #[serde(skip)]
    section: char,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Pass,
    Fail,
    Uncovered,
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let wanted: BTreeSet<u16> = arguments.only.iter().copied().collect();
    let statements: Vec<Statement> = statements::read(&workspace.root)?
        .into_iter()
        .filter(|statement| wanted.is_empty() || wanted.contains(&statement.n))
        .collect();
    let numbers: BTreeSet<u16> = statements.iter().map(|statement| statement.n).collect();
    if let Some(unknown) = wanted.difference(&numbers).next() {
        bail!("there is no statement {unknown}");
    }
    let mut ties = ties::read(&workspace.root)?;
    statements::check_ties(&ties)?;
    ties.retain(|tie| tie.statements.iter().any(|number| numbers.contains(number)));
    contradictions(&statements, &ties)?;

    let outcomes = run_tests(&steps, &workspace, &ties, &arguments.options)?;
    let rows: Vec<Row> = statements.into_iter().map(|statement| row(statement, &outcomes)).collect();
    print_table(&rows);
    if arguments.json {
        println!("{}", serde_json::to_string(&Conformance { statements: &rows })?);
    }
    let failed: Vec<String> =
        rows.iter().filter(|row| row.state == State::Fail).map(|row| row.n.to_string()).collect();
    ensure!(failed.is_empty(), "broken: statement {}", failed.join(", "));
    Ok(())
}

/// Builds and runs the tied tests; what became of each, with the statements it shows.
fn run_tests(
    steps: &Steps,
    workspace: &Workspace,
    ties: &[Tie],
    options: &setup::Options,
) -> Result<Vec<(Tie, Outcome)>> {
    let packages: BTreeSet<&str> = ties.iter().map(|tie| tie.package).collect();
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let needs = [Need::Ebpf, Need::Codecs, Need::Lab, Need::Peers, Need::Optional];
    let ready = setup::ensure(steps, workspace, &needs, options)?;
    let ready = if Host::inspect()?.root { ready.or_fail()? } else { ready };
    if let Some(toolchain) = &ready.ebpf {
        ebpf::build(steps, workspace, toolchain)?;
    }
    let suites = steps.run("build", |step| {
        let suites = Suites::build(workspace, step, &packages)?;
        step.detail(format!("{} tests in {} suites", suites.tests(), suites.len()));
        Ok(suites)
    })?;
    suites.run(steps, workspace, ties)
}

/// Statements that claim to be uncovered and have tests, or have neither.
fn contradictions(statements: &[Statement], ties: &[Tie]) -> Result<()> {
    let mut faults = Vec::new();
    for statement in statements {
        let n = statement.n;
        let tie = ties.iter().find(|tie| tie.statements.contains(&n));
        match (tie, &statement.uncovered) {
            (Some(tie), Some(_)) => faults.push(format!(
                "statement {n} has a test ({}) and a reason for having none: take `uncovered` out of its line in {}",
                tie.place(),
                statements::FILE
            )),
            (None, None) => faults.push(format!(
                "statement {n} has neither a test nor a reason: tie one by `// Statement {n}.` above its #[test], or \
                 put `uncovered` into its line in {}",
                statements::FILE
            )),
            (Some(_), None) | (None, Some(_)) => {}
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n       "));
    Ok(())
}

fn row(statement: Statement, outcomes: &[(Tie, Outcome)]) -> Row {
    let Statement { n, section, text, uncovered } = statement;
    let tests: Vec<&Outcome> =
        outcomes.iter().filter(|(tie, _)| tie.statements.contains(&n)).map(|(_, outcome)| outcome).collect();
    let failed: Vec<&str> = tests.iter().filter(|test| !test.passed).map(|test| test.name.as_str()).collect();
    let state = match (tests.is_empty(), failed.is_empty()) {
        (true, _) => State::Uncovered,
        (false, true) => State::Pass,
        (false, false) => State::Fail,
    };
    let reason = match state {
        State::Pass => String::new(),
        State::Fail => format!("failed: {}", failed.join(", ")),
        State::Uncovered => uncovered.unwrap_or_default(),
    };
    let test = tests.iter().map(|test| test.name.as_str()).collect::<Vec<_>>().join(", ");
    Row { n, state, test, reason, section, text }
}

fn print_table(rows: &[Row]) {
    let mut table = report::wrapped(["", "statement", "", "test, or why there is none"], &[0]);
    // The names of tests are longer than the statements.
    if let Some(column) = table.column_mut(1) {
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Percentage(36)));
    }
    for row in rows {
        let (word, last) = match row.state {
            State::Pass => ("pass", row.test.replace(", ", "\n")),
            State::Fail => ("FAIL", row.reason.clone()),
            State::Uncovered => ("-", row.reason.clone()),
        };
        table.add_row([row.n.to_string(), row.text.clone(), word.to_owned(), last]);
    }
    println!("{table}");
    let mut sections: BTreeMap<char, [usize; 3]> = BTreeMap::new();
    for row in rows {
        sections.entry(row.section).or_default()[row.state as usize] += 1;
    }
    let mut summary = report::table(["section", "", "pass", "fail", "uncovered"], &[2, 3, 4]);
    for (section, counts) in &sections {
        let [pass, fail, uncovered] = counts.map(|count| count.to_string());
        summary.add_row([section.to_string(), statements::title(*section).to_owned(), pass, fail, uncovered]);
    }
    let all: [usize; 3] = [0, 1, 2].map(|state| sections.values().map(|counts| counts[state]).sum());
    let [pass, fail, uncovered] = all.map(|count| count.to_string());
    summary.add_row(["all".to_owned(), String::new(), pass, fail, uncovered]);
    println!("{summary}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(n: u16, uncovered: Option<&str>) -> Statement {
        Statement { n, section: 'A', text: String::new(), uncovered: uncovered.map(str::to_owned) }
    }

    fn tie(statements: &[u16]) -> Tie {
        Tie {
            package: "gateway-common",
            file: "gateway-common/src/a.rs".into(),
            line: 7,
            function: "t".to_owned(),
            statements: statements.to_vec(),
        }
    }

    #[test]
    fn a_statement_has_a_test_or_a_reason_and_not_both() {
        let fault = |statement, ties: &[Tie]| {
            contradictions(&[statement], ties).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(fault(statement(1, None), &[tie(&[1])]), "");
        assert_eq!(fault(statement(1, Some("why")), &[tie(&[2])]), "");
        assert!(fault(statement(1, Some("why")), &[tie(&[1, 2])]).contains("gateway-common/src/a.rs:7"));
        assert!(fault(statement(1, None), &[tie(&[2])]).contains("neither"));
    }

    #[test]
    fn one_failed_test_of_two_breaks_the_statement() {
        let outcome = |name: &str, passed| (tie(&[1]), Outcome { name: name.to_owned(), passed });
        let row = row(statement(1, None), &[outcome("a", true), outcome("b", false)]);
        assert_eq!((row.state, row.test.as_str(), row.reason.as_str()), (State::Fail, "a, b", "failed: b"));
    }
}
