//! The same with the second engine, on either side or on both.

use super::*;
use Engine::{OpenSsl, Rustls};

const SIDES: [[Engine; 2]; 3] = [[OpenSsl, Rustls], [Rustls, OpenSsl], [OpenSsl, OpenSsl]];

impl Gateway {
    fn on(mut self, engine: Engine) -> Self {
        self.settings.engine = engine;
        self.settings.suites = Suite::standard(engine);
        self.apply();
        self
    }

    fn with_rsa(name: &str, peer: &str) -> Self {
        let identity = AUTHORITY.identity(&Leaf { names: &[name], rsa: true, ..Leaf::default() });
        Self::of(identity, roots(&[&AUTHORITY]), peer)
    }
}

fn pair_on([of_a, of_b]: [Engine; 2]) -> (Gateway, Gateway) {
    let (a, b) = pair();
    (a.on(of_a), b.on(of_b))
}

#[test]
fn each_suite_alone_is_enough_in_both_roles_those_with_cbc_too() {
    for suite in Suite::standard(OpenSsl) {
        let make = if suite.to_string().contains("-RSA-") { Gateway::with_rsa } else { Gateway::new };
        for other in [OpenSsl, Rustls] {
            if suite.is_cbc() && other == Rustls {
                continue;
            }
            let mut one = make("a.example.net", "b.example.net").on(OpenSsl);
            one.settings.suites = vec![suite];
            one.settings.versions = vec![suite.version()];
            one.apply();
            let mut all = make("b.example.net", "a.example.net").on(other);
            deliver(&mut one, &mut all, &message(10));
            deliver(&mut all, &mut one, &message(20));
        }
    }
}

#[test]
fn rustls_and_a_trunk_with_nothing_but_cbc_do_not_come_together() {
    for openssl_calls in [true, false] {
        let mut cbc = Gateway::with_rsa("a.example.net", "b.example.net").on(OpenSsl);
        cbc.settings.suites.retain(|suite| suite.is_cbc());
        cbc.settings.versions = vec![Version::Tls12];
        cbc.apply();
        let mut other = Gateway::with_rsa("b.example.net", "a.example.net");
        let (caller, called) = if openssl_calls { (&mut cbc, &mut other) } else { (&mut other, &mut cbc) };
        let faults = [HandshakeFault::RefusedByPeer, HandshakeFault::NoCommonSuite].map(Closed::Handshake);
        assert_eq!(refused(caller, called), faults.into());
    }
}

#[test]
fn a_version_that_is_not_allowed_is_refused_in_both_roles() {
    for engines in SIDES {
        let (mut a, mut b) = pair_on(engines);
        a.settings.versions = vec![Version::Tls12];
        a.settings.suites.retain(|suite| suite.version() == Version::Tls12);
        a.apply();
        b.settings.versions = vec![Version::Tls13];
        b.settings.suites.retain(|suite| suite.version() == Version::Tls13);
        b.apply();
        let faults = [HandshakeFault::RefusedByPeer, HandshakeFault::NoCommonVersion].map(Closed::Handshake);
        assert_eq!(refused(&mut a, &mut b), faults.into(), "{engines:?}");
    }
}

#[test]
fn the_same_callers_are_refused_for_the_same_reasons() {
    let elsewhere = Authority::new("Elsewhere");
    for engines in SIDES {
        let forged = elsewhere.identity(&Leaf { names: &["a.example.net"], ..Leaf::default() });
        let over = AUTHORITY.identity(&Leaf { names: &["a.example.net"], until: 2021, ..Leaf::default() });
        let of = |identity| Gateway::of(identity, roots(&[&AUTHORITY]), "b.example.net");
        for (caller, fault) in [
            (Gateway::new("c.example.net", "b.example.net"), HandshakeFault::OtherName),
            (Gateway::new("*.example.net", "b.example.net"), HandshakeFault::OtherName),
            (of(forged), HandshakeFault::UnknownIssuer),
            (of(over), HandshakeFault::Expired),
        ] {
            let (_, mut b) = pair_on(engines);
            let mut caller = caller.on(engines[0]);
            // Over 1.3 the caller takes the connection for open before it is refused.
            caller.settings.versions = vec![Version::Tls12];
            caller.apply();
            let faults = [HandshakeFault::RefusedByPeer, fault].map(Closed::Handshake);
            assert_eq!(refused(&mut caller, &mut b), faults.into(), "{engines:?}");
        }
    }
    let (_, mut b) = pair_on([OpenSsl, OpenSsl]);
    let nobody = TlsClient::new(b.local, &[]);
    b.rig.until(|rig| !rig.ends().is_empty());
    assert_eq!(b.rig.ends(), [Closed::Handshake(HandshakeFault::NoCertificate)]);
    assert!(nobody.refused());
}

#[test]
fn a_caller_without_a_certificate_is_welcome_where_none_is_wanted() {
    let (_, mut b) = pair_on([OpenSsl, OpenSsl]);
    b.settings.mutual = false;
    b.apply();
    let nobody = TlsClient::new(b.local, &[]);
    b.rig.until(|rig| rig.messages().len() == 1);
    nobody.hang_up();
}

#[test]
fn whom_we_call_has_to_be_who_we_expect_with_either_engine() {
    for engines in SIDES {
        let (mut a, _) = pair_on(engines);
        let mut impostor = Gateway::new("c.example.net", "a.example.net").on(engines[1]);
        let (why, _) = refused(&mut a, &mut impostor);
        assert_eq!(why, Closed::Handshake(HandshakeFault::OtherName), "{engines:?}");
    }
    let (mut a, _) = pair_on([OpenSsl, OpenSsl]);
    a.settings.peer_names.clear();
    a.apply();
    let mut by_address = Gateway::new("127.0.0.1", "a.example.net");
    deliver(&mut a, &mut by_address, OPTIONS);
}

#[test]
fn trunks_on_one_socket_choose_by_name_and_a_reload_counts() {
    for engines in SIDES {
        let (mut a, mut b) = pair_on(engines);
        let identity = AUTHORITY.identity(&Leaf { names: &["*.tenant.example"], ..Leaf::default() });
        let second = TrunkSettings { trunk: "second".into(), identity, ..b.settings.clone() };
        b.apply_with(&[second]);
        for asked in ["one.tenant.example", "b.example.net"] {
            a.settings.peer_names = vec![asked.to_owned()];
            a.apply();
            deliver(&mut a, &mut b, OPTIONS);
        }
        let new = Authority::new("New root");
        b.settings.roots = roots(&[&new]);
        b.apply();
        a.settings.identity = new.identity(&Leaf { names: &["a.example.net"], ..Leaf::default() });
        a.apply();
        deliver(&mut a, &mut b, OPTIONS);
    }
}

#[test]
fn messages_of_any_size_cross_whole_and_the_end_is_told() {
    for engines in SIDES {
        let (mut a, mut b) = pair_on(engines);
        let sizes = [60_000, 0, 17_000, 1];
        for size in sizes {
            a.rig.send(&a.hop_to(&b), &message(size)).expect("is queued until the connection is open");
        }
        until_both(&mut a, &mut b, |_, b| b.messages().len() == sizes.len());
        let heard: Vec<_> = b.rig.messages().into_iter().map(|(_, text)| text).collect();
        assert_eq!(heard, sizes.map(message));
        b.rig.pass(Duration::from_secs(600));
        until_both(&mut a, &mut b, |a, _| !a.ends().is_empty());
        assert_eq!((a.rig.ends(), b.rig.ends()), (vec![Closed::ByPeer], vec![Closed::Idle]));
    }
}

#[test]
fn what_is_no_tls_is_told_as_such_by_either_engine() {
    let (_, mut b) = pair_on([OpenSsl, OpenSsl]);
    let mut stream = client(b.local);
    stream.write_all(OPTIONS.as_bytes()).expect("the connection is open");
    b.rig.until(|rig| !rig.ends().is_empty());
    assert_eq!(b.rig.ends(), [Closed::Handshake(HandshakeFault::NotTls)]);
}
