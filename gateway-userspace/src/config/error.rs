//! Errors in the file, told so that a tired person finds the place and knows what to write.

use super::file::Span;
use std::fmt;
use std::io;

/// All errors found, with the file's name.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ConfigErrors {
    pub file: String,
    pub errors: Vec<ConfigError>,
    #[serde(skip)]
    text: String,
}

/// One error, or one warning.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConfigError {
    /// Line and column, from 1, columns in characters; absent for what stands nowhere.
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// Section and field, as in `[[trunk]] operator, listen`.
    pub field: String,
    pub message: String,
    /// What to write.
    pub fix: String,
    /// The line itself, and how much of it is meant.
    pub excerpt: Option<String>,
    pub width: usize,
}

impl ConfigErrors {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), errors: Vec::new(), text: text.to_owned() }
    }

    pub(super) fn unreadable(file: &str, error: &io::Error) -> Self {
        let mut errors = Self::new(file, "");
        let fix = match error.kind() {
            io::ErrorKind::NotFound => {
                "name another file with --config, or begin with `causeway check --example > causeway.toml`"
            }
            io::ErrorKind::PermissionDenied => "let the user that runs causeway read it",
            io::ErrorKind::InvalidData => "save it as UTF-8",
            _ => "see what the system says",
        };
        errors.add(None, "the file", format!("cannot be read: {error}"), fix);
        errors
    }

    pub(super) fn add(
        &mut self,
        span: Option<Span>,
        field: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let error = self.locate(span, field.into(), message.into(), fix.into());
        self.errors.push(error);
    }

    /// The error with its place in the file, for lists other than this one.
    pub(super) fn locate(
        &self,
        span: Option<Span>,
        field: String,
        message: String,
        fix: String,
    ) -> ConfigError {
        let place = span.map(|span| Place::of(&self.text, &span));
        ConfigError {
            line: place.as_ref().map(|place| place.line),
            column: place.as_ref().map(|place| place.column),
            field,
            message,
            fix,
            width: place.as_ref().map_or(0, |place| place.width),
            excerpt: place.map(|place| place.excerpt),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn sorted(mut self) -> Self {
        self.errors.sort_by_key(|error| (error.line, error.column));
        self.errors.dedup();
        self
    }
}

struct Place {
    line: usize,
    column: usize,
    width: usize,
    excerpt: String,
}

impl Place {
    fn of(text: &str, span: &Span) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let excerpt = text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let column = before.get(begin..).map_or(0, |lead| lead.chars().count());
        let meant = text.get(span.clone()).and_then(|meant| meant.lines().next()).unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            width: meant.chars().count().max(1),
            excerpt: excerpt.to_owned(),
        }
    }
}

impl ConfigError {
    fn write(&self, f: &mut fmt::Formatter<'_>, file: &str) -> fmt::Result {
        f.write_str(file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        writeln!(f, ": {}: {}", self.field, self.message)?;
        if let (Some(line), Some(column), Some(excerpt)) = (self.line, self.column, &self.excerpt) {
            // Tabs would put the mark in the wrong column.
            writeln!(f, "{line:>6} | {}", excerpt.replace('\t', " "))?;
            writeln!(f, "       | {}{}", " ".repeat(column - 1), "^".repeat(self.width))?;
        }
        writeln!(f, "   fix: {}", self.fix)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.write(f, &self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The candidate that `word` was most likely meant to be: one that differs in at most a third of its letters,
/// else the first that `word` is a part of.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
) -> Option<&'a str> {
    let mut candidates = candidates.into_iter();
    let letters = word.chars().count();
    let close = candidates
        .clone()
        .map(|candidate| (distance(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= letters.max(3) / 3 + 1);
    let part = || candidates.find(|candidate| letters >= 3 && candidate.contains(word));
    close.map(|(_, candidate)| candidate).or_else(part)
}

/// Edit distance (Levenshtein), without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_what_was_meant() {
        let fields = ["name", "listen", "peers", "allowed", "media_address"];
        assert_eq!(nearest("lisen", fields), Some("listen"));
        assert_eq!(nearest("Allow", fields), Some("allowed"));
        assert_eq!(nearest("media_adress", fields), Some("media_address"));
        assert_eq!(nearest("address", fields), Some("media_address"));
        assert_eq!(nearest("colour", fields), None);
        assert_eq!([("", "abc"), ("kitten", "sitting")].map(|(a, b)| distance(a, b)), [3, 3]);
    }

    #[test]
    fn the_mark_stands_under_what_is_meant_whatever_stands_before() {
        let text = "a = 1\n\tname = \"\u{e9}\" # x\n";
        let errors = {
            let mut errors = ConfigErrors::new("f.toml", text);
            let start = text.find("\"\u{e9}\"").unwrap();
            errors.add(Some(start..start + 4), "name", "no", "yes");
            errors
        };
        let expected =
            "f.toml:2:9: name: no\n     2 |  name = \"\u{e9}\" # x\n       |         ^^^\n   fix: yes\n";
        assert_eq!(errors.to_string(), expected);
    }
}
