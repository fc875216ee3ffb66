//! Calls between a phone that speaks SRTP and one that speaks plain RTP, with the audio of both ends looked at.

use anyhow::{Context, Result, ensure};
use gateway_userspace::admin::answer::{Drops, FlowList};
use gateway_userspace::dataplane::reference::SILENCE;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use support::baresip::{Baresip, Setup};
use support::daemon::{Daemon, SOON};
use support::lab::{Host, Lab};
use support::phone::Phone;
use support::process::until;
use support::stream::PACKET_TIME;
use support::wire::Rtp;

const LOW: f64 = 440.0;
const HIGH: f64 = 1000.0;

/// Two trunks and a route between them each way; `media` are fields of the service's `[trunk.media]`.
fn trunks(media: &str) -> String {
    let trunk = |name: &str, ours: &str, theirs: &str| {
        format!(
            "[[trunk]]\nname = \"{name}\"\nlisten = \"udp:{ours}:5060\"\npeers = [{{ address = \"{theirs}:5060\" }}]\n"
        )
    };
    let route =
        |from: &str, to: &str| format!("[[route]]\nprefix = \"\"\nfrom = \"{from}\"\nto = \"{to}\"\n");
    [
        trunk("operator", "10.81.1.1", "10.81.1.2"),
        trunk("service", "10.81.2.1", "10.81.2.2"),
        format!("[trunk.media]\n{media}\n"),
        route("operator", "service"),
        route("service", "operator"),
    ]
    .concat()
}

/// Alice without SRTP on the caller's side, Bob with nothing but SRTP on the callee's; either may call.
fn phones<'a>(lab: &'a Lab, alice_calls: bool) -> Result<(Baresip<'a>, Baresip<'a>)> {
    let alice = Setup::new(Host::Caller, "alice", LOW);
    let bob = Setup { account: ";mediaenc=srtp-mand", ..Setup::new(Host::Callee, "bob", HIGH) };
    if alice_calls {
        let bob = Baresip::start(lab, bob)?;
        Ok((Baresip::start(lab, Setup { dials: Some("sip:bob@10.81.1.1"), ..alice })?, bob))
    } else {
        let alice = Baresip::start(lab, alice)?;
        Ok((alice, Baresip::start(lab, Setup { dials: Some("sip:alice@10.81.2.1"), ..bob })?))
    }
}

pub(super) fn no_tag_was_wrong(daemon: &Daemon<'_>) -> Result<()> {
    let drops = daemon.ask::<Drops>(&["drops"])?.packets;
    let wrong: Vec<_> =
        drops.iter().filter(|line| ["bad_tag", "replayed"].contains(&&*line.reason)).collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

// Statement 130.
#[test]
fn a_plain_caller_and_a_secured_callee_hear_each_other_by_each_suite() -> Result<()> {
    // What this phone knows.
    for suite in ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"] {
        let lab = Lab::new()?;
        let media = format!("security = \"required\"\nsuites = [\"{suite}\"]");
        let daemon = Daemon::start_over_sockets(&lab, &trunks(&media))?;
        let (alice, bob) = phones(&lab, true)?;
        bob.hears(LOW, HIGH, 0.99)?;
        alice.hears(HIGH, LOW, 0.99)?;
        no_tag_was_wrong(&daemon)?;
        alice.hang_up()?;
        let [record] = <[_; 1]>::try_from(daemon.records(1)?).expect("one record");
        assert_eq!((record.sip_status, record.from_caller.lost, record.from_callee.lost), (200, 0, 0));
        assert!(!daemon.log().contains("inline:"), "a key in the log");
    }
    Ok(())
}

// Statement 131.
#[test]
fn a_secured_caller_and_a_plain_callee_hear_each_other() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks("security = \"required\""))?;
    let (alice, bob) = phones(&lab, false)?;
    bob.hears(LOW, HIGH, 0.99)?;
    alice.hears(HIGH, LOW, 0.99)?;
    no_tag_was_wrong(&daemon)?;
    bob.hang_up()?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}

/// Packets that each flow of media has relayed and not swallowed, in the order of where they arrive.
fn relayed(daemon: &Daemon<'_>) -> Result<Vec<(SocketAddr, u64)>> {
    let flows = daemon.ask::<FlowList>(&["flows"])?.flows.into_iter();
    let mut media: Vec<_> =
        flows.filter(|flow| flow.kind != "rtcp" && !flow.muted).map(|flow| (flow.at, flow.packets)).collect();
    media.sort();
    Ok(media)
}

// Statement 139.
#[test]
fn after_hold_and_resume_from_either_side_packets_flow_both_ways_and_both_ends_can_read_them() -> Result<()> {
    const SECOND: u64 = 50;
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks("security = \"required\""))?;
    let (alice, bob) = phones(&lab, true)?;
    bob.hears(LOW, HIGH, 0.99)?;
    // This phone's recordings end when it is held, so that packets are counted instead.
    for phone in [&alice, &bob] {
        phone.command("hold")?;
        until(SOON, || Ok((relayed(&daemon)?.len() < 2).then_some(())))?;
        phone.command("resume")?;
        let before = until(SOON, || Ok(Some(relayed(&daemon)?).filter(|media| media.len() == 2)))?;
        until(SOON, || {
            let now = relayed(&daemon)?;
            let flows =
                |(now, before): (&(SocketAddr, u64), &(SocketAddr, u64))| now.1 >= before.1 + 2 * SECOND;
            Ok((now.len() == 2 && now.iter().zip(&before).all(flows)).then_some(()))
        })?;
    }
    no_tag_was_wrong(&daemon)?;
    assert!(!bob.output().contains("failed to decrypt"), "{}", bob.output());
    alice.hang_up()?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}

// Statement 232.
#[test]
fn a_phone_without_srtp_takes_an_offer_of_either() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks("security = \"offered\""))?;
    let bob = Baresip::start(&lab, Setup::new(Host::Callee, "bob", HIGH))?;
    let dials = Setup { dials: Some("sip:bob@10.81.1.1"), ..Setup::new(Host::Caller, "alice", LOW) };
    let alice = Baresip::start(&lab, dials)?;
    bob.hears(LOW, HIGH, 0.99)?;
    alice.hears(HIGH, LOW, 0.99)?;
    alice.hang_up()?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}

/// What the phone has read of reports about the stream that it sends: jitter and round trip, in milliseconds.
pub(super) fn reported(phone: &Baresip<'_>) -> Result<Option<(f64, f64)>> {
    let debug = phone.ask("audio_debug")?;
    let members = debug.lines().filter(|line| line.contains("member 0x"));
    let figure = |line: &str, name: &str| {
        line.split_once(name)?.1.split_once("ms")?.0.trim_start_matches('=').parse::<f64>().ok()
    };
    let mut figures = members.filter_map(|member| Some((figure(member, "Jitter")?, figure(member, "RTT")?)));
    Ok(figures.find(|(jitter, round_trip)| *jitter > 0.0 || *round_trip > 0.0))
}

// Statement 142.
#[test]
fn a_phone_with_srtp_reads_our_reports_where_the_other_side_sends_none_and_its_media_stays_in_the_kernel()
-> Result<()> {
    const PORT: u16 = 30_000;
    let packets = 4 * SILENCE.as_millis() / PACKET_TIME.as_millis();
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks("security = \"required\""))?;
    let bob = Setup { account: ";mediaenc=srtp-mand", ..Setup::new(Host::Callee, "bob", HIGH) };
    let bob = Baresip::start(&lab, bob)?;
    let mut alice = Phone::new(&lab, Host::Caller)?;
    let mut call = alice.invite("bob", PORT)?;
    alice.be_answered(&mut call)?;
    let socket = lab.on(Host::Caller, || Ok(UdpSocket::bind(("10.81.1.2", PORT))?))?;
    let far = call.far_media.context("where the gateway wants media")?;
    let mut read = None;
    for number in 0..packets as u32 {
        let packet = Rtp { sequence: number as u16, timestamp: number * 160, ..Rtp::default() };
        socket.send_to(&packet.octets(), far)?;
        thread::sleep(PACKET_TIME);
        if number % 50 == 49 {
            read = reported(&bob)?;
        }
        if read.is_some() {
            break;
        }
    }
    ensure!(read.is_some(), "it read none:\n{}", bob.ask("audio_debug")?);
    let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
    assert!(flows.iter().all(|flow| flow.relayed_by == "kernel"), "{flows:?}");
    no_tag_was_wrong(&daemon)?;
    assert!(!bob.output().contains("failed to decrypt"), "{}", bob.output());
    alice.hang_up(&mut call)?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}
