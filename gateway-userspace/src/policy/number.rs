//! Telephone numbers as one side writes them, and as all sides understand them: E.164 with a plus.

use crate::sip::message::Uri;
use std::borrow::Cow;

/// How a trunk's far end writes numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberPlan {
    /// Where the far end is: its country code, without plus. Without it numbers are understood only with a plus.
    pub country: Option<Box<str>>,
    /// What it dials in front of a number of its own country: `0` in much of Europe, nothing in Spain.
    pub national_prefix: Box<str>,
    /// What it dials in front of a country code: `00`, `011`.
    pub international_prefix: Box<str>,
    /// How numbers are written towards it.
    pub format: NumberFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumberFormat {
    /// As they came from the other side.
    #[default]
    AsReceived,
    /// `+` and country code, with `user=phone` in URIs.
    E164,
    /// As a telephone in its country dials them.
    National,
}

impl NumberPlan {
    /// What the far end wrote, in E.164 where its plan says how; short codes and names stay as they are.
    pub fn read<'a>(&self, user: &'a str) -> Cow<'a, str> {
        let number = significant(user);
        if is_e164(&number) {
            return number;
        }
        let Some(country) = self.country.as_deref() else { return Cow::Borrowed(user) };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Cow::Borrowed(user);
        }
        // The international prefix is the longer one and begins like the national one in most plans.
        let global =
            match (behind(&number, &self.international_prefix), behind(&number, &self.national_prefix)) {
                (Some(rest), _) => format!("+{rest}"),
                (None, Some(rest)) => format!("+{country}{rest}"),
                (None, None) => return Cow::Borrowed(user),
            };
        if is_e164(&global) { Cow::Owned(global) } else { Cow::Borrowed(user) }
    }

    /// Whom a URI of the far end names: as [`Self::read`] of its user part without parameters, in the context that it
    /// says it is of (RFC 3966 section 5.1.4). `None` where it names nobody.
    pub fn read_uri(&self, uri: &Uri) -> Option<String> {
        let user = uri.user()?;
        // In a SIP URI the parameters of a number belong to the user part (RFC 3261 section 19.1.6).
        let mut parts = user.split(';');
        let number = parts.next().unwrap_or_default();
        let context = match uri {
            Uri::Tel(_) => uri.param("phone-context"),
            Uri::Sip(_) | Uri::Absolute(_) => parts.find_map(|part| part.strip_prefix("phone-context=")),
        };
        if let Some(prefix) = context.filter(|context| context.starts_with('+') && !number.starts_with('+')) {
            let global = format!("{prefix}{number}");
            let global = significant(&global);
            if is_e164(&global) {
                return Some(global.into_owned());
            }
        }
        Some(self.read(number).into_owned())
    }

    /// A number as the far end wants it written. What is not E.164 stays as it is.
    pub fn write<'a>(&self, number: &'a str) -> Cow<'a, str> {
        let digits = match (self.format, is_e164(number).then(|| number.trim_start_matches('+'))) {
            (NumberFormat::National, Some(digits)) => digits,
            (NumberFormat::AsReceived | NumberFormat::E164, _) | (_, None) => return Cow::Borrowed(number),
        };
        let own = self.country.as_deref().and_then(|country| digits.strip_prefix(country));
        Cow::Owned(match own {
            Some(rest) => format!("{}{rest}", self.national_prefix),
            None => format!("{}{digits}", self.international_prefix),
        })
    }

    /// Whether URIs with this user part say that it is a telephone number (RFC 3261 section 19.1.1): without it, some
    /// services guess.
    pub fn is_phone(&self, number: &str) -> bool {
        self.format == NumberFormat::E164 && is_e164(number)
    }
}

/// ITU-T E.164 section 6.1: at most fifteen digits, with the country code in front, which never begins with 0.
fn is_e164(number: &str) -> bool {
    let Some(digits) = number.strip_prefix('+') else { return false };
    // The shortest whole numbers in use have seven digits with their country code.
    (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Without visual separators (RFC 3966 section 5.1.1).
fn significant(user: &str) -> Cow<'_, str> {
    let is_separator = |character: char| "-.()".contains(character);
    if user.contains(is_separator)
        && user.starts_with(|first: char| first == '+' || first == '(' || first.is_ascii_digit())
    {
        return Cow::Owned(user.chars().filter(|character| !is_separator(*character)).collect());
    }
    Cow::Borrowed(user)
}

fn behind<'a>(number: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() { None } else { number.strip_prefix(prefix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn british(format: NumberFormat) -> NumberPlan {
        NumberPlan {
            country: Some("44".into()),
            national_prefix: "0".into(),
            international_prefix: "00".into(),
            format,
        }
    }

    // Statement 82.
    #[test]
    fn numbers_of_a_plan_are_understood_in_e164_and_everything_else_stays() {
        let plan = british(NumberFormat::E164);
        let table = [
            ("+442079460000", "+442079460000"),
            ("+44-(20)-7946.0000", "+442079460000"),
            ("02079460000", "+442079460000"),
            ("0049301234567", "+49301234567"),
            ("112", "112"),
            ("0", "0"),
            ("00", "00"),
            ("service", "service"),
            ("ann.smith-jones", "ann.smith-jones"),
            ("*72#", "*72#"),
            ("+0123456789", "+0123456789"),
            ("00123456789012345678", "00123456789012345678"),
        ];
        for (written, meant) in table {
            assert_eq!(plan.read(written), meant, "{written}");
        }
        let none = NumberPlan::default();
        assert_eq!(none.read("02079460000"), "02079460000");
        assert_eq!(none.read("+44-2079460000"), "+442079460000");
    }

    // Statement 82.
    #[test]
    fn uris_of_every_scheme_name_the_same_number() {
        let plan = british(NumberFormat::E164);
        let table = [
            ("sip:+442079460000@h;user=phone", Some("+442079460000")),
            ("sips:02079460000@h", Some("+442079460000")),
            ("sip:+44-20-7946-0000;npdi;rn=+441234@h;user=phone", Some("+442079460000")),
            ("tel:+44-20-7946-0000", Some("+442079460000")),
            ("tel:2079460000;phone-context=+44", Some("+442079460000")),
            ("sip:2079460000;phone-context=+44@h;user=phone", Some("+442079460000")),
            ("tel:02079460000;phone-context=example.net", Some("+442079460000")),
            ("tel:112;phone-context=+44", Some("112")),
            ("sip:%2A72%23@h", Some("*72#")),
            ("sip:ann@h", Some("ann")),
            ("sip:h", None),
            ("urn:service:sos", None),
        ];
        for (uri, number) in table {
            assert_eq!(plan.read_uri(&uri.parse().unwrap()).as_deref(), number, "{uri}");
        }
    }

    #[test]
    fn numbers_are_written_as_the_far_end_dials_them() {
        let plan = british(NumberFormat::National);
        let table = [
            ("+442079460000", "02079460000"),
            ("+49301234567", "0049301234567"),
            ("112", "112"),
            ("service", "service"),
        ];
        for (number, written) in table {
            assert_eq!(plan.write(number), written);
            assert_eq!(british(NumberFormat::E164).write(number), number);
        }
    }

    #[test]
    fn what_is_written_nationally_is_understood_as_what_it_was() {
        let plan = british(NumberFormat::National);
        for number in ["+442079460000", "+49301234567", "+12025550147"] {
            assert_eq!(plan.read(&plan.write(number)), number);
        }
    }
}
