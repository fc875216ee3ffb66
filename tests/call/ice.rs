//! Media bypass: what is said of ICE in session descriptions, and what the relay is told of it. What agents make of
//! checks, the room `ice` shows.

use gateway_userspace::base::id::Side;
use gateway_userspace::ice::UnknownAttributes;
use gateway_userspace::media::plan::{ChecksSpec, FlowSpec, GateSpec};
use gateway_userspace::policy::{Advertised, Service, Trunk};
use support::stage::phone::Reaction::{Branch, Describe};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

const KEY: &[&str] = &["1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31"];

/// What a client of Teams says: several candidates, of which the default is one.
const CLIENT: &str = "a=rtcp-mux\r\na=ice-ufrag:tmS1\r\na=ice-pwd:n7mAiWYqkpSbxs4WzlF1mWyV\r\n\
    a=candidate:1 1 UDP 2130706431 198.18.0.21 4000 typ host\r\n\
    a=candidate:1 2 UDP 2130705918 198.18.0.21 4001 typ host\r\n\
    a=candidate:2 1 tcp-act 2121006078 198.18.0.21 4000 typ srflx raddr 10.0.0.5 rport 4000\r\n\
    a=candidate:3 1 UDP 184547839 203.0.113.77 50010 typ relay raddr 198.18.0.21 rport 4000\r\n";
/// Another of its clients, or the same after a restart.
const ANOTHER: &str = "a=rtcp-mux\r\na=ice-ufrag:tmS2\r\na=ice-pwd:zzzziWYqkpSbxs4WzlF1mWyV\r\n\
    a=candidate:1 1 UDP 2130706431 198.18.0.21 4000 typ host\r\n";

fn bypass(trunk: &mut Trunk) {
    *trunk = trunk.clone().toward(Service::Teams);
    trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
    trunk.sip.session_expires = None;
    trunk.media.offer_rtcp_mux = true;
    trunk.media.ice.is_lite = true;
}

/// Alice's operator knows nothing of ICE, Bob is a client of Teams in media bypass.
fn teams() -> Scene {
    let mut scene = Scene::new(Stage { service: bypass, ..Stage::default() });
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", KEY);
    let at = scene.bob().session.at.clone();
    scene.bob().session.attributes = CLIENT;
    assert_eq!(at, ("198.18.0.21".to_owned(), 4_000), "the default candidate");
    scene
}

/// Session descriptions that a phone was sent, in order.
fn bodies(scene: &Scene, phone: usize) -> Vec<String> {
    let described = scene.phones[phone].inbox.iter().filter(|text| text.contains("m=audio"));
    described.map(|text| text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()).collect()
}

fn values<'a>(sdp: &'a str, name: &str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')).collect()
}

fn value<'a>(sdp: &'a str, name: &str) -> &'a str {
    let [value] = values(sdp, name)[..] else { panic!("one {name} in {sdp}") };
    value
}

/// What a description of ours says of ICE: user name fragment, password and candidate.
fn said(sdp: &str) -> (&str, &str, &str) {
    (value(sdp, "ice-ufrag"), value(sdp, "ice-pwd"), value(sdp, "candidate"))
}

fn flow(scene: &Scene, side: Side) -> &FlowSpec {
    scene.flows.media_of(side).expect("media is relayed")
}

fn checks(scene: &Scene) -> &ChecksSpec {
    flow(scene, Side::Callee).checks.as_ref().expect("checks are answered")
}

fn forks(scene: &Scene) -> Vec<String> {
    checks(scene).forks.iter().map(|fork| fork.peer.ufrag.to_string()).collect()
}

// Statement 167.
#[test]
fn an_offer_has_ice_lite_with_the_session_and_one_candidate_of_udp_with_the_stream() {
    let mut scene = teams();
    scene.talk();
    let offer = &bodies(&scene, BOB)[0];
    let (session, stream) = offer.split_at(offer.find("m=audio").expect("a stream"));
    assert!(session.contains("a=ice-lite\r\n") && !stream.contains("ice-lite"), "{offer}");
    let (ufrag, password, candidate) = said(stream);
    assert!(ufrag.len() >= 4 && password.len() >= 22, "{offer}");
    let port = stream.split(' ').nth(1).expect("a port");
    let address = offer.lines().find_map(|line| line.strip_prefix("c=IN IP4 ")).expect("an address");
    assert_eq!(candidate, format!("1 1 UDP 2130706431 {address} {port} typ host"));
    assert!(stream.contains("a=rtcp-mux\r\n"), "so that one component is enough");

    // The operator's side hears nothing of it.
    assert!(bodies(&scene, ALICE).iter().all(|body| !body.contains("a=ice") && !body.contains("candidate")));
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn without_a_shared_port_there_is_a_candidate_for_each() {
    let mut scene = Scene::new(Stage {
        service: |trunk| {
            bypass(trunk);
            trunk.media.offer_rtcp_mux = false;
        },
        ..Stage::default()
    });
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", KEY);
    scene.talk();
    let offer = &bodies(&scene, BOB)[0];
    let ports: Vec<u16> = values(offer, "candidate")
        .iter()
        .map(|line| line.split(' ').nth(5).unwrap().parse().unwrap())
        .collect();
    assert!(matches!(ports[..], [rtp, rtcp] if rtcp == rtp + 1), "{offer}");
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn the_relay_is_told_who_may_check_and_sends_nothing_to_a_client_before_that() {
    let mut scene = teams();
    scene.talk();
    let offer = bodies(&scene, BOB)[0].clone();
    let (ufrag, password, _) = said(&offer);
    let checks = checks(&scene);
    assert_eq!((checks.local.ufrag.as_str(), checks.local.password.reveal()), (ufrag, password));
    assert_eq!(checks.unknown, UnknownAttributes::Ignore, "as Microsoft wants it");
    let [fork] = &checks.forks[..] else { panic!("{checks:?}") };
    assert_eq!(fork.peer.ufrag.as_str(), "tmS1");
    let candidates: Vec<_> = fork.peer.candidates.iter().map(ToString::to_string).collect();
    assert_eq!(candidates, ["198.18.0.21:4000", "198.18.0.21:4001", "203.0.113.77:50010"]);
    assert!(fork.unprotect.is_some());

    let nobody = "0.0.0.0:0".parse().expect("an address");
    assert_eq!(flow(&scene, Side::Callee).gate, GateSpec::Exact(nobody));
    let output = flow(&scene, Side::Caller).rtp.expect("a way out");
    assert_eq!((output.to, output.learned_from.is_some()), (nobody, true));
    assert_eq!(flow(&scene, Side::Caller).checks, None);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 173.
#[test]
fn checks_that_come_before_any_answer_find_the_agent_there() {
    let mut scene = teams();
    scene.bob().on_invite = Vec::new();
    scene.alice_calls();
    scene.run(1_000);
    let offer = bodies(&scene, BOB)[0].clone();
    let checks = checks(&scene);
    assert_eq!(checks.local.ufrag.as_str(), said(&offer).0);
    assert!(checks.forks.is_empty(), "nobody has answered yet");
    assert_eq!(flow(&scene, Side::Callee).gate, GateSpec::Exact("0.0.0.0:0".parse().expect("an address")));
}

// Statement 174.
#[test]
fn what_a_183_says_a_200_says_again_to_a_client_that_calls() {
    let mut scene = teams();
    scene.alice().on_invite = vec![(10, Describe(183)), (2_000, Describe(200))];
    scene.bob_calls_alice();
    scene.run(10_000);
    let answers = bodies(&scene, BOB);
    let distinct: std::collections::BTreeSet<_> = answers.iter().map(|answer| said(answer)).collect();
    assert!(answers.len() >= 2 && distinct.len() == 1, "{answers:?}");
    scene.hangs_up(BOB);
    scene.ends();
}

/// Bob offers once more, with these attributes and this direction; our answer.
fn offers_again(scene: &mut Scene, attributes: &'static str, direction: &'static str) -> String {
    let before = bodies(scene, BOB).len();
    let mut session = scene.phones[BOB].session.directed(direction);
    session.attributes = attributes;
    scene.reinvites(BOB, session);
    scene.run(5_000);
    let answers = bodies(scene, BOB);
    assert!(answers.len() > before, "{}", scene.ladder.join("\n"));
    answers.last().expect("an answer").clone()
}

// Statement 176.
#[test]
fn a_re_invite_with_remote_candidates_is_answered_with_the_same_candidate() {
    const SETTLED: &str = "a=rtcp-mux\r\na=ice-ufrag:tmS1\r\na=ice-pwd:n7mAiWYqkpSbxs4WzlF1mWyV\r\n\
        a=candidate:1 1 UDP 2130706431 198.18.0.21 4000 typ host\r\n\
        a=remote-candidates:1 192.0.2.1 30000\r\n";
    let mut scene = teams();
    scene.talk();
    let offer = bodies(&scene, BOB)[0].clone();
    let answer = offers_again(&mut scene, SETTLED, "sendrecv");
    assert_eq!(said(&answer), said(&offer));
    assert!(!answer.contains("remote-candidates"), "those are of whoever is controlling");
    assert_eq!(forks(&scene), ["tmS1"]);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 177.
#[test]
fn new_credentials_in_a_re_invite_are_answered_with_new_ones_at_the_same_port() {
    let mut scene = teams();
    scene.talk();
    let offer = bodies(&scene, BOB)[0].clone();
    let answer = offers_again(&mut scene, ANOTHER, "sendrecv");
    let (before, after) = (said(&offer), said(&answer));
    assert!(before.0 != after.0 && before.1 != after.1, "{answer}");
    assert_eq!(before.2, after.2);
    assert_eq!((checks(&scene).local.ufrag.as_str(), forks(&scene)), (after.0, vec!["tmS2".to_owned()]));

    // And they stay until the next restart, whoever offers.
    let again = offers_again(&mut scene, ANOTHER, "sendrecv");
    assert_eq!(said(&again), after);
    let session = scene.phones[ALICE].session.directed("sendonly");
    scene.reinvites(ALICE, session);
    scene.run(5_000);
    assert_eq!(said(bodies(&scene, BOB).last().expect("an offer")), after);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 178.
#[test]
fn hold_for_a_minute_and_resume_leave_the_agent_as_it_is() {
    let mut scene = teams();
    scene.talk();
    let before = checks(&scene).clone();
    offers_again(&mut scene, CLIENT, "inactive");
    scene.run(65_000);
    assert!(flow(&scene, Side::Callee).muted);
    assert_eq!(*checks(&scene), before);
    offers_again(&mut scene, CLIENT, "sendrecv");
    assert!(!flow(&scene, Side::Callee).muted);
    assert_eq!(*checks(&scene), before);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 179.
#[test]
fn no_offer_to_a_bypass_trunk_is_without_ice() {
    let mut scene = teams();
    scene.talk();
    for direction in ["sendonly", "sendrecv", "inactive", "sendrecv"] {
        let session = scene.phones[ALICE].session.directed(direction);
        scene.reinvites(ALICE, session);
        scene.run(5_000);
    }
    let offers: Vec<_> = scene.phones[BOB].came("INVITE ").collect();
    assert!(offers.len() >= 4);
    for offer in offers {
        assert!(offer.contains("a=ice-lite\r\n") && offer.contains("a=ice-ufrag:"), "{offer}");
    }
    scene.hangs_up(ALICE);
    scene.ends();

    // Where the caller offers nothing, we do.
    let mut scene = teams();
    let now = scene.now;
    scene.alice().call(now, support::stage::scene::BOBS_NUMBER, false);
    scene.run(5_000);
    assert_eq!(values(&bodies(&scene, BOB)[0], "ice-ufrag").len(), 1);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn with_a_peer_that_sends_no_checks_media_goes_where_signalling_says() {
    const LITE: &str = "a=ice-lite\r\na=ice-ufrag:tmS1\r\na=ice-pwd:n7mAiWYqkpSbxs4WzlF1mWyV\r\n\
        a=candidate:1 1 UDP 2130706431 198.18.0.21 4000 typ host\r\n";
    const MOVED: &str = "a=ice-ufrag:tmS1\r\na=ice-pwd:n7mAiWYqkpSbxs4WzlF1mWyV\r\n\
        a=candidate:1 1 UDP 2130706431 10.0.0.5 4000 typ host\r\n";
    const BROKEN: &str = "a=ice-mismatch\r\n";
    for attributes in [LITE, MOVED, BROKEN, ""] {
        let mut scene = teams();
        scene.bob().session.attributes = attributes;
        scene.talk();
        assert_eq!(flow(&scene, Side::Callee).checks, None, "{attributes}");
        let output = flow(&scene, Side::Caller).rtp.expect("a way out");
        assert_eq!(output.to.to_string(), "198.18.0.21:4000", "{attributes}");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

#[test]
fn an_offer_without_ice_or_with_one_that_broke_on_its_way_is_answered_without() {
    const MOVED: &str = "a=ice-ufrag:tmS1\r\na=ice-pwd:n7mAiWYqkpSbxs4WzlF1mWyV\r\n\
        a=candidate:1 1 UDP 2130706431 10.0.0.5 4000 typ host\r\n";
    for attributes in ["", MOVED] {
        let mut scene = teams();
        scene.bob().session.attributes = attributes;
        scene.bob_calls_alice();
        scene.run(5_000);
        let answer = bodies(&scene, BOB).last().expect("an answer").clone();
        assert!(!answer.contains("a=ice") && !answer.contains("candidate"), "{answer}");
        assert_eq!(flow(&scene, Side::Caller).checks, None);
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Statement 181.
#[test]
fn branches_with_credentials_and_keys_of_their_own_are_all_heard_at_one_port_until_one_answers() {
    const OTHER_KEY: &[&str] =
        &["1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^31"];
    let mut scene = teams();
    let branch = |scene: &Scene, attributes: &'static str, crypto| {
        let mut session = scene.phones[BOB].session.secured("RTP/SAVP", crypto);
        session.attributes = attributes;
        session
    };
    let (first, second) = (branch(&scene, CLIENT, KEY), branch(&scene, ANOTHER, OTHER_KEY));
    scene.bob().branches.insert(1, first);
    scene.bob().branches.insert(2, second);
    scene.bob().on_invite =
        vec![(50, Branch(1, 183, true)), (400, Branch(2, 183, true)), (3_000, Branch(1, 200, true))];
    scene.alice_calls();
    scene.run(1_500);
    let mut heard = forks(&scene);
    heard.sort();
    assert_eq!(heard, ["tmS1", "tmS2"]);
    let keys: Vec<_> = checks(&scene).forks.iter().map(|fork| fork.unprotect.clone()).collect();
    assert!(keys[0].is_some() && keys[1].is_some() && keys[0] != keys[1]);
    assert_eq!(checks(&scene).forks[0].unprotect, flow(&scene, Side::Callee).unprotect);
    scene.run(3_000);
    assert_eq!(forks(&scene), ["tmS1"], "of the branch that answered");
    scene.hangs_up(ALICE);
    scene.ends();
}
