//! Network namespaces for tests that need devices, routes and neighbours of their own.
//!
//! A namespace belongs to a thread and to whatever sockets were opened in it; it goes when both are gone, so
//! nothing is left behind when a test fails.
#![expect(unsafe_code, reason = "unshare and setns have no safe wrapper in std")]

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

/// A network namespace, kept alive by this handle.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// A new namespace with `lo` up. The calling thread stays where it is.
    pub fn new() -> Result<Self> {
        let made = std::thread::spawn(|| -> Result<Self> {
            // SAFETY: takes flags only, and changes the namespace of this new thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                bail!("cannot make a network namespace (root needed): {}", io::Error::last_os_error());
            }
            ip("link set lo up")?;
            Ok(Self(File::open("/proc/thread-self/ns/net").context("open the new namespace")?))
        });
        made.join().expect("the thread only makes a namespace")
    }

    /// The namespace that a file such as `/run/netns/NAME` stands for.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self(File::open(path).with_context(|| path.display().to_string())?))
    }

    /// Moves the calling thread into the namespace, for good. Sockets, commands and BPF programs of this thread
    /// are of the namespace from then on.
    pub fn enter(&self) -> Result<()> {
        // SAFETY: takes a file descriptor that `self` keeps open, and a flag.
        if unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            bail!("cannot enter a network namespace: {}", io::Error::last_os_error());
        }
        Ok(())
    }

    /// Runs `work` on a thread inside the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                self.enter()?;
                work()
            });
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves device `name` of the calling thread's namespace here.
    pub fn take(&self, name: &str) -> Result<()> {
        // The path of the handle, as the child process sees it.
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd());
        run("ip", &["link", "set", "dev", name, "netns", &path])
    }
}

/// Runs `ip` with these words in the calling thread's namespace.
pub fn ip(words: &str) -> Result<()> {
    run("ip", &words.split_whitespace().collect::<Vec<_>>())
}

/// Interfaces that are made in the calling thread's namespace from now on say nothing over IPv6 of their own accord.
pub fn without_ipv6() -> Result<()> {
    let setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    std::fs::write(setting, "1").with_context(|| setting.to_owned())
}

/// Runs a command in the calling thread's namespace; its failure carries its output.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program} (is it installed?)"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
