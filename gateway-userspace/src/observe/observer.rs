//! The one subscriber a core talks to; it hands each event to the others in turn.

use super::calls::{CallDetail, CallSummary, Calls};
use super::cdr::CallRecord;
use super::clock::WallClock;
use super::event::{CallEnd, Event};
use super::ladder::Step;
use super::log::log;
use super::metrics::CoreMetrics;
use super::offence::Offence;
use super::sources::{SilencedSource, Sources};
use crate::base::id::CallId;
use crate::base::time::Time;
use crossbeam::channel::{Sender, TrySendError};
use std::net::IpAddr;
use std::sync::Arc;

/// What all observers of a node share.
#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// Name of the node, for records.
    pub node: Arc<str>,
    pub clock: WallClock,
    /// Ended calls that a core keeps for `causeway call`.
    pub keep_ended: usize,
    /// Where call detail records go: a bounded queue to whoever writes them.
    pub records: Sender<CallRecord>,
    /// Where offences go: a bounded queue to whoever counts them. What does not fit is not counted: there are more.
    pub offences: Sender<(IpAddr, Offence)>,
}

/// Subscribers of one core. Owned by it; nothing here waits.
#[derive(Debug)]
pub struct Observer {
    settings: ObserverSettings,
    metrics: Arc<CoreMetrics>,
    calls: Calls,
    sources: Sources,
    records_lost: u64,
}

impl Observer {
    pub fn new(settings: ObserverSettings, metrics: Arc<CoreMetrics>) -> Self {
        let calls = Calls::new(settings.keep_ended);
        Self { settings, metrics, calls, sources: Sources::default(), records_lost: 0 }
    }

    /// Tells all subscribers that `event` happened at `now`.
    pub fn publish(&mut self, now: Time, event: &Event) {
        log(event);
        self.metrics.observe(event);
        self.calls.observe(now, event);
        if let Some(offence) = Offence::of(event) {
            let _ = self.settings.offences.try_send(offence);
        }
        match event {
            Event::Ended(end) => self.record(now, end),
            Event::Silenced { source } => self.sources.count(source.ip()),
            _ => {}
        }
        self.metrics.set_calls(self.calls.len());
    }

    /// See [`Calls::list`].
    pub fn calls(&self, now: Time, limit: usize, wanted: impl Fn(&CallSummary) -> bool) -> Vec<CallSummary> {
        self.calls.list(now, &self.settings.clock, limit, wanted)
    }

    pub fn call(&self, call: CallId, now: Time) -> Option<CallDetail> {
        self.calls.detail(call, now, &self.settings.clock)
    }

    pub fn clock(&self) -> WallClock {
        self.settings.clock
    }

    pub fn silenced(&self) -> Vec<SilencedSource> {
        self.sources.list()
    }

    fn record(&mut self, now: Time, end: &CallEnd) {
        let record = CallRecord::new(&self.settings.node, end, now, &self.settings.clock);
        let step = Step::Ended { by: end.by, fault: end.fault };
        self.calls.end(now, end.start.call, step, record.clone(), end.series.clone());
        match self.settings.records.try_send(record) {
            Ok(()) => self.metrics.record_sent(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.record_lost();
                // A lost record is lost money: shouted at once, and again each time the count doubles.
                self.records_lost += 1;
                if self.records_lost.is_power_of_two() {
                    tracing::error!(
                        lost = self.records_lost,
                        "call detail records are lost: the disk or directory of [cdr] path is too slow or full"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::Progress;
    use super::super::event::samples;
    use super::*;
    use crossbeam::channel::{Receiver, bounded};
    use std::time::UNIX_EPOCH;

    fn observer(queue: usize) -> (Observer, Arc<CoreMetrics>, Receiver<CallRecord>) {
        let (records, received) = bounded(queue);
        let metrics = Arc::new(CoreMetrics::default());
        let settings = ObserverSettings {
            node: "gw1".into(),
            clock: WallClock::new(Time::ZERO, UNIX_EPOCH),
            keep_ended: 1,
            records,
            offences: bounded(0).0,
        };
        (Observer::new(settings, metrics.clone()), metrics, received)
    }

    #[test]
    fn a_call_is_listed_from_its_invite_until_it_is_pushed_out_of_the_ended_ones() {
        let (mut observer, _, received) = observer(4);
        observer.publish(Time(1_000_000), &Event::CallStarted(Box::new(samples::start())));
        let listed = observer.calls(Time(1_500_000), 10, |_| true);
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].progress, listed[0].age_ms), (Progress::Setup, 500));
        assert_eq!(listed[0].called, "+********147");

        observer.publish(Time(61_000_000), &Event::Ended(Box::new(samples::end())));
        assert_eq!(received.try_recv().unwrap().caller, "+441632960123");
        let detail = observer.call(samples::CALL, Time(99_000_000)).unwrap();
        assert_eq!(detail.summary.progress, Progress::Ended);
        assert_eq!(detail.summary.age_ms, 60_000);
        assert_eq!(detail.record.unwrap().caller, "+*********123");
        assert_eq!(detail.ladder.last().unwrap().text, "ended by callee");

        let next = CallId(samples::CALL.0 + 1);
        let start = super::super::event::CallStart { call: next, ..samples::start() };
        let end = CallEnd { start: start.clone(), ..samples::end() };
        observer.publish(Time(62_000_000), &Event::CallStarted(Box::new(start)));
        observer.publish(Time(63_000_000), &Event::Ended(Box::new(end)));
        assert!(observer.call(samples::CALL, Time(63_000_000)).is_none());
        assert!(observer.call(next, Time(63_000_000)).is_some());
    }

    #[test]
    fn a_record_that_finds_the_queue_full_is_counted_as_lost() {
        let (mut observer, metrics, received) = observer(1);
        for _ in 0..3 {
            observer.publish(Time(0), &Event::Ended(Box::new(samples::end())));
        }
        assert_eq!(received.len(), 1);
        assert_eq!(metrics.total("causeway_call_records_lost"), 2);
    }

    #[test]
    fn no_answer_of_the_observer_shows_a_whole_number() {
        let (mut observer, _, _received) = observer(4);
        for event in samples::all() {
            observer.publish(Time(5_000_000), &event);
        }
        let list = serde_json::to_string(&observer.calls(Time(9), 10, |_| true)).unwrap();
        let detail = serde_json::to_string(&observer.call(samples::CALL, Time(9)).unwrap()).unwrap();
        for text in [list, detail] {
            assert!(!text.contains("1632960123") && !text.contains("2025550147"), "{text}");
        }
    }
}
