//! stunnel at both ends, because Debian's SIPp has no TLS: TCP in and TLS out beside the caller, the other way round
//! beside the callee. A connection of SIPp's is a connection of stunnel's, so they are reused as SIPp reuses them.

use super::turn::wait_until_it_listens;
use crate::lab::Lab;
use crate::peers::{CALLEE_PLAIN, CALLER_TUNNEL};
use crate::signalling::Certificates;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};

/// Both tunnels; they end when this is dropped.
pub(super) struct Tunnels {
    ends: [Tunnel; 2],
}

struct Tunnel(Child);

impl Tunnels {
    /// # Errors
    /// stunnel is not there, or does not listen.
    pub(super) fn start(lab: &Lab<'_>, directory: &Path, certificates: &Certificates) -> Result<Self> {
        let caller = format!("client = yes\naccept = {CALLER_TUNNEL}\nconnect = 10.81.1.1:5061\n");
        let callee = format!("client = no\naccept = 10.81.2.2:5061\nconnect = {CALLEE_PLAIN}\n");
        let mut tunnels = Self {
            ends: [
                Tunnel::start(lab, "caller", directory, &caller, certificates)?,
                Tunnel::start(lab, "callee", directory, &callee, certificates)?,
            ],
        };
        let [front, behind] = &mut tunnels.ends;
        wait_until_it_listens("stunnel", &mut front.0, 5070)?;
        wait_until_it_listens("stunnel", &mut behind.0, 5061)?;
        Ok(tunnels)
    }
}

impl Tunnel {
    fn start(
        lab: &Lab<'_>,
        host: &str,
        directory: &Path,
        service: &str,
        certificates: &Certificates,
    ) -> Result<Self> {
        let path = directory.join(format!("stunnel-{host}.conf"));
        let text = format!(
            "foreground = yes\npid =\ndebug = warning\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
             [sip]\n{service}cert = {}\nkey = {}\nCAfile = {}\n",
            certificates.certificate.display(),
            certificates.key.display(),
            certificates.root.display(),
        );
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        let log = File::create(directory.join(format!("stunnel-{host}.log")))?;
        let mut command = lab.on(host, "stunnel");
        command.arg(&path).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("cannot start stunnel in the lab")?))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("stunnel (process {}) was not ended: {error}", self.0.id());
        }
    }
}
