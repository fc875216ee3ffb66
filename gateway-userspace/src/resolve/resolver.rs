//! What was asked and answered, and when to ask again.

use super::procedure::{self, Known};
use super::{Outcome, Question, Records, Wanted};
use crate::base::time::Time;
use crate::policy::Resolved;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A record may live shorter; asking more often would only make the DNS slow.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

/// A name that is not there may be there in a moment (RFC 2308 section 5 leaves the bounds to us).
const SHORTEST_ABSENCE: Duration = Duration::from_secs(5);
const LONGEST_ABSENCE: Duration = Duration::from_secs(300);
const USUAL_ABSENCE: Duration = Duration::from_secs(60);

/// To the next try of a question that was not answered, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Names of dialogs that are looked up at once, and for how long each.
const MOST_LEARNED: usize = 256;
const LEARNED_FOR: Duration = Duration::from_secs(3_600);

/// What names mean, by what was wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(HashMap<Wanted, Vec<Resolved>>);

/// What was asked and answered.
#[derive(Debug, Default)]
pub struct Resolver {
    wanted: Vec<Wanted>,
    /// Names of dialogs, and until when they are looked up.
    learned: HashMap<Wanted, Time>,
    answers: HashMap<Question, Answer>,
    findings: Arc<Findings>,
    /// The findings are not those that were handed out last.
    changed: bool,
}

#[derive(Debug)]
struct Answer {
    /// `None` while there was never one.
    value: Option<Value>,
    /// When to ask again.
    until: Time,
    asking: bool,
    /// Failures in a row.
    failures: u32,
}

#[derive(Debug)]
enum Value {
    Records(Records),
    Nothing,
}

impl Findings {
    /// The addresses in force; `None` if the DNS has not said yet. An empty list is an answer, too.
    pub fn meaning(&self, wanted: &Wanted) -> Option<&[Resolved]> {
        self.0.get(wanted).map(Vec::as_slice)
    }
}

impl Resolver {
    /// Takes these in the place of what was wanted before. What is known of them is news, also if it was before.
    pub fn want(&mut self, wanted: Vec<Wanted>) {
        self.wanted = wanted;
        self.changed = true;
    }

    /// Wants one more for an hour, after which whoever needs it still will say so again. Only so many: peers choose
    /// these names.
    pub fn learn(&mut self, now: Time, wanted: Wanted) {
        if self.learned.len() < MOST_LEARNED {
            self.learned.insert(wanted, now + LEARNED_FOR);
        }
    }

    #[cfg(test)]
    pub(super) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Works out what is to be asked now. Each question is given out once until its outcome is told.
    pub fn poll(&mut self, now: Time) -> Vec<Question> {
        let mut used = BTreeSet::new();
        let mut findings = HashMap::new();
        self.learned.retain(|_, until| *until > now);
        for wanted in self.wanted.iter().chain(self.learned.keys()) {
            let mut look = |question: Question| {
                let known = self.answers.get(&question).map_or(Known::NotAsked, Answer::known);
                used.insert(question);
                known
            };
            let meaning = procedure::meaning(wanted, &mut look)
                .or_else(|| self.findings.meaning(wanted).map(<[Resolved]>::to_vec));
            findings.extend(meaning.map(|meaning| (wanted.clone(), meaning)));
        }
        if findings != self.findings.0 {
            self.findings = Arc::new(Findings(findings));
            self.changed = true;
        }
        self.answers.retain(|question, answer| answer.asking || used.contains(question));
        used.into_iter().filter(|question| self.take_up(question, now)).collect()
    }

    /// Notes what came of a question; [`Resolver::poll`] says what follows from it.
    pub fn answered(&mut self, now: Time, question: &Question, outcome: Outcome) {
        let Some(answer) = self.answers.get_mut(question) else { return };
        answer.asking = false;
        let (value, life) = match outcome {
            Outcome::Records { records, ttl } => {
                (Value::Records(records), ttl.clamp(SHORTEST_LIFE, LONGEST_LIFE))
            }
            Outcome::Nothing { ttl } => {
                (Value::Nothing, ttl.unwrap_or(USUAL_ABSENCE).clamp(SHORTEST_ABSENCE, LONGEST_ABSENCE))
            }
            // What was answered last goes on to count.
            Outcome::Failed => {
                let doubled = FIRST_RETRY.saturating_mul(1 << answer.failures.min(8));
                answer.failures += 1;
                answer.until = now + doubled.min(LONGEST_RETRY);
                return;
            }
        };
        *answer = Answer { value: Some(value), until: now + life, asking: false, failures: 0 };
    }

    /// When [`Resolver::poll`] has something to ask next, should no outcome be told before.
    pub fn next(&self) -> Option<Time> {
        self.answers.values().filter(|answer| !answer.asking).map(|answer| answer.until).min()
    }

    /// What names mean now, if that has changed since it was asked for.
    pub fn news(&mut self) -> Option<Arc<Findings>> {
        std::mem::take(&mut self.changed).then(|| Arc::clone(&self.findings))
    }

    /// Whether the question is due, and from now on asked.
    fn take_up(&mut self, question: &Question, now: Time) -> bool {
        let fresh = || Answer { value: None, until: now, asking: false, failures: 0 };
        let answer = self.answers.entry(question.clone()).or_insert_with(fresh);
        let due = !answer.asking && answer.until <= now;
        answer.asking |= due;
        due
    }
}

impl Answer {
    fn known(&self) -> Known<'_> {
        match (&self.value, self.failures) {
            (Some(Value::Records(records)), _) => Known::Records(records),
            (Some(Value::Nothing), _) => Known::Nothing,
            (None, 0) => Known::NotAsked,
            (None, _) => Known::Unanswered,
        }
    }
}
