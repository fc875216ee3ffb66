//! Who calls and who passed the call on, as each side hears of it; and numbers and URIs as they leave.

use gateway_userspace::policy::{
    Advertised, AssertedSource, FromSource, IdentityForm, RedirectionForm, Service, Trunk,
};
use gateway_userspace::sdp::MediaSecurity;
use support::stage::scene::{ALICE, ALICES_NUMBER, BOB, Scene, Stage};

fn teams(trunk: &mut Trunk) {
    *trunk = trunk.clone().toward(Service::Teams);
    trunk.media.security.security = MediaSecurity::Off;
    trunk.advertised = Some(Advertised { host: "sbc1.corp.example".into(), port: 5060 });
}

fn operator(trunk: &mut Trunk) {
    *trunk = trunk.clone().toward(Service::Operator);
}

fn stage() -> Stage {
    Stage { operator, service: teams, ..Stage::default() }
}

const PAI: &str = "P-Asserted-Identity: \"Ann A\" <sip:+441632960777@core.example>, <tel:+441632960777>\r\n";
const PRIVATE: &str = "P-Asserted-Identity: <tel:+441632960777>\r\nPrivacy: id\r\n";

/// What a trunk has other than the usual.
type Setting = fn(&mut Trunk);

/// The INVITE that the other side got, and the end of the call.
fn heard_by(callee: usize, mut scene: Scene) -> String {
    let now = scene.now;
    match callee {
        ALICE => scene.bob().call(now, ALICES_NUMBER, true),
        _ => scene.alice_calls(),
    }
    scene.run(5_000);
    assert!(
        scene.phones[ALICE].is_talking() && scene.phones[BOB].is_talking(),
        "{}",
        scene.ladder.join("\n")
    );
    let invite = scene.phones[callee].came("INVITE ").next().expect("an INVITE came").to_owned();
    scene.hangs_up(ALICE);
    scene.ends();
    invite
}

fn line<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

// Statement 42.
#[test]
fn from_toward_teams_is_the_asserted_identity_where_the_trunk_says_so() {
    let asserted = |trunk: &mut Trunk| {
        teams(trunk);
        trunk.identity.from = FromSource::Asserted;
    };
    for (service, number) in [(teams as Setting, "+441632960123"), (asserted, "+441632960777")] {
        let mut scene = Scene::new(Stage { service, ..stage() });
        scene.alice().calls_with = PAI;
        let invite = heard_by(BOB, scene);
        let from = line(&invite, "From").unwrap_or_default();
        assert!(from.contains(&format!("<sip:{number}@sbc1.corp.example:5060;user=phone>;tag=")), "{from}");
        assert_eq!(line(&invite, "P-Asserted-Identity"), None, "{invite}");
        assert!(!invite.contains("core.example"), "{invite}");
    }
}

// Statement 43.
#[test]
fn a_caller_with_privacy_is_anonymous_to_teams() {
    for from in ["", "\"Anonymous\" <sip:anonymous@anonymous.invalid>"] {
        for source in [FromSource::Received, FromSource::Asserted] {
            let service: Setting = match source {
                FromSource::Received => teams,
                FromSource::Asserted => |trunk| {
                    teams(trunk);
                    trunk.identity.from = FromSource::Asserted;
                },
            };
            let mut scene = Scene::new(Stage { service, ..stage() });
            scene.alice().calls_with = PRIVATE;
            scene.alice().calls_as = from;
            let invite = heard_by(BOB, scene);
            let from = line(&invite, "From").unwrap_or_default();
            assert!(from.starts_with("Anonymous <sip:anonymous@anonymous.invalid>;tag="), "{from}");
            assert!(!invite.contains("P-Asserted-Identity") && !invite.contains("+441632960"), "{invite}");
        }
    }
}

// Statement 87.
#[test]
fn the_identity_that_teams_asserts_is_kept_removed_or_rewritten_as_the_trunk_says() {
    let removed = |trunk: &mut Trunk| {
        operator(trunk);
        trunk.identity.form = IdentityForm::From;
    };
    let rewritten = |trunk: &mut Trunk| {
        operator(trunk);
        trunk.identity.asserted = AssertedSource::From;
    };
    let own = "sip:+441632960123@192.0.2.1:5060";
    let table: [(Setting, Option<String>); 3] = [
        (operator, Some("<sip:+12025550199@192.0.2.1:5060>".to_owned())),
        (removed, None),
        (rewritten, Some(format!("<{own}>"))),
    ];
    for (operator, identity) in table {
        let mut scene = Scene::new(Stage { operator, ..stage() });
        scene.bob().calls_with = "P-Asserted-Identity: <tel:+12025550199>\r\n";
        let invite = heard_by(ALICE, scene);
        assert_eq!(line(&invite, "P-Asserted-Identity"), identity.as_deref(), "{invite}");
        let from = line(&invite, "From").unwrap_or_default();
        assert!(from.starts_with(&format!("<{own}>;tag=")), "{from}");
    }
}

// Statements 88, 227.
#[test]
fn a_private_identity_reaches_a_trusted_operator_and_no_other() {
    let untrusted = |trunk: &mut Trunk| {
        operator(trunk);
        trunk.identity.trusted = false;
    };
    for (operator, trusted) in [(operator as Setting, true), (untrusted, false)] {
        let mut scene = Scene::new(Stage { operator, ..stage() });
        scene.bob().calls_with = "P-Asserted-Identity: <sip:+12025550199@h.example>\r\nPrivacy: id\r\n";
        scene.bob().calls_as = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
        let invite = heard_by(ALICE, scene);
        assert_eq!(invite.contains("+12025550199"), trusted, "{invite}");
        assert_eq!(line(&invite, "Privacy"), trusted.then_some("id"), "{invite}");
        let from = line(&invite, "From").unwrap_or_default();
        assert!(from.starts_with("Anonymous <sip:anonymous@anonymous.invalid>;tag="), "{from}");
    }
}

// Statement 89.
#[test]
fn the_history_of_teams_reaches_the_operator_in_the_form_that_it_reads() {
    let diversion = |trunk: &mut Trunk| {
        operator(trunk);
        trunk.redirection = RedirectionForm::Diversion;
    };
    let table: [(Setting, &[&str]); 2] = [
        (
            operator,
            &[
                "History-Info: <sip:+12025550188@192.0.2.1:5060>;index=1",
                "History-Info: <sip:+441632960123@198.51.100.10:5060;cause=302>;index=1.1;mp=1",
            ],
        ),
        (
            diversion,
            &["Diversion: <sip:+12025550188@192.0.2.1:5060>;reason=unconditional;counter=1;privacy=off"],
        ),
    ];
    for (operator, expected) in table {
        let mut scene = Scene::new(Stage { operator, ..stage() });
        scene.bob().calls_with = "History-Info: <sip:+12025550188@sip.pstnhub.example:5061;user=phone?Reason=SIP;\
            cause=302;text=\"Moved Temporarily\">;index=1, <sip:+441632960123@sbc1.corp.example;user=phone>;index=1.1\r\n";
        let invite = heard_by(ALICE, scene);
        let told: Vec<_> = invite
            .lines()
            .filter(|line| line.starts_with("History-Info:") || line.starts_with("Diversion:"))
            .collect();
        assert_eq!(told, expected, "{invite}");
    }
}

// Statement 81.
#[test]
fn a_bare_number_sign_is_accepted_and_leaves_escaped() {
    let mut scene = Scene::new(stage());
    let now = scene.now;
    scene.bob().call(now, "+441632960123#99", true);
    scene.run(5_000);
    assert!(scene.phones[ALICE].is_talking(), "{}", scene.ladder.join("\n"));
    let invite = scene.phones[ALICE].came("INVITE ").next().unwrap_or_default();
    assert!(invite.starts_with("INVITE sip:+441632960123%2399@198.51.100.10:5060 SIP/2.0\r\n"), "{invite}");
    assert!(line(invite, "To").unwrap_or_default().contains("+441632960123%2399@"), "{invite}");
    scene.hangs_up(ALICE);
    scene.ends();
}

// Statement 92.
#[test]
fn parameters_that_come_only_inside_the_dialog_stay_on_their_side() {
    for (caller, other) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut scene = Scene::new(Stage::default());
        scene.talk();
        scene.phones[caller].dialog_parameters = ";x-late=1;isup-oli=00";
        let session = scene.phones[caller].session.clone();
        scene.reinvites(caller, session.directed("sendonly"));
        scene.run(2_000);
        scene.hangs_up(caller);
        scene.run(1_000);
        let came: Vec<_> = scene.phones[other].inbox.clone();
        assert!(
            came.iter().filter(|text| text.starts_with("INVITE ") || text.starts_with("BYE ")).count() >= 2
        );
        assert!(came.iter().all(|text| !text.contains("x-late") && !text.contains("isup-oli")), "{came:?}");
        let sent = scene.tap().sent().filter(|text| text.contains(";x-late=1")).count();
        assert!(sent >= 2, "our answers on its own leg repeat its From and To: {sent}");
        scene.ends();
    }
}
