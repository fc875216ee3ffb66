//! What happens to a call.

use super::action::{CallTimer, RequestKey};
use super::leg::{Leg, TrunkRef, next_hop};
use super::{Action, Context};
use crate::base::fault::Fault;
use crate::base::id::{CallId, CoreId, Side};
use crate::policy::{Permit, Snapshot};
use crate::signal::dtmf::body::Press;
use crate::sip::dialog::DialogId;
use crate::sip::message::{Draft, HeaderName, Method, Request, Response};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use std::net::SocketAddr;
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
        /// The callee's side has sent RTP.
        callee_spoke: bool,
    },
    /// What was played to the peer of `to` has come to its end, or given way to what the other one says.
    Played {
        to: Side,
    },
    /// A key of the other side is for the peer of `to`, who has keys by signalling.
    Key {
        to: Side,
        press: Press,
    },
    /// Somebody calls to take the place of the peer of `side` (RFC 3891).
    Replace {
        side: Side,
        joiner: Box<Replacement>,
    },
    /// Another call wants the other end of the dialog with `side`.
    GiveUp {
        side: Side,
        claimant: Claimant,
    },
    /// The other end of the dialog that was asked for; `None` if there is none to be had.
    Claimed(Option<Box<Claim>>),
    /// Operator or node ends the call.
    HangUp(Fault),
}

/// An INVITE that is to take the place of a dialog.
#[derive(Debug)]
pub struct Replacement {
    pub server: ServerId,
    pub request: Box<Request>,
    pub hop: Hop,
    pub trunk: TrunkRef,
    /// Of the trunk.
    pub permit: Permit,
    /// Only if that dialog is not answered yet.
    pub early_only: bool,
}

impl Replacement {
    /// Answers it with what `fault` says.
    pub(super) fn refuse(self, fault: Fault, context: &mut Context<'_>) {
        let mut response = super::refusal(&self.request, fault);
        response.head.to.set_tag(&context.tokens.token());
        response.headers.push(HeaderName::Server, &*context.settings.product);
        context.push(Action::Respond { server: self.server, response: Box::new(response) });
    }
}

/// A call that asks for a part of another, and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    pub core: CoreId,
    pub call: CallId,
}

/// One end of a call on its way to another call: its flows are taken down, its port is kept.
#[derive(Debug)]
pub struct Claim {
    pub(super) leg: Leg,
    pub(super) permit: Permit,
}

impl Claim {
    pub fn dialog(&self) -> DialogId {
        self.leg.dialog.id()
    }

    /// Its port, to be given back, and the BYE that ends it, with its address.
    pub(crate) fn discard(mut self, policy: &Snapshot) -> (SocketAddr, Draft, Hop) {
        let mut bye = self.leg.dialog.request(Method::Bye);
        self.leg.trunk.sign(&mut bye);
        let hop = next_hop(policy, &self.leg.dialog, &self.leg.trunk, self.leg.hop);
        (self.leg.media.local(), bye, hop)
    }
}
