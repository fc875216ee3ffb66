//! What a call wants from the data plane, in its own words: the flows of one negotiated media stream.
//!
//! The data plane compiles these into [`gateway_common::flow::FlowConfig`]; nothing here knows a map.

mod bridging;
mod playing;

use super::policy::MediaPolicy;
use crate::base::id::Side;
use crate::ice::{Credentials, Peer, UnknownAttributes};
use crate::media::bridge::packet_ms;
use crate::rtp::{Codec, Encoding};
use crate::sdp::{Checks, Negotiated, NegotiatedFormat, Security};
use crate::srtp::MasterKey;
use gateway_common::flow::{FlowKind, Latch, PT_EVENT, PT_REFUSED, Punted};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use bridging::{BridgeSpec, Bridged};
pub use playing::Opposite;

/// The flows that relay between two legs, the caller's first: two when both legs have RTP and RTCP on one port,
/// four when neither has, three when one has.
///
/// What arrives from a leg is gated, latched and limited by that leg's trunk, and marked by the other's.
///
/// None where one leg has gone over to fax and the other not yet.
pub fn plan(caller: LegMedia<'_>, callee: LegMedia<'_>, settings: PlanSettings) -> MediaPlan {
    if caller.is_fax() != callee.is_fax() {
        return MediaPlan::default();
    }
    let first_of_callee = caller.flow_count();
    let caller = Placed { leg: caller, side: Side::Caller, first: 0 };
    let callee = Placed { leg: callee, side: Side::Callee, first: first_of_callee };
    let mut flows = Vec::with_capacity(4);
    for (near, far) in [(caller, callee), (callee, caller)] {
        flows.push(media_flow(near, far, settings));
        if !near.leg.negotiated.rtcp_mux {
            flows.push(rtcp_flow(near, far, settings));
        }
    }
    MediaPlan { flows }
}

/// The flows while `answering` has our offer and has not answered: what it sends already goes to the address that
/// `offering` signalled, by the numbers of the offer. Nothing goes the other way, no source is latched, and so no packet
/// leaves for an address that signalling did not name.
///
/// In the shape that the answer usually leads to, so that the flows are then changed in place: where we offered RTP and
/// RTCP on one port, RTCP is heard there and on the port above.
///
/// Where our offer speaks of SRTP, nothing that comes before the answer can be read, and nothing of it is relayed: the
/// answer brings the key (RFC 4568 section 5.1.2).
pub fn plan_before_answer(
    offering: LegMedia<'_>,
    answering: LegMedia<'_>,
    answerer: Side,
    settings: PlanSettings,
) -> MediaPlan {
    let two_ports = Negotiated { rtcp_mux: answering.is_fax(), ..answering.negotiated.clone() };
    let may_share = answering.negotiated.rtcp_mux && !answering.is_fax();
    let answering = LegMedia { negotiated: &two_ports, ..answering };
    let mut plan = match answerer {
        Side::Callee => plan(offering, answering, settings),
        Side::Caller => plan(answering, offering, settings),
    };
    let checked: Vec<bool> = plan.flows.iter().map(|flow| flow.checks.is_some()).collect();
    for flow in &mut plan.flows {
        flow.latch = Latch::Signalled;
        for output in [&mut flow.rtp, &mut flow.rtcp].into_iter().flatten() {
            // A check vouches for its address before an answer too.
            output.learned_from =
                output.learned_from.filter(|from| checked.get(*from).copied().unwrap_or_default());
        }
        if flow.from == answerer {
            if flow.checks.is_none() {
                flow.gate = answering.policy.gate.before_answer();
            }
            if matches!(two_ports.security, Security::Awaited) {
                (flow.rtp, flow.rtcp) = (None, None);
            }
        }
    }
    let rtcp = plan.flows.iter().find(|flow| flow.from == answerer && flow.kind == FlowKind::Rtcp).cloned();
    if let (true, Some(rtcp)) = (may_share, rtcp)
        && let Some(rtp) = plan.flows.iter_mut().find(|flow| flow.at == two_ports.local)
    {
        (rtp.kind, rtp.rtcp, rtp.rtcp_copy) = (FlowKind::Mux, rtcp.rtcp, rtcp.rtcp_copy);
    }
    plan
}

/// One leg's part of a plan: what was negotiated with its peer, and what its trunk says.
#[derive(Clone, Copy, Debug)]
pub struct LegMedia<'a> {
    pub negotiated: &'a Negotiated,
    pub policy: &'a MediaPolicy,
}

/// What holds for every flow of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// Keep SSRC, sequence and timestamp continuous when the source of a stream changes.
    pub continuity: bool,
    /// Copy RTCP to userspace, for round-trip times and what the far end lost.
    pub rtcp_copy: bool,
}

/// Everything to relay for one call. Flows refer to each other by their position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaPlan {
    pub flows: Vec<FlowSpec>,
}

/// One direction of one stream: packets that arrive at `at`.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSpec {
    /// Whose media it is: the side that sends it.
    pub from: Side,
    pub at: SocketAddr,
    pub kind: FlowKind,
    pub gate: GateSpec,
    pub latch: Latch,
    /// Differentiated services mark of relayed packets, 0 to 63; `None` keeps the incoming one.
    pub dscp: Option<u8>,
    pub rate: Option<RateLimit>,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Payload types that may pass; all others are refused.
    pub payload_types: Vec<PayloadType>,
    /// The direction is closed (hold): RTP is counted and swallowed, RTCP goes on (RFC 3264 section 5.1).
    pub muted: bool,
    /// Keep SSRC, sequence and timestamp continuous when the source of the stream changes.
    pub continuity: bool,
    /// Copy RTCP to userspace as well.
    pub rtcp_copy: bool,
    /// The peer wants to hear how it is heard ([`crate::rtp::rtcp::VoipMetrics`]).
    pub judged: Option<Box<Judged>>,
    pub rtp: Option<OutputSpec>,
    pub rtcp: Option<OutputSpec>,
    /// What packets that arrive are protected with (RFC 3711); `None` for plain ones. The flows that hear one peer have
    /// the same.
    pub unprotect: Option<MasterKey>,
    /// What packets that leave are to be protected with. Flows that lead to one peer have the same, and the RTCP of all
    /// of them counts by one index for each source: an index must not be met twice under a key (RFC 3711 section 9.1).
    pub protect: Option<MasterKey>,
    /// Userspace relays, and why; `None` leaves it to the kernel where there is XDP and it knows how.
    pub userspace: Option<Punted>,
    /// What stands between its two peers where their packets are not relayed as they are; that of all flows of the plan.
    pub bridge: Option<Arc<BridgeSpec>>,
    /// Connectivity checks that arrive here. What they vouch for takes the place of `gate`, and of `to` in outputs that
    /// learn from this flow.
    pub checks: Option<ChecksSpec>,
}

/// What a stream is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub codec: Codec,
    /// What one of its packets carries, as the other leg's peer asked.
    pub packet: Duration,
}

/// Who may send connectivity checks, and what they prove (RFC 8445).
#[derive(Clone, Debug, PartialEq)]
pub struct ChecksSpec {
    pub local: Credentials,
    pub unknown: UnknownAttributes,
    /// The far ends that an offer of ours was forked to, or the one there is; none before an answer. Media goes to the
    /// first.
    pub forks: Vec<Fork>,
}

/// One far end that sends checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Fork {
    pub peer: Peer,
    /// What its packets are protected with.
    pub unprotect: Option<MasterKey>,
}

/// Which sources a flow hears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateSpec {
    Exact(SocketAddr),
    Subnet(IpNet),
    Any,
}

/// Packets per second, and how many may come at once above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub packets_per_second: u32,
    pub burst: u32,
}

/// A payload type on the near side and its number on the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadType {
    pub near: u8,
    pub far: u8,
    /// Telephone-events (RFC 4733): recorded to userspace.
    pub event: bool,
}

/// Where packets leave from and to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputSpec {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Position in the plan of the flow that the far end sends to: its latched source replaces `to`.
    pub learned_from: Option<usize>,
}

impl MediaPlan {
    /// Checks and packets of further far ends that an offer to `side` was forked to are taken too, behind the one that
    /// media goes to.
    pub fn hear_forks(&mut self, side: Side, forks: &[Fork]) {
        for flow in self.flows.iter_mut().filter(|flow| flow.from == side) {
            let Some(checks) = &mut flow.checks else { continue };
            for fork in forks {
                if checks.forks.iter().all(|known| known.peer.ufrag != fork.peer.ufrag) {
                    checks.forks.push(fork.clone());
                }
            }
        }
    }
}

impl FlowSpec {
    /// Whether packets are protected on either side of it.
    pub fn is_secured(&self) -> bool {
        self.unprotect.is_some() || self.protect.is_some()
    }
}

impl LegMedia<'_> {
    fn is_fax(&self) -> bool {
        self.negotiated.fax.is_some()
    }

    /// Flows that hear this leg's peer.
    fn flow_count(&self) -> usize {
        if self.negotiated.rtcp_mux { 1 } else { 2 }
    }

    fn rtcp_local(&self) -> SocketAddr {
        let Negotiated { local, rtcp_mux, .. } = *self.negotiated;
        // A local RTP port is even, so the port above it exists.
        if rtcp_mux { local } else { SocketAddr::new(local.ip(), local.port() | 1) }
    }

    /// The gate of a flow whose peer signalled `remote`; closed by address if it signalled none.
    fn gate(&self, remote: Option<SocketAddr>) -> GateSpec {
        let nobody = nobody(self.negotiated.local.ip());
        match self.negotiated.checks {
            // Closed until a check says who it is.
            Some(_) => GateSpec::Exact(nobody),
            None => self.policy.gate.around(remote.unwrap_or(nobody)),
        }
    }

    /// Where it is sent to if nothing better is learned: where signalling said, and nowhere if checks have to say it.
    fn signalled(&self, remote: SocketAddr) -> SocketAddr {
        match self.negotiated.checks {
            Some(_) => nobody(remote.ip()),
            None => remote,
        }
    }

    fn latch(&self) -> Latch {
        if self.negotiated.checks.is_some() { Latch::Signalled } else { self.policy.latch }
    }

    fn checks(&self) -> Option<ChecksSpec> {
        let Checks { local, peer, unknown } = self.negotiated.checks.as_deref()?;
        let unprotect = self.negotiated.security.from_peer();
        let forks = peer.iter().map(|peer| Fork { peer: peer.clone(), unprotect: unprotect.cloned() });
        Some(ChecksSpec { local: local.clone(), unknown: *unknown, forks: forks.collect() })
    }
}

/// No address of the family of this one.
fn nobody(of: IpAddr) -> SocketAddr {
    match of {
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// A leg and where its flows stand in the plan: the one that hears RTP first, the one that hears RTCP last.
#[derive(Clone, Copy)]
struct Placed<'a> {
    leg: LegMedia<'a>,
    side: Side,
    first: usize,
}

impl Placed<'_> {
    /// The way out to this leg's peer for RTP.
    fn rtp_output(&self) -> Option<OutputSpec> {
        let to = self.leg.signalled(self.leg.negotiated.remote?);
        Some(OutputSpec { from: self.leg.negotiated.local, to, learned_from: self.learned(self.first) })
    }

    /// The way out to this leg's peer for RTCP.
    fn rtcp_output(&self) -> Option<OutputSpec> {
        let to = self.leg.signalled(self.leg.negotiated.remote_rtcp?);
        let hears_rtcp = self.first + self.leg.flow_count() - 1;
        Some(OutputSpec { from: self.leg.rtcp_local(), to, learned_from: self.learned(hears_rtcp) })
    }

    fn learned(&self, flow: usize) -> Option<usize> {
        let learns = self.leg.latch() != Latch::Signalled || self.leg.negotiated.checks.is_some();
        learns.then_some(flow)
    }
}

/// The flow that hears RTP of `near`'s peer, and RTCP too if both share a port.
fn media_flow(near: Placed<'_>, far: Placed<'_>, settings: PlanSettings) -> FlowSpec {
    let Negotiated { local, remote, direction, .. } = *near.leg.negotiated;
    let is_fax = near.leg.is_fax();
    let rtcp_mux = near.leg.negotiated.rtcp_mux && !is_fax;
    FlowSpec {
        from: near.side,
        at: local,
        kind: match (is_fax, rtcp_mux) {
            (true, _) => FlowKind::Udptl,
            (false, true) => FlowKind::Mux,
            (false, false) => FlowKind::Rtp,
        },
        gate: near.leg.gate(remote),
        latch: near.leg.latch(),
        dscp: far.leg.policy.dscp,
        rate: near.leg.policy.rate,
        clock_rate: clock_rate(near.leg.negotiated),
        payload_types: payload_types(near.leg.negotiated, far.leg.negotiated),
        muted: !(direction.sends() && far.leg.negotiated.direction.receives()),
        continuity: settings.continuity,
        rtcp_copy: rtcp_mux && settings.rtcp_copy,
        judged: judged(near.leg.negotiated, far.leg.negotiated).map(Box::new),
        rtp: far.rtp_output(),
        rtcp: if rtcp_mux { far.rtcp_output() } else { None },
        unprotect: near.leg.negotiated.security.from_peer().cloned(),
        protect: far.leg.negotiated.security.to_peer().cloned(),
        checks: near.leg.checks(),
        userspace: userspace(near, far),
        bridge: None,
    }
}

/// Fax, which is no RTP; else one trunk of the two is enough.
fn userspace(near: Placed<'_>, far: Placed<'_>) -> Option<Punted> {
    if near.leg.is_fax() {
        return Some(Punted::Udptl);
    }
    (near.leg.policy.userspace || far.leg.policy.userspace).then_some(Punted::Policy)
}

/// The flow that hears RTCP alone.
fn rtcp_flow(near: Placed<'_>, far: Placed<'_>, settings: PlanSettings) -> FlowSpec {
    FlowSpec {
        from: near.side,
        at: near.leg.rtcp_local(),
        kind: FlowKind::Rtcp,
        gate: near.leg.gate(near.leg.negotiated.remote_rtcp),
        latch: near.leg.latch(),
        dscp: far.leg.policy.dscp,
        rate: near.leg.policy.rate,
        clock_rate: clock_rate(near.leg.negotiated),
        payload_types: Vec::new(),
        muted: false,
        continuity: settings.continuity,
        rtcp_copy: settings.rtcp_copy,
        judged: None,
        rtp: None,
        rtcp: far.rtcp_output(),
        unprotect: near.leg.negotiated.security.from_peer().cloned(),
        protect: far.leg.negotiated.security.to_peer().cloned(),
        checks: near.leg.checks(),
        userspace: userspace(near, far),
        bridge: None,
    }
}

/// That of the preferred speech format: a leg relays one encoding at a time, and its events run on its clock.
fn clock_rate(negotiated: &Negotiated) -> u32 {
    let speech = negotiated.formats.iter().find(|format| format.codec.encoding.is_speech());
    speech.map_or(8_000, |format| format.codec.clock_rate)
}

fn judged(near: &Negotiated, far: &Negotiated) -> Option<Judged> {
    let codec = near.preferred().filter(|_| near.metrics)?.codec.clone();
    Some(Judged { codec, packet: Duration::from_millis(packet_ms(far).into()) })
}

/// What `near`'s peer may send, by its number and by that of `far`'s peer: the formats that both legs agreed on.
fn payload_types(near: &Negotiated, far: &Negotiated) -> Vec<PayloadType> {
    let mut unpaired: Vec<&NegotiatedFormat> = far.formats.iter().collect();
    let mut pairs = Vec::with_capacity(near.formats.len());
    for format in &near.formats {
        let Some(position) = unpaired.iter().position(|other| format.relays_as(other)) else { continue };
        pairs.push((format, unpaired.remove(position).to_peer));
    }
    let entry = |near: u8, far: u8, format: &NegotiatedFormat| PayloadType {
        near,
        far,
        // The kernel's table has no room for an event by number 127: it is relayed without a record.
        event: format.codec.encoding == Encoding::TelephoneEvent && far | PT_EVENT != PT_REFUSED,
    };
    let mut types: Vec<_> = pairs.iter().map(|(format, far)| entry(format.from_peer, *far, format)).collect();
    for (format, far) in pairs {
        if let Some(also) = format.also_from_peer.filter(|also| types.iter().all(|known| known.near != *also))
        {
            types.push(entry(also, far, format));
        }
    }
    types
}

#[cfg(test)]
mod tests;
