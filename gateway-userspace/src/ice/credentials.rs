//! User name fragment and password of one side, as session descriptions carry them (RFC 8839 section 5.4).

use crate::base::token::Tokens;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What a check toward its owner has to prove.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Credentials {
    pub ufrag: Ufrag,
    pub password: Password,
}

/// User name fragment: 4 to 256 of letters, digits, `+` and `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Ufrag(Box<str>);

/// Password: 22 to 256 of letters, digits, `+` and `/`. Never printed, and zeroed when it goes.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Password(String);

/// Not of the grammar of RFC 8839 section 5.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name fragment has 4 to 256 letters, digits, + and /, a password 22 to 256")]
pub struct IllFormed;

impl Ufrag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Ufrag {
    type Err = IllFormed;

    fn from_str(text: &str) -> Result<Self, IllFormed> {
        checked(text, 4).map(|text| Self(text.into()))
    }
}

impl fmt::Display for Ufrag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Password {
    /// As it stands in the session description: nowhere else to be used.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Password {
    type Err = IllFormed;

    fn from_str(text: &str) -> Result<Self, IllFormed> {
        checked(text, 22).map(|text| Self(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} characters", self.0.len())
    }
}

/// A session's credentials, one pair for each restart, out of one secret: a restart needs no more chance.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, serde::Serialize, serde::Deserialize)]
pub struct Mint {
    secret: [u8; 20],
    generation: u32,
}

impl Mint {
    pub fn new(chance: &mut Tokens) -> Self {
        let mut secret = [0; 20];
        chance.fill(&mut secret);
        Self { secret, generation: 0 }
    }

    /// Other credentials from now on (RFC 8445 section 9).
    pub fn restart(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Those that hold now: the same until the next restart. 48 bits of user name fragment and 144 of password, where
    /// RFC 8445 section 5.3 asks for 24 and 128.
    pub fn credentials(&self) -> Credentials {
        let text = |label: &[u8], octets: usize| {
            let mut mac = Hmac::<Sha1>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
            mac.update(label);
            mac.update(&self.generation.to_be_bytes());
            BASE64_STANDARD.encode(&mac.finalize().into_bytes()[..octets])
        };
        Credentials { ufrag: Ufrag(text(b"ufrag", 6).into()), password: Password(text(b"pwd", 18)) }
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint").field("generation", &self.generation).finish_non_exhaustive()
    }
}

fn checked(text: &str, least: usize) -> Result<&str, IllFormed> {
    let is_ice = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'+' || octet == b'/';
    let fits = (least..=256).contains(&text.len()) && text.bytes().all(is_ice);
    if fits { Ok(text) } else { Err(IllFormed) }
}
