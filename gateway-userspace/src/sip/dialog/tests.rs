//! Dialogs by the sentences of RFC 3261 sections 12 to 15.

use super::*;
use crate::sip::message::{Message, parse};

const ALICE: &str = "<sip:alice@atlanta.example>;tag=alice";
const BOB: &str = "<sip:bob@biloxi.example>";

fn request(method: &str, number: u32, extra: &str) -> Request {
    let text = format!(
        "{method} sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx{number}\r\n\
         From: {ALICE}\r\nTo: {BOB}\r\nCall-ID: call\r\nCSeq: {number} {method}\r\n{extra}\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn invite(number: u32) -> Request {
    request("INVITE", number, "Contact: <sip:alice@192.0.2.1>\r\n")
}

fn contact() -> NameAddr {
    "<sip:192.0.2.4:5060>".parse().expect("an address")
}

/// Bob's dialog after Alice's INVITE number 7.
fn callee() -> Dialog {
    Dialog::from_request(&invite(7), "bob", contact(), false).expect("INVITE has a Contact")
}

/// Bob's dialog, answered and acknowledged.
fn answered() -> Dialog {
    let mut dialog = callee();
    dialog.responded(StatusCode::OK);
    dialog.receive(&request("ACK", 7, "")).expect("an ACK is always let in");
    dialog
}

fn draft() -> Draft {
    let address = |text: &str| text.parse::<NameAddr>().expect("an address");
    let mut draft = Draft::new(
        Method::Invite,
        "sip:bob@biloxi.example".parse().expect("a URI"),
        address(ALICE),
        address(BOB),
        "call",
        7,
    );
    draft.contact = Contact::one(address("<sip:alice@192.0.2.1>"));
    draft
}

fn response(status: u16, tag: &str, extra: &str) -> Response {
    numbered(7, status, tag, extra)
}

fn numbered(number: u32, status: u16, tag: &str, extra: &str) -> Response {
    let text = format!(
        "SIP/2.0 {status} Whatever\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: {ALICE}\r\n\
         To: {BOB};tag={tag}\r\nCall-ID: call\r\nCSeq: {number} INVITE\r\n{extra}\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

/// Alice's dialog by a response of Bob.
fn caller(status: u16, extra: &str) -> Dialog {
    Dialog::from_response(&Origin::new(&draft(), false), &response(status, "bob", extra))
        .expect("makes a dialog")
}

fn routes(draft: &Draft) -> Vec<String> {
    draft.route.iter().map(NameAddr::to_string).collect()
}

#[test]
fn a_callee_takes_its_side_of_the_dialog_from_the_request() {
    let dialog = callee();
    assert_eq!(dialog.state(), lifetime::State::Early);
    assert_eq!(
        dialog.id(),
        DialogId { call_id: "call".into(), local_tag: "bob".into(), remote_tag: "alice".into() }
    );
    assert_eq!(dialog.remote_target().to_string(), "sip:alice@192.0.2.1");
    assert_eq!(dialog.next_hop().to_string(), "sip:alice@192.0.2.1");
}

#[test]
fn both_sides_and_the_messages_between_them_name_the_same_dialog() {
    let mut in_dialog = invite(8);
    in_dialog.head.to.set_tag("bob");
    assert_eq!(DialogId::of_request(&in_dialog), Some(callee().id()));
    assert_eq!(DialogId::of_request(&invite(8)), None);
    assert_eq!(DialogId::of_response(&response(200, "bob", "")), caller(200, "").id());
}

#[test]
fn an_invite_without_contact_makes_no_dialog() {
    let refused = Dialog::from_request(&request("INVITE", 7, ""), "bob", contact(), false);
    assert_eq!(refused, Err(Refused::NoContact));
    assert_eq!(Refused::NoContact.fault().status(), 400);
}

#[test]
fn a_callee_keeps_the_route_in_order_and_a_caller_turns_it_round() {
    let record = "Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\n";
    let invite = request("INVITE", 7, &format!("Contact: <sip:alice@192.0.2.1>\r\n{record}"));
    let mut callee = Dialog::from_request(&invite, "bob", contact(), false).expect("INVITE has a Contact");
    let bye = callee.request(Method::Bye);
    assert_eq!(routes(&bye), ["<sip:p2;lr>", "<sip:p1;lr>"]);
    assert_eq!(bye.uri.to_string(), "sip:alice@192.0.2.1");
    assert_eq!(callee.next_hop().to_string(), "sip:p2;lr");

    let mut caller = caller(200, &format!("Contact: <sip:bob@192.0.2.4>\r\n{record}"));
    let bye = caller.request(Method::Bye);
    assert_eq!(routes(&bye), ["<sip:p1;lr>", "<sip:p2;lr>"]);
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.4");
    assert_eq!(caller.next_hop().to_string(), "sip:p1;lr");
}

#[test]
fn a_strict_router_gets_its_own_uri_and_the_target_at_the_end_of_the_route() {
    let dialog = caller(
        200,
        "Contact: <sip:bob@192.0.2.4>\r\nRecord-Route: <sip:p2;lr>, <sip:strict;method=INVITE;x=1?Subject=a>\r\n",
    );
    let ack = dialog.ack(7);
    assert_eq!(ack.uri.to_string(), "sip:strict;x=1");
    assert_eq!(routes(&ack), ["<sip:p2;lr>", "<sip:bob@192.0.2.4>"]);
}

#[test]
fn requests_carry_our_tag_as_from_and_count_up_while_the_ack_has_the_number_of_its_invite() {
    let mut dialog = caller(200, "Contact: <sip:bob@192.0.2.4>\r\n");
    let info = dialog.request(Method::Info);
    assert_eq!((info.sequence, info.from.tag(), info.to.tag()), (8, Some("alice"), Some("bob")));
    let reinvite = dialog.invite().expect("nothing is under way");
    assert_eq!(reinvite.sequence, 9);
    assert_eq!(reinvite.contact.first().map(NameAddr::to_string).as_deref(), Some("<sip:alice@192.0.2.1>"));
    assert_eq!(dialog.ack(9).sequence, 9);
    assert_eq!(dialog.request(Method::Bye).sequence, 10);

    assert_eq!(callee().request(Method::Bye).sequence, 1);
}

#[test]
fn neither_100_nor_a_failure_nor_a_response_without_tag_makes_a_dialog() {
    let origin = Origin::new(&draft(), false);
    for status in [100, 302, 486, 603] {
        assert_eq!(Dialog::from_response(&origin, &response(status, "bob", "")), None, "{status}");
    }
    let mut ringing = response(180, "bob", "");
    ringing.head.to.params.remove("tag");
    assert_eq!(Dialog::from_response(&origin, &ringing), None);
}

#[test]
fn each_branch_of_a_forked_invite_makes_a_dialog_of_its_own() {
    let origin = Origin::new(&draft(), false);
    let make = |tag| Dialog::from_response(&origin, &response(180, tag, "")).expect("makes a dialog");
    assert_ne!(make("one").id(), make("two").id());
    assert_eq!(make("one").state(), lifetime::State::Early);
}

#[test]
fn a_2xx_confirms_an_early_dialog_and_gives_it_its_route_and_target() {
    let mut dialog = caller(180, "Contact: <sip:bob@192.0.2.4>\r\nRecord-Route: <sip:old;lr>\r\n");
    assert!(!dialog.may_invite());
    // A request of ours in the early dialog does not hide that the 2xx answers our INVITE.
    dialog.request(Method::Update);
    dialog.receive_response(&response(
        200,
        "bob",
        "Contact: <sip:bob@192.0.2.9>\r\nRecord-Route: <sip:new;lr>\r\n",
    ));
    assert_eq!(dialog.state(), lifetime::State::Confirmed);
    assert_eq!(dialog.next_hop().to_string(), "sip:new;lr");
    assert_eq!(dialog.remote_target().to_string(), "sip:bob@192.0.2.9");
    assert!(dialog.may_invite());
}

#[test]
fn the_route_set_of_a_confirmed_dialog_stays_while_its_target_moves() {
    let mut dialog = caller(200, "Contact: <sip:bob@192.0.2.4>\r\nRecord-Route: <sip:p;lr>\r\n");
    dialog.invite().expect("nothing is under way");
    dialog.receive_response(&numbered(
        8,
        200,
        "bob",
        "Contact: <sip:bob@192.0.2.9>\r\nRecord-Route: <sip:q;lr>\r\n",
    ));
    assert_eq!(dialog.next_hop().to_string(), "sip:p;lr");
    assert_eq!(dialog.remote_target().to_string(), "sip:bob@192.0.2.9");

    let mut dialog = answered();
    dialog.receive(&request("UPDATE", 8, "Contact: <sip:alice@192.0.2.77>\r\n")).expect("in order");
    assert_eq!(dialog.remote_target().to_string(), "sip:alice@192.0.2.77");
    dialog.receive(&request("INFO", 9, "Contact: <sip:mallory@192.0.2.66>\r\n")).expect("in order");
    assert_eq!(dialog.remote_target().to_string(), "sip:alice@192.0.2.77", "an INFO moves no target");
}

#[test]
fn a_failure_ends_an_early_dialog_and_a_refused_reinvite_leaves_a_confirmed_one() {
    let mut early = caller(180, "");
    early.receive_response(&response(486, "bob", ""));
    assert_eq!(early.state(), lifetime::State::Terminated);

    let mut confirmed = caller(200, "");
    confirmed.invite().expect("nothing is under way");
    confirmed.receive_response(&numbered(8, 488, "bob", ""));
    assert_eq!(confirmed.state(), lifetime::State::Confirmed);
    assert!(confirmed.may_invite());
}

#[test]
fn a_481_a_408_and_silence_end_the_dialog() {
    for status in [481, 408] {
        let mut dialog = caller(200, "");
        dialog.invite().expect("nothing is under way");
        dialog.receive_response(&numbered(8, status, "bob", ""));
        assert_eq!(dialog.state(), lifetime::State::Terminated, "{status}");
    }
    let mut dialog = caller(200, "");
    dialog.request(Method::Update);
    dialog.timed_out();
    assert_eq!(dialog.state(), lifetime::State::Terminated);
}

#[test]
fn a_lower_or_equal_number_is_out_of_order_and_a_gap_is_not() {
    let mut dialog = answered();
    dialog.receive(&request("INFO", 20, "")).expect("a gap is allowed");
    for number in [19, 20] {
        let refused = dialog.receive(&request("INFO", number, "")).expect_err("out of order");
        assert_eq!(refused, Refused::OutOfOrder { got: number, last: 20 });
        assert_eq!(refused.fault().status(), 500);
    }
    dialog.receive(&request("INFO", 21, "")).expect("in order");
}

#[test]
fn crossing_invites_are_answered_491_and_wait_by_who_owns_the_call_id() {
    let mut tokens = Tokens::seeded(1);
    let mut dialog = answered();
    dialog.invite().expect("nothing is under way");
    let refused = dialog.receive(&invite(8)).expect_err("glare");
    assert_eq!(refused, Refused::Glare);
    assert_eq!(refused.response(&invite(8), &mut tokens).status, StatusCode::REQUEST_PENDING);

    for _ in 0..1000 {
        let pause = caller(200, "").pause_after_glare(&mut tokens);
        assert!((Duration::from_millis(2100)..=Duration::from_secs(4)).contains(&pause));
        assert!(dialog.pause_after_glare(&mut tokens) <= Duration::from_secs(2));
    }
}

#[test]
fn an_invite_before_the_last_was_answered_is_refused_with_a_time_to_come_back() {
    let mut tokens = Tokens::seeded(1);
    let mut dialog = answered();
    dialog.receive(&invite(8)).expect("nothing is under way");
    let refused = dialog.receive(&invite(9)).expect_err("too soon");
    let response = refused.response(&invite(9), &mut tokens);
    assert_eq!(response.status, StatusCode::SERVER_INTERNAL_ERROR);
    let pause: u32 =
        response.headers.value(&HeaderName::RetryAfter).expect("is there").parse().expect("a number");
    assert!(pause <= 10);

    dialog.responded(StatusCode::NOT_ACCEPTABLE_HERE);
    assert_eq!(dialog.state(), lifetime::State::Confirmed);
    dialog.receive(&invite(10)).expect("the last one was answered");
}

#[test]
fn our_invite_waits_until_theirs_is_acknowledged() {
    let mut dialog = callee();
    assert_eq!(dialog.invite(), Err(Busy));
    dialog.responded(StatusCode::OK);
    assert!(dialog.awaits_ack());
    assert_eq!(dialog.invite(), Err(Busy));
    dialog.receive(&request("ACK", 7, "")).expect("an ACK is always let in");
    assert!(!dialog.awaits_ack());
    assert_eq!(dialog.invite().map(|draft| draft.sequence), Ok(1));
    assert_eq!(dialog.invite(), Err(Busy));
}

#[test]
fn a_bye_ends_the_dialog_for_all_but_the_late_ack() {
    let mut dialog = answered();
    dialog.receive(&request("BYE", 8, "")).expect("in order");
    assert_eq!(dialog.state(), lifetime::State::Terminated);
    assert_eq!(dialog.receive(&request("INFO", 9, "")), Err(Refused::Ended));
    assert_eq!(Refused::Ended.fault().status(), 481);
    assert_eq!(dialog.receive(&request("ACK", 7, "")), Ok(()));
}

#[test]
fn a_response_has_our_tag_and_our_contact_where_it_refreshes_the_target() {
    let dialog = answered();
    let response = dialog.response(&invite(8), StatusCode::OK);
    assert_eq!(response.head.to.tag(), Some("bob"));
    assert_eq!(
        response.head.contact.first().map(NameAddr::to_string).as_deref(),
        Some("<sip:192.0.2.4:5060>")
    );
    assert_eq!(dialog.response(&invite(8), StatusCode::BUSY_HERE).head.contact.first(), None);
    assert_eq!(dialog.response(&invite(8), StatusCode::TRYING).head.to.tag(), None);
    assert_eq!(dialog.response(&request("BYE", 8, ""), StatusCode::OK).head.contact.first(), None);
}

#[test]
fn a_dialog_is_secure_only_by_sips_over_tls() {
    let mut invite = invite(7);
    invite.uri = "sips:bob@192.0.2.4".parse().expect("a URI");
    let secure =
        |over_tls| Dialog::from_request(&invite, "bob", contact(), over_tls).map(|dialog| dialog.is_secure());
    assert_eq!(secure(true), Ok(true));
    assert_eq!(secure(false), Ok(false));
    assert!(!callee().is_secure());
}

#[test]
fn a_stored_dialog_goes_on_where_it_stopped() {
    let mut dialog =
        caller(200, "Contact: <sip:bob@192.0.2.4>\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\n");
    dialog.request(Method::Info);
    let stored = serde_json::to_string(&dialog.snapshot()).expect("a snapshot is plain data");
    let mut restored = Dialog::restore(serde_json::from_str(&stored).expect("reads back")).expect("is whole");
    assert_eq!(restored.id(), dialog.id());
    assert_eq!(restored.snapshot(), dialog.snapshot());
    assert_eq!(restored.request(Method::Bye), dialog.request(Method::Bye));
}

#[test]
fn a_stored_invite_under_way_does_not_block_the_dialog_of_the_next_process() {
    let mut dialog = answered();
    dialog.invite().expect("nothing is under way");
    let mut restored = Dialog::restore(dialog.snapshot()).expect("is whole");
    assert!(restored.may_invite());
    restored.receive(&invite(8)).expect("no glare");
}

#[test]
fn a_broken_stored_dialog_names_its_field() {
    let mut snapshot = answered().snapshot();
    snapshot.route_set.push("<sip:>".into());
    let broken = Dialog::restore(snapshot).expect_err("no address");
    assert_eq!(broken.to_string(), "stored dialog call: route_set is no address");
}

#[test]
fn an_ack_is_in_order_whatever_came_after_its_invite() {
    let mut dialog = callee();
    dialog.responded(StatusCode::OK);
    dialog.receive(&request("UPDATE", 8, "")).expect("in order");
    let ack = request("ACK", 7, "");
    assert_eq!(dialog.receive(&ack), Ok(()));
    assert!(!dialog.awaits_ack());
}
