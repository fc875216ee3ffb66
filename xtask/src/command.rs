//! Running other programs: output goes to the step's log, progress to its bar, and a failure shows the tail.

use crate::steps::Step;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Lines of output that a failure shows; all of them are in the log.
const TAIL: usize = 40;

/// How a line begins that cargo writes for programs, with `--message-format=json`: no failure is explained in one.
const CARGO_MESSAGE: &str = r#"{"reason":"#;

/// What a program said.
pub(crate) struct Finished {
    pub status: ExitStatus,
    /// Lines of standard output.
    pub stdout: Vec<String>,
    /// The last lines of both streams, as they came, that people can read.
    pub tail: VecDeque<String>,
    /// Where all of it is, and the command line that was run.
    log: String,
    line: String,
}

impl Finished {
    /// The end of the output, for an error.
    pub(crate) fn complaint(&self) -> String {
        let mut text = format!("`{}` ended with {}\n", self.line, self.status);
        for line in &self.tail {
            text.push_str("    | ");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&format!("    whole output: {}", self.log));
        text
    }
}

/// Runs to success.
///
/// # Errors
/// The program could not be started, or ended with another code than 0.
pub(crate) fn run(workspace: &Workspace, step: &Step, command: &mut Command) -> Result<Finished> {
    let finished = attempt(workspace, step, command)?;
    if !finished.status.success() {
        bail!(finished.complaint());
    }
    Ok(finished)
}

/// Runs to the end, whatever that is.
///
/// # Errors
/// The program could not be started.
pub(crate) fn attempt(workspace: &Workspace, step: &Step, command: &mut Command) -> Result<Finished> {
    let line = command_line(command);
    let path = workspace.log(step.name())?;
    if !step.logs_again() {
        File::create(&path).context("log of the step")?;
    }
    let mut log = File::options().append(true).open(&path).context("log of the step")?;
    writeln!(log, "\n$ {line}")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (sender, lines) = channel();
    let out = child.stdout.take().expect("standard output was asked for as a pipe");
    let err = child.stderr.take().expect("standard error was asked for as a pipe");
    let readers = [forward(out, true, sender.clone()), forward(err, false, sender)];

    let (mut stdout, mut tail) = (Vec::new(), VecDeque::new());
    for (is_stdout, text) in lines {
        if show_progress(step, &text) {
            continue;
        }
        writeln!(log, "{text}")?;
        if !is_stdout || !text.starts_with(CARGO_MESSAGE) {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text.clone());
        }
        if is_stdout {
            stdout.push(text);
        }
    }
    for reader in readers {
        let _ = reader.join();
    }
    let status = child.wait()?;
    Ok(Finished { status, stdout, tail, log: workspace.relative(&path).display().to_string(), line })
}

/// The program's standard output in one piece, for short questions whose answer is not worth a log.
///
/// # Errors
/// The program could not be started, or ended with another code than 0.
pub(crate) fn ask(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name is found on `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    find_program(program).is_some()
}

/// Where `PATH` has a program of this name.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps administrators' tools out of the PATH of other users.
    let sbin = ["/usr/sbin", "/sbin"].map(Into::into);
    let mut directories = std::env::split_paths(&path).chain(sbin);
    directories.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()))
}

/// As typed into a shell.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Cuts a stream at line feeds and at the carriage returns with which progress is redrawn.
fn forward(
    mut stream: impl Read + Send + 'static,
    is_stdout: bool,
    lines: Sender<(bool, String)>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut pending, mut chunk) = (Vec::new(), [0_u8; 8192]);
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            for &octet in chunk.iter().take(count) {
                if octet != b'\n' && octet != b'\r' {
                    pending.push(octet);
                } else if !pending.is_empty() {
                    let _ = lines.send((is_stdout, String::from_utf8_lossy(&pending).into_owned()));
                    pending.clear();
                }
            }
        }
        if !pending.is_empty() {
            let _ = lines.send((is_stdout, String::from_utf8_lossy(&pending).into_owned()));
        }
    })
}

/// Moves the bar; true when the line was nothing but progress.
fn show_progress(step: &Step, line: &str) -> bool {
    if let Some((done, total, crates)) = cargo_progress(line) {
        step.progress(done, total, crates);
        return true;
    }
    if let Some((percent, text)) = apt_progress(line) {
        step.progress(percent, 100, text);
        return true;
    }
    // Messages for programs, as cargo's list of artifacts, are nothing to look at.
    if !line.starts_with('{') {
        step.doing(line.trim());
    }
    false
}

/// `    Building [====>     ] 12/97: serde, libc` as cargo draws it when told to always do so.
fn cargo_progress(line: &str) -> Option<(u64, u64, &str)> {
    let (_, rest) = line.split_once("Building [")?.1.split_once("] ")?;
    let (count, crates) = rest.split_once(':').unwrap_or((rest, ""));
    let (done, total) = count.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?, crates.trim()))
}

/// `pmstatus:ethtool:37.5:Unpacking ethtool` or `dlstatus:3:12.5:Retrieving file 3 of 8`, apt's status lines.
fn apt_progress(line: &str) -> Option<(u64, &str)> {
    let rest = line.strip_prefix("pmstatus:").or_else(|| line.strip_prefix("dlstatus:"))?;
    let mut fields = rest.splitn(3, ':');
    let (_, percent, text) = (fields.next()?, fields.next()?, fields.next()?);
    Some((percent.split('.').next()?.parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_that_cargo_draws_is_read() {
        let line = "    Building [===>     ] 12/97: serde(build), libc    ";
        assert_eq!(cargo_progress(line), Some((12, 97, "serde(build), libc")));
        assert_eq!(cargo_progress("   Compiling serde v1.0.0"), None);
    }

    #[test]
    fn the_status_lines_of_apt_are_read() {
        assert_eq!(apt_progress("pmstatus:ethtool:37.5:Unpacking ethtool"), Some((37, "Unpacking ethtool")));
        assert_eq!(apt_progress("Unpacking ethtool"), None);
    }

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("echo");
        command.args(["plain-1.0", "two words", "it's", ""]);
        assert_eq!(command_line(&command), r"echo plain-1.0 'two words' 'it'\''s' ''");
    }
}
