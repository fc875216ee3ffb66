//! Peers by name, with dnsmasq to say where they are.

use anyhow::{Context as _, Result};
use gateway_userspace::admin::answer::TrunkList;
use support::daemon::{Daemon, SOON};
use support::lab::{Host, Lab};
use support::process::{Process, until};
use support::sipp::Sipp;

/// The service is a name without port: NAPTR, SRV and addresses decide.
const TRUNKS: &str = r#"
[dns]
servers = ["10.81.2.2"]

[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
allowed = ["10.81.1.0/24"]

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{ address = "service.example" }]
allowed = ["10.81.2.0/24"]
peer_timeout_ms = 1000

[[route]]
prefix = ""
from = "operator"
to = "service"
"#;

/// dnsmasq on the callee, with records that live for a second. The service is at these ports, the first preferred.
fn dnsmasq(lab: &Lab, ports: &[u16]) -> Result<Process> {
    let mut command = lab.command(Host::Callee, "dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
    ]);
    command.args(["--pid-file=", "--listen-address=10.81.2.2", "--bind-interfaces", "--local-ttl=1"]);
    command.args(["--local=/example/", "--host-record=uas.service.example,10.81.2.2"]);
    command.arg("--naptr-record=service.example,10,10,s,SIP+D2U,,_sip._udp.nodes.service.example");
    command.arg("--naptr-record=service.example,1,1,s,SIP+D2T,,_sip._tcp.elsewhere.example");
    for (priority, port) in ports.iter().enumerate() {
        let record = format!("_sip._udp.nodes.service.example,uas.service.example,{port},{priority},10");
        command.arg(format!("--srv-host={record}"));
    }
    let dns = lab.start("dnsmasq", command)?;
    until(SOON, || Ok(dns.listens(53)?.then_some(()))).with_context(|| dns.output())?;
    Ok(dns)
}

/// Waits until the service is at these ports of the callee.
fn means(daemon: &Daemon<'_>, ports: &[u16]) -> Result<()> {
    let wanted: Vec<String> = ports.iter().map(|port| format!("10.81.2.2:{port}")).collect();
    let means = until(SOON, || {
        let trunks = daemon.ask::<TrunkList>(&["trunks"])?.trunks;
        let service = trunks.iter().find(|trunk| trunk.trunk == "service").context("no such trunk")?;
        let mut now: Vec<String> =
            service.peers.iter().filter_map(|peer| peer.address.map(|at| at.to_string())).collect();
        now.sort();
        Ok((now == wanted).then_some(()))
    });
    means.with_context(|| format!("not {wanted:?}:\n{}", daemon.log()))
}

fn call(lab: &Lab, port: u16) -> Result<()> {
    let callee = Sipp::callee(lab, "uas", port, &["-m", "3"])?;
    let caller = Sipp::caller(lab, "uac", &["-m", "3", "-d", "100"])?;
    assert_eq!((caller.finish()?.successful, callee.finish()?.successful), (3, 3));
    Ok(())
}

// Statement 21.
#[test]
fn a_name_leads_by_naptr_and_srv_to_the_preferred_address_and_follows_the_dns() -> Result<()> {
    let lab = Lab::new()?;
    let mut dns = dnsmasq(&lab, &[5061, 5062])?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    means(&daemon, &[5061, 5062])?;
    call(&lab, 5061)?;
    // The service moves while the daemon runs.
    dns.kill()?;
    let mut dns = dnsmasq(&lab, &[5063])?;
    means(&daemon, &[5063])?;
    call(&lab, 5063)?;
    // Nobody answers any more, and the records are long over.
    dns.kill()?;
    until(SOON, || Ok(daemon.log().contains("the DNS does not answer").then_some(())))?;
    means(&daemon, &[5063])?;
    call(&lab, 5063)?;
    for (record, port) in
        daemon.records(9)?.iter().zip([5061, 5061, 5061, 5063, 5063, 5063, 5063, 5063, 5063])
    {
        assert_eq!((record.sip_status, record.peer.map(|peer| peer.port())), (200, Some(port)));
    }
    Ok(())
}

#[test]
fn a_name_that_means_nothing_yet_gets_no_calls_and_comes_into_force_by_itself() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    means(&daemon, &[])?;
    let _dns = dnsmasq(&lab, &[5061])?;
    means(&daemon, &[5061])?;
    call(&lab, 5061)
}
