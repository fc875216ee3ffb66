//! The four transactions of RFC 3261 section 17 with RFC 6026, as printed transition tables.
//!
//! Each machine has a file with its states, its events and one exhaustive table; `snapshots/` holds every pair of
//! each table and a graph of its moves. [`Transactions`] owns them, finds the one a message belongs to, and does
//! what the tables say: it is fed messages, wishes and the time, and pushes [`Output`] into a sink.
//!
//! What is the layer's and what is its user's:
//! * The ACK of a failure, the response to a CANCEL, the 100, the 482 of a merged request and the 503 above the
//!   limit are made here. The 487 of a cancelled INVITE is the user's.
//! * A 2xx of ours is sent again here until its ACK comes (RFC 3261 section 13.3.1.4): the server transaction has
//!   the bytes and the timer already. The ACK of a peer's 2xx is the dialog's, sent by [`Transactions::send_ack`]
//!   each time the 2xx is passed up.
//! * Messages that change no state (copies) are not passed up.

mod client;
mod key;
mod output;
mod server;
mod shared;
mod slots;
mod timer;

pub mod cancellation;
pub mod invite_client;
pub mod invite_server;
pub mod non_invite_client;
pub mod non_invite_server;

#[cfg(test)]
mod tests;

pub use client::Act as ClientAct;
pub use output::{ClientId, Counts, Output, ServerId};
pub use server::Act as ServerAct;
pub use timer::{Intervals, Span, Timer};

use crate::base::time::Time;
use crate::base::token::Tokens;
use crate::sip::message::{Draft, Message, Request, Response, StatusCode};
use crate::sip::transport::Hop;
use client::Clients;
use server::Servers;
use shared::{Owner, Scope, Shared};
use std::time::Duration;

/// What an operator can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub intervals: Intervals,
    /// Transactions above which a request outside any dialog is refused with 503. Requests inside dialogs have a
    /// quarter more room, so that calls can still be changed and ended.
    pub limit: usize,
    /// What the 503 says in Retry-After; whole seconds.
    pub retry_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { intervals: Intervals::default(), limit: 400_000, retry_after: Duration::from_secs(10) }
    }
}

impl Settings {
    fn room_for(&self, is_initial: bool) -> usize {
        if is_initial { self.limit } else { self.limit.saturating_add(self.limit / 4) }
    }
}

/// All transactions of one core.
#[derive(Debug)]
pub struct Transactions {
    clients: Clients,
    servers: Servers,
    shared: Shared,
}

impl Transactions {
    pub fn new(settings: Settings, tokens: Tokens) -> Self {
        Self {
            clients: Clients::default(),
            servers: Servers::default(),
            shared: Shared::new(settings, tokens),
        }
    }

    /// Takes a message that came by `hop`, and says whether it is a copy of one that came before. Requests get
    /// `received` and `rport` here (RFC 3261 section 18.2.1).
    pub fn receive(&mut self, now: Time, message: Message, hop: Hop, out: &mut Vec<Output>) -> bool {
        match message {
            Message::Request(request) => {
                let others = self.clients.len();
                self.servers.receive(&mut self.shared, now, Box::new(request), hop, others, out)
            }
            Message::Response(response) => {
                self.clients.receive(&mut self.shared, now, Box::new(response), hop, out)
            }
        }
    }

    /// Whether a request is a copy of one that has a transaction already.
    pub fn knows(&mut self, request: &Request) -> bool {
        self.servers.knows(&mut self.shared, request)
    }

    /// Answers a request without a transaction: each copy of it is a request of its own, and the ACK of a failure is
    /// absorbed (RFC 3261 section 8.2.7).
    pub fn refuse(&mut self, request: &Request, response: Response, hop: Hop, out: &mut Vec<Output>) {
        self.servers.refuse(&mut self.shared, request, response, hop, out);
    }

    /// Sends a request, neither ACK nor CANCEL, by a client transaction of its own.
    pub fn request(&mut self, now: Time, draft: Draft, hop: Hop, out: &mut Vec<Output>) -> ClientId {
        self.clients.request(&mut self.shared, now, draft, hop, out)
    }

    /// Sends the ACK of a 2xx, which has no transaction (RFC 3261 section 13.2.2.4).
    pub fn send_ack(&mut self, draft: Draft, hop: Hop, out: &mut Vec<Output>) {
        let request = draft.finish(self.shared.own_via(&hop));
        let bytes = self.shared.print(|print| request.write(print));
        out.push(Output::Send { hop, bytes, again: false });
    }

    /// Answers a request. A response other than 100 without To tag gets one, the same for each of an INVITE.
    ///
    /// Nothing is sent if the transaction has its final response already or is gone; that is counted as illegal.
    pub fn respond(&mut self, now: Time, id: ServerId, response: Response, out: &mut Vec<Output>) {
        self.servers.respond(&mut self.shared, now, id, Box::new(response), out);
    }

    /// Answers a request whose user lost it, with a bare `status`; does nothing if it has its final response.
    pub fn abandon(&mut self, now: Time, id: ServerId, status: StatusCode, out: &mut Vec<Output>) {
        self.servers.abandon(&mut self.shared, now, id, status, out);
    }

    /// Cancels an INVITE of ours: at once if it had a provisional response, else when one comes (RFC 3261 section
    /// 9.1). The INVITE still ends with a response, normally 487; with a 2xx if that crossed the CANCEL, and then
    /// the user has a call to end with BYE; or with `TimedOut`.
    ///
    /// `reason` goes into the CANCEL (RFC 3326 section 3.1).
    pub fn cancel(&mut self, now: Time, id: ClientId, reason: Option<String>, out: &mut Vec<Output>) {
        self.clients.cancel(&mut self.shared, now, id, reason, out);
    }

    /// The transport could not deliver to `hop`, or the connection is gone. Looks at every transaction.
    ///
    /// Responses whose connection is gone are sent once more to the address in Via (RFC 3261 section 18.2.2) before
    /// the user hears of it.
    pub fn transport_failed(&mut self, now: Time, hop: &Hop, out: &mut Vec<Output>) {
        self.fail(now, (hop, Scope::Way), out);
    }

    /// This very connection is gone, and requests that name none go by another: those of other cores, or the one that
    /// took its place.
    pub fn connection_closed(&mut self, now: Time, hop: &Hop, out: &mut Vec<Output>) {
        self.fail(now, (hop, Scope::Connection), out);
    }

    fn fail(&mut self, now: Time, failed: (&Hop, Scope), out: &mut Vec<Output>) {
        self.clients.transport_failed(&mut self.shared, now, failed, out);
        self.servers.transport_failed(&mut self.shared, now, failed, out);
    }

    /// Lets every timer fire whose deadline is not after `now`.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((owner, timer)) = self.shared.timers.expire(now) {
            match owner {
                Owner::Client(id) => self.clients.expire(&mut self.shared, now, id, timer, out),
                Owner::Server(id) => self.servers.expire(&mut self.shared, now, id, timer, out),
            }
        }
    }

    /// When [`Transactions::expire`] is next due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.shared.timers.next()
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts
    }

    /// Transactions of both kinds that have not ended.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
