//! What a rule does to a message.

use super::pattern::{Expansion, Pattern, Template};
use super::place::{HeaderPart, Place};
use super::rule::{Direction, Kind, StatusRange};
use super::session::{CodecChange, is_decimal, is_direction};
use super::subject::{Change, Subject};
use super::{Budget, LeftOut, RuleFault, Variables};
use crate::sip::message::HeaderName;

/// One action. Values that it is made with are filled from the message as it stands then.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// One more line.
    Add {
        place: Place,
        value: Template,
    },
    /// One value in the place of all, or the first one.
    Set {
        place: Place,
        value: Template,
    },
    /// All values, or those that match.
    Remove {
        place: Place,
        matching: Option<Pattern>,
    },
    /// Another name for all lines.
    Rename {
        from: HeaderName,
        to: HeaderName,
    },
    /// Each match in each value.
    Rewrite {
        place: Place,
        pattern: Pattern,
        with: Template,
    },
    /// The first value of one place as the value of another; of a whole header to a whole header, all lines.
    Copy {
        from: Place,
        to: Place,
    },
    Codecs {
        change: CodecChange,
        names: Vec<String>,
    },
}

/// Which messages a rule is for, as far as its actions depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Meant<'a> {
    pub direction: Direction,
    pub kind: Option<Kind>,
    pub statuses: &'a [StatusRange],
}

impl Action {
    /// What can be told of an action without a message.
    pub fn check(&self, meant: &Meant<'_>) -> Result<(), RuleFault> {
        match self {
            Self::Add { place, value } => {
                place.check_writable(meant.direction)?;
                if !place.is_list() {
                    return Err(RuleFault::NotAList(place.to_string()));
                }
                meant.check_there(place)?;
                check_value(place, value)
            }
            Self::Set { place, value } => {
                place.check_writable(meant.direction)?;
                meant.check_there(place)?;
                if *place == Place::Status {
                    meant.check_status(value)?;
                }
                check_value(place, value)
            }
            Self::Remove { place, .. } => {
                place.check_writable(meant.direction)?;
                meant.check_there(place)?;
                if place.is_removable() { Ok(()) } else { Err(RuleFault::NotRemovable(place.to_string())) }
            }
            Self::Rename { from, to } => [from, to].into_iter().try_for_each(|name| {
                Place::Header(name.clone(), HeaderPart::Whole).check_writable(meant.direction)
            }),
            Self::Rewrite { place, with, .. } => {
                place.check_writable(meant.direction)?;
                meant.check_there(place)?;
                if *place == Place::Status { meant.check_status(with) } else { Ok(()) }
            }
            Self::Copy { from, to } => {
                meant.check_there(from)?;
                to.check_writable(meant.direction)?;
                meant.check_there(to)?;
                // A status is set, never computed: what it may become depends on what it is.
                if *to == Place::Status { Err(RuleFault::ReadOnly(to.to_string())) } else { Ok(()) }
            }
            Self::Codecs { names, .. } => {
                let is_name =
                    |name: &String| !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
                match names.iter().find(|name| !is_name(name)) {
                    Some(name) => Err(RuleFault::BadName(name.clone())),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether it changed anything.
    pub(super) fn run(
        &self,
        subject: &mut Subject<'_>,
        variables: &Variables<'_>,
        captured: &[(String, String)],
        budget: &mut Budget,
    ) -> Result<bool, LeftOut> {
        budget.spend(0)?;
        let expand = |template: &Template, subject: &Subject<'_>, budget: &mut Budget| {
            template.expand(&Expansion { subject, variables, captured }, None, budget)
        };
        match self {
            Self::Add { place, value } => {
                let value = expand(value, subject, budget)?;
                subject.add(place, &value)
            }
            Self::Set { place, value } => {
                let value = expand(value, subject, budget)?;
                subject.set(place, &value)
            }
            Self::Remove { place, matching } => subject.edit(place, &mut |value| match matching {
                Some(pattern) if !pattern.is_match(value, budget)? => Ok(Change::Keep),
                Some(_) | None => Ok(Change::Remove),
            }),
            Self::Rename { from, to } => subject.rename(from, to),
            Self::Rewrite { place, pattern, with } => {
                let mut rewritten = Vec::new();
                for value in subject.values(place) {
                    let context = Expansion { subject, variables, captured };
                    let new = pattern
                        .replace(&value, budget, |own, budget| with.expand(&context, Some(own), budget))?;
                    rewritten.push((value, new));
                }
                // The same values come again, in the same order.
                let mut rewritten = rewritten.into_iter();
                subject.edit(place, &mut |value| match rewritten.next() {
                    Some((before, Some(new))) if before == value && new != value => Ok(Change::To(new)),
                    _ => Ok(Change::Keep),
                })
            }
            Self::Copy { from, to: Place::Header(name, HeaderPart::Whole) }
                if matches!(from, Place::Header(_, HeaderPart::Whole)) =>
            {
                subject.copy_lines(from, name)
            }
            Self::Copy { from, to } => {
                let value = subject.values(from).into_iter().next().ok_or(LeftOut::Absent)?;
                budget.spend(value.len())?;
                if value.chars().any(char::is_control) {
                    return Err(LeftOut::Invalid);
                }
                subject.set(to, &value)
            }
            Self::Codecs { change, names } => {
                subject.edit_session(|session| session.change_codecs(*change, names))
            }
        }
    }
}

impl Meant<'_> {
    fn check_there(&self, place: &Place) -> Result<(), RuleFault> {
        let (requests, responses) = place.is_in();
        let is_there = match self.kind {
            Some(Kind::Request) => requests,
            Some(Kind::Response) => responses,
            None if !self.statuses.is_empty() => responses,
            None => true,
        };
        if is_there { Ok(()) } else { Err(RuleFault::NeverThere(place.to_string())) }
    }

    /// A response stays provisional, a success or a failure (RFC 3261 section 17): its transaction has taken it for
    /// that already, or will.
    fn check_status(&self, value: &Template) -> Result<(), RuleFault> {
        let text = value.literal().ok_or_else(|| RuleFault::Status("a text with variables".to_owned()))?;
        let code: u16 = text
            .parse()
            .ok()
            .filter(|code| (101..=699).contains(code))
            .ok_or_else(|| RuleFault::Status(text.to_owned()))?;
        if self.statuses.is_empty() {
            return Err(RuleFault::StatusOfAny);
        }
        if self.statuses.iter().all(|range| range.is_kin_of(code)) {
            Ok(())
        } else {
            Err(RuleFault::StatusKind(code))
        }
    }
}

fn check_value(place: &Place, value: &Template) -> Result<(), RuleFault> {
    let Some(text) = value.literal() else { return Ok(()) };
    let fits = match place {
        Place::Direction => is_direction(text),
        Place::Bandwidth(_) => is_decimal(text),
        Place::Attribute(name) if matches!(&**name, "ptime" | "maxptime") => is_decimal(text) && text != "0",
        _ => true,
    };
    if fits { Ok(()) } else { Err(RuleFault::Value(text.to_owned())) }
}
