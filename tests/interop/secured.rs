//! Secured calls outlive the daemon that set them up, with another implementation of SRTP at the far end.

use anyhow::{Context, Result, ensure};
use gateway_common::flow::Punted;
use gateway_userspace::admin::answer::{Drops, FlowLine, FlowList};
use gateway_userspace::observe::path::RelayPath;
use gateway_userspace::srtp::Suite;
use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use support::daemon::{Daemon, SOON};
use support::lab::{Host, Lab};
use support::phone::{Call, Phone, connect};
use support::process::until;
use support::secured::Keys;
use support::stream::{PACKET_TIME, Streams, Tally};

const CALLS: u16 = 20;
/// RTP without a daemon, and with one before and after.
const WITHOUT: Duration = Duration::from_secs(5);
const WITH: Duration = Duration::from_secs(1);

/// A plain caller's trunk, and one to the callee that takes nothing but SRTP by these suites.
fn trunks(suites: &[Suite]) -> String {
    trunks_between(("10.81.1.1", "10.81.1.2"), suites)
}

/// The same, with the addresses of the operator's trunk.
fn trunks_between((ours, theirs): (&str, &str), suites: &[Suite]) -> String {
    let names: Vec<_> = suites.iter().map(|suite| format!("\"{}\"", suite.name())).collect();
    format!(
        r#"
[[trunk]]
name = "operator"
listen = "udp:{ours}:5060"
peers = [{{ address = "{theirs}:5060" }}]

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{{ address = "10.81.2.2:5060" }}]
[trunk.media]
security = "required"
suites = [{}]

[[route]]
prefix = ""
from = "operator"
to = "service"
"#,
        names.join(", ")
    )
}

/// What became of calls under which the daemon was killed and started again.
struct Outcome {
    flows: Vec<FlowLine>,
    tally: Tally,
    drops: Vec<(String, u64)>,
    /// Who relayed, by the calls' records.
    relayed_by: Vec<Option<RelayPath>>,
    /// From the signal until the process was gone.
    dying: Duration,
}

/// Twenty calls whose callee takes this suite.
fn killed_under(suite: Suite) -> Result<Outcome> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, &trunks(&[suite]))?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?.secured_by(suite);
    let mut calls = (0..CALLS)
        .map(|number| connect(&mut caller, &mut callee, 30_000 + 4 * number))
        .collect::<Result<Vec<_>>>()?;
    let keys = calls.iter().filter_map(|(_, to)| Some((to.media_port, to.keys.clone()?)));
    let keys: HashMap<_, _> = keys.collect();
    assert_eq!(keys.len(), usize::from(CALLS));
    let flows = daemon.ask::<FlowList>(&["flows", "--limit", "1000"])?.flows;
    let streams = Streams::start_secured(&lab, &flows, &keys)?;
    std::thread::sleep(WITH);
    let killed = Instant::now();
    daemon.kill()?;
    let dying = killed.elapsed();
    std::thread::sleep(WITHOUT);
    let daemon = daemon.restart()?;
    assert_eq!(daemon.status()?.calls, u64::from(CALLS));
    std::thread::sleep(WITH);
    let tally = streams.stop()?;
    let drops = daemon.ask::<Drops>(&["drops"])?.packets;
    let drops = drops.into_iter().map(|drop| (drop.reason, drop.count)).collect();
    for (from, to) in &mut calls {
        caller.hang_up(from)?;
        callee.be_hung_up(to)?;
    }
    let records = daemon.records(usize::from(CALLS))?;
    let relayed_by = records.iter().flat_map(|record| [&record.from_caller, &record.from_callee]);
    let relayed_by = relayed_by.map(|heard| heard.relayed_by).collect();
    Ok(Outcome { flows, tally, drops, relayed_by, dying })
}

/// SRTP in the kernel and in userspace, over AF_XDP, between a caller by IPv6 and a callee by IPv4.
#[test]
fn secured_calls_from_ipv6_to_ipv4_lose_nothing_whoever_relays_them() -> Result<()> {
    for (suite, relayed_by) in
        [(Suite::AesCm128HmacSha1_80, "kernel"), (Suite::AeadAes256Gcm, "userspace (srtp_suite)")]
    {
        let lab = Lab::new()?;
        let daemon = Daemon::start(&lab, &trunks_between(("[fd00:81:1::1]", "[fd00:81:1::2]"), &[suite]))?;
        let mut caller = Phone::over_ipv6(&lab)?;
        let mut callee = Phone::new(&lab, Host::Callee)?.secured_by(suite);
        let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
        let keys = HashMap::from([(to.media_port, to.keys.clone().context("keys")?)]);
        let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
        assert!(flows.iter().all(|flow| flow.relayed_by == relayed_by), "{flows:?}");
        let streams = Streams::start_secured(&lab, &flows, &keys)?;
        std::thread::sleep(Duration::from_secs(2));
        let tally = streams.stop()?;
        assert!(tally.sent > 0);
        assert_eq!((tally.streams, tally.sent, tally.repeated), (2, tally.received, 0), "{tally:?}");
        caller.hang_up(&mut from)?;
        callee.be_hung_up(&to)?;
        let record = &daemon.records(1)?[0];
        assert_eq!(record.from_caller.packets + record.from_callee.packets, tally.sent as u64);
        assert_eq!(daemon.ask::<Drops>(&["drops"])?.packets, []);
    }
    Ok(())
}

// Statements 133, 137.
#[test]
fn calls_with_aes_cm_128_lose_no_packet_while_the_daemon_is_dead() -> Result<()> {
    let Outcome { flows, tally, drops, relayed_by, .. } = killed_under(Suite::AesCm128HmacSha1_80)?;
    assert!(flows.iter().all(|flow| flow.relayed_by == "kernel"), "{flows:?}");
    assert_eq!(drops, [], "{tally:?}");
    assert_eq!((tally.sent - tally.received, tally.repeated), (0, 0), "{tally:?}");
    assert_eq!(relayed_by, vec![Some(RelayPath::Kernel); tally.streams]);
    Ok(())
}

#[test]
fn calls_with_gcm_stop_with_the_daemon_and_go_on_with_the_next() -> Result<()> {
    let Outcome { flows, tally, drops, relayed_by, dying } = killed_under(Suite::AeadAes256Gcm)?;
    assert!(flows.iter().all(|flow| flow.relayed_by == "userspace (srtp_suite)"), "{flows:?}");
    assert_eq!(tally.repeated, 0, "{tally:?}");
    assert_eq!(relayed_by, vec![Some(RelayPath::Userspace(Punted::SrtpSuite)); tally.streams]);
    let [(reason, nobody_listened)] = <[_; 1]>::try_from(drops).expect("one reason");
    assert_eq!(reason, "no_socket", "{tally:?}");
    // Besides, the kernel still gives packets to sockets of a process that is dying and will not read them.
    let unread = tally.sent - tally.received - usize::try_from(nobody_listened)?;
    let given = tally.streams * (2 + dying.div_duration_f64(PACKET_TIME).ceil() as usize);
    assert!(
        unread <= given,
        "{unread} packets are missing, at most {given} were given to the dying: {tally:?}"
    );
    // Before the daemon died and after the next had come each was heard.
    assert!(tally.received >= tally.streams * 90, "{tally:?}");
    Ok(())
}

/// Twenty packets each way between a plain caller and a callee with these keys.
fn both_ways(sockets: [&UdpSocket; 2], calls: [&Call; 2], keys: &Keys, first: u16) -> Result<()> {
    let [mut protect, mut unprotect] = keys.contexts()?;
    let towards = |call: &Call| call.far_media.context("where the gateway wants media");
    let mut buffer = [0; 2048];
    for sequence in first..first + 20 {
        let [high, low] = sequence.to_be_bytes();
        let packet =
            |ssrc: u8| [&[0x80, 0, high, low, 0, 0, high, low, 0, 0, 0, ssrc][..], &[ssrc; 160]].concat();
        sockets[0].send_to(&packet(1), towards(calls[0])?)?;
        let length = sockets[1].recv(&mut buffer).context("the callee hears nothing")?;
        let opened = unprotect.decrypt_rtp(&buffer[..length])?;
        ensure!(opened[12..] == [1; 160], "packet {sequence} to the callee");
        sockets[1].send_to(&protect.encrypt_rtp(&packet(2))?, towards(calls[1])?)?;
        let length = sockets[0].recv(&mut buffer).context("the caller hears nothing")?;
        ensure!(buffer[12..length] == [2; 160], "packet {sequence} to the caller");
    }
    Ok(())
}

#[test]
fn a_new_offer_with_another_suite_takes_the_call_from_the_kernel_to_userspace() -> Result<()> {
    const PORT: u16 = 30_000;
    let (first, second) = (Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm);
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks(&[first, second]))?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?.secured_by(first);
    let (mut from, mut to) = connect(&mut caller, &mut callee, PORT)?;
    let socket = |host, address: &str| -> Result<UdpSocket> {
        let socket = lab.on(host, || Ok(UdpSocket::bind((address, PORT))?))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(socket)
    };
    let (near, far) = (socket(Host::Caller, "10.81.1.2")?, socket(Host::Callee, "10.81.2.2")?);
    let relayed_by = |word: &str| {
        until(SOON, || {
            let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
            Ok(flows.iter().all(|flow| flow.relayed_by == word).then_some(()))
        })
    };
    both_ways([&near, &far], [&from, &to], to.keys.as_ref().context("keys")?, 1_000)?;
    relayed_by("kernel")?;

    let offer = format!(
        "v=0\r\no=phone 1 2 IN IP4 10.81.2.2\r\ns=-\r\nc=IN IP4 10.81.2.2\r\nt=0 0\r\nm=audio {PORT} RTP/SAVP 0 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\n{}",
        Keys::offer(second, 77)
    );
    let answer = callee.reinvite(&mut to, &offer)?;
    let keys = Keys::answering(&answer.body, second, 77)?;
    both_ways([&near, &far], [&from, &to], &keys, 1_020)?;
    relayed_by("userspace (srtp_suite)")?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    Ok(())
}
