//! How the hosts of the lab signal: transports, ports, and certificates for TLS.

use crate::command::ask;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// As configuration files and URI parameters call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// RFC 3261 section 19.1.2.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

/// A root, and a certificate that it issued to every host of the lab, as PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    pub(crate) root: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The addresses of gateway, caller and callee.
const NAMES: &str = "subjectAltName=IP:10.81.1.1,IP:10.81.2.1,IP:10.81.1.2,IP:10.81.2.2";

impl Certificates {
    /// Makes them anew in `directory`.
    ///
    /// # Errors
    /// `openssl` is not there, or fails.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let file = |name: &str| directory.join(name);
        let (root, root_key) = (file("root.pem"), file("root.key"));
        let made = Self { certificate: file("host.pem"), key: file("host.key"), root };
        let request = |key: &Path, certificate: &Path, subject: &str| {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
            command.args(["-days", "60", "-subj", subject]);
            command.arg("-keyout").arg(key).arg("-out").arg(certificate);
            command
        };
        ask(request(&root_key, &made.root, "/CN=lab root")
            .args(["-addext", "keyUsage=critical,keyCertSign,digitalSignature"]))?;
        let mut host = request(&made.key, &made.certificate, "/CN=lab host");
        host.arg("-CA").arg(&made.root).arg("-CAkey").arg(&root_key);
        host.args(["-addext", NAMES, "-addext", "basicConstraints=critical,CA:FALSE"]);
        ask(host.args(["-addext", "extendedKeyUsage=serverAuth,clientAuth"]))?;
        Ok(made)
    }
}
