//! Whatever comes in whatever order: nothing panics, every transaction ends, and each is told to end once.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Move {
    Request(&'static str, bool),
    Receive { method: &'static str, branch: u8, tag: bool, tcp: bool },
    Answer { method: &'static str, status: u16 },
    Respond { nth: usize, status: u16 },
    Cancel(usize),
    Break(bool),
    Pass(u64),
}

fn moves() -> impl Strategy<Value = Move> {
    let method = prop::sample::select(vec!["INVITE", "BYE", "OPTIONS", "CANCEL", "ACK"]);
    let ours = prop::sample::select(vec!["INVITE", "BYE"]);
    let status = prop::sample::select(vec![100_u16, 180, 183, 200, 202, 302, 404, 487, 503]);
    prop_oneof![
        (ours.clone(), any::<bool>()).prop_map(|(method, tcp)| Move::Request(method, tcp)),
        (method, 0_u8..4, any::<bool>(), any::<bool>())
            .prop_map(|(method, branch, tag, tcp)| Move::Receive { method, branch, tag, tcp }),
        (ours, status.clone()).prop_map(|(method, status)| Move::Answer { method, status }),
        (0_usize..4, status).prop_map(|(nth, status)| Move::Respond { nth, status }),
        (0_usize..4).prop_map(Move::Cancel),
        any::<bool>().prop_map(Move::Break),
        (0_u64..20_000).prop_map(Move::Pass),
    ]
}

fn transport(tcp: bool) -> Hop {
    if tcp { TCP } else { UDP }
}

/// Plays one move; ids of requests of ours go to `clients`.
fn play(rig: &mut Rig, clients: &mut Vec<ClientId>, play: Move) {
    match play {
        Move::Request(method, tcp) => clients.push(rig.request(draft(method), transport(tcp))),
        Move::Receive { method, branch, tag, tcp } => {
            let tag = tag.then_some("ours");
            rig.receive(&text(method, &format!("z9hG4bK{branch}"), tag), transport(tcp));
        }
        Move::Answer { method, status } => {
            if rig.sent.iter().any(|(_, _, message)| name(message) == method) {
                rig.peer_answers(method, status, UDP);
            }
        }
        Move::Respond { nth, status } => {
            let requests = rig.said.iter().filter_map(|output| match output {
                Output::Request { id, request, .. } => Some((*id, (**request).clone())),
                _ => None,
            });
            if let Some((id, request)) = requests.collect::<Vec<_>>().into_iter().rev().nth(nth) {
                let response =
                    Response::to_request(&request, StatusCode::new(status).expect("a status code"));
                rig.step(|layer, now, out| layer.respond(now, id, response, out));
            }
        }
        Move::Cancel(nth) => {
            if let Some(id) = clients.iter().rev().nth(nth).copied() {
                rig.step(|layer, now, out| layer.cancel(now, id, None, out));
            }
        }
        Move::Break(tcp) => rig.step(|layer, now, out| layer.transport_failed(now, &transport(tcp), out)),
        Move::Pass(milliseconds) => rig.pass(milliseconds),
    }
}

/// What is said of a transaction after it ended breaks the promise of [`Output`].
fn assert_each_ends_once(rig: &Rig, clients: &[ClientId]) {
    let mut ended: HashMap<String, u32> = HashMap::new();
    for output in &rig.said {
        let (id, ends) = match output {
            Output::Response { id, .. } | Output::TimedOut { id } | Output::Unreachable { id } => {
                (format!("{id:?}"), 0)
            }
            Output::ClientEnded { id } => (format!("{id:?}"), 1),
            Output::Request { id, .. }
            | Output::Cancelled { id, .. }
            | Output::NoAck { id }
            | Output::Undeliverable { id }
            | Output::Ack { answered: Some(id), .. } => (format!("{id:?}"), 0),
            Output::ServerEnded { id } => (format!("{id:?}"), 1),
            Output::Ack { answered: None, .. } | Output::StrayAnswer { .. } | Output::Send { .. } => continue,
        };
        let count = ended.entry(id).or_default();
        assert_eq!(*count, 0, "named after its end: {output:?}");
        *count += ends;
    }
    for id in clients {
        assert_eq!(ended.get(&format!("{id:?}")), Some(&1), "{id:?} ends once");
    }
    assert!(ended.values().all(|count| *count == 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_transaction_ends_once(moves in prop::collection::vec(moves(), 1..60)) {
        let mut rig = Rig::new();
        let mut clients = Vec::new();
        for one in moves {
            play(&mut rig, &mut clients, one);
        }
        // Requests that the user never answered are the user's to end.
        let open: Vec<_> = rig.said.iter().filter_map(|output| match output {
            Output::Request { id, request, .. } => Some((*id, (**request).clone())),
            _ => None,
        }).collect();
        for (id, request) in open {
            let response = Response::to_request(&request, StatusCode::BUSY_HERE);
            rig.step(|layer, now, out| layer.respond(now, id, response, out));
        }
        for id in &clients {
            rig.step(|layer, now, out| layer.cancel(now, *id, None, out));
        }
        rig.assert_all_ends();
        assert_each_ends_once(&rig, &clients);
    }
}
