//! Registering with Kamailio, which asks for a password and calls us where we said that we are.

use anyhow::{Context as _, Result};
use gateway_userspace::admin::answer::TrunkList;
use gateway_userspace::policy::RegistrationState;
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
