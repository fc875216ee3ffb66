//! RFC 4475 section 3.1.2: messages that break the grammar. A request gets its 400, a response silence.

use super::super::{HeaderName, Place};
use super::{answered, refused, request};
use crate::base::fault::Fault;

/// An OPTIONS whose start line and some headers are the test's. A header given replaces the one of that name.
fn options(start_line: &str, headers: &[&str]) -> String {
    const DEFAULTS: [&str; 7] = [
        "To: sip:user@example.com",
        "From: sip:caller@example.net;tag=93942939o2",
        "Max-Forwards: 70",
        "Call-ID: torture.sdf0234n2nds0a099u23h3hnnw009cdkne3",
        "CSeq: 8 OPTIONS",
        "Via: SIP/2.0/UDP host1.example.com;branch=z9hG4bKkdju43234",
        "Content-Length: 0",
    ];
    let name = |header: &str| header.split(':').next().map(str::to_ascii_lowercase);
    let kept = DEFAULTS.iter().filter(|own| !headers.iter().any(|given| name(given) == name(own)));
    let lines: Vec<_> = [start_line].iter().chain(kept).chain(headers).copied().collect();
    format!("{}\n\n", lines.join("\n"))
}

const START: &str = "OPTIONS sip:user@example.com SIP/2.0";

#[test]
fn the_message_that_the_tests_break_is_whole() {
    assert_eq!(request(&options(START, &[])).method.as_str(), "OPTIONS");
}

#[test]
fn rfc4475_badinv01_separators_without_values() {
    for header in [
        "Via: SIP/2.0/UDP 192.0.2.15;;,;,,",
        "From: \"A. B. Caller\" <sip:caller@example.org>;;;;",
        "Contact: \"Joe\" <sip:joe@example.org>;;;;",
        "Contact: <sip:joe@example.org>,,",
    ] {
        assert_eq!(answered(&options(START, &[header])), Some(400), "{header}");
    }
}

#[test]
fn rfc4475_clerr_content_length_larger_than_the_message() {
    let error = refused(&options(START, &["Content-Length: 9999"]));
    assert_eq!((error.fault, error.place), (Fault::MalformedMessage, Place::Body));
    assert_eq!(error.refusal.map(|refusal| refusal.status.code()), Some(400));
}

#[test]
fn rfc4475_ncl_negative_content_length() {
    for header in ["Content-Length: -999", "Content-Length: +0", "l: 99999999999999999999999", "l: 0x0", "l:"]
    {
        let text = options(START, &[header]).replace("Content-Length: 0\n", "");
        assert_eq!(answered(&text), Some(400), "{header}");
    }
}

#[test]
fn rfc4475_scalar02_numbers_out_of_range() {
    for header in ["CSeq: 36893488147419103232 OPTIONS", "CSeq: 4294967295 OPTIONS", "Max-Forwards: 300"] {
        assert_eq!(answered(&options(START, &[header])), Some(400), "{header}");
    }
}

#[test]
fn rfc4475_scalarlg_numbers_out_of_range_in_a_response_are_met_with_silence() {
    let text = options("SIP/2.0 503 Service Unavailable", &["CSeq: 9292394834772304023312 OPTIONS"]);
    assert_eq!(answered(&text), None);
}

#[test]
fn rfc4475_quotbal_a_quoted_name_without_end() {
    let error = refused(&options(START, &["To: \"Mr. J. User <sip:j.user@example.com>"]));
    assert_eq!(error.place, Place::Header { name: HeaderName::To, line: 7 });
    assert_eq!(error.refusal.map(|refusal| refusal.status.code()), Some(400));
}

#[test]
fn rfc4475_start_lines_out_of_shape() {
    for (id, start_line) in [
        ("ltgtruri", "OPTIONS <sip:user@example.com> SIP/2.0"),
        ("lwsruri", "OPTIONS sip:user@example.com; lr SIP/2.0"),
        ("lwsstart", "OPTIONS  sip:user@example.com  SIP/2.0"),
        ("escruri", "OPTIONS sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0"),
        ("tab", "OPTIONS\tsip:user@example.com SIP/2.0"),
        ("method", "OPT<IONS sip:user@example.com SIP/2.0"),
    ] {
        assert_eq!(answered(&options(start_line, &[])), Some(400), "{id}");
    }
    assert_eq!(answered(&options("OPTIONS sip:remote-target@example.com SIP/2.0  ", &[])), Some(400), "trws");
}

#[test]
fn rfc4475_baddate_a_date_we_do_not_use_harms_nobody() {
    request(&options(START, &["Date: Fri, 01 Jan 2010 16:00:00 EST"]));
}

#[test]
fn rfc4475_regbadct_a_contact_with_headers_needs_brackets() {
    let contact = "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E";
    assert_eq!(answered(&options(START, &[contact])), Some(400));
}

#[test]
fn rfc4475_badaspec_spaces_inside_brackets() {
    let to = "To: \"Watson, Thomas\" < sip:t.watson@example.org >";
    assert_eq!(answered(&options(START, &[to])), Some(400));
}

#[test]
fn rfc4475_baddn_a_name_with_a_comma_needs_quotes() {
    let from = "From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43";
    assert_eq!(answered(&options(START, &[from])), Some(400));
}

#[test]
fn rfc4475_badvers_another_version_is_answered_with_505() {
    assert_eq!(answered(&options("OPTIONS sip:t.watson@example.org SIP/7.0", &[])), Some(505));
    assert_eq!(answered(&options("SIP/7.0 200 OK", &[])), None);
}

#[test]
fn rfc4475_mismatch01_and_02_cseq_names_another_method() {
    assert_eq!(answered(&options(START, &["CSeq: 8 INVITE"])), Some(400));
    assert_eq!(answered(&options("NEWMETHOD sip:user@example.com SIP/2.0", &["CSeq: 8 INVITE"])), Some(400));
}

#[test]
fn rfc4475_bigcode_a_status_code_that_is_none_is_met_with_silence() {
    for code in ["4294967301", "42", "099", "700", "2OO", ""] {
        assert_eq!(answered(&options(&format!("SIP/2.0 {code} better not"), &[])), None, "{code}");
    }
}

#[test]
fn rfc4475_multi01_and_mcl01_single_value_headers_stand_once() {
    for twice in [
        ["CSeq: 5 OPTIONS", "CSeq: 8 OPTIONS"],
        ["Call-ID: a", "i: b"],
        ["To: sip:a@h", "t: sip:b@h"],
        ["From: sip:a@h;tag=1", "f: sip:b@h;tag=2"],
        ["Max-Forwards: 5", "Max-Forwards: 70"],
        ["Content-Length: 0", "l: 0"],
        ["Content-Type: application/sdp", "c: application/sdp"],
    ] {
        assert_eq!(answered(&options(START, &twice)), Some(400), "{twice:?}");
    }
}

#[test]
fn rfc4475_insuf_a_missing_header_is_named_in_the_answer() {
    for name in ["To", "From", "Call-ID", "CSeq"] {
        let text = options(START, &[]);
        let kept: Vec<_> = text.split('\n').filter(|line| !line.starts_with(&format!("{name}:"))).collect();
        let error = refused(&kept.join("\n"));
        assert_eq!(error.what, format!("missing {name}"));
        let reason = error.refusal.map(|refusal| refusal.reason);
        assert_eq!(reason, Some(format!("Bad Request (missing {name})")));
    }
}

#[test]
fn an_ack_is_never_answered_however_broken() {
    assert_eq!(answered(&options("ACK sip:user@example.com SIP/2.0", &["To: \"x"])), None);
    assert_eq!(answered(&options("ACK sip:user@example.com SIP/7.0", &["CSeq: 8 ACK"])), None);
}
