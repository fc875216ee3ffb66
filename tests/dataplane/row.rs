//! A sentence of the table: flows, packets before, a packet in, and what is to become of it.

use crate::lab::{LAN, LAN_MAC, WAN, WAN_MAC};
use gateway_common::flow::{FlowKind, Latch};
use gateway_common::verdict::Reason;
use gateway_userspace::base::id::Side;
use gateway_userspace::dataplane::{FlowReport, Record};
use gateway_userspace::media::plan::{FlowSpec, GateSpec, OutputSpec, PayloadType};
use support::wire::{Frame, Rtp};

/// One sentence.
pub struct Row {
    pub says: String,
    pub flows: Vec<FlowSpec>,
    /// Packets before the one that the sentence is about, and the interfaces they come in by.
    pub earlier: Vec<(u32, Vec<u8>)>,
    pub ingress: u32,
    pub frame: Vec<u8>,
    pub then: Then,
    /// Figures of the first flow after it.
    pub figures: Vec<(Figure, u64)>,
    /// What the flow tells userspace of this packet; `None` leaves it open.
    pub tells: Option<Vec<Told>>,
}

/// What is to become of a packet.
pub enum Then {
    Passes,
    Drops(Reason),
    /// Leaves by this interface as exactly these octets.
    Sends(u32, Vec<u8>),
    /// Leaves by this interface with a UDP payload of which this holds.
    SendsPayload(u32, Holds),
}

/// What has to hold of a UDP payload.
pub type Holds = Box<dyn Fn(&[u8]) -> bool>;

/// A figure of a flow's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Packets,
    Octets,
    Rtcp,
    Refused,
    Expected,
    Lost,
    Late,
    SourceChanges,
    LatchChanges,
}

impl Figure {
    pub fn of(self, report: &FlowReport) -> u64 {
        match self {
            Self::Packets => report.packets,
            Self::Octets => report.octets,
            Self::Rtcp => report.rtcp_packets,
            Self::Refused => report.refused,
            Self::Expected => report.expected,
            Self::Lost => report.lost,
            Self::Late => report.late.into(),
            Self::SourceChanges => report.source_changes.into(),
            Self::LatchChanges => report.latch_changes.into(),
        }
    }
}

/// A record without its flow and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    EventStart(u8, u16),
    EventEnd(u8, u16),
    Rtcp(Vec<u8>),
    Latched,
}

impl Told {
    pub fn of(record: &Record) -> Option<Self> {
        Some(match record {
            Record::EventStart { event, duration, .. } => Self::EventStart(*event, *duration),
            Record::EventEnd { event, duration, .. } => Self::EventEnd(*event, *duration),
            Record::Rtcp { payload, .. } => Self::Rtcp(payload.clone()),
            Record::Latched { .. } => Self::Latched,
            Record::Key { .. }
            | Record::Played { .. }
            | Record::NeighbourWanted { .. }
            | Record::Captured { .. } => return None,
        })
    }
}

impl Row {
    /// A sentence about [`call`] and [`packet`], which passes until said otherwise.
    pub fn new(says: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            flows: call(),
            earlier: Vec::new(),
            ingress: LAN,
            frame: packet().octets(),
            then: Then::Passes,
            figures: Vec::new(),
            tells: None,
        }
    }

    /// Changes the caller's flow.
    pub fn caller(mut self, change: impl FnOnce(&mut FlowSpec)) -> Self {
        change(&mut self.flows[0]);
        self
    }

    /// Changes the callee's flow.
    pub fn callee(mut self, change: impl FnOnce(&mut FlowSpec)) -> Self {
        change(&mut self.flows[1]);
        self
    }

    pub fn flows(mut self, flows: Vec<FlowSpec>) -> Self {
        self.flows = flows;
        self
    }

    /// The flow of the caller leads here instead.
    pub fn towards(self, from: &str, to: &str) -> Self {
        let output = output(from, to);
        self.caller(|flow| (flow.rtp, flow.rtcp) = (output, output))
    }

    pub fn after(mut self, frame: Frame) -> Self {
        self.earlier.push((LAN, frame.octets()));
        self
    }

    pub fn after_on(mut self, ingress: u32, frame: Frame) -> Self {
        self.earlier.push((ingress, frame.octets()));
        self
    }

    pub fn frame(mut self, frame: Frame) -> Self {
        self.frame = frame.octets();
        self
    }

    /// The packet, changed before its checksums are made.
    pub fn with(self, change: impl FnOnce(&mut Frame)) -> Self {
        let mut frame = packet();
        change(&mut frame);
        self.frame(frame)
    }

    /// The packet with another RTP packet in it.
    pub fn rtp(self, change: impl FnOnce(&mut Rtp)) -> Self {
        self.frame(rtp(change))
    }

    /// The octets on the wire, damaged.
    pub fn damaged(mut self, damage: impl FnOnce(&mut Vec<u8>)) -> Self {
        damage(&mut self.frame);
        self
    }

    pub fn by(mut self, ingress: u32) -> Self {
        self.ingress = ingress;
        self
    }

    pub fn passes(self) -> Self {
        self
    }

    pub fn drops(mut self, reason: Reason) -> Self {
        self.then = Then::Drops(reason);
        self
    }

    pub fn sends(mut self, egress: u32, frame: Frame) -> Self {
        self.then = Then::Sends(egress, frame.octets());
        self
    }

    /// Leaves as the usual packet does, with this change.
    pub fn sends_with(self, change: impl FnOnce(&mut Frame)) -> Self {
        let mut frame = relayed(&packet());
        change(&mut frame);
        self.sends(WAN, frame)
    }

    pub fn sends_payload(mut self, holds: impl Fn(&[u8]) -> bool + 'static) -> Self {
        self.then = Then::SendsPayload(WAN, Box::new(holds));
        self
    }

    pub fn figures(mut self, figures: &[(Figure, u64)]) -> Self {
        self.figures = figures.to_vec();
        self
    }

    pub fn tells(mut self, told: &[Told]) -> Self {
        self.tells = Some(told.to_vec());
        self
    }
}

pub fn output(from: &str, to: &str) -> Option<OutputSpec> {
    let address = |text: &str| text.parse().expect("the test writes addresses right");
    Some(OutputSpec { from: address(from), to: address(to), learned_from: None })
}

/// A flow that hears everybody and carries PCMU, PCMA and telephone-events.
pub fn flow(at: &str, from: &str, to: &str) -> FlowSpec {
    let payload_type = |near, far, event| PayloadType { near, far, event };
    FlowSpec {
        from: Side::Caller,
        at: at.parse().expect("the test writes addresses right"),
        kind: FlowKind::Mux,
        gate: GateSpec::Any,
        latch: Latch::Signalled,
        dscp: None,
        rate: None,
        clock_rate: 8000,
        payload_types: vec![
            payload_type(0, 0, false),
            payload_type(8, 8, false),
            payload_type(97, 111, false),
            payload_type(96, 101, true),
        ],
        muted: false,
        continuity: false,
        rtcp_copy: false,
        judged: None,
        rtp: output(from, to),
        rtcp: output(from, to),
        unprotect: None,
        protect: None,
        checks: None,
        userspace: None,
        bridge: None,
    }
}

/// A call between a caller on `lan` and a callee behind `wan`: its two flows.
pub fn call() -> Vec<FlowSpec> {
    vec![
        flow("192.0.2.1:30000", "198.51.100.1:40000", "203.0.113.9:5000"),
        flow("198.51.100.1:40000", "192.0.2.1:30000", "192.0.2.10:4000"),
    ]
}

/// An IPv6 flow of the caller beside those of the call, which leads where theirs does.
pub fn call6() -> Vec<FlowSpec> {
    let mut flows = call();
    flows.push(flow("[2001:db8:1::1]:30000", "198.51.100.1:40000", "203.0.113.9:5000"));
    flows.swap(0, 2);
    flows
}

/// A packet of the caller.
pub fn packet() -> Frame {
    Frame::new("192.0.2.10:4000", "192.0.2.1:30000", Rtp::default().octets())
}

/// The same over IPv6.
pub fn packet6() -> Frame {
    Frame::new("[2001:db8:1::10]:4000", "[2001:db8:1::1]:30000", Rtp::default().octets())
}

/// A packet of the callee, which comes in by `wan`.
pub fn answer() -> Frame {
    Frame::new("203.0.113.9:5000", "198.51.100.1:40000", Rtp::default().octets())
}

/// A packet of the caller with this RTP in it.
pub fn rtp(change: impl FnOnce(&mut Rtp)) -> Frame {
    let mut content = Rtp::default();
    change(&mut content);
    Frame { payload: content.octets(), ..packet() }
}

/// A packet of the caller with this payload.
pub fn carrying(payload: Vec<u8>) -> Frame {
    Frame { payload, ..packet() }
}

/// What a packet of the caller becomes: fresh headers, to the router that leads to the callee.
pub fn relayed(frame: &Frame) -> Frame {
    Frame {
        to_mac: [2, 0, 0, 0, 2, 0x54],
        from_mac: WAN_MAC,
        ..fresh(frame, "198.51.100.1:40000", "203.0.113.9:5000")
    }
}

/// The same payload and mark between other addresses, in headers as the relay makes them.
pub fn fresh(frame: &Frame, from: &str, to: &str) -> Frame {
    Frame {
        from_mac: LAN_MAC,
        hop_limit: 64,
        identification: 0,
        fragment: 0x4000,
        flow_label: 0,
        traffic_class: frame.traffic_class,
        checksum: frame.checksum,
        ..Frame::new(from, to, frame.payload.clone())
    }
}
