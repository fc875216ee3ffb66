//! How a scenario ends, and what must hold after any of it.

use super::{Scene, setting};
use crate::stage::phone::Phone;
use crate::stage::weather::Weather;
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
        let broken = self.comes_to_its_end();
        let ladder = self.ladder.join("\n");
        assert!(broken.is_empty(), "{}\n\n{ladder}", broken.join("\n"));
        Outcome { ladder, records: self.written }
    }

    /// As [`Scene::ends`], and tells the rules that were broken.
    pub fn comes_to_its_end(&mut self) -> Vec<String> {
        self.stop_asking();
        let limit = self.now + RUN_LIMIT;
        while let Some(next) = self.next_event() {
            if next > limit {
                return vec!["the scenario never ends".to_owned()];
            }
            self.now = self.now.max(next);
            self.step();
        }
        self.written = self.records.1.try_iter().collect();
        let mut broken: Vec<_> = std::mem::take(&mut self.broken).into_iter().collect();
        broken.extend(self.tap.broken_rules());
        broken.extend(self.left_by_phones());
        broken.extend(self.left_by_cores());
        broken.extend(self.wrong_with_records());
        broken
    }

    fn left_by_phones(&self) -> Vec<String> {
        let in_call = self.phones.iter().filter(|phone| !phone.is_idle() && !phone.dead);
        let in_call = in_call.map(|phone| format!("{} is still in a call", phone.name));
        let wrongs = self.phones.iter().flat_map(|phone| &phone.wrongs).cloned();
        let known = |phone: &&Phone| phone.registrar.as_ref().is_some_and(|own| own.knows_somebody(self.now));
        // What is lost on its way takes nothing back; it ends by itself.
        let kept = self
            .phones
            .iter()
            .filter(known)
            .filter(|_| self.stage.weather == Weather::FAIR && self.restarts == 0);
        let kept = kept.map(|phone| format!("{} still knows the gateway", phone.name));
        let complains = |phone: &&Phone| !self.stage.phones_may_complain && !phone.complaints.is_empty();
        let complaints = self.phones.iter().filter(complains);
        in_call
            .chain(wrongs)
            .chain(kept)
            .chain(complaints.map(|phone| format!("{} complains: {:?}", phone.name, phone.complaints)))
            .collect()
    }

    fn left_by_cores(&self) -> Vec<String> {
        let mut left = Vec::new();
        for core in &self.cores {
            let ports = core.ports().usage().0;
            if core.calls() > 0 {
                left.push(format!("{} calls are left in a core", core.calls()));
            }
            if !core.is_clear() {
                left.push("something of an ended call is left in a core".to_owned());
            }
            if ports > 0 {
                left.push(format!("{ports} ports were not given back"));
            }
        }
        if !self.flows.is_empty() {
            left.push(format!("{} flows are left", self.flows.len()));
        }
        if !self.checkpoints.is_empty() {
            left.push(format!("{} checkpoints are left", self.checkpoints.len()));
        }
        left
    }

    fn wrong_with_records(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let calls: HashSet<_> = self.written.iter().map(|record| &record.call).collect();
        if calls.len() != self.written.len() {
            wrong.push("a call has two records".to_owned());
        }
        let begun = self.tap.calls_begun();
        let (lost, written) = (self.lost, calls.len());
        if written + lost != begun {
            wrong.push(format!("{begun} calls begun, {lost} lost, {written} records"));
        }
        let panics = self.panics + self.total("causeway_call_panics");
        if panics > self.fuses {
            wrong.push(format!("{panics} calls panicked, {} on purpose", self.fuses));
        }
        wrong
    }

    /// Nobody is asked by OPTIONS and nobody registered with any more: otherwise no scenario would come to its end.
    fn stop_asking(&mut self) {
        let quiet = |(_, trunk): (TrunkId, &Trunk)| Trunk {
            health: Health::default(),
            registration: None,
            ..trunk.clone()
        };
        let trunks = self.policy.trunks().map(quiet).collect();
        let policy =
            Snapshot::new(trunks, setting::routes()).expect("the policy was sound").succeed(&self.policy);
        self.policy = Arc::new(policy);
        let (now, policy) = (self.now, Arc::clone(&self.policy));
        self.cores.iter_mut().for_each(|core| core.set_policy(now, Arc::clone(&policy)));
    }
}
