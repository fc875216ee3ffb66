//! The words of SIP's grammar (RFC 3261 section 25.1): octet classes, lines, folding, lists, quoted strings.
//!
//! Everything here works on octets or on text cut at ASCII octets, and every function accepts any input.

use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// What a value breaks, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Syntax(pub &'static str);

/// One header line with its continuation lines.
pub(super) struct Line<'a> {
    pub(super) name: &'a [u8],
    /// Without surrounding white space, folding undone.
    pub(super) value: Cow<'a, [u8]>,
    /// Octets with continuation lines, without the last CRLF.
    pub(super) len: usize,
}

/// The header lines of a message head, in order. Ends at the first line that is none and yields why.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
}

/// Where the head of a message ends: the index behind CRLFCRLF.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// `bytes` without the CRLFs that may stand before a start line (RFC 3261 section 7.5).
pub(super) fn skip_keepalive(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

/// Cuts the start line, without its CRLF, from the rest.
pub(super) fn start_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memmem::find(bytes, b"\r\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[]),
    }
}

impl<'a> Lines<'a> {
    /// `headers` starts behind the start line and ends with the empty line, or earlier in a truncated message.
    pub(super) fn new(headers: &'a [u8]) -> Self {
        Self { rest: headers }
    }

    /// The next line with its continuation lines, without the last CRLF, and whether it has any.
    fn cut(&mut self) -> Option<Result<(&'a [u8], bool), Syntax>> {
        let mut end = 0;
        let mut folded = false;
        if self.rest.is_empty() || self.rest.starts_with(b"\r\n") {
            return None;
        }
        loop {
            let Some(feed) = memchr(b'\n', &self.rest[end..]).map(|at| end + at) else {
                let line = std::mem::take(&mut self.rest);
                return Some(Ok((line, folded)));
            };
            if feed == end || self.rest[feed - 1] != b'\r' {
                self.rest = &[];
                return Some(Err(Syntax("line feed without carriage return")));
            }
            if matches!(self.rest.get(feed + 1), Some(b' ' | b'\t')) {
                folded = true;
                end = feed + 1;
                continue;
            }
            let line = &self.rest[..feed - 1];
            self.rest = &self.rest[feed + 1..];
            return Some(Ok((line, folded)));
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, Syntax>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, folded) = match self.cut()? {
            Ok(cut) => cut,
            Err(syntax) => return Some(Err(syntax)),
        };
        let Some(colon) = memchr(b':', line) else {
            return Some(Err(Syntax("header line without colon")));
        };
        let name = trim_end(&line[..colon]);
        if !is_token(name) {
            return Some(Err(Syntax("header name is no token")));
        }
        let value = &line[colon + 1..];
        let value =
            if folded { Cow::Owned(unfold(value)) } else { Cow::Borrowed(trim_end(trim_start(value))) };
        if has_bare_control(&value) {
            return Some(Err(Syntax("control octet in a header")));
        }
        Some(Ok(Line { name, value, len: line.len() }))
    }
}

/// `value` trimmed, each line end with the white space around it one space (RFC 3261 section 7.3.1).
fn unfold(value: &[u8]) -> Vec<u8> {
    let mut flat = Vec::with_capacity(value.len());
    let mut rest = value;
    loop {
        let line_end = memchr::memmem::find(rest, b"\r\n");
        let line = trim_end(trim_start(&rest[..line_end.unwrap_or(rest.len())]));
        if !line.is_empty() {
            if !flat.is_empty() {
                flat.push(b' ');
            }
            flat.extend_from_slice(line);
        }
        match line_end {
            Some(at) => rest = &rest[at + 2..],
            None => return flat,
        }
    }
}

/// Without leading spaces and tabs; not without the carriage returns that `trim_ascii_start` would take with them.
fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether a control octet stands anywhere but behind a backslash, the only place RFC 3261 section 25.1 gives it
/// (quoted-pair).
pub(super) fn has_bare_control(bytes: &[u8]) -> bool {
    let is_control = |octet: u8| (octet < b' ' && octet != b'\t') || octet == 0x7f;
    // Without early exit the compiler looks at sixteen octets at once, and nearly no header has one.
    if !bytes.iter().fold(false, |found, &octet| found | is_control(octet)) {
        return false;
    }
    bytes.iter().enumerate().any(|(index, &octet)| {
        let escaped = index > 0 && bytes[index - 1] == b'\\' && !matches!(octet, b'\r' | b'\n');
        is_control(octet) && !escaped
    })
}

/// Octets as text. Free text may be in an older character set; where the grammar is ASCII, the parsers refuse the mark
/// that stands in for what is no UTF-8.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    // The lossy reading alone is some ten times slower on text without fault.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Without the white space at both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether `bytes` is a token of RFC 3261 section 25.1.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&octet| is_token_octet(octet))
}

pub(super) fn is_token_octet(octet: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut octet = 0;
        while octet < 256 {
            let byte = octet as u8;
            table[octet] = byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
            octet += 1;
        }
        table
    };
    TABLE[usize::from(octet)]
}

/// A number of digits only, no sign, that fits.
pub(super) fn decimal<N: TryFrom<u64>>(digits: &[u8]) -> Option<N> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    N::try_from(number).ok()
}

/// The length of the quoted string that `text` starts with, both quotes included.
pub(super) fn quoted_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The first of `marks` outside quoted strings and, unless it is one of the marks, outside angle brackets.
///
/// Errors: a quoted string or bracket without end.
pub(super) fn find_outside(text: &str, marks: &[u8]) -> Result<Option<usize>, Syntax> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octet = bytes[at];
        // Most octets, and none of them a mark: those are separators.
        if octet.is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        if marks.contains(&octet) {
            return Ok(Some(at));
        }
        at += match octet {
            b'"' => quoted_len(&text[at..]).ok_or(Syntax("quoted string without end"))?,
            b'<' => memchr(b'>', &bytes[at..]).ok_or(Syntax("angle bracket without end"))? + 1,
            _ => 1,
        };
    }
    Ok(None)
}

/// The values of a comma-separated list, trimmed. An empty value is an error (RFC 3261 section 7.3.1).
pub(super) fn list(text: &str) -> impl Iterator<Item = Result<&str, Syntax>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        // Most lists are of one value, whose own parser sees to quotes and brackets.
        let comma = if memchr(b',', text.as_bytes()).is_none() { Ok(None) } else { find_outside(text, b",") };
        let item = match comma {
            Ok(Some(comma)) => {
                rest = Some(&text[comma + 1..]);
                trim(&text[..comma])
            }
            Ok(None) => trim(text),
            Err(syntax) => return Some(Err(syntax)),
        };
        Some(if item.is_empty() { Err(Syntax("empty value in a list")) } else { Ok(item) })
    })
}

/// `text` in quotes, `"` and `\` escaped; control octets become spaces.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The text that a quoted string stands for; any other text as it is.
pub(super) fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return Cow::Borrowed(text);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    Cow::Owned(plain)
}

/// `text` with `%41` and the like decoded (RFC 3261 section 19.1.2); what is no UTF-8 afterwards stays escaped.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                plain.push(high << 4 | low);
                at += 3;
            }
            (octet, ..) => {
                plain.push(octet);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Whether every `%` has two hexadecimal digits behind it.
pub(super) fn escapes_are_whole(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .enumerate()
        .filter(|(_, octet)| **octet == b'%')
        .all(|(at, _)| hex(bytes.get(at + 1)).is_some() && hex(bytes.get(at + 2)).is_some())
}

fn hex(octet: Option<&u8>) -> Option<u8> {
    char::from(*octet?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
