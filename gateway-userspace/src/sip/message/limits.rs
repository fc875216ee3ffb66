//! What a message may weigh: bounds that stop a hostile message before it costs memory or time.

use super::headers::HeaderName;
use super::{NameAddr, Uri};
use crate::base::fault::Fault;

/// Bounds of one message. A message beyond one of them is refused with 513, with 414 for its Request-URI, or with 400
/// for an element of a header (RFC 3261 sections 21.5.7, 21.4.12 and 21.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole message.
    pub message: usize,
    /// Octets from the first of the start line to the empty line.
    pub head: usize,
    /// Octets of one header with its continuation lines, and of the start line.
    pub header_line: usize,
    /// Header lines of one message.
    pub headers: usize,
    /// Via values of one message: more than Max-Forwards lets a request collect (RFC 3261 section 8.1.1.6).
    pub vias: usize,
    /// Values of one Route, Record-Route or Contact list.
    pub list: usize,
    /// Octets of the Request-URI.
    pub uri: usize,
    /// Octets of the body.
    pub body: usize,
    /// Of parts of headers.
    pub elements: ElementLimits,
}

/// Bounds in octets of what stands in the headers of a request. A response cannot be refused, so that it would only be
/// missed: it is held to the others alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementLimits {
    /// The name of a header.
    pub header_name: usize,
    /// A URI in Contact.
    pub contact_uri: usize,
    /// What stands before the `@` of any URI, its password included.
    pub userinfo: usize,
    /// The host of From.
    pub from_host: usize,
    /// Type and subtype of the body, without parameters.
    pub media_type: usize,
    /// All values together of Supported, Require or Proxy-Require.
    pub options: usize,
    /// One option of them.
    pub option: usize,
}

impl Limits {
    /// What certified gateways bear, and what therefore no peer of theirs needs more of.
    pub const DEFAULT: Self = Self {
        message: 10 * 1024,
        head: 10 * 1024,
        header_line: 8 * 1024,
        uri: 256,
        body: 128 * 1024,
        elements: ElementLimits {
            header_name: 32,
            contact_uri: 256,
            userinfo: 256,
            from_host: 255,
            media_type: 64,
            options: 256,
            option: 32,
        },
        ..Self::WIDEST
    };

    /// What any parser should bear: elements are bounded by their line. What we write ourselves keeps to these.
    pub const WIDEST: Self = Self {
        message: 65_535,
        head: 32 * 1024,
        header_line: 8 * 1024,
        headers: 256,
        vias: 71,
        list: 64,
        uri: 2 * 1024,
        body: 64 * 1024,
        elements: ElementLimits::WIDEST,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ElementLimits {
    pub const WIDEST: Self = Self {
        header_name: usize::MAX,
        contact_uri: usize::MAX,
        userinfo: usize::MAX,
        from_host: usize::MAX,
        media_type: usize::MAX,
        options: usize::MAX,
        option: usize::MAX,
    };

    pub(super) fn name(&self, name: &[u8]) -> Result<(), TooLong> {
        within(name.len(), self.header_name, "header name too long")
    }

    /// The Request-URI has a status code of its own.
    pub(super) fn request_uri(&self, uri: &Uri) -> Result<(), TooLong> {
        self.userinfo(uri).map_err(|TooLong { what, .. }| TooLong { fault: Fault::UriTooLong, what })
    }

    /// The typed addresses of a header, read from `value`; nothing in a short value is too long.
    pub(super) fn addresses(
        &self,
        name: &HeaderName,
        value: &str,
        addresses: &[NameAddr],
    ) -> Result<(), TooLong> {
        if value.len() <= self.userinfo.min(self.contact_uri).min(self.from_host) {
            return Ok(());
        }
        for NameAddr { uri, .. } in addresses {
            self.userinfo(uri)?;
            match name {
                HeaderName::Contact => {
                    within(uri.to_string().len(), self.contact_uri, "Contact URI too long")?;
                }
                HeaderName::From => {
                    let host = uri.as_sip().map_or(0, |uri| uri.host.to_string().len());
                    within(host, self.from_host, "host of From too long")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A header that is kept as it came. `sum` is what lines of its name before it held.
    pub(super) fn value(&self, name: &HeaderName, value: &str, sum: usize) -> Result<(), TooLong> {
        match name {
            HeaderName::Supported | HeaderName::Require | HeaderName::ProxyRequire => {
                within(sum + value.len(), self.options, "too many octets of options")?;
                let longest = value.split(',').map(|option| option.trim().len()).max();
                within(longest.unwrap_or(0), self.option, "option too long")
            }
            HeaderName::ContentType => {
                let kind = value.split(';').next().unwrap_or_default().trim();
                within(kind.len(), self.media_type, "media type too long")
            }
            name if value.len() > self.userinfo && holds_addresses(name) => {
                let mut addresses = Vec::new();
                // What is no address is for those to judge who want to read it.
                let _ = NameAddr::parse_list(value, &mut addresses);
                addresses.iter().try_for_each(|address| self.userinfo(&address.uri))
            }
            _ => Ok(()),
        }
    }

    fn userinfo(&self, uri: &Uri) -> Result<(), TooLong> {
        let Some(uri) = uri.as_sip() else { return Ok(()) };
        let password = uri.password.as_ref().map_or(0, |password| 1 + password.len());
        let user = uri.user.as_ref().map_or(0, String::len);
        within(user + password, self.userinfo, "userinfo of a URI too long")
    }
}

/// What is beyond a bound, and how that is answered.
pub(super) struct TooLong {
    pub(super) fault: Fault,
    pub(super) what: &'static str,
}

fn within(length: usize, limit: usize, what: &'static str) -> Result<(), TooLong> {
    if length > limit { Err(TooLong { fault: Fault::ElementTooLong, what }) } else { Ok(()) }
}

fn holds_addresses(name: &HeaderName) -> bool {
    matches!(
        name,
        HeaderName::PAssertedIdentity
            | HeaderName::PPreferredIdentity
            | HeaderName::RemotePartyId
            | HeaderName::ReferTo
            | HeaderName::ReferredBy
            | HeaderName::ReplyTo
            | HeaderName::Diversion
            | HeaderName::HistoryInfo
            | HeaderName::Path
            | HeaderName::ServiceRoute
    )
}
