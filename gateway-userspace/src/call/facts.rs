//! What the call detail record needs, gathered as the call goes on.

use super::feature::correlation;
use super::leg::Leg;
use crate::base::fault::Fault;
use crate::base::id::Side;
use crate::base::time::Time;
use crate::observe::event::{CallEnd, CallStart, EndedBy, JoinedBy, LegRecord};
use crate::observe::quality::MediaQuality;
use crate::policy::{Permit, Trunk};
use crate::sip::message::Headers;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) start: CallStart,
    pub(super) started: Time,
    pub(super) alerted: Option<Time>,
    pub(super) answered: Option<Time>,
    pub(super) to_trunk: Option<Arc<str>>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) peers_tried: u8,
    /// Of the INVITE sent last.
    pub(super) callee_sip_call_id: Option<Box<str>>,
    pub(super) charging_id: Option<Box<str>>,
    /// Of the caller's and of the callee's side.
    pub(super) trace_ids: [Option<Box<str>>; 2],
    pub(super) concluded: bool,
    /// Of both trunks, until the call has ended.
    pub(super) permits: [Option<Permit>; 2],
    /// Of the tenants on either side, as long.
    pub(super) of_tenants: [Option<Permit>; 2],
    /// A Call-ID that names the core of a call whose own do not any more: those of dialogs that joined it are anybody's.
    pub(super) home: Option<Box<str>>,
    /// By side, what brought the dialog that stands there, and when.
    pub(super) joined: [Option<(JoinedBy, Time)>; 2],
    /// Dialogs that other ones have taken the place of.
    pub(super) departed: Vec<LegRecord>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) by: EndedBy,
    /// As the caller saw it: 200 for answered calls.
    pub(super) status: u16,
    pub(super) fault: Option<Fault>,
    pub(super) cause: u8,
}

/// Q.850: normal call clearing.
const NORMAL_CLEARING: u8 = 16;

impl Ending {
    /// A side hung up an answered call, and may have said why.
    pub(super) fn hung_up(side: Side, cause: Option<u8>) -> Self {
        let by = match side {
            Side::Caller => EndedBy::Caller,
            Side::Callee => EndedBy::Callee,
        };
        Self { by, status: 200, fault: None, cause: cause.unwrap_or(NORMAL_CLEARING) }
    }

    /// The callee, or what stands in front of it, refused.
    pub(super) fn refused(status: u16, cause: Option<u8>) -> Self {
        Self { by: EndedBy::Callee, status, fault: None, cause: cause.unwrap_or_else(|| cause_of(status)) }
    }

    /// We ended it; `answered` calls keep the status that their caller saw.
    pub(super) fn fault(fault: Fault, answered: bool) -> Self {
        let by = if fault == Fault::Cancelled { EndedBy::Caller } else { EndedBy::Causeway };
        let status = if answered { 200 } else { fault.status() };
        Self { by, status, fault: Some(fault), cause: fault.cause() }
    }
}

impl Facts {
    pub(super) fn new(start: CallStart, started: Time) -> Self {
        Self {
            start,
            started,
            alerted: None,
            answered: None,
            to_trunk: None,
            peer: None,
            peers_tried: 0,
            callee_sip_call_id: None,
            charging_id: None,
            trace_ids: [None, None],
            concluded: false,
            permits: [None, None],
            of_tenants: [None, None],
            home: None,
            joined: [None; 2],
            departed: Vec::new(),
        }
    }

    /// The dialog with `side` is another one from now on.
    pub(super) fn replaced(&mut self, side: Side, old: &Leg, by: JoinedBy, permit: Permit, now: Time) {
        let record = LegRecord { left: Some(now), ..self.leg_record(side, old) };
        self.departed.push(record);
        self.joined[side.index()] = Some((by, now));
        self.permits[side.index()] = Some(permit);
    }

    /// All dialogs of a call that was transferred; none of others.
    pub(super) fn legs(&self, caller: &Leg, callee: Option<&Leg>) -> Vec<LegRecord> {
        if self.departed.is_empty() {
            return Vec::new();
        }
        let last = [(Side::Caller, Some(caller)), (Side::Callee, callee)];
        let last = last.into_iter().filter_map(|(side, leg)| Some(self.leg_record(side, leg?)));
        self.departed.iter().cloned().chain(last).collect()
    }

    fn leg_record(&self, side: Side, leg: &Leg) -> LegRecord {
        let (joined_by, joined) =
            self.joined[side.index()].unwrap_or((JoinedBy::Invite, self.answered.unwrap_or(self.started)));
        LegRecord {
            side,
            trunk: leg.trunk.name.as_str().into(),
            peer: leg.hop.remote,
            sip_call_id: leg.dialog.call_id().into(),
            joined_by,
            joined,
            left: None,
        }
    }

    /// Notes what a message calls the call by; what came first counts.
    pub(super) fn heard_from(&mut self, side: Side, headers: &Headers, trunk: &Trunk) {
        let [caller, callee] = &mut self.trace_ids;
        let known = match side {
            Side::Caller => caller,
            Side::Callee => callee,
        };
        if known.is_none() {
            *known = correlation::trace_id(headers, trunk);
        }
        if self.charging_id.is_none() {
            let vector = correlation::charging_vector(headers, trunk);
            self.charging_id = vector.and_then(|vector| correlation::icid(&vector));
        }
    }

    /// The record, without what only the legs and the data plane know.
    pub(super) fn end(&self, ending: Ending) -> CallEnd {
        CallEnd {
            start: self.start.clone(),
            started: self.started,
            alerted: self.alerted,
            answered: self.answered,
            caller_sip_call_id: Box::default(),
            callee_sip_call_id: self.callee_sip_call_id.clone(),
            caller_trace_id: self.trace_ids[0].clone(),
            callee_trace_id: self.trace_ids[1].clone(),
            charging_id: self.charging_id.clone(),
            to_trunk: self.to_trunk.clone(),
            peer: self.peer,
            peers_tried: self.peers_tried,
            status: ending.status,
            fault: ending.fault,
            cause: ending.cause,
            by: ending.by,
            caller_codec: None,
            callee_codec: None,
            legs: Vec::new(),
            from_caller: MediaQuality::default(),
            from_callee: MediaQuality::default(),
            to_caller: None,
            to_callee: None,
            series: None,
        }
    }
}

/// The Q.850 cause that a SIP status stands for (RFC 3398 section 8.2.6.1; 127 where it gives none).
fn cause_of(status: u16) -> u8 {
    match status {
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 604 => 1,
        405 | 481 | 500 | 501 => 41,
        406 | 415 | 416 | 420 | 421 | 488 | 606 => 79,
        408 | 504 => 102,
        410 => 22,
        480 => 18,
        482 | 483 => 25,
        484 => 28,
        485 => 1,
        486 | 600 => 17,
        487 => NORMAL_CLEARING,
        502 => 38,
        503 => 41,
        _ => 127,
    }
}
