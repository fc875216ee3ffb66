//! The calls of one core as people ask for them: those in progress and the last that ended, each with its
//! ladder.

use super::cdr::CallRecord;
use super::clock::WallClock;
use super::event::{CallStart, Event};
use super::ladder::{Ladder, Rung, Step};
use super::quality::{CallMedia, Series};
use crate::base::id::CallId;
use crate::base::redact::Number;
use crate::base::time::Time;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// Calls in progress, and the last that ended.
#[derive(Debug)]
pub struct Calls {
    live: HashMap<CallId, Call>,
    ended: VecDeque<Call>,
    keep_ended: usize,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// INVITE received, nothing but 100 sent.
    Setup,
    Ringing,
    Answered,
    Ended,
}

impl Progress {
    /// As in JSON and queries.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Ended => "ended",
        }
    }
}

/// One call in a list. Numbers are masked.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallSummary {
    pub call: String,
    pub progress: Progress,
    pub caller: String,
    pub called: String,
    pub from_trunk: String,
    pub to_trunk: Option<String>,
    pub peer: Option<SocketAddr>,
    pub started_at: String,
    /// Since the INVITE; of an ended call, until its end.
    pub age_ms: u64,
    /// Since the answer; of an ended call, until its end.
    pub talk_ms: Option<u64>,
    pub caller_codec: Option<String>,
    pub callee_codec: Option<String>,
    pub held: bool,
}

/// One call in full.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CallDetail {
    pub summary: CallSummary,
    pub ladder: Vec<Rung>,
    /// Of an ended call; its numbers are masked here.
    pub record: Option<CallRecord>,
    /// Absent before there is any.
    #[serde(default)]
    pub media: Option<CallMedia>,
}

#[derive(Debug)]
struct Call {
    start: CallStart,
    started: Time,
    alerted: bool,
    answered: Option<Time>,
    routed: Option<(Arc<str>, SocketAddr)>,
    codecs: Option<(Arc<str>, Arc<str>)>,
    held: bool,
    ladder: Ladder,
    ended: Option<Box<Ended>>,
}

/// What is kept of a call that ended.
#[derive(Debug)]
struct Ended {
    at: Time,
    record: CallRecord,
    series: Option<Box<Series>>,
}

impl Calls {
    /// Keeps the last `keep_ended` calls that ended.
    pub fn new(keep_ended: usize) -> Self {
        Self { live: HashMap::new(), ended: VecDeque::new(), keep_ended }
    }

    /// Calls in progress.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// At most `limit` summaries of calls that `wanted` accepts: in progress, oldest first, then ended,
    /// latest first.
    pub fn list(
        &self,
        now: Time,
        clock: &WallClock,
        limit: usize,
        wanted: impl Fn(&CallSummary) -> bool,
    ) -> Vec<CallSummary> {
        let mut live: Vec<_> = self.live.values().collect();
        live.sort_unstable_by_key(|call| (call.started, call.start.call));
        live.into_iter()
            .chain(self.ended.iter().rev())
            .map(|call| call.summary(now, clock))
            .filter(wanted)
            .take(limit)
            .collect()
    }

    pub fn detail(&self, call: CallId, now: Time, clock: &WallClock) -> Option<CallDetail> {
        let ended = || self.ended.iter().rev().find(|ended| ended.start.call == call);
        let call = self.live.get(&call).or_else(ended)?;
        let mask = |number: &Number| number.to_string();
        let ended = call.ended.as_deref();
        let record = ended.map(|ended| CallRecord {
            caller: mask(&call.start.caller),
            called: mask(&call.start.called),
            ..CallRecord::clone(&ended.record)
        });
        Some(CallDetail {
            summary: call.summary(now, clock),
            ladder: call.ladder.rungs(call.started),
            record,
            media: ended.map(|ended| ended.media(call.started)),
        })
    }

    pub(super) fn observe(&mut self, now: Time, event: &Event) {
        match event {
            Event::CallStarted(start) => {
                self.live.insert(start.call, Call::new(CallStart::clone(start), now));
            }
            Event::CallAdopted { start, started, answered, to } => {
                let mut call = Call::new(CallStart::clone(start), *started);
                call.alerted = answered.is_some();
                call.answered = *answered;
                call.routed.clone_from(to);
                call.ladder.push(now, Step::Adopted);
                self.live.insert(start.call, call);
            }
            Event::Sip { call: Some(call), message } => self.with(*call, |call| {
                call.ladder.push(now, message.into());
            }),
            Event::Routed { call, trunk, peer, attempt } => self.with(*call, |call| {
                call.routed = Some((trunk.clone(), *peer));
                call.ladder.push(now, Step::Routed { trunk: trunk.clone(), peer: *peer, attempt: *attempt });
            }),
            Event::Alerted { call, .. } => self.with(*call, |call| call.alerted = true),
            Event::Answered { call } => self.with(*call, |call| call.answered = Some(now)),
            Event::MediaPlanned { call, media } => self.with(*call, |call| {
                call.codecs = Some((media.caller_codec.clone(), media.callee_codec.clone()));
                call.held = media.held;
                call.ladder.push(now, media.into());
            }),
            Event::Transfer { call, side, step } => self.with(*call, |call| {
                call.ladder.push(now, Step::Transfer { side: *side, step: *step });
            }),
            Event::Dtmf { call, from, .. } => self.with(*call, |call| {
                call.ladder.push(now, Step::Dtmf { from: *from });
            }),
            // The end of the call follows it.
            Event::CallPanicked { .. }
            // `end` has the record that this call is kept with.
            | Event::Ended(_)
            | Event::Sip { call: None, .. }
            | Event::Refused { .. }
            | Event::Silenced { .. }
            | Event::ConfigReloaded { .. }
            | Event::PathChanged { .. }
            | Event::DrainBegun { .. }
            | Event::HandshakeFailed { .. }
            | Event::SourceDenied { .. }
            | Event::SourceAllowed { .. }
            | Event::CertificateExpires { .. }
            | Event::DrainEnded
            | Event::Trunk(_) => {}
        }
    }

    /// Moves a call to those that ended.
    pub(super) fn end(
        &mut self,
        now: Time,
        id: CallId,
        step: Step,
        record: CallRecord,
        series: Option<Box<Series>>,
    ) {
        let Some(mut call) = self.live.remove(&id) else { return };
        call.ladder.push(now, step);
        call.ladder.shrink();
        call.ended = Some(Box::new(Ended { at: now, record, series }));
        if self.keep_ended == 0 {
            return;
        }
        if self.ended.len() >= self.keep_ended {
            self.ended.pop_front();
        }
        self.ended.push_back(call);
    }

    fn with(&mut self, id: CallId, change: impl FnOnce(&mut Call)) {
        // Messages still go to and fro after the end: the 200 to a BYE, repeats.
        if let Some(call) = self.live.get_mut(&id) {
            change(call);
        } else if let Some(call) = self.ended.iter_mut().rev().find(|call| call.start.call == id) {
            change(call);
        }
    }
}

impl Ended {
    fn media(&self, started: Time) -> CallMedia {
        CallMedia {
            from_caller: self.record.from_caller,
            from_callee: self.record.from_callee,
            to_caller: self.record.to_caller,
            to_callee: self.record.to_callee,
            samples: self.series.as_ref().map(|series| series.points(started)).unwrap_or_default(),
        }
    }
}

impl Call {
    fn new(start: CallStart, started: Time) -> Self {
        Self {
            start,
            started,
            alerted: false,
            answered: None,
            routed: None,
            codecs: None,
            held: false,
            ladder: Ladder::default(),
            ended: None,
        }
    }

    fn progress(&self) -> Progress {
        match (&self.ended, self.answered, self.alerted) {
            (Some(_), _, _) => Progress::Ended,
            (None, Some(_), _) => Progress::Answered,
            (None, None, true) => Progress::Ringing,
            (None, None, false) => Progress::Setup,
        }
    }

    fn summary(&self, now: Time, clock: &WallClock) -> CallSummary {
        let until = self.ended.as_ref().map_or(now, |ended| ended.at);
        let span = |from: Time| u64::try_from(until.since(from).as_millis()).unwrap_or(u64::MAX);
        CallSummary {
            call: self.start.call.to_string(),
            progress: self.progress(),
            caller: self.start.caller.to_string(),
            called: self.start.called.to_string(),
            from_trunk: self.start.trunk.to_string(),
            to_trunk: self.routed.as_ref().map(|(trunk, _)| trunk.to_string()),
            peer: self.routed.as_ref().map(|(_, peer)| *peer),
            started_at: clock.rfc3339(self.started),
            age_ms: span(self.started),
            talk_ms: self.answered.map(span),
            caller_codec: self.codecs.as_ref().map(|(caller, _)| caller.to_string()),
            callee_codec: self.codecs.as_ref().map(|(_, callee)| callee.to_string()),
            held: self.held,
        }
    }
}
