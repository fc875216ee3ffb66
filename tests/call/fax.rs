//! Fax: a call that goes over from audio to T.38 and back, where both trunks relay it.

use gateway_common::flow::{FlowKind, Punted};
use gateway_userspace::base::id::Side;
use gateway_userspace::policy::Trunk;
use gateway_userspace::sdp::FaxTerms;
use support::stage::phone::Reaction::Say;
use support::stage::scene::{ALICE, BOB, Scene, Stage};
use support::stage::session::media_of;

const OF_ALICE: &str = "a=T38FaxVersion:0\r\na=T38MaxBitRate:9600\r\n";
const OF_BOB: &str = "a=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n";

fn relaying(trunk: &mut Trunk) {
    trunk.media.fax = FaxTerms::Relay;
}

/// A call between two fax machines.
fn talk(stage: Stage) -> Scene {
    let mut scene = Scene::new(stage);
    scene.alice().session.fax = Some(OF_ALICE);
    scene.bob().session.fax = Some(OF_BOB);
    scene.talk();
    scene
}

fn between_relaying() -> Stage {
    Stage { operator: relaying, service: relaying, ..Stage::default() }
}

/// Kind of the flows that carry media, and where they lead.
fn media(scene: &Scene) -> Vec<(FlowKind, u16)> {
    let of = |side| scene.flows.media_of(side).expect("media is relayed");
    let to = |side| of(side).rtp.map(|output| output.to.port()).unwrap_or_default();
    [Side::Caller, Side::Callee].map(|side| (of(side).kind, to(side))).to_vec()
}

#[test]
fn the_callee_changes_to_fax_and_back_and_each_is_told_of_the_others_end() {
    let mut scene = talk(between_relaying());
    let audio = media(&scene);
    let flows = scene.flows.len();
    let of_bob = scene.phones[BOB].session.clone();
    scene.reinvites(BOB, of_bob.faxing());
    scene.run(1_000);
    let offer = scene.phones[ALICE].came("INVITE ").last().expect("a re-INVITE").to_owned();
    assert!(offer.contains("m=image ") && offer.contains(OF_BOB) && !offer.contains("m=audio"), "{offer}");
    let answer = scene.phones[BOB].came("SIP/2.0 200").last().expect("an answer").to_owned();
    assert!(answer.contains(OF_ALICE) && answer.contains("m=image "), "{answer}");
    let to = (scene.phones[ALICE].session.at.1 + 2, of_bob.at.1 + 2);
    assert_eq!(media(&scene), [(FlowKind::Udptl, to.1), (FlowKind::Udptl, to.0)]);
    assert_eq!(scene.flows.len(), 2, "nothing beside UDPTL");
    assert!(scene.flows.iter().all(|flow| flow.userspace == Some(Punted::Udptl) && flow.bridge.is_none()));

    scene.reinvites(BOB, of_bob);
    scene.run(1_000);
    let offer = scene.phones[ALICE].came("INVITE ").last().expect("a re-INVITE").to_owned();
    assert!(offer.contains("m=audio ") && !offer.contains("m=image") && !offer.contains("T38"), "{offer}");
    assert_eq!((media(&scene), scene.flows.len()), (audio, flows));
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn the_caller_may_change_too_and_addresses_of_ours_stay() {
    let mut scene = talk(between_relaying());
    let first = scene.phones[BOB].came("INVITE ").next().map(media_of);
    let of_alice = scene.phones[ALICE].session.clone();
    scene.reinvites(ALICE, of_alice.faxing());
    scene.run(1_000);
    let offer = scene.phones[BOB].came("INVITE ").last().expect("a re-INVITE");
    assert!(offer.contains("m=image ") && offer.contains(OF_ALICE), "{offer}");
    assert_eq!(Some(media_of(offer)), first);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn fax_that_a_trunk_refuses_gets_488_and_the_call_goes_on_with_audio() {
    let stages = [
        Stage { operator: relaying, ..Stage::default() },
        Stage { service: relaying, ..Stage::default() },
        Stage::default(),
    ];
    for stage in stages {
        let mut scene = talk(stage);
        let audio = media(&scene);
        let session = scene.phones[BOB].session.faxing();
        scene.reinvites(BOB, session);
        scene.run(1_000);
        assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 488"));
        assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0, "the other side is not asked");
        assert_eq!(media(&scene), audio);
        scene.hangs_up(ALICE);
        scene.ends();
    }
}

#[test]
fn fax_that_the_other_phone_refuses_leaves_the_audio_as_it_was() {
    let mut scene = talk(between_relaying());
    let audio = media(&scene);
    scene.alice().on_reinvite = vec![(50, Say(488))];
    let session = scene.phones[BOB].session.faxing();
    scene.reinvites(BOB, session);
    scene.run(1_000);
    assert_eq!(scene.phones[BOB].answers.last().map(String::as_str), Some("INVITE 488"));
    assert_eq!(media(&scene), audio);
    scene.hangs_up(BOB);
    scene.ends();
}

#[test]
fn a_call_may_be_fax_from_the_start() {
    let mut scene = Scene::new(between_relaying());
    for phone in [ALICE, BOB] {
        scene.phones[phone].session.fax = Some(if phone == ALICE { OF_ALICE } else { OF_BOB });
    }
    scene.alice().session.is_fax = true;
    scene.talk();
    assert!(media(&scene).iter().all(|(kind, _)| *kind == FlowKind::Udptl));
    scene.hangs_up(ALICE);
    scene.ends();
}
