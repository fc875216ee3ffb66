//! Registering with Kamailio, which asks for a password and calls us where we said that we are.

use anyhow::{Context as _, Result};
use gateway_userspace::admin::answer::TrunkList;
use gateway_userspace::policy::RegistrationState;
use support::certificate::{Authority, Key};
use support::daemon::{Daemon, SOON};
use support::kamailio::Kamailio;
use support::lab::{Host, Lab};
use support::phone::{Phone, connect};
use support::process::until;

fn trunks(password: &str) -> String {
    format!(
        r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
peers = [{{ address = "10.81.1.2:5060" }}]

[[trunk]]
name = "core"
listen = "udp:10.81.2.1:5060"
peers = [{{ address = "{}" }}]
allowed = ["10.81.2.0/24"]
default_to = "operator"
registration = {{ domain = "core.example", user = "0800", expires_seconds = 60 }}
digest = {{ realm = "core.example", user = "0800", password = "{password}" }}
"#,
        Kamailio::plain_address(Host::Callee)
    )
}

fn state(daemon: &Daemon<'_>) -> Result<Option<RegistrationState>> {
    let list: TrunkList = daemon.ask(&["trunks"])?;
    let core = list.trunks.into_iter().find(|trunk| trunk.trunk == "core");
    let peer = core.and_then(|trunk| trunk.peers.into_iter().next()).context("the core has a peer")?;
    Ok(peer.registration)
}

fn until_state(daemon: &Daemon<'_>, registrar: &Kamailio, wanted: RegistrationState) -> Result<()> {
    until(SOON, || Ok((state(daemon)? == Some(wanted)).then_some(())))
        .with_context(|| format!("{wanted:?} does not come:\n{}{}", daemon.log(), registrar.log()))
}

#[test]
fn kamailio_knows_us_by_our_password_calls_us_and_is_told_when_we_drain() -> Result<()> {
    let lab = Lab::new()?;
    let registrar = Kamailio::registrar(&lab)?;
    let daemon = Daemon::start(&lab, &trunks("Circle of Life"))?;
    until_state(&daemon, &registrar, RegistrationState::Registered)?;
    let log = registrar.log();
    assert!(log.contains("LOOK asked") && log.contains("LOOK known as 0800 expires 60"), "{log}");

    let mut caller = Phone::behind(&lab, Host::Callee, &Kamailio::plain_address(Host::Callee))?;
    let mut callee = Phone::new(&lab, Host::Caller)?;
    let logs = || format!("{}{}", daemon.log(), registrar.log());
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000).with_context(logs)?;
    caller.hang_up(&mut from).with_context(logs)?;
    callee.be_hung_up(&to).with_context(logs)?;
    let record = daemon.records(1)?.remove(0);
    assert_eq!((record.called.as_str(), record.sip_status), ("0800", 200));

    daemon.signal("TERM")?;
    let left = || Ok(registrar.log().contains("LOOK known as 0800 expires 0").then_some(()));
    until(SOON, left).with_context(logs)?;
    Ok(())
}

#[test]
fn a_wrong_password_is_told_and_not_tried_over_and_over() -> Result<()> {
    let lab = Lab::new()?;
    let registrar = Kamailio::registrar(&lab)?;
    let daemon = Daemon::start(&lab, &trunks("wrong"))?;
    until_state(&daemon, &registrar, RegistrationState::Failed)?;
    assert!(daemon.log().contains("not registered"), "{}", daemon.log());
    assert!(!daemon.log().contains("wrong"), "the password is in no log");
    assert_eq!(registrar.log().matches("LOOK asked").count(), 2, "{}", registrar.log());
    Ok(())
}

/// The operator's phone, and a core where our connection is registered as a flow.
fn flows(scheme: &str, more: &str) -> String {
    format!(
        r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
peers = [{{ address = "10.81.1.2:5060" }}]
default_to = "core"

[[trunk]]
name = "core"
listen = "{scheme}:10.81.2.1:5061"
peers = [{{ address = "10.81.2.2:5061" }}]
default_to = "operator"
{more}
[trunk.registration]
domain = "core.example"
user = "0800"
expires_seconds = 120
instance = "urn:uuid:6fa459ea-ee8a-4ca4-894e-db77e160355e"
[trunk.digest]
realm = "core.example"
user = "0800"
password = "Circle of Life"
"#
    )
}

/// Calls both ways by the one connection that the registrar knows us by, which opens and is registered again when it breaks.
fn calls_by_a_flow(lab: &Lab, registrar: &Kamailio, trunks: &str) -> Result<()> {
    let daemon = Daemon::start(lab, trunks)?;
    until_state(&daemon, registrar, RegistrationState::Registered)?;
    let logs = || format!("{}{}", daemon.log(), registrar.log());
    let mut beside = Phone::behind(lab, Host::Callee, &Kamailio::plain_address(Host::Callee))?;
    let mut ours = Phone::new(lab, Host::Caller)?;
    let (mut from, to) = connect(&mut beside, &mut ours, 30_000).with_context(logs)?;
    beside.hang_up(&mut from).with_context(logs)?;
    ours.be_hung_up(&to).with_context(logs)?;
    let log = registrar.log();
    let called = log.lines().find_map(|line| line.split_once("LOOK calls ")).context(log.clone())?.1;
    let by = called.rsplit_once(" by sip:10.81.2.1:").context(called.to_owned())?.1;
    assert!(!by.starts_with("5061"), "by our own connection, not to where we listen: {called}");

    let (mut from, to) = connect(&mut ours, &mut beside, 30_100).with_context(logs)?;
    ours.hang_up(&mut from).with_context(logs)?;
    beside.be_hung_up(&to).with_context(logs)?;
    let log = registrar.log();
    assert!(log.contains("LOOK called with Route <sip:10.81.2.2:5061;transport=t"), "{log}");
    assert_eq!(daemon.records(2)?.iter().filter(|record| record.sip_status == 200).count(), 2);
    Ok(())
}

#[test]
fn kamailio_calls_us_by_the_tcp_connection_that_we_registered() -> Result<()> {
    let lab = Lab::new()?;
    let registrar = Kamailio::registrar_of_flows(&lab, None)?;
    calls_by_a_flow(&lab, &registrar, &flows("tcp", ""))
}

#[test]
fn kamailio_calls_us_by_the_tls_connection_that_we_registered() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new(lab.directory(), "ca")?;
    let theirs = authority.issue("core", &["core.example"], Key::Rsa)?;
    let own = authority.issue("own", &["10.81.2.1"], Key::Rsa)?;
    let registrar = Kamailio::registrar_of_flows(&lab, Some((&authority, &theirs)))?;
    let tls = format!(
        "[trunk.tls]\n{}\nroots = [\"{}\"]\npeer_names = [\"core.example\"]\n",
        own.fields(),
        authority.root.display()
    );
    calls_by_a_flow(&lab, &registrar, &flows("tls", &tls))
}
