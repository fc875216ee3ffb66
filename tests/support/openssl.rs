//! OpenSSL's `s_client` and `s_server`: a TLS peer that a test writes to and reads from.

use crate::daemon::SOON;
use crate::lab::{Host, Lab};
use crate::process::until;
use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A running `openssl`, killed when this handle goes.
#[derive(Debug)]
pub struct OpenSsl {
    child: Child,
    input: ChildStdin,
    /// What it printed, and what it received.
    output: Arc<Mutex<String>>,
    /// They read that, and end with it.
    readers: [JoinHandle<()>; 2],
}

impl OpenSsl {
    /// `openssl ARGUMENTS` on `host`.
    pub fn start(lab: &Lab, host: Host, arguments: &[&str]) -> Result<Self> {
        let mut command = lab.command(host, "openssl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("openssl")?;
        let input = child.stdin.take().context("a pipe was asked for")?;
        let output = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().context("a pipe was asked for")?),
            Box::new(child.stderr.take().context("a pipe was asked for")?),
        ];
        let readers = pipes.map(|mut pipe| {
            let output = Arc::clone(&output);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    output.lock().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            })
        });
        Ok(Self { child, input, output, readers })
    }

    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.input.write_all(text.as_bytes())?)
    }

    pub fn output(&self) -> String {
        self.output.lock().clone()
    }

    /// Waits until `words` were printed or received, and gives out all that was.
    ///
    /// # Errors
    /// It ended without them, or the time is over.
    pub fn until_says(&self, words: &str) -> Result<String> {
        let said = until(SOON, || {
            let ended = self.readers.iter().all(JoinHandle::is_finished);
            let said = Some(self.output()).filter(|output| output.contains(words));
            ensure!(said.is_some() || !ended, "openssl ended");
            Ok(said)
        });
        said.with_context(|| format!("{words:?} not in what openssl says:\n{}", self.output()))
    }

    /// Waits until it ends by itself.
    pub fn ends(&mut self) -> Result<ExitStatus> {
        let ended = until(SOON, || Ok(self.child.try_wait()?));
        ended.with_context(|| format!("openssl still runs:\n{}", self.output()))
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
