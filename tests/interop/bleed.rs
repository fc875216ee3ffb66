//! RTPBleed: whoever guesses ports and streams of calls hears nothing of them, and the calls lose nothing.

use anyhow::Result;
use gateway_userspace::admin::answer::{Drops, FlowList};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use support::daemon::{Daemon, TRUNKS};
use support::lab::{Host, Lab};
use support::namespace::ip;
use support::phone::{Phone, connect};
use support::stream::{Streams, Tally};
use support::wire::Rtp;

const CALLS: u16 = 100;
/// Of both strangers together.
const PROBES: usize = 1_000_000;
/// Of `[media] ports`, where nothing else is said.
const FIRST_PORT: usize = 20_000;
const PORTS: usize = 20_000;
/// So many at once, and then a breath, as for floods.
const VOLLEY: usize = 64;
const BREATH: Duration = Duration::from_millis(1);

/// The operator's phones may send from other ports than they named; the service is as trunks are by themselves.
fn trunks() -> String {
    let named = "allowed = [\"10.81.1.0/24\"]\n";
    TRUNKS.replacen(named, &format!("{named}[trunk.media]\ngate = \"host\"\nlatch = \"same-ssrc\"\n"), 1)
}

#[test]
fn a_million_probes_over_all_ports_beside_a_hundred_calls_bring_strangers_nothing_and_cost_the_calls_nothing()
-> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks())?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    for call in 0..CALLS {
        connect(&mut caller, &mut callee, 30_000 + 2 * call)?;
    }
    let streams = Streams::start(&lab, &daemon.ask::<FlowList>(&["flows", "--limit", "1000"])?.flows)?;
    let strangers = [
        Stranger::new(&lab, Host::Caller, "10.81.1.99", "10.81.1.1")?,
        Stranger::new(&lab, Host::Callee, "10.81.2.99", "10.81.2.1")?,
    ];
    let heard: Vec<usize> = std::thread::scope(|scope| {
        let probing = strangers.each_ref().map(|stranger| scope.spawn(|| stranger.probe(PROBES / 2)));
        probing
            .into_iter()
            .map(|thread| thread.join().expect("a prober does not panic"))
            .collect::<Result<_>>()
    })?;
    let tally = streams.stop()?;
    assert_eq!(heard, [0, 0], "octets that strangers heard");
    let Tally { streams, sent, received, repeated } = tally;
    assert_eq!((streams, sent, repeated), (2 * usize::from(CALLS), received, 0), "{tally:?}");
    assert!(sent > 0);

    let drops: Drops = daemon.ask(&["drops"])?;
    eprintln!("{PROBES} probes, {sent} packets of {CALLS} calls: {:?}", drops.packets);
    // Each of the ports in use was met in every turn, and by every form of probe; a full ring may have lost some.
    let refused: u64 = drops.packets.iter().map(|line| line.count).sum();
    let met = PROBES as u64 / 2 / PORTS as u64 * 4 * u64::from(CALLS);
    assert!((met * 9 / 10..=met).contains(&refused), "{refused} of {met}: {drops:?}");
    for reason in ["source_refused", "not_rtp", "rtcp_unexpected", "rtp_unexpected"] {
        assert!(drops.packets.iter().any(|line| line.reason == reason), "{drops:?}");
    }
    let flows = daemon.ask::<FlowList>(&["flows", "--limit", "1000"])?.flows;
    assert!(
        flows.iter().all(|flow| flow.to.is_none_or(|to| !to.ip().to_string().ends_with(".99"))),
        "{flows:?}"
    );
    Ok(())
}

/// A host that no call has anything to do with.
struct Stranger {
    socket: UdpSocket,
    gateway: &'static str,
}

impl Stranger {
    fn new(lab: &Lab, host: Host, address: &str, gateway: &'static str) -> Result<Self> {
        let socket = lab.on(host, || {
            ip(&format!("address add {address}/24 dev to-gateway"))?;
            Ok(UdpSocket::bind((address, 40_000))?)
        })?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, gateway })
    }

    /// Sends so many probes over all ports, and counts the octets that come back.
    fn probe(&self, probes: usize) -> Result<usize> {
        let mut heard = 0;
        for number in 0..probes {
            let port = FIRST_PORT + number % PORTS;
            let to = SocketAddr::new(self.gateway.parse()?, u16::try_from(port)?);
            match self.socket.send_to(&probe(number / PORTS), to) {
                // Of a probe before: nobody is at its port. Or our own queue is full.
                Err(error)
                    if !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::WouldBlock) =>
                {
                    return Err(error.into());
                }
                _ => {}
            }
            if number % VOLLEY == 0 {
                heard += self.hear();
                std::thread::sleep(BREATH);
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        Ok(heard + self.hear())
    }

    fn hear(&self) -> usize {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.socket.recv(&mut buffer).ok()).sum()
    }
}

/// The probe of the `turn`-th turn over all ports: streams that are there (they are numbered from 1) and that are not,
/// reports, and checks.
fn probe(turn: usize) -> Vec<u8> {
    let ssrc = turn as u32 * 4 + 1;
    match turn % 5 {
        3 => [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat(),
        4 => [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat(),
        form => {
            let ssrc = if form == 0 { ssrc } else { 0x5eed_0000 + ssrc };
            Rtp { sequence: turn as u16, timestamp: 160, ssrc, ..Rtp::default() }.octets()
        }
    }
}
