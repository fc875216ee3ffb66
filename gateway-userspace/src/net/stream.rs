//! The octets of a connection, with or without TLS; nothing above knows the difference.

use super::tls::Session;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read, Write};

/// What one look at a stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Taken {
    /// Octets of SIP; none means that the stream has ended.
    pub(in crate::net) count: usize,
    /// The socket held no more than this, and tells when it does (epoll(7), "edge-triggered"); that the peer has ended the
    /// stream may still be to be read.
    pub(in crate::net) drained: bool,
}

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(TcpStream, Session),
}

impl Stream {
    /// Whether a dialled stream is open by now; an error if it never will be.
    pub(super) fn is_open(&self) -> io::Result<bool> {
        let socket = self.socket();
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a handshake as far as the socket allows; whether there is none left to do.
    pub(super) fn shake(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) => Ok(true),
            Self::Tls(socket, session) => session.shake(socket),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Taken> {
        match self {
            Self::Tcp(socket) => {
                let count = socket.read(buffer)?;
                Ok(Taken { count, drained: count < buffer.len() })
            }
            Self::Tls(socket, session) => session.read(socket, buffer),
        }
    }

    /// Writes as much of all of them as is taken, with one call of the kernel and as few records as they fit in.
    pub(super) fn write(&mut self, messages: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write_vectored(messages),
            Self::Tls(socket, session) => session.write(socket, messages),
        }
    }

    /// Gives the socket what was written and waits inside; `WouldBlock` if some still does.
    pub(super) fn push(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(socket, session) => session.push(socket),
        }
    }

    /// Whether something that was written waits inside for the socket.
    pub(super) fn waits(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(_, session) => session.waits(),
        }
    }

    /// Says farewell, where the protocol has one.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Tcp(_) => {}
            Self::Tls(socket, session) => session.finish(socket),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) | Self::Tls(socket, _) => socket,
        }
    }

    fn socket_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Tcp(socket) | Self::Tls(socket, _) => socket,
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket_mut().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket_mut().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket_mut().deregister(registry)
    }
}
