//! What the layer tells its user, and the names both use for a transaction.

use crate::sip::message::{Request, Response};
use crate::sip::transport::Hop;
use std::sync::Arc;

/// A client transaction: a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    pub(super) slot: u32,
    /// Tells apart the transactions that use a slot one after the other.
    pub(super) epoch: u32,
}

/// A server transaction: a request of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    pub(super) slot: u32,
    /// Tells apart the transactions that use a slot one after the other.
    pub(super) epoch: u32,
}

/// What comes out of the layer, to be done or heard in order.
///
/// Each [`ClientId`] that [`super::Transactions::request`] returned ends with exactly one `ClientEnded`, each
/// [`ServerId`] of a `Request` with exactly one `ServerEnded`; neither is named again afterwards.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the transport; `again` if the very same were sent before.
    Send {
        hop: Hop,
        bytes: Arc<[u8]>,
        again: bool,
    },
    /// A new request, neither ACK nor CANCEL, to be answered by [`super::Transactions::respond`].
    Request {
        id: ServerId,
        request: Box<Request>,
        hop: Hop,
    },
    /// The ACK of a 2xx, once. `answered` is the INVITE, unless its transaction was another process's.
    Ack {
        answered: Option<ServerId>,
        request: Box<Request>,
    },
    /// The peer cancels an INVITE that has no final response yet: answer it with 487. The CANCEL itself is answered.
    Cancelled {
        id: ServerId,
        cancel: Box<Request>,
    },
    /// A response to a request of ours. A 2xx of an INVITE comes as often as the peer sends it, from each branch
    /// that a proxy forked to, and is to be acknowledged each time (RFC 3261 section 13.2.2.4). Other failures and
    /// successes come once.
    Response {
        id: ClientId,
        response: Box<Response>,
        hop: Hop,
    },
    /// A 2xx of an INVITE that no transaction knows: the one that sent it was another process's, or is over. It has to
    /// be acknowledged all the same (RFC 3261 section 13.2.2.4).
    StrayAnswer {
        response: Box<Response>,
        hop: Hop,
    },
    /// No response came in time: as good as a 408 (RFC 3261 section 8.1.3.1).
    TimedOut {
        id: ClientId,
    },
    /// The transport failed: as good as a 503 (RFC 3261 section 8.1.3.1).
    Unreachable {
        id: ClientId,
    },
    /// The final response to an INVITE was never acknowledged. After a 2xx the call is to be ended with BYE (RFC
    /// 3261 section 13.3.1.4).
    NoAck {
        id: ServerId,
    },
    /// A response could not be sent.
    Undeliverable {
        id: ServerId,
    },
    ClientEnded {
        id: ClientId,
    },
    ServerEnded {
        id: ServerId,
    },
}

/// What happened to transactions since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Client transactions begun.
    pub requests_sent: u64,
    /// Server transactions begun.
    pub requests_received: u64,
    /// Messages sent again because a timer or a copy of a request asked for it.
    pub retransmissions: u64,
    /// Copies of messages that needed nothing.
    pub absorbed: u64,
    /// Responses that no transaction waits for.
    pub stray_responses: u64,
    /// ACKs outside any dialog that no transaction waits for.
    pub stray_acks: u64,
    /// CANCELs of nothing, answered with 481.
    pub stray_cancels: u64,
    /// Requests that came by a second way, answered with 482.
    pub merged: u64,
    /// Requests above the limit, answered with 503.
    pub refused: u64,
    /// Events that a table calls illegal.
    pub illegal: u64,
    /// Transactions that ended because nobody answered in time.
    pub timed_out: u64,
    /// INVITEs whose final response nobody acknowledged.
    pub not_acknowledged: u64,
}
