//! Kamailio with rtpengine, both as Debian ships them, in the gateway's place.

use super::turn::wait_until_it_listens;
use crate::lab::Lab;
use crate::signalling::{Certificates, Transport};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("kamailio.cfg");
/// Where rtpengine is controlled: a port of 127.0.0.1.
const CONTROL_PORT: u16 = 22_222;
/// How long either may take to end.
const STOP: Duration = Duration::from_secs(5);

/// Both running; they end when this is dropped.
pub(super) struct Kamailio {
    kamailio: Server,
    rtpengine: Server,
}

impl Kamailio {
    /// # Errors
    /// One of them is not installed, or does not start.
    pub(super) fn start(
        lab: &Lab<'_>,
        directory: &Path,
        transport: Transport,
        certificates: &Certificates,
    ) -> Result<Self> {
        let mut command = lab.on("gateway", "rtpengine");
        // No kernel module, as in `cargo xtask bench relay`. A port is free again when its call ends.
        command.args(["--foreground", "--log-stderr", "--log-level=3", "--table=-1", "--delete-delay=0"]);
        command.args(["--interface=caller/10.81.1.1", "--interface=callee/10.81.2.1"]);
        let control = format!("127.0.0.1:{CONTROL_PORT}");
        command.arg(format!("--listen-ng={control}")).args(["--port-min=20000", "--port-max=60999"]);
        let mut rtpengine = Server::start(command, directory, "rtpengine")?;
        // Kamailio asks for it once when it starts, and then not for a minute.
        wait_until_it_listens("rtpengine", &mut rtpengine.process, CONTROL_PORT)?;

        let (profiles, script) = (directory.join("tls.cfg"), directory.join("kamailio.cfg"));
        fs::write(&profiles, tls_profiles(certificates))?;
        let text = SCRIPT
            .replace("TRANSPORT", transport.name())
            .replace("PORT", &transport.port().to_string())
            .replace("PROFILES", &profiles.display().to_string())
            .replace("CONTROL", &control);
        fs::write(&script, text)?;
        let mut command = lab.on("gateway", "kamailio");
        command.args(["-DD", "-E", "-m", "512", "-M", "16", "-Y"]).arg(directory).arg("-f").arg(&script);
        let mut kamailio = Server::start(command, directory, "kamailio")?;
        wait_until_it_listens("kamailio", &mut kamailio.process, transport.port())?;
        Ok(Self { kamailio, rtpengine })
    }

    /// The parent of its processes.
    pub(super) fn process(&self) -> u32 {
        self.kamailio.process.id()
    }

    pub(super) fn rtpengine(&self) -> u32 {
        self.rtpengine.process.id()
    }
}

/// Certificates are shown and checked as Causeway does: by those that are called.
fn tls_profiles(certificates: &Certificates) -> String {
    let Certificates { root, certificate, key } = certificates;
    let files = format!(
        "private_key = {}\ncertificate = {}\nca_list = {}\n",
        key.display(),
        certificate.display(),
        root.display()
    );
    format!(
        "[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n{files}\
         [client:default]\nmethod = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n{files}"
    )
}

struct Server {
    name: &'static str,
    process: Child,
}

impl Server {
    fn start(mut command: Command, directory: &Path, name: &'static str) -> Result<Self> {
        let log = File::create(directory.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("cannot start {name} in the lab"))?;
        Ok(Self { name, process })
    }

    /// Asks it to end, since only then its children do, and ends it where it does not.
    fn stop(&mut self) -> Result<()> {
        if let Some(process) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            kill_process(process, Signal::TERM)?;
        }
        let asked = Instant::now();
        while self.process.try_wait()?.is_none() {
            if asked.elapsed() > STOP {
                self.process.kill()?;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None))
            && let Err(error) = self.stop()
        {
            eprintln!("{} (process {}) was not ended: {error}", self.name, self.process.id());
        }
    }
}
