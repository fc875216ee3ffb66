//! Cryptographic suites by their names in a session description, with the lengths of everything.

/// A cryptographic suite (RFC 4568 section 6.2, RFC 6188 section 4, RFC 7714 section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    AesCm128HmacSha1_80,
    /// A tag of 32 bits on RTP only: SRTCP keeps 80 (RFC 4568 section 6.2.2).
    AesCm128HmacSha1_32,
    Aes256CmHmacSha1_80,
    AeadAes128Gcm,
    AeadAes256Gcm,
}

impl Suite {
    pub const ALL: [Self; 5] = [
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
        Self::Aes256CmHmacSha1_80,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// As registered with IANA for `a=crypto`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// By the registered name in any case: ABNF strings have none (RFC 5234 section 2.3).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Octets of the master key and of each session cipher key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::AeadAes128Gcm => 16,
            Self::Aes256CmHmacSha1_80 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Octets of the master salt and of each session salt.
    pub const fn salt_len(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Octets of the session authentication key; 0 where the cipher authenticates.
    pub const fn authentication_key_len(self) -> usize {
        if self.is_aead() { 0 } else { 20 }
    }

    /// Octets of the tag on an SRTP packet.
    pub const fn rtp_tag_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::Aes256CmHmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Octets of the tag on an SRTCP packet.
    pub const fn rtcp_tag_len(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }

    /// Octets of key and salt together, as `inline:` carries them.
    pub const fn master_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Whether one cipher both encrypts and authenticates (RFC 7714).
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }
}

impl serde::Serialize for Suite {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Suite {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::named(&name).ok_or_else(|| {
            serde::de::Error::custom(format!("no suite is named {name:?}; there are {}", known()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_registrations() {
        let table = [
            ("AES_CM_128_HMAC_SHA1_80", 30, 10, 10, 20),
            ("AES_CM_128_HMAC_SHA1_32", 30, 4, 10, 20),
            ("AES_256_CM_HMAC_SHA1_80", 46, 10, 10, 20),
            ("AEAD_AES_128_GCM", 28, 16, 16, 0),
            ("AEAD_AES_256_GCM", 44, 16, 16, 0),
        ];
        for (name, master, rtp, rtcp, authentication) in table {
            let suite = Suite::named(&name.to_ascii_lowercase()).unwrap();
            assert_eq!(suite.name(), name);
            assert_eq!(
                (
                    suite.master_len(),
                    suite.rtp_tag_len(),
                    suite.rtcp_tag_len(),
                    suite.authentication_key_len()
                ),
                (master, rtp, rtcp, authentication),
                "{name}"
            );
        }
    }
}
