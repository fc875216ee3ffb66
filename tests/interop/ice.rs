//! Media bypass with a full ICE agent of somebody else's at the far end.

use anyhow::{Context, Result, ensure};
use gateway_userspace::admin::answer::Drops;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use support::checks::{Check, HOST_PRIORITY, attributes, credentials, value};
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Call, Phone};
use support::process::{Process, until};
use support::wire::{RTP_LEN, Rtp};

/// Packets that the agent sends, one in 20 ms; and more in a call that a daemon dies and another begins under.
const PACKETS: u16 = 50;
const MANY_PACKETS: u16 = 400;

/// The service's clients are in media bypass.
fn trunks() -> String {
    let peer = "peers = [{ address = \"10.81.2.2:5060\" }]\n";
    TRUNKS.replacen(peer, &format!("{peer}[trunk.media]\nice = \"lite\"\n"), 1)
}

/// What the agent says of itself.
#[derive(Debug, Deserialize)]
struct Description {
    ufrag: String,
    password: String,
    candidates: Vec<String>,
    host: String,
    port: u16,
}

#[derive(Debug, Deserialize)]
struct Heard {
    sent: u16,
    heard: Vec<u16>,
}

// Statements 168, 173.
#[test]
fn a_full_agent_checks_our_candidate_nominates_it_and_media_flows_both_ways() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks())?;
    media_flows_where_checks_said(&lab, &daemon)
}

// Statements 168, 173.
#[test]
fn a_full_agent_is_answered_beside_xdp_which_relays_its_media() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks())?;
    media_flows_where_checks_said(&lab, &daemon)
}

// Statements 168, 173.
#[test]
fn a_full_agents_media_goes_on_while_no_daemon_runs_and_under_the_next() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, &trunks())?;
    let agent = Agent::start(&lab, MANY_PACKETS)?;
    let mut bypassed = Bypassed::new(&lab, &daemon, &agent)?;
    bypassed.echoes(100)?;
    daemon.kill()?;
    bypassed.echoes(50).context("while no daemon runs")?;
    let daemon = thread::scope(|scope| {
        let echoing = scope.spawn(|| bypassed.echoes(usize::from(MANY_PACKETS) - 150));
        let daemon = daemon.restart();
        echoing.join().expect("it does not panic").context("under the next daemon")?;
        daemon
    })?;
    let Heard { sent, heard } = agent.reads("result.json")?;
    assert_eq!((sent, heard.len()), (MANY_PACKETS, usize::from(MANY_PACKETS)));
    assert!(heard.is_sorted());
    bypassed.caller.hang_up(&mut bypassed.call)?;
    assert_eq!(daemon.records(1)?[0].sip_status, 200);
    Ok(())
}

// Statements 168, 173.
#[test]
fn who_has_the_answer_to_its_check_is_heard_and_sent_to_at_once() -> Result<()> {
    const ADDRESSES: u16 = 200;
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks())?;
    let (mut caller, mut callee) = (Phone::new(&lab, Host::Caller)?, Phone::new(&lab, Host::Callee)?);
    let socket = |host, address: &str, port| -> Result<UdpSocket> {
        let socket = lab.on(host, || Ok(UdpSocket::bind((address, port))?))?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        Ok(socket)
    };
    let near = socket(Host::Caller, "10.81.1.2", 30_000)?;
    let mut call = caller.invite("0800", 30_000)?;
    let sdp = format!(
        "v=0\r\no=agent 1 1 IN IP4 10.81.2.2\r\ns=-\r\nc=IN IP4 10.81.2.2\r\nt=0 0\r\nm=audio 31000 RTP/AVP 0\r\n{}",
        attributes("them", "10.81.2.2:31000".parse()?)
    );
    let (_, invite) = callee.respond_with("200 OK", 31_000, &sdp)?;
    caller.be_answered(&mut call)?;
    let toward = credentials(&invite.body)?;
    let at_callee = invite.media().context("no media address in the offer")?;
    let at_caller = call.far_media.context("no media address in the answer")?;
    let mut buffer = [0; 2048];
    for number in 0..ADDRESSES {
        let far = socket(Host::Callee, "10.81.2.2", 31_000 + number)?;
        let priority = HOST_PRIORITY + u32::from(number);
        let check = Check { nominates: true, priority, ..Check::new(&toward, "them") };
        ensure!(check.ask(&far, at_callee)?.is_none(), "a check is refused");
        let packet = Rtp { sequence: number, ..Rtp::default() }.octets();
        for (from, at, to) in [(&near, at_caller, &far), (&far, at_callee, &near)] {
            from.send_to(&packet, at)?;
            let length =
                to.recv(&mut buffer).with_context(|| format!("nothing comes by address {number}"))?;
            ensure!(buffer[RTP_LEN..length] == packet[RTP_LEN..]);
        }
    }
    assert_eq!(daemon.ask::<Drops>(&["drops"])?.packets, []);
    caller.hang_up(&mut call)
}

fn media_flows_where_checks_said(lab: &Lab, daemon: &Daemon<'_>) -> Result<()> {
    let agent = Agent::start(lab, PACKETS)?;
    let mut bypassed = Bypassed::new(lab, daemon, &agent)?;
    let echoed = bypassed.echoes(usize::from(PACKETS))?;
    let Heard { sent, heard } = agent.reads("result.json")?;
    assert_eq!((sent, heard.len()), (PACKETS, usize::from(PACKETS)));
    assert!(heard.is_sorted() && echoed.is_sorted());
    let scrape = daemon.http("/metrics")?;
    let answered = scrape.lines().find(|line| line.contains("checks_answered"));
    assert!(answered.is_none_or(|line| !line.ends_with(" 0")), "{answered:?}");
    assert_eq!(dropped(daemon, "check_refused")?, 0);
    bypassed.caller.hang_up(&mut bypassed.call)
}

/// The near end of a call whose far end is the agent.
struct Bypassed {
    caller: Phone,
    call: Call,
    near: UdpSocket,
    towards: SocketAddr,
}

impl Bypassed {
    /// Called, and connected by the agent's checks.
    fn new(lab: &Lab, daemon: &Daemon<'_>, agent: &Agent) -> Result<Self> {
        let local: Description = agent.reads("local.json")?;
        let mut caller = Phone::new(lab, Host::Caller)?;
        let mut callee = Phone::new(lab, Host::Callee)?;
        let near = lab.on(Host::Caller, || Ok(UdpSocket::bind("10.81.1.2:30000")?))?;
        near.set_read_timeout(Some(Duration::from_secs(3)))?;

        let mut call = caller.invite("0800", 30_000)?;
        let (_, invite) = callee.respond_with("200 OK", local.port, &local.sdp())?;
        caller.be_answered(&mut call)?;
        callee.receive("an ACK", |message| message.is_request("ACK"))?;
        let value = |name| value(&invite.body, name);
        // Nothing is sent to an address that no check has vouched for.
        let towards = call.far_media.context("no media address in the answer")?;
        near.send_to(&[&[0x80, 0][..], &[0; 170]].concat(), towards)?;
        until(SOON, || Ok((dropped(daemon, "no_destination")? == 1).then_some(())))?;

        agent.writes(
            "remote.json",
            &json!({ "ufrag": value("ice-ufrag")?, "password": value("ice-pwd")?, "candidate": value("candidate")? }),
        )?;
        agent.reads::<serde_json::Value>("connected.json")?;
        Ok(Self { caller, call, near, towards })
    }

    /// Sends back so many packets as they come: their numbers.
    fn echoes(&mut self, packets: usize) -> Result<Vec<u16>> {
        let (mut echoed, mut packet) = (Vec::new(), [0; 2048]);
        while echoed.len() < packets {
            let (length, from) = self.near.recv_from(&mut packet).context("the near phone hears no more")?;
            assert_eq!(from, self.towards);
            echoed.push(u16::from_be_bytes([packet[2], packet[3]]));
            self.near.send_to(&packet[..length], from)?;
        }
        Ok(echoed)
    }
}

fn dropped(daemon: &Daemon<'_>, reason: &str) -> Result<u64> {
    let drops: Drops = daemon.ask(&["drops"])?;
    Ok(drops.packets.iter().find(|line| line.reason == reason).map_or(0, |line| line.count))
}

impl Description {
    fn sdp(&self) -> String {
        let Self { ufrag, password, candidates, host, port } = self;
        let candidates: String = candidates.iter().map(|line| format!("a=candidate:{line}\r\n")).collect();
        format!(
            "v=0\r\no=agent 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
             a=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n{candidates}"
        )
    }
}

/// The script on the callee's host, and the files that it is led by.
struct Agent {
    process: Process,
    directory: PathBuf,
}

impl Agent {
    fn start(lab: &Lab, packets: u16) -> Result<Self> {
        let directory = lab.directory().join("agent");
        fs::create_dir(&directory)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ice/agent.py");
        // That of the distribution, whose packages it has.
        let mut command = lab.command(Host::Callee, "/usr/bin/python3");
        command.arg(script).arg(&directory).arg(packets.to_string());
        Ok(Self { process: lab.start("agent", command)?, directory })
    }

    fn writes(&self, name: &str, value: &serde_json::Value) -> Result<()> {
        let part = self.directory.join("part");
        fs::write(&part, value.to_string())?;
        Ok(fs::rename(part, self.directory.join(name))?)
    }

    /// What it writes, once it has.
    fn reads<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.directory.join(name);
        let text = until(SOON, || Ok(fs::read_to_string(&path).ok()));
        let text = text.with_context(|| format!("no {name} of the agent:\n{}", self.process.output()))?;
        serde_json::from_str(&text).with_context(|| text)
    }
}
