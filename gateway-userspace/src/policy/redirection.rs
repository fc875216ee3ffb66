//! Who passed a call on before it came to us: History-Info (RFC 7044) and Diversion (RFC 5806), each read, written, and
//! made of the other as RFC 7544 says.

use super::identity::{Party, anonymous};
use super::{Caller, Trunk};
use crate::sip::message::{HeaderName, Headers, NameAddr, Request, Uri, unescape};
use std::borrow::Cow;

/// The header field that tells a trunk's peers who passed a call on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedirectionForm {
    /// They are not told.
    #[default]
    None,
    HistoryInfo,
    Diversion,
}

/// Everybody who passed a call on, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirection(Vec<Diversion>);

/// Somebody who passed a call on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diversion {
    pub party: Party,
    pub reason: DiversionReason,
    /// Only those whom we trust may know.
    pub private: bool,
    /// Diversions that this one stands for, itself included: others before it are not known.
    pub count: u8,
}

/// Names of RFC 5806 section 4, and the causes of RFC 4458 that stand for them in History-Info by RFC 7544 section 6.1.
/// Several names share one cause: the first is read back.
macro_rules! reasons {
    ($($variant:ident $name:literal $cause:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DiversionReason { $($variant,)+ }

        const REASONS: &[(DiversionReason, &str, u16)] = &[$((DiversionReason::$variant, $name, $cause),)+];
    };
}

reasons! {
    Unknown "unknown" 404;
    Unconditional "unconditional" 302;
    UserBusy "user-busy" 486;
    NoAnswer "no-answer" 408;
    Deflection "deflection" 480;
    ImmediateDeflection "deflection" 487;
    Unavailable "unavailable" 503;
    TimeOfDay "time-of-day" 404;
    DoNotDisturb "do-not-disturb" 404;
    FollowMe "follow-me" 404;
    OutOfService "out-of-service" 404;
    Away "away" 404;
}

/// More than any network lets a call be passed on; what is above is a loop, or a flood.
const MAX_DIVERSIONS: usize = 10;
const MAX_COUNT: u8 = 10;

impl Redirection {
    /// Who passed this INVITE on, if the trunk that it came by is believed. Of both header fields, History-Info counts
    /// where it tells of any: it keeps what RFC 5806 has no words for.
    pub fn of(request: &Request, trunk: &Trunk, caller: &Caller) -> Self {
        if !trunk.identity.trusted {
            return Self::default();
        }
        let mut diversions = of_history_info(&request.headers, trunk);
        if diversions.is_empty() {
            diversions = of_diversion(&request.headers, trunk);
        }
        // The last ones matter most: who is billed, whose mailbox it is.
        diversions.drain(..diversions.len().saturating_sub(MAX_DIVERSIONS));
        for diversion in &mut diversions {
            diversion.private |= caller.privacy.history;
        }
        Self(diversions)
    }

    /// Tells this trunk in its form. `target` is where the call goes now.
    pub fn write(&self, trunk: &Trunk, target: &Uri, headers: &mut Headers) {
        if self.0.is_empty() {
            return;
        }
        match trunk.redirection {
            RedirectionForm::None => {}
            RedirectionForm::HistoryInfo => self.write_history_info(trunk, target, headers),
            RedirectionForm::Diversion => self.write_diversion(trunk, headers),
        }
    }

    /// Each entry says why the one before it passed the call on; the last is the target. Diversions that are not known
    /// are gaps in the index (RFC 7544 section 6.2).
    fn write_history_info(&self, trunk: &Trunk, target: &Uri, headers: &mut Headers) {
        let mut index = String::new();
        let mut before: Option<(DiversionReason, String)> = None;
        let mut entry = |mut address: NameAddr, count: u8, reason: Option<DiversionReason>, private: bool| {
            for _ in 0..count {
                index.push_str(if index.is_empty() { "1" } else { ".1" });
            }
            if let Uri::Sip(uri) = &mut address.uri {
                if let Some((cause, _)) = &before {
                    uri.params.set("cause", &cause.cause().to_string());
                }
                uri.headers = private.then(|| "Privacy=history".to_owned());
            }
            address.params.set("index", &index);
            if let Some((_, parent)) = &before {
                address.params.set("mp", parent);
            }
            before = reason.map(|reason| (reason, index.clone()));
            headers.push(HeaderName::HistoryInfo, address.to_string());
        };
        for diversion in &self.0 {
            let private = diversion.private && trunk.identity.trusted;
            entry(diversion.address(trunk), diversion.count, Some(diversion.reason), private);
        }
        entry(NameAddr::new(target.clone()), 1, None, false);
    }

    /// The last one first.
    fn write_diversion(&self, trunk: &Trunk, headers: &mut Headers) {
        for diversion in self.0.iter().rev() {
            let mut address = diversion.address(trunk);
            address.params.set("reason", diversion.reason.name());
            address.params.set("counter", &diversion.count.to_string());
            address.params.set("privacy", if diversion.private { "full" } else { "off" });
            headers.push(HeaderName::Diversion, address.to_string());
        }
    }
}

impl Diversion {
    /// As this trunk may know it.
    fn address(&self, trunk: &Trunk) -> NameAddr {
        if self.private && !trunk.identity.trusted {
            return anonymous();
        }
        let mut address = self.party.address(trunk);
        address.display.clone_from(&self.party.name);
        address
    }
}

impl DiversionReason {
    fn named(name: &str) -> Self {
        let same = |known: &&(Self, &str, u16)| known.1.eq_ignore_ascii_case(name);
        REASONS.iter().find(same).map_or(Self::Unknown, |known| known.0)
    }

    fn caused(cause: u16) -> Self {
        REASONS.iter().find(|known| known.2 == cause).map_or(Self::Unknown, |known| known.0)
    }

    fn row(self) -> &'static (Self, &'static str, u16) {
        REASONS.iter().find(|known| known.0 == self).unwrap_or(&REASONS[0])
    }

    fn name(self) -> &'static str {
        self.row().1
    }

    fn cause(self) -> u16 {
        self.row().2
    }
}

/// Diversion, which stands in the order of a stack.
fn of_diversion(headers: &Headers, trunk: &Trunk) -> Vec<Diversion> {
    let read = |item: &str| {
        let address: NameAddr = item.parse().ok()?;
        let plain =
            |param: &str| address.param(param).map(|value| value.trim_matches('"').to_ascii_lowercase());
        Some(Diversion {
            party: Party::of(&address, trunk)?,
            reason: plain("reason").map_or(DiversionReason::Unknown, |name| DiversionReason::named(&name)),
            private: plain("privacy").is_some_and(|privacy| privacy != "off"),
            count: plain("counter").and_then(|count| count.parse().ok()).unwrap_or(1).clamp(1, MAX_COUNT),
        })
    };
    let mut diversions: Vec<_> = headers.items(&HeaderName::Diversion).filter_map(read).collect();
    diversions.reverse();
    diversions
}

/// History-Info: an entry is a diversion if it says by a Reason why it was left (RFC 4244, RFC 7044 section 5), or the
/// next says by `cause` why it was reached (RFC 4458). Others were steps of routing.
fn of_history_info(headers: &Headers, trunk: &Trunk) -> Vec<Diversion> {
    let entries: Vec<_> =
        headers.items(&HeaderName::HistoryInfo).map(|item| Entry::of(item, trunk)).collect();
    let mut diversions = Vec::new();
    let mut depth = 0;
    for (position, entry) in entries.iter().enumerate() {
        let next = entries.get(position + 1);
        let cause = entry.left_because.or_else(|| next.and_then(|next| next.reached_because));
        if let (Some(cause), Some(party)) = (cause, &entry.party) {
            let count = entry.depth.saturating_sub(depth).clamp(1, MAX_COUNT);
            let reason = DiversionReason::caused(cause);
            diversions.push(Diversion { party: party.clone(), reason, private: entry.private, count });
        }
        depth = entry.depth;
    }
    diversions
}

/// An entry of History-Info.
#[derive(Debug)]
struct Entry {
    party: Option<Party>,
    left_because: Option<u16>,
    reached_because: Option<u16>,
    private: bool,
    /// Numbers in its index.
    depth: u8,
}

impl Entry {
    /// Takes what Teams prints: a Reason with bare semicolons, blanks and quotes of any kind, inside the URI's headers or
    /// before them. So the strict grammar is asked for the address only.
    fn of(item: &str, trunk: &Trunk) -> Self {
        let (inside, behind) = match (item.find('<'), item.rfind('>')) {
            (Some(open), Some(close)) if open < close => (&item[open + 1..close], &item[close + 1..]),
            _ => item.split_once(';').unwrap_or((item, "")),
        };
        let (uri, headers) = inside.split_once('?').unwrap_or((inside, ""));
        let bare = uri.split(';').next().unwrap_or_default();
        let address = uri.trim().parse().or_else(|_| bare.trim().parse::<Uri>()).ok().map(NameAddr::new);
        let mut party = address.and_then(|address| Party::of(&address, trunk));
        if let (Some(party), Ok(strict)) = (&mut party, item.parse::<NameAddr>()) {
            party.name = strict.display;
        }
        let (reason, others): (Vec<_>, Vec<_>) =
            headers.split('&').map(unescape).partition(|header| named(header, "reason").is_some());
        let reason_before = find(uri.split(';'), "reason").is_some();
        let cause = |text: &str| leading_number(find(text.split(';'), "cause")?);
        let in_uri = cause(uri);
        let in_headers = reason.iter().find_map(|reason| cause(reason));
        let privacy = find(others.iter().map(Cow::as_ref), "privacy");
        let index = find(behind.split(';'), "index").unwrap_or_default();
        Self {
            party,
            left_because: in_headers.or(in_uri.filter(|_| reason_before)),
            reached_because: in_uri.filter(|_| !reason_before),
            private: privacy.is_some_and(|value| value.to_ascii_lowercase().contains("history")),
            depth: u8::try_from(index.split('.').filter(|number| leading_number(number).is_some()).count())
                .unwrap_or(u8::MAX),
        }
    }
}

/// The value of the first `name=value` of that name, without case and blanks.
fn find<'a>(mut pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    pairs.find_map(|pair| named(pair, name))
}

fn named<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let (own, value) = pair.split_once('=')?;
    own.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

fn leading_number(text: &str) -> Option<u16> {
    let text = text.trim();
    let end = text.bytes().position(|octet| !octet.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests;
