//! Fax over UDPTL through the daemon: packets that are no RTP, both ways, in the place of a call's audio.

use anyhow::{Context, Result, ensure};
use gateway_userspace::admin::answer::FlowList;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Call, Phone, connect};
use support::process::until;

const AUDIO: u16 = 30_000;
/// Fax machines have another port for fax.
const FAX: u16 = 30_010;

/// Both trunks relay fax.
fn trunks() -> String {
    let relaying = |text: String, peer: &str| {
        let peer = format!("peers = [{{ address = \"{peer}:5060\" }}]\n");
        text.replacen(&peer, &format!("{peer}[trunk.media]\nfax = \"relay\"\n"), 1)
    };
    // What a table has stands before its sub-tables.
    let text = TRUNKS.replacen("allowed = [\"10.81.1.0/24\"]\n", "", 1);
    relaying(relaying(text, "10.81.1.2"), "10.81.2.2")
}

fn image(host: &str, port: u16, rate: u16) -> String {
    format!(
        "v=0\r\no=phone 1 2 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=image {port} udptl t38\r\n\
         a=T38FaxVersion:0\r\na=T38MaxBitRate:{rate}\r\n"
    )
}

fn audio(host: &str) -> String {
    format!(
        "v=0\r\no=phone 1 3 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {AUDIO} RTP/AVP 0\r\n"
    )
}

/// One changes by a re-INVITE while the other waits for it: the offer that came, as text.
fn change(one: (&mut Phone, &mut Call, &str), other: (&mut Phone, &mut Call, &str)) -> Result<String> {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.0.be_reinvited(other.1, other.2));
        one.0.reinvite(one.1, one.2)?;
        Ok(waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?.body)
    })
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

fn fax_and_back(lab: &Lab, daemon: &Daemon<'_>, relayed_by: [&str; 2]) -> Result<()> {
    let (mut caller, mut callee) = (Phone::new(lab, Host::Caller)?, Phone::new(lab, Host::Callee)?);
    let (mut from, mut to) = connect(&mut caller, &mut callee, AUDIO)?;
    let socket = |host, address: &str, port: u16| -> Result<UdpSocket> {
        let socket = lab.on(host, || Ok(UdpSocket::bind((address, port))?))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(socket)
    };
    let near = socket(Host::Caller, "10.81.1.2", FAX)?;
    let far = socket(Host::Callee, "10.81.2.2", FAX)?;

    let (of_caller, of_callee) = (image("10.81.1.2", FAX, 9_600), image("10.81.2.2", FAX, 14_400));
    let offer = change((&mut callee, &mut to, &of_callee), (&mut caller, &mut from, &of_caller))?;
    ensure!(offer.contains("m=image ") && offer.contains("a=T38MaxBitRate:14400"), "{offer}");
    let [at_caller, at_callee] =
        [&from, &to].map(|call| call.far_media.context("an address of the gateway's"));
    let (at_caller, at_callee) = (at_caller?, at_callee?);
    until(SOON, || {
        let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
        let is_fax = flows.iter().all(|flow| flow.kind == "udptl" && flow.relayed_by == relayed_by[0]);
        Ok((flows.len() == 2 && is_fax).then_some(()))
    })?;
    // UDPTL: a sequence number, an IFP packet and those before it again (T.38 section 9.1); of any length and content.
    for sequence in 0..50_u16 {
        let mut packet = sequence.to_be_bytes().to_vec();
        packet.resize(3 + usize::from(sequence) * 5, sequence as u8);
        goes(&packet, (&near, at_caller), (&far, at_callee))?;
        packet.reverse();
        goes(&packet, (&far, at_callee), (&near, at_caller))?;
    }
    // Somebody else's is not heard, and nobody else is sent to.
    let stranger = socket(Host::Callee, "10.81.2.2", FAX + 1)?;
    stranger.send_to(b"stranger", at_callee)?;
    goes(b"after the stranger", (&far, at_callee), (&near, at_caller))?;
    until(SOON, || {
        let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
        let counted: Vec<_> = flows.iter().map(|flow| (flow.packets, flow.refused)).collect();
        Ok((counted == [(50, 0), (51, 1)]).then_some(()))
    })?;

    let offer =
        change((&mut caller, &mut from, &audio("10.81.1.2")), (&mut callee, &mut to, &audio("10.81.2.2")))?;
    ensure!(offer.contains("m=audio ") && !offer.contains("m=image"), "{offer}");
    drop((near, far));
    let near = socket(Host::Caller, "10.81.1.2", AUDIO)?;
    let far = socket(Host::Callee, "10.81.2.2", AUDIO)?;
    let (at_caller, at_callee) =
        (from.far_media.context("of the caller")?, to.far_media.context("of the callee")?);
    let speech = [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7][..], &[0xff; 160]].concat();
    goes(&speech, (&near, at_caller), (&far, at_callee))?;
    goes(&speech, (&far, at_callee), (&near, at_caller))?;
    // A flow leaves userspace when nothing of it is under way there any more.
    until(SOON, || {
        let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
        let is_audio = flows.iter().all(|flow| flow.kind != "udptl" && flow.relayed_by == relayed_by[1]);
        Ok(is_audio.then_some(()))
    })?;
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    Ok(())
}

#[test]
fn fax_goes_beside_the_program_through_userspace_and_audio_is_the_kernels_again() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(&lab, &trunks())?;
    fax_and_back(&lab, &daemon, ["userspace (udptl)", "kernel"])
}

#[test]
fn fax_goes_over_sockets_where_there_is_no_xdp() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks())?;
    fax_and_back(&lab, &daemon, ["sockets", "sockets"])
}
