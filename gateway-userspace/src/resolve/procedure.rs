//! From a name to addresses, over what is known so far (RFC 3263 section 4).

use super::{Kind, Naptr, Question, Records, Srv, Wanted};
use crate::policy::{PeerAddress, Resolved};
use crate::sip::transport::Transport;
use std::net::{IpAddr, SocketAddr};

/// What is known of a question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'a> {
    Records(&'a Records),
    Nothing,
    /// It was asked, and never answered.
    Unanswered,
    NotAsked,
}

/// What `wanted` means, given what is known; `None` while that is too little. Each question on the way goes through
/// `look`, which notes those to ask.
pub(super) fn meaning<'a>(
    wanted: &Wanted,
    look: &mut impl FnMut(Question) -> Known<'a>,
) -> Option<Vec<Resolved>> {
    match &wanted.address {
        PeerAddress::Address(address) => Some(vec![plain(*address)]),
        PeerAddress::Service(name) => match look(Question::new(name, Kind::Srv)) {
            Known::Records(Records::Srv(records)) => targets(records, wanted, look),
            Known::Records(_) | Known::Nothing => Some(Vec::new()),
            Known::Unanswered | Known::NotAsked => None,
        },
        PeerAddress::Host { name, port: Some(port) } => host(name, *port, wanted, look),
        PeerAddress::Host { name, port: None } => services(name, wanted, look),
    }
}

/// A name without port: its services first, then the name itself with the transport's port (sections 4.1 and 4.2). The
/// transport is the trunk's, so NAPTR only says where the service is found.
fn services<'a>(
    name: &str,
    wanted: &Wanted,
    look: &mut impl FnMut(Question) -> Known<'a>,
) -> Option<Vec<Resolved>> {
    let (service, standard): (&str, &[&str]) = match wanted.transport {
        Transport::Udp => ("SIP+D2U", &["_sip._udp"]),
        Transport::Tcp => ("SIP+D2T", &["_sip._tcp"]),
        // The second is what Azure Communications Gateway publishes.
        Transport::Tls => ("SIPS+D2T", &["_sips._tcp", "_sip._tls"]),
    };
    let named = match look(Question::new(name, Kind::Naptr)) {
        Known::Records(Records::Naptr(records)) => replacement(records, service),
        Known::NotAsked => return None,
        // Some servers never answer for types that they do not know; the name may be found all the same.
        Known::Records(_) | Known::Nothing | Known::Unanswered => None,
    };
    let names: Vec<String> = match named {
        Some(name) => vec![name.to_owned()],
        None => standard.iter().map(|prefix| format!("{prefix}.{name}")).collect(),
    };
    for service in &names {
        match look(Question::new(service, Kind::Srv)) {
            Known::Records(Records::Srv(records)) => return targets(records, wanted, look),
            Known::Unanswered | Known::NotAsked => return None,
            Known::Records(_) | Known::Nothing => {}
        }
    }
    host(name, wanted.transport.default_port(), wanted, look)
}

fn replacement<'a>(records: &'a [Naptr], service: &str) -> Option<&'a str> {
    let fitting = records.iter().filter(|record| {
        record.flags.eq_ignore_ascii_case("s") && record.service.eq_ignore_ascii_case(service)
    });
    fitting.min_by_key(|record| (record.order, record.preference)).map(|record| &*record.replacement)
}

fn targets<'a>(
    records: &[Srv],
    wanted: &Wanted,
    look: &mut impl FnMut(Question) -> Known<'a>,
) -> Option<Vec<Resolved>> {
    let mut found = Vec::new();
    let (mut waiting, mut unanswered) = (false, false);
    for record in records.iter().filter(|record| !record.target.is_empty()) {
        match look(Question::new(&record.target, wanted.family.kind())) {
            Known::Records(Records::Addresses(addresses)) => {
                for address in addresses {
                    let address = SocketAddr::new(*address, record.port);
                    let target = Resolved { address, priority: record.priority, weight: record.weight };
                    if !found.iter().any(|other: &Resolved| other.address == address) {
                        found.push(target);
                    }
                }
            }
            Known::Records(_) | Known::Nothing => {}
            Known::Unanswered => unanswered = true,
            Known::NotAsked => waiting = true,
        }
    }
    // Targets that the DNS is silent about do not keep the others from being used.
    let too_little = waiting || unanswered && found.is_empty();
    (!too_little).then_some(found)
}

fn host<'a>(
    name: &str,
    port: u16,
    wanted: &Wanted,
    look: &mut impl FnMut(Question) -> Known<'a>,
) -> Option<Vec<Resolved>> {
    match look(Question::new(name, wanted.family.kind())) {
        Known::Records(Records::Addresses(addresses)) => {
            let at = |address: &IpAddr| plain(SocketAddr::new(*address, port));
            Some(addresses.iter().map(at).collect())
        }
        Known::Records(_) | Known::Nothing => Some(Vec::new()),
        Known::Unanswered | Known::NotAsked => None,
    }
}

/// An address that no SRV record ranks.
fn plain(address: SocketAddr) -> Resolved {
    Resolved { address, priority: 0, weight: 1 }
}
