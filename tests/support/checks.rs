//! Connectivity checks as a full agent sends them (RFC 8445 section 7.2.2).

use anyhow::{Context as _, Result, ensure};
use gateway_userspace::ice::{Builder, Class, Credentials, Message, attribute, is_stun};
use std::net::{SocketAddr, UdpSocket};

/// RFC 8445 section 5.1.2.1: of a check from a host candidate.
pub const HOST_PRIORITY: u32 = 0x6e00_01ff;

/// One check toward an agent.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// Of the agent that is checked.
    pub toward: &'a Credentials,
    /// User name fragment of the one who checks.
    pub of: &'a str,
    pub nominates: bool,
    /// Of its candidate.
    pub priority: u32,
    pub transaction: [u8; 12],
}

impl<'a> Check<'a> {
    /// Of a host candidate.
    pub fn new(toward: &'a Credentials, of: &'a str) -> Self {
        Self { toward, of, nominates: false, priority: HOST_PRIORITY, transaction: [7; 12] }
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        let username = format!("{}:{}", self.toward.ufrag, self.of);
        let builder = Builder::new(&mut packet, Class::Request, self.transaction)
            .attribute(attribute::USERNAME, username.as_bytes())
            .attribute(attribute::PRIORITY, &self.priority.to_be_bytes())
            .attribute(attribute::ICE_CONTROLLING, &[1; 8]);
        let builder = if self.nominates { builder.attribute(attribute::USE_CANDIDATE, &[]) } else { builder };
        builder.finish(Some(&self.toward.password));
        packet
    }

    /// Has it answered from there: `None` where it is right, else the error.
    pub fn ask(&self, socket: &UdpSocket, at: SocketAddr) -> Result<Option<u16>> {
        socket.send_to(&self.octets(), at)?;
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).context("no answer to a check")?;
        let packet = &buffer[..length];
        ensure!(from == at && is_stun(packet), "{from} sends {packet:x?}");
        let answer = Message::parse(packet)?;
        ensure!(answer.transaction() == self.transaction, "to another check: {answer:?}");
        if answer.class != Class::Success {
            return Ok(answer.error());
        }
        let is_right = answer.is_protected_by(&self.toward.password);
        ensure!(is_right && answer.mapped() == Some(socket.local_addr()?), "{answer:?}");
        Ok(None)
    }
}

/// What the SDP of a full agent says beside its stream, whose one candidate is the address of the stream.
pub fn attributes(ufrag: &str, at: SocketAddr) -> String {
    format!(
        "a=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{ufrag}567890123456789012\r\n\
         a=candidate:1 1 UDP 2130706431 {} {} typ host\r\n",
        at.ip(),
        at.port()
    )
}

/// What an SDP says of its writer's agent.
pub fn credentials(sdp: &str) -> Result<Credentials> {
    Ok(Credentials { ufrag: value(sdp, "ice-ufrag")?.parse()?, password: value(sdp, "ice-pwd")?.parse()? })
}

/// The value of the first attribute of this name.
pub fn value<'a>(sdp: &'a str, name: &str) -> Result<&'a str> {
    let mut attributes = sdp.lines().filter_map(|line| line.strip_prefix("a="));
    let found = attributes.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.with_context(|| format!("no {name} in {sdp}"))
}
