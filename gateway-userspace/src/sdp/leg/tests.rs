//! Two legs between two peers, in descriptions.

use super::*;
use crate::rtp::Codec;
use crate::sdp::{Direction, NegotiatedFormat, parse};
use proptest::prelude::*;

const CALLER: &str = "v=0\r\no=alice 2890844526 1 IN IP4 198.51.100.7\r\ns=secret\r\n\
    c=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=x-secret:1\r\n";
const CALLEE: &str = "v=0\r\no=bob 5 5 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n\
    m=audio 5000 RTP/AVP 0 97\r\na=rtpmap:97 telephone-event/8000\r\na=fmtp:97 0-16\r\n";

fn described(text: &str) -> Description {
    parse(text.as_bytes()).unwrap()
}

/// A description of the peer with other lines in place of `a=…` or with `replaced` put for `original`.
fn with(text: &str, changes: &[(&str, &str)]) -> Description {
    let changed = changes.iter().fold(text.to_owned(), |text, (original, replaced)| {
        assert!(text.contains(original), "{original:?} is not in\n{text}");
        text.replace(original, replaced)
    });
    described(&changed)
}

fn leg(local: &str) -> Leg {
    Leg::new(77, local.parse().unwrap(), Terms::default(), &mut Tokens::seeded(1))
}

fn caller_leg() -> Leg {
    leg("192.0.2.1:30000")
}

fn callee_leg() -> Leg {
    leg("192.0.2.2:40000")
}

/// Relays `offer` and, unless it is `None`, its answer. The offer and the answer as the peers see them.
fn exchange(from: &mut Leg, to: &mut Leg, offer: Description, answer: Description) -> (String, String) {
    from.receive_offer(offer).unwrap();
    let offer = to.relay_offer(from).unwrap();
    assert_eq!(to.receive_answer(&answer, Finality::Final), Ok(Progress::Taken));
    let answer = from.relay_answer(to, Finality::Final).unwrap();
    assert_eq!((from.state(), to.state()), (State::Stable, State::Stable));
    (offer, answer)
}

/// Two legs in a call, with the descriptions that the peers got.
fn call() -> (Leg, Leg) {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    (caller, callee)
}

fn numbers(body: &str) -> Vec<u8> {
    described(body).audio.formats.iter().map(|format| format.payload_type).collect()
}

#[test]
fn an_offer_and_its_answer_cross_the_gateway_with_nothing_of_the_other_side() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let (offer, answer) = exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    assert_eq!(
        offer,
        "v=0\r\no=- 77 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    assert_eq!(
        answer,
        "v=0\r\no=- 77 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 30000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
    );
    let caller = caller.media().unwrap();
    let callee = callee.media().unwrap();
    assert_eq!(caller.remote, Some("198.51.100.7:4000".parse().unwrap()));
    assert_eq!(caller.remote_rtcp, Some("198.51.100.7:4001".parse().unwrap()));
    assert_eq!(callee.remote, Some("203.0.113.9:5000".parse().unwrap()));
    let events = &callee.formats[1];
    assert_eq!((events.from_peer, events.also_from_peer, events.to_peer), (101, Some(97), 97));
    let events = &caller.formats[1];
    assert_eq!((events.from_peer, events.also_from_peer, events.to_peer), (101, None, 101));
}

#[test]
fn an_offer_in_the_200_is_answered_in_the_ack() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let (offer, answer) = exchange(&mut callee, &mut caller, described(CALLEE), described(CALLER));
    assert!(offer.contains("m=audio 30000 RTP/AVP 0 97\r\n"), "{offer}");
    assert!(answer.contains("m=audio 40000 RTP/AVP 0 97\r\n"), "{answer}");
}

// Statement 145.
#[test]
fn hold_and_resume_mute_the_held_side_and_raise_the_version() {
    let (mut caller, mut callee) = call();
    let hold = with(CALLER, &[("a=ptime:20", "a=sendonly")]);
    let held = with(CALLEE, &[("a=fmtp:97 0-16", "a=recvonly")]);
    let (offer, answer) = exchange(&mut caller, &mut callee, hold, held);
    assert!(offer.contains("o=- 77 2 ") && offer.contains("a=sendonly"), "{offer}");
    assert!(answer.contains("o=- 77 2 ") && answer.contains("a=recvonly"), "{answer}");
    assert_eq!(caller.media().unwrap().direction, Direction::SendOnly);
    assert_eq!(callee.media().unwrap().direction, Direction::ReceiveOnly);

    let (offer, _) = exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    assert!(offer.contains("o=- 77 3 ") && offer.contains("a=sendrecv"), "{offer}");
    assert_eq!(caller.media().unwrap().direction, Direction::SendReceive);
}

#[test]
fn the_hold_of_rfc_2543_becomes_a_direction_and_keeps_the_address_for_the_gate() {
    let (mut caller, mut callee) = call();
    let hold = with(CALLER, &[("c=IN IP4 198.51.100.7", "c=IN IP4 0.0.0.0")]);
    let held = with(CALLEE, &[("a=fmtp:97 0-16", "a=recvonly")]);
    let (offer, _) = exchange(&mut caller, &mut callee, hold, held);
    assert!(offer.contains("c=IN IP4 192.0.2.2") && offer.contains("a=sendonly"), "{offer}");
    let media = caller.media().unwrap();
    assert_eq!(media.direction, Direction::SendOnly);
    assert_eq!(media.remote, Some("198.51.100.7:4000".parse().unwrap()));
}

#[test]
fn an_answer_wider_than_its_offer_is_narrowed() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let hold = with(CALLER, &[("a=ptime:20", "a=sendonly")]);
    let (_, answer) = exchange(&mut caller, &mut callee, hold, described(CALLEE));
    assert!(answer.contains("a=recvonly"), "{answer}");
    assert_eq!(callee.media().unwrap().direction, Direction::ReceiveOnly);
}

// Statement 145.
#[test]
fn the_same_description_again_keeps_its_version() {
    let (mut caller, mut callee) = call();
    let (offer, answer) = exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    assert!(offer.contains("o=- 77 1 "), "{offer}");
    assert!(answer.contains("o=- 77 1 "), "{answer}");
    assert_eq!((callee.sent(), caller.sent()), (Some(offer.as_str()), Some(answer.as_str())));
}

// Statement 144.
#[test]
fn a_re_offer_from_the_callee_keeps_the_numbers_that_the_caller_knows() {
    let (mut caller, mut callee) = call();
    let opus = [("RTP/AVP 0 97", "RTP/AVP 101 97 0"), ("a=fmtp:97 0-16", "a=rtpmap:101 opus/48000/2")];
    let back = [("RTP/AVP 8 0 101", "RTP/AVP 96 101"), ("a=ptime:20", "a=rtpmap:96 opus/48000/2")];
    let (offer, answer) = exchange(&mut callee, &mut caller, with(CALLEE, &opus), with(CALLER, &back));
    // 101 stands for events on the caller's leg, so opus comes by another number there.
    assert_eq!(numbers(&offer), [96, 101, 0], "{offer}");
    assert_eq!(numbers(&answer), [101, 97], "{answer}");
}

// Statement 147.
#[test]
fn streams_that_are_not_carried_are_refused_in_place_and_stay_so() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let video = ("t=0 0\r\n", "t=0 0\r\nm=video 6000 RTP/AVP 31 32\r\na=rtpmap:31 H261/90000\r\n");
    let fax = ("a=x-secret:1\r\n", "m=image 7000 udptl t38\r\n");
    let (offer, answer) = exchange(&mut caller, &mut callee, with(CALLER, &[video, fax]), described(CALLEE));
    assert_eq!(offer.matches("m=").count(), 1, "{offer}");
    let lines: Vec<_> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=video 0 RTP/AVP 31 32", "m=audio 30000 RTP/AVP 0 101", "m=image 0 udptl t38"]);

    // A later offer may not drop streams (RFC 3264 section 8), and the peer's answer keeps their places.
    let (offer, _) = exchange(&mut callee, &mut caller, described(CALLEE), with(CALLER, &[video, fax]));
    let lines: Vec<_> = offer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=video 0 RTP/AVP 31 32", "m=audio 30000 RTP/AVP 0 101", "m=image 0 udptl t38"]);

    let moved = caller.receive_offer(described(CALLER));
    assert_eq!(moved, Err(Refusal::StreamMoved { before: 1, now: 0 }));
}

// Statement 147.
#[test]
fn streams_that_the_callee_adds_are_refused_as_well() {
    let (mut caller, mut callee) = call();
    let offered = with(CALLEE, &[("a=fmtp:97 0-16", "m=video 6000 RTP/AVP 31")]);
    let (offer, answer) = exchange(&mut callee, &mut caller, offered, described(CALLER));
    assert_eq!(offer.matches("m=").count(), 1, "{offer}");
    let lines: Vec<_> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=audio 40000 RTP/AVP 0 97", "m=video 0 RTP/AVP 31"]);
}

// Statement 147.
#[test]
fn a_second_audio_application_and_message_streams_are_refused_beside_the_first() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let further = "m=audio 4100 RTP/AVP 8\r\nm=application 9 UDP/BFCP *\r\na=floorctrl:c-only\r\n\
                   m=message 7654 TCP/MSRP *\r\na=path:msrp://198.51.100.7:7654/jshA7we;tcp\r\n";
    let offered = with(CALLER, &[("a=x-secret:1\r\n", further)]);
    let (offer, answer) = exchange(&mut caller, &mut callee, offered, described(CALLEE));
    assert_eq!(offer.matches("m=").count(), 1, "{offer}");
    let expected = [
        "m=audio 30000 RTP/AVP 0 101",
        "m=audio 0 RTP/AVP 8",
        "m=application 0 UDP/BFCP *",
        "m=message 0 TCP/MSRP *",
    ];
    assert_eq!(media_lines(&answer), expected);
    assert!(!answer.contains("msrp://"), "{answer}");
}

const FAX: &str = "v=0\r\no=bob 5 6 IN IP4 203.0.113.9\r\ns=-\r\nc=IN IP4 203.0.113.9\r\nt=0 0\r\n\
    m=image 6000 udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxFillBitRemoval\r\n\
    a=T38FaxUdpEC:t38UDPRedundancy\r\na=x-secret:1\r\n";
const FAX_OF_CALLER: &str = "v=0\r\no=alice 2890844526 2 IN IP4 198.51.100.7\r\ns=-\r\n\
    c=IN IP4 198.51.100.7\r\nt=0 0\r\nm=image 4100 udptl t38\r\na=T38MaxBitRate:9600\r\n";

fn media_lines(body: &str) -> Vec<&str> {
    body.lines().filter(|line| line.starts_with("m=")).collect()
}

/// As [`call`], between trunks that relay fax.
fn call_with_fax() -> (Leg, Leg) {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    for leg in [&mut caller, &mut callee] {
        leg.set_terms(Terms { fax: FaxTerms::Relay, ..Terms::default() });
    }
    exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    (caller, callee)
}

#[test]
fn fax_takes_the_line_of_the_audio_and_gives_it_back() {
    let (mut caller, mut callee) = call_with_fax();
    let (offer, answer) = exchange(&mut callee, &mut caller, described(FAX), described(FAX_OF_CALLER));
    assert_eq!(media_lines(&offer), ["m=image 30000 udptl t38"]);
    let passed = [
        "a=T38FaxVersion:0",
        "a=T38MaxBitRate:14400",
        "a=T38FaxFillBitRemoval",
        "a=T38FaxUdpEC:t38UDPRedundancy",
    ];
    let attributes: Vec<_> = offer.lines().filter(|line| line.starts_with("a=")).collect();
    assert_eq!(attributes, passed, "in its words and nothing else");
    assert_eq!(media_lines(&answer), ["m=image 40000 udptl t38"]);
    assert!(answer.contains("a=T38MaxBitRate:9600"), "{answer}");
    let remote = |leg: &Leg| leg.media().unwrap().remote.unwrap().to_string();
    assert_eq!((remote(&caller), remote(&callee)), ("198.51.100.7:4100".into(), "203.0.113.9:6000".into()));
    assert!(caller.media().unwrap().fax.is_some() && caller.media().unwrap().formats.is_empty());

    let (offer, answer) = exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    assert_eq!(media_lines(&offer), ["m=audio 40000 RTP/AVP 8 0 101"]);
    assert_eq!(media_lines(&answer), ["m=audio 30000 RTP/AVP 0 101"]);
    assert!(caller.media().unwrap().fax.is_none());
}

#[test]
fn a_peer_that_brings_up_a_line_for_fax_finds_both_lines_in_their_places() {
    let (mut caller, mut callee) = call_with_fax();
    let beside = |audio: u16, image: u16| {
        let lines = format!("t=0 0\r\nm=audio {audio} RTP/AVP 0\r\nm=image {image} udptl t38");
        with(FAX, &[("t=0 0\r\nm=image 6000 udptl t38", &lines)])
    };
    let (offer, answer) = exchange(&mut callee, &mut caller, beside(0, 6000), described(FAX_OF_CALLER));
    assert_eq!(media_lines(&offer), ["m=image 30000 udptl t38"], "to the other it is one line");
    assert_eq!(media_lines(&answer), ["m=audio 0 RTP/AVP 0", "m=image 40000 udptl t38"]);

    // The other side goes back to audio: the line of audio is taken up again, that of fax refused (RFC 3264 section 8.2).
    let (offer, _) = exchange(&mut caller, &mut callee, described(CALLER), beside(5000, 0));
    assert_eq!(media_lines(&offer), ["m=audio 40000 RTP/AVP 8 0 101", "m=image 0 udptl t38"]);
    let (offer, _) = exchange(&mut caller, &mut callee, described(FAX_OF_CALLER), beside(0, 6000));
    assert_eq!(media_lines(&offer), ["m=audio 0 RTP/AVP 0", "m=image 40000 udptl t38"]);
    let (_, answer) = exchange(&mut callee, &mut caller, beside(5000, 0), described(CALLER));
    assert_eq!(media_lines(&answer), ["m=audio 40000 RTP/AVP 0", "m=image 0 udptl t38"]);
}

#[test]
fn fax_is_refused_unless_both_trunks_relay_it_and_the_audio_stays() {
    let (mut caller, mut callee) = call();
    let before = callee.media().cloned();
    assert_eq!(callee.receive_offer(described(FAX)), Err(Refusal::NoFax));
    callee.set_terms(Terms { fax: FaxTerms::Relay, ..Terms::default() });
    callee.receive_offer(described(FAX)).unwrap();
    assert_eq!(caller.relay_offer(&callee), Err(Refusal::NoFax));
    callee.abandon();
    assert_eq!((callee.media().cloned(), caller.state()), (before, State::Stable));
    assert_eq!(Refusal::NoFax.fault(), crate::base::fault::Fault::NotAcceptableHere);

    // A trunk that requires SRTP has nothing that would protect it.
    let security = SecurityTerms { security: MediaSecurity::Required, ..SecurityTerms::default() };
    caller.set_terms(Terms { fax: FaxTerms::Relay, security, ..Terms::default() });
    callee.receive_offer(described(FAX)).unwrap();
    assert_eq!(caller.relay_offer(&callee), Err(Refusal::NotSecured));
}

#[test]
fn an_offer_of_fax_that_the_other_side_refuses_leaves_lines_and_audio_as_they_were() {
    let (mut caller, mut callee) = call_with_fax();
    callee.receive_offer(described(FAX)).unwrap();
    caller.relay_offer(&callee).unwrap();
    let as_audio = caller.receive_answer(&described(CALLER), Finality::Final);
    assert_eq!(as_audio, Err(Refusal::NothingInCommon), "an answer of another kind is none");
    caller.abandon();
    callee.abandon();
    assert!(caller.media().unwrap().fax.is_none() && callee.media().unwrap().fax.is_none());
    let (offer, _) = exchange(&mut callee, &mut caller, described(CALLEE), described(CALLER));
    assert_eq!(media_lines(&offer).len(), 1);
    assert!(offer.contains("m=audio 30000"), "{offer}");
}

#[test]
fn a_wish_for_voip_metrics_goes_to_the_peer_that_hears_the_one_who_has_it() {
    const WISH: &str = "a=rtcp-xr:voip-metrics\r\n";
    let wishing = [("a=ptime:20", "a=rtcp-xr:rcvr-rtt=all voip-metrics")];
    for (caller_wishes, callee_wishes) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut caller, mut callee) = (caller_leg(), callee_leg());
        (caller.terms.voip_metrics, callee.terms.voip_metrics) = (true, true);
        let offer = with(CALLER, if caller_wishes { &wishing } else { &[] });
        let also = format!("{CALLEE}{WISH}");
        let answer = described(if callee_wishes { &also } else { CALLEE });
        let (offered, answered) = exchange(&mut caller, &mut callee, offer, answer);
        assert_eq!((offered.contains(WISH), answered.contains(WISH)), (caller_wishes, callee_wishes));
        let media = |leg: &Leg| leg.media().unwrap().metrics;
        assert_eq!((media(&caller), media(&callee)), (caller_wishes, callee_wishes));
        assert_eq!(callee.offer_agreed(&caller).unwrap().contains(WISH), caller_wishes);
        callee.abandon();
        (caller.terms.voip_metrics, callee.terms.voip_metrics) = (false, false);
        let (offered, answered) = exchange(
            &mut caller,
            &mut callee,
            with(CALLER, if caller_wishes { &wishing } else { &[] }),
            described(if callee_wishes { &also } else { CALLEE }),
        );
        assert!(!offered.contains(WISH) && !answered.contains(WISH), "{offered}{answered}");
        assert_eq!((media(&caller), media(&callee)), (caller_wishes, callee_wishes), "it is heard");
        assert!(!callee.offer_agreed(&caller).unwrap().contains(WISH));
    }
}

#[test]
fn rtcp_mux_is_negotiated_by_each_leg_alone() {
    let mux = |text: &str, line: &str| with(text, &[(line, "a=rtcp-mux")]);
    let table = [
        // (caller offers, we offer, callee answers) and (caller's leg, callee's leg) shares the port
        (true, true, true, true, true),
        (true, true, false, true, false),
        (true, false, true, true, false),
        (false, true, true, false, true),
        (false, false, false, false, false),
    ];
    for (offered, offering, answered, on_caller, on_callee) in table {
        let mut caller = caller_leg();
        let terms = Terms { offer_rtcp_mux: offering, ..Terms::default() };
        let mut callee = Leg::new(77, "192.0.2.2:40000".parse().unwrap(), terms, &mut Tokens::seeded(1));
        let offer = if offered { mux(CALLER, "a=ptime:20") } else { described(CALLER) };
        let answer = if answered { mux(CALLEE, "a=fmtp:97 0-16") } else { described(CALLEE) };
        let (offer, answer) = exchange(&mut caller, &mut callee, offer, answer);
        assert_eq!((offer.contains("a=rtcp-mux"), answer.contains("a=rtcp-mux")), (offering, on_caller));
        let caller = caller.media().unwrap();
        let callee = callee.media().unwrap();
        assert_eq!((caller.rtcp_mux, callee.rtcp_mux), (on_caller, on_callee));
        assert_eq!(caller.remote_rtcp == caller.remote, on_caller);
        assert_eq!(callee.remote_rtcp == callee.remote, on_callee);
    }
}

#[test]
fn payload_numbers_that_look_like_rtcp_forbid_a_shared_port() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let lookalike = [("101", "72"), ("a=ptime:20", "a=rtcp-mux")];
    let (_, answer) = exchange(&mut caller, &mut callee, with(CALLER, &lookalike), described(CALLEE));
    assert!(!answer.contains("a=rtcp-mux"), "{answer}");
}

#[test]
fn early_media_flows_by_a_preview_and_the_final_answer_may_differ() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    caller.receive_offer(described(CALLER)).unwrap();
    callee.relay_offer(&caller).unwrap();
    assert_eq!(caller.relay_answer(&callee, Finality::Preview), Err(Refusal::NothingToRelay));

    callee.receive_answer(&described(CALLEE), Finality::Preview).unwrap();
    let preview = caller.relay_answer(&callee, Finality::Preview).unwrap();
    assert!(caller.media().is_some() && callee.media().is_some());
    assert_eq!((caller.state(), callee.state()), (State::RemoteOffer, State::LocalOffer));

    let elsewhere = with(CALLEE, &[("audio 5000", "audio 5900")]);
    callee.receive_answer(&elsewhere, Finality::Final).unwrap();
    let answer = caller.relay_answer(&callee, Finality::Final).unwrap();
    assert_eq!(answer, preview, "the caller's side has not changed");
    assert_eq!(callee.media().unwrap().remote, Some("203.0.113.9:5900".parse().unwrap()));
    assert_eq!(callee.receive_answer(&elsewhere, Finality::Final), Ok(Progress::Already));
}

#[test]
fn a_final_response_without_a_description_confirms_the_preview() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    caller.receive_offer(described(CALLER)).unwrap();
    callee.relay_offer(&caller).unwrap();
    assert_eq!(callee.confirm_preview(), Err(Refusal::NoAnswer));
    callee.receive_answer(&described(CALLEE), Finality::Preview).unwrap();
    assert_eq!(callee.confirm_preview(), Ok(Progress::Taken));
    assert_eq!(callee.confirm_preview(), Ok(Progress::Already));
    assert!(callee.media().is_some());
}

#[test]
fn a_refused_re_offer_leaves_what_held_before() {
    let (mut caller, mut callee) = call();
    let before = (caller.media().cloned(), callee.media().cloned());
    caller.receive_offer(with(CALLER, &[("audio 4000", "audio 4900")])).unwrap();
    callee.relay_offer(&caller).unwrap();
    callee.receive_answer(&with(CALLEE, &[("audio 5000", "audio 5900")]), Finality::Preview).unwrap();
    caller.relay_answer(&callee, Finality::Preview).unwrap();
    assert_ne!(before.0.as_ref(), caller.media());
    for leg in [&mut caller, &mut callee] {
        leg.abandon();
        assert_eq!(leg.state(), State::Stable);
    }
    assert_eq!(before, (caller.media().cloned(), callee.media().cloned()));
}

#[test]
fn offers_that_cross_are_refused_with_491() {
    let (mut caller, mut callee) = call();
    caller.receive_offer(described(CALLER)).unwrap();
    callee.receive_offer(described(CALLEE)).unwrap();
    let refusal = callee.relay_offer(&caller).unwrap_err();
    assert_eq!(refusal, Refusal::Illegal { state: State::RemoteOffer, event: Event::SendOffer });
    assert_eq!(refusal.fault().status(), 491);
}

#[test]
fn the_next_peer_gets_the_offer_afresh() {
    let mut caller = caller_leg();
    caller.receive_offer(described(CALLER)).unwrap();
    let first = callee_leg().relay_offer(&caller).unwrap();
    let mut second = callee_leg();
    assert_eq!(second.relay_offer(&caller).unwrap(), first);
    second.receive_answer(&described(CALLEE), Finality::Final).unwrap();
    caller.relay_answer(&second, Finality::Final).unwrap();
}

#[test]
fn codecs_pass_only_if_both_trunks_allow_them() {
    let terms = |codecs: &[Encoding]| Terms { codecs: Some(codecs.to_vec()), ..Terms::default() };
    let leg = |codecs| Leg::new(1, "192.0.2.1:30000".parse().unwrap(), terms(codecs), &mut Tokens::seeded(1));
    let mut caller = leg(&[Encoding::Pcma, Encoding::Pcmu]);
    caller.receive_offer(described(CALLER)).unwrap();
    let offer = leg(&[Encoding::Pcmu, Encoding::G729]).relay_offer(&caller).unwrap();
    assert_eq!(numbers(&offer), [0, 101]);
    let refusal = leg(&[Encoding::G729]).relay_offer(&caller).unwrap_err();
    assert_eq!(refusal, Refusal::NothingInCommon);
    assert_eq!(refusal.fault().status(), 488);
    assert_eq!(leg(&[Encoding::G729]).receive_offer(described(CALLER)), Err(Refusal::NothingInCommon));
}

#[test]
fn an_answer_of_codecs_that_nobody_offered_is_refused() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    caller.receive_offer(described(CALLER)).unwrap();
    callee.relay_offer(&caller).unwrap();
    let foreign = with(CALLEE, &[("RTP/AVP 0 97", "RTP/AVP 18 97")]);
    assert_eq!(callee.receive_answer(&foreign, Finality::Final), Err(Refusal::NothingInCommon));
    let events_only = with(CALLEE, &[("RTP/AVP 0 97", "RTP/AVP 97")]);
    assert_eq!(callee.receive_answer(&events_only, Finality::Final), Err(Refusal::NothingInCommon));
    assert_eq!(callee.state(), State::LocalOffer, "a refusal changes nothing");
}

#[test]
fn redundancy_is_not_offered_on_because_its_packets_carry_numbers() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let red = [("RTP/AVP 8", "RTP/AVP 121 8"), ("a=ptime:20", "a=rtpmap:121 red/8000\r\na=fmtp:121 8/8")];
    caller.receive_offer(with(CALLER, &red)).unwrap();
    assert_eq!(numbers(&callee.relay_offer(&caller).unwrap()), [8, 0, 101]);
}

#[test]
fn a_stream_may_be_refused_ended_and_taken_up_again() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let ended_before = caller.receive_offer(with(CALLER, &[("audio 4000", "audio 0")]));
    assert_eq!(ended_before, Err(Refusal::NeverEnabled));

    let refused = with(CALLEE, &[("audio 5000", "audio 0")]);
    let (_, answer) = exchange(&mut caller, &mut callee, described(CALLER), refused.clone());
    assert!(answer.contains("m=audio 0 RTP/AVP 8 0 101"), "{answer}");
    assert_eq!((caller.media(), callee.media()), (None, None));

    exchange(&mut caller, &mut callee, described(CALLER), described(CALLEE));
    assert!(caller.media().is_some() && callee.media().is_some());

    let ended = with(CALLER, &[("audio 4000", "audio 0")]);
    let (offer, answer) = exchange(&mut caller, &mut callee, ended, refused);
    assert!(offer.contains("m=audio 0 ") && answer.contains("m=audio 0 "), "{offer}\n{answer}");
    assert_eq!((caller.media(), callee.media()), (None, None));
}

#[test]
fn a_peer_of_the_other_address_family_is_refused() {
    let v6 = with(CALLER, &[("c=IN IP4 198.51.100.7", "c=IN IP6 2001:db8::7")]);
    let refusal = caller_leg().receive_offer(v6).unwrap_err();
    assert!(matches!(refusal, Refusal::AddressFamily { .. }), "{refusal}");
    assert_eq!(refusal.fault().status(), 488);
    let mixed = with(CALLER, &[("a=ptime:20", "a=rtcp:4001 IN IP6 2001:db8::7")]);
    assert!(matches!(caller_leg().receive_offer(mixed), Err(Refusal::AddressFamily { .. })));
}

#[test]
fn one_leg_may_be_ipv4_and_the_other_ipv6() {
    let (mut caller, mut callee) = (caller_leg(), leg("[2001:db8::1]:40000"));
    let v6 = with(CALLEE, &[("c=IN IP4 203.0.113.9", "c=IN IP6 2001:db8::9")]);
    let (offer, answer) = exchange(&mut caller, &mut callee, described(CALLER), v6);
    assert!(offer.contains("o=- 77 1 IN IP6 2001:db8::1\r\n") && offer.contains("c=IN IP6 2001:db8::1\r\n"));
    assert!(answer.contains("c=IN IP4 192.0.2.1\r\n"));
    assert_eq!(callee.media().unwrap().remote, Some("[2001:db8::9]:5000".parse().unwrap()));
}

#[test]
fn rtcp_goes_where_its_attribute_says() {
    let (mut caller, mut callee) = (caller_leg(), callee_leg());
    let rtcp = with(CALLER, &[("a=ptime:20", "a=rtcp:4444")]);
    let rtcp_address = with(CALLEE, &[("a=fmtp:97 0-16", "a=rtcp:5555 IN IP4 203.0.113.10")]);
    exchange(&mut caller, &mut callee, rtcp, rtcp_address);
    assert_eq!(caller.media().unwrap().remote_rtcp, Some("198.51.100.7:4444".parse().unwrap()));
    assert_eq!(callee.media().unwrap().remote_rtcp, Some("203.0.113.10:5555".parse().unwrap()));
}

#[test]
fn a_checkpointed_leg_carries_on() {
    let (caller, _) = call();
    let text = serde_json::to_string(&caller).unwrap();
    let mut restored: Leg = serde_json::from_str(&text).unwrap();
    assert_eq!(restored.media(), caller.media());
    assert_eq!(restored.sent(), caller.sent());
    restored.receive_offer(described(CALLER)).unwrap();
}

const CODECS: [&str; 6] =
    ["PCMU/8000", "PCMA/8000", "G722/8000", "opus/48000/2", "telephone-event/8000", "telephone-event/48000"];

/// A description with some of [`CODECS`] in any order by any numbers.
fn any_description() -> impl Strategy<Value = Description> {
    let codecs = Just((0..CODECS.len()).collect::<Vec<_>>()).prop_shuffle();
    let numbers = Just((96..=127u8).collect::<Vec<_>>()).prop_shuffle();
    (codecs, numbers, 1..=CODECS.len(), 0..4u8).prop_map(|(codecs, numbers, count, direction)| {
        let codecs = codecs.into_iter().take(count).zip(numbers);
        let formats: Vec<_> = codecs
            .map(|(codec, payload_type)| Format {
                payload_type,
                codec: CODECS[codec].parse().unwrap(),
                fmtp: None,
            })
            .collect();
        let mut description = described(CALLER);
        description.audio.direction = Direction::of(direction & 1 != 0, direction & 2 != 0);
        description.audio.formats = formats;
        description
    })
}

proptest! {
    /// Whatever is offered and answered from whichever side, both legs end up with the same codecs in the same
    /// order, no number means two things, and nobody sends what the other does not receive.
    // Statement 143.
    #[test]
    fn both_legs_agree_after_any_exchange(
        rounds in prop::collection::vec((any::<bool>(), any_description(), any_description()), 1..6),
    ) {
        let (mut caller, mut callee) = (caller_leg(), callee_leg());
        for (by_caller, offer, answer) in rounds {
            let (from, to) = if by_caller { (&mut caller, &mut callee) } else { (&mut callee, &mut caller) };
            let relayed = from.receive_offer(offer).and_then(|()| to.relay_offer(from));
            let answered = relayed
                .and_then(|_| to.receive_answer(&answer, Finality::Final))
                .and_then(|_| from.relay_answer(to, Finality::Final));
            if answered.is_err() {
                from.abandon();
                to.abandon();
                continue;
            }
            let (from, to) = (from.media().unwrap(), to.media().unwrap());
            let codecs = |media: &Negotiated| -> Vec<Codec> {
                media.formats.iter().map(|format| format.codec.clone()).collect()
            };
            prop_assert_eq!(codecs(from), codecs(to));
            prop_assert_eq!(from.direction, to.direction.reversed());
            for media in [from, to] {
                for number in [|format: &NegotiatedFormat| format.from_peer, |format: &NegotiatedFormat| format.to_peer] {
                    let mut numbers: Vec<_> = media.formats.iter().map(number).collect();
                    numbers.sort_unstable();
                    let count = numbers.len();
                    numbers.dedup();
                    prop_assert_eq!(numbers.len(), count);
                }
            }
        }
    }
}
