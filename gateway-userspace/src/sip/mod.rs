//! SIP (RFC 3261), sans-IO: messages, framing, transactions, dialogs.

pub mod dialog;
pub mod message;
pub mod transaction;
pub mod transport;
