//! Cipher suites and versions by the names that operators know them by.

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suites, kx_group};
use std::fmt;

/// A version of the protocol. Versions before 1.2 are in no engine of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

/// A cipher suite that can be chosen for a trunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suite {
    /// As OpenSSL has it, which is what most manuals of carriers print.
    openssl: &'static str,
    /// As the registry of RFC 8446 section 11 has it.
    registered: &'static str,
    version: Version,
    /// What rustls calls it; `None` where rustls leaves it out on principle.
    suite: Option<SupportedCipherSuite>,
}

/// What runs the connections of a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    #[default]
    Rustls,
    /// For peers that take nothing but suites with CBC. In builds with the feature `openssl` only.
    OpenSsl,
}

/// All suites there are, in the order that they are preferred in.
///
/// First those of Azure Communications Gateway in its own order, which hold the GCM suites of Teams; ChaCha20 is for
/// trunks that ask for it by name; the last two, with CBC, are what else Teams takes, and need OpenSSL.
const ALL: [Suite; 11] = [
    Suite {
        openssl: "TLS_AES_256_GCM_SHA384",
        registered: "TLS_AES_256_GCM_SHA384",
        version: Version::Tls13,
        suite: Some(suites::TLS13_AES_256_GCM_SHA384),
    },
    Suite {
        openssl: "TLS_AES_128_GCM_SHA256",
        registered: "TLS_AES_128_GCM_SHA256",
        version: Version::Tls13,
        suite: Some(suites::TLS13_AES_128_GCM_SHA256),
    },
    Suite {
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        registered: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        version: Version::Tls12,
        suite: Some(suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    },
    Suite {
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        registered: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        version: Version::Tls12,
        suite: Some(suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    },
    Suite {
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        registered: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        version: Version::Tls12,
        suite: Some(suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    },
    Suite {
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        registered: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        version: Version::Tls12,
        suite: Some(suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    },
    Suite {
        openssl: "TLS_CHACHA20_POLY1305_SHA256",
        registered: "TLS_CHACHA20_POLY1305_SHA256",
        version: Version::Tls13,
        suite: Some(suites::TLS13_CHACHA20_POLY1305_SHA256),
    },
    Suite {
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        registered: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        version: Version::Tls12,
        suite: Some(suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    },
    Suite {
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        registered: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        version: Version::Tls12,
        suite: Some(suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    },
    Suite {
        openssl: "ECDHE-RSA-AES256-SHA384",
        registered: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
        version: Version::Tls12,
        suite: None,
    },
    Suite {
        openssl: "ECDHE-RSA-AES128-SHA256",
        registered: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        version: Version::Tls12,
        suite: None,
    },
];

impl Engine {
    pub const ALL: [Self; 2] = [Self::Rustls, Self::OpenSsl];

    /// `rustls` or `openssl`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Rustls => true,
            Self::OpenSsl => cfg!(feature = "openssl"),
        }
    }
}

impl Version {
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// `1.2` or `1.3`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    pub(super) fn supported(self) -> &'static rustls::SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }
}

impl Suite {
    /// What a trunk that names none gets from `engine`: who asks for OpenSSL wants its suites with CBC.
    pub fn standard(engine: Engine) -> Vec<Self> {
        let wanted = |suite: &Self| {
            !suite.openssl.contains("CHACHA20") && (!suite.is_cbc() || engine == Engine::OpenSsl)
        };
        ALL.into_iter().filter(wanted).collect()
    }

    /// Whether it encrypts in CBC mode and so needs [`Engine::OpenSsl`].
    pub fn is_cbc(self) -> bool {
        self.suite.is_none()
    }

    /// A suite by either of its names.
    pub fn named(name: &str) -> Option<Self> {
        let is_named =
            |suite: &Self| [suite.openssl, suite.registered].iter().any(|own| own.eq_ignore_ascii_case(name));
        ALL.into_iter().find(is_named)
    }

    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        ALL.iter().map(|suite| suite.openssl)
    }

    pub fn version(self) -> Version {
        self.version
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.openssl)
    }
}

/// Cryptography with these suites, in this order.
///
/// The groups leave out the hybrid post-quantum one: its key share makes the ClientHello too large for one segment,
/// and controllers in the field drop a ClientHello that comes in two.
pub(super) fn provider(suites: &[Suite]) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: suites.iter().filter_map(|suite| suite.suite).collect(),
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}
