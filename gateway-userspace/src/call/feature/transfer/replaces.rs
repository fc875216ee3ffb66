//! Replaces (RFC 3891): the dialog whose place a new one takes.

use crate::base::fault::Fault;
use crate::sip::dialog::DialogId;
use crate::sip::message::{HeaderName, Headers, unescape};

/// A Replaces header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replaces {
    pub(crate) call_id: String,
    /// The tag of who gets the INVITE.
    pub(crate) to_tag: String,
    pub(crate) from_tag: String,
    /// Only a dialog that is not answered yet.
    pub(crate) early_only: bool,
}

impl Replaces {
    /// # Errors
    /// [`Fault::MalformedHeader`] for more than one, or one that cannot be read (RFC 3891 section 3).
    pub(crate) fn of(headers: &Headers) -> Result<Option<Self>, Fault> {
        let mut values = headers.values(&HeaderName::Replaces);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Self::parse(value).map(Some).ok_or(Fault::MalformedHeader),
            (Some(_), Some(_)) => Err(Fault::MalformedHeader),
        }
    }

    /// The one among the headers of a URI, as in Refer-To (RFC 3891 section 6.1).
    pub(super) fn of_uri(headers: &str) -> Result<Option<Self>, Fault> {
        let named = headers.split('&').filter_map(|header| header.split_once('='));
        let mut values = named.filter(|(name, _)| unescape(name).eq_ignore_ascii_case("Replaces"));
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Self::parse(&unescape(value)).map(Some).ok_or(Fault::MalformedHeader),
            (Some(_), Some(_)) => Err(Fault::MalformedHeader),
        }
    }

    /// The dialog by the name that who gets the INVITE knows it by. A tag of `0` is that of a peer that has none (section
    /// 3).
    pub(crate) fn dialog(&self) -> DialogId {
        let tag = |tag: &str| if tag == "0" { String::new() } else { tag.to_owned() };
        DialogId {
            call_id: self.call_id.clone(),
            local_tag: tag(&self.to_tag),
            remote_tag: tag(&self.from_tag),
        }
    }

    /// As a header.
    pub(crate) fn line(&self) -> String {
        let early_only = if self.early_only { ";early-only" } else { "" };
        format!("{};to-tag={};from-tag={}{early_only}", self.call_id, self.to_tag, self.from_tag)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next().filter(|call_id| !call_id.is_empty())?.to_owned();
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            let (name, value) =
                part.split_once('=').map_or((part, ""), |(name, value)| (name.trim(), value.trim()));
            match name.to_ascii_lowercase().as_str() {
                "to-tag" if to_tag.is_none() && !value.is_empty() => to_tag = Some(value.to_owned()),
                "from-tag" if from_tag.is_none() && !value.is_empty() => from_tag = Some(value.to_owned()),
                "to-tag" | "from-tag" => return None,
                "early-only" => early_only = true,
                _ => {}
            }
        }
        Some(Self { call_id, to_tag: to_tag?, from_tag: from_tag?, early_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaces(lines: &[&str]) -> Result<Option<Replaces>, Fault> {
        let mut headers = Headers::default();
        lines.iter().for_each(|line| headers.push(HeaderName::Replaces, *line));
        Replaces::of(&headers)
    }

    #[test]
    fn one_dialog_is_named_in_any_order_of_its_parts() {
        let found = replaces(&["a@b ; from-tag=2;x=y; To-Tag = 1 ;early-only"]).unwrap().unwrap();
        assert_eq!(found.line(), "a@b;to-tag=1;from-tag=2;early-only");
        assert_eq!(found.dialog().to_string(), "a@b;local=1;remote=2");
        assert_eq!(replaces(&["a;to-tag=1;from-tag=0"]).unwrap().unwrap().dialog().remote_tag, "");
        assert_eq!(replaces(&[]), Ok(None));
    }

    #[test]
    fn what_names_none_or_two_is_malformed() {
        for lines in [
            &["a"] as &[&str],
            &["a;to-tag=1"],
            &["a;from-tag=1"],
            &[";to-tag=1;from-tag=2"],
            &["a;to-tag=;from-tag=2"],
            &["a;to-tag=1;to-tag=3;from-tag=2"],
            &["a;to-tag=1;from-tag=2", "b;to-tag=1;from-tag=2"],
        ] {
            assert_eq!(replaces(lines), Err(Fault::MalformedHeader), "{lines:?}");
        }
    }
}
