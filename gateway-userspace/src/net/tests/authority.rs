//! Certificates made for one test run.

use crate::net::tls::{Identity, Roots, certificates};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, SanType,
};

/// A root, and the intermediate that signs for it.
pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf to be made; what is not said is as usual.
pub(crate) struct Leaf<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) usages: &'a [ExtendedKeyUsagePurpose],
    pub(crate) rsa: bool,
    /// Year in whose first day it ends.
    pub(crate) until: i32,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        const BOTH: &[ExtendedKeyUsagePurpose] =
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { names: &["sbc.example.net"], usages: BOTH, rsa: false, until: 2090 }
    }
}

/// PEM of a leaf, its issuer, and its key.
pub(crate) struct Pem {
    pub(crate) leaf: String,
    pub(crate) issuer: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let root = CertifiedIssuer::self_signed(issuer(name), key(false)).expect("sound parameters");
        let intermediate = CertifiedIssuer::signed_by(issuer(&format!("{name} issuing")), key(false), &root)
            .expect("sound parameters");
        Self { root, intermediate }
    }

    pub(crate) fn pem(&self, leaf: &Leaf<'_>) -> Pem {
        let mut params = CertificateParams::default();
        for name in leaf.names {
            let name = *name;
            params.subject_alt_names.push(match (name.strip_prefix("sip:"), name.parse()) {
                (Some(_), _) => SanType::URI(name.try_into().expect("ASCII")),
                (None, Ok(address)) => SanType::IpAddress(address),
                (None, Err(_)) => SanType::DnsName(name.try_into().expect("ASCII")),
            });
        }
        params.distinguished_name.push(DnType::CommonName, leaf.names.first().copied().unwrap_or("nameless"));
        params.extended_key_usages = leaf.usages.to_vec();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(leaf.until, 1, 1);
        let key = key(leaf.rsa);
        let certificate = params.signed_by(&key, &self.intermediate).expect("sound parameters");
        Pem { leaf: certificate.pem(), issuer: self.intermediate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn identity(&self, leaf: &Leaf<'_>) -> Identity {
        let pem = self.pem(leaf);
        let chain = format!("{}{}", pem.leaf, pem.issuer);
        Identity::new(chain.as_bytes(), pem.key.as_bytes()).expect("a sound certificate")
    }
}

/// All of them believed at once.
pub(crate) fn roots(authorities: &[&Authority]) -> Roots {
    let pem: String = authorities.iter().map(|authority| authority.root.pem()).collect();
    Roots::new(&certificates(pem.as_bytes()).expect("PEM")).expect("sound roots")
}

fn issuer(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn key(rsa: bool) -> KeyPair {
    let made = if rsa { KeyPair::generate_for(&PKCS_RSA_SHA256) } else { KeyPair::generate() };
    made.expect("the operating system has randomness")
}
