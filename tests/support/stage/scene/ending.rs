//! How a scenario ends, and what must hold after any of it.

use super::{Scene, setting};
use gateway_userspace::base::id::TrunkId;
use gateway_userspace::observe::cdr::CallRecord;
use gateway_userspace::policy::{Health, Snapshot, Trunk};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The longest that calls may take to end when nobody does anything any more.
const RUN_LIMIT: Duration = Duration::from_secs(3_600);

/// What is left when the curtain falls.
#[derive(Debug)]
pub struct Outcome {
    pub ladder: String,
    pub records: Vec<CallRecord>,
}

impl Scene {
    /// Lets everything come to its end, and checks what must hold after any scenario.
    pub fn ends(mut self) -> Outcome {
        self.stop_asking();
        let limit = self.now + RUN_LIMIT;
        while let Some(next) = self.next_event() {
            assert!(next <= limit, "the scenario never ends\n{}", self.ladder.join("\n"));
            self.now = self.now.max(next);
            self.step();
        }
        let ladder = self.ladder.join("\n");
        let records: Vec<_> = self.records.1.try_iter().collect();
        let mut broken = self.tap.broken_rules();
        let mut must = |holds: bool, rule: String| {
            if !holds {
                broken.push(rule);
            }
        };
        for phone in &self.phones {
            must(phone.is_idle() || phone.dead, format!("{} is still in a call", phone.name));
            if !self.stage.phones_may_complain {
                must(
                    phone.complaints.is_empty(),
                    format!("{} complains: {:?}", phone.name, phone.complaints),
                );
            }
        }
        for core in &self.cores {
            must(core.calls() == 0, format!("{} calls are left in a core", core.calls()));
            must(core.is_clear(), "something of an ended call is left in a core".to_owned());
            must(
                core.ports().usage().0 == 0,
                format!("{} ports were not given back", core.ports().usage().0),
            );
        }
        must(self.flows.is_empty(), format!("{} flows are left", self.flows.len()));
        must(self.checkpoints.is_empty(), format!("{} checkpoints are left", self.checkpoints.len()));
        let calls: HashSet<_> = records.iter().map(|record| record.call.clone()).collect();
        must(calls.len() == records.len(), "a call has two records".to_owned());
        let begun = self.tap.calls_begun();
        let (lost, written) = (self.lost, calls.len());
        must(written + lost == begun, format!("{begun} calls begun, {lost} lost, {written} records"));
        assert!(broken.is_empty(), "{}\n\n{ladder}", broken.join("\n"));
        Outcome { ladder, records }
    }

    /// Nobody is asked by OPTIONS any more: otherwise no scenario would come to its end.
    fn stop_asking(&mut self) {
        let quiet = |(_, trunk): (TrunkId, &Trunk)| Trunk { health: Health::default(), ..trunk.clone() };
        let trunks = self.policy.trunks().map(quiet).collect();
        let policy =
            Snapshot::new(trunks, setting::routes()).expect("the policy was sound").succeed(&self.policy);
        self.policy = Arc::new(policy);
        let (now, policy) = (self.now, Arc::clone(&self.policy));
        self.cores.iter_mut().for_each(|core| core.set_policy(now, Arc::clone(&policy)));
    }
}
