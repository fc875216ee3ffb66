//! Requests of ours.

use super::*;

#[test]
fn an_invite_nobody_answers_is_sent_seven_times_and_given_up_after_64_t1() {
    let mut rig = Rig::new();
    rig.request(draft("INVITE"), UDP);
    rig.pass(40_000);
    let times: Vec<_> = rig.take_sent().into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(rig.heard(), ["timed out", "ended"]);
    assert_eq!(rig.layer.counts().retransmissions, 6);
    rig.assert_all_ends();
}

#[test]
fn copies_of_a_request_are_octet_for_octet_the_same() {
    let mut rig = Rig::new();
    rig.request(draft("INVITE"), UDP);
    rig.pass(1600);
    assert_eq!(rig.sent.len(), 3);
    assert!(rig.sent.iter().all(|(_, _, message)| *message == rig.sent[0].2));
}

#[test]
fn a_provisional_response_stops_the_copies_and_every_2xx_is_passed_up() {
    let mut rig = Rig::new();
    rig.request(draft("INVITE"), UDP);
    rig.peer_answers("INVITE", 180, UDP);
    rig.pass(90_000);
    rig.peer_answers("INVITE", 183, UDP);
    rig.peer_answers("INVITE", 200, UDP);
    rig.pass(500);
    rig.peer_answers("INVITE", 200, UDP);
    rig.peer_answers("INVITE", 180, UDP);
    assert_eq!(rig.take_sent().len(), 1);
    assert_eq!(rig.heard(), ["180", "183", "200", "200"]);
    rig.pass(32_000);
    assert_eq!(rig.heard().last().map(String::as_str), Some("ended"));
    rig.assert_all_ends();
}

#[test]
fn a_failure_is_acknowledged_on_the_way_of_its_invite_each_time_and_passed_up_once() {
    let mut rig = Rig::new();
    rig.request(draft("INVITE"), UDP);
    let invite = rig.last_request().clone();
    rig.peer_answers("INVITE", 486, UDP);
    let ack = rig.last_request().clone();
    assert_eq!(ack.method.as_str(), "ACK");
    assert_eq!(ack.head.via, invite.head.via);
    assert_eq!(ack.head.route, invite.head.route);
    assert_eq!(ack.uri, invite.uri);
    assert_eq!(ack.head.from, invite.head.from);
    assert_eq!(ack.head.to.tag(), Some("theirs"));
    assert_eq!(ack.head.cseq.to_string(), "7 ACK");
    assert!(ack.body.is_empty());

    rig.peer_answers("INVITE", 486, UDP);
    let sent: Vec<_> = rig.take_sent().into_iter().map(|(_, name)| name).collect();
    assert_eq!(sent, ["INVITE", "ACK", "ACK"]);
    assert_eq!(rig.heard(), ["486"]);
    rig.pass(32_000);
    assert_eq!(rig.heard(), ["486", "ended"]);
    rig.assert_all_ends();
}

#[test]
fn over_tcp_nothing_is_sent_twice_and_a_failure_ends_the_transaction_at_once() {
    let mut rig = Rig::new();
    rig.request(draft("INVITE"), TCP);
    rig.pass(31_000);
    rig.peer_answers("INVITE", 503, TCP);
    let sent: Vec<_> = rig.take_sent().into_iter().map(|(_, name)| name).collect();
    assert_eq!(sent, ["INVITE", "ACK"]);
    assert_eq!(rig.heard(), ["503", "ended"]);
    assert!(rig.layer.is_empty());
}

#[test]
fn a_cancel_waits_for_a_provisional_response_and_goes_the_way_of_its_invite() {
    let mut rig = Rig::new();
    let id = rig.request(draft("INVITE"), UDP);
    let invite = rig.last_request().clone();
    rig.step(|layer, now, out| layer.cancel(now, id, None, out));
    assert_eq!(rig.sent.len(), 1);
    rig.peer_answers("INVITE", 180, UDP);
    let cancel = rig.last_request().clone();
    assert_eq!(cancel.head.cseq.to_string(), "7 CANCEL");
    assert_eq!(
        (cancel.uri, cancel.head.via, cancel.head.route, cancel.head.to),
        (invite.uri, invite.head.via, invite.head.route, invite.head.to)
    );
    rig.peer_answers("CANCEL", 200, UDP);
    rig.peer_answers("INVITE", 487, UDP);
    assert_eq!(rig.last_request().method.as_str(), "ACK");
    assert_eq!(rig.heard(), ["180", "487"], "the response to the CANCEL is the layer's");
    rig.assert_all_ends();
}

#[test]
fn an_invite_is_cancelled_once_however_often_the_user_asks() {
    let mut rig = Rig::new();
    let id = rig.request(draft("INVITE"), TCP);
    rig.peer_answers("INVITE", 180, TCP);
    for _ in 0..3 {
        rig.step(|layer, now, out| layer.cancel(now, id, None, out));
    }
    let sent: Vec<_> = rig.take_sent().into_iter().map(|(_, name)| name).collect();
    assert_eq!(sent, ["INVITE", "CANCEL"]);
}

#[test]
fn a_cancelled_invite_that_gets_no_final_response_is_given_up_after_64_t1() {
    let mut rig = Rig::new();
    let id = rig.request(draft("INVITE"), UDP);
    rig.peer_answers("INVITE", 180, UDP);
    rig.pass(60_000);
    rig.step(|layer, now, out| layer.cancel(now, id, None, out));
    rig.peer_answers("CANCEL", 200, UDP);
    rig.pass(31_900);
    assert_eq!(rig.heard(), ["180"]);
    rig.pass(200);
    assert_eq!(rig.heard(), ["180", "timed out", "ended"]);
    rig.assert_all_ends();
}

#[test]
fn a_200_that_crosses_the_cancel_is_passed_up_and_nothing_more_is_cancelled() {
    let mut rig = Rig::new();
    let id = rig.request(draft("INVITE"), UDP);
    rig.peer_answers("INVITE", 180, UDP);
    rig.step(|layer, now, out| layer.cancel(now, id, None, out));
    rig.peer_answers("INVITE", 200, UDP);
    rig.step(|layer, now, out| layer.cancel(now, id, None, out));
    assert_eq!(rig.heard(), ["180", "200"]);
    assert_eq!(rig.take_sent().len(), 2);
    rig.assert_all_ends();
}

#[test]
fn a_wish_to_cancel_that_the_answer_overtakes_sends_no_cancel() {
    let mut rig = Rig::new();
    let id = rig.request(draft("INVITE"), UDP);
    rig.step(|layer, now, out| layer.cancel(now, id, None, out));
    rig.peer_answers("INVITE", 200, UDP);
    assert_eq!(rig.take_sent().len(), 1);
    assert_eq!(rig.heard(), ["200"]);
}

#[test]
fn a_request_other_than_invite_is_sent_at_growing_pauses_up_to_t2() {
    let mut rig = Rig::new();
    rig.request(draft("OPTIONS"), UDP);
    rig.pass(40_000);
    let times: Vec<_> = rig.take_sent().into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(rig.heard(), ["timed out", "ended"]);
}

#[test]
fn after_a_provisional_response_it_is_sent_every_t2() {
    let mut rig = Rig::new();
    rig.request(draft("BYE"), UDP);
    rig.pass(100);
    rig.peer_answers("BYE", 100, UDP);
    rig.pass(13_000);
    let times: Vec<_> = rig.take_sent().into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [0, 500, 4500, 8500, 12_500]);
}

#[test]
fn copies_of_a_final_response_are_absorbed_for_t4_and_stray_afterwards() {
    let mut rig = Rig::new();
    rig.request(draft("BYE"), UDP);
    rig.peer_answers("BYE", 200, UDP);
    rig.peer_answers("BYE", 200, UDP);
    assert_eq!(rig.heard(), ["200"]);
    rig.pass(5000);
    assert_eq!(rig.heard(), ["200", "ended"]);
    rig.peer_answers("BYE", 200, UDP);
    assert_eq!((rig.layer.counts().absorbed, rig.layer.counts().stray_responses), (1, 1));
    assert_eq!(rig.heard(), ["200", "ended"]);
}

#[test]
fn a_response_with_another_method_or_branch_belongs_to_no_transaction() {
    let mut rig = Rig::new();
    rig.request(draft("BYE"), UDP);
    let Message::Request(request) = rig.last_sent().clone() else { unreachable!("a BYE was sent") };
    let mut response = Response::to_request(&request, StatusCode::OK);
    response.head.cseq.method = "INFO".parse().expect("a method");
    rig.step(|layer, now, out| layer.receive(now, Message::Response(response.clone()), UDP, out));
    response.head.cseq.method = "BYE".parse().expect("a method");
    response.head.via[0].params.set("branch", "z9hG4bKother");
    rig.step(|layer, now, out| layer.receive(now, Message::Response(response), UDP, out));
    assert_eq!(rig.layer.counts().stray_responses, 2);
    assert!(rig.heard().is_empty());
}

#[test]
fn a_failed_transport_ends_what_waits_on_that_hop_and_nothing_else() {
    let mut rig = Rig::new();
    rig.request(draft("OPTIONS"), TCP);
    rig.request(draft("INVITE"), TCP);
    rig.request(draft("INVITE"), UDP);
    rig.step(|layer, now, out| layer.transport_failed(now, &TCP, out));
    assert_eq!(rig.heard(), ["unreachable", "ended", "unreachable", "ended"]);
    assert_eq!(rig.layer.len(), 1);
}

#[test]
fn an_ack_of_a_2xx_leaves_no_transaction_and_has_a_branch_of_its_own() {
    let mut rig = Rig::new();
    rig.request(draft("INVITE"), UDP);
    let branch = rig.last_request().head.via[0].branch().map(str::to_owned);
    rig.peer_answers("INVITE", 200, UDP);
    rig.step(|layer, _, out| layer.send_ack(draft("ACK"), UDP, out));
    assert_eq!(rig.last_request().head.cseq.to_string(), "7 ACK");
    assert_ne!(rig.last_request().head.via[0].branch().map(str::to_owned), branch);
    assert_eq!(rig.layer.len(), 1);
}

#[test]
fn an_accepted_invite_keeps_no_octets_of_its_request() {
    let mut rig = Rig::new();
    let mut bytes = Vec::new();
    let now = rig.now;
    rig.layer.request(now, draft("INVITE"), UDP, &mut bytes);
    let Some(Output::Send { bytes, .. }) = bytes.pop() else { panic!("the INVITE is sent") };
    let Ok(Message::Request(request)) = parse(&bytes) else { panic!("the INVITE is sent") };
    let response = Response::to_request(&request, StatusCode::OK);
    rig.step(|layer, now, out| layer.receive(now, Message::Response(response), UDP, out));
    assert_eq!(std::sync::Arc::strong_count(&bytes), 1);
}

/// A draft that may go by TCP, with a body that makes it too large for a datagram or not.
fn sized(body: usize) -> Draft {
    let mut draft = draft("INVITE");
    draft.by_tcp_when_large = true;
    draft.set_body("application/sdp", "x".repeat(body));
    draft
}

#[test]
fn rfc3261_18_1_1_a_request_too_large_for_a_datagram_goes_by_tcp_where_that_is_allowed() {
    let by_tcp = Hop { transport: Transport::Tcp, ..UDP };
    for (draft, hop) in
        [(sized(0), UDP), (sized(1_300), by_tcp), (Draft { by_tcp_when_large: false, ..sized(1_300) }, UDP)]
    {
        let mut rig = Rig::new();
        rig.request(draft, UDP);
        let (_, sent, message) = rig.sent.last().expect("it was sent");
        let Message::Request(request) = message else { panic!("{message:?}") };
        assert_eq!((*sent, &request.head.via[0].transport), (hop, &hop.transport.via()));
        // Over TCP nothing is sent again.
        rig.pass(2_000);
        assert_eq!(rig.sent.len() == 1, hop == by_tcp);
        rig.peer_answers("INVITE", 200, hop);
        assert!(rig.heard().contains(&"200".to_owned()), "{:?}", rig.heard());
    }
}

#[test]
fn rfc3261_18_1_1_where_nobody_takes_it_by_tcp_the_request_goes_by_udp_after_all() {
    let mut rig = Rig::new();
    rig.request(sized(1_300), UDP);
    let branch = rig.last_request().head.via[0].branch().map(str::to_owned);
    let refused = Hop { transport: Transport::Tcp, connection: Some(ConnectionId(9)), ..UDP };
    rig.step(|layer, now, out| layer.transport_failed(now, &refused, out));
    let (_, hop, _) = rig.sent.last().expect("it was sent");
    assert_eq!(*hop, UDP);
    assert_eq!(rig.last_request().head.via[0].transport, Transport::Udp.via());
    assert_eq!(rig.last_request().head.via[0].branch().map(str::to_owned), branch);
    // It is an ordinary request over UDP now: sent again, and over when UDP fails, too.
    let sent = rig.sent.len();
    rig.pass(600);
    assert_eq!(rig.sent.len(), sent + 1);
    rig.step(|layer, now, out| layer.transport_failed(now, &UDP, out));
    assert_eq!(rig.heard(), ["unreachable", "ended"]);
}

#[test]
fn the_end_of_a_connection_that_requests_do_not_name_leaves_them_alone_unless_it_was_theirs() {
    let mut rig = Rig::new();
    let unnamed = Hop { connection: None, ..TCP };
    rig.request(draft("INVITE"), unnamed);
    rig.request(draft("OPTIONS"), TCP);
    // One that another core holds to the same peer, or that was replaced.
    rig.step(|layer, now, out| layer.connection_closed(now, &TCP, out));
    assert_eq!(rig.heard(), ["unreachable", "ended"]);
    assert_eq!(rig.layer.len(), 1);
    rig.step(|layer, now, out| layer.transport_failed(now, &TCP, out));
    assert_eq!(rig.layer.len(), 0);
}
