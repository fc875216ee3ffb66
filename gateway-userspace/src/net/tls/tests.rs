//! Certificates held against what they are wanted for.

use super::*;
use crate::net::tests::authority::{Authority, Leaf};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-01-01.
const NEW_YEAR: Duration = Duration::from_secs(1_767_225_600);

fn now() -> SystemTime {
    UNIX_EPOCH + NEW_YEAR
}

fn certificate(leaf: &Leaf<'_>) -> Certificate {
    Authority::new("Root").identity(leaf).certificate
}

// Statement 6.
#[test]
fn a_certificate_that_does_not_cover_the_trunks_name_is_refused_and_a_wildcard_covers_one_label() {
    let names = ["*.corp.example", "plain.example", "192.0.2.1", "sip:domain.example"];
    let certificate = certificate(&Leaf { names: &names, ..Leaf::default() });
    for covered in ["sbc1.corp.example", "SBC1.Corp.Example", "plain.example", "192.0.2.1", "domain.example"]
    {
        assert_eq!(certificate.check(Some(covered), now()), Ok(()), "{covered}");
    }
    for other in ["a.sbc1.corp.example", "corp.example", ".corp.example", "x.plain.example", "192.0.2.2", ""]
    {
        let refused = certificate.check(Some(other), now());
        assert!(matches!(refused, Err(CertificateFault::OtherName { .. })), "{other}: {refused:?}");
    }
    let told = certificate.check(Some("sbc.example.net"), now()).expect_err("another name").to_string();
    assert!(told.contains("*.corp.example") && told.contains("not for sbc.example.net"), "{told}");
}

// Statement 7.
#[test]
fn a_certificate_without_server_auth_is_refused_and_one_without_client_auth_is_not() {
    let only_client = certificate(&Leaf { usages: &[ClientAuth], ..Leaf::default() });
    assert!(matches!(only_client.check(None, now()), Err(CertificateFault::NotForServers { .. })));
    let only_server = certificate(&Leaf { usages: &[ServerAuth], ..Leaf::default() });
    assert_eq!((only_server.check(None, now()), only_server.client_auth), (Ok(()), false));
    let for_anything = certificate(&Leaf { usages: &[], ..Leaf::default() });
    assert_eq!((for_anything.check(None, now()), for_anything.client_auth), (Ok(()), true));
}

#[test]
fn a_certificate_outside_its_days_is_refused_with_the_day() {
    let expired = certificate(&Leaf { until: 2025, ..Leaf::default() }).check(None, now());
    assert_eq!(
        expired.expect_err("it ended a year ago").to_string(),
        "the certificate of \"sbc.example.net\" expired on 2025-01-01"
    );
    let early = certificate(&Leaf::default()).check(None, UNIX_EPOCH);
    assert!(matches!(early, Err(CertificateFault::NotYetValid { .. })));
    assert_eq!(
        certificate(&Leaf { until: 2027, ..Leaf::default() }).remaining(now()).as_secs(),
        365 * 86_400
    );
}

#[test]
fn the_name_of_a_peer_is_compared_whole_and_never_by_wildcard() {
    let certificate = certificate(&Leaf { names: &["*.pstn.example", "sip.example"], ..Leaf::default() });
    assert!(certificate.is_for("SIP.example"));
    assert!(!certificate.is_for("sip.pstn.example") && !certificate.is_for("example"));
}

#[test]
fn chain_and_key_have_to_belong_together_and_stand_in_order() {
    let authority = Authority::new("Root");
    let (ours, other) = (authority.pem(&Leaf::default()), authority.pem(&Leaf::default()));
    let sound = format!("{}{}", ours.leaf, ours.issuer);
    let identity = Identity::new(sound.as_bytes(), ours.key.as_bytes()).expect("it is sound");
    assert_eq!(identity.chain_length(), 2);

    let fault =
        |chain: &str, key: &str| Identity::new(chain.as_bytes(), key.as_bytes()).expect_err("it is wrong");
    let other_key = fault(&sound, &other.key);
    assert!(matches!(other_key, IdentityFault::Key(CertificateFault::OtherKey { .. })), "{other_key:?}");
    let unrelated = fault(&format!("{}{}", ours.leaf, other.leaf), &ours.key);
    assert!(matches!(unrelated, IdentityFault::Certificate(CertificateFault::OutOfOrder { number: 2, .. })));
    assert_eq!(fault(&ours.key, &ours.key), IdentityFault::Certificate(CertificateFault::NoCertificate));
    assert_eq!(fault(&sound, &sound), IdentityFault::Key(CertificateFault::NoKey));
    let damaged = fault("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &ours.key);
    assert!(matches!(damaged, IdentityFault::Certificate(CertificateFault::Damaged { number: 1, .. })));
}

#[test]
fn suites_are_known_by_both_names_and_stand_in_the_order_of_azure() {
    let standard: Vec<String> = Suite::standard(Engine::Rustls).iter().map(ToString::to_string).collect();
    assert_eq!(
        standard,
        [
            "TLS_AES_256_GCM_SHA384",
            "TLS_AES_128_GCM_SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ]
    );
    let both = ["ecdhe-rsa-aes256-gcm-sha384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"].map(Suite::named);
    assert!(both[0].is_some() && both[0] == both[1]);
    assert_eq!(Suite::named("AES256-GCM-SHA384"), None);
    let with_cbc: Vec<String> = Suite::standard(Engine::OpenSsl)
        .iter()
        .filter(|suite| suite.is_cbc())
        .map(ToString::to_string)
        .collect();
    assert_eq!(with_cbc, ["ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA256"]);
    assert_eq!((Version::named("1.2"), Version::named("1.1")), (Some(Version::Tls12), None));
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, date) in [
        (0, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (1_767_225_599, "2025-12-31"),
        (1_767_225_600, "2026-01-01"),
        (4_107_542_400, "2100-03-01"),
    ] {
        assert_eq!(Date(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), date);
    }
}
