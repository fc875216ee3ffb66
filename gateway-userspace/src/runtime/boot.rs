//! From a configuration file to running cores, and back to nothing.

use super::admission::Quota;
use super::core::{Core, CoreSettings};
use super::defence::{self, Defence};
use super::expiry::ExpiryWatch;
use super::fence;
use super::mailbox::{Mail, Mailbox};
use super::names;
use super::readings;
use super::supervisor::{self, Order, Outcome};
use super::watcher;
use super::worker::{Gauges, MEDIA_TOKENS, NET_TOKENS, WAKER, Worker, clock};
use crate::admin::dns::{DnsPort, Names, NamesWanted};
use crate::admin::{AdminPort, AdminThread, CorePort, DefencePort};
use crate::base::id::CoreId;
use crate::base::share::Share;
use crate::base::token::Tokens;
use crate::call::{CallSettings, MediaPorts, Saved};
use crate::config::{Config, ConfigErrors};
use crate::dataplane::{Dataplane, DataplaneFault, Node};
use crate::media::PortPool;
use crate::media::ports::PortRangeError;
use crate::net::{self, ListenFault, Net};
use crate::observe;
use crate::observe::clock::WallClock;
use crate::observe::metrics::{CoreMetrics, Metrics};
use crate::observe::{Event, Observer, ObserverSettings, Offence};
use crate::policy::{Limits, Snapshot};
use crate::store::{CdrFile, Recovered, StateDirectory, StoreFault, recover};
use crossbeam::channel::{self, Receiver, Sender};
use mio::{Poll, Waker};
use parking_lot::Mutex;
use rand::TryRngCore;
use rand::rngs::OsRng;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Why the daemon did not start, or ended other than it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Config(ConfigErrors),
    #[error(transparent)]
    Dataplane(#[from] DataplaneFault),
    #[error(transparent)]
    Listen(#[from] ListenFault),
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminFault),
    #[error("[media] ports: {0}")]
    Ports(#[from] PortRangeError),
    #[error("cannot {doing}: {source}")]
    System { doing: &'static str, source: io::Error },
    #[error(
        "core {core} ended by itself, which the log explains: calls in progress are left to the next start"
    )]
    CoreDied { core: u16 },
}

impl RunError {
    fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// How long a callee may ring: longer than the three minutes that RFC 3261 section 16.6 gives proxies.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(185);

/// Runs the node until it has drained or was stopped.
///
/// # Errors
/// Whatever keeps it from starting, each with its fix; and a core that died.
pub fn run(path: &Path) -> Result<Outcome, RunError> {
    fence::tell_places();
    let config = Config::load(path).map_err(RunError::Config)?;
    for warning in &config.warnings {
        tracing::warn!("{}: {}", path.display(), warning.message);
    }
    let (orders, ordered) = supervisor::orders().map_err(RunError::system("take over signals"))?;
    let running = Running::start(path.to_owned(), config, orders)?;
    let outcome = running.wait(&ordered);
    running.end(outcome)?;
    match outcome {
        Outcome::Broken { core } => Err(RunError::CoreDied { core }),
        Outcome::Drained | Outcome::Left => Ok(outcome),
    }
}

/// A node whose threads run.
struct Running {
    mailboxes: Arc<[Mailbox]>,
    threads: Vec<JoinHandle<()>>,
    node: Arc<Mutex<Node>>,
    config: Arc<Mutex<(PathBuf, Config)>>,
    names: Names,
    defence: Arc<Defence>,
    guardian: JoinHandle<()>,
    cdr: Arc<CdrFile>,
    _watcher: watcher::Watcher,
    _admin: AdminThread,
    /// Held until the end: one daemon at a time uses it.
    _state: StateDirectory,
}

/// What all cores are made from.
struct Parts<'a> {
    names: Names,
    config: &'a Config,
    cores: u16,
    run: u32,
    pools: Vec<Vec<PortPool>>,
    cdr: &'a CdrFile,
    offences: Sender<(IpAddr, Offence)>,
    clock: WallClock,
    quota: Quota,
}

impl Running {
    fn start(path: PathBuf, config: Config, orders: Sender<Order>) -> Result<Self, RunError> {
        for (transport, address) in config.listeners() {
            net::probe(address, transport)?;
        }
        let state = StateDirectory::open(&config.node.state_directory)?;
        let recovered = recover(state.path())?;
        let left = read(&recovered);
        let mut node = Node::boot(&config.dataplane)?;
        let keep: HashSet<_> = left.iter().flat_map(Saved::flows).copied().collect();
        let swept = node.sweep(&keep)?;
        if !swept.is_empty() {
            tracing::warn!(flows = swept.len(), "flows without a call were removed from the kernel");
        }
        let cdr = Arc::new(CdrFile::open(&config.cdr.path)?);
        let cores = u16::try_from(config.node.workers.max(1)).unwrap_or(u16::MAX);
        let (names, wanted) = Names::new(names::wanted(&config.policy));
        let (offences, offended) = channel::bounded(defence::QUEUE);
        let parts = Parts {
            names: names.clone(),
            config: &config,
            cores,
            run: run_number(&state, &left)?,
            pools: pools(&config, cores)?,
            cdr: &cdr,
            offences,
            clock: WallClock::new(clock(), SystemTime::now()),
            quota: Quota { limits: Limits { calls: None, rate: config.node.rate }, ..Quota::default() },
        };
        let built = build(parts, &node, &state, &recovered, &orders)?;
        let Built { mut workers, mailboxes, gauges, metrics } = built;
        tell_paths(&mut workers, &node);
        adopt(&mut workers, left, cores);
        recovered.discard()?;
        let owners = watcher::FlowOwners::new(node.split(cores), &workers);
        let watch = node.watch()?;
        let (policy, told) = (Arc::clone(&config.policy), mailboxes[0].clone());
        let defence = Arc::new(Defence::new(node.guard()?, policy, config.defence, told));
        let guardian = defence::watch(Arc::clone(&defence), offended)
            .map_err(RunError::system("start the guard of the SIP sockets"))?;
        let node = Arc::new(Mutex::new(node));
        let watcher = watcher::Watcher::start(watch, owners, Arc::clone(&mailboxes))
            .map_err(RunError::system("start the data plane's watcher"))?;
        let config = Arc::new(Mutex::new((path, config)));
        let read_node = readings::read_node(&node, gauges, &config, &defence);
        let metrics = Arc::new(Metrics { cores: metrics, read_node });
        let admin = start_admin(&config, &mailboxes, &defence, metrics, (names.clone(), wanted))?;
        let threads = spawn(workers, &orders)?;
        Ok(Self {
            mailboxes,
            threads,
            node,
            config,
            names,
            defence,
            guardian,
            cdr,
            _watcher: watcher,
            _admin: admin,
            _state: state,
        })
    }

    fn wait(&self, ordered: &Receiver<Order>) -> Outcome {
        supervisor::supervise(ordered, &self.mailboxes, || {
            self.cdr.reopen();
            // The outcome is told by the log; whoever asked over HTTP is told by the answer.
            let _ = reload(&self.config, &self.mailboxes, &self.names, &self.defence);
        })
    }

    /// Ends the threads. A drained node leaves nothing in the kernel; any other leaves its calls there.
    fn end(self, outcome: Outcome) -> Result<(), RunError> {
        self.mailboxes.iter().for_each(|core| core.post(Mail::Stop));
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a core panicked");
            }
        }
        // It ends with the last core that may report an offence.
        if self.guardian.join().is_err() {
            tracing::error!("the guard of the SIP sockets panicked");
        }
        let Self { node, _watcher: watcher, _admin: admin, .. } = self;
        drop((watcher, admin));
        if outcome == Outcome::Drained
            && let Some(node) = Arc::into_inner(node)
        {
            node.into_inner().detach()?;
        }
        Ok(())
    }
}

/// What the journal has of calls; what cannot be read is shouted and lost.
fn read(recovered: &Recovered) -> Vec<Saved> {
    if recovered.damaged > 0 {
        tracing::warn!(octets = recovered.damaged, "the journal's end was torn, as a power cut leaves it");
    }
    let parse = |(call, bytes): &(crate::base::id::CallId, Vec<u8>)| {
        Saved::read(bytes)
            .inspect_err(|error| tracing::error!(%call, %error, "a stored call cannot be read and is lost"))
            .ok()
    };
    recovered.calls.iter().filter_map(parse).collect()
}

/// The port pools of each core, one for each media address.
fn pools(config: &Config, cores: u16) -> Result<Vec<Vec<PortPool>>, RunError> {
    let addresses: BTreeSet<IpAddr> = config.policy.trunks().map(|(_, trunk)| trunk.media_address).collect();
    let mut pools: Vec<Vec<PortPool>> = (0..cores).map(|_| Vec::new()).collect();
    for address in addresses {
        let media = &config.media;
        let parts = PortPool::partition(address, media.ports.clone(), media.quarantine, usize::from(cores))?;
        for (core, part) in pools.iter_mut().zip(parts) {
            core.push(part);
        }
    }
    Ok(pools)
}

struct Built {
    workers: Vec<Worker>,
    mailboxes: Arc<[Mailbox]>,
    gauges: Vec<Arc<Gauges>>,
    metrics: Vec<Arc<CoreMetrics>>,
}

fn build(
    mut parts: Parts<'_>,
    node: &Node,
    state: &StateDirectory,
    recovered: &Recovered,
    orders: &Sender<Order>,
) -> Result<Built, RunError> {
    let mut polls = Vec::new();
    let mut mailboxes = Vec::new();
    for _ in 0..parts.cores {
        let poll = Poll::new().map_err(RunError::system("open an event queue"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(RunError::system("open a waker"))?;
        let (mailbox, mail) = Mailbox::new(waker);
        mailboxes.push(mailbox);
        polls.push((poll, mail));
    }
    let mailboxes: Arc<[Mailbox]> = mailboxes.into();
    let (mut workers, mut gauges, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (poll, mail)) in (0..parts.cores).zip(polls) {
        let core = CoreId(number);
        let share = Share { core, cores: parts.cores };
        let core_metrics = Arc::new(CoreMetrics::default());
        let core_gauges = Arc::new(Gauges::default());
        let pools = std::mem::take(&mut parts.pools[usize::from(number)]);
        let mut dataplane = node.worker(core, parts.cores)?;
        dataplane.register(poll.registry(), MEDIA_TOKENS).map_err(RunError::system("watch media sockets"))?;
        let plays = tones_are_played(&dataplane, parts.config, core);
        workers.push(Worker {
            share,
            core: make_core(&parts, share, pools, (Arc::clone(&core_metrics), plays))?,
            net: listen(parts.config, core, &poll)?,
            poll,
            dataplane,
            journal: recovered.journal(state.path(), core)?,
            mail,
            cores: Arc::clone(&mailboxes),
            orders: orders.clone(),
            gauges: Arc::clone(&core_gauges),
            limits: parts.config.sip.limits,
            names: parts.names.clone(),
            expiry: (number == 0).then(|| ExpiryWatch::new(Arc::clone(&parts.config.tls))),
        });
        gauges.push(core_gauges);
        metrics.push(core_metrics);
    }
    Ok(Built { workers, mailboxes, gauges, metrics })
}

/// Whether calls can hear tones; a trunk that wants them where they cannot be made is named.
fn tones_are_played(dataplane: &Dataplane, config: &Config, core: CoreId) -> bool {
    let Err(fault) = dataplane.bridges() else { return true };
    for (_, trunk) in config.policy.trunks().filter(|(_, trunk)| trunk.tones.is_some() && core.0 == 0) {
        tracing::warn!(trunk = trunk.name, %fault, "no tones are played to the peers of this trunk");
    }
    false
}

fn make_core(
    parts: &Parts<'_>,
    share: Share,
    pools: Vec<PortPool>,
    (metrics, plays): (Arc<CoreMetrics>, bool),
) -> Result<Core, RunError> {
    let config = parts.config;
    let observer = ObserverSettings {
        node: Arc::clone(&config.node.name),
        clock: parts.clock,
        keep_ended: config.node.keep_ended_calls,
        records: parts.cdr.records(),
        offences: parts.offences.clone(),
    };
    let settings = CoreSettings {
        share,
        max_calls: config.node.max_calls.div_ceil(usize::from(share.cores)),
        quota: parts.quota.clone(),
        transactions: config.sip.transactions,
        call: CallSettings {
            share,
            media_timeout: config.media.timeout.unwrap_or(Duration::ZERO),
            answer_timeout: ANSWER_TIMEOUT,
            // 64*T1 with the default T1 (RFC 3261 section 17.1.1.1), and a second for good measure.
            linger: Duration::from_secs(33),
            t1: config.sip.transactions.intervals.t1,
            plays,
            product: concat!("Causeway/", env!("CARGO_PKG_VERSION")).into(),
        },
        run: parts.run,
    };
    let mut seed = [0; 32];
    OsRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| RunError::system("draw random numbers")(io::Error::other(error)))?;
    let policy = Arc::clone(&config.policy);
    let observer = Observer::new(observer, metrics);
    Ok(Core::new(settings, policy, MediaPorts::new(pools), Tokens::from_seed(seed), observer))
}

fn listen(config: &Config, core: CoreId, poll: &Poll) -> Result<Net, RunError> {
    let registry = poll.registry().try_clone().map_err(RunError::system("share an event queue"))?;
    let settings = net::Settings { worker: core, first_token: NET_TOKENS, ..config.connections };
    let mut net = Net::new(registry, settings);
    for (transport, address) in config.listeners() {
        net.listen(address, transport)?;
    }
    net.set_access(clock(), Arc::clone(&config.policy), Arc::clone(&config.tls));
    Ok(net)
}

/// Which way media takes, from the first moment on in log and metrics.
fn tell_paths(workers: &mut [Worker], node: &Node) {
    let Some(first) = workers.first_mut() else { return };
    for path in node.paths() {
        let (interface, path) = (path.interface.as_str().into(), readings::datapath(path.path));
        first.core.publish(clock(), &observe::Event::PathChanged { interface, path });
    }
}

fn adopt(workers: &mut [Worker], left: Vec<Saved>, cores: u16) {
    let share = Share { core: CoreId(0), cores };
    let (mut adopted, mut lost) = (0, 0);
    for saved in left {
        let call = saved.call();
        let owner = share.owner(saved.sip_call_id().as_bytes());
        let Some(worker) = workers.get_mut(usize::from(owner.0)) else { continue };
        match worker.adopt(saved) {
            Ok(()) => adopted += 1,
            Err(why) => {
                lost += 1;
                tracing::error!(%call, why, "a call of the last daemon cannot go on");
            }
        }
    }
    if adopted + lost > 0 {
        tracing::info!(adopted, lost, "calls of the last daemon taken over");
    }
}

fn spawn(workers: Vec<Worker>, orders: &Sender<Order>) -> Result<Vec<JoinHandle<()>>, RunError> {
    let spawn = |worker: Worker| {
        let core = worker.share.core.0;
        let orders = orders.clone();
        thread::Builder::new().name(format!("causeway-core{core}")).spawn(move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::error!(core, %error, "a core cannot poll"),
                Err(_) => tracing::error!(core, "a core panicked"),
            }
            // Nobody listens any more when the process is ending.
            let _ = orders.send(Order::Died { core });
        })
    };
    workers.into_iter().map(spawn).collect::<io::Result<_>>().map_err(RunError::system("start a core"))
}

fn start_admin(
    config: &Arc<Mutex<(PathBuf, Config)>>,
    mailboxes: &Arc<[Mailbox]>,
    defence: &Arc<Defence>,
    metrics: Arc<Metrics>,
    (names, wanted): (Names, NamesWanted),
) -> Result<AdminThread, RunError> {
    let (listen, node, calls_max, servers, capture) = {
        let (_, config) = &*config.lock();
        (
            config.admin.listen,
            config.node.name.to_string(),
            config.node.max_calls as u64,
            config.dns.servers.clone(),
            config.capture,
        )
    };
    let cores = mailboxes
        .iter()
        .map(|mailbox| {
            let mailbox = mailbox.clone();
            CorePort { post: Box::new(move |ask| mailbox.post(Mail::Ask(ask))) }
        })
        .collect();
    let publish = names::publisher(Arc::clone(config), Arc::clone(mailboxes), Arc::clone(defence));
    let dns = DnsPort { servers, names: wanted, publish, clock };
    let (config, mailboxes) = (Arc::clone(config), Arc::clone(mailboxes));
    let guard = defence_port(defence);
    let defence = Arc::clone(defence);
    let reload = Box::new(move || reload(&config, &mailboxes, &names, &defence));
    let started = Instant::now();
    let port = AdminPort { node, started, calls_max, cores, metrics, reload, defence: guard, capture };
    Ok(AdminThread::start(listen, port, Some(dns))?)
}

fn defence_port(defence: &Arc<Defence>) -> DefencePort {
    let [denying, allowing, listing] = [(); 3].map(|()| Arc::clone(defence));
    DefencePort {
        deny: Box::new(move |network, span, force| denying.deny(network, span, force)),
        allow: Box::new(move |network| allowing.allow(network)),
        denied: Box::new(move || listing.denied()),
    }
}

/// Reads the configuration again. Trunks and routes are for new calls at once; calls in progress keep theirs.
fn reload(
    config: &Mutex<(PathBuf, Config)>,
    mailboxes: &[Mailbox],
    names: &Names,
    defence: &Defence,
) -> Result<String, String> {
    let (path, running) = &mut *config.lock();
    let new = Config::load(path).map_err(|errors| errors.to_string());
    let outcome = new.and_then(|new| {
        let stuck = running.needs_restart(&new);
        if stuck.is_empty() {
            return Ok(new);
        }
        Err(format!("{}: only a restart can change {}", path.display(), stuck.join(", ")))
    });
    let outcome = outcome.map(|mut new| {
        new.policy = Arc::new(Snapshot::clone(&new.policy).succeed(&running.policy));
        new
    });
    // Policy first: when the log says that it is reloaded, it is on its way to every core.
    if let Ok(new) = &outcome {
        // The guard before the cores: whom they are to hear has to get through to them.
        defence.follow(&new.policy, new.defence);
        let mail = || Mail::Policy { policy: Arc::clone(&new.policy), tls: Arc::clone(&new.tls) };
        mailboxes.iter().for_each(|core| core.post(mail()));
    }
    let told = outcome.as_ref().map(|_| ()).map_err(String::clone);
    let told = Event::ConfigReloaded { outcome: told };
    mailboxes.iter().take(1).for_each(|core| core.post(Mail::Tell(told.clone())));
    let new = outcome?;
    names.want(names::wanted(&new.policy));
    *running = new;
    Ok(format!("{} taken for new calls; calls in progress keep what they have", path.display()))
}

/// The upper half of the identifiers of this run's calls: no call in the journal has it, and no run before had.
fn run_number(state: &StateDirectory, left: &[Saved]) -> Result<u32, RunError> {
    let newest = left.iter().map(|saved| (saved.call().0 >> 32) as u32).max();
    let clock = seconds(SystemTime::now());
    let least = newest.map_or(clock, |newest| clock.max(newest.saturating_add(1)));
    Ok(state.begin_run(least)?)
}

fn seconds(at: SystemTime) -> u32 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Wraps in 2106; identifiers then repeat after 136 years.
    since.as_secs() as u32
}
