//! Media that comes together with an answer, or before it: relayed from the first packet on, and only to addresses that
//! signalling named.

use gateway_common::flow::Latch;
use gateway_userspace::base::id::Side;
use gateway_userspace::media::plan::{FlowSpec, GateSpec};
use support::stage::phone::Reaction::{Describe, Say};
use support::stage::scene::{ALICE, BOBS_NUMBER, CAROL, Scene, Stage};

fn flow(scene: &Scene, side: Side) -> &FlowSpec {
    scene.flows.media_of(side).unwrap_or_else(|| panic!("no flow of the {side:?}'s media"))
}

fn far_end(scene: &Scene, side: Side) -> Option<String> {
    flow(scene, side).rtp.map(|output| output.to.to_string())
}

#[test]
fn what_the_callee_sends_before_its_answer_goes_to_the_address_that_the_caller_offered() {
    let mut scene = Scene::new(Stage::default());
    scene.alice_calls();
    // The INVITE is on its way to Bob.
    scene.run(15);
    assert_eq!(far_end(&scene, Side::Callee).as_deref(), Some("198.51.100.11:4000"));
    assert_eq!(flow(&scene, Side::Callee).gate, GateSpec::Any);
    let types: Vec<_> = flow(&scene, Side::Callee).payload_types.iter().map(|one| one.near).collect();
    assert_eq!(types, [8, 0, 101]);
    scene.run(5_000);
    let gate = flow(&scene, Side::Callee).gate;
    assert_eq!(
        gate,
        GateSpec::Exact("198.18.0.21:4000".parse().expect("an address")),
        "the answer closes it"
    );
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn before_the_answer_nothing_is_sent_to_the_callees_side_and_nobody_is_latched() {
    let latching: fn(&mut gateway_userspace::policy::Trunk) = |trunk| trunk.media.latch = Latch::FirstPacket;
    let mut scene = Scene::new(Stage { operator: latching, service: latching, ..Stage::default() });
    scene.alice_calls();
    scene.run(500);
    assert_eq!(far_end(&scene, Side::Caller), None);
    for side in [Side::Caller, Side::Callee] {
        assert_eq!(flow(&scene, side).latch, Latch::Signalled);
        assert_eq!(flow(&scene, side).rtp.and_then(|output| output.learned_from), None);
    }
    scene.run(3_000);
    assert_eq!(flow(&scene, Side::Callee).latch, Latch::FirstPacket);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn a_trunk_can_be_left_unheard_until_it_answers() {
    let deaf: fn(&mut gateway_userspace::policy::Trunk) = |trunk| trunk.media.hear_before_answer = false;
    let mut scene = Scene::new(Stage { service: deaf, ..Stage::default() });
    scene.alice_calls();
    scene.run(500);
    assert!(scene.flows.is_empty());
    scene.run(3_000);
    assert_eq!(scene.flows.len(), 4);
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn what_the_caller_sends_together_with_its_answer_in_the_ack_goes_to_the_address_that_the_callee_offered() {
    let mut scene = Scene::new(Stage::default());
    let now = scene.now;
    scene.alice().call(now, BOBS_NUMBER, false);
    scene.loses = |text| text.starts_with("ACK") && text.contains("Alice");
    scene.run(1_500);
    assert_eq!(far_end(&scene, Side::Caller).as_deref(), Some("198.18.0.21:4000"));
    assert_eq!(far_end(&scene, Side::Callee), None);
    scene.loses = |_| false;
    scene.run(3_000);
    assert_eq!(far_end(&scene, Side::Callee).as_deref(), Some("198.51.100.11:4000"));
    scene.hangs_up(ALICE);
    scene.ends();
}

#[test]
fn the_flows_stay_where_they_are_from_the_offer_through_early_media_to_the_answer_of_the_next_peer() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Describe(183)), (1_000, Say(503))];
    scene.alice_calls();
    scene.run(5_000);
    assert!(scene.phones[CAROL].is_talking());
    let media = |line: &&String| line.contains("media installed") || line.contains("media removed");
    assert_eq!(scene.ladder.iter().filter(media).count(), 1, "{}", scene.ladder.join("\n"));
    scene.hangs_up(CAROL);
    scene.ends();
}

#[test]
fn flows_of_a_call_that_nobody_takes_are_taken_down() {
    let mut scene = Scene::new(Stage::default());
    scene.bob().on_invite = vec![(50, Say(486))];
    scene.alice_calls();
    scene.run(1_000);
    assert!(scene.flows.is_empty());
    let record = &scene.ends().records[0];
    assert!(
        record.callee_sip_call_id.is_some(),
        "the callee's leg had a Call-ID though it never had a dialog"
    );
}
