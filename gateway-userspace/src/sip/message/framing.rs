//! What a stream's framer must know of a message: where its head ends and how long its body is.

use super::lexer::{self, Lines};

/// What [`head_length`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadLength {
    /// No empty line yet; `searched` octets need not be searched again.
    Incomplete { searched: usize },
    /// `head` octets up to and with the empty line, and the octets of the body that follow by Content-Length, or why
    /// that cannot be told.
    Complete { head: usize, body: Result<usize, &'static str> },
}

/// Finds the end of the head in a stream that starts with a message, of which `searched` octets were searched before.
pub fn head_length(bytes: &[u8], searched: usize) -> HeadLength {
    let from = searched.min(bytes.len());
    match lexer::head_end(&bytes[from..]) {
        // The empty line may straddle what comes next by up to three octets.
        None => HeadLength::Incomplete { searched: bytes.len().saturating_sub(3).max(from) },
        Some(end) => HeadLength::Complete { head: from + end, body: content_length(&bytes[..from + end]) },
    }
}

fn content_length(head: &[u8]) -> Result<usize, &'static str> {
    let (_, headers) = lexer::start_line(head);
    let mut length = None;
    for line in Lines::new(headers) {
        let line = line.map_err(|syntax| syntax.0)?;
        if line.name.eq_ignore_ascii_case(b"Content-Length") || line.name.eq_ignore_ascii_case(b"l") {
            let value = lexer::decimal(&line.value).ok_or("Content-Length is no number in range")?;
            if length.replace(value).is_some() {
                return Err("Content-Length stands twice");
            }
        }
    }
    length.ok_or("missing Content-Length")
}
