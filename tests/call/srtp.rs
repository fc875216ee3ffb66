//! Keys in session descriptions: what is offered and answered, what is refused, and what the relay is given.

use gateway_common::flow::FlowKind;
use gateway_userspace::base::id::Side;
use gateway_userspace::media::plan::FlowSpec;
use gateway_userspace::policy::{Advertised, Service, Trunk};
use gateway_userspace::sdp::MediaSecurity;
use gateway_userspace::srtp::{MasterKey, Suite};
use support::stage::phone::Reaction::Describe;
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::{crypto_of, profile_of};

/// A key and salt of 30 octets, in base64.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const AES_80: &[&str] = &["1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31"];
const ANOTHER_KEY: &[&str] =
    &["1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^31"];

fn secured(trunk: &mut Trunk, service: Service) {
    *trunk = trunk.clone().toward(service);
    trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
    trunk.sip.session_expires = None;
}

fn toward(service: fn(&mut Trunk)) -> Scene {
    Scene::new(Stage { service, ..Stage::default() })
}

/// Alice's operator speaks plain RTP, Bob's Teams takes nothing but SRTP.
pub(crate) fn teams() -> Scene {
    let mut scene = toward(|trunk| secured(trunk, Service::Teams));
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", AES_80);
    scene
}

fn zoom() -> Scene {
    toward(|trunk| secured(trunk, Service::Zoom))
}

fn opportunistic() -> Scene {
    toward(|trunk| trunk.media.security.security = MediaSecurity::Offered)
}

/// The last session description that a phone was sent.
fn last_body(scene: &Scene, phone: usize) -> String {
    let described = scene.phones[phone].inbox.iter().rfind(|text| text.contains("m=audio"));
    described.expect("a session description").split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()
}

fn flow(scene: &Scene, side: Side) -> &FlowSpec {
    scene.flows.media_of(side).expect("media is relayed")
}

/// What arrives from Bob is read with, and what goes to him is written with.
fn keys(scene: &Scene) -> (Option<MasterKey>, Option<MasterKey>) {
    let (caller, callee) = (flow(scene, Side::Caller), flow(scene, Side::Callee));
    let of_alice = (&caller.unprotect, &callee.protect);
    assert_eq!(of_alice, (&None, &None), "Alice's side is plain");
    (callee.unprotect.clone(), caller.protect.clone())
}

fn parsed(line: &str) -> MasterKey {
    let mut words = line.split(' ').skip(1);
    let suite = Suite::named(words.next().expect("a suite")).expect("a known suite");
    let inline = words.next().and_then(|word| word.strip_prefix("inline:")).expect("a key");
    let text = inline.split('|').next().unwrap_or_default();
    MasterKey::from_base64(suite, text).expect("a key of the suite")
}

fn same_octets(key: Option<MasterKey>, line: &str) -> bool {
    let line = parsed(line);
    key.is_some_and(|key| (key.suite(), key.key(), key.salt()) == (line.suite(), line.key(), line.salt()))
}

// Statements 130, 132, 140.
#[test]
fn teams_is_offered_srtp_with_a_key_of_its_own_for_each_call_and_the_operator_hears_nothing_of_it() {
    let mut scene = toward(|trunk| {
        secured(trunk, Service::Teams);
        trunk.media.offer_rtcp_mux = true;
    });
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", AES_80);
    scene.bob().session.attributes = "a=rtcp-mux\r\n";
    let mut ours = Vec::new();
    for _ in 0..2 {
        scene.talk();
        let offer = scene.phones[BOB].came("INVITE ").last().expect("an offer").to_owned();
        assert_eq!(profile_of(&offer), "RTP/SAVP");
        let [line] = crypto_of(&offer)[..] else { panic!("{offer}") };
        let inline = line.strip_prefix("1 AES_CM_128_HMAC_SHA1_80 inline:").expect("the first suite");
        assert_eq!(inline.len(), 40, "30 octets in base64");
        assert!(offer.contains("a=rtcp-mux\r\n"));
        let plain = last_body(&scene, ALICE);
        assert_eq!((profile_of(&plain), crypto_of(&plain).len()), ("RTP/AVP", 0));

        let (from_bob, to_bob) = keys(&scene);
        assert!(same_octets(from_bob.clone(), AES_80[0]) && same_octets(to_bob.clone(), line));
        assert_ne!(from_bob, to_bob);
        assert_eq!(flow(&scene, Side::Callee).kind, FlowKind::Mux, "SRTCP comes to the port of RTP");
        ours.push(line.to_owned());
        scene.hangs_up(ALICE);
        scene.run(40_000);
    }
    assert_ne!(ours[0], ours[1]);
    scene.ends();
}

// Statement 131.
#[test]
fn of_both_tags_the_longer_is_answered_with_its_number_and_a_lone_one_by_zero() {
    const BOTH: &[&str] = &[
        "0 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31",
        "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^31",
    ];
    const ZERO: &[&str] = &["0 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"];
    for (lines, begins) in
        [(BOTH, "1 AES_CM_128_HMAC_SHA1_80 inline:"), (ZERO, "0 AES_CM_128_HMAC_SHA1_80 inline:")]
    {
        let mut scene = teams();
        scene.bob().session.crypto = lines;
        scene.bob_calls_alice();
        scene.run(3_000);
        let answer = last_body(&scene, BOB);
        assert_eq!(profile_of(&answer), "RTP/SAVP");
        let [line] = crypto_of(&answer)[..] else { panic!("{answer}") };
        assert!(line.starts_with(begins), "{line}");
        let (of_bob, to_bob) = (flow(&scene, Side::Caller), flow(&scene, Side::Callee));
        let offered = lines.iter().find(|line| line.contains("_80")).expect("one with a long tag");
        assert!(same_octets(of_bob.unprotect.clone(), offered));
        assert!(same_octets(to_bob.protect.clone(), line));
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Statement 133.
#[test]
fn a_master_key_identifier_of_the_answer_is_what_its_packets_carry() {
    const WITH: &[&str] =
        &["1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31|1:1"];
    for (lines, length) in [(WITH, Some(1)), (AES_80, None)] {
        let mut scene = teams();
        scene.bob().session.crypto = lines;
        scene.talk();
        let (from_bob, to_bob) = keys(&scene);
        assert_eq!(from_bob.and_then(|key| key.mki()).map(|mki| mki.len()), length);
        assert_eq!(to_bob.and_then(|key| key.mki()), None, "ours has none");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statement 134.
#[test]
fn profiles_with_and_without_dtls_in_their_name_answer_each_other() {
    for profile in ["UDP/TLS/RTP/SAVP", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF"] {
        let mut scene = teams();
        scene.bob().session.profile = profile;
        scene.talk();
        assert!(same_octets(keys(&scene).0, AES_80[0]), "{profile} answers our RTP/SAVP");
        scene.hangs_up(ALICE);
        scene.ends();

        let mut scene = teams();
        scene.bob().session.profile = profile;
        scene.bob_calls_alice();
        scene.run(3_000);
        let answered = if profile.ends_with('F') { "RTP/SAVPF" } else { "RTP/SAVP" };
        assert_eq!(profile_of(&last_body(&scene, BOB)), answered, "to an offer of {profile}");
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Statement 135.
#[test]
fn a_plain_offer_of_teams_is_refused_with_488() {
    const OTHER_SUITE: &[&str] = &["1 F8_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"];
    for (profile, lines) in [("RTP/AVP", &[][..]), ("RTP/SAVP", &[]), ("UDP/TLS/RTP/SAVP", OTHER_SUITE)] {
        let mut scene = teams();
        scene.bob().session = scene.bob().session.secured(profile, lines);
        scene.bob_calls_alice();
        scene.run(3_000);
        assert_eq!(scene.phones[BOB].answers, ["INVITE 488"], "{profile}");
        assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0);
        scene.ends();
    }
}

// Statement 135.
#[test]
fn a_plain_answer_of_teams_ends_the_attempt_and_the_caller_hears_488() {
    let mut scene = teams();
    scene.bob().session = scene.bob().session.secured("RTP/AVP", &[]);
    scene.alice_calls();
    scene.run(5_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 488"]);
    assert_eq!(scene.phones[BOB].came("BYE ").count(), 1);
    assert!(scene.flows.media_of(Side::Caller).is_none());
    scene.ends();
}

// Statement 138.
#[test]
fn a_key_that_the_far_end_changes_is_taken_and_ours_stays() {
    let mut scene = teams();
    scene.talk();
    let before = keys(&scene);
    let session = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, session.clone());
    scene.run(1_000);
    assert_eq!(keys(&scene), before, "the same key is the same context");
    scene.reinvites(BOB, session.secured("RTP/SAVP", ANOTHER_KEY));
    scene.run(1_000);
    let (from_bob, to_bob) = keys(&scene);
    assert!(same_octets(from_bob, ANOTHER_KEY[0]));
    assert_eq!(to_bob, before.1);
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 139.
#[test]
fn hold_resume_and_session_refresh_do_not_change_keys() {
    let mut scene = toward(|trunk| {
        secured(trunk, Service::Teams);
        trunk.sip.session_expires = Some(90);
    });
    scene.bob().adds = vec![("Session-Expires", "90;refresher=uac".to_owned()), ("Require", "timer".into())];
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", AES_80);
    scene.talk();
    let before = keys(&scene);
    let session = scene.phones[ALICE].session.clone();
    for direction in ["sendonly", "sendrecv"] {
        scene.reinvites(ALICE, session.directed(direction));
        scene.run(1_000);
        assert_eq!(keys(&scene), before, "{direction}");
    }
    scene.run(200_000);
    assert_eq!(keys(&scene), before);
    let bodies = scene.phones[BOB].inbox.iter().filter(|text| text.contains("m=audio"));
    let mut lines: Vec<_> = bodies.flat_map(|text| crypto_of(text)).collect();
    assert!(lines.len() > 3, "an offer, two changes and refreshes");
    lines.dedup();
    assert_eq!(lines.len(), 1, "each says the same key by the same tag");
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 141.
#[test]
fn without_a_shared_port_rtcp_goes_by_the_same_keys_to_the_port_that_the_answer_names() {
    for (attributes, port) in [("", 6_001), ("a=rtcp:6077\r\n", 6_077)] {
        let mut scene = teams();
        scene.bob().session.attributes = attributes;
        scene.bob().session.at.1 = 6_000;
        scene.talk();
        let (from_bob, to_bob) = keys(&scene);
        let mut found = 0;
        for flow in scene.flows.all().filter(|flow| flow.rtp.is_none()) {
            found += 1;
            match flow.from {
                Side::Caller => {
                    assert_eq!(flow.rtcp.map(|output| output.to.port()), Some(port));
                    assert_eq!((&flow.unprotect, &flow.protect), (&None, &to_bob));
                }
                Side::Callee => assert_eq!((&flow.unprotect, &flow.protect), (&from_bob, &None)),
            }
        }
        assert_eq!(found, 2, "a flow of RTCP each way");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

const ZOOMS: [&str; 4] = [
    "1 AEAD_AES_256_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKis=",
    "2 AES_256_CM_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLQ==",
    "3 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
    "4 AES_CM_128_HMAC_SHA1_32 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR",
];

// Statements 209, 210.
#[test]
fn of_zooms_lines_the_first_of_our_own_list_is_answered_and_each_works_alone() {
    const LINES: [&[&str]; 4] = [&ZOOMS, &[ZOOMS[0]], &[ZOOMS[1]], &[ZOOMS[2]]];
    for (lines, chosen) in LINES.into_iter().zip([0, 0, 1, 2]) {
        let mut scene = zoom();
        scene.bob().session = scene.bob().session.secured("RTP/SAVP", lines);
        scene.bob_calls_alice();
        scene.run(3_000);
        let answer = last_body(&scene, BOB);
        let [line] = crypto_of(&answer)[..] else { panic!("{answer}") };
        let begins: Vec<_> = ZOOMS[chosen].split(' ').take(2).collect();
        assert!(line.starts_with(&begins.join(" ")), "{line}");
        assert!(same_octets(flow(&scene, Side::Caller).unprotect.clone(), ZOOMS[chosen]));
        assert!(same_octets(flow(&scene, Side::Callee).protect.clone(), line));
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Statement 209.
#[test]
fn an_operator_may_prefer_another_suite_than_the_peer_lists_first() {
    let mut scene = toward(|trunk| {
        secured(trunk, Service::Zoom);
        trunk.media.security.suites.reverse();
    });
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", &ZOOMS);
    scene.bob_calls_alice();
    scene.run(3_000);
    assert!(crypto_of(&last_body(&scene, BOB))[0].starts_with("4 AES_CM_128_HMAC_SHA1_32 "));
    scene.hangs_up(BOB);
    scene.ends();
}

// Who relays has forgotten what it counted under a key that was out of use (RFC 3711 section 9.1).
#[test]
fn a_key_of_ours_that_was_out_of_use_is_used_no_more() {
    let mut scene = zoom();
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", &[ZOOMS[2]]);
    scene.bob_calls_alice();
    scene.run(3_000);
    let used = |scene: &Scene| flow(scene, Side::Callee).protect.clone();
    let mut ours = vec![used(&scene)];
    for lines in [&[ZOOMS[3]], &[ZOOMS[2]], &[ZOOMS[2]]] {
        let session = scene.phones[BOB].session.secured("RTP/SAVP", lines);
        scene.reinvites(BOB, session);
        scene.run(1_000);
        let key = used(&scene);
        let answer = last_body(&scene, BOB);
        let [line] = crypto_of(&answer)[..] else { panic!("{answer}") };
        assert!(same_octets(key.clone(), line), "the key that we say is the key that we use");
        ours.push(key);
    }
    let suites: Vec<_> = ours.iter().flatten().map(MasterKey::suite).collect();
    let (long, short) = (Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32);
    assert_eq!(suites, [long, short, long, long]);
    assert_ne!(ours[0], ours[2]);
    assert_eq!(ours[2], ours[3], "while it is in use it stays");
    scene.hangs_up(BOB);
    scene.ends();
}

// Statement 232.
#[test]
fn srtp_beside_plain_rtp_is_used_where_the_answer_has_a_key_and_given_up_where_it_has_none() {
    for lines in [AES_80, &[]] {
        let mut scene = opportunistic();
        scene.bob().session.crypto = lines;
        scene.talk();
        let offer = scene.phones[BOB].came("INVITE ").last().expect("an offer").to_owned();
        assert_eq!(profile_of(&offer), "RTP/AVP");
        assert_eq!(crypto_of(&offer).len(), 5, "a line for each suite");
        let (from_bob, to_bob) = keys(&scene);
        assert_eq!((from_bob.is_some(), to_bob.is_some()), (!lines.is_empty(), !lines.is_empty()));
        scene.reinvites(ALICE, scene.phones[ALICE].session.clone());
        scene.run(1_000);
        assert_eq!(keys(&scene), (from_bob, to_bob), "what was agreed holds");
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

// Statement 232.
#[test]
fn an_offer_of_either_kind_is_taken_where_srtp_is_no_must() {
    for (profile, lines) in [("RTP/AVP", AES_80), ("RTP/AVP", &[]), ("RTP/SAVP", AES_80)] {
        let mut scene = opportunistic();
        scene.bob().session = scene.bob().session.secured(profile, lines);
        scene.bob_calls_alice();
        scene.run(3_000);
        let answer = last_body(&scene, BOB);
        assert_eq!((profile_of(&answer), crypto_of(&answer).len()), (profile, lines.len()));
        assert_eq!(flow(&scene, Side::Caller).unprotect.is_some(), !lines.is_empty());
        scene.hangs_up(BOB);
        scene.ends();
    }
}

#[test]
fn a_trunk_of_plain_rtp_refuses_srtp_and_ignores_keys_beside_plain_rtp() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().session = scene.bob().session.secured("RTP/SAVP", AES_80);
    scene.bob_calls_alice();
    scene.run(3_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 488"]);
    scene.ends();

    let mut scene = Scene::new(Stage::default());
    scene.bob().session = scene.bob().session.secured("RTP/AVP", AES_80);
    scene.bob_calls_alice();
    scene.run(3_000);
    assert_eq!(crypto_of(&last_body(&scene, BOB)).len(), 0);
    assert_eq!(flow(&scene, Side::Caller).unprotect, None);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn before_the_answer_nothing_that_teams_sends_is_relayed_and_an_early_answer_brings_its_key() {
    let mut scene = teams();
    scene.bob().on_invite = vec![(500, Describe(183)), (3_000, Describe(200))];
    scene.alice_calls();
    scene.run(300);
    assert_eq!(flow(&scene, Side::Callee).rtp, None, "its key is not known");
    scene.run(700);
    assert!(same_octets(keys(&scene).0, AES_80[0]));
    assert!(flow(&scene, Side::Callee).rtp.is_some());
    scene.run(4_000);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn keys_survive_the_daemon_and_stand_in_no_record() {
    let mut scene = teams();
    scene.talk();
    let before = keys(&scene);
    scene.restart();
    scene.run(100);
    assert_eq!(keys(&scene), before);
    scene.hangs_up(BOB);
    let outcome = scene.ends();
    let told = format!("{:?}{}", outcome.records, outcome.ladder);
    assert!(!told.contains(KEY) && !told.contains("inline"), "{told}");
}
