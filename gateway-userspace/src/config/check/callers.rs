//! `[trunk.callers]`: who may call by a trunk, and how they show that they are.

use super::super::error::ConfigErrors;
use super::super::file::{Span, TrunkCallers};
use super::trunk::required;
use super::{span, value};
use crate::sip::auth::{Algorithm, Challenger};
use std::time::Duration;
use toml::Spanned;

const NONCE_SECONDS: u32 = 300;

pub(super) fn challenger(
    entry: &Span,
    written: &TrunkCallers,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Challenger> {
    let realm = required(entry, &written.realm, label, "callers.realm = \"gateway.example.net\"", errors);
    let users: Vec<_> = written.users.iter().flat_map(|users| users.get_ref().clone()).collect();
    if users.is_empty() {
        let place = span(&written.users).unwrap_or_else(|| entry.clone());
        let fix = "add callers.users = { pbx = \"…\" }, or leave callers out";
        errors.add(Some(place), format!("{label} callers.users"), "names nobody, so nobody may call", fix);
    }
    let mut algorithms = Vec::new();
    for name in written.algorithms.iter().flat_map(Spanned::get_ref) {
        match Algorithm::named(name.get_ref()) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let message = format!("{:?} is no algorithm", name.get_ref());
                let fix = "write \"SHA-512-256\", \"SHA-256\" or \"MD5\"";
                errors.add(Some(name.span()), format!("{label} callers.algorithms"), message, fix);
            }
        }
    }
    if algorithms.is_empty() {
        algorithms = vec![Algorithm::Sha512_256, Algorithm::Sha256];
    }
    let lifetime = value(&written.nonce_seconds, NONCE_SECONDS);
    if lifetime == 0 {
        let fix = "write for how many seconds a nonce may be used, or leave it out";
        errors.add(
            span(&written.nonce_seconds),
            format!("{label} callers.nonce_seconds"),
            "no time at all",
            fix,
        );
    }
    let realm = realm?.get_ref().trim().to_owned();
    Some(Challenger { realm, users, algorithms, lifetime: Duration::from_secs(lifetime.into()) })
}
