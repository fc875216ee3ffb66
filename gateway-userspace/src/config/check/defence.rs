//! `[defence]`: who may send to our sockets, how fast, and what happens to those who keep offending.

use super::super::error::ConfigErrors;
use super::super::file::{Field, File};
use super::{span, value};
use crate::policy::{DefenceSettings, Snapshot};
use gateway_common::abi::{GUARDED_MAX, SOURCES_MAX};
use std::time::Duration;
use toml::Spanned;

/// A source that answers a few calls sends more than this.
const FEWEST_PACKETS: u32 = 100;
/// Longest window, and longest denial that nobody decided on.
const DAY: u32 = 86_400;

pub(super) fn defence(file: &File, policy: &Snapshot, errors: &mut ConfigErrors) -> DefenceSettings {
    let standard = DefenceSettings::default();
    let written = &file.defence;
    let mut number = |field: &Field<u32>, name: &str, standard: u32, (least, most): (u32, u32)| {
        let number = value(field, standard);
        if !(least..=most).contains(&number) {
            let fix = format!("write {least} to {most}, or leave it out for {standard}");
            errors.add(span(field), format!("[defence] {name}"), format!("{number} does not work here"), fix);
        }
        number
    };
    let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    const ANY: u32 = 1_000_000;
    let rate = (FEWEST_PACKETS, ANY);
    let packets =
        number(&written.packets_per_second, "packets_per_second", standard.packets_per_second, rate);
    let burst = number(&written.burst, "burst", packets.max(FEWEST_PACKETS), rate);
    let offences = number(&written.offences, "offences", standard.offences, (1, ANY));
    let window = number(&written.window_seconds, "window_seconds", seconds(standard.window), (1, DAY));
    let denial = number(&written.deny_seconds, "deny_seconds", seconds(standard.denial), (1, DAY));
    let settings = DefenceSettings {
        enabled: value(&written.enabled, standard.enabled),
        packets_per_second: packets,
        burst,
        offences,
        window: Duration::from_secs(window.into()),
        denial: Duration::from_secs(denial.into()),
        spare: value(&written.spare, standard.spare),
    };
    if settings.enabled {
        check_size(file, policy, errors);
    }
    settings
}

/// The kernel's tables have an end.
fn check_size(file: &File, policy: &Snapshot, errors: &mut ConfigErrors) {
    let heard = policy.heard();
    let sources: usize = heard.iter().map(|socket| socket.sources.len()).sum();
    let mut too_many = |what: &str, found: usize, most: u32| {
        if u32::try_from(found).is_ok_and(|found| found <= most) {
            return;
        }
        let message = format!("cannot guard {found} {what}: {most} are the most");
        let fix = "name fewer and wider networks, or write [defence] enabled = false";
        let longest = file.trunks.iter().map(|(_, trunk)| &trunk.allowed).max_by_key(|allowed| allowed.len());
        let place = longest.and_then(|allowed| allowed.first()).map(Spanned::span);
        errors.add(place, "[[trunk]] allowed", message, fix);
    };
    too_many("sockets", heard.len(), GUARDED_MAX);
    too_many("networks and addresses of peers", sources, SOURCES_MAX);
}
