//! SIP (RFC 3261), sans-IO: messages, framing, transactions, dialogs, digest authentication.

pub mod auth;
pub mod dialog;
pub mod message;
pub mod transaction;
pub mod transport;
