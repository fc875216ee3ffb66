//! The torture messages of RFC 4475 and RFC 5118, each in its shortest form that still holds what it tests, named by
//! its identifier there.

mod invalid;
mod ipv6;
mod semantic;
mod valid;

use super::{Limits, Message, ParseError, Request, Response, parse, parse_within};

/// `text` with CRLF for each line feed.
fn wire(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

/// Long values are among what is tested: they are held to no limits of ours.
fn request(text: &str) -> Request {
    match parse_within(&wire(text), &Limits::WIDEST) {
        Ok(Message::Request(request)) => request,
        other => panic!("no request: {other:?}"),
    }
}

fn response(text: &str) -> Response {
    match parse(&wire(text)) {
        Ok(Message::Response(response)) => response,
        other => panic!("no response: {other:?}"),
    }
}

fn refused(text: &str) -> ParseError {
    parse(&wire(text)).expect_err("must be refused")
}

/// Refused, and the status code of the answer.
fn answered(text: &str) -> Option<u16> {
    refused(text).refusal.map(|refusal| refusal.status.code())
}
