//! A call as it outlives the process: written at each agreement and at its end, read by the next daemon.

mod farewell;

pub use farewell::Farewell;

use super::facts::Facts;
use super::feature::ability::Abilities;
use super::feature::session_timer::Session;
use super::feature::transfer::Referred;
use super::leg::{Leg, Legs, TrunkRef};
use super::phase::{
    Phase,
    established::{Established, Open, Unanswered},
    parting::Partings,
};
use super::{Action, Call, Context};
use crate::base::fault::Fault;
use crate::base::id::{CallId, FlowId, Side};
use crate::base::redact::Number;
use crate::base::time::Time;
use crate::media::MediaPlan;
use crate::observe;
use crate::observe::event::{CallStart, JoinedBy, LegRecord};
use crate::sdp;
use crate::sip::dialog::{BrokenSnapshot, Dialog, Snapshot};
use crate::sip::transport::{Hop, Transport};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// What was written down last of a call.
#[derive(Clone, Debug)]
pub enum Saved {
    Call(Box<Checkpoint>),
    Farewell(Box<Farewell>),
}

/// An answered call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    pub call: CallId,
    /// Flows in the data plane, in the order of the plan. The core fills them in.
    pub flows: Vec<FlowId>,
    caller_number: String,
    called_number: String,
    source: SocketAddr,
    #[serde(default)]
    tenants: [Option<Box<str>>; 2],
    started: Time,
    alerted: Option<Time>,
    answered: Option<Time>,
    peer: Option<SocketAddr>,
    peers_tried: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charging_id: Option<Box<str>>,
    #[serde(default)]
    trace_ids: [Option<Box<str>>; 2],
    caller: LegCheckpoint,
    callee: LegCheckpoint,
    /// A Call-ID that names the core, where those of its dialogs do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<Box<str>>,
    /// By side, what brought the dialog that stands there, and when.
    #[serde(default)]
    joined: [Option<(JoinedBy, Time)>; 2],
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    departed: Vec<LegRecord>,
    /// Who waits for news of a transfer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    referred: Vec<Referred>,
    /// Dialogs in the guard time of a transfer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partings: Vec<PartingCheckpoint>,
    /// An INVITE whose ACK will bring the answer to an offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unanswered: Option<Unanswered>,
}

/// What a farewell is told from a call by.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    farewell: T,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LegCheckpoint {
    trunk: String,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
    dialog: Snapshot,
    media: sdp::Leg,
    /// For copies of the 2xx whose ACK was lost with this daemon.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    acknowledged_with: String,
    #[serde(default)]
    abilities: Abilities,
    #[serde(default)]
    session: Session,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charging: Option<Box<str>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartingCheckpoint {
    leg: LegCheckpoint,
    /// Of the transfer.
    number: u8,
    until: Time,
}

/// Why a stored call cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("its trunk {0:?} is not in the configuration any more")]
    NoTrunk(String),
    #[error(transparent)]
    Dialog(#[from] BrokenSnapshot),
    #[error("its media port {0} cannot be had any more")]
    Port(SocketAddr),
}

impl Saved {
    /// What [`Checkpoint::write`] or [`Farewell::write`] wrote.
    ///
    /// # Errors
    /// What of it cannot be read.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        match serde_json::from_slice::<Envelope<Option<Box<Farewell>>>>(bytes)?.farewell {
            Some(farewell) => Ok(Self::Farewell(farewell)),
            None => Ok(Self::Call(serde_json::from_slice(bytes)?)),
        }
    }

    pub fn call(&self) -> CallId {
        match self {
            Self::Call(checkpoint) => checkpoint.call,
            Self::Farewell(farewell) => farewell.call,
        }
    }

    /// Its flows in the data plane.
    pub fn flows(&self) -> &[FlowId] {
        match self {
            Self::Call(checkpoint) => &checkpoint.flows,
            Self::Farewell(_) => &[],
        }
    }

    /// The Call-ID that says what core owns the call.
    pub fn sip_call_id(&self) -> &str {
        match self {
            Self::Call(checkpoint) => checkpoint.sip_call_id(),
            Self::Farewell(farewell) => farewell.sip_call_id(),
        }
    }
}

impl Checkpoint {
    /// For the journal.
    ///
    /// # Errors
    /// It cannot be put into JSON.
    pub fn write(&self, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(bytes, self)
    }

    pub(super) fn of(facts: &Facts, legs: &Legs, open: Open<&Partings>) -> Self {
        let Open { unanswered, referred, partings } = open;
        Self {
            call: facts.start.call,
            flows: Vec::new(),
            caller_number: facts.start.caller.reveal().to_owned(),
            called_number: facts.start.called.reveal().to_owned(),
            source: facts.start.source,
            tenants: facts.start.tenants.clone().map(|tenant| tenant.as_deref().map(Into::into)),
            started: facts.started,
            alerted: facts.alerted,
            answered: facts.answered,
            peer: facts.peer,
            peers_tried: facts.peers_tried,
            charging_id: facts.charging_id.clone(),
            trace_ids: facts.trace_ids.clone(),
            caller: LegCheckpoint::of(&legs.caller, unanswered.is_some()),
            callee: LegCheckpoint::of(&legs.callee, unanswered.is_some()),
            home: facts.home.clone(),
            joined: facts.joined,
            departed: facts.departed.clone(),
            referred,
            partings: partings.open().map(PartingCheckpoint::of).collect(),
            unanswered,
        }
    }

    /// The Call-ID that says what core owns the call: of the callee's leg, since ours was minted to agree with the
    /// caller's, unless dialogs of others have joined the call.
    pub fn sip_call_id(&self) -> &str {
        self.home.as_deref().unwrap_or(&self.callee.dialog.call_id)
    }

    /// The call as it was, and what the data plane carries for it.
    pub fn restore(self, context: &mut Context<'_>) -> Result<(Call, MediaPlan), RestoreError> {
        let start = CallStart {
            call: self.call,
            caller: Number::new(self.caller_number),
            called: Number::new(self.called_number),
            trunk: Arc::from(self.caller.trunk.as_str()),
            source: self.source,
            tenants: self.tenants.map(|tenant| tenant.map(Arc::from)),
        };
        let to_trunk = Arc::from(self.callee.trunk.as_str());
        let caller = self.caller.restore(context)?;
        let callee = match self.callee.restore(context) {
            Ok(callee) => callee,
            Err(error) => {
                caller.close(context);
                return Err(error);
            }
        };
        let facts = Facts {
            alerted: self.alerted,
            answered: self.answered,
            to_trunk: Some(Arc::clone(&to_trunk)),
            peer: self.peer,
            peers_tried: self.peers_tried,
            charging_id: self.charging_id,
            trace_ids: self.trace_ids,
            permits: [&caller, &callee].map(|leg| leg.trunk.enter_above().ok()),
            of_tenants: context.policy.tenants().enter_above(start.tenants.each_ref().map(Option::as_deref)),
            home: self.home,
            joined: self.joined,
            departed: self.departed,
            ..Facts::new(start.clone(), self.started)
        };
        let legs = Legs::new(caller, callee);
        let plan = legs.plan();
        context.push(Action::Publish(observe::Event::CallAdopted {
            start: Box::new(start),
            started: self.started,
            answered: self.answered,
            to: self.peer.map(|peer| (to_trunk, peer)),
        }));
        for side in [Side::Caller, Side::Callee] {
            let call_id = legs.of(side).dialog.call_id().to_owned();
            context.push(Action::Bind { side, call_id });
        }
        let partings = partings(self.partings, context);
        let open = Open { unanswered: self.unanswered, referred: self.referred, partings };
        let phase = Phase::Established(Box::new(Established::restore(&facts, legs, open, context)));
        Ok((Call { facts, phase }, plan))
    }
}

/// Dialogs that a transfer took out of the call are no reason to lose it: one that cannot go on is left to its peer.
fn partings(left: Vec<PartingCheckpoint>, context: &mut Context<'_>) -> Partings {
    let mut restored = Vec::new();
    for PartingCheckpoint { leg, number, until } in left {
        if let Some(leg) = leg.restore_bound(Side::Caller, context) {
            restored.push((leg, number, until));
        }
    }
    Partings::restored(restored)
}

impl PartingCheckpoint {
    fn of((leg, number, until): (&Leg, u8, Time)) -> Self {
        Self { leg: LegCheckpoint::of(leg, false), number, until }
    }
}

impl LegCheckpoint {
    fn of(leg: &Leg, keeps_offer: bool) -> Self {
        let mut media = leg.media.clone();
        if !keeps_offer {
            // An offer that is open goes with the transaction that carries it.
            media.abandon();
        }
        Self {
            trunk: leg.trunk.name.clone(),
            transport: leg.hop.transport,
            local: leg.hop.local,
            remote: leg.hop.remote,
            dialog: leg.dialog.snapshot(),
            media,
            acknowledged_with: leg.acknowledged_with.clone(),
            abilities: leg.abilities,
            session: leg.session,
            charging: leg.charging.clone(),
        }
    }

    fn restore(self, context: &mut Context<'_>) -> Result<Leg, RestoreError> {
        let at = self.media.local();
        let leg = self.restore_dialog(context)?;
        context.ports.claim(at).map_err(|_: Fault| RestoreError::Port(at))?;
        Ok(leg)
    }

    /// A dialog that is about to end; one that cannot be hung up on any more is left to its peer.
    fn restore_bound(self, side: Side, context: &mut Context<'_>) -> Option<Leg> {
        match self.restore_dialog(context) {
            Ok(leg) => {
                context.push(Action::Bind { side, call_id: leg.dialog.call_id().to_owned() });
                Some(leg)
            }
            Err(error) => {
                tracing::warn!(%error, "a dialog that was about to end is left to its peer");
                None
            }
        }
    }

    /// Without its port, which somebody else may have by now.
    fn restore_dialog(self, context: &mut Context<'_>) -> Result<Leg, RestoreError> {
        let trunk = context
            .policy
            .trunk_named(&self.trunk)
            .and_then(|(id, _)| TrunkRef::new(Arc::clone(context.policy), id))
            .ok_or(RestoreError::NoTrunk(self.trunk))?;
        let dialog = Dialog::restore(self.dialog)?;
        let hop = Hop { transport: self.transport, local: self.local, remote: self.remote, connection: None };
        Ok(Leg {
            trunk,
            hop,
            dialog,
            media: self.media,
            abilities: self.abilities,
            session: self.session,
            acknowledged_with: self.acknowledged_with,
            // The ACK went before the checkpoint was of use; copies of a 2xx end with the transaction.
            authorization: (0, Vec::new()),
            charging: self.charging,
        })
    }
}
