//! The call detail record: one JSON line per call, written once, by the core that ends the call.

use super::clock::WallClock;
use super::event::{CallEnd, EndedBy, JoinedBy};
use super::quality::{FarEndQuality, MediaQuality};
use crate::base::id::{CallId, Side};
use crate::base::time::Time;
use std::net::SocketAddr;

/// A record as it stands in the file; field names are the JSON keys. Times are RFC 3339 in UTC, durations
/// milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallRecord {
    /// Same number as in `causeway calls`, in hexadecimal.
    pub call: String,
    pub node: String,
    /// Calling and called number in full: this record is what they are kept for.
    pub caller: String,
    pub called: String,
    pub from_trunk: String,
    /// Absent when no route was found.
    pub to_trunk: Option<String>,
    /// Customers whose users the caller and the callee are; absent where their trunk is not shared by tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee_tenant: Option<String>,
    pub source: SocketAddr,
    pub peer: Option<SocketAddr>,
    pub peers_tried: u8,
    pub caller_sip_call_id: String,
    pub callee_sip_call_id: Option<String>,
    /// Trace ids by which the peers of each side find the call; absent where they gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_trace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callee_trace_id: Option<String>,
    /// icid of P-Charging-Vector (RFC 7315), as the operator's core gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charging_id: Option<String>,
    pub started_at: String,
    pub alerted_at: Option<String>,
    pub answered_at: Option<String>,
    pub ended_at: String,
    /// From the INVITE to the first ringing, or the answer when it came without.
    pub setup_ms: Option<u64>,
    /// From the answer to the end: what a call is charged by. 0 when it was never answered.
    pub duration_ms: u64,
    /// Final status of the INVITE as the caller saw it.
    pub sip_status: u16,
    /// Label of the fault that refused or ended the call; absent when somebody hung up.
    pub fault: Option<String>,
    /// Q.850.
    pub cause: u8,
    pub ended_by: EndedBy,
    pub caller_codec: Option<String>,
    pub callee_codec: Option<String>,
    /// All dialogs of a call that was transferred; absent for other calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegEntry>,
    pub from_caller: MediaQuality,
    pub from_callee: MediaQuality,
    /// The media that went to each side, as its far end said in RTCP; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_caller: Option<FarEndQuality>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_callee: Option<FarEndQuality>,
    /// RTP packets relayed by the kernel by all relayed, 0 to 1; absent without packets.
    pub fast_path_share: Option<f64>,
}

/// One dialog of a transferred call, as it stands in the file.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LegEntry {
    pub side: Side,
    pub trunk: String,
    pub peer: SocketAddr,
    pub sip_call_id: String,
    pub joined_by: JoinedBy,
    pub joined_at: String,
    /// The end of the call for those that were there then.
    pub left_at: String,
}

impl CallRecord {
    pub fn new(node: &str, end: &CallEnd, ended: Time, clock: &WallClock) -> Self {
        let span = |from: Time, to: Time| u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX);
        let text = |text: &std::sync::Arc<str>| text.to_string();
        Self {
            call: end.start.call.to_string(),
            node: node.to_owned(),
            caller: end.start.caller.reveal().to_owned(),
            called: end.start.called.reveal().to_owned(),
            from_trunk: text(&end.start.trunk),
            to_trunk: end.to_trunk.as_ref().map(text),
            caller_tenant: end.start.tenants[Side::Caller.index()].as_ref().map(text),
            callee_tenant: end.start.tenants[Side::Callee.index()].as_ref().map(text),
            source: end.start.source,
            peer: end.peer,
            peers_tried: end.peers_tried,
            caller_sip_call_id: end.caller_sip_call_id.to_string(),
            callee_sip_call_id: end.callee_sip_call_id.as_deref().map(str::to_owned),
            caller_trace_id: end.caller_trace_id.as_deref().map(str::to_owned),
            callee_trace_id: end.callee_trace_id.as_deref().map(str::to_owned),
            charging_id: end.charging_id.as_deref().map(str::to_owned),
            started_at: clock.rfc3339(end.started),
            alerted_at: end.alerted.map(|at| clock.rfc3339(at)),
            answered_at: end.answered.map(|at| clock.rfc3339(at)),
            ended_at: clock.rfc3339(ended),
            setup_ms: end.alerted.or(end.answered).map(|at| span(end.started, at)),
            duration_ms: end.answered.map_or(0, |at| span(at, ended)),
            sip_status: end.status,
            fault: end.fault.map(|fault| fault.label().to_owned()),
            cause: end.cause,
            ended_by: end.by,
            caller_codec: end.caller_codec.as_ref().map(text),
            callee_codec: end.callee_codec.as_ref().map(text),
            legs: end
                .legs
                .iter()
                .map(|leg| LegEntry {
                    side: leg.side,
                    trunk: leg.trunk.to_string(),
                    peer: leg.peer,
                    sip_call_id: leg.sip_call_id.to_string(),
                    joined_by: leg.joined_by,
                    joined_at: clock.rfc3339(leg.joined),
                    left_at: clock.rfc3339(leg.left.unwrap_or(ended)),
                })
                .collect(),
            from_caller: end.from_caller,
            from_callee: end.from_callee,
            to_caller: end.to_caller,
            to_callee: end.to_callee,
            fast_path_share: fast_path_share(&[end.from_caller, end.from_callee]),
        }
    }

    /// The line without its end.
    ///
    /// # Errors
    /// Only a number that JSON cannot hold, which no field here can be; serde decides.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    pub fn call_id(&self) -> Option<CallId> {
        self.call.parse().ok()
    }
}

fn fast_path_share(directions: &[MediaQuality]) -> Option<f64> {
    let packets: u64 = directions.iter().map(|direction| direction.packets).sum();
    let fast: u64 = directions.iter().map(|direction| direction.fast_path_packets).sum();
    // Six decimals tell one packet in a million, and read back as the same number.
    (packets > 0).then(|| (fast.min(packets) as f64 / packets as f64 * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::super::event::samples;
    use super::*;
    use crate::base::fault::Fault;
    use std::time::UNIX_EPOCH;

    fn record(end: &CallEnd) -> CallRecord {
        let clock = WallClock::new(Time::ZERO, UNIX_EPOCH);
        CallRecord::new("gw1", end, Time(64_000_000), &clock)
    }

    #[test]
    fn an_answered_call_is_charged_from_the_answer() {
        let record = record(&samples::end());
        assert_eq!(record.caller, "+441632960123");
        assert_eq!(record.started_at, "1970-01-01T00:00:01.000Z");
        assert_eq!(record.answered_at.as_deref(), Some("1970-01-01T00:00:04.000Z"));
        assert_eq!(record.setup_ms, Some(250));
        assert_eq!(record.duration_ms, 60_000);
        assert_eq!(record.fast_path_share, Some(0.999833));
        assert_eq!(record.call_id(), Some(samples::CALL));
    }

    #[test]
    fn a_failed_call_has_no_duration_and_names_its_fault() {
        let end = CallEnd {
            alerted: None,
            answered: None,
            status: 408,
            fault: Some(Fault::PeerTimeout),
            by: EndedBy::Causeway,
            from_caller: MediaQuality::default(),
            from_callee: MediaQuality::default(),
            ..samples::end()
        };
        let record = record(&end);
        assert_eq!((record.setup_ms, record.duration_ms), (None, 0));
        assert_eq!(record.fault.as_deref(), Some("peer_timeout"));
        assert_eq!(record.fast_path_share, None);
    }

    #[test]
    fn a_line_reads_back_as_the_same_record() {
        let record = record(&samples::end());
        let line = record.to_json().unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<CallRecord>(&line).unwrap(), record);
    }
}
