//! Certificates as they lie in files: read, and held against what they are wanted for before anything rests on them.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long before its end a certificate is warned of: the span in which Teams tells its tenants (Microsoft, "Health
/// Dashboard for Direct Routing").
pub const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 86_400);

/// RSA keys below this are refused by every public authority, and by Teams.
const RSA_BITS: usize = 2_048;

/// A certificate with its chain and its key: who we are.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: Certificate,
    pub(super) key: Arc<CertifiedKey>,
    /// The same key once more, for the engine that reads it itself.
    #[cfg(feature = "openssl")]
    pub(super) secret: Arc<PrivateKeyDer<'static>>,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The common name, or the whole subject where there is none.
    pub subject: String,
    pub issuer: String,
    /// Subject alternative names; the common name where there are none.
    pub names: Vec<Name>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Extended key usage (RFC 5280 section 4.2.1.12); a certificate without it may be used for both.
    pub server_auth: bool,
    pub client_auth: bool,
}

/// A name that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// In lower case; may begin with `*.`.
    Dns(String),
    Address(IpAddr),
    /// The host of a `sip:` URI without user part, in lower case (RFC 5922 section 7.1).
    Sip(String),
}

/// What is wrong with a certificate, a chain or a key, each with the certificate's name where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("holds no certificate: write PEM, which begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    #[error("cannot be read as PEM: {0}")]
    NotPem(String),
    #[error("certificate {number} is damaged: {what}")]
    Damaged { number: usize, what: String },
    #[error("holds no private key: write PEM, which begins with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    #[error("holds a key of a kind that cannot be used here: {0}")]
    UnusableKey(String),
    #[error("the certificate of {subject:?} belongs to another key")]
    OtherKey { subject: String },
    #[error("the certificate of {subject:?} has a key of {bits} bits; 2048 are the least")]
    WeakKey { subject: String, bits: usize },
    #[error("the certificate of {subject:?} expired on {at}")]
    Expired { subject: String, at: Date },
    #[error("the certificate of {subject:?} is valid only from {at} on")]
    NotYetValid { subject: String, at: Date },
    #[error("the certificate of {subject:?} is not for servers: its extended key usage lacks serverAuth")]
    NotForServers { subject: String },
    #[error("the certificate of {subject:?} is for {}, not for {wanted}", list(names))]
    OtherName { subject: String, names: Vec<Name>, wanted: String },
    #[error(
        "certificate {number}, of {subject:?}, is not the issuer of the one before it: write the server's own first, then each issuer"
    )]
    OutOfOrder { number: usize, subject: String },
    #[error("the certificate of {subject:?} cannot be a root: {what}")]
    NoRoot { subject: String, what: String },
}

/// A day, as in `2026-03-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub SystemTime);

impl Identity {
    /// Reads chain and key from PEM; the leaf comes first. The error tells which of the two it is about.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, IdentityFault> {
        let chain = certificates(chain).map_err(IdentityFault::Certificate)?;
        let certificate = checked_chain(&chain).map_err(IdentityFault::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            IdentityFault::Key(match error {
                pem::Error::NoItemsFound => CertificateFault::NoKey,
                other => CertificateFault::NotPem(other.to_string()),
            })
        })?;
        let unusable = |error: rustls::Error| CertificateFault::UnusableKey(error.to_string());
        let signer = any_supported_type(&key).map_err(|error| IdentityFault::Key(unusable(error)))?;
        #[cfg(feature = "openssl")]
        let secret = Arc::new(key);
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            // A key that cannot tell its public half is believed.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let subject = certificate.subject;
                return Err(IdentityFault::Key(CertificateFault::OtherKey { subject }));
            }
        }
        Ok(Self {
            certificate,
            key: Arc::new(key),
            #[cfg(feature = "openssl")]
            secret,
        })
    }

    /// Certificates that are sent, the leaf included.
    pub fn chain_length(&self) -> usize {
        self.key.cert.len()
    }
}

/// Which file of an [`Identity`] is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    Certificate(CertificateFault),
    Key(CertificateFault),
}

impl Certificate {
    /// Whether it may serve under `name`: a host name, or an address. A wildcard stands for one label (RFC 2818
    /// section 3.1).
    pub fn covers(&self, name: &str) -> bool {
        let address: Option<IpAddr> = name.parse().ok();
        let wanted = name.to_ascii_lowercase();
        self.names.iter().any(|own| match (own, address) {
            (Name::Address(own), Some(wanted)) => *own == wanted,
            (Name::Dns(own), None) => match own.strip_prefix("*.") {
                Some(parent) => {
                    wanted.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
                }
                None => *own == wanted,
            },
            (Name::Sip(own), None) => *own == wanted,
            (Name::Address(_), None) | (Name::Dns(_) | Name::Sip(_), Some(_)) => false,
        })
    }

    /// Whether one of its names is this very name, wildcards aside: what a peer is known by (RFC 5922 section 7.2).
    pub fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own {
            Name::Dns(own) | Name::Sip(own) => own.eq_ignore_ascii_case(name),
            Name::Address(own) => name.parse() == Ok(*own),
        })
    }

    /// Checks it for service under `name` at `now`.
    pub fn check(&self, name: Option<&str>, now: SystemTime) -> Result<(), CertificateFault> {
        let subject = self.subject.clone();
        if now > self.not_after {
            return Err(CertificateFault::Expired { subject, at: Date(self.not_after) });
        }
        if now < self.not_before {
            return Err(CertificateFault::NotYetValid { subject, at: Date(self.not_before) });
        }
        if !self.server_auth {
            return Err(CertificateFault::NotForServers { subject });
        }
        match name {
            Some(name) if !self.covers(name) => {
                let names = self.names.clone();
                Err(CertificateFault::OtherName { subject, names, wanted: name.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// How long it is still valid at `now`; nothing when it is over.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// Reads what a certificate says; `number` counts from 1 in its file.
    pub(super) fn read(der: &[u8], number: usize) -> Result<Self, CertificateFault> {
        let damaged = |what: String| CertificateFault::Damaged { number, what };
        let (_, read) = X509Certificate::from_der(der).map_err(|error| damaged(error.to_string()))?;
        let usage = read.extended_key_usage().map_err(|error| damaged(error.to_string()))?;
        let usage = usage.map(|usage| usage.value);
        let common_name = read.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let alternative = read.subject_alternative_name().map_err(|error| damaged(error.to_string()))?;
        let names = match alternative {
            Some(names) => names.value.general_names.iter().filter_map(name).collect(),
            None => common_name.map(|name| Name::Dns(name.to_ascii_lowercase())).into_iter().collect(),
        };
        Ok(Self {
            subject: common_name.map_or_else(|| read.subject().to_string(), str::to_owned),
            issuer: read.issuer().to_string(),
            names,
            not_before: instant(read.validity().not_before.timestamp()),
            not_after: instant(read.validity().not_after.timestamp()),
            server_auth: usage.is_none_or(|usage| usage.any || usage.server_auth),
            client_auth: usage.is_none_or(|usage| usage.any || usage.client_auth),
        })
    }
}

/// The certificates of a PEM file, in its order.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(none) if none.is_empty() => Err(CertificateFault::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(CertificateFault::NotPem(error.to_string())),
    }
}

/// The leaf of a chain that is in order and has a sound key.
fn checked_chain(chain: &[CertificateDer<'static>]) -> Result<Certificate, CertificateFault> {
    let damaged = |number, what| CertificateFault::Damaged { number, what };
    let mut issuer: Option<Vec<u8>> = None;
    for (number, der) in (1..).zip(chain) {
        let (_, read) = X509Certificate::from_der(der).map_err(|error| damaged(number, error.to_string()))?;
        if issuer.is_some_and(|issuer| issuer != read.subject().as_raw()) {
            let subject = Certificate::read(der, number)?.subject;
            return Err(CertificateFault::OutOfOrder { number, subject });
        }
        issuer = Some(read.issuer().as_raw().to_vec());
    }
    let leaf = chain.first().ok_or(CertificateFault::NoCertificate)?;
    let certificate = Certificate::read(leaf, 1)?;
    let (_, read) = X509Certificate::from_der(leaf).map_err(|error| damaged(1, error.to_string()))?;
    if let Ok(x509_parser::public_key::PublicKey::RSA(key)) = read.public_key().parsed()
        && key.key_size() < RSA_BITS
    {
        return Err(CertificateFault::WeakKey { subject: certificate.subject, bits: key.key_size() });
    }
    Ok(certificate)
}

fn name(written: &GeneralName<'_>) -> Option<Name> {
    match written {
        GeneralName::DNSName(name) => Some(Name::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| Name::Address(octets.into())),
            _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| Name::Address(octets.into())),
        },
        GeneralName::URI(uri) => {
            let (scheme, host) = uri.split_once(':')?;
            let is_domain = scheme.eq_ignore_ascii_case("sip") && !host.contains(['@', ';', '?', ':']);
            is_domain.then(|| Name::Sip(host.to_ascii_lowercase()))
        }
        _ => None,
    }
}

fn instant(seconds: i64) -> SystemTime {
    u64::try_from(seconds).map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

fn list(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::Sip(host) => write!(f, "sip:{host}"),
        }
    }
}

impl fmt::Display for Date {
    /// The civil date of the day, counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
    /// algorithms").
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let shifted = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}
