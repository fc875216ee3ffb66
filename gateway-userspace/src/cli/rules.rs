//! `causeway rules`: what rules make of a message, without a daemon.

use super::{CONFIG, Failure, print};
use clap::{Args, Subcommand, ValueEnum};
use gateway_userspace::base::redact::Number;
use gateway_userspace::config::{Config, load_rules};
use gateway_userspace::policy::manipulation::{Direction, Manipulation, Outcome, Subject, Variables};
use gateway_userspace::sip::message::{Message, parse};
use serde_json::json;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Rules {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Show a message before and after the rules of a trunk or of a file
    Test(Test),
}

#[derive(Debug, Args)]
struct Test {
    /// File with one SIP message; lines may end without carriage returns
    message: PathBuf,
    /// File of [[rule]] entries by itself, in place of a trunk's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "trunk"])]
    rule: Option<PathBuf>,
    /// The configuration that the trunk stands in
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The trunk whose rules run
    #[arg(long, value_name = "NAME", required_unless_present = "rule")]
    trunk: Option<String>,
    /// Which of the rules
    #[arg(long, value_enum)]
    direction: Way,
    /// The number that calls [default: that of From]
    #[arg(long, value_name = "NUMBER")]
    calling: Option<String>,
    /// The number that is called [default: that of the Request-URI, else of To]
    #[arg(long, value_name = "NUMBER")]
    called: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// From the peer to us
    Receive,
    /// From us to the peer
    Send,
}

impl Rules {
    pub(super) fn json(&self) -> bool {
        let RulesCommand::Test(test) = &self.command;
        test.json
    }

    pub(super) fn run(&self) -> Result<(), Failure> {
        let RulesCommand::Test(test) = &self.command;
        test.run()
    }
}

impl Test {
    fn run(&self) -> Result<(), Failure> {
        let (rules, trunk) = self.rules()?;
        let mut message = self.message()?;
        let before = text_of(&message);
        let mut subject = Subject::from(&mut message);
        let (calling, called) = subject.numbers();
        let variables = Variables {
            trunk: &trunk,
            calling: self.calling.as_deref().or(calling.as_ref().map(Number::reveal)),
            called: self.called.as_deref().or(called.as_ref().map(Number::reveal)),
        };
        let direction = match self.direction {
            Way::Receive => Direction::Receive,
            Way::Send => Direction::Send,
        };
        let outcomes = rules.apply(direction, &mut subject, &variables);
        let after = text_of(&message);
        let lines = difference(&before, &after);
        let told = rules.rules(direction).iter().zip(&outcomes).map(|(rule, outcome)| (&*rule.name, outcome));
        if self.json {
            let rules: Vec<_> = told
                .map(|(name, outcome)| json!({ "name": name, "changed": outcome.changed(), "told": tell(outcome) }))
                .collect();
            let lines: Vec<_> = lines.iter().map(|(mark, line)| format!("{mark}{line}")).collect();
            let changed = before != after;
            let answer = json!({
                "changed": changed, "rules": rules, "before": before, "after": after, "difference": lines,
            });
            print(&answer.to_string());
            return Ok(());
        }
        let coloured =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let mut text = String::new();
        for (name, outcome) in told {
            text.push_str(&format!("# {name}: {}\n", tell(outcome).join("; ")));
        }
        for (mark, line) in lines {
            text.push_str(&painted(mark, line, coloured));
        }
        print(&text);
        Ok(())
    }

    /// The rules, and the name of the trunk that they are of.
    fn rules(&self) -> Result<(Manipulation, String), Failure> {
        if let Some(file) = &self.rule {
            return Ok((load_rules(file)?, "trunk".to_owned()));
        }
        let config = Config::load(&self.config)?;
        let name = self.trunk.clone().unwrap_or_default();
        match config.policy.trunk_named(&name) {
            Some((_, trunk)) => Ok((trunk.rules.clone(), name)),
            None => {
                let names: Vec<_> = config.policy.trunks().map(|(_, trunk)| trunk.name.as_str()).collect();
                Err(Failure::Other(format!("there is no trunk {name:?}: trunks are {}", names.join(", "))))
            }
        }
    }

    fn message(&self) -> Result<Message, Failure> {
        let told =
            |error: &dyn std::fmt::Display| Failure::Other(format!("{}: {error}", self.message.display()));
        let bytes = fs::read(&self.message).map_err(|error| told(&error))?;
        parse(&as_sent(bytes)).map_err(|error| told(&error))
    }
}

/// A message that somebody wrote with an editor: line ends as on the wire, and no Content-Length, which such a message
/// gets wrong. Others as they are.
fn as_sent(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&bytes) else { return bytes };
    if text.contains("\r\n") {
        return bytes;
    }
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let is_length = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l")
    };
    let mut sent: String =
        head.lines().filter(|line| !is_length(line)).map(|line| format!("{line}\r\n")).collect();
    sent.push_str("\r\n");
    sent.extend(body.lines().map(|line| format!("{line}\r\n")));
    sent.into_bytes()
}

/// As it would be sent, line by line.
fn text_of(message: &Message) -> String {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

/// What became of a rule, in words.
fn tell(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Other => vec!["is for other messages".to_owned()],
        Outcome::Unmet(at) => vec![format!("condition {} does not hold", at + 1)],
        Outcome::Exhausted => vec!["did not run: the rules before it did too much work".to_owned()],
        Outcome::Applied { changed, left_out } => {
            let mut told = vec![match changed.len() {
                0 => "ran, and changed nothing".to_owned(),
                count => format!("ran, and {count} of its actions changed something"),
            }];
            told.extend(left_out.iter().map(|(at, why)| format!("action {} was left out: {why}", at + 1)));
            told
        }
    }
}

fn painted(mark: char, line: &str, coloured: bool) -> String {
    match (mark, coloured) {
        ('-', true) => format!("\x1b[31m-{line}\x1b[0m\n"),
        ('+', true) => format!("\x1b[32m+{line}\x1b[0m\n"),
        (mark, _) => format!("{mark}{line}\n"),
    }
}

/// Lines of both texts in order, marked `-`, `+` or ` `: by their longest common subsequence.
fn difference<'a>(before: &'a str, after: &'a str) -> Vec<(char, &'a str)> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // Length of the longest common subsequence of what follows each pair of places.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_each_line_once_in_its_place() {
        let lines = difference("a\nb\nc\nd", "a\nc\nx\nd");
        assert_eq!(lines, [(' ', "a"), ('-', "b"), (' ', "c"), ('+', "x"), (' ', "d")]);
        assert_eq!(difference("a", "b"), [('-', "a"), ('+', "b")]);
        assert_eq!(difference("", ""), []);
    }

    #[test]
    fn colour_is_red_and_green_and_only_where_wanted() {
        assert_eq!(painted('-', "x", true), "\x1b[31m-x\x1b[0m\n");
        assert_eq!(painted('+', "x", true), "\x1b[32m+x\x1b[0m\n");
        assert_eq!(painted('+', "x", false), "+x\n");
        assert_eq!(painted(' ', "x", true), " x\n");
    }

    #[test]
    fn a_message_written_by_hand_is_read_as_it_would_be_sent() {
        assert_eq!(as_sent(b"A: b\nl: 9\n\nv=0\n".to_vec()), b"A: b\r\n\r\nv=0\r\n");
        assert_eq!(as_sent(b"A: b\r\nl: 0\r\n\r\n".to_vec()), b"A: b\r\nl: 0\r\n\r\n");
    }
}
