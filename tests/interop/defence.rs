//! Floods, scans and denials at the SIP sockets: the kernel drops what is not to be heard, and calls do not notice.

use anyhow::{Result, bail};
use gateway_userspace::admin::answer::{DeniedList, Done, Drops};
use std::io::ErrorKind;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::flood::{Flood, nobody};
use support::lab::{Host, Lab};
use support::phone::{Phone, connect};
use support::process::until;
use support::sipp::Sipp;

/// Packets that the kernel has to drop beside the calls.
const FLOOD: u64 = 50_000;
const STRANGER: &str = "10.81.2.99";

#[test]
fn a_flood_of_unknown_and_forged_sources_is_dropped_beside_calls_that_all_complete() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let scanner = stranger(&lab)?;
    let callee = Sipp::callee(&lab, "uas", 5060, &["-m", "200"])?;
    let mut caller = Sipp::caller(&lab, "uac", &["-m", "200", "-r", "40", "-d", "500"])?;
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| -> Result<usize> {
        let flood = scope.spawn(|| flood(&lab, &over));
        while caller.is_running()? || dropped(&daemon)? < FLOOD {
            for _ in 0..500 {
                scanner.send_to(&options("scan"), "10.81.2.1:5060")?;
            }
            if flood.is_finished() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        flood.join().expect("the sender does not panic")
    })?;
    assert_eq!(caller.finish()?.successful, 200);
    assert_eq!(callee.finish()?.successful, 200);

    let drops: Drops = daemon.ask(&["drops"])?;
    eprintln!("{sent} packets of forged sources: {:?}", drops.packets);
    assert!(dropped(&daemon)? >= FLOOD, "{sent} sent, {drops:?}");
    for reason in ["unknown_source", "source_denied", "source_rate"] {
        let line = drops.packets.iter().find(|line| line.reason == reason);
        assert!(line.is_some_and(|line| line.count > 0 && !line.explanation.is_empty()), "{drops:?}");
    }
    let scrape = daemon.http("/metrics")?;
    assert!(scrape.contains("causeway_packets_dropped_total{reason=\"unknown_source\"}"), "{scrape}");
    // Nobody answered the scanner, by datagram or by connection, and who it is is known.
    assert_silent(&scanner)?;
    let connection = lab.on(Host::Callee, || {
        let from: SocketAddrV4 = format!("{STRANGER}:0").parse()?;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&from.into())?;
        let to: SocketAddrV4 = "10.81.2.1:5060".parse()?;
        Ok(socket.connect_timeout(&to.into(), Duration::from_millis(1500)).map_err(|error| error.kind()))
    })?;
    assert_eq!(connection, Err(ErrorKind::TimedOut));
    let denied: DeniedList = daemon.ask(&["denied"])?;
    let line = denied.denied.iter().find(|line| line.source == STRANGER);
    assert!(line.is_some_and(|line| line.cause == "scan" && line.left_ms > 0), "{denied:?}");
    assert!(daemon.metric("causeway_sources_denied_total")? > 0);
    assert!(daemon.metric("causeway_denied")? > 0);
    Ok(())
}

#[test]
fn the_operator_denies_and_allows_by_command_and_a_trunk_only_by_force() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut phone = Phone::new(&lab, Host::Caller)?;
    hears(&mut phone)?;
    let refused = daemon.ask::<Done>(&["deny", "10.81.0.0/16"]).unwrap_err().to_string();
    assert!(refused.contains("trunk operator") && refused.contains("--force"), "{refused}");
    hears(&mut phone)?;

    daemon.ask::<Done>(&["deny", "10.81.1.2", "--force", "--for", "10m"])?;
    let denied: DeniedList = daemon.ask(&["denied"])?;
    let [line] = &denied.denied[..] else { bail!("{denied:?}") };
    assert_eq!((line.source.as_str(), line.cause.as_str()), ("10.81.1.2", "operator"));
    assert!((500_000..=600_000).contains(&line.left_ms), "{line:?}");
    phone.send_raw(&options("denied"))?;
    until(SOON, || Ok((count(&daemon, "source_denied")? == 1).then_some(())))?;
    assert!(daemon.ask::<Done>(&["allow", "10.81.1.3"]).is_err());

    daemon.ask::<Done>(&["allow", "10.81.1.0/24"])?;
    assert_eq!(daemon.ask::<DeniedList>(&["denied"])?.denied, []);
    // Had the one before been answered, that answer would come first.
    hears(&mut phone)?;

    daemon.ask::<Done>(&["deny", "10.81.1.2", "--force", "--for", "1s"])?;
    until(SOON, || {
        phone.send_raw(&options("again"))?;
        Ok((count(&daemon, "source_denied")? > 1).then_some(()))
    })?;
    until(SOON, || Ok(daemon.ask::<DeniedList>(&["denied"])?.denied.is_empty().then_some(())))?;
    hears(&mut phone)
}

#[test]
fn the_guard_stands_while_the_daemon_is_dead_and_the_next_one_takes_it_over() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    daemon.ask::<Done>(&["deny", "192.0.2.0/24"])?;
    let scanner = stranger(&lab)?;
    daemon.kill()?;

    let pins = lab.pins().display().to_string();
    let ask = |question: &str| daemon.ask::<serde_json::Value>(&[question, "--pins", &pins]);
    let denied = ask("denied")?;
    assert_eq!(denied["denied"][0]["source"], "192.0.2.0/24", "{denied}");
    for _ in 0..1_000 {
        // With nobody on the socket, what gets through meets a refusal.
        if let Err(error) = scanner.send_to(&options("scan"), "10.81.2.1:5060") {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    }
    let unknown = until(SOON, || {
        let drops = ask("drops")?;
        let lines = drops["packets"].as_array().cloned().unwrap_or_default();
        let line = lines.iter().find(|line| line["reason"] == "unknown_source");
        Ok(line.and_then(|line| line["count"].as_u64()).filter(|count| *count >= 900))
    })?;

    let daemon = daemon.restart()?;
    assert_eq!(daemon.ask::<DeniedList>(&["denied"])?.denied[0].source, "192.0.2.0/24");
    assert!(count(&daemon, "unknown_source")? >= unknown, "the next daemon made maps of its own");
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to).map(drop)
}

#[test]
fn a_reload_lets_in_who_is_new_and_a_guard_that_is_off_lets_all_through() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    lab.on(Host::Callee, || support::namespace::ip(&format!("address add {STRANGER}/24 dev to-gateway")))?;
    let connects = || {
        lab.on(Host::Callee, || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&format!("{STRANGER}:0").parse::<SocketAddrV4>()?.into())?;
            let to: SocketAddrV4 = "10.81.2.1:5060".parse()?;
            Ok(socket.connect_timeout(&to.into(), Duration::from_secs(1)).is_ok())
        })
    };
    assert!(!connects()?);
    let wider = "peers = [{ address = \"10.81.2.2:5060\" }]\nallowed = [\"10.81.2.0/24\"]";
    let known = TRUNKS.replace("peers = [{ address = \"10.81.2.2:5060\" }]", wider);
    daemon.rewrite(&known)?;
    daemon.ask::<Done>(&["reload"])?;
    assert!(connects()?);
    daemon.rewrite(TRUNKS)?;
    daemon.ask::<Done>(&["reload"])?;
    assert!(!connects()?);
    daemon.rewrite(&format!("[defence]\nenabled = false\n{TRUNKS}"))?;
    daemon.ask::<Done>(&["reload"])?;
    // The daemon itself closes it before a word.
    assert!(connects()?);
    let refused = daemon.ask::<Done>(&["deny", "192.0.2.1"]).unwrap_err().to_string();
    assert!(refused.contains("enabled = false"), "{refused}");
    Ok(())
}

/// Requests and responses from everywhere to the sockets of both sides, until it is told to stop.
fn flood(lab: &Lab, over: &AtomicBool) -> Result<usize> {
    let mut sides = [
        (Flood::new(lab, Host::Caller)?, "10.81.1.1:5060".parse::<SocketAddrV4>()?),
        (Flood::new(lab, Host::Callee)?, "10.81.2.1:5060".parse()?),
    ];
    let request = options("flood");
    let response = String::from_utf8(request.clone())?;
    let response = response.replace("OPTIONS sip:gateway@10.81.1.1 SIP/2.0", "SIP/2.0 200 OK").into_bytes();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        for (flood, to) in &mut sides {
            number += 1;
            // A fifth are responses, every second of them from one source, which is too fast for it.
            let (source, payload) = match number % 10 {
                0 | 1 => (nobody(0), &response),
                5 => (nobody(number), &response),
                _ => (nobody(number), &request),
            };
            flood.send(SocketAddrV4::new(source, 5060), *to, payload)?;
        }
    }
    Ok(number)
}

/// A socket of an address on the callee's network that no trunk allows.
fn stranger(lab: &Lab) -> Result<UdpSocket> {
    lab.on(Host::Callee, || {
        support::namespace::ip(&format!("address add {STRANGER}/24 dev to-gateway"))?;
        Ok(UdpSocket::bind(format!("{STRANGER}:5060"))?)
    })
}

fn assert_silent(socket: &UdpSocket) -> Result<()> {
    socket.set_nonblocking(true)?;
    let answer = socket.recv(&mut [0; 1500]).map_err(|error| error.kind());
    assert_eq!(answer, Err(ErrorKind::WouldBlock));
    Ok(())
}

/// What the guard has dropped.
fn dropped(daemon: &Daemon<'_>) -> Result<u64> {
    let drops: Drops = daemon.ask(&["drops"])?;
    let guard = ["unknown_source", "source_denied", "source_rate"];
    let lines = drops.packets.iter().filter(|line| guard.contains(&line.reason.as_str()));
    Ok(lines.map(|line| line.count).sum())
}

fn count(daemon: &Daemon<'_>, reason: &str) -> Result<u64> {
    let drops: Drops = daemon.ask(&["drops"])?;
    Ok(drops.packets.iter().find(|line| line.reason == reason).map_or(0, |line| line.count))
}

fn options(name: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:gateway@10.81.1.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.81.1.2:5060;branch=z9hG4bK{name}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@10.81.1.2>;tag=1\r\nTo: <sip:gateway@10.81.1.1>\r\n\
         Call-ID: {name}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// The phone's next question is the next one that is answered.
fn hears(phone: &mut Phone) -> Result<()> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("alive{}", COUNT.fetch_add(1, Ordering::Relaxed));
    phone.send_raw(&options(&name))?;
    let answer = phone.receive("an answer", |_| true)?;
    assert_eq!((answer.status(), answer.header("Call-ID")), (Some(200), name.as_str()));
    Ok(())
}
