//! What bodies are (RFC 3261 section 20.15), and the session description in them (RFC 5621).

use super::headers::{HeaderName, Headers};
use super::lexer;
use super::params::Params;
use rsip::headers::typed::{ContentType, MediaType as Typed, Tokenize, tokenizers::NameParamsTokenizer};

/// What a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/sdp`.
    Sdp,
    /// Type and subtype in lower case, without parameters.
    Other(String),
}

impl MediaType {
    /// The media type of a body that goes with these headers; `None` as for a message.
    pub fn of(headers: &Headers, body: &[u8]) -> Option<Self> {
        media_type(headers, body)
    }
}

/// The media type of `body`; `None` if there is no body or the header says nothing readable.
pub(super) fn media_type(headers: &Headers, body: &[u8]) -> Option<MediaType> {
    if body.is_empty() { None } else { parse(headers.value(&HeaderName::ContentType)?) }
}

/// A body that its sender wants understood and that holds no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// The session description in a body: all of it, or a part of a multipart one. `None` without a body, and where nothing
/// in it has to be understood.
pub(super) fn session<'a>(headers: &Headers, body: &'a [u8]) -> Result<Option<&'a [u8]>, Unsupported> {
    if body.is_empty() {
        return Ok(None);
    }
    let content_type = headers.value(&HeaderName::ContentType).unwrap_or_default();
    let disposition = headers.value(&HeaderName::ContentDisposition);
    match parse(content_type) {
        Some(MediaType::Sdp) => Ok(Some(body)),
        Some(MediaType::Other(kind)) if kind.starts_with("multipart/") => {
            let boundary = parameter(content_type, "boundary").ok_or(Unsupported)?;
            session_of_parts(&boundary, body)
        }
        _ if handling(disposition) == Some(Handling::Optional) => Ok(None),
        _ => Err(Unsupported),
    }
}

/// The first part that is a session description. Beside one, other parts count only where they are said to be required:
/// services send locations and the like without saying anything, and do not mean the call to fail for them.
fn session_of_parts<'a>(boundary: &str, body: &'a [u8]) -> Result<Option<&'a [u8]>, Unsupported> {
    let (mut found, mut is_silent_part_there) = (None, false);
    for (head, content) in parts(boundary, body) {
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (own, value) = line.split_once(':')?;
                lexer::trim(own).eq_ignore_ascii_case(name).then(|| lexer::trim(value))
            })
        };
        // RFC 2046 section 5.1: a part without a type is text.
        let kind = parse(header("Content-Type").unwrap_or("text/plain"));
        match (kind, handling(header("Content-Disposition"))) {
            (Some(MediaType::Sdp), _) => found = found.or(Some(content)),
            (_, Some(Handling::Required)) => return Err(Unsupported),
            (_, Some(Handling::Optional)) => {}
            (_, None) => is_silent_part_there = true,
        }
    }
    // RFC 3261 section 20.11: what says nothing is required.
    if found.is_none() && is_silent_part_there { Err(Unsupported) } else { Ok(found) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handling {
    Required,
    Optional,
}

fn handling(disposition: Option<&str>) -> Option<Handling> {
    match parameter(disposition?, "handling")?.to_ascii_lowercase().as_str() {
        "optional" => Some(Handling::Optional),
        _ => Some(Handling::Required),
    }
}

/// A parameter of a header value that begins with a token or a media type, quotes removed.
fn parameter(value: &str, name: &str) -> Option<String> {
    let params = Params::parse(value.get(value.find(';')?..)?).ok()?;
    params.value(name).map(|value| lexer::unquote(value).into_owned())
}

/// Header lines and content of each part (RFC 2046 section 5.1.1): between lines of two dashes and the boundary, up to
/// the one with two more dashes at its end. A body that breaks off ends its last part.
fn parts<'a>(boundary: &str, body: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter may stand at the very beginning.
    let first = body.strip_prefix(delimiter.get(2..).unwrap_or_default().as_bytes());
    let mut rest = first.or_else(|| behind(body, &delimiter));
    std::iter::from_fn(move || {
        let part = rest.take().filter(|rest| !rest.starts_with(b"--"))?;
        let end = memchr::memmem::find(part, delimiter.as_bytes()).unwrap_or(part.len());
        rest = part.get(end + delimiter.len()..);
        // White space may pad the delimiter's line; the line's end belongs to it.
        let start = memchr::memmem::find(part.get(..end)?, b"\r\n")? + 2;
        let part = part.get(start..end)?;
        let (head, content) = match part.strip_prefix(b"\r\n") {
            Some(content) => (&[][..], content),
            None => {
                let blank = memchr::memmem::find(part, b"\r\n\r\n").unwrap_or(part.len());
                (part.get(..blank)?, part.get(blank + 4..).unwrap_or_default())
            }
        };
        Some((std::str::from_utf8(head).unwrap_or_default(), content))
    })
}

fn behind<'a>(body: &'a [u8], delimiter: &str) -> Option<&'a [u8]> {
    body.get(memchr::memmem::find(body, delimiter.as_bytes())? + delimiter.len()..)
}

fn parse(value: &str) -> Option<MediaType> {
    // Parameters are cut first: rsip loses flags and quotes, and no body of ours depends on one.
    let end = value.find(';').unwrap_or(value.len());
    let name = lexer::trim(&value[..end]);
    let (kind, subkind) = name.split_once('/')?;
    let (kind, subkind) = (lexer::trim(kind), lexer::trim(subkind));
    if !lexer::is_token(kind.as_bytes()) || !lexer::is_token(subkind.as_bytes()) {
        return None;
    }
    let canonical = format!("{kind}/{subkind}").to_ascii_lowercase();
    let ContentType(typed) = ContentType::try_from(NameParamsTokenizer::tokenize(&canonical).ok()?).ok()?;
    Some(match typed {
        Typed::Sdp(params) if params.is_empty() => MediaType::Sdp,
        Typed::Sdp(_) | Typed::Other(..) => MediaType::Other(canonical),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_read_in_any_spelling() {
        for text in
            ["application/sdp", "Application/SDP", "application / sdp ; charset=\"x\"", "application/sdp;x"]
        {
            assert_eq!(parse(text), Some(MediaType::Sdp), "{text}");
        }
        let multipart = MediaType::Other("multipart/mixed".to_owned());
        assert_eq!(parse("multipart/mixed;boundary=\"a;b\""), Some(multipart));
        for text in ["", "application", "application/", "/sdp", "a/b/c", "appli cation/sdp"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// The session description found in a body with these header lines.
    fn found(content_type: &str, disposition: &str, body: &str) -> Result<Option<String>, Unsupported> {
        let mut headers = Headers::default();
        headers.push(HeaderName::ContentType, content_type);
        if !disposition.is_empty() {
            headers.push(HeaderName::ContentDisposition, disposition);
        }
        let found = session(&headers, body.as_bytes())?;
        Ok(found.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    // Statement 225.
    #[test]
    fn a_body_that_need_not_be_understood_is_no_body_and_any_other_is_refused() {
        assert_eq!(found("application/sdp", "", "v=0"), Ok(Some("v=0".into())));
        assert_eq!(found("text/plain", "", ""), Ok(None));
        assert_eq!(found("text/plain", "", "hello"), Err(Unsupported));
        assert_eq!(found("text/plain", "render;handling=required", "hello"), Err(Unsupported));
        assert_eq!(found("text/plain", "render; Handling=Optional", "hello"), Ok(None));
        assert_eq!(found("nonsense", "", "hello"), Err(Unsupported));
    }

    // Statements 182, 225.
    #[test]
    fn the_session_is_found_among_the_parts_of_a_body() {
        let sdp = "Content-Type: application/sdp\r\n\r\nv=0\r\n";
        let pidf = "Content-Type: application/pidf+xml\r\nContent-ID: <a@b>\r\n\r\n<presence/>\r\n";
        let required = "Content-Type: application/x\r\nContent-Disposition: y;handling=required\r\n\r\nz\r\n";
        let optional = "Content-Type: application/x\r\nContent-Disposition: y;handling=optional\r\n\r\nz\r\n";
        let body = |parts: &[&str]| {
            let parts: String = parts.iter().map(|part| format!("--b1\r\n{part}")).collect();
            format!("{parts}--b1--\r\n")
        };
        let session = Ok(Some("v=0".to_owned()));
        let mixed = |body: &str| found("multipart/mixed;boundary=b1", "", body);
        assert_eq!(mixed(&body(&[sdp, pidf])), session);
        assert_eq!(mixed(&body(&[pidf, sdp])), session);
        assert_eq!(mixed(&body(&[optional, sdp])), session);
        assert_eq!(mixed(&format!("preamble\r\n{}epilogue", body(&[sdp]))), session);
        assert_eq!(mixed(&body(&[sdp, required])), Err(Unsupported));
        assert_eq!(mixed(&body(&[pidf])), Err(Unsupported));
        assert_eq!(mixed(&body(&[optional])), Ok(None));
        assert_eq!(mixed(&body(&["\r\nplain text\r\n"])), Err(Unsupported));
        assert_eq!(found("multipart/mixed", "", &body(&[sdp])), Err(Unsupported));
        let quoted = body(&[sdp]).replace("b1", "a;b");
        assert_eq!(found("multipart/mixed; boundary=\"a;b\"", "", &quoted), session);
        // Cut anywhere, it is read or refused and nothing else.
        let whole = body(&[pidf, sdp]);
        for cut in 0..whole.len() {
            let _ = mixed(&whole[..cut]);
        }
    }
}
