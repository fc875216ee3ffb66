//! The second engine: OpenSSL, for trunks whose peers take nothing but suites with CBC, which rustls leaves out on
//! principle.
//!
//! It keeps to what the first does: certificates are judged by the same verifiers, its octets pass through memory,
//! and nothing is resumed or renegotiated.

use super::HandshakeFault;
use super::certificate::{Certificate, Identity};
use super::profile::TrunkSettings;
use super::suites::Version;
use mio::net::TcpStream;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    ErrorCode, NameType, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509StoreContextRef, X509VerifyResult};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

/// Octets that are read from a socket at once: a record and its frame.
const READ: usize = 16_384 + 256;

/// Groups of key exchange, as the first engine offers them.
const GROUPS: &str = "X25519:P-256:P-384";

/// `SSL_R_...` of OpenSSL's `sslerr.h`; reasons from 1000 on are alerts of the peer.
mod reason {
    pub(super) const HTTP_REQUEST: i32 = 156;
    pub(super) const NO_SHARED_CIPHER: i32 = 193;
    pub(super) const PEER_DID_NOT_RETURN_A_CERTIFICATE: i32 = 199;
    pub(super) const UNSUPPORTED_PROTOCOL: i32 = 258;
    pub(super) const WRONG_VERSION_NUMBER: i32 = 267;
    pub(super) const ALERTS: i32 = 1000;
}

/// What connections of one trunk need, in both roles.
pub(in crate::net) struct Contexts {
    server: SslContext,
    client: SslContext,
    /// Whether those that call need a certificate, and who judges it.
    callers: Option<Arc<dyn ClientCertVerifier>>,
    called: Arc<dyn ServerCertVerifier>,
}

impl Contexts {
    /// `beside` are the certificates of the trunks on the same socket, which callers choose from by name.
    pub(super) fn new(
        trunk: &TrunkSettings,
        beside: &[Identity],
        callers: Option<Arc<dyn ClientCertVerifier>>,
        called: Arc<dyn ServerCertVerifier>,
    ) -> Result<Self, ErrorStack> {
        let mut server = context(trunk, &trunk.identity)?;
        let mut others = Vec::with_capacity(beside.len());
        for other in beside {
            others.push((other.certificate.clone(), context(trunk, other)?.build()));
        }
        let own = trunk.identity.certificate.clone();
        server.set_servername_callback(move |connection, _| {
            choose(connection, &own, &others);
            Ok(())
        });
        let client = context(trunk, &trunk.identity)?;
        Ok(Self { server: server.build(), client: client.build(), callers, called })
    }
}

/// The certificate that the caller asks for by name, else the trunk's own.
fn choose(connection: &mut SslRef, own: &Certificate, others: &[(Certificate, SslContext)]) {
    let Some(name) = connection.servername(NameType::HOST_NAME) else { return };
    if own.covers(name) {
        return;
    }
    if let Some((_, context)) = others.iter().find(|(certificate, _)| certificate.covers(name)) {
        // One that cannot be had leaves the trunk's own.
        let _ = connection.set_ssl_context(context);
    }
}

fn context(trunk: &TrunkSettings, identity: &Identity) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls())?;
    let version = |version: Version| match version {
        Version::Tls12 => SslVersion::TLS1_2,
        Version::Tls13 => SslVersion::TLS1_3,
    };
    context.set_min_proto_version(trunk.versions.iter().min().copied().map(version))?;
    context.set_max_proto_version(trunk.versions.iter().max().copied().map(version))?;
    let of = |version: Version| {
        let suites = trunk.suites.iter().filter(|suite| suite.version() == version);
        suites.map(ToString::to_string).collect::<Vec<_>>().join(":")
    };
    let (older, newer) = (of(Version::Tls12), of(Version::Tls13));
    if !older.is_empty() {
        context.set_cipher_list(&older)?;
    }
    if !newer.is_empty() {
        context.set_ciphersuites(&newer)?;
    }
    context.set_groups_list(GROUPS)?;
    context.set_options(
        SslOptions::CIPHER_SERVER_PREFERENCE
            | SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION,
    );
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_num_tickets(0)?;

    let mut chain = identity.key.cert.iter().map(|der| X509::from_der(der));
    if let Some(leaf) = chain.next() {
        context.set_certificate(&*leaf?)?;
    }
    for issuer in chain {
        context.add_extra_chain_cert(issuer?)?;
    }
    context.set_private_key(&*PKey::private_key_from_der(identity.secret.secret_der())?)?;
    context.check_private_key()?;
    Ok(context)
}

/// One connection's state.
#[derive(Debug)]
pub(in crate::net) struct Connection {
    stream: SslStream<Memory>,
    verdict: Verdict,
    /// Whether the peer has to be judged before a word of SIP.
    judged: bool,
    shaken: bool,
    /// The peer sends no more.
    ended: bool,
}

/// What the verifiers say of the peer's certificate, once it has come.
type Verdict = Arc<OnceLock<Result<(), Error>>>;

impl Connection {
    /// For a connection that a peer opened.
    pub(super) fn server(contexts: &Contexts) -> io::Result<Self> {
        let mut ssl = Ssl::new(&contexts.server)?;
        ssl.set_accept_state();
        let verdict = Verdict::default();
        if let Some(verifier) = contexts.callers.clone() {
            let judge = move |leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]| {
                verifier.verify_client_cert(leaf, issuers, UnixTime::now()).map(|_| ())
            };
            verify(&mut ssl, &verdict, judge);
        }
        Self::new(ssl, verdict, contexts.callers.is_some())
    }

    /// For a connection that we open to `name`, which the peer's certificate has to be for.
    pub(super) fn client(contexts: &Contexts, name: ServerName<'static>) -> io::Result<Self> {
        let mut ssl = Ssl::new(&contexts.client)?;
        ssl.set_connect_state();
        if let ServerName::DnsName(name) = &name {
            ssl.set_hostname(name.as_ref())?;
        }
        let (verdict, verifier) = (Verdict::default(), Arc::clone(&contexts.called));
        let judge = move |leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]| {
            verifier.verify_server_cert(leaf, issuers, &name, &[], UnixTime::now()).map(|_| ())
        };
        verify(&mut ssl, &verdict, judge);
        let mut connection = Self::new(ssl, verdict, true)?;
        // The first word is ours.
        connection.advance()?;
        Ok(connection)
    }

    fn new(ssl: Ssl, verdict: Verdict, judged: bool) -> io::Result<Self> {
        let stream = SslStream::new(ssl, Memory::default())?;
        Ok(Self { stream, verdict, judged, shaken: false, ended: false })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        !self.shaken
    }

    /// Reads from the socket once.
    pub(super) fn pull(&mut self, socket: &mut TcpStream) -> io::Result<usize> {
        let mut buffer = [0; READ];
        let count = socket.read(&mut buffer)?;
        self.ended |= count == 0;
        self.stream.get_mut().incoming.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if !self.shaken && count > 0 {
            self.advance()?;
        }
        Ok(count)
    }

    /// Takes the handshake as far as what has come allows.
    fn advance(&mut self) -> io::Result<()> {
        match self.stream.do_handshake() {
            Ok(()) if self.judged && !matches!(self.verdict.get(), Some(Ok(()))) => {
                Err(refused(HandshakeFault::NoCertificate))
            }
            Ok(()) => {
                self.shaken = true;
                Ok(())
            }
            Err(error) if wants_more(error.code()) => Ok(()),
            Err(error) => Err(match self.verdict.get() {
                Some(Err(verdict)) => io::Error::new(io::ErrorKind::InvalidData, verdict.clone()),
                Some(Ok(())) | None => refused(fault(&error)),
            }),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.ssl_read(buffer) {
            Ok(count) => Ok(count),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(0),
            // Many close without saying so in TLS. A message that is cut off is noticed by its length.
            Err(error) if wants_more(error.code()) && self.ended => Ok(0),
            Err(error) if wants_more(error.code()) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(refused(fault(&error))),
        }
    }

    /// Takes all of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.ssl_write(bytes).map_err(|error| refused(fault(&error)))
    }

    /// Gives the socket what waits for it; `WouldBlock` if some still does.
    pub(super) fn push(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let memory = self.stream.get_mut();
        while let Some(waiting) = memory.outgoing.get(memory.sent..).filter(|waiting| !waiting.is_empty()) {
            match socket.write(waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => memory.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        memory.outgoing.clear();
        memory.sent = 0;
        Ok(())
    }

    pub(super) fn waits(&self) -> bool {
        !self.stream.get_ref().outgoing.is_empty()
    }

    /// Leaves word that nothing more comes.
    pub(super) fn close(&mut self) {
        // A connection that cannot say so is closed all the same.
        let _ = self.stream.shutdown();
    }
}

/// Lets `judge` decide over the peer's certificate instead of OpenSSL, which knows no root here.
fn verify<J>(ssl: &mut SslRef, verdict: &Verdict, judge: J)
where
    J: Fn(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Result<(), Error> + Send + Sync + 'static,
{
    let verdict = Arc::clone(verdict);
    let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    // OpenSSL asks for each thing that it finds wrong, and for each certificate; the first time the chain is there.
    ssl.set_verify_callback(mode, move |_, context| {
        let verdict = verdict.get_or_init(|| {
            let chain = chain(context)?;
            let (leaf, issuers) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
            judge(leaf, issuers)
        });
        // By this OpenSSL chooses the alert. That it knows no issuer itself is what it has found so far.
        match verdict {
            Ok(()) => context.set_error(X509VerifyResult::OK),
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
            Err(_) => context.set_error(X509VerifyResult::APPLICATION_VERIFICATION),
        }
        verdict.is_ok()
    });
}

/// What the peer showed, the leaf first.
fn chain(context: &X509StoreContextRef) -> Result<Vec<CertificateDer<'static>>, Error> {
    let damaged = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let shown = context.chain().ok_or(Error::NoCertificatesPresented)?;
    shown.iter().map(|one| one.to_der().map(CertificateDer::from).map_err(damaged)).collect()
}

fn wants_more(code: ErrorCode) -> bool {
    code == ErrorCode::WANT_READ || code == ErrorCode::WANT_WRITE
}

fn fault(error: &openssl::ssl::Error) -> HandshakeFault {
    let reasons = error.ssl_error().map(ErrorStack::errors).unwrap_or_default();
    let Some(code) = reasons.iter().map(openssl::error::Error::reason_code).next() else {
        return HandshakeFault::Broken;
    };
    match code {
        reason::NO_SHARED_CIPHER => HandshakeFault::NoCommonSuite,
        reason::UNSUPPORTED_PROTOCOL => HandshakeFault::NoCommonVersion,
        reason::PEER_DID_NOT_RETURN_A_CERTIFICATE => HandshakeFault::NoCertificate,
        reason::HTTP_REQUEST | reason::WRONG_VERSION_NUMBER => HandshakeFault::NotTls,
        alert if alert >= reason::ALERTS => HandshakeFault::RefusedByPeer,
        _ => HandshakeFault::Misbehaved,
    }
}

/// A fault as an error that [`HandshakeFault::of`] finds it in.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.label())]
pub(super) struct Refused(pub(super) HandshakeFault);

fn refused(fault: HandshakeFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Refused(fault))
}

/// What came from the socket and what is to go to it.
#[derive(Debug, Default)]
struct Memory {
    incoming: Vec<u8>,
    read: usize,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = self.incoming.get(self.read..).unwrap_or_default();
        if waiting.is_empty() {
            self.incoming.clear();
            self.read = 0;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut waiting = waiting;
        let count = waiting.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts").field("callers", &self.callers).finish_non_exhaustive()
    }
}
