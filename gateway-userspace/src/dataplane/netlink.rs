//! rtnetlink, as much as the data plane needs: requests with their answers, and events.
//!
//! Sockets belong to the network namespace of the thread that opens them, as the XDP program's look-ups
//! belong to that of its interface; /sys would show the namespace of whoever mounted it.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, VlanProtocol,
    XdpAttached,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    /// Receive queues that its driver has room for; those that run now may be fewer.
    pub(super) receive_queues: u32,
    /// Set on a VLAN: the device below, the identifier, and whether its tag is 802.1ad.
    pub(super) vlan: Option<VlanOf>,
    pub(super) is_veth: bool,
    /// The XDP program attached, and whether the driver runs it.
    pub(super) xdp: Option<AttachedProgram>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VlanOf {
    pub(super) parent: u32,
    pub(super) id: u16,
    pub(super) service_tag: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttachedProgram {
    pub(super) id: u32,
    pub(super) native: bool,
}

/// Where packets to an address go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NextHopAddress {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// A socket for requests: each call sends one and reads its answer, which the kernel has ready when the send
/// returns.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Every device of the namespace.
    pub(super) fn devices(&mut self) -> io::Result<Vec<Device>> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let device = |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(device(&link)),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(device).collect())
    }

    /// Every neighbour entry of the namespace.
    pub(super) fn neighbours(&mut self) -> io::Result<Vec<NeighbourChange>> {
        let all = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let entry = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) => neighbour(entry, true),
            _ => None,
        };
        Ok(self.ask(all, NLM_F_DUMP)?.iter().filter_map(entry).collect())
    }

    /// The next hop towards `to`; `None` where no link address is needed or possible: a local address, a
    /// blackhole, no route.
    pub(super) fn next_hop(&mut self, to: IpAddr) -> io::Result<Option<NextHopAddress>> {
        let mut request = RouteMessage::default();
        (request.header.address_family, request.header.destination_prefix_length) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        let destination = match to {
            IpAddr::V4(v4) => RouteAddress::Inet(v4),
            IpAddr::V6(v6) => RouteAddress::Inet6(v6),
        };
        request.attributes.push(RouteAttribute::Destination(destination));
        let answers = match self.ask(RouteNetlinkMessage::GetRoute(request), 0) {
            Ok(answers) => answers,
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => hop_of(route, to),
            _ => None,
        }))
    }

    /// Makes the kernel resolve a neighbour now and, where it can (5.16 and later), keep it resolved. An entry
    /// that somebody made permanent is left alone: asking for it would turn it into an ordinary one.
    pub(super) fn keep_neighbour(&mut self, hop: NextHopAddress) -> io::Result<()> {
        if self.is_permanent(hop)? {
            return Ok(());
        }
        let mut kept = neighbour_message(hop);
        kept.header.flags = NeighbourFlags::Use;
        let plain = kept.clone();
        kept.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        match self.ask(RouteNetlinkMessage::NewNeighbour(kept), flags) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.ask(RouteNetlinkMessage::NewNeighbour(plain), flags).map(drop)
            }
            done => done.map(drop),
        }
    }

    fn is_permanent(&mut self, hop: NextHopAddress) -> io::Result<bool> {
        match self.ask(RouteNetlinkMessage::GetNeighbour(neighbour_message(hop)), 0) {
            Ok(answers) => Ok(answers.iter().any(|answer| {
                matches!(answer, RouteNetlinkMessage::NewNeighbour(entry)
                    if matches!(entry.header.state, NeighbourState::Permanent | NeighbourState::Noarp))
            })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send(&octets, 0)?;

        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for answer in messages(&datagram) {
                let answer = answer?;
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => return Ok(answers),
                }
            }
            if flags & NLM_F_DUMP != NLM_F_DUMP && flags & NLM_F_ACK == 0 && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

/// A socket that hears of changes to devices, addresses, routes, rules and neighbours.
#[derive(Debug)]
pub(super) struct Events(Socket);

/// Multicast groups of rtnetlink.h as a bit mask.
const GROUPS: u32 = group(libc::RTNLGRP_LINK)
    | group(libc::RTNLGRP_NEIGH)
    | group(libc::RTNLGRP_IPV4_IFADDR)
    | group(libc::RTNLGRP_IPV4_ROUTE)
    | group(libc::RTNLGRP_IPV4_RULE)
    | group(libc::RTNLGRP_IPV6_IFADDR)
    | group(libc::RTNLGRP_IPV6_ROUTE)
    | group(RTNLGRP_IPV6_RULE);

/// rtnetlink.h; the libc crate lacks it.
const RTNLGRP_IPV6_RULE: libc::c_uint = 19;

const fn group(number: libc::c_uint) -> u32 {
    1 << (number - 1)
}

/// What happened since the last look.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Devices came, went or changed: the table of ways out is to be read anew.
    pub(super) devices: bool,
    /// A next hop cached before may be wrong now.
    pub(super) hops: bool,
    pub(super) neighbours: Vec<NeighbourChange>,
}

/// A neighbour entry as it is now; `link_address` is `None` when it is unknown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NeighbourChange {
    pub(super) hop: NextHopAddress,
    pub(super) link_address: Option<Vec<u8>>,
}

impl Events {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Everything that waits, without blocking.
    pub(super) fn drain(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        loop {
            match self.0.recv_from_full() {
                Ok((datagram, _)) => {
                    messages(&datagram).flatten().for_each(|message| changes.add(message.payload))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                // The socket overflowed: what was lost may have been anything.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    (changes.devices, changes.hops) = (true, true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Changes {
    fn add(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) {
        let NetlinkPayload::InnerMessage(message) = payload else { return };
        match message {
            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => {
                (self.devices, self.hops) = (true, true);
            }
            RouteNetlinkMessage::NewNeighbour(entry) => self.neighbours.extend(neighbour(&entry, true)),
            RouteNetlinkMessage::DelNeighbour(entry) => self.neighbours.extend(neighbour(&entry, false)),
            _ => self.hops = true,
        }
    }
}

fn neighbour_message(hop: NextHopAddress) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match hop.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = hop.ifindex;
    message.attributes.push(NeighbourAttribute::Destination(hop.address.into()));
    message
}

fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other);
        let length = rest.first_chunk::<4>().map_or(0, |octets| u32::from_ne_bytes(*octets) as usize);
        // Messages start at multiples of 4 octets (NLMSG_ALIGN).
        rest = if length == 0 { &[] } else { rest.get(length.next_multiple_of(4)..).unwrap_or_default() };
        Some(message)
    })
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device {
        index: link.header.index,
        name: String::new(),
        up: link.header.flags.contains(LinkFlags::Up),
        receive_queues: 1,
        vlan: None,
        is_veth: false,
        xdp: None,
    };
    let mut parent = None;
    let mut vlan = None;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                vlan = infos.iter().find_map(vlan_tag);
                device.is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            LinkAttribute::NumRxQueues(queues) => device.receive_queues = *queues,
            LinkAttribute::Xdp(xdp) => device.xdp = attached(xdp),
            _ => {}
        }
    }
    if let (Some(parent), Some((id, service_tag))) = (parent, vlan) {
        device.vlan = Some(VlanOf { parent, id, service_tag });
    }
    device
}

fn vlan_tag(info: &LinkInfo) -> Option<(u16, bool)> {
    let LinkInfo::Data(InfoData::Vlan(parts)) = info else { return None };
    let id = parts.iter().find_map(|part| if let InfoVlan::Id(id) = part { Some(*id) } else { None })?;
    let service_tag = parts.iter().any(|part| matches!(part, InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)));
    Some((id, service_tag))
}

fn attached(xdp: &[LinkXdp]) -> Option<AttachedProgram> {
    let id = xdp.iter().find_map(|part| if let LinkXdp::ProgId(id) = part { Some(*id) } else { None })?;
    let native = !xdp.iter().any(|part| matches!(part, LinkXdp::Attached(XdpAttached::SocketBuffer)));
    Some(AttachedProgram { id, native })
}

fn hop_of(route: &RouteMessage, to: IpAddr) -> Option<NextHopAddress> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let mut ifindex = None;
    let mut address = to;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => address = (*v4).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => address = (*v6).into(),
            RouteAttribute::Via(RouteVia::Inet(v4)) => address = (*v4).into(),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => address = (*v6).into(),
            _ => {}
        }
    }
    ifindex.map(|ifindex| NextHopAddress { ifindex, address })
}

fn neighbour(entry: &NeighbourMessage, there: bool) -> Option<NeighbourChange> {
    use netlink_packet_route::neighbour::NeighbourAddress::{Inet, Inet6};
    let mut address = None;
    let mut link_address = None;
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(Inet(v4)) => address = Some(IpAddr::from(*v4)),
            NeighbourAttribute::Destination(Inet6(v6)) => address = Some(IpAddr::from(*v6)),
            NeighbourAttribute::LinkLayerAddress(octets) => link_address = Some(octets.clone()),
            _ => {}
        }
    }
    let usable = there
        && !matches!(
            entry.header.state,
            NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None
        );
    let hop = NextHopAddress { ifindex: entry.header.ifindex, address: address? };
    Some(NeighbourChange { hop, link_address: link_address.filter(|_| usable) })
}
