//! Headers that no one needs typed: names as an open registry, values as they came, folding undone.

use super::lexer;
use super::method::Method;
use std::fmt;

macro_rules! header_names {
    ($($variant:ident $name:literal $lower:literal $($compact:literal)?;)+) => {
        /// A header name: registered names by what they are, any other as it is written.
        #[derive(Clone, Debug)]
        pub enum HeaderName {
            $($variant,)+
            /// Compares without case.
            Other(Box<str>),
        }

        impl HeaderName {
            #[cfg(test)]
            const REGISTERED: &'static [(Self, &'static str)] = &[$((Self::$variant, $lower),)+];

            /// The name in the spelling of its registration.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                }
            }

            /// `lower` is the long or compact name in lower case.
            fn registered(lower: &str) -> Option<Self> {
                Some(match lower {
                    $($lower $(| $compact)? => Self::$variant,)+
                    _ => return None,
                })
            }
        }
    };
}

header_names! {
    Accept "Accept" "accept";
    AcceptContact "Accept-Contact" "accept-contact" "a";
    AcceptEncoding "Accept-Encoding" "accept-encoding";
    AcceptLanguage "Accept-Language" "accept-language";
    AlertInfo "Alert-Info" "alert-info";
    Allow "Allow" "allow";
    AllowEvents "Allow-Events" "allow-events" "u";
    AuthenticationInfo "Authentication-Info" "authentication-info";
    Authorization "Authorization" "authorization";
    CallId "Call-ID" "call-id" "i";
    CallInfo "Call-Info" "call-info";
    Contact "Contact" "contact" "m";
    ContentDisposition "Content-Disposition" "content-disposition";
    ContentEncoding "Content-Encoding" "content-encoding" "e";
    ContentLanguage "Content-Language" "content-language";
    ContentLength "Content-Length" "content-length" "l";
    ContentType "Content-Type" "content-type" "c";
    CSeq "CSeq" "cseq";
    Date "Date" "date";
    Diversion "Diversion" "diversion";
    ErrorInfo "Error-Info" "error-info";
    Event "Event" "event" "o";
    Expires "Expires" "expires";
    From "From" "from" "f";
    Geolocation "Geolocation" "geolocation";
    GeolocationRouting "Geolocation-Routing" "geolocation-routing";
    HistoryInfo "History-Info" "history-info";
    Identity "Identity" "identity" "y";
    InReplyTo "In-Reply-To" "in-reply-to";
    MaxForwards "Max-Forwards" "max-forwards";
    MimeVersion "MIME-Version" "mime-version";
    MinExpires "Min-Expires" "min-expires";
    MinSe "Min-SE" "min-se";
    Organization "Organization" "organization";
    PAccessNetworkInfo "P-Access-Network-Info" "p-access-network-info";
    PAssertedIdentity "P-Asserted-Identity" "p-asserted-identity";
    PChargingVector "P-Charging-Vector" "p-charging-vector";
    PEarlyMedia "P-Early-Media" "p-early-media";
    PPreferredIdentity "P-Preferred-Identity" "p-preferred-identity";
    Path "Path" "path";
    Priority "Priority" "priority";
    Privacy "Privacy" "privacy";
    ProxyAuthenticate "Proxy-Authenticate" "proxy-authenticate";
    ProxyAuthorization "Proxy-Authorization" "proxy-authorization";
    ProxyRequire "Proxy-Require" "proxy-require";
    RAck "RAck" "rack";
    RSeq "RSeq" "rseq";
    Reason "Reason" "reason";
    RecordRoute "Record-Route" "record-route";
    ReferTo "Refer-To" "refer-to" "r";
    ReferredBy "Referred-By" "referred-by" "b";
    RejectContact "Reject-Contact" "reject-contact" "j";
    RemotePartyId "Remote-Party-ID" "remote-party-id";
    Replaces "Replaces" "replaces";
    ReplyTo "Reply-To" "reply-to";
    RequestDisposition "Request-Disposition" "request-disposition" "d";
    Require "Require" "require";
    ResourcePriority "Resource-Priority" "resource-priority";
    RetryAfter "Retry-After" "retry-after";
    Route "Route" "route";
    Server "Server" "server";
    ServiceRoute "Service-Route" "service-route";
    SessionExpires "Session-Expires" "session-expires" "x";
    Subject "Subject" "subject" "s";
    SubscriptionState "Subscription-State" "subscription-state";
    Supported "Supported" "supported" "k";
    Timestamp "Timestamp" "timestamp";
    To "To" "to" "t";
    Unsupported "Unsupported" "unsupported";
    UserAgent "User-Agent" "user-agent";
    UserToUser "User-to-User" "user-to-user";
    Via "Via" "via" "v";
    Warning "Warning" "warning";
    WwwAuthenticate "WWW-Authenticate" "www-authenticate";
}

/// The longest registered name has fewer octets.
const LONGEST_NAME: usize = 24;

impl HeaderName {
    /// The name that a token of a message means; `None` if it is no token.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(token).ok()?;
        let mut lower = [0; LONGEST_NAME];
        let lower = lower.get_mut(..token.len()).and_then(|lower| {
            lower.copy_from_slice(token);
            lower.make_ascii_lowercase();
            std::str::from_utf8(lower).ok()
        });
        let registered = lower.and_then(Self::registered);
        registered.or_else(|| lexer::is_token(token).then(|| Self::Other(text.into())))
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(one), Self::Other(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => std::mem::discriminant(one) == std::mem::discriminant(two),
        }
    }
}

impl Eq for HeaderName {}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One header line.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: HeaderName,
    pub value: String,
}

/// Header lines in order. The same name may stand several times.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    pub fn push(&mut self, name: HeaderName, value: impl Into<String>) {
        self.0.push(Header { name, value: value.into() });
    }

    /// Puts one line in the place of all lines of that name.
    pub fn set(&mut self, name: HeaderName, value: impl Into<String>) {
        self.remove(&name);
        self.push(name, value);
    }

    pub fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|header| header.name != *name);
    }

    /// The value of the first line of that name.
    pub fn value(&self, name: &HeaderName) -> Option<&str> {
        self.values(name).next()
    }

    /// The value of each line of that name.
    pub fn values(&self, name: &HeaderName) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |header| header.name == *name).map(|header| header.value.as_str())
    }

    /// The items of all lines of that name, read as comma-separated lists; what is no list item is left out.
    pub fn items(&self, name: &HeaderName) -> impl Iterator<Item = &str> {
        self.values(name).flat_map(|value| lexer::list(value).map_while(Result::ok))
    }

    /// Whether a list such as Supported or Require holds the option `token` (without case).
    pub fn has_token(&self, name: &HeaderName, token: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(token))
    }

    /// The methods that the peer's Allow lists; `None` without that header.
    pub fn allowed_methods(&self) -> Option<Vec<Method>> {
        self.value(&HeaderName::Allow)?;
        Some(self.items(&HeaderName::Allow).filter_map(Method::from_token).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// The same for change in place, line by line.
    pub fn lines_mut(&mut self) -> &mut Vec<Header> {
        &mut self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// For logs: names only, because values name people.
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())
    }
}

/// For logs: names only, because values name people.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_name_is_found_in_any_case_and_prints_as_registered() {
        for (name, lower) in HeaderName::REGISTERED {
            assert_eq!(name.as_str().to_ascii_lowercase(), *lower);
            assert!(lower.len() < LONGEST_NAME);
            let upper = lower.to_ascii_uppercase();
            assert_eq!(
                HeaderName::from_token(upper.as_bytes()).map(|found| found == *name),
                Some(true),
                "{lower}"
            );
        }
    }

    #[test]
    fn a_compact_name_is_the_long_one() {
        for (compact, name) in [
            ("i", HeaderName::CallId),
            ("M", HeaderName::Contact),
            ("v", HeaderName::Via),
            ("k", HeaderName::Supported),
            ("x", HeaderName::SessionExpires),
        ] {
            assert_eq!(HeaderName::from_token(compact.as_bytes()), Some(name));
        }
        assert_eq!(HeaderName::from_token(b"q"), Some(HeaderName::Other("q".into())));
        assert_eq!(HeaderName::from_token(b"a b"), None);
    }

    #[test]
    fn unknown_names_compare_without_case_and_keep_their_spelling() {
        let mut headers = Headers::default();
        headers.push(HeaderName::Other("X-Trunk".into()), "one");
        let asked = HeaderName::from_token(b"x-trunk").expect("a token");
        assert_eq!(headers.value(&asked), Some("one"));
        assert_eq!(headers.iter().next().map(|header| header.name.as_str()), Some("X-Trunk"));
    }

    #[test]
    fn options_are_found_over_lines_and_lists() {
        let mut headers = Headers::default();
        headers.push(HeaderName::Supported, "timer , 100rel");
        headers.push(HeaderName::Supported, "path");
        headers.push(HeaderName::Allow, "INVITE, BREW,ACK");
        assert!(headers.has_token(&HeaderName::Supported, "100REL"));
        assert!(headers.has_token(&HeaderName::Supported, "path"));
        assert!(!headers.has_token(&HeaderName::Require, "path"));
        let methods = [Method::Invite, Method::Other("BREW".into()), Method::Ack];
        assert_eq!(headers.allowed_methods().as_deref(), Some(methods.as_slice()));
    }
}
