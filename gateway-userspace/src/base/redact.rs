//! Redaction as a type: numbers print masked unless a record that must carry them asks for the whole.

use std::fmt;

/// A telephone number or user part: prints its last three digits only.
#[derive(Clone, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(transparent)]
pub struct Number(String);

impl Number {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole number: for the call detail record and for routing, never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.chars().count().saturating_sub(3);
        for (index, character) in self.0.chars().enumerate() {
            let masked = index < kept && character.is_alphanumeric();
            write!(f, "{}", if masked { '*' } else { character })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_prints_its_last_three_digits_only() {
        assert_eq!(Number::new("+441632960123").to_string(), "+*********123");
        assert_eq!(format!("{:?}", Number::new("911")), "911");
    }
}
