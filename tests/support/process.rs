//! Programs that a test starts: each ends, at the latest, with the test.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at something that a test waits for.
const LOOK: Duration = Duration::from_millis(20);

/// A running program, killed by its process id when this handle goes.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in one file of `directory`.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let output = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&output)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name} ({command:?})"))?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Everything that it printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Whether somebody in its network namespace listens on `port`, by UDP or TCP.
    pub fn listens(&self, port: u16) -> Result<bool> {
        let wanted = format!(":{port:04X} ");
        for (table, state) in [("udp", "07"), ("tcp", "0A")] {
            let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.child.id()))?;
            let mut sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            if sockets.any(|socket| {
                socket.len() > 3 && format!("{} ", socket[1]).ends_with(&wanted) && socket[3] == state
            }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = until(limit, || Ok(self.child.try_wait()?));
        match ended {
            Ok(status) => Ok(status),
            Err(_) => bail!("{} still runs after {limit:?}:\n{}", self.name, tail(&self.output())),
        }
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        super::namespace::run("sh", &["-c", "kill -s \"$0\" \"$1\"", signal, &self.child.id().to_string()])
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to be done then.
        let _ = self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, tail(&self.output()));
        }
    }
}

/// Asks again and again until there is an answer; the limit is a guard, not something to be measured.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("not within {limit:?}");
        }
        std::thread::sleep(LOOK);
    }
}

/// The end of a long text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
