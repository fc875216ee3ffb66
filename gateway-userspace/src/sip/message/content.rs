//! Media types of bodies (RFC 3261 section 20.15).

use super::headers::{HeaderName, Headers};
use super::lexer;
use rsip::headers::typed::{ContentType, MediaType as Typed, Tokenize, tokenizers::NameParamsTokenizer};

/// What a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/sdp`.
    Sdp,
    /// Type and subtype in lower case, without parameters.
    Other(String),
}

/// The media type of `body`; `None` if there is no body or the header says nothing readable.
pub(super) fn media_type(headers: &Headers, body: &[u8]) -> Option<MediaType> {
    if body.is_empty() { None } else { parse(headers.value(&HeaderName::ContentType)?) }
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
}
