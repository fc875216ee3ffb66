//! The admin thread: HTTP for metrics, health and queries; every question from outside is one [`AdminCommand`].
//!
//! ```text
//! causeway status, curl ─HTTP─→ http ─AdminCommand─→ AdminPort ─Ask─→ each core's queue
//!                                                        ↑──────── oneshot ────────┘
//! ```
//! The cores never wait for the admin thread: they take an [`Ask`] from their queue as one more event and
//! answer into a oneshot. A core that does not answer in time is reported, not waited for.

pub mod answer;
pub mod client;
pub mod command;
pub mod dns;
pub mod http;
pub mod plot;
mod port;
pub mod table;

pub use command::{AdminCommand, Ask, CallFilter, CoreAnswer, CoreCommand, DrainTarget};
pub use http::AdminThread;
pub use port::{AdminPort, Answer, CAPTURE_MAX, CapturePermissions, CorePort, DefencePort};

use std::net::SocketAddr;

/// Why a question from outside got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminFault {
    #[error("no such call: {0}; ended calls are kept for a while only")]
    NoSuchCall(String),
    #[error("there is no {0}: `causeway trunks` lists what there is")]
    NoSuchTrunk(String),
    #[error("{0}")]
    BadQuestion(String),
    #[error("core {0} does not answer: it is overloaded or stuck")]
    CoreSilent(u16),
    #[error("{0}")]
    CaptureRefused(String),
    #[error("{0}")]
    DefenceRefused(String),
    #[error("the new configuration is refused, the old one stays in force:\n{0}")]
    ReloadRefused(String),
    #[error(
        "cannot listen on {address} for the admin interface: {error}; set [admin] listen to another port"
    )]
    Listen { address: SocketAddr, error: String },
    #[error("cannot start the admin thread: {0}")]
    Thread(String),
}
