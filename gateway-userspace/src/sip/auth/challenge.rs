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
        let parameters = parameters(line)?;
        let value =
            |name: &str| parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let (algorithm, qop) = (value("algorithm"), value("qop"));
        let stale = value("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        let algorithm = match algorithm {
            Some(name) => Algorithm::named(&name)?,
            None => Algorithm::Md5,
        };
        let is_auth = |qop: &String| qop.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth"));
        if qop.as_ref().is_some_and(|qop| !is_auth(qop)) {
            return None;
        }
        let (realm, nonce, opaque) = (value("realm")?, value("nonce")?, value("opaque"));
        Some(Self { realm, nonce, opaque, algorithm, qop: qop.is_some(), stale })
    }
}

/// The parameters of the Digest scheme, names in lower case; `None` for another scheme.
pub(super) fn parameters(line: &str) -> Option<Vec<(String, String)>> {
    let (scheme, mut rest) = line.trim().split_once([' ', '\t'])?;
    if !scheme.eq_ignore_ascii_case("Digest") {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some((name, value, behind)) = parameter(rest) {
        parameters.push((name.to_ascii_lowercase(), value));
        rest = behind;
    }
    Some(parameters)
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
