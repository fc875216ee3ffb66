//! What the record of a call says beyond who called whom, and what belongs to one side only.

use gateway_userspace::policy::Service;
use support::stage::scene::{ALICE, BOB, Scene, Stage};

const VECTOR: &str =
    "icid-value=\"AyretyU0dm+6O2IrT5tAFrbHLso=\";icid-generated-at=198.51.100.9;orig-ioi=core.example";

fn charged() -> Stage {
    Stage { operator: |trunk| *trunk = trunk.clone().toward(Service::Operator), ..Stage::default() }
}

// Statement 234.
#[test]
fn the_charging_vector_of_an_operator_is_on_all_its_messages_in_the_record_and_nowhere_else() {
    let mut scene = Scene::new(charged());
    scene.alice().calls_with = format!("P-Charging-Vector: {VECTOR}\r\n").leak();
    scene.talk();
    let held = scene.phones[BOB].session.directed("inactive");
    scene.reinvites(BOB, held);
    scene.run(1_000);
    scene.restart();
    scene.hangs_up(BOB);
    scene.run(1_000);
    let line = format!("\r\nP-Charging-Vector: {VECTOR}\r\n");
    for start in ["SIP/2.0 180", "SIP/2.0 200", "INVITE ", "BYE "] {
        let messages: Vec<_> = scene.phones[ALICE].came(start).collect();
        assert!(!messages.is_empty(), "{start}");
        assert!(messages.iter().all(|text| text.contains(&line)), "{messages:?}");
    }
    let knows = |text: &String| text.contains("icid") || text.contains("core.example");
    assert!(!scene.phones[BOB].inbox.iter().any(knows));
    let record = scene.ends().records.remove(0);
    assert_eq!(record.charging_id.as_deref(), Some("AyretyU0dm+6O2IrT5tAFrbHLso="));
}

// Statement 234.
#[test]
fn an_operator_that_is_called_gives_the_charging_identity_in_its_answers() {
    let mut scene = Scene::new(charged());
    scene.alice().adds = vec![("P-Charging-Vector", VECTOR.into())];
    scene.bob_calls_alice();
    scene.run(5_000);
    scene.hangs_up(BOB);
    scene.run(1_000);
    let bye = scene.phones[ALICE].came("BYE ").next().expect("a BYE").to_owned();
    assert!(bye.contains(VECTOR), "{bye}");
    assert!(scene.phones[BOB].inbox.iter().all(|text| !text.contains("icid")));
    assert_eq!(scene.ends().records[0].charging_id.as_deref(), Some("AyretyU0dm+6O2IrT5tAFrbHLso="));
}

#[test]
fn a_charging_vector_of_a_trunk_that_is_not_trusted_counts_for_nothing() {
    let mut scene = Scene::new(Stage::default());
    scene.alice().calls_with = format!("P-Charging-Vector: {VECTOR}\r\n").leak();
    scene.talk();
    scene.hangs_up(ALICE);
    assert!(scene.phones[ALICE].inbox.iter().all(|text| !text.contains("icid")));
    assert_eq!(scene.ends().records[0].charging_id, None);
}
