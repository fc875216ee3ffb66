//! Via on the way in and on the way back (RFC 3261 section 18, RFC 3581).

use super::hop::{Hop, Transport};
use crate::sip::message::{Request, Via};
use std::net::{IpAddr, SocketAddr};

/// Notes in the topmost Via of a received request where it came from. To be done before anything is answered.
pub fn fill_received(request: &mut Request, source: SocketAddr) {
    if let Some(top) = request.head.via.first_mut() {
        top.fill_received(source);
    }
}

/// The Via of a request of our own that leaves by `transport` from `local`, the address peers are to answer to.
/// `branch` is what follows the magic cookie.
pub fn own_via(transport: Transport, local: SocketAddr, branch: &str) -> Via {
    Via::new(transport.via(), local.ip(), local.port(), branch)
}

/// Where the response to a request that came by `hop` goes, given the request's topmost Via after
/// [`fill_received`] (RFC 3261 section 18.2.2).
///
/// Over a stream: back on the connection, or on a new one to the address of Via if it is gone. Over UDP: to `maddr`,
/// else to `received` and `rport`, else to sent-by; to the source where Via names a host that would need a look-up.
pub fn response_destination(top: &Via, hop: &Hop) -> Hop {
    let port = top.port.unwrap_or(top.transport.default_port());
    let remote = match hop.transport {
        Transport::Tcp => SocketAddr::new(via_address(top, hop), port),
        Transport::Udp => match top.maddr().and_then(|maddr| maddr.address()) {
            Some(maddr) => SocketAddr::new(maddr, port),
            None => SocketAddr::new(via_address(top, hop), top.rport().flatten().unwrap_or(port)),
        },
    };
    let remote = if hop.connection.is_some() { hop.remote } else { remote };
    Hop { remote, ..*hop }
}

fn via_address(top: &Via, hop: &Hop) -> IpAddr {
    top.received().or_else(|| top.host.address()).unwrap_or_else(|| hop.remote.ip())
}
