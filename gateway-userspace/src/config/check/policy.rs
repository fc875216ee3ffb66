//! Trunks and routes: each by itself, then against each other and against the ports of media and admin.

use super::super::error::{ConfigErrors, nearest};
use super::super::file::{self, Field, File, Span};
use super::{parsed, span};
use crate::base::id::TrunkId;
use crate::media::plan::RateLimit;
use crate::media::{GatePolicy, MediaPolicy};
use crate::policy::{Advertised, Peer, PolicyError, Route, Snapshot, Trunk};
use crate::rtp::Encoding;
use crate::sip::transport::Transport;
use gateway_common::flow::Latch;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;

const SIP_PORT: u16 = 5060;
const PEER_TIMEOUT_MS: u32 = 4_000;

/// Calls a second that a stream of 20 ms packets needs twice over, were both a burst and a change of pace normal.
const BURST: u32 = 50;

pub(super) fn snapshot(
    file: &File,
    ports: &RangeInclusive<u16>,
    admin: SocketAddr,
    errors: &mut ConfigErrors,
) -> Option<Snapshot> {
    let before = errors.errors.len();
    if file.trunks.is_empty() {
        let fix = "add a [[trunk]] for each side, or begin with `causeway check --example`";
        errors.add(None, "[[trunk]]", "there is none, so nobody may call", fix);
    }
    if file.routes.is_empty() {
        errors.add(
            None,
            "[[route]]",
            "there is none, so no call goes anywhere",
            "add [[route]] with prefix and to",
        );
    }
    let labels: Vec<String> =
        file.trunks.iter().enumerate().map(|(at, (_, trunk))| label(at, trunk)).collect();
    let mut trunks = Vec::with_capacity(file.trunks.len());
    for ((entry, written), label) in file.trunks.iter().zip(&labels) {
        let Some(trunk) = trunk(entry, written, label, errors) else { continue };
        if let Err(error) = Snapshot::new(vec![trunk.clone()], Vec::new()) {
            refuse(&error, Some((entry, written, label)), errors);
        }
        trunks.push(trunk);
    }
    duplicates(file, errors);
    let routes = routes(file, errors);
    if errors.errors.len() > before {
        return None;
    }
    listeners(file, &trunks, admin, errors);
    media_ports(file, &trunks, ports, errors);
    match Snapshot::new(trunks, routes) {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            let about = about(&error, file, &labels);
            refuse(&error, about, errors);
            None
        }
    }
}

type Written<'a> = (&'a Span, &'a file::Trunk, &'a str);

fn label(at: usize, trunk: &file::Trunk) -> String {
    trunk.name.as_ref().map_or_else(
        || format!("[[trunk]] number {},", at + 1),
        |name| format!("[[trunk]] {:?},", name.get_ref()),
    )
}

fn trunk(entry: &Span, written: &file::Trunk, label: &str, errors: &mut ConfigErrors) -> Option<Trunk> {
    let name = required(entry, &written.name, label, "name = \"operator\"", errors);
    let listen = required(entry, &written.listen, label, "listen = \"udp:192.0.2.1:5060\"", errors)
        .and_then(|text| listen(text, label, errors));
    let field = format!("{label} media_address");
    let fix = "write an address of this host, as in \"192.0.2.1\"";
    let media_address: Option<Option<IpAddr>> = match &written.media_address {
        None => Some(None),
        Some(text) => parsed(text, &field, fix, errors).map(Some),
    };
    let advertised = match &written.advertised {
        None => Some(None),
        Some(text) => advertised(text, label, errors).map(Some),
    };
    let peers: Vec<_> = written.peers.iter().map(|peer| self::peer(peer, label, errors)).collect();
    let allowed: Vec<_> = written.allowed.iter().map(|text| network(text, label, errors)).collect();
    let media = media(&written.media, label, errors);
    let (transport, listen) = listen?;
    Some(Trunk {
        name: name?.get_ref().trim().to_owned(),
        peers: peers.into_iter().collect::<Option<_>>()?,
        allowed: allowed.into_iter().collect::<Option<_>>()?,
        transport,
        listen,
        advertised: advertised?,
        media_address: media_address?.unwrap_or_else(|| listen.ip()),
        media: media?,
        peer_timeout: Duration::from_millis(super::value(&written.peer_timeout_ms, PEER_TIMEOUT_MS).into()),
    })
}

fn required<'a>(
    entry: &Span,
    field: &'a Field<String>,
    label: &str,
    example: &str,
    errors: &mut ConfigErrors,
) -> Option<&'a Spanned<String>> {
    if field.is_none() {
        let name = example.split(' ').next().unwrap_or_default();
        errors.add(Some(entry.clone()), format!("{label} {name}"), "is missing", format!("add {example}"));
    }
    field.as_ref()
}

/// `udp:192.0.2.1:5060`, `tcp:[2001:db8::1]:5060`.
fn listen(text: &Spanned<String>, label: &str, errors: &mut ConfigErrors) -> Option<(Transport, SocketAddr)> {
    let written = text.get_ref().trim();
    let (scheme, rest) = written.split_once(':').unwrap_or((written, ""));
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "udp" => Some(Transport::Udp),
        "tcp" => Some(Transport::Tcp),
        _ => None,
    };
    let address = socket_address(if transport.is_some() { rest } else { written });
    let fix = match (transport, address) {
        (Some(transport), Some(address)) => return Some((transport, address)),
        _ if scheme.eq_ignore_ascii_case("tls") => {
            "this version carries SIP over UDP and TCP only: write \"tcp:192.0.2.1:5060\"".to_owned()
        }
        (None, Some(address)) => {
            format!("write the transport in front: \"udp:{address}\" or \"tcp:{address}\"")
        }
        _ => "write transport, address and port, as in \"udp:192.0.2.1:5060\" or \"tcp:[2001:db8::1]:5060\""
            .to_owned(),
    };
    errors.add(
        Some(text.span()),
        format!("{label} listen"),
        format!("{written:?} is no address to listen on"),
        fix,
    );
    None
}

/// With port 5060 unless another is written; an IPv6 address with a port in brackets.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| bare.parse().ok().map(|address: IpAddr| SocketAddr::new(address, SIP_PORT)))
}

fn peer(written: &Spanned<file::Peer>, label: &str, errors: &mut ConfigErrors) -> Option<Peer> {
    let file::Peer { address, priority, weight } = written.get_ref();
    let parsed = socket_address(address.get_ref());
    if parsed.is_none() {
        let message = format!("{:?} is no IP address and port; names are not looked up", address.get_ref());
        let fix = "write address and port, as in \"192.0.2.20:5060\" or \"[2001:db8::20]:5060\"";
        errors.add(Some(address.span()), format!("{label} peers"), message, fix);
    }
    Some(Peer { address: parsed?, priority: *priority, weight: *weight })
}

fn network(text: &Spanned<String>, label: &str, errors: &mut ConfigErrors) -> Option<IpNet> {
    let written = text.get_ref().trim();
    let field = format!("{label} allowed");
    let parsed: Option<IpNet> =
        written.parse().ok().or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        let fix = "write address and prefix length, as in \"192.0.2.0/24\", or one address";
        errors.add(Some(text.span()), field, format!("{written:?} is no network"), fix);
        return None;
    };
    if network != network.trunc() {
        let message = format!("{network} has bits behind its prefix");
        let fix =
            format!("write \"{}\" for the network, or \"{}\" for the host", network.trunc(), network.addr());
        errors.add(Some(text.span()), field, message, fix);
    }
    Some(network.trunc())
}

/// Host and port, or a host alone with port 5060.
fn advertised(text: &Spanned<String>, label: &str, errors: &mut ConfigErrors) -> Option<Advertised> {
    let written = text.get_ref().trim();
    if let Some(address) = socket_address(written) {
        return Some(Advertised::of(address));
    }
    let (host, port) =
        written.rsplit_once(':').map_or((written, Some(SIP_PORT)), |(host, port)| (host, port.parse().ok()));
    let is_name = |host: &str| {
        let sound =
            |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        host.split('.').all(sound)
    };
    match port.filter(|port| *port > 0 && is_name(host)) {
        Some(port) => Some(Advertised { host: host.into(), port }),
        None => {
            let message = format!("{written:?} is no host and port");
            let fix = "write what peers reach, as in \"sbc.example.net:5060\" or \"203.0.113.1:5060\"";
            errors.add(Some(text.span()), format!("{label} advertised"), message, fix);
            None
        }
    }
}

fn media(written: &file::TrunkMedia, label: &str, errors: &mut ConfigErrors) -> Option<MediaPolicy> {
    let standard = MediaPolicy::default();
    let gate = match &written.gate {
        None => Some(standard.gate),
        Some(text) => gate(text, label, errors),
    };
    let rate = match (&written.packets_per_second, &written.burst) {
        (None, None) => None,
        (None, Some(burst)) => {
            let fix = "add packets_per_second, or leave burst out";
            errors.add(Some(burst.span()), format!("{label} media.burst"), "bounds nothing by itself", fix);
            None
        }
        (Some(rate), burst) => {
            Some(RateLimit { packets_per_second: *rate.get_ref(), burst: super::value(burst, BURST) })
        }
    };
    let codecs = written
        .codecs
        .as_ref()
        .map(|list| list.get_ref().iter().map(|name| Encoding::named(name.get_ref())).collect::<Vec<_>>());
    Some(MediaPolicy {
        gate: gate?,
        latch: written.latch.as_ref().map_or(standard.latch, |latch| match latch.get_ref() {
            file::Latch::Signalled => Latch::Signalled,
            file::Latch::SameSsrc => Latch::SameSsrc,
            file::Latch::FirstPacket => Latch::FirstPacket,
        }),
        dscp: written.dscp.as_ref().map(|dscp| *dscp.get_ref()),
        rate,
        codecs,
        offer_rtcp_mux: super::value(&written.offer_rtcp_mux, standard.offer_rtcp_mux),
    })
}

fn gate(text: &Spanned<String>, label: &str, errors: &mut ConfigErrors) -> Option<GatePolicy> {
    match text.get_ref().trim() {
        "signalled" => Some(GatePolicy::Signalled),
        "host" => Some(GatePolicy::Around { ipv4_prefix: 32, ipv6_prefix: 128 }),
        "any" => Some(GatePolicy::Any),
        written => {
            let network = written.parse().ok().map(|network: IpNet| GatePolicy::Network(network.trunc()));
            if network.is_none() {
                let fix = "write \"signalled\", \"host\", \"any\", or a network as in \"192.0.2.0/24\"";
                errors.add(
                    Some(text.span()),
                    format!("{label} media.gate"),
                    format!("{written:?} is no gate"),
                    fix,
                );
            }
            network
        }
    }
}

fn duplicates(file: &File, errors: &mut ConfigErrors) {
    for (at, (_, trunk)) in file.trunks.iter().enumerate() {
        let Some(name) = &trunk.name else { continue };
        let same = |(_, other): &&(Span, file::Trunk)| {
            other.name.as_ref().is_some_and(|other| other.get_ref().trim() == name.get_ref().trim())
        };
        if file.trunks.iter().take(at).find(same).is_some() {
            let message = format!("another trunk is named {:?}", name.get_ref());
            errors.add(Some(name.span()), "[[trunk]] name", message, "give each trunk a name of its own");
        }
    }
}

fn routes(file: &File, errors: &mut ConfigErrors) -> Vec<Route> {
    let names: Vec<&str> = file
        .trunks
        .iter()
        .map(|(_, trunk)| trunk.name.as_ref().map_or("", |name| name.get_ref().trim()))
        .collect();
    let find = |text: &Spanned<String>, field: &str, errors: &mut ConfigErrors| {
        let wanted = text.get_ref().trim();
        let found = (0..).map(TrunkId).zip(&names).find(|(_, name)| **name == wanted).map(|(id, _)| id);
        if found.is_none() {
            let fix = nearest(wanted, names.iter().copied()).map_or_else(
                || {
                    let mut known: Vec<_> = names.iter().copied().filter(|name| !name.is_empty()).collect();
                    known.dedup();
                    format!("trunks are {}", known.join(", "))
                },
                |meant| format!("did you mean {meant:?}?"),
            );
            errors.add(
                Some(text.span()),
                format!("[[route]] {field}"),
                format!("there is no trunk {wanted:?}"),
                fix,
            );
        }
        found
    };
    let mut routes: Vec<Route> = Vec::new();
    for (entry, written) in &file.routes {
        let from = written.from.as_ref().map(|from| find(from, "from", errors));
        let to = required(
            entry,
            &written.to,
            "[[route]]",
            "to = \"operator\", the trunk that calls go to",
            errors,
        )
        .and_then(|to| find(to, "to", errors));
        let prefix = required(
            entry,
            &written.prefix,
            "[[route]]",
            "prefix = \"\", which matches every number",
            errors,
        );
        let (Some(to), Some(prefix), None | Some(Some(_))) = (to, prefix, from) else { continue };
        match Route::new(prefix.get_ref(), from.flatten(), to) {
            Ok(route) if routes.contains(&route) => {
                errors.add(
                    Some(prefix.span()),
                    "[[route]] prefix",
                    "this route is there twice",
                    "keep one of them",
                );
            }
            Ok(route) => routes.push(route),
            Err(error) => {
                let fix =
                    "write the first digits of the called number, as in \"+44\", or \"\" for every number";
                errors.add(Some(prefix.span()), "[[route]] prefix", error.to_string(), fix);
            }
        }
    }
    routes
}

/// Two sockets on one port clash unless they are one and the same, or have addresses of their own.
fn listeners(file: &File, trunks: &[Trunk], admin: SocketAddr, errors: &mut ConfigErrors) {
    for (at, (trunk, (_, written))) in trunks.iter().zip(&file.trunks).enumerate() {
        let field = || format!("[[trunk]] {:?}, listen", trunk.name);
        let clash = trunks.iter().take(at).find(|other| {
            other.transport == trunk.transport
                && other.listen != trunk.listen
                && overlap(other.listen, trunk.listen)
        });
        if let Some(other) = clash {
            let message = format!("{} and {} of trunk {:?} overlap", trunk.listen, other.listen, other.name);
            let fix = "write the same address in both, or an address of its own in each";
            errors.add(span(&written.listen), field(), message, fix);
        }
        if trunk.transport == Transport::Tcp && overlap(trunk.listen, admin) {
            let message = format!("{} is the port of the admin interface, {admin}", trunk.listen);
            errors.add(span(&written.listen), field(), message, "give one of them another port");
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: IpAddr, b: IpAddr| {
        // An IPv6 socket on :: hears IPv4 as well on most hosts.
        a == b || (a.is_unspecified() && (a.is_ipv6() || b.is_ipv4()))
    };
    a.port() == b.port() && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// A media port that is a SIP port too would lose one of the two.
fn media_ports(file: &File, trunks: &[Trunk], ports: &RangeInclusive<u16>, errors: &mut ConfigErrors) {
    for (trunk, (_, written)) in trunks.iter().zip(&file.trunks) {
        if trunk.transport == Transport::Udp && ports.contains(&trunk.listen.port()) {
            let message = format!(
                "port {} lies among the media ports {}-{}",
                trunk.listen.port(),
                ports.start(),
                ports.end()
            );
            let fix = "listen on another port, or move [media] ports";
            errors.add(span(&written.listen), format!("[[trunk]] {:?}, listen", trunk.name), message, fix);
        }
    }
}

/// The trunk that an error is about.
fn about<'a>(error: &PolicyError, file: &'a File, labels: &'a [String]) -> Option<Written<'a>> {
    let wanted = match error {
        PolicyError::AmbiguousSource { second, .. } => second,
        PolicyError::NoPeers { trunk, .. } => trunk,
        _ => return None,
    };
    let trunks = file.trunks.iter().zip(labels);
    let named = |((_, trunk), _): &(&(Span, file::Trunk), &String)| {
        trunk.name.as_ref().is_some_and(|name| name.get_ref().trim() == wanted)
    };
    trunks.into_iter().find(named).map(|((entry, trunk), label)| (entry, trunk, label.as_str()))
}

/// What the policy room says, at the field it is about.
fn refuse(error: &PolicyError, about: Option<Written<'_>>, errors: &mut ConfigErrors) {
    let Some((entry, trunk, label)) = about else {
        return errors.add(None, "trunks and routes", error.to_string(), "see docs/configuration.md");
    };
    let peer = |wanted: &SocketAddr| {
        let same =
            |peer: &&Spanned<file::Peer>| socket_address(peer.get_ref().address.get_ref()) == Some(*wanted);
        trunk.peers.iter().rev().find(same).map(|peer| peer.get_ref().address.span())
    };
    let (place, field, fix) = match error {
        PolicyError::UnnamedTrunk => {
            (span(&trunk.name), "name", "write a name: letters that logs and routes use")
        }
        PolicyError::DuplicateTrunk(_) => (span(&trunk.name), "name", "give each trunk a name of its own"),
        PolicyError::NothingToAdvertise { .. } => {
            (span(&trunk.listen), "listen", "listen on one address, or add advertised = \"203.0.113.1:5060\"")
        }
        PolicyError::NoListenPort { .. } => (span(&trunk.listen), "listen", "write a port, 5060 as a rule"),
        PolicyError::MediaAddress { .. } => (
            span(&trunk.media_address).or_else(|| span(&trunk.listen)),
            "media_address",
            "write one address of this host",
        ),
        PolicyError::GateFamily { .. } => {
            (span(&trunk.media.gate), "media.gate", "write a network of the family that media_address has")
        }
        PolicyError::GatePrefix { .. } => (span(&trunk.media.gate), "media.gate", "write a shorter prefix"),
        PolicyError::Dscp { .. } => (span(&trunk.media.dscp), "media.dscp", "write 0 to 63; voice has 46"),
        PolicyError::Rate { .. } => {
            let fix = "write more than a call sends, 50 as a rule, or leave it out";
            (span(&trunk.media.packets_per_second), "media.packets_per_second", fix)
        }
        PolicyError::NoCodec { .. } => (
            span(&trunk.media.codecs),
            "media.codecs",
            "name a speech codec, as in \"PCMA\", or leave it out",
        ),
        PolicyError::NoPeerTimeout { .. } => {
            (span(&trunk.peer_timeout_ms), "peer_timeout_ms", "write milliseconds, 4000 as a rule")
        }
        PolicyError::PeerAddress { peer: address, .. } => {
            (peer(address), "peers", "write the address and port that the peer listens on")
        }
        PolicyError::PeerFamily { peer: address, .. } => {
            (peer(address), "peers", "listen on an address of the peer's family, in a trunk of its own")
        }
        PolicyError::DuplicatePeer { peer: address, .. } => (peer(address), "peers", "keep one of them"),
        PolicyError::AmbiguousSource { .. } => {
            let first = trunk.allowed.first().map(Spanned::span);
            (first, "allowed", "let each network belong to one trunk, or give one trunk another port")
        }
        PolicyError::NoPeers { .. } => {
            (Some(entry.clone()), "peers", "add peers = [{ address = \"192.0.2.20:5060\" }]")
        }
        PolicyError::TooManyTrunks(_)
        | PolicyError::Prefix(_)
        | PolicyError::UnknownTrunk { .. }
        | PolicyError::DuplicateRoute(_) => (Some(entry.clone()), "", "see docs/configuration.md"),
    };
    let place = place.unwrap_or_else(|| entry.clone());
    errors.add(Some(place), format!("{label} {field}"), error.to_string(), fix);
}
