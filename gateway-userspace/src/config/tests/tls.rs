//! `[trunk.tls]`, with files made for the test.

use super::*;
use crate::net::tests::authority::{Authority, Leaf};
use crate::net::tls::Engine;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use std::time::UNIX_EPOCH;

/// 2026-01-01.
const NEW_YEAR: Duration = Duration::from_secs(1_767_225_600);

/// A directory with certificate, key and root.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(leaf: &Leaf<'_>) -> Self {
        let authority = Authority::new("Root");
        let pem = authority.pem(leaf);
        let files = Self { directory: tempfile::tempdir().expect("a directory can be made") };
        files.write("sbc.pem", &format!("{}{}", pem.leaf, pem.issuer));
        files.write("sbc.key", &pem.key);
        files.write("root.pem", &authority.root_pem());
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).expect("a file can be written");
    }

    fn text(&self, advertised: &str, tls: &str) -> String {
        let directory = self.directory.path().display();
        format!(
            "[[trunk]]\nname = \"service\"\nlisten = \"tls:192.0.2.1\"\nadvertised = \"{advertised}\"\n\
             peers = [{{ address = \"192.0.2.2\" }}]\n[trunk.tls]\ncertificate = \"{directory}/sbc.pem\"\n\
             key = \"{directory}/sbc.key\"\n{tls}\n[[route]]\nprefix = \"\"\nto = \"service\"\n"
        )
        .replace("DIR", &directory.to_string())
    }

    fn parse(&self, advertised: &str, tls: &str) -> Result<Config, ConfigErrors> {
        let host = Host { now: UNIX_EPOCH + NEW_YEAR, ..host() };
        Config::parse("causeway.toml", &self.text(advertised, tls), &host)
    }

    /// What is wrong, with the directory's name taken out.
    fn told(&self, advertised: &str, tls: &str) -> String {
        let told = self.parse(advertised, tls).expect_err("something is wrong").to_string();
        told.replace(&self.directory.path().display().to_string(), "DIR")
    }
}

const OWN_ROOT: &str = "roots = [\"DIR/root.pem\"]\npeer_names = [\"sip.peer.example\"]";

// Statement 206.
#[test]
fn a_zoom_trunk_has_mutual_tls_and_is_warned_of_without_tls() {
    let files = Files::new(&Leaf::default());
    let zoom = |text: &str| {
        let text = text.replace("name = \"service\"", "name = \"service\"\nservice = \"zoom\"");
        Config::parse("causeway.toml", &text, &Host { now: UNIX_EPOCH + NEW_YEAR, ..host() })
    };
    let told = |config: &Config| {
        config.warnings.iter().any(|warning| warning.message.contains("Zoom takes SIP over TLS only"))
    };
    let secure = zoom(&files.text("sbc.example.net", OWN_ROOT)).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!told(&secure));
    let plain = "[[trunk]]\nname = \"service\"\nlisten = \"tcp:192.0.2.1:5060\"\nadvertised = \"sbc.example.net\"\n\
                 peers = [{ address = \"192.0.2.2\" }]\n[[route]]\nprefix = \"\"\nto = \"service\"\n";
    assert!(told(&zoom(plain).unwrap_or_else(|errors| panic!("{errors}"))));
    // Whom to believe ought to be said, because peers have to show who they are unless the trunk says otherwise.
    let anybody = |tls: &str| {
        let config = zoom(&files.text("sbc.example.net", tls)).unwrap_or_else(|errors| panic!("{errors}"));
        config.warnings.iter().any(|warning| warning.field.contains("peer_names"))
    };
    assert!(anybody("") && !anybody("mutual = false") && !anybody(OWN_ROOT));
}

// Statements 6, 7.
#[test]
fn a_certificate_that_will_not_do_is_told_with_file_field_and_name() {
    let fine = Files::new(&Leaf::default());
    let config = fine.parse("sbc.example.net", OWN_ROOT).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings.len(), 1, "only that there is no interface: {:?}", config.warnings);
    let (_, trunk) = config.policy.trunk_named("service").expect("it is there");
    assert_eq!(
        (trunk.listen.port(), trunk.peers[0].address.to_string(), trunk.sent_by().port),
        (5061, "192.0.2.2:5061".to_owned(), 5061)
    );

    let other_name = fine.told("sbc.example.org", OWN_ROOT);
    let expected = "causeway.toml:7:15: [[trunk]] \"service\", tls.certificate: DIR/sbc.pem: the certificate of \
                    \"sbc.example.net\" is for sbc.example.net, not for sbc.example.org\n";
    assert!(other_name.starts_with(expected), "{other_name}");
    let wildcard = Files::new(&Leaf { names: &["*.corp.example"], ..Leaf::default() });
    assert!(wildcard.parse("sbc1.corp.example", OWN_ROOT).is_ok());
    assert!(wildcard.told("a.sbc1.corp.example", OWN_ROOT).contains("a wildcard stands for one label only"));

    let for_clients = Files::new(&Leaf { usages: &[ClientAuth], ..Leaf::default() });
    assert!(for_clients.told("sbc.example.net", OWN_ROOT).contains("lacks serverAuth"));
    let for_servers = Files::new(&Leaf { usages: &[ServerAuth], ..Leaf::default() });
    let config = for_servers.parse("sbc.example.net", OWN_ROOT).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.iter().any(|warning| warning.message.contains("lacks clientAuth")));
    let expired = Files::new(&Leaf { until: 2026, ..Leaf::default() });
    let host = Host { now: UNIX_EPOCH + NEW_YEAR + Duration::from_secs(1), ..host() };
    let told = Config::parse("causeway.toml", &expired.text("sbc.example.net", OWN_ROOT), &host);
    assert!(told.expect_err("it is over").to_string().contains("expired on 2026-01-01"));
}

#[test]
fn each_mistake_about_tls_is_told_with_its_place_and_its_fix() {
    let files = Files::new(&Leaf::default());
    let told = |tls: &str| files.told("sbc.example.net", tls);
    for (tls, words) in [
        ("roots = [\"DIR/none.pem\"]", "tls.roots: DIR/none.pem cannot be read"),
        ("roots = [\"DIR/sbc.key\"]", "DIR/sbc.key: holds no certificate"),
        ("versions = [\"1.1\"]", "write \"1.2\", \"1.3\", or both"),
        ("suites = [\"ECDHE-RSA-AES256-SHA384\"]", "write engine = \"openssl\" beside the suites"),
        ("suites = [\"AES256-SHA256\"]", "\"AES256-SHA256\" is no cipher suite that can be had"),
        ("engine = \"gnutls\"", "write \"rustls\" or \"openssl\""),
        ("suites = [\"ECDHE-RSA-AES256-GCM-SHA38\"]", "did you mean \"ECDHE-RSA-AES256-GCM-SHA384\"?"),
        ("suites = []", "tls.suites: allows none"),
        (
            "versions = [\"1.3\"]\nsuites = [\"ECDHE-RSA-AES256-GCM-SHA384\"]",
            "TLS 1.3 is asked for, and no cipher suite",
        ),
        ("roots = [\"DIR/root.pem\"]\npeer_names = [\"no name\"]", "is no host name and no address"),
        ("colour = 1", "there is no field \"colour\""),
    ] {
        let told = told(tls);
        assert!(told.contains(words) && told.contains("fix: "), "{words:?} not in\n{told}");
    }
    let plain = files.text("sbc.example.net", OWN_ROOT).replace("tls:192", "tcp:192");
    assert!(
        parse(&plain)
            .expect_err("TLS settings for TCP")
            .to_string()
            .contains("is for trunks that listen on tls")
    );
    let keyless = files.text("sbc.example.net", OWN_ROOT).replace("key = ", "# key = ");
    assert!(parse(&keyless).expect_err("no key").to_string().contains("tls.key: is missing"));
}

#[test]
fn the_second_engine_is_refused_where_it_is_not_built_and_warned_of_where_it_is() {
    let files = Files::new(&Leaf::default());
    let parse =
        |suites: &str| files.parse("sbc.example.net", &format!("{OWN_ROOT}\nengine = \"openssl\"\n{suites}"));
    for (suites, told) in [
        ("", "may use ECDHE-RSA-AES256-SHA384, ECDHE-RSA-AES128-SHA256, with CBC"),
        ("suites = [\"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256\"]", "may use ECDHE-RSA-AES128-SHA256, with CBC"),
        ("suites = [\"TLS_AES_256_GCM_SHA384\"]", "no suite needs it"),
    ] {
        match parse(suites) {
            Ok(config) => {
                assert!(Engine::OpenSsl.is_built());
                let warnings: Vec<_> = config.warnings.iter().map(|warning| &*warning.message).collect();
                assert!(warnings.iter().any(|warning| warning.ends_with(told)), "{warnings:?}");
                assert_eq!(config.tls.certificates()[0].engine, Engine::OpenSsl);
            }
            Err(errors) => {
                assert!(!Engine::OpenSsl.is_built(), "{errors}");
                let errors = errors.to_string();
                assert!(errors.contains("tls.engine: this build has no engine \"openssl\""), "{errors}");
                assert!(errors.contains("fix: leave engine out, or build causeway with it"), "{errors}");
            }
        }
    }
}

// Statement 33.
#[test]
fn a_certificate_near_its_end_is_warned_of_and_shown() {
    let files = Files::new(&Leaf { until: 2027, ..Leaf::default() });
    let day = Duration::from_secs(86_400);
    for (left, warned) in [(31, false), (29, true)] {
        let host = Host { now: UNIX_EPOCH + NEW_YEAR + day * (365 - left), ..host() };
        let text = files.text("sbc.example.net", OWN_ROOT);
        let config = Config::parse("causeway.toml", &text, &host).unwrap_or_else(|errors| panic!("{errors}"));
        let warning = config.warnings.iter().any(|warning| warning.message.contains("expires on 2027-01-01"));
        assert_eq!(warning, warned, "{left} days");
        let summary = Summary::of(&config).render("causeway.toml");
        assert!(
            summary.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words == ["service", "sbc.example.net", "sbc.example.net", "2027-01-01", "CN=Root", "issuing"]
            }),
            "{summary}"
        );
    }
}

#[test]
fn bounds_of_connections_are_what_is_written_and_make_sense() {
    let connections = |text: &str| parse(&format!("{text}\n{EXAMPLE}")).map(|config| config.connections);
    let standard = connections("").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((standard.connections, standard.ping), (4_096, Duration::from_secs(60)));
    let text = "[connections]\nmax = 100\nmax_per_source = 10\nhandshake_seconds = 3\nping_seconds = 25";
    let written = connections(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((written.connections, written.connections_per_source), (100, 10));
    assert_eq!((written.handshake, written.ping), (Duration::from_secs(3), Duration::from_secs(25)));
    for wrong in ["max = 0", "ping_seconds = 120", "renewal_seconds = 3600", "head_seconds = 0"] {
        let told = connections(&format!("[connections]\n{wrong}")).expect_err(wrong).to_string();
        assert!(told.contains("[connections]") && told.contains("fix: write"), "{told}");
    }
}
