//! A whole scenario on virtual time: cores in the middle, phones around them, a network between; a ladder of what
//! happened, and what must hold after any of it.

mod clock;
mod connections;
mod ending;
mod ladder;
mod registrations;
mod script;
mod setting;

pub use ending::Outcome;
pub use setting::Stage;

use super::flows::MemoryFlows;
use super::phone::Phone;
use super::session::Session;
use super::tap::Tap;
use super::weather::{Datagram, Fate, Network};
use clock::Clock;
use connections::Connections;
use crossbeam::channel::{Receiver, Sender, unbounded};
use gateway_userspace::base::id::{CallId, CoreId};
use gateway_userspace::base::share::Share;
use gateway_userspace::base::time::Time;
use gateway_userspace::base::token::Tokens;
use gateway_userspace::call::{CallSettings, MediaPorts, Saved};
use gateway_userspace::media::PortPool;
use gateway_userspace::observe::cdr::CallRecord;
use gateway_userspace::observe::metrics::CoreMetrics;
use gateway_userspace::observe::{Observer, ObserverSettings};
use gateway_userspace::policy::{Snapshot, TargetState, TrunkStanding};
use gateway_userspace::runtime::core::{Core, CoreSettings};
use gateway_userspace::runtime::fence;
use gateway_userspace::runtime::turn::{CheckpointChange, Errand, Outbox, Turn};
use gateway_userspace::sip::message::{parse, shallow};
use gateway_userspace::sip::transaction::Settings as TransactionSettings;
use gateway_userspace::sip::transport::Hop;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The caller, on the operator's side.
pub const ALICE: usize = 0;
/// The peer of the service side that is tried first.
pub const BOB: usize = 1;
/// The peer of the service side that is tried next.
pub const CAROL: usize = 2;
/// In nobody's configuration.
pub const MALLORY: usize = 3;
/// Another phone of the operator's side, where a scenario lets it in.
pub const DAVE: usize = 4;

pub const BOBS_NUMBER: &str = "+12025550147";
pub const ALICES_NUMBER: &str = "+441632960123";

const OPERATOR: &str = "192.0.2.1:5060";
const SERVICE: &str = "203.0.113.1:5060";

pub struct Scene {
    pub now: Time,
    pub flows: MemoryFlows,
    pub phones: Vec<Phone>,
    pub metrics: Vec<Arc<CoreMetrics>>,
    pub ladder: Vec<String>,
    /// Messages that the network loses, whatever the weather.
    pub loses: fn(&str) -> bool,
    stage: Stage,
    cores: Vec<Core>,
    policy: Arc<Snapshot>,
    network: Network,
    tap: Tap,
    /// What cores have for one another.
    errands: VecDeque<(CoreId, Errand)>,
    seen: HashSet<(SocketAddr, SocketAddr, Vec<u8>)>,
    records: (Sender<CallRecord>, Receiver<CallRecord>),
    checkpoints: BTreeMap<CallId, Vec<u8>>,
    restarts: u32,
    clock: Clock,
    connections: Connections,
    /// Of daemons before this one.
    panics: u64,
    fuses: u64,
    /// Records, once the scenario has come to its end.
    written: Vec<CallRecord>,
    /// What was found broken while it went on.
    broken: BTreeSet<String>,
    /// Calls that were not answered yet when their daemon was killed: nobody is left to write their records.
    lost: usize,
}

impl Scene {
    pub fn new(stage: Stage) -> Self {
        let policy = Arc::new(setting::policy(&stage));
        let phone =
            |name, address, gateway, media| Phone::new(name, address, gateway, Session::at(media, 4000));
        let mut scene = Self {
            now: Time(1_000_000),
            flows: MemoryFlows::default(),
            phones: vec![
                phone("Alice", "198.51.100.10:5060", OPERATOR, "198.51.100.11"),
                phone("Bob", "198.18.0.20:5060", SERVICE, "198.18.0.21"),
                phone("Carol", "198.18.0.30:5060", SERVICE, "198.18.0.31"),
                phone("Mallory", "100.64.0.9:5060", OPERATOR, "100.64.0.9"),
                phone("Dave", "198.51.100.20:5060", OPERATOR, "198.51.100.21"),
            ],
            metrics: Vec::new(),
            ladder: Vec::new(),
            loses: |_| false,
            cores: Vec::new(),
            policy,
            network: Network::new(stage.weather, stage.seed),
            tap: Tap::default(),
            errands: VecDeque::new(),
            seen: HashSet::new(),
            records: unbounded(),
            checkpoints: BTreeMap::new(),
            restarts: 0,
            clock: Clock::default(),
            connections: Connections::default(),
            panics: 0,
            fuses: 0,
            written: Vec::new(),
            broken: BTreeSet::new(),
            lost: 0,
            stage,
        };
        fence::tell_places();
        for phone in &mut scene.phones {
            if scene.connections.transport(&scene.policy, phone.gateway).is_stream() {
                phone.transport = "TCP";
            }
        }
        for phone in [BOB, CAROL] {
            scene.phones[phone].far_end = scene.stage.far_end.clone();
        }
        scene.boot();
        scene
    }

    /// Daemons come and go: the calls that were answered are taken over from what the last one wrote down.
    pub fn restart(&mut self) {
        let refused = self.restart_losing();
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// As [`Scene::restart`]; why calls could not be taken over.
    pub fn restart_losing(&mut self) -> Vec<String> {
        self.restarts += 1;
        self.tap.daemons += 1;
        self.panics += self.total("causeway_call_panics");
        self.connections = Connections::default();
        self.policy = Arc::new(setting::policy(&self.stage));
        let live: u64 = self.metrics.iter().map(|metrics| metrics.calls()).sum();
        let left: Vec<Saved> = self.checkpoints.values().map(|bytes| read(bytes)).collect();
        let answered = left.iter().filter(|saved| matches!(saved, Saved::Call(_))).count();
        self.lost += live as usize - answered;
        self.note("causeway: killed and started again".to_owned());
        self.boot();
        let kept: Vec<_> = left.iter().flat_map(Saved::flows).copied().collect();
        self.flows.sweep(&kept);
        let mut refused = Vec::new();
        for saved in left {
            let core = self.share(0).owner(saved.sip_call_id().as_bytes());
            self.turn(usize::from(core.0), |core, turn| refused.extend(core.adopt(turn, saved).err()));
        }
        refused
    }

    /// As [`Scene::restart`], with another number of cores.
    pub fn restart_with(&mut self, cores: u16) {
        self.stage.cores = cores;
        self.restart();
    }

    fn boot(&mut self) {
        let run = self.clock.begin_run(self.now);
        (self.cores, self.metrics) = (Vec::new(), Vec::new());
        let pools = |address: &str| {
            let address = address.parse().expect("an address");
            let quarantine = Duration::from_secs(5);
            let cores = usize::from(self.stage.cores);
            PortPool::partition(address, self.stage.ports.clone(), quarantine, cores).expect("a sound range")
        };
        let (near, far) = (pools("192.0.2.2"), pools("203.0.113.2"));
        for (number, (near, far)) in near.into_iter().zip(far).enumerate() {
            let share = self.share(number as u16);
            let metrics = Arc::new(CoreMetrics::default());
            let observer = ObserverSettings {
                node: "test".into(),
                clock: self.clock.wall(self.now),
                keep_ended: 0,
                records: self.records.0.clone(),
                offences: crossbeam::channel::bounded(0).0,
            };
            let settings = CoreSettings {
                share,
                max_calls: self.stage.max_calls,
                quota: self.stage.quota.clone(),
                transactions: TransactionSettings::default(),
                call: CallSettings {
                    share,
                    media_timeout: self.stage.media_timeout,
                    answer_timeout: Duration::from_secs(180),
                    linger: Duration::from_secs(33),
                    t1: Duration::from_millis(500),
                    plays: self.stage.plays,
                    product: "Causeway".into(),
                },
                run,
            };
            let tokens = Tokens::seeded(self.stage.seed << 8 | u64::from(self.restarts) << 4 | number as u64);
            let ports = MediaPorts::new([near, far]);
            let observer = Observer::new(observer, Arc::clone(&metrics));
            self.cores.push(Core::new(settings, Arc::clone(&self.policy), ports, tokens, observer));
            self.metrics.push(metrics);
        }
        for core in 0..self.cores.len() {
            self.turn(core, Core::begin);
        }
    }

    /// What was written of all calls, once the scenario has come to its end.
    pub fn records(&self) -> &[CallRecord] {
        &self.written
    }

    fn share(&self, core: u16) -> Share {
        Share { core: CoreId(core), cores: self.stage.cores }
    }

    /// What changes about a trunk while its settings stay.
    pub fn trunk(&self, name: &str) -> Arc<TrunkStanding> {
        let (id, _) = self.policy.trunk_named(name).expect("a trunk of the scene");
        Arc::clone(self.policy.standing(id).expect("it has a standing"))
    }

    /// What is known of a trunk's peers, in their order.
    pub fn states(&self, name: &str) -> Vec<TargetState> {
        let (id, _) = self.policy.trunk_named(name).expect("a trunk of the scene");
        self.policy.peers(id).flat_map(|view| view.targets).map(|target| target.standing.state()).collect()
    }

    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    pub fn calls(&self) -> usize {
        self.cores.iter().map(Core::calls).sum()
    }

    pub fn cores(&self) -> impl Iterator<Item = &Core> {
        self.cores.iter()
    }

    pub fn total(&self, metric: &str) -> u64 {
        self.metrics.iter().map(|metrics| metrics.total(metric)).sum()
    }

    /// Lets so many milliseconds pass.
    pub fn run(&mut self, milliseconds: u64) {
        self.run_until(self.now + Duration::from_millis(milliseconds));
    }

    fn run_until(&mut self, end: Time) {
        self.post();
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<Time> {
        let phones = self.phones.iter().filter_map(Phone::next_deadline);
        let cores = self.cores.iter().filter_map(Core::next_deadline);
        phones.chain(cores).chain(self.network.next_arrival()).min()
    }

    fn step(&mut self) {
        while let Some(datagram) = self.network.arrive(self.now) {
            self.deliver(&datagram);
        }
        let now = self.now;
        self.phones.iter_mut().for_each(|phone| phone.expire(now));
        self.post();
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| core.expire(turn));
        }
    }

    /// Cores read what others have for them before anything else happens.
    fn run_errands(&mut self) {
        while let Some((core, errand)) = self.errands.pop_front() {
            self.turn_alone(usize::from(core.0), |core, turn| core.errand(turn, errand));
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let now = self.now;
        if let Some(phone) = self.phones.iter_mut().find(|phone| phone.address == datagram.to) {
            phone.receive(now, &datagram.bytes);
            return self.post();
        }
        let hop = self.connections.hop(&self.policy, datagram.to, datagram.from);
        self.tap.arrived(now, datagram.from, &datagram.bytes);
        let owner = shallow(&datagram.bytes).map_or(0, |found| self.share(0).owner(found.as_bytes()).0);
        match parse(&datagram.bytes) {
            Ok(message) => self.turn(usize::from(owner), |core, turn| core.receive(turn, message, hop)),
            Err(error) => {
                self.turn(usize::from(owner), |core, turn| core.refuse_malformed(turn, &error, hop))
            }
        }
    }

    fn turn(&mut self, core: usize, work: impl FnOnce(&mut Core, &mut Turn<'_>)) {
        self.turn_alone(core, work);
        self.run_errands();
        self.broken.extend(self.tap.broken_media(&self.flows));
        self.broken.extend(self.broken_registrations());
    }

    fn turn_alone(&mut self, core: usize, work: impl FnOnce(&mut Core, &mut Turn<'_>)) {
        let mut left = self.work(core, work);
        loop {
            if let Some(call) = left.wrecks.pop() {
                self.note("causeway: a call panicked".to_owned());
                let saved = self.checkpoints.get(&call).map(|bytes| read(bytes));
                let more = self.work(core, |core, turn| core.clear_wreck(turn, call, saved));
                left.join(more);
            } else if let Some(hop) = left.failed.pop() {
                let more = self.work(core, |core, turn| core.transport_failed(turn, hop));
                left.join(more);
            } else {
                break;
            }
        }
    }

    /// One turn of a core, and what is left to do behind it.
    fn work(&mut self, core: usize, work: impl FnOnce(&mut Core, &mut Turn<'_>)) -> Left {
        let mut out = Outbox::default();
        let mut failed = Vec::new();
        self.flows.now = self.now;
        work(&mut self.cores[core], &mut Turn { now: self.now, flows: &mut self.flows, out: &mut out });
        for line in std::mem::take(&mut self.flows.log) {
            self.note(format!("media {line}"));
        }
        for (hop, bytes) in out.sends {
            if self.connections.takes(&hop) {
                self.send(hop.local, hop.remote, bytes.to_vec());
            } else {
                failed.push(hop);
            }
        }
        self.errands.extend(out.errands);
        for change in out.checkpoints {
            match change {
                CheckpointChange::Put { call, bytes } => self.checkpoints.insert(call, bytes),
                CheckpointChange::Remove { call } => self.checkpoints.remove(&call),
            };
        }
        Left { wrecks: out.wrecks, failed }
    }

    /// Takes what the phones left for the network.
    fn post(&mut self) {
        for phone in 0..self.phones.len() {
            let Phone { address, gateway, .. } = self.phones[phone];
            for bytes in std::mem::take(&mut self.phones[phone].outbox) {
                self.send(address, gateway, bytes);
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.tap.now = self.now;
        self.tap.hear(from, to, &bytes);
        let again = if self.seen.insert((from, to, bytes.clone())) { "" } else { ", again" };
        let line = format!("{} → {}: {}{again}", self.name(from), self.name(to), ladder::summary(&bytes));
        if (self.loses)(&String::from_utf8_lossy(&bytes)) {
            return self.note(format!("{line}, lost"));
        }
        let datagram = Datagram { from, to, bytes };
        if self.connections.is_stream(&self.policy, from, to) {
            self.network.stream(self.now, datagram);
            return self.note(line);
        }
        let fate = match self.network.send(self.now, datagram) {
            Fate::Carried => "",
            Fate::Lost => ", lost",
            Fate::Repeated => ", twice",
        };
        self.note(format!("{line}{fate}"));
    }
}

fn read(bytes: &[u8]) -> Saved {
    Saved::read(bytes).expect("the core wrote it")
}

/// Of one turn of a core.
struct Left {
    wrecks: Vec<CallId>,
    /// What could not be sent went by these.
    failed: Vec<Hop>,
}

impl Left {
    fn join(&mut self, other: Self) {
        self.wrecks.extend(other.wrecks);
        self.failed.extend(other.failed);
    }
}
