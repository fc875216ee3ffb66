use super::*;
use crate::media::policy::GatePolicy;
use crate::sdp::Direction;
use crate::srtp::Suite;

const SETTINGS: PlanSettings = PlanSettings { continuity: true, rtcp_copy: true };

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn format(codec: &str, from_peer: u8, to_peer: u8) -> NegotiatedFormat {
    NegotiatedFormat { codec: codec.parse().unwrap(), fmtp: None, from_peer, also_from_peer: None, to_peer }
}

/// PCMA, sendrecv, RTCP one port above RTP or beside it.
fn negotiated(local: &str, remote: &str, rtcp_mux: bool) -> Negotiated {
    let remote = at(remote);
    let above = SocketAddr::new(remote.ip(), remote.port() + 1);
    Negotiated {
        local: at(local),
        remote: Some(remote),
        remote_rtcp: Some(if rtcp_mux { remote } else { above }),
        rtcp_mux,
        metrics: false,
        direction: Direction::SendReceive,
        formats: vec![format("PCMA/8000", 8, 8)],
        ptime: None,
        maxptime: None,
        security: Security::Plain,
        checks: None,
        fax: None,
    }
}

pub(super) fn caller(rtcp_mux: bool) -> Negotiated {
    negotiated("192.0.2.1:30000", "198.51.100.7:4000", rtcp_mux)
}

/// On the other address family.
pub(super) fn callee(rtcp_mux: bool) -> Negotiated {
    negotiated("[2001:db8::1]:40000", "[2001:db8::9]:5000", rtcp_mux)
}

fn planned(caller: &Negotiated, callee: &Negotiated) -> MediaPlan {
    let policy = MediaPolicy::default();
    let leg = |negotiated| LegMedia { negotiated, policy: &policy };
    plan(leg(caller), leg(callee), SETTINGS)
}

/// As two legs that have agreed are planned.
pub(super) fn planned_by(
    caller: (&Negotiated, &MediaPolicy),
    callee: (&Negotiated, &MediaPolicy),
) -> MediaPlan {
    let leg = |(negotiated, policy)| LegMedia { negotiated, policy };
    plan(leg(caller), leg(callee), SETTINGS).bridged(leg(caller), leg(callee))
}

fn route(output: Option<OutputSpec>) -> String {
    output.map_or("-".into(), |output| format!("{} > {}", output.from, output.to))
}

/// Side, kind, arrival, way out for RTP, way out for RTCP.
fn summary(plan: &MediaPlan) -> Vec<String> {
    let line = |flow: &FlowSpec| {
        let FlowSpec { from, kind, at, rtp, rtcp, .. } = flow;
        format!("{from:?} {kind:?} {at} | {} | {}", route(*rtp), route(*rtcp))
    };
    plan.flows.iter().map(line).collect()
}

// Statement 149.
#[test]
fn two_flows_when_both_legs_share_the_port() {
    let plan = planned(&caller(true), &callee(true));
    assert_eq!(
        summary(&plan),
        [
            "Caller Mux 192.0.2.1:30000 | [2001:db8::1]:40000 > [2001:db8::9]:5000 | [2001:db8::1]:40000 > [2001:db8::9]:5000",
            "Callee Mux [2001:db8::1]:40000 | 192.0.2.1:30000 > 198.51.100.7:4000 | 192.0.2.1:30000 > 198.51.100.7:4000",
        ]
    );
    assert!(plan.flows.iter().all(|flow| flow.rtcp_copy && flow.continuity && !flow.muted));
}

// Statement 149.
#[test]
fn four_flows_when_rtcp_has_ports_of_its_own() {
    let plan = planned(&caller(false), &callee(false));
    assert_eq!(
        summary(&plan),
        [
            "Caller Rtp 192.0.2.1:30000 | [2001:db8::1]:40000 > [2001:db8::9]:5000 | -",
            "Caller Rtcp 192.0.2.1:30001 | - | [2001:db8::1]:40001 > [2001:db8::9]:5001",
            "Callee Rtp [2001:db8::1]:40000 | 192.0.2.1:30000 > 198.51.100.7:4000 | -",
            "Callee Rtcp [2001:db8::1]:40001 | - | 192.0.2.1:30001 > 198.51.100.7:4001",
        ]
    );
    assert_eq!(plan.flows.iter().map(|flow| flow.rtcp_copy).collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn three_flows_when_one_leg_shares_the_port() {
    assert_eq!(
        summary(&planned(&caller(true), &callee(false))),
        [
            "Caller Mux 192.0.2.1:30000 | [2001:db8::1]:40000 > [2001:db8::9]:5000 | [2001:db8::1]:40001 > [2001:db8::9]:5001",
            "Callee Rtp [2001:db8::1]:40000 | 192.0.2.1:30000 > 198.51.100.7:4000 | -",
            "Callee Rtcp [2001:db8::1]:40001 | - | 192.0.2.1:30000 > 198.51.100.7:4000",
        ]
    );
}

#[test]
fn before_the_answer_the_answering_side_is_heard_from_anywhere_and_relayed_to_the_signalled_address_only() {
    let policy = MediaPolicy { latch: Latch::FirstPacket, ..MediaPolicy::default() };
    let offer = Negotiated { remote: None, remote_rtcp: None, ..callee(true) };
    let caller = caller(false);
    let leg = |negotiated| LegMedia { negotiated, policy: &policy };
    let plan = plan_before_answer(leg(&caller), leg(&offer), Side::Callee, SETTINGS);
    assert_eq!(
        summary(&plan),
        [
            "Caller Rtp 192.0.2.1:30000 | - | -",
            "Caller Rtcp 192.0.2.1:30001 | - | -",
            "Callee Mux [2001:db8::1]:40000 | 192.0.2.1:30000 > 198.51.100.7:4000 | 192.0.2.1:30001 > 198.51.100.7:4001",
            "Callee Rtcp [2001:db8::1]:40001 | - | 192.0.2.1:30001 > 198.51.100.7:4001",
        ]
    );
    assert!(plan.flows.iter().all(|flow| flow.latch == Latch::Signalled));
    let learned = |flow: &FlowSpec| {
        [flow.rtp, flow.rtcp].into_iter().flatten().any(|output| output.learned_from.is_some())
    };
    assert!(!plan.flows.iter().any(learned));
    assert_eq!(plan.flows[2].gate, GateSpec::Any);
    assert_eq!(plan.flows[0].gate, GateSpec::Exact(at("198.51.100.7:4000")));
}

#[test]
fn a_gate_network_bounds_what_is_heard_before_the_answer() {
    let network = "2001:db8::/32".parse().unwrap();
    let far =
        MediaPolicy { gate: crate::media::GatePolicy::Networks([network].into()), ..MediaPolicy::default() };
    let near = MediaPolicy::default();
    let offer = Negotiated { remote: None, remote_rtcp: None, ..callee(false) };
    let plan = plan_before_answer(
        LegMedia { negotiated: &caller(false), policy: &near },
        LegMedia { negotiated: &offer, policy: &far },
        Side::Callee,
        SETTINGS,
    );
    assert_eq!(plan.flows[2].gate, GateSpec::Subnet(network));
}

#[test]
fn a_latching_leg_is_answered_where_its_own_flows_heard_it() {
    let latching = MediaPolicy { latch: Latch::SameSsrc, ..MediaPolicy::default() };
    let fixed = MediaPolicy::default();
    type Learned = (Option<usize>, Option<usize>);
    // (caller mux, callee mux, learned_from of RTP and RTCP of each flow) with a latching caller.
    let table: [(bool, bool, &[Learned]); 3] = [
        (true, true, &[(None, None), (Some(0), Some(0))]),
        (false, false, &[(None, None), (None, None), (Some(0), None), (None, Some(1))]),
        (false, true, &[(None, None), (None, None), (Some(0), Some(1))]),
    ];
    for (caller_mux, callee_mux, learned) in table {
        let (caller, callee) = (caller(caller_mux), callee(callee_mux));
        let plan = plan(
            LegMedia { negotiated: &caller, policy: &latching },
            LegMedia { negotiated: &callee, policy: &fixed },
            SETTINGS,
        );
        let from = |output: Option<OutputSpec>| output.and_then(|output| output.learned_from);
        let found: Vec<_> = plan.flows.iter().map(|flow| (from(flow.rtp), from(flow.rtcp))).collect();
        assert_eq!(found, learned, "caller mux {caller_mux}, callee mux {callee_mux}");
        let latches: Vec<_> = plan.flows.iter().map(|flow| (flow.from, flow.latch)).collect();
        assert!(latches.iter().all(|(side, latch)| (*side == Side::Caller) == (*latch == Latch::SameSsrc)));
    }
}

#[test]
fn a_latching_callee_is_learned_from_its_place_behind_the_callers_flows() {
    let latching = MediaPolicy { latch: Latch::FirstPacket, ..MediaPolicy::default() };
    let fixed = MediaPolicy::default();
    let (caller, callee) = (caller(false), callee(false));
    let plan = plan(
        LegMedia { negotiated: &caller, policy: &fixed },
        LegMedia { negotiated: &callee, policy: &latching },
        SETTINGS,
    );
    assert_eq!(plan.flows[0].rtp.unwrap().learned_from, Some(2));
    assert_eq!(plan.flows[1].rtcp.unwrap().learned_from, Some(3));
    assert_eq!(plan.flows[2].rtp.unwrap().learned_from, None);
}

#[test]
fn who_is_muted_follows_from_both_directions() {
    use Direction::{Inactive, ReceiveOnly, SendOnly, SendReceive};
    let table = [
        // (caller's, callee's, caller muted, callee muted)
        (SendReceive, SendReceive, false, false),
        (SendOnly, ReceiveOnly, false, true),
        (ReceiveOnly, SendOnly, true, false),
        (Inactive, Inactive, true, true),
        (SendOnly, SendReceive, false, true),
        (SendReceive, Inactive, true, true),
        (SendOnly, SendOnly, true, true),
    ];
    for (of_caller, of_callee, caller_muted, callee_muted) in table {
        let caller = Negotiated { direction: of_caller, ..caller(false) };
        let callee = Negotiated { direction: of_callee, ..callee(false) };
        let muted: Vec<_> = planned(&caller, &callee).flows.iter().map(|flow| flow.muted).collect();
        assert_eq!(muted, [caller_muted, false, callee_muted, false], "{of_caller:?} and {of_callee:?}");
    }
}

#[test]
fn numbers_are_mapped_between_the_legs_and_events_are_marked() {
    let caller = Negotiated {
        formats: vec![
            format("PCMA/8000", 8, 8),
            format("opus/48000/2", 96, 96),
            format("telephone-event/8000", 101, 101),
        ],
        ..caller(true)
    };
    let callee = Negotiated {
        formats: vec![
            NegotiatedFormat { also_from_peer: Some(97), ..format("telephone-event/8000", 101, 97) },
            format("PCMA/8000", 8, 8),
        ],
        ..callee(true)
    };
    let plan = planned(&caller, &callee);
    let types = |flow: usize| -> Vec<_> {
        plan.flows[flow].payload_types.iter().map(|entry| (entry.near, entry.far, entry.event)).collect()
    };
    assert_eq!(types(0), [(8, 8, false), (101, 97, true)]);
    assert_eq!(types(1), [(101, 101, true), (8, 8, false), (97, 101, true)]);
}

#[test]
fn the_clock_is_that_of_the_speech() {
    let formats = vec![format("telephone-event/8000", 101, 101), format("opus/48000/2", 96, 96)];
    let caller = Negotiated { formats, ..caller(true) };
    assert_eq!(planned(&caller, &callee(true)).flows[0].clock_rate, 48_000);
}

#[test]
fn an_event_by_number_127_is_relayed_without_a_record() {
    let formats = vec![format("PCMA/8000", 8, 8), format("telephone-event/8000", 127, 127)];
    let caller = Negotiated { formats: formats.clone(), ..caller(true) };
    let callee = Negotiated { formats, ..callee(true) };
    let types = &planned(&caller, &callee).flows[0].payload_types;
    assert_eq!(types[1], PayloadType { near: 127, far: 127, event: false });
}

#[test]
fn gate_rate_and_latch_are_the_near_trunks_and_the_mark_is_the_far_ones() {
    let rate = RateLimit { packets_per_second: 100, burst: 10 };
    let near = MediaPolicy {
        gate: GatePolicy::Around { ipv4_prefix: 24, ipv6_prefix: 64 },
        rate: Some(rate),
        dscp: Some(10),
        ..MediaPolicy::default()
    };
    let far = MediaPolicy { dscp: Some(46), ..MediaPolicy::default() };
    let (caller, callee) = (caller(false), callee(false));
    let plan = plan(
        LegMedia { negotiated: &caller, policy: &near },
        LegMedia { negotiated: &callee, policy: &far },
        SETTINGS,
    );
    let around = GateSpec::Subnet("198.51.100.0/24".parse().unwrap());
    let found: Vec<_> = plan.flows.iter().map(|flow| (flow.gate, flow.rate, flow.dscp)).collect();
    assert_eq!(
        found,
        [
            (around, Some(rate), Some(46)),
            (around, Some(rate), Some(46)),
            (GateSpec::Exact(at("[2001:db8::9]:5000")), None, Some(10)),
            (GateSpec::Exact(at("[2001:db8::9]:5001")), None, Some(10)),
        ]
    );
}

#[test]
fn packets_are_read_by_the_near_peers_key_and_written_by_ours_toward_the_far_one() {
    let suite = Suite::AesCm128HmacSha1_80;
    let key = |octet| MasterKey::new(suite, &[octet; 30]).unwrap();
    let callee = Negotiated { security: Security::keyed(key(1), key(2)), ..callee(false) };
    let plan = planned(&caller(true), &callee);
    let keys: Vec<_> = plan.flows.iter().map(|flow| (flow.unprotect.clone(), flow.protect.clone())).collect();
    assert_eq!(keys, [(None, Some(key(2))), (Some(key(1)), None), (Some(key(1)), None)]);
}

#[test]
fn before_the_answer_to_an_offer_of_srtp_nothing_of_the_answerer_is_relayed() {
    let policy = MediaPolicy::default();
    let offer = Negotiated { remote: None, remote_rtcp: None, security: Security::Awaited, ..callee(true) };
    let caller = caller(false);
    let leg = |negotiated| LegMedia { negotiated, policy: &policy };
    let plan = plan_before_answer(leg(&caller), leg(&offer), Side::Callee, SETTINGS);
    assert!(plan.flows.iter().all(|flow| (flow.rtp, flow.rtcp) == (None, None)), "{:?}", summary(&plan));
}

#[test]
fn a_peer_that_named_no_address_is_neither_heard_nor_sent_to() {
    let caller =
        Negotiated { remote: None, remote_rtcp: None, direction: Direction::SendOnly, ..caller(false) };
    let plan = planned(&caller, &callee(false));
    assert_eq!(plan.flows[0].gate, GateSpec::Exact(at("0.0.0.0:0")));
    assert_eq!((plan.flows[2].rtp, plan.flows[3].rtcp), (None, None));
    assert!(plan.flows[2].muted);
}
