//! `[sip] max_…`: what a message may weigh.

use super::super::error::ConfigErrors;
use super::super::file::{Field, Sip};
use super::{size, span, value};
use crate::sip::message::{ElementLimits, Limits};

/// Messages with a session description and the usual headers do not fit much less than this.
const SMALLEST_MESSAGE: usize = 2_048;
const FEWEST_HEADERS: usize = 32;
/// Below this, what peers usually send is refused.
const SMALLEST_ELEMENT: usize = 16;

pub(super) fn limits(written: &Sip, errors: &mut ConfigErrors) -> Limits {
    let standard = Limits::DEFAULT;
    let message = size(&written.max_message_bytes, standard.message);
    let headers = u16::try_from(standard.headers).unwrap_or(u16::MAX);
    let headers = usize::from(value(&written.max_headers, headers));
    if message < SMALLEST_MESSAGE {
        let fix = "write 2048 or more; 65535 is the largest UDP datagram";
        let message = "real messages would not fit";
        errors.add(span(&written.max_message_bytes), "[sip] max_message_bytes", message, fix);
    }
    if headers < FEWEST_HEADERS {
        let fix = "write 32 or more";
        errors.add(span(&written.max_headers), "[sip] max_headers", "real messages would be refused", fix);
    }
    let mut octets = |field: &Field<u32>, name: &str, standard: usize| {
        let octets = size(field, standard);
        if octets < SMALLEST_ELEMENT {
            let fix = format!("write {SMALLEST_ELEMENT} or more; {standard} is what certified gateways bear");
            errors.add(span(field), format!("[sip] {name}"), "real messages would be refused", fix);
        }
        octets
    };
    let ElementLimits { header_name, contact_uri, userinfo, from_host, media_type, options, option } =
        standard.elements;
    Limits {
        message,
        head: message.min(Limits::WIDEST.head),
        headers,
        uri: octets(&written.max_request_uri_bytes, "max_request_uri_bytes", standard.uri),
        body: octets(&written.max_body_bytes, "max_body_bytes", standard.body),
        elements: ElementLimits {
            header_name: octets(&written.max_header_name_bytes, "max_header_name_bytes", header_name),
            contact_uri: octets(&written.max_contact_uri_bytes, "max_contact_uri_bytes", contact_uri),
            userinfo: octets(&written.max_userinfo_bytes, "max_userinfo_bytes", userinfo),
            from_host: octets(&written.max_from_host_bytes, "max_from_host_bytes", from_host),
            media_type: octets(&written.max_media_type_bytes, "max_media_type_bytes", media_type),
            options: octets(&written.max_options_bytes, "max_options_bytes", options),
            option: octets(&written.max_option_bytes, "max_option_bytes", option),
        },
        ..standard
    }
}
