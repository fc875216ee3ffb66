//! A gateway in a namespace of its own: two media interfaces with VLANs, routes of every kind, neighbours that
//! are known; and both relays behind one door: the XDP program by test-run, the reference path as oracle.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::xdp::Xdp;
use aya::programs::{TestRun, TestRunOptions};
use aya_obj::programs::XdpAttachType;
use gateway_common::abi::{Link, name};
use gateway_common::admit;
use gateway_common::flow::{FlowSlot, NO_SLOT};
use gateway_common::learned::{FlowState, NextHop, StreamStatistics};
use gateway_common::shortcut::Shortcut;
use gateway_common::verdict::{Reason, Traffic};
use gateway_userspace::base::id::{CoreId, FlowId};
use gateway_userspace::dataplane::compile::{Compiled, Place, compile};
use gateway_userspace::dataplane::pod::Plain;
use gateway_userspace::dataplane::reference::Relay;
use gateway_userspace::dataplane::reference::frame::{Hop, Verdict};
use gateway_userspace::dataplane::{
    Dataplane, Guard, Mode, Node, Record, Settings, Watch, inspect, keys, monotonic,
};
use gateway_userspace::media::plan::FlowSpec;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use support::namespace::{Namespace, ip, without_ipv6};

pub const LAN: u32 = 11;
pub const WAN: u32 = 12;
pub const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Devices, addresses, routes and neighbours. Far ends:
/// * 192.0.2.10 and 2001:db8:1::10 on `lan`; 203.0.113.0/24 and 2001:db8:f::/48 behind routers on `wan`;
/// * 10.100.0.10 on VLAN 100 of `lan`, 10.200.0.10 and 2001:db8:200::10 on VLAN 300 inside 200 of `lan`;
/// * 192.0.2.77 has no link address; 10.9.0.10 is on `side`, which is no media interface;
///   Ordinary devices stand in for those VLANs, as not every kernel has the module; the test itself writes into
///   the table of ways out that they are VLANs;
/// * 203.0.113.128/25 takes packets of 600 octets at most.
const LAYOUT: &[&str] = &[
    "link add lan index 11 address 02:00:00:00:00:01 type veth peer name lan-far",
    "link add wan index 12 address 02:00:00:00:00:02 type veth peer name wan-far",
    "link add side index 16 type veth peer name side-far",
    "link add lan.100 index 13 address 02:00:00:00:00:01 type veth peer name lan100-far",
    "link add lan.300 index 15 address 02:00:00:00:00:01 type veth peer name lan300-far",
    "link set lan up",
    "link set wan up",
    "link set side up",
    "link set lan.100 up",
    "link set lan.300 up",
    "addr add 192.0.2.1/24 dev lan",
    "addr add 2001:db8:1::1/64 dev lan nodad",
    "addr add 198.51.100.1/24 dev wan",
    "addr add 2001:db8:2::1/64 dev wan nodad",
    "addr add 10.9.0.1/24 dev side",
    "addr add 10.100.0.1/24 dev lan.100",
    "addr add 10.200.0.1/24 dev lan.300",
    "addr add 2001:db8:200::1/64 dev lan.300 nodad",
    "neigh add 192.0.2.10 lladdr 02:00:00:00:01:10 dev lan nud permanent",
    "neigh add 192.0.2.11 lladdr 02:00:00:00:01:11 dev lan nud permanent",
    "neigh add 2001:db8:1::10 lladdr 02:00:00:00:01:60 dev lan nud permanent",
    "neigh add 198.51.100.254 lladdr 02:00:00:00:02:54 dev wan nud permanent",
    "neigh add 2001:db8:2::fe lladdr 02:00:00:00:02:64 dev wan nud permanent",
    "neigh add 10.9.0.10 lladdr 02:00:00:00:09:10 dev side nud permanent",
    "neigh add 10.100.0.10 lladdr 02:00:00:00:10:10 dev lan.100 nud permanent",
    "neigh add 10.200.0.10 lladdr 02:00:00:00:20:10 dev lan.300 nud permanent",
    "neigh add 2001:db8:200::10 lladdr 02:00:00:00:20:60 dev lan.300 nud permanent",
    "route add 203.0.113.0/24 via 198.51.100.254",
    "route add 203.0.113.128/25 via 198.51.100.254 mtu lock 600",
    "-6 route add 2001:db8:f::/48 via 2001:db8:2::fe",
    "route add blackhole 203.0.114.0/24",
    "route add unreachable 203.0.115.0/24",
    "route add prohibit 203.0.116.0/24",
];

/// The ways out of [`LAYOUT`], as the oracle knows them.
fn route(to: IpAddr) -> Result<Hop, Reason> {
    let text = to.to_string();
    let hop = |ifindex, from: [u8; 6], to: [u8; 6], tags: &[(u16, u16)], mtu| {
        let mut link_header = [to, from].concat();
        for (ether_type, identifier) in tags {
            link_header.extend(ether_type.to_be_bytes());
            link_header.extend(identifier.to_be_bytes());
        }
        link_header.extend(if text.contains(':') { [0x86, 0xdd] } else { [0x08, 0x00] });
        Ok(Hop { ifindex, link_header, mtu })
    };
    let far = |high, low| [2, 0, 0, 0, high, low];
    let inner: &[(u16, u16)] = &[(0x88a8, 200), (0x8100, 300)];
    match text.as_str() {
        "192.0.2.10" => hop(LAN, LAN_MAC, far(1, 0x10), &[], 1500),
        "192.0.2.11" => hop(LAN, LAN_MAC, far(1, 0x11), &[], 1500),
        "2001:db8:1::10" => hop(LAN, LAN_MAC, far(1, 0x60), &[], 1500),
        "10.100.0.10" => hop(LAN, LAN_MAC, far(0x10, 0x10), &[(0x8100, 100)], 1500),
        "10.200.0.10" => hop(LAN, LAN_MAC, far(0x20, 0x10), inner, 1500),
        "2001:db8:200::10" => hop(LAN, LAN_MAC, far(0x20, 0x60), inner, 1500),
        "10.9.0.10" => Err(Reason::NoTransmit),
        _ if text.starts_with("192.0.2.") && text != "192.0.2.1" => Err(Reason::NoNeighbour),
        _ if text.starts_with("203.0.113.") => {
            let small = text
                .rsplit('.')
                .next()
                .and_then(|last| last.parse().ok())
                .is_some_and(|last: u8| last >= 128);
            hop(WAN, WAN_MAC, far(2, 0x54), &[], if small { 600 } else { 1500 })
        }
        _ if text.starts_with("2001:db8:f:") => hop(WAN, WAN_MAC, far(2, 0x64), &[], 1500),
        _ if text.starts_with("203.0.114.") => Err(Reason::RouteBlackhole),
        _ if text.starts_with("203.0.115.") => Err(Reason::RouteUnreachable),
        _ if text.starts_with("203.0.116.") => Err(Reason::RouteRefused),
        _ => Err(Reason::NoRoute),
    }
}

/// What became of one frame, as both relays agree.
#[derive(Clone, Debug)]
pub struct Became {
    pub verdict: Verdict,
    pub records: Vec<Record>,
}

/// Both relays with the same flows.
pub struct Lab {
    pub dataplane: Dataplane,
    pub relay: Relay,
    pub installed: Vec<(FlowId, Compiled)>,
    pub guard: Guard,
    node: Option<Node>,
    program: Xdp,
    flows: Array<MapData, Plain<FlowSlot>>,
    /// Kernel states of the installed flows after the last packet.
    before: Vec<FlowState>,
    /// Index of the flow that heard the last frame.
    heard: Option<usize>,
    watch: Watch,
    pins: PathBuf,
    seen: Seen,
    _namespaces: [Namespace; 2],
}

/// Counters of the kernel as of the last packet, to be compared by difference.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Seen {
    drops: BTreeMap<Reason, u64>,
    traffic: BTreeMap<Traffic, u64>,
}

impl Lab {
    /// Moves the calling thread into a new namespace and boots a data plane there.
    pub fn new(name: &str) -> Result<Self> {
        let (gateway, far) = (Namespace::new()?, Namespace::new()?);
        gateway.enter()?;
        // The far side says nothing of its own accord, which the program would count as passed.
        far.inside(without_ipv6)?;
        for step in LAYOUT {
            ip(step)?;
            if let Some(device) = step.split_once("peer name ").map(|(_, device)| device) {
                far.take(device)?;
                far.inside(|| ip(&format!("link set {device} up")))?;
            }
        }
        let pins = PathBuf::from(format!("/sys/fs/bpf/causeway-test-{name}-{}", std::process::id()));
        let settings = Settings {
            mode: Mode::Native,
            flows: 1024,
            secured_flows: 1024,
            socket_frames: 64,
            pin_directory: pins.clone(),
            interfaces: vec!["lan".to_owned(), "wan".to_owned()],
            traced: false,
        };
        let node = Node::boot(&settings).context("boot the data plane")?;
        declare_links(&pins)?;
        let flows = MapData::from_pin(pins.join("maps").join(name::FLOWS))?;
        Ok(Self {
            dataplane: node.worker(CoreId(0), 1)?,
            relay: Relay::default(),
            installed: Vec::new(),
            guard: node.guard()?,
            program: Xdp::from_pin(pins.join("program"), XdpAttachType::Interface)?,
            flows: Map::Array(flows).try_into()?,
            before: Vec::new(),
            heard: None,
            watch: node.watch()?,
            node: Some(node),
            pins,
            seen: Seen::default(),
            _namespaces: [gateway, far],
        })
    }

    /// Installs the flows in both relays, in place of those before.
    pub fn install(&mut self, flows: &[FlowSpec]) -> Result<()> {
        let before: Vec<_> = self.installed.drain(..).collect();
        self.dataplane.remove(&before.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for (id, compiled) in before {
            self.relay.remove(compiled.key);
            self.relay.forget(id.slot);
            self.relay.wipe_keys(compiled.config.crypto_slot);
        }
        let ids = self.dataplane.install(flows)?;
        self.mirror(&ids, flows, false)
    }

    /// Has the configuration of the flow at this place of the plan say this too, in both relays.
    pub fn flag(&mut self, index: usize, flag: u16) -> Result<()> {
        let (id, compiled) = self.installed.get_mut(index).context("a flow of the plan")?;
        compiled.config.flags |= flag;
        self.relay.insert(compiled.key, compiled.config);
        // No program runs meanwhile.
        let mut slot = self.flows.get(&id.slot, 0)?.0;
        slot.versions.iter_mut().for_each(|version| version.config.flags |= flag);
        self.flows.set(id.slot, Plain(slot), 0)?;
        Ok(())
    }

    /// A new agreement about the same flows, in which no far end moves.
    pub fn update(&mut self, flows: &[FlowSpec]) -> Result<()> {
        let before: Vec<_> = self.installed.drain(..).map(|(id, _)| id).collect();
        let ids = self.dataplane.update(&before, flows)?.ids;
        self.mirror(&ids, flows, true)
    }

    /// The reference path has what the kernel has.
    fn mirror(&mut self, ids: &[FlowId], flows: &[FlowSpec], offered: bool) -> Result<()> {
        let place = |id: &FlowId| Place {
            slot: id.slot,
            epoch: id.epoch,
            latch_epoch: 0,
            crypto_slot: self.dataplane.crypto_slot(*id).unwrap_or(NO_SLOT),
        };
        let places: Vec<_> = ids.iter().map(place).collect();
        for ((id, compiled), flow) in ids.iter().zip(compile(flows, &places)?).zip(flows) {
            if let Some(slot) = self.dataplane.crypto_slot(*id) {
                let (before, counted) = (self.relay.keys(slot), self.relay.crypto(slot));
                self.relay.set_keys(slot, keys::compile(flow, &before, &counted, offered));
            }
            self.relay.insert(compiled.key, compiled.config);
            self.installed.push((*id, compiled));
        }
        self.before = self.kernel_states()?;
        Ok(())
    }

    /// Gives both relays one frame that comes in by `ifindex`; what became of it, and that both agree on
    /// everything: verdict, octets, counters, flow states and records.
    pub fn relay(&mut self, ifindex: u32, frame: &[u8]) -> Result<Became> {
        let verdict = self.relay_only(ifindex, frame)?;
        self.agree_on_counters()?;
        Ok(Became { verdict, records: self.agree_on_records()? })
    }

    /// The same, but for counters and records, which cost more to read than the packet to relay.
    pub fn relay_only(&mut self, ifindex: u32, frame: &[u8]) -> Result<Verdict> {
        let started = monotonic();
        let (action, octets) = self.run(ifindex, frame)?;
        let after = self.kernel_states()?;
        // The time at which the kernel heard the packet stands in the state it changed. It takes none (0) of a
        // packet that closely follows another of its flow, and a packet that no flow heard leaves no trace of it.
        self.heard = after.iter().zip(&self.before).position(|(after, before)| trace(after) != trace(before));
        let now = self.heard.map_or(started, |index| {
            let (after, before) = (&after[index], &self.before[index]);
            match after.statistics.last_seen {
                // Of a connectivity check it keeps the second or so.
                _ if after.checks != before.checks => {
                    (after.checks >> admit::CHECK_COUNT_BITS) << admit::CHECK_TIME_SHIFT
                }
                last_seen if last_seen == before.statistics.last_seen => 0,
                last_seen => last_seen,
            }
        });
        self.before = after;
        let verdict = self.relay.frame(now, ifindex, frame, |_, to| route(to));
        self.agree_on_packet(&verdict, action, &octets)?;
        Ok(verdict)
    }

    /// Gives the kernel alone one frame that is for no flow: whether the host's stack gets it, or why not.
    pub fn approach(&mut self, ifindex: u32, frame: &[u8]) -> Result<Result<(), Reason>> {
        const DROP: u32 = 1;
        const PASS: u32 = 2;
        match self.run(ifindex, frame)?.0 {
            PASS => Ok(Ok(())),
            DROP => {
                let drops = inspect::drops(&self.pins)?;
                let before = |reason| self.seen.drops.get(reason).copied().unwrap_or(0);
                let counted = drops.iter().find(|(reason, count)| **count > before(reason));
                let reason = *counted.context("a drop that nobody counted")?.0;
                self.seen.drops = drops;
                Ok(Err(reason))
            }
            action => anyhow::bail!("the kernel's action is {action}"),
        }
    }

    /// Kernel states of the installed flows.
    fn kernel_states(&self) -> Result<Vec<FlowState>> {
        self.installed.iter().map(|(id, _)| Ok(self.flows.get(&id.slot, 0)?.0.state)).collect()
    }

    /// What goes by the shortcut of the installed flow at `index` leaves with this type of service from now on.
    pub fn mark_shortcut(&mut self, index: usize, traffic_class: u8) -> Result<()> {
        let slot = self.installed[index].0.slot;
        let mut flow = self.flows.get(&slot, 0)?.0;
        flow.state.shortcut.traffic_class = traffic_class;
        Ok(self.flows.set(slot, Plain(flow), 0)?)
    }

    /// As after a change of routes.
    pub fn raise_generation(&mut self) -> Result<()> {
        let map = MapData::from_pin(self.pins.join("maps").join(name::GENERATION))?;
        let mut generation: Array<_, u32> = Map::Array(map).try_into()?;
        let before = generation.get(&0, 0)?;
        Ok(generation.set(0, before + 1, 0)?)
    }

    /// Gives the kernel alone a frame: its action, and the frame after it.
    pub fn run(&self, ifindex: u32, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> =
            [0, frame.len() as u32, 0, ifindex, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = vec![0; frame.len() + 256];
        let result = self
            .program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::new()
            })
            .with_context(|| format!("test-run of {} octets", frame.len()))?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    fn agree_on_packet(&self, verdict: &Verdict, action: u32, octets: &[u8]) -> Result<()> {
        const DROP: u32 = 1;
        const PASS: u32 = 2;
        const TX: u32 = 3;
        const REDIRECT: u32 = 4;
        let expected = match verdict {
            Verdict::Drop(_) => DROP,
            Verdict::Pass => PASS,
            Verdict::Transmit(_) => TX,
            Verdict::Redirect(..) | Verdict::Punt => REDIRECT,
        };
        ensure!(
            action == expected,
            "the kernel's action is {action} where the reference path says {}; the kernel counts {:?}, was {:?}",
            kind(verdict),
            inspect::drops(&self.pins)?,
            self.seen.drops
        );
        if let Verdict::Transmit(sent) | Verdict::Redirect(_, sent) = verdict {
            ensure!(octets == sent, "octets differ\n   kernel {}\nreference {}", hex(octets), hex(sent));
        }
        for ((id, _), kernel) in self.installed.iter().zip(&self.before) {
            let reference = self.relay.state(id.slot);
            // A slot that its flow never used keeps what the flow before left in it.
            let kernel = if kernel.epoch == id.epoch { comparable(kernel) } else { FlowState::default() };
            ensure!(
                kernel == comparable(&reference),
                "states differ\n   kernel {kernel:?}\nreference {reference:?}"
            );
        }
        for (id, compiled) in &self.installed {
            let (kernel, reference) =
                (self.dataplane.counted(*id), self.relay.crypto(compiled.config.crypto_slot));
            ensure!(
                kernel.is_none_or(|kernel| kernel == reference),
                "SRTP is counted differently\n   kernel {kernel:?}\nreference {reference:?}"
            );
        }
        if let (Verdict::Redirect(ifindex, _), Some(hop)) = (verdict, self.fresh_hop()) {
            ensure!(hop == *ifindex, "redirected to interface {hop}, expected {ifindex}");
        }
        Ok(())
    }

    /// All counters since the lab came up.
    pub fn agree_on_counters(&mut self) -> Result<()> {
        self.seen = Seen { drops: inspect::drops(&self.pins)?, traffic: inspect::traffic(&self.pins)? };
        let reference =
            Seen { drops: self.relay.counters().drops(), traffic: self.relay.counters().traffic() };
        ensure!(
            without_lookups(&self.seen) == without_lookups(&reference),
            "counters differ\n   kernel {:?}\nreference {reference:?}",
            self.seen
        );
        Ok(())
    }

    /// All records since the last look, but cries for a neighbour, which the reference path does not need.
    pub fn agree_on_records(&mut self) -> Result<Vec<Record>> {
        let mut kernel = Vec::new();
        self.watch.drain(&mut kernel)?;
        kernel.retain(|record| !matches!(record, Record::NeighbourWanted { .. }));
        let mut reference: Vec<Record> = self.relay.records().collect();
        // The kernel looks at the clock again for a copy of RTCP, and for a packet of which it took no time. That
        // time is 0 on the reference path.
        for (kernel, reference) in kernel.iter_mut().zip(&mut reference) {
            let again = matches!(reference, Record::Rtcp { .. }) || *time_of(reference) == 0;
            if again {
                *time_of(kernel) = 0;
                *time_of(reference) = 0;
            }
        }
        ensure!(kernel == reference, "records differ\n   kernel {kernel:?}\nreference {reference:?}");
        Ok(kernel)
    }

    /// The interface that the last relayed packet left by: that of the flow which heard it. `None` when it has no
    /// next hop.
    fn fresh_hop(&self) -> Option<u32> {
        let last = self.before.get(self.heard?)?;
        let hops = [last.rtp_hop, last.rtcp_hop].map(|hop| hop.ifindex);
        // A flow whose RTP and RTCP leave by different interfaces does not tell which it was.
        hops.into_iter()
            .filter(|hop| *hop != 0)
            .reduce(|a, b| if a == b { a } else { 0 })
            .filter(|hop| *hop != 0)
    }
}

fn declare_links(pins: &Path) -> Result<()> {
    let links = MapData::from_pin(pins.join("maps").join(name::LINKS))?;
    let mut links: HashMap<MapData, u32, Plain<Link>> = Map::HashMap(links).try_into()?;
    links.insert(13, Plain(Link { ifindex: LAN, vlans: [100, 0], transmits_from: LAN }), 0)?;
    links.insert(15, Plain(Link { ifindex: LAN, vlans: [200, 300], transmits_from: LAN }), 0)?;
    // Its interfaces are veths, which the node has redirect: here they stand for such as transmit.
    for ifindex in [LAN, WAN] {
        links.insert(ifindex, Plain(Link { ifindex, vlans: [0, 0], transmits_from: ifindex }), 0)?;
    }
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(node) = self.node.take()
            && let Err(fault) = node.detach()
        {
            eprintln!("{fault}");
        }
    }
}

/// The counters that both relays keep: the reference path caches no next hops.
fn without_lookups(seen: &Seen) -> Seen {
    let mut seen = seen.clone();
    seen.traffic.remove(&Traffic::RouteLookups);
    seen.drops.retain(|_, count| *count > 0);
    seen
}

fn time_of(record: &mut Record) -> &mut u64 {
    match record {
        Record::EventStart { at, .. }
        | Record::EventEnd { at, .. }
        | Record::Key { at, .. }
        | Record::Played { at, .. }
        | Record::Rtcp { at, .. }
        | Record::Latched { at, .. }
        | Record::Captured { at, .. }
        | Record::NeighbourWanted { at, .. } => at,
    }
}

/// What a packet that a flow hears does not leave as it was; a refused one does.
fn trace(state: &FlowState) -> FlowState {
    FlowState { statistics: StreamStatistics { refused: 0, ..state.statistics }, ..comparable(state) }
}

/// A state without what only the kernel has: cached next hops and shortcuts, the time of the last cry for a neighbour, and
/// its coarse clock.
fn comparable(state: &FlowState) -> FlowState {
    FlowState {
        rtp_hop: NextHop::default(),
        rtcp_hop: NextHop::default(),
        shortcut: Shortcut::default(),
        wanted_at: 0,
        ticks: 0,
        ..*state
    }
}

fn kind(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Transmit(_) => "transmit".to_owned(),
        Verdict::Redirect(ifindex, _) => format!("redirect to {ifindex}"),
        other => format!("{other:?}"),
    }
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
