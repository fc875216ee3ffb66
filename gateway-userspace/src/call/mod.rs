//! The back-to-back user agent: two legs that share nothing on the wire, one call between them.
//!
//! A [`Call`] is a value: it is handed an [`Event`] and pushes [`Action`]s. It is always in one phase, whose data
//! exist in that phase only (`phase/`). What the legs say about media goes through [`crate::sdp::Leg`]; which flows
//! follow from it is `media.rs`.
//!
//! Per leg our own: Call-ID, tags, Via, Contact, sequence numbers, session origin. From one side to the other go:
//! the called and calling number with the display name, the media capabilities, status codes and Max-Forwards less
//! one. Nothing else.

mod action;
mod answer;
mod event;
mod facts;
mod feature;
mod leg;
mod media;
pub mod persist;
mod phase;

pub use action::{Action, CallTimer, RequestKey};
pub(crate) use answer::refusal;
pub use event::{Claim, Claimant, Event, Replacement};
pub(crate) use feature::ability::{ALLOW, REPLACES, unsupported};
pub(crate) use feature::transfer::Replaces;
pub use leg::TrunkRef;
pub use media::MediaPorts;
pub use persist::{Checkpoint, Farewell, Saved};
pub(crate) use phase::attempt::release;

use crate::base::fault::Fault;
use crate::base::id::{CallId, Side};
use crate::base::redact::Number;
use crate::base::share::Share;
use crate::base::time::Time;
use crate::base::token::Tokens;
use crate::media::MediaPlan;
use crate::observe::event::CallEnd;
use crate::policy::{Permit, Snapshot};
use crate::rtp::Codec;
use crate::sip::dialog::DialogId;
use crate::sip::message::Request;
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use facts::{Ending as Outcome, Facts};
use phase::Phase;
use std::sync::Arc;
use std::time::Duration;

/// Times and names that hold for all calls.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// Which Call-IDs of our own this core will own.
    pub share: Share,
    /// Neither side heard for so long ends the call; zero never does.
    pub media_timeout: Duration,
    /// How long a callee may ring.
    pub answer_timeout: Duration,
    /// How long a call that has ended may wait for the last answers: 64*T1 and a little.
    pub linger: Duration,
    /// RFC 3261 section 17.1.1.1: what the call itself sends again, it does by this interval.
    pub t1: Duration,
    /// Media of our own can be put into calls: tones.
    pub plays: bool,
    /// For User-Agent and Server.
    pub product: Arc<str>,
}

/// What a call sees of its surroundings for one event.
pub struct Context<'a> {
    pub now: Time,
    pub policy: &'a Arc<Snapshot>,
    pub ports: &'a mut MediaPorts,
    pub tokens: &'a mut Tokens,
    pub settings: &'a CallSettings,
    pub actions: &'a mut Vec<Action>,
}

impl Context<'_> {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn arm(&mut self, timer: CallTimer, after: Duration) {
        let at = self.now + after;
        self.push(Action::Arm { timer, at });
    }

    fn disarm(&mut self, timer: CallTimer) {
        self.push(Action::Disarm { timer });
    }
}

/// An INVITE that may become a call.
pub struct Invitation {
    pub id: CallId,
    pub server: ServerId,
    pub request: Box<Request>,
    pub hop: Hop,
    pub trunk: TrunkRef,
    /// Of the trunk.
    pub permit: Permit,
    /// It passes above the limits.
    pub emergency: bool,
}

/// One call of two legs.
#[derive(Debug)]
pub struct Call {
    facts: Facts,
    phase: Phase,
}

impl Call {
    /// Begins a call: answers 100, tries the first peer. On refusal nothing was done, and the INVITE comes back.
    pub fn begin(invitation: Invitation, context: &mut Context<'_>) -> Result<Self, (Fault, Box<Request>)> {
        let (mut facts, setup) = phase::setup::begin(invitation, context)?;
        let phase = setup.dial(&mut facts, context);
        Ok(Self { facts, phase })
    }

    /// Feeds the call one event; what it wants done stands in the context's actions.
    pub fn handle(&mut self, event: Event, context: &mut Context<'_>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        self.phase = phase.handle(&mut self.facts, event, context);
    }

    pub fn id(&self) -> CallId {
        self.facts.start.call
    }

    /// When its INVITE came.
    pub fn started(&self) -> Time {
        self.facts.started
    }

    /// The record of a call that was lost; `answered` if its caller was told so.
    pub fn lost(&self, fault: Fault, answered: bool) -> CallEnd {
        let end = self.facts.end(Outcome::fault(fault, answered));
        CallEnd { answered: end.answered.filter(|_| answered), ..end }
    }

    /// The number that was called.
    pub fn called(&self) -> &Number {
        &self.facts.start.called
    }

    /// What the data plane carries for it now.
    pub fn plan(&self) -> MediaPlan {
        self.phase.plan()
    }

    /// What this side's peer speaks first, once that is agreed on.
    pub fn codec(&self, side: Side) -> Option<&Codec> {
        let agreed = self.phase.leg(side)?.media.media()?;
        agreed.formats.first().map(|format| &format.codec)
    }

    /// The dialog with this side, once both have a tag.
    pub fn dialog(&self, side: Side) -> Option<DialogId> {
        self.phase.leg(side).map(|leg| leg.dialog.id())
    }

    /// Whether one of its dialogs with this side, those just transferred away included, has this Call-ID and this tag of
    /// ours.
    pub fn knows(&self, side: Side, call_id: &str, tag: &str) -> bool {
        self.phase.knows(side, call_id, tag)
    }

    /// Whether this is its dialog with this side, or an early one.
    pub fn has_dialog(&self, side: Side, dialog: &DialogId) -> bool {
        self.phase.has_dialog(side, dialog)
    }

    /// The name of the trunk that its dialogs with this side go by.
    pub fn trunk(&self, side: Side) -> Option<&str> {
        self.phase.trunk(side).map(|trunk| trunk.name.as_str())
    }
}
