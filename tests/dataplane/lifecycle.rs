//! A data plane from boot to stop, with real packets: who relays while nobody is there, who takes over, and what
//! is refused by name.

use crate::wires::{CALLEE, CALLER, FAR, NEAR, Phone, Wires, plan, talk};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData};
use gateway_common::abi::name;
use gateway_userspace::base::id::CoreId;
use gateway_userspace::dataplane::{
    Dataplane, DataplaneFault, Mode, Node, PathKind, Record, Settings, Watch, inspect,
};
use gateway_userspace::media::plan::{FlowSpec, GateSpec, OutputSpec};
use gateway_userspace::observe::path::RelayPath;
use mio::{Events, Poll, Token};
use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use support::namespace::ip;

#[test]
fn calls_outlive_their_daemon_and_the_next_one_adopts_them() -> Result<()> {
    let wires = Wires::new("adopt")?;
    let (mut caller, mut callee) = wires.phones()?;
    let settings = wires.settings();

    let node = Node::boot(&settings)?;
    ensure!(node.paths().iter().all(|path| path.path == PathKind::Native), "{:?}", node.paths());
    let mut dataplane = node.worker(CoreId(0), 2)?;
    let ids = dataplane.install(&plan())?;
    let forgotten = dataplane.install(&[crate::row::flow("192.0.2.1:30100", FAR, CALLEE)])?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 50)?;
    drop((dataplane, node));

    talk(&mut caller, &mut callee, 50).context("while no daemon runs")?;
    let pinned = inspect::flows(&settings.pin_directory)?;
    ensure!(pinned.len() == 3, "{pinned:?}");
    ensure!(pinned.iter().any(|flow| flow.id == ids[0] && flow.report.packets == 100), "{pinned:?}");

    let mut node = Node::boot(&settings)?;
    ensure!(node.paths().iter().all(|path| path.path == PathKind::Native), "{:?}", node.paths());
    let swept = node.sweep(&ids.iter().copied().collect::<HashSet<_>>())?;
    ensure!(swept.len() == 1 && swept[0].id == forgotten[0], "{swept:?}");
    // The call's slots are those of core 0; it may as well be adopted by another core.
    let mut dataplane = node.worker(CoreId(1), 2)?;
    dataplane.adopt(&ids, &plan())?;
    ensure!(dataplane.adopt(&forgotten, &plan()[..1]).is_err(), "a flow that was swept cannot be adopted");
    talk(&mut caller, &mut callee, 50).context("after the new daemon took over")?;
    let report = dataplane.report(ids[0]).context("adopted")?;
    ensure!((report.packets, report.lost, report.refused) == (150, 0, 0), "{report:?}");
    ensure!(report.source == Some(CALLER.parse()?), "{report:?}");

    let last = dataplane.remove(&ids);
    ensure!(last.len() == 2 && last.iter().all(|report| report.packets == 150), "{last:?}");
    caller.say()?;
    callee.hears_nothing()?;
    node.detach()?;
    ensure!(!settings.pin_directory.exists(), "pins are left");
    ensure!(matches!(inspect::drops(&settings.pin_directory), Err(DataplaneFault::NothingPinned { .. })));
    Ok(())
}

/// What is left of it would stand in the way of the flows that take its place.
#[test]
fn nothing_is_left_of_a_call_of_which_a_flow_was_lost() -> Result<()> {
    let wires = Wires::new("lost")?;
    let (mut caller, mut callee) = wires.phones()?;
    let settings = wires.settings();
    let node = Node::boot(&settings)?;
    let ids = node.worker(CoreId(0), 1)?.install(&plan())?;
    drop(node);

    let mut node = Node::boot(&settings)?;
    ensure!(node.sweep(&HashSet::from([ids[0]]))?.len() == ids.len() - 1);
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let fault = dataplane.adopt(&ids, &plan()).err();
    ensure!(matches!(fault, Some(DataplaneFault::UnknownFlow { id }) if id == ids[1]), "{fault:?}");
    ensure!(inspect::flows(&settings.pin_directory)?.is_empty());
    dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 10)?;
    Ok(node.detach()?)
}

#[test]
fn a_boot_that_cannot_be_says_why_by_name() -> Result<()> {
    let wires = Wires::new("faults")?;
    let settings = wires.settings();
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut changed = settings.clone();
        change(&mut changed);
        Node::boot(&changed).err()
    };
    let only =
        |interface: &'static str| move |settings: &mut Settings| settings.interfaces = vec![interface.into()];

    use DataplaneFault as Fault;
    let fault = with(&|settings| settings.interfaces.clear());
    ensure!(matches!(fault, Some(Fault::NoInterfaces)), "{fault:?}");
    let fault = with(&only("lan9"));
    ensure!(
        matches!(&fault, Some(Fault::InterfaceMissing { interface }) if interface == "lan9"),
        "{fault:?}"
    );
    ip("link add idle type veth peer name idle-far")?;
    let fault = with(&only("idle"));
    ensure!(matches!(&fault, Some(Fault::InterfaceDown { interface }) if interface == "idle"), "{fault:?}");
    let fault = with(&|settings| settings.pin_directory = "/tmp/causeway-test-pins".into());
    ensure!(matches!(fault, Some(Fault::NotBpffs { .. })), "{fault:?}");
    let fault = with(&|settings| {
        (settings.mode, settings.interfaces) = (Mode::Native, vec!["lo".into()]);
    });
    ensure!(matches!(&fault, Some(Fault::AttachRefused { interface, .. }) if interface == "lo"), "{fault:?}");

    let node = Node::boot(&settings)?;
    let fault = with(&|_| {});
    ensure!(matches!(fault, Some(Fault::PinDirectoryBusy { .. })), "{fault:?}");
    let mut elsewhere = settings.clone();
    elsewhere.pin_directory.as_mut_os_string().push("-other");
    let fault = Node::boot(&elsewhere).err();
    ensure!(matches!(&fault, Some(Fault::InterfaceBusy { interface }) if interface == "lan"), "{fault:?}");
    std::fs::remove_dir_all(&elsewhere.pin_directory)?;
    drop(node);

    stamp(&settings.pin_directory, 77)?;
    let fault = with(&|_| {});
    ensure!(matches!(fault, Some(Fault::AbiMismatch { found: 77, .. })), "{fault:?}");
    // What an interrupted start leaves is no data plane, and no obstacle either.
    stamp(&settings.pin_directory, 0)?;
    Node::boot(&settings)?.detach()?;
    Ok(())
}

#[test]
fn an_interface_made_anew_has_the_program_at_once_and_its_calls_go_on() -> Result<()> {
    let wires = Wires::new("anew")?;
    let node = Node::boot(&wires.settings())?;
    let mut dataplane = node.worker(CoreId(0), 1)?;
    dataplane.install(&plan())?;
    let mut watch = node.watch()?;
    let mut poll = Poll::new()?;
    watch.register(poll.registry(), Token(0))?;
    // Until the data plane has heard of what happened to the interface.
    let hears = |watch: &mut Watch, poll: &mut Poll, path: PathKind| -> Result<()> {
        for _ in 0..100 {
            watch.drain(&mut Vec::new())?;
            if node.paths().iter().any(|on| on.interface == "wan" && on.path == path) {
                return Ok(());
            }
            poll.poll(&mut Events::with_capacity(8), Some(Duration::from_millis(50)))?;
        }
        bail!("{:?}", node.paths())
    };

    ip("link del wan")?;
    hears(&mut watch, &mut poll, PathKind::None)?;
    wires.connect_callee()?;
    hears(&mut watch, &mut poll, PathKind::Native)?;
    let (mut caller, mut callee) = wires.phones()?;
    wires.resolved("192.0.2.10")?;
    // The first packet to a host that is new on the wire has it resolved.
    caller.say()?;
    poll.poll(&mut Events::with_capacity(8), Some(Duration::from_secs(5)))?;
    watch.drain(&mut Vec::new())?;
    wires.resolved("198.51.100.9")?;
    watch.drain(&mut Vec::new())?;
    talk(&mut caller, &mut callee, 20)?;
    drop((watch, dataplane));
    node.detach()?;
    Ok(())
}

#[test]
fn an_interface_without_xdp_of_its_own_is_served_by_the_generic_path_and_says_so() -> Result<()> {
    let wires = Wires::new("generic")?;
    let node = Node::boot(&Settings { interfaces: vec!["lo".into()], ..wires.settings() })?;
    let paths = node.paths();
    let [path] = &paths[..] else { bail!("{paths:?}") };
    ensure!(path.path == PathKind::Generic && !path.why.is_empty(), "{path:?}");
    node.detach()?;

    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&Settings { mode: Mode::Generic, ..wires.settings() })?;
    ensure!(node.paths().iter().all(|path| path.path == PathKind::Generic), "{:?}", node.paths());
    let mut dataplane = node.worker(CoreId(0), 1)?;
    dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 20)?;
    node.detach()?;
    Ok(())
}

#[test]
fn plans_are_installed_whole_or_not_at_all() -> Result<()> {
    let wires = Wires::new("programming")?;
    let node = Node::boot(&Settings { flows: 5, ..wires.settings() })?;
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let flow = |port: u16| crate::row::flow(&format!("192.0.2.1:{port}"), FAR, CALLEE);
    let pinned = || -> Result<usize> { Ok(node.flows()?.len()) };

    let first = dataplane.install(&[flow(1000), flow(1002)])?;
    let fault = dataplane.install(&[flow(1004), flow(1002)]).err();
    ensure!(matches!(fault, Some(DataplaneFault::AddressInUse { at }) if at.port() == 1002), "{fault:?}");
    ensure!(pinned()? == 2, "half a plan stayed");
    let fault = dataplane.install(&[flow(1), flow(3), flow(5), flow(7)]).err();
    ensure!(matches!(fault, Some(DataplaneFault::FlowTableFull { flows: 5 })), "{fault:?}");
    ensure!(pinned()? == 2, "half a plan stayed");
    ensure!(dataplane.install(&[flow(1), flow(3), flow(5)]).is_ok(), "slots were lost to plans that failed");
    ensure!(pinned()? == 5);

    dataplane.update(&first, &[flow(2000), flow(1002)])?;
    let at: Vec<u16> = node.flows()?.iter().map(|flow| flow.at.port()).collect();
    ensure!(at.contains(&2000) && !at.contains(&1000) && at.len() == 5, "{at:?}");
    let fault = dataplane.update(&first, &[flow(2000), flow(3)]).err();
    ensure!(matches!(fault, Some(DataplaneFault::AddressInUse { .. })), "{fault:?}");
    let at: Vec<u16> = node.flows()?.iter().map(|flow| flow.at.port()).collect();
    ensure!(at.contains(&1002) && at.len() == 5, "the plan before is no longer in force: {at:?}");

    ensure!(dataplane.remove(&first).len() == 2);
    ensure!(dataplane.remove(&first).is_empty(), "removed twice");
    let again = dataplane.install(&[flow(1000), flow(1002)])?;
    ensure!(first.iter().all(|id| !again.contains(id)), "an identifier came back");
    ensure!(dataplane.report(first[0]).is_none() && dataplane.report(again[0]).is_some());
    node.detach()?;
    Ok(())
}

#[test]
fn a_far_end_that_moves_is_followed_and_figures_go_on() -> Result<()> {
    let wires = Wires::new("update")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let ids = dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 10)?;

    // The callee signals another port: what it latched to before says nothing any more.
    let mut moved = plan();
    moved[0].rtp =
        moved[0].rtp.map(|output| OutputSpec { to: "198.51.100.9:5100".parse().unwrap(), ..output });
    dataplane.update(&ids, &moved)?;
    let mut elsewhere = Phone::new(&wires.callee, "198.51.100.9:5100", FAR)?;
    let packet = caller.say()?;
    elsewhere.hears(&packet, FAR)?;
    callee.hears_nothing()?;
    talk(&mut caller, &mut elsewhere, 10)?;
    let report = dataplane.report(ids[0]).context("installed")?;
    ensure!((report.packets, report.lost) == (21, 0), "{report:?}");
    node.detach()?;
    Ok(())
}

#[test]
fn no_packet_is_lost_while_flows_beside_its_own_come_and_go() -> Result<()> {
    let wires = Wires::new("beside")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let mut with_rtcp = plan();
    with_rtcp.push(crate::row::flow("192.0.2.1:30001", "198.51.100.1:40001", "198.51.100.9:5001"));
    with_rtcp.push(crate::row::flow("198.51.100.1:40001", "192.0.2.1:30001", "192.0.2.10:4001"));
    let first = dataplane.install(&with_rtcp)?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 10)?;

    // As an answer does that accepts rtcp-mux (RFC 5761 section 5.1.1), and one that takes it back.
    let mut ids = first.clone();
    let ended = thread::scope(|scope| -> Result<usize> {
        let talking = scope.spawn(|| talk(&mut caller, &mut callee, 500));
        let mut ended = 0;
        while !talking.is_finished() {
            for flows in [&plan(), &with_rtcp] {
                let update = dataplane.update(&ids, flows)?;
                ended += update.ended.len();
                ids = update.ids;
            }
        }
        talking.join().expect("talk does not panic")?;
        Ok(ended)
    })?;
    ensure!(ended > 0 && ended.is_multiple_of(2), "{ended} flows ended");
    ensure!(ids[..2] == first[..2] && ids[2..] != first[2..], "{first:?} became {ids:?}");
    for id in &ids[..2] {
        let report = dataplane.report(*id).context("installed")?;
        ensure!((report.packets, report.lost, report.refused) == (510, 0, 0), "{report:?}");
    }
    ensure!(node.flows()?.len() == 4 && dataplane.remove(&ids).len() == 4);
    ensure!(node.flows()?.is_empty());
    node.detach()?;
    Ok(())
}

#[test]
fn a_new_link_address_of_a_neighbour_reaches_flows_that_have_the_old_one() -> Result<()> {
    let wires = Wires::new("watch")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&wires.settings())?;
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let ids = dataplane.install(&plan())?;
    wires.resolved("192.0.2.10")?;
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 5)?;
    // A watch that begins now has to know the link addresses that flows use already.
    let mut watch = node.watch()?;
    let mut records = Vec::new();
    watch.drain(&mut records)?;
    let latched =
        |id| records.iter().any(|record| matches!(record, Record::Latched { flow, .. } if *flow == id));
    ensure!(ids.iter().all(|id| latched(*id)), "{records:?}");

    wires.callee.inside(|| ip("link set wan-far address 02:00:00:00:77:77"))?;
    ip("neigh replace 198.51.100.9 lladdr 02:00:00:00:77:77 dev wan nud permanent")?;
    watch.drain(&mut records)?;
    talk(&mut caller, &mut callee, 5)?;

    // No link address at all: the flow cries, and the watch has it resolved.
    ip("neigh del 198.51.100.9 dev wan")?;
    watch.drain(&mut records)?;
    records.clear();
    caller.say()?;
    callee.hears_nothing()?;
    watch.drain(&mut records)?;
    ensure!(records.iter().any(|record| matches!(record, Record::NeighbourWanted { .. })), "{records:?}");
    wires.resolved("198.51.100.9")?;
    talk(&mut caller, &mut callee, 5)?;
    node.detach()?;
    Ok(())
}

#[test]
fn plain_sockets_relay_by_the_same_rules() -> Result<()> {
    let wires = Wires::new("sockets")?;
    let (mut caller, mut callee) = wires.phones()?;
    let node = Node::boot(&Settings { mode: Mode::Sockets, ..wires.settings() })?;
    ensure!(node.paths().iter().all(|path| path.path == PathKind::Sockets), "{:?}", node.paths());
    let mut dataplane = node.worker(CoreId(0), 1)?;
    let mut poll = Poll::new()?;
    dataplane.register(poll.registry(), 1000..1100)?;
    let mut gated = plan();
    gated[0].gate = GateSpec::Exact(CALLER.parse()?);
    let ids = dataplane.install(&gated)?;
    ensure!(dataplane.path() == RelayPath::Sockets);

    for _ in 0..20 {
        let packet = caller.say()?;
        turn(&mut poll, &mut dataplane)?;
        callee.hears(&packet, FAR)?;
        let packet = callee.say()?;
        turn(&mut poll, &mut dataplane)?;
        caller.hears(&packet, NEAR)?;
    }
    let report = dataplane.report(ids[0]).context("installed")?;
    ensure!((report.packets, report.lost, report.path) == (20, 0, RelayPath::Sockets), "{report:?}");

    dataplane.capture(&ids, Some(false))?;
    let packet = caller.say()?;
    let records = turn(&mut poll, &mut dataplane)?;
    callee.hears(&packet, FAR)?;
    let copies = records.iter().filter_map(|record| match record {
        Record::Captured { sent, length, octets, .. } => Some((*sent, *length, octets.len())),
        _ => None,
    });
    // IPv4, UDP and the fixed header of RTP; 160 octets of audio are left out.
    ensure!(copies.eq([(false, 200, 40), (true, 200, 40)]), "{records:?}");
    dataplane.capture(&ids, None)?;

    let mut stranger = Phone::new(&wires.caller, "192.0.2.10:4666", NEAR)?;
    stranger.say()?;
    turn(&mut poll, &mut dataplane)?;
    callee.hears_nothing()?;
    ensure!(
        node.drops()?.into_iter().eq([(gateway_common::verdict::Reason::SourceRefused, 1)]),
        "{:?}",
        node.drops()
    );

    // The ports are free again.
    ensure!(dataplane.remove(&ids).len() == 2);
    let again: Vec<FlowSpec> = plan();
    // A program that a test beside this one starts holds a copy of our descriptors until its exec.
    let until = Instant::now() + Duration::from_secs(5);
    while let Err(fault) = dataplane.install(&again) {
        ensure!(Instant::now() < until, "{fault}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One turn of a worker's loop.
fn turn(poll: &mut Poll, dataplane: &mut Dataplane) -> Result<Vec<Record>> {
    let mut events = Events::with_capacity(64);
    while let Err(error) = poll.poll(&mut events, Some(Duration::from_secs(5))) {
        ensure!(error.kind() == std::io::ErrorKind::Interrupted, "{error}");
    }
    let mut records = Vec::new();
    for event in &events {
        ensure!(dataplane.owns(event.token()), "a token of somebody else");
        dataplane.ready(event.token(), &mut records);
    }
    Ok(records)
}

/// Writes a fingerprint into pinned maps.
fn stamp(pins: &Path, fingerprint: u64) -> Result<()> {
    let map = MapData::from_pin(pins.join("maps").join(name::ABI))?;
    let mut abi: Array<MapData, u64> = Map::Array(map).try_into()?;
    Ok(abi.set(0, fingerprint, 0)?)
}
