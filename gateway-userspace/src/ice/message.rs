//! One STUN message (RFC 8489), as far as ICE needs it.

use super::credentials::Password;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of the header.
const HEADER: usize = 20;
/// RFC 8489 section 5.
const COOKIE: [u8; 4] = gateway_common::stun::MAGIC_COOKIE.to_be_bytes();
/// RFC 8489 section 14.7: what a fingerprint differs from its checksum by.
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const BINDING: u16 = 1;

/// Types of attributes (RFC 8489 section 18.3, RFC 8445 section 20).
pub mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const SOFTWARE: u16 = 0x8022;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;

    /// Whether a receiver that does not know it may pass over it (RFC 8489 section 14).
    pub(super) const fn is_optional(kind: u16) -> bool {
        kind >= 0x8000
    }

    /// Those that a check may carry (RFC 8445 section 7.1) and those of its protection.
    pub(super) const fn is_known(kind: u16) -> bool {
        matches!(kind, USERNAME | MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 | PRIORITY | USE_CANDIDATE)
    }
}

/// Whether a packet on a media port is STUN (RFC 7983 section 7) and not RTP, RTCP or noise.
pub fn is_stun(packet: &[u8]) -> bool {
    gateway_common::stun::is_stun(packet, 0, packet.len())
}

/// What a message is (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// Errors that a lite agent answers (RFC 8489 section 14.8, RFC 8445 section 7.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    Unauthenticated,
    UnknownAttribute,
    RoleConflict,
}

impl Code {
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::UnknownAttribute => 420,
            Self::RoleConflict => 487,
        }
    }

    const fn phrase(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthenticated => "Unauthenticated",
            Self::UnknownAttribute => "Unknown Attribute",
            Self::RoleConflict => "Role Conflict",
        }
    }
}

/// Octets that are no STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StunFault {
    #[error("no STUN header: two zero bits, a type, a length, the magic cookie and a transaction")]
    Header,
    #[error("the header says {said} octets of attributes, {found} are there")]
    Length { said: usize, found: usize },
    #[error("the attribute at octet {0} reaches beyond the message")]
    Attribute(usize),
    #[error("the fingerprint is wrong, or is not the last attribute")]
    Fingerprint,
    #[error("a method other than Binding")]
    Method,
}

/// A Binding message whose form is right: every attribute lies within it, and a fingerprint, if there is one, is right.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub class: Class,
    octets: &'a [u8],
    /// Where the attributes end that count: behind them is their protection.
    end: usize,
    /// Where the attribute MESSAGE-INTEGRITY begins.
    integrity: Option<usize>,
    is_fingerprinted: bool,
}

impl<'a> Message<'a> {
    /// # Errors
    /// [`StunFault`]; nothing of such a packet is to be answered.
    pub fn parse(octets: &'a [u8]) -> Result<Self, StunFault> {
        if !is_stun(octets) || octets.len() < HEADER {
            return Err(StunFault::Header);
        }
        let (said, found) = (usize::from(word(octets, 2)), octets.len() - HEADER);
        if said != found || !said.is_multiple_of(4) {
            return Err(StunFault::Length { said, found });
        }
        let (class, method) = kind(word(octets, 0));
        let mut message = Self { class, octets, end: octets.len(), integrity: None, is_fingerprinted: false };
        message.walk()?;
        if method == BINDING { Ok(message) } else { Err(StunFault::Method) }
    }

    /// Finds the protection, behind which no attribute counts but the fingerprint (RFC 8489 section 14.5).
    fn walk(&mut self) -> Result<(), StunFault> {
        let mut at = HEADER;
        while at < self.octets.len() {
            let length = self.octets.get(at + 2..at + 4).ok_or(StunFault::Attribute(at))?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let next = at + 4 + length.next_multiple_of(4);
            if next > self.octets.len() {
                return Err(StunFault::Attribute(at));
            }
            match word(self.octets, at) {
                attribute::MESSAGE_INTEGRITY if self.integrity.is_none() && length == 20 => {
                    self.integrity = Some(at);
                    self.end = self.end.min(at);
                }
                attribute::MESSAGE_INTEGRITY_SHA256 => self.end = self.end.min(at),
                attribute::FINGERPRINT => {
                    let given = self.octets.get(at + 4..at + 8).filter(|_| length == 4);
                    let right = fingerprint(self.octets.get(..at).unwrap_or_default()).to_be_bytes();
                    if given != Some(&right) || next != self.octets.len() {
                        return Err(StunFault::Fingerprint);
                    }
                    self.is_fingerprinted = true;
                    self.end = self.end.min(at);
                }
                _ => {}
            }
            at = next;
        }
        Ok(())
    }

    pub fn transaction(&self) -> [u8; 12] {
        self.octets.get(8..HEADER).and_then(|octets| octets.try_into().ok()).unwrap_or_default()
    }

    pub fn is_fingerprinted(&self) -> bool {
        self.is_fingerprinted
    }

    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Type and value of each attribute in front of the protection.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.octets.get(HEADER..self.end).unwrap_or_default();
        std::iter::from_fn(move || {
            let (kind, length) = (rest.get(..2)?, rest.get(2..4)?);
            let kind = u16::from_be_bytes([kind[0], kind[1]]);
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let value = rest.get(4..4 + length)?;
            rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }

    /// The first attribute of this type.
    pub fn value(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// Fragments of the user name: the receiver's, then the sender's (RFC 8445 section 7.2.2).
    pub fn username(&self) -> Option<(&'a str, &'a str)> {
        std::str::from_utf8(self.value(attribute::USERNAME)?).ok()?.split_once(':')
    }

    /// Priority of the sender's candidate, if it were learned from this check.
    pub fn priority(&self) -> Option<u32> {
        self.value(attribute::PRIORITY)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Attributes that we do not know and that must be known.
    pub fn unknown(&self) -> impl Iterator<Item = u16> + use<'a> {
        let strange = |kind: &u16| !attribute::is_optional(*kind) && !attribute::is_known(*kind);
        self.attributes().map(|(kind, _)| kind).filter(strange)
    }

    /// Whether it is protected with this password (short-term credentials, RFC 8489 section 9.1); in constant time.
    pub fn is_protected_by(&self, password: &Password) -> bool {
        let Some(at) = self.integrity else { return false };
        let given = self.octets.get(at + 4..at + 24).unwrap_or_default();
        protection(self.octets.get(..at).unwrap_or_default(), password).verify_slice(given).is_ok()
    }

    /// The address of a success response: where its request came from.
    pub fn mapped(&self) -> Option<SocketAddr> {
        let value = self.value(attribute::XOR_MAPPED_ADDRESS)?;
        let port = word(value, 2) ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let mask = [COOKIE.as_slice(), &self.transaction()].concat();
        let octets: Vec<u8> = value.get(4..)?.iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
        let address: IpAddr = match value.get(1)? {
            1 => Ipv4Addr::from(<[u8; 4]>::try_from(octets.as_slice()).ok()?).into(),
            2 => Ipv6Addr::from(<[u8; 16]>::try_from(octets.as_slice()).ok()?).into(),
            _ => return None,
        };
        Some(SocketAddr::new(address, port))
    }

    /// The code of an error response.
    pub fn error(&self) -> Option<u16> {
        let value = self.value(attribute::ERROR_CODE)?;
        Some(u16::from(value.get(2)? & 7) * 100 + u16::from(*value.get(3)?))
    }
}

/// Writes a Binding message, attribute by attribute, into a buffer that is used again.
#[derive(Debug)]
pub struct Builder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Builder<'a> {
    /// Whatever `out` holds goes.
    pub fn new(out: &'a mut Vec<u8>, class: Class, transaction: [u8; 12]) -> Self {
        out.clear();
        let class: u16 = match class {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        };
        out.extend((BINDING | class).to_be_bytes());
        out.extend([0, 0]);
        out.extend(COOKIE);
        out.extend(transaction);
        Self { out }
    }

    /// Values beyond 65,535 octets are cut there.
    #[must_use]
    pub fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        self.out.extend(kind.to_be_bytes());
        self.out.extend((value.len() as u16).to_be_bytes());
        self.out.extend(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self
    }

    #[must_use]
    pub fn mapped(self, source: SocketAddr) -> Self {
        let mut value = [0; 20];
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&COOKIE);
        mask[4..].copy_from_slice(self.out.get(8..HEADER).unwrap_or(&[0; 12]));
        let port = source.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        value[2..4].copy_from_slice(&port.to_be_bytes());
        let octets = match source.ip() {
            IpAddr::V4(v4) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&v4.octets());
                8
            }
            IpAddr::V6(v6) => {
                value[1] = 2;
                value[4..].copy_from_slice(&v6.octets());
                20
            }
        };
        value[4..].iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        self.attribute(attribute::XOR_MAPPED_ADDRESS, &value[..octets])
    }

    #[must_use]
    pub fn error(self, code: Code) -> Self {
        let (number, phrase) = (code.number(), code.phrase().as_bytes());
        let mut value = [0; 32];
        value[2..4].copy_from_slice(&[(number / 100) as u8, (number % 100) as u8]);
        value[4..4 + phrase.len()].copy_from_slice(phrase);
        self.attribute(attribute::ERROR_CODE, &value[..4 + phrase.len()])
    }

    #[must_use]
    pub fn unknown(self, kinds: impl Iterator<Item = u16>) -> Self {
        let value: Vec<u8> = kinds.flat_map(u16::to_be_bytes).collect();
        self.attribute(attribute::UNKNOWN_ATTRIBUTES, &value)
    }

    /// Ends the message with its protection, if there is a password for it, and its fingerprint.
    pub fn finish(self, password: Option<&Password>) {
        if let Some(password) = password {
            let code = protection(self.out, password).finalize().into_bytes();
            return self.attribute(attribute::MESSAGE_INTEGRITY, &code).finish(None);
        }
        // The fingerprint, of 8 octets, is within the length that it covers.
        let length = (self.out.len() + 8).saturating_sub(HEADER) as u16;
        if let Some(field) = self.out.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        let fingerprint = fingerprint(self.out);
        let _ = self.attribute(attribute::FINGERPRINT, &fingerprint.to_be_bytes());
    }
}

/// The message authentication code over what precedes the attribute that carries it, with the length of a message that
/// ends behind that one.
fn protection(before: &[u8], password: &Password) -> Hmac<Sha1> {
    let length = ((before.len() + 24).saturating_sub(HEADER)) as u16;
    let (kind, rest) = before.split_at_checked(2).unwrap_or((before, &[]));
    Hmac::<Sha1>::new_from_slice(password.reveal().as_bytes())
        .expect("HMAC takes a key of any length")
        .chain_update(kind)
        .chain_update(length.to_be_bytes())
        .chain_update(rest.get(2..).unwrap_or_default())
}

/// Over what precedes the attribute, with the length that the header has: that of the whole message.
fn fingerprint(before: &[u8]) -> u32 {
    crc32fast::hash(before) ^ FINGERPRINT_XOR
}

/// Class and method, whose bits lie between each other.
fn kind(word: u16) -> (Class, u16) {
    let class = match word & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    (class, word & 0xf | word >> 1 & 0x70 | word >> 2 & 0xf80)
}

/// Two octets; 0 beyond the end.
fn word(octets: &[u8], at: usize) -> u16 {
    octets.get(at..at + 2).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]))
}
