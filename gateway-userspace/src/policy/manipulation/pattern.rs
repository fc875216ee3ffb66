//! Regular expressions that take time in proportion to the text, and text with variables in it.

use super::fault::RuleFault;
use super::place::Place;
use super::subject::Subject;
use super::{Budget, LeftOut, MAX_TEXT, Variables};
use regex::{Captures, Regex, RegexBuilder};

/// Octets of a pattern.
pub(super) const MAX_PATTERN: usize = 512;
/// Octets that a compiled pattern, and the state it builds while it runs, may take.
const MAX_MACHINE: usize = 256 * 1024;
/// Brackets in brackets.
const MAX_NESTING: u32 = 32;

/// A regular expression without back-references: linear in the text.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    pub fn new(text: &str) -> Result<Self, RuleFault> {
        if text.len() > MAX_PATTERN {
            return Err(RuleFault::LongPattern(text.len()));
        }
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(MAX_MACHINE).dfa_size_limit(MAX_MACHINE).nest_limit(MAX_NESTING);
        builder.build().map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RuleFault::LargePattern,
            // The last line says what is wrong; those before it draw the pattern.
            other => {
                let told = other.to_string();
                let last = told.lines().last().unwrap_or_default().trim();
                RuleFault::Pattern(last.strip_prefix("error: ").unwrap_or(last).to_owned())
            }
        })
    }

    pub(super) fn is_match(&self, text: &str, budget: &mut Budget) -> Result<bool, LeftOut> {
        budget.spend(text.len())?;
        Ok(self.0.is_match(text))
    }

    pub(super) fn captures<'t>(
        &self,
        text: &'t str,
        budget: &mut Budget,
    ) -> Result<Option<Captures<'t>>, LeftOut> {
        budget.spend(text.len())?;
        Ok(self.0.captures(text))
    }

    /// `text` with each match replaced; `None` if there is none.
    pub(super) fn replace(
        &self,
        text: &str,
        budget: &mut Budget,
        mut with: impl FnMut(&Captures<'_>, &mut Budget) -> Result<String, LeftOut>,
    ) -> Result<Option<String>, LeftOut> {
        budget.spend(text.len())?;
        let mut replaced: Option<String> = None;
        let mut copied = 0;
        for captures in self.0.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            let out = replaced.get_or_insert_default();
            out.push_str(&text[copied..whole.start()]);
            out.push_str(&with(&captures, budget)?);
            copied = whole.end();
            if out.len() > MAX_TEXT {
                return Err(LeftOut::TooLarge);
            }
        }
        if let Some(out) = &mut replaced {
            out.push_str(&text[copied..]);
        }
        Ok(replaced)
    }

    /// Names of its groups.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.capture_names().flatten()
    }

    fn groups(&self) -> usize {
        self.0.captures_len()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Something of the message or of the call that has values.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Place(Place),
    /// The name of the trunk.
    Trunk,
    /// The number that calls.
    Calling,
    /// The number that is called.
    Called,
}

impl Source {
    /// `calling`, `called`, `trunk` or a part of the message.
    pub fn parse(text: &str) -> Result<Self, RuleFault> {
        Ok(match text {
            "trunk" => Self::Trunk,
            "calling" => Self::Calling,
            "called" => Self::Called,
            place => Self::Place(Place::parse(place)?),
        })
    }

    /// All values that are there.
    pub(super) fn values(&self, subject: &Subject<'_>, variables: &Variables<'_>) -> Vec<String> {
        let one = |value: Option<&str>| value.map(str::to_owned).into_iter().collect();
        match self {
            Self::Place(place) => subject.values(place),
            Self::Trunk => vec![variables.trunk.to_owned()],
            Self::Calling => one(variables.calling),
            Self::Called => one(variables.called),
        }
    }
}

/// Text in which `${name}` and `$1` stand for something of the message, and `$$` for a dollar sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// A group of the pattern that is being replaced.
    Group(usize),
    /// A named group of a pattern.
    Capture(String),
    Source(Source),
}

/// What the names in a template can mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// Variables of the trunk.
    pub variables: &'a [(String, String)],
    /// Named groups of the rule's conditions.
    pub captures: &'a [String],
    /// The pattern whose matches the template replaces.
    pub pattern: Option<&'a Pattern>,
}

impl Template {
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, RuleFault> {
        if text.len() > MAX_TEXT {
            return Err(RuleFault::LongText(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(RuleFault::Control);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            put_text(&mut pieces, &rest[..dollar]);
            let behind = &rest[dollar + 1..];
            if let Some(after) = behind.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(RuleFault::OpenBrace)?;
                scope.name(name.trim(), &mut pieces)?;
                rest = after;
            } else if let Some(digit) = behind.chars().next().filter(char::is_ascii_digit) {
                scope.name(digit.encode_utf8(&mut [0; 4]), &mut pieces)?;
                rest = &behind[1..];
            } else {
                put_text(&mut pieces, "$");
                rest = behind.strip_prefix('$').unwrap_or(behind);
            }
        }
        put_text(&mut pieces, rest);
        Ok(Self(pieces))
    }

    /// The text, if nothing in it depends on a message.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text for this message. `captured` are named groups of the conditions, `own` those of the pattern being
    /// replaced.
    ///
    /// # Errors
    /// [`LeftOut::Absent`] if something that it names is not there.
    pub(super) fn expand(
        &self,
        context: &Expansion<'_, '_>,
        own: Option<&Captures<'_>>,
        budget: &mut Budget,
    ) -> Result<String, LeftOut> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                // A group that took no part in the match stands for nothing.
                Piece::Group(number) => {
                    text.push_str(own.and_then(|own| own.get(*number)).map_or("", |group| group.as_str()));
                }
                Piece::Capture(name) => {
                    let own = own.and_then(|own| own.name(name)).map(|group| group.as_str());
                    let captured = || context.captured.iter().find(|(own, _)| own == name);
                    text.push_str(own.or_else(|| Some(captured()?.1.as_str())).unwrap_or_default());
                }
                Piece::Source(source) => {
                    let values = source.values(context.subject, context.variables);
                    text.push_str(values.first().ok_or(LeftOut::Absent)?);
                }
            }
            if text.len() > MAX_TEXT {
                return Err(LeftOut::TooLarge);
            }
        }
        budget.spend(text.len())?;
        // Escapes of a user part are decoded when it is read, and may hide anything.
        if text.chars().any(char::is_control) { Err(LeftOut::Invalid) } else { Ok(text) }
    }
}

/// What templates are filled from.
pub(super) struct Expansion<'a, 'm> {
    pub(super) subject: &'a Subject<'m>,
    pub(super) variables: &'a Variables<'a>,
    pub(super) captured: &'a [(String, String)],
}

impl Scope<'_> {
    fn name(&self, name: &str, pieces: &mut Vec<Piece>) -> Result<(), RuleFault> {
        if let Ok(number) = name.parse::<usize>() {
            let groups = self.pattern.map_or(0, Pattern::groups);
            if number >= groups {
                return Err(RuleFault::NoGroup(name.to_owned()));
            }
            pieces.push(Piece::Group(number));
            return Ok(());
        }
        let own = self.pattern.is_some_and(|pattern| pattern.names().any(|own| own == name));
        if own || self.captures.iter().any(|capture| capture == name) {
            pieces.push(Piece::Capture(name.to_owned()));
        } else if let Some((_, value)) = self.variables.iter().find(|(own, _)| own == name) {
            put_text(pieces, value);
        } else {
            let source = Source::parse(name).map_err(|fault| match fault {
                RuleFault::UnknownPlace(name) => RuleFault::UnknownVariable(name),
                other => other,
            })?;
            pieces.push(Piece::Source(source));
        }
        Ok(())
    }
}

fn put_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}
