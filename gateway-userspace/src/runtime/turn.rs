//! One turn of a core: its surroundings, and what it leaves behind for the rim, for other cores and for the journal.

use super::relay::FlowTable;
use crate::base::id::{CallId, CoreId};
use crate::base::time::Time;
use crate::call::{Claim, Claimant};
use crate::policy::ServiceRoute;
use crate::resolve::Wanted;
use crate::sip::dialog::DialogId;
use crate::sip::message::Message;
use crate::sip::transport::Hop;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The time, the data plane and where effects go.
pub struct Turn<'a> {
    pub now: Time,
    pub flows: &'a mut dyn FlowTable,
    pub out: &'a mut Outbox,
}

/// What a turn leaves for the rim.
#[derive(Debug, Default)]
pub struct Outbox {
    pub sends: Vec<(Hop, Arc<[u8]>)>,
    /// Peers whose connections take no more of our requests, once `sends` are sent.
    pub leaves: Vec<Hop>,
    pub checkpoints: Vec<CheckpointChange>,
    /// Names that dialogs go to, to be looked up.
    pub names: Vec<Wanted>,
    /// Calls that panicked, each to be cleared by [`Core::clear_wreck`] with what the journal has of it, once
    /// `checkpoints` are in there.
    ///
    /// [`Core::clear_wreck`]: super::core::Core::clear_wreck
    pub wrecks: Vec<CallId>,
    /// Connections of ours that peers know us by, to be pinged at this pause, once `sends` are sent.
    pub flows: Vec<(Hop, Duration)>,
    /// What concerns other cores.
    pub errands: Vec<(CoreId, Errand)>,
}

/// What one core has to tell another about a call that has dialogs of both.
#[derive(Debug)]
pub enum Errand {
    /// A message of a call that lives there, whose Call-ID says otherwise.
    Message { hop: Hop, message: Box<Message> },
    /// Messages with this Call-ID, whose core you are, are for a call of the core that is named.
    Guest { call_id: Box<str>, host: CoreId },
    /// They are no more.
    GuestLeft { call_id: Box<str> },
    /// A call wants the other end of this dialog.
    Claim { dialog: DialogId, claimant: Claimant },
    /// The answer to that.
    Claimed { call: CallId, claim: Option<Box<Claim>> },
    /// A media port of yours is free again.
    PortFreed { at: SocketAddr },
    /// A media port of yours is held by a call of another core.
    PortTaken { at: SocketAddr },
    /// A registrar named the proxies that calls are to pass.
    ServiceRoute(ServiceRoute),
}

/// A change of what would survive this process.
#[derive(Debug)]
pub enum CheckpointChange {
    Put { call: CallId, bytes: Vec<u8> },
    Remove { call: CallId },
}
