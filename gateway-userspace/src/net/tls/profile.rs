//! What TLS means for one trunk, and the trunks of a node together.

use super::certificate::{Certificate, CertificateFault, Identity};
#[cfg(feature = "openssl")]
use super::openssl::Contexts;
use super::suites::{Engine, Suite, Version, provider};
use super::verify::PeerVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What an operator sets for one trunk.
#[derive(Clone, Debug)]
pub struct TrunkSettings {
    /// Name of the trunk.
    pub trunk: String,
    /// The socket that it listens on: trunks on one socket choose among their certificates by SNI.
    pub listen: SocketAddr,
    pub identity: Identity,
    pub roots: Roots,
    /// Who the peer is. Those that call us have to show one of these names; those that we call, the first, or where
    /// there is none the name or address that we called.
    pub peer_names: Vec<String>,
    /// Whether those that call us need a certificate.
    pub mutual: bool,
    pub engine: Engine,
    pub versions: Vec<Version>,
    /// In the order that they are preferred in.
    pub suites: Vec<Suite>,
}

/// Authorities whose certificates are believed, all at once.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    pub certificates: Vec<Certificate>,
}

/// Why a trunk's settings do not work together.
#[derive(Debug, thiserror::Error)]
pub enum ProfileFault {
    #[error("TLS {} is asked for, and no cipher suite of it", .0.as_str())]
    NoSuite(Version),
    #[error("{0:?} is no host name and no address")]
    PeerName(String),
    #[error("{suite} needs the engine {}", Engine::OpenSsl.as_str())]
    OtherEngine { suite: Suite },
    #[error("this build has no engine {}", .0.as_str())]
    NotBuilt(Engine),
    #[error("{0}")]
    Engine(String),
}

/// What a connection of one trunk needs.
#[derive(Debug)]
pub(in crate::net) struct Profile {
    pub(super) configured: Configured,
    /// The name to expect of those that we call, unless it is the one that they were looked up by.
    pub(super) peer_name: Option<Box<str>>,
}

/// What the engine of a trunk was told, in both roles.
#[derive(Debug)]
pub(super) enum Configured {
    Rustls {
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
    },
    #[cfg(feature = "openssl")]
    OpenSsl(Contexts),
}

/// The trunks of a node that use TLS.
#[derive(Debug, Default)]
pub struct TlsTable {
    profiles: HashMap<Box<str>, Profile>,
    certificates: Vec<TrunkCertificate>,
}

/// The certificate of a trunk, to be shown and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkCertificate {
    pub trunk: Arc<str>,
    pub certificate: Certificate,
    /// What runs its connections.
    pub engine: Engine,
}

impl Roots {
    /// Believes in all of `certificates`. The error names the one that cannot be a root.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, CertificateFault> {
        let mut store = RootCertStore::empty();
        let mut read = Vec::with_capacity(certificates.len());
        for (number, der) in (1..).zip(certificates) {
            let certificate = Certificate::read(der, number)?;
            store.add(der.clone()).map_err(|error| CertificateFault::NoRoot {
                subject: certificate.subject.clone(),
                what: error.to_string(),
            })?;
            read.push(certificate);
        }
        Ok(Self { store: Arc::new(store), certificates: read })
    }
}

impl TlsTable {
    /// Makes what the trunks' connections need.
    ///
    /// # Errors
    /// The trunk whose settings do not work together, by its position, and why.
    pub fn new(trunks: &[TrunkSettings]) -> Result<Self, (usize, ProfileFault)> {
        let mut table = Self::default();
        for (position, trunk) in trunks.iter().enumerate() {
            let beside = trunks.iter().filter(|other| other.listen == trunk.listen);
            let profile = Profile::new(trunk, beside).map_err(|fault| (position, fault))?;
            table.profiles.insert(trunk.trunk.as_str().into(), profile);
            table.certificates.push(TrunkCertificate {
                trunk: trunk.trunk.as_str().into(),
                certificate: trunk.identity.certificate.clone(),
                engine: trunk.engine,
            });
        }
        Ok(table)
    }

    /// In the order of the configuration.
    pub fn certificates(&self) -> &[TrunkCertificate] {
        &self.certificates
    }

    pub(in crate::net) fn profile(&self, trunk: &str) -> Option<&Profile> {
        self.profiles.get(trunk)
    }
}

impl Profile {
    /// What rustls was told for connections that we open.
    #[cfg(test)]
    pub(in crate::net) fn rustls_client(&self) -> Option<Arc<ClientConfig>> {
        match &self.configured {
            Configured::Rustls { client, .. } => Some(Arc::clone(client)),
            #[cfg(feature = "openssl")]
            Configured::OpenSsl(_) => None,
        }
    }

    fn new<'a>(
        trunk: &TrunkSettings,
        beside: impl Iterator<Item = &'a TrunkSettings>,
    ) -> Result<Self, ProfileFault> {
        if let Some(version) = trunk
            .versions
            .iter()
            .find(|version| !trunk.suites.iter().any(|suite| suite.version() == **version))
        {
            return Err(ProfileFault::NoSuite(*version));
        }
        if let Some(name) = trunk
            .peer_names
            .iter()
            .find(|name| rustls::pki_types::ServerName::try_from(name.as_str()).is_err())
        {
            return Err(ProfileFault::PeerName(name.clone()));
        }
        let beside: Vec<Identity> = beside.map(|other| other.identity.clone()).collect();
        let configured = match trunk.engine {
            Engine::Rustls => match trunk.suites.iter().find(|suite| suite.is_cbc()) {
                Some(suite) => return Err(ProfileFault::OtherEngine { suite: *suite }),
                None => rustls(trunk, &beside),
            },
            #[cfg(feature = "openssl")]
            Engine::OpenSsl => openssl(trunk, &beside),
            #[cfg(not(feature = "openssl"))]
            Engine::OpenSsl => return Err(ProfileFault::NotBuilt(trunk.engine)),
        };
        Ok(Self {
            configured: configured.map_err(|error| ProfileFault::Engine(error.to_string()))?,
            peer_name: trunk.peer_names.first().map(|name| name.as_str().into()),
        })
    }
}

type EngineError = Box<dyn std::error::Error>;

fn rustls(trunk: &TrunkSettings, beside: &[Identity]) -> Result<Configured, EngineError> {
    let provider = Arc::new(provider(&trunk.suites));
    let others = beside.iter().map(|other| (other.certificate.clone(), Arc::clone(&other.key))).collect();
    let resolver = ByServerName { own: trunk.identity.clone(), others };
    Ok(Configured::Rustls {
        server: Arc::new(server(trunk, &provider, resolver)?),
        client: Arc::new(client(trunk, &provider)?),
    })
}

#[cfg(feature = "openssl")]
fn openssl(trunk: &TrunkSettings, beside: &[Identity]) -> Result<Configured, EngineError> {
    let provider = Arc::new(provider(&trunk.suites));
    let (callers, called) = (callers(trunk, &provider)?, called(trunk, &provider)?);
    Ok(Configured::OpenSsl(Contexts::new(trunk, beside, callers, called)?))
}

/// Who judges the certificates of those that call; nobody where they need none.
fn callers(
    trunk: &TrunkSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, EngineError> {
    if !trunk.mutual {
        return Ok(None);
    }
    let verifier = PeerVerifier::new(provider, &trunk.roots.store, trunk.peer_names.clone())?;
    Ok(Some(Arc::new(verifier)))
}

/// Who judges the certificates of those that we call.
fn called(
    trunk: &TrunkSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, EngineError> {
    let roots = Arc::clone(&trunk.roots.store);
    Ok(WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?)
}

fn server(
    trunk: &TrunkSettings,
    provider: &Arc<CryptoProvider>,
    resolver: ByServerName,
) -> Result<ServerConfig, EngineError> {
    let versions: Vec<_> = trunk.versions.iter().map(|version| version.supported()).collect();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&versions)?;
    let builder = match callers(trunk, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.ignore_client_order = true;
    Ok(config)
}

fn client(trunk: &TrunkSettings, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, EngineError> {
    let versions: Vec<_> = trunk.versions.iter().map(|version| version.supported()).collect();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions)?
        .with_webpki_verifier(called(trunk, provider)?)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&trunk.identity.key))));
    // A connection lives an hour: what a ticket would save is nothing beside the peers that mishandle them.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The certificate that the client asks for by name, else the trunk's own.
#[derive(Debug)]
struct ByServerName {
    own: Identity,
    others: Vec<(Certificate, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = || Arc::clone(&self.own.key);
        let Some(name) = hello.server_name().filter(|name| !self.own.certificate.covers(name)) else {
            return Some(own());
        };
        let other = self.others.iter().find(|(certificate, _)| certificate.covers(name));
        Some(other.map_or_else(own, |(_, key)| Arc::clone(key)))
    }
}
