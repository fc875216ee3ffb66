use super::*;
use crate::policy::trunk::tests::trunk;
use crate::policy::{NumberFormat, Service};
use crate::sip::message::{Message, parse};

const FROM: &str = "\"Ann\" <sip:+441632960123@a.example>;tag=1";
const PAI: &str =
    "P-Asserted-Identity: \"Ann Smith\" <sip:+441632960199@core.example>, <tel:+441632960199>\r\n";

fn invite(from: &str, lines: &str) -> Request {
    let text = format!(
        "INVITE sip:+12025550147@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\n\
         Max-Forwards: 70\r\nFrom: {from}\r\nTo: <sip:+12025550147@192.0.2.1>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@198.51.100.7>\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn with(identity: IdentityPolicy) -> Trunk {
    Trunk { identity, ..trunk("a", "192.0.2.1:5060", &[]) }
}

fn trusted(form: IdentityForm) -> Trunk {
    with(IdentityPolicy { trusted: true, form, ..IdentityPolicy::default() })
}

fn untrusted(form: IdentityForm) -> Trunk {
    with(IdentityPolicy { form, ..IdentityPolicy::default() })
}

/// From, then the lines besides it.
fn told(caller: &Caller, trunk: &Trunk) -> Vec<String> {
    let mut headers = Headers::default();
    caller.assert(trunk, &mut headers);
    let line = |header: &crate::sip::message::Header| format!("{}: {}", header.name, header.value);
    std::iter::once(caller.from(trunk).to_string()).chain(headers.iter().map(line)).collect()
}

fn through(from: &str, lines: &str, came_by: &Trunk, goes_to: &Trunk) -> Vec<String> {
    told(&Caller::of(&invite(from, lines), came_by), goes_to)
}

// Statement 227.
#[test]
fn an_identity_is_believed_of_trusted_trunks_only() {
    let to = trusted(IdentityForm::Pai);
    let from = "\"Ann\" <sip:+441632960123@192.0.2.1:5060>";
    let asserted = "P-Asserted-Identity: \"Ann Smith\" <sip:+441632960199@192.0.2.1:5060>";
    assert_eq!(through(FROM, PAI, &trusted(IdentityForm::From), &to), [from, asserted]);
    assert_eq!(through(FROM, PAI, &untrusted(IdentityForm::Pai), &to), [from]);
    let rpid = "Remote-Party-ID: <sip:+441632960199@core.example>;party=calling;screen=";
    for (screen, told) in [("yes", "441632960199"), ("no", "")] {
        let lines = through(FROM, &format!("{rpid}{screen}\r\n"), &trusted(IdentityForm::From), &to);
        assert_eq!(lines.get(1).is_some_and(|line| line.contains(told)), screen == "yes", "{lines:?}");
    }
}

// Statements 88, 227.
#[test]
fn a_withheld_identity_is_told_within_the_trust_domain_and_never_beyond_it() {
    let anonymous = "Anonymous <sip:anonymous@anonymous.invalid>";
    let hidden = "<sip:anonymous@anonymous.invalid>;tag=1";
    let by = trusted(IdentityForm::Pai);
    for from in [FROM, hidden, "\"Anonymous\" <sip:Anonymous@a.example>;tag=1"] {
        for privacy in ["Privacy: id\r\n", "Privacy: user;id;critical\r\n", "Privacy: header; id\r\n"] {
            let lines = format!("{PAI}{privacy}");
            let within = through(from, &lines, &by, &trusted(IdentityForm::Pai));
            let asserted = "P-Asserted-Identity: \"Ann Smith\" <sip:+441632960199@192.0.2.1:5060>";
            assert_eq!(within, [anonymous, asserted, "Privacy: id"], "{from} {privacy}");
            for form in [IdentityForm::From, IdentityForm::Pai, IdentityForm::Ppi, IdentityForm::Rpid] {
                let source = AssertedSource::ReceivedOrFrom;
                let to = with(IdentityPolicy { form, asserted: source, ..IdentityPolicy::default() });
                assert_eq!(through(from, &lines, &by, &to), [anonymous], "{form:?} {from} {privacy}");
            }
        }
    }
    // Without a wish for privacy, but with nobody in From.
    assert_eq!(through(hidden, PAI, &by, &untrusted(IdentityForm::Pai)), [anonymous]);
}

// Statement 227.
#[test]
fn each_form_says_the_same_in_its_own_header() {
    let by = trusted(IdentityForm::Pai);
    let address = "\"Ann Smith\" <sip:+441632960199@192.0.2.1:5060>";
    let table = [
        (IdentityForm::From, None),
        (IdentityForm::Pai, Some(format!("P-Asserted-Identity: {address}"))),
        (IdentityForm::Ppi, Some(format!("P-Preferred-Identity: {address}"))),
        (
            IdentityForm::Rpid,
            Some(format!("Remote-Party-ID: {address};party=calling;screen=yes;privacy=off")),
        ),
    ];
    for (form, line) in table {
        let lines = through(FROM, PAI, &by, &untrusted(form));
        assert_eq!(lines.get(1), line.as_ref(), "{form:?}");
    }
    let hidden = through(FROM, &format!("{PAI}Privacy: id\r\n"), &by, &trusted(IdentityForm::Rpid));
    assert!(hidden[1].ends_with(";privacy=full"), "{hidden:?}");
    let mut back = invite(FROM, "");
    back.headers.push(HeaderName::RemotePartyId, hidden[1].split_once(": ").unwrap().1);
    assert!(Caller::of(&back, &by).is_withheld());
    let waived = through(FROM, &format!("{PAI}Privacy: none\r\n"), &by, &trusted(IdentityForm::Pai));
    assert_eq!(waived.last().map(String::as_str), Some("Privacy: none"));
}

// Statements 42, 87.
#[test]
fn from_and_the_identity_beside_it_are_taken_from_where_the_trunk_says() {
    let by = trusted(IdentityForm::Pai);
    let to = |form, from, asserted| with(IdentityPolicy { trusted: true, form, from, asserted });
    let (ann, smith) = ("+441632960123", "+441632960199");
    let table = [
        (FromSource::Received, AssertedSource::Received, PAI, ann, Some(smith)),
        (FromSource::Asserted, AssertedSource::Received, PAI, smith, Some(smith)),
        (FromSource::Received, AssertedSource::From, PAI, ann, Some(ann)),
        (FromSource::Asserted, AssertedSource::From, PAI, smith, Some(ann)),
        (FromSource::Asserted, AssertedSource::Received, "", ann, None),
        (FromSource::Received, AssertedSource::ReceivedOrFrom, PAI, ann, Some(smith)),
        (FromSource::Received, AssertedSource::ReceivedOrFrom, "", ann, Some(ann)),
    ];
    for (from, asserted, lines, presented, identity) in table {
        let told = through(FROM, lines, &by, &to(IdentityForm::Pai, from, asserted));
        assert!(told[0].contains(presented), "{told:?}");
        assert_eq!(told.get(1).is_some(), identity.is_some(), "{told:?}");
        assert!(identity.is_none_or(|identity| told[1].contains(identity)), "{told:?}");
        let removed = through(FROM, lines, &by, &to(IdentityForm::From, from, asserted));
        assert_eq!(removed, told[..1]);
    }
}

// Statement 213.
#[test]
fn zoom_hears_the_caller_in_an_asserted_identity_and_nothing_of_one_who_withholds_it() {
    let zoom = trunk("zoom", "192.0.2.1:5060", &[]).toward(Service::Zoom);
    let mut operator = trunk("core", "192.0.2.1:5060", &[]).toward(Service::Operator);
    operator.numbers.country = Some("44".into());
    operator.numbers.national_prefix = "0".into();
    operator.numbers.format = NumberFormat::National;
    let from = "<sip:01632960123@core.example>;tag=1";
    let told = through(from, "", &operator, &zoom);
    assert_eq!(told[1], "P-Asserted-Identity: <sip:+441632960123@192.0.2.1:5060;user=phone>");
    let asserted = "P-Asserted-Identity: <tel:01632-960-199>\r\n";
    let told = through(from, asserted, &operator, &zoom);
    assert_eq!(told[1], "P-Asserted-Identity: <sip:+441632960199@192.0.2.1:5060;user=phone>");
    let hidden = through(from, &format!("{asserted}Privacy: id\r\n"), &operator, &zoom);
    assert_eq!(hidden, ["Anonymous <sip:anonymous@anonymous.invalid>"]);
}

#[test]
fn what_is_no_identity_is_left_out_and_a_from_without_user_is_not_anonymous() {
    let by = trusted(IdentityForm::Pai);
    let to = trusted(IdentityForm::Pai);
    for lines in ["P-Asserted-Identity: <sip:core.example>\r\n", "P-Asserted-Identity: nonsense\r\n", ""] {
        assert_eq!(through("<sip:a.example>;tag=1", lines, &by, &to), ["<sip:192.0.2.1:5060>"], "{lines}");
    }
    let caller = Caller::of(&invite(FROM, PAI), &by);
    assert_eq!(caller.number().reveal(), "+441632960199");
    assert!(!format!("{caller:?}").contains("960199"), "a number in a log");
}
