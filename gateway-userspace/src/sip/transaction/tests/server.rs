//! Requests of peers.

use super::*;

const INVITE: &str = "z9hG4bKinvite";

fn invited() -> Rig {
    let mut rig = Rig::new();
    rig.receive(&text("INVITE", INVITE, None), UDP);
    rig
}

#[test]
fn a_silent_user_is_covered_by_a_100_after_200_ms() {
    let mut rig = invited();
    rig.pass(199);
    assert!(rig.sent.is_empty());
    rig.pass(1);
    assert_eq!(rig.take_sent(), [(200, "100".into())]);
    rig.pass(10_000);
    assert!(rig.sent.is_empty());
    assert_eq!(rig.heard(), ["INVITE"]);
}

#[test]
fn a_user_that_rings_in_time_needs_no_100() {
    let mut rig = invited();
    rig.respond(180);
    rig.pass(10_000);
    assert_eq!(rig.take_sent(), [(0, "180".into())]);
}

#[test]
fn the_100_comes_at_once_where_that_is_set() {
    let intervals = Intervals { trying: Duration::ZERO, ..Intervals::default() };
    let mut rig = Rig::with(Settings { intervals, ..Settings::default() });
    rig.receive(&text("INVITE", INVITE, None), UDP);
    assert_eq!(rig.take_sent(), [(0, "100".into())]);
}

#[test]
fn a_copy_of_an_invite_is_answered_with_the_last_provisional_response() {
    let mut rig = invited();
    rig.receive(&text("INVITE", INVITE, None), UDP);
    rig.respond(180);
    rig.respond(183);
    rig.receive(&text("INVITE", INVITE, None), UDP);
    let sent: Vec<_> = rig.take_sent().into_iter().map(|(_, name)| name).collect();
    assert_eq!(sent, ["100", "180", "183", "183"]);
    assert_eq!(rig.heard(), ["INVITE"]);
}

#[test]
fn a_response_goes_where_via_and_source_say() {
    let mut rig = Rig::new();
    let behind_nat =
        text("OPTIONS", "z9hG4bKnat", None).replace("192.0.2.9;branch", "10.0.0.5:5062;rport;branch");
    let source = "198.51.100.7:40000".parse().expect("an address");
    rig.receive(&behind_nat, Hop { remote: source, ..UDP });
    rig.respond(200);
    let (_, hop, _) = rig.sent.last().expect("something was sent");
    assert_eq!(hop.remote, source);
    let via = &rig.last_response().head.via[0];
    assert_eq!((via.received(), via.rport()), (Some(source.ip()), Some(Some(40_000))));
}

#[test]
fn a_2xx_is_sent_again_until_its_ack_comes_by_any_transport() {
    for hop in [UDP, TCP] {
        let mut rig = Rig::new();
        rig.receive(&text("INVITE", INVITE, None), hop);
        rig.respond(200);
        rig.pass(12_000);
        let times: Vec<_> = rig.take_sent().into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [0, 500, 1500, 3500, 7500, 11_500]);
        rig.receive(&text("ACK", "z9hG4bKack", Some("ours")), hop);
        rig.receive(&text("ACK", "z9hG4bKack", Some("ours")), hop);
        rig.receive(&text("INVITE", INVITE, None), hop);
        rig.pass(10_000);
        assert!(rig.sent.is_empty());
        assert_eq!(rig.heard(), ["INVITE", "ack"], "the ACK is passed up once, the copies are absorbed");
        rig.assert_all_ends();
    }
}

#[test]
fn the_ack_of_another_dialog_or_number_stops_nothing() {
    let mut rig = invited();
    rig.respond(200);
    rig.receive(&text("ACK", "z9hG4bKack", Some("other")), UDP);
    rig.receive(&text("ACK", "z9hG4bKack", Some("ours")).replace("CSeq: 7", "CSeq: 8"), UDP);
    rig.pass(500);
    assert_eq!(rig.take_sent().len(), 2);
    assert_eq!(rig.heard(), ["INVITE", "ack of unknown", "ack of unknown"]);
}

#[test]
fn a_2xx_that_is_never_acknowledged_is_reported_after_64_t1() {
    let mut rig = invited();
    rig.respond(200);
    rig.pass(31_900);
    assert_eq!(rig.heard(), ["INVITE"]);
    rig.pass(200);
    assert_eq!(rig.heard(), ["INVITE", "no ack", "ended"]);
    assert!(rig.layer.is_empty());
    assert_eq!(rig.layer.next_deadline(), None);
}

#[test]
fn an_ack_with_the_branch_of_its_invite_settles_a_2xx_too() {
    let mut rig = invited();
    rig.respond(200);
    rig.receive(&text("ACK", INVITE, Some("ours")), UDP);
    rig.pass(1000);
    assert_eq!(rig.take_sent().len(), 1);
    assert_eq!(rig.heard(), ["INVITE", "ack"]);
}

#[test]
fn a_failure_is_sent_again_until_its_ack_which_is_not_passed_up() {
    let mut rig = invited();
    rig.respond(486);
    rig.pass(1600);
    rig.receive(&text("INVITE", INVITE, None), UDP);
    let sent: Vec<_> = rig.take_sent().into_iter().map(|(at, _)| at).collect();
    assert_eq!(sent, [0, 500, 1500, 1600]);
    rig.receive(&text("ACK", INVITE, Some("ours")), UDP);
    rig.receive(&text("ACK", INVITE, Some("ours")), UDP);
    rig.pass(4900);
    assert_eq!(rig.heard(), ["INVITE"]);
    rig.pass(100);
    assert_eq!(rig.heard(), ["INVITE", "ended"]);
    assert!(rig.sent.is_empty());
}

#[test]
fn a_failure_that_is_never_acknowledged_ends_by_timer_h() {
    let mut rig = invited();
    rig.respond(486);
    rig.pass(32_100);
    assert_eq!(rig.heard(), ["INVITE", "no ack", "ended"]);
    rig.assert_all_ends();
}

#[test]
fn over_tcp_a_failure_is_sent_once_and_its_ack_ends_the_transaction() {
    let mut rig = Rig::new();
    rig.receive(&text("INVITE", INVITE, None), TCP);
    rig.respond(404);
    rig.pass(5000);
    rig.receive(&text("ACK", INVITE, Some("ours")), TCP);
    assert_eq!(rig.take_sent(), [(0, "404".into())]);
    assert_eq!(rig.heard(), ["INVITE", "ended"]);
}

#[test]
fn a_second_final_response_is_not_sent() {
    let mut rig = invited();
    rig.respond(486);
    rig.respond(200);
    rig.respond(180);
    assert_eq!(rig.take_sent().len(), 1);
    assert_eq!(rig.layer.counts().illegal, 2);
}

#[test]
fn a_cancel_is_answered_with_the_tag_of_the_487_that_the_user_sends() {
    for rings_before in [true, false] {
        let mut rig = invited();
        if rings_before {
            rig.respond(180);
        }
        rig.receive(&text("CANCEL", INVITE, None), UDP);
        let ok = rig.last_response().clone();
        assert_eq!((ok.status, ok.head.cseq.to_string().as_str()), (StatusCode::OK, "7 CANCEL"));
        assert_eq!(rig.heard().last().map(String::as_str), Some("cancelled"));

        let (id, request) = rig.passed_request();
        let refusal = Response::to_request(&request, StatusCode::REQUEST_TERMINATED);
        rig.step(|layer, now, out| layer.respond(now, id, refusal, out));
        assert_eq!(rig.last_response().head.to.tag(), ok.head.to.tag());
        assert!(ok.head.to.tag().is_some());
        rig.receive(&text("CANCEL", INVITE, None), UDP);
        assert_eq!(
            rig.heard(),
            ["INVITE", "cancelled"],
            "a copy of the CANCEL is answered and not passed up"
        );
        rig.receive(&text("ACK", INVITE, Some("ours")), UDP);
        rig.assert_all_ends();
    }
}

#[test]
fn a_cancel_that_crosses_our_answer_gets_its_200_and_changes_nothing() {
    let mut rig = invited();
    rig.respond(200);
    rig.receive(&text("CANCEL", INVITE, None), UDP);
    assert_eq!(rig.last_response().head.cseq.to_string(), "7 CANCEL");
    assert_eq!(rig.last_response().head.to.tag(), Some("ours"));
    assert_eq!(rig.heard(), ["INVITE"]);
}

#[test]
fn a_cancel_of_nothing_gets_481_with_one_tag_for_all_its_copies() {
    let mut rig = Rig::new();
    rig.receive(&text("CANCEL", INVITE, None), UDP);
    rig.receive(&text("CANCEL", INVITE, None), UDP);
    assert_eq!(rig.last_response().status, StatusCode::NO_SUCH_TRANSACTION);
    assert_eq!(rig.sent[0].2, rig.sent[1].2);
    assert!(rig.layer.is_empty());
    assert!(rig.heard().is_empty());
}

#[test]
fn copies_of_a_request_are_answered_with_the_response_and_passed_up_once() {
    let mut rig = Rig::new();
    rig.receive(&text("BYE", "z9hG4bKbye", Some("ours")), UDP);
    rig.receive(&text("BYE", "z9hG4bKbye", Some("ours")), UDP);
    assert!(rig.sent.is_empty());
    rig.respond(200);
    rig.receive(&text("BYE", "z9hG4bKbye", Some("ours")), UDP);
    assert_eq!(rig.take_sent().len(), 2);
    assert_eq!(rig.heard(), ["BYE"]);
    rig.pass(31_900);
    assert_eq!(rig.layer.len(), 1);
    rig.pass(200);
    assert_eq!(rig.heard(), ["BYE", "ended"]);
    assert!(rig.layer.is_empty());
}

#[test]
fn a_request_that_came_by_two_ways_is_served_once_and_refused_482() {
    let mut rig = invited();
    rig.receive(&text("INVITE", "z9hG4bKotherway", None), UDP);
    assert_eq!(rig.last_response().status.code(), 482);
    assert_eq!(rig.heard(), ["INVITE"]);
    assert_eq!(rig.layer.counts().merged, 1);
    // Inside a dialog the same number is for the dialog to judge.
    rig.receive(&text("INVITE", "z9hG4bKthird", Some("ours")), UDP);
    assert_eq!(rig.heard(), ["INVITE", "INVITE"]);
}

#[test]
fn the_same_branch_from_another_sender_is_another_transaction() {
    let mut rig = Rig::new();
    rig.receive(&text("OPTIONS", "z9hG4bKsame", Some("a")), UDP);
    rig.receive(&text("OPTIONS", "z9hG4bKsame", Some("a")).replace("UDP 192.0.2.9", "UDP 192.0.2.10"), UDP);
    rig.receive(
        &text("OPTIONS", "z9hG4bKsame", Some("a")).replace("UDP 192.0.2.9", "UDP 192.0.2.9:5060"),
        UDP,
    );
    assert_eq!(rig.heard(), ["OPTIONS", "OPTIONS"], "a port left out is 5060");
}

#[test]
fn a_branch_without_the_cookie_is_matched_by_the_rules_of_rfc_2543() {
    let mut rig = Rig::new();
    rig.receive(&text("INVITE", "1", None), UDP);
    rig.receive(&text("INVITE", "1", None), UDP);
    let other = text("INVITE", "1", None).replace("Call-ID: call", "Call-ID: other");
    rig.receive(&other, UDP);
    assert_eq!(rig.heard(), ["INVITE", "INVITE"]);
    rig.respond(486);
    rig.receive(&text("ACK", "1", Some("ours")).replace("Call-ID: call", "Call-ID: other"), UDP);
    rig.pass(5100);
    assert_eq!(rig.heard(), ["INVITE", "INVITE", "ended"]);
}

#[test]
fn above_the_limit_new_calls_get_503_and_those_in_progress_can_still_end() {
    let mut rig = Rig::with(Settings { limit: 4, ..Settings::default() });
    for index in 0..4 {
        rig.receive(&text("OPTIONS", &format!("z9hG4bK{index}"), Some("a")), UDP);
    }
    rig.receive(&text("INVITE", INVITE, None), UDP);
    rig.receive(&text("INVITE", INVITE, None), UDP);
    assert_eq!(rig.last_response().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rig.sent[0].2, rig.sent[1].2, "copies get the same To tag");
    assert_eq!(rig.layer.counts().refused, 2);
    rig.receive(&text("BYE", "z9hG4bKbye", Some("ours")), UDP);
    assert_eq!(rig.heard().last().map(String::as_str), Some("BYE"));
    rig.receive(&text("BYE", "z9hG4bKbye2", Some("ours")), UDP);
    assert_eq!(rig.layer.counts().refused, 3);
    // The ACK of a 503 without transaction is nobody's.
    rig.receive(&text("ACK", INVITE, None), UDP);
    assert_eq!(rig.layer.counts().stray_acks, 1);
}

#[test]
fn an_ack_for_a_dialog_of_an_earlier_process_is_passed_up() {
    let mut rig = Rig::new();
    rig.receive(&text("ACK", "z9hG4bKack", Some("ours")), UDP);
    assert_eq!(rig.heard(), ["ack of unknown"]);
}

#[test]
fn a_response_that_cannot_be_delivered_is_reported() {
    let mut rig = Rig::new();
    rig.receive(&text("BYE", "z9hG4bKbye", Some("ours")), TCP);
    rig.respond(200);
    // Over TCP the transaction ends with its response: nothing is kept for copies that cannot come.
    assert_eq!(rig.heard(), ["BYE", "ended"]);

    let source = Hop { remote: "192.0.2.9:40000".parse().expect("an address"), ..TCP };
    rig.receive(&text("INVITE", INVITE, None), source);
    rig.respond(200);
    rig.step(|layer, now, out| layer.transport_failed(now, &source, out));
    let sent: Vec<_> = rig.sent.iter().map(|(_, hop, _)| *hop).collect();
    let sent_by = Hop { connection: None, ..TCP };
    assert_eq!(sent, [TCP, source, sent_by], "once more to the address in Via");
    assert_eq!(rig.heard().last().map(String::as_str), Some("INVITE"));
    rig.step(|layer, now, out| layer.transport_failed(now, &sent_by, out));
    assert_eq!(rig.heard().last().map(String::as_str), Some("undeliverable"));
    assert_eq!(rig.layer.len(), 1, "the 2xx still waits for its ACK");
    rig.assert_all_ends();
}

#[test]
fn an_id_that_has_ended_names_nothing() {
    let mut rig = Rig::new();
    rig.receive(&text("BYE", "z9hG4bKbye", Some("ours")), TCP);
    let id = rig.respond(200);
    rig.receive(&text("INFO", "z9hG4bKinfo", Some("ours")), TCP);
    let (_, request) = rig.passed_request();
    rig.take_sent();
    let response = Response::to_request(&request, StatusCode::OK);
    rig.step(|layer, now, out| layer.respond(now, id, response, out));
    assert!(rig.sent.is_empty());
    assert_eq!(rig.layer.counts().illegal, 1);
}
