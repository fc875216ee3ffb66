//! What one packet's octets go through: counter mode with HMAC-SHA1 (RFC 3711 section 4, RFC 6188) or GCM (RFC 7714).
//! It knows no rollover counter and no replay: the index is an argument.

use super::{StreamKeys, Suite};
use aes::{Aes128Enc, Aes256Enc};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ctr::cipher::{
    BlockCipherEncrypt, BlockSizeUser, InnerIvInit as _, KeyInit as _, StreamCipher as _, consts::U16,
};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use std::fmt;
use std::ops::Range;
use subtle::ConstantTimeEq as _;

/// Longest tag of any suite.
pub(super) const TAG_MAX: usize = 16;
/// Octets of the word with the E flag and the index (RFC 3711 section 3.4).
pub(super) const TRAILER: usize = 4;
/// Octets of an RTCP packet that stay in clear: the first header and the SSRC of who sends (RFC 3711 section 3.4).
pub(super) const RTCP_CLEAR: usize = 8;
/// The E flag: the packet is encrypted.
pub(super) const ENCRYPTED: u32 = 1 << 31;

/// Keys of RTP or of RTCP, ready for packets.
pub(super) struct Transform {
    suite: Suite,
    kind: Kind,
}

enum Kind {
    Counter(Box<Counter>),
    Aead { key: Box<LessSafeKey>, salt: [u8; 12] },
}

struct Counter {
    cipher: Cipher,
    salt: [u8; 14],
    authentication: Hmac<Sha1>,
}

enum Cipher {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

/// A tag that is not what the key makes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadTag;

impl Transform {
    pub(super) fn new(keys: &StreamKeys) -> Self {
        let suite = keys.suite();
        let kind = match suite {
            Suite::AeadAes128Gcm => aead(&aead::AES_128_GCM, keys),
            Suite::AeadAes256Gcm => aead(&aead::AES_256_GCM, keys),
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 | Suite::Aes256CmHmacSha1_80 => {
                Kind::Counter(Box::new(Counter::new(keys)))
            }
        };
        Self { suite, kind }
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    /// Decrypts `packet[body]` of an RTP packet if `tag` is right; else nothing that counts was changed, except that GCM
    /// leaves the body void.
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        body: Range<usize>,
        tag: &[u8],
        (ssrc, index): (u32, u64),
    ) -> Result<(), BadTag> {
        match &self.kind {
            Kind::Counter(counter) => {
                let covered = packet.get(..body.end).ok_or(BadTag)?;
                counter.check(covered, &rollover(index), tag)?;
                counter.crypt(ssrc, index, packet.get_mut(body).ok_or(BadTag)?);
                Ok(())
            }
            Kind::Aead { key, salt } => {
                let (header, rest) = packet.split_at_mut_checked(body.start).ok_or(BadTag)?;
                let sealed = rest.get_mut(..body.len() + self.suite.rtp_tag_len()).ok_or(BadTag)?;
                let nonce = rtp_nonce(salt, ssrc, index);
                key.open_in_place(nonce, Aad::from(&*header), sealed).map(drop).map_err(|_| BadTag)
            }
        }
    }

    /// Encrypts `packet[body]` of an RTP packet; the tag goes behind, into `tag`, which has the suite's length.
    pub(super) fn seal_rtp(
        &self,
        packet: &mut [u8],
        body: Range<usize>,
        (ssrc, index): (u32, u64),
    ) -> Option<Tag> {
        let length = self.suite.rtp_tag_len();
        match &self.kind {
            Kind::Counter(counter) => {
                counter.crypt(ssrc, index, packet.get_mut(body.clone())?);
                Some(Tag { octets: counter.tag(packet.get(..body.end)?, &rollover(index)), length })
            }
            Kind::Aead { key, salt } => {
                let (header, rest) = packet.split_at_mut_checked(body.start)?;
                let nonce = rtp_nonce(salt, ssrc, index);
                seal(key, nonce, Aad::from(&*header), rest.get_mut(..body.len())?)
            }
        }
    }

    /// Decrypts `packet[body]` of an RTCP packet if `tag` is right. `trailer` is the word with the E flag and the index.
    pub(super) fn open_rtcp(
        &self,
        packet: &mut [u8],
        body: Range<usize>,
        tag: &[u8],
        (ssrc, trailer): (u32, u32),
    ) -> Result<(), BadTag> {
        let index = trailer & !ENCRYPTED;
        match &self.kind {
            Kind::Counter(counter) => {
                let covered = packet.get(..body.end).ok_or(BadTag)?;
                counter.check(covered, &trailer.to_be_bytes(), tag)?;
                counter.crypt(ssrc, index.into(), packet.get_mut(body).ok_or(BadTag)?);
                Ok(())
            }
            Kind::Aead { key, salt } => {
                let (header, rest) = packet.split_at_mut_checked(body.start).ok_or(BadTag)?;
                let associated = rtcp_associated(header, trailer).ok_or(BadTag)?;
                let sealed = rest.get_mut(..body.len() + self.suite.rtcp_tag_len()).ok_or(BadTag)?;
                let nonce = rtcp_nonce(salt, ssrc, index);
                key.open_in_place(nonce, Aad::from(associated), sealed).map(drop).map_err(|_| BadTag)
            }
        }
    }

    /// Encrypts `packet[body]` of an RTCP packet.
    pub(super) fn seal_rtcp(
        &self,
        packet: &mut [u8],
        body: Range<usize>,
        (ssrc, trailer): (u32, u32),
    ) -> Option<Tag> {
        let (index, length) = (trailer & !ENCRYPTED, self.suite.rtcp_tag_len());
        match &self.kind {
            Kind::Counter(counter) => {
                counter.crypt(ssrc, index.into(), packet.get_mut(body.clone())?);
                Some(Tag { octets: counter.tag(packet.get(..body.end)?, &trailer.to_be_bytes()), length })
            }
            Kind::Aead { key, salt } => {
                let (header, rest) = packet.split_at_mut_checked(body.start)?;
                let associated = rtcp_associated(header, trailer)?;
                let nonce = rtcp_nonce(salt, ssrc, index);
                seal(key, nonce, Aad::from(associated), rest.get_mut(..body.len())?)
            }
        }
    }
}

/// A tag and how much of it a packet carries.
pub(super) struct Tag {
    octets: [u8; TAG_MAX],
    length: usize,
}

impl Tag {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

impl Counter {
    fn new(keys: &StreamKeys) -> Self {
        let cipher = match <&[u8; 16]>::try_from(keys.cipher()) {
            Ok(key) => Cipher::Aes128(Aes128Enc::new(key.into())),
            Err(_) => Cipher::Aes256(
                Aes256Enc::new_from_slice(keys.cipher()).expect("a counter suite's key has 16 or 32 octets"),
            ),
        };
        let mut salt = [0; 14];
        salt.copy_from_slice(keys.salt());
        let authentication =
            Hmac::new_from_slice(keys.authentication()).expect("a key of HMAC has any length");
        Self { cipher, salt, authentication }
    }

    /// RFC 3711 section 4.1.1: the key stream starts at (salt XOR SSRC * 2^48 XOR index) * 2^16.
    fn crypt(&self, ssrc: u32, index: u64, octets: &mut [u8]) {
        let mut start = [0; 16];
        let packet = u128::from(ssrc) << 64 | u128::from(index) << 16;
        start.iter_mut().zip(self.salt).for_each(|(octet, salt)| *octet = salt);
        let start = (u128::from_be_bytes(start) ^ packet).to_be_bytes();
        match &self.cipher {
            Cipher::Aes128(cipher) => keystream(cipher, start, octets),
            Cipher::Aes256(cipher) => keystream(cipher, start, octets),
        }
    }

    fn tag(&self, covered: &[u8], behind: &[u8; 4]) -> [u8; TAG_MAX] {
        let whole = self.authentication.clone().chain_update(covered).chain_update(behind).finalize();
        let mut tag = [0; TAG_MAX];
        tag.iter_mut().zip(whole.into_bytes()).for_each(|(to, from)| *to = from);
        tag
    }

    fn check(&self, covered: &[u8], behind: &[u8; 4], tag: &[u8]) -> Result<(), BadTag> {
        let right = self.tag(covered, behind);
        let right = right.get(..tag.len()).ok_or(BadTag)?;
        if bool::from(right.ct_eq(tag)) { Ok(()) } else { Err(BadTag) }
    }
}

fn keystream<C>(cipher: &C, start: [u8; 16], octets: &mut [u8])
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    Ctr128BE::from_core(CtrCore::inner_iv_init(cipher, &start.into())).apply_keystream(octets);
}

fn aead(algorithm: &'static aead::Algorithm, keys: &StreamKeys) -> Kind {
    let key = UnboundKey::new(algorithm, keys.cipher()).expect("the suite says the algorithm's key length");
    let mut salt = [0; 12];
    salt.copy_from_slice(keys.salt());
    Kind::Aead { key: Box::new(LessSafeKey::new(key)), salt }
}

fn seal<A: AsRef<[u8]>>(key: &LessSafeKey, nonce: Nonce, aad: Aad<A>, body: &mut [u8]) -> Option<Tag> {
    let tag = key.seal_in_place_separate_tag(nonce, aad, body).ok()?;
    Some(Tag { octets: tag.as_ref().try_into().ok()?, length: TAG_MAX })
}

fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 section 8.1: two octets of zero, SSRC, rollover counter, sequence number.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

/// RFC 7714 section 9.1: two octets of zero, SSRC, two octets of zero, a zero bit and the index.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

fn nonce(salt: &[u8; 12], packet: u128) -> Nonce {
    let mut nonce = *salt;
    let [_, _, _, _, packet @ ..] = packet.to_be_bytes();
    nonce.iter_mut().zip(packet).for_each(|(octet, packet)| *octet ^= packet);
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 section 9.2: what stays in clear, and the word behind the body.
fn rtcp_associated(header: &[u8], trailer: u32) -> Option<[u8; RTCP_CLEAR + TRAILER]> {
    let mut associated = [0; RTCP_CLEAR + TRAILER];
    associated.first_chunk_mut::<RTCP_CLEAR>()?.copy_from_slice(header.get(..RTCP_CLEAR)?);
    associated.last_chunk_mut::<TRAILER>()?.copy_from_slice(&trailer.to_be_bytes());
    Some(associated)
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform").field("suite", &self.suite).finish_non_exhaustive()
    }
}
