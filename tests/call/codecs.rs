//! What Teams and Zoom are spoken with: each codec by itself at 20 ms, the keys beside it, and comfort noise.

use gateway_userspace::base::id::Side;
use gateway_userspace::media::plan::Bridged;
use gateway_userspace::policy::{Advertised, Service, Trunk};
use gateway_userspace::sdp::{MediaSecurity, NoiseTerms};
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::formats_of;

fn toward(trunk: &mut Trunk, service: Service) {
    *trunk = trunk.clone().toward(service);
    // Security has tests of its own.
    trunk.media.security.security = MediaSecurity::Off;
    trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
    trunk.health = Default::default();
}

const SERVICES: [fn(&mut Trunk); 2] =
    [|trunk| toward(trunk, Service::Teams), |trunk| toward(trunk, Service::Zoom)];

const NOISE: (u8, &str) = (13, "CN/8000");
const KEYS: (u8, &str) = (101, "telephone-event/8000");

fn between(
    service: fn(&mut Trunk),
    alice: &[(u8, &'static str)],
    bob: &[(u8, &'static str)],
    attributes: &'static str,
) -> Scene {
    let mut scene = Scene::new(Stage { service, ..Stage::default() });
    scene.alice().session.formats = alice.to_vec();
    scene.bob().session.formats = bob.to_vec();
    scene.alice().session.attributes = attributes;
    scene.bob().session.attributes = attributes;
    scene
}

/// Payload types that may come from this side, by its own numbers.
fn heard(scene: &Scene, from: Side) -> Vec<(u8, bool)> {
    let flow = scene.flows.media_of(from).expect("media");
    flow.payload_types.iter().map(|one| (one.near, one.event)).collect()
}

// Statement 150.
#[test]
fn each_codec_of_telephone_networks_is_spoken_with_teams_by_itself_at_20_ms_either_way() {
    let all = [(9, "G722/8000"), (0, "PCMU/8000"), (8, "PCMA/8000"), (18, "G729/8000"), KEYS];
    for own in &all[..4] {
        for by_teams in [false, true] {
            let mut scene = between(SERVICES[0], &[*own, KEYS], &all, "a=ptime:20\r\n");
            if by_teams {
                scene.bob_calls_alice();
            } else {
                scene.alice_calls();
            }
            scene.run(5_000);
            assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(), "{own:?}");
            let start = if by_teams { "SIP/2.0 200" } else { "INVITE " };
            let said = scene.phones[BOB].came(start).next().expect("a description").to_owned();
            let mut expected = vec![(own.0, own.1.to_owned()), (KEYS.0, KEYS.1.to_owned())];
            if !by_teams {
                expected.push((NOISE.0, NOISE.1.to_owned()));
            }
            assert_eq!(formats_of(&said), expected, "{said}");
            assert!(said.contains("a=ptime:20\r\n"), "{said}");
            for side in [Side::Caller, Side::Callee] {
                assert_eq!(heard(&scene, side), [(own.0, false), (KEYS.0, true)]);
                assert!(scene.flows.media_of(side).is_some_and(|flow| flow.bridge.is_none()));
            }
            scene.hangs_up(ALICE);
            scene.run(1_000);
            scene.ends();
        }
    }
}

// Statement 158.
#[test]
fn the_keys_of_a_telephone_are_negotiated_with_teams_and_zoom_and_more_are_accepted() {
    let formats = [(8, "PCMA/8000"), KEYS];
    for service in SERVICES {
        for (attributes, told) in
            [("a=fmtp:101 0-15\r\n", "a=fmtp:101 0-15\r\n"), ("a=fmtp:101 0-16\r\n", "a=fmtp:101 0-1")]
        {
            let mut scene = between(service, &formats, &formats, attributes);
            scene.talk();
            let invite = scene.phones[BOB].came("INVITE ").next().expect("an INVITE").to_owned();
            assert!(invite.contains(told) && invite.contains("telephone-event/8000"), "{invite}");
            let answer = scene.phones[ALICE].came("SIP/2.0 200").next().expect("an answer").to_owned();
            assert!(answer.contains("telephone-event/8000") && answer.contains(told), "{answer}");
            for side in [Side::Caller, Side::Callee] {
                assert_eq!(heard(&scene, side), [(8, false), (101, true)]);
            }
            scene.hangs_up(ALICE);
            scene.run(1_000);
            scene.ends();
        }
    }
}

// Statement 157.
#[test]
fn comfort_noise_of_teams_stops_here_where_the_operator_did_not_negotiate_it() {
    for (of_operator, passes) in
        [(&[(8, "PCMA/8000"), KEYS][..], false), (&[(8, "PCMA/8000"), NOISE, KEYS], true)]
    {
        let mut scene = between(SERVICES[0], of_operator, &[(8, "PCMA/8000"), NOISE, KEYS], "");
        scene.bob_calls_alice();
        scene.run(5_000);
        assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
        let answer = scene.phones[BOB].came("SIP/2.0 200").next().expect("an answer").to_owned();
        assert!(formats_of(&answer).contains(&(13, "CN/8000".to_owned())), "{answer}");
        assert_eq!(heard(&scene, Side::Caller).contains(&(13, false)), passes, "refused by its number");
        scene.hangs_up(BOB);
        scene.run(1_000);
        scene.ends();
    }
}

// Statement 155.
#[test]
fn comfort_noise_is_offered_to_teams_and_taken_from_it_where_the_operator_has_none() {
    let formats = [(8, "PCMA/8000"), KEYS];
    for by_teams in [false, true] {
        let mut scene = between(SERVICES[0], &formats, &[(8, "PCMA/8000"), NOISE, KEYS], "");
        if by_teams {
            scene.bob_calls_alice()
        } else {
            scene.alice_calls()
        }
        scene.run(5_000);
        assert!(scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking());
        let start = if by_teams { "SIP/2.0 200" } else { "INVITE " };
        let said = scene.phones[BOB].came(start).next().expect("a description").to_owned();
        assert!(formats_of(&said).contains(&(NOISE.0, NOISE.1.to_owned())), "{said}");
        let of_alice = scene.phones[ALICE].inbox.join("");
        assert_eq!(of_alice.contains("CN/8000"), by_teams, "what Teams offers is offered on: {of_alice}");
        assert!(scene.flows.iter().all(|flow| flow.bridge.is_none()), "the kernel relays");
        scene.hangs_up(ALICE);
        scene.run(1_000);
        scene.ends();
    }
}

// After at most 200 ms: `media/bridge/tests.rs`.
// Statement 156.
#[test]
fn an_operators_silence_becomes_comfort_noise_where_the_trunk_to_teams_makes_it() {
    for (terms, is_made) in [(NoiseTerms::Offer, false), (NoiseTerms::Make, true)] {
        let service: fn(&mut Trunk) = match terms {
            NoiseTerms::Make => |trunk| {
                toward(trunk, Service::Teams);
                trunk.media.comfort_noise = NoiseTerms::Make;
            },
            _ => SERVICES[0],
        };
        let mut scene = between(service, &[(8, "PCMA/8000"), KEYS], &[(8, "PCMA/8000"), NOISE, KEYS], "");
        scene.talk();
        let why: Vec<_> =
            scene.flows.iter().map(|flow| flow.bridge.as_ref().map(|bridge| bridge.why)).collect();
        assert!(
            !why.is_empty() && why.iter().all(|why| *why == is_made.then_some(Bridged::Silence)),
            "{why:?}"
        );
        let to_teams = scene.flows.media_of(Side::Caller).and_then(|flow| flow.bridge.clone());
        assert_eq!(to_teams.is_some_and(|bridge| bridge.callee.comfort_noise.is_some()), is_made);
        scene.hangs_up(ALICE);
        scene.run(1_000);
        scene.ends();
    }
}
