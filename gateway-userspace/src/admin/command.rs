//! What can be asked of a running node, as two closed lists: of the node, and of one core.

use super::answer::{FlowLine, TrunkLine};
use crate::base::id::CallId;
use crate::observe::calls::{CallDetail, CallSummary, Progress};
use crate::observe::capture::{Captured, Wanted};
use crate::observe::sources::SilencedSource;
use ipnet::IpNet;
use std::fmt;
use std::time::Duration;
use tokio::sync::oneshot;

/// Everything that the outside may ask or order.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminCommand {
    Status,
    Calls {
        filter: CallFilter,
        limit: usize,
    },
    Call(CallId),
    /// Takes packets of a call down for so long, its messages and whole packets if wanted.
    Capture {
        call: CallId,
        span: Duration,
        sip: bool,
        audio: bool,
    },
    /// Ends a call in progress with BYE on both legs.
    HangUp(CallId),
    /// Makes the call panic, to see that it ends alone.
    #[cfg(debug_assertions)]
    Panic(CallId),
    Flows {
        limit: usize,
    },
    Drops,
    /// Reads the configuration again; calls in progress keep what they have.
    Reload,
    Trunks,
    /// Refuses new calls from now on, or takes them again; calls in progress finish.
    Drain {
        what: DrainTarget,
        drained: bool,
    },
    /// Gives a network silence, for as long as is said or usual; one that trunks use only if it is forced.
    Deny {
        network: IpNet,
        span: Option<Duration>,
        force: bool,
    },
    /// Takes back every denial of a network and inside it.
    Allow {
        network: IpNet,
    },
    Denied,
}

/// What a drain is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainTarget {
    Node,
    Trunk(String),
    Peer { trunk: String, peer: String },
}

impl fmt::Display for DrainTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("the node"),
            Self::Trunk(trunk) => write!(f, "trunk {trunk}"),
            Self::Peer { trunk, peer } => write!(f, "peer {peer} of trunk {trunk}"),
        }
    }
}

/// Which calls to list. Empty lets all pass.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallFilter {
    pub progress: Option<Progress>,
    /// Name of either trunk.
    pub trunk: Option<String>,
    /// Last digits of either number; no more than what lists show.
    pub number: Option<String>,
}

impl CallFilter {
    pub fn accepts(&self, call: &CallSummary) -> bool {
        let trunk =
            |name: &String| call.from_trunk == *name || call.to_trunk.as_ref().is_some_and(|to| to == name);
        let number = |end: &String| call.caller.ends_with(end) || call.called.ends_with(end);
        self.progress.is_none_or(|progress| call.progress == progress)
            && self.trunk.as_ref().is_none_or(trunk)
            && self.number.as_ref().is_none_or(number)
    }
}

/// What one core is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreCommand {
    /// To see whether it still turns.
    Alive,
    Calls {
        filter: CallFilter,
        limit: usize,
    },
    Call(CallId),
    /// Begins to take packets of a call down; it ends by `Captured`, or by itself when nobody asks for that.
    Capture {
        call: CallId,
        wanted: Wanted,
        span: Duration,
    },
    Captured(CallId),
    HangUp(CallId),
    /// Makes the call panic, to see that it ends alone.
    #[cfg(debug_assertions)]
    Panic(CallId),
    Flows {
        limit: usize,
    },
    Silenced,
    Trunks,
    /// Of the node: each core its own part. Of a trunk or a peer: any one core for all.
    Drain {
        what: DrainTarget,
        drained: bool,
    },
}

/// A question in a core's queue. A core that drops `reply` counts as silent.
#[derive(Debug)]
pub struct Ask {
    pub command: CoreCommand,
    pub reply: oneshot::Sender<CoreAnswer>,
}

/// One core's answer, of the kind that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreAnswer {
    /// To `Alive`, `Drain`.
    Done,
    Calls(Vec<CallSummary>),
    /// `None`: not on this core.
    Call(Option<Box<CallDetail>>),
    /// Whether it begins; if not, whether for want of room, not of the call.
    Capture(Result<(), bool>),
    Captured(Option<Box<Captured>>),
    /// Whether the call was in progress on this core.
    HangUp(bool),
    Flows(Vec<FlowLine>),
    Silenced(Vec<SilencedSource>),
    Trunks(Vec<TrunkLine>),
    /// There is no such trunk, or it has no such peer.
    NoSuchTrunk,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::table::samples;

    #[test]
    fn a_filter_looks_at_both_legs() {
        let call = samples::call();
        let accepts = |filter: CallFilter| filter.accepts(&call);
        assert!(accepts(CallFilter::default()));
        assert!(accepts(CallFilter { trunk: Some("operator".into()), ..CallFilter::default() }));
        assert!(accepts(CallFilter { trunk: Some("teams".into()), ..CallFilter::default() }));
        assert!(!accepts(CallFilter { trunk: Some("other".into()), ..CallFilter::default() }));
        assert!(accepts(CallFilter { number: Some("147".into()), ..CallFilter::default() }));
        assert!(!accepts(CallFilter { number: Some("148".into()), ..CallFilter::default() }));
        assert!(!accepts(CallFilter { progress: Some(Progress::Ringing), ..CallFilter::default() }));
    }
}
