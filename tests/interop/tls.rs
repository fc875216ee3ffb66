//! TLS with peers that share no code with the daemon.

use anyhow::{Context as _, Result};
use std::fs;
use support::certificate::{Authority, Credentials, Key};
use support::daemon::{Daemon, SERVICE, SOON};
use support::kamailio::Kamailio;
use support::lab::{Host, Lab};
use support::openssl::OpenSsl;
use support::phone::{Phone, connect};
use support::process::until;
use support::sipp::Sipp;

const OPTIONS: &str = "OPTIONS sip:10.81.1.1 SIP/2.0\r\nVia: SIP/2.0/TLS 10.81.1.2;branch=z9hG4bKx\r\n\
                       From: <sip:a@10.81.1.2>;tag=1\r\nTo: <sip:10.81.1.1>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
                       Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

/// Suites that Azure and Teams name and rustls has, with the key that each needs and the version.
const SUITES: [(&str, Key, &str); 6] = [
    ("ECDHE-RSA-AES256-GCM-SHA384", Key::Rsa, "-tls1_2"),
    ("ECDHE-RSA-AES128-GCM-SHA256", Key::Rsa, "-tls1_2"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", Key::Ecdsa, "-tls1_2"),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", Key::Ecdsa, "-tls1_2"),
    ("TLS_AES_256_GCM_SHA384", Key::Rsa, "-tls1_3"),
    ("TLS_AES_128_GCM_SHA256", Key::Ecdsa, "-tls1_3"),
];

/// What no peer may get us to use.
const REFUSED: [(&str, &str); 4] = [
    ("-tls1_1", "DEFAULT@SECLEVEL=0"),
    ("-tls1", "DEFAULT@SECLEVEL=0"),
    // RSA key exchange, and a suite that is not configured.
    ("-tls1_2", "AES256-GCM-SHA384"),
    ("-tls1_2", "ECDHE-RSA-CHACHA20-POLY1305"),
];

struct Scene {
    lab: Lab,
    authority: Authority,
    rsa: Credentials,
    ecdsa: Credentials,
    peer: [Credentials; 2],
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let authority = Authority::new(lab.directory(), "ca")?;
        let peer = ["peer.example.net"];
        Ok(Self {
            rsa: authority.issue("rsa", &["sbc.example.net"], Key::Rsa)?,
            ecdsa: authority.issue("ecdsa", &["sbc.example.net"], Key::Ecdsa)?,
            peer: [
                authority.issue("peer-rsa", &peer, Key::Rsa)?,
                authority.issue("peer-ecdsa", &peer, Key::Ecdsa)?,
            ],
            authority,
            lab,
        })
    }

    fn peer(&self, key: Key) -> &Credentials {
        match key {
            Key::Rsa => &self.peer[0],
            Key::Ecdsa => &self.peer[1],
        }
    }

    /// The caller's side with an RSA certificate on 5061 and an ECDSA one on 5062; the callee's side is asked by
    /// OPTIONS each second.
    fn trunks(&self) -> String {
        let trunk = |name: &str, listen: &str, more: &str, own: &Credentials| {
            format!(
                "[[trunk]]\nname = \"{name}\"\nlisten = \"tls:{listen}\"\nadvertised = \"sbc.example.net\"\n{more}\n\
                 [trunk.tls]\n{}\nroots = [\"{}\"]\npeer_names = [\"peer.example.net\"]\n",
                own.fields(),
                self.authority.root.display(),
            )
        };
        let asked = "peers = [{ address = \"10.81.2.2\" }]\n[trunk.health]\ninterval_seconds = 1\nretry_seconds = 1\ntimeout_ms = 500";
        [
            trunk("operator", "10.81.1.1", "allowed = [\"10.81.1.0/24\"]", &self.rsa),
            trunk("operator-ecdsa", "10.81.1.1:5062", "allowed = [\"10.81.1.0/24\"]", &self.ecdsa),
            trunk("service", "10.81.2.1", asked, &self.rsa),
            "[[route]]\nprefix = \"\"\nto = \"service\"\n".to_owned(),
        ]
        .concat()
    }

    /// `openssl s_client` of the caller towards the trunk with this key, with these arguments more.
    fn client(&self, key: Key, more: &[&str]) -> Result<OpenSsl> {
        let address = if key == Key::Rsa { "10.81.1.1:5061" } else { "10.81.1.1:5062" };
        let (root, own) = (self.authority.root.display().to_string(), self.peer(key));
        let (chain, key) = (own.chain.display().to_string(), own.key.display().to_string());
        let arguments = [
            "s_client",
            "-connect",
            address,
            "-CAfile",
            &root,
            "-verify_return_error",
            "-verify_hostname",
            "sbc.example.net",
            "-servername",
            "sbc.example.net",
            "-cert",
            &chain,
            "-cert_chain",
            &chain,
            "-key",
            &key,
        ];
        OpenSsl::start(&self.lab, Host::Caller, &[&arguments[..], more].concat())
    }

    /// OPTIONS in by this suite and out by it, when `openssl` has no other.
    fn agree_in_both_roles(&self, suite: &'static str, key: Key, version: &'static str) -> Result<()> {
        let mut client = self.client(key, &only(suite, version))?;
        client.send(OPTIONS)?;
        let said = client.until_says("SIP/2.0 200 OK").context(suite)?;
        // Leaf and intermediate, of which the client knows neither.
        for words in
            [format!("Cipher is {suite}"), "1 s:CN = ca issuing".to_owned(), "Verification: OK".to_owned()]
        {
            assert!(said.contains(&words), "{suite}: {words:?} not in\n{said}");
        }
        let server = self.server(key, &only(suite, version))?;
        let said = server.until_says("OPTIONS sip:").context(suite)?;
        for words in [format!("CIPHER is {suite}"), "subject=CN = sbc.example.net".to_owned()] {
            assert!(said.contains(&words), "{suite}: {words:?} not in\n{said}");
        }
        Ok(())
    }

    /// `openssl s_server` of the callee, which wants our certificate.
    fn server(&self, key: Key, more: &[&str]) -> Result<OpenSsl> {
        let (root, own) = (self.authority.root.display().to_string(), self.peer(key));
        let (chain, key) = (own.chain.display().to_string(), own.key.display().to_string());
        let arguments = [
            "s_server",
            "-accept",
            "10.81.2.2:5061",
            "-CAfile",
            &root,
            "-Verify",
            "2",
            "-verify_return_error",
            "-cert",
            &chain,
            "-cert_chain",
            &chain,
            "-key",
            &key,
        ];
        OpenSsl::start(&self.lab, Host::Callee, &[&arguments[..], more].concat())
    }
}

/// How `openssl` is told to offer this suite and nothing else.
fn only(suite: &'static str, version: &'static str) -> [&'static str; 3] {
    [version, if version == "-tls1_3" { "-ciphersuites" } else { "-cipher" }, suite]
}

// Statement 5.
#[test]
fn each_suite_alone_is_enough_when_openssl_calls_and_when_it_is_called() -> Result<()> {
    let scene = Scene::new()?;
    let _daemon = Daemon::start(&scene.lab, &scene.trunks())?;
    for (suite, key, version) in SUITES {
        scene.agree_in_both_roles(suite, key, version)?;
    }
    Ok(())
}

/// What Teams takes, all of it with RSA and TLS 1.2; the last two with CBC.
#[cfg(feature = "everything")]
const SUITES_OF_TEAMS: [&str; 4] = [
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA256",
];

#[cfg(feature = "everything")]
// Statement 3.
#[test]
fn each_suite_of_teams_alone_is_enough_in_both_roles_with_the_second_engine() -> Result<()> {
    let scene = Scene::new()?;
    let trunks = scene.trunks().replace("[trunk.tls]\n", "[trunk.tls]\nengine = \"openssl\"\n");
    let daemon = Daemon::start(&scene.lab, &trunks)?;
    for suite in SUITES_OF_TEAMS {
        scene.agree_in_both_roles(suite, Key::Rsa, "-tls1_2")?;
    }
    assert!(daemon.status()?.certificates.iter().all(|certificate| certificate.engine == "openssl"));
    // Who shows no certificate is closed, as with the first.
    let root = scene.authority.root.display().to_string();
    let nobody = ["s_client", "-connect", "10.81.1.1:5061", "-tls1_2", "-CAfile", &root];
    let mut nobody = OpenSsl::start(&scene.lab, Host::Caller, &nobody)?;
    assert!(!nobody.ends()?.success(), "{}", nobody.output());
    until(SOON, || Ok((daemon.metric("causeway_tls_handshakes_failed_total")? >= 1).then_some(())))
}

// Statements 2, 4.
#[test]
fn old_versions_and_other_suites_get_no_handshake_in_either_role() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::start(&scene.lab, &scene.trunks())?;
    for (version, suite) in REFUSED {
        let failed = || daemon.metric("causeway_tls_handshakes_failed_total");
        let before = failed()?;
        let mut client = scene.client(Key::Rsa, &only(suite, version))?;
        assert!(!client.ends()?.success(), "{version} {suite}: {}", client.output());
        until(SOON, || Ok((failed()? > before).then_some(())))
            .with_context(|| format!("{version} {suite}"))?;

        let before = failed()?;
        let server = scene.server(Key::Rsa, &only(suite, version))?;
        until(SOON, || Ok((failed()? > before).then_some(()))).with_context(|| server.output())?;
        assert!(!server.output().contains("OPTIONS sip:"), "{version} {suite}");
    }
    Ok(())
}

// Statement 8.
#[test]
fn a_caller_without_a_certificate_or_with_another_name_is_closed() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::start(&scene.lab, &scene.trunks())?;
    let other = scene.authority.issue("other", &["other.example.net"], Key::Rsa)?;
    let stranger = Authority::new(scene.lab.directory(), "stranger")?.issue(
        "forged",
        &["peer.example.net"],
        Key::Rsa,
    )?;
    let shown = |own: &Credentials| {
        vec![
            "-cert".to_owned(),
            own.chain.display().to_string(),
            "-key".to_owned(),
            own.key.display().to_string(),
        ]
    };
    for (arguments, why) in
        [(vec![], "no_certificate"), (shown(&other), "other_name"), (shown(&stranger), "unknown_issuer")]
    {
        let root = scene.authority.root.display().to_string();
        let fixed = ["s_client", "-connect", "10.81.1.1:5061", "-tls1_2", "-CAfile", &root];
        let arguments: Vec<&str> = fixed.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let mut client = OpenSsl::start(&scene.lab, Host::Caller, &arguments)?;
        assert!(!client.ends()?.success(), "{why}: {}", client.output());
    }
    until(SOON, || Ok((daemon.metric("causeway_tls_handshakes_failed_total")? >= 3).then_some(())))
}

// Statements 10, 12.
#[test]
fn a_reload_shows_the_new_certificate_and_leaves_open_connections_alone() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::start(&scene.lab, &scene.trunks())?;
    let server = scene.server(Key::Rsa, &[])?;
    server.until_says("OPTIONS sip:")?;
    let mut before = scene.client(Key::Rsa, &[])?;
    before.send(OPTIONS)?;
    before.until_says("SIP/2.0 200 OK")?;
    let status = daemon.status()?;
    assert_eq!(status.certificates.len(), 3);
    // Another certificate in the same files.
    scene.authority.issue("rsa", &["sbc.example.net", "renewed.example.net"], Key::Rsa)?;
    daemon.signal("HUP")?;
    let after = until(SOON, || {
        let mut client = scene.client(Key::Rsa, &["-verify_hostname", "renewed.example.net"])?;
        // One that is shown the old certificate ends.
        let sent = client.send(OPTIONS);
        Ok(sent.and_then(|()| client.until_says("SIP/2.0 200 OK")).ok())
    });
    after.context("the new certificate is not shown")?;
    before.send(&OPTIONS.replace("z9hG4bKx", "z9hG4bKy").replace("Call-ID: x", "Call-ID: y"))?;
    before.until_says("Call-ID: y")?;
    // Our own connections are made anew, with the new certificate.
    drop(server);
    let server = scene.server(Key::Rsa, &[])?;
    let said = server.until_says("OPTIONS sip:")?;
    let renewed = fs::read_to_string(&scene.rsa.chain)?;
    let leaf = renewed.split_inclusive("-----END CERTIFICATE-----").next().unwrap_or_default();
    assert!(said.contains(&leaf.replace("\r\n", "\n")), "not the new certificate:\n{said}");
    Ok(())
}

#[test]
fn a_certificate_that_will_not_do_is_not_taken_by_a_reload() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::start(&scene.lab, &scene.trunks())?;
    scene.authority.issue("rsa", &["elsewhere.example.net"], Key::Rsa)?;
    let output = daemon.command(&["reload"])?.output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("is for elsewhere.example.net, not for sbc.example.net"),
        "{told}"
    );
    let mut client = scene.client(Key::Rsa, &[])?;
    client.send(OPTIONS)?;
    client.until_says("SIP/2.0 200 OK").map(drop)
}

/// Kamailio with TLS in front of the gateway and behind it, and a plain phone beside each.
struct Proxies<'a> {
    daemon: Daemon<'a>,
    front: Kamailio,
    behind: Kamailio,
}

impl<'a> Proxies<'a> {
    fn start(scene: &'a Scene) -> Result<Self> {
        let trunks =
            scene.trunks().replace("allowed = [\"10.81.1.0/24\"]", "peers = [{ address = \"10.81.1.2\" }]");
        let trunks = trunks.replace("[[trunk]]\nname = \"operator-ecdsa\"", "[[trunk]]\nname = \"other\"");
        let kamailio = |host, own: &Credentials| Kamailio::start(&scene.lab, host, &scene.authority, own);
        Ok(Self {
            front: kamailio(Host::Caller, scene.peer(Key::Rsa))?,
            behind: kamailio(Host::Callee, scene.peer(Key::Ecdsa))?,
            daemon: Daemon::start(&scene.lab, &trunks)?,
        })
    }

    fn phone(&self, lab: &Lab, host: Host) -> Result<Phone> {
        Phone::behind(lab, host, &Kamailio::plain_address(host))
    }
}

// Statement 1.
#[test]
fn calls_go_through_kamailio_with_tls_in_front_and_behind() -> Result<()> {
    let scene = Scene::new()?;
    let proxies = Proxies::start(&scene)?;
    let callee =
        Sipp::callee(&scene.lab, "uas", 5060, &["-m", "20", "-rsa", &Kamailio::plain_address(Host::Callee)])?;
    let proxy = Kamailio::plain_address(Host::Caller);
    let caller = Sipp::caller(
        &scene.lab,
        "uac",
        &["-m", "20", "-r", "20", "-d", "300", "-s", "0800", "-rsa", &proxy],
    )?;
    let outcome =
        caller.finish().with_context(|| format!("{}{}", proxies.front.log(), proxies.behind.log()))?;
    assert_eq!((outcome.successful, callee.finish()?.successful), (20, 20));
    for record in proxies.daemon.records(20)? {
        assert_eq!((record.sip_status, record.to_trunk.as_deref()), (200, Some("service")));
    }
    for log in [proxies.front.log(), proxies.behind.log()] {
        assert!(log.contains("LOOK tls") && !log.contains("sips seen"), "{log}");
    }
    Ok(())
}

// Statements 11, 12, 13, 14.
#[test]
fn either_side_hangs_up_through_kamailio_and_requests_go_by_connections_of_the_sender() -> Result<()> {
    let scene = Scene::new()?;
    let proxies = Proxies::start(&scene)?;
    let mut caller = proxies.phone(&scene.lab, Host::Caller)?;
    let mut callee = proxies.phone(&scene.lab, Host::Callee)?;
    for round in 0..3 {
        let logs = || format!("{}{}", proxies.front.log(), proxies.behind.log());
        let (mut from, mut to) = connect(&mut caller, &mut callee, 30_000).with_context(logs)?;
        if round == 1 {
            caller.hang_up(&mut from)?;
            callee.be_hung_up(&to)?;
        } else {
            callee.hang_up(&mut to)?;
            caller.be_hung_up(&from)?;
        }
    }
    proxies.daemon.records(3)?;
    // At each proxy, requests of the gateway came by other connections than answers of the gateway.
    for log in [proxies.front.log(), proxies.behind.log()] {
        let lines = log.lines().filter_map(|line| line.split_once("LOOK tls conid=").map(|(_, rest)| rest));
        let seen: Vec<Vec<&str>> = lines.map(|rest| rest.split(' ').collect()).collect();
        let by = |is_answer: bool| -> std::collections::BTreeSet<&str> {
            let kind = seen.iter().filter(|words| words[1].parse::<u16>().is_ok() == is_answer);
            kind.map(|words| words[0]).collect()
        };
        let (requests, answers) = (by(false), by(true));
        assert!(!requests.is_empty() && !answers.is_empty() && requests.is_disjoint(&answers), "{log}");
        // One for each worker of the gateway, and no more: idle ones are used again.
        assert!(requests.len() <= 2, "{requests:?}");
    }
    Ok(())
}

// Statements 11, 12.
#[test]
fn a_request_inside_a_dialog_may_come_by_a_new_connection_from_another_allowed_address() -> Result<()> {
    let scene = Scene::new()?;
    let trunks = scene.trunks();
    let (tls, _) = trunks.split_once("[[trunk]]\nname = \"service\"").context("the last trunk")?;
    let daemon = Daemon::start(&scene.lab, &format!("{tls}{SERVICE}{TO_SERVICE}"))?;
    let _callee = Sipp::callee(&scene.lab, "uas", 5060, &[])?;
    let mut add = scene.lab.command(Host::Caller, "ip");
    assert!(add.args(["address", "add", "10.81.1.9/24", "dev", "to-gateway"]).status()?.success());

    let mut first = scene.client(Key::Rsa, &[])?;
    let sdp = "v=0\r\no=- 1 1 IN IP4 10.81.1.2\r\ns=-\r\nc=IN IP4 10.81.1.2\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n";
    let invite = request("INVITE", 1, "", sdp);
    first.send(&invite)?;
    let said = first.until_says("SIP/2.0 200 OK")?;
    let to = said.lines().rfind(|line| line.starts_with("To: ")).context("a To header")?;
    let tag = to.split_once(";tag=").context("the gateway's tag")?.1.trim();
    first.send(&request("ACK", 1, tag, ""))?;
    until(SOON, || Ok((daemon.status()?.calls == 1).then_some(())))?;

    let mut second = scene.client(Key::Rsa, &["-bind", "10.81.1.9"])?;
    second.send(&request("BYE", 2, tag, ""))?;
    let said = second.until_says("CSeq: 2 BYE")?;
    assert!(said.contains("SIP/2.0 200 OK"), "{said}");
    assert!(!first.output().contains("CSeq: 2 BYE"), "{}", first.output());
    let record = daemon.records(1)?.pop().context("a record")?;
    assert_eq!((record.sip_status, record.to_trunk.as_deref()), (200, Some("service")));
    Ok(())
}

const TO_SERVICE: &str = "\n[[route]]\nprefix = \"\"\nto = \"service\"\n";

/// A request of one call; `tag` is the gateway's once it is known.
fn request(method: &str, sequence: u32, tag: &str, sdp: &str) -> String {
    let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
    let content_type = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:0800@10.81.1.1:5061;transport=tls SIP/2.0\r\n\
         Via: SIP/2.0/TLS 10.81.1.2:5061;branch=z9hG4bK{method}{sequence}\r\nMax-Forwards: 70\r\n\
         From: <sip:phone@peer.example.net>;tag=1\r\nTo: <sip:0800@10.81.1.1>{tag}\r\nCall-ID: moving\r\n\
         CSeq: {sequence} {method}\r\nContact: <sip:phone@10.81.1.2:5061;transport=tls>\r\n{content_type}\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}
