//! A phone's dialogs.

use super::Phone;
use gateway_userspace::sip::message::Request;

#[derive(Debug)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) remote_tag: Option<String>,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) target: String,
    pub(super) sequence: u32,
    pub(super) state: State,
    pub(super) bye_wanted: bool,
    /// The ACK of each 2xx, by sequence number.
    pub(super) acks: Vec<(u32, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Early,
    Confirmed,
    Ended,
}

impl Phone {
    pub(super) fn accept_dialog(&mut self, invite: &Request) -> usize {
        let token = self.token();
        self.dialogs.push(Dialog {
            call_id: invite.head.call_id.clone(),
            local_tag: format!("tag-{token}"),
            remote_tag: invite.head.from.tag().map(str::to_owned),
            local: invite.head.to.to_string(),
            remote: invite.head.from.to_string(),
            target: invite.head.contact.first().map(|contact| contact.uri.to_string()).unwrap_or_default(),
            sequence: 100,
            state: State::Early,
            bye_wanted: false,
            acks: Vec::new(),
        });
        self.dialogs.len() - 1
    }
}
