//! Items of headers that nobody needs typed: an address or some other value, each with parameters behind it.

use super::lexer::{self, Syntax};
use super::name_addr::NameAddr;
use super::params::Params;
use std::borrow::Cow;
use std::fmt;

/// One item of a comma-separated header value.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// As in P-Asserted-Identity, Diversion, History-Info, Refer-To.
    Address(NameAddr),
    /// As in Reason (`Q.850;cause=16`) and Session-Expires; the value as it was written.
    Value(String, Params),
}

impl Item {
    /// The items of one header line.
    pub fn parse_line(line: &str) -> Result<Vec<Self>, Syntax> {
        lexer::list(line).map(|item| Self::parse(item?)).collect()
    }

    fn parse(text: &str) -> Result<Self, Syntax> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let end = lexer::find_outside(text, b";")?.unwrap_or(text.len());
        Ok(Self::Value(lexer::trim(&text[..end]).to_owned(), Params::parse(&text[end..])?))
    }

    pub fn address(&self) -> Option<&NameAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Value(..) => None,
        }
    }

    /// A header parameter's value without quotes; the empty text for one without value.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        let (Self::Address(NameAddr { params, .. }) | Self::Value(_, params)) = self;
        params.has(name).then(|| lexer::unquote(params.value(name).unwrap_or_default()))
    }

    pub fn params_mut(&mut self) -> &mut Params {
        let (Self::Address(NameAddr { params, .. }) | Self::Value(_, params)) = self;
        params
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Value(value, params) => write!(f, "{value}{params}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_line_are_addresses_or_values_with_parameters() {
        let line = "<sip:a@h>;reason=\"no answer\", Q.850 ;cause=16;text=\"a, b\"";
        let items = Item::parse_line(line).unwrap();
        assert_eq!(items[0].address().map(|address| address.uri.to_string()).as_deref(), Some("sip:a@h"));
        assert_eq!(items[0].param("Reason").as_deref(), Some("no answer"));
        assert_eq!(items[1].address(), None);
        assert_eq!(items[1].param("text").as_deref(), Some("a, b"));
        assert_eq!(items[1].to_string(), "Q.850;cause=16;text=\"a, b\"");
        assert!(Item::parse_line("a;;b").is_err() && Item::parse_line("\"a").is_err());
    }
}
