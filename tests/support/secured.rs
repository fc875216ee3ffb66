//! SRTP at a phone: keys in its SDP (RFC 4568), and its media by an implementation that is not ours.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_userspace::srtp::Suite;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use std::fmt;

/// What a phone and the gateway protect a call's media with: `inline` keys of both.
#[derive(Clone)]
pub struct Keys {
    suite: Suite,
    tag: String,
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl Keys {
    /// For an offer that asks for this suite, with a key of ours that no other call has.
    pub fn answering(offer: &str, suite: Suite, serial: u32) -> Result<Self> {
        let lines = offer.lines().filter_map(|line| line.strip_prefix("a=crypto:"));
        let mut offered = lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let line =
            offered.find(|words| words.get(1) == Some(&suite.name())).context("no such suite offered")?;
        let inline = line.get(2).and_then(|words| words.strip_prefix("inline:")).context("no key")?;
        let theirs = STANDARD.decode(inline.split('|').next().unwrap_or_default())?;
        ensure!(theirs.len() == suite.master_len(), "a key of {} octets", theirs.len());
        let tag = line.first().copied().unwrap_or_default().to_owned();
        Ok(Self { suite, tag, ours: own(suite, serial), theirs })
    }

    /// The line of an offer of this suite, whose answer is read by [`Keys::answering`] of the same.
    pub fn offer(suite: Suite, serial: u32) -> String {
        Self { suite, tag: "1".to_owned(), ours: own(suite, serial), theirs: Vec::new() }.line()
    }

    /// The line of the answer, or of the offer.
    pub fn line(&self) -> String {
        format!("a=crypto:{} {} inline:{}\r\n", self.tag, self.suite.name(), STANDARD.encode(&self.ours))
    }

    /// An answer with these keys to this offer: of SRTP, or of plain RTP with SRTP in it (RFC 8643).
    pub fn answer(&self, offer: &str, sdp: &str) -> String {
        let profile = if offer.contains(" RTP/SAVP ") { "RTP/SAVP" } else { "RTP/AVP" };
        sdp.replacen("RTP/AVP", profile, 1) + &self.line()
    }

    /// Whether the gateway protects with the same key by both.
    pub fn hear_as(&self, other: &Self) -> bool {
        self.theirs == other.theirs
    }

    /// For what the phone sends, and for what it hears.
    pub fn contexts(&self) -> Result<[Context; 2]> {
        Ok([context(self.suite, &self.ours)?, context(self.suite, &self.theirs)?])
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("suite", &self.suite).finish_non_exhaustive()
    }
}

fn own(suite: Suite, serial: u32) -> Vec<u8> {
    let serial = serial.to_be_bytes();
    (0..suite.master_len()).map(|index| serial[index % 4] ^ (index as u8).wrapping_mul(7)).collect()
}

fn context(suite: Suite, master: &[u8]) -> Result<Context> {
    let (profile, key) = match suite {
        Suite::AesCm128HmacSha1_80 => (ProtectionProfile::Aes128CmHmacSha1_80, 16),
        Suite::AesCm128HmacSha1_32 => (ProtectionProfile::Aes128CmHmacSha1_32, 16),
        Suite::Aes256CmHmacSha1_80 => (ProtectionProfile::Aes256CmHmacSha1_80, 32),
        Suite::AeadAes128Gcm => (ProtectionProfile::AeadAes128Gcm, 16),
        Suite::AeadAes256Gcm => (ProtectionProfile::AeadAes256Gcm, 32),
    };
    let (key, salt) = master.split_at(key);
    let provider = rtc_crypto::default_provider().context("no provider of cryptography")?;
    Context::new(key, salt, profile, None, None, provider.crypto()).context("a context of SRTP")
}
