//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760). As the one who is asked: a challenge in, the header
//! that answers it out. As the one who asks: [`Guard`].
//!
//! Who asks gets an answer only if it names the very realm that the credentials are for, so that nobody else can have
//! passwords guessed from it.

mod challenge;
mod guard;

pub use guard::{Challenger, Guard, Verdict};

use crate::sip::message::{Draft, HeaderName, Response, StatusCode};
use challenge::Challenge;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use std::fmt::{self, Write};

/// Who we are to one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub realm: String,
    pub user: String,
    pub password: Password,
    /// Answer MD5 too, which can be broken and which anybody between us and the peer can ask for (RFC 8760 section 3).
    pub md5: bool,
}

/// Prints as nothing.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Password(String);

/// In the order of strength, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl Password {
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Credentials {
    /// Puts the answer to the strongest challenge of a 401 or 407 that is for our realm into the request that was
    /// challenged, in the place of an earlier one. `false` if there is none, or it refuses what we answered already: the
    /// password is wrong, and asking again would not mend it. `cnonce` is random.
    pub fn answer(&self, response: &Response, draft: &mut Draft, cnonce: &str) -> bool {
        let (asks, answers) = match response.status {
            StatusCode::UNAUTHORIZED => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)
            }
            _ => return false,
        };
        let challenge = response
            .headers
            .values(&asks)
            .filter_map(Challenge::parse)
            .filter(|challenge| challenge.realm == self.realm)
            .filter(|challenge| self.md5 || challenge.algorithm > Algorithm::Md5)
            // Of two that are equally strong, the one preferred by who asks (RFC 8760 section 2.4).
            .reduce(|best, other| if other.algorithm > best.algorithm { other } else { best });
        let Some(challenge) = challenge else { return false };
        if draft.headers.value(&answers).is_some() && !challenge.stale {
            return false;
        }
        let line = self.line(&challenge, draft.method.as_str(), &draft.uri.to_string(), cnonce);
        draft.headers.set(answers, line);
        true
    }

    /// RFC 7616 section 3.4; without `qop` in the challenge as in RFC 2069.
    fn line(&self, challenge: &Challenge, method: &str, uri: &str, cnonce: &str) -> String {
        let hash = |text: String| challenge.algorithm.hash(&text);
        let Challenge { realm, nonce, .. } = challenge;
        let ours = hash(format!("{}:{realm}:{}", self.user, self.password.0));
        let theirs = hash(format!("{method}:{uri}"));
        let response = match challenge.qop {
            true => hash(format!("{ours}:{nonce}:{COUNT}:{cnonce}:auth:{theirs}")),
            false => hash(format!("{ours}:{nonce}:{theirs}")),
        };
        let quoted = challenge::quoted;
        let mut line = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\", algorithm={}",
            quoted(&self.user),
            quoted(realm),
            quoted(nonce),
            quoted(uri),
            challenge.algorithm.name()
        );
        if challenge.qop {
            line.push_str(&format!(", cnonce={}, qop=auth, nc={COUNT}", quoted(cnonce)));
        }
        if let Some(opaque) = &challenge.opaque {
            line.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        line
    }
}

/// Each answer is to a nonce of its own.
const COUNT: &str = "00000001";

impl Algorithm {
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512_256];

    /// By its name in the registry, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// In lower-case hexadecimal digits.
    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hexadecimal(&Md5::digest(text)),
            Self::Sha256 => hexadecimal(&Sha256::digest(text)),
            Self::Sha512_256 => hexadecimal(&Sha512_256::digest(text)),
        }
    }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        write!(text, "{octet:02x}").expect("writing to memory cannot fail");
        text
    })
}

#[cfg(test)]
mod tests;
