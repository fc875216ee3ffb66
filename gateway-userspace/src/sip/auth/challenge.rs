//! What WWW-Authenticate and Proxy-Authenticate say (RFC 3261 section 20.44): one challenge a line.

use super::Algorithm;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) opaque: Option<String>,
    pub(super) algorithm: Algorithm,
    /// It offers `auth`, which hashes a nonce of ours with its own.
    pub(super) qop: bool,
    /// The answer was right, its nonce too old.
    pub(super) stale: bool,
}

impl Challenge {
    /// `None` for other schemes, for what lacks a realm or nonce, and for algorithms and protections that are not ours:
    /// `-sess`, and `auth-int` alone.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (scheme, mut rest) = line.trim().split_once([' ', '\t'])?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let (mut realm, mut nonce, mut opaque, mut algorithm, mut qop, mut stale) =
            (None, None, None, None, None, false);
        while let Some((name, value, behind)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "opaque" => opaque = Some(value),
                "algorithm" => algorithm = Some(value),
                "qop" => qop = Some(value),
                "stale" => stale = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
            rest = behind;
        }
        let algorithm = match algorithm {
            Some(name) => Algorithm::ALL.into_iter().find(|own| own.name().eq_ignore_ascii_case(&name))?,
            None => Algorithm::Md5,
        };
        let is_auth = |qop: &String| qop.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth"));
        if qop.as_ref().is_some_and(|qop| !is_auth(qop)) {
            return None;
        }
        Some(Self { realm: realm?, nonce: nonce?, opaque, algorithm, qop: qop.is_some(), stale })
    }
}

/// The next `name=value` of a list, and what stands behind it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let rest = rest.trim_start();
    let Some(inside) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        return Some((name.trim(), rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name.trim(), value, &inside[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    None
}

/// As a quoted string.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
