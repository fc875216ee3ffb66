use super::*;
use crate::sip::message::{Message, NameAddr, parse};

/// The answer of RFC 7616 section 3.9.1 to the same nonce, by each algorithm that is ours.
#[test]
fn answers_are_those_of_the_examples_of_rfc_7616() {
    let credentials = Credentials {
        realm: "http-auth@example.org".into(),
        user: "Mufasa".into(),
        password: Password::new("Circle of Life"),
        md5: true,
    };
    let table = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];
    for (algorithm, response) in table {
        let challenge = Challenge::parse(&format!(
            "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        ));
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let line = credentials.line(&challenge.unwrap(), "GET", "/dir/index.html", cnonce);
        assert!(line.contains(&format!("response=\"{response}\"")), "{line}");
        assert!(line.contains(&format!("algorithm={algorithm},")), "{line}");
        assert!(line.ends_with(", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""), "{line}");
    }
}

#[test]
fn a_challenge_without_qop_is_answered_as_in_rfc_2617() {
    let credentials = Credentials {
        realm: "testrealm@host.com".into(),
        user: "Mufasa".into(),
        password: Password::new("CircleOfLife"),
        md5: true,
    };
    let challenge =
        Challenge::parse("Digest realm=\"testrealm@host.com\",nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"");
    let line = credentials.line(&challenge.unwrap(), "GET", "/dir/index.html", "unused");
    assert!(line.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{line}");
    assert!(!line.contains("cnonce") && !line.contains("nc="), "{line}");
}

fn ours(md5: bool) -> Credentials {
    let (realm, user) = ("core.example".to_owned(), "gateway".to_owned());
    Credentials { realm, user, password: Password::new("s3cret"), md5 }
}

fn draft() -> Draft {
    let address = || NameAddr::new("sip:a@h".parse().unwrap());
    Draft::new(crate::sip::message::Method::Invite, "sip:b@h".parse().unwrap(), address(), address(), "1", 1)
}

fn refused(status: u16, lines: &[&str]) -> Response {
    let header = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
    let lines: String = lines.iter().map(|line| format!("{header}: {line}\r\n")).collect();
    let text = format!(
        "SIP/2.0 {status} No\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
         To: <sip:b@h>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    match parse(text.as_bytes()) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

const MD5: &str = "Digest realm=\"core.example\", nonce=\"m\", qop=\"auth\", algorithm=MD5";
const SHA256: &str = "Digest realm=\"core.example\", nonce=\"s\", qop=\"auth\", algorithm=SHA-256";
const SHA512: &str = "Digest realm=\"core.example\", nonce=\"l\", qop=\"auth\", algorithm=SHA-512-256";

// Statement 236.
#[test]
fn the_strongest_algorithm_offered_is_the_one_that_is_answered() {
    let table: [(&[&str], bool, Option<&str>); 8] = [
        (&[MD5, SHA256], true, Some("SHA-256")),
        (&[SHA256, MD5, SHA512], true, Some("SHA-512-256")),
        (&[MD5], true, Some("MD5")),
        (&[MD5], false, None),
        (&[MD5, SHA256], false, Some("SHA-256")),
        (
            &["Digest realm=\"core.example\", nonce=\"n\", algorithm=SHA-256-sess", SHA256],
            false,
            Some("SHA-256"),
        ),
        (&["Digest realm=\"core.example\", nonce=\"n\", algorithm=SHA-256, qop=\"auth-int\""], true, None),
        (&["Basic realm=\"core.example\"", "Digest", "Digest realm=\"core.example", ""], true, None),
    ];
    for (lines, md5, algorithm) in table {
        for (status, header) in [(401, HeaderName::Authorization), (407, HeaderName::ProxyAuthorization)] {
            let mut draft = draft();
            let answered = ours(md5).answer(&refused(status, lines), &mut draft, "c");
            let line = draft.headers.value(&header);
            assert_eq!(answered, algorithm.is_some(), "{lines:?}");
            let named =
                |algorithm| line.is_some_and(|line| line.contains(&format!("algorithm={algorithm},")));
            assert!(algorithm.is_none_or(named), "{line:?}");
        }
    }
}

#[test]
fn another_realm_gets_no_answer_and_a_wrong_password_is_not_sent_twice() {
    let foreign = "Digest realm=\"evil.example\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256";
    let mut draft = draft();
    assert!(!ours(true).answer(&refused(401, &[foreign]), &mut draft, "c"));
    assert!(draft.headers.value(&HeaderName::Authorization).is_none());
    assert!(!ours(true).answer(&refused(403, &[SHA256]), &mut draft, "c"));
    assert!(ours(true).answer(&refused(401, &[foreign, SHA256]), &mut draft, "c"));
    assert!(!ours(true).answer(&refused(401, &[SHA256]), &mut draft, "c"));
    let stale = format!("{SHA256}, stale=TRUE");
    assert!(ours(true).answer(&refused(401, &[&stale]), &mut draft, "c"));
    assert_eq!(draft.headers.values(&HeaderName::Authorization).count(), 1);
    assert!(!format!("{:?}", ours(true)).contains("s3cret"));
}
