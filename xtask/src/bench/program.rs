//! `cargo xtask bench program`: nanoseconds that the XDP program itself takes for a packet, by the kernel's
//! test-run (`BPF_PROG_TEST_RUN`), against an empty program that transmits.
//!
//! Test-run hands the program its own output as the next input. So the flows form a ring: each sends to the
//! address of another one, in no order that a machine could foresee, and every packet meets another key, another
//! configuration and another state. With many flows that is as unkind to caches as a busy gateway is. Where the last packet
//! went proves that the program relayed every one of them. It arrives by the interface that it leaves by, so
//! that all programs end in `XDP_TX`. A third program fetches the memory of as many flows and does nothing with it:
//! what is left of the relay's figure above that one is the relay's own work, whatever the number of flows.
//!
//! What the programs take where packets come over the lab is measured by [`in_service`].

use super::in_service::{self, InService};
use super::relay::causeway::Causeway;
use super::relay::lab::{Path, Port, Side, enter};
use super::relay::programs::Bench;
use super::relay::traffic::{HEADERS, frame};
use super::srtp_program::{self, Srtp};
use super::{ProgramArguments, ProgramPart as Part};
use crate::media::PAYLOAD_TYPE;
use crate::packet_socket::interface_index;
use crate::report;
use crate::steps::Steps;
use crate::tap::quantile;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use gateway_common::account::TIMED_FIRST;
use gateway_common::flow::{FlowKind, Latch};
use gateway_userspace::base::id::Side as CallSide;
use gateway_userspace::media::plan::{FlowSpec, GateSpec, OutputSpec, PayloadType};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

/// Flows in the table, and those that packets come for: what a packet costs must not depend on the first.
const FLOWS: [(usize, usize); 4] = [(100, 100), (100_000, 100), (10_000, 10_000), (100_000, 100_000)];
/// Packets of one timed run, a multiple of every count: the packet ends where it began. Short, and all programs in
/// turns: what others do on the machine, and its clock, drift by more than the programs differ.
const PACKETS: u32 = 100_000;
/// Turns for each repetition asked for.
const TURNS: u32 = 15;
/// Packets of each flow before the first timed run, at least: more than the first ones, whose time is taken of all.
const SETTLING: usize = 2 * TIMED_FIRST as usize;
/// The ring goes on from flow `n` to `n * FACTOR + STEP`: through all flows, whatever power of ten they are (Knuth, The Art
/// of Computer Programming, section 3.2.1.2, theorem A), and in no regular order. At a regular stride this machine's
/// memory answers at twice the speed, or not, by the size of a slot.
const FACTOR: usize = 14_021;
const STEP: usize = 7919;
/// Flows on one address, from this port on.
const PORTS: usize = 50_000;
const FIRST_PORT: u16 = 10_000;
/// Octets of one packet's audio: 20 ms of G.711.
const PAYLOAD: usize = 160;
/// Where a packet names its flow to the relay: the UDP destination port; and to the program that fetches memory.
const PORT_AT: Range<usize> = 36..38;
const FLOW_AT: Range<usize> = 42..46;
/// `XDP_TX` of linux/bpf.h.
const XDP_TX: u32 = 3;

/// The last line of `--json`. Nanoseconds a packet.
#[derive(Debug, Serialize)]
struct Figures {
    empty_tx_ns: f64,
    causeway_ns: f64,
    causeway_over_empty: f64,
    /// Three quarters of the turns are above the first and below the second.
    causeway_over_empty_quartiles: [f64; 2],
    flows_100_ns: f64,
    /// Packets for so many flows, with more in the table.
    flows_100_of_100000_ns: f64,
    flows_10000_ns: f64,
    flows_100000_ns: f64,
    /// Of the program that only fetches the memory of flows.
    memory_100_ns: f64,
    memory_10000_ns: f64,
    memory_100000_ns: f64,
    /// Empty unless measured.
    srtp: Vec<Srtp>,
    in_service: Option<InService>,
    repetitions: u8,
}

pub(super) fn run(arguments: &ProgramArguments, json: bool) -> Result<()> {
    let (workspace, steps) = (Workspace::find()?, Steps::new());
    let path = Path::up(&workspace, "benchprog")?;
    let mut causeway = Causeway::start(&path)?;
    let bench = Bench::read(&workspace.objects())?;
    causeway.transmit()?;
    let relay = causeway.program()?;
    let arrival = Arrival::by(&path, Side::Caller)?;
    let in_gateway = |time: &(dyn Fn() -> Result<Turns> + Sync)| enter(&path.gateway_namespace(), time);

    let empty = bench.empty_tx()?;
    let mut by_flows = [Turns::default(); FLOWS.len()];
    for (figures, (count, busy)) in by_flows.iter_mut().zip(FLOWS) {
        let ring = Ring::of(count, busy, &path);
        let name = if busy == count { format!("{count} flows") } else { format!("{busy} of {count} flows") };
        *figures = steps.run(&name, |step| {
            let memory = bench.memory(count as u32, |flow| ring.next(flow as usize) as u32)?;
            step.doing("installing flows");
            let ids = causeway.install(&ring.flows())?;
            // After the flows: installing them sets the kernel on resolving these hosts, who do not exist.
            ring.make_reachable(&path)?;
            let programs = Programs { empty: empty.program()?, memory: memory.program()?, relay: &relay };
            let turns = in_gateway(&|| ring.turns(&path, &programs, &arrival, arguments.repetitions));
            causeway.remove(&ids);
            let turns = turns.with_context(|| causeway.refused().unwrap_or_default())?;
            let Turns { empty_ns, memory_ns, relay_ns, over_empty: [low, median, high] } = turns;
            step.detail(format!(
                "empty {empty_ns:.1}, memory alone {memory_ns:.1}, relay {relay_ns:.1} ns, {median:.2} x empty ({low:.2} to {high:.2})"
            ));
            Ok(turns)
        })?;
    }
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let srtp = match wanted(Part::Srtp) {
        true => srtp_program::measure(&steps, &path, &mut causeway, &relay)?,
        false => Vec::new(),
    };
    let in_service = wanted(Part::InService)
        .then(|| in_service::measure(&steps, &workspace, &bench, arguments.repetitions))
        .transpose()?;
    let [few, few_of_many, some, many] = by_flows;
    let [low, over_empty, high] = few.over_empty;
    let figures = Figures {
        empty_tx_ns: few.empty_ns,
        causeway_ns: few.relay_ns,
        causeway_over_empty: over_empty,
        causeway_over_empty_quartiles: [low, high],
        flows_100_ns: few.relay_ns,
        flows_100_of_100000_ns: few_of_many.relay_ns,
        flows_10000_ns: some.relay_ns,
        flows_100000_ns: many.relay_ns,
        memory_100_ns: few.memory_ns,
        memory_10000_ns: some.memory_ns,
        memory_100000_ns: many.memory_ns,
        srtp,
        in_service,
        repetitions: arguments.repetitions,
    };
    print_table(&figures);
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// Flows of which some send to each other, in one cycle through all of those.
struct Ring {
    count: usize,
    /// Flows in the cycle, spread over all.
    busy: usize,
    /// Where flows are and where their packets come from: hosts behind the caller's link that nobody is.
    first_host: Ipv4Addr,
    source: SocketAddr,
}

impl Ring {
    fn of(count: usize, busy: usize, path: &Path<'_>) -> Self {
        let [a, b, c, _] = path.gateway(Side::Caller).address.octets();
        let source = SocketAddr::from((Ipv4Addr::new(a, b, c, 99), 4000));
        Self { count, busy, first_host: Ipv4Addr::new(a, b, c, 100), source }
    }

    fn at(&self, flow: usize) -> SocketAddr {
        let host = u32::from(self.first_host) + (flow / PORTS) as u32;
        SocketAddr::from((Ipv4Addr::from(host), FIRST_PORT + (flow % PORTS) as u16))
    }

    /// The flow that hears what `flow` sends.
    fn next(&self, flow: usize) -> usize {
        let spread = self.count / self.busy;
        (flow / spread * FACTOR + STEP) % self.busy * spread
    }

    fn flows(&self) -> Vec<FlowSpec> {
        let flow = |flow: usize| FlowSpec {
            from: CallSide::Caller,
            at: self.at(flow),
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
            rtp: Some(OutputSpec { from: self.source, to: self.at(self.next(flow)), learned_from: None }),
            rtcp: None,
            unprotect: None,
            protect: None,
            checks: None,
            userspace: None,
            bridge: None,
        };
        (0..self.count).map(flow).collect()
    }

    /// Link addresses for the hosts of the ring.
    fn make_reachable(&self, path: &Path<'_>) -> Result<()> {
        let mac = path.endpoint(Side::Caller).mac;
        for flow in (0..self.count).step_by(PORTS) {
            let SocketAddr::V4(at) = self.at(flow) else { continue };
            path.remember_neighbour(
                "gateway",
                Side::Caller.gateway_interface(),
                Port { address: *at.ip(), mac },
            )?;
        }
        Ok(())
    }

    /// A packet for the first flow.
    fn frame(&self, path: &Path<'_>) -> Vec<u8> {
        let from = Port { address: self.first_host, ..path.endpoint(Side::Caller) };
        let to = Port { address: self.first_host, ..path.gateway(Side::Caller) };
        frame((from, self.source.port()), (to, FIRST_PORT), PAYLOAD_TYPE, &[0xd5; PAYLOAD])
    }

    /// Short runs of all programs in turns, after one of the relay that finds next hops and lets all streams settle.
    fn turns(
        &self,
        path: &Path<'_>,
        programs: &Programs<'_>,
        arrival: &Arrival,
        repetitions: u8,
    ) -> Result<Turns> {
        let start = self.frame(path);
        let mut to_memory = start.clone();
        to_memory[FLOW_AT].fill(0);
        self.round(programs.relay, arrival, &start, self.whole_rounds(self.busy * SETTLING), PORT_AT)?;
        let (mut empty, mut memory, mut relay, mut quotients) = (vec![], vec![], vec![], vec![]);
        for _ in 0..u32::from(repetitions) * TURNS {
            let (empty_ns, _) = arrival.timed(programs.empty, &start, PACKETS)?;
            let memory_ns = self.warm(programs.memory, arrival, &to_memory, FLOW_AT)?;
            let relay_ns = self.warm(programs.relay, arrival, &start, PORT_AT)?;
            empty.push(empty_ns);
            memory.push(memory_ns);
            relay.push(relay_ns);
            quotients.push(relay_ns / empty_ns);
        }
        Ok(Turns {
            empty_ns: report::median(&empty)?,
            memory_ns: report::median(&memory)?,
            relay_ns: report::median(&relay)?,
            over_empty: quartiles(quotients),
        })
    }

    /// Nanoseconds of a packet, after a round that brings the flows back into the caches that they fit in.
    fn warm(&self, program: &Xdp, arrival: &Arrival, start: &[u8], name: Range<usize>) -> Result<f64> {
        self.round(program, arrival, start, self.whole_rounds(self.busy), name.clone())?;
        self.round(program, arrival, start, PACKETS, name)
    }

    /// Nanoseconds of a packet. A whole number of rounds: unless a packet went astray, the last one names the first
    /// flow again, by the octets `name`.
    fn round(
        &self,
        program: &Xdp,
        arrival: &Arrival,
        start: &[u8],
        packets: u32,
        name: Range<usize>,
    ) -> Result<f64> {
        let (ns, last) = arrival.timed(program, start, packets)?;
        let (first, found) = (start.get(name.clone()), last.get(name));
        ensure!(first == found, "the ring ended at flow {found:02x?}: a packet was not relayed");
        Ok(ns)
    }

    /// Packets in whole rounds, at least so many.
    fn whole_rounds(&self, packets: usize) -> u32 {
        (packets.div_ceil(self.busy) * self.busy) as u32
    }
}

/// What is compared.
struct Programs<'a> {
    empty: &'a Xdp,
    memory: &'a Xdp,
    relay: &'a Xdp,
}

/// Medians of all turns.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    empty_ns: f64,
    memory_ns: f64,
    relay_ns: f64,
    /// Quartiles of the quotients of the single turns.
    over_empty: [f64; 3],
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| quantile(&values, share))
}

/// How test-run says that packets come: `struct xdp_md` of linux/bpf.h.
pub(super) struct Arrival([u8; 24]);

impl Arrival {
    /// By the gateway's interface on `side`.
    fn by(path: &Path<'_>, side: Side) -> Result<Self> {
        let index = enter(&path.gateway_namespace(), || interface_index(side.gateway_interface()))?;
        Ok(Self::of(index, HEADERS + PAYLOAD))
    }

    /// Frames of `octets` by the interface with this index.
    pub(super) fn of(index: u32, octets: usize) -> Self {
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let fields = [0, octets as u32, 0, index, 0, 0];
        let mut context = [0; 24];
        for (octets, field) in context.chunks_exact_mut(4).zip(fields) {
            octets.copy_from_slice(&field.to_ne_bytes());
        }
        Self(context)
    }

    /// Nanoseconds a packet, and the last packet as the program left it. In the namespace of the interface.
    pub(super) fn timed(&self, program: &Xdp, packet: &[u8], packets: u32) -> Result<(f64, Vec<u8>)> {
        // Room for what protection adds.
        let mut last = vec![0; packet.len() + 32];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut last),
            ctx_in: Some(&self.0),
            repeat: packets,
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).context("test-run")?;
        let returned = result.return_value;
        ensure!(returned == XDP_TX, "test-run: the program answered {returned} instead of {XDP_TX}");
        last.truncate(result.data_size_out as usize);
        // The kernel cuts what a packet took to whole nanoseconds: half of one is what that takes away.
        Ok((result.duration.as_nanos() as f64 + 0.5, last))
    }
}

fn print_table(figures: &Figures) {
    let mut table = report::table(["program", "flows", "ns a packet", "× empty"], &[1, 2, 3]);
    let rows = [
        ("empty XDP_TX", "", figures.empty_tx_ns),
        ("memory of flows alone", "100", figures.memory_100_ns),
        ("", "10,000", figures.memory_10000_ns),
        ("", "100,000", figures.memory_100000_ns),
        ("Causeway relay", "100", figures.flows_100_ns),
        ("", "100 of 100,000", figures.flows_100_of_100000_ns),
        ("", "10,000", figures.flows_10000_ns),
        ("", "100,000", figures.flows_100000_ns),
    ];
    for (program, flows, ns) in rows {
        let ratio = format!("{:.2}", ns / figures.empty_tx_ns);
        table.add_row([program.to_owned(), flows.to_owned(), format!("{ns:.0}"), ratio]);
    }
    println!("{table}");
    let [low, high] = figures.causeway_over_empty_quartiles;
    println!(
        "by test-run of {PACKETS} packets, each for another flow; medians of {} turns. Turn by turn, at 100 flows: {:.2} x \
         empty, between {low:.2} and {high:.2} in half of them.",
        u32::from(figures.repetitions) * TURNS,
        figures.causeway_over_empty
    );
    println!(
        "memory of flows alone: a program that only fetches, of each packet's flow, the cache lines that a"
    );
    println!(
        "relay needs, and counts in one of them. What it takes more with more flows is this machine's memory."
    );
    if !figures.srtp.is_empty() {
        print_srtp(&figures.srtp);
    }
    if let Some(in_service) = &figures.in_service {
        print_in_service(in_service);
    }
}

fn print_srtp(figures: &[Srtp]) {
    let mut table = report::table(["SRTP, octets", "plain ns", "protect ns", "unprotect ns"], &[0, 1, 2, 3]);
    for Srtp { octets, plain_ns, protect_ns, unprotect_ns } in figures {
        let row = [
            octets.to_string(),
            format!("{plain_ns:.0}"),
            format!("{protect_ns:.0}"),
            format!("{unprotect_ns:.0}"),
        ];
        table.add_row(row);
    }
    println!("{table}");
    println!("AES_CM_128_HMAC_SHA1_80, packet by packet: a run of one packet costs some tens of ns besides.");
}

fn print_in_service(figures: &InService) {
    let InService { empty_redirect_ns, flows_100_ns, flows_100000_ns } = *figures;
    let mut table = report::table(["program, in service", "flows", "ns a packet", "× empty"], &[1, 2, 3]);
    let rows = [
        ("empty redirect", "", empty_redirect_ns),
        ("Causeway relay", "100", flows_100_ns),
        ("", "100,000", flows_100000_ns),
    ];
    for (program, flows, ns) in rows {
        let ratio = format!("{:.2}", ns / empty_redirect_ns);
        table.add_row([program.to_owned(), flows.to_owned(), format!("{ns:.0}"), ratio]);
    }
    println!("{table}");
    println!("by the kernel's statistics of running programs, its two looks at the clock included.");
}
