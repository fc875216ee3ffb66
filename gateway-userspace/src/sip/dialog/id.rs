//! The name of a dialog (RFC 3261 section 12): Call-ID, local tag, remote tag.

use crate::sip::message::{Draft, Head, Request, Response};
use std::fmt;

/// What messages of one dialog have in common, from our side. Tags of RFC 2543 peers may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: String,
}

impl DialogId {
    /// The dialog that a received request names; `None` if it names none, having no To tag.
    pub fn of_request(request: &Request) -> Option<Self> {
        let Head { call_id, from, to, .. } = &request.head;
        Some(Self {
            call_id: call_id.clone(),
            local_tag: to.tag()?.to_owned(),
            remote_tag: from.tag().unwrap_or_default().to_owned(),
        })
    }

    /// The dialog that a request of ours is sent in.
    pub fn of_own(draft: &Draft) -> Self {
        Self {
            call_id: draft.call_id.clone(),
            local_tag: draft.from.tag().unwrap_or_default().to_owned(),
            remote_tag: draft.to.tag().unwrap_or_default().to_owned(),
        }
    }

    /// The dialog that a received response belongs to or would make.
    pub fn of_response(response: &Response) -> Self {
        let Head { call_id, from, to, .. } = &response.head;
        Self {
            call_id: call_id.clone(),
            local_tag: from.tag().unwrap_or_default().to_owned(),
            remote_tag: to.tag().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for DialogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};local={};remote={}", self.call_id, self.local_tag, self.remote_tag)
    }
}
