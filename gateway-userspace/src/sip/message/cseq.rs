//! CSeq (RFC 3261 section 20.16).

use super::lexer::{self, Syntax};
use super::method::Method;
use std::fmt;

/// Sequence number and method of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// Below 2^31 (RFC 3261 section 8.1.1.5).
    pub number: u32,
    pub method: Method,
}

impl CSeq {
    /// Reads a value whose folding is already undone.
    pub(super) fn parse(text: &str) -> Result<Self, Syntax> {
        let cseq = Self::parse_canonical(text).map_or_else(|| Self::parse_spaced(text), Ok)?;
        if cseq.number >= 1 << 31 { Err(Syntax("CSeq number is 2^31 or more")) } else { Ok(cseq) }
    }

    /// What rsip reads from a value of one space and a registered method; `None` for any other spelling.
    fn parse_canonical(text: &str) -> Option<Self> {
        use rsip::headers::typed::{CSeq as Typed, Tokenize, tokenizers::CseqTokenizer};
        let typed = Typed::try_from(CseqTokenizer::tokenize(text).ok()?).ok()?;
        let cseq = Self { number: typed.seq, method: typed.method.into() };
        (cseq.to_string() == text).then_some(cseq)
    }

    fn parse_spaced(text: &str) -> Result<Self, Syntax> {
        let (digits, method) =
            text.split_once([' ', '\t']).ok_or(Syntax("CSeq is not a number and a method"))?;
        let number =
            lexer::decimal(digits.as_bytes()).ok_or(Syntax("CSeq number is no number below 2^31"))?;
        let method = Method::from_token(lexer::trim(method)).ok_or(Syntax("CSeq method is no token"))?;
        Ok(Self { number, method })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_method_are_read_whatever_space_is_between() {
        let invite = CSeq { number: 9, method: Method::Invite };
        for text in ["9 INVITE", "0009   INVITE", "9\tINVITE"] {
            assert_eq!(CSeq::parse(text), Ok(invite.clone()), "{text}");
        }
        assert_eq!(CSeq::parse("1 invite").map(|cseq| cseq.method), Ok(Method::Other("invite".into())));
    }

    #[test]
    fn a_number_from_two_to_the_31_on_is_refused() {
        assert!(CSeq::parse("2147483647 INVITE").is_ok());
        for text in
            ["2147483648 INVITE", "4294967296 BYE", "36893488147419103232 REGISTER", "-1 BYE", "+1 BYE", "1"]
        {
            assert!(CSeq::parse(text).is_err(), "{text}");
        }
    }
}
