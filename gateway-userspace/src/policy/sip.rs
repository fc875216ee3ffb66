//! What a trunk says about signalling on its legs: which extensions are spoken with its peers, and in what form they
//! want to hear of things.

use super::CauseMap;
use crate::sip::message::HeaderName;

/// A trunk's say about the signalling of its legs. Each leg follows its own trunk's, whatever the other side speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipPolicy {
    pub reliable_provisional: ReliableProvisional,
    pub preconditions: PreconditionPolicy,
    pub early_media: EarlyMedia,
    /// Ask its peers, as callees, for P-Early-Media (RFC 5009).
    pub p_early_media: bool,
    pub hold: HoldForm,
    pub refer: ReferPolicy,
    /// Seconds after which a session that nobody refreshed is over (RFC 4028), where the peer can; `None` asks for no
    /// session timer.
    pub session_expires: Option<u32>,
    /// What the other side's causes become here.
    pub causes: CauseMap,
    /// Its peers take an INVITE without an offer. To those that do not, we offer ourselves.
    pub delayed_offer: bool,
    /// A request that is too large for a datagram goes by TCP; its peers have to listen there, too.
    pub tcp_when_large: bool,
    /// An INVITE that is too large for a datagram offers the encodings of telephone networks only.
    pub slim_when_large: bool,
    /// The header by which its peers name a call for their support.
    pub trace_header: Option<HeaderName>,
}

impl Default for SipPolicy {
    /// What the RFCs let any peer do.
    fn default() -> Self {
        Self {
            reliable_provisional: ReliableProvisional::default(),
            preconditions: PreconditionPolicy::default(),
            early_media: EarlyMedia::default(),
            p_early_media: false,
            hold: HoldForm::default(),
            refer: ReferPolicy::default(),
            session_expires: Some(SESSION_EXPIRES),
            causes: CauseMap::default(),
            delayed_offer: true,
            tcp_when_large: false,
            slim_when_large: true,
            trace_header: None,
        }
    }
}

/// Seconds that RFC 4028 section 4 recommends.
const SESSION_EXPIRES: u32 = 1_800;

/// Reliable provisional responses (RFC 3262) with a trunk's peers. A peer that requires them gets them in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReliableProvisional {
    /// Not offered to callees, not used with callers that only support them.
    Off,
    /// Offered to callees; used for early media with callers that support them.
    #[default]
    Supported,
    /// Required of callees and of callers.
    Required,
}

/// Quality-of-service preconditions (RFC 3312) with a trunk's peers as callees. Callers that wait for theirs are served in
/// any case. They need reliable provisional responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreconditionPolicy {
    /// Not spoken: a callee that requires them refuses the call.
    Off,
    /// Spoken with a callee that refuses the call without them (421).
    #[default]
    OnDemand,
    /// Offered in each INVITE.
    Offered,
}

/// What the caller hears of provisional responses of a trunk's peers, as callees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyMedia {
    /// Each as it is, early media with it.
    #[default]
    Pass,
    /// The first 18x only: what comes after it would stop local ringing without bringing media.
    FirstOnly,
    /// Any as a 180 without a session description: the caller rings locally.
    Ringing,
}

/// In what form a trunk's peers are told that the other side holds the call. The session address is always ours: none is
/// held by `0.0.0.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldForm {
    /// As the other side says it: `sendonly`, `recvonly` or `inactive`.
    #[default]
    AsOffered,
    /// As `inactive`, the one form that Teams understands.
    Inactive,
    /// As `sendonly`.
    SendOnly,
    /// Not at all: the other side is answered for them, and they hear its music.
    Hidden,
}

/// What becomes of a REFER of a trunk's peers, which asks that somebody else take their place in a call (RFC 3515).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferPolicy {
    /// Executed here: the target is called as the trunk's other calls are, by the routes. A target without one that lives
    /// at the trunk's own peers is called there.
    #[default]
    Route,
    /// Passed on to the other side's peer, which calls the target itself; executed here as by [`ReferPolicy::Route`] where
    /// that one does not take REFER, or is Teams.
    Relay,
    /// Executed here: the target is called back by the trunk that asked, with the URI that it named, whoever that is.
    SendBack,
    /// Refused with 403.
    Forbid,
    /// Refused with 603.
    Decline,
}
