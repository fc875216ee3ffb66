//! A rule: of which messages it is, on what conditions, and what it does to them.

use super::action::Action;
use super::pattern::{Expansion, Pattern, Source, Template};
use super::subject::Subject;
use super::{Budget, LeftOut, RuleFault, Variables};
use crate::sip::message::{Method, StatusCode};
use std::ops::RangeInclusive;

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: Box<str>,
    /// `None` is for requests and responses.
    pub kind: Option<Kind>,
    /// Methods that it is for, those of the requests that responses answer; all when empty.
    pub methods: Vec<Method>,
    /// Responses that it is for; all messages when empty.
    pub statuses: Vec<StatusRange>,
    /// Requests inside a dialog only, or outside of any.
    pub in_dialog: Option<bool>,
    /// All of them have to hold.
    pub conditions: Vec<Condition>,
    pub actions: Vec<Action>,
    /// Rules behind this one do not run where it did.
    pub last: bool,
}

/// Which way messages go, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From a peer of the trunk to us.
    Receive,
    /// From us to a peer of the trunk.
    Send,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Request,
    Response,
}

/// Status codes: one of them or a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(RangeInclusive<u16>);

/// A condition: a test of the values of a source, or the contrary.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub source: Source,
    pub test: Test,
    pub not: bool,
}

/// Each but `Present(false)` holds if it holds of any value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Present(bool),
    /// Is one of these, letter by letter.
    Is(Vec<Template>),
    Matches(Pattern),
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is for other messages.
    Other,
    /// This condition, counted from 0, did not hold.
    Unmet(usize),
    /// It ran; with the actions that changed something, and those that were left out.
    Applied { changed: Vec<usize>, left_out: Vec<(usize, LeftOut)> },
    /// The rules before it did as much as one message may cost.
    Exhausted,
}

impl Outcome {
    pub fn changed(&self) -> bool {
        matches!(self, Self::Applied { changed, .. } if !changed.is_empty())
    }
}

impl Rule {
    pub(super) fn apply(
        &self,
        subject: &mut Subject<'_>,
        variables: &Variables<'_>,
        budget: &mut Budget,
    ) -> Outcome {
        if !self.is_for(subject) {
            return Outcome::Other;
        }
        let mut captured = Vec::new();
        for (at, condition) in self.conditions.iter().enumerate() {
            match condition.holds(subject, variables, &mut captured, budget) {
                Ok(true) => {}
                Ok(false) => return Outcome::Unmet(at),
                Err(LeftOut::Exhausted) => return Outcome::Exhausted,
                // Something that it compares with is not there.
                Err(_) => return Outcome::Unmet(at),
            }
        }
        let (mut changed, mut left_out) = (Vec::new(), Vec::new());
        for (at, action) in self.actions.iter().enumerate() {
            match action.run(subject, variables, &captured, budget) {
                Ok(true) => changed.push(at),
                Ok(false) => {}
                Err(why) => left_out.push((at, why)),
            }
        }
        Outcome::Applied { changed, left_out }
    }

    fn is_for(&self, subject: &Subject<'_>) -> bool {
        let kind = if subject.is_request() { Kind::Request } else { Kind::Response };
        let of_status = |status: StatusCode| self.statuses.iter().any(|range| range.contains(status));
        self.kind.is_none_or(|own| own == kind)
            && (self.methods.is_empty() || self.methods.contains(&subject.method))
            && (self.statuses.is_empty() || subject.status().is_some_and(of_status))
            && self.in_dialog.is_none_or(|inside| subject.is_request() && subject.is_in_dialog() == inside)
    }
}

impl Condition {
    /// Named groups of a pattern that matched go into `captured`.
    fn holds(
        &self,
        subject: &Subject<'_>,
        variables: &Variables<'_>,
        captured: &mut Vec<(String, String)>,
        budget: &mut Budget,
    ) -> Result<bool, LeftOut> {
        let values = self.source.values(subject, variables);
        budget.spend(values.iter().map(String::len).sum())?;
        let held = match &self.test {
            Test::Present(wanted) => values.is_empty() != *wanted,
            Test::Is(templates) => {
                let context = Expansion { subject, variables, captured };
                let mut held = false;
                for template in templates {
                    let text = match template.expand(&context, None, budget) {
                        Err(LeftOut::Absent) => continue,
                        other => other?,
                    };
                    held |= values.contains(&text);
                }
                held
            }
            Test::Matches(pattern) => {
                let mut held = false;
                for value in &values {
                    let Some(captures) = pattern.captures(value, budget)? else { continue };
                    let named =
                        pattern.names().filter_map(|name| Some((name, captures.name(name)?.as_str())));
                    captured.extend(named.map(|(name, text)| (name.to_owned(), text.to_owned())));
                    held = true;
                    break;
                }
                held
            }
        };
        Ok(held != self.not)
    }

    /// Names that it gives values to.
    pub fn captures(&self) -> Vec<String> {
        match &self.test {
            Test::Matches(pattern) if !self.not => pattern.names().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

impl StatusRange {
    /// `486`, or `4xx` for a class; a 100 is between neighbours and not for rules.
    pub fn parse(text: &str) -> Result<Self, RuleFault> {
        let wrong = || RuleFault::Status(text.to_owned());
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|class| (1..=6).contains(class)).ok_or_else(wrong)?;
            return Ok(Self((class * 100).max(101)..=class * 100 + 99));
        }
        if let Some(tens) = text.strip_suffix('x').filter(|tens| tens.len() == 2) {
            let tens: u16 = tens.parse().ok().filter(|tens| (10..=69).contains(tens)).ok_or_else(wrong)?;
            return Ok(Self((tens * 10).max(101)..=tens * 10 + 9));
        }
        let code = text.parse().ok().filter(|code| (101..=699).contains(code)).ok_or_else(wrong)?;
        Ok(Self(code..=code))
    }

    fn contains(&self, status: StatusCode) -> bool {
        self.0.contains(&status.code())
    }

    /// Whether a response of this range may become one of `code` and still mean the same to its transaction.
    pub(super) fn is_kin_of(&self, code: u16) -> bool {
        [101..=199, 200..=299, 300..=699].iter().any(|kin: &RangeInclusive<u16>| {
            kin.contains(&code) && kin.contains(self.0.start()) && kin.contains(self.0.end())
        })
    }
}
