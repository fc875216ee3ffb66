//! Asking peers by OPTIONS whether they serve calls: a state machine that is fed answers and time.
//!
//! Each address of each peer is asked by one core, told by a hash, and what that core finds stands where all cores
//! see it. Requests carry what Teams wants of them: our name in Contact, with port and transport, without user part.

use super::health::{Finding, Memory, is_failure};
use super::standing::Drainable as _;
use super::{Health, PeerView, Snapshot, Target, TargetState, Trunk};
use crate::base::id::TrunkId;
use crate::base::share::Share;
use crate::base::time::Time;
use crate::base::timer::TimerTable;
use crate::base::token::Tokens;
use crate::observe::{ProbeOutcome, TrunkEvent};
use crate::sip::message::{Contact, Draft, HeaderName, Host, Method, NameAddr, Uri};
use crate::sip::transport::Hop;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One OPTIONS to be sent; what becomes of it comes back under `id`.
#[derive(Debug)]
pub struct Probe {
    pub id: ProbeId,
    pub draft: Draft,
    pub hop: Hop,
}

/// Which OPTIONS an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeId {
    watch: u32,
    serial: u32,
}

/// What the probes of a node have in common.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    pub share: Share,
    /// Methods that we serve.
    pub allow: &'static str,
    /// For User-Agent.
    pub product: Arc<str>,
}

/// The addresses that one core asks.
#[derive(Debug)]
pub struct Prober {
    settings: ProbeSettings,
    policy: Arc<Snapshot>,
    watches: BTreeMap<u32, Watch>,
    timers: TimerTable<(u32, Alarm)>,
    watched: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Alarm {
    /// Time for the next OPTIONS.
    Ask,
    /// The last one had its time.
    Silence,
}

/// One address under observation.
#[derive(Debug)]
struct Watch {
    subject: Subject,
    trunk: TrunkId,
    /// Position in the trunk.
    peer: usize,
    memory: Memory,
    serial: u32,
    /// When the OPTIONS was sent whose answer is awaited.
    pending: Option<Time>,
}

/// What an address is recognized by after a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    trunk: Arc<str>,
    peer: Arc<str>,
    address: SocketAddr,
}

/// From one first OPTIONS to the next, so that a start with many peers is no burst.
const STAGGER: Duration = Duration::from_millis(10);

impl Prober {
    pub fn new(settings: ProbeSettings, policy: Arc<Snapshot>, now: Time) -> Self {
        let (watches, timers) = (BTreeMap::new(), TimerTable::default());
        let mut prober = Self { settings, policy: Arc::clone(&policy), watches, timers, watched: 0 };
        prober.follow(policy, now);
        prober
    }

    /// Asks the peers of `policy` from now on: new ones at once, others when their time comes.
    pub fn follow(&mut self, policy: Arc<Snapshot>, now: Time) {
        let mut before = std::mem::take(&mut self.watches);
        let mut fresh = 0;
        for (trunk, settings) in policy.trunks() {
            for (position, view) in policy.peers(trunk).enumerate() {
                for target in view.targets {
                    let subject = Subject::of(settings, &view, target);
                    if self.settings.share.owner(&subject.key()) != self.settings.share.core {
                        continue;
                    }
                    if settings.health.interval.is_none() {
                        // What was found before the operator stopped asking is nobody's to take back later.
                        target.standing.set_state(TargetState::Unknown);
                        continue;
                    }
                    let known = before.iter().find(|(_, watch)| watch.subject == subject);
                    if let Some(mut watch) = known.map(|(id, _)| *id).and_then(|id| before.remove_entry(&id))
                    {
                        (watch.1.trunk, watch.1.peer) = (trunk, position);
                        self.watches.insert(watch.0, watch.1);
                        continue;
                    }
                    self.watched = self.watched.wrapping_add(1);
                    let memory = Memory::of(target.standing.state());
                    let watch = Watch { subject, trunk, peer: position, memory, serial: 0, pending: None };
                    self.watches.insert(self.watched, watch);
                    self.timers.arm((self.watched, Alarm::Ask), now + STAGGER * fresh);
                    fresh += 1;
                }
            }
        }
        for gone in before.into_keys() {
            self.timers.disarm((gone, Alarm::Ask));
            self.timers.disarm((gone, Alarm::Silence));
        }
        self.policy = policy;
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Whether no answer is awaited.
    pub fn is_quiet(&self) -> bool {
        self.watches.values().all(|watch| watch.pending.is_none())
    }

    /// Pushes the OPTIONS whose time has come, and what silence says. A node that `drains` asks nobody, and neither
    /// does a drained trunk: peers that look at our OPTIONS send their calls elsewhere then.
    pub fn expire(
        &mut self,
        now: Time,
        drains: bool,
        tokens: &mut Tokens,
        probes: &mut Vec<Probe>,
        events: &mut Vec<TrunkEvent>,
    ) {
        while let Some((watch, alarm)) = self.timers.expire(now) {
            match alarm {
                Alarm::Ask => probes.extend(self.ask(watch, now, drains, tokens)),
                Alarm::Silence => self.hear(watch, ProbeOutcome::Silence, now, events),
            }
        }
    }

    /// What became of an OPTIONS. Only the first outcome of the newest one counts.
    pub fn outcome(&mut self, id: ProbeId, outcome: ProbeOutcome, now: Time, events: &mut Vec<TrunkEvent>) {
        if self.watches.get(&id.watch).is_some_and(|watch| watch.serial == id.serial) {
            self.hear(id.watch, outcome, now, events);
        }
    }

    fn ask(&mut self, id: u32, now: Time, drains: bool, tokens: &mut Tokens) -> Option<Probe> {
        let watch = self.watches.get_mut(&id)?;
        let trunk = self.policy.trunk(watch.trunk)?;
        let interval = trunk.health.interval?;
        self.timers.arm((id, Alarm::Ask), now + interval);
        if drains || self.policy.standing(watch.trunk)?.is_drained() {
            return None;
        }
        watch.serial = watch.serial.wrapping_add(1);
        watch.pending = Some(now);
        self.timers.arm((id, Alarm::Silence), now + trunk.health.timeout);
        let view = self.policy.peers(watch.trunk).nth(watch.peer)?;
        let address = watch.subject.address;
        let draft = options(&self.settings, trunk, target_uri(&view, address), tokens);
        let hop = Hop { transport: trunk.transport, local: trunk.listen, remote: address, connection: None };
        Some(Probe { id: ProbeId { watch: id, serial: watch.serial }, draft, hop })
    }

    fn hear(&mut self, id: u32, outcome: ProbeOutcome, now: Time, events: &mut Vec<TrunkEvent>) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let Some(asked) = watch.pending.take() else { return };
        self.timers.disarm((id, Alarm::Silence));
        let Some(trunk) = self.policy.trunk(watch.trunk) else { return };
        let finding = watch.memory.hear(&trunk.health, outcome);
        let views = self.policy.peers(watch.trunk).nth(watch.peer);
        let target =
            views.and_then(|view| view.targets.iter().find(|target| target.address == watch.subject.address));
        if let Some(target) = target {
            let status = match outcome {
                ProbeOutcome::Answered(status) => Some(status),
                ProbeOutcome::Silence | ProbeOutcome::Unreachable => None,
            };
            target.standing.note_probe(asked, status);
            target.standing.set_state(watch.memory.state());
        }
        if watch.memory.is_uneasy() {
            let next = (asked + pause(&trunk.health)).max(now);
            self.timers.arm((id, Alarm::Ask), next);
        }
        events.push(TrunkEvent::Probed { failed: is_failure(outcome) });
        events.extend(finding.map(|finding| told(&watch.subject, trunk, finding, outcome)));
    }
}

/// Until the next question to an address that failed.
fn pause(health: &Health) -> Duration {
    health.interval.map_or(health.retry, |interval| interval.min(health.retry))
}

impl Subject {
    fn of(trunk: &Trunk, view: &PeerView<'_>, target: &Target) -> Self {
        let (trunk, peer) = (trunk.name.as_str().into(), view.peer.name.as_str().into());
        Self { trunk, peer, address: target.address }
    }

    /// What the core that asks is found by.
    fn key(&self) -> Vec<u8> {
        format!("{} {} {}", self.trunk, self.peer, self.address).into_bytes()
    }
}

fn told(subject: &Subject, trunk: &Trunk, finding: Finding, outcome: ProbeOutcome) -> TrunkEvent {
    let Subject { trunk: name, peer, address } = subject.clone();
    match finding {
        Finding::WentUp => TrunkEvent::PeerUp { trunk: name, peer, address },
        Finding::WentDown => TrunkEvent::PeerDown { trunk: name, peer, address, outcome },
        Finding::Refused => TrunkEvent::ContactRefused {
            trunk: name,
            peer,
            address,
            contact: trunk.sent_by().to_string().into(),
        },
    }
}

/// A URI of the peer, without user part.
fn target_uri(view: &PeerView<'_>, address: SocketAddr) -> Uri {
    match view.peer.address.authority() {
        Some((name, port)) => Uri::sip(None, name.parse().unwrap_or_else(|_| Host::from(address.ip())), port),
        None => Uri::sip(None, address.ip(), Some(address.port())),
    }
}

/// RFC 3261 section 11.1. Contact is optional there; Teams looks our name up by it.
fn options(settings: &ProbeSettings, trunk: &Trunk, target: Uri, tokens: &mut Tokens) -> Draft {
    let from = NameAddr::new(trunk.own_uri(None)).with_tag(&tokens.token());
    let to = NameAddr::new(target.clone());
    let call_id = settings.share.call_id(tokens);
    let mut draft = Draft::new(Method::Options, target, from, to, call_id, 1);
    draft.contact = Contact::one(trunk.contact());
    draft.headers.push(HeaderName::Allow, settings.allow);
    draft.headers.push(HeaderName::Accept, "application/sdp");
    draft.headers.push(HeaderName::UserAgent, &*settings.product);
    trunk.sign(&mut draft);
    draft
}

#[cfg(test)]
mod tests {
    use super::super::Advertised;
    use super::super::trunk::tests::trunk;
    use super::*;
    use crate::base::id::CoreId;
    use crate::sip::transport::Transport;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_secs(60);

    /// A prober on virtual time.
    struct Rig {
        prober: Prober,
        tokens: Tokens,
        now: Time,
        policy: Arc<Snapshot>,
    }

    fn policy(peers: &[&str]) -> Snapshot {
        let mut teams = trunk("teams", "203.0.113.1:5061", peers);
        teams.transport = Transport::Tcp;
        teams.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5061 });
        teams.health = Health { interval: Some(INTERVAL), ..Health::default() };
        Snapshot::new(vec![teams], Vec::new()).unwrap()
    }

    fn settings(share: Share) -> ProbeSettings {
        ProbeSettings {
            share,
            allow: "INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY",
            product: "Causeway".into(),
        }
    }

    impl Rig {
        fn new(peers: &[&str]) -> Self {
            let policy = Arc::new(policy(peers));
            let share = Share { core: CoreId(0), cores: 1 };
            let now = Time(1_000_000);
            let prober = Prober::new(settings(share), Arc::clone(&policy), now);
            Self { prober, tokens: Tokens::seeded(1), now, policy }
        }

        /// Lets time pass; the OPTIONS that were sent by then, and what was told.
        fn pass(&mut self, span: Duration, drains: bool) -> (Vec<Probe>, Vec<TrunkEvent>) {
            self.now = self.now + span;
            let (mut probes, mut events) = (Vec::new(), Vec::new());
            self.prober.expire(self.now, drains, &mut self.tokens, &mut probes, &mut events);
            events.retain(|event| !matches!(event, TrunkEvent::Probed { .. }));
            (probes, events)
        }

        fn hear(&mut self, probe: &Probe, status: u16) -> Vec<TrunkEvent> {
            let mut events = Vec::new();
            self.prober.outcome(probe.id, ProbeOutcome::Answered(status), self.now, &mut events);
            events.retain(|event| !matches!(event, TrunkEvent::Probed { .. }));
            events
        }

        fn state(&self, peer: usize) -> TargetState {
            self.policy.peers(TrunkId(0)).nth(peer).unwrap().targets[0].standing.state()
        }
    }

    // Statement 24.
    #[test]
    fn every_peer_is_asked_at_the_start_and_then_at_each_interval() {
        let mut rig = Rig::new(&["198.51.100.1:5061", "198.51.100.2:5061", "198.51.100.3:5061"]);
        let (first, _) = rig.pass(STAGGER * 2, false);
        let asked: Vec<_> = first.iter().map(|probe| probe.hop.remote.to_string()).collect();
        assert_eq!(asked, ["198.51.100.1:5061", "198.51.100.2:5061", "198.51.100.3:5061"]);
        for probe in &first {
            rig.hear(probe, 200);
        }
        assert!(rig.pass(INTERVAL - SECOND, false).0.is_empty());
        assert_eq!(rig.pass(SECOND * 2, false).0.len(), 3);
    }

    // Statements 25, 26, 27.
    #[test]
    fn the_request_names_us_by_name_port_and_transport_and_no_uri_has_a_user_part() {
        let mut rig = Rig::new(&["198.51.100.1:5061"]);
        let probe = rig.pass(SECOND, false).0.remove(0);
        let draft = &probe.draft;
        let contact = draft.contact.first().unwrap().to_string();
        assert_eq!(contact, "<sip:sbc1.corp.example:5061;transport=tcp>");
        assert_eq!(draft.uri.to_string(), "sip:198.51.100.1:5061");
        assert_eq!(draft.from.uri.to_string(), "sip:sbc1.corp.example:5061");
        assert_eq!(draft.to.uri.to_string(), "sip:198.51.100.1:5061");
        assert!([&draft.uri, &draft.from.uri, &draft.to.uri].iter().all(|uri| uri.user().is_none()));
        assert_eq!(
            draft.sent_by.as_ref().map(|(host, port)| format!("{host}:{port}")).as_deref(),
            Some("sbc1.corp.example:5061")
        );
        let allowed = draft.headers.allowed_methods().unwrap();
        assert!(allowed.contains(&Method::Refer) && allowed.contains(&Method::Notify));
    }

    // Statement 30.
    #[test]
    fn a_silent_peer_is_asked_sooner_goes_down_once_and_comes_up_on_an_answer() {
        let mut rig = Rig::new(&["198.51.100.1:5061"]);
        assert_eq!(rig.pass(Duration::ZERO, false).0.len(), 1);
        assert!(rig.pass(SECOND * 4, false).1.is_empty());
        assert_eq!(rig.pass(SECOND * 6, false).0.len(), 1, "ten seconds after the first");
        let (_, told) = rig.pass(SECOND * 4, false);
        assert!(
            matches!(&told[..], [TrunkEvent::PeerDown { peer, outcome: ProbeOutcome::Silence, .. }] if &**peer == "198.51.100.1:5061")
        );
        assert_eq!(rig.state(0), TargetState::Down);
        let probe = rig.pass(SECOND * 6, false).0.remove(0);
        assert!(matches!(&rig.hear(&probe, 200)[..], [TrunkEvent::PeerUp { .. }]));
        assert_eq!(rig.state(0), TargetState::Up);
        assert!(rig.hear(&probe, 503).is_empty(), "an OPTIONS has one outcome");
        assert!(rig.pass(SECOND * 59, false).0.is_empty() && rig.prober.is_quiet());
    }

    // Statement 31.
    #[test]
    fn a_403_raises_an_alarm_that_names_our_contact() {
        let mut rig = Rig::new(&["198.51.100.1:5061"]);
        let probe = rig.pass(SECOND, false).0.remove(0);
        let told = rig.hear(&probe, 403);
        assert!(
            matches!(&told[..], [TrunkEvent::ContactRefused { contact, .. }] if &**contact == "sbc1.corp.example:5061")
        );
    }

    // Statement 32.
    #[test]
    fn a_drained_trunk_and_a_draining_node_ask_nobody_until_they_are_undrained() {
        let mut rig = Rig::new(&["198.51.100.1:5061"]);
        let first = rig.pass(SECOND, false).0.remove(0);
        rig.hear(&first, 200);
        assert!(rig.pass(INTERVAL, true).0.is_empty());
        let trunk = Arc::clone(rig.policy.standing(TrunkId(0)).unwrap());
        trunk.drain(true);
        assert!(rig.pass(INTERVAL, false).0.is_empty());
        trunk.drain(false);
        assert_eq!(rig.pass(INTERVAL, false).0.len(), 1);
        assert_eq!(rig.state(0), TargetState::Up);
    }

    #[test]
    fn each_address_is_asked_by_exactly_one_core() {
        let peers: Vec<String> = (1..=40).map(|last| format!("198.51.100.{last}:5061")).collect();
        let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
        let policy = Arc::new(policy(&peers));
        let mut asked = Vec::new();
        for core in 0..4 {
            let share = Share { core: CoreId(core), cores: 4 };
            let mut prober = Prober::new(settings(share), Arc::clone(&policy), Time::ZERO);
            let mut probes = Vec::new();
            prober.expire(Time::ZERO + SECOND, false, &mut Tokens::seeded(1), &mut probes, &mut Vec::new());
            assert!(!probes.is_empty(), "core {core} asks nobody");
            assert!(probes.iter().all(|probe| share.owner(probe.draft.call_id.as_bytes()) == share.core));
            asked.extend(probes.iter().map(|probe| probe.hop.remote));
        }
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), peers.len());
    }

    #[test]
    fn a_reload_keeps_what_is_known_asks_new_peers_at_once_and_forgets_those_gone() {
        let mut rig = Rig::new(&["198.51.100.1:5061", "198.51.100.2:5061"]);
        let probes = rig.pass(SECOND, false).0;
        probes.iter().for_each(|probe| drop(rig.hear(probe, 200)));
        let next = policy(&["198.51.100.3:5061", "198.51.100.1:5061"]).succeed(&rig.policy);
        rig.policy = Arc::new(next);
        rig.prober.follow(Arc::clone(&rig.policy), rig.now);
        let asked: Vec<_> =
            rig.pass(SECOND, false).0.iter().map(|probe| probe.hop.remote.to_string()).collect();
        assert_eq!(asked, ["198.51.100.3:5061"]);
        assert_eq!([rig.state(0), rig.state(1)], [TargetState::Unknown, TargetState::Up]);
        assert_eq!(rig.pass(INTERVAL, false).0.len(), 2, "the one gone is asked no more");
    }
}
