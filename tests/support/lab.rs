//! A lab of its own for a test: `scripts/lab.sh` with a prefix that no other has.

use crate::namespace::Namespace;
use crate::process::Process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Where the kernel keeps named network namespaces.
const NAMESPACES: &str = "/run/netns";
/// Where daemons of tests pin their maps.
const PINS: &str = "/sys/fs/bpf";

/// A host of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// 10.81.1.2
    Caller,
    /// 10.81.1.1 and 10.81.2.1
    Gateway,
    /// 10.81.2.2
    Callee,
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Gateway => "gateway",
            Self::Callee => "callee",
        }
    }
}

/// Caller, gateway and callee; taken down when this handle goes.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    directory: TempDir,
}

impl Lab {
    pub fn new() -> Result<Self> {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(remove_abandoned);
        let prefix = format!("it{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { prefix, directory: tempfile::tempdir()? };
        script(&lab.prefix, "up")?;
        Ok(lab)
    }

    /// For files of this test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where a daemon of this lab pins its maps.
    pub fn pins(&self) -> PathBuf {
        Path::new(PINS).join(&self.prefix)
    }

    /// A command on `host`. It is killed when the thread that starts it ends.
    ///
    /// `nsenter`, because `ip netns exec` mounts a /sys of its own, in which pins would be out of sight;
    /// it and `setpriv` replace themselves by the program, so the process id is the program's.
    pub fn command(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace(host).display()));
        command.args(["--", "setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command.current_dir(self.directory());
        command
    }

    /// Starts a program on `host`, with its output in a file of the lab's directory.
    pub fn start(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(name, command, self.directory())
    }

    /// Runs `work` on a thread on `host`: sockets that it opens stay there.
    pub fn on<T: Send>(&self, host: Host, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        Namespace::open(&self.namespace(host))?.inside(work)
    }

    fn namespace(&self, host: Host) -> PathBuf {
        Path::new(NAMESPACES).join(format!("{}-{}", self.prefix, host.name()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.prefix);
    }
}

/// What a test run that was killed could not remove.
fn remove_abandoned() {
    let Ok(namespaces) = fs::read_dir(NAMESPACES) else { return };
    for entry in namespaces.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(prefix) = name.strip_suffix("-gateway") else { continue };
        let run = prefix.strip_prefix("it").and_then(|rest| rest.split('-').next());
        if run.and_then(|run| run.parse::<u32>().ok()).is_some_and(|run| !is_running(run)) {
            remove(prefix);
        }
    }
}

/// A process that nobody has waited for yet is listed, and over all the same.
fn is_running(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn remove(prefix: &str) {
    if let Err(error) = script(prefix, "down") {
        eprintln!("{error:#}");
    }
    // Unpinned, the programs and maps go with the daemon that held them.
    let _ = fs::remove_dir_all(Path::new(PINS).join(prefix));
}

fn script(prefix: &str, task: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lab.sh");
    let output = Command::new("sh").arg(&script).arg(task).env("LAB_PREFIX", prefix).output();
    let output = output.with_context(|| script.display().to_string())?;
    if !output.status.success() {
        bail!("lab.sh {task}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
