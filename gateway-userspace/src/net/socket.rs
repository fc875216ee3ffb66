//! Sockets as the gateway needs them: one of each kind per worker on the same address, none of them blocking.

use super::fault::ListenFault;
use crate::sip::transport::Transport;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections waiting to be accepted, above which the kernel refuses new ones.
const BACKLOG: i32 = 1024;

/// How long sent octets may stay unacknowledged before the kernel calls the connection dead.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether `address` can be listened on at all. To be asked once before the workers start: their sockets share the
/// address, and so would not notice a second daemon that does the same.
pub fn probe(address: SocketAddr, transport: Transport) -> Result<(), ListenFault> {
    open(address, transport, Sharing::Alone).map(drop)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With the other workers: the kernel spreads peers over their sockets.
    Workers,
    Alone,
}

/// A bound socket; listening if it is one for streams.
pub(super) fn open(
    address: SocketAddr,
    transport: Transport,
    sharing: Sharing,
) -> Result<Socket, ListenFault> {
    if address.ip().is_unspecified() {
        return Err(ListenFault::Wildcard { address });
    }
    bind(address, transport, sharing).map_err(|error| ListenFault::new(transport, address, error))
}

fn bind(address: SocketAddr, transport: Transport, sharing: Sharing) -> io::Result<Socket> {
    let socket = create(address, transport)?;
    if sharing == Sharing::Workers {
        socket.set_reuse_port(true)?;
    }
    match transport {
        Transport::Udp => socket.bind(&address.into())?,
        Transport::Tcp | Transport::Tls => {
            // Connections of the last run that linger in TIME_WAIT do not keep the port.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
        }
    }
    Ok(socket)
}

/// A stream on its way to `remote`, from an own port of `local`'s address.
pub(super) fn dial(local: SocketAddr, remote: SocketAddr) -> io::Result<Socket> {
    let socket = create(local, Transport::Tcp)?;
    prepare_stream(&socket)?;
    socket.bind(&SocketAddr::new(local.ip(), 0).into())?;
    match socket.connect(&remote.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// Messages are whole when they are written, so nothing is gained by waiting for more.
pub(super) fn prepare_stream(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Asks the kernel for room for `octets`; it gives what `net.core.rmem_max` allows.
pub(super) fn set_receive_buffer(socket: &Socket, octets: usize) -> io::Result<()> {
    socket.set_recv_buffer_size(octets)
}

fn create(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp | Transport::Tls => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
