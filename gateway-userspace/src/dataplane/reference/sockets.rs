//! The engine with sockets around it: one per address that a flow arrives at or leaves from.

use super::super::compile::{arrival, key};
use super::super::fault::DataplaneFault;
use super::super::kernel::monotonic;
use super::super::raw;
use super::super::record::Record;
use super::bridges::Bridges;
use super::counters::Counters;
use super::datagram;
use super::engine::{Carrier, DATAGRAM_MAX, Engine, GROWTH_MAX};
use super::relay::{Arrival, carries};
use crate::base::time::Time;
use crate::media::plan::FlowSpec;
use gateway_common::flow::{FlowConfig, FlowKey, NO_SLOT, flag};
use gateway_common::learned::FlowState;
use gateway_common::net::Be16;
use gateway_common::verdict::Reason;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// Flows of one worker over sockets.
#[derive(Debug)]
pub(crate) struct SocketRelay {
    engine: Engine,
    sockets: MediaSockets,
    poll: Option<(Registry, Range<usize>)>,
    buffer: Box<[u8]>,
}

#[derive(Debug, Default)]
struct MediaSockets {
    sockets: Slab<MediaSocket>,
    by_address: HashMap<FlowKey, usize>,
}

#[derive(Debug)]
struct MediaSocket {
    socket: UdpSocket,
    at: FlowKey,
    /// Flows that arrive at it or leave from it.
    users: u32,
    /// DSCP and ECN that it sends with now.
    traffic_class: u8,
}

impl SocketRelay {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            engine: Engine::new(counters),
            sockets: MediaSockets::default(),
            poll: None,
            buffer: vec![0; DATAGRAM_MAX + GROWTH_MAX].into_boxed_slice(),
        }
    }

    /// Sockets opened from now on wake `registry`'s poll by tokens of this range.
    pub(crate) fn register(&mut self, registry: Registry, tokens: Range<usize>) {
        self.poll = Some((registry, tokens));
    }

    pub(crate) fn owns(&self, token: Token) -> bool {
        self.poll.as_ref().is_some_and(|(_, tokens)| tokens.contains(&token.0))
    }

    pub(crate) fn config(&self, at: FlowKey) -> Option<&FlowConfig> {
        self.engine.config(at)
    }

    pub(crate) fn state(&self, slot: u32) -> FlowState {
        self.engine.state(slot)
    }

    /// Installs a flow or replaces its configuration, with the sockets that it needs.
    pub(crate) fn insert(&mut self, at: FlowKey, config: FlowConfig) -> Result<(), DataplaneFault> {
        let wanted = addresses(at, &config);
        let before = self.engine.config(at).map(|before| addresses(at, before)).unwrap_or_default();
        for (index, address) in wanted.iter().enumerate() {
            if let Err(fault) = self.open(*address) {
                wanted[..index].iter().for_each(|address| self.close(*address));
                return Err(fault);
            }
        }
        before.into_iter().for_each(|address| self.close(address));
        // The engine's own keys serve every suite.
        self.engine.insert(at, FlowConfig { flags: config.flags & !flag::SECURED, ..config });
        Ok(())
    }

    pub(crate) fn remove(&mut self, at: FlowKey) {
        if let Some(config) = self.engine.remove(at) {
            addresses(at, &config).into_iter().for_each(|address| self.close(address));
        }
    }

    /// The engine, and what takes its packets away.
    pub(crate) fn engine(&mut self) -> (&mut Engine, &mut dyn Carrier) {
        (&mut self.engine, &mut self.sockets)
    }

    /// When the engine has something to do by itself.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.engine.deadline()
    }

    /// Calls that are more than a relay.
    pub(crate) fn bridges(&self) -> &Bridges {
        self.engine.bridges()
    }

    /// Gives the flow of `slot` the keys of its specification.
    pub(crate) fn secure(&mut self, slot: u32, spec: &FlowSpec) {
        let keys = [spec.unprotect.as_ref(), spec.protect.as_ref()];
        self.engine.secure((slot, NO_SLOT), keys, false);
    }

    /// Forgets a slot that is free again.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.engine.forget(slot);
    }

    /// A socket is readable: relays all it holds.
    pub(crate) fn ready(&mut self, token: Token, records: &mut Vec<Record>) {
        let Some(index) = self.poll.as_ref().and_then(|(_, tokens)| token.0.checked_sub(tokens.start)) else {
            return;
        };
        while let Some(media) = self.sockets.sockets.get(index) {
            let at = media.at;
            let received = media.socket.try_io(|| {
                datagram::receive(&SockRef::from(&media.socket), &mut self.buffer[..DATAGRAM_MAX])
            });
            match received {
                Ok((octets, source, traffic_class)) => {
                    let source = key(source);
                    let arrived =
                        Arrival { at, source: source.address, source_port: source.port, traffic_class };
                    self.engine.receive(monotonic(), arrived, &mut self.buffer, octets, &mut self.sockets);
                    self.engine.answer(&mut self.sockets);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What an earlier send met (port unreachable): taken off the socket by reading it.
                Err(_) => {}
            }
        }
        records.extend(self.engine.records());
    }

    fn open(&mut self, at: FlowKey) -> Result<(), DataplaneFault> {
        if let Some(media) = self.sockets.at(at) {
            media.users += 1;
            return Ok(());
        }
        let address = arrival(at);
        let fault = |source| DataplaneFault::Socket { at: address, source };
        let mut socket = bind(address).map_err(fault)?;
        let entry = self.sockets.sockets.vacant_entry();
        if let Some((registry, tokens)) = &self.poll {
            let token = tokens.start + entry.key();
            if !tokens.contains(&token) {
                return Err(fault(io::Error::other("more sockets than the worker has tokens for")));
            }
            registry.register(&mut socket, Token(token), Interest::READABLE).map_err(fault)?;
        }
        self.sockets.by_address.insert(at, entry.key());
        entry.insert(MediaSocket { socket, at, users: 1, traffic_class: 0 });
        Ok(())
    }

    fn close(&mut self, at: FlowKey) {
        let sockets = &mut self.sockets;
        let Some(&index) = sockets.by_address.get(&at) else { return };
        let Some(media) = sockets.sockets.get_mut(index) else { return };
        media.users -= 1;
        if media.users == 0 {
            sockets.by_address.remove(&at);
            // Closing takes it off the poll.
            drop(sockets.sockets.remove(index));
        }
    }
}

impl MediaSockets {
    fn at(&mut self, at: FlowKey) -> Option<&mut MediaSocket> {
        self.by_address.get(&at).and_then(|index| self.sockets.get_mut(*index))
    }
}

impl Carrier for MediaSockets {
    fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        traffic_class: u8,
        payload: &[u8],
    ) -> Result<(), Reason> {
        self.at(key(from)).ok_or(Reason::NoTransmit)?.send(payload, to, traffic_class)
    }
}

impl MediaSocket {
    fn send(&mut self, payload: &[u8], to: SocketAddr, traffic_class: u8) -> Result<(), Reason> {
        if self.traffic_class != traffic_class {
            let socket = SockRef::from(&self.socket);
            let set = match to {
                SocketAddr::V4(_) => socket.set_tos_v4(u32::from(traffic_class)),
                SocketAddr::V6(_) => socket.set_tclass_v6(u32::from(traffic_class)),
            };
            if set.is_ok() {
                self.traffic_class = traffic_class;
            }
        }
        self.socket.send_to(payload, to).map(drop).map_err(|error| raw::reason(&error))
    }
}

/// Where a flow arrives, and where what it carries leaves from.
fn addresses(at: FlowKey, config: &FlowConfig) -> Vec<FlowKey> {
    let (rtp, rtcp) = carries(config.kind);
    let outputs = [(rtp, &config.rtp), (rtcp, &config.rtcp)];
    let leaving =
        outputs.into_iter().filter(|(carried, output)| *carried && output.local_port != Be16::new(0));
    let leaving = leaving.map(|(_, output)| FlowKey::new(output.local, output.local_port));
    std::iter::once(at).chain(leaving).collect()
}

fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    match at {
        SocketAddr::V4(_) => socket.set_recv_tos_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_recv_tclass_v6(true)?;
        }
    }
    socket.bind(&at.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::super::super::compile::Place;
    use super::super::super::compile::{Compiled, compile};
    use super::*;
    use crate::base::id::Side;
    use crate::base::token::Tokens;
    use crate::ice::{Builder, Class, Credentials, Message, Mint, Peer, UnknownAttributes, attribute};
    use crate::media::plan::{ChecksSpec, Fork, GateSpec, OutputSpec, PayloadType};
    use crate::srtp::{MasterKey, Protect, Suite, Unprotect};
    use gateway_common::flow::{FlowKind, Latch};
    use std::time::Duration;

    fn key(octet: u8) -> MasterKey {
        MasterKey::new(Suite::AesCm128HmacSha1_80, &[octet; 30]).unwrap()
    }

    fn peer() -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// Of a socket that is closed again.
    fn free_address() -> SocketAddr {
        peer().local_addr().unwrap()
    }

    fn packet(sequence: u8) -> Vec<u8> {
        let mut packet = vec![0x80, 0, 0, sequence, 0, 0, 0, 0, 1, 2, 3, 4];
        packet.extend([sequence; 160]);
        packet
    }

    fn flow(at: SocketAddr, (from, to): (SocketAddr, SocketAddr), learned_from: Option<usize>) -> FlowSpec {
        FlowSpec {
            from: Side::Caller,
            at,
            kind: FlowKind::Mux,
            gate: GateSpec::Any,
            latch: Latch::FirstPacket,
            dscp: None,
            rate: None,
            clock_rate: 8000,
            payload_types: vec![PayloadType { near: 0, far: 0, event: false }],
            muted: false,
            continuity: true,
            rtcp_copy: false,
            judged: None,
            rtp: Some(OutputSpec { from, to, learned_from }),
            rtcp: None,
            unprotect: None,
            protect: None,
            checks: None,
            userspace: None,
            bridge: None,
        }
    }

    struct Running {
        poll: mio::Poll,
        relay: SocketRelay,
        counters: Arc<Counters>,
    }

    impl Running {
        fn new(flows: &[FlowSpec]) -> Self {
            let (poll, counters) = (mio::Poll::new().unwrap(), Arc::new(Counters::default()));
            let mut relay = SocketRelay::new(Arc::clone(&counters));
            relay.register(poll.registry().try_clone().unwrap(), 0..100);
            let places: Vec<_> = (0..flows.len() as u32)
                .map(|slot| Place {
                    slot,
                    epoch: 1,
                    latch_epoch: 0,
                    crypto_slot: gateway_common::flow::NO_SLOT,
                })
                .collect();
            relay.engine.configure_checks(flows, &places);
            for (Compiled { key, config }, spec) in compile(flows, &places).unwrap().into_iter().zip(flows) {
                relay.insert(key, config).unwrap();
                relay.secure(config.slot, spec);
            }
            Self { poll, relay, counters }
        }

        /// Relays what comes until a packet went out or was refused.
        fn one(&mut self) {
            let done = |counters: &Counters| {
                counters.drops().values().sum::<u64>() + counters.traffic().values().sum::<u64>()
            };
            let before = done(&self.counters);
            let mut events = mio::Events::with_capacity(8);
            while done(&self.counters) == before {
                self.poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
                assert!(!events.is_empty(), "nothing came");
                events.iter().for_each(|event| self.relay.ready(event.token(), &mut Vec::new()));
            }
        }
    }

    fn received(socket: &std::net::UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let octets = socket.recv(&mut buffer).unwrap();
        buffer[..octets].to_vec()
    }

    // Statements 136, 148.
    #[test]
    fn only_a_source_whose_tag_is_right_is_latched_and_answered() {
        let (signalled, moved, stranger, plain) = (peer(), peer(), peer(), peer());
        let (secured_port, plain_port) = (free_address(), free_address());
        let to = |socket: &std::net::UdpSocket| socket.local_addr().unwrap();
        let near = FlowSpec { unprotect: Some(key(1)), ..flow(secured_port, (plain_port, to(&plain)), None) };
        let far =
            FlowSpec { protect: Some(key(2)), ..flow(plain_port, (secured_port, to(&signalled)), Some(0)) };
        let mut running = Running::new(&[near, far]);

        stranger.send_to(&packet(1), secured_port).unwrap();
        running.one();
        let mut forged = [packet(2), vec![0; 10]].concat();
        forged[172..].copy_from_slice(&[7; 10]);
        stranger.send_to(&forged, secured_port).unwrap();
        running.one();
        assert_eq!(running.counters.drops().get(&Reason::BadTag), Some(&2));

        plain.send_to(&packet(1), plain_port).unwrap();
        running.one();
        let mut unprotect = Unprotect::new(&key(2));
        let mut came = received(&signalled);
        assert_eq!(unprotect.rtp(&mut came), Ok(172), "to the signalled address still");
        assert_eq!(came[..172], packet(1));

        let mut protect = Protect::new(&key(1));
        let mut buffer = [packet(3), vec![0; 10]].concat();
        protect.rtp(&mut buffer, 172).unwrap();
        moved.send_to(&buffer, secured_port).unwrap();
        running.one();
        assert_eq!(received(&plain), packet(3));
        moved.send_to(&buffer, secured_port).unwrap();
        running.one();
        assert_eq!(running.counters.drops().get(&Reason::Replayed), Some(&1));

        plain.send_to(&packet(2), plain_port).unwrap();
        running.one();
        let mut came = received(&moved);
        assert_eq!(unprotect.rtp(&mut came), Ok(172), "to where the authentic packet came from");
        assert_eq!(came[..172], packet(2));
    }

    fn waits(running: &mut Running, socket: &std::net::UdpSocket) -> Vec<u8> {
        running.one();
        received(socket)
    }

    /// A check toward `local` as a full agent sends it.
    fn check(local: &Credentials, ufrag: &str, nominates: bool) -> Vec<u8> {
        let mut packet = Vec::new();
        let username = format!("{}:{ufrag}", local.ufrag);
        let builder = Builder::new(&mut packet, Class::Request, [7; 12])
            .attribute(attribute::USERNAME, username.as_bytes())
            .attribute(attribute::PRIORITY, &[0x6e, 0, 1, 0xff])
            .attribute(attribute::ICE_CONTROLLING, &[1; 8]);
        let builder = if nominates { builder.attribute(attribute::USE_CANDIDATE, &[]) } else { builder };
        builder.finish(Some(&local.password));
        packet
    }

    // Statements 173, 175.
    #[test]
    fn media_is_heard_from_checked_addresses_only_and_goes_to_the_nominated_one() {
        let (first, second, stranger, plain) = (peer(), peer(), peer(), peer());
        let (checked_port, plain_port) = (free_address(), free_address());
        let to = |socket: &std::net::UdpSocket| socket.local_addr().unwrap();
        let nobody = "0.0.0.0:0".parse().unwrap();
        let local = Mint::new(&mut Tokens::seeded(1)).credentials();
        let near = FlowSpec {
            gate: GateSpec::Exact(nobody),
            latch: Latch::Signalled,
            checks: Some(ChecksSpec {
                local: local.clone(),
                unknown: UnknownAttributes::Refuse,
                forks: vec![Fork {
                    peer: Peer { ufrag: "them".parse().unwrap(), candidates: Vec::new() },
                    unprotect: None,
                }],
            }),
            ..flow(checked_port, (plain_port, to(&plain)), None)
        };
        let far = flow(plain_port, (checked_port, nobody), Some(0));
        let mut running = Running::new(&[near, far]);
        let refused = |running: &Running, reason| running.counters.drops().get(&reason).copied();

        // Nobody has proven anything yet.
        stranger.send_to(&packet(1), checked_port).unwrap();
        running.one();
        assert_eq!(refused(&running, Reason::SourceRefused), Some(1));
        plain.send_to(&packet(1), plain_port).unwrap();
        running.one();
        assert_eq!(refused(&running, Reason::NoDestination), Some(1));
        let wrong = Credentials { password: "0123456789012345678901".parse().unwrap(), ..local.clone() };
        stranger.send_to(&check(&wrong, "them", true), checked_port).unwrap();
        running.one();
        assert_eq!(refused(&running, Reason::CheckRefused), Some(1));

        // Two addresses are checked: both are heard, and the first one is sent to.
        for (socket, sequence) in [(&first, 2), (&second, 3)] {
            socket.send_to(&check(&local, "them", false), checked_port).unwrap();
            let answer = waits(&mut running, socket);
            assert_eq!(Message::parse(&answer).unwrap().mapped(), Some(to(socket)));
            socket.send_to(&packet(sequence), checked_port).unwrap();
            assert_eq!(waits(&mut running, &plain)[3], sequence);
        }
        first.send_to(&packet(4), checked_port).unwrap();
        assert_eq!(waits(&mut running, &plain)[3], 4, "still");
        plain.send_to(&packet(5), plain_port).unwrap();
        assert_eq!(waits(&mut running, &first)[3], 5);

        // One is nominated.
        second.send_to(&check(&local, "them", true), checked_port).unwrap();
        waits(&mut running, &second);
        plain.send_to(&packet(6), plain_port).unwrap();
        assert_eq!(waits(&mut running, &second)[3], 6);
        first.send_to(&packet(7), checked_port).unwrap();
        running.one();
        stranger.send_to(&packet(8), checked_port).unwrap();
        running.one();
        assert_eq!(refused(&running, Reason::SourceRefused), Some(3));
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.recv(&mut [0; 100]).is_err(), "nobody answers a stranger");
    }

    // Statements 66, 181.
    #[test]
    fn forks_with_keys_of_their_own_are_told_apart_and_the_first_to_send_has_the_port_for_itself() {
        for leader in [0, 1] {
            let (first, second, plain) = (peer(), peer(), peer());
            let (checked_port, plain_port) = (free_address(), free_address());
            let local = Mint::new(&mut Tokens::seeded(1)).credentials();
            let fork = |ufrag: &str, octet| Fork {
                peer: Peer { ufrag: ufrag.parse().unwrap(), candidates: Vec::new() },
                unprotect: Some(key(octet)),
            };
            let near = FlowSpec {
                latch: Latch::Signalled,
                checks: Some(ChecksSpec {
                    local: local.clone(),
                    unknown: UnknownAttributes::Refuse,
                    forks: vec![fork("fork1", 1), fork("fork2", 2)],
                }),
                unprotect: Some(key(1)),
                ..flow(checked_port, (plain_port, plain.local_addr().unwrap()), None)
            };
            let nowhere = (checked_port, free_address());
            let far = FlowSpec { latch: Latch::Signalled, ..flow(plain_port, nowhere, Some(0)) };
            let mut running = Running::new(&[near, far]);
            let mut ends =
                [(&first, "fork1", Protect::new(&key(1))), (&second, "fork2", Protect::new(&key(2)))];
            for (socket, ufrag, _) in &ends {
                socket.send_to(&check(&local, ufrag, false), checked_port).unwrap();
                waits(&mut running, socket);
            }
            let mut protected = |end: usize, sequence| {
                let mut buffer = [packet(sequence), vec![0; 10]].concat();
                ends[end].2.rtp(&mut buffer, 172).unwrap();
                buffer
            };
            let sockets = [&first, &second];
            let other = 1 - leader;

            // The key of one is of no use to the other, and wins it nothing.
            sockets[other].send_to(&protected(leader, 1), checked_port).unwrap();
            running.one();
            assert_eq!(running.counters.drops().get(&Reason::BadTag), Some(&1));

            for sequence in [2, 3] {
                sockets[leader].send_to(&protected(leader, sequence), checked_port).unwrap();
                assert_eq!(waits(&mut running, &plain)[12..], packet(sequence)[12..]);
                sockets[other].send_to(&protected(other, sequence), checked_port).unwrap();
                running.one();
            }
            assert_eq!(running.counters.drops().get(&Reason::SourceRefused), Some(&2));
            plain.send_to(&packet(4), plain_port).unwrap();
            assert_eq!(waits(&mut running, sockets[leader])[3], 4, "and is sent to");
        }
    }
}
