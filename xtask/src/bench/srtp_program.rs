//! What protecting and unprotecting a packet takes in the XDP programs, by test-run.
//!
//! No packet may come twice, so each is a run of its own: the gateway protects it toward a second flow, and what it made
//! of it is that flow's next packet. A plain flow is measured packet by packet as well, which says what a single run
//! costs besides.

use super::program::Arrival;
use super::relay::causeway::Causeway;
use super::relay::lab::{Path, Port, Side, enter};
use super::relay::traffic::{HEADERS, frame};
use crate::media::PAYLOAD_TYPE;
use crate::packet_socket::interface_index;
use crate::report;
use crate::steps::Steps;
use anyhow::{Context, Result};
use aya::programs::Xdp;
use gateway_common::flow::{FlowKind, Latch};
use gateway_userspace::base::id::Side as CallSide;
use gateway_userspace::media::plan::{FlowSpec, GateSpec, OutputSpec, PayloadType};
use gateway_userspace::srtp::{MasterKey, Suite};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};

/// Octets of audio.
const SIZES: [usize; 3] = [20, 160, 1000];
/// Packets of each size; the first ones settle the flow.
const PACKETS: u16 = 4000;
const SETTLING: usize = 1000;
/// Where the flows are: plain, protecting, unprotecting.
const PORTS: [u16; 3] = [20_000, 20_002, 20_004];
/// Where RTP has its sequence number, and UDP its checksum, which a packet need not have.
const SEQUENCE_AT: usize = 44;
const CHECKSUM_AT: usize = 40;

/// Nanoseconds a packet: of a plain relay, of one that protects, and of one that unprotects.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Srtp {
    pub(super) octets: usize,
    pub(super) plain_ns: f64,
    pub(super) protect_ns: f64,
    pub(super) unprotect_ns: f64,
}

pub(super) fn measure(
    steps: &Steps,
    path: &Path<'_>,
    causeway: &mut Causeway,
    relay: &Xdp,
) -> Result<Vec<Srtp>> {
    let key =
        MasterKey::new(Suite::AesCm128HmacSha1_80, &std::array::from_fn::<u8, 30, _>(|octet| octet as u8))
            .context("a key of 30 octets")?;
    let host = hosts(path);
    let flow = |at: u16, to: u16| FlowSpec {
        from: CallSide::Caller,
        at: SocketAddr::from((host, at)),
        kind: FlowKind::Rtp,
        gate: GateSpec::Any,
        latch: Latch::SameSsrc,
        dscp: Some(46),
        rate: None,
        clock_rate: 8000,
        payload_types: vec![PayloadType { near: PAYLOAD_TYPE, far: PAYLOAD_TYPE, event: false }],
        muted: false,
        continuity: true,
        rtcp_copy: false,
        judged: None,
        rtp: Some(OutputSpec {
            from: SocketAddr::from((host, 4000)),
            to: SocketAddr::from((host, to)),
            learned_from: None,
        }),
        rtcp: None,
        unprotect: None,
        protect: None,
        checks: None,
        userspace: None,
        bridge: None,
    };
    let [plain, protecting, unprotecting] = PORTS;
    let flows = [
        flow(plain, plain),
        FlowSpec { protect: Some(key.clone()), ..flow(protecting, unprotecting) },
        FlowSpec { unprotect: Some(key), ..flow(unprotecting, plain) },
    ];
    steps.run("SRTP", |step| {
        let mut figures = Vec::new();
        for octets in SIZES {
            // Anew for each size, so that sequence numbers may begin anew.
            let ids = causeway.install(&flows)?;
            let mac = path.endpoint(Side::Caller).mac;
            path.remember_neighbour(
                "gateway",
                Side::Caller.gateway_interface(),
                Port { address: host, mac },
            )?;
            let timed = enter(&path.gateway_namespace(), || time(path, relay, octets));
            causeway.remove(&ids);
            let srtp = timed.with_context(|| causeway.refused().unwrap_or_default())?;
            step.detail(format!("{octets} octets: {:.0} and {:.0} ns", srtp.protect_ns, srtp.unprotect_ns));
            figures.push(srtp);
        }
        Ok(figures)
    })
}

/// The host that all flows are at and lead to, behind the caller's link.
fn hosts(path: &Path<'_>) -> Ipv4Addr {
    let [a, b, c, _] = path.gateway(Side::Caller).address.octets();
    Ipv4Addr::new(a, b, c, 100)
}

fn time(path: &Path<'_>, relay: &Xdp, octets: usize) -> Result<Srtp> {
    let host = hosts(path);
    let from = Port { address: host, ..path.endpoint(Side::Caller) };
    let to = Port { address: host, ..path.gateway(Side::Caller) };
    let [plain, protecting, _] = PORTS;
    let index = interface_index(Side::Caller.gateway_interface())?;
    let mut runs: [Vec<f64>; 3] = Default::default();
    for sequence in 1..=PACKETS {
        let packet = |port: u16| {
            let mut packet = frame((from, 4000), (to, port), PAYLOAD_TYPE, &vec![0xd5; octets]);
            packet[SEQUENCE_AT..SEQUENCE_AT + 2].copy_from_slice(&sequence.to_be_bytes());
            // The sum of a packet that came with another sequence number.
            add_to_checksum(&mut packet[CHECKSUM_AT..CHECKSUM_AT + 2], 1, sequence);
            packet
        };
        let arrival = Arrival::of(index, HEADERS + octets);
        runs[0].push(arrival.timed(relay, &packet(plain), 1)?.0);
        let (protect, protected) = arrival.timed(relay, &packet(protecting), 1)?;
        runs[1].push(protect);
        let arrival = Arrival::of(index, protected.len());
        runs[2].push(arrival.timed(relay, &protected, 1)?.0);
    }
    let [plain_ns, protect_ns, unprotect_ns] = runs.map(|mut run| report::median(&run.split_off(SETTLING)));
    Ok(Srtp { octets, plain_ns: plain_ns?, protect_ns: protect_ns?, unprotect_ns: unprotect_ns? })
}

/// RFC 1624: a word of the packet is another one now.
fn add_to_checksum(field: &mut [u8], before: u16, now: u16) {
    let checksum = u16::from_be_bytes([field[0], field[1]]);
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(now);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    field.copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
