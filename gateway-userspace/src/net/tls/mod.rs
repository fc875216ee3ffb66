//! TLS of SIP connections (RFC 3261 section 26.3, RFC 5922), by rustls on the worker's own poll: no thread, no lock.
//!
//! * [`Identity`] and [`Roots`] are read from PEM and checked before anything rests on them.
//! * [`TlsTable`] holds what each trunk's connections need; a reload makes another.
//! * `Session` is one connection's state, fed by the socket that `stream` holds, whichever engine runs it. The second
//!   engine, `openssl`, is there for suites that rustls leaves out on principle; only builds that ask for it have it.

mod certificate;
mod fault;
#[cfg(feature = "openssl")]
mod openssl;
mod profile;
mod session;
mod suites;
mod verify;

#[cfg(test)]
mod tests;

pub use certificate::{
    Certificate, CertificateFault, Date, EXPIRY_WARNING, Identity, IdentityFault, Name, certificates,
};
pub use fault::HandshakeFault;
pub use profile::{ProfileFault, Roots, TlsTable, TrunkCertificate, TrunkSettings};
pub use suites::{Engine, Suite, Version};

pub(super) use profile::Profile;
pub(super) use session::Session;
