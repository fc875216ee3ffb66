//! Questions to a running daemon, and those that the kernel answers without one.

use super::{CONFIG, Daemon, Failure, print};
use clap::{Args, Subcommand, ValueEnum};
use gateway_userspace::admin::answer::Done;
use gateway_userspace::admin::client::{Client, ClientFault};
use gateway_userspace::admin::{CallFilter, DrainTarget};
use gateway_userspace::admin::{plot, table};
use gateway_userspace::base::id::CallId;
use gateway_userspace::config::{AdminSettings, Config};
use gateway_userspace::observe::calls::Progress;
use gateway_userspace::runtime::offline;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of a list unless asked for more.
const LIMIT: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Calls {
    /// Only calls in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only calls that come by or go to this trunk
    #[arg(long, value_name = "NAME")]
    trunk: Option<String>,
    /// Only calls with a number that ends with these digits: three at most are shown
    #[arg(long, value_name = "DIGITS")]
    number: Option<String>,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = LIMIT)]
    limit: usize,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Setup,
    Ringing,
    Answered,
    Ended,
}

#[derive(Debug, Args)]
pub(super) struct Flows {
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = LIMIT)]
    limit: usize,
    #[command(flatten)]
    pins: Pins,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

#[derive(Debug, Args)]
pub(super) struct Capture {
    /// Its id, as `causeway calls` lists it
    id: CallId,
    /// How long
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// The pcapng file to write; only its owner may read it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// SIP messages as well, each as a datagram, its passwords and keys blotted out unless the configuration permits
    /// them
    #[arg(long)]
    sip: bool,
    /// Whole packets instead of their headers, where the configuration permits it
    #[arg(long)]
    audio: bool,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

/// Where to look when no daemon answers.
#[derive(Debug, Args)]
pub(super) struct Pins {
    /// Where the kernel's maps are pinned, for when no daemon answers [default: [dataplane] pin_directory of
    /// the configuration, else /sys/fs/bpf/causeway]
    #[arg(long, value_name = "DIRECTORY")]
    pins: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Drain {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    node: Daemon,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All of the node
    Node(Daemon),
    /// One trunk: calls that come by it and calls that go to it
    Trunk {
        /// As `causeway trunks` lists it
        name: String,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// One peer of a trunk: calls that would go to it
    Peer {
        /// As `causeway trunks` lists it
        trunk: String,
        /// As `causeway trunks` lists it
        peer: String,
        #[command(flatten)]
        daemon: Daemon,
    },
}

impl Drain {
    pub(super) fn run(self, drained: bool) -> Result<(), Failure> {
        let (what, daemon) = match self.what {
            None => (DrainTarget::Node, self.node),
            Some(What::Node(daemon)) => (DrainTarget::Node, daemon),
            Some(What::Trunk { name, daemon }) => (DrainTarget::Trunk(name), daemon),
            Some(What::Peer { trunk, peer, daemon }) => (DrainTarget::Peer { trunk, peer }, daemon),
        };
        let done = daemon.client()?.drain(&what, drained).map_err(Failure::other)?;
        daemon.show(&done, |done| done.done.clone())
    }

    pub(super) fn daemon(&self) -> &Daemon {
        match &self.what {
            None => &self.node,
            Some(What::Node(daemon) | What::Trunk { daemon, .. } | What::Peer { daemon, .. }) => daemon,
        }
    }
}

impl Calls {
    pub(super) fn run(self) -> Result<(), Failure> {
        let progress = self.state.map(|state| match state {
            State::Setup => Progress::Setup,
            State::Ringing => Progress::Ringing,
            State::Answered => Progress::Answered,
            State::Ended => Progress::Ended,
        });
        let filter = CallFilter { progress, trunk: self.trunk, number: self.number };
        let list = self.daemon.client()?.calls(&filter, self.limit).map_err(Failure::other)?;
        self.daemon.show(&list, table::calls)
    }
}

impl Capture {
    pub(super) fn run(self) -> Result<(), Failure> {
        let span = Duration::from_secs(self.seconds);
        let failed = |error| Failure::other(format!("{}: {error}", self.output.display()));
        // Made before the capture: it would be lost to a directory that is not there.
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.output);
        let mut file = made.map_err(failed)?;
        let capture = self.daemon.client()?.capture(self.id, span, self.sip, self.audio);
        let capture = capture.map_err(Failure::other)?;
        file.write_all(&capture).map_err(failed)?;
        let done = Done { done: format!("{} octets in {}", capture.len(), self.output.display()) };
        self.daemon.show(&done, |done| done.done.clone())
    }
}

impl Flows {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { limit, pins, daemon } = self;
        let list =
            daemon.or_offline(&pins, |client| client.flows(limit), |pins| offline::flows(pins, limit))?;
        daemon.show(&list, table::flows)
    }
}

impl Daemon {
    pub(super) fn status(&self) -> Result<(), Failure> {
        self.show(&self.client()?.status().map_err(Failure::other)?, table::status)
    }

    pub(super) fn call(&self, id: CallId, svg: Option<&Path>) -> Result<(), Failure> {
        let detail = self.client()?.call(id).map_err(Failure::other)?;
        if let Some(file) = svg {
            let picture = plot::svg(&detail).ok_or_else(|| {
                Failure::other("there is nothing to draw yet: media is sampled every 5 s, once it flows")
            })?;
            fs::write(file, picture)
                .map_err(|error| Failure::other(format!("{}: {error}", file.display())))?;
        }
        self.show(&detail, table::call)
    }

    pub(super) fn drops(&self, pins: &Pins) -> Result<(), Failure> {
        let drops = self.or_offline(pins, Client::drops, offline::drops)?;
        self.show(&drops, table::drops)
    }

    pub(super) fn reload(&self) -> Result<(), Failure> {
        self.show(&self.client()?.reload().map_err(Failure::other)?, |done| done.done.clone())
    }

    pub(super) fn trunks(&self) -> Result<(), Failure> {
        self.show(&self.client()?.trunks().map_err(Failure::other)?, table::trunks)
    }

    pub(super) fn hang_up(&self, id: CallId) -> Result<(), Failure> {
        self.show(&self.client()?.hang_up(id).map_err(Failure::other)?, |done| done.done.clone())
    }

    pub(super) fn show<T: Serialize>(&self, answer: &T, table: impl Fn(&T) -> String) -> Result<(), Failure> {
        print(&if self.json {
            serde_json::to_string(answer).map_err(Failure::other)?
        } else {
            table(answer)
        });
        Ok(())
    }

    /// The daemon's answer, or what the kernel still knows when there is no daemon; which one is said.
    pub(super) fn or_offline<T, E: std::fmt::Display>(
        &self,
        pins: &Pins,
        ask: impl FnOnce(&Client) -> Result<T, ClientFault>,
        read: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, Failure> {
        match ask(&self.client()?) {
            Err(ClientFault::NotRunning { address, .. }) => {
                let pins = self.pins(pins)?;
                eprintln!(
                    "causeway: no daemon answers on {address}; this is what the kernel keeps in {}",
                    pins.display()
                );
                read(&pins).map_err(Failure::other)
            }
            answered => answered.map_err(Failure::other),
        }
    }

    fn pins(&self, pins: &Pins) -> Result<PathBuf, Failure> {
        if let Some(directory) = &pins.pins {
            return Ok(directory.clone());
        }
        let dataplane = self.configuration()?.map(|config| config.dataplane);
        Ok(dataplane.unwrap_or_default().pin_directory)
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        let address = match self.admin {
            Some(address) => address,
            None => self.configuration()?.map_or(AdminSettings::default(), |config| config.admin).listen,
        };
        Ok(Client::new(reachable(address)))
    }

    /// The configuration that was named, or the usual one if it is there and right: a question that needs no
    /// configuration shall not fail over a wrong one.
    fn configuration(&self) -> Result<Option<Config>, Failure> {
        match &self.config {
            Some(path) => Ok(Some(Config::load(path)?)),
            None => Ok(Config::load(Path::new(CONFIG)).ok()),
        }
    }
}

/// A daemon that listens on all addresses is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_on_all_addresses_is_asked_on_loopback() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(asked("[::]:9090"), "[::1]:9090");
        assert_eq!(asked("192.0.2.1:9090"), "192.0.2.1:9090");
    }
}
