//! What happens, as one closed list. Numbers of parties travel as [`Number`], which prints masked.

use super::offence::DenialCause;
use super::quality::{FarEndQuality, MediaQuality, Series};
use super::trunk::TrunkEvent;
use crate::base::fault::Fault;
use crate::base::id::{CallId, Side};
use crate::base::redact::Number;
use crate::base::time::Time;
use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Something that a subscriber may want to know. The moment it happened is the `now` it is published with.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An INVITE was accepted as a new call; its 100 is on the way.
    CallStarted(Box<CallStart>),
    /// A call of an earlier daemon was taken over from the checkpoint journal; `answered` if it had been, `to` the
    /// trunk and peer that it went to.
    CallAdopted {
        start: Box<CallStart>,
        started: Time,
        answered: Option<Time>,
        to: Option<(Arc<str>, SocketAddr)>,
    },
    /// A SIP message came or went. `call` is absent for what belongs to no call, such as OPTIONS.
    Sip { call: Option<CallId>, message: SipSummary },
    /// The call goes to this peer of this trunk; `attempt` counts from 1.
    Routed { call: CallId, trunk: Arc<str>, peer: SocketAddr, attempt: u8 },
    /// The caller was sent its first 180 or 183, or the 200 when there was neither.
    Alerted { call: CallId, since_invite: std::time::Duration },
    /// The caller was sent the 200.
    Answered { call: CallId },
    /// Media of the call was programmed, or programmed anew after a re-INVITE.
    MediaPlanned { call: CallId, media: MediaSummary },
    /// Somebody else is to take, takes, or does not take the place of this side's peer.
    Transfer { call: CallId, side: Side, step: TransferStep },
    /// A telephone-event began (RFC 4733).
    Dtmf { call: CallId, from: Side, event: u8 },
    /// A step of the call panicked, and the call is ended.
    CallPanicked { call: CallId, place: String, message: String },
    /// The call is over; carries all that its record needs.
    Ended(Box<CallEnd>),
    /// A request was answered with an error and no call came of it.
    Refused { fault: Fault, source: SocketAddr },
    /// A message was dropped without an answer because no trunk allows its source.
    Silenced { source: SocketAddr },
    /// The configuration was read again: the errors, if it was not taken.
    ConfigReloaded { outcome: Result<(), String> },
    /// Media on this interface goes another way than before, or its first way was chosen.
    PathChanged { interface: Arc<str>, path: Datapath },
    /// New calls are refused from now on; calls in progress finish.
    DrainBegun { calls: usize },
    /// New calls are taken again.
    DrainEnded,
    /// Something happened to a trunk or one of its peers.
    Trunk(TrunkEvent),
    /// TLS with this peer could not be agreed on; `why` is a word of `net::tls::HandshakeFault`.
    HandshakeFailed { peer: SocketAddr, why: &'static str },
    /// An address or a network is denied from now on, for so long.
    SourceDenied { network: IpNet, cause: DenialCause, span: std::time::Duration },
    /// An address or a network is denied no more before its time: by command, or because a trunk knows it by now.
    SourceAllowed { network: IpNet },
    /// The certificate of a trunk is valid for less than 30 days: so many whole ones.
    CertificateExpires { trunk: Arc<str>, subject: Arc<str>, days: u64 },
}

/// Who calls whom, as the INVITE says.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStart {
    pub call: CallId,
    pub caller: Number,
    pub called: Number,
    /// Name of the trunk that the INVITE came by.
    pub trunk: Arc<str>,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// Whose user the caller is and whose the callee, where their trunks are shared by tenants.
    pub tenants: [Option<Arc<str>>; 2],
}

/// A SIP message in a line.
#[derive(Clone, Debug, PartialEq)]
pub struct SipSummary {
    /// The leg it belongs to.
    pub side: Side,
    pub direction: Direction,
    pub line: StartLine,
    pub cseq: u32,
    /// Method of the CSeq header: what a response answers.
    pub method: Method,
    pub has_sdp: bool,
    /// Same message again: a retransmission, absorbed or sent.
    pub repeated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Received,
    Sent,
}

/// The start line without its URI, which holds a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine {
    Request,
    Response { status: u16 },
}

/// A method by name, cut to what the longest registered one needs; other than printable ASCII becomes `?`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method([u8; 9]);

/// The way that media takes on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datapath {
    /// XDP in the driver.
    Native,
    /// XDP in the kernel's generic hook, after the socket buffer was built.
    Generic,
    /// No XDP: the daemon relays over plain UDP sockets.
    Sockets,
    /// No media: the interface is gone, or one made anew refused the program.
    None,
}

/// What was negotiated for the first audio stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSummary {
    /// Encoding names by side, such as `PCMA/8000`.
    pub caller_codec: Arc<str>,
    pub callee_codec: Arc<str>,
    /// Media flows before the answer (RFC 3960).
    pub early: bool,
    /// One side or both closed its direction.
    pub held: bool,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferStep {
    /// The side's peer asked for it.
    Begun,
    /// The side has another peer.
    Done,
    /// The call goes on as it was; the SIP status says why.
    Failed(u16),
}

/// One dialog of a call that had more than two.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LegRecord {
    pub side: Side,
    /// Name of its trunk.
    pub trunk: Box<str>,
    pub peer: SocketAddr,
    pub sip_call_id: Box<str>,
    pub joined_by: JoinedBy,
    pub joined: Time,
    /// `None` for those that were there at the end.
    pub left: Option<Time>,
}

/// What brought a dialog into a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinedBy {
    /// The call began with it.
    #[default]
    Invite,
    /// A REFER of the side's peer before it.
    Refer,
    /// An INVITE with Replaces of its own.
    Replaces,
}

/// Everything a call detail record needs that the call knows. Times are those of the node's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct CallEnd {
    pub start: CallStart,
    pub started: Time,
    pub alerted: Option<Time>,
    pub answered: Option<Time>,
    /// SIP Call-ID of each leg, to find the call in other systems' records.
    pub caller_sip_call_id: Box<str>,
    pub callee_sip_call_id: Option<Box<str>>,
    /// Trace ids that the peers of each side gave, for their support.
    pub caller_trace_id: Option<Box<str>>,
    pub callee_trace_id: Option<Box<str>>,
    /// What an operator's core charges the call by (icid, RFC 7315).
    pub charging_id: Option<Box<str>>,
    /// Trunk and peer last tried.
    pub to_trunk: Option<Arc<str>>,
    pub peer: Option<SocketAddr>,
    pub peers_tried: u8,
    /// Final status of the INVITE as the caller saw it, 200 for answered calls.
    pub status: u16,
    /// Why it ended other than by hanging up.
    pub fault: Option<Fault>,
    /// Q.850 cause, of the fault or of the Reason header that a side sent.
    pub cause: u8,
    pub by: EndedBy,
    pub caller_codec: Option<Arc<str>>,
    pub callee_codec: Option<Arc<str>>,
    /// All dialogs of a call that was transferred, in the order in which they left; empty for other calls.
    pub legs: Vec<LegRecord>,
    /// Media heard from each side.
    pub from_caller: MediaQuality,
    pub from_callee: MediaQuality,
    /// What its far end said of the media that went to each side.
    pub to_caller: Option<FarEndQuality>,
    pub to_callee: Option<FarEndQuality>,
    /// How the media went; absent where there was none for as long as a sample takes.
    pub series: Option<Box<Series>>,
}

/// Who brought a call to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    Caller,
    Callee,
    Causeway,
}

impl SipSummary {
    /// Of a message as this gateway writes it: header names in full, no folded lines. `None` for other bytes.
    pub fn of_sent(side: Side, bytes: &[u8]) -> Option<Self> {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut lines = head.lines();
        let line = match lines.next()?.strip_prefix("SIP/2.0 ") {
            None => StartLine::Request,
            Some(status) => StartLine::Response { status: status.get(..3)?.parse().ok()? },
        };
        let (cseq, method) = lines.find_map(|line| line.strip_prefix("CSeq: "))?.split_once(' ')?;
        Some(Self {
            side,
            direction: Direction::Sent,
            line,
            cseq: cseq.parse().ok()?,
            method: Method::new(method.trim()),
            has_sdp: bytes.len() > end + 4,
            repeated: false,
        })
    }
}

impl Method {
    pub fn new(name: &str) -> Self {
        let mut text = [0; 9];
        for (slot, byte) in text.iter_mut().zip(name.bytes()) {
            *slot = if byte.is_ascii_graphic() { byte } else { b'?' };
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Datapath {
    pub const ALL: [Self; 4] = [Self::Native, Self::Generic, Self::Sockets, Self::None];

    /// Metric label and the word in logs and answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Sockets => "sockets",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event of each kind, for tests of subscribers. [`Event::kind`] makes the compiler ask for new ones.
#[cfg(test)]
pub(crate) mod samples {
    use super::super::path::RelayPath;
    use super::super::quality::PointQuality;
    use super::*;
    use std::time::Duration;

    pub(crate) const CALL: CallId = CallId(0x6741_0000_0000_0001);
    pub(crate) const KINDS: usize = 22;

    pub(crate) fn source() -> SocketAddr {
        "198.51.100.7:5060".parse().unwrap()
    }

    pub(crate) fn peer() -> SocketAddr {
        "203.0.113.9:5060".parse().unwrap()
    }

    pub(crate) fn start() -> CallStart {
        CallStart {
            call: CALL,
            caller: Number::new("+441632960123"),
            called: Number::new("+12025550147"),
            trunk: "operator".into(),
            source: source(),
            tenants: [None, Some("contoso".into())],
        }
    }

    pub(crate) fn sip(
        side: Side,
        direction: Direction,
        status: Option<u16>,
        method: &str,
        sdp: bool,
    ) -> SipSummary {
        SipSummary {
            side,
            direction,
            line: status.map_or(StartLine::Request, |status| StartLine::Response { status }),
            cseq: 1,
            method: Method::new(method),
            has_sdp: sdp,
            repeated: false,
        }
    }

    /// A minute that gets worse in its middle.
    pub(crate) fn series() -> Series {
        let mut series = Series::new(Time(4_000_000));
        for look in 0..12u32 {
            let bad = f64::from(6 - look.abs_diff(6)) / 6.0;
            let caller = PointQuality {
                loss: bad * 0.04,
                jitter_ms: 1.0 + bad * 25.0,
                mos: 4.4 - bad * 1.2,
                round_trip_ms: Some(42.0),
            };
            let callee = PointQuality { loss: 0.0, jitter_ms: 0.5, mos: 4.4, round_trip_ms: None };
            let callee = (look != 3).then_some(callee);
            series.look(Default::default(), [Some(caller), callee]);
        }
        series
    }

    pub(crate) fn end() -> CallEnd {
        let heard = MediaQuality {
            packets: 3_000,
            octets: 516_000,
            fast_path_packets: 3_000,
            relayed_by: Some(RelayPath::Kernel),
            lost: 3,
            late: 1,
            discarded: 0,
            concealed_ms: 0,
            jitter_ms: 1.25,
            round_trip_ms: Some(42.0),
            mos: Some(4.37),
        };
        CallEnd {
            start: start(),
            started: Time(1_000_000),
            alerted: Some(Time(1_250_000)),
            answered: Some(Time(4_000_000)),
            caller_sip_call_id: "a84b4c76e66710@198.51.100.7".into(),
            callee_sip_call_id: Some("5f1c-1@203.0.113.1".into()),
            caller_trace_id: Some("8711".into()),
            callee_trace_id: None,
            charging_id: Some("icid-1".into()),
            to_trunk: Some("teams".into()),
            peer: Some(peer()),
            peers_tried: 2,
            status: 200,
            fault: None,
            cause: 16,
            by: EndedBy::Callee,
            caller_codec: Some("PCMA/8000".into()),
            callee_codec: Some("PCMA/8000".into()),
            legs: Vec::new(),
            from_caller: heard,
            from_callee: MediaQuality {
                packets: 2_990,
                fast_path_packets: 2_989,
                round_trip_ms: None,
                ..heard
            },
            to_caller: Some(FarEndQuality { lost: 30, loss: 0.01, jitter_ms: 2.5, mos: Some(4.1) }),
            to_callee: None,
            series: Some(Box::new(series())),
        }
    }

    /// In an order that a call could have.
    pub(crate) fn all() -> Vec<Event> {
        let media = MediaSummary {
            caller_codec: "PCMA/8000".into(),
            callee_codec: "PCMA/8000".into(),
            early: false,
            held: false,
        };
        let invite = sip(Side::Caller, Direction::Received, None, "INVITE", true);
        let repeat = SipSummary { repeated: true, ..invite.clone() };
        let ringing = sip(Side::Caller, Direction::Sent, Some(180), "INVITE", false);
        let trunks = super::super::trunk::samples().into_iter().map(Event::Trunk);
        let adopted = CallStart { call: CallId(CALL.0 + 1), ..start() };
        let mut all = vec![
            Event::CallStarted(Box::new(start())),
            Event::CallAdopted {
                start: Box::new(adopted),
                started: Time(10),
                answered: Some(Time(20)),
                to: None,
            },
            Event::Sip { call: Some(CALL), message: invite },
            Event::Sip { call: Some(CALL), message: repeat },
            Event::Routed { call: CALL, trunk: "teams".into(), peer: source(), attempt: 1 },
            Event::Routed { call: CALL, trunk: "teams".into(), peer: peer(), attempt: 2 },
            Event::Sip {
                call: Some(CALL),
                message: sip(Side::Callee, Direction::Sent, None, "INVITE", true),
            },
            Event::Sip {
                call: Some(CALL),
                message: sip(Side::Callee, Direction::Received, Some(180), "INVITE", false),
            },
            Event::Sip { call: Some(CALL), message: ringing },
            Event::Alerted { call: CALL, since_invite: Duration::from_millis(250) },
            Event::Answered { call: CALL },
            Event::MediaPlanned { call: CALL, media },
            Event::Dtmf { call: CALL, from: Side::Caller, event: 5 },
            Event::Transfer { call: CALL, side: Side::Callee, step: TransferStep::Begun },
            Event::Transfer { call: CALL, side: Side::Callee, step: TransferStep::Failed(486) },
            Event::Transfer { call: CALL, side: Side::Callee, step: TransferStep::Done },
            Event::Ended(Box::new(end())),
            Event::Refused { fault: Fault::NoRoute, source: source() },
            Event::Silenced { source: source() },
            Event::ConfigReloaded { outcome: Ok(()) },
            Event::ConfigReloaded { outcome: Err("causeway.toml:3:1: no".into()) },
            Event::PathChanged { interface: "eth0".into(), path: Datapath::Generic },
            Event::DrainBegun { calls: 3 },
            Event::DrainEnded,
            Event::HandshakeFailed { peer: source(), why: "unknown_issuer" },
            Event::SourceDenied {
                network: source().ip().into(),
                cause: DenialCause::Operator,
                span: Duration::from_secs(600),
            },
            Event::SourceAllowed { network: source().ip().into() },
            Event::CallPanicked {
                call: CALL,
                place: "src/call/mod.rs:1:1".into(),
                message: "index out of bounds".into(),
            },
            Event::CertificateExpires {
                trunk: "service".into(),
                subject: "sbc.example.net".into(),
                days: 12,
            },
        ];
        all.extend(trunks);
        all
    }

    impl Event {
        /// Position of the variant, below [`KINDS`].
        pub(crate) fn kind(&self) -> usize {
            match self {
                Self::CallStarted(_) => 0,
                Self::CallAdopted { .. } => 1,
                Self::Sip { .. } => 2,
                Self::Routed { .. } => 3,
                Self::Alerted { .. } => 4,
                Self::Answered { .. } => 5,
                Self::MediaPlanned { .. } => 6,
                Self::Dtmf { .. } => 7,
                Self::Ended(_) => 8,
                Self::Refused { .. } => 9,
                Self::Silenced { .. } => 10,
                Self::ConfigReloaded { .. } => 11,
                Self::PathChanged { .. } => 12,
                Self::DrainBegun { .. } => 13,
                Self::DrainEnded => 14,
                Self::Trunk(_) => 15,
                Self::HandshakeFailed { .. } => 16,
                Self::CertificateExpires { .. } => 17,
                Self::Transfer { .. } => 18,
                Self::SourceDenied { .. } => 19,
                Self::SourceAllowed { .. } => 20,
                Self::CallPanicked { .. } => 21,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_samples_hold_every_kind_of_event() {
        let kinds: BTreeSet<_> = samples::all().iter().map(Event::kind).collect();
        assert_eq!(kinds.len(), samples::KINDS);
    }

    #[test]
    fn a_method_is_cut_and_cleaned() {
        assert_eq!(Method::new("SUBSCRIBE").as_str(), "SUBSCRIBE");
        assert_eq!(Method::new("SUBSCRIBEX").as_str(), "SUBSCRIBE");
        assert_eq!(Method::new("A\x1b[\u{e9}").as_str(), "A?[??");
    }

    #[test]
    fn a_message_that_was_written_is_summed_up_from_its_bytes() {
        let ringing = b"SIP/2.0 180 Ringing\r\nVia: x\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n";
        let summary = SipSummary::of_sent(Side::Caller, ringing).unwrap();
        let expected = samples::sip(Side::Caller, Direction::Sent, Some(180), "INVITE", false);
        assert_eq!(summary, SipSummary { cseq: 7, ..expected });
        let bye = b"INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n";
        let expected = samples::sip(Side::Callee, Direction::Sent, None, "INVITE", true);
        assert_eq!(SipSummary::of_sent(Side::Callee, bye), Some(expected));
        for cut in 0..ringing.len() - 1 {
            assert_eq!(SipSummary::of_sent(Side::Caller, &ringing[..cut]), None);
        }
    }

    #[test]
    fn no_event_prints_a_whole_number() {
        for event in samples::all() {
            let printed = format!("{event:?}");
            assert!(!printed.contains("1632960123") && !printed.contains("2025550147"), "{printed}");
        }
    }
}
