//! Parts of a URI, read and written; what is written is a URI again.

use super::LeftOut;
use super::place::UriPart;
use crate::sip::message::{SipUri, TelUri, Uri};

pub(super) fn read(uri: &Uri, part: &UriPart) -> Option<String> {
    match part {
        UriPart::Whole => Some(uri.to_string()),
        UriPart::Scheme => Some(uri.scheme().to_owned()),
        UriPart::User => uri.user().map(|user| user.into_owned()),
        UriPart::Host => uri.as_sip().map(|uri| uri.host.to_string()),
        UriPart::Port => uri.as_sip()?.port.map(|port| port.to_string()),
        UriPart::Param(name) => {
            let params = uri.params()?;
            params.has(name).then(|| params.value(name).unwrap_or_default().to_owned())
        }
    }
}

/// The URI with that part changed, or without it.
pub(super) fn write(uri: &Uri, part: &UriPart, value: Option<&str>) -> Result<Uri, LeftOut> {
    let written = match (part, value) {
        (UriPart::Whole, Some(value)) => value.parse().ok(),
        (UriPart::Scheme, Some(value)) => with_scheme(uri, value),
        (UriPart::User, value) => with_user(uri, value),
        (UriPart::Host, Some(value)) => {
            let host = value.parse().ok();
            uri.as_sip().zip(host).map(|(uri, host)| Uri::Sip(SipUri { host, ..uri.clone() }))
        }
        (UriPart::Port, value) => {
            let port = value.map(str::parse).transpose().ok();
            uri.as_sip().zip(port).map(|(uri, port)| Uri::Sip(SipUri { port, ..uri.clone() }))
        }
        (UriPart::Param(name), value) => with_param(uri, name, value),
        (UriPart::Whole | UriPart::Scheme | UriPart::Host, None) => None,
    };
    let written: Uri = written.ok_or(LeftOut::Invalid)?;
    match written.to_string().parse::<Uri>() {
        Ok(read) if read == written => Ok(written),
        Ok(_) | Err(_) => Err(LeftOut::Invalid),
    }
}

/// `sip` and `sips` of each other, `tel` of a SIP URI whose user is a number (RFC 3261 section 19.1.6).
fn with_scheme(uri: &Uri, scheme: &str) -> Option<Uri> {
    match (uri, scheme) {
        (Uri::Sip(uri), "sip" | "sips") => Some(Uri::Sip(SipUri { secure: scheme == "sips", ..uri.clone() })),
        (Uri::Sip(_), "tel") => format!("tel:{}", uri.user()?).parse().ok(),
        (uri, scheme) => (uri.scheme() == scheme).then(|| uri.clone()),
    }
}

fn with_user(uri: &Uri, value: Option<&str>) -> Option<Uri> {
    match (uri, value) {
        (Uri::Sip(uri), Some(value)) => {
            let Uri::Sip(SipUri { user, .. }) = Uri::sip(Some(value), uri.host.clone(), None) else {
                return None;
            };
            Some(Uri::Sip(SipUri { user, ..uri.clone() }))
        }
        (Uri::Sip(uri), None) => Some(Uri::Sip(SipUri { user: None, password: None, ..uri.clone() })),
        (Uri::Tel(uri), Some(value)) => Some(Uri::Tel(TelUri { number: value.to_owned(), ..uri.clone() })),
        (Uri::Tel(_), None) | (Uri::Absolute(_), _) => None,
    }
}

fn with_param(uri: &Uri, name: &str, value: Option<&str>) -> Option<Uri> {
    let mut uri = uri.clone();
    let params = match &mut uri {
        Uri::Sip(uri) => &mut uri.params,
        Uri::Tel(uri) => &mut uri.params,
        Uri::Absolute(_) => return None,
    };
    match value {
        Some("") => params.set_flag(name),
        Some(value) => params.set(name, value),
        None => params.remove(name),
    }
    Some(uri)
}
