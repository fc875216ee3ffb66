//! Datagrams.

use super::fault::NetFault;
use super::timer::Deadline;
use super::{NEXT_ROUND, Net, NetEvent, Source};
use crate::base::time::Time;
use crate::sip::transport::{Hop, Transport};
use std::io;
use std::sync::Arc;

/// How many datagrams are read before the other sockets have their turn.
const DATAGRAMS_A_TURN: usize = 128;

impl Net {
    pub(super) fn read_datagrams(&mut self, now: Time, slot: usize, out: &mut Vec<NetEvent>) {
        let Some(Source::Udp { socket, local }) = self.sources.get(slot) else { return };
        for _ in 0..DATAGRAMS_A_TURN {
            match socket.recv_from(&mut self.buffer) {
                Ok((length, remote)) => {
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    if bytes.iter().all(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
                        self.counts.keepalives += 1;
                        continue;
                    }
                    self.counts.datagrams_received += 1;
                    let hop = Hop { transport: Transport::Udp, local: *local, remote, connection: None };
                    out.push(NetEvent::Datagram { hop, bytes: bytes.into() });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Errors of datagrams sent before are told here; they say nothing of what is to be read.
                Err(_) => {}
            }
        }
        self.timers.arm((slot, Deadline::Resume), now + NEXT_ROUND);
    }

    pub(super) fn send_datagram(&mut self, hop: &Hop, bytes: &Arc<[u8]>) -> Result<(), NetFault> {
        // A worker listens on a handful of addresses, and they stand first.
        let socket = self.sources.iter().find_map(|(_, source)| match source {
            Source::Udp { socket, local } if *local == hop.local => Some(socket),
            Source::Udp { .. } | Source::Listener { .. } | Source::Connection(_) => None,
        });
        let Some(socket) = socket else { return Err(NetFault::NoSocket { hop: *hop }) };
        match socket.send_to(bytes, hop.remote) {
            Ok(_) => self.counts.datagrams_sent += 1,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) => {
                self.counts.datagrams_lost += 1;
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Err(NetFault::TooLarge { hop: *hop, length: bytes.len() });
            }
            Err(error) => return Err(NetFault::Unreachable { hop: *hop, source: error }),
        }
        Ok(())
    }
}
