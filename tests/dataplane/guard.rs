//! The guard of SIP sockets in the kernel, by test-run and with real maps.
//!
//! The reference path has no part in this: it hears media ports only, and what comes to a SIP socket without XDP is
//! judged by the daemon itself. The oracle is [`Model`]: the rules of `gateway_common::guard`, which the kernel runs as
//! well, over plain tables instead of the kernel's. Limits here are so slow that the time of a packet does not matter.

use crate::lab::{LAN, Lab};
use anyhow::{Context, Result, ensure};
use gateway_common::guard::{Class, Due, Guarded, Pace, judge};
use gateway_common::verdict::Reason;
use gateway_userspace::dataplane::reference::frame::Verdict;
use gateway_userspace::dataplane::{GuardLimits, GuardedSocket, Protocol};
use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use support::wire::Frame;

const SIP: &str = "192.0.2.1:5060";
const SIP6: &str = "[2001:db8:1::1]:5060";
const RESPONSE: &[u8] = b"SIP/2.0 200 OK\r\n\r\n";
const REQUEST: &[u8] = b"OPTIONS sip:a@192.0.2.1 SIP/2.0\r\n\r\n";
/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3_600);

/// One packet an hour after `burst` and one more.
fn slow(burst: u64) -> Pace {
    let interval = u64::try_from(HOUR.as_nanos()).expect("an hour fits");
    Pace { interval, tolerance: interval * burst }
}

fn limits() -> GuardLimits {
    GuardLimits { known: slow(9), stranger: slow(1), strangers: slow(4), samples: slow(2) }
}

fn socket(at: &str, protocol: Protocol, sources: &[&str]) -> GuardedSocket {
    let sources = sources.iter().map(|network| network.parse().expect("a network")).collect();
    GuardedSocket { at: at.parse().expect("an address"), protocol, sources }
}

fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let source = SocketAddr::new(from.parse().expect("an address"), 5060);
    Frame::new(&source.to_string(), to, payload.to_vec()).octets()
}

/// A TCP segment of these ports, without data.
fn tcp(from: &str, to: &str) -> Vec<u8> {
    let mut frame = udp(from, to, &[0; 12]);
    // IPv4: the protocol at octet 9 of the header; IPv6: the next header at octet 6.
    let at = if from.contains(':') { 14 + 6 } else { 14 + 9 };
    frame[at] = 6;
    frame
}

/// What became of a packet: let in, or why not.
fn fate(lab: &mut Lab, frame: &[u8]) -> Result<Result<(), Reason>> {
    lab.approach(LAN, frame)
}

fn guarded_lab(name: &str, sockets: &[GuardedSocket]) -> Result<Lab> {
    let mut lab = Lab::new(name)?;
    lab.guard.protect(sockets, &limits())?;
    Ok(lab)
}

#[test]
fn who_is_known_gets_through_and_who_is_not_gets_silence() -> Result<()> {
    let lab = &mut guarded_lab(
        "guard-known",
        &[
            socket(SIP, Protocol::Udp, &["203.0.113.0/24", "192.0.2.10/32"]),
            socket(SIP, Protocol::Tcp, &["198.51.100.7/32"]),
            socket(SIP6, Protocol::Udp, &["2001:db8:f::/48"]),
        ],
    )?;
    let unknown = Err(Reason::UnknownSource);
    let sentences: &[(&str, Vec<u8>, Result<(), Reason>)] = &[
        ("a request of a known network", udp("203.0.113.9", SIP, REQUEST), Ok(())),
        ("a request of a known address", udp("192.0.2.10", SIP, REQUEST), Ok(())),
        ("a keep-alive of a known address", udp("192.0.2.10", SIP, b"\r\n\r\n"), Ok(())),
        ("an empty datagram of a known address", udp("192.0.2.10", SIP, b""), Ok(())),
        ("a request over IPv6", udp("2001:db8:f::9", SIP6, REQUEST), Ok(())),
        ("a connection of a known address", tcp("198.51.100.7", SIP), Ok(())),
        ("a connection of a stranger", tcp("198.51.100.8", SIP), unknown),
        ("a connection of one that is known over UDP only", tcp("203.0.113.9", SIP), unknown),
        ("a response of a stranger", udp("192.0.2.11", SIP, RESPONSE), Ok(())),
        ("a first request of a stranger, for the daemon to see", udp("192.0.2.11", SIP, REQUEST), Ok(())),
        ("and a second", udp("192.0.2.12", SIP, REQUEST), Ok(())),
        ("and a third", udp("192.0.2.13", SIP, b"SIP/2.0"), Ok(())),
        ("a fourth request of strangers", udp("192.0.2.14", SIP, REQUEST), unknown),
        ("an octet that is nothing", udp("192.0.2.14", SIP, b"x"), unknown),
        ("a request of a network's neighbour", udp("203.0.114.9", SIP, REQUEST), unknown),
        ("another port of ours", udp("192.0.2.14", "192.0.2.1:5061", REQUEST), Ok(())),
        ("another address of ours", udp("192.0.2.14", "198.51.100.1:5060", REQUEST), Ok(())),
        ("ssh", tcp("192.0.2.14", "192.0.2.1:22"), Ok(())),
        ("TCP over IPv6, where only UDP is guarded", tcp("2001:db8:e::9", SIP6), Ok(())),
    ];
    for (says, frame, expected) in sentences {
        let fate = fate(lab, frame).with_context(|| (*says).to_owned())?;
        ensure!(fate == *expected, "{says}: {fate:?}, expected {expected:?}");
    }
    // ICMP, ARP and fragments without ports are nobody's socket's.
    let mut echo = udp("192.0.2.14", SIP, REQUEST);
    echo[14 + 9] = 1;
    ensure!(fate(lab, &echo)? == Ok(()), "ICMP");
    Ok(())
}

#[test]
fn media_of_a_source_that_is_denied_is_relayed_all_the_same() -> Result<()> {
    let lab = &mut guarded_lab("guard-media", &[socket(SIP, Protocol::Udp, &[])])?;
    lab.install(&crate::row::call())?;
    lab.guard.deny("192.0.2.0/24".parse()?, HOUR, 0)?;
    let became = lab.relay(LAN, &crate::row::packet().octets())?;
    ensure!(matches!(became.verdict, Verdict::Redirect(..)), "{:?}", became.verdict);
    ensure!(fate(lab, &udp("192.0.2.10", SIP, REQUEST))? == Err(Reason::SourceDenied));
    Ok(())
}

#[test]
fn each_source_has_its_burst_and_strangers_one_between_them() -> Result<()> {
    let lab = &mut guarded_lab("guard-pace", &[socket(SIP, Protocol::Udp, &["203.0.113.0/24"])])?;
    let mut passed = |from: &dyn Fn(usize) -> String, payload: &[u8]| -> Result<usize> {
        let fates: Vec<_> =
            (0..40).map(|packet| fate(lab, &udp(&from(packet), SIP, payload))).collect::<Result<_>>()?;
        Ok(fates.iter().filter(|fate| fate.is_ok()).count())
    };
    ensure!(passed(&|_| "203.0.113.1".to_owned(), REQUEST)? == 10);
    ensure!(passed(&|_| "203.0.113.2".to_owned(), REQUEST)? == 10, "another source has its own");
    ensure!(passed(&|packet| format!("203.0.113.{}", 100 + packet), REQUEST)? == 40);
    ensure!(passed(&|_| "198.51.100.9".to_owned(), RESPONSE)? == 2);
    ensure!(
        passed(&|packet| format!("198.51.100.{}", 100 + packet), RESPONSE)? == 3,
        "five between all of them"
    );
    ensure!(passed(&|packet| format!("198.51.100.{}", 100 + packet), REQUEST)? == 3);
    Ok(())
}

#[test]
fn a_denial_goes_before_everything_ends_by_itself_and_is_taken_back() -> Result<()> {
    let lab = &mut guarded_lab("guard-denied", &[socket(SIP, Protocol::Udp, &["203.0.113.0/24"])])?;
    let denied = Err(Reason::SourceDenied);
    let network: IpNet = "203.0.113.0/25".parse()?;
    let inside: IpNet = "203.0.113.7/32".parse()?;
    let packet = |from: &str| udp(from, SIP, REQUEST);

    lab.guard.deny(network, HOUR, 0)?;
    ensure!(fate(lab, &packet("203.0.113.7"))? == denied);
    ensure!(fate(lab, &packet("203.0.113.200"))? == Ok(()));
    // Shorter than what is around it: it must not end that.
    lab.guard.deny(inside, Duration::from_millis(1), 0)?;
    std::thread::sleep(Duration::from_millis(5));
    ensure!(fate(lab, &packet("203.0.113.7"))? == denied);
    // Longer than what is around it: it stays when that is taken away again.
    lab.guard.deny(inside, 2 * HOUR, 0)?;
    lab.guard.deny(network, HOUR, 0)?;
    ensure!(lab.guard.denied()?.len() == 2, "{:?}", lab.guard.denied()?);
    ensure!(lab.guard.allow(inside)? == 1);
    ensure!(fate(lab, &packet("203.0.113.7"))? == denied, "the network is denied still");
    ensure!(lab.guard.allow("203.0.113.0/24".parse()?)? == 1, "what is inside is meant as well");
    ensure!(fate(lab, &packet("203.0.113.7"))? == Ok(()));

    lab.guard.deny_offender("203.0.113.7".parse()?, Duration::from_millis(50), 2)?;
    ensure!(fate(lab, &packet("203.0.113.7"))? == denied);
    ensure!(lab.guard.denied()?.iter().all(|view| view.network == inside && view.cause == 2));
    std::thread::sleep(Duration::from_millis(60));
    ensure!(fate(lab, &packet("203.0.113.7"))? == Ok(()), "nobody had to end it");
    ensure!(lab.guard.denied()?.is_empty() && lab.guard.sweep()? == 0);
    Ok(())
}

#[test]
fn a_change_of_sources_never_stops_one_that_stays_and_takes_those_that_go() -> Result<()> {
    let first =
        [socket(SIP, Protocol::Udp, &["203.0.113.0/24"]), socket(SIP, Protocol::Tcp, &["203.0.113.0/24"])];
    let lab = &mut guarded_lab("guard-change", &first)?;
    let rest =
        [socket(SIP6, Protocol::Udp, &["2001:db8:f::/48"]), socket(SIP, Protocol::Tcp, &["203.0.113.0/25"])];
    lab.guard.protect(&rest, &limits())?;
    let unknown = Err(Reason::UnknownSource);
    ensure!(fate(lab, &tcp("203.0.113.9", SIP))? == Ok(()));
    ensure!(fate(lab, &tcp("203.0.113.200", SIP))? == unknown);
    ensure!(fate(lab, &udp("192.0.2.14", SIP, REQUEST))? == Ok(()), "no socket is guarded there any more");
    lab.guard.protect(&[], &limits())?;
    ensure!(fate(lab, &tcp("203.0.113.200", SIP))? == Ok(()));
    Ok(())
}

/// The rules over plain tables.
struct Model {
    sockets: Vec<GuardedSocket>,
    denied: Vec<IpNet>,
    due: HashMap<(usize, Option<IpAddr>, bool), u64>,
}

impl Model {
    fn judge(
        &mut self,
        from: IpAddr,
        to: SocketAddr,
        protocol: Protocol,
        payload: &[u8],
    ) -> Result<(), Reason> {
        let found = self.sockets.iter().position(|socket| (socket.at, socket.protocol) == (to, protocol));
        let Some(number) = found else { return Ok(()) };
        if self.denied.iter().any(|network| network.contains(&from)) {
            return Err(Reason::SourceDenied);
        }
        let known = self.sockets[number].sources.iter().any(|network| network.contains(&from));
        let class = match (known, protocol, payload.starts_with(b"SIP/2.0 ")) {
            (true, _, _) => Class::Known,
            (false, Protocol::Tcp, _) => return Err(Reason::UnknownSource),
            (false, Protocol::Udp, true) => Class::Response,
            (false, Protocol::Udp, false) => Class::Other,
        };
        let GuardLimits { known, stranger, strangers, samples } = limits();
        let guarded = Guarded { number: 0, padding: 0, known, stranger, strangers, samples };
        let keys = [(number, Some(from), false), (number, None, class == Class::Response)];
        let [own, shared] = keys.map(|key| self.due.get(&key).copied().unwrap_or(0));
        let due = judge(&guarded, class, Due { own, shared }, 1)?;
        for (key, due) in keys.into_iter().zip([due.own, due.shared]).filter(|(_, due)| *due != 0) {
            self.due.insert(key, due);
        }
        Ok(())
    }
}

#[test]
fn the_kernel_judges_a_flood_as_the_rules_over_plain_tables_do() -> Result<()> {
    let sockets = vec![
        socket(SIP, Protocol::Udp, &["203.0.113.0/24", "203.0.113.64/26", "192.0.2.128/25"]),
        socket(SIP, Protocol::Tcp, &["0.0.0.0/0"]),
        socket("198.51.100.1:5061", Protocol::Tcp, &["203.0.113.0/28", "192.0.2.10/32"]),
        socket(SIP6, Protocol::Udp, &["2001:db8:f::/64"]),
    ];
    let lab = &mut guarded_lab("guard-random", &sockets)?;
    let denied: Vec<IpNet> = ["203.0.113.16/28", "192.0.2.200/32", "2001:db8:f::8/125"]
        .map(|text| text.parse())
        .into_iter()
        .collect::<Result<_, _>>()?;
    for network in &denied {
        lab.guard.deny(*network, HOUR, 0)?;
    }
    let mut model = Model { sockets, denied, due: HashMap::new() };
    let mut random = StdRng::seed_from_u64(5060);
    for packet in 0..20_000 {
        let six = random.random_ratio(1, 4);
        let last: u8 = random.random();
        let from = match (six, random.random_range(0..3)) {
            (true, _) => format!("2001:db8:{}::{:x}", ["e", "f"][usize::from(last > 100)], last % 16),
            (false, 0) => format!("203.0.113.{last}"),
            (false, 1) => format!("192.0.2.{}", last.clamp(2, 254)),
            (false, _) => format!("198.51.{}.{}", last % 4, last.clamp(1, 254)),
        };
        let to =
            if six { SIP6 } else { [SIP, "198.51.100.1:5061", "192.0.2.1:5070"][random.random_range(0..3)] };
        let payload = [REQUEST, RESPONSE, b"SIP/2.0", b""][random.random_range(0..4)];
        let (frame, protocol) = match random.random_ratio(1, 3) {
            true => (tcp(&from, to), Protocol::Tcp),
            false => (udp(&from, to, payload), Protocol::Udp),
        };
        let expected = model.judge(from.parse()?, to.parse()?, protocol, payload);
        let fate = fate(lab, &frame)?;
        ensure!(
            fate == expected,
            "packet {packet}, {protocol:?} from {from} to {to}: {fate:?}, not {expected:?}"
        );
    }
    Ok(())
}
