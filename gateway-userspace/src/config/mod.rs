//! The configuration file: parsed strictly, every error with file, line, field and fix.
//!
//! ```text
//! text → read (TOML, one section at a time) → check (fields against each other) → Config (each room's settings)
//! ```
//! [`Config::load`] either gives settings that every room accepts, or all errors that could be found at once.
//! `docs/configuration.md` describes each field; a test holds the two together.

mod check;
mod error;
mod file;
mod read;
mod rules;
mod summary;

pub use error::{ConfigError, ConfigErrors};
pub use rules::{load_rules, parse_rules};
pub use summary::Summary;

use crate::admin::CapturePermissions;
use crate::dataplane;
use crate::net::{self, tls::TlsTable};
use crate::policy::{CallRate, DefenceSettings, Snapshot};
use crate::sip::message::Limits;
use crate::sip::transaction;
use crate::sip::transport::Transport;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, thread};

/// A configuration that works, and does something: printed by `causeway check --example`.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Settings of all rooms.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeSettings,
    pub dataplane: dataplane::Settings,
    pub media: MediaSettings,
    pub sip: SipSettings,
    /// Of each worker; which one it is and where its tokens begin is not said here.
    pub connections: net::Settings,
    pub defence: DefenceSettings,
    pub dns: DnsSettings,
    pub admin: AdminSettings,
    pub cdr: CdrSettings,
    pub capture: CapturePermissions,
    /// Trunks and routes.
    pub policy: Arc<Snapshot>,
    /// Certificates of the trunks that use TLS.
    pub tls: Arc<TlsTable>,
    /// What works and may still not be meant.
    pub warnings: Vec<ConfigError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    pub name: Arc<str>,
    /// Where the node stands: peers of the same region are tried first.
    pub region: Option<Arc<str>>,
    /// Cores that carry calls.
    pub workers: usize,
    pub state_directory: PathBuf,
    pub max_calls: usize,
    /// How fast new calls may come; `None` does not limit it.
    pub rate: Option<CallRate>,
    /// Ended calls that each core keeps for `causeway call`.
    pub keep_ended_calls: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSettings {
    pub ports: RangeInclusive<u16>,
    /// How long a released pair of ports rests.
    pub quarantine: Duration,
    /// A call without media for so long is ended; `None` lets it be.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipSettings {
    pub transactions: transaction::Settings,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Those of the host when empty.
    pub servers: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    pub listen: SocketAddr,
}

impl Default for AdminSettings {
    /// Loopback.
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdrSettings {
    pub path: PathBuf,
}

/// What defaults depend on.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub cores: usize,
    /// The wall clock: certificates have days on which they begin and end.
    pub now: SystemTime,
}

impl Host {
    /// This host.
    pub fn here() -> Self {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if name.trim().is_empty() { "causeway" } else { name.trim() };
        Self {
            name: name.to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            now: SystemTime::now(),
        }
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// All errors that could be found, in order of their lines; or that the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text, &Host::here()),
            Err(error) => Err(ConfigErrors::unreadable(&name, &error)),
        }
    }

    /// Checks `text`; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(name: &str, text: &str, host: &Host) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::new(name, text);
        let config = read::read(text, &mut errors).and_then(|file| check::check(&file, host, &mut errors));
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(errors.sorted()),
        }
    }

    /// Sockets to listen on, each once.
    pub fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        let mut listeners: Vec<_> =
            self.policy.trunks().map(|(_, trunk)| (trunk.transport, trunk.listen)).collect();
        listeners.sort_unstable();
        listeners.dedup();
        listeners
    }

    /// What a running node with `self` cannot take over from `new` without a restart, by field. Trunks, peers
    /// and routes are not among it, as long as the listeners stay.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let changes = [
            ("[node] name", self.node.name != new.node.name),
            ("[node] region", self.node.region != new.node.region),
            ("[node] workers", self.node.workers != new.node.workers),
            ("[node] state_directory", self.node.state_directory != new.node.state_directory),
            ("[node] max_calls", self.node.max_calls != new.node.max_calls),
            ("[node] calls_per_second or burst", self.node.rate != new.node.rate),
            ("[node] keep_ended_calls", self.node.keep_ended_calls != new.node.keep_ended_calls),
            ("[dataplane] or [[interface]]", self.dataplane != new.dataplane),
            ("[media]", self.media != new.media),
            ("[sip]", self.sip != new.sip),
            ("[connections]", self.connections != new.connections),
            ("[dns]", self.dns != new.dns),
            ("[admin] listen", self.admin != new.admin),
            ("[cdr] path", self.cdr != new.cdr),
            ("[capture]", self.capture != new.capture),
            ("[[trunk]] listen", self.listeners() != new.listeners()),
        ];
        changes.into_iter().filter(|(_, changed)| *changed).map(|(field, _)| field).collect()
    }
}

#[cfg(test)]
mod tests;
