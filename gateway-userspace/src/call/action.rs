//! What a call wants done. The core carries actions out in order, once.

use super::event::{Claim, Claimant};
use super::leg::TrunkRef;
use super::persist::{Checkpoint, Farewell};
use crate::base::id::Side;
use crate::base::time::Time;
use crate::media::bridge::PlayUntil;
use crate::media::plan::MediaPlan;
use crate::observe::event::{CallEnd, Event};
use crate::signal::dtmf::body::Press;
use crate::signal::tone::Source;
use crate::sip::dialog::DialogId;
use crate::sip::message::{Draft, Response};
use crate::sip::transaction::ServerId;
use crate::sip::transport::Hop;
use std::time::Duration;

/// One wish. Boxed where large, so that a turn's list stays small.
#[derive(Debug)]
pub enum Action {
    /// Begin a client transaction; its answers come back with `key`.
    Request {
        key: RequestKey,
        draft: Box<Draft>,
        hop: Hop,
    },
    /// Send an ACK of a 2xx, which is no transaction (RFC 3261 section 13.2.2.4).
    Acknowledge {
        draft: Box<Draft>,
        hop: Hop,
    },
    /// Answer a request.
    Respond {
        server: ServerId,
        response: Box<Response>,
    },
    /// Cancel the request of this key (RFC 3261 section 9.1).
    Cancel {
        key: RequestKey,
        /// For the Reason header.
        reason: Option<String>,
    },
    /// Route in-dialog requests with this Call-ID to this leg.
    Bind {
        side: Side,
        call_id: String,
    },
    /// No more requests with this Call-ID are for this call.
    Unbind {
        call_id: String,
    },
    /// Ask whoever has this dialog for its other end; comes back as [`super::Event::Claimed`].
    Claim {
        dialog: DialogId,
    },
    /// What another call asked for by [`super::Event::GiveUp`].
    Surrender {
        claimant: Claimant,
        claim: Option<Box<Claim>>,
    },
    /// A key goes to the peer of this side in its media.
    Press {
        to: Side,
        press: Press,
    },
    /// Play this to the peer of this side, by what the plan has between the two peers; `None` stops.
    Play {
        to: Side,
        what: Option<(Source, PlayUntil)>,
    },
    /// Make the data plane carry exactly this. If it refuses, the rest of the turn's actions are dropped and
    /// the call hears [`super::Event::FlowsRefused`].
    Relay(Box<MediaPlan>),
    Arm {
        timer: CallTimer,
        at: Time,
    },
    Disarm {
        timer: CallTimer,
    },
    /// Send no new calls to this peer of the trunk for so long, and nothing more by the connection to it: it asked for
    /// that.
    Rest {
        trunk: TrunkRef,
        hop: Hop,
        pause: Duration,
    },
    /// Read when media was last heard; comes back as [`super::Event::MediaHeard`].
    ProbeMedia,
    /// Write the call down, so that another daemon can carry on with it.
    Save(Box<Checkpoint>),
    /// As much of a call that is over as another daemon needs to hang up.
    SaveFarewell(Box<Farewell>),
    Publish(Event),
    /// Take the flows down, add what they counted to the record, publish it. Once a call.
    Conclude(Box<CallEnd>),
    /// The call is over: forget it.
    Forget,
}

/// Which request of a call a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKey {
    /// The INVITE of the `n`-th peer tried, from 1, toward the callee.
    Invite { attempt: u8 },
    /// A re-INVITE toward this side.
    Reinvite { to: Side },
    /// An UPDATE toward this side.
    Update { to: Side },
    /// A BYE toward this side.
    Bye { to: Side },
    /// A PRACK toward the callee.
    Prack,
    /// A BYE that ends a dialog which came too late.
    Release,
    /// A REFER that the other side sent us, by the number of its transfer.
    Refer { number: u8 },
    /// A NOTIFY of how a transfer goes, by its number.
    Notify { number: u8 },
    /// An INFO or a NOTIFY that tells this side of a key.
    Keys { to: Side },
    /// A BYE in the dialog that the transfer with this number took out of the call.
    Part { number: u8 },
}

/// The timers of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallTimer {
    /// The peer tried last stays silent: try the next one.
    PeerSilent,
    /// The caller's trunk waits no longer for a sign that its call gets anywhere.
    NoProgress,
    /// Nobody answered although it rang.
    NoAnswer,
    /// Early media was announced to the caller, and none may have come yet.
    Silence,
    /// The caller has heard why it is refused.
    Refusal,
    /// A reliable provisional response waits for its PRACK.
    Provisional,
    /// Our re-INVITE crossed one of the other side: another try (RFC 3261 section 14.1).
    Glare,
    /// The session with this side is to be refreshed, or is over (RFC 4028).
    Session(Side),
    /// A dialog that was transferred away has had no BYE of its peer.
    Parting,
    /// Look whether media still flows.
    MediaCheck,
    /// A call that should have ended by now ends, whatever is still open.
    Linger,
}

impl CallTimer {
    pub const ALL: [Self; 12] = [
        Self::PeerSilent,
        Self::NoProgress,
        Self::NoAnswer,
        Self::Silence,
        Self::Refusal,
        Self::Provisional,
        Self::Glare,
        Self::Session(Side::Caller),
        Self::Session(Side::Callee),
        Self::Parting,
        Self::MediaCheck,
        Self::Linger,
    ];
}
