//! Trunks and routes against each other, and against the ports of media and of the admin interface.

use super::super::error::{ConfigErrors, nearest};
use super::super::file::{self, File, Span};
use super::refusal::{about, refuse};
use super::span;
use super::trunk::{required, trunk};
use crate::base::id::TrunkId;
use crate::policy::{Emergency, Route, Snapshot, Trunk};
use crate::sip::transport::Transport;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use toml::Spanned;

/// What trunks have to fit to.
pub(super) struct Surroundings<'a> {
    /// Of this node.
    pub(super) region: Option<&'a str>,
    /// Of media.
    pub(super) ports: &'a RangeInclusive<u16>,
    /// Where the admin interface listens.
    pub(super) admin: SocketAddr,
}

pub(super) fn snapshot(
    file: &File,
    surroundings: &Surroundings<'_>,
    errors: &mut ConfigErrors,
) -> Option<Snapshot> {
    let before = errors.errors.len();
    if file.trunks.is_empty() {
        let fix = "add a [[trunk]] for each side, or begin with `causeway check --example`";
        errors.add(None, "[[trunk]]", "there is none, so nobody may call", fix);
    }
    if file.routes.is_empty() && file.trunks.iter().all(|(_, trunk)| trunk.default_to.is_none()) {
        errors.add(
            None,
            "[[route]]",
            "there is none, so no call goes anywhere",
            "add [[route]] with prefix and to, or default_to to a trunk",
        );
    }
    let labels: Vec<String> =
        file.trunks.iter().enumerate().map(|(at, (_, trunk))| label(at, trunk)).collect();
    let mut trunks = Vec::with_capacity(file.trunks.len());
    for ((entry, written), label) in file.trunks.iter().zip(&labels) {
        let Some(trunk) = trunk(entry, written, label, surroundings.region, errors) else { continue };
        if let Err(error) = Snapshot::new(vec![trunk.clone()], Vec::new()) {
            refuse(&error, Some((entry, written, label)), errors);
        }
        trunks.push(trunk);
    }
    duplicates(file, errors);
    let names = TrunkNames::of(file);
    let routes = routes(file, &names, errors);
    let emergency = emergency(file, &names, errors);
    let tenants = super::tenant::tenants(file, errors);
    if errors.errors.len() > before {
        return None;
    }
    listeners(file, &trunks, surroundings.admin, errors);
    media_ports(file, &trunks, surroundings.ports, errors);
    match Snapshot::new(trunks, routes).and_then(|snapshot| snapshot.with_emergency(emergency)) {
        Ok(snapshot) => Some(snapshot.with_tenants(tenants)),
        Err(error) => {
            let about = about(&error, file, &labels);
            refuse(&error, about, errors);
            None
        }
    }
}

fn label(at: usize, trunk: &file::Trunk) -> String {
    trunk.name.as_ref().map_or_else(
        || format!("[[trunk]] number {},", at + 1),
        |name| format!("[[trunk]] {:?},", name.get_ref()),
    )
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

/// The trunks' names in the order of the file, to be referred to.
struct TrunkNames<'a>(Vec<&'a str>);

impl<'a> TrunkNames<'a> {
    fn of(file: &'a File) -> Self {
        let name = |(_, trunk): &'a (Span, file::Trunk)| {
            trunk.name.as_ref().map_or("", |name| name.get_ref().trim())
        };
        Self(file.trunks.iter().map(name).collect())
    }

    fn ids(&self) -> impl Iterator<Item = (TrunkId, &str)> {
        (0..).map(TrunkId).zip(self.0.iter().copied())
    }

    /// The trunk that `text` names, or an error at `field`.
    fn find(&self, text: &Spanned<String>, field: &str, errors: &mut ConfigErrors) -> Option<TrunkId> {
        let wanted = text.get_ref().trim();
        let found = self.ids().find(|(_, name)| *name == wanted).map(|(id, _)| id);
        if found.is_none() {
            let fix = nearest(wanted, self.0.iter().copied()).map_or_else(
                || {
                    let mut known: Vec<_> = self.0.iter().copied().filter(|name| !name.is_empty()).collect();
                    known.dedup();
                    format!("trunks are {}", known.join(", "))
                },
                |meant| format!("did you mean {meant:?}?"),
            );
            errors.add(Some(text.span()), field, format!("there is no trunk {wanted:?}"), fix);
        }
        found
    }
}

fn emergency(file: &File, names: &TrunkNames<'_>, errors: &mut ConfigErrors) -> Emergency {
    let written = &file.emergency;
    let mut numbers = Vec::new();
    for text in &written.numbers {
        let number = text.get_ref().trim();
        let digits = number.strip_prefix('+').unwrap_or(number);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let fix = "write it as it is dialled: \"112\", or \"+49112\" where the service puts the country in front";
            let message = format!("{number:?} is no number");
            errors.add(Some(text.span()), "[emergency] numbers", message, fix);
        }
        numbers.push(number.to_owned());
    }
    let to = written.to.as_ref().and_then(|to| names.find(to, "[emergency] to", errors));
    Emergency { numbers, to }
}

fn routes(file: &File, names: &TrunkNames<'_>, errors: &mut ConfigErrors) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for (entry, written) in &file.routes {
        let from = written.from.as_ref().map(|from| names.find(from, "[[route]] from", errors));
        let to = required(
            entry,
            &written.to,
            "[[route]]",
            "to = \"operator\", the trunk that calls go to",
            errors,
        )
        .and_then(|to| names.find(to, "[[route]] to", errors));
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
    for ((id, name), (_, written)) in names.ids().zip(&file.trunks) {
        let Some(text) = &written.default_to else { continue };
        let field = format!("[[trunk]] {name:?}, default_to");
        let Some(to) = names.find(text, &field, errors) else { continue };
        match Route::new("", Some(id), to) {
            Ok(route) if routes.iter().any(|other| other.is_same_case(&route)) => {
                let fix = "keep this, or the [[route]] from this trunk with the prefix \"\"";
                errors.add(Some(text.span()), field, "a route says where these calls go", fix);
            }
            Ok(route) => routes.push(route),
            Err(error) => errors.add(Some(text.span()), field, error.to_string(), "name a trunk"),
        }
    }
    routes
}

/// Two sockets on one port clash unless they are one and the same, or have addresses of their own.
fn listeners(file: &File, trunks: &[Trunk], admin: SocketAddr, errors: &mut ConfigErrors) {
    for (at, (trunk, (_, written))) in trunks.iter().zip(&file.trunks).enumerate() {
        let field = || format!("[[trunk]] {:?}, listen", trunk.name);
        let clash = trunks.iter().take(at).find(|other| {
            let differ = (other.transport, other.listen) != (trunk.transport, trunk.listen);
            differ
                && other.transport.is_stream() == trunk.transport.is_stream()
                && overlap(other.listen, trunk.listen)
        });
        if let Some(other) = clash {
            let message = format!("{} and {} of trunk {:?} overlap", trunk.listen, other.listen, other.name);
            let fix = "write the same address in both, or an address of its own in each";
            errors.add(span(&written.listen), field(), message, fix);
        }
        if trunk.transport.is_stream() && overlap(trunk.listen, admin) {
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
