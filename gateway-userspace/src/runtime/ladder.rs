//! Messages of calls as observers hear of them.

use super::core::Core;
use crate::base::id::{CallId, Side};
use crate::base::time::Time;
use crate::observe;
use crate::observe::event::{Direction, Method, SipSummary, StartLine};
use crate::sip::message::{Message, shallow};

/// A message that came in, if it is for a call.
pub(super) fn received(core: &Core, message: &Message) -> Option<(CallId, SipSummary)> {
    let head = message.head();
    let (call, side) = leg(core, &head.call_id)?;
    let line = match message {
        Message::Request(_) => StartLine::Request,
        Message::Response(response) => StartLine::Response { status: response.status.code() },
    };
    let summary = SipSummary {
        side,
        direction: Direction::Received,
        line,
        cseq: head.cseq.number,
        method: Method::new(head.cseq.method.as_str()),
        has_sdp: !message.body().is_empty(),
        repeated: false,
    };
    Some((call, summary))
}

/// Tells observers of a message that goes out, retransmissions included.
pub(super) fn sent(core: &mut Core, now: Time, bytes: &[u8], repeated: bool) {
    let Some(call_id) = shallow(bytes) else { return };
    let Ok(call_id) = std::str::from_utf8(call_id.as_bytes()) else { return };
    let Some((call, side)) = leg(core, call_id) else { return };
    if let Some(message) = SipSummary::of_sent(side, bytes) {
        let message = SipSummary { repeated, ..message };
        core.publish(now, &observe::Event::Sip { call: Some(call), message });
    }
}

fn leg(core: &Core, call_id: &str) -> Option<(CallId, Side)> {
    core.legs.get(call_id)?.first().copied()
}
