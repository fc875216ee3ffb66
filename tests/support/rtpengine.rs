//! rtpengine in userspace, as Debian ships it: the relay of media beside a proxy of the callee's.

use crate::daemon::SOON;
use crate::lab::{Host, Lab};
use crate::process::{Process, until};
use anyhow::{Context, Result};

/// On the callee's host's loopback, for its proxy alone.
pub const CONTROL: &str = "127.0.0.1:2223";
/// Of its media: phones of that host have theirs below.
pub const PORTS: [u16; 2] = [40_000, 40_999];

/// A running rtpengine. It ends with the lab.
#[derive(Debug)]
pub struct Rtpengine {
    process: Process,
}

impl Rtpengine {
    /// On the callee's host.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start(lab: &Lab) -> Result<Self> {
        let mut command = lab.command(Host::Callee, "rtpengine");
        command.args([
            "--foreground",
            "--log-stderr",
            "--log-level=6",
            "--table=-1",
            "--interface=10.81.2.2",
        ]);
        command.args([format!("--listen-ng={CONTROL}"), format!("--port-min={}", PORTS[0])]);
        command.arg(format!("--port-max={}", PORTS[1]));
        let rtpengine = Self { process: lab.start("rtpengine", command)? };
        let port = CONTROL.parse::<std::net::SocketAddr>()?.port();
        until(SOON, || Ok(rtpengine.process.listens(port)?.then_some(())))
            .with_context(|| format!("rtpengine does not listen:\n{}", rtpengine.log()))?;
        Ok(rtpengine)
    }

    /// What it did for each call.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
