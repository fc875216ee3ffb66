//! Rules of the configuration in whole calls: what each side hears, and that dialogs and transactions hold.

use gateway_userspace::config::parse_rules;
use gateway_userspace::policy::Trunk;
use support::stage::phone::{CALLER, Reaction};
use support::stage::scene::{ALICE, BOB, BOBS_NUMBER, Scene, Stage};

fn rules(trunk: &mut Trunk, text: &str) {
    trunk.rules = parse_rules("rules.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
}

/// Numbers get a technical prefix off; the service gets another domain and a header, and no Server comes back.
fn changed_on_both_sides() -> Stage {
    let operator = |trunk: &mut Trunk| {
        rules(
            trunk,
            r#"
            [[rule]]
            name = "caller in its national form"
            direction = "receive"
            message = "request"
            do = [{ rewrite = "header.From.user", pattern = '^\+44', with = "0" }]
            [[rule]]
            name = "answers say who answered"
            direction = "send"
            message = "response"
            do = [
                { set = "header.X-Answered", value = "${method} of ${calling}" },
                { set = "header.From.host", value = "elsewhere.example" },
                { order_codecs = ["PCMU"] },
            ]
            "#,
        );
    };
    let service = |trunk: &mut Trunk| {
        rules(
            trunk,
            r#"
            [[rule]]
            name = "the domain of the service"
            direction = "send"
            message = "request"
            do = [
                { set = "request-uri.host", value = "service.example" },
                { set = "header.From.host", value = "gateway.example" },
                { set = "header.X-Trunk", value = "${trunk}" },
                { set = "sdp.ptime", value = "30" },
            ]
            "#,
        );
    };
    Stage { operator, service, ..Stage::default() }
}

fn first<'a>(said: impl Iterator<Item = &'a str>, start: &str) -> String {
    said.filter(|text| text.starts_with(start)).map(str::to_owned).next().unwrap_or_default()
}

#[test]
fn rules_change_what_each_side_hears_and_the_call_lives_and_ends_as_without_them() {
    let mut scene = Scene::new(changed_on_both_sides());
    scene.talk();
    let invite = first(scene.tap().said_to_service(), "INVITE ");
    assert!(invite.starts_with(&format!("INVITE sip:{BOBS_NUMBER}@service.example")), "{invite}");
    assert!(invite.contains("@gateway.example") && invite.contains("\r\nX-Trunk: service\r\n"), "{invite}");
    assert!(invite.contains("a=ptime:30\r\n"), "{invite}");
    let national = CALLER.replace("+44", "0");
    assert!(invite.contains(&national) && !invite.contains(CALLER), "{invite}");
    let answer = first(scene.tap().said_to_operator(), "SIP/2.0 200 ");
    assert!(answer.contains("\r\nX-Answered: INVITE of "), "{answer}");
    // From goes back as it came, whatever rules of both directions made of it.
    let from = answer.lines().find(|line| line.starts_with("From:")).unwrap_or_default();
    assert!(from.contains(CALLER) && !from.contains("elsewhere.example"), "{from}");
    let ack = first(scene.tap().said_to_service(), "ACK ");
    assert!(ack.contains("\r\nX-Trunk: service\r\n") && !ack.contains("ACK sip:service.example"), "{ack}");
    scene.hangs_up(ALICE);
    scene.run(1_000);
    let bye = first(scene.tap().said_to_service(), "BYE ");
    assert!(bye.contains("\r\nX-Trunk: service\r\n"), "{bye}");
    scene.ends();
}

#[test]
fn a_call_from_the_other_side_and_a_cancelled_one_hold_under_rules_too() {
    let mut scene = Scene::new(changed_on_both_sides());
    scene.bob_calls_alice();
    scene.hangs_up(BOB);
    scene.ends();
    let mut scene = Scene::new(changed_on_both_sides());
    scene.bob().on_invite = vec![(100, Reaction::Say(180))];
    scene.alice_calls();
    scene.run(1_000);
    scene.cancels(ALICE);
    scene.run(5_000);
    let cancel = first(scene.tap().said_to_service(), "CANCEL ");
    assert!(cancel.starts_with(&format!("CANCEL sip:{BOBS_NUMBER}@service.example")), "{cancel}");
    scene.ends();
}

#[test]
fn a_status_that_a_rule_changed_is_the_one_that_the_call_goes_by() {
    let service = |trunk: &mut Trunk| {
        rules(
            trunk,
            "[[rule]]\nname = \"r\"\ndirection = \"receive\"\nstatus = [\"603\"]\ndo = [{ set = \"status\", value = \"486\" }]\n",
        );
    };
    let mut scene = Scene::new(Stage { service, ..Stage::default() });
    scene.bob().on_invite = vec![(100, Reaction::Say(603))];
    scene.alice_calls();
    scene.run(5_000);
    assert!(first(scene.tap().said_to_operator(), "SIP/2.0 486 ").contains("Busy Here"));
    assert_eq!(first(scene.tap().said_to_operator(), "SIP/2.0 603 "), "");
    scene.ends();
}

// Statement 94.
#[test]
fn a_header_is_added_for_the_numbers_that_have_one_and_for_no_other() {
    let service = |trunk: &mut Trunk| {
        rules(
            trunk,
            r#"
            [[rule]]
            name = "numbers of one customer"
            direction = "send"
            method = ["INVITE"]
            message = "request"
            when = [{ value = "called", is = ["+12025550100", "+12025550147"] }]
            do = [{ set = "header.X-Customer", value = "contoso" }]
            "#,
        );
    };
    for (number, expected) in [(BOBS_NUMBER, 1), ("+12025550148", 0)] {
        let mut scene = Scene::new(Stage { service, ..Stage::default() });
        scene.alice_dials(number);
        scene.run(5_000);
        let invite = first(scene.tap().said_to_service(), "INVITE ");
        assert!(invite.contains(number), "{invite}");
        assert_eq!(invite.matches("\r\nX-Customer: contoso\r\n").count(), expected, "{invite}");
        assert!(!scene.tap().said_to_operator().any(|text| text.contains("X-Customer")));
        scene.hangs_up(ALICE);
        scene.ends();
    }
}
