//! Session keys from a master key (RFC 3711 section 4.3; RFC 6188 section 3 and RFC 7714 section 11 for the longer ones).

use super::key::Secret;
use super::{MasterKey, Suite};
use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use std::fmt;

/// What packets of one direction are protected with. The key derivation rate is 0, the only one that session
/// descriptions in the field ask for: one derivation for the life of the master key.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKeys {
    pub rtp: StreamKeys,
    pub rtcp: StreamKeys,
}

/// The keys of RTP or of RTCP.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKeys {
    suite: Suite,
    cipher: Secret<32>,
    authentication: Secret<20>,
    salt: Secret<14>,
}

impl MasterKey {
    pub fn derive(&self) -> SessionKeys {
        SessionKeys { rtp: self.stream_keys([0, 1, 2]), rtcp: self.stream_keys([3, 4, 5]) }
    }

    /// By the labels of cipher key, authentication key and salt.
    fn stream_keys(&self, [cipher, authentication, salt]: [u8; 3]) -> StreamKeys {
        let suite = self.suite();
        let mut keys = StreamKeys {
            suite,
            cipher: Secret([0; 32]),
            authentication: Secret([0; 20]),
            salt: Secret([0; 14]),
        };
        self.stretch(cipher, &mut keys.cipher.0[..suite.key_len()]);
        self.stretch(authentication, &mut keys.authentication.0[..suite.authentication_key_len()]);
        self.stretch(salt, &mut keys.salt.0[..suite.salt_len()]);
        keys
    }

    /// The key stream of AES in counter mode from (label * 2^48 XOR master salt) * 2^16. A salt of 96 bits stands in
    /// front, as RFC 7714 section 11 has it.
    fn stretch(&self, label: u8, out: &mut [u8]) {
        let mut counter = [0; 16];
        counter.iter_mut().zip(self.salt()).for_each(|(octet, salt)| *octet = *salt);
        counter[7] ^= label;
        let counter = counter.into();
        out.fill(0);
        match <&[u8; 16]>::try_from(self.key()) {
            Ok(key) => Ctr128BE::<Aes128>::new(key.into(), &counter).apply_keystream(out),
            Err(_) => {
                let mut key = Secret([0; 32]);
                key.0.copy_from_slice(self.key());
                Ctr128BE::<Aes256>::new((&key.0).into(), &counter).apply_keystream(out);
            }
        }
    }
}

impl StreamKeys {
    /// Session keys as a vector gives them.
    #[cfg(test)]
    pub(super) fn of(suite: Suite, cipher: &[u8], authentication: &[u8], salt: &[u8]) -> Self {
        let (cipher, authentication, salt) =
            (Secret::of(cipher), Secret::of(authentication), Secret::of(salt));
        Self { suite, cipher, authentication, salt }
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// [`Suite::key_len`] octets.
    pub fn cipher(&self) -> &[u8] {
        &self.cipher.0[..self.suite.key_len()]
    }

    /// [`Suite::authentication_key_len`] octets.
    pub fn authentication(&self) -> &[u8] {
        &self.authentication.0[..self.suite.authentication_key_len()]
    }

    /// [`Suite::salt_len`] octets.
    pub fn salt(&self) -> &[u8] {
        &self.salt.0[..self.suite.salt_len()]
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").field("suite", &self.rtp.suite).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamKeys").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    #[test]
    fn keys_of_the_appendix_are_derived() {
        // RFC 3711 appendix B.3.
        let master = hex("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6");
        let keys = MasterKey::new(Suite::AesCm128HmacSha1_80, &master).unwrap().derive();
        assert_eq!(keys.rtp.cipher(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(keys.rtp.salt(), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(keys.rtp.authentication(), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn keys_of_256_bits_are_derived() {
        // RFC 6188 section 7.2.
        let master = hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6\
             3b04803de51ee7c96423ab5b78d2");
        let keys = MasterKey::new(Suite::Aes256CmHmacSha1_80, &master).unwrap().derive();
        assert_eq!(
            keys.rtp.cipher(),
            hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(keys.rtp.salt(), hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(keys.rtp.authentication(), hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    }

    #[test]
    fn nothing_of_a_derived_key_is_printed() {
        let keys = MasterKey::new(Suite::AeadAes256Gcm, &[7; 44]).unwrap().derive();
        let printed = format!("{keys:?} {:?}", keys.rtp);
        assert_eq!(
            printed,
            "SessionKeys { suite: AeadAes256Gcm, .. } StreamKeys { suite: AeadAes256Gcm, .. }"
        );
    }
}
