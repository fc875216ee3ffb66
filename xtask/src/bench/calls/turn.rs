//! One turn: a lab in which nothing is left of the one before, one contender in its middle, calls, and their cost.

use super::kamailio::Kamailio;
use super::tunnel::Tunnels;
use super::{Bench, PREFIX, SHAPE, fresh, processor_time};
use crate::daemon::{Daemon, Shape, Signalling};
use crate::peers::{Answer, Callee, Caller, Conversation, Offer, Outcome};
use crate::report::thousands;
use crate::signalling::Transport;
use crate::steps::Step;
use crate::tap::Taps;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Causeway,
    Kamailio,
}

impl Contender {
    pub(super) const ALL: [Self; 2] = [Self::Causeway, Self::Kamailio];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Causeway => "causeway",
            Self::Kamailio => "kamailio",
        }
    }

    /// The share of calls that may fail. What another program loses now and then is told beside its figures, which count completed
    /// calls only; what we lose is a fault.
    fn tolerated(self) -> f64 {
        match self {
            Self::Causeway => 0.0,
            Self::Kamailio => 0.01,
        }
    }
}

/// Calls, and what they cost.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) outcome: Outcome,
    /// Calls that were not completed.
    pub(super) failed: u64,
    /// From INVITE to 200, on the interfaces of both ends.
    pub(super) setup_ms: Vec<f64>,
    /// How Causeway takes packets from the interfaces.
    pub(super) datapath: Option<String>,
    used: Seconds,
}

/// Processor time of the two programs that a contender may be.
#[derive(Clone, Copy, Debug)]
struct Seconds {
    signalling: f64,
    rtpengine: f64,
}

impl Turn {
    /// Calls completed per second of all processor time.
    pub(super) fn rate(&self) -> f64 {
        self.outcome.answered as f64 / (self.used.signalling + self.used.rtpengine)
    }

    /// The same without rtpengine's time.
    pub(super) fn rate_alone(&self) -> f64 {
        self.outcome.answered as f64 / self.used.signalling
    }

    pub(super) fn told(&self) -> String {
        let rate = thousands(self.rate());
        let alone = match self.used.rtpengine {
            0.0 => String::new(),
            _ => format!(", {} without rtpengine's time", thousands(self.rate_alone())),
        };
        let calls = thousands(self.outcome.answered as f64);
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!("{calls} calls, {rate} per second of processor time{alone}{failed}")
    }
}

/// # Errors
/// More calls failed than [`Contender::tolerated`], or a program could not do its work: there is no figure then.
pub(super) fn take(
    bench: &Bench<'_>,
    contender: Contender,
    transport: Transport,
    step: &Step,
) -> Result<Turn> {
    bench.renew_lab()?;
    let directory = fresh(bench.directory, &format!("{}-{}", contender.name(), transport.name()))?;
    let _tunnels = match transport {
        Transport::Tls => Some(Tunnels::start(bench.lab, &directory, &bench.certificates)?),
        Transport::Udp | Transport::Tcp => None,
    };
    match contender {
        Contender::Causeway => through_causeway(bench, transport, &directory, step),
        Contender::Kamailio => through_kamailio(bench, transport, &directory, step),
    }
    .with_context(|| format!("{} over {}: no figures", contender.name(), transport.name()))
}

fn through_causeway(bench: &Bench<'_>, transport: Transport, directory: &Path, step: &Step) -> Result<Turn> {
    let signalling = match transport {
        Transport::Udp => Signalling::Udp,
        Transport::Tcp => Signalling::Tcp,
        Transport::Tls => Signalling::Tls(bench.certificates.clone()),
    };
    let daemon = Daemon::start(bench.lab, bench.program, directory, &Shape { signalling, ..SHAPE })?;
    let datapath = daemon.status()?.datapath()?;
    let used = || Ok(Seconds { signalling: processor_time::of_family(daemon.process())?, rtpengine: 0.0 });
    let mut turn = calls(bench, (Contender::Causeway, transport), directory, step, &used)?;
    let ended = daemon.status()?.calls_ended;
    ensure!(ended == turn.outcome.answered, "the daemon says that {ended} calls ended");
    turn.datapath = Some(datapath);
    Ok(turn)
}

fn through_kamailio(bench: &Bench<'_>, transport: Transport, directory: &Path, step: &Step) -> Result<Turn> {
    let kamailio = Kamailio::start(bench.lab, directory, transport, &bench.certificates)?;
    let used = || {
        Ok(Seconds {
            signalling: processor_time::of_family(kamailio.process())?,
            rtpengine: processor_time::of_family(kamailio.rtpengine())?,
        })
    };
    calls(bench, (Contender::Kamailio, transport), directory, step, &used)
}

/// Places the calls and takes the time that `used` tells before and after.
fn calls(
    bench: &Bench<'_>,
    (contender, transport): (Contender, Transport),
    directory: &Path,
    step: &Step,
    used: &dyn Fn() -> Result<Seconds>,
) -> Result<Turn> {
    let (calls, rate) = (bench.arguments.calls, bench.arguments.rate);
    let conversation = Conversation { transport, recording: None };
    let _callee = Callee::start(bench.lab, directory, conversation, Answer::PLAIN)?;
    // They cost both contenders the same, so they are there in every turn.
    let taps = Taps::open(PREFIX)?;
    let before = used()?;
    let mut caller = Caller::start(bench.lab, directory, conversation, Offer::new(calls, rate))?;
    let outcome = loop {
        if let Some(outcome) = caller.outcome()? {
            break outcome;
        }
        // SIPp's own figures: to ask the contender would be charged to it.
        let begun = Outcome::read(directory).map_or(0, |outcome| outcome.placed);
        step.progress(begun, calls.into(), "calls begun");
        thread::sleep(Duration::from_millis(200));
    };
    let after = used()?;
    let failed = outcome.failed.max(u64::from(calls).saturating_sub(outcome.answered));
    ensure!(failed as f64 <= contender.tolerated() * f64::from(calls), "{failed} of {calls} calls failed");
    let used = Seconds {
        signalling: after.signalling - before.signalling,
        rtpengine: after.rtpengine - before.rtpengine,
    };
    ensure!(used.signalling > 0.0, "it used no processor time");
    Ok(Turn { outcome, failed, setup_ms: taps.close()?.setup_ms, datapath: None, used })
}

impl Bench<'_> {
    /// Ends what runs in the lab and makes it anew, so that no port or connection of a turn is left for the next.
    pub(super) fn renew_lab(&self) -> Result<()> {
        self.lab.remove()?;
        self.lab.make()
    }
}

/// How long a program may take to listen.
const START: Duration = Duration::from_secs(15);

/// Waits until a program of the lab listens on `port`, by what its own namespace says of sockets.
///
/// # Errors
/// It ends, or does not listen in time.
pub(super) fn wait_until_it_listens(name: &str, process: &mut Child, port: u16) -> Result<()> {
    let started = Instant::now();
    loop {
        if let Some(status) = process.try_wait()? {
            bail!("{name} ended at start with {status}");
        }
        let listens = ["tcp", "udp"].iter().any(|protocol| {
            let sockets = fs::read_to_string(format!("/proc/{}/net/{protocol}", process.id()));
            sockets.is_ok_and(|sockets| is_listed(&sockets, port))
        });
        if listens {
            return Ok(());
        }
        ensure!(started.elapsed() < START, "{name} does not listen on port {port}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a table of proc_pid_net(5) has a socket of this port that no peer is connected to.
fn is_listed(sockets: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    sockets.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next(), fields.next());
        local.is_some_and(|local| local.ends_with(&port)) && remote == Some("00000000:0000")
    })
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn a_listening_socket_is_told_from_a_connected_one() {
        let sockets = "  sl  local_address rem_address   st\n   0: 0101510A:13C5 00000000:0000 0A\n   \
                       1: 0101510A:13C4 0201510A:9C40 01\n";
        assert!(is_listed(sockets, 5061));
        assert!(!is_listed(sockets, 5060));
    }
}
