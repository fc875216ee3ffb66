//! One peer's try at the callee leg: its INVITE, and what to do with answers that come too late.

use crate::call::leg::TrunkRef;
use crate::call::{Action, Context, RequestKey};
use crate::sip::dialog::{Dialog, Origin};
use crate::sip::message::{Contact, Draft, Method, Response};
use crate::sip::transport::Hop;

/// An INVITE of ours that has no final response yet, or may still get a second 2xx from another branch.
#[derive(Debug)]
pub(in crate::call) struct Attempt {
    /// From 1.
    pub(super) number: u8,
    pub(super) sequence: u32,
    pub(super) origin: Origin,
    pub(super) hop: Hop,
    /// No final response came yet.
    pub(super) open: bool,
    /// Some response came, and so the INVITE was sent.
    pub(super) heard: bool,
    /// A provisional response other than 100 came.
    pub(super) rang: bool,
    trunk: TrunkRef,
    /// To tags of dialogs that were hung up because they came too late.
    released: Vec<String>,
}

/// ACK and BYE for a 2xx of an INVITE that no call knows any more; `None` if it makes no dialog.
pub(crate) fn release(response: &Response, trunk: &TrunkRef) -> Option<(Draft, Draft)> {
    let mut invite = Draft::new(
        Method::Invite,
        response.head.to.uri.clone(),
        response.head.from.clone(),
        response.head.to.clone(),
        response.head.call_id.as_str(),
        response.head.cseq.number,
    );
    invite.contact = Contact::one(trunk.contact());
    let mut dialog = Dialog::from_response(&Origin::new(&invite, false), response)?;
    let (mut ack, mut bye) = (dialog.ack(invite.sequence), dialog.request(Method::Bye));
    trunk.sign(&mut ack);
    trunk.sign(&mut bye);
    Some((ack, bye))
}

impl Attempt {
    pub(super) fn new(number: u8, invite: &Draft, hop: Hop, trunk: TrunkRef) -> Self {
        let (sequence, origin) = (invite.sequence, Origin::new(invite, false));
        let released = Vec::new();
        Self { number, sequence, origin, hop, open: true, heard: false, rang: false, trunk, released }
    }

    pub(super) fn key(&self) -> RequestKey {
        RequestKey::Invite { attempt: self.number }
    }

    /// Acknowledges and hangs up a dialog that nobody wants any more: the 2xx crossed our CANCEL, or came from a
    /// second branch (RFC 3261 section 13.2.2.4). Copies of the 2xx are acknowledged again.
    pub(super) fn release(&mut self, response: &Response, context: &mut Context<'_>) {
        let Some(mut dialog) = Dialog::from_response(&self.origin, response) else { return };
        let mut ack = dialog.ack(self.sequence);
        self.trunk.sign(&mut ack);
        context.push(Action::Acknowledge { draft: Box::new(ack), hop: self.hop });
        let tag = dialog.remote_tag().to_owned();
        if !self.released.contains(&tag) {
            self.released.push(tag);
            let mut draft = Box::new(dialog.request(Method::Bye));
            self.trunk.sign(&mut draft);
            context.push(Action::Request { key: RequestKey::Release, draft, hop: self.hop });
        }
    }
}
