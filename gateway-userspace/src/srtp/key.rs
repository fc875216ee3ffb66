//! One direction's key as it is signalled.

use super::Suite;
use crate::base::token::Tokens;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Octets that the longest master key and salt take together.
pub(super) const MASTER_MAX: usize = 46;

/// Master key and salt of one direction, with what `a=crypto` says about them. Two are equal when they protect packets
/// in the same way, so that a changed one is a new key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MasterKey {
    suite: Suite,
    secret: Secret<MASTER_MAX>,
    /// Packets carry it exactly when there is one (RFC 3711 section 3.1).
    mki: Option<Mki>,
    /// Packets after which the key may be used no more, as a power of 2 where it was written as one. What was signalled,
    /// not a counter: no call reaches 2^31 packets.
    lifetime: Option<u64>,
}

/// Master key identifier: a number in a field of 1 to 128 octets (RFC 4568 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Mki {
    value: u64,
    octets: u8,
}

/// A key that no packet could be protected with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("a master key and salt of {suite} have {wanted} octets, not {found}", suite = suite.name())]
    Length { suite: Suite, wanted: usize, found: usize },
    #[error("a master key is not written in base64")]
    Base64,
    #[error("a master key identifier has 1 to 128 octets and a value that fits in them")]
    Mki,
}

impl MasterKey {
    /// # Errors
    /// [`KeyFault::Length`] when `master` is not key and salt of the suite, in that order.
    pub fn new(suite: Suite, master: &[u8]) -> Result<Self, KeyFault> {
        let wanted = suite.master_len();
        if master.len() != wanted {
            return Err(KeyFault::Length { suite, wanted, found: master.len() });
        }
        Ok(Self { suite, secret: Secret::of(master), mki: None, lifetime: None })
    }

    /// A fresh key.
    pub fn random(suite: Suite, chance: &mut Tokens) -> Self {
        let mut secret = Secret([0; MASTER_MAX]);
        chance.fill(&mut secret.0[..suite.master_len()]);
        Self { suite, secret, mki: None, lifetime: None }
    }

    /// The key to use in the place of this one, which no packet is to be protected with any more.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut secret = Secret([0; MASTER_MAX]);
        let blocks = secret.0[..self.suite.master_len()].chunks_mut(20);
        for (number, block) in (0_u8..).zip(blocks) {
            let mut mac =
                Hmac::<Sha1>::new_from_slice(self.master()).expect("HMAC takes a key of any length");
            mac.update(&[number]);
            let octets = Zeroizing::new(<[u8; 20]>::from(mac.finalize().into_bytes()));
            block.iter_mut().zip(octets.iter()).for_each(|(to, from)| *to = *from);
        }
        Self { suite: self.suite, secret, mki: None, lifetime: None }
    }

    /// From the base64 of `inline:`, padded or not as RFC 4568 section 6.1 and its errata leave it.
    pub fn from_base64(suite: Suite, text: &str) -> Result<Self, KeyFault> {
        let padded =
            [text.trim_end_matches('='), &"=="[..(4 - text.trim_end_matches('=').len() % 4) % 4 % 3]];
        let padded = Zeroizing::new(padded.concat());
        let master = Zeroizing::new(BASE64_STANDARD.decode(padded.as_bytes()).map_err(|_| KeyFault::Base64)?);
        Self::new(suite, &master)
    }

    /// The base64 of `inline:`. The only way to see the key as text: for the session description and the journal.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.master()))
    }

    #[must_use]
    pub fn with_mki(self, mki: Option<Mki>) -> Self {
        Self { mki, ..self }
    }

    #[must_use]
    pub fn with_lifetime(self, lifetime: Option<u64>) -> Self {
        Self { lifetime, ..self }
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub fn mki(&self) -> Option<Mki> {
        self.mki
    }

    pub fn lifetime(&self) -> Option<u64> {
        self.lifetime
    }

    /// The master key: [`Suite::key_len`] octets.
    pub fn key(&self) -> &[u8] {
        &self.master()[..self.suite.key_len()]
    }

    /// The master salt: [`Suite::salt_len`] octets.
    pub fn salt(&self) -> &[u8] {
        &self.master()[self.suite.key_len()..]
    }

    fn master(&self) -> &[u8] {
        &self.secret.0[..self.suite.master_len()]
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { suite, mki, lifetime, secret: _ } = self;
        f.debug_struct("MasterKey")
            .field("suite", suite)
            .field("mki", mki)
            .field("lifetime", lifetime)
            .finish_non_exhaustive()
    }
}

impl Mki {
    /// # Errors
    /// [`KeyFault::Mki`] when `octets` is not 1 to 128 or `value` does not fit in them.
    pub fn new(value: u64, octets: u8) -> Result<Self, KeyFault> {
        let fits = octets >= 8 || value.checked_shr(8 * u32::from(octets)) == Some(0);
        if matches!(octets, 1..=128) && fits { Ok(Self { value, octets }) } else { Err(KeyFault::Mki) }
    }

    pub fn value(self) -> u64 {
        self.value
    }

    /// Octets of the field.
    #[expect(clippy::len_without_is_empty, reason = "a field without octets cannot be made")]
    pub fn len(self) -> usize {
        usize::from(self.octets)
    }

    /// The field, in network byte order.
    pub fn octets(self) -> impl Iterator<Item = u8> {
        let zeros = self.len().saturating_sub(8);
        let value = self.value.to_be_bytes();
        std::iter::repeat_n(0, zeros).chain(value.into_iter().skip(8usize.saturating_sub(self.len())))
    }
}

/// Octets that are wiped on release and never printed, zero behind those in use.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub(super) struct Secret<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Secret<N> {
    /// Of at most `N` octets.
    pub(super) fn of(octets: &[u8]) -> Self {
        let mut secret = Self([0; N]);
        secret.0.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        secret
    }
}

/// How the journal keeps a key, which is readable by the daemon's user alone.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    suite: Suite,
    inline: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mki: Option<Mki>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<u64>,
}

impl serde::Serialize for MasterKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { suite, mki, lifetime, .. } = *self;
        serde::Serialize::serialize(&Stored { suite, inline: self.to_base64(), mki, lifetime }, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for MasterKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { suite, inline, mki, lifetime } = serde::Deserialize::deserialize(deserializer)?;
        let key = Self::from_base64(suite, &inline).map_err(serde::de::Error::custom)?;
        Ok(key.with_mki(mki).with_lifetime(lifetime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_of_a_key_is_another_in_all_its_octets_and_the_same_each_time() {
        for suite in Suite::ALL {
            let key = MasterKey::new(suite, &vec![7; suite.master_len()]).unwrap();
            let next = key.successor();
            assert_eq!((next.suite(), &next), (suite, &key.successor()));
            assert_ne!(next, next.successor());
            // A block that was left out would be all alike.
            assert!(next.master().chunks(8).all(|octets| octets.iter().any(|octet| *octet != octets[0])));
        }
    }

    #[test]
    fn a_key_survives_its_text_and_the_journal_and_is_never_printed() {
        for suite in Suite::ALL {
            let master: Vec<u8> = (0xa0..).take(suite.master_len()).collect();
            let key = MasterKey::new(suite, &master).unwrap();
            let text = key.to_base64();
            assert_eq!(MasterKey::from_base64(suite, &text).unwrap(), key);
            assert_eq!(MasterKey::from_base64(suite, text.trim_end_matches('=')).unwrap(), key);
            let key = key.with_mki(Some(Mki::new(1, 4).unwrap())).with_lifetime(Some(1 << 31));
            let stored = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<MasterKey>(&stored).unwrap(), key);
            let printed = format!("{key:?}");
            assert!(!printed.contains(&**text) && !printed.contains("160"), "{printed}");
            assert_eq!((key.key().len(), key.salt().len()), (suite.key_len(), suite.salt_len()));
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused_without_showing_it() {
        let suite = Suite::AesCm128HmacSha1_80;
        let error = MasterKey::from_base64(suite, "AAAA").unwrap_err();
        assert_eq!(error, KeyFault::Length { suite, wanted: 30, found: 3 });
        assert_eq!(MasterKey::from_base64(suite, "not base64!"), Err(KeyFault::Base64));
        assert_eq!(MasterKey::from_base64(suite, ""), Err(KeyFault::Length { suite, wanted: 30, found: 0 }));
    }

    #[test]
    fn an_identifier_fills_its_field_from_the_right() {
        let octets = |value, octets| Mki::new(value, octets).map(|mki| mki.octets().collect::<Vec<_>>());
        assert_eq!(octets(1, 1), Ok(vec![1]));
        assert_eq!(octets(0x1234, 4), Ok(vec![0, 0, 0x12, 0x34]));
        assert_eq!(octets(u64::MAX, 9), Ok([vec![0], vec![0xff; 8]].concat()));
        assert_eq!(octets(1, 128).unwrap().len(), 128);
        for (value, length) in [(256, 1), (1, 0), (1, 129)] {
            assert_eq!(octets(value, length), Err(KeyFault::Mki));
        }
    }
}
