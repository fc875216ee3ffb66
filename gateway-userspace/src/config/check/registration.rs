//! `[trunk.registration]`: who we are to registrars.

use super::super::error::ConfigErrors;
use super::super::file::{Span, TrunkRegistration};
use super::trunk::required;
use super::{span, value};
use crate::policy::{Instance, NoInstance, RegistrationPolicy};
use crate::sip::transport::Transport;
use std::time::Duration;
use toml::Spanned;

const EXPIRES_SECONDS: u32 = 3_600;
/// Shorter ones would be refreshed all the time.
const SHORTEST: u32 = 60;

pub(super) fn registration(
    entry: &Span,
    written: &TrunkRegistration,
    (has_peers, transport): (bool, Transport),
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<RegistrationPolicy> {
    let example = "registration.domain = \"core.example.net\"";
    let domain = required(entry, &written.domain, label, example, errors);
    let user = required(entry, &written.user, label, "registration.user = \"+442079460000\"", errors);
    let expires = value(&written.expires_seconds, EXPIRES_SECONDS);
    if expires < SHORTEST {
        let field = format!("{label} registration.expires_seconds");
        let fix = format!("write {SHORTEST} or more, or leave it out for {EXPIRES_SECONDS}");
        errors.add(span(&written.expires_seconds), field, format!("{expires} seconds are too few"), fix);
    }
    if !has_peers {
        let fix = "add peers = [{ address = \"192.0.2.20:5060\" }], the registrars";
        errors.add(Some(entry.clone()), format!("{label} registration"), "has nobody to register with", fix);
    }
    let domain = domain?;
    let host = domain.get_ref().trim().parse().ok();
    if host.is_none() {
        let message = format!("{:?} is no domain", domain.get_ref());
        let fix = "write the name that the registrar serves, as in \"core.example.net\"";
        errors.add(Some(domain.span()), format!("{label} registration.domain"), message, fix);
    }
    let instance = match &written.instance {
        None => None,
        Some(text) => Some(instance(text, transport, label, errors)?),
    };
    let user = user?.get_ref().trim().to_owned();
    Some(RegistrationPolicy { domain: host?, user, expires: Duration::from_secs(expires.into()), instance })
}

/// Of a node that registers flows: over connections only, since over UDP they would need STUN (RFC 5626 section 4.4.2).
fn instance(
    text: &Spanned<String>,
    transport: Transport,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Instance> {
    let field = format!("{label} registration.instance");
    if transport == Transport::Udp {
        let fix = "listen by tcp or tls, or leave it out";
        errors.add(Some(text.span()), field, "there are no flows to keep over UDP", fix);
        return None;
    }
    let parsed: Result<_, NoInstance> = text.get_ref().trim().parse();
    if let Err(why) = &parsed {
        let fix = "write a UUID of this node alone, as in \"urn:uuid:6fa459ea-ee8a-4ca4-894e-db77e160355e\"";
        errors.add(Some(text.span()), field, format!("{:?}: {why}", text.get_ref()), fix);
    }
    parsed.ok()
}
