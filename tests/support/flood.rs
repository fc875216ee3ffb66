//! UDP packets with any source address, many of them.

use crate::lab::{Host, Lab};
use crate::wire::Frame;
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::Duration;

/// `IPPROTO_RAW` of netinet/in.h: whoever sends writes the IP header.
const RAW: i32 = 255;
/// Octets of an Ethernet header without tags.
const ETHERNET: usize = 14;
/// So many at once, and then a breath, so that the far end's ring keeps up and the calls beside are not lost in it.
const VOLLEY: usize = 64;
const BREATH: Duration = Duration::from_millis(1);

/// A sender of packets that look as if they came from anywhere.
#[derive(Debug)]
pub struct Flood {
    socket: Socket,
    sent: usize,
}

impl Flood {
    pub fn new(lab: &Lab, host: Host) -> Result<Self> {
        let open = || Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?);
        let socket = lab.on(host, open).context("open a raw socket")?;
        Ok(Self { socket, sent: 0 })
    }

    /// One packet.
    pub fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Result<()> {
        let frame = Frame::new(&from.to_string(), &to.to_string(), payload.to_vec()).octets();
        let packet = frame.get(ETHERNET..).unwrap_or_default();
        self.socket.send_to(packet, &SocketAddr::from(to).into())?;
        self.sent += 1;
        if self.sent.is_multiple_of(VOLLEY) {
            thread::sleep(BREATH);
        }
        Ok(())
    }
}

/// The address with this number in 198.18.0.0/15, which is nobody's (RFC 2544).
pub fn nobody(number: usize) -> Ipv4Addr {
    let low = u32::try_from(number % (1 << 17)).unwrap_or_default();
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) | low)
}
