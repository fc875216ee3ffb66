//! `[trunk.tls]`: files read, certificates held against what their trunk wants of them.

use super::super::error::{ConfigError, ConfigErrors, nearest};
use super::super::file::Trunk as Written;
use super::super::file::{self, File, Span};
use super::{span, value};
use crate::net::tls::{
    Certificate, CertificateFault, Date, EXPIRY_WARNING, Engine, Identity, IdentityFault, ProfileFault,
    Roots, Suite, TlsTable, TrunkSettings, Version, certificates,
};
use crate::policy::{Snapshot, Trunk};
use crate::sip::transport::Transport;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use toml::Spanned;

/// Debian's bundle of public authorities, where no roots are named.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

const BUILD_OPENSSL: &str = "leave engine out, or build causeway with it: cargo build --release --package gateway-userspace --features openssl";

/// What TLS means for each trunk that uses it, and what works there and may still not be meant.
pub(super) fn table(
    file: &File,
    policy: &Snapshot,
    now: SystemTime,
    errors: &mut ConfigErrors,
) -> (TlsTable, Vec<ConfigError>) {
    let mut warnings = Vec::new();
    let mut trunks = Vec::new();
    let mut places = Vec::new();
    for ((entry, written), (_, trunk)) in file.trunks.iter().zip(policy.trunks()) {
        let label = format!("[[trunk]] {:?},", trunk.name);
        match (&written.tls, trunk.transport) {
            (Some(tls), Transport::Tls) => {
                let mut reader = Reader { label: &label, now, errors, warnings: &mut warnings };
                if let Some(settings) = reader.trunk(tls, written, trunk) {
                    trunks.push(settings);
                    places.push((tls, label));
                }
            }
            (None, Transport::Tls) => {
                let fix = "add [trunk.tls] with certificate and key below this trunk";
                errors.add(span(&written.listen), format!("{label} tls"), "is missing", fix);
            }
            (Some(_), Transport::Udp | Transport::Tcp) => {
                let message =
                    format!("is for trunks that listen on tls, and this one listens on {}", trunk.transport);
                let fix = "write listen = \"tls:...\", or leave [trunk.tls] out";
                errors.add(Some(entry.clone()), format!("{label} tls"), message, fix);
            }
            (None, Transport::Udp | Transport::Tcp) => {}
        }
    }
    let table = TlsTable::new(&trunks).unwrap_or_else(|(position, fault)| {
        let (tls, label) = &places[position];
        let (place, field, fix) = match &fault {
            ProfileFault::NoSuite(_) => (
                span(&tls.suites),
                "suites",
                "name a suite of each version in versions, or leave one of them out",
            ),
            ProfileFault::PeerName(_) => (
                tls.peer_names.first().map(Spanned::span),
                "peer_names",
                "write a host name, as in \"sbc.example.net\"",
            ),
            ProfileFault::OtherEngine { .. } => (
                span(&tls.suites),
                "suites",
                "write engine = \"openssl\" beside the suites if the peer takes no other, or leave it out: all of Teams \
                 and Azure take GCM",
            ),
            ProfileFault::NotBuilt(_) => (span(&tls.engine), "engine", BUILD_OPENSSL),
            ProfileFault::Engine(_) => (None, "suites", "see docs/configuration.md"),
        };
        errors.add(place, format!("{label} tls.{field}"), fault.to_string(), fix);
        TlsTable::default()
    });
    (table, warnings)
}

struct Reader<'a> {
    label: &'a str,
    now: SystemTime,
    errors: &'a mut ConfigErrors,
    warnings: &'a mut Vec<ConfigError>,
}

impl Reader<'_> {
    fn trunk(&mut self, tls: &file::TrunkTls, written: &Written, trunk: &Trunk) -> Option<TrunkSettings> {
        let mutual = value(&tls.mutual, true);
        let identity = self.identity(tls, trunk);
        let roots = self.roots(tls);
        let versions = self.versions(tls);
        let engine = self.engine(tls);
        let suites = self.suites(tls, engine.unwrap_or_default());
        let peer_names: Vec<String> =
            tls.peer_names.iter().map(|name| name.get_ref().trim().to_owned()).collect();
        let roots = roots?;
        if mutual && peer_names.is_empty() && tls.roots.is_empty() {
            let message =
                "anybody with a certificate of a public authority may connect from the allowed networks";
            let fix = "write peer_names = [\"sbc.example.net\"], or name the peer's own roots";
            self.warn(span(&written.listen), "peer_names", message.to_owned(), fix);
        }
        let (engine, (versions, suites)) = (engine?, agreeing(tls, versions?, suites?));
        if engine == Engine::OpenSsl {
            let cbc: Vec<String> =
                suites.iter().filter(|suite| suite.is_cbc()).map(ToString::to_string).collect();
            let message = match cbc.as_slice() {
                [] => "connections of this trunk run on OpenSSL, and no suite needs it".to_owned(),
                suites => format!(
                    "connections of this trunk run on OpenSSL and may use {}, with CBC",
                    suites.join(", ")
                ),
            };
            self.warn(
                span(&tls.engine),
                "engine",
                message,
                "leave engine out unless the peer takes nothing else",
            );
        }
        Some(TrunkSettings {
            trunk: trunk.name.clone(),
            listen: trunk.listen,
            identity: identity?,
            roots,
            peer_names,
            mutual,
            engine,
            versions,
            suites,
        })
    }

    fn identity(&mut self, tls: &file::TrunkTls, trunk: &Trunk) -> Option<Identity> {
        let (Some(chain), Some(key)) = (&tls.certificate, &tls.key) else {
            let (field, example) = match tls.certificate {
                None => (
                    "certificate",
                    "certificate = \"/etc/causeway/sbc.pem\", the certificate and its issuers",
                ),
                Some(_) => ("key", "key = \"/etc/causeway/sbc.key\", the certificate's private key"),
            };
            let place = span(&tls.certificate).or_else(|| span(&tls.key));
            self.errors.add(
                place,
                format!("{} tls.{field}", self.label),
                "is missing",
                format!("add {example}"),
            );
            return None;
        };
        let (chain_pem, key_pem) = (self.read(chain, "certificate"), self.read(key, "key"));
        let identity = match Identity::new(&chain_pem?, &key_pem?) {
            Ok(identity) => identity,
            Err(IdentityFault::Certificate(fault)) => return self.refuse(chain, "certificate", &fault),
            Err(IdentityFault::Key(fault)) => return self.refuse(key, "key", &fault),
        };
        // The host of `advertised` is the name that peers know this trunk by.
        let host = trunk.advertised.as_ref().map(|advertised| &*advertised.host);
        let name = host.filter(|host| host.parse::<std::net::IpAddr>().is_err());
        if let Err(fault) = identity.certificate.check(name, self.now) {
            return self.refuse(chain, "certificate", &fault);
        }
        self.watch(chain, &identity.certificate);
        Some(identity)
    }

    /// What works today and may not do so for long, or not everywhere.
    fn watch(&mut self, file: &Spanned<PathBuf>, certificate: &Certificate) {
        let path = file.get_ref().display();
        if certificate.remaining(self.now) < EXPIRY_WARNING {
            let message = format!(
                "{path}: the certificate of {:?} expires on {}",
                certificate.subject,
                Date(certificate.not_after)
            );
            self.warn(Some(file.span()), "certificate", message, "renew it, put it there, and reload");
        }
        if !certificate.client_auth {
            let message = format!(
                "{path}: the certificate of {:?} is not for clients: its extended key usage lacks clientAuth",
                certificate.subject
            );
            let fix = "ask the authority for clientAuth if a peer refuses our connections";
            self.warn(Some(file.span()), "certificate", message, fix);
        }
    }

    fn roots(&mut self, tls: &file::TrunkTls) -> Option<Roots> {
        let system = Spanned::new(0..0, PathBuf::from(SYSTEM_ROOTS));
        let files: Vec<&Spanned<PathBuf>> =
            if tls.roots.is_empty() { vec![&system] } else { tls.roots.iter().collect() };
        let mut all = Vec::new();
        let mut sound = true;
        for file in files {
            let Some(pem) = self.read(file, "roots") else {
                sound = false;
                continue;
            };
            match certificates(&pem).and_then(|read| Roots::new(&read).map(|_| read)) {
                Ok(read) => all.extend(read),
                Err(fault) => {
                    self.refuse::<()>(file, "roots", &fault);
                    sound = false;
                }
            }
        }
        sound.then(|| Roots::new(&all).ok()).flatten()
    }

    fn versions(&mut self, tls: &file::TrunkTls) -> Option<Vec<Version>> {
        if tls.versions.is_empty() {
            return Some(Version::ALL.to_vec());
        }
        let version = |written: &Spanned<String>| {
            let version = Version::named(written.get_ref().trim());
            if version.is_none() {
                let message = format!("{:?} is no version that is still safe", written.get_ref());
                let fix = "write \"1.2\", \"1.3\", or both";
                self.errors.add(Some(written.span()), format!("{} tls.versions", self.label), message, fix);
            }
            version
        };
        tls.versions.iter().map(version).collect()
    }

    fn engine(&mut self, tls: &file::TrunkTls) -> Option<Engine> {
        let Some(written) = &tls.engine else { return Some(Engine::default()) };
        let name = written.get_ref().trim();
        let (message, fix) = match Engine::named(name) {
            Some(engine) if engine.is_built() => return Some(engine),
            Some(engine) => (format!("this build has no engine {:?}", engine.as_str()), BUILD_OPENSSL),
            None => (format!("{name:?} is no engine"), "write \"rustls\" or \"openssl\""),
        };
        self.errors.add(Some(written.span()), format!("{} tls.engine", self.label), message, fix);
        None
    }

    fn suites(&mut self, tls: &file::TrunkTls, engine: Engine) -> Option<Vec<Suite>> {
        let Some(list) = &tls.suites else { return Some(Suite::standard(engine)) };
        let suite = |written: &Spanned<String>| {
            let name = written.get_ref().trim();
            let suite = Suite::named(name);
            if suite.is_none() {
                let known = || Suite::names();
                let fix = nearest(name, known()).map_or_else(
                    || format!("suites are {}", known().collect::<Vec<_>>().join(", ")),
                    |meant| format!("did you mean {meant:?}?"),
                );
                let message = format!("{name:?} is no cipher suite that can be had");
                self.errors.add(Some(written.span()), format!("{} tls.suites", self.label), message, fix);
            }
            suite
        };
        let suites: Vec<Option<Suite>> = list.get_ref().iter().map(suite).collect();
        if suites.is_empty() {
            let fix = "name a suite, or leave the list out";
            self.errors.add(Some(list.span()), format!("{} tls.suites", self.label), "allows none", fix);
            return None;
        }
        suites.into_iter().collect()
    }

    fn read(&mut self, file: &Spanned<PathBuf>, field: &str) -> Option<Vec<u8>> {
        let path: &Path = file.get_ref();
        match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("{} cannot be read: {error}", path.display());
                let fix = "write a file that the user of causeway may read";
                self.errors.add(place(file), format!("{} tls.{field}", self.label), message, fix);
                None
            }
        }
    }

    fn refuse<T>(&mut self, file: &Spanned<PathBuf>, field: &str, fault: &CertificateFault) -> Option<T> {
        let fix = match fault {
            CertificateFault::NoCertificate
            | CertificateFault::NotPem(_)
            | CertificateFault::Damaged { .. } => "name the file that holds the certificates as PEM",
            CertificateFault::NoKey | CertificateFault::UnusableKey(_) => {
                "name the file that holds the private key as PEM, RSA or ECDSA, without a password"
            }
            CertificateFault::OtherKey { .. } => "name the key that the certificate was made for",
            CertificateFault::WeakKey { .. } => "make a key of 2048 bits or more and a certificate for it",
            CertificateFault::Expired { .. } => "renew the certificate",
            CertificateFault::NotYetValid { .. } => "use it from that day on, or correct this host's clock",
            CertificateFault::NotForServers { .. } => "ask the authority for a certificate with serverAuth",
            CertificateFault::OtherName { .. } => {
                "use a certificate for the host in advertised; a wildcard stands for one label only"
            }
            CertificateFault::OutOfOrder { .. } => "put the certificates of the file in order",
            CertificateFault::NoRoot { .. } => "leave it out of the roots",
        };
        let message = format!("{}: {fault}", file.get_ref().display());
        self.errors.add(place(file), format!("{} tls.{field}", self.label), message, fix);
        None
    }

    fn warn(&mut self, place: Option<Span>, field: &str, message: String, fix: &str) {
        let field = format!("{} tls.{field}", self.label);
        self.warnings.push(self.errors.locate(place, field, message, fix.to_owned()));
    }
}

/// A list of suites for one version only is a choice of that version, unless the versions are written, too.
fn agreeing(tls: &file::TrunkTls, versions: Vec<Version>, suites: Vec<Suite>) -> (Vec<Version>, Vec<Suite>) {
    let chosen =
        versions.iter().copied().filter(|version| suites.iter().any(|suite| suite.version() == *version));
    let versions = if tls.versions.is_empty() { chosen.collect() } else { versions };
    (versions, suites)
}

/// The system's bundle stands nowhere in the file.
fn place(file: &Spanned<PathBuf>) -> Option<Span> {
    (!file.span().is_empty()).then(|| file.span())
}
