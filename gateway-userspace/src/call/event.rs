//! What happens to a call.

use super::action::{CallTimer, RequestKey};
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::sip::message::{Request, Response};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use std::time::Duration;

/// Everything that can happen to a call after its first INVITE.
#[derive(Debug)]
pub enum Event {
    /// A request inside a dialog, in its own server transaction; never an ACK or a CANCEL.
    Request {
        side: Side,
        server: ServerId,
        request: Box<Request>,
        hop: Hop,
    },
    /// The ACK of a 2xx that we sent to `side`.
    Acknowledged {
        side: Side,
        request: Box<Request>,
    },
    /// The INVITE or re-INVITE that `side` sent was cancelled.
    Cancelled {
        side: Side,
        cancel: Box<Request>,
    },
    /// A response to one of our requests, provisional or final. A 2xx comes again when it is retransmitted.
    Response {
        key: RequestKey,
        response: Box<Response>,
    },
    /// A 2xx of an INVITE to `side`, in the dialog that stands, for which no transaction is left: its ACK was lost with
    /// the daemon before this one, or on the way.
    AnsweredAgain {
        side: Side,
        response: Box<Response>,
    },
    /// No final response in the time that RFC 3261 gives.
    TimedOut {
        key: RequestKey,
    },
    /// The request could not be sent.
    Unreachable {
        key: RequestKey,
    },
    /// A 2xx that we sent to `side` was never acknowledged (RFC 3261 section 13.3.1.4).
    NeverAcknowledged {
        side: Side,
    },
    Timer(CallTimer),
    /// The data plane refused the plan.
    FlowsRefused(Fault),
    /// How long ago each direction's media was heard, `None` if never; in answer to a probe.
    MediaHeard {
        from_caller: Option<Duration>,
        from_callee: Option<Duration>,
    },
    /// Operator or node ends the call.
    HangUp(Fault),
}
