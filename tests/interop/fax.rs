//! Fax over UDPTL through the daemon: packets that are no RTP, both ways, in the place of a call's audio.

use anyhow::{Context as _, Result, bail, ensure};
use gateway_userspace::admin::answer::{Drops, FlowLine, FlowList};
use gateway_userspace::base::id::Side;
use gateway_userspace::srtp::Suite;
use rtc_srtp::context::Context;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use support::checks::{Check, attributes, credentials};
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Call, Phone};
use support::process::until;
use support::secured::Keys;
use support::wire::{RTP_LEN, Rtp, rtcp};

const AUDIO: u16 = 30_000;
/// Fax machines have another port for fax.
const FAX: u16 = 30_010;
/// UDPTL datagrams each way.
const DATAGRAMS: u16 = 50;
/// Packets of audio each way.
const PACKETS: u16 = 10;
/// User name fragment of a machine that checks.
const UFRAG: &str = "fax1";
const SUITE: Suite = Suite::AesCm128HmacSha1_80;
/// Of the machine that speaks SRTP: the service's.
const SECURED: &str = "security = \"offered\"";
/// Who relays fax, and audio, with XDP.
const BESIDE_XDP: [&str; 2] = ["userspace (udptl)", "kernel"];

/// Both trunks relay fax; `media` are further fields of the service's `[trunk.media]`.
fn trunks(media: &str) -> String {
    let relaying = |text: String, peer: &str, media: &str| {
        let peer = format!("peers = [{{ address = \"{peer}:5060\" }}]\n");
        text.replacen(&peer, &format!("{peer}[trunk.media]\nfax = \"relay\"\n{media}\n"), 1)
    };
    // What a table has stands before its sub-tables.
    let text = TRUNKS.replacen("allowed = [\"10.81.1.0/24\"]\n", "", 1);
    relaying(relaying(text, "10.81.1.2", ""), "10.81.2.2", media)
}

#[test]
fn fax_goes_beside_the_program_through_userspace_and_audio_is_the_kernels_again() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks(""))?;
    fax_and_back(&lab, &daemon, BESIDE_XDP)
}

#[test]
fn fax_goes_over_sockets_where_there_is_no_xdp() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks(""))?;
    fax_and_back(&lab, &daemon, ["sockets", "sockets"])
}

fn fax_and_back(lab: &Lab, daemon: &Daemon<'_>, relayed_by: [&str; 2]) -> Result<()> {
    let mut machines = Machines::connect(lab, Media::Plain)?;
    let offer = machines.change(Side::Callee, Kind::Fax)?;
    ensure!(offer.contains("m=image ") && offer.contains("a=T38MaxBitRate:14400"), "{offer}");
    are_relayed(daemon, Kind::Fax, relayed_by[0])?;
    machines.fax()?;
    // Somebody else's is not heard, and nobody else is sent to.
    let at_callee = machines.callee.towards()?;
    let stranger = socket(lab, Host::Callee, FAX + 1)?;
    stranger.send_to(b"stranger", at_callee)?;
    let at_caller = machines.caller.towards()?;
    goes(b"after the stranger", (&machines.callee.fax, at_callee), (&machines.caller.fax, at_caller))?;
    until(SOON, || {
        let counted: Vec<_> = flows(daemon)?.iter().map(|flow| (flow.packets, flow.refused)).collect();
        let sent = u64::from(DATAGRAMS);
        Ok((counted == [(sent, 0), (sent + 1, 1)]).then_some(()))
    })?;

    let offer = machines.change(Side::Caller, Kind::Audio)?;
    ensure!(offer.contains("m=audio ") && !offer.contains("m=image"), "{offer}");
    machines.talk()?;
    // A flow leaves userspace when nothing of it is under way there any more.
    are_relayed(daemon, Kind::Audio, relayed_by[1])?;
    machines.hang_up()
}

// Statement 232.
#[test]
fn srtp_goes_over_to_fax_and_comes_back_with_keys_that_protect_no_packet_twice() -> Result<()> {
    for relayed_by in [BESIDE_XDP, ["sockets", "sockets"]] {
        let lab = Lab::new()?;
        let daemon = match relayed_by {
            BESIDE_XDP => Daemon::start(&lab, &trunks(SECURED))?,
            _ => Daemon::start_over_sockets(&lab, &trunks(SECURED))?,
        };
        let mut machines = Machines::connect(&lab, Media::Secured)?;
        machines.talk()?;
        are_relayed(&daemon, Kind::Audio, relayed_by[1])?;
        // Each side offers fax once, and audio once.
        for (to_fax, back) in [(Side::Callee, Side::Caller), (Side::Caller, Side::Callee)] {
            let offer = machines.change(to_fax, Kind::Fax)?;
            ensure!(offer.contains("m=image ") && !offer.contains("a=crypto"), "{offer}");
            are_relayed(&daemon, Kind::Fax, relayed_by[0])?;
            machines.fax()?;
            machines.change(back, Kind::Audio)?;
            machines.talk().with_context(|| format!("audio of an offer of the {back:?}'s"))?;
            are_relayed(&daemon, Kind::Audio, relayed_by[1])?;
        }
        machines.hang_up()?;
        assert_eq!(drops(&daemon)?.packets, []);
    }
    Ok(())
}

#[test]
fn a_trunk_that_wants_srtp_takes_no_fax_from_either_side_and_the_audio_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks("security = \"required\""))?;
    let mut machines = Machines::connect(&lab, Media::Secured)?;
    for side in [Side::Caller, Side::Callee] {
        machines.talk()?;
        let Machine { phone, call, described, .. } = machines.of(side);
        let offer = described.describes(Kind::Fax, None)?;
        let refused = phone.reinvite(call, &offer).err().map(|error| error.to_string());
        ensure!(refused.as_ref().is_some_and(|refused| refused.contains(" 488 ")), "{refused:?}");
        machines.talk().with_context(|| format!("after fax of the {side:?}'s was refused"))?;
    }
    are_relayed(&daemon, Kind::Audio, "kernel")?;
    machines.hang_up()
}

#[test]
fn fax_goes_on_under_the_next_daemon_and_audio_after_it() -> Result<()> {
    for (terms, media) in [("", Media::Plain), (SECURED, Media::Secured)] {
        let lab = Lab::new()?;
        let mut daemon = Daemon::start(&lab, &trunks(terms))?;
        let mut machines = Machines::connect(&lab, media)?;
        machines.talk()?;
        machines.change(Side::Callee, Kind::Fax)?;
        machines.fax()?;
        daemon.kill()?;
        // Nobody is there to relay them, and nobody does later.
        for machine in [&machines.caller, &machines.callee] {
            for _ in 0..PACKETS {
                machine.fax.send_to(b"to nobody", machine.towards()?)?;
            }
        }
        let daemon = daemon.restart()?;
        are_relayed(&daemon, Kind::Fax, BESIDE_XDP[0])?;
        machines.fax().context("under the next daemon")?;
        let lost = drops(&daemon)?.packets.into_iter().map(|line| (line.reason, line.count));
        assert_eq!(lost.collect::<Vec<_>>(), [("no_socket".to_owned(), 2 * u64::from(PACKETS))]);
        machines.change(Side::Caller, Kind::Audio)?;
        machines.talk().context("after the fax")?;
        are_relayed(&daemon, Kind::Audio, "kernel")?;
        machines.hang_up()?;
        assert_eq!(daemon.records(1)?[0].sip_status, 200);
    }
    Ok(())
}

/// Fax has no checks: it goes where signalling says (T.38 annex D knows nothing of ICE), and audio where checks say, which
/// have to come again.
#[test]
fn a_side_with_checks_goes_over_to_fax_at_the_address_that_its_description_names_and_back() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks("ice = \"lite\""))?;
    let mut machines = Machines::connect(&lab, Media::Checked)?;
    machines.checks()?;
    machines.talk()?;
    are_relayed(&daemon, Kind::Audio, "kernel")?;
    let offer = machines.change(Side::Caller, Kind::Fax)?;
    ensure!(
        offer.contains("m=image ") && !offer.contains("a=ice") && !offer.contains("candidate"),
        "{offer}"
    );
    are_relayed(&daemon, Kind::Fax, BESIDE_XDP[0])?;
    machines.fax()?;

    machines.change(Side::Caller, Kind::Audio)?;
    let nowhere =
        || Ok(drops(&daemon)?.packets.iter().any(|line| line.reason == "no_destination").then_some(()));
    ensure!(nowhere()?.is_none(), "{:?}", drops(&daemon)?);
    machines.caller.says()?;
    until(SOON, nowhere).context("audio goes where no check came from")?;
    machines.checks()?;
    machines.talk().context("after the fax")?;
    are_relayed(&daemon, Kind::Audio, "kernel")?;
    machines.hang_up()
}

/// What a description is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Audio,
    Fax,
}

/// How the callee's audio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Plain,
    Secured,
    Checked,
}

/// Two fax machines in a call.
struct Machines {
    caller: Machine,
    callee: Machine,
}

struct Machine {
    phone: Phone,
    call: Call,
    described: Described,
    audio: UdpSocket,
    /// For RTCP.
    control: UdpSocket,
    fax: UdpSocket,
    said: u16,
}

/// What a machine says of itself in its descriptions.
struct Described {
    address: &'static str,
    rate: u16,
    media: Media,
    /// The last offer that it answered.
    offered: String,
    /// Of its last description: no two have the same key.
    serial: u32,
    /// Those that hold, or held before the fax.
    keys: Option<Keys>,
    /// For what it sends, and for what it hears.
    contexts: Option<[Context; 2]>,
    /// What SRTCP came: the keys, and the index under them.
    indices: Vec<(Keys, u32)>,
}

impl Machines {
    fn connect(lab: &Lab, media: Media) -> Result<Self> {
        let (mut caller, mut callee) = (Phone::new(lab, Host::Caller)?, Phone::new(lab, Host::Callee)?);
        let mut from = caller.invite("0800", AUDIO)?;
        let invite = callee.be_invited()?;
        let mut far = Described::new("10.81.2.2", 14_400, media);
        let answer = far.describes(Kind::Audio, Some(&invite.body))?;
        let to = callee.respond_to(&invite, "200 OK", AUDIO, &answer)?;
        caller.be_answered(&mut from)?;
        callee.receive("an ACK", |message| message.is_request("ACK"))?;
        let near = Described::new("10.81.1.2", 9_600, Media::Plain);
        Ok(Self {
            caller: Machine::new(lab, Host::Caller, (caller, from), near)?,
            callee: Machine::new(lab, Host::Callee, (callee, to), far)?,
        })
    }

    fn of(&mut self, side: Side) -> &mut Machine {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    /// The machine of this side offers what the call is to be, and the other one answers: the offer that came.
    fn change(&mut self, by: Side, kind: Kind) -> Result<String> {
        let Self { caller, callee } = self;
        let (one, other) = match by {
            Side::Caller => (caller, callee),
            Side::Callee => (callee, caller),
        };
        let offer = one.described.describes(kind, None)?;
        let (came, answer) = std::thread::scope(|scope| {
            let Machine { phone, call, described, .. } = other;
            let waiting =
                scope.spawn(|| phone.be_reinvited_with(call, |offer| described.describes(kind, Some(offer))));
            let answer = one.phone.reinvite(&mut one.call, &offer)?;
            let came = waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            anyhow::Ok((came, answer))
        })?;
        if kind == Kind::Audio {
            one.described.is_answered(&answer.body)?;
        }
        Ok(came.body)
    }

    /// Datagrams of any length and content both ways, as they are (T.38 section 9.1: a sequence number, a packet, and those
    /// before it again).
    fn fax(&self) -> Result<()> {
        let (near, far) = (&self.caller, &self.callee);
        let (at_near, at_far) = (near.towards()?, far.towards()?);
        for sequence in 0..DATAGRAMS {
            let mut packet = sequence.to_be_bytes().to_vec();
            packet.resize(3 + usize::from(sequence) * 5, sequence as u8);
            goes(&packet, (&near.fax, at_near), (&far.fax, at_far))?;
            packet.reverse();
            goes(&packet, (&far.fax, at_far), (&near.fax, at_near))?;
        }
        Ok(())
    }

    /// Audio both ways, and RTCP of the caller's to a callee with SRTP.
    fn talk(&mut self) -> Result<()> {
        for _ in 0..PACKETS {
            let body = self.caller.says()?;
            self.callee.hears(&body).context("the callee")?;
            let body = self.callee.says()?;
            self.caller.hears(&body).context("the caller")?;
            if self.callee.described.media == Media::Secured {
                self.caller.reports()?;
                self.callee.is_reported_to()?;
            }
        }
        Ok(())
    }

    /// The callee says by a check where it is.
    fn checks(&self) -> Result<()> {
        let toward = credentials(&self.callee.described.offered)?;
        let check = Check { nominates: true, ..Check::new(&toward, UFRAG) };
        let error = check.ask(&self.callee.audio, self.callee.towards()?)?;
        ensure!(error.is_none(), "{error:?}");
        Ok(())
    }

    fn hang_up(mut self) -> Result<()> {
        self.caller.phone.hang_up(&mut self.caller.call)?;
        self.callee.phone.be_hung_up(&self.callee.call)?;
        Ok(())
    }
}

impl Machine {
    fn new(lab: &Lab, host: Host, (phone, call): (Phone, Call), described: Described) -> Result<Self> {
        let [audio, control, fax] = [AUDIO, AUDIO + 1, FAX].map(|port| socket(lab, host, port));
        Ok(Self { phone, call, described, audio: audio?, control: control?, fax: fax?, said: 0 })
    }

    /// Where the gateway wants what it sends.
    fn towards(&self) -> Result<SocketAddr> {
        self.call.far_media.context("where the gateway wants media")
    }

    /// Sends its next packet of audio: what it says in it.
    fn says(&mut self) -> Result<Vec<u8>> {
        self.said += 1;
        let mut body = vec![0x55; 160];
        body[..2].copy_from_slice(&self.said.to_be_bytes());
        let mut packet = Rtp { sequence: self.said, body: body.clone(), ..Rtp::default() }.octets();
        if let Some([protect, _]) = &mut self.described.contexts {
            packet = protect.encrypt_rtp(&packet)?.to_vec();
        }
        self.audio.send_to(&packet, self.towards()?)?;
        Ok(body)
    }

    fn hears(&mut self, body: &[u8]) -> Result<()> {
        let mut buffer = [0; 2048];
        let (length, from) = self.audio.recv_from(&mut buffer).context("it hears nothing")?;
        let mut packet = buffer[..length].to_vec();
        if let Some([_, unprotect]) = &mut self.described.contexts {
            packet = unprotect.decrypt_rtp(&packet)?.to_vec();
        }
        ensure!(packet[RTP_LEN..] == *body && from == self.towards()?, "{from} sends {packet:x?}");
        Ok(())
    }

    /// Sends a receiver report that reports nothing (RFC 3550 section 6.4.2).
    fn reports(&self) -> Result<()> {
        let at = self.towards()?;
        let report = rtcp(0, 201, &[Rtp::default().ssrc]);
        self.control.send_to(&report, SocketAddr::new(at.ip(), at.port() + 1))?;
        Ok(())
    }

    /// Hears SRTCP whose index it has not met under the same key (RFC 3711 section 9.1).
    fn is_reported_to(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        let length = self.control.recv(&mut buffer).context("no SRTCP comes")?;
        let Described { keys, contexts, indices, .. } = &mut self.described;
        let (Some(keys), Some([_, unprotect])) = (keys, contexts) else { bail!("it has no keys") };
        unprotect.decrypt_rtcp(&buffer[..length])?;
        // RFC 3711 section 3.4: the index stands before the tag, behind the bit that says that there is encryption.
        let word = buffer[..length - 10].last_chunk().context("too short")?;
        let index = u32::from_be_bytes(*word) & !(1 << 31);
        let is_met = indices.iter().any(|(met, at)| met.hear_as(keys) && *at == index);
        ensure!(!is_met, "index {index} comes again under the same key");
        indices.push((keys.clone(), index));
        Ok(())
    }
}

impl Described {
    fn new(address: &'static str, rate: u16, media: Media) -> Self {
        let (offered, indices) = (String::new(), Vec::new());
        Self { address, rate, media, offered, serial: 0, keys: None, contexts: None, indices }
    }

    /// Its description, which answers this offer if there is one.
    fn describes(&mut self, kind: Kind, offer: Option<&str>) -> Result<String> {
        let Self { address, rate, .. } = self;
        self.serial += 1;
        self.offered = offer.unwrap_or_default().to_owned();
        let session = format!(
            "v=0\r\no=phone 1 {} IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n",
            self.serial
        );
        if kind == Kind::Fax {
            return Ok(format!(
                "{session}m=image {FAX} udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:{rate}\r\n"
            ));
        }
        let audio = format!("{session}m=audio {AUDIO} RTP/AVP 0\r\n");
        Ok(match (self.media, offer) {
            (Media::Plain, _) => audio,
            (Media::Checked, _) => audio + &attributes(UFRAG, SocketAddr::new(address.parse()?, AUDIO)),
            (Media::Secured, Some(offer)) => {
                let keys = Keys::answering(offer, SUITE, self.serial)?;
                let answer = keys.answer(offer, &audio);
                self.takes(keys)?;
                answer
            }
            (Media::Secured, None) => audio + &Keys::offer(SUITE, self.serial),
        })
    }

    /// The answer to its last offer.
    fn is_answered(&mut self, answer: &str) -> Result<()> {
        match self.media {
            Media::Secured => self.takes(Keys::answering(answer, SUITE, self.serial)?),
            Media::Plain | Media::Checked => Ok(()),
        }
    }

    fn takes(&mut self, keys: Keys) -> Result<()> {
        let [protect, unprotect] = keys.contexts()?;
        let kept =
            self.contexts.take().filter(|_| self.keys.as_ref().is_some_and(|held| held.hear_as(&keys)));
        // What was counted under a key is counted on while it stays (RFC 4568 section 6.4).
        self.contexts = Some([protect, kept.map_or(unprotect, |[_, unprotect]| unprotect)]);
        self.keys = Some(keys);
        Ok(())
    }
}

fn socket(lab: &Lab, host: Host, port: u16) -> Result<UdpSocket> {
    let address = if host == Host::Caller { "10.81.1.2" } else { "10.81.2.2" };
    let socket = lab.on(host, || Ok(UdpSocket::bind((address, port))?))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}

/// A datagram goes from one end to the other as it is.
fn goes(
    payload: &[u8],
    (from, towards): (&UdpSocket, SocketAddr),
    (to, seen): (&UdpSocket, SocketAddr),
) -> Result<()> {
    from.send_to(payload, towards)?;
    let mut buffer = [0; 2048];
    let (length, source) = to.recv_from(&mut buffer).context("nothing comes")?;
    ensure!(&buffer[..length] == payload && source == seen, "{source} sends {:x?}", &buffer[..length]);
    Ok(())
}

fn flows(daemon: &Daemon<'_>) -> Result<Vec<FlowLine>> {
    Ok(daemon.ask::<FlowList>(&["flows"])?.flows)
}

fn drops(daemon: &Daemon<'_>) -> Result<Drops> {
    daemon.ask(&["drops"])
}

/// Waits until the call is that, and relayed so: fax has nothing beside its two flows.
fn are_relayed(daemon: &Daemon<'_>, kind: Kind, way: &str) -> Result<()> {
    let relayed = until(SOON, || {
        let flows = flows(daemon)?;
        let is_so = |flow: &FlowLine| (flow.kind == "udptl") == (kind == Kind::Fax) && flow.relayed_by == way;
        let counts = kind == Kind::Audio || flows.len() == 2;
        Ok((counts && !flows.is_empty() && flows.iter().all(is_so)).then_some(()))
    });
    relayed.with_context(|| format!("not {kind:?} by {way}: {:?}", flows(daemon)))
}
