//! Certificates made for one test run, as files.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, SanType,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A root, and the intermediate that signs for it.
pub struct Authority {
    intermediate: CertifiedIssuer<'static, KeyPair>,
    /// The root's certificate as a file.
    pub root: PathBuf,
    directory: PathBuf,
}

/// Files of one who shows a certificate.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The certificate, then its issuer.
    pub chain: PathBuf,
    pub key: PathBuf,
    /// All of it in one file.
    pub bundle: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Rsa,
    Ecdsa,
}

impl Authority {
    /// Writes `NAME.root.pem`, and what it issues, into `directory`.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let root = CertifiedIssuer::self_signed(issuer(name), KeyPair::generate()?)?;
        let params = issuer(&format!("{name} issuing"));
        let intermediate = CertifiedIssuer::signed_by(params, KeyPair::generate()?, &root)?;
        let path = directory.join(format!("{name}.root.pem"));
        fs::write(&path, root.pem())?;
        Ok(Self { intermediate, root: path, directory: directory.to_owned() })
    }

    /// A certificate for `names`, for servers and clients, in files that begin with `stem`.
    pub fn issue(&self, stem: &str, names: &[&str], key: Key) -> Result<Credentials> {
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            });
        }
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nameless"));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let pair = match key {
            Key::Rsa => KeyPair::generate_for(&PKCS_RSA_SHA256)?,
            Key::Ecdsa => KeyPair::generate()?,
        };
        let chain =
            format!("{}{}", params.signed_by(&pair, &self.intermediate)?.pem(), self.intermediate.pem());
        let write = |kind: &str, text: &str| -> Result<PathBuf> {
            let path = self.directory.join(format!("{stem}.{kind}"));
            fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Credentials {
            chain: write("pem", &chain)?,
            key: write("key", &pair.serialize_pem())?,
            bundle: write("bundle.pem", &format!("{chain}{}", pair.serialize_pem()))?,
        })
    }
}

impl Credentials {
    /// `certificate` and `key` of `[trunk.tls]`.
    pub fn fields(&self) -> String {
        format!("certificate = \"{}\"\nkey = \"{}\"", self.chain.display(), self.key.display())
    }
}

fn issuer(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}
