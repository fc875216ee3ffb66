//! One TLS connection between its socket and the octets of SIP.

use super::Profile;
#[cfg(feature = "openssl")]
use super::openssl;
use super::profile::Configured;
use crate::net::stream::Taken;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use std::io::{self, IoSlice, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

/// State of one connection, by the engine that runs it.
#[derive(Debug)]
pub(in crate::net) enum Session {
    Rustls(Box<rustls::Connection>),
    #[cfg(feature = "openssl")]
    OpenSsl(openssl::Connection),
}

impl Session {
    /// For a connection that a peer opened.
    pub(in crate::net) fn server(profile: &Profile) -> io::Result<Self> {
        match &profile.configured {
            Configured::Rustls { server, .. } => {
                let session = ServerConnection::new(Arc::clone(server)).map_err(io::Error::other)?;
                Ok(Self::Rustls(Box::new(session.into())))
            }
            #[cfg(feature = "openssl")]
            Configured::OpenSsl(contexts) => openssl::Connection::server(contexts).map(Self::OpenSsl),
        }
    }

    /// For a connection that we open to `name`, or where there is none to `address`: what the peer's certificate has
    /// to be for.
    pub(in crate::net) fn client(profile: &Profile, name: Option<&str>, address: IpAddr) -> io::Result<Self> {
        let name = match profile.peer_name.as_deref().or(name) {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
            None => ServerName::from(address),
        };
        match &profile.configured {
            Configured::Rustls { client, .. } => {
                let session = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
                Ok(Self::Rustls(Box::new(session.into())))
            }
            #[cfg(feature = "openssl")]
            Configured::OpenSsl(contexts) => openssl::Connection::client(contexts, name).map(Self::OpenSsl),
        }
    }

    /// Takes the handshake as far as the socket allows; whether it is done.
    pub(in crate::net) fn shake(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        loop {
            self.push(socket).or_else(unless_blocked)?;
            if !self.is_handshaking() {
                return Ok(true);
            }
            match self.pull(socket) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => {
                    // The alert that says why: the peer's operator will want it, too. It goes or it does not.
                    let _ = self.push(socket);
                    return Err(error);
                }
            }
        }
    }

    pub(in crate::net) fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Taken> {
        let taken = match self {
            Self::Rustls(session) => read_records(session, socket, buffer),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => read_octets(session, socket, buffer),
        };
        match taken {
            // Many close without saying so in TLS. A message that is cut off is noticed by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Taken { count: 0, drained: false })
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // The alert that says why goes or it does not.
                let _ = self.push(socket);
                Err(error)
            }
            taken => taken,
        }
    }

    /// Takes what there is room for; it counts as written, though some of it may wait in [`Session::waits`].
    pub(in crate::net) fn write(
        &mut self,
        socket: &mut TcpStream,
        messages: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.push(socket)?;
        let taken = match self {
            Self::Rustls(session) => session.writer().write_vectored(messages)?,
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.write(messages.first().map_or(&[], |message| message))?,
        };
        self.push(socket).or_else(unless_blocked)?;
        Ok(taken)
    }

    /// Gives the socket what waits for it; `WouldBlock` if some still does.
    pub(in crate::net) fn push(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Rustls(session) => {
                while session.wants_write() {
                    if session.write_tls(socket)? == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                }
                Ok(())
            }
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.push(socket),
        }
    }

    /// Whether octets wait for the socket to take them.
    pub(in crate::net) fn waits(&self) -> bool {
        match self {
            Self::Rustls(session) => session.wants_write(),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.waits(),
        }
    }

    /// Tells the peer that nothing more comes, as far as the socket has room.
    pub(in crate::net) fn finish(&mut self, socket: &mut TcpStream) {
        match self {
            Self::Rustls(session) => session.send_close_notify(),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.close(),
        }
        let _ = self.push(socket);
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Self::Rustls(session) => session.is_handshaking(),
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.is_handshaking(),
        }
    }

    /// Reads from the socket once, for the handshake.
    fn pull(&mut self, socket: &mut TcpStream) -> io::Result<usize> {
        match self {
            Self::Rustls(session) => {
                let count = session.read_tls(socket)?;
                let processed = session.process_new_packets();
                processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                Ok(count)
            }
            #[cfg(feature = "openssl")]
            Self::OpenSsl(session) => session.pull(socket),
        }
    }
}

/// Octets of SIP out of the records that the socket has. rustls reads 4 KiB at once, which is few records for a call of the
/// kernel: so the socket is read into the end of `buffer`, and rustls reads from there.
fn read_records(
    session: &mut rustls::Connection,
    socket: &mut TcpStream,
    buffer: &mut [u8],
) -> io::Result<Taken> {
    let (clear, sealed) = buffer.split_at_mut(buffer.len() - buffer.len() * 3 / 8);
    loop {
        match session.reader().read(clear) {
            Ok(count) => return Ok(Taken { count, drained: false }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let arrived = socket.read(sealed)?;
        // That the peer has said farewell is told by the next read.
        let mut drained = arrived < sealed.len();
        let mut records = sealed.get(..arrived).unwrap_or_default();
        let mut count = 0;
        // Once at least: that the socket has ended is for rustls to know.
        loop {
            let consumed = session.read_tls(&mut records)?;
            let state = session.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            drained &= !state.peer_has_closed() && arrived > 0;
            match session.reader().read(clear.get_mut(count..).unwrap_or_default()) {
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            if consumed == 0 || records.is_empty() {
                break;
            }
        }
        // What came may be no data of SIP, such as tickets or a key update, or the first part of a record.
        if count > 0 {
            return Ok(Taken { count, drained });
        }
        if drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
}

/// Octets of SIP that the OpenSSL engine has, or gets from the socket.
#[cfg(feature = "openssl")]
fn read_octets(
    session: &mut openssl::Connection,
    socket: &mut TcpStream,
    buffer: &mut [u8],
) -> io::Result<Taken> {
    loop {
        match session.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(|count| Taken { count, drained: false }),
        }
        session.pull(socket)?;
    }
}

fn unless_blocked(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}
