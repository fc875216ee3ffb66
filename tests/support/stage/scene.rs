//! A whole scenario on virtual time: cores in the middle, phones around them, a network between; a ladder of what
//! happened, and what must hold after any of it.

use super::flows::MemoryFlows;
use super::phone::Phone;
use super::session::{Session, direction_of, media_of};
use super::tap::Tap;
use super::weather::{Datagram, Fate, Network, Weather};
use crossbeam::channel::{Receiver, Sender, unbounded};
use gateway_userspace::base::fault::Fault;
use gateway_userspace::base::id::{CallId, CoreId, TrunkId};
use gateway_userspace::base::share::Share;
use gateway_userspace::base::time::Time;
use gateway_userspace::base::token::Tokens;
use gateway_userspace::call::{CallSettings, Checkpoint, MediaPorts};
use gateway_userspace::media::{MediaPolicy, PortPool};
use gateway_userspace::observe::cdr::CallRecord;
use gateway_userspace::observe::clock::WallClock;
use gateway_userspace::observe::metrics::CoreMetrics;
use gateway_userspace::observe::{Observer, ObserverSettings};
use gateway_userspace::policy::{
    Emergency, Health, Peer, Route, Snapshot, TargetState, Trunk, TrunkStanding,
};
use gateway_userspace::runtime::admission::Quota;
use gateway_userspace::runtime::core::{CheckpointChange, Core, CoreSettings, Outbox, Turn};
use gateway_userspace::sip::message::{Message, Response, parse, shallow};
use gateway_userspace::sip::transaction::Settings as TransactionSettings;
use gateway_userspace::sip::transport::{Hop, Transport};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The caller, on the operator's side.
pub const ALICE: usize = 0;
/// The peer of the service side that is tried first.
pub const BOB: usize = 1;
/// The peer of the service side that is tried next.
pub const CAROL: usize = 2;
/// In nobody's configuration.
pub const MALLORY: usize = 3;

pub const BOBS_NUMBER: &str = "+12025550147";
pub const ALICES_NUMBER: &str = "+441632960123";

const OPERATOR: &str = "192.0.2.1:5060";
const SERVICE: &str = "203.0.113.1:5060";
const RUN_LIMIT: Duration = Duration::from_secs(3_600);

/// What differs from one scenario to the next.
#[derive(Clone, Debug)]
pub struct Stage {
    pub cores: u16,
    pub weather: Weather,
    pub seed: u64,
    pub max_calls: usize,
    pub quota: Quota,
    pub emergency_numbers: &'static [&'static str],
    pub media_timeout: Duration,
    pub ports: RangeInclusive<u16>,
    /// Ends the scenario without asking whether the phones complain, for those who misbehave on purpose.
    pub phones_may_complain: bool,
    /// What the operator's and the service's trunk have other than the usual.
    pub operator: fn(&mut Trunk),
    pub service: fn(&mut Trunk),
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            cores: 1,
            weather: Weather::FAIR,
            seed: 1,
            max_calls: 100,
            quota: Quota::default(),
            emergency_numbers: &[],
            media_timeout: Duration::from_secs(60),
            ports: 20_000..=20_099,
            phones_may_complain: false,
            operator: |_| {},
            service: |_| {},
        }
    }
}

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
    seen: HashSet<(SocketAddr, SocketAddr, Vec<u8>)>,
    records: (Sender<CallRecord>, Receiver<CallRecord>),
    checkpoints: BTreeMap<CallId, Vec<u8>>,
    restarts: u32,
    /// Calls that were not answered yet when their daemon was killed: nobody is left to write their records.
    lost: usize,
}

/// What is left when the curtain falls.
#[derive(Debug)]
pub struct Outcome {
    pub ladder: String,
    pub records: Vec<CallRecord>,
}

impl Scene {
    pub fn new(stage: Stage) -> Self {
        let policy = Arc::new(policy(&stage));
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
            ],
            metrics: Vec::new(),
            ladder: Vec::new(),
            loses: |_| false,
            cores: Vec::new(),
            policy,
            network: Network::new(stage.weather, stage.seed),
            tap: Tap::default(),
            seen: HashSet::new(),
            records: unbounded(),
            checkpoints: BTreeMap::new(),
            restarts: 0,
            lost: 0,
            stage,
        };
        scene.boot();
        scene
    }

    /// Daemons come and go: the calls that were answered are taken over from what the last one wrote down.
    pub fn restart(&mut self) {
        self.restarts += 1;
        self.tap.daemons += 1;
        let live: u64 = self.metrics.iter().map(|metrics| metrics.calls()).sum();
        self.lost += live as usize - self.checkpoints.len();
        self.note("causeway: killed and started again".to_owned());
        self.boot();
        let read = |bytes: &Vec<u8>| serde_json::from_slice(bytes).expect("the core wrote it");
        let checkpoints: Vec<Checkpoint> = self.checkpoints.values().map(read).collect();
        let kept: Vec<_> = checkpoints.iter().flat_map(|checkpoint| checkpoint.flows.clone()).collect();
        self.flows.sweep(&kept);
        for checkpoint in checkpoints {
            let core = self.share(0).owner(checkpoint.sip_call_id().as_bytes());
            let mut adopted = Ok(());
            self.turn(usize::from(core.0), |core, turn| adopted = core.adopt(turn, checkpoint));
            adopted.expect("the configuration has not changed");
        }
    }

    fn boot(&mut self) {
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
                clock: WallClock::new(Time::ZERO, UNIX_EPOCH),
                keep_ended: 0,
                records: self.records.0.clone(),
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
                    product: "Causeway".into(),
                },
                run: 1 + self.restarts,
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

    fn share(&self, core: u16) -> Share {
        Share { core: CoreId(core), cores: self.stage.cores }
    }

    // What a scenario says.

    pub fn bob(&mut self) -> &mut Phone {
        &mut self.phones[BOB]
    }

    pub fn carol(&mut self) -> &mut Phone {
        &mut self.phones[CAROL]
    }

    pub fn alice(&mut self) -> &mut Phone {
        &mut self.phones[ALICE]
    }

    /// Alice calls the number that leads to Bob, and Carol after him.
    pub fn alice_calls(&mut self) {
        let now = self.now;
        self.alice().call(now, BOBS_NUMBER, true);
        self.post();
    }

    /// Alice calls any number.
    pub fn alice_dials(&mut self, number: &str) {
        let now = self.now;
        self.alice().call(now, number, true);
        self.post();
    }

    /// Bob calls the number that leads to Alice.
    pub fn bob_calls_alice(&mut self) {
        let now = self.now;
        self.bob().call(now, ALICES_NUMBER, true);
        self.post();
    }

    /// Alice calls, Bob answers, five seconds pass.
    pub fn talk(&mut self) {
        self.alice_calls();
        self.run(5_000);
        assert!(
            self.phones[ALICE].is_talking() && self.phones[BOB].is_talking(),
            "{}",
            self.ladder.join("\n")
        );
    }

    pub fn hangs_up(&mut self, phone: usize) {
        let now = self.now;
        self.phones[phone].hang_up(now);
        self.post();
    }

    pub fn cancels(&mut self, phone: usize) {
        let now = self.now;
        self.phones[phone].cancel(now);
        self.post();
    }

    /// As [`Scene::hangs_up`] and [`Scene::cancels`], with a further header line.
    pub fn leaves(&mut self, phone: usize, line: &str) {
        self.phones[phone].last_line = line.to_owned();
        self.hangs_up(phone);
    }

    pub fn cancels_with(&mut self, phone: usize, line: &str) {
        self.phones[phone].last_line = line.to_owned();
        self.cancels(phone);
    }

    pub fn reinvites(&mut self, phone: usize, session: Session) {
        let now = self.now;
        self.phones[phone].reinvite(now, Some(session));
        self.post();
    }

    /// A phone asks something inside its last dialog, with an extra header line.
    pub fn asks(&mut self, phone: usize, method: &'static str, header: &str) {
        let now = self.now;
        self.phones[phone].ask(now, method, header);
        self.post();
    }

    /// A phone sends an UPDATE inside its last dialog.
    pub fn updates(&mut self, phone: usize, session: Option<Session>) {
        let now = self.now;
        self.phones[phone].update(now, session);
        self.post();
    }

    /// A phone sends a request with an offer inside its last dialog.
    pub fn offers(&mut self, phone: usize, method: &'static str, session: Session, header: &str) {
        let now = self.now;
        self.phones[phone].offer(now, method, session, header);
        self.post();
    }

    /// A phone sends text.
    pub fn says(&mut self, phone: usize, text: &str) {
        self.phones[phone].say(text);
        self.post();
    }

    /// Nobody hears either side from now on, or hears it again.
    pub fn media(&mut self, flows: bool) {
        self.flows.silent_since = [(!flows).then_some(self.now); 2];
    }

    pub fn drain(&mut self) {
        let now = self.now;
        self.cores.iter_mut().for_each(|core| core.drain(now));
    }

    pub fn undrain(&mut self) {
        let now = self.now;
        self.cores.iter_mut().for_each(|core| core.undrain(now));
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

    /// Nobody is asked by OPTIONS any more: otherwise no scenario would come to its end.
    fn stop_asking(&mut self) {
        let quiet = |(_, trunk): (TrunkId, &Trunk)| Trunk { health: Health::default(), ..trunk.clone() };
        let trunks = self.policy.trunks().map(quiet).collect();
        let policy = Snapshot::new(trunks, routes()).expect("the policy was sound").succeed(&self.policy);
        self.policy = Arc::new(policy);
        let (now, policy) = (self.now, Arc::clone(&self.policy));
        self.cores.iter_mut().for_each(|core| core.set_policy(now, Arc::clone(&policy)));
    }

    pub fn hang_up_call(&mut self, fault: Fault) {
        assert!(!self.checkpoints.is_empty(), "no call was answered");
        self.hang_up_any(fault);
    }

    /// Ends an answered call from our side, if there is one.
    pub fn hang_up_any(&mut self, fault: Fault) {
        let Some(call) = self.checkpoints.keys().next().copied() else { return };
        let mut known = 0;
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| known += u32::from(core.hang_up(turn, call, fault)));
        }
        assert_eq!(known, 1, "a call has one core");
    }

    /// What the network says about a host that is not there.
    pub fn unreachable(&mut self, phone: usize) {
        let remote = self.phones[phone].address;
        let local = self.phones[phone].gateway;
        let hop = Hop { transport: Transport::Udp, local, remote, connection: None };
        for core in 0..self.cores.len() {
            self.turn(core, |core, turn| core.transport_failed(turn, hop));
        }
    }

    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    pub fn calls(&self) -> usize {
        self.cores.iter().map(Core::calls).sum()
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

    fn deliver(&mut self, datagram: &Datagram) {
        let now = self.now;
        if let Some(phone) = self.phones.iter_mut().find(|phone| phone.address == datagram.to) {
            phone.receive(now, &datagram.bytes);
            return self.post();
        }
        let hop =
            Hop { transport: Transport::Udp, local: datagram.to, remote: datagram.from, connection: None };
        let owner = shallow(&datagram.bytes).map_or(0, |found| self.share(0).owner(found.as_bytes()).0);
        match parse(&datagram.bytes) {
            Ok(message) => self.turn(usize::from(owner), |core, turn| core.receive(turn, message, hop)),
            Err(error) => {
                self.turn(usize::from(owner), |core, turn| core.refuse_malformed(turn, &error, hop))
            }
        }
    }

    fn turn(&mut self, core: usize, work: impl FnOnce(&mut Core, &mut Turn<'_>)) {
        let mut out = Outbox::default();
        self.flows.now = self.now;
        work(&mut self.cores[core], &mut Turn { now: self.now, flows: &mut self.flows, out: &mut out });
        for line in std::mem::take(&mut self.flows.log) {
            self.note(format!("media {line}"));
        }
        for (hop, bytes) in out.sends {
            self.send(hop.local, hop.remote, bytes.to_vec());
        }
        for change in out.checkpoints {
            match change {
                CheckpointChange::Put { call, bytes } => self.checkpoints.insert(call, bytes),
                CheckpointChange::Remove { call } => self.checkpoints.remove(&call),
            };
        }
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
        self.tap.hear(from, to, &bytes);
        let again = if self.seen.insert((from, to, bytes.clone())) { "" } else { ", again" };
        let line = format!("{} → {}: {}{again}", self.name(from), self.name(to), summary(&bytes));
        if (self.loses)(&String::from_utf8_lossy(&bytes)) {
            return self.note(format!("{line}, lost"));
        }
        let fate = match self.network.send(self.now, Datagram { from, to, bytes }) {
            Fate::Carried => "",
            Fate::Lost => ", lost",
            Fate::Repeated => ", twice",
        };
        self.note(format!("{line}{fate}"));
    }

    fn note(&mut self, line: String) {
        let seconds = (self.now.0 - 1_000_000) as f64 / 1e6;
        self.ladder.push(format!("{seconds:>8.3}  {line}"));
    }

    fn name(&self, address: SocketAddr) -> String {
        match self.phones.iter().find(|phone| phone.address == address) {
            Some(phone) => phone.name.to_owned(),
            None if [OPERATOR, SERVICE].contains(&address.to_string().as_str()) => "causeway".to_owned(),
            None => address.to_string(),
        }
    }

    /// Lets everything come to its end, and checks what must hold after any scenario.
    pub fn ends(mut self) -> Outcome {
        self.stop_asking();
        let limit = self.now + RUN_LIMIT;
        while let Some(next) = self.next_event() {
            assert!(next <= limit, "the scenario never ends\n{}", self.ladder.join("\n"));
            self.now = self.now.max(next);
            self.step();
        }
        let ladder = self.ladder.join("\n");
        let records: Vec<_> = self.records.1.try_iter().collect();
        let mut broken = self.tap.broken_rules();
        let mut must = |holds: bool, rule: String| {
            if !holds {
                broken.push(rule);
            }
        };
        for phone in &self.phones {
            must(phone.is_idle() || phone.dead, format!("{} is still in a call", phone.name));
            if !self.stage.phones_may_complain {
                must(
                    phone.complaints.is_empty(),
                    format!("{} complains: {:?}", phone.name, phone.complaints),
                );
            }
        }
        for core in &self.cores {
            must(core.calls() == 0, format!("{} calls are left in a core", core.calls()));
            must(core.is_clear(), "something of an ended call is left in a core".to_owned());
            must(
                core.ports().usage().0 == 0,
                format!("{} ports were not given back", core.ports().usage().0),
            );
        }
        must(self.flows.is_empty(), format!("{} flows are left", self.flows.len()));
        must(self.checkpoints.is_empty(), format!("{} checkpoints are left", self.checkpoints.len()));
        let calls: HashSet<_> = records.iter().map(|record| record.call.clone()).collect();
        must(calls.len() == records.len(), "a call has two records".to_owned());
        let begun = self.tap.calls_begun();
        let (lost, written) = (self.lost, calls.len());
        must(written + lost == begun, format!("{begun} calls begun, {lost} lost, {written} records"));
        assert!(broken.is_empty(), "{}\n\n{ladder}", broken.join("\n"));
        Outcome { ladder, records }
    }
}

fn policy(stage: &Stage) -> Snapshot {
    let trunk = |name: &str, listen: &str, media: &str, peers: &[&str]| Trunk {
        peers: (0..)
            .zip(peers)
            .map(|(priority, peer)| Peer::at(peer.parse().expect("an address"), priority))
            .collect(),
        media_address: media.parse().expect("an address"),
        media: MediaPolicy { offer_rtcp_mux: false, ..MediaPolicy::default() },
        ..Trunk::new(name, Transport::Udp, listen.parse().expect("an address"))
    };
    let mut trunks = vec![
        trunk("operator", OPERATOR, "192.0.2.2", &["198.51.100.10:5060"]),
        trunk("service", SERVICE, "203.0.113.2", &["198.18.0.20:5060", "198.18.0.30:5060"]),
    ];
    (stage.operator)(&mut trunks[0]);
    (stage.service)(&mut trunks[1]);
    let numbers = stage.emergency_numbers.iter().map(|number| (*number).to_owned()).collect();
    let emergency = Emergency { numbers, to: None };
    Snapshot::new(trunks, routes())
        .and_then(|policy| policy.with_emergency(emergency))
        .expect("a sound policy")
}

fn routes() -> Vec<Route> {
    let route =
        |prefix, from, to| Route::new(prefix, Some(TrunkId(from)), TrunkId(to)).expect("a sound prefix");
    // Numbers in +9 lead nowhere.
    vec![route("+1", 0, 1), route("+44", 1, 0)]
}

/// A message in a line.
fn summary(bytes: &[u8]) -> String {
    let message = match parse(bytes) {
        Ok(message) => message,
        Err(_) => return "what cannot be read".to_owned(),
    };
    let body = String::from_utf8_lossy(message.body()).into_owned();
    let session = match body.contains("m=audio") {
        true => format!(" [{} {}]", media_of(&body), direction_of(&body)),
        false => String::new(),
    };
    let cseq = &message.head().cseq;
    match &message {
        Message::Request(request) => format!("{} {}{session}", request.method, cseq.number),
        Message::Response(Response { status, .. }) => {
            format!("{status} to {} {}{session}", cseq.method, cseq.number)
        }
    }
}
