//! A dialog as it is stored: addresses as text, so that the stored form is the wire's and not our types'.

use super::{Dialog, invitation, lifetime};
use crate::sip::message::{NameAddr, Uri};

/// All of a [`Dialog`], for the journal of calls.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    pub state: lifetime::State,
    pub invitation: invitation::State,
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub contact: String,
    pub local_sequence: Option<u32>,
    pub remote_sequence: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route_set: Vec<String>,
    pub remote_target: String,
    #[serde(default)]
    pub secure: bool,
    pub is_caller: bool,
}

/// A stored dialog that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored dialog {call_id}: {field} is no address")]
pub struct BrokenSnapshot {
    pub call_id: String,
    pub field: &'static str,
}

impl Dialog {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state,
            invitation: self.invitation,
            call_id: self.call_id.clone(),
            local: self.local.to_string(),
            remote: self.remote.to_string(),
            contact: self.contact.to_string(),
            local_sequence: self.local_sequence,
            remote_sequence: self.remote_sequence,
            route_set: self.route_set.iter().map(NameAddr::to_string).collect(),
            remote_target: self.remote_target.to_string(),
            secure: self.secure,
            is_caller: self.is_caller,
        }
    }

    /// The dialog as it was. The transaction of an INVITE that was under way went with its process, so that a peer's
    /// next one, and ours, is free to come.
    pub fn restore(snapshot: Snapshot) -> Result<Self, BrokenSnapshot> {
        let address = |field: &'static str, text: &str| {
            text.parse::<NameAddr>().map_err(|_| BrokenSnapshot { call_id: snapshot.call_id.clone(), field })
        };
        let route_set = snapshot.route_set.iter().map(|route| address("route_set", route));
        Ok(Self {
            state: snapshot.state,
            invitation: invitation::State::Idle,
            local: address("local", &snapshot.local)?,
            remote: address("remote", &snapshot.remote)?,
            contact: address("contact", &snapshot.contact)?,
            local_sequence: snapshot.local_sequence,
            invite_sequence: None,
            remote_sequence: snapshot.remote_sequence,
            route_set: route_set.collect::<Result<_, _>>()?,
            remote_target: snapshot
                .remote_target
                .parse::<Uri>()
                .map_err(|_| BrokenSnapshot { call_id: snapshot.call_id.clone(), field: "remote_target" })?,
            secure: snapshot.secure,
            is_caller: snapshot.is_caller,
            call_id: snapshot.call_id,
        })
    }
}
