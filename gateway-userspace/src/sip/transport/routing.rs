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
        Transport::Tcp | Transport::Tls => SocketAddr::new(via_address(top, hop), port),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Message, parse};
    use crate::sip::transport::ConnectionId;

    fn hop(transport: Transport) -> Hop {
        let local = SocketAddr::from(([192, 0, 2, 20], 5060));
        Hop { transport, local, remote: SocketAddr::from(([192, 0, 2, 9], 40000)), connection: None }
    }

    /// The topmost Via as a server notes it, and where its response goes.
    fn answered(via: &str, hop: Hop) -> (String, String) {
        let text = format!(
            "OPTIONS sip:a@192.0.2.20 SIP/2.0\r\nVia: {via}\r\nFrom: <sip:b@h>;tag=1\r\nTo: <sip:a@192.0.2.20>\r\n\
             Call-ID: a\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        let Ok(Message::Request(mut request)) = parse(text.as_bytes()) else { panic!("no request: {via}") };
        fill_received(&mut request, hop.remote);
        let top = &request.head.via[0];
        (top.to_string(), response_destination(top, &hop).remote.to_string())
    }

    fn over_udp(via: &str) -> (String, String) {
        let (top, destination) = answered(&format!("SIP/2.0/UDP {via}"), hop(Transport::Udp));
        (top.trim_start_matches("SIP/2.0/UDP ").to_owned(), destination)
    }

    fn pair(via: &str, destination: &str) -> (String, String) {
        (via.to_owned(), destination.to_owned())
    }

    #[test]
    fn rfc3261_18_2_without_rport_the_answer_goes_to_the_port_of_sent_by() {
        assert_eq!(over_udp("192.0.2.9:5070;branch=a"), pair("192.0.2.9:5070;branch=a", "192.0.2.9:5070"));
        assert_eq!(over_udp("192.0.2.9;branch=a"), pair("192.0.2.9;branch=a", "192.0.2.9:5060"));
        let behind_nat = pair("10.0.0.1:5070;branch=a;received=192.0.2.9", "192.0.2.9:5070");
        assert_eq!(over_udp("10.0.0.1:5070;branch=a"), behind_nat);
        let by_name = pair("host.example.com;branch=a;received=192.0.2.9", "192.0.2.9:5060");
        assert_eq!(over_udp("host.example.com;branch=a"), by_name);
    }

    #[test]
    fn rfc3581_with_rport_the_answer_goes_to_the_source() {
        let noted = pair("10.0.0.1:5070;rport=40000;branch=a;received=192.0.2.9", "192.0.2.9:40000");
        assert_eq!(over_udp("10.0.0.1:5070;rport;branch=a"), noted);
        assert_eq!(over_udp("10.0.0.1:5070;rport=1;branch=a"), noted);
        assert_eq!(over_udp("192.0.2.9;rport").0, "192.0.2.9;rport=40000;received=192.0.2.9");
    }

    #[test]
    fn a_peer_cannot_say_itself_where_it_was_seen() {
        assert_eq!(over_udp("192.0.2.9;received=198.51.100.1"), pair("192.0.2.9", "192.0.2.9:5060"));
        let corrected = pair("10.0.0.1;received=192.0.2.9", "192.0.2.9:5060");
        assert_eq!(over_udp("10.0.0.1;received=198.51.100.1"), corrected);
    }

    #[test]
    fn maddr_names_the_destination_over_udp() {
        assert_eq!(over_udp("192.0.2.9:5070;maddr=198.51.100.7").1, "198.51.100.7:5070");
        assert_eq!(over_udp("192.0.2.9;maddr=m.example.com").1, "192.0.2.9:5060");
    }

    #[test]
    fn over_a_stream_the_answer_goes_back_on_the_connection_or_to_the_port_of_sent_by() {
        let via = "SIP/2.0/TCP 10.0.0.1:5070;branch=a;rport";
        let open = Hop { connection: Some(ConnectionId(1)), ..hop(Transport::Tcp) };
        assert_eq!(answered(via, open).1, "192.0.2.9:40000");
        assert_eq!(answered(via, hop(Transport::Tcp)).1, "192.0.2.9:5070");
    }

    #[test]
    fn a_mapped_source_is_noted_as_the_ipv4_address_it_is() {
        let mapped =
            Hop { remote: "[::ffff:192.0.2.9]:40000".parse().expect("an address"), ..hop(Transport::Udp) };
        assert_eq!(
            answered("SIP/2.0/UDP 192.0.2.9", mapped),
            pair("SIP/2.0/UDP 192.0.2.9", "192.0.2.9:5060")
        );
    }

    #[test]
    fn a_via_of_our_own_names_our_address_and_asks_for_rport() {
        let local = "[2001:db8::1]:5060".parse().expect("an address");
        let via = own_via(Transport::Tcp, local, "x1");
        assert_eq!(via.to_string(), "SIP/2.0/TCP [2001:db8::1]:5060;rport;branch=z9hG4bKx1");
    }
}
