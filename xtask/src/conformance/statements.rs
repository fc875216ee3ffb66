//! The table of statements.

use super::ties::Tie;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// Where the table is, from the root of the repository.
pub(super) const FILE: &str = "tests/conformance/statements.toml";
/// Statements are numbered from 1 to this.
const LAST: u16 = 240;

/// Sections in order, each with its first statement and title.
const SECTIONS: [(char, u16, &str); 14] = [
    ('A', 1, "transport and TLS"),
    ('B', 24, "OPTIONS and health"),
    ('C', 34, "requests to Teams"),
    ('D', 55, "provisional responses, forking, early media"),
    ('E', 76, "requests from Teams"),
    ('F', 95, "changes of an answered call"),
    ('G', 113, "transfer"),
    ('H', 130, "media security and session descriptions"),
    ('I', 150, "codecs, comfort noise, keys, tones"),
    ('J', 167, "media bypass"),
    ('K', 182, "emergency calls"),
    ('L', 191, "Operator Connect and Teams Phone Mobile"),
    ('M', 206, "Zoom"),
    ('N', 223, "operator leg and SIP in general"),
];

/// One line of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statement {
    pub(super) n: u16,
    pub(super) section: char,
    pub(super) text: String,
    /// Why no test shows it yet.
    pub(super) uncovered: Option<String>,
}

/// # Errors
/// The table cannot be read, or is not whole.
pub(super) fn read(root: &Path) -> Result<Vec<Statement>> {
    let text = fs::read_to_string(root.join(FILE)).context(FILE)?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Statement>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        statements: Vec<Statement>,
    }
    let Table { statements } = toml::from_str(text).context(FILE)?;
    for (expected, statement) in (1..).zip(&statements) {
        let n = statement.n;
        if n != expected {
            bail!("{FILE}: statement {n} stands where {expected} belongs");
        }
        if statement.section != section(n) {
            bail!("{FILE}: statement {n} belongs to section {}", section(n));
        }
        let empty = |text: &str| text.trim().is_empty();
        if empty(&statement.text) || statement.uncovered.as_deref().is_some_and(empty) {
            bail!("{FILE}: statement {n} has an empty text or reason");
        }
    }
    match statements.len() {
        count if count == usize::from(LAST) => Ok(statements),
        count => bail!("{FILE}: {count} statements, {LAST} belong there"),
    }
}

/// # Errors
/// A test is tied to a number that no statement has.
pub(super) fn check_ties(ties: &[Tie]) -> Result<()> {
    for tie in ties {
        if let Some(number) = tie.statements.iter().find(|number| !(1..=LAST).contains(number)) {
            bail!("{}: there is no statement {number}", tie.place());
        }
    }
    Ok(())
}

/// The section that a statement stands in.
fn section(n: u16) -> char {
    SECTIONS.iter().rev().find(|(_, first, _)| *first <= n).map_or('A', |(letter, ..)| *letter)
}

pub(super) fn title(section: char) -> &'static str {
    SECTIONS.iter().find(|(letter, ..)| *letter == section).map_or("", |(_, _, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn the_table_holds_each_statement_once_in_its_section() {
        let statements = read(&Workspace::find().unwrap().root).unwrap();
        assert_eq!(statements.len(), usize::from(LAST));
    }

    #[test]
    fn a_table_with_a_gap_is_refused() {
        let fault = |text: &str| parse(text).unwrap_err().to_string();
        let line = |n: u16, section: char| format!("{{ n = {n}, section = \"{section}\", text = \"x\" }},");
        let table = |lines: &[String]| format!("statements = [{}]", lines.concat());
        assert!(fault(&table(&[line(1, 'A'), line(3, 'A')])).contains("statement 3 stands where 2"));
        assert!(fault(&table(&[line(1, 'B')])).contains("section A"));
        assert!(fault(&table(&[line(1, 'A')])).contains("1 statements, 240"));
    }
}
