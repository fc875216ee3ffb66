//! Bencode, as far as rtpengine's NG protocol speaks it: octet strings, integers, lists, dictionaries.

use std::collections::BTreeMap;

/// Depth at which nested lists and dictionaries are refused.
const DEPTH_MAX: usize = 32;

/// A bencoded value. Strings are octets on the wire; the NG protocol only ever puts UTF-8 in them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    List(Vec<Value>),
    /// Ordered by key, as the format asks.
    Dictionary(BTreeMap<String, Value>),
}

/// Why octets are not one bencoded value, with the position of the fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("ends inside a value at octet {0}")]
    Truncated(usize),
    #[error("unexpected octet at {0}")]
    Unexpected(usize),
    #[error("number out of range at octet {0}")]
    Number(usize),
    #[error("text is not UTF-8 at octet {0}")]
    Text(usize),
    #[error("nested deeper than {DEPTH_MAX} at octet {0}")]
    Depth(usize),
}

impl Value {
    /// A dictionary of these entries.
    pub(crate) fn dictionary<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::Dictionary(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// A list of texts.
    pub(crate) fn texts(texts: &[&str]) -> Self {
        Self::List(texts.iter().map(|text| (*text).into()).collect())
    }

    /// The text under `key` of a dictionary.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Dictionary(entries) => match entries.get(key)? {
                Self::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_to(&mut out);
        out
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => append_text(text, out),
            Self::Integer(number) => out.extend(format!("i{number}e").into_bytes()),
            Self::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.append_to(out));
                out.push(b'e');
            }
            Self::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    append_text(key, out);
                    value.append_to(out);
                }
                out.push(b'e');
            }
        }
    }

    /// Reads exactly one value.
    ///
    /// # Errors
    /// The octets end early, or go on after the value, or are not bencode.
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader { octets, at: 0 };
        let value = reader.value(0)?;
        if reader.at == octets.len() { Ok(value) } else { Err(Fault::Unexpected(reader.at)) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

fn append_text(text: &str, out: &mut Vec<u8>) {
    out.extend(format!("{}:", text.len()).into_bytes());
    out.extend(text.as_bytes());
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Depth(self.at));
        }
        match self.peek()? {
            b'0'..=b'9' => self.text().map(Value::Text),
            b'i' => {
                self.at += 1;
                self.number(b'e').map(Value::Integer)
            }
            b'l' => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.closes()? {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::List(items))
            }
            b'd' => {
                self.at += 1;
                let mut entries = BTreeMap::new();
                while !self.closes()? {
                    entries.insert(self.text()?, self.value(depth + 1)?);
                }
                Ok(Value::Dictionary(entries))
            }
            _ => Err(Fault::Unexpected(self.at)),
        }
    }

    fn text(&mut self) -> Result<String, Fault> {
        let start = self.at;
        let length = usize::try_from(self.number(b':')?).map_err(|_| Fault::Number(start))?;
        let end = self.at.checked_add(length).ok_or(Fault::Number(start))?;
        let octets = self.octets.get(self.at..end).ok_or(Fault::Truncated(self.octets.len()))?;
        let text = String::from_utf8(octets.to_vec()).map_err(|_| Fault::Text(self.at))?;
        self.at = end;
        Ok(text)
    }

    /// Decimal digits up to `end`, which is consumed.
    fn number(&mut self, end: u8) -> Result<i64, Fault> {
        let start = self.at;
        let rest = self.octets.get(start..).ok_or(Fault::Truncated(start))?;
        let length =
            rest.iter().position(|octet| *octet == end).ok_or(Fault::Truncated(self.octets.len()))?;
        self.at += length + 1;
        rest.get(..length)
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok())
            .ok_or(Fault::Number(start))
    }

    /// Consumes the end of a list or dictionary if it is next.
    fn closes(&mut self) -> Result<bool, Fault> {
        let closes = self.peek()? == b'e';
        self.at += usize::from(closes);
        Ok(closes)
    }

    fn peek(&self) -> Result<u8, Fault> {
        self.octets.get(self.at).copied().ok_or(Fault::Truncated(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_survives_the_round_trip_with_its_keys_in_order() {
        let value = Value::dictionary([
            ("sdp", "v=0\r\n".into()),
            ("command", "offer".into()),
            ("direction", Value::texts(&["caller", "callee"])),
            ("created", Value::Integer(-7)),
        ]);
        let wire = value.encode();
        assert_eq!(
            String::from_utf8(wire.clone()).unwrap(),
            "d7:command5:offer7:createdi-7e9:directionl6:caller6:calleee3:sdp5:v=0\r\ne"
        );
        assert_eq!(Value::decode(&wire), Ok(value));
    }

    #[test]
    fn faults_name_their_position() {
        assert_eq!(Value::decode(b"d3:abc"), Err(Fault::Truncated(6)));
        assert_eq!(Value::decode(b"i12ei1e"), Err(Fault::Unexpected(4)));
        assert_eq!(Value::decode(b"9:short"), Err(Fault::Truncated(7)));
        assert_eq!(Value::decode(b"-1:x"), Err(Fault::Unexpected(0)));
        assert_eq!(Value::decode(b"i1x2e"), Err(Fault::Number(1)));
        assert_eq!(Value::decode(&[b'l'; 1000]), Err(Fault::Depth(33)));
    }
}
