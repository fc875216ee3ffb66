//! `a=crypto`: keys in a session description (RFC 4568), and what a trunk says about them.

use super::fault::Refusal;
use super::model::Audio;
use super::negotiated::Security;
use crate::base::token::Tokens;
use crate::srtp::{MasterKey, Mki, Suite};
use std::fmt;

/// Most lines that are read of one stream.
pub(super) const LINES_MAX: usize = 16;

/// One `a=crypto` line: its tag, which the answer repeats, and the key that its writer sends with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Crypto {
    /// Up to nine digits, 0 among them.
    pub tag: u32,
    pub key: MasterKey,
}

/// Whether a trunk's media is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSecurity {
    /// SRTP is offered, and plain RTP is refused either way.
    Required,
    /// SRTP is offered within plain RTP (RFC 8643): the answer says which it is. Offers of either kind are taken.
    Offered,
    /// Plain RTP only.
    #[default]
    Off,
}

/// What a trunk says about the protection of media.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityTerms {
    pub security: MediaSecurity,
    /// In order of preference: offered so, and chosen so from what a peer offers.
    pub suites: Vec<Suite>,
}

impl Default for SecurityTerms {
    /// Plain RTP; and where it is secured after all, what costs the relay least first.
    fn default() -> Self {
        let suites = vec![
            Suite::AesCm128HmacSha1_80,
            Suite::AeadAes256Gcm,
            Suite::AeadAes128Gcm,
            Suite::Aes256CmHmacSha1_80,
            Suite::AesCm128HmacSha1_32,
        ];
        Self { security: MediaSecurity::default(), suites }
    }
}

impl SecurityTerms {
    /// The line of a peer's offer to be answered, by our own preference; `None` for plain RTP.
    ///
    /// # Errors
    /// [`Refusal::NotSecured`] where the trunk wants SRTP and the offer has none, or has nothing but suites that the
    /// trunk does not take; [`Refusal::Secured`] where the trunk wants none and the offer has nothing else.
    pub(super) fn choose<'a>(&self, offer: &'a Audio) -> Result<Option<&'a Crypto>, Refusal> {
        let of = |suite: &Suite| offer.crypto.iter().find(|line| line.key.suite() == *suite);
        match (self.security, offer.profile.is_secure()) {
            (MediaSecurity::Off, true) => Err(Refusal::Secured),
            (MediaSecurity::Off, false) => Ok(None),
            (MediaSecurity::Required | MediaSecurity::Offered, secure) => {
                match self.suites.iter().find_map(of) {
                    Some(line) => Ok(Some(line)),
                    None if secure || self.security == MediaSecurity::Required => Err(Refusal::NotSecured),
                    None => Ok(None),
                }
            }
        }
    }

    /// A fresh key for each suite, to be ours in one session.
    pub(super) fn mint(&self, chance: &mut Tokens) -> Vec<MasterKey> {
        match self.security {
            MediaSecurity::Off => Vec::new(),
            MediaSecurity::Required | MediaSecurity::Offered => {
                self.suites.iter().map(|suite| MasterKey::random(*suite, chance)).collect()
            }
        }
    }
}

/// Lines that offer these keys, the first with tag 1.
pub(super) fn lines(keys: &[MasterKey]) -> Vec<Crypto> {
    (1..).zip(keys).map(|(tag, key)| Crypto { tag, key: key.clone() }).collect()
}

/// What the answer to `offer` says about keys, whichever of the two is ours: `(from_peer, to_peer)` by `ours_offered`.
///
/// # Errors
/// [`Refusal::NotSecured`] when the answer takes up none of the lines of a secured offer, or secures what was not offered
/// so.
pub(super) fn agreed(offer: &Audio, answer: &Audio, ours_offered: bool) -> Result<Security, Refusal> {
    let taken = answer.crypto.iter().find_map(|answered| {
        let same = |line: &&Crypto| line.tag == answered.tag && line.key.suite() == answered.key.suite();
        Some((offer.crypto.iter().find(same)?, answered))
    });
    match taken {
        Some((offered, answered)) => {
            let (ours, theirs) = if ours_offered { (offered, answered) } else { (answered, offered) };
            Ok(Security::keyed(theirs.key.clone(), ours.key.clone()))
        }
        None if offer.profile.is_secure() || answer.profile.is_secure() => Err(Refusal::NotSecured),
        // Lines that answer none of ours: the peer would send what we cannot read.
        None if !answer.crypto.is_empty() => Err(Refusal::NotSecured),
        None => Ok(Security::Plain),
    }
}

impl Crypto {
    /// The value of `a=crypto`: `tag suite inline:key||salt[|lifetime][|MKI:length] [session parameters]`. `None` for a line
    /// that cannot be used: of an unknown suite, with several keys, or with a session parameter that we do not do
    /// (RFC 4568 section 6.3: the line is then no choice, the others are).
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| matches!(tag.len(), 1..=9))?;
        let tag = number(tag)?;
        let suite = Suite::named(words.next()?)?;
        let parameters = words.next()?;
        let (method, info) = parameters.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
            return None;
        }
        let key = key(suite, info)?;
        words.all(session_parameter).then_some(Self { tag, key })
    }
}

/// As it stands in the session description, key included: nowhere else to be used.
impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, key } = self;
        write!(f, "{tag} {} inline:{}", key.suite().name(), *key.to_base64())?;
        match key.lifetime() {
            Some(packets) if packets.is_power_of_two() => write!(f, "|2^{}", packets.trailing_zeros())?,
            Some(packets) => write!(f, "|{packets}")?,
            None => {}
        }
        key.mki().map_or(Ok(()), |mki| write!(f, "|{}:{}", mki.value(), mki.len()))
    }
}

fn key(suite: Suite, info: &str) -> Option<MasterKey> {
    let mut parts = info.split('|');
    let key = MasterKey::from_base64(suite, parts.next()?).ok()?;
    let (mut lifetime, mut mki) = (None, None);
    for part in parts {
        match part.split_once(':') {
            Some((value, octets)) if mki.is_none() => {
                mki = Some(Mki::new(number(value)?, number(octets)?).ok()?);
            }
            None if lifetime.is_none() && mki.is_none() => lifetime = Some(packets(part)?),
            Some(_) | None => return None,
        }
    }
    Some(key.with_mki(mki).with_lifetime(lifetime))
}

/// `2^n` or a number; RFC 3711 section 9.2 allows 2^48 at most.
fn packets(text: &str) -> Option<u64> {
    let packets = match text.strip_prefix("2^") {
        Some(exponent) => 1u64.checked_shl(number(exponent)?)?,
        None => number(text)?,
    };
    matches!(packets, 1..=0x1_0000_0000_0000).then_some(packets)
}

/// Whether a line with this session parameter can be used.
fn session_parameter(parameter: &str) -> bool {
    // RFC 4568 section 6.3.7: what begins so may be passed over.
    if parameter.starts_with('-') {
        return true;
    }
    match parameter.split_once('=') {
        // Keys that are never derived again are the default, and our window is larger than any that is asked for.
        Some((name, value)) if name.eq_ignore_ascii_case("KDR") => number::<u8>(value) == Some(0),
        Some((name, value)) if name.eq_ignore_ascii_case("WSH") => {
            number::<u32>(value).is_some_and(|size| size <= 128)
        }
        // Without forward error correction its order says nothing.
        Some((name, _)) => name.eq_ignore_ascii_case("FEC_ORDER"),
        None => false,
    }
}

/// Digits only: no sign, no blanks.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A session description as text: it may hold keys, and prints as nothing.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Said(pub(super) String);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    fn parsed(rest: &str) -> Option<Crypto> {
        Crypto::parse(&rest.replace("KEY", KEY))
    }

    // Statements 131, 133.
    #[test]
    fn lifetime_and_identifier_are_read_in_all_their_forms() {
        let table = [
            ("0 AES_CM_128_HMAC_SHA1_32 inline:KEY|2^31", 0, Some(1 << 31), None),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY", 1, None, None),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|1:1", 1, Some(1 << 31), Some((1, 1))),
            ("999999999 aes_cm_128_hmac_sha1_80 INLINE:KEY|1:4", 999_999_999, None, Some((1, 4))),
            ("2 AES_CM_128_HMAC_SHA1_80 inline:KEY|1048576|66:128", 2, Some(1 << 20), Some((66, 128))),
            ("2 AES_CM_128_HMAC_SHA1_80 inline:KEY|100 KDR=0 WSH=64 -x=y", 2, Some(100), None),
            ("2 AES_CM_128_HMAC_SHA1_80 inline:KEY FEC_ORDER=FEC_SRTP", 2, None, None),
        ];
        for (line, tag, lifetime, mki) in table {
            let crypto = parsed(line).unwrap_or_else(|| panic!("{line}"));
            let found = crypto.key.mki().map(|mki| (mki.value(), mki.len()));
            assert_eq!((crypto.tag, crypto.key.lifetime(), found), (tag, lifetime, mki), "{line}");
            assert_eq!(Crypto::parse(&crypto.to_string()), Some(crypto), "{line}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_used_is_no_choice() {
        for line in [
            "",
            "1",
            "1 AES_CM_128_HMAC_SHA1_80",
            "x AES_CM_128_HMAC_SHA1_80 inline:KEY",
            "+1 AES_CM_128_HMAC_SHA1_80 inline:KEY",
            "1000000000 AES_CM_128_HMAC_SHA1_80 inline:KEY",
            "1 F8_128_HMAC_SHA1_80 inline:KEY",
            "1 AES_CM_128_HMAC_SHA1_80 KEY",
            "1 AES_CM_128_HMAC_SHA1_80 uri:KEY",
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA",
            "1 AES_256_CM_HMAC_SHA1_80 inline:KEY",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^49",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^99999999999",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|0",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|1:0",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|256:1",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|1:1|2^31",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:1;inline:KEY|2:1",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=1",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTP",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTCP",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNAUTHENTICATED_SRTP",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY WSH=1000",
            "1 AES_CM_128_HMAC_SHA1_80 inline:KEY x=y",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[ -~]{0,80}", tail in "[0-9:|;^=A-Z -]{0,30}") {
            let _ = Crypto::parse(&line);
            let _ = parsed(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:KEY{tail}"));
        }
    }
}
