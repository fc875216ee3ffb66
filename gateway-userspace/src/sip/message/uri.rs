//! URIs of SIP (RFC 3261 section 19.1), of telephone numbers (RFC 3966), and any other as it is.

use super::host::{self, Host};
use super::lexer::{self, Syntax};
use super::params::Params;
use crate::base::redact::Number;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A URI. Prints as it was read, but for the case of the scheme and the spelling of an IPv6 address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Uri {
    /// `sip:` and `sips:`.
    Sip(SipUri),
    /// `tel:`.
    Tel(TelUri),
    /// `urn:service:sos`, `mailto:`, and schemes nobody knows.
    Absolute(AbsoluteUri),
}

/// A SIP or SIPS URI. No `Debug`: [`Uri`]'s masks the user part.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    /// As written, escapes included; [`Uri::user`] decodes them.
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: Host,
    pub port: Option<u16>,
    pub params: Params,
    /// What stands behind `?`, as written.
    pub headers: Option<String>,
}

/// A telephone number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TelUri {
    /// As written, visual separators included.
    pub number: String,
    pub params: Params,
}

/// A URI whose parts do not concern us.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AbsoluteUri {
    /// In lower case.
    pub scheme: String,
    /// What stands behind the first colon, as written.
    pub rest: String,
}

impl Uri {
    /// `sip:user@host:port`. Octets that a user part cannot hold are escaped.
    pub fn sip(user: Option<&str>, host: impl Into<Host>, port: Option<u16>) -> Self {
        Self::Sip(SipUri {
            secure: false,
            user: user.map(escape_user),
            password: None,
            host: host.into(),
            port,
            params: Params::default(),
            headers: None,
        })
    }

    /// `sip`, `sips`, `tel` or the other scheme in lower case.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Sip(SipUri { secure: false, .. }) => "sip",
            Self::Sip(SipUri { secure: true, .. }) => "sips",
            Self::Tel(_) => "tel",
            Self::Absolute(uri) => &uri.scheme,
        }
    }

    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            Self::Tel(_) | Self::Absolute(_) => None,
        }
    }

    /// The user part of a SIP URI with escapes decoded, or the number of a tel URI as written.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Sip(uri) => uri.user.as_deref().map(lexer::unescape),
            Self::Tel(uri) => Some(Cow::Borrowed(&uri.number)),
            Self::Absolute(_) => None,
        }
    }

    /// The telephone number that the URI names: the user part up to its parameters (RFC 3261 section 19.1.6) or the
    /// tel number, visual separators removed. `None` if that is no number.
    pub fn number(&self) -> Option<Number> {
        let user = self.user()?;
        let number = user.split(';').next().unwrap_or_default();
        let digits: String =
            number.chars().filter(|character| !matches!(character, '-' | '.' | '(' | ')')).collect();
        let is_number = digits
            .strip_prefix('+')
            .unwrap_or(&digits)
            .bytes()
            .all(|octet| octet.is_ascii_digit() || matches!(octet, b'*' | b'#'));
        (is_number && digits.bytes().any(|octet| octet != b'+')).then(|| Number::new(digits))
    }

    /// A URI parameter's value.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params()?.value(name)
    }

    pub fn params(&self) -> Option<&Params> {
        match self {
            Self::Sip(uri) => Some(&uri.params),
            Self::Tel(uri) => Some(&uri.params),
            Self::Absolute(_) => None,
        }
    }

    /// Whether both name the same resource by RFC 3261 section 19.1.4 (not a transitive relation).
    pub fn is_equivalent(&self, other: &Self) -> bool {
        // A parameter that comes twice, against section 19.1.1, does not make a URI another than itself.
        if self == other {
            return true;
        }
        match (self, other) {
            (Self::Sip(one), Self::Sip(two)) => one.is_equivalent(two),
            (Self::Tel(one), Self::Tel(two)) => {
                self.number().map(|number| number.reveal().to_owned())
                    == other.number().map(|number| number.reveal().to_owned())
                    && every_param_agrees(&one.params, &two.params, |_| true)
            }
            (one, two) => one == two,
        }
    }
}

impl SipUri {
    fn is_equivalent(&self, other: &Self) -> bool {
        // A URI that leaves one of these out never equals one that has it.
        let must_be_in_both = |name: &str| {
            ["user", "ttl", "method", "maddr", "transport"].iter().any(|own| own.eq_ignore_ascii_case(name))
        };
        self.secure == other.secure
            && self.user.as_deref().map(lexer::unescape) == other.user.as_deref().map(lexer::unescape)
            && self.password.as_deref().map(lexer::unescape) == other.password.as_deref().map(lexer::unescape)
            && self.host.matches(&other.host)
            && self.port == other.port
            && every_param_agrees(&self.params, &other.params, must_be_in_both)
            && every_param_agrees(&other.params, &self.params, must_be_in_both)
            && sorted_headers(self) == sorted_headers(other)
    }

    fn parse(secure: bool, rest: &str) -> Result<Self, Syntax> {
        // No other part of the URI can hold an unescaped `@`, so the first one ends the user part.
        let (user, password, rest) = match rest.split_once('@') {
            Some((userinfo, rest)) => {
                let (user, password) = parse_userinfo(userinfo)?;
                (Some(user), password, rest)
            }
            None => (None, None, rest),
        };
        let end = rest.bytes().position(|octet| matches!(octet, b';' | b'?')).unwrap_or(rest.len());
        let (hostport, rest) = rest.split_at(end);
        let (host, port) = host::parse_hostport(hostport)?;
        let (params, headers) = match rest.split_once('?') {
            Some((params, headers)) => (params, Some(headers)),
            None => (rest, None),
        };
        if headers.is_some_and(|text| !is_headers(text)) {
            return Err(Syntax("headers part of a URI is none"));
        }
        Ok(Self {
            secure,
            user: user.map(str::to_owned),
            password: password.map(str::to_owned),
            host,
            port,
            params: Params::parse_uri(params)?,
            headers: headers.map(str::to_owned),
        })
    }
}

/// `user` or `user:password`.
fn parse_userinfo(text: &str) -> Result<(&str, Option<&str>), Syntax> {
    if !text.bytes().all(is_user_octet) || !lexer::escapes_are_whole(text.as_bytes()) {
        return Err(Syntax("user part of a URI is none"));
    }
    match text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password))) {
        ("", _) => Err(Syntax("empty user in a URI")),
        parts => Ok(parts),
    }
}

/// Whether each parameter of `one` has the same value in `two`, or is absent there and may be.
fn every_param_agrees(one: &Params, two: &Params, must_be_in_both: impl Fn(&str) -> bool) -> bool {
    let plain = |value: Option<&str>| value.map(|value| lexer::unescape(value).to_ascii_lowercase());
    one.iter().all(|(name, value)| {
        if two.has(name) { plain(value) == plain(two.value(name)) } else { !must_be_in_both(name) }
    })
}

fn sorted_headers(uri: &SipUri) -> Vec<(String, Cow<'_, str>)> {
    let headers = uri.headers.as_deref().unwrap_or_default();
    let mut sorted: Vec<_> = headers
        .split('&')
        .filter(|header| !header.is_empty())
        .map(|header| header.split_once('=').unwrap_or((header, "")))
        .map(|(name, value)| (name.to_ascii_lowercase(), lexer::unescape(value)))
        .collect();
    sorted.sort();
    sorted
}

impl TelUri {
    fn parse(rest: &str) -> Result<Self, Syntax> {
        let end = rest.find(';').unwrap_or(rest.len());
        let (number, params) = rest.split_at(end);
        let is_octet =
            |octet: u8| octet.is_ascii_hexdigit() || matches!(octet, b'*' | b'#' | b'-' | b'.' | b'(' | b')');
        let digits = number.strip_prefix('+').unwrap_or(number);
        if !digits.bytes().all(is_octet)
            || !digits.bytes().any(|octet| octet.is_ascii_hexdigit() || matches!(octet, b'*' | b'#'))
        {
            return Err(Syntax("tel number is none"));
        }
        Ok(Self { number: number.to_owned(), params: Params::parse_uri(params)? })
    }
}

impl FromStr for Uri {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        let (scheme, rest) = text.split_once(':').ok_or(Syntax("URI without scheme"))?;
        if scheme.eq_ignore_ascii_case("sip") {
            return SipUri::parse(false, rest).map(Self::Sip);
        }
        if scheme.eq_ignore_ascii_case("sips") {
            return SipUri::parse(true, rest).map(Self::Sip);
        }
        if scheme.eq_ignore_ascii_case("tel") {
            return TelUri::parse(rest).map(Self::Tel);
        }
        let is_octet = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_octet) {
            return Err(Syntax("URI scheme is none"));
        }
        if rest.is_empty() || !rest.bytes().all(is_opaque_octet) {
            return Err(Syntax("URI holds an octet it cannot"));
        }
        Ok(Self::Absolute(AbsoluteUri { scheme: scheme.to_ascii_lowercase(), rest: rest.to_owned() }))
    }
}

/// `unreserved` and `user-unreserved` of RFC 3261 section 25.1.
fn is_plain_user_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&octet)
}

/// With the escapes, the colon before a password, and the `#` of feature codes that real peers leave unescaped.
fn is_user_octet(octet: u8) -> bool {
    is_plain_user_octet(octet) || matches!(octet, b'%' | b':' | b'#')
}

/// What may stand in a URI that we do not look into: nothing that ends a URI in some header.
fn is_opaque_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'"' | b'<' | b'>' | b'\\')
}

/// `name=value` joined by `&`.
fn is_headers(text: &str) -> bool {
    let is_octet = |octet: u8| is_opaque_octet(octet) && octet != b'@';
    text.split('&').all(|header| !header.is_empty() && !header.starts_with('='))
        && text.bytes().all(is_octet)
        && lexer::escapes_are_whole(text.as_bytes())
}

/// Octets that cannot stand in a user part become `%` and two digits.
fn escape_user(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for octet in user.bytes() {
        if is_plain_user_octet(octet) {
            escaped.push(char::from(octet));
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme())?;
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Tel(uri) => write!(f, "{}{}", uri.number, uri.params),
            Self::Absolute(uri) => f.write_str(&uri.rest),
        }
    }
}

/// Without the scheme.
impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            f.write_str("@")?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)?;
        if let Some(headers) = &self.headers {
            write!(f, "?{headers}")?;
        }
        Ok(())
    }
}

/// For logs: the user part masked, no password, parameters or headers.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme())?;
        match self {
            Self::Sip(uri) => {
                if let Some(user) = &uri.user {
                    write!(f, "{}@", Number::new(user.as_str()))?;
                }
                uri.host.fmt(f)?;
                uri.port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Tel(uri) => Number::new(uri.number.as_str()).fmt(f),
            // A service name tells nothing of a person; other schemes might.
            Self::Absolute(uri) if uri.scheme == "urn" => f.write_str(&uri.rest),
            Self::Absolute(_) => f.write_str("…"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|syntax| panic!("{text}: {syntax}"))
    }

    #[test]
    fn a_uri_prints_as_it_was_read() {
        for text in [
            "sip:example.com",
            "sips:alice:secret@example.com:5061;transport=tcp;lr?Subject=a&Priority=urgent",
            "sip:user;par=u%40example.net@example.com",
            "sip:sips%3Auser%40example.com@example.net",
            "sip:+1-212-555-1212;npdi;rn=+12125550000@gw.example.com;user=phone",
            "sip:*67#5551234@192.0.2.1",
            "sip:[2001:db8::10]:5070",
            "tel:+12015550123",
            "tel:911;phone-context=+1",
            "tel:#31#123;phone-context=example.com",
            "urn:service:sos.police",
            "mailto:a@b",
            "soap.beep://192.0.2.103:3002",
        ] {
            assert_eq!(uri(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@h",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b c",
            "sip:a@b;",
            "sip:a@b;;lr",
            "sip:a@b;=x",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:a<b>@c",
            "sip:a[b@c",
            "sip:a@b?",
            "sip:a@b;x?=y",
            "sip:a@b?x=y&&z=1",
            "sip:a\u{e4}@c",
            "sip:a@h:99999",
            "<sip:a@b>",
            " sip:a@b",
            "tel:",
            "tel:+",
            "tel:--",
            "tel:12 34",
            "tel:alice",
            "9tel:1",
            "urn:",
            "urn:a\u{0}b",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn escapes_are_decoded_for_use_and_kept_for_print() {
        let escaped = uri("sip:sips%3Auser%40example.com@example.net");
        assert_eq!(escaped.user().as_deref(), Some("sips:user@example.com"));
        assert_eq!(uri("sip:%ff@h").user().as_deref(), Some("%ff"));
        let made = Uri::sip(Some("a@b c;#"), Host::Name("h".to_owned()), Some(5070));
        assert_eq!(made.to_string(), "sip:a%40b%20c;%23@h:5070");
        assert_eq!(uri(&made.to_string()).user().as_deref(), Some("a@b c;#"));
    }

    #[test]
    fn the_number_is_found_without_separators_and_parameters() {
        for (text, number) in [
            ("sip:+1-(212).555-1212;npdi@gw;user=phone", Some("+12125551212")),
            ("tel:+1-212-555-1212;ext=5", Some("+12125551212")),
            ("tel:911", Some("911")),
            ("sip:%2367%23123@h", Some("#67#123")),
            ("sip:alice@h", None),
            ("sip:+@h", None),
            ("sip:h", None),
            ("urn:service:sos", None),
        ] {
            let found = uri(text).number();
            assert_eq!(found.as_ref().map(Number::reveal), number, "{text}");
        }
    }

    #[test]
    fn a_uri_with_a_parameter_that_comes_twice_is_equivalent_to_itself() {
        for text in ["tel:+442079460000;ext=1;ext=q", "sip:a@h;lr;x=1;X=2"] {
            assert!(uri(text).is_equivalent(&uri(text)), "{text}");
        }
    }

    #[test]
    fn equivalence_follows_the_examples_of_rfc_3261_section_19_1_4() {
        for (one, two) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            ("sip:h;transport=tcp;method=BYE?to=sip:a%40b", "sip:h;method=BYE;transport=tcp?to=sip:a%40b"),
            ("sip:alice@atlanta.com?subject=a&priority=b", "sip:alice@atlanta.com?priority=b&subject=a"),
            ("tel:+1-212-555", "tel:+1212555"),
        ] {
            assert!(uri(one).is_equivalent(&uri(two)), "{one} {two}");
        }
        for (one, two) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:a@h", "sips:a@h"),
        ] {
            assert!(!uri(one).is_equivalent(&uri(two)), "{one} {two}");
        }
    }

    #[test]
    fn a_log_shows_no_whole_number_and_no_password() {
        let shown =
            format!("{:?} {:?}", uri("sip:+441632960123:pw@h:5060;x=y?a=b"), uri("tel:+441632960123"));
        assert_eq!(shown, "sip:+*********123@h:5060 tel:+*********123");
    }
}
