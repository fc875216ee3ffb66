//! What each action does, what is left out, and what no rule can do.

use super::*;
use crate::config::parse_rules;
use crate::sip::message::{Limits, Message, parse, parse_within};
use proptest::prelude::*;

const INVITE: &str = "INVITE sip:+442079460000;npdi@gw.example.net:5060;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n\
    From: \"Ann\" <sip:02079461111@192.0.2.21>;tag=from\r\nTo: <sip:+442079460000@gw.example.net>\r\n\
    Call-ID: a@192.0.2.21\r\nCSeq: 1 INVITE\r\nContact: <sip:ann@192.0.2.21:5060>\r\n\
    X-One: first\r\nX-One: second\r\nReason: SIP;cause=200, Q.850;cause=34;text=\"a, b\"\r\n\
    Content-Type: application/sdp\r\n\r\n";

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.21\r\ns=-\r\nc=IN IP4 192.0.2.21\r\nb=AS:100\r\nt=0 0\r\na=sendonly\r\n\
    m=audio 20000 RTP/AVP 8 0 96 101\r\nb=TIAS:64000\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:30\r\n\
    m=video 20002 RTP/AVP 97\r\nb=AS:500\r\na=rtpmap:97 H264/90000\r\na=ptime:99\r\n";

fn invite() -> Message {
    parse(format!("{INVITE}{SDP}").as_bytes()).unwrap()
}

fn in_dialog() -> Message {
    let text =
        format!("{INVITE}{SDP}").replace("To: <sip:+442079460000@gw.example.net>", "To: <sip:b@h>;tag=to");
    parse(text.as_bytes()).unwrap()
}

fn response(line: &str) -> Message {
    let (_, rest) = INVITE.split_once("\r\n").unwrap();
    parse(format!("SIP/2.0 {line}\r\n{rest}{SDP}").as_bytes()).unwrap()
}

/// The rules whose fields these are, of direction send.
fn rules(fields: &str) -> Manipulation {
    let rule = format!(
        "[variables]\ntenant = \"contoso\"\n[[rule]]\nname = \"r\"\ndirection = \"send\"\n{fields}\n"
    );
    parse_rules("rules.toml", &rule).unwrap_or_else(|errors| panic!("{errors}"))
}

const VARIABLES: Variables<'_> =
    Variables { trunk: "operator", calling: Some("+442079461111"), called: Some("+442079460000") };

fn run(fields: &str, message: &mut Message) -> Outcome {
    let outcomes = rules(fields).apply(Direction::Send, &mut message.into(), &VARIABLES);
    outcomes.into_iter().next().unwrap()
}

fn text(message: &Message) -> String {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// Lines that one action takes away and lines that it brings.
fn changes(action: &str, mut message: Message) -> (Vec<String>, Vec<String>) {
    let before = text(&message);
    let outcome = run(&format!("do = [{action}]"), &mut message);
    assert!(
        matches!(&outcome, Outcome::Applied { left_out, .. } if left_out.is_empty()),
        "{action}: {outcome:?}"
    );
    let after = text(&message);
    assert_eq!(outcome.changed(), before != after, "{action}");
    assert_eq!(parse(after.as_bytes()).map(|read| text(&read)), Ok(after.clone()));
    let without = |one: &str, other: &str| {
        let mut other: Vec<_> = other.lines().collect();
        let mut left = Vec::new();
        for line in one.lines().filter(|line| !line.starts_with("Content-Length")) {
            match other.iter().position(|own| *own == line) {
                Some(at) => drop(other.remove(at)),
                None => left.push(line.to_owned()),
            }
        }
        left
    };
    (without(&before, &after), without(&after, &before))
}

/// Why the only action is left out; the message is as it was.
fn left_out(action: &str, mut message: Message) -> LeftOut {
    let before = text(&message);
    let outcome = run(&format!("do = [{action}]"), &mut message);
    assert_eq!(text(&message), before, "{action}");
    match outcome {
        Outcome::Applied { left_out, .. } if left_out.len() == 1 => left_out[0].1,
        other => panic!("{action}: {other:?}"),
    }
}

#[test]
fn each_action_on_headers_changes_its_lines_and_no_others() {
    let table: [(&str, &[&str], &[&str]); 14] = [
        ("{ add = \"header.X-One\", value = \"third\" }", &[], &["X-One: third"]),
        (
            "{ set = \"header.X-One\", value = \"only\" }",
            &["X-One: first", "X-One: second"],
            &["X-One: only"],
        ),
        (
            "{ set = \"header.X-New\", value = \"${tenant} ${trunk} $$1\" }",
            &[],
            &["X-New: contoso operator $1"],
        ),
        ("{ remove = \"header.X-One\" }", &["X-One: first", "X-One: second"], &[]),
        ("{ remove = \"header.X-One\", matching = '^s' }", &["X-One: second"], &[]),
        (
            "{ rename = \"header.X-One\", to = \"header.X-Two\" }",
            &["X-One: first", "X-One: second"],
            &["X-Two: first", "X-Two: second"],
        ),
        (
            "{ rewrite = \"header.X-One\", pattern = '(?<a>.)s', with = \"${a}-$0\" }",
            &["X-One: first"],
            &["X-One: fir-rst"],
        ),
        ("{ copy = \"header.X-One\", to = \"header.X-Two\" }", &[], &["X-Two: first", "X-Two: second"]),
        ("{ copy = \"header.From.user\", to = \"header.X-Two\" }", &[], &["X-Two: 02079461111"]),
        (
            "{ set = \"header.From.user\", value = \"${calling}\" }",
            &["From: \"Ann\" <sip:02079461111@192.0.2.21>;tag=from"],
            &["From: \"Ann\" <sip:+442079461111@192.0.2.21>;tag=from"],
        ),
        (
            "{ remove = \"header.From.display\" }",
            &["From: \"Ann\" <sip:02079461111@192.0.2.21>;tag=from"],
            &["From: <sip:02079461111@192.0.2.21>;tag=from"],
        ),
        (
            "{ copy = \"header.From.user\", to = \"header.Contact.uri-param.tgrp\" }",
            &["Contact: <sip:ann@192.0.2.21:5060>"],
            &["Contact: <sip:ann@192.0.2.21:5060;tgrp=02079461111>"],
        ),
        (
            "{ rewrite = \"header.Reason.param.cause\", pattern = '^34$', with = \"17\" }",
            &["Reason: SIP;cause=200, Q.850;cause=34;text=\"a, b\""],
            &["Reason: SIP;cause=200, Q.850;cause=17;text=\"a, b\""],
        ),
        (
            "{ set = \"header.X-Id\", value = \"${call-id} ${method} ${sdp.direction}\" }",
            &[],
            &["X-Id: a@192.0.2.21 INVITE sendonly"],
        ),
    ];
    for (action, gone, come) in table {
        assert_eq!(changes(action, invite()), (owned(gone), owned(come)), "{action}");
    }
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn the_request_uri_changes_by_parts_outside_of_dialogs_only() {
    let table = [
        ("{ set = \"request-uri\", value = \"tel:${called}\" }", "tel:+442079460000"),
        (
            "{ set = \"request-uri.scheme\", value = \"sips\" }",
            "sips:+442079460000;npdi@gw.example.net:5060;user=phone",
        ),
        ("{ set = \"request-uri.user\", value = \"a@b#\" }", "sip:a%40b%23@gw.example.net:5060;user=phone"),
        (
            "{ rewrite = \"request-uri.user\", pattern = ';.*', with = \"\" }",
            "sip:+442079460000@gw.example.net:5060;user=phone",
        ),
        (
            "{ set = \"request-uri.host\", value = \"[2001:db8::1]\" }",
            "sip:+442079460000;npdi@[2001:db8::1]:5060;user=phone",
        ),
        ("{ remove = \"request-uri.port\" }", "sip:+442079460000;npdi@gw.example.net;user=phone"),
        ("{ remove = \"request-uri.param.user\" }", "sip:+442079460000;npdi@gw.example.net:5060"),
        (
            "{ set = \"request-uri.param.ext\", value = \"\" }",
            "sip:+442079460000;npdi@gw.example.net:5060;user=phone;ext",
        ),
    ];
    let before = "INVITE sip:+442079460000;npdi@gw.example.net:5060;user=phone SIP/2.0";
    for (action, uri) in table {
        assert_eq!(
            changes(action, invite()),
            (owned(&[before]), vec![format!("INVITE {uri} SIP/2.0")]),
            "{action}"
        );
        assert_eq!(left_out(action, in_dialog()), LeftOut::InDialog, "{action}");
    }
}

#[test]
fn a_status_changes_with_its_phrase_and_a_phrase_by_itself() {
    let mut message = response("603 Decline");
    run("status = [\"603\", \"5xx\"]\ndo = [{ set = \"status\", value = \"486\" }]", &mut message);
    assert!(text(&message).starts_with("SIP/2.0 486 Busy Here\r\n"));
    run("message = \"response\"\ndo = [{ set = \"reason\", value = \"In ${trunk}\" }]", &mut message);
    assert!(text(&message).starts_with("SIP/2.0 486 In operator\r\n"));
    assert_eq!(left_out("{ set = \"reason\", value = \"x\" }", invite()), LeftOut::Absent);
}

#[test]
fn each_action_on_the_session_description_changes_the_audio_and_no_other_stream() {
    let table: [(&str, &[&str], &[&str]); 9] = [
        (
            "{ remove_codecs = [\"OPUS\", \"telephone-event/8000\"] }",
            &[
                "m=audio 20000 RTP/AVP 8 0 96 101",
                "a=rtpmap:96 opus/48000/2",
                "a=fmtp:96 useinbandfec=1",
                "a=rtpmap:101 telephone-event/8000",
                "a=fmtp:101 0-16",
            ],
            &["m=audio 20000 RTP/AVP 8 0"],
        ),
        (
            "{ keep_codecs = [\"PCMU\", \"telephone-event\"] }",
            &["m=audio 20000 RTP/AVP 8 0 96 101", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1"],
            &["m=audio 20000 RTP/AVP 0 101"],
        ),
        (
            "{ order_codecs = [\"opus\", \"PCMU\"] }",
            &["m=audio 20000 RTP/AVP 8 0 96 101"],
            &["m=audio 20000 RTP/AVP 96 0 8 101"],
        ),
        ("{ set = \"sdp.ptime\", value = \"20\" }", &["a=ptime:30"], &["a=ptime:20"]),
        ("{ set = \"sdp.direction\", value = \"inactive\" }", &["a=sendonly"], &["a=inactive"]),
        (
            "{ add = \"sdp.attribute.silenceSupp\", value = \"off - - - -\" }",
            &[],
            &["a=silenceSupp:off - - - -"],
        ),
        (
            "{ rewrite = \"sdp.attribute.fmtp\", pattern = '0-16$', with = \"0-15\" }",
            &["a=fmtp:101 0-16"],
            &["a=fmtp:101 0-15"],
        ),
        ("{ remove = \"sdp.bandwidth.AS\" }", &["b=AS:100"], &[]),
        ("{ set = \"sdp.bandwidth.TIAS\", value = \"80000\" }", &["b=TIAS:64000"], &["b=TIAS:80000"]),
    ];
    for (action, gone, come) in table {
        assert_eq!(changes(action, invite()), (owned(gone), owned(come)), "{action}");
    }
    let mut message = invite();
    run("do = [{ set = \"header.X-Codecs\", value = \"${sdp.codecs}\" }]", &mut message);
    assert_eq!(message.headers().iter().last().map(|line| line.value.as_str()), Some("PCMA"));
}

#[test]
fn what_a_message_does_not_fit_is_left_out_and_the_rest_of_the_rule_runs() {
    let table = [
        ("{ set = \"header.X\", value = \"${header.Y}\" }", LeftOut::Absent),
        ("{ copy = \"header.Y\", to = \"header.X\" }", LeftOut::Absent),
        ("{ set = \"header.Y.user\", value = \"x\" }", LeftOut::Absent),
        ("{ set = \"header.X-One.user\", value = \"x\" }", LeftOut::Invalid),
        ("{ set = \"header.From.host\", value = \"a b\" }", LeftOut::Invalid),
        ("{ set = \"header.From.uri-param.x\", value = \"a b\" }", LeftOut::Invalid),
        ("{ set = \"request-uri\", value = \"nothing\" }", LeftOut::Invalid),
        ("{ set = \"request-uri\", value = \"sip:a@h?Subject=x\" }", LeftOut::Invalid),
        ("{ set = \"request-uri.port\", value = \"70000\" }", LeftOut::Invalid),
        ("{ set = \"sdp.bandwidth.AS\", value = \"${trunk}\" }", LeftOut::Invalid),
        ("{ keep_codecs = [\"telephone-event\"] }", LeftOut::NoCodecLeft),
    ];
    for (action, why) in table {
        assert_eq!(left_out(action, invite()), why, "{action}");
    }
    let without_sdp = parse(INVITE.replace("Content-Type: application/sdp\r\n", "").as_bytes()).unwrap();
    assert_eq!(left_out("{ set = \"sdp.ptime\", value = \"20\" }", without_sdp), LeftOut::NoSdp);
    let mut message = invite();
    let both = "do = [{ set = \"header.X\", value = \"${header.Y}\" }, { remove = \"header.X-One\" }]";
    let outcome = run(both, &mut message);
    assert_eq!(outcome, Outcome::Applied { changed: vec![1], left_out: vec![(0, LeftOut::Absent)] });
}

#[test]
fn an_escape_cannot_smuggle_a_line_into_a_header() {
    let text = INVITE.replace("sip:02079461111@", "sip:a%0d%0aVia%3a%20b@");
    let message = parse(format!("{text}{SDP}").as_bytes()).unwrap();
    assert_eq!(
        left_out("{ copy = \"header.From.user\", to = \"header.X\" }", message.clone()),
        LeftOut::Invalid
    );
    assert_eq!(
        left_out("{ set = \"header.X\", value = \"${header.From.user}\" }", message),
        LeftOut::Invalid
    );
}

#[test]
fn a_rule_runs_where_all_that_it_asks_holds() {
    let action = "do = [{ remove = \"header.X-One\" }]";
    let table = [
        ("method = [\"INVITE\"]", true),
        ("method = [\"BYE\", \"OPTIONS\"]", false),
        ("message = \"response\"", false),
        ("status = [\"2xx\"]", false),
        ("dialog = \"outside\"", true),
        ("dialog = \"inside\"", false),
        ("when = [{ value = \"header.X-One\", is = [\"second\"] }]", true),
        ("when = [{ value = \"header.X-One\", is = [\"Second\"] }]", false),
        ("when = [{ value = \"header.X-One\", is = [\"second\"], not = true }]", false),
        ("when = [{ value = \"header.X-Two\", present = false }]", true),
        ("when = [{ value = \"header.X-Two\", present = true }]", false),
        (
            "when = [{ value = \"calling\", matches = '^\\+44' }, { value = \"trunk\", is = [\"operator\"] }]",
            true,
        ),
        (
            "when = [{ value = \"calling\", matches = '^\\+44' }, { value = \"trunk\", is = [\"other\"] }]",
            false,
        ),
        ("when = [{ value = \"called\", is = [\"${request-uri.user}\"] }]", false),
        ("when = [{ value = \"sdp.codecs\", is = [\"opus\"] }]", true),
        ("when = [{ value = \"sdp.direction\", is = [\"sendonly\"] }]", true),
    ];
    for (fields, runs) in table {
        assert_eq!(run(&format!("{fields}\n{action}"), &mut invite()).changed(), runs, "{fields}");
    }
    for (line, runs) in
        [("183 X", true), ("180 X", true), ("200 OK", false), ("404 X", true), ("403 X", false)]
    {
        let mut message = response(line);
        assert_eq!(
            run(&format!("status = [\"18x\", \"404\"]\n{action}"), &mut message).changed(),
            runs,
            "{line}"
        );
    }
}

#[test]
fn rules_run_in_order_on_what_those_before_them_left_until_a_last_one() {
    let rule = |last: bool, value: &str| {
        format!(
            "[[rule]]\nname = \"r\"\ndirection = \"send\"\nlast = {last}\ndo = [{{ set = \"header.X\", value = \"${{header.X}}{value}\" }}]\n"
        )
    };
    let first =
        "[[rule]]\nname = \"r\"\ndirection = \"send\"\ndo = [{ set = \"header.X\", value = \"0\" }]\n";
    let all = [first, &rule(false, "1"), &rule(true, "2"), &rule(false, "3")].concat();
    let mut message = invite();
    let outcomes =
        parse_rules("f", &all).unwrap().apply(Direction::Send, &mut (&mut message).into(), &VARIABLES);
    assert_eq!(outcomes.len(), 3);
    assert_eq!(message.headers().iter().last().map(|line| line.value.as_str()), Some("012"));
    let outcomes =
        parse_rules("f", &all).unwrap().apply(Direction::Receive, &mut (&mut message).into(), &VARIABLES);
    assert_eq!(outcomes, []);
}

#[test]
fn the_work_of_all_rules_on_one_message_is_bounded_and_what_is_beyond_is_left_out() {
    let rule = format!(
        "[[rule]]\nname = \"r\"\ndirection = \"send\"\ndo = [{}]\n",
        "{ rewrite = \"header.X-Long\", pattern = '(a|aa)+$', with = \"b\" },".repeat(MAX_PARTS)
    );
    let rules = parse_rules("f", &rule.repeat(MAX_RULES)).unwrap();
    let long = format!("X-Long: {}c\r\nContent-Type", "a".repeat(7_000));
    let mut message = parse(format!("{INVITE}{SDP}").replace("Content-Type", &long).as_bytes()).unwrap();
    let before = text(&message);
    let outcomes = rules.apply(Direction::Send, &mut (&mut message).into(), &VARIABLES);
    let exhausted = |outcome: &&Outcome| matches!(outcome, Outcome::Applied { left_out, .. } if left_out.iter().any(|(_, why)| *why == LeftOut::Exhausted));
    let first = outcomes.iter().position(|outcome| exhausted(&outcome)).unwrap();
    assert!(first <= MAX_WORK / 7_000 / MAX_PARTS + 1, "{first}");
    assert!(outcomes[first..].iter().all(|outcome| exhausted(&outcome)));
    assert_eq!(text(&message), before);
}

#[test]
fn no_rule_makes_a_message_too_large_for_anyone() {
    let grow = "{ add = \"header.X-Long\", value = \"${header.X-Long}${header.X-Long}\" }";
    let mut message = invite();
    let seed = format!("{{ add = \"header.X-Long\", value = \"{}\" }}", "x".repeat(1_500));
    let fields = format!("do = [{seed},{}]", format!("{grow},").repeat(MAX_PARTS - 1));
    let outcome = run(&fields, &mut message);
    assert!(
        matches!(outcome, Outcome::Applied { left_out, .. } if left_out.iter().all(|(_, why)| *why == LeftOut::TooLarge))
    );
    assert!(parse_within(text(&message).as_bytes(), &Limits::WIDEST).is_ok());
}

/// Actions that may be written, over places of all kinds.
fn action() -> impl Strategy<Value = String> {
    let place = prop::sample::select(vec![
        "request-uri",
        "request-uri.scheme",
        "request-uri.user",
        "request-uri.host",
        "request-uri.port",
        "request-uri.param.x",
        "header.From.uri",
        "header.From.user",
        "header.From.host",
        "header.From.display",
        "header.From.param.x",
        "header.To.user",
        "header.Contact.user",
        "header.Contact.param.x",
        "header.Contact.uri-param.x",
        "header.X-One",
        "header.X-One.user",
        "header.Reason.param.cause",
        "header.Reason",
        "sdp.attribute.fmtp",
        "sdp.ptime",
        "sdp.bandwidth.AS",
        "sdp.direction",
        "reason",
        "header.Expires",
    ]);
    let value = prop_oneof![
        "[ -~]{0,40}".prop_map(|text| text.replace(['$', '\'', '\\', '"'], "")),
        place.clone().prop_map(|place| format!("${{{place}}}")),
        Just("x".repeat(3_000)),
        Just("\u{e4}\u{1f600}".to_owned()),
    ];
    let pattern = prop::sample::select(vec!["", ".", "^.*$", "[0-9]+", "(a|b)*", "(?i)S", "\\b", "^", ";"]);
    let codec = prop::sample::select(vec!["PCMA", "PCMU", "opus", "telephone-event", "G729", ""]);
    prop_oneof![
        (place.clone(), value.clone())
            .prop_map(|(place, value)| format!("{{ set = '{place}', value = '{value}' }}")),
        (place.clone(), value.clone())
            .prop_map(|(place, value)| format!("{{ add = '{place}', value = '{value}' }}")),
        (place.clone(), pattern.clone())
            .prop_map(|(place, pattern)| format!("{{ remove = '{place}', matching = '{pattern}' }}")),
        (place.clone(), pattern, value).prop_map(|(place, pattern, with)| {
            format!("{{ rewrite = '{place}', pattern = '{pattern}', with = '{with}' }}")
        }),
        (place.clone(), place).prop_map(|(from, to)| format!("{{ copy = '{from}', to = '{to}' }}")),
        (prop::sample::select(vec!["remove", "keep", "order"]), prop::collection::vec(codec, 0..4))
            .prop_map(|(verb, names)| format!("{{ {verb}_codecs = {names:?} }}")),
    ]
}

proptest! {
    #[test]
    fn any_message_through_any_valid_rule_is_a_message_of_the_same_dialog_and_transaction(
        actions in prop::collection::vec(action(), 1..8),
        kind in 0..4,
        header in "[ -~]{0,60}",
    ) {
        let base = match kind {
            0 => invite(),
            1 => in_dialog(),
            2 => response("183 Session Progress"),
            _ => response("404 Not Found"),
        };
        let spoilt = text(&base).replace("X-One: first", &format!("X-One: {header}"));
        let mut message = parse(spoilt.as_bytes()).unwrap();
        let before = message.clone();
        // Rules that are refused at load are not run.
        for action in actions {
            let rule = format!("[[rule]]\nname = 'r'\ndirection = 'send'\ndo = [{action}]\n");
            if let Ok(rules) = parse_rules("f", &rule) {
                rules.apply(Direction::Send, &mut (&mut message).into(), &VARIABLES);
            }
        }
        let sent = text(&message);
        let read = parse_within(sent.as_bytes(), &Limits::WIDEST);
        prop_assert!(read.is_ok(), "{:?}\n{}", read, sent);
        let (old, new) = (before.head(), message.head());
        prop_assert_eq!(&old.via, &new.via);
        prop_assert_eq!(&old.call_id, &new.call_id);
        prop_assert_eq!(&old.cseq, &new.cseq);
        prop_assert_eq!(old.from.tag(), new.from.tag());
        prop_assert_eq!(old.to.tag(), new.to.tag());
        let hosts = |contact: &crate::sip::message::Contact| {
            contact.first().and_then(|address| address.uri.as_sip().map(|uri| (uri.host.clone(), uri.port)))
        };
        prop_assert_eq!(hosts(&old.contact), hosts(&new.contact));
        let described = |message: &Message| crate::sdp::parse(message.body()).is_ok();
        prop_assert_eq!(described(&before), described(&message));
    }
}
