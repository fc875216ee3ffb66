use super::*;
use crate::policy::IdentityPolicy;
use crate::policy::trunk::tests::trunk;

fn toward(form: RedirectionForm, trusted: bool) -> Trunk {
    let identity = IdentityPolicy { trusted, ..IdentityPolicy::default() };
    Trunk { identity, redirection: form, ..trunk("a", "192.0.2.1:5060", &[]) }
}

fn of(name: HeaderName, values: &[&str]) -> Redirection {
    let mut headers = Headers::default();
    for value in values {
        headers.push(name.clone(), *value);
    }
    let trunk = toward(RedirectionForm::None, true);
    Redirection(match name {
        HeaderName::HistoryInfo => of_history_info(&headers, &trunk),
        _ => of_diversion(&headers, &trunk),
    })
}

fn history(values: &[String]) -> Redirection {
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    of(HeaderName::HistoryInfo, &values)
}

fn written(redirection: &Redirection, form: RedirectionForm, trusted: bool) -> Vec<String> {
    let mut headers = Headers::default();
    let target = "sip:+4930123456@198.51.100.7:5060".parse().unwrap();
    redirection.write(&toward(form, trusted), &target, &mut headers);
    headers.iter().map(|header| header.value.clone()).collect()
}

/// Number, name of the reason, privacy and count.
fn summary(redirection: &Redirection) -> Vec<(&str, &str, bool, u8)> {
    let one = |diversion| {
        let Diversion { party, reason, private, count }: &Diversion = diversion;
        (party.number.reveal(), reason.name(), *private, *count)
    };
    redirection.0.iter().map(one).collect()
}

// Statement 228.
#[test]
fn a_stack_of_diversions_becomes_the_history_of_rfc_7544_section_7_and_back() {
    let values = [
        "<sip:+443@192.0.2.1:5060>;reason=unconditional;counter=1;privacy=off, \
         <sip:+442@192.0.2.1:5060>;reason=user-busy;counter=1;privacy=full",
        "<sip:+441@192.0.2.1:5060>;reason=no-answer;counter=1;privacy=off",
    ];
    let diversion = of(HeaderName::Diversion, &values);
    let told = written(&diversion, RedirectionForm::HistoryInfo, true);
    assert_eq!(
        told,
        [
            "<sip:+441@192.0.2.1:5060>;index=1",
            "<sip:+442@192.0.2.1:5060;cause=408?Privacy=history>;index=1.1;mp=1",
            "<sip:+443@192.0.2.1:5060;cause=486>;index=1.1.1;mp=1.1",
            "<sip:+4930123456@198.51.100.7:5060;cause=302>;index=1.1.1.1;mp=1.1.1",
        ]
    );
    let back = history(&told);
    assert_eq!(back, diversion);
    assert_eq!(written(&back, RedirectionForm::Diversion, true).join(", "), values.join(", "));
}

// Statement 228.
#[test]
fn every_reason_that_has_a_cause_and_every_count_survive_the_way_there_and_back() {
    for (_, name, cause) in REASONS {
        for (private, privacy, count) in [(false, "off", 1), (true, "full", 3)] {
            let value = format!("<sip:+441@h>;reason={name};counter={count};privacy={privacy}");
            let first = of(HeaderName::Diversion, &[&value, "<sip:+440@h>;reason=away;counter=2"]);
            let told = written(&first, RedirectionForm::HistoryInfo, true);
            assert!(told[1].contains(";cause=404"), "{told:?}");
            assert!(told[2].contains(&format!(";cause={cause}")) || *cause == 487, "{told:?}");
            let name = if *cause == 404 { "unknown" } else { name };
            let back = history(&told);
            assert_eq!(summary(&back), [("+440", "unknown", false, 2), ("+441", name, private, count)]);
        }
    }
}

// Statement 89.
#[test]
fn the_history_that_teams_prints_is_understood_however_it_quotes() {
    let table: [&[&str]; 7] = [
        &[
            "<sip:+441@h;user=phone?Reason=SIP%3Bcause%3D302%3Btext%3D%22Moved%22>;index=1, <sip:+442@h>;index=1.1",
        ],
        &["<sip:+441@h?Reason=SIP;cause=302;text=\"Moved Temporarily\">;index=1", "<sip:+442@h>;index=1.1"],
        &[
            "<sip:+441@h?Reason=SIP;cause=302;text=\u{201c}Moved, gone\u{201d}>;index=1,<sip:+442@h>;index=1.1",
        ],
        &["<sip:+441@h:5061;user=phone;Reason=SIP;cause=302;text=\"Moved Temporarily\">;index=1"],
        &["<sip:+441@h:5061;user=phone?reason=sip; cause=302 ;text=x>; index = 1"],
        &["\"Ann\" <sip:+441@h?Reason=SIP;cause=302>;index=1, <sip:+442@h;user=phone>;index=1.1"],
        &["<sip:+441@h>;index=1,<sip:+442@h;cause=302>;index=1.1;mp=1"],
    ];
    for values in table {
        let redirection = of(HeaderName::HistoryInfo, values);
        assert_eq!(summary(&redirection), [("+441", "unconditional", false, 1)], "{values:?}");
    }
    let value = "<sip:+441@h?Privacy=history&Reason=SIP;cause=999>;index=1";
    assert_eq!(summary(&of(HeaderName::HistoryInfo, &[value])), [("+441", "unknown", true, 1)]);
    let nonsense =
        ["", "<", "<>", "?", "<sip:+441@h", "<sip:+441@h?Reason>;index=x", "<sip:+441@h>;index=1", "a,,b"];
    for value in nonsense {
        assert_eq!(of(HeaderName::HistoryInfo, &[value]), Redirection::default(), "{value}");
    }
}

// Statement 89.
#[test]
fn steps_of_routing_are_no_diversions_and_a_private_one_is_told_to_nobody_outside() {
    let values = [
        "<sip:+441@h>;index=1, <sip:+441@core.h>;index=1.1;rc=1, <sip:+441@x.h?Reason=SIP;cause=486>;index=1.1.1",
        "<sip:+442@h;cause=486?Privacy=history>;index=1.2;mp=1.1, <sip:+443@h;cause=408>;index=1.2.1;mp=1.2",
    ];
    let redirection = of(HeaderName::HistoryInfo, &values);
    assert_eq!(summary(&redirection), [("+441", "user-busy", false, 1), ("+442", "no-answer", true, 1)]);
    assert_eq!(
        written(&redirection, RedirectionForm::HistoryInfo, false)[1],
        "<sip:anonymous@anonymous.invalid;cause=486>;index=1.1;mp=1"
    );
    assert_eq!(
        written(&redirection, RedirectionForm::Diversion, false)[0],
        "<sip:anonymous@anonymous.invalid>;reason=no-answer;counter=1;privacy=full"
    );
    assert!(written(&redirection, RedirectionForm::None, true).is_empty());
}
