//! The fault taxonomy of signalling: every refusal and failure once, with its SIP status, Q.850 cause, CDR
//! code and metric label. Packets have theirs in `gateway_common::verdict`.

/// Whose doing a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Bytes that are no message.
    Malformed,
    /// A well-formed message that breaks the protocol.
    PeerMisbehaved,
    /// A peer that asks for what we or the other side cannot do.
    PeerIncompatible,
    /// Our configuration says no.
    PolicyRefused,
    /// Out of something: ports, flows, memory, time.
    Exhausted,
    /// Our own failure.
    Internal,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident, $blame:ident, $status:literal, $cause:literal, $label:literal;)+) => {
        /// Why a request was refused or a call ended other than by hanging up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Fault {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            pub const fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)+ }
            }

            /// SIP status code of the answer that carries it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Q.850 cause for the Reason header (RFC 3326) and the CDR.
            pub const fn cause(self) -> u8 {
                match self { $(Self::$name => $cause,)+ }
            }

            /// CDR code, metric label and the word in logs.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// What it means, for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

faults! {
    /// The message breaks SIP's grammar.
    MalformedMessage, Malformed, 400, 111, "malformed_message";
    /// A mandatory header is missing, twice there, or contradicts another.
    MalformedHeader, Malformed, 400, 100, "malformed_header";
    /// The message is larger than the limit.
    MessageTooLarge, Malformed, 513, 95, "message_too_large";
    /// The Request-URI is longer than the limit.
    UriTooLong, Malformed, 414, 95, "uri_too_long";
    /// A name, a URI or an option in a header is longer than the limit.
    ElementTooLong, Malformed, 400, 95, "element_too_long";
    /// The session description breaks SDP's grammar.
    MalformedSdp, Malformed, 400, 100, "malformed_sdp";
    /// A SIP version other than 2.0.
    VersionNotSupported, PeerMisbehaved, 505, 111, "version_not_supported";
    /// A request inside a dialog or transaction that does not exist.
    NoSuchDialog, PeerMisbehaved, 481, 101, "no_such_dialog";
    /// A CSeq number lower than one already seen in the dialog.
    SequenceTooLow, PeerMisbehaved, 500, 101, "sequence_too_low";
    /// A re-INVITE while another one is going on (RFC 3261 section 14.2).
    RequestPending, PeerMisbehaved, 491, 101, "request_pending";
    /// A re-INVITE before the last one was answered (RFC 3261 section 14.2).
    InvitePending, PeerMisbehaved, 500, 101, "invite_pending";
    /// The same request came by two ways (RFC 3261 section 8.2.2.2).
    LoopDetected, PeerMisbehaved, 482, 25, "loop_detected";
    /// Max-Forwards reached zero.
    TooManyHops, PeerMisbehaved, 483, 25, "too_many_hops";
    /// A method that this gateway does not serve.
    MethodNotAllowed, PeerIncompatible, 405, 79, "method_not_allowed";
    /// A subscription to an event package that this gateway does not have (RFC 6665 section 4.2.1).
    BadEvent, PeerIncompatible, 489, 79, "bad_event";
    /// A Require option that this gateway does not have.
    BadExtension, PeerIncompatible, 420, 127, "bad_extension";
    /// The caller does not offer an extension that its trunk requires.
    ExtensionRequired, PeerIncompatible, 421, 127, "extension_required";
    /// A session interval shorter than ours (RFC 4028 section 9).
    SessionIntervalTooShort, PeerIncompatible, 422, 127, "session_interval_too_short";
    /// A body type other than SDP.
    UnsupportedMediaType, PeerIncompatible, 415, 79, "unsupported_media_type";
    /// An INVITE whose sender accepts no session description in the answer.
    NotAcceptable, PeerIncompatible, 406, 79, "not_acceptable";
    /// A Request-URI scheme other than sip, sips or tel.
    UnsupportedUriScheme, PeerIncompatible, 416, 28, "unsupported_uri_scheme";
    /// No codec, address family or transport profile that both legs can carry.
    NotAcceptableHere, PeerIncompatible, 488, 88, "not_acceptable_here";
    /// The trunk requires SRTP, and its peer speaks plain RTP or has no suite in common with it.
    MediaNotSecured, PeerIncompatible, 488, 88, "media_not_secured";
    /// The caller's trunk asks who it is, and it has not said so yet.
    NotAuthenticated, PolicyRefused, 401, 21, "not_authenticated";
    /// What the caller says of who it is, is wrong.
    WrongCredentials, PolicyRefused, 403, 21, "wrong_credentials";
    /// No route for the called number.
    NoRoute, PolicyRefused, 404, 3, "no_route";
    /// The called number belongs to no tenant of the trunk that it leads to.
    NumberNotAssigned, PolicyRefused, 404, 1, "number_not_assigned";
    /// The caller shows a number that is not its tenant's, or belongs to no tenant at all.
    CallerNotAssigned, PolicyRefused, 403, 21, "caller_not_assigned";
    /// The gateway is draining: calls in progress finish, new ones are refused.
    Draining, PolicyRefused, 503, 42, "draining";
    /// The trunk is draining: its calls in progress finish, new ones are refused.
    TrunkDraining, PolicyRefused, 503, 42, "trunk_draining";
    /// The trunk is set to transfer no calls.
    TransferForbidden, PolicyRefused, 403, 29, "transfer_forbidden";
    /// The trunk is set to decline transfers of its calls.
    TransferDeclined, PolicyRefused, 603, 21, "transfer_declined";
    /// A REFER that is in no call.
    ReferOutsideDialog, PeerMisbehaved, 403, 29, "refer_outside_dialog";
    /// An INVITE that replaces a dialog which has ended (RFC 3891 section 3).
    ReplacedDialogEnded, PeerMisbehaved, 603, 21, "replaced_dialog_ended";
    /// An INVITE that replaces a dialog only before its answer, which has come (RFC 3891 section 3).
    ReplacedDialogAnswered, PeerMisbehaved, 486, 17, "replaced_dialog_answered";
    /// No media port free.
    PortsExhausted, Exhausted, 503, 47, "ports_exhausted";
    /// The kernel's flow table is full.
    FlowsExhausted, Exhausted, 503, 47, "flows_exhausted";
    /// More calls than this node is set to carry.
    CallsExhausted, Exhausted, 503, 42, "calls_exhausted";
    /// More calls than a trunk is set to carry.
    TrunkCallsExhausted, Exhausted, 503, 42, "trunk_calls_exhausted";
    /// More calls than a tenant may have.
    TenantCallsExhausted, Exhausted, 503, 42, "tenant_calls_exhausted";
    /// New calls come faster than a trunk, a tenant or the node is set to take them.
    CallRateExceeded, Exhausted, 503, 42, "call_rate_exceeded";
    /// No peer of the trunk answered in time.
    PeerTimeout, Exhausted, 408, 102, "peer_timeout";
    /// No peer of the trunk could be reached.
    PeerUnreachable, Exhausted, 503, 38, "peer_unreachable";
    /// Every peer of the trunk is down, drained or asked for a pause.
    PeersDown, Exhausted, 503, 38, "peers_down";
    /// The callee did not answer as long as it may ring.
    NoAnswer, PolicyRefused, 480, 19, "no_answer";
    /// Neither side sent media for the configured time.
    MediaTimeout, Exhausted, 480, 102, "media_timeout";
    /// The caller hung up before an answer.
    Cancelled, PeerMisbehaved, 487, 16, "cancelled";
    /// A reliable provisional response was never acknowledged (RFC 3262 section 3).
    NoPrack, PeerMisbehaved, 504, 102, "no_prack";
    /// Nobody refreshed the session in time (RFC 4028 section 10).
    SessionExpired, PeerMisbehaved, 408, 102, "session_expired";
    /// An answer was never acknowledged (RFC 3261 section 13.3.1.4).
    NoAck, PeerMisbehaved, 408, 102, "no_ack";
    /// The data plane refused the flow.
    DataplaneFailed, Internal, 500, 41, "dataplane_failed";
    /// The operator ended the call.
    HungUp, PolicyRefused, 480, 31, "hung_up";
    /// A fault of our own that took this call with it.
    Internal, Internal, 500, 41, "internal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_final_status_a_cause_and_a_label_of_its_own() {
        let mut labels: Vec<_> = Fault::ALL.iter().map(|fault| fault.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            assert!((400..700).contains(&fault.status()), "{fault:?}");
            assert!((1..=127).contains(&fault.cause()), "{fault:?}");
        }
    }
}
