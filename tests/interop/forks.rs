//! Media bypass where an offer of ours rings at two clients, each with credentials and a key of its own, at the one port of
//! ours.

use anyhow::{Context as _, Result, ensure};
use gateway_userspace::admin::answer::{Drops, FlowLine, FlowList};
use gateway_userspace::ice::Credentials;
use gateway_userspace::srtp::Suite;
use rtc_srtp::context::Context;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use support::checks::{Check, HOST_PRIORITY, attributes, credentials};
use support::daemon::{Daemon, SOON};
use support::lab::{Host, Lab};
use support::phone::{Call, Message, Phone};
use support::process::until;
use support::wire::{RTP_LEN, Rtp};

/// Packets each way after the answer.
const PACKETS: usize = 20;
/// Of early media.
const FEW: usize = 6;

/// The service's clients are in media bypass, and take nothing but SRTP.
const TRUNKS: &str = r#"
[[trunk]]
name = "operator"
listen = "udp:10.81.1.1:5060"
peers = [{ address = "10.81.1.2:5060" }]

[[trunk]]
name = "service"
listen = "udp:10.81.2.1:5060"
peers = [{ address = "10.81.2.2:5060" }]
[trunk.media]
ice = "lite"
security = "required"

[[route]]
prefix = ""
from = "operator"
to = "service"
"#;

// Statements 66, 168, 169, 173, 175, 181.
#[test]
fn of_two_clients_at_one_port_the_one_that_answers_is_heard_and_sent_to_by_the_kernel() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, TRUNKS)?;
    let mut phones = (Phone::new(&lab, Host::Caller)?, Phone::new(&lab, Host::Callee)?);
    phones.1 = phones.1.secured_by(Suite::AesCm128HmacSha1_80);
    let cases = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for (ended, (winner, early)) in cases.into_iter().enumerate() {
        let case = format!("{winner} answers, {early} sends early media");
        let mut ringing = Ringing::new(&lab, &daemon, &mut phones, 30_000 + 10 * ended as u16);
        let ringing = ringing.as_mut().map_err(|error| anyhow::anyhow!("{case}: {error:#}"))?;
        ringing.is_checked().context(case.clone())?;
        ringing.early_media_is_of_one(early).context(case.clone())?;
        ringing.is_answered_by(winner).context(case.clone())?;
        ringing.caller.hang_up(&mut ringing.call)?;
        let record = daemon.records(ended + 1)?.swap_remove(ended);
        assert_eq!((record.sip_status, record.fault), (200, None), "{case}");
    }
    Ok(())
}

/// A call whose callee's INVITE was forked to two clients, who both ring.
struct Ringing<'a> {
    daemon: &'a Daemon<'a>,
    caller: &'a mut Phone,
    callee: &'a mut Phone,
    call: Call,
    invite: Message,
    near: UdpSocket,
    /// Where the gateway wants media of the caller.
    towards: SocketAddr,
    clients: [Client; 2],
    said: u16,
}

/// One of them.
struct Client {
    call: Call,
    sdp: String,
    ufrag: &'static str,
    socket: UdpSocket,
    local: SocketAddr,
    /// Where the gateway wants checks and media of both.
    towards: SocketAddr,
    ours: Credentials,
    /// For what it sends, and for what it hears.
    contexts: [Context; 2],
    said: u16,
}

impl<'a> Ringing<'a> {
    fn new(
        lab: &Lab,
        daemon: &'a Daemon<'_>,
        (caller, callee): &'a mut (Phone, Phone),
        port: u16,
    ) -> Result<Self> {
        let near = socket(lab, Host::Caller, "10.81.1.2", port)?;
        let call = caller.invite("0800", port)?;
        let invite = callee.be_invited()?;
        let mut rings = |ufrag, port| Client::rings(lab, callee, &invite, ufrag, port);
        let first = rings("fork1", port)?;
        let described = caller.provisional_response(&call, 183)?;
        let clients = [first, rings("fork2", port + 2)?];
        let towards = described.media().context("no media in the 183")?;
        let ringing = Self { daemon, caller, callee, call, invite, near, towards, clients, said: 0 };
        ringing.is_relayed_by("userspace (checks)")?;
        Ok(ringing)
    }

    /// Waits until what the clients send is relayed so.
    fn is_relayed_by(&self, way: &str) -> Result<()> {
        let at = self.clients[0].towards;
        let relayed = until(SOON, || {
            let flows = self.flows()?;
            Ok(flows.iter().any(|flow| flow.at == at && flow.relayed_by == way).then_some(()))
        });
        relayed.with_context(|| format!("not by {way}: {:?}", self.flows()))
    }

    fn flows(&self) -> Result<Vec<FlowLine>> {
        Ok(self.daemon.ask::<FlowList>(&["flows"])?.flows)
    }

    fn dropped(&self, reason: &str) -> Result<u64> {
        let drops: Drops = self.daemon.ask(&["drops"])?;
        Ok(drops.packets.iter().find(|line| line.reason == reason).map_or(0, |line| line.count))
    }

    /// Checks of both are answered, and none that does not know our password.
    fn is_checked(&self) -> Result<()> {
        for client in &self.clients {
            let wrong = Credentials { password: "0123456789012345678901".parse()?, ..client.ours.clone() };
            let refused = Check::new(&wrong, client.ufrag).ask(&client.socket, client.towards)?;
            ensure!(refused == Some(401), "an error that its SDP's candidate is told: {refused:?}");
            client.is_answered(false, HOST_PRIORITY)?;
        }
        Ok(())
    }

    /// The first to send is heard alone while it rings, and is sent to.
    fn early_media_is_of_one(&mut self, early: usize) -> Result<()> {
        let refused = self.dropped("source_refused")?;
        for _ in 0..FEW {
            self.hears(early)?;
            self.clients[1 - early].says()?;
        }
        until(SOON, || Ok((self.dropped("source_refused")? == refused + FEW as u64).then_some(())))
            .context("the other client is heard")?;
        for _ in 0..FEW {
            self.is_heard_by(early)?;
        }
        self.nobody_else_hears(early)
    }

    fn is_answered_by(&mut self, winner: usize) -> Result<()> {
        // Clients may nominate before they know who wins.
        self.clients.iter().try_for_each(|client| client.is_answered(true, HOST_PRIORITY))?;
        let Client { call, sdp, .. } = &self.clients[winner];
        self.callee.respond_again(&self.invite, call, "200 OK", sdp)?;
        self.caller.be_answered(&mut self.call)?;
        self.callee.receive("an ACK", |message| message.is_request("ACK"))?;
        self.clients[winner].is_answered(true, HOST_PRIORITY)?;
        // A flow leaves userspace behind a packet of its own.
        self.hears(winner)?;
        self.is_relayed_by("kernel")?;
        let flows = self.flows()?;
        ensure!(flows.iter().all(|flow| flow.relayed_by == "kernel"), "{flows:?}");

        let loser = 1 - winner;
        let refused = self.dropped("source_refused")?;
        // Whatever it makes of its defeat.
        self.clients[loser].is_answered(true, HOST_PRIORITY + 1)?;
        for _ in 0..PACKETS {
            self.clients[loser].says()?;
            self.hears(winner)?;
            self.is_heard_by(winner)?;
        }
        until(SOON, || Ok((self.dropped("source_refused")? == refused + PACKETS as u64).then_some(())))
            .context("the client that did not answer is heard")?;
        self.nobody_else_hears(winner)?;
        self.is_relayed_by("kernel")?;
        let bad = [self.dropped("bad_tag")?, self.dropped("replayed")?];
        ensure!(bad == [0, 0], "{bad:?}");
        Ok(())
    }

    /// The caller hears the next packet of this client, opened, and nothing else.
    fn hears(&mut self, client: usize) -> Result<()> {
        let body = self.clients[client].says()?;
        let mut buffer = [0; 2048];
        let (length, from) = self.near.recv_from(&mut buffer).context("the caller hears nothing")?;
        ensure!(
            from == self.towards && buffer[RTP_LEN..length] == body,
            "{from} sends {:x?} for {body:x?}",
            &buffer[..length]
        );
        Ok(())
    }

    /// The next packet of the caller's is heard by this client.
    fn is_heard_by(&mut self, client: usize) -> Result<()> {
        self.said += 1;
        let packet = Rtp { sequence: self.said, body: vec![0x55; 160], ..Rtp::default() }.octets();
        self.near.send_to(&packet, self.towards)?;
        let Client { socket, towards, contexts: [_, unprotect], .. } = &mut self.clients[client];
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).context("the client hears nothing")?;
        let opened = unprotect.decrypt_rtp(&buffer[..length])?;
        ensure!(from == *towards && opened[RTP_LEN..] == packet[RTP_LEN..], "{from} sends {opened:x?}");
        Ok(())
    }

    /// Nothing waits at anybody's, and nothing was ever sent to the other client that is no answer to a check.
    fn nobody_else_hears(&self, client: usize) -> Result<()> {
        for socket in [&self.near, &self.clients[client].socket, &self.clients[1 - client].socket] {
            socket.set_nonblocking(true)?;
            let heard = socket.recv(&mut [0; 2048]);
            socket.set_nonblocking(false)?;
            ensure!(heard.is_err(), "{} hears {heard:?} octets", socket.local_addr()?);
        }
        Ok(())
    }
}

impl Client {
    /// A phone of its own behind the callee's proxy: its 183 has its candidate, its credentials and its key.
    fn rings(
        lab: &Lab,
        callee: &mut Phone,
        invite: &Message,
        ufrag: &'static str,
        port: u16,
    ) -> Result<Self> {
        let socket = socket(lab, Host::Callee, "10.81.2.2", port)?;
        let local = socket.local_addr()?;
        let sdp = format!(
            "v=0\r\no={ufrag} 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n{}",
            attributes(ufrag, local),
            ip = local.ip()
        );
        let call = callee.respond_to(invite, "183 Session Progress", port, &sdp)?;
        let contexts = call.keys.as_ref().context("no keys")?.contexts()?;
        let towards = invite.media().context("no media in the offer")?;
        let ours = credentials(&invite.body)?;
        Ok(Self { call, sdp, ufrag, socket, local, towards, ours, contexts, said: 0 })
    }

    fn is_answered(&self, nominates: bool, priority: u32) -> Result<()> {
        let check = Check { nominates, priority, ..Check::new(&self.ours, self.ufrag) };
        let error = check.ask(&self.socket, self.towards)?;
        ensure!(error.is_none(), "{} has {error:?} for a check", self.ufrag);
        Ok(())
    }

    /// Sends its next packet: what it says in it, which no other packet of any client does.
    fn says(&mut self) -> Result<Vec<u8>> {
        self.said += 1;
        let mut body = vec![self.ufrag.as_bytes()[4]; 160];
        body[..2].copy_from_slice(&self.said.to_be_bytes());
        let sequence = FIRST.wrapping_add(self.said);
        let packet =
            Rtp { sequence, ssrc: u32::from(self.local.port()), body: body.clone(), ..Rtp::default() };
        self.socket.send_to(&self.contexts[0].encrypt_rtp(&packet.octets())?, self.towards)?;
        Ok(body)
    }
}

/// Sequence numbers of clients begin at the end of their range: early media takes them over it, so that who opens what
/// comes after the answer has to know of the rollover (RFC 3711 section 3.3.1).
const FIRST: u16 = 65_532;

fn socket(lab: &Lab, host: Host, address: &str, port: u16) -> Result<UdpSocket> {
    let socket = lab.on(host, || Ok(UdpSocket::bind((address, port))?))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}
