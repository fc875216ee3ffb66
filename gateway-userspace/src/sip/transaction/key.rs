//! What messages of one transaction have in common (RFC 3261 sections 17.1.3, 17.2.3 and 8.2.2.2).
//!
//! Keys are texts built in a buffer that is used again; parts are joined by a line feed, which no part can hold.

use crate::sip::message::{Head, Method, Request, Response, Via};
use std::fmt::Write;
use std::sync::Arc;

/// A buffer for keys, so that looking one up allocates nothing.
#[derive(Debug, Default)]
pub(super) struct KeyBuffer(String);

/// A key that an index holds.
pub(super) type Key = Arc<str>;

impl KeyBuffer {
    /// The client transaction that sent what a response answers: branch and CSeq method (section 17.1.3).
    pub(super) fn client(&mut self, branch: &str, method: &Method) -> &str {
        self.0.clear();
        self.push(branch);
        self.push(method.as_str());
        &self.0
    }

    pub(super) fn client_of(&mut self, response: &Response) -> Option<&str> {
        let branch = response.head.via.first()?.branch()?;
        Some(self.client(branch, &response.head.cseq.method))
    }

    /// The server transaction that a request belongs to. `method` is the request's own, or INVITE for an ACK and
    /// to find what a CANCEL means.
    pub(super) fn server(&mut self, request: &Request, via: &Via, method: &Method) -> &str {
        self.0.clear();
        if via.has_magic_cookie() {
            self.push(via.branch().unwrap_or_default());
            self.push_sent_by(via);
            self.push(method.as_str());
            return &self.0;
        }
        // RFC 2543: the branch need not be unique. Of section 17.2.3 the To tag is left out, because the ACK has one
        // that its INVITE had not, and Call-ID, From tag and CSeq already tell requests apart.
        let _ = write!(self.0, "\n{}", request.uri);
        self.push_call(&request.head);
        self.push_sent_by(via);
        self.push(via.branch().unwrap_or_default());
        self.push(method.as_str());
        &self.0
    }

    /// What a request without To tag shares with its copies that came by other ways (section 8.2.2.2).
    pub(super) fn merge(&mut self, request: &Request) -> &str {
        self.0.clear();
        self.push_call(&request.head);
        self.push(request.method.as_str());
        &self.0
    }

    /// What the ACK of a 2xx shares with the response (section 13.2.2.4): the dialog and the sequence number.
    pub(super) fn answer(&mut self, head: &Head) -> &str {
        self.0.clear();
        self.push_call(head);
        self.push(head.to.tag().unwrap_or_default());
        &self.0
    }

    fn push_call(&mut self, head: &Head) {
        self.push(&head.call_id);
        self.push(head.from.tag().unwrap_or_default());
        let _ = write!(self.0, "\n{}", head.cseq.number);
    }

    /// Host names compare without case; a port left out is the transport's own.
    fn push_sent_by(&mut self, via: &Via) {
        let start = self.0.len();
        let port = via.port.unwrap_or(via.transport.default_port());
        let _ = write!(self.0, "\n{}:{port}", via.host);
        self.0[start..].make_ascii_lowercase();
    }

    fn push(&mut self, part: &str) {
        self.0.push('\n');
        self.0.push_str(part);
    }
}
