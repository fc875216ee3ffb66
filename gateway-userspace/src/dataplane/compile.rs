//! From a call's words to the kernel's: [`FlowSpec`] to [`FlowKey`] and [`FlowConfig`], pure.

use super::keys::{is_of_the_kernel, is_secured, opens_in_kernel, punted};
use crate::media::plan::{FlowSpec, GateSpec, OutputSpec, PayloadType};
use crate::srtp::MasterKey;
use gateway_common::flow::{
    DSCP_KEEP, FlowConfig, FlowKey, FlowKind, Gate, NO_SLOT, Output, PT_EVENT, PT_REFUSED, UsualPayloadType,
    flag,
};
use gateway_common::net::{Addr128, Be16};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// What makes one flow of a plan unique in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: u32,
    pub epoch: u32,
    pub latch_epoch: u32,
    /// Of a flow with SRTP, else [`NO_SLOT`].
    pub crypto_slot: u32,
}

/// One flow, ready for the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    pub key: FlowKey,
    pub config: FlowConfig,
}

/// A plan that no kernel could carry out: a mistake of the caller, not of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileFault {
    #[error("flow {flow} of the plan arrives at {at}, which is no address and port of one host")]
    Arrival { flow: usize, at: SocketAddr },
    #[error("flow {flow} of the plan maps payload type {near} to {far}; both must be 0 to 127 (RFC 3551)")]
    PayloadType { flow: usize, near: u8, far: u8 },
    #[error("flow {flow} of the plan learns its far end from flow {from}, but the plan has {count}")]
    LearnedFrom { flow: usize, from: usize, count: usize },
    #[error("flow {flow} of the plan asks for DSCP {dscp}; the field has 6 bits (RFC 2474 section 3)")]
    Dscp { flow: usize, dscp: u8 },
    #[error("the plan has {flows} flows and {places} identifiers; there must be one for each")]
    Count { flows: usize, places: usize },
}

/// Compiles all flows of a plan; `places` names the slot of each, in the plan's order.
pub fn compile(flows: &[FlowSpec], places: &[Place]) -> Result<Vec<Compiled>, CompileFault> {
    if flows.len() != places.len() {
        return Err(CompileFault::Count { flows: flows.len(), places: places.len() });
    }
    let followers = followers(flows);
    let streams: Vec<Option<usize>> = (0..flows.len()).map(|index| stream_of(flows, index)).collect();
    flows
        .iter()
        .zip(places)
        .enumerate()
        .map(|(index, (spec, place))| {
            let mut compiled = one(index, spec, *place, places)?;
            let slot = |flow: Option<usize>| {
                flow.and_then(|flow| places.get(flow)).map_or(NO_SLOT, |place| place.slot)
            };
            let stream = streams.get(index).copied().flatten();
            compiled.config.stream_slot = slot(stream);
            compiled.config.reported_slot = slot(stream.and_then(|stream| opposite(flows, stream)));
            compiled.config.follower_slot = slot(followers.get(index).copied().flatten());
            Ok(compiled)
        })
        .collect()
}

/// Where packets of `at` arrive, as the map's key.
pub fn key(at: SocketAddr) -> FlowKey {
    FlowKey::new(address(at.ip()), Be16::new(at.port()))
}

/// The key as people write it.
pub fn arrival(key: FlowKey) -> SocketAddr {
    SocketAddr::new(key.address.into(), key.port.host())
}

/// Flows whose far end may have moved between two plans of the same flows: what they may hear from changed, or
/// where an output that learns from them is signalled to go. A source latched before says nothing there.
pub fn far_end_moved(before: &[FlowConfig], now: &[FlowConfig]) -> Vec<bool> {
    let gate = |config: &FlowConfig| {
        (config.gate, config.gate_address, config.gate_port, config.gate_prefix, config.latch)
    };
    let outputs = |config: &FlowConfig| [config.rtp, config.rtcp];
    let signalled_elsewhere = |slot: u32| {
        before.iter().zip(now).flat_map(|(before, now)| outputs(before).into_iter().zip(outputs(now))).any(
            |(before, now)| {
                now.learned_slot == slot
                    && (before.remote, before.remote_port) != (now.remote, now.remote_port)
            },
        )
    };
    before
        .iter()
        .zip(now)
        .map(|(before, now)| gate(before) != gate(now) || signalled_elsewhere(now.slot))
        .collect()
}

/// The flow that carries the RTP stream which the RTCP of flow `index` speaks for: itself, or the flow on the port
/// below (RFC 3550 section 11).
fn stream_of(flows: &[FlowSpec], index: usize) -> Option<usize> {
    let spec = flows.get(index)?;
    match spec.kind {
        FlowKind::Rtp | FlowKind::Udptl => None,
        FlowKind::Mux => Some(index),
        FlowKind::Rtcp => {
            let port = spec.at.port().checked_sub(1)?;
            flows.iter().position(|other| {
                other.kind == FlowKind::Rtp && other.at == SocketAddr::new(spec.at.ip(), port)
            })
        }
    }
}

/// The flow of the opposite direction: whose packets leave from where those of `stream` arrive.
fn opposite(flows: &[FlowSpec], stream: usize) -> Option<usize> {
    let at = flows.get(stream)?.at;
    flows.iter().position(|other| other.rtp.is_some_and(|output| output.from == at))
}

/// By flow, the one whose RTP goes where its source is.
fn followers(flows: &[FlowSpec]) -> Vec<Option<usize>> {
    let mut followers = vec![None; flows.len()];
    for (index, flow) in flows.iter().enumerate() {
        let learned_from = flow.rtp.and_then(|output| output.learned_from);
        if let Some(follower) = learned_from.and_then(|from| followers.get_mut(from)) {
            *follower = Some(index);
        }
    }
    followers
}

fn one(index: usize, spec: &FlowSpec, place: Place, places: &[Place]) -> Result<Compiled, CompileFault> {
    if spec.at.port() == 0 || spec.at.ip().is_unspecified() || spec.at.ip().is_multicast() {
        return Err(CompileFault::Arrival { flow: index, at: spec.at });
    }
    let output = |spec: &Option<OutputSpec>| output(index, spec.as_ref(), places);
    let mut config = FlowConfig {
        slot: place.slot,
        epoch: place.epoch,
        latch_epoch: place.latch_epoch,
        clock_rate: spec.clock_rate,
        kind: spec.kind,
        latch: spec.latch,
        dscp: dscp(index, spec.dscp)?,
        flags: flags(spec),
        punted: punted(spec).map_or(0, |why| why as u8),
        rate: spec.rate.map_or(0, |rate| rate.packets_per_second),
        burst: spec.rate.map_or(0, |rate| rate.burst),
        rtp: output(&spec.rtp)?,
        rtcp: output(&spec.rtcp)?,
        crypto_slot: if is_secured(spec) { place.crypto_slot } else { NO_SLOT },
        payload_types: payload_types(index, &spec.payload_types)?,
        ..FlowConfig::default()
    };
    gate(&mut config, spec.gate);
    if let Some(first) = spec.payload_types.iter().find(|payload_type| !payload_type.event) {
        let entry = config.payload_types.get(usize::from(first.near)).copied().unwrap_or(PT_REFUSED);
        config.usual = UsualPayloadType { incoming: first.near, entry };
    }
    Ok(Compiled { key: key(spec.at), config })
}

/// One form for both families; an IPv4-mapped address is the IPv4 address that it maps.
pub(super) fn address(ip: IpAddr) -> Addr128 {
    ip.to_canonical().into()
}

fn output(flow: usize, spec: Option<&OutputSpec>, places: &[Place]) -> Result<Output, CompileFault> {
    let Some(spec) = spec else {
        return Ok(Output { learned_slot: NO_SLOT, ..Output::default() });
    };
    let nobody = Place { slot: NO_SLOT, epoch: 0, latch_epoch: 0, crypto_slot: NO_SLOT };
    let learned = match spec.learned_from {
        None => nobody,
        Some(from) => {
            *places.get(from).ok_or(CompileFault::LearnedFrom { flow, from, count: places.len() })?
        }
    };
    Ok(Output {
        local: address(spec.from.ip()),
        remote: address(spec.to.ip()),
        local_port: Be16::new(spec.from.port()),
        remote_port: Be16::new(spec.to.port()),
        learned_slot: learned.slot,
        learned_epoch: learned.epoch,
        learned_latch_epoch: learned.latch_epoch,
    })
}

fn gate(config: &mut FlowConfig, spec: GateSpec) {
    (config.gate, config.gate_address, config.gate_port, config.gate_prefix) = match spec {
        GateSpec::Exact(source) => (Gate::Exact, address(source.ip()), Be16::new(source.port()), 128),
        GateSpec::Subnet(IpNet::V4(net)) => {
            (Gate::Subnet, address(net.network().into()), Be16::new(0), 96 + net.prefix_len())
        }
        GateSpec::Subnet(IpNet::V6(net)) => {
            (Gate::Subnet, address(net.network().into()), Be16::new(0), net.prefix_len())
        }
        GateSpec::Any => (Gate::Any, Addr128::UNSPECIFIED, Be16::new(0), 0),
    };
}

fn flags(spec: &FlowSpec) -> u16 {
    let of_the_kernel = |key: &Option<MasterKey>| key.as_ref().is_some_and(is_of_the_kernel);
    let telephone_event = spec.payload_types.iter().any(|payload_type| payload_type.event);
    [
        (spec.rtcp_copy, flag::RTCP_COPY),
        (telephone_event, flag::TELEPHONE_EVENT),
        (spec.continuity, flag::CONTINUITY),
        (spec.muted, flag::MUTED),
        (opens_in_kernel(spec), flag::UNPROTECT),
        (of_the_kernel(&spec.protect), flag::PROTECT),
        (punted(spec).is_some(), flag::PUNT),
        (spec.checks.is_some(), flag::ICE),
    ]
    .iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |flags, (_, bit)| flags | bit)
}

fn dscp(flow: usize, dscp: Option<u8>) -> Result<u8, CompileFault> {
    match dscp {
        None => Ok(DSCP_KEEP),
        Some(dscp) if dscp < 64 => Ok(dscp),
        Some(dscp) => Err(CompileFault::Dscp { flow, dscp }),
    }
}

fn payload_types(flow: usize, list: &[PayloadType]) -> Result<[u8; 128], CompileFault> {
    let mut table = [PT_REFUSED; 128];
    for &PayloadType { near, far, event } in list {
        let fault = CompileFault::PayloadType { flow, near, far };
        if far > 127 {
            return Err(fault);
        }
        *table.get_mut(usize::from(near)).ok_or(fault)? = if event { far | PT_EVENT } else { far };
    }
    // 127 with the event bit would read as PT_REFUSED.
    match list.iter().find(|entry| entry.event && entry.far | PT_EVENT == PT_REFUSED) {
        Some(&PayloadType { near, far, .. }) => Err(CompileFault::PayloadType { flow, near, far }),
        None => Ok(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::plan::RateLimit;
    use gateway_common::flow::Latch;

    fn spec() -> FlowSpec {
        FlowSpec {
            from: crate::base::id::Side::Caller,
            at: "192.0.2.1:30000".parse().unwrap(),
            kind: FlowKind::Mux,
            gate: GateSpec::Exact("198.51.100.7:4000".parse().unwrap()),
            latch: Latch::SameSsrc,
            dscp: Some(46),
            rate: Some(RateLimit { packets_per_second: 200, burst: 20 }),
            clock_rate: 8000,
            payload_types: vec![
                PayloadType { near: 0, far: 0, event: false },
                PayloadType { near: 96, far: 101, event: true },
            ],
            muted: false,
            continuity: true,
            rtcp_copy: true,
            judged: None,
            rtp: Some(OutputSpec {
                from: "[2001:db8::1]:40000".parse().unwrap(),
                to: "[2001:db8::9]:5000".parse().unwrap(),
                learned_from: Some(1),
            }),
            rtcp: None,
            unprotect: None,
            protect: None,
            checks: None,
            userspace: None,
            bridge: None,
        }
    }

    const PLACES: [Place; 2] = [
        Place { slot: 7, epoch: 3, latch_epoch: 1, crypto_slot: NO_SLOT },
        Place { slot: 9, epoch: 4, latch_epoch: 2, crypto_slot: NO_SLOT },
    ];

    #[test]
    fn every_field_of_a_specification_reaches_the_configuration() {
        let compiled = compile(&[spec(), spec()], &PLACES).unwrap();
        let Compiled { key, config } = compiled[0];
        assert_eq!(arrival(key), spec().at);
        assert_eq!((config.slot, config.epoch, config.latch_epoch), (7, 3, 1));
        assert_eq!((config.kind, config.latch, config.dscp), (FlowKind::Mux, Latch::SameSsrc, 46));
        assert_eq!((config.gate, config.gate_port.host()), (Gate::Exact, 4000));
        assert_eq!(config.flags, flag::RTCP_COPY | flag::TELEPHONE_EVENT | flag::CONTINUITY);
        assert_eq!((config.rate, config.burst, config.clock_rate), (200, 20, 8000));
        assert_eq!(config.payload_types[0], 0);
        assert_eq!(config.payload_types[96], 101 | PT_EVENT);
        assert_eq!(config.payload_types[8], PT_REFUSED);
        assert_eq!(
            (config.rtp.learned_slot, config.rtp.learned_epoch, config.rtp.learned_latch_epoch),
            (9, 4, 2)
        );
        assert_eq!(IpAddr::from(config.rtp.remote), "2001:db8::9".parse::<IpAddr>().unwrap());
        assert_eq!(config.rtcp.learned_slot, NO_SLOT);
        assert_eq!(config.rtcp.remote, Addr128::UNSPECIFIED);
    }

    #[test]
    fn a_subnet_gate_keeps_the_network_and_counts_ipv4_prefixes_from_96() {
        let gated = |net: &str| {
            let flow = FlowSpec { gate: GateSpec::Subnet(net.parse().unwrap()), ..spec() };
            compile(&[flow, spec()], &PLACES).unwrap()[0].config
        };
        let v4 = gated("10.1.2.3/16");
        assert_eq!(
            (v4.gate, v4.gate_prefix, v4.gate_address),
            (Gate::Subnet, 112, Addr128::v4([10, 1, 0, 0]))
        );
        assert_eq!(gated("2001:db8::/32").gate_prefix, 32);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_that_it_maps() {
        let flow = FlowSpec { at: "[::ffff:192.0.2.1]:30000".parse().unwrap(), ..spec() };
        assert_eq!(compile(&[flow, spec()], &PLACES).unwrap()[0].key, key(spec().at));
    }

    #[test]
    fn what_no_kernel_could_carry_out_is_refused_by_name() {
        let refused = |flow: FlowSpec| compile(&[flow, spec()], &PLACES).unwrap_err();
        let wildcard = "0.0.0.0:30000".parse().unwrap();
        assert_eq!(
            refused(FlowSpec { at: wildcard, ..spec() }),
            CompileFault::Arrival { flow: 0, at: wildcard }
        );
        assert_eq!(refused(FlowSpec { dscp: Some(64), ..spec() }), CompileFault::Dscp { flow: 0, dscp: 64 });
        for (near, far, event) in [(128, 0, false), (0, 128, false), (96, 127, true)] {
            let payload_types = vec![PayloadType { near, far, event }];
            assert_eq!(
                refused(FlowSpec { payload_types, ..spec() }),
                CompileFault::PayloadType { flow: 0, near, far }
            );
        }
        assert_eq!(
            compile(&[spec()], &PLACES[..1]).unwrap_err(),
            CompileFault::LearnedFrom { flow: 0, from: 1, count: 1 }
        );
        assert_eq!(compile(&[spec()], &PLACES).unwrap_err(), CompileFault::Count { flows: 1, places: 2 });
    }

    #[test]
    fn a_new_gate_or_a_newly_signalled_address_moves_the_far_end_and_a_new_codec_does_not() {
        let towards = |from: usize, to: &str| {
            let output =
                OutputSpec { learned_from: Some(from), to: to.parse().unwrap(), ..spec().rtp.unwrap() };
            FlowSpec { rtp: Some(output), ..spec() }
        };
        let configs = |flows: [FlowSpec; 2]| -> Vec<FlowConfig> {
            compile(&flows, &PLACES).unwrap().iter().map(|compiled| compiled.config).collect()
        };
        let before = configs([towards(1, "10.0.0.1:1000"), towards(0, "10.0.0.2:2000")]);
        let codec = FlowSpec { payload_types: vec![], ..towards(1, "10.0.0.1:1000") };
        assert_eq!(far_end_moved(&before, &configs([codec, towards(0, "10.0.0.2:2000")])), [false, false]);
        let gated = FlowSpec { gate: GateSpec::Any, ..towards(1, "10.0.0.1:1000") };
        assert_eq!(far_end_moved(&before, &configs([gated, towards(0, "10.0.0.2:2000")])), [true, false]);
        let moved = configs([towards(1, "10.0.0.1:1002"), towards(0, "10.0.0.2:2000")]);
        assert_eq!(far_end_moved(&before, &moved), [false, true]);
    }

    #[test]
    fn rtcp_knows_the_stream_it_speaks_for_and_the_one_it_reports_on() {
        let flow = |kind, at: &str, from: &str| {
            let output =
                OutputSpec { from: from.parse().unwrap(), learned_from: None, ..spec().rtp.unwrap() };
            let (rtp, rtcp) =
                if kind == FlowKind::Rtcp { (None, Some(output)) } else { (Some(output), None) };
            FlowSpec { kind, at: at.parse().unwrap(), rtp, rtcp, ..spec() }
        };
        let flows = [
            flow(FlowKind::Rtp, "10.0.0.1:2000", "10.0.0.2:4000"),
            flow(FlowKind::Rtcp, "10.0.0.1:2001", "10.0.0.2:4000"),
            flow(FlowKind::Mux, "10.0.0.2:4000", "10.0.0.1:2000"),
        ];
        let places = [0, 1, 2].map(|slot| Place { slot, epoch: 1, latch_epoch: 0, crypto_slot: NO_SLOT });
        let slots: Vec<_> = compile(&flows, &places)
            .unwrap()
            .iter()
            .map(|compiled| (compiled.config.stream_slot, compiled.config.reported_slot))
            .collect();
        assert_eq!(slots, [(NO_SLOT, NO_SLOT), (0, 2), (2, 0)]);
    }
}
