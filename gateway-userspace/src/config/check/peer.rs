//! One peer of a trunk: where it is, how it ranks in this node's region, and the networks it sends from.

use super::super::error::ConfigErrors;
use super::super::file;
use super::trunk::{address_of, network};
use crate::policy::{MAX_PRIORITY, Peer, PeerAddress};
use ipnet::IpNet;
use toml::{Spanned, Value};

/// `port` is that of the trunk's transport, `region` that of this node. `None` when a field is wrong; `errors` says which.
pub(super) fn peer(
    written: &Spanned<file::Peer>,
    port: u16,
    label: &str,
    region: Option<&str>,
    errors: &mut ConfigErrors,
) -> Option<Peer> {
    let written = written.get_ref();
    let address = address(&written.address, port, label, errors);
    let priority = match &written.priority {
        None => Some(0),
        Some(value) => priority(value, label, region, errors),
    };
    let networks = |list: &[Spanned<String>], field: &str, errors: &mut ConfigErrors| {
        let field = format!("{label} peers.{field}");
        let networks: Vec<_> = list.iter().map(|text| network(text, &field, errors)).collect();
        networks.into_iter().collect::<Option<Vec<_>>>()
    };
    let allowed = networks(&written.allowed, "allowed", errors);
    // Its networks of media are the trunk's to keep; here they are only read, so that errors stand in their place.
    let media = networks(&written.allowed_media, "allowed_media", errors);
    let stands_in = written.region.as_ref().map(|name| name.get_ref().trim());
    if let (Some(name), None) = (&written.region, region) {
        let message = "names a region, and this node is in none";
        let fix = "add region = ... to [node], or leave it out here";
        errors.add(Some(name.span()), format!("{label} peers.region"), message, fix);
    }
    media?;
    let address = address?;
    Some(Peer {
        name: written
            .name
            .as_ref()
            .map_or_else(|| address.to_string(), |name| name.get_ref().trim().to_owned()),
        is_remote: stands_in.is_some() && stands_in != region,
        address,
        priority: priority?,
        weight: written.weight,
        allowed: allowed?,
    })
}

/// The networks that media of a trunk's peers may come from; what cannot be read was told before.
pub(super) fn media_networks(peers: &[Spanned<file::Peer>]) -> Vec<IpNet> {
    let texts = peers.iter().flat_map(|peer| &peer.get_ref().allowed_media);
    let read = |text: &Spanned<String>| network(text, "", &mut ConfigErrors::new("", ""));
    texts.filter_map(read).collect()
}

fn address(text: &Spanned<String>, port: u16, label: &str, errors: &mut ConfigErrors) -> Option<PeerAddress> {
    let parsed = address_of(text.get_ref(), port).map(PeerAddress::Address).or_else(|| name(text.get_ref()));
    if parsed.is_none() {
        let message = format!("{:?} is no address and no name", text.get_ref());
        let fix = "write \"192.0.2.20:5060\", \"[2001:db8::20]:5060\", \"sip.example.net\", or the name of an SRV \
                   record, as in \"_sips._tcp.example.net\"";
        errors.add(Some(text.span()), format!("{label} peers"), message, fix);
    }
    parsed
}

/// A host name, with a port or without, or the name of an SRV record, which begins with an underscore.
fn name(text: &str) -> Option<PeerAddress> {
    let text = text.trim();
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok().filter(|port: &u16| *port > 0)?)),
        None => (text, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_service = name.starts_with('_');
    let sound = |label: &str| {
        let is_letter =
            |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || (is_service && octet == b'_');
        (1..64).contains(&label.len()) && label.bytes().all(is_letter)
    };
    // Digits and dots are an address that is written wrong.
    let is_name =
        name.len() < 254 && name.split('.').all(sound) && name.contains(|c: char| c.is_ascii_alphabetic());
    match (is_name, is_service, port) {
        (true, true, None) => Some(PeerAddress::Service(name.into())),
        (true, false, port) => Some(PeerAddress::Host { name: name.into(), port }),
        (true, true, Some(_)) | (false, _, _) => None,
    }
}

/// A number, or a table of numbers by region of which this node's counts.
fn priority(
    value: &Spanned<Value>,
    label: &str,
    region: Option<&str>,
    errors: &mut ConfigErrors,
) -> Option<u8> {
    let number = |value: &Value| {
        value
            .as_integer()
            .and_then(|number| u8::try_from(number).ok())
            .filter(|number| *number <= MAX_PRIORITY)
    };
    let (message, fix) = match (value.get_ref(), region) {
        (Value::Table(table), Some(region)) => match table.get(region) {
            Some(own) if table.values().all(|value| number(value).is_some()) => return number(own),
            Some(_) => {
                ("one of these is no priority".to_owned(), "write 0 to 100 for each region".to_owned())
            }
            None => {
                let fix = format!("add {region} = 0, or write one number for all regions");
                (format!("there is none for region {region:?}, in which this node is"), fix)
            }
        },
        (Value::Table(_), None) => {
            let fix = "add region = ... to [node], or write one number".to_owned();
            ("stands for each region, and this node is in none".to_owned(), fix)
        }
        (single, _) => match number(single) {
            Some(priority) => return Some(priority),
            None => {
                let fix = "write 0, which is tried first, to 100".to_owned();
                (format!("{single} is no priority"), fix)
            }
        },
    };
    errors.add(Some(value.span()), format!("{label} peers.priority"), message, fix);
    None
}
