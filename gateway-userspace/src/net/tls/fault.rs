//! Why a handshake failed, as far as it is worth telling apart.

use crate::base::machine::closed_enum;
use rustls::{CertificateError, Error, InconsistentKeys, PeerIncompatible};
use std::io;

closed_enum! {
    pub enum HandshakeFault {
        /// The peer offers no version that the trunk allows: mostly TLS 1.0 or 1.1.
        NoCommonVersion,
        /// The peer offers no cipher suite that the trunk allows.
        NoCommonSuite,
        /// The peer shows no certificate, and the trunk wants one.
        NoCertificate,
        /// The peer's certificate leads to no root of the trunk.
        UnknownIssuer,
        /// The peer's certificate is no longer valid, or not yet.
        Expired,
        /// The peer's certificate is for another name.
        OtherName,
        /// Something else is wrong with the peer's certificate.
        BadCertificate,
        /// The peer gave up: mostly for our certificate.
        RefusedByPeer,
        /// What the peer sent is no TLS.
        NotTls,
        /// The connection ended within the handshake.
        Broken,
        /// The peer does not keep to the protocol.
        Misbehaved,
    }
}

impl HandshakeFault {
    /// The word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoCommonVersion => "no_common_version",
            Self::NoCommonSuite => "no_common_suite",
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::OtherName => "other_name",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByPeer => "refused_by_peer",
            Self::NotTls => "not_tls",
            Self::Broken => "broken",
            Self::Misbehaved => "misbehaved",
        }
    }

    /// What an error within the handshake means.
    pub(in crate::net) fn of(error: &io::Error) -> Self {
        #[cfg(feature = "openssl")]
        if let Some(super::openssl::Refused(fault)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return *fault;
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            None => Self::Broken,
            Some(Error::AlertReceived(_)) => Self::RefusedByPeer,
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(Error::InvalidCertificate(error)) => Self::of_certificate(error),
            Some(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Self::BadCertificate,
            Some(Error::PeerIncompatible(error)) => match error {
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                | PeerIncompatible::NoEcPointFormatsInCommon
                | PeerIncompatible::NamedGroupsExtensionRequired
                | PeerIncompatible::EcPointsExtensionRequired
                | PeerIncompatible::UncompressedEcPointsRequired => Self::NoCommonSuite,
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Self::NoCommonVersion,
                _ => Self::Misbehaved,
            },
            Some(_) => Self::Misbehaved,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            _ => Self::BadCertificate,
        }
    }
}
