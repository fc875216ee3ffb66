//! Parameters of URIs and headers: `;name=value;flag`.

use super::lexer::{self, Syntax};
use std::fmt;

/// Parameters in the order they came. Names compare without case; values stay as they were written, quotes and
/// escapes included.
///
/// Kept as one text, because a message carries some dozen lists of which one or two values are ever asked for.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Params(String);

impl Params {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            let text = rest.strip_prefix(';')?;
            // The text is our own print: every quoted string in it ends.
            let end = lexer::find_outside(text, b";").ok().flatten().unwrap_or(text.len());
            let (param, after) = text.split_at(end);
            rest = after;
            Some(match param.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (param, None),
            })
        })
    }

    /// Whether `name` is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    }

    /// The value of `name`; `None` if it is absent or has no value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?.1
    }

    /// Sets `name` to `value`, in its place if it is there, at the end if not. A value that is no token or host is
    /// quoted.
    pub fn set(&mut self, name: &str, value: &str) {
        let plain = !value.is_empty() && value.bytes().all(is_value_octet);
        if plain { self.put(name, Some(value)) } else { self.put(name, Some(&lexer::quote(value))) }
    }

    /// Sets `name` to `value` in quotes, where its grammar has them even around a token.
    pub fn set_quoted(&mut self, name: &str, value: &str) {
        self.put(name, Some(&lexer::quote(value)));
    }

    /// Sets `name` without a value.
    pub fn set_flag(&mut self, name: &str) {
        self.put(name, None);
    }

    pub fn remove(&mut self, name: &str) {
        if self.has(name) {
            let mut kept = Self::default();
            for (own, value) in self.iter().filter(|(own, _)| !own.eq_ignore_ascii_case(name)) {
                kept.append(own, value);
            }
            *self = kept;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn put(&mut self, name: &str, value: Option<&str>) {
        if !self.has(name) {
            return self.append(name, value);
        }
        let mut changed = Self::default();
        for (own, before) in self.iter() {
            changed.append(own, if own.eq_ignore_ascii_case(name) { value } else { before });
        }
        *self = changed;
    }

    fn append(&mut self, name: &str, value: Option<&str>) {
        self.0.push(';');
        self.0.push_str(name);
        if let Some(value) = value {
            self.0.push('=');
            self.0.push_str(value);
        }
    }

    /// Reads header parameters (generic-param of RFC 3261 section 25.1): nothing, or a list that starts with `;`.
    pub(crate) fn parse(text: &str) -> Result<Self, Syntax> {
        let mut rest = lexer::trim(text);
        let mut params = Self(String::with_capacity(rest.len()));
        while !rest.is_empty() {
            let param = rest.strip_prefix(';').ok_or(Syntax("something other than parameters at the end"))?;
            let end = lexer::find_outside(param, b";<>")?.unwrap_or(param.len());
            let (param, after) = param.split_at(end);
            match param.split_once('=') {
                Some((name, value)) => {
                    params.append(header_param_name(name)?, Some(header_param_value(value)?));
                }
                None => params.append(header_param_name(param)?, None),
            }
            rest = after;
        }
        Ok(params)
    }

    /// Reads URI parameters: nothing, or a list that starts with `;`, without white space.
    pub(super) fn parse_uri(text: &str) -> Result<Self, Syntax> {
        let Some(list) = text.strip_prefix(';') else {
            return if text.is_empty() {
                Ok(Self::default())
            } else {
                Err(Syntax("URI goes on behind its end"))
            };
        };
        for param in list.split(';') {
            let (name, value) = param.split_once('=').unwrap_or((param, "1"));
            let is_octet =
                |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'<' | b'>' | b'?' | b'@');
            if name.is_empty() || value.is_empty() || !param.bytes().all(is_octet) {
                return Err(Syntax("URI parameter is none"));
            }
        }
        if lexer::escapes_are_whole(list.as_bytes()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Syntax("broken escape"))
        }
    }
}

fn header_param_name(text: &str) -> Result<&str, Syntax> {
    let name = lexer::trim(text);
    if lexer::is_token(name.as_bytes()) { Ok(name) } else { Err(Syntax("parameter name is no token")) }
}

fn header_param_value(text: &str) -> Result<&str, Syntax> {
    let value = lexer::trim(text);
    let quoted = lexer::quoted_len(value) == Some(value.len());
    let plain = !value.is_empty() && value.bytes().all(is_value_octet);
    if quoted || plain {
        Ok(value)
    } else {
        Err(Syntax("parameter value is no token, host or quoted string"))
    }
}

/// Octets of a token or host, and those that real peers leave unquoted (base64 in extension parameters).
fn is_value_octet(octet: u8) -> bool {
    lexer::is_token_octet(octet) || matches!(octet, b'[' | b']' | b':' | b'/' | b'=' | b'@' | b'&' | b'$')
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_separators_is_not_part_of_a_parameter() {
        let params = Params::parse(" ;  branch  = z9hG4bK9ikj8 ; rport ;x = \"a;b\" ").expect("well-formed");
        assert_eq!(params.to_string(), ";branch=z9hG4bK9ikj8;rport;x=\"a;b\"");
        assert_eq!(params.value("BRANCH"), Some("z9hG4bK9ikj8"));
        assert_eq!(params.value("x"), Some("\"a;b\""));
        assert!(params.has("rport") && params.value("rport").is_none());
        assert_eq!(params.iter().count(), 3);
    }

    #[test]
    fn a_parameter_set_again_keeps_its_place() {
        let mut params = Params::parse(";branch=a;rport;lr").expect("well-formed");
        params.set("rport", "5060");
        params.set("received", "2001:db8::9:255");
        assert_eq!(params.to_string(), ";branch=a;rport=5060;lr;received=2001:db8::9:255");
        params.remove("LR");
        params.set_flag("ob");
        assert_eq!(params.to_string(), ";branch=a;rport=5060;received=2001:db8::9:255;ob");
    }

    #[test]
    fn a_value_from_elsewhere_cannot_add_a_parameter_or_a_line() {
        let mut params = Params::default();
        params.set("x", "a;tag=1\r\nVia: y\"");
        assert_eq!(params.iter().count(), 1);
        assert_eq!(params.to_string(), ";x=\"a;tag=1  Via: y\\\"\"");
        assert_eq!(Params::parse(&params.to_string()), Ok(params));
    }

    #[test]
    fn separators_without_parameters_are_refused() {
        for text in [";", ";;", ";a;;b", ";a=", ";=a", ";a b", "a", ";a=\"x", ";a=<x>", ";a=b c", ";,;,,"] {
            assert!(Params::parse(text).is_err(), "{text}");
        }
    }
}
