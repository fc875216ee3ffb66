//! What peers of a trunk hear of us.

use super::super::error::ConfigErrors;
use super::super::file::{self, Field};
use crate::media::Tones;
use crate::signal::tone::{Announcement, Cadence, Plan, Signal};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// Nothing is too early after this, and a caller that heard nothing for longer has hung up.
const SILENCE_MS: std::ops::RangeInclusive<u32> = 200..=60_000;

/// Whoever still listens then has fallen asleep.
const REFUSAL_MOST: u32 = 60;

/// `None` when a field is wrong; `errors` says which.
pub(super) fn tones(
    written: &Spanned<file::TrunkTones>,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Arc<Tones>> {
    let (span, written) = (written.span(), written.get_ref());
    let country = match &written.country {
        None => None,
        Some(text) => {
            let plan = Plan::of_country(text.get_ref().trim());
            if plan.is_none() {
                let known = Plan::countries().collect::<Vec<_>>().join(", ");
                let message = format!("the tones of {:?} are not known", text.get_ref());
                let fix = format!("write one of {known}, or ringback, busy and congestion in its place");
                errors.add(Some(text.span()), format!("{label} tones.country"), message, fix);
                return None;
            }
            plan
        }
    };
    let mut cadence = |field: &Field<String>, name: &str, signal| {
        let Some(text) = field else {
            let of_country = country.as_ref().map(|plan: &Plan| plan.cadence(signal).clone());
            if of_country.is_none() {
                let fix = format!("add country = \"DE\", or {name} = \"425/1000,0/4000\"");
                errors.add(Some(span.clone()), format!("{label} tones.{name}"), "is missing", fix);
            }
            return of_country;
        };
        let parsed: Result<Cadence, _> = text.get_ref().parse();
        parsed
            .map_err(|error| {
                let fix = "write tones and pauses that repeat, as in \"425/1000,0/4000\"";
                errors.add(Some(text.span()), format!("{label} tones.{name}"), error.to_string(), fix);
            })
            .ok()
    };
    let ringback = cadence(&written.ringback, "ringback", Signal::Ringback);
    let busy = cadence(&written.busy, "busy", Signal::Busy);
    let congestion = cadence(&written.congestion, "congestion", Signal::Congestion);
    let standard = Tones::of(Plan::of_cadences(ringback?, busy?, congestion?));
    Some(Arc::new(Tones {
        on_ringing: super::value(&written.on_ringing, standard.on_ringing),
        on_silence: on_silence(&written.silence_ms, standard.on_silence, label, errors),
        on_transfer: super::value(&written.on_transfer, standard.on_transfer),
        on_refusal: on_refusal(&written.refusal_seconds, label, errors),
        announcements: announcements(&written.announcements, label, errors),
        ..standard
    }))
}

fn on_silence(
    field: &Field<u32>,
    standard: Option<Duration>,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Duration> {
    let Some(written) = field else { return standard };
    let milliseconds = *written.get_ref();
    if milliseconds == 0 {
        return None;
    }
    if !SILENCE_MS.contains(&milliseconds) {
        let message = format!("{milliseconds} ms of silence are no sign of anything, or of a call given up");
        let fix = "write 200 to 60000, or 0 to leave callers waiting";
        errors.add(Some(written.span()), format!("{label} tones.silence_ms"), message, fix);
    }
    Some(Duration::from_millis(milliseconds.into()))
}

fn on_refusal(field: &Field<u32>, label: &str, errors: &mut ConfigErrors) -> Option<Duration> {
    let written = field.as_ref().filter(|seconds| *seconds.get_ref() > 0)?;
    let seconds = *written.get_ref();
    if seconds > REFUSAL_MOST {
        let message = format!("a caller that is refused would hear a tone for {seconds} s");
        let fix = format!("write 1 to {REFUSAL_MOST}, or 0 to refuse at once");
        errors.add(Some(written.span()), format!("{label} tones.refusal_seconds"), message, fix);
    }
    Some(Duration::from_secs(seconds.into()))
}

fn announcements(
    written: &BTreeMap<String, Spanned<PathBuf>>,
    label: &str,
    errors: &mut ConfigErrors,
) -> BTreeMap<u16, Announcement> {
    let mut announcements = BTreeMap::new();
    for (status, file) in written {
        let field = format!("{label} tones.announcements");
        let Some(status) = status.parse().ok().filter(|status| (300..700).contains(status)) else {
            let fix = "write the status code of a refusal in front of the file, as in { 404 = \"/etc/causeway/unknown.wav\" }";
            errors.add(Some(file.span()), field, format!("{status:?} is no status code of a refusal"), fix);
            continue;
        };
        let read = fs::read(file.get_ref()).map_err(|error| error.to_string());
        match read.and_then(|octets| Announcement::read(&octets).map_err(|error| error.to_string())) {
            Ok(announcement) => {
                announcements.insert(status, announcement);
            }
            Err(why) => {
                let message = format!("{}: {why}", file.get_ref().display());
                let fix =
                    "name a WAV file of 8000, 16000 or 48000 samples a second, 16 bits, 1 or 2 channels";
                errors.add(Some(file.span()), field, message, fix);
            }
        }
    }
    announcements
}
