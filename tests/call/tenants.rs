//! Customers behind a trunk that they share: which of them is called, who may call, and what records say of it.

use gateway_userspace::policy::{Limits, Service, Tenant, Trunk};
use support::stage::scene::{ALICE, BOB, Scene, Stage};

fn tenant(name: &str, number: &str) -> Tenant {
    Tenant {
        name: name.into(),
        numbers: vec![number.to_owned()],
        hosts: Vec::new(),
        id: Some(format!("{name}-id")),
        screening: true,
        limits: Limits::default(),
    }
}

/// Bob is of contoso, and shares the service's trunk with fabrikam.
fn stage() -> Stage {
    Stage {
        tenants: || vec![tenant("contoso", "+1202555"), tenant("fabrikam", "+44207946")],
        operator: |trunk| *trunk = trunk.clone().toward(Service::Operator),
        service: |trunk: &mut Trunk| {
            trunk.tenants = true;
            trunk.identity.trusted = true;
        },
        emergency_numbers: &["+44112"],
        ..Stage::default()
    }
}

// Statement 239.
#[test]
fn the_record_names_the_tenant_of_each_side_even_after_a_restart() {
    let mut scene = Scene::new(stage());
    scene.talk();
    scene.restart();
    scene.hangs_up(ALICE);
    let record = scene.ends().records.remove(0);
    assert_eq!((record.caller_tenant, record.callee_tenant.as_deref()), (None, Some("contoso")));

    let mut scene = Scene::new(stage());
    scene.bob().calls_as = "<sip:+12025550147@service.example>";
    scene.bob_calls_alice();
    scene.run(5_000);
    scene.hangs_up(BOB);
    let record = scene.ends().records.remove(0);
    assert_eq!((record.caller_tenant.as_deref(), record.callee_tenant), (Some("contoso"), None));
}

// Statement 36.
#[test]
fn a_called_number_of_no_tenant_is_refused_with_404_and_goes_nowhere() {
    let mut scene = Scene::new(stage());
    let now = scene.now;
    scene.alice().call(now, "+12125550100", true);
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 404"]);
    assert_eq!(scene.phones[BOB].came("INVITE ").count(), 0);
    scene.ends();
}

// Statements 76, 77, 78, 80.
#[test]
fn a_caller_of_the_wrong_number_is_refused_with_403_unless_it_is_in_need() {
    let asserted =
        "P-Asserted-Identity: <sip:+442079460000@service.example>\r\nX-MS-TenantID: contoso-id\r\n";
    let foreign = "X-MS-TenantID: fabrikam-id\r\n";
    for (from, lines) in [
        ("<sip:+441632960123@service.example>", ""),
        ("<sip:+12025550147@service.example>", asserted),
        ("<sip:+12025550147@service.example>", foreign),
    ] {
        let mut scene = Scene::new(stage());
        (scene.bob().calls_as, scene.bob().calls_with) = (from, lines);
        scene.bob_calls_alice();
        scene.run(2_000);
        assert_eq!(scene.phones[BOB].answers, ["INVITE 403"], "{from} {lines}");
        assert_eq!(scene.phones[ALICE].came("INVITE ").count(), 0);
        let now = scene.now;
        scene.bob().call(now, "+44112", true);
        scene.run(5_000);
        assert!(scene.phones[BOB].is_talking(), "{from} {lines}");
        scene.hangs_up(BOB);
        scene.ends();
    }
}

// Statement 79.
#[test]
fn an_anonymous_caller_with_a_number_of_its_tenants_passes_and_stays_unknown() {
    let mut scene = Scene::new(stage());
    scene.bob().calls_as = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
    scene.bob().calls_with = "P-Asserted-Identity: <sip:+12025550147@service.example>\r\nPrivacy: id\r\nX-MS-TenantID: contoso-id\r\n";
    scene.bob_calls_alice();
    scene.run(5_000);
    let invite = scene.phones[ALICE].came("INVITE ").next().expect("a call").to_owned();
    let line = |name: &str| invite.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("From: ").contains("anonymous@anonymous.invalid"), "{invite}");
    assert!(line("P-Asserted-Identity: ").contains("+12025550147"), "{invite}");
    assert_eq!(line("Privacy: "), "Privacy: id");
    scene.hangs_up(BOB);
    assert_eq!(scene.ends().records[0].caller_tenant.as_deref(), Some("contoso"));
}

#[test]
fn a_tenant_has_so_many_calls_in_either_direction_at_once_and_emergencies_above_them() {
    let limited = || {
        let limits = Limits { calls: Some(1), rate: None };
        vec![Tenant { limits, ..tenant("contoso", "+1202555") }, tenant("fabrikam", "+44207946")]
    };
    let mut scene = Scene::new(Stage { tenants: limited, ..stage() });
    scene.talk();
    assert_eq!(scene.total("causeway_tenants_near_limit"), 1);
    scene.alice_dials("+12025550147");
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers, ["INVITE 200", "INVITE 503"], "the called one is at its limit");
    scene.bob().calls_as = "<sip:+12025550147@service.example>";
    scene.bob_calls_alice();
    scene.run(2_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 503"], "and as a caller too");
    let now = scene.now;
    scene.bob().call(now, "+44112", true);
    scene.run(5_000);
    assert_eq!(scene.phones[BOB].answers, ["INVITE 503", "INVITE 200"]);
    // What it has is counted on under the next daemon, and when all have ended there is room again.
    scene.restart();
    scene.alice_dials("+12025550147");
    scene.run(2_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 503"));
    for phone in [ALICE, BOB, ALICE, BOB] {
        scene.hangs_up(phone);
        scene.run(1_000);
    }
    scene.alice_dials("+12025550147");
    scene.run(5_000);
    assert_eq!(scene.phones[ALICE].answers.last().map(String::as_str), Some("INVITE 200"));
    scene.hangs_up(ALICE);
    scene.ends();
}
