//! `[connections]`: how many there may be, and how long each thing on them may take.

use super::super::error::ConfigErrors;
use super::super::file::{Field, File};
use super::{size, span};
use crate::net::Settings;
use crate::sip::message::Limits;
use std::time::Duration;

/// Teams and others end a connection that is silent for two minutes.
const LONGEST_PING: u64 = 110;
/// Teams wants its connections renewed at least hourly; requests under way keep one a few minutes longer.
const LONGEST_RENEWAL: u64 = 55 * 60;

pub(super) fn connections(file: &File, limits: Limits, errors: &mut ConfigErrors) -> Settings {
    let standard = Settings::default();
    let written = &file.connections;
    let mut count = |field: &Field<u32>, name: &str, standard: usize| {
        let count = size(field, standard);
        if count == 0 {
            let fix = "write how many there may be, or leave it out";
            errors.add(span(field), format!("[connections] {name}"), "allows none", fix);
        }
        count
    };
    let max = count(&written.max, "max", standard.connections);
    let per_source = count(&written.max_per_source, "max_per_source", standard.connections_per_source);
    let mut seconds = |field: &Field<u32>, name: &str, standard: Duration, longest: u64| {
        let Some(text) = field else { return standard };
        let seconds = u64::from(*text.get_ref());
        if seconds == 0 || seconds > longest {
            let fix =
                format!("write seconds from 1 to {longest}, or leave it out for {}", standard.as_secs());
            let message = format!("{seconds} seconds do not work here");
            errors.add(Some(text.span()), format!("[connections] {name}"), message, fix);
        }
        Duration::from_secs(seconds)
    };
    const DAY: u64 = 86_400;
    Settings {
        limits,
        connections: max,
        connections_per_source: per_source,
        connect: seconds(&written.connect_seconds, "connect_seconds", standard.connect, DAY),
        handshake: seconds(&written.handshake_seconds, "handshake_seconds", standard.handshake, DAY),
        head: seconds(&written.head_seconds, "head_seconds", standard.head, DAY),
        body: seconds(&written.body_seconds, "body_seconds", standard.body, DAY),
        idle: seconds(&written.idle_seconds, "idle_seconds", standard.idle, DAY),
        ping: seconds(&written.ping_seconds, "ping_seconds", standard.ping, LONGEST_PING),
        renewal: seconds(&written.renewal_seconds, "renewal_seconds", standard.renewal, LONGEST_RENEWAL),
        ..standard
    }
}
