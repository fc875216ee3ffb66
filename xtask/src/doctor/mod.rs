//! `cargo xtask doctor`: is this host fit to carry calls?
//!
//! Every finding has a value and, unless it is fine, what it costs and an exact command that changes it. Nothing
//! is changed here. `fail`: calls will not work, or not in the kernel. `warn`: they will, at a price that is
//! named.

mod host;
mod interface;

use crate::report;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::ops::RangeInclusive;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Media interface to check; may be given again (default: all that are up, without loopback)
    #[arg(long, value_name = "INTERFACE")]
    interface: Vec<String>,
    /// UDP ports that the gateway uses for media
    #[arg(long, value_name = "FIRST-LAST", default_value = "20000-59999", value_parser = port_range)]
    media_ports: RangeInclusive<u16>,
    /// Print the findings as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// `host`, or the interface.
    subject: String,
    check: &'static str,
    level: Level,
    /// As found, with its unit.
    value: String,
    /// What it costs to leave it so; empty when it is fine.
    consequence: &'static str,
    /// The command that changes it; empty when it is fine.
    fix: String,
}

impl Finding {
    fn ok(check: &'static str, value: impl Into<String>) -> Self {
        let (subject, fix) = ("host".to_owned(), String::new());
        Self { subject, check, level: Level::Ok, value: value.into(), consequence: "", fix }
    }

    fn warn(self, consequence: &'static str, fix: impl Into<String>) -> Self {
        Self { level: Level::Warn, consequence, fix: fix.into(), ..self }
    }

    fn fail(self, consequence: &'static str, fix: impl Into<String>) -> Self {
        Self { level: Level::Fail, consequence, fix: fix.into(), ..self }
    }

    /// [`Self::warn`] unless `fine`.
    fn warn_unless(self, fine: bool, consequence: &'static str, fix: impl Into<String>) -> Self {
        if fine { self } else { self.warn(consequence, fix) }
    }

    /// [`Self::fail`] unless `fine`.
    fn fail_unless(self, fine: bool, consequence: &'static str, fix: impl Into<String>) -> Self {
        if fine { self } else { self.fail(consequence, fix) }
    }

    fn about(self, subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..self }
    }
}

pub(crate) fn run_task(arguments: &Arguments) -> Result<()> {
    let mut findings = host::findings(&arguments.media_ports)?;
    let interfaces =
        if arguments.interface.is_empty() { interface::that_are_up()? } else { arguments.interface.clone() };
    for name in &interfaces {
        findings.extend(interface::findings(name));
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print(&findings);
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail).count();
    ensure!(failed == 0, "{failed} findings that keep calls from working, or from the kernel");
    Ok(())
}

fn print(findings: &[Finding]) {
    let mut table = report::table(["", "subject", "check", "value"], &[]);
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        table.add_row([level, &finding.subject, finding.check, &finding.value]);
    }
    println!("{table}");
    for finding in findings.iter().filter(|finding| finding.level != Level::Ok) {
        println!("{}, {} ({})", finding.subject, finding.check, finding.value);
        println!("    {}", finding.consequence);
        println!("    fix: {}", finding.fix);
    }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let bounds =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match bounds {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("two ports, like 20000-59999".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_two_ports_in_order() {
        assert_eq!(port_range("20000-59999"), Ok(20000..=59999));
        assert!(port_range("59999-20000").is_err());
        assert!(port_range("0-10").is_err());
        assert!(port_range("20000").is_err());
    }
}
