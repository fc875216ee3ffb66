//! Connections between phones and gateway, where a trunk runs over TCP.

use super::Scene;
use gateway_userspace::policy::Snapshot;
use gateway_userspace::runtime::core::Core;
use gateway_userspace::sip::transport::{ConnectionId, Hop, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One connection between any two, opened when somebody sends.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// By the gateway's address and the phone's.
    open: BTreeMap<(SocketAddr, SocketAddr), ConnectionId>,
    opened: u64,
}

impl Connections {
    pub(super) fn transport(&self, policy: &Snapshot, local: SocketAddr) -> Transport {
        let mut trunks = policy.trunks();
        trunks.find(|(_, trunk)| trunk.listen == local).map_or(Transport::Udp, |(_, trunk)| trunk.transport)
    }

    pub(super) fn is_stream(&self, policy: &Snapshot, one: SocketAddr, other: SocketAddr) -> bool {
        [one, other].into_iter().any(|end| self.transport(policy, end).is_stream())
    }

    /// The hop that a message of `remote` came by.
    pub(super) fn hop(&mut self, policy: &Snapshot, local: SocketAddr, remote: SocketAddr) -> Hop {
        let transport = self.transport(policy, local);
        let opened = &mut self.opened;
        let connection = transport.is_stream().then(|| {
            *self.open.entry((local, remote)).or_insert_with(|| {
                *opened += 1;
                ConnectionId(*opened)
            })
        });
        Hop { transport, local, remote, connection }
    }

    /// Whether something can be sent there: not by a connection that is gone.
    pub(super) fn takes(&self, hop: &Hop) -> bool {
        hop.connection.is_none() || self.open.get(&(hop.local, hop.remote)).copied() == hop.connection
    }
}

impl Scene {
    /// The connection of a phone is reset, and what is on its way is lost.
    pub fn resets(&mut self, phone: usize) {
        let (local, remote) = (self.phones[phone].gateway, self.phones[phone].address);
        let transport = self.connections.transport(&self.policy, local);
        let Some(connection) = self.connections.open.remove(&(local, remote)) else { return };
        self.network.reset(local, remote);
        self.note(format!("the connection of {} is reset", self.name(remote)));
        let hop = Hop { transport, local, remote, connection: Some(connection) };
        for core in 0..self.cores.len() {
            // The first core held it.
            let tell = if core == 0 { Core::transport_failed } else { Core::connection_closed };
            self.turn(core, |core, turn| tell(core, turn, hop));
        }
    }
}
