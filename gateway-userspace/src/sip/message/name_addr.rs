//! Addresses with a name and parameters (RFC 3261 section 20.10): From, To, Contact, Route, Record-Route, and the
//! identity headers built like them.

use super::lexer::{self, Syntax};
use super::params::Params;
use super::uri::Uri;
use crate::base::redact::Number;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// `"Display" <uri>;params`. Always prints with angle brackets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NameAddr {
    pub display: Option<DisplayName>,
    pub uri: Uri,
    /// Parameters of the header, not of the URI.
    pub params: Params,
}

/// A display name, kept as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DisplayName(String);

/// The Contact headers of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// None, one or several.
    Addresses(Vec<NameAddr>),
    /// `*`: all bindings of a REGISTER (RFC 3261 section 10.2.2).
    Wildcard,
}

impl NameAddr {
    /// Without display name and parameters.
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Params::default() }
    }

    pub fn with_display(mut self, name: &str) -> Self {
        self.display = Some(DisplayName::new(name));
        self
    }

    pub fn with_tag(mut self, tag: &str) -> Self {
        self.set_tag(tag);
        self
    }

    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag")
    }

    pub fn set_tag(&mut self, tag: &str) {
        self.params.set("tag", tag);
    }

    /// The value of a header parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.value(name)
    }

    /// Reads a comma-separated list into `addresses`.
    pub fn parse_list(text: &str, addresses: &mut Vec<Self>) -> Result<(), Syntax> {
        for item in lexer::list(text) {
            addresses.push(item?.parse()?);
        }
        Ok(())
    }
}

impl FromStr for NameAddr {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        let text = lexer::trim(text);
        match lexer::find_outside(text, b"<")? {
            Some(open) => {
                let close = open + text[open..].find('>').ok_or(Syntax("angle bracket without end"))?;
                Ok(Self {
                    display: DisplayName::parse(lexer::trim(&text[..open]))?,
                    uri: text[open + 1..close].parse()?,
                    params: Params::parse(&text[close + 1..])?,
                })
            }
            None => {
                let end = addr_spec_end(text)?;
                Ok(Self {
                    display: None,
                    uri: lexer::trim(&text[..end]).parse()?,
                    params: Params::parse(&text[end..])?,
                })
            }
        }
    }
}

/// Where a URI without angle brackets ends: at the first `;` behind the user part, because parameters then belong to
/// the header; a `,` or `?` there is not allowed at all (RFC 3261 section 20).
fn addr_spec_end(text: &str) -> Result<usize, Syntax> {
    let bytes = text.as_bytes();
    let unquoted = memchr::memchr(b'"', bytes).unwrap_or(bytes.len());
    let host = memchr::memchr(b'@', &bytes[..unquoted]).unwrap_or(0);
    let end = memchr::memchr3(b';', b'?', b',', &bytes[host..]).map_or(bytes.len(), |at| host + at);
    match bytes.get(end) {
        Some(b'?' | b',') => Err(Syntax("URI with headers or a comma outside angle brackets")),
        _ => Ok(end),
    }
}

impl DisplayName {
    /// A name to be printed: in quotes unless it is a single token.
    pub fn new(name: &str) -> Self {
        Self(if lexer::is_token(name.as_bytes()) { name.to_owned() } else { lexer::quote(name) })
    }

    /// The name without quotes and escapes.
    pub fn text(&self) -> Cow<'_, str> {
        lexer::unquote(&self.0)
    }

    /// A quoted string, or tokens with white space between (RFC 3261 section 25.1, display-name).
    fn parse(text: &str) -> Result<Option<Self>, Syntax> {
        if text.is_empty() {
            return Ok(None);
        }
        let quoted = lexer::quoted_len(text) == Some(text.len());
        // Octets above ASCII are no token octets, but names in plain UTF-8 are common and harm nobody.
        let is_octet =
            |octet: u8| lexer::is_token_octet(octet) || matches!(octet, b' ' | b'\t') || !octet.is_ascii();
        if quoted || text.bytes().all(is_octet) {
            Ok(Some(Self(text.to_owned())))
        } else {
            Err(Syntax("display name is neither quoted nor tokens"))
        }
    }
}

impl Contact {
    pub fn one(address: NameAddr) -> Self {
        Self::Addresses(vec![address])
    }

    /// The first address: the one a dialog's remote target is taken from.
    pub fn first(&self) -> Option<&NameAddr> {
        self.addresses().first()
    }

    /// Empty for `*`.
    pub fn addresses(&self) -> &[NameAddr] {
        match self {
            Self::Addresses(addresses) => addresses,
            Self::Wildcard => &[],
        }
    }
}

impl Default for Contact {
    fn default() -> Self {
        Self::Addresses(Vec::new())
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(DisplayName(name)) = &self.display {
            write!(f, "{name} ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// For logs: name left out, user part masked.
impl fmt::Debug for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{:?}>", self.uri)?;
        self.tag().map_or(Ok(()), |tag| write!(f, ";tag={tag}"))
    }
}

impl fmt::Debug for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Number::new(self.0.as_str()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> NameAddr {
        text.parse().unwrap_or_else(|syntax| panic!("{text}: {syntax}"))
    }

    #[test]
    fn a_name_in_quotes_may_hold_anything_and_is_never_taken_for_the_address() {
        let evil = address(r#""Evil <sip:x@evil>; tag=9" <sip:a@h>;tag=1"#);
        assert_eq!((evil.uri.to_string().as_str(), evil.tag()), ("sip:a@h", Some("1")));
        let quote = address(r#""x\"<y" <sip:a@h>"#);
        assert_eq!(quote.uri.to_string(), "sip:a@h");
        assert_eq!(quote.display.as_ref().map(|name| name.text().into_owned()).as_deref(), Some("x\"<y"));
        assert_eq!(quote.to_string(), r#""x\"<y" <sip:a@h>"#);
    }

    #[test]
    fn names_of_tokens_need_no_quotes_and_no_space_behind() {
        assert_eq!(address("caller<sip:a@h>;tag=1").to_string(), "caller <sip:a@h>;tag=1");
        assert_eq!(address("T. A. Watson <sip:a@h>").to_string(), "T. A. Watson <sip:a@h>");
        assert_eq!(address("J\u{fc}rgen <sip:a@h>").to_string(), "J\u{fc}rgen <sip:a@h>");
        assert!(address("<sip:a@h>").display.is_none());
    }

    #[test]
    fn parameters_of_an_address_without_brackets_are_the_headers() {
        assert_eq!(address("sip:user;par=x@h;tag=1;lr").to_string(), "<sip:user;par=x@h>;tag=1;lr");
        assert_eq!(address("tel:+1212;tag=5").tag(), Some("5"));
        assert_eq!(address("sip:h;x=\"a@b\"").uri.to_string(), "sip:h");
        assert_eq!(address("<sip:a@h;lr>;tag=1 ; x").to_string(), "<sip:a@h;lr>;tag=1;x");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "<>",
            "<sip:a@h",
            "sip:a@h>",
            "\"x <sip:a@h>",
            "x\" <sip:a@h>",
            "\"x\" y <sip:a@h>",
            "Bell, Alexander <sip:a@h>",
            "\"Watson\" < sip:a@h >",
            "sip:a@h?Route=%3Csip:b%3E",
            "sip:a@h, sip:b@h",
            "<sip:a@h> tag=1",
            "<sip:a@h>;;",
            "<sip:a@h><sip:b@h>",
            "x",
        ] {
            assert!(text.parse::<NameAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_is_cut_outside_quotes_and_brackets() {
        let mut list = Vec::new();
        let text = "\"a, b\" <sip:a@h;x=1,2>;q=0.5 , <sip:b@h>,sip:c@h;q=1";
        NameAddr::parse_list(text, &mut list).expect("well-formed");
        let printed: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["\"a, b\" <sip:a@h;x=1,2>;q=0.5", "<sip:b@h>", "<sip:c@h>;q=1"]);
    }

    #[test]
    fn a_name_made_by_us_is_quoted_where_it_must_be() {
        let uri: Uri = "sip:a@h".parse().expect("well-formed");
        assert_eq!(NameAddr::new(uri.clone()).with_display("Alice").to_string(), "Alice <sip:a@h>");
        let odd = NameAddr::new(uri).with_display("a\"\r\nVia: x").with_tag("9");
        assert_eq!(odd.to_string(), r#""a\"  Via: x" <sip:a@h>;tag=9"#);
        assert_eq!(format!("{odd:?}"), "<sip:a@h>;tag=9");
    }
}
