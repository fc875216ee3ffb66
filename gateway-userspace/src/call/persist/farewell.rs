//! What is left of a call when its record is written.

use super::{Envelope, LegCheckpoint, PartingCheckpoint, partings};
use crate::base::id::{CallId, Side};
use crate::base::redact::Number;
use crate::base::time::Time;
use crate::call::facts::Facts;
use crate::call::leg::Leg;
use crate::call::phase::ending::{Ending, Owed};
use crate::call::phase::parting::Partings;
use crate::call::{Call, Context};
use crate::observe::event::CallStart;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// A call whose record is written, as long as peers of it are owed a BYE.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Farewell {
    pub call: CallId,
    caller_number: String,
    called_number: String,
    trunk: String,
    source: SocketAddr,
    started: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<Box<str>>,
    owed: Vec<OwedCheckpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partings: Vec<PartingCheckpoint>,
    /// Those of them that a BYE has gone to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hung_up: Vec<PartingCheckpoint>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OwedCheckpoint {
    side: Side,
    leg: LegCheckpoint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// It has gone, and has no answer yet.
    sent: bool,
}

impl Farewell {
    /// `None` if nobody is owed anything.
    pub(in crate::call) fn of<'a>(
        facts: &Facts,
        owed: impl Iterator<Item = (&'a Owed, &'a Leg)>,
        partings: &Partings,
    ) -> Option<Self> {
        let owed: Vec<_> = owed
            .map(|(Owed { side, reason, sent }, leg)| OwedCheckpoint {
                side: *side,
                leg: LegCheckpoint::of(leg, false),
                reason: reason.clone(),
                sent: *sent,
            })
            .collect();
        let hung_up: Vec<_> = partings.hung_up().map(PartingCheckpoint::of).collect();
        let partings: Vec<_> = partings.open().map(PartingCheckpoint::of).collect();
        let left = owed.len() + partings.len() + hung_up.len();
        (left > 0).then(|| Self {
            call: facts.start.call,
            caller_number: facts.start.caller.reveal().to_owned(),
            called_number: facts.start.called.reveal().to_owned(),
            trunk: (*facts.start.trunk).to_owned(),
            source: facts.start.source,
            started: facts.started,
            home: facts.home.clone(),
            owed,
            partings,
            hung_up,
        })
    }

    /// What no BYE has gone to: transactions of the others go on under this daemon.
    pub fn unsent(self) -> Self {
        let owed = self.owed.into_iter().filter(|owed| !owed.sent).collect();
        Self { owed, hung_up: Vec::new(), ..self }
    }

    /// For the journal.
    ///
    /// # Errors
    /// It cannot be put into JSON.
    pub fn write(&self, bytes: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(bytes, &Envelope { farewell: self })
    }

    /// As [`Checkpoint::sip_call_id`]: but for dialogs of others, all that a call has agree on their core.
    pub(super) fn sip_call_id(&self) -> &str {
        let legs = self.owed.iter().map(|owed| &owed.leg);
        let partings = self.partings.iter().chain(&self.hung_up);
        let mut legs = legs.chain(partings.map(|parting| &parting.leg));
        let first = || legs.next().map(|leg| leg.dialog.call_id.as_str());
        self.home.as_deref().or_else(first).unwrap_or_default()
    }

    /// The call as it was, its BYEs sent anew: a peer that has had one answers the other by 481 (RFC 3261 section 15.1.2).
    pub fn restore(self, context: &mut Context<'_>) -> Call {
        let start = CallStart {
            call: self.call,
            caller: Number::new(self.caller_number),
            called: Number::new(self.called_number),
            trunk: Arc::from(self.trunk),
            source: self.source,
            tenants: [None, None],
        };
        let facts = Facts { concluded: true, home: self.home, ..Facts::new(start, self.started) };
        let mut legs = (None, None);
        let mut owed = Vec::new();
        for OwedCheckpoint { side, leg, reason, .. } in self.owed {
            let Some(leg) = leg.restore_bound(side, context) else { continue };
            match side {
                Side::Caller => legs.0 = Some(leg),
                Side::Callee => legs.1 = Some(leg),
            }
            owed.push(Owed::new(side, reason));
        }
        let partings = partings([self.partings, self.hung_up].concat(), context);
        let phase = Ending::begin(&facts, legs, owed, (Vec::new(), partings), context);
        Call { facts, phase }
    }
}
